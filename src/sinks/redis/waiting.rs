//! Messages that wait for Redis, in order, and which forms of each are done. Pure.
//!
//! | a command was | its form | the message |
//! |---|---|---|
//! | done | is never sent again | is delivered once all its forms are done |
//! | not done, to be tried on | is sent again | waits |
//! | refused | is never sent again | is refused once its other forms are settled |

use std::collections::VecDeque;

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Again,
    Refused(String),
}

/// A message that is done with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled<M> {
    pub message: M,
    /// Why it is refused, if it is.
    pub refused: Option<String>,
}

#[derive(Debug)]
struct Open<M> {
    message: M,
    /// A bit for each form that is still to be sent.
    owed: u8,
    refused: Option<String>,
}

/// What waits, the oldest first.
#[derive(Debug)]
pub(super) struct Waiting<M> {
    messages: VecDeque<Open<M>>,
    bytes: usize,
    /// Each message goes out in so many forms; 1 to 8.
    forms: usize,
}

impl<M: AsRef<[u8]>> Waiting<M> {
    pub(super) fn new(forms: usize) -> Self {
        assert!((1..=8).contains(&forms), "a bit for each form");
        Self { messages: VecDeque::new(), bytes: 0, forms }
    }

    pub(super) fn push(&mut self, message: M) {
        self.bytes += message.as_ref().len();
        let owed = u8::MAX >> (8 - self.forms);
        self.messages.push_back(Open { message, owed, refused: None });
    }

    /// The first messages, up to so many and, beyond the first, up to so many bytes; each with the number of a form
    /// that is to be sent, in order.
    pub(super) fn next(&self, messages: usize, bytes: usize) -> Vec<(&M, usize)> {
        let mut sum = 0;
        let fits = |(n, open): &(usize, &Open<M>)| {
            sum += open.message.as_ref().len();
            *n == 0 || sum <= bytes
        };
        let first = self.messages.iter().take(messages).enumerate().take_while(fits);
        first.flat_map(|(_, open)| self.owed(open).map(move |form| (&open.message, form))).collect()
    }

    fn owed(&self, open: &Open<M>) -> impl Iterator<Item = usize> + use<M> {
        let owed = open.owed;
        (0..self.forms).filter(move |form| owed >> form & 1 == 1)
    }

    /// Heeds what became of the commands that [`next`](Self::next) gave, in its order; gives the messages that are
    /// done with. Commands without a verdict are sent again.
    pub(super) fn settle(&mut self, verdicts: Vec<Verdict>) -> Vec<Settled<M>> {
        let mut verdicts = verdicts.into_iter();
        let mut touched = 0;
        for open in &mut self.messages {
            let forms = (0..self.forms).filter(|form| open.owed >> form & 1 == 1).collect::<Vec<_>>();
            let mut is_last = false;
            for form in forms {
                match verdicts.next() {
                    Some(Verdict::Done) => open.owed &= !(1 << form),
                    Some(Verdict::Refused(why)) => {
                        open.owed &= !(1 << form);
                        open.refused.get_or_insert(why);
                    }
                    Some(Verdict::Again) => {}
                    None => is_last = true,
                }
            }
            touched += 1;
            if is_last || verdicts.len() == 0 {
                break;
            }
        }
        let mut settled = Vec::new();
        let mut kept = Vec::new();
        for open in self.messages.drain(..touched) {
            if open.owed == 0 {
                self.bytes -= open.message.as_ref().len();
                settled.push(Settled { message: open.message, refused: open.refused });
            } else {
                kept.push(open);
            }
        }
        kept.into_iter().rev().for_each(|open| self.messages.push_front(open));
        settled
    }

    /// Every message, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &M> {
        self.messages.iter().map(|open| &open.message)
    }

    /// Lets go of the messages that are not to be kept; who does so answers for them.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&M) -> bool) {
        let Self { messages, bytes, .. } = self;
        messages.retain(|open| {
            let stays = keep(&open.message);
            *bytes -= if stays { 0 } else { open.message.as_ref().len() };
            stays
        });
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_done_is_not_sent_again_and_a_message_ends_with_its_last_form() {
        let mut waiting = Waiting::new(2);
        ["a", "b", "c"].into_iter().for_each(|message| waiting.push(message));
        assert_eq!(waiting.next(2, 100), [(&"a", 0), (&"a", 1), (&"b", 0), (&"b", 1)]);
        let ended = waiting.settle(vec![Verdict::Done, Verdict::Again, Verdict::Done, Verdict::Done]);
        assert_eq!(ended, [Settled { message: "b", refused: None }]);
        assert_eq!(waiting.next(9, 1), [(&"a", 1)], "bytes, beyond the first");
        assert_eq!(waiting.next(9, 9), [(&"a", 1), (&"c", 0), (&"c", 1)]);
        let ended = waiting.settle(vec![Verdict::Refused("long".into()), Verdict::Done]);
        assert_eq!(ended, [Settled { message: "a", refused: Some("long".into()) }]);
        assert_eq!((waiting.next(9, 9), waiting.len(), waiting.bytes()), (vec![(&"c", 1)], 1, 1));
        assert!(waiting.settle(vec![]).is_empty());
        ["d", "e"].into_iter().for_each(|message| waiting.push(message));
        waiting.retain(|message| *message != "d");
        assert_eq!((waiting.iter().collect::<Vec<_>>(), waiting.bytes()), (vec![&"c", &"e"], 2));
        waiting.retain(|message| *message == "c");
        assert_eq!(waiting.settle(vec![Verdict::Done]).len(), 1);
        assert!(waiting.is_empty() && waiting.bytes() == 0);
    }

    mod naive {
        /// Each message alone: true if one of its forms is ever refused.
        pub fn refused(message: usize, forms: usize, is_bad: impl Fn(usize, usize) -> bool) -> bool {
            (0..forms).any(|form| is_bad(message, form))
        }
    }

    proptest! {
        #[test]
        fn each_form_is_done_once_and_each_message_ends_once_whatever_is_answered(
            count in 1usize..20, forms in 1usize..4, most in 1usize..8,
            bad in prop::collection::vec(prop::bool::weighted(0.1), 80),
            again in prop::collection::vec(any::<bool>(), 0..200), cuts in prop::collection::vec(0usize..6, 0..40),
        ) {
            let is_bad = |message: usize, form: usize| bad[message * 4 + form];
            let mut waiting = Waiting::new(forms);
            (0..count).for_each(|n| waiting.push(vec![n as u8]));
            let (mut again, mut cuts) = (again.into_iter(), cuts.into_iter());
            let (mut done, mut ended) = (vec![0; count * forms], Vec::new());
            let mut rounds = 0;
            while !waiting.is_empty() {
                rounds += 1;
                prop_assert!(rounds < 1000, "it comes to an end");
                let sent: Vec<(usize, usize)> = waiting.next(most, 100).into_iter().map(|(message, form)| (usize::from(message[0]), form)).collect();
                // A connection that breaks leaves some without an answer.
                let answered = sent.len() - cuts.next().unwrap_or(0).min(sent.len());
                let verdicts = sent[..answered].iter().map(|(message, form)| {
                    if again.next().unwrap_or(false) {
                        return Verdict::Again;
                    }
                    done[message * forms + form] += 1;
                    if is_bad(*message, *form) { Verdict::Refused("bad".into()) } else { Verdict::Done }
                }).collect();
                ended.extend(waiting.settle(verdicts).into_iter().map(|settled| (usize::from(settled.message[0]), settled.refused.is_some())));
            }
            prop_assert!(done.iter().all(|times| *times == 1), "no form twice, none left out");
            ended.sort();
            let expected: Vec<(usize, bool)> = (0..count).map(|n| (n, naive::refused(n, forms, is_bad))).collect();
            prop_assert_eq!(ended, expected);
        }
    }
}
