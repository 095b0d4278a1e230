//! Files of bad addresses, in the forms in which they are handed round.
//!
//! | form | a line or element | left out |
//! |---|---|---|
//! | `.netset`, `.ipset`, plain lists | address or network first; behind a blank or comma anything | what follows `#` or `;` |
//! | Spamhaus DROP | `192.0.2.0/24 ; SBL1`, or a line of JSON with `cidr` | its line of `metadata` |
//! | CrowdSec, `cscli decisions list -o json` or its API | decisions of type `ban` with scope `Ip` or `Range` | simulated ones, other types and scopes |
//! | MISP, JSON of events or attributes | `ip-src`, `ip-dst`, also with a port | what is deleted or not for detection |
//!
//! The form is told by the content. What cannot be used is counted, and the first of it is named.

use std::{
    fmt,
    io::{self, BufReader, Read},
};

use serde::de::DeserializeSeed;

use super::{
    super::{networks, private::is_private_network},
    Adding,
    json::Walk,
};

/// Bytes that are read at a time, and of one line at most.
const BLOCK_BYTES: usize = 64 << 10;
/// Bytes of a JSON document for each entry at least, to know how much room may be wanted.
const JSON_ENTRY_BYTES: u64 = 40;
/// Shortest prefix that is taken of IPv4: a wider network is a slip.
const V4_PREFIX_MIN: u8 = 8;
/// The same of IPv6: what registries give to one holder is longer.
const V6_PREFIX_MIN: u8 = 19;
/// Characters of a wrong line that are shown.
const SHOWN_CHARS: usize = 60;

/// What of a file does not count, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Inside private networks.
    pub private: u64,
    /// Wider than /8, or /19 of IPv6.
    pub too_wide: u64,
    /// No address and no network.
    pub unusable: u64,
    /// The first line that is too wide or unusable: its number from 1 (0 inside a JSON document), and its text.
    pub first: Option<(u64, String)>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (count, what) in [(self.unusable, "unusable"), (self.too_wide, "too wide"), (self.private, "private")] {
            if count > 0 {
                write!(f, "{comma}{count} {what}")?;
                comma = ", ";
            }
        }
        match &self.first {
            Some((0, text)) => write!(f, " (first {text:?})"),
            Some((line, text)) => write!(f, " (first on line {line}: {text:?})"),
            None => Ok(()),
        }
    }
}

/// Opens the file anew, from its start.
pub type Open<'o> = &'o dyn Fn() -> io::Result<Box<dyn Read>>;

/// How many entries a file may have.
///
/// # Errors
/// The file cannot be read.
pub fn count(open: Open<'_>) -> io::Result<usize> {
    let (mut input, mut block) = (open()?, vec![0; BLOCK_BYTES]);
    let (mut lines, mut bytes, mut is_json) = (1, 0, false);
    loop {
        let read = match input.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let found = block.get(..read).unwrap_or_default();
        if bytes == 0 {
            is_json = begins_as_json(found);
        }
        if found.is_empty() {
            let documents = if is_json { bytes / JSON_ENTRY_BYTES } else { 0 };
            return Ok(lines.max(usize::try_from(documents).unwrap_or(0)));
        }
        lines += memchr::memchr_iter(b'\n', found).count();
        bytes += read as u64;
    }
}

fn begins_as_json(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// What some editors put before a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads a file of addresses, block by block.
///
/// - `match_private`: networks inside private ones count as well.
///
/// # Errors
/// The file cannot be read.
pub fn read(open: Open<'_>, match_private: bool, to: &mut Adding<'_>) -> io::Result<LeftOut> {
    let mut found = Found { to, left_out: LeftOut::default(), match_private };
    if found.is_document(open)? {
        return Ok(found.left_out);
    }
    // Lines, of which each may be JSON.
    found.to.clear();
    found.left_out = LeftOut::default();
    found.lines(&mut open()?)?;
    Ok(found.left_out)
}

struct Found<'f, 'b> {
    to: &'f mut Adding<'b>,
    left_out: LeftOut,
    match_private: bool,
}

impl Found<'_, '_> {
    /// Takes the file as one document of JSON; false if it is none.
    fn is_document(&mut self, open: Open<'_>) -> io::Result<bool> {
        let mut input = BufReader::with_capacity(BLOCK_BYTES, open()?);
        let mut head = Vec::new();
        input.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut head)?;
        if !begins_as_json(&head) {
            return Ok(false);
        }
        let text = head.strip_prefix(BOM).unwrap_or(&head).chain(input);
        let mut read = serde_json::Deserializer::from_reader(text);
        match Walk(&mut |text| self.entry(0, text)).deserialize(&mut read).and_then(|()| read.end()) {
            Ok(()) => Ok(true),
            Err(error) if error.is_io() => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    fn lines(&mut self, input: &mut dyn Read) -> io::Result<()> {
        let (mut block, mut filled, mut number, mut is_long) = (vec![0; BLOCK_BYTES], 0, 0, false);
        loop {
            let read = match input.read(block.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let bytes = block.get(..filled + read).unwrap_or_default();
            let (mut start, is_end, is_full) = (0, read == 0, bytes.len() == BLOCK_BYTES);
            for end in memchr::memchr_iter(b'\n', bytes) {
                // The rest of a line that was too long to be held says nothing.
                if !std::mem::take(&mut is_long) {
                    number += 1;
                    self.line(number, bytes.get(start..end).unwrap_or_default());
                }
                start = end + 1;
            }
            if (is_end || start == 0 && is_full) && start < bytes.len() && !is_long {
                number += 1;
                is_long = !is_end;
                self.line(number, bytes.get(start..).unwrap_or_default());
            }
            if is_end {
                return Ok(());
            }
            let kept = if is_long { bytes.len() } else { start };
            filled = bytes.len() - kept;
            block.copy_within(kept..kept + filled, 0);
        }
    }

    fn line(&mut self, number: u64, line: &[u8]) {
        let line = if number == 1 { line.strip_prefix(BOM).unwrap_or(line) } else { line }.trim_ascii();
        let text = String::from_utf8_lossy(line);
        if line.first() == Some(&b'{') {
            let mut read = serde_json::Deserializer::from_str(&text);
            if Walk(&mut |text| self.entry(number, text)).deserialize(&mut read).and_then(|()| read.end()).is_err() {
                self.unusable(number, &text);
            }
            return;
        }
        let entry = text.split(['#', ';']).next().unwrap_or_default();
        let entry = entry.split([' ', '\t', ',']).find(|part| !part.is_empty()).unwrap_or_default();
        if !entry.is_empty() {
            self.entry(number, entry.trim_matches('"'));
        }
    }

    fn entry(&mut self, line: u64, text: &str) {
        let Some(network) = networks::parse(text) else { return self.unusable(line, text) };
        let shortest = if network.addr().is_ipv4() { V4_PREFIX_MIN } else { V6_PREFIX_MIN };
        if network.prefix_len() < shortest {
            self.left_out.too_wide += 1;
            self.first(line, text);
        } else if !self.match_private && is_private_network(network) {
            self.left_out.private += 1;
        } else {
            self.to.push(network);
        }
    }

    fn unusable(&mut self, line: u64, text: &str) {
        self.left_out.unusable += 1;
        self.first(line, text);
    }

    fn first(&mut self, line: u64, text: &str) {
        self.left_out.first.get_or_insert_with(|| (line, text.chars().take(SHOWN_CHARS).collect()));
    }
}
