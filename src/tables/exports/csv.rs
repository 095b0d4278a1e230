//! CSV as MISP writes it: numbers bare, texts in quotes that are doubled inside, line breaks in
//! texts allowed.
//!
//! A quote that is never closed would swallow the rest of the file. So a record may span at most
//! [`RECORD_LINES_MAX`] lines; if it does not end, its first line is skipped and the second is
//! where the next record begins.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::{self, BufRead},
};

use super::{Exported, Read, Reason, Take, Value, kept, lines};
use crate::tables::{
    attribute::{TAGS_MAX, Uuid, VALUE_BYTES_MAX},
    kinds::parts,
};

/// Lines of one record: a comment of many lines is cut off by MISP's own form before that.
const RECORD_LINES_MAX: usize = 64;
/// Columns of one record.
const COLUMNS_MAX: usize = 64;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Value,
    Type,
    Category,
    Uuid,
    EventId,
    EventUuid,
    EventInfo,
    Tags,
    ToIds,
    Timestamp,
    Date,
    Deleted,
    /// Of no use here.
    Other,
}

impl Column {
    fn of(name: &str) -> Self {
        match name {
            "value" => Self::Value,
            "type" => Self::Type,
            "category" => Self::Category,
            "uuid" => Self::Uuid,
            "event_id" => Self::EventId,
            "event_uuid" => Self::EventUuid,
            "event_info" => Self::EventInfo,
            "attribute_tag" | "event_tag" => Self::Tags,
            "to_ids" => Self::ToIds,
            "timestamp" => Self::Timestamp,
            "date" => Self::Date,
            "deleted" => Self::Deleted,
            _ => Self::Other,
        }
    }
}

/// MISP's own columns, where no others were asked for.
const DEFAULT: &str =
    "uuid,event_id,category,type,value,comment,to_ids,date,object_relation,attribute_tag,object_uuid,object_name,object_meta_category";

/// The columns that our documentation asks for.
const ASKED: &str = "value,type,event_id,uuid,to_ids,timestamp";

/// The columns of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    columns: Vec<Column>,
    has_header: bool,
}

impl Columns {
    /// Columns as a person names them; the file has no header. `None` if none is `value`.
    pub fn parse(names: &str) -> Option<Self> {
        let columns: Vec<Column> = names.split(',').map(|name| Column::of(name.trim())).take(COLUMNS_MAX).collect();
        columns.contains(&Column::Value).then_some(Self { columns, has_header: false })
    }

    /// The columns that a first line names; `None` if it is no header.
    pub fn of_header(line: &str) -> Option<Self> {
        let names = line.replace(['"', ' '], "").to_ascii_lowercase();
        let read = Self::parse(&names)?;
        // `value` alone is the header of a list; among others one more must be known.
        let known = read.columns.iter().filter(|column| **column != Column::Other).count();
        (known >= 2 || names == "value").then_some(Self { has_header: true, ..read })
    }

    /// The columns that a first line without a header must have, if it is like one of MISP's.
    pub fn guess(line: &str) -> Option<Self> {
        let mut fields = Vec::new();
        split(line.as_bytes(), &mut fields).ok()?;
        let field = |index: usize| fields.get(index).and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default();
        let is_number = |index: usize| !field(index).is_empty() && field(index).bytes().all(|b| b.is_ascii_digit());
        let is_type = |index: usize| parts(field(index)).is_some() || ["comment", "text", "other", "filename"].contains(&field(index));
        if fields.len() >= 8 && Uuid::parse(field(0)).is_some() && is_number(1) {
            return Self::parse(DEFAULT);
        }
        (fields.len() == 6 && is_type(1) && is_number(2) && Uuid::parse(field(3)).is_some()).then(|| Self::parse(ASKED)).flatten()
    }
}

/// Splits a record; `Err(true)` if it ends inside quotes, `Err(false)` if a quoted field goes on
/// after its end.
fn split<'r>(record: &'r [u8], fields: &mut Vec<Cow<'r, [u8]>>) -> Result<(), bool> {
    fields.clear();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix(b"\"") {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
                rest.split_at_checked(end).map(|(field, after)| (Cow::Borrowed(field), after)).ok_or(false)?
            }
        };
        if fields.len() < COLUMNS_MAX {
            fields.push(field);
        }
        match after.split_first() {
            None => return Ok(()),
            Some((b',', next)) => rest = next,
            Some(_) => return Err(false),
        }
    }
}

/// A field behind its opening quote, and what follows its closing one.
fn quoted_field(quoted: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), bool> {
    let mut whole: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = quoted;
    loop {
        let end = memchr::memchr(b'"', rest).ok_or(true)?;
        let (part, after) = rest.split_at_checked(end).ok_or(true)?;
        let after = after.get(1..).unwrap_or_default();
        if whole.is_empty() {
            whole = Cow::Borrowed(part);
        } else {
            whole.to_mut().extend_from_slice(part);
        }
        match after.strip_prefix(b"\"") {
            None => return Ok((whole, after)),
            Some(next) => {
                whole.to_mut().push(b'"');
                rest = next;
            }
        }
    }
}

/// A line with its number.
type Line = (u64, Result<Vec<u8>, Reason>);

/// Lines that were looked at ahead, for when a record does not end.
struct Ahead<'f, F> {
    from: &'f mut F,
    /// Number of the line last taken from the file.
    number: u64,
    waiting: VecDeque<Line>,
}

impl<F: BufRead> Ahead<'_, F> {
    fn next(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.waiting.pop_front() {
            return Ok(Some(line));
        }
        let mut line = Vec::new();
        let Some(read) = lines::next(self.from, &mut line)? else { return Ok(None) };
        self.number += 1;
        Ok(Some((self.number, read.map(|()| line))))
    }
}

/// Reads a whole file.
pub(super) fn read(columns: &Columns, from: &mut impl BufRead, take: &mut Take<'_>) -> io::Result<()> {
    let mut ahead = Ahead { from, number: 0, waiting: VecDeque::new() };
    if columns.has_header {
        ahead.next()?;
    }
    while let Some((at, line)) = ahead.next()? {
        let mut record = match line {
            Ok(line) => line,
            Err(reason) => {
                take(Read::Skipped { at, reason })?;
                continue;
            }
        };
        if record.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let mut more: Vec<Line> = Vec::new();
        let read = loop {
            let mut fields = Vec::new();
            match split(&record, &mut fields) {
                Ok(()) => break exported(columns, &fields),
                Err(true) if more.len() + 1 < RECORD_LINES_MAX && record.len() <= 2 * lines::LINE_BYTES_MAX => match ahead.next()? {
                    Some((number, Ok(line))) => {
                        record.push(b'\n');
                        record.extend_from_slice(&line);
                        more.push((number, Ok(line)));
                    }
                    Some(other) => {
                        more.push(other);
                        break Err(Reason::Quotes);
                    }
                    None => break Err(Reason::Quotes),
                },
                Err(_) => break Err(Reason::Quotes),
            }
        };
        if read == Err(Reason::Quotes) {
            for line in more.into_iter().rev() {
                ahead.waiting.push_front(line);
            }
        }
        take(read.map_or_else(|reason| Read::Skipped { at, reason }, |read| Read::Attribute(Exported { at, ..read })))?;
    }
    Ok(())
}

fn exported(columns: &Columns, fields: &[Cow<'_, [u8]>]) -> Result<Exported, Reason> {
    if fields.len() < columns.columns.len() {
        return Err(Reason::Columns);
    }
    let mut read = Exported::bare(Value::Text(String::new()));
    for (column, field) in columns.columns.iter().zip(fields) {
        if *column == Column::Other {
            continue;
        }
        let text = std::str::from_utf8(field).map_err(|_| Reason::NotUtf8)?.trim();
        let is_true = matches!(text, "1" | "true");
        match column {
            Column::Value if text.len() > 2 * VALUE_BYTES_MAX => return Err(Reason::TooLong),
            Column::Value => read.value = Value::Text(text.to_owned()),
            Column::Type => read.misp_type = (!text.is_empty()).then(|| kept(text)),
            Column::Category => read.category = kept(text),
            Column::Uuid => read.uuid = Uuid::parse(text),
            Column::EventId => read.event_id = kept(text),
            Column::EventUuid => read.event_uuid = Uuid::parse(text),
            Column::EventInfo => read.event_info = kept(text),
            Column::Tags => {
                let free = TAGS_MAX.saturating_sub(read.tags.len());
                read.tags.extend(text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).take(free).map(kept));
            }
            Column::ToIds => read.to_ids = (!text.is_empty()).then_some(is_true),
            Column::Timestamp => read.timestamp = text.parse().unwrap_or(0),
            Column::Date if read.timestamp == 0 => read.timestamp = date(text),
            Column::Deleted => read.deleted = is_true,
            Column::Date | Column::Other => {}
        }
    }
    match &read.value {
        Value::Text(text) if text.is_empty() => Err(Reason::NoValue),
        _ => Ok(read),
    }
}

/// Seconds since 1970 of `20260314`, `2026-03-14` or of seconds themselves; 0 for anything else.
fn date(text: &str) -> u64 {
    let digits = text.replace('-', "");
    if digits.len() != 8 {
        return text.parse().unwrap_or(0);
    }
    let number = |from: usize, to: usize| digits.get(from..to).and_then(|part| part.parse::<i16>().ok());
    let day = (|| {
        let (month, day) = (i8::try_from(number(4, 6)?).ok()?, i8::try_from(number(6, 8)?).ok()?);
        jiff::civil::Date::new(number(0, 4)?, month, day).ok()
    })();
    let days = day.map(|day| (day - jiff::civil::date(1970, 1, 1)).get_days());
    days.and_then(|days| u64::try_from(days).ok()).map_or(0, |days| days * 86_400)
}
