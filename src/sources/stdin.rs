//! `stdin`: lines of standard input.

use std::rc::Rc;

use super::{Admit, Kind, Source, SourceError, Spec};
use crate::{
    io::{Io, LocalFuture},
    metrics::Standing,
    register::{Field, Section},
};

/// The kind.
pub struct Stdin;

impl Kind for Stdin {
    fn name(&self) -> &'static str {
        "stdin"
    }
    fn about(&self) -> &'static str {
        "lines of standard input, until its end"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn parse(&self, _section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings)
    }
}

#[derive(Debug)]
struct Settings;

impl Spec for Settings {
    fn build(&self, _name: &str) -> Box<dyn Source> {
        Box::new(Running)
    }
}

struct Running;

impl Source for Running {
    fn run(self: Box<Self>, _io: Rc<dyn Io>, _admit: Rc<dyn Admit>, _standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }
}
