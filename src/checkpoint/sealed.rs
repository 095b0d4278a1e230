//! The first line of a file of ours: what it is, its format, and how its body can be believed.
//!
//! ```text
//! shipper-snapshot 1 crc32c=9a1fd2c4 bytes=1432 kind=dedup
//! …
//! ```

/// Bytes within which the first line must end.
const FIRST_LINE_BYTES_MAX: usize = 256;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The bytes are not those that were written.
    Damaged(String),
    /// A later shipper wrote it, in this format.
    TooNew(u32),
}

/// A file whose body is as it was written.
pub(super) struct Sealed<'b> {
    first: &'b str,
    pub(super) body: &'b [u8],
}

/// Writes a file's bytes.
///
/// - `facts`: what else its first line says, `name=value`, with a blank between two.
pub(super) fn seal(magic: &str, format: u32, facts: &str, body: &[u8]) -> Vec<u8> {
    let first = format!("{magic} {format} crc32c={:08x} bytes={} {facts}\n", crc32c::crc32c(body), body.len());
    [first.as_bytes(), body].concat()
}

impl<'b> Sealed<'b> {
    /// Reads a file's bytes.
    ///
    /// - `known`: the newest format that can be read.
    pub(super) fn open(magic: &str, known: u32, bytes: &'b [u8]) -> Result<Self, Flaw> {
        let damaged = |what: String| Err(Flaw::Damaged(what));
        if bytes.is_empty() {
            return damaged("it is empty".into());
        }
        let end = bytes.iter().take(FIRST_LINE_BYTES_MAX).position(|byte| *byte == b'\n');
        let parts = end.and_then(|end| Some((std::str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 1..)?)));
        let Some((first, body)) = parts.filter(|(first, _)| first.split(' ').next() == Some(magic)) else {
            return damaged(format!("its first line is not \"{magic} …\""));
        };
        let Some(format) = first.split(' ').nth(1).and_then(|word| word.parse().ok()) else {
            return damaged("its first line names no format".into());
        };
        if format > known {
            return Err(Flaw::TooNew(format));
        }
        let sealed = Self { first, body };
        let crc = sealed.fact("crc32c").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let length = sealed.fact("bytes").and_then(|n| n.parse::<usize>().ok());
        let (Some(crc), Some(length)) = (crc, length) else { return damaged("its first line is incomplete".into()) };
        if body.len() != length {
            return damaged(format!("its body has {} bytes instead of {length}", body.len()));
        }
        if crc32c::crc32c(body) != crc {
            return damaged("its checksum does not match its body".into());
        }
        Ok(sealed)
    }

    /// What the first line says of `name`.
    pub(super) fn fact(&self, name: &str) -> Option<&'b str> {
        self.first.split(' ').skip(2).find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}
