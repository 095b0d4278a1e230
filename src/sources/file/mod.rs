//! `file`: one file by its name, through rename and copytruncate; files by a pattern; or a tree of files, each a record.

mod follow;
mod glob;
mod many;
mod resume;
mod steady;
mod tree;

use std::{
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

pub use follow::{Follow, Siblings, StartAt};
use glob::{Pattern, is_pattern};
use many::Many;
use tree::Tree;

use super::{Admit, Kind, Reads, Source, SourceError, Spec, StreamName};
use crate::{
    framing::Framing,
    io::{Io, LocalFuture},
    metrics::Standing,
    position::{Position, encode_name},
    register::{Field, Section, Type},
};

/// The kind.
pub struct File;

const FIELDS: &[Field] = &[
    Field::required(
        "path",
        Type::Path,
        "The file to follow. It need not exist yet; renamed, swapped and cut files are followed. `*`, `?` and `[a-z]` in its name \
         mean every file of that folder that fits, up to 256, each a stream of its own that ends when the file is gone. `**` as its \
         name means every file of that folder and of those inside it, each one record, as ModSecurity writes them with SecAuditLogType \
         Concurrent.",
    ),
    Field::new("start_at", Type::Choice(&["end", "beginning"]), "end", START_AT),
    Field::new(
        "framing",
        Type::Choice(&["newline", "json"]),
        "newline",
        "What a record is: a line, or with `json` an object, over as many lines as it likes, or several in one. Of an object that \
         was cut the bytes go into the dead letter, up to the next line that begins with `{`; what is whole in them is used.",
    ),
];

/// What `start_at` means, for every source that follows files.
pub const START_AT: &str = "Where a first start begins in a file that exists; where the checkpoint knows the file it counts for nothing.";

impl Kind for File {
    fn name(&self) -> &'static str {
        "file"
    }
    fn about(&self) -> &'static str {
        "lines of one file or of all that fit a pattern, through rename and copytruncate"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let path = section.path("path");
        let folder = path.parent().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if is_pattern(&folder) {
            section
                .wrong("path", format!("{folder:?} is a pattern of folders; only the name may be one, so write a source for each folder"));
        }
        let is_tree = name == "**";
        let pattern = (is_pattern(&name) && !is_tree).then(|| Pattern::parse(&name)).transpose().unwrap_or_else(|what| {
            section.wrong("path", what);
            None
        });
        let framing = if section.choice("framing") == "json" { Framing::Objects } else { Framing::Lines };
        if is_tree && section.is_set("framing") {
            section.wrong("framing", "says nothing of a tree, in which each file is a record; remove it");
        }
        Box::new(Settings { path, pattern, is_tree, start_at: start_at(section), framing })
    }
    fn address(&self, stream: &StreamName<'_>, position: &Position) -> Option<String> {
        if let Position::Cursor(cursor) = position {
            // Of a tree: the file, and when it was written.
            return Some(format!("file/{}/{}", encode_name(stream.source), encode_name(cursor)));
        }
        let Position::File { segment, incarnation, offset } = position else { return None };
        let name = format!("file/{}/{}", encode_name(stream.source), encode_name(stream.stream));
        let origin =
            if many::is_fingerprint(stream.stream) { many::origin(&name, *incarnation) } else { origin(&name, *segment, *incarnation) };
        Some(format!("{origin}/{offset}"))
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
    /// Of the last part of `path`, where that is no plain name.
    pattern: Option<Pattern>,
    /// Every file below its folder is a record.
    is_tree: bool,
    start_at: StartAt,
    framing: Framing,
}

impl Spec for Settings {
    fn build(&self, name: &str, _instance: &str) -> Box<dyn Source> {
        Box::new(Running { name: name.to_owned(), settings: self.clone() })
    }
    fn rests(&self) -> bool {
        self.pattern.is_none() && !self.is_tree
    }
    fn reads(&self) -> Vec<Reads> {
        match (&self.pattern, self.path.parent()) {
            (Some(_), Some(folder)) => vec![Reads::Folder(folder.to_owned())],
            (None, Some(folder)) if self.is_tree => vec![Reads::Folder(folder.to_owned())],
            _ => vec![Reads::File(self.path.clone())],
        }
    }
}

struct Running {
    name: String,
    settings: Settings,
}

impl Source for Running {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let Settings { path, pattern, is_tree, start_at, framing } = self.settings;
            if is_tree {
                let root = path.parent().unwrap_or(Path::new(".")).to_owned();
                Tree { io, admit, standing, name: self.name, root, start_at }.run().await;
                return Ok(());
            }
            if let Some(pattern) = pattern {
                let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
                Many { io, admit, standing, name: self.name, folder, pattern, start_at, framing }.run().await;
                return Ok(());
            }
            let stream = path.display().to_string();
            let siblings = Numbered { name: format!("file/{}/{}", encode_name(&self.name), encode_name(&stream)) };
            Follow::new(io, admit, standing, path, stream, Box::new(siblings), start_at).with(framing).run().await;
            Ok(())
        })
    }
}

/// Files that have no order but that of being met.
struct Numbered {
    name: String,
}

impl Siblings for Numbered {
    fn files(&self, _io: &dyn Io) -> io::Result<Vec<(u32, PathBuf)>> {
        Ok(Vec::new())
    }
    fn unnamed(&self, _io: &dyn Io) -> u32 {
        0
    }
    fn origin(&self, segment: u32, incarnation: u16) -> Arc<str> {
        origin(&self.name, segment, incarnation).into()
    }
}

/// Text of an origin before the offset.
fn origin(name: &str, segment: u32, incarnation: u16) -> String {
    match incarnation {
        0 => format!("{name}/{segment}"),
        n => format!("{name}/{segment}~{n}"),
    }
}
