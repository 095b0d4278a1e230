//! Which messages are open: to be sent, in flight, suspected, or answered. Pure.
//!
//! Parcels stand in the order in which they came, messages in the order of their batch. A message
//! is sent in that order; what failed is sent again in that order.
//!
//! | mark | means |
//! |---|---|
//! | todo | not in flight, to be sent |
//! | sent | in flight; its tag's answer is awaited |
//! | suspect | refused together with others; to be proven alone |
//! | done | answered: delivered, or refused alone |
//!
//! Invariant: `open` = messages that are not done; `sent` and `suspects` count their marks.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    batch::Batch,
    net::kafka::port::Tag,
    sinks::{Acks, Parcel, Pick},
};

/// Bits of a tag: which message of its parcel, which parcel, which generation of the producer.
const NUMBER_BITS: u32 = 24;
const PARCEL_BITS: u32 = 24;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
const PARCEL_MASK: u64 = (1 << PARCEL_BITS) - 1;

const _: () = assert!(crate::limits::BATCH_MESSAGES_MAX as u64 <= NUMBER_MASK + 1, "a message's number fits its bits");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Todo,
    Sent,
    Suspect,
    Done,
}

/// Where a message stands: parcel (dense, from 0) and index in the parcel's pick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    parcel: u64,
    index: u32,
}

struct Flight {
    batch: Arc<Batch>,
    acks: Acks,
    numbers: Vec<u32>,
    marks: Vec<Mark>,
    open: u32,
    fresh: Vec<u32>,
}

/// What is open.
#[derive(Default)]
pub(super) struct Window {
    flights: VecDeque<Flight>,
    /// Number of the first flight.
    first: u64,
    generation: u16,
    /// Everything before is not `Todo`.
    todo: At,
    sent: usize,
    suspects: usize,
    open: usize,
    /// Parcels with deliveries that are not told yet.
    touched: Vec<u64>,
}

impl Window {
    /// Takes a parcel over.
    pub(super) fn admit(&mut self, parcel: Parcel) {
        let numbers = match parcel.pick {
            Pick::These(list) => list,
            Pick::Outputs(_) => parcel.numbers(),
        };
        if numbers.is_empty() {
            return;
        }
        assert!(self.flights.len() < PARCEL_MASK as usize, "parcels in flight fit their bits: credits bound them");
        let count = numbers.len();
        self.open += count;
        self.flights.push_back(Flight {
            batch: parcel.batch,
            acks: parcel.acks,
            numbers,
            marks: vec![Mark::Todo; count],
            open: u32::try_from(count).expect("a batch has fewer than 2^24 messages"),
            fresh: Vec::new(),
        });
    }

    /// Messages that are not answered for good.
    pub(super) fn open(&self) -> usize {
        self.open
    }
    /// Messages in flight.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }
    /// Messages to be proven.
    pub(super) fn suspects(&self) -> usize {
        self.suspects
    }

    /// The next message to send, in order.
    pub(super) fn next_todo(&mut self) -> Option<At> {
        loop {
            let flight = self.flights.get(usize::try_from(self.todo.parcel - self.first).expect("few flights"))?;
            match flight.marks.get(self.todo.index as usize) {
                Some(Mark::Todo) => return Some(self.todo),
                Some(_) => self.todo.index += 1,
                None => self.todo = At { parcel: self.todo.parcel + 1, index: 0 },
            }
        }
    }

    /// The first suspect that is not in flight.
    pub(super) fn next_suspect(&self) -> Option<At> {
        if self.suspects == 0 {
            return None;
        }
        self.flights.iter().enumerate().find_map(|(n, flight)| {
            let index = flight.marks.iter().position(|m| *m == Mark::Suspect)?;
            Some(At { parcel: self.first + n as u64, index: u32::try_from(index).expect("24 bits") })
        })
    }

    /// The message there, with the tag to send it under.
    pub(super) fn message(&self, at: At) -> (crate::batch::Message<'_>, Tag) {
        let flight = self.flight(at);
        let tag =
            u64::from(self.generation) << (NUMBER_BITS + PARCEL_BITS) | (at.parcel & PARCEL_MASK) << NUMBER_BITS | u64::from(at.index);
        (flight.batch.message(flight.numbers[at.index as usize]), Tag(tag))
    }

    /// It is in flight now.
    pub(super) fn mark_sent(&mut self, at: At) {
        match self.set(at, Mark::Sent) {
            Mark::Todo => {}
            Mark::Suspect => self.suspects -= 1,
            other => unreachable!("sent a message that was {other:?}"),
        }
        self.sent += 1;
    }

    /// Finds the message of a tag in flight; `None` if the tag is of an earlier generation.
    ///
    /// # Panics
    /// If this generation never sent it: an answer for nothing is our own mistake.
    pub(super) fn find(&self, tag: Tag) -> Option<At> {
        if tag.0 >> (NUMBER_BITS + PARCEL_BITS) != u64::from(self.generation) {
            return None;
        }
        let ahead = (tag.0 >> NUMBER_BITS).wrapping_sub(self.first) & PARCEL_MASK;
        assert!((ahead as usize) < self.flights.len(), "an answer for a parcel that is not open: {tag:?}");
        let at = At { parcel: self.first + ahead, index: u32::try_from(tag.0 & NUMBER_MASK).expect("24 bits") };
        let mark = self.flight(at).marks.get(at.index as usize).copied();
        assert!(mark == Some(Mark::Sent), "an answer for a message that is {mark:?}: {tag:?}");
        Some(at)
    }

    /// It was delivered; told at the next [`tell`](Self::tell).
    pub(super) fn delivered(&mut self, at: At) {
        self.sent -= 1;
        self.done(at);
        let flight = self.flight_mut(at);
        let number = flight.numbers[at.index as usize];
        if flight.fresh.is_empty() {
            self.touched.push(at.parcel);
        }
        self.flight_mut(at).fresh.push(number);
    }

    /// It failed and is to be sent again.
    pub(super) fn again(&mut self, at: At) {
        self.sent -= 1;
        self.set(at, Mark::Todo);
        self.todo = self.todo.min(at);
    }

    /// It was refused, perhaps for another's sake.
    pub(super) fn suspect(&mut self, at: At) {
        self.sent -= 1;
        self.set(at, Mark::Suspect);
        self.suspects += 1;
    }

    /// It was refused alone: told at once.
    pub(super) fn refused(&mut self, at: At, was_sent: bool, reason: String) {
        match (was_sent, self.flight(at).marks[at.index as usize]) {
            (true, _) => self.sent -= 1,
            (false, Mark::Suspect) => self.suspects -= 1,
            (false, _) => {}
        }
        let flight = self.flight(at);
        flight.acks.refused(flight.batch.stream, flight.batch.seq, flight.numbers[at.index as usize], reason);
        self.done(at);
    }

    /// A new producer: nothing is in flight any more.
    pub(super) fn restart(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        for flight in &mut self.flights {
            for mark in &mut flight.marks {
                if *mark == Mark::Sent {
                    *mark = Mark::Todo;
                }
            }
        }
        self.sent = 0;
        self.todo = At { parcel: self.first, index: 0 };
    }

    /// Tells what was delivered since the last time, one answer a parcel, and forgets parcels
    /// that are answered whole.
    pub(super) fn tell(&mut self) {
        for parcel in std::mem::take(&mut self.touched) {
            let flight = self.flight_mut(At { parcel, index: 0 });
            let numbers = std::mem::take(&mut flight.fresh);
            flight.acks.delivered(&flight.batch, numbers);
        }
        while self.flights.front().is_some_and(|flight| flight.open == 0) {
            self.flights.pop_front();
            self.first += 1;
        }
        self.todo = self.todo.max(At { parcel: self.first, index: 0 });
    }

    fn done(&mut self, at: At) {
        self.set(at, Mark::Done);
        self.flight_mut(at).open -= 1;
        self.open -= 1;
    }

    fn set(&mut self, at: At, mark: Mark) -> Mark {
        std::mem::replace(&mut self.flight_mut(at).marks[at.index as usize], mark)
    }

    fn flight(&self, at: At) -> &Flight {
        &self.flights[usize::try_from(at.parcel - self.first).expect("few flights")]
    }

    fn flight_mut(&mut self, at: At) -> &mut Flight {
        &mut self.flights[usize::try_from(at.parcel - self.first).expect("few flights")]
    }
}
