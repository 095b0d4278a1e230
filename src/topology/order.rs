//! Things that are begun in one order, become ready in any, and leave in the first. Pure.

use std::collections::VecDeque;

/// What is begun and has not left.
pub struct Order<T> {
    /// The ticket of the first.
    first: u64,
    waiting: VecDeque<Waiting<T>>,
    bytes: u64,
}

struct Waiting<T> {
    stream: usize,
    bytes: u64,
    ready: Option<T>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { first: 0, waiting: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Order<T> {
    /// Begins one; gives its ticket.
    pub fn push(&mut self, stream: usize, bytes: u64) -> u64 {
        self.bytes += bytes;
        self.waiting.push_back(Waiting { stream, bytes, ready: None });
        self.first + self.waiting.len() as u64 - 1
    }

    /// The one with this ticket is ready.
    ///
    /// # Panics
    /// If it was not begun, or was ready before.
    pub fn put(&mut self, ticket: u64, ready: T) {
        let at = ticket.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let waiting = at.and_then(|at| self.waiting.get_mut(at)).expect("what is ready was begun and has not left");
        assert!(waiting.ready.replace(ready).is_none(), "a ticket is ready once");
    }

    /// The first, if it is ready, with its stream.
    pub fn pop(&mut self) -> Option<(usize, T)> {
        let ready = self.waiting.front_mut()?.ready.take()?;
        let Waiting { stream, bytes, .. } = self.waiting.pop_front()?;
        self.first += 1;
        self.bytes -= bytes;
        Some((stream, ready))
    }

    /// How many are begun and have not left.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_becomes_ready_first_all_leave_in_the_order_of_their_beginning(readies in proptest::collection::vec(0..8usize, 1..60)) {
            let (mut order, mut open, mut left, mut begun) = (Order::default(), Vec::new(), Vec::new(), 0);
            for pick in readies {
                while open.len() < 4 {
                    open.push(order.push(begun, 10));
                    begun += 1;
                }
                let ticket = open.swap_remove(pick % open.len());
                order.put(ticket, ticket);
                while let Some((stream, ready)) = order.pop() {
                    prop_assert_eq!(stream as u64, ready);
                    left.push(stream);
                }
                prop_assert_eq!(order.bytes(), 10 * order.len() as u64);
            }
            prop_assert_eq!(left, (0..begun - order.len()).collect::<Vec<_>>());
        }
    }
}
