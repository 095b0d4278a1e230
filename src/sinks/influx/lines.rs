//! Lines that wait to be written, in order, which of them go together, and what becomes of each. Pure.
//!
//! A message holds one line of line protocol or several, and is the unit of ack: it is delivered once
//! every line of it is written, refused once all are settled and one of them was refused. Lines go out
//! and are settled from the front, so messages are settled in the order in which they came.
//!
//! | a request of n lines is | these lines | the next request has |
//! |---|---|---|
//! | written | are written | the other half, or the next batch |
//! | refused, n > 1 | wait | their first half |
//! | refused, n = 1 | that one is refused, proven alone | the other half, or the next batch |
//! | too large, n > 1 | wait | their first half; later batches have half the bytes |
//! | too large, n = 1 | that one is refused | the other half, or the next batch |
//! | unanswered, or to be held | wait | the same lines |
//!
//! A server that writes the good lines of a request and refuses the rest is asked again for the good
//! ones too: the same point once more is the same point.

use std::{collections::VecDeque, ops::Range};

use crate::clock::Nanos;

/// What the server made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'t> {
    /// All lines are written.
    Written,
    /// One of them at least is refused for good, for this reason.
    Refused(&'t str),
    /// It takes no body of that size.
    TooLarge(&'t str),
}

/// A message that is done with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done<M> {
    pub message: M,
    /// Why it is refused, if it is.
    pub refused: Option<String>,
}

/// What one verdict settled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled<M> {
    pub done: Vec<Done<M>>,
    /// Lines.
    pub written: usize,
    /// Lines.
    pub refused: usize,
}

/// A message of which lines wait.
#[derive(Debug)]
struct Open<M> {
    message: M,
    /// Monotonic time at which it was handed in.
    since: Nanos,
    lines: Vec<Range<usize>>,
    /// How many of them are settled.
    settled: usize,
    /// How many of these were refused, and the first of them, told.
    refused: usize,
    why: Option<String>,
}

/// Lines that are to be tried together.
#[derive(Clone, Copy, Debug)]
struct Half {
    lines: usize,
    /// True if the one behind it is its other half, and one of the two holds a bad line.
    is_first: bool,
}

/// Most lines and bytes of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub lines: usize,
    pub bytes: usize,
}

/// The lines, oldest first.
///
/// - `M`: a message; its bytes are lines, parted by line feeds. Empty lines do not count.
#[derive(Debug)]
pub(super) struct Lines<M> {
    messages: VecDeque<Open<M>>,
    lines: usize,
    bytes: usize,
    bounds: Bounds,
    /// The parts of a request that was refused, the next one last. Together they are the first lines.
    halves: Vec<Half>,
}

impl<M: AsRef<[u8]>> Lines<M> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { messages: VecDeque::new(), lines: 0, bytes: 0, bounds, halves: Vec::new() }
    }

    /// Takes a message.
    ///
    /// # Errors
    /// The message itself, if it holds no line.
    pub(super) fn push(&mut self, message: M, now: Nanos) -> Result<(), M> {
        let lines = cut(message.as_ref());
        if lines.is_empty() {
            return Err(message);
        }
        self.lines += lines.len();
        self.bytes += lines.iter().map(size).sum::<usize>();
        self.messages.push_back(Open { message, since: now, lines, settled: 0, refused: 0, why: None });
        Ok(())
    }

    /// The lines that wait, with their line feeds.
    fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().flat_map(|open| open.lines.iter().skip(open.settled).map(|line| &open.message.as_ref()[line.clone()]))
    }

    /// How many lines the next request holds; none if nothing waits.
    pub(super) fn next(&self) -> usize {
        if let Some(half) = self.halves.last() {
            return half.lines;
        }
        let mut bytes = 0;
        let fits = |(n, line): &(usize, &[u8])| {
            bytes += line.len() + 1;
            *n == 0 || bytes <= self.bounds.bytes
        };
        self.waiting().take(self.bounds.lines).enumerate().take_while(fits).count()
    }

    /// The body of a request with the first `lines` lines.
    pub(super) fn body(&self, lines: usize) -> Vec<u8> {
        let mut body = Vec::new();
        for line in self.waiting().take(lines) {
            body.extend_from_slice(line);
            body.push(b'\n');
        }
        body
    }

    /// Heeds what became of a request that held the first `lines` lines.
    ///
    /// - `lines`: as [`next`](Self::next) said.
    pub(super) fn settle(&mut self, lines: usize, verdict: Verdict<'_>) -> Settled<M> {
        let mut settled = Settled { done: Vec::new(), written: 0, refused: 0 };
        match verdict {
            Verdict::Written => {
                (0..lines).for_each(|_| settled.done.extend(self.settle_first(None)));
                settled.written = lines;
                let half = self.halves.pop();
                // The first half was good as a whole, so the bad line is in the other.
                if half.is_some_and(|half| half.is_first)
                    && let Some(other) = self.halves.pop()
                {
                    self.halve(other.lines, true);
                }
            }
            Verdict::Refused(why) | Verdict::TooLarge(why) if lines <= 1 => {
                settled.done.extend(self.settle_first(Some(why)));
                settled.refused = lines;
                self.halves.pop();
            }
            Verdict::Refused(_) => {
                self.halves.pop();
                self.halve(lines, true);
            }
            Verdict::TooLarge(_) => {
                let bytes: usize = self.waiting().take(lines).map(|line| line.len() + 1).sum();
                self.bounds.bytes = self.bounds.bytes.min(bytes / 2).max(1);
                self.halves.pop();
                self.halve(lines, false);
            }
        }
        settled
    }

    /// Parts the first lines in two, to be tried in turn; one line stays whole.
    ///
    /// - `is_bad`: one of them at least is refused.
    fn halve(&mut self, lines: usize, is_bad: bool) {
        let first = lines / 2;
        self.halves.push(Half { lines: lines - first, is_first: false });
        if first > 0 {
            self.halves.push(Half { lines: first, is_first: is_bad });
        }
    }

    /// Settles the first line; gives its message if that is done now.
    ///
    /// - `refused`: why it is.
    fn settle_first(&mut self, refused: Option<&str>) -> Option<Done<M>> {
        let open = self.messages.front_mut()?;
        self.lines -= 1;
        self.bytes -= size(open.lines.get(open.settled)?);
        open.settled += 1;
        if let Some(why) = refused {
            open.refused += 1;
            let of = open.lines.len();
            let number = open.settled;
            open.why.get_or_insert_with(|| if of == 1 { why.to_owned() } else { format!("line {number} of {of}: {why}") });
        }
        if open.settled < open.lines.len() {
            return None;
        }
        let Open { message, lines, refused, why, .. } = self.messages.pop_front()?;
        let more = |why| match (refused, lines.len()) {
            (_, 1) => why,
            (refused, of) if refused < of => format!("{why} ({refused} of {of} lines are refused, the others are written)"),
            (_, of) => format!("{why} (all {of} lines are refused)"),
        };
        Some(Done { message, refused: why.map(more) })
    }

    /// True if a whole batch waits, or parts of a refused one.
    pub(super) fn is_whole(&self) -> bool {
        !self.halves.is_empty() || self.lines >= self.bounds.lines || self.bytes >= self.bounds.bytes
    }
    /// True if a refused request is being taken apart.
    #[cfg(test)]
    pub(super) fn is_halving(&self) -> bool {
        !self.halves.is_empty()
    }
    /// When the oldest message was handed in.
    pub(super) fn oldest(&self) -> Option<Nanos> {
        self.messages.front().map(|open| open.since)
    }
    /// Bytes of the waiting lines, with their line feeds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    /// Lines.
    pub(super) fn len(&self) -> usize {
        self.lines
    }
    /// Messages.
    pub(super) fn messages(&self) -> usize {
        self.messages.len()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// Bytes of a line in a request.
fn size(line: &Range<usize>) -> usize {
    line.len() + 1
}

/// Where the lines of a payload lie, those without anything but blanks left out.
fn cut(payload: &[u8]) -> Vec<Range<usize>> {
    let mut lines = Vec::with_capacity(1);
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', payload).chain([payload.len()]) {
        if payload.get(start..end).is_some_and(|line| !line.trim_ascii().is_empty()) {
            lines.push(start..end);
        }
        start = end + 1;
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Bounds = Bounds { lines: 1000, bytes: 1 << 20 };

    fn lines(bounds: Bounds, messages: &[&'static str]) -> Lines<&'static str> {
        let mut lines = Lines::new(bounds);
        messages.iter().for_each(|message| lines.push(*message, 0).unwrap());
        lines
    }

    fn done(message: &'static str, refused: Option<&str>) -> Done<&'static str> {
        Done { message, refused: refused.map(str::to_owned) }
    }

    #[test]
    fn a_batch_is_as_many_lines_and_bytes_as_go_together() {
        let of = |bounds, messages: &[&'static str]| {
            let lines = lines(bounds, messages);
            (lines.next(), String::from_utf8(lines.body(lines.next())).unwrap())
        };
        let rows: [(Bounds, &[&'static str], usize, &str); 6] = [
            (WIDE, &["a", "b\nc\n", "\n d\n\n"], 4, "a\nb\nc\n d\n"),
            (Bounds { lines: 2, ..WIDE }, &["a", "b\nc"], 2, "a\nb\n"),
            (Bounds { bytes: 4, ..WIDE }, &["a", "b", "c"], 2, "a\nb\n"),
            (Bounds { bytes: 3, ..WIDE }, &["a", "b", "c"], 1, "a\n"),
            (Bounds { bytes: 1, ..WIDE }, &["longer alone", "b"], 1, "longer alone\n"),
            (WIDE, &[], 0, ""),
        ];
        for (bounds, messages, count, body) in rows {
            assert_eq!(of(bounds, messages), (count, body.to_owned()), "{messages:?}");
        }
        assert_eq!(Lines::new(WIDE).push(" \n\n", 0), Err(" \n\n"), "no line, no message");
    }

    #[test]
    fn a_message_is_delivered_when_all_its_lines_are_and_refused_if_one_is() {
        let mut lines = lines(WIDE, &["a\nb", "c", "d\ne"]);
        assert!(lines.settle(5, Verdict::Refused("bad")).done.is_empty());
        assert_eq!(lines.next(), 2);
        assert_eq!(lines.settle(2, Verdict::Written).done, [done("a\nb", None)]);
        // The other half has the bad one, so it is not asked whole.
        assert_eq!((lines.next(), lines.body(1)), (1, b"c\n".to_vec()));
        assert_eq!(lines.settle(1, Verdict::Written).done, [done("c", None)]);
        assert_eq!(lines.next(), 1);
        let settled = lines.settle(1, Verdict::Written);
        assert_eq!((settled.done.len(), settled.written, lines.next()), (0, 1, 1));
        let settled = lines.settle(1, Verdict::Refused("bad"));
        assert_eq!(settled.done, [done("d\ne", Some("line 2 of 2: bad (1 of 2 lines are refused, the others are written)"))]);
        assert_eq!((lines.messages(), lines.len(), lines.bytes(), lines.is_halving()), (0, 0, 0, false));
    }

    #[test]
    fn what_is_too_large_goes_in_smaller_bodies_from_then_on() {
        let mut lines = lines(WIDE, &["aaa", "bbb", "ccc", "ddd", "eee", "fff"]);
        lines.settle(6, Verdict::TooLarge("large"));
        assert_eq!(lines.next(), 3);
        assert_eq!(lines.settle(3, Verdict::Written).written, 3);
        assert_eq!(lines.next(), 3, "the other half may be good: it is asked whole");
        lines.settle(3, Verdict::Written);
        ["1111", "2222", "3333"].into_iter().for_each(|message| lines.push(message, 0).unwrap());
        assert_eq!(lines.next(), 2, "12 bytes");
        lines.settle(2, Verdict::Written);
        assert_eq!(lines.settle(1, Verdict::TooLarge("large")).done, [done("3333", Some("large"))]);
    }

    mod naive {
        /// Every line alone: what becomes of each message, by whether its lines are bad.
        pub fn fates(messages: &[Vec<bool>]) -> Vec<bool> {
            messages.iter().map(|lines| lines.contains(&true)).collect()
        }
    }

    /// What an answer does beside the lines: nothing comes, or it is held, or the body is too large.
    #[derive(Clone, Copy, Debug)]
    enum Disturbed {
        No,
        Again,
        /// Bodies of more lines are too large.
        Above(usize),
    }

    fn disturbed() -> impl Strategy<Value = Disturbed> {
        prop_oneof![4 => Just(Disturbed::No), 1 => Just(Disturbed::Again), 1 => (1usize..8).prop_map(Disturbed::Above)]
    }

    proptest! {
        /// A server that refuses a request with any bad line in it, and by its kind writes the good ones of it or none.
        #[test]
        fn each_line_ends_once_and_as_if_it_had_been_sent_alone(
            messages in prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.15), 1..4), 1..40),
            bounds in (1usize..30, 1usize..200),
            writes_in_part: bool,
            disturbances in prop::collection::vec(disturbed(), 0..40),
        ) {
            let mut lines = Lines::new(Bounds { lines: bounds.0, bytes: bounds.1 });
            let (mut number, mut is_bad) = (0, Vec::new());
            for message in &messages {
                let text: Vec<String> = message.iter().map(|bad| {
                    is_bad.push(*bad);
                    number += 1;
                    format!("m{} f=1", number - 1)
                }).collect();
                prop_assert!(lines.push(text.join("\n"), 0).is_ok());
            }
            let numbers = |body: &[u8]| -> Vec<usize> {
                let text = std::str::from_utf8(body).unwrap();
                text.lines().map(|line| line[1..line.find(' ').unwrap()].parse().unwrap()).collect()
            };
            let (mut stored, mut fates, mut at, mut requests) = (vec![false; is_bad.len()], Vec::new(), 0, 0);
            let (mut written, mut refused) = (0, 0);
            let mut disturbances = disturbances.into_iter();
            while !lines.is_empty() {
                let n = lines.next();
                prop_assert!(n >= 1 && n <= bounds.0);
                let sent = numbers(&lines.body(n));
                prop_assert_eq!(&sent, &(at..at + n).collect::<Vec<_>>(), "from the front, in order");
                requests += 1;
                prop_assert!(requests < 4000, "it comes to an end");
                let verdict = match disturbances.next().unwrap_or(Disturbed::No) {
                    Disturbed::Again => continue,
                    Disturbed::Above(most) if n > most => Verdict::TooLarge("large"),
                    _ if sent.iter().any(|line| is_bad[*line]) => {
                        if writes_in_part {
                            sent.iter().filter(|line| !is_bad[**line]).for_each(|line| stored[*line] = true);
                        }
                        Verdict::Refused("bad")
                    }
                    _ => {
                        sent.iter().for_each(|line| stored[*line] = true);
                        Verdict::Written
                    }
                };
                let settled = lines.settle(n, verdict);
                at += settled.written + settled.refused;
                (written, refused) = (written + settled.written, refused + settled.refused);
                fates.extend(settled.done.into_iter().map(|done| done.refused.is_some()));
            }
            prop_assert_eq!(fates, naive::fates(&messages), "each message once, in order");
            let bad = is_bad.iter().filter(|bad| **bad).count();
            prop_assert_eq!((written, refused), (is_bad.len() - bad, bad));
            prop_assert!(stored.iter().zip(&is_bad).all(|(stored, bad)| stored != bad), "good ones are there, bad ones are not");
        }

        /// Whatever a server answers, in any order.
        #[test]
        fn each_line_ends_once_whatever_is_answered(
            messages in prop::collection::vec(1usize..4, 1..30),
            answers in prop::collection::vec(0u8..5, 0..300),
            bounds in (1usize..30, 1usize..100),
        ) {
            let mut lines = Lines::new(Bounds { lines: bounds.0, bytes: bounds.1 });
            for count in &messages {
                prop_assert!(lines.push(vec!["m f=1"; *count].join("\n"), 0).is_ok());
            }
            let all: usize = messages.iter().sum();
            let (mut settled, mut done) = (0, 0);
            // When the answers are used up, all is written.
            for answer in answers.into_iter().chain(std::iter::repeat_n(0, all)) {
                prop_assert_eq!((lines.len(), lines.messages()), (all - settled, messages.len() - done));
                let n = lines.next();
                let ended = match answer {
                    _ if n == 0 => break,
                    0 => lines.settle(n, Verdict::Written),
                    1 | 2 => lines.settle(n, Verdict::Refused("bad")),
                    3 => lines.settle(n, Verdict::TooLarge("large")),
                    _ => continue,
                };
                settled += ended.written + ended.refused;
                done += ended.done.len();
            }
            prop_assert_eq!((settled, done, lines.bytes(), lines.is_halving()), (all, messages.len(), 0, false));
        }
    }
}
