//! How entries lie in a file that is only appended to. Pure.
//!
//! ```text
//! 4 bytes   magic
//! 4 bytes   length of the header, little-endian
//! 4 bytes   length of the body
//! 4 bytes   CRC32C of the entry's offset in the file and of both lengths
//! 4 bytes   CRC32C of header and body
//! …         header
//! …         body
//! ```
//!
//! Bodies come from whoever can make a host log a line. The offset in the first checksum keeps such
//! a line from posing as an entry when a reader looks for the next one behind damage, and from
//! costing more than a look at twenty bytes.
//!
//! A crash can leave a torn entry at the end of a file and nowhere else: [`entries`] gives that back
//! as [`Found::Torn`], and anything that fits no entry in the middle as [`Found::Damaged`], never
//! silently. No I/O here; `store` writes and fsyncs.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

/// Bytes before the header.
pub const FRAME_BYTES: usize = 20;

/// First bytes of an entry: not UTF-8, so that no text holds them.
pub type Magic = [u8; 4];

/// Appends an entry to `bytes`.
///
/// - `base`: the offset in the file at which `bytes` will be appended.
/// - `header`, `body`: below 4 GiB; what is longer is cut.
pub fn append(magic: Magic, bytes: &mut Vec<u8>, base: u64, header: &[u8], body: &[&[u8]]) {
    let header_len = u32::try_from(header.len()).unwrap_or(0);
    let header = header.get(..header_len as usize).unwrap_or_default();
    let at = bytes.len();
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&header_len.to_le_bytes());
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(header);
    body.iter().for_each(|part| bytes.extend_from_slice(part));
    let start = at + FRAME_BYTES + header.len();
    let body_len = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes.truncate(start + body_len as usize);
    let place = place_crc(base + at as u64, header_len, body_len);
    let content = crc32c::crc32c(bytes.get(at + FRAME_BYTES..).unwrap_or_default());
    let numbers = [body_len, place, content].map(u32::to_le_bytes).concat();
    if let Some(frame) = bytes.get_mut(at + 8..at + FRAME_BYTES) {
        frame.copy_from_slice(&numbers);
    }
}

fn place_crc(offset: u64, header_len: u32, body_len: u32) -> u32 {
    let crc = crc32c::crc32c(&offset.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &header_len.to_le_bytes());
    crc32c::crc32c_append(crc, &body_len.to_le_bytes())
}

/// What a file holds, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'b, H> {
    /// A whole entry.
    Entry {
        /// Where it begins and ends, from the start of the bytes.
        from: usize,
        to: usize,
        header: H,
        body: &'b [u8],
    },
    /// Bytes `from..to` fit no entry, and entries follow: the disk damaged them.
    Damaged { from: usize, to: usize },
    /// From here to the end there is no whole entry: a write that a crash cut off, unless the disk
    /// damaged the last one.
    Torn { from: usize },
}

/// Reads entries.
///
/// - `base`: the offset of `bytes` in the file.
/// - `read`: makes a header of its bytes; `None` is damage.
pub fn entries<H>(magic: Magic, bytes: &[u8], base: u64, read: fn(&[u8]) -> Option<H>) -> Entries<'_, H> {
    Entries { magic, bytes, base, at: 0, read }
}

/// See [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'b, H> {
    magic: Magic,
    bytes: &'b [u8],
    base: u64,
    at: usize,
    read: fn(&[u8]) -> Option<H>,
}

impl<'b, H> Iterator for Entries<'b, H> {
    type Item = Found<'b, H>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let from = self.at;
        if let Some((header, body, to)) = self.entry_at(from) {
            self.at = to;
            return Some(Found::Entry { from, to, header, body });
        }
        let next = (from + 1..self.bytes.len())
            .filter(|at| self.bytes.get(*at..).is_some_and(|rest| rest.starts_with(&self.magic)))
            .find(|at| self.entry_at(*at).is_some());
        self.at = next.unwrap_or(self.bytes.len());
        Some(match next {
            Some(to) => Found::Damaged { from, to },
            None => Found::Torn { from },
        })
    }
}

impl<'b, H> Entries<'b, H> {
    /// The entry at `at` and where it ends; `None` if there is no whole one.
    fn entry_at(&self, at: usize) -> Option<(H, &'b [u8], usize)> {
        let rest = self.bytes.get(at..)?;
        let (header_len, body_len, content) = frame(self.magic, rest, self.base + at as u64)?;
        let content_bytes = rest.get(FRAME_BYTES..)?.get(..header_len + body_len)?;
        if crc32c::crc32c(content_bytes) != content {
            return None;
        }
        let (header, body) = content_bytes.split_at_checked(header_len)?;
        Some(((self.read)(header)?, body, at + FRAME_BYTES + header_len + body_len))
    }
}

/// Both lengths and the checksum of what follows, if an entry begins here.
fn frame(magic: Magic, rest: &[u8], offset: u64) -> Option<(usize, usize, u32)> {
    let number = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    if !rest.starts_with(&magic) {
        return None;
    }
    let (header_len, body_len) = (number(4)?, number(8)?);
    (place_crc(offset, header_len, body_len) == number(12)?).then_some((header_len as usize, body_len as usize, number(16)?))
}

/// Bytes of the entry that begins here, as its frame says it; `None` if none begins here, or too little of
/// it is there.
///
/// - `offset`: of `rest` in the file.
pub fn length(magic: Magic, rest: &[u8], offset: u64) -> Option<usize> {
    frame(magic, rest, offset).map(|(header, body, _)| FRAME_BYTES + header + body)
}

/// True if bytes at the end of a file are what a crash leaves of an entry in the making: its beginning, or
/// zeros. False where the disk may have damaged a whole one.
///
/// - `offset`: of `rest` in the file.
pub fn is_cut_off(magic: Magic, rest: &[u8], offset: u64) -> bool {
    let is_short = rest.len() < FRAME_BYTES && (rest.starts_with(&magic) || magic.starts_with(rest));
    is_short || rest.iter().all(|byte| *byte == 0) || length(magic, rest, offset).is_some_and(|len| len > rest.len())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAGIC: Magic = [0xD1, b'T', 0xE7, b'1'];

    fn text(header: &[u8]) -> Option<String> {
        String::from_utf8(header.to_vec()).ok()
    }

    /// Bodies found, and what is none.
    fn bodies(bytes: &[u8], base: u64) -> Vec<Result<Vec<u8>, &'static str>> {
        let told = |found| match found {
            Found::Entry { body, .. } => Ok(body.to_vec()),
            Found::Damaged { .. } => Err("damaged"),
            Found::Torn { .. } => Err("torn"),
        };
        entries(MAGIC, bytes, base, text).map(told).collect()
    }

    #[test]
    fn a_part_of_a_file_is_read_as_the_whole() {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for body in [b"one".as_slice(), b"", &[0, 255, 10]] {
            starts.push(bytes.len());
            append(MAGIC, &mut bytes, 100, b"h", &[body, b"+"]);
        }
        assert_eq!(bodies(&bytes, 100), [Ok(b"one+".to_vec()), Ok(b"+".to_vec()), Ok(vec![0, 255, 10, b'+'])]);
        let (second, offset) = (&bytes[starts[1]..], 100 + starts[1] as u64);
        assert_eq!(bodies(second, offset).len(), 2);
        assert_eq!(bodies(second, offset + 1), [Err("torn")], "its place is part of it");
        assert_eq!(length(MAGIC, second, offset), Some(starts[2] - starts[1]));
        assert_eq!(length(MAGIC, &second[..19], offset), None);
    }

    #[test]
    fn a_crash_and_damage_at_the_end_are_told_apart() {
        let mut bytes = Vec::new();
        append(MAGIC, &mut bytes, 7, b"header", &[b"body"]);
        for cut in 0..bytes.len() {
            assert!(is_cut_off(MAGIC, &bytes[..cut], 7), "{cut}");
        }
        assert!(is_cut_off(MAGIC, &[0; 64], 7));
        assert!(!is_cut_off(MAGIC, &bytes, 7));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(!is_cut_off(MAGIC, &bytes, 7), "byte {at}");
            assert_eq!(bodies(&bytes, 7), [Err("torn")], "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(before in prop::collection::vec(any::<u8>(), 0..40), after in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = before.clone();
            append(MAGIC, &mut bytes, 9, b"h", &[b"one"]);
            bytes.extend_from_slice(&after);
            let found = bodies(&bytes, 9);
            prop_assert!(found.contains(&Ok(b"one".to_vec())));
            prop_assert_eq!(found.len(), 1 + usize::from(!before.is_empty()) + usize::from(!after.is_empty()));
        }
    }
}
