//! Which frames of a slab anybody can want, without parsing one.
//!
//! Needles of all branches, the start of a second alert and escapes that may hide a needle are found in one pass over
//! the slab (aho-corasick: a few short words by SIMD). A frame's part of that pass ends early once every branch wants it.

use aho_corasick::{AhoCorasick, Input, MatchKind};
use memchr::{memchr, memmem};

use super::{Frame, Framing, GLUE, frames, looks_broken, objects};

/// How an escape begins that stands for an ASCII byte, and so may hide one of a needle's.
const ESCAPE: &[u8] = b"\\u00";

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
    /// Branches that have needles.
    choosy: u64,
    /// What is looked for, with the branches that want a frame which has it: needles, and escapes. No two are equal.
    words: Vec<(Vec<u8>, u64)>,
    /// Where the next of `words` or the next [`GLUE`] begins.
    search: AhoCorasick,
    glue: memmem::Finder<'static>,
}

impl Probe {
    /// A probe for branches 0, 1, …; `None` wants every frame, and so does who has a needle that is empty or not ASCII.
    #[allow(clippy::expect_used, reason = "fails only where words need 2^31 states")]
    pub fn new(branches: &[Option<Vec<Vec<u8>>>]) -> Self {
        let (mut all, mut choosy) = (0, 0);
        let mut words: Vec<(Vec<u8>, u64)> = Vec::new();
        let mut add = |word: &[u8], bit| match words.iter_mut().find(|(known, _)| known == word) {
            Some((_, mask)) => *mask |= bit,
            None => words.push((word.to_vec(), bit)),
        };
        for (number, wants) in branches.iter().enumerate() {
            let bit = 1 << number;
            match wants {
                Some(needles) if needles.iter().all(|needle| !needle.is_empty() && needle.is_ascii()) => {
                    choosy |= bit;
                    add(ESCAPE, bit);
                    needles.iter().for_each(|needle| add(needle, bit));
                }
                _ => all |= bit,
            }
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(words.iter().map(|(word, _)| word.as_slice()).chain([GLUE]))
            .expect("words of handlers are few and short");
        Self { all, choosy, words, search, glue: memmem::Finder::new(GLUE).into_owned() }
    }

    /// What [`scan`](Self::scan) would say of a frame that stands alone, whatever bytes are in it: which
    /// branches may want it, and whether it looks broken.
    pub fn look(&self, frame: &[u8]) -> (u64, bool) {
        let whole = Frame { start: 0, end: frame.len(), next: frame.len() };
        (Pass::new(self, frame).over(&whole).0, looks_broken(frame))
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
        let mut pass = Pass::new(self, bytes);
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
            let (wanted, glued) = pass.over(&frame);
            broken |= glued;
            if wanted != 0 || broken {
                visit(Look { frame, number: count - 1, wanted, broken });
            }
        }
        count
    }
}

/// One search through a slab, as far as frames have come.
struct Pass<'a> {
    probe: &'a Probe,
    bytes: &'a [u8],
    /// Where the next word begins.
    next: usize,
}

impl<'a> Pass<'a> {
    fn new(probe: &'a Probe, bytes: &'a [u8]) -> Self {
        let mut pass = Self { probe, bytes, next: 0 };
        pass.seek(0);
        pass
    }

    fn seek(&mut self, from: usize) {
        let found = if from < self.bytes.len() { self.probe.search.find(Input::new(self.bytes).range(from..)) } else { None };
        self.next = found.map_or(usize::MAX, |word| word.start());
    }

    /// The branches that may want a frame, and whether another alert begins in it. Frames come in order.
    fn over(&mut self, frame: &Frame) -> (u64, bool) {
        let (mut wanted, mut glued) = (self.probe.all, false);
        while self.next < frame.next {
            let rest = self.bytes.get(self.next..frame.end).unwrap_or_default();
            for (word, mask) in &self.probe.words {
                if wanted & mask != *mask && rest.starts_with(word) {
                    wanted |= mask;
                }
            }
            glued |= self.next > frame.start && rest.starts_with(GLUE);
            if wanted & self.probe.choosy == self.probe.choosy && self.probe.choosy != 0 {
                glued |= rest.get(1..).is_some_and(|rest| self.probe.glue.find(rest).is_some());
                self.seek(frame.next);
            } else {
                self.seek(self.next + 1);
            }
        }
        (wanted, glued)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests slice what they made")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Needles of three branches; some stand in others, begin as others or begin within others.
    const NEEDLES: [&[&[u8]]; 3] = [&[b"fail2ban", b"eventID"], &[b"eventID\"", b"2banner", b"fail"], &[b"anne"]];

    fn naive(bytes: &[u8], branches: &[&[&[u8]]]) -> Vec<Look> {
        let has = |line: &[u8], needle: &[u8]| line.windows(needle.len()).any(|w| w == needle);
        (0..)
            .zip(frames(bytes))
            .filter_map(|(number, frame)| {
                let line = &bytes[frame.start..frame.end];
                let wants = |needles: &[&[u8]]| needles.iter().any(|n| has(line, n)) || has(line, b"\\u00");
                let wanted = branches.iter().enumerate().map(|(n, needles)| u64::from(wants(needles)) << n).sum();
                let broken = looks_broken(line);
                (wanted != 0 || broken).then_some(Look { frame, number, wanted, broken })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_probe_agrees_with_a_look_at_each_line(words in proptest::collection::vec(0..15usize, 0..40), branches in 1..=NEEDLES.len()) {
            const WORDS: &[&[u8]] =
                &[b"{", b"}", b"\n", b"\r\n", b"fail", b"2ban", b"ner", b"eventID", b"\"", b"\\u", b"00", b"\0", b" ", b"{\"timestamp\"", b"x"];
            let bytes: Vec<u8> = words.iter().flat_map(|w| WORDS[*w].iter().copied()).collect();
            let branches = &NEEDLES[..branches];
            let own: Vec<_> = branches.iter().map(|needles| Some(needles.iter().map(|n| n.to_vec()).collect())).collect();
            let probe = Probe::new(&own);
            let mut looks = Vec::new();
            let count = probe.scan(&bytes, Framing::Lines, |look| looks.push(look));
            prop_assert_eq!(count as usize, frames(&bytes).count());
            for look in &looks {
                prop_assert_eq!(probe.look(&bytes[look.frame.start..look.frame.end]), (look.wanted, look.broken));
            }
            prop_assert_eq!(looks, naive(&bytes, branches));
        }

        #[test]
        fn a_branch_without_needles_wants_everything(bytes in proptest::collection::vec(proptest::sample::select(b"{}\n\r a".to_vec()), 0..60)) {
            for branch in [None, Some(vec![Vec::new()]), Some(vec!["ü".into()])] {
                let mut seen = 0;
                let count = Probe::new(&[branch]).scan(&bytes, Framing::Lines, |look| seen += u32::from(look.wanted == 1));
                prop_assert_eq!(seen, count);
            }
        }
    }

    #[test]
    fn a_branch_that_wants_nothing_gets_nothing_but_escapes() {
        let probe = Probe::new(&[Some(Vec::new())]);
        assert_eq!(probe.look(b"{\"a\":\"b\"}"), (0, false));
        assert_eq!(probe.look(b"{\"a\":\"\\u0062\"}"), (1, false));
    }
}
