//! What is owed for a batch in flight, record by record. Pure.
//!
//! Messages of one record in one branch are a *group*: its bytes are counted once, when nothing
//! more is owed for it. What a stage or a lookup makes of a message belongs to the message's group
//! and is owed before that is settled, so a record is never acked while something of it is on its
//! way.
//!
//! | of a record's messages | its bytes are |
//! |---|---|
//! | one was refused by a required taker | dead letter |
//! | else one was delivered to a required sink | shipped |
//! | else one was dropped by a stage | dropped, with the stage's reason |
//! | else one was taken by a required lookup | dropped, `looked_up`, or `spooled` if it comes again from a spool |
//! | else | dropped, `not_required` |
//!
//! Invariant: `open` is the sum of what is pending in all groups and of the dead letters of
//! records, which have no group.

use std::sync::Arc;

use crate::batch::{Batch, Message};

/// What a message on an output owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Required takers: as many settlements.
    pub required: u32,
    /// Others wait for it: an output that comes before another, or what was made of one.
    pub first: bool,
    /// It waits for others of its record.
    pub held: bool,
}

/// Who delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taker {
    Sink,
    Lookup,
    /// A spool: it comes again.
    Spool,
}

/// What stages did with a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    /// For each message that they added, in order: the number of the one it was made of.
    pub parents: Vec<u32>,
    /// Messages of which nothing goes on, and why.
    pub dropped: Vec<(u32, &'static str)>,
}

/// How a record's bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Shipped,
    DeadLetter,
    Dropped(&'static str),
}

/// A group of which nothing more is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    pub branch: u8,
    pub bytes: u32,
    pub end: End,
}

/// A batch in flight with what was made of it.
pub struct Flight {
    pub batch: Arc<Batch>,
    /// Made later, by lookups; their numbers rise.
    children: Vec<Arc<Batch>>,
    pub account: Account,
    /// The source handed it in; else it was made here.
    pub is_of_source: bool,
}

impl Flight {
    /// A batch that has just been admitted.
    pub fn new(batch: Arc<Batch>, account: Account) -> Self {
        Self { batch, children: Vec::new(), account, is_of_source: false }
    }
    /// A chunk of the source that has just been admitted.
    pub fn of_source(batch: Arc<Batch>, account: Account) -> Self {
        Self { is_of_source: true, ..Self::new(batch, account) }
    }
    /// The message of this number.
    pub fn message(&self, n: u32) -> Message<'_> {
        if n < self.batch.numbers().end {
            return self.batch.message(n);
        }
        let at = self.children.partition_point(|child| child.numbers().end <= n);
        self.children[at].message(n)
    }
    /// Takes in what was made of message `parent`.
    pub fn add_child(&mut self, child: Arc<Batch>) {
        self.children.push(child);
    }
}

/// The messages of one record in one branch.
#[derive(Clone, Debug)]
struct Group {
    branch: u8,
    bytes: u32,
    /// Required settlements that are missing.
    pending: u32,
    /// Of these, on outputs that others wait for.
    first_pending: u32,
    refused: bool,
    delivered: bool,
    /// Something that others wait for was dropped by a stage.
    cut: bool,
    /// Why it counts as dropped, unless something of it is delivered.
    reason: Option<&'static str>,
    /// Messages on outputs that come after.
    held: Vec<u32>,
}

impl Group {
    fn end(&self) -> Closed {
        let end = if self.refused {
            End::DeadLetter
        } else if self.delivered {
            End::Shipped
        } else {
            End::Dropped(self.reason.unwrap_or("not_required"))
        };
        Closed { branch: self.branch, bytes: self.bytes, end }
    }
}

/// What is owed for a batch and for what was made of it.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// For each message its group.
    group_of: Vec<u32>,
    groups: Vec<Group>,
    /// Settlements that required takers and the dead letter still owe, all branches.
    pub open: u32,
}

impl Account {
    /// Of a batch that is to be admitted.
    ///
    /// - `staged`: what stages added and dropped, where there are any.
    /// - `owed`: for each branch, what its messages owe is added.
    pub fn of(batch: &Batch, staged: Option<&Staged>, routes: &[Route], owed: &mut [u32]) -> Self {
        let mut account = Self { group_of: Vec::with_capacity(batch.len()), groups: Vec::new(), open: 0 };
        let added = staged.map_or(0, |staged| staged.parents.len());
        let own = narrow(batch.len() - added);
        let mut last = None;
        for n in 0..own {
            let message = batch.message(n);
            if last != Some((message.record, message.branch)) {
                last = Some((message.record, message.branch));
                let bytes = batch.records()[message.record as usize].len;
                account.groups.push(Group {
                    branch: message.branch,
                    bytes,
                    pending: 0,
                    first_pending: 0,
                    refused: false,
                    delivered: false,
                    cut: false,
                    reason: None,
                    held: Vec::new(),
                });
            }
            let group = narrow(account.groups.len() - 1);
            account.push(group, n, routes[usize::from(message.output)]);
        }
        if let Some(staged) = staged {
            account.stage(batch, staged, routes);
        }
        for group in &account.groups {
            owed[usize::from(group.branch)] += group.pending;
        }
        account
    }

    /// Adds what a lookup made of message `parent`, which still owes; gives how much more is owed.
    pub fn add(&mut self, parent: u32, batch: &Batch, staged: Option<&Staged>, routes: &[Route]) -> u32 {
        let before = self.open;
        let group = self.group_of[parent as usize];
        let added = staged.map_or(0, |staged| staged.parents.len());
        for n in batch.numbers().take(batch.len() - added) {
            self.push(group, n, routes[usize::from(batch.message(n).output)]);
        }
        if let Some(staged) = staged {
            self.stage(batch, staged, routes);
        }
        self.open - before
    }

    fn stage(&mut self, batch: &Batch, staged: &Staged, routes: &[Route]) {
        let first = batch.numbers().end - narrow(staged.parents.len());
        for (n, parent) in (first..).zip(&staged.parents) {
            let group = self.group_of[*parent as usize];
            self.push(group, n, routes[usize::from(batch.message(n).output)]);
        }
        for (n, reason) in &staged.dropped {
            let group = &mut self.groups[self.group_of[*n as usize] as usize];
            group.reason.get_or_insert(reason);
            group.cut |= routes[usize::from(batch.message(*n).output)].first;
        }
    }

    fn push(&mut self, number: u32, n: u32, route: Route) {
        let group = &mut self.groups[number as usize];
        group.pending += route.required;
        self.open += route.required;
        if route.first {
            group.first_pending += route.required;
        }
        if route.held {
            group.held.push(n);
        }
        self.group_of.push(number);
    }

    /// Messages so far, those of children included: the number of the next one.
    pub fn messages(&self) -> u32 {
        narrow(self.group_of.len())
    }

    /// Bytes of every group, by branch: what is in flight from now on.
    pub fn bytes(&self) -> impl Iterator<Item = (u8, u32)> {
        self.groups.iter().map(|group| (group.branch, group.bytes))
    }

    /// Messages that came after others and wait for nothing after all. What waited for something
    /// that a stage dropped never goes out: how much less is owed is taken off `owed`.
    ///
    /// Once, before the batch is admitted.
    pub fn free(&mut self, batch: &Batch, routes: &[Route], owed: &mut [u32]) -> Vec<u32> {
        let mut free = Vec::new();
        for group in self.groups.iter_mut().filter(|group| group.first_pending == 0 && !group.held.is_empty()) {
            let held = std::mem::take(&mut group.held);
            if !group.cut {
                free.extend(held);
                continue;
            }
            for n in held {
                let required = routes[usize::from(batch.message(n).output)].required;
                group.pending -= required;
                self.open -= required;
                owed[usize::from(group.branch)] -= required;
            }
        }
        free
    }

    /// Groups that owe nothing from the start.
    pub fn settled(&self) -> impl Iterator<Item = Closed> {
        self.groups.iter().filter(|group| group.pending == 0).map(Group::end)
    }

    /// One required taker delivered message `n`. Gives the group if that was the last, and adds
    /// what waited for it to `release`.
    ///
    /// # Panics
    /// If the message owes nothing more.
    pub fn delivered(&mut self, n: u32, route: Route, by: Taker, release: &mut Vec<u32>) -> Option<Closed> {
        let group = &mut self.groups[self.group_of[n as usize] as usize];
        match by {
            Taker::Sink => group.delivered = true,
            Taker::Lookup => _ = group.reason.get_or_insert("looked_up"),
            Taker::Spool => _ = group.reason.get_or_insert("spooled"),
        }
        group.pending = group.pending.checked_sub(1).expect("a message is settled once");
        if route.first {
            group.first_pending -= 1;
            if group.first_pending == 0 && !group.refused {
                release.append(&mut group.held);
            }
        }
        self.open -= 1;
        (group.pending == 0).then(|| group.end())
    }

    /// A required taker refused message `n`: it is on its way into the dead letter.
    pub fn refused(&mut self, n: u32) {
        self.groups[self.group_of[n as usize] as usize].refused = true;
    }

    /// The refused message `n` is in the dead letter. Gives how much is settled with it, since what
    /// waited for it never goes out, and the group if that was the last.
    pub fn buried(&mut self, n: u32, routes: &[Route], output_of: impl Fn(u32) -> u8) -> (u32, Option<Closed>) {
        let group = &mut self.groups[self.group_of[n as usize] as usize];
        let mut owed = 1;
        group.pending -= 1;
        if routes[usize::from(output_of(n))].first {
            group.first_pending -= 1;
            for held in std::mem::take(&mut group.held) {
                let required = routes[usize::from(output_of(held))].required;
                group.pending -= required;
                owed += required;
            }
        }
        self.open -= owed;
        (owed, (group.pending == 0).then(|| group.end()))
    }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("counts of one batch fit 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{Apart, Draft, Place},
        io::Slab,
        position::{Origin, Position},
    };

    /// Slots: 0 has two sinks, 1 comes after 0, 2 is taken by a stage alone, 3 is what the stage
    /// passes on, 4 is taken by a lookup alone, 5 is what it makes, 6 is taken by nobody required.
    const ROUTES: [Route; 7] = [
        Route { required: 2, first: true, held: false },
        Route { required: 1, first: false, held: true },
        Route { required: 0, first: true, held: false },
        Route { required: 1, first: true, held: false },
        Route { required: 1, first: false, held: false },
        Route { required: 1, first: false, held: false },
        Route { required: 0, first: false, held: false },
    ];

    /// A batch of records of ten bytes, each with messages on these outputs.
    fn batch(records: &[&[u8]]) -> Batch {
        let mut draft = Draft::new(Slab::from_bytes(b"123456789\n".repeat(records.len())));
        let routes: Vec<Option<u8>> = (0..7).map(Some).collect();
        for (n, outputs) in records.iter().enumerate() {
            let place = Place { start: 10 * n as u32, len: 10 };
            let origin = Origin { stream: "s", offset: 10 * n as u64, len: Some(10) };
            let (_, mut out) = draft.outbox(place, 0, &routes, origin);
            outputs.iter().for_each(|output| out.message(usize::from(*output)).frame(0..9));
        }
        draft.finish(0, Position::Count(1), 0)
    }

    struct Case {
        batch: Batch,
        account: Account,
        owed: Vec<u32>,
        free: Vec<u32>,
        release: Vec<u32>,
        ends: Vec<End>,
    }

    impl Case {
        fn of(batch: Batch, staged: Option<&Staged>) -> Self {
            let mut owed = vec![0];
            let mut account = Account::of(&batch, staged, &ROUTES, &mut owed);
            let free = account.free(&batch, &ROUTES, &mut owed);
            let ends = account.settled().map(|closed| closed.end).collect();
            Self { batch, account, owed, free, release: Vec::new(), ends }
        }
        fn delivered(&mut self, n: u32, output: u8, by: Taker) {
            let closed = self.account.delivered(n, ROUTES[usize::from(output)], by, &mut self.release);
            self.ends.extend(closed.map(|closed| closed.end));
            self.owed[0] -= 1;
        }
        fn buried(&mut self, n: u32) {
            self.account.refused(n);
            let (owed, closed) = self.account.buried(n, &ROUTES, |n| self.batch.message(n).output);
            self.ends.extend(closed.map(|closed| closed.end));
            self.owed[0] -= owed;
        }
        #[track_caller]
        fn check(&self, ends: &[End], released: &[u32]) {
            assert_eq!((self.ends.as_slice(), self.release.as_slice()), (ends, released));
            assert_eq!(self.account.open, self.owed[0], "ledger and account agree");
        }
    }

    #[test]
    fn what_comes_after_waits_for_every_sink_of_the_first_and_dies_with_it() {
        let mut good = Case::of(batch(&[&[0, 1]]), None);
        assert_eq!(good.owed, [3]);
        good.delivered(0, 0, Taker::Sink);
        good.check(&[], &[]);
        good.delivered(0, 0, Taker::Sink);
        good.check(&[], &[1]);
        good.delivered(1, 1, Taker::Sink);
        good.check(&[End::Shipped], &[1]);

        let mut bad = Case::of(batch(&[&[0, 1]]), None);
        bad.delivered(0, 0, Taker::Sink);
        bad.buried(0);
        bad.check(&[End::DeadLetter], &[]);
    }

    #[test]
    fn what_a_stage_passes_on_is_owed_and_what_it_drops_is_counted_with_its_reason() {
        // The first record is passed on, the second dropped; each has one that comes after.
        let mut batch = batch(&[&[2, 1], &[2, 1], &[6]]);
        batch.pass_on(0, 3);
        let staged = Staged { parents: vec![0], dropped: vec![(2, "duplicate")] };
        let mut case = Case::of(batch, Some(&staged));
        assert_eq!((case.owed[0], case.free.as_slice()), (2, &[][..]), "the second's confirmation never goes out");
        case.check(&[End::Dropped("duplicate"), End::Dropped("not_required")], &[]);
        case.delivered(5, 3, Taker::Sink);
        assert_eq!(case.release, [1]);
        case.delivered(1, 1, Taker::Sink);
        case.check(&[End::Dropped("duplicate"), End::Dropped("not_required"), End::Shipped], &[1]);
    }

    #[test]
    fn a_drop_does_not_count_where_something_else_of_the_record_is_delivered() {
        let staged = Staged { parents: vec![], dropped: vec![(0, "duplicate")] };
        let mut case = Case::of(batch(&[&[2, 0]]), Some(&staged));
        case.delivered(1, 0, Taker::Sink);
        case.delivered(1, 0, Taker::Sink);
        case.check(&[End::Shipped], &[]);
    }

    #[test]
    fn a_child_is_owed_before_its_parent_is_settled() {
        for (children, end) in [(0, End::Dropped("looked_up")), (3, End::Shipped)] {
            let mut case = Case::of(batch(&[&[4]]), None);
            for n in 0..children {
                let mut child = Batch::apart(0, case.account.messages(), Position::Count(1), 0);
                assert_eq!(child.numbers().start, 1 + n);
                child.push(Apart { output: 5, branch: 0, origin: b"s/0", key: None, payload: b"hit", time_ms: 0 });
                case.owed[0] += case.account.add(0, &child, None, &ROUTES);
            }
            case.delivered(0, 4, Taker::Lookup);
            assert_eq!(case.ends.is_empty(), children > 0, "the record waits for its children");
            (1..=children).for_each(|n| case.delivered(n, 5, Taker::Sink));
            case.check(&[end], &[]);
        }
    }

    #[test]
    fn a_child_may_pass_a_stage_or_be_dropped_by_it() {
        let mut case = Case::of(batch(&[&[4]]), None);
        let mut child = Batch::apart(0, 1, Position::Count(1), 0);
        child.push(Apart { output: 2, branch: 0, origin: b"s/0", key: None, payload: b"hit", time_ms: 0 });
        child.pass_on(1, 3);
        assert_eq!(case.account.add(0, &child, Some(&Staged { parents: vec![1], dropped: vec![] }), &ROUTES), 1);
        case.owed[0] += 1;
        let mut other = Batch::apart(0, 3, Position::Count(1), 0);
        other.push(Apart { output: 2, branch: 0, origin: b"s/0", key: None, payload: b"hit", time_ms: 0 });
        assert_eq!(case.account.add(0, &other, Some(&Staged { parents: vec![], dropped: vec![(3, "suppressed")] }), &ROUTES), 0);
        case.delivered(0, 4, Taker::Lookup);
        case.delivered(2, 3, Taker::Sink);
        case.check(&[End::Shipped], &[]);

        let mut flight = Flight::new(Arc::new(batch(&[&[4]])), Account::default());
        flight.add_child(Arc::new(child));
        flight.add_child(Arc::new(other));
        assert_eq!((0..4).map(|n| flight.message(n).output).collect::<Vec<_>>(), [4, 2, 3, 2]);
    }

    #[test]
    #[should_panic(expected = "a message is settled once")]
    fn settling_twice_aborts() {
        let mut case = Case::of(batch(&[&[5]]), None);
        case.delivered(0, 5, Taker::Sink);
        case.delivered(0, 5, Taker::Sink);
    }
}
