//! `forward`: every alert, or those chosen, as the bytes that were read.
//!
//! Without a choice nothing is parsed.

use super::{Fate, Handler, Kind, Needles, Output, Record, Spec};
use crate::{
    alert::Alert,
    batch::Outbox,
    register::{Field, Section},
};

/// The kind.
pub struct Forward;

impl Kind for Forward {
    fn name(&self) -> &'static str {
        "forward"
    }
    fn about(&self) -> &'static str {
        "ships alerts as they were read, all or by choice"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "", after: None }]
    }
    fn parse(&self, _section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings)
    }
}

/// Settings of one `forward` handler.
#[derive(Clone, Debug)]
struct Settings;

impl Spec for Settings {
    fn build(&self) -> Box<dyn Handler> {
        Box::new(Running)
    }
}

struct Running;

impl Handler for Running {
    fn needles(&self) -> Needles {
        Needles::All
    }
    fn handle(&mut self, record: &Record<'_>, _alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        out.message(0).frame(0..record.frame.len());
        Fate::Emitted
    }
}
