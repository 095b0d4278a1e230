//! `stdout`: one payload a line on standard output.

use std::{
    io::{self, Write},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{Inbox, Kind, Parcel, Sink, SinkError, Spec, Thread};
use crate::{
    io::{Executor, LocalFuture},
    metrics::{Standing, State},
    register::{Field, Section},
};

/// The kind.
pub struct Stdout;

impl Kind for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
    }
    fn about(&self) -> &'static str {
        "one payload a line on standard output"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn required(&self) -> bool {
        false
    }
    fn thread(&self) -> Thread {
        Thread::Own
    }
    fn parse(&self, _section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings)
    }
}

#[derive(Debug)]
struct Settings;

impl Spec for Settings {
    fn build(&self, _name: &str) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Running))
    }
}

struct Running;

impl Sink for Running {
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            standing.set(State::Ready);
            while let Some(parcel) = inbox.pop().await {
                let numbers = parcel.numbers();
                // A reader that went away is waited for: what is not written is not acked.
                while let Err(e) = write(&parcel, &numbers) {
                    standing.set(State::Retrying(format!("cannot write to standard output: {e}; see who reads it")));
                    on.sleep(Duration::from_secs(1)).await;
                }
                standing.set(State::Ready);
                parcel.acks.delivered(&parcel.batch, numbers);
            }
            Ok(())
        })
    }
}

fn write(parcel: &Parcel, numbers: &[u32]) -> io::Result<()> {
    let mut text = Vec::new();
    for n in numbers {
        text.extend_from_slice(parcel.batch.message(*n).payload);
        text.push(b'\n');
    }
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}
