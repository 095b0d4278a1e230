//! Bytes to frames, and which frames anybody can want; no I/O, no parsing.
//!
//! A frame is a line: it ends at `\n`, always, and what follows the last one is no frame yet. Or it is
//! an object of JSON ([`objects`]), where a source is told so. The [`Probe`] looks through a whole slab
//! for all needles at once and names only the frames that must be parsed.
//!
//! What surprises: a frame that nobody wants and that looks whole is never judged. Start at
//! [`Probe::scan`].

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod objects;
mod probe;

use memchr::{memchr, memmem, memrchr};

pub use objects::{Objects, last_boundary, objects};
pub use probe::{Look, Probe};

/// The shortest start of a Wazuh alert; behind a frame's first byte it means two lines in one.
pub const GLUE: &[u8] = b"{\"timestamp\"";

/// What a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// A line.
    #[default]
    Lines,
    /// An object of JSON, over as many lines as it likes.
    Objects,
}

/// Bytes up to and with the last `\n`; the rest is the part line that is carried over.
pub fn whole_frames(bytes: &[u8]) -> usize {
    memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}

/// A frame in its slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// First byte.
    pub start: usize,
    /// Behind the last byte of the line, `\n` and `\r` taken off.
    pub end: usize,
    /// First byte of the next frame.
    pub next: usize,
}

/// The frames of `bytes`, in order; a part line at the end is left out.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = Frame> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(start..)?;
        let len = memchr(b'\n', rest)?;
        let line = rest.get(..len)?;
        let cut = usize::from(line.last() == Some(&b'\r'));
        let frame = Frame { start, end: start + len - cut, next: start + len + 1 };
        start = frame.next;
        Some(frame)
    })
}

/// True if a frame does not look like one whole JSON object: it does not begin with `{` or end
/// with `}` (blanks at the end aside), holds a NUL, or holds the start of another alert.
pub fn looks_broken(frame: &[u8]) -> bool {
    let frame = frame.trim_ascii_end();
    frame.first() != Some(&b'{')
        || frame.last() != Some(&b'}')
        || memchr(0, frame).is_some()
        || frame.get(1..).is_some_and(|rest| memmem::find(rest, GLUE).is_some())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests slice what they made")]
mod tests {
    use super::*;

    struct Case {
        bytes: &'static [u8],
        frames: &'static [&'static [u8]],
    }

    const CASES: &[Case] = &[
        Case { bytes: b"a\nb\n", frames: &[b"a", b"b"] },
        Case { bytes: b"a\r\nb", frames: &[b"a"] }, // `b` is no frame until its newline comes
        Case { bytes: b"\n\n", frames: &[b"", b""] },
        Case { bytes: b"\r\r\n", frames: &[b"\r"] },
        Case { bytes: b"", frames: &[] },
    ];

    /// Frames of bytes that arrive in pieces, the part line carried over.
    fn frames_of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let (mut slab, mut found) = (Vec::new(), Vec::new());
        for piece in pieces {
            slab.extend_from_slice(piece);
            let whole = whole_frames(&slab);
            found.extend(frames(&slab[..whole]).map(|f| slab[f.start..f.end].to_vec()));
            slab.drain(..whole);
        }
        found
    }

    #[test]
    fn frames_do_not_depend_on_how_they_arrive() {
        for case in CASES {
            for cut in 1..=case.bytes.len().max(1) {
                assert_eq!(frames_of(case.bytes.chunks(cut)), case.frames, "read {cut} bytes at a time");
            }
        }
    }

    #[test]
    fn what_looks_broken() {
        let broken: &[&[u8]] = &[b"", b"x", b"{\"a\":1", b"\"a\":1}", b"\0{}", b"{\0}", b"{\"timestamp\":1}{\"timestamp\":2}", b" {}"];
        let whole: &[&[u8]] = &[b"{}", b"{} \t", b"{\"timestamp\":1}", b"{\"a\":\"{\\\"timestamp\\\"\"}"];
        assert!(broken.iter().all(|f| looks_broken(f)));
        assert!(whole.iter().all(|f| !looks_broken(f)));
    }
}
