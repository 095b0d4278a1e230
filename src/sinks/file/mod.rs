//! `file`: one payload a line, appended to a file; acked once it is on the disk.
//!
//! - [`live`]: the file that is written; start there.
//! - [`archive`]: what archives are called, and which are to go. Pure but for a listing.
//! - [`sweep`]: compression and limits, on a thread of its own.
//!
//! Rotation is a rename: what was acked is in the file before and in the archive after it, and
//! deliveries go on in a new file. Whatever fails with archives is told and tried again; only the
//! file itself can make a record wait.

#![allow(clippy::disallowed_methods, reason = "a sink on a thread of its own, where it may block")]

use std::{collections::VecDeque, io, rc::Rc, sync::Arc, time::Duration};

use jiff::tz::TimeZone;

use super::{Finding, Inbox, Kind, Level, Parcel, Sink, SinkError, Spec, Thread};
use crate::{
    clock::{Nanos, nanos},
    io::{Executor, LocalFuture},
    limits,
    metrics::{Standing, State},
    register::{Field, Section, Type},
};
use archive::Limits;
use live::{Live, Period, Rotation};
use sweep::{Policy, Sweeper};

mod archive;
mod live;
mod sweep;
#[cfg(test)]
mod tests;

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
    Field::optional(
        "rotate_size",
        Type::Bytes,
        "Before the file would grow beyond this it is renamed to path.TIME, such as out.json.20261130T034708.123Z (UTC), and a new one begun. From 4 KiB; unset: at no size.",
    ),
    Field::new(
        "rotate_every",
        Type::Choice(&["never", "hour", "day"]),
        "never",
        "The same at the end of each local hour or day, if the file is not empty.",
    ),
    Field::new(
        "compress",
        Type::Choice(&["gzip", "none"]),
        "gzip",
        "What becomes of archives, in the background: path.TIME.gz, or left as they are.",
    ),
    Field::optional("keep", Type::Int { min: 0, max: 1_000_000 }, "Archives that stay; the oldest go first. Unset: all."),
    Field::optional("keep_for", Type::Span, "How long an archive stays, by the time in its name. Unset: for ever."),
];

impl Kind for File {
    fn name(&self) -> &'static str {
        "file"
    }
    fn about(&self) -> &'static str {
        "one payload a line, appended to a file, which may rotate"
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
        let size = section.is_set("rotate_size").then(|| section.bytes("rotate_size"));
        let every = match section.choice("rotate_every") {
            "hour" => Some(Period::Hour),
            "day" => Some(Period::Day),
            _ => None,
        };
        let keep = section.is_set("keep").then(|| usize::try_from(section.int("keep")).unwrap_or(usize::MAX));
        let limits = Limits { keep, keep_for: section.opt_span("keep_for") };
        if size.is_some_and(|size| size < limits::ROTATE_BYTES_MIN) {
            section.wrong("rotate_size", "is at least 4 KiB");
        }
        if limits.keep_for.is_some_and(|span| span.is_zero()) {
            section.wrong("keep_for", "must be longer than nothing; write \"90d\", or keep = 0 to keep none");
        }
        if size.is_none() && every.is_none() {
            for name in ["compress", "keep", "keep_for"] {
                if section.is_set(name) {
                    section.wrong(name, "says nothing without rotate_size or rotate_every; set one of these, or remove this");
                }
            }
        }
        let path = section.path("path");
        let policy = Policy { path, compress: section.choice("compress") == "gzip", limits };
        Box::new(Settings { policy, fsync: section.bool("fsync"), rotation: Rotation { size, every } })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    policy: Policy,
    fsync: bool,
    rotation: Rotation,
}

impl Settings {
    /// Bytes of several parcels in one write; no more than a file may have.
    fn group_bytes(&self) -> usize {
        let size = self.rotation.size.and_then(|size| usize::try_from(size).ok());
        limits::FILE_GROUP_BYTES.min(size.unwrap_or(usize::MAX))
    }
    fn rotates(&self) -> bool {
        self.rotation != Rotation::default()
    }
}

impl Spec for Settings {
    fn build(&self, name: &str) -> Result<Box<dyn Sink>, SinkError> {
        let live = Live::new(self.policy.path.clone(), self.fsync, self.rotation.clone(), TimeZone::system());
        Ok(Box::new(Running { name: name.to_owned(), settings: self.clone(), live, sweeper: None, next_look: 0, next_rotation: 0 }))
    }
    fn check_files(&self, _name: &str, _now: Nanos) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut warn = |text: String| found.push(Finding { level: Level::Warning, text });
        let path = &self.policy.path;
        if self.rotates() && self.policy.limits == Limits::default() {
            warn("archives stay for ever, and fill the disk some day; set keep or keep_for".into());
        }
        if self.rotates() && std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
            warn(format!("{} is a link or no plain file and will not be rotated; name the file itself with path", path.display()));
        }
        found
    }
}

struct Running {
    name: String,
    settings: Settings,
    live: Live,
    /// Where archives are made.
    sweeper: Option<Sweeper>,
    /// Monotonic times: of the next look at archives, and before which no rotation is tried.
    next_look: Nanos,
    next_rotation: Nanos,
}

/// What comes next.
enum Next {
    Parcel(Parcel),
    /// Something is due.
    Time,
    Closed,
}

impl Sink for Running {
    fn run(
        mut self: Box<Self>,
        inbox: Arc<Inbox>,
        on: Rc<dyn Executor>,
        standing: Standing,
    ) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            let path = self.settings.policy.path.display().to_string();
            let trouble = |e: io::Error| State::Retrying(format!("cannot write {path}: {e}; free disk space or fix its permissions"));
            if self.settings.rotates() {
                self.sweeper = Some(Sweeper::new(self.settings.policy.clone(), &self.name, standing.clone()));
            }
            // Once its inbox is closed nobody waits for it any more: what is not acked is read again.
            // Opened at once: who waits until the agent is ready should not wait for a first record.
            while let Err(e) = self.write(&[], &*on, &standing) {
                standing.set(trouble(e));
                if !rest(&inbox, &*on).await {
                    return Ok(());
                }
            }
            standing.set(State::Ready);
            let mut held = VecDeque::new();
            loop {
                self.look(&*on);
                let parcel = match held.pop_front() {
                    Some(parcel) => parcel,
                    None => match next(&inbox, &*on, self.until(&*on)).await {
                        Next::Parcel(parcel) => parcel,
                        Next::Time => {
                            self.rotate(0, &*on, &standing);
                            continue;
                        }
                        Next::Closed => return Ok(()),
                    },
                };
                // What waits goes into one write and one sync.
                let (mut group, mut text) = (Vec::new(), Vec::new());
                let most = self.settings.group_bytes();
                let mut more = Some(parcel);
                while let Some(parcel) = more.take() {
                    let numbers = parcel.numbers();
                    let before = text.len();
                    append(&mut text, &parcel, &numbers);
                    if !group.is_empty() && text.len() > most {
                        text.truncate(before);
                        held.push_front(parcel);
                        break;
                    }
                    group.push((parcel, numbers));
                    more = held.pop_front().or_else(|| inbox.try_pop());
                }
                while let Err(e) = self.write(&text, &*on, &standing) {
                    standing.set(trouble(e));
                    while let Some(parcel) = inbox.try_pop() {
                        held.push_back(parcel);
                    }
                    let taken = group.iter().map(|(_, numbers)| numbers.len());
                    let messages = held.iter().map(|parcel: &Parcel| parcel.numbers().len()).chain(taken).sum::<usize>();
                    standing.holds(messages as u64);
                    if !rest(&inbox, &*on).await {
                        return Ok(());
                    }
                }
                standing.set(State::Ready);
                for (parcel, numbers) in group {
                    parcel.acks.delivered(&parcel.batch, numbers);
                }
            }
        })
    }
}

/// Waits for a parcel, or until a span has passed.
async fn next(inbox: &Inbox, on: &dyn Executor, until: Option<Duration>) -> Next {
    let Some(until) = until else { return inbox.pop().await.map_or(Next::Closed, Next::Parcel) };
    tokio::select! {
        biased;
        parcel = inbox.pop() => parcel.map_or(Next::Closed, Next::Parcel),
        () = on.sleep(until) => Next::Time,
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
    fn write(&mut self, text: &[u8], on: &dyn Executor, standing: &Standing) -> io::Result<()> {
        self.rotate(text.len(), on, standing);
        self.live.write(text, on.clock().now())
    }

    /// Makes the file an archive if it is due. If that fails it is written on.
    fn rotate(&mut self, more: usize, on: &dyn Executor, standing: &Standing) {
        let (now, mono) = (on.clock().now(), on.clock().mono());
        // One that cannot be opened will be told by the write.
        if mono < self.next_rotation || !self.live.is_due(more, now).unwrap_or(false) {
            return;
        }
        match self.live.rotate(now, &|_| Ok(())) {
            Ok((to, bytes)) => {
                standing.archive("rotated");
                tracing::info!(archive = %to.display(), bytes, "file rotated");
                self.next_look = 0;
                self.look(on);
            }
            Err(error) => {
                self.next_rotation = mono + nanos(Duration::from_millis(limits::ROTATE_RETRY_MS));
                standing.archive("failed");
                let path = self.settings.policy.path.display();
                tracing::warn!(%path, %error, "cannot rotate the file and goes on in it; see its folder's permissions, it is tried again in a minute");
            }
        }
    }

    /// Has archives looked at, if that is due.
    fn look(&mut self, on: &dyn Executor) {
        let mono = on.clock().mono();
        if let Some(sweeper) = self.sweeper.as_mut().filter(|_| mono >= self.next_look) {
            sweeper.look(on.clock().now());
            self.next_look = mono + nanos(Duration::from_millis(limits::ARCHIVES_LOOK_MS));
        }
    }

    /// How long nothing is due.
    fn until(&self, on: &dyn Executor) -> Option<Duration> {
        self.sweeper.as_ref()?;
        let (now, mono) = (on.clock().now(), on.clock().mono());
        let look = self.next_look.saturating_sub(mono);
        let rotation = self.live.period_ends().map(|end| end.saturating_sub(now).max(self.next_rotation.saturating_sub(mono)));
        Some(Duration::from_nanos(rotation.map_or(look, |rotation| rotation.min(look))))
    }
}

fn append(text: &mut Vec<u8>, parcel: &Parcel, numbers: &[u32]) {
    for n in numbers {
        text.extend_from_slice(parcel.batch.message(*n).payload);
        text.push(b'\n');
    }
}
