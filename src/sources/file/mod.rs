//! `file`: one file by its name, through rename and copytruncate.

mod follow;

use std::{path::PathBuf, rc::Rc, sync::Arc};

pub use follow::{Follow, Siblings, StartAt};

use super::{Admit, Kind, Source, SourceError, Spec};
use crate::{
    io::{Io, LocalFuture},
    metrics::Standing,
    position::encode_name,
    register::{Field, Section, Type},
};

/// The kind.
pub struct File;

const FIELDS: &[Field] = &[
    Field::required("path", Type::Path, "The file to follow. It need not exist yet; renamed, swapped and cut files are followed."),
    Field::new("start_at", Type::Choice(&["end", "beginning"]), "end", START_AT),
];

/// What `start_at` means, for every source that follows files.
pub const START_AT: &str = "Where a first start begins in a file that exists; where the checkpoint knows the file it counts for nothing.";

impl Kind for File {
    fn name(&self) -> &'static str {
        "file"
    }
    fn about(&self) -> &'static str {
        "lines of one file, through rename and copytruncate"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings { path: section.path("path"), start_at: start_at(section) })
    }
}

/// Reads `start_at`.
pub fn start_at(section: &mut Section<'_>) -> StartAt {
    match section.choice("start_at") {
        "beginning" => StartAt::Beginning,
        _ => StartAt::End,
    }
}

#[derive(Clone, Debug)]
struct Settings {
    path: PathBuf,
    start_at: StartAt,
}

impl Spec for Settings {
    fn build(&self, name: &str, _instance: &str) -> Box<dyn Source> {
        Box::new(Running { name: name.to_owned(), settings: self.clone() })
    }
    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }
}

struct Running {
    name: String,
    settings: Settings,
}

impl Source for Running {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let Settings { path, start_at } = self.settings;
            let stream = path.display().to_string();
            let siblings = Numbered { name: format!("file/{}/{}", encode_name(&self.name), encode_name(&stream)) };
            Follow::new(io, admit, standing, path, stream, Box::new(siblings), start_at).run().await;
            Ok(())
        })
    }
}

/// Files that have no order but that of being met.
struct Numbered {
    name: String,
}

impl Siblings for Numbered {
    fn files(&self, _io: &dyn Io) -> Vec<(u32, PathBuf)> {
        Vec::new()
    }
    fn unnamed(&self, _io: &dyn Io) -> u32 {
        0
    }
    fn origin(&self, segment: u32, incarnation: u16) -> Arc<str> {
        match incarnation {
            0 => format!("{}/{segment}", self.name).into(),
            n => format!("{}/{segment}~{n}", self.name).into(),
        }
    }
}
