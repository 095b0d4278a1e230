//! Where a record lies in its stream: a total order inside one stream, saved, printed, parsed.
//!
//! Refuses to know what a file, a topic or a checkpoint is. Start at [`Position`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a stream: everything below it comes before it.
///
/// Two positions of one stream are always of the same variant; positions of different streams
/// are never compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// A byte of a file. `segment` orders the files of the stream ([`Segment`] for a dated tree,
    /// the number in the stream's own list otherwise); `incarnation` is which life of that file.
    File { segment: u32, incarnation: u16, offset: u64 },
    /// A message of a Kafka partition.
    Kafka { partition: i32, offset: i64, epoch: i32 },
    /// An entry of a Redis stream.
    Redis { ms: u64, seq: u64 },
    /// An opaque cursor, ordered as bytes; people read it in the checkpoint.
    Cursor(Box<str>),
    /// The n-th record (stdin, our own events).
    Count(u64),
}

impl Position {
    /// The file offset, if this is a place in a file.
    pub fn file_offset(&self) -> Option<u64> {
        match self {
            Position::File { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}

/// A dated part of a Wazuh channel, packed so that numbers order as days and parts do.
///
/// Bits 10.. are the days since 1970-01-01, bits 0..10 the part (`-NNN`, 0 for the day's first file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(pub u32);

impl Segment {
    /// Parts of one day: a rotation takes at least ten minutes, so a day has at most 144.
    pub const PARTS: u32 = 1 << 10;

    /// The segment of `part` on the day `days` after 1970-01-01; `None` beyond the packing.
    pub fn new(days: u32, part: u32) -> Option<Self> {
        (part < Self::PARTS && days < 1 << 22).then_some(Self(days << 10 | part))
    }
    /// Days since 1970-01-01.
    pub fn days(self) -> u32 {
        self.0 >> 10
    }
    /// 0 for the day's first file.
    pub fn part(self) -> u32 {
        self.0 % Self::PARTS
    }
}

/// Where one record's bytes lie, as the header `shipper-origin` says it.
///
/// `stream` is all of the text before the offset, made once per file: for example
/// `mgr-1/alerts/2026-03-14/000` or `mgr-1/alerts/2026-03-14/002~1`. Where it ends in `-` no slash follows:
/// an id of Redis is two numbers (`redis/waf/1773480423123-` and 7). Where the offset is [`WHOLE`](Self::WHOLE) it is
/// all of the text (`opensearch/wazuh-alerts-4.x-2026.03.14/u1w`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'s> {
    /// Percent-encoded names joined by `/`, without the last part.
    pub stream: &'s str,
    /// Bytes from the start of the (uncompressed) file, or the record's number.
    pub offset: u64,
    /// Bytes of the frame with its terminator; `None` where an offset alone names the record.
    pub len: Option<u32>,
}

impl Origin<'_> {
    /// The offset of a record that a text alone names; no file and no topic is so long.
    pub const WHOLE: u64 = u64::MAX;
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stream)?;
        if self.offset == Self::WHOLE {
            return Ok(());
        }
        if !self.stream.ends_with('-') {
            f.write_str("/")?;
        }
        match self.len {
            Some(len) => write!(f, "{}+{len}", self.offset),
            None => write!(f, "{}", self.offset),
        }
    }
}

/// Percent-encodes a name so that it can stand between the slashes of an origin.
///
/// Letters, digits and `._-:` stay; every other byte becomes `%XX`.
pub fn encode_name(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b':' => text.push(char::from(byte)),
            _ => {
                use fmt::Write;
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_order_as_days_and_parts_do() {
        let day = |d, p| Segment::new(d, p).unwrap();
        assert!(day(20_000, 0) < day(20_000, 1));
        assert!(day(20_000, 143) < day(20_001, 0));
        assert_eq!((day(20_000, 7).days(), day(20_000, 7).part()), (20_000, 7));
        assert_eq!(Segment::new(1, 1024), None);
    }

    #[test]
    fn a_later_incarnation_comes_after_every_offset_of_the_one_before() {
        let at = |incarnation, offset| Position::File { segment: 1, incarnation, offset };
        assert!(at(0, u64::MAX) < at(1, 0));
    }

    #[test]
    fn an_origin_reads_as_the_header_says() {
        let origin = Origin { stream: "mgr-1/alerts/2026-03-14/000", offset: 1024, len: Some(621) };
        assert_eq!(origin.to_string(), "mgr-1/alerts/2026-03-14/000/1024+621");
        let entry = Origin { stream: "redis/waf/1773480423123-", offset: 7, len: None };
        assert_eq!(entry.to_string(), "redis/waf/1773480423123-7");
        let document = Origin { stream: "opensearch/alerts/u1w", offset: Origin::WHOLE, len: None };
        assert_eq!(document.to_string(), "opensearch/alerts/u1w");
        assert_eq!(encode_name("a/b c%"), "a%2Fb%20c%25");
    }
}
