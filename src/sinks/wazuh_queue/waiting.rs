//! Records that wait for the manager: bounded by number, bytes and age, the oldest out first.

use std::collections::VecDeque;

use crate::{clock::Nanos, limits};

/// What waits, the oldest first.
#[derive(Debug)]
pub(super) struct Waiting {
    records: VecDeque<(Nanos, Box<[u8]>)>,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { records: VecDeque::new(), bytes: 0, records_max: limits::OPTIONAL_INBOX_MESSAGES, bytes_max: limits::OPTIONAL_INBOX_BYTES }
    }

    /// Adds one that was handed in at `now`; gives how many had to make room for it.
    pub(super) fn push(&mut self, now: Nanos, record: &[u8]) -> u64 {
        let mut out = 0;
        while !self.records.is_empty() && (self.records.len() >= self.records_max || self.bytes + record.len() > self.bytes_max) {
            self.pop();
            out += 1;
        }
        self.bytes += record.len();
        self.records.push_back((now, record.into()));
        out
    }

    /// Removes those handed in before `moment`, and gives how many these were.
    pub(super) fn expire(&mut self, moment: Nanos) -> u64 {
        let mut out = 0;
        while self.records.front().is_some_and(|(since, _)| *since < moment) {
            self.pop();
            out += 1;
        }
        out
    }

    pub(super) fn first(&self) -> Option<&[u8]> {
        self.records.front().map(|(_, record)| &**record)
    }

    /// When the oldest was handed in.
    pub(super) fn oldest(&self) -> Option<Nanos> {
        self.records.front().map(|(since, _)| *since)
    }

    pub(super) fn pop(&mut self) {
        if let Some((_, record)) = self.records.pop_front() {
            self.bytes -= record.len();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_by_number_by_bytes_and_by_age() {
        let mut waiting = Waiting { records_max: 3, bytes_max: 10, ..Waiting::new() };
        assert_eq!([waiting.push(1, b"aa"), waiting.push(2, b"bb"), waiting.push(3, b"cc")], [0, 0, 0]);
        assert_eq!(waiting.push(4, b"dd"), 1, "by number");
        assert_eq!((waiting.first(), waiting.oldest(), waiting.len()), (Some(&b"bb"[..]), Some(2), 3));
        assert_eq!(waiting.push(5, b"eeeeeeee"), 2, "by bytes");
        assert_eq!((waiting.first(), waiting.bytes), (Some(&b"dd"[..]), 10));
        assert_eq!(waiting.expire(5), 1, "by age: one handed in at the moment itself stays");
        assert_eq!(waiting.push(6, b"longer than all"), 1, "one that is too long alone still has a place");
        waiting.pop();
        assert_eq!((waiting.bytes, waiting.is_empty(), waiting.expire(u64::MAX)), (0, true, 0));
    }
}
