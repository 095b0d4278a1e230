//! `file`: one payload a line, appended to a file; acked once it is on the disk.

#![allow(clippy::disallowed_methods, reason = "a sink on a thread of its own, where it may block")]

use std::{
    collections::VecDeque,
    fs,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{Inbox, Kind, Parcel, Sink, SinkError, Spec, Thread};
use crate::{
    io::{Executor, LocalFuture},
    metrics::{Standing, State},
    register::{Field, Section, Type},
};

/// The kind.
pub struct File;

const FIELDS: &[Field] = &[
    Field::required(
        "path",
        Type::Path,
        "The file to append to; made with mode 0640 if absent, and opened anew when its name is renamed or removed.",
    ),
    Field::new(
        "fsync",
        Type::Bool,
        "true",
        "Whether a batch is synced to the disk before it is acked; without it a power cut may lose what was acked.",
    ),
];

impl Kind for File {
    fn name(&self) -> &'static str {
        "file"
    }
    fn about(&self) -> &'static str {
        "one payload a line, appended to a file"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn required(&self) -> bool {
        true
    }
    fn thread(&self) -> Thread {
        Thread::Own
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings { path: section.path("path"), fsync: section.bool("fsync") })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    path: PathBuf,
    fsync: bool,
}

impl Spec for Settings {
    fn build(&self, _name: &str) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Running { settings: self.clone(), open: None }))
    }
}

struct Running {
    settings: Settings,
    open: Option<fs::File>,
}

impl Sink for Running {
    fn run(
        mut self: Box<Self>,
        inbox: Arc<Inbox>,
        on: Rc<dyn Executor>,
        standing: Standing,
    ) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            let path = self.settings.path.display().to_string();
            let trouble = |e: io::Error| State::Retrying(format!("cannot write {path}: {e}; free disk space or fix its permissions"));
            // Once its inbox is closed nobody waits for it any more: what is not acked is read again.
            // Opened at once: who waits until the agent is ready should not wait for a first record.
            while let Err(e) = self.write(&[]) {
                standing.set(trouble(e));
                if !rest(&inbox, &*on).await {
                    return Ok(());
                }
            }
            standing.set(State::Ready);
            let mut held = VecDeque::new();
            while let Some(parcel) = if held.is_empty() { inbox.pop().await } else { held.pop_front() } {
                let numbers = parcel.numbers();
                let text = lines(&parcel, &numbers);
                while let Err(e) = self.write(&text) {
                    standing.set(trouble(e));
                    self.open = None;
                    while let Some(parcel) = inbox.try_pop() {
                        held.push_back(parcel);
                    }
                    let messages = held.iter().map(|parcel| parcel.numbers().len()).sum::<usize>() + numbers.len();
                    standing.holds(messages as u64);
                    if !rest(&inbox, &*on).await {
                        return Ok(());
                    }
                }
                standing.set(State::Ready);
                parcel.acks.delivered(&parcel.batch, numbers);
            }
            Ok(())
        })
    }
}

/// Waits a moment before the next try; false if there should be none.
async fn rest(inbox: &Inbox, on: &dyn Executor) -> bool {
    if !inbox.is_closed() {
        on.sleep(Duration::from_secs(1)).await;
    }
    !inbox.is_closed()
}

impl Running {
    /// Writes all of `text`, or leaves the file as long as it was.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if !self.open.as_ref().is_some_and(|file| is_still(file, &self.settings.path)) {
            self.open = None;
        }
        let file = match &mut self.open {
            Some(file) => file,
            None => self.open.insert(open(&self.settings.path)?),
        };
        let before = file.metadata()?.len();
        let written = file.write_all(text).and_then(|()| if self.settings.fsync { file.sync_data() } else { Ok(()) });
        if written.is_err() {
            // A part of a batch would be there twice after the next try.
            let _ = file.set_len(before);
        }
        written
    }
}

/// Opens the file for appending; a line that a kill cut short is ended first, so that it cannot
/// spoil the next one.
fn open(path: &Path) -> io::Result<fs::File> {
    let mut file = fs::OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(path)?;
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn is_still(file: &fs::File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

fn lines(parcel: &Parcel, numbers: &[u32]) -> Vec<u8> {
    let mut text = Vec::new();
    for n in numbers {
        text.extend_from_slice(parcel.batch.message(*n).payload);
        text.push(b'\n');
    }
    text
}
