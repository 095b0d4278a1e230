//! What is whole in a line that is not: cut alerts, glued alerts, runs of NULs.
//!
//! A crash cuts the last line, and the next start appends right behind it; a power loss leaves
//! NULs; stray bytes come from nowhere. One scan decides for all alerts of a line at once: while
//! it runs from the first `{"timestamp"`, every further one that it meets as a value is noted.
//! At the first byte that JSON cannot have, whatever is open is cut there, whatever has closed
//! is whole. The scan then goes on from that byte. So each byte is looked at a fixed number of
//! times, however many alerts begin in a line and however they are nested.

use std::{ops::Range, sync::LazyLock};

use memchr::memmem::Finder;

use super::{
    repair::is_blank,
    scan::{Met, scan},
};

/// How the manager begins an alert.
const BEGIN: &[u8] = b"{\"timestamp\"";

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(BEGIN));

/// The first key of an event, as the engines of web application firewalls write it; over several lines there are blanks between
/// the brace and it.
const EVENT_KEY: &[u8] = b"\"transaction\"";

static EVENT_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(EVENT_KEY));

/// What is looked for in a broken line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Alerts of the manager: they have an object `rule`, or both `timestamp` and `id`.
    Alert,
    /// Events of a web application firewall: they have an object `transaction`.
    Event,
}

impl Form {
    /// Whether one begins at a brace.
    fn begins(self, brace: &[u8]) -> bool {
        match self {
            Form::Alert => brace.starts_with(BEGIN),
            Form::Event => {
                let key = brace.strip_prefix(b"{").unwrap_or_default();
                let blanks = key.iter().take_while(|b| is_blank(**b)).count();
                key.get(blanks..).is_some_and(|key| key.starts_with(EVENT_KEY))
            }
        }
    }
    /// The first brace at or behind `from` with which one begins.
    fn next(self, frame: &[u8], from: usize) -> Option<usize> {
        match self {
            Form::Alert => FINDER.find(frame.get(from..)?).map(|at| from + at),
            Form::Event => EVENT_FINDER.find_iter(frame.get(from..)?).find_map(|at| {
                let before = frame.get(from..from + at)?;
                let brace = before.iter().rposition(|b| !is_blank(*b)).filter(|brace| before.get(*brace) == Some(&b'{'))?;
                Some(from + brace)
            }),
        }
    }
    /// The member that only such an object has, with its quotes.
    fn mark(self) -> &'static [u8] {
        match self {
            Form::Alert => b"\"rule\"",
            Form::Event => b"\"transaction\"",
        }
    }
}

/// A part of a frame that looks broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole alert.
    Alert(Range<usize>),
    /// Bytes for the dead letter, and why: `cut` (an alert begins and does not end) or `not_json`.
    Broken(Range<usize>, &'static str),
    /// NULs and blanks: nothing is lost with them.
    Padding(Range<usize>),
}

impl Piece {
    /// Where in the frame it lies.
    pub fn range(&self) -> Range<usize> {
        match self {
            Piece::Alert(range) | Piece::Broken(range, _) | Piece::Padding(range) => range.clone(),
        }
    }
}

/// True for a frame that should be parsed whoever wants it: it does not begin with `{` or end
/// with `}` (blanks at its end aside), holds a NUL, or holds `{"timestamp"` after its first byte.
pub fn looks_broken(frame: &[u8]) -> bool {
    let end = frame.iter().rposition(|&b| !is_blank(b)).map_or(0, |n| n + 1);
    let trimmed = frame.get(..end).unwrap_or_default();
    trimmed.first() != Some(&b'{')
        || trimmed.last() != Some(&b'}')
        || memchr::memchr(0, frame).is_some()
        || FINDER.find(frame.get(1..).unwrap_or_default()).is_some()
}

/// Takes a frame apart that looks broken and does not parse as a whole.
///
/// The pieces come in order and cover every byte exactly once. A [`Piece::Alert`] parses, and
/// has a top-level object `rule`, or both `timestamp` and `id`; an object found inside of a cut
/// one must have the `rule`, as `data` of an alert may well have the others.
pub fn salvage(frame: &[u8]) -> Vec<Piece> {
    salvage_counted(frame, Form::Alert).0
}

/// As [`salvage`], for whatever is looked for.
pub fn salvage_as(form: Form, frame: &[u8]) -> Vec<Piece> {
    salvage_counted(frame, form).0
}

/// As [`salvage`], with the number of bytes that were scanned, each scan counted.
pub(super) fn salvage_counted(frame: &[u8], form: Form) -> (Vec<Piece>, usize) {
    let mut tiles = Tiles { frame, pieces: Vec::new(), done: 0 };
    let mut work = 0;
    let mut open = Vec::new();
    let mut trail = Trail { form, frame, open: Vec::new(), closed: Vec::new() };
    let next = |from: usize| form.next(frame, from);
    let first = frame.iter().position(|&b| b != 0 && !is_blank(b));
    let mut at = match first {
        Some(first) if frame.get(first) == Some(&b'{') => Some(first),
        _ => next(0),
    };
    while let Some(begin) = at {
        trail.open.clear();
        trail.closed.clear();
        let resume = match scan(frame, begin, &mut open, |met| trail.note(met)) {
            Ok(end) => {
                work += end - begin;
                if trail.closed.iter().any(|whole| whole.range == (begin..end) && whole.is_one(form)) {
                    tiles.alert(begin..end);
                }
                end
            }
            Err(error) => {
                work += error.at - begin;
                for whole in trail.closed.iter().filter(|whole| whole.has_mark) {
                    tiles.alert(whole.range.clone());
                }
                // An alert glued to a cut string begins with the brace in that string; its first
                // quote closes the string, and the byte behind is where the scan stopped.
                error.at.saturating_sub(2).max(begin + 1).max(tiles.done)
            }
        };
        at = next(resume);
    }
    tiles.rest(frame.len());
    (tiles.pieces, work)
}

/// An object that is open, or has closed.
#[derive(Clone, Debug)]
struct Object {
    range: Range<usize>,
    /// It may be an alert: it is where the scan began, or begins as alerts do.
    is_candidate: bool,
    /// It has the member that says so.
    has_mark: bool,
    has_timestamp: bool,
    has_id: bool,
    /// That member's value comes next.
    at_mark: bool,
}

impl Object {
    fn is_one(&self, form: Form) -> bool {
        self.has_mark || (form == Form::Alert && self.has_timestamp && self.has_id)
    }
}

/// What is open in a scan, and the outermost candidates that have closed.
struct Trail<'f> {
    form: Form,
    frame: &'f [u8],
    open: Vec<Object>,
    closed: Vec<Object>,
}

impl Trail<'_> {
    fn note(&mut self, met: Met) {
        match met {
            Met::Open { at, object } => {
                if let Some(parent) = self.open.last_mut() {
                    parent.has_mark |= object && parent.at_mark;
                    parent.at_mark = false;
                }
                let rest = self.frame.get(at..).unwrap_or_default();
                let is_candidate = object && (self.open.is_empty() || self.form.begins(rest));
                let range = at..at;
                self.open.push(Object { range, is_candidate, has_mark: false, has_timestamp: false, has_id: false, at_mark: false });
            }
            Met::Key { at, end } => {
                if let Some(object) = self.open.last_mut() {
                    let key = self.frame.get(at..end).unwrap_or_default();
                    object.at_mark = key == self.form.mark();
                    object.has_timestamp |= key == b"\"timestamp\"";
                    object.has_id |= key == b"\"id\"";
                }
            }
            Met::Close { end } => {
                if let Some(mut object) = self.open.pop().filter(|object| object.is_candidate) {
                    object.range.end = end;
                    while self.closed.last().is_some_and(|inner| inner.range.start >= object.range.start) {
                        self.closed.pop();
                    }
                    self.closed.push(object);
                }
            }
            Met::Text { .. } | Met::Number { .. } | Met::Word => {
                if let Some(object) = self.open.last_mut() {
                    object.at_mark = false;
                }
            }
        }
    }
}

/// Pieces so far; they cover the frame up to `done`.
struct Tiles<'f> {
    frame: &'f [u8],
    pieces: Vec<Piece>,
    done: usize,
}

impl Tiles<'_> {
    fn alert(&mut self, range: Range<usize>) {
        self.rest(range.start);
        self.done = range.end;
        self.pieces.push(Piece::Alert(range));
    }

    /// Covers what lies between the last alert and `end`.
    fn rest(&mut self, end: usize) {
        let gap = self.frame.get(self.done..end).unwrap_or_default();
        let full = |b: &u8| *b != 0 && !is_blank(*b);
        let from = self.done + gap.iter().position(full).unwrap_or(gap.len());
        let to = self.done + gap.iter().rposition(full).map_or(0, |n| n + 1);
        self.padding(self.done..from.min(end));
        if from < to {
            let cut = self.frame.get(from) == Some(&b'{');
            self.pieces.push(Piece::Broken(from..to, if cut { "cut" } else { "not_json" }));
            self.padding(to..end);
        }
        self.done = end;
    }

    fn padding(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.pieces.push(Piece::Padding(range));
        }
    }
}
