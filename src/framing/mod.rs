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

use memchr::{memchr, memmem, memrchr};

pub use objects::{Objects, last_boundary, objects};

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

/// What the probe says of a frame that somebody may want, or that looks broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub frame: Frame,
    /// Which frame of the slab it is, from 0.
    pub number: u32,
    /// Bit n: branch n may want it.
    pub wanted: u64,
    /// It looks broken: it is parsed whoever wants it.
    pub broken: bool,
}

/// Searches slabs for the needles of every branch.
#[derive(Debug)]
pub struct Probe {
    /// Branches that want every frame.
    all: u64,
    /// Branches that have needles; a `\u` escape may hide one from the search.
    choosy: u64,
    needles: Vec<(memmem::Finder<'static>, u64)>,
    glue: memmem::Finder<'static>,
    escape: memmem::Finder<'static>,
}

impl Probe {
    /// A probe for branches 0, 1, …; `None` wants every frame.
    pub fn new(branches: &[Option<Vec<Vec<u8>>>]) -> Self {
        let (mut all, mut choosy) = (0, 0);
        let mut needles: Vec<(memmem::Finder<'static>, u64)> = Vec::new();
        for (number, wants) in branches.iter().enumerate() {
            let bit = 1 << number;
            match wants {
                None => all |= bit,
                Some(list) => {
                    choosy |= bit;
                    for needle in list {
                        match needles.iter_mut().find(|(finder, _)| finder.needle() == needle.as_slice()) {
                            Some((_, mask)) => *mask |= bit,
                            None => needles.push((memmem::Finder::new(needle).into_owned(), bit)),
                        }
                    }
                }
            }
        }
        Self { all, choosy, needles, glue: memmem::Finder::new(GLUE).into_owned(), escape: memmem::Finder::new(b"\\u").into_owned() }
    }

    /// What [`scan`](Self::scan) would say of a frame that stands alone, whatever bytes are in it: which
    /// branches may want it, and whether it looks broken.
    pub fn look(&self, frame: &[u8]) -> (u64, bool) {
        let hit = |(finder, mask): &(memmem::Finder<'static>, u64)| if finder.find(frame).is_some() { *mask } else { 0 };
        let mut wanted = self.needles.iter().fold(self.all, |wanted, needle| wanted | hit(needle));
        if self.choosy & !wanted != 0 && self.escape.find(frame).is_some() {
            wanted |= self.choosy;
        }
        (wanted, looks_broken(frame))
    }

    /// Calls `visit` for each frame that a branch may want or that looks broken, in order.
    ///
    /// Returns how many frames there were. `bytes` should be whole frames; a part line is left out.
    pub fn scan(&self, bytes: &[u8], framing: Framing, visit: impl FnMut(Look)) -> u32 {
        match framing {
            Framing::Lines => self.scan_frames(bytes, frames(bytes).map(|frame| (frame, false)), visit),
            Framing::Objects => self.scan_frames(bytes, objects(bytes).into_iter(), visit),
        }
    }

    /// - `frames`: all of `bytes`, and which of them are known to be broken.
    fn scan_frames(&self, bytes: &[u8], frames: impl Iterator<Item = (Frame, bool)>, mut visit: impl FnMut(Look)) -> u32 {
        let mut needles: Vec<Cursor<'_>> = self.needles.iter().map(|(finder, mask)| Cursor::new(finder, *mask, bytes)).collect();
        let mut escape = Cursor::new(&self.escape, self.choosy, bytes);
        if self.choosy == 0 {
            escape.next = usize::MAX;
        }
        let mut nul = memchr(0, bytes).unwrap_or(usize::MAX);
        let mut count = 0;
        for (frame, is_lost) in frames {
            count += 1;
            let line = bytes.get(frame.start..frame.end).unwrap_or_default();
            let mut broken = is_lost || (!matches!((line.first(), line.last()), (Some(b'{'), Some(b'}'))) && looks_broken(line));
            if nul < frame.next {
                broken |= nul < frame.end;
                nul = bytes.get(frame.next..).and_then(|rest| memchr(0, rest)).map_or(usize::MAX, |at| frame.next + at);
            }
            if !broken {
                broken = line.get(1..).is_some_and(|rest| self.glue.find(rest).is_some());
            }
            let mut wanted = self.all;
            for cursor in &mut needles {
                wanted |= cursor.within(&frame, bytes);
            }
            wanted |= escape.within(&frame, bytes);
            if wanted != 0 || broken {
                visit(Look { frame, number: count - 1, wanted, broken });
            }
        }
        count
    }
}

/// The next hit of one needle, found only when frames have come that far.
struct Cursor<'a> {
    finder: &'a memmem::Finder<'static>,
    mask: u64,
    next: usize,
}

impl<'a> Cursor<'a> {
    fn new(finder: &'a memmem::Finder<'static>, mask: u64, bytes: &[u8]) -> Self {
        Self { finder, mask, next: finder.find(bytes).unwrap_or(usize::MAX) }
    }

    fn within(&mut self, frame: &Frame, bytes: &[u8]) -> u64 {
        if self.next >= frame.next {
            return 0;
        }
        let hit = self.next + self.finder.needle().len() <= frame.next;
        self.next = bytes.get(frame.next..).and_then(|rest| self.finder.find(rest)).map_or(usize::MAX, |at| frame.next + at);
        if hit { self.mask } else { 0 }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests slice what they made")]
mod tests {
    use proptest::prelude::*;

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

    fn naive(bytes: &[u8], needles: &[&[u8]]) -> Vec<Look> {
        let has = |line: &[u8], needle: &[u8]| line.windows(needle.len()).any(|w| w == needle);
        (0..)
            .zip(frames(bytes))
            .filter_map(|(number, frame)| {
                let line = &bytes[frame.start..frame.end];
                let wanted = u64::from(needles.iter().any(|n| has(line, n)) || has(line, b"\\u"));
                let broken = looks_broken(line);
                (wanted != 0 || broken).then_some(Look { frame, number, wanted, broken })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_probe_agrees_with_a_look_at_each_line(words in proptest::collection::vec(0..12usize, 0..40)) {
            const WORDS: &[&[u8]] = &[b"{", b"}", b"\n", b"\r\n", b"fail", b"2ban", b"eventID", b"\\u", b"\0", b" ", b"{\"timestamp\"", b"x"];
            let bytes: Vec<u8> = words.iter().flat_map(|w| WORDS[*w].iter().copied()).collect();
            let probe = Probe::new(&[Some(vec![b"fail2ban".to_vec(), b"eventID".to_vec()])]);
            let mut looks = Vec::new();
            let count = probe.scan(&bytes, Framing::Lines, |look| looks.push(look));
            prop_assert_eq!(count as usize, frames(&bytes).count());
            for look in &looks {
                prop_assert_eq!(probe.look(&bytes[look.frame.start..look.frame.end]), (look.wanted, look.broken));
            }
            prop_assert_eq!(looks, naive(&bytes, &[b"fail2ban", b"eventID"]));
        }

        #[test]
        fn a_branch_without_needles_wants_everything(bytes in proptest::collection::vec(proptest::sample::select(b"{}\n\r a".to_vec()), 0..60)) {
            let mut seen = 0;
            let count = Probe::new(&[None]).scan(&bytes, Framing::Lines, |look| seen += u32::from(look.wanted == 1));
            prop_assert_eq!(seen, count);
        }
    }
}
