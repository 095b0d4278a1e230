//! Messages that wait for the receiver, in order, and how many of them go in one request. Pure.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    batch::Batch,
    clock::Nanos,
    limits,
    sinks::{Acks, Parcel},
};

/// One message.
#[derive(Debug)]
pub(super) struct Item {
    batch: Arc<Batch>,
    number: u32,
    acks: Acks,
    /// Monotonic time at which it was handed in.
    pub since: Nanos,
}

impl Item {
    pub(super) fn payload(&self) -> &[u8] {
        self.batch.message(self.number).payload
    }
    /// Where its record lies, as the header `shipper-origin` says it.
    pub(super) fn origin(&self) -> &[u8] {
        self.batch.message(self.number).origin()
    }
    pub(super) fn delivered(self) {
        self.acks.delivered_one(self.batch.stream, self.batch.seq, self.number);
    }
    pub(super) fn refused(self, why: String) {
        self.acks.refused(self.batch.stream, self.batch.seq, self.number, why);
    }
}

/// What waits, the oldest first.
#[derive(Debug)]
pub(super) struct Waiting {
    items: VecDeque<Item>,
    bytes: usize,
    /// Most messages and bytes; `None` where the sources' credits are the bound.
    bounds: Option<(usize, usize)>,
}

impl Waiting {
    /// - `is_required`: then nothing makes room, since somebody waits for each.
    pub(super) fn new(is_required: bool) -> Self {
        let bounds = (!is_required).then_some((limits::OPTIONAL_INBOX_MESSAGES, limits::OPTIONAL_INBOX_BYTES));
        Self { items: VecDeque::new(), bytes: 0, bounds }
    }

    /// Adds the messages of a parcel; gives how many had to make room for them.
    pub(super) fn push(&mut self, parcel: &Parcel, now: Nanos) -> u64 {
        let mut out = 0;
        for number in parcel.numbers() {
            let item = Item { batch: parcel.batch.clone(), number, acks: parcel.acks.clone(), since: now };
            let bytes = item.payload().len();
            let is_full = |waiting: &Self| {
                let full = |(messages, most): (usize, usize)| waiting.items.len() >= messages || waiting.bytes + bytes > most;
                !waiting.items.is_empty() && waiting.bounds.is_some_and(full)
            };
            while is_full(self) {
                self.pop();
                out += 1;
            }
            self.bytes += bytes;
            self.items.push_back(item);
        }
        out
    }

    /// Removes those handed in before `moment`, and gives how many these were.
    pub(super) fn expire(&mut self, moment: Nanos) -> u64 {
        let mut out = 0;
        while self.items.front().is_some_and(|item| item.since < moment) {
            self.pop();
            out += 1;
        }
        out
    }

    /// Takes the first, up to so many and, beyond the first, up to so many bytes.
    pub(super) fn take(&mut self, messages: usize, bytes: usize) -> Vec<Item> {
        let mut taken = Vec::new();
        let mut sum = 0;
        while taken.len() < messages
            && let Some(item) = self.items.front()
        {
            sum += item.payload().len();
            if sum > bytes && !taken.is_empty() {
                break;
            }
            taken.extend(self.pop());
        }
        taken
    }

    /// Puts back what was taken and is to be sent again; gives how many had to make room.
    pub(super) fn put_back(&mut self, items: Vec<Item>) -> u64 {
        for item in items.into_iter().rev() {
            self.bytes += item.payload().len();
            self.items.push_front(item);
        }
        let mut out = 0;
        while self.items.len() > 1 && self.bounds.is_some_and(|(messages, bytes)| self.items.len() > messages || self.bytes > bytes) {
            self.pop();
            out += 1;
        }
        out
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.payload().len();
        Some(item)
    }

    /// When the oldest was handed in.
    pub(super) fn oldest(&self) -> Option<Nanos> {
        self.items.front().map(|item| item.since)
    }
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// How many messages go together while one of them is wrong.
///
/// | a request of n is | suspects become | the next request has |
/// |---|---|---|
/// | refused, n > 1 | at least these n | n / 2 |
/// | refused, n = 1 | one less | the same |
/// | delivered | n less | twice as many |
///
/// Without suspects a request is as large as it may be. Suspects are the first that wait; should
/// some of them go for want of room, others are sent in small groups for nothing, and no harm is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Proof {
    suspects: usize,
    group: usize,
}

impl Proof {
    /// Messages of the next request.
    pub(super) fn size(&self, most: usize) -> usize {
        if self.suspects == 0 { most } else { self.group.min(self.suspects).min(most).max(1) }
    }
    pub(super) fn is_open(&self) -> bool {
        self.suspects > 0
    }
    /// A request of `n` messages was refused.
    pub(super) fn refused(&mut self, n: usize) {
        if n > 1 {
            self.suspects = self.suspects.max(n);
            self.group = n / 2;
        } else {
            self.suspects = self.suspects.saturating_sub(1);
        }
    }
    /// A request of `n` messages was delivered.
    pub(super) fn delivered(&mut self, n: usize) {
        self.suspects = self.suspects.saturating_sub(n);
        self.group = self.group.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        batch::{Draft, Place},
        io::Slab,
        position::{Origin, Position},
        sinks::{Home, Pick, Settle},
    };

    struct Nobody;
    impl Home for Nobody {
        fn settle(&self, _: u8, _: Settle) {}
    }

    fn parcel(payloads: &[&str]) -> Parcel {
        let mut draft = Draft::new(Slab::from_bytes(b"x\n".to_vec()));
        for payload in payloads {
            let origin = Origin { stream: "s", offset: 0, len: Some(2) };
            draft
                .outbox(Place { start: 0, len: 2 }, 0, &[Some(0)], origin)
                .1
                .message(0)
                .payload(|w| w.extend_from_slice(payload.as_bytes()));
        }
        let batch = Arc::new(draft.finish(0, Position::Count(1), 0));
        Parcel { batch, pick: Pick::Outputs(1), acks: Acks::new(Arc::new(Nobody), 0) }
    }

    fn shown(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| std::str::from_utf8(item.payload()).unwrap()).collect()
    }

    #[test]
    fn the_oldest_makes_room_by_number_by_bytes_and_by_age() {
        let mut waiting = Waiting { bounds: Some((3, 10)), ..Waiting::new(false) };
        assert_eq!(waiting.push(&parcel(&["aa", "bb", "cc"]), 1), 0);
        assert_eq!(waiting.push(&parcel(&["dd"]), 2), 1, "by number");
        assert_eq!(waiting.push(&parcel(&["eeeeeeee"]), 3), 2, "by bytes");
        assert_eq!((waiting.len(), waiting.bytes()), (2, 10));
        assert_eq!(waiting.expire(3), 1, "by age: one handed in at the moment itself stays");
        assert_eq!(waiting.push(&parcel(&["longer than all"]), 4), 1, "one that is too long alone still has a place");
        assert_eq!((shown(&waiting.take(9, 1)), waiting.bytes()), (vec!["longer than all"], 0));
    }

    #[test]
    fn where_somebody_waits_nothing_makes_room() {
        let mut waiting = Waiting::new(true);
        let many = vec!["x"; limits::OPTIONAL_INBOX_MESSAGES + 1];
        assert_eq!((waiting.push(&parcel(&many), 1), waiting.len()), (0, many.len()));
    }

    #[test]
    fn what_is_put_back_comes_first_and_in_order() {
        let mut waiting = Waiting::new(true);
        waiting.push(&parcel(&["a", "bb", "c", "d"]), 1);
        let taken = waiting.take(3, 3);
        assert_eq!(shown(&taken), ["a", "bb"], "as many bytes as fit");
        assert_eq!(waiting.put_back(taken), 0);
        assert_eq!((shown(&waiting.take(3, 100)), waiting.bytes()), (vec!["a", "bb", "c"], 1));

        let mut waiting = Waiting { bounds: Some((3, 100)), ..Waiting::new(false) };
        waiting.push(&parcel(&["a", "b"]), 1);
        let taken = waiting.take(2, 100);
        waiting.push(&parcel(&["c", "d"]), 2);
        assert_eq!((waiting.put_back(taken), shown(&waiting.take(9, 100))), (1, vec!["b", "c", "d"]), "the oldest makes room");
    }

    proptest! {
        /// A receiver that refuses a request with any bad message in it.
        #[test]
        fn each_bad_message_is_found_alone_and_every_other_is_delivered(bad in prop::collection::vec(any::<bool>(), 1..64), most in 1usize..20) {
            let (mut proof, mut at, mut requests) = (Proof::default(), 0, 0);
            let (mut delivered, mut refused) = (Vec::new(), Vec::new());
            while at < bad.len() {
                let n = proof.size(most).min(bad.len() - at);
                requests += 1;
                match (bad[at..at + n].contains(&true), n) {
                    (false, _) => { proof.delivered(n); delivered.extend(at..at + n); at += n; }
                    (true, 1) => { proof.refused(1); refused.push(at); at += 1; }
                    (true, _) => proof.refused(n),
                }
                prop_assert!(requests <= 64 * 8, "it comes to an end");
            }
            let of = |is: bool| (0..bad.len()).filter(|n| bad[*n] == is).collect::<Vec<_>>();
            prop_assert_eq!((delivered, refused), (of(false), of(true)));
        }
    }
}
