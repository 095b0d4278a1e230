//! `memory`: the newest alerts, for the HTTP face.
//!
//! What is no alert is refused, as sink `redis` refuses it.

use std::{rc::Rc, sync::Arc};

use super::{AlertShelf, Inbox, Kind, Owed, Sink, SinkError, Spec, Thread};
use crate::{
    detect::kept::{Brief, Recent},
    io::{Executor, LocalFuture},
    metrics::{Standing, State},
    register::{Field, Section},
};

/// The kind.
pub struct Memory;

impl Kind for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn about(&self) -> &'static str {
        "the newest 1,000 alerts in memory, shown at /api/alerts"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn required(&self) -> bool {
        false
    }
    fn thread(&self) -> Thread {
        Thread::Edge
    }
    fn parse(&self, _section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::default())
    }
}

#[derive(Debug, Default)]
struct Settings {
    recent: Arc<Recent>,
}

impl Spec for Settings {
    fn build(&self, name: &str) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Running { name: name.to_owned(), recent: self.recent.clone() }))
    }
    fn shelf(&self) -> Option<AlertShelf> {
        Some(AlertShelf::Memory(self.recent.clone()))
    }
}

struct Running {
    name: String,
    recent: Arc<Recent>,
}

impl Sink for Running {
    fn run(self: Box<Self>, inbox: Arc<Inbox>, on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            standing.set(State::Ready);
            while let Some(parcel) = inbox.pop().await {
                let now_ms = i64::try_from(on.clock().now() / 1_000_000).unwrap_or(i64::MAX);
                let mut kept = Vec::new();
                for owed in Owed::all(&parcel) {
                    match Brief::read(owed.payload()) {
                        Ok(brief) => {
                            self.recent.add(brief, owed.payload(), now_ms);
                            kept.push(owed);
                        }
                        Err(why) => owed.refused(format!("sink {}: the message {why}", self.name)),
                    }
                }
                Owed::delivered(kept);
            }
            Ok(())
        })
    }
}
