//! `blackhole`: takes everything, keeps nothing; for measuring.

use std::{rc::Rc, sync::Arc};

use super::{Inbox, Kind, Sink, SinkError, Spec, Thread};
use crate::{
    io::{Executor, LocalFuture},
    metrics::{Standing, State},
    register::{Field, Section},
};

/// The kind.
pub struct Blackhole;

impl Kind for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }
    fn about(&self) -> &'static str {
        "acks everything and keeps nothing; for measuring"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn required(&self) -> bool {
        true
    }
    fn thread(&self) -> Thread {
        Thread::Shard
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
    fn run(self: Box<Self>, inbox: Arc<Inbox>, _on: Rc<dyn Executor>, standing: Standing) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            standing.set(State::Ready);
            while let Some(parcel) = inbox.pop().await {
                parcel.acks.delivered(&parcel.batch, parcel.numbers());
            }
            Ok(())
        })
    }
}
