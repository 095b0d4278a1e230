//! One pass over a text.
//!
//! ```text
//! a run of letters, digits, dots, dashes, underscores and bytes beyond ASCII is a word:
//!     no dot in it, and shorter than a hash: nothing (most are so, and cost one look a byte)
//!     else it is judged (`word`)
//! a colon: before `//` a URL; after the first group of an address of version 6, that address
//! a percent sign: a URL with its `://` escaped
//! ```
//!
//! A look ahead is consumed with what it found, or bounded; a look back is [`BACK`] bytes at most.

use std::cmp::Ordering;

use super::{Ioc, IocType, LeftOut, Place, Wanted, refang::refang};

/// Bytes before a word that are looked at.
pub(super) const BACK: usize = 72;
/// Notes of one alert, and bytes of one: for a person.
const NOTES_MAX: usize = 100;
const NOTE_BYTES: usize = 128;

/// Of a word.
const WORD: u8 = 1;
pub(super) const DOT: u8 = 2;
/// A letter, an underscore, or beyond ASCII: no part of a number.
pub(super) const ALPHA: u8 = 4;
/// Beyond ASCII.
pub(super) const HIGH: u8 = 8;

/// What a byte is.
#[allow(clippy::indexing_slicing, reason = "computed while compiling, where there is no iterator")]
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut n = 0;
    while n < 256 {
        classes[n] = match n as u8 {
            b'0'..=b'9' | b'-' => WORD,
            b'.' => WORD | DOT,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => WORD | ALPHA,
            0x80.. => WORD | ALPHA | HIGH,
            _ => 0,
        };
        n += 1;
    }
    classes
};

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

/// Takes the texts of one alert after the other and keeps what was found.
#[derive(Debug, Default)]
pub struct Extractor {
    pub(super) wanted: Wanted,
    notes: bool,
    found: Vec<Ioc>,
    /// Numbers of `found`, by type and value.
    order: Vec<u32>,
    left_out: Vec<LeftOut>,
    read: usize,
    unread: usize,
    beyond: usize,
    pub(super) steps: u64,
}

impl Extractor {
    /// One that looks for what is wanted.
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Forgets the alert before. With `notes`, what is left out is noted.
    pub fn begin(&mut self, notes: bool) {
        self.notes = notes;
        self.found.clear();
        self.order.clear();
        self.left_out.clear();
        (self.read, self.unread, self.beyond, self.steps) = (0, 0, 0, 0);
    }

    /// What was found, each once, in order.
    pub fn found(&self) -> &[Ioc] {
        &self.found
    }
    /// What was left out, each once, the first hundred.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }
    /// Places of indicators past the limit of one alert.
    pub fn beyond(&self) -> usize {
        self.beyond
    }
    /// Bytes of text past the limit of one alert.
    pub fn unread(&self) -> usize {
        self.unread
    }
    /// Bytes that were looked at, again each time; a small multiple of the bytes of text.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Looks at one text of the alert.
    pub fn text(&mut self, text: &str, place: &Place<'_>) {
        // Every indicator has a dot or a colon in it, perhaps in brackets, or is a hash.
        let signs = |bytes: &[u8]| memchr::memchr3(b'.', b':', b'[', bytes).or_else(|| memchr::memchr2(b'(', b'{', bytes));
        if text.len() < 32 && signs(text.as_bytes()).is_none() {
            return;
        }
        let most = text.floor_char_boundary(self.wanted.bytes_max.saturating_sub(self.read));
        self.unread += text.len() - most;
        self.read += most;
        let text = refang(text.get(..most).unwrap_or_default());
        self.steps += 2 * most as u64;
        self.scan(&text, place, 0);
    }

    /// Scans what is refanged; text inside text has the next depth.
    pub(super) fn scan(&mut self, text: &str, place: &Place<'_>, depth: u8) {
        Scan { extractor: self, text, bytes: text.as_bytes(), place, depth, url_end: 0 }.run();
    }

    /// Keeps an indicator, once. The value may be changed.
    fn keep(&mut self, place: &Place<'_>, kind: IocType, value: &str, confidence: u8) {
        if !self.wanted.kinds.contains(&kind) {
            return self.leave(place, value, "type_not_wanted");
        }
        let found = &self.found;
        let compare = |n: &u32| -> Ordering {
            found.get(*n as usize).map_or(Ordering::Less, |ioc| ioc.kind.cmp(&kind).then_with(|| ioc.value.as_str().cmp(value)))
        };
        let Err(at) = self.order.binary_search_by(compare) else { return };
        if self.found.len() >= self.wanted.iocs_max {
            self.beyond += 1;
            return;
        }
        self.order.insert(at, u32::try_from(self.found.len()).unwrap_or(u32::MAX));
        self.found.push(Ioc { kind, value: value.to_owned(), field: place.path(), confidence });
    }

    fn leave(&mut self, place: &Place<'_>, value: &str, why: &'static str) {
        if !self.notes || self.left_out.len() >= NOTES_MAX {
            return;
        }
        let value = value.get(..value.floor_char_boundary(NOTE_BYTES)).unwrap_or_default().to_owned();
        let note = LeftOut { value, field: place.path(), why };
        if !self.left_out.contains(&note) {
            self.left_out.push(note);
        }
    }
}

/// The pass over one text.
pub(super) struct Scan<'a> {
    pub(super) extractor: &'a mut Extractor,
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) place: &'a Place<'a>,
    pub(super) depth: u8,
    /// Where the URL ends in which the pass is, or was; found once.
    pub(super) url_end: usize,
}

impl<'a> Scan<'a> {
    fn run(&mut self) {
        self.step(self.bytes.len());
        let mut at = 0;
        while let Some(&byte) = self.bytes.get(at) {
            let mut seen = class(byte);
            if seen == 0 {
                at = match byte {
                    b':' => self.colon(at),
                    b'%' => self.percent(at),
                    _ => at + 1,
                };
                continue;
            }
            let start = at;
            at += 1;
            while let Some(&byte) = self.bytes.get(at) {
                let class = class(byte);
                if class == 0 {
                    break;
                }
                seen |= class;
                at += 1;
            }
            if seen & DOT != 0 || at - start >= 32 {
                at = self.word(start, at, seen);
            }
        }
    }

    fn colon(&mut self, at: usize) -> usize {
        if self.bytes.get(at + 1..at + 3) == Some(b"//") { self.url(at) } else { self.version_6(at) }
    }

    pub(super) fn step(&mut self, bytes: usize) {
        self.extractor.steps += bytes as u64;
    }
    pub(super) fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }
    /// The last bytes before a place.
    pub(super) fn back(&self, at: usize) -> &'a str {
        let mut from = at.saturating_sub(BACK);
        while !self.text.is_char_boundary(from) {
            from += 1;
        }
        self.slice(from, at)
    }
    pub(super) fn before(&self, at: usize) -> Option<u8> {
        at.checked_sub(1).and_then(|n| self.bytes.get(n)).copied()
    }
    pub(super) fn after(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }
    pub(super) fn keep(&mut self, kind: IocType, value: &str, confidence: u8) {
        self.extractor.keep(self.place, kind, value, confidence);
    }
    pub(super) fn leave(&mut self, value: &str, why: &'static str) {
        self.extractor.leave(self.place, value, why);
    }
}
