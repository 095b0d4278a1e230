//! Files that a MISP server or feed gives out, as attributes.
//!
//! | format | a line or element | from |
//! |---|---|---|
//! | [`Format::Csv`] | columns, with or without a header | `returnFormat: csv` |
//! | [`Format::Text`] | one value | `returnFormat: text`, any list of one's own |
//! | [`Format::Hashes`] | one hash, which is the indicator | `returnFormat: hashes` |
//! | [`Format::Sums`] | MD5 of a value, maybe `,` and the event's UUID | `returnFormat: cache`, a feed's `hashes.csv` |
//! | [`Format::Json`] | attributes of events | `returnFormat: json`, a feed's `<uuid>.json` |
//!
//! Everything is read in passing, with bounded memory. What cannot be used is handed out as
//! [`Read::Skipped`] with its place and a reason, and reading goes on behind it. Nothing here
//! judges a value: normal forms and what is worth keeping are the caller's.

mod csv;
mod json;
mod lines;

use std::io::{self, BufRead, Seek};

use super::{
    attribute::{Attribute, Indicator, TEXT_BYTES_MAX, Uuid, VALUE_BYTES_MAX},
    key::{self, Md5Sum},
    kinds::{self, Kind},
};

pub use csv::Columns;
pub use json::{EventHead, manifest};

/// How a file is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Csv(Columns),
    Text,
    Hashes,
    Sums,
    Json,
}

impl Format {
    /// `csv`, `text`, …
    pub fn name(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Text => "text",
            Self::Hashes => "hashes",
            Self::Sums => "cache",
            Self::Json => "json",
        }
    }
}

/// A value as it stands in an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Both parts of a composite, if it is one.
    Text(String),
    /// Only its MD5.
    Sum(Md5Sum),
}

/// An attribute as an export tells of it. What it does not tell is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its line, or of JSON its number among the attributes; from 1.
    pub at: u64,
    pub value: Value,
    pub misp_type: Option<String>,
    pub category: String,
    pub uuid: Option<Uuid>,
    pub event_id: String,
    pub event_uuid: Option<Uuid>,
    pub event_info: String,
    pub tags: Vec<String>,
    pub to_ids: Option<bool>,
    /// Seconds since 1970; 0 if not told.
    pub timestamp: u64,
    /// Marked as deleted, in exports that hold such.
    pub deleted: bool,
}

impl Exported {
    fn bare(value: Value) -> Self {
        Self {
            at: 0,
            value,
            misp_type: None,
            category: String::new(),
            uuid: None,
            event_id: String::new(),
            event_uuid: None,
            event_info: String::new(),
            tags: Vec::new(),
            to_ids: None,
            timestamp: 0,
            deleted: false,
        }
    }

    /// Why nothing can come of it, judged by its type alone.
    pub fn useless(&self) -> Option<Reason> {
        match (&self.value, &self.misp_type) {
            _ if self.deleted => Some(Reason::Deleted),
            (Value::Text(_), Some(name)) if kinds::parts(name).is_none() => Some(Reason::NoIndicator),
            _ => None,
        }
    }

    /// The attributes that alerts can be searched for: one, or one for each part of a composite.
    ///
    /// - `normal`: the normal form of a value of that kind; `None` if it has none.
    pub fn attributes(&self, normal: impl Fn(Kind, &str) -> Option<String>) -> Vec<Attribute> {
        let with = |indicator: Indicator, kind: Kind, value: &str| {
            let is_same = matches!(&indicator, Indicator::Text(text) if text == value);
            Attribute {
                misp_type: self.misp_type.clone().unwrap_or_default(),
                value: if is_same { String::new() } else { value.to_owned() },
                category: self.category.clone(),
                uuid: self.uuid,
                event_id: self.event_id.clone(),
                event_uuid: self.event_uuid,
                event_info: self.event_info.clone(),
                tags: self.tags.clone(),
                to_ids: self.to_ids,
                timestamp: self.timestamp,
                ..Attribute::bare(indicator, kind)
            }
        };
        match &self.value {
            Value::Sum(sum) => vec![with(Indicator::Sum(*sum), Kind::Unknown, "")],
            Value::Text(value) => kinds::values(self.misp_type.as_deref(), value)
                .filter_map(|(kind, part)| Some(with(Indicator::Text(normal(kind, part)?), kind, value)))
                .collect(),
        }
    }
}

/// Why something in an export is not used. Its `Display` is a reason for people to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    #[error("longer than a line may be (64 KiB)")]
    TooLong,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("a quoted field that does not end as one")]
    Quotes,
    #[error("fewer columns than the header has")]
    Columns,
    #[error("no value")]
    NoValue,
    #[error("not a hash")]
    NotHash,
    #[error("not the MD5 of a value")]
    NotSum,
    #[error("not JSON; what follows it in the file is not read")]
    NotJson,
    #[error("of a type that no alert is searched for")]
    NoIndicator,
    #[error("marked as deleted")]
    Deleted,
    #[error("not for detection (to_ids is 0)")]
    NotToIds,
    #[error("not in the form of its type")]
    NotNormal,
}

/// What a reader hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Attribute(Exported),
    /// A line, or of JSON an attribute, that cannot be used; counted from 1.
    Skipped {
        at: u64,
        reason: Reason,
    },
}

/// What takes it.
pub type Take<'t> = dyn FnMut(Read) -> io::Result<()> + 't;

/// Reads a whole export.
///
/// # Errors
/// As `from`, or what `take` gives.
pub fn read(format: &Format, from: &mut (impl BufRead + Seek), take: &mut Take<'_>) -> io::Result<()> {
    match format {
        Format::Csv(columns) => csv::read(columns, from, take),
        Format::Json => json::read(from, take),
        Format::Text => each_value(from, take, |text| Ok(Value::Text(text.to_owned()))),
        Format::Hashes => each_value(from, take, |text| match Kind::guess(text) {
            Kind::Md5 | Kind::Sha1 | Kind::Sha256 | Kind::Sha512 => Ok(Value::Text(text.to_owned())),
            _ => Err(Reason::NotHash),
        }),
        Format::Sums => lines::each(from, &mut |at, line| {
            let sum = line.and_then(|line| {
                let (sum, event) = line.split_once(',').map_or((line, None), |(sum, event)| (sum, Some(event)));
                let sum = key::parse_sum(sum.trim().as_bytes()).ok_or(Reason::NotSum)?;
                let event_uuid = event.and_then(|event| Uuid::parse(event.trim()));
                Ok(Exported { at, event_uuid, ..Exported::bare(Value::Sum(sum)) })
            });
            take(sum.map_or_else(|reason| Read::Skipped { at, reason }, Read::Attribute))
        }),
    }
}

/// Reads one value a line; a blank line and one that begins with `#` is none.
fn each_value(from: &mut impl BufRead, take: &mut Take<'_>, value: impl Fn(&str) -> Result<Value, Reason>) -> io::Result<()> {
    lines::each(from, &mut |at, line| {
        let line = match line {
            Ok(line) if line.trim().is_empty() || line.starts_with('#') => return Ok(()),
            other => other.map(str::trim),
        };
        let read = line.and_then(|line| if line.len() > 2 * VALUE_BYTES_MAX { Err(Reason::TooLong) } else { value(line) });
        take(read.map_or_else(|reason| Read::Skipped { at, reason }, |value| Read::Attribute(Exported { at, ..Exported::bare(value) })))
    })
}

/// Why a file's format cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    #[error(
        "every line is 32 hexadecimal digits: say with --format whether they are `hashes` of files, or a `cache` export of MD5s of values"
    )]
    HashesOrSums,
    #[error("it holds NUL bytes, so it is no export of text; unpack it first")]
    Binary,
    #[error("it is empty")]
    Empty,
    #[error("it looks like CSV without a header; say with --columns what its columns are")]
    NoHeader,
}

/// Tells the format of a file from its name and its first bytes (64 KiB are plenty).
///
/// # Errors
/// [`Unclear`] says what a person has to say.
pub fn detect(file_name: &str, head: &[u8]) -> Result<Format, Unclear> {
    if head.contains(&0) {
        return Err(Unclear::Binary);
    }
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() {
        return Err(Unclear::Empty);
    }
    if text.starts_with(['{', '[']) && !text.starts_with("[.") {
        return Ok(Format::Json);
    }
    // The last line may be cut.
    let whole = if head.ends_with(b"\n") { text } else { text.rsplit_once('\n').map_or(text, |(whole, _)| whole) };
    let mut lines = whole.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    let first = lines.peek().copied().unwrap_or_default();
    if let Some(columns) = Columns::of_header(first) {
        return Ok(Format::Csv(columns));
    }
    if let Some(columns) = Columns::guess(first) {
        return Ok(Format::Csv(columns));
    }
    let is_sum = |line: &str| key::parse_sum(line.as_bytes()).is_some();
    let with_event = |line: &str| line.split_once(',').is_some_and(|(sum, event)| is_sum(sum) && Uuid::parse(event).is_some());
    let (mut all_sums, mut all_events, mut all_hashes) = (true, true, true);
    for line in lines {
        all_sums &= is_sum(line);
        all_events &= with_event(line) || is_sum(line);
        all_hashes &= matches!(Kind::guess(line), Kind::Md5 | Kind::Sha1 | Kind::Sha256 | Kind::Sha512);
    }
    if all_events && !all_sums {
        return Ok(Format::Sums);
    }
    if all_sums {
        let is_said = |word: &str| file_name.to_ascii_lowercase().contains(word);
        return if is_said("cache") || file_name == "hashes.csv" { Ok(Format::Sums) } else { Err(Unclear::HashesOrSums) };
    }
    if all_hashes {
        return Ok(Format::Hashes);
    }
    if first.starts_with('"') && first.contains("\",") {
        return Err(Unclear::NoHeader);
    }
    Ok(Format::Text)
}

/// The first bytes of a text that are kept, cut between characters.
fn kept(text: &str) -> String {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
