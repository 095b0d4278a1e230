//! What is done with entries of a stream: handed in, passed over, refused, acked, counted. Pure.
//!
//! Redis gives an entry to one consumer of the group and remembers that until the entry is acked. So it may
//! give it again, after a restart, a lost connection, or because it was claimed; [`Held`] knows what is under
//! way here, and [`Held::take`] says what becomes of what was read:
//!
//! | the entry | is | because |
//! |---|---|---|
//! | is under way here | passed over | it is acked when it is settled |
//! | is gone from the stream | acked, and counted as lost | nobody has its bytes any more |
//! | was given out more than `max_deliveries` times | refused: `poison` | whoever worked on it ended without an ack |
//! | has no field that can be the event | refused: `no_field` | |
//! | is longer than a record may be | refused: `too_long` | |
//! | else | handed in | |
//!
//! Invariants: an entry is under way at most once; an id is acked once it is settled, never before, and once.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::{
    limits::FRAME_BYTES_MAX,
    net::redis::stream::{Entry, Fields, Id},
};

/// Names under which others write an event, the likeliest first.
const USUAL: [&[u8]; 7] = [b"data", b"event", b"message", b"payload", b"json", b"log", b"value"];

/// What an entry must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// The field that holds the event, where it has one of that name.
    pub field: Option<String>,
    /// Deliveries after which an entry is poison; 0: never.
    pub max_deliveries: u64,
}

/// An entry to be handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub id: Id,
    pub bytes: Vec<u8>,
    /// Why it can be no record, and what a person should know of that.
    pub refused: Option<(&'static str, String)>,
}

/// What became of entries that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    pub taken: Vec<Taken>,
    /// Gone from the stream; to be acked and counted.
    pub gone: Vec<Id>,
}

/// The bytes of an entry's event; `None` if no field can be it.
pub(super) fn event<'f>(fields: &'f Fields, name: Option<&str>) -> Option<&'f [u8]> {
    let of = |name: &[u8]| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice());
    if let Some(value) = name.and_then(|name| of(name.as_bytes())) {
        return Some(value);
    }
    match fields.as_slice() {
        [(_, only)] => Some(only),
        _ => USUAL.iter().find_map(|name| of(name)),
    }
}

/// An entry without an event as it stands in the dead letter: `name: value`, a line each.
fn shown(fields: &Fields) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, value) in fields {
        all.extend_from_slice(name);
        all.extend_from_slice(b": ");
        all.extend_from_slice(value);
        all.push(b'\n');
    }
    all
}

/// What of one stream is under way here.
#[derive(Debug, Default)]
pub(super) struct Held {
    ids: HashSet<Id>,
    /// In the order in which they were handed in.
    batches: VecDeque<Vec<Id>>,
    /// Batches that were settled.
    settled: u64,
    /// Settled, and not acked yet.
    due: Vec<Id>,
}

impl Held {
    /// Sorts entries that were read. Those to be handed in are under way once [`hand_in`](Self::hand_in) says so.
    ///
    /// - `deliveries`: how often each was given to somebody, where that is known.
    pub fn take(&self, entries: Vec<Entry>, deliveries: &BTreeMap<Id, u64>, rules: &Rules) -> Sorted {
        let (mut sorted, mut seen) = (Sorted::default(), HashSet::new());
        for Entry { id, fields } in entries {
            if self.ids.contains(&id) || !seen.insert(id) {
                continue;
            }
            let Some(fields) = fields else {
                sorted.gone.push(id);
                continue;
            };
            let times = deliveries.get(&id).copied().unwrap_or(1);
            let found = event(&fields, rules.field.as_deref());
            let (mut bytes, mut refused) = match found {
                Some(bytes) => (bytes.to_vec(), None),
                None => (shown(&fields), Some(("no_field", no_field(&fields, rules)))),
            };
            if rules.max_deliveries > 0 && times > rules.max_deliveries {
                refused = Some(("poison", format!("given out {times} times and never acked; max_deliveries is {}", rules.max_deliveries)));
            }
            if bytes.len() > FRAME_BYTES_MAX {
                refused = Some(("too_long", format!("{} bytes, of which the first {FRAME_BYTES_MAX} are kept", bytes.len())));
                bytes.truncate(FRAME_BYTES_MAX);
            }
            sorted.taken.push(Taken { id, bytes, refused });
        }
        sorted
    }

    /// These, which were taken, are one batch on its way. To be called once for each batch that the home gets,
    /// in their order: the home answers in numbers of batches.
    pub fn hand_in(&mut self, ids: Vec<Id>) {
        self.ids.extend(&ids);
        self.batches.push_back(ids);
    }

    /// So many batches of all that were handed in are settled. Gives every id that is to be acked.
    pub fn settled(&mut self, batches: u64) -> Vec<Id> {
        while self.settled < batches {
            let Some(mut ids) = self.batches.pop_front() else { break };
            self.settled += 1;
            self.due.append(&mut ids);
        }
        self.due.clone()
    }

    /// All of these are acked; only then are they not under way any more.
    pub fn acked(&mut self, ids: &[Id]) {
        ids.iter().for_each(|id| _ = self.ids.remove(id));
        self.due.retain(|id| self.ids.contains(id));
    }

    /// True for an entry that is under way.
    pub fn has(&self, id: Id) -> bool {
        self.ids.contains(&id)
    }

    /// Everything that is under way, in no order.
    pub fn ids(&self) -> Vec<Id> {
        self.ids.iter().copied().collect()
    }
}

fn no_field(fields: &Fields, rules: &Rules) -> String {
    let names: Vec<_> = fields.iter().take(8).map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    let field = rules.field.as_ref().map(|field| format!(" {field:?}")).unwrap_or_default();
    format!("no field{field} among {}; name the one that holds the event in setting field", names.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests state what must hold")]
mod tests {
    use super::*;

    fn id(n: u64) -> Id {
        Id { ms: n, seq: 0 }
    }
    fn entry(n: u64, fields: &[(&str, &str)]) -> Entry {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        Entry { id: id(n), fields: Some(fields) }
    }
    fn rules(field: Option<&str>) -> Rules {
        Rules { field: field.map(str::to_owned), max_deliveries: 5 }
    }

    #[test]
    fn the_event_is_the_named_field_or_the_only_one_or_a_usual_one() {
        type Row = (&'static [(&'static str, &'static str)], Option<&'static str>, Option<&'static str>);
        let rows: [Row; 9] = [
            (&[("data", "a"), ("event", "b")], None, Some("a")),
            (&[("event", "b"), ("data", "a")], None, Some("a")),
            (&[("data", "a"), ("mine", "c")], Some("mine"), Some("c")),
            (&[("data", "a"), ("other", "c")], Some("mine"), Some("a")),
            (&[("whatever", "x")], None, Some("x")),
            (&[("whatever", "x")], Some("mine"), Some("x")),
            (&[("a", "x"), ("value", "y")], None, Some("y")),
            (&[("a", "x"), ("b", "y")], None, None),
            (&[], None, None),
        ];
        for (fields, name, expected) in rows {
            let entry = entry(1, fields);
            assert_eq!(event(entry.fields.as_ref().unwrap(), name), expected.map(str::as_bytes), "{fields:?} {name:?}");
        }
    }

    #[test]
    fn the_table_holds() {
        let mut held = Held::default();
        let long = "x".repeat(FRAME_BYTES_MAX + 1);
        let read = vec![
            entry(1, &[("data", "{}")]),
            Entry { id: id(2), fields: None },
            entry(3, &[("data", "boom")]),
            entry(4, &[("a", "x"), ("b", "y")]),
            entry(5, &[("data", &long)]),
            entry(6, &[("data", "twice")]),
        ];
        let times = BTreeMap::from([(id(3), 6), (id(6), 5)]);
        let sorted = held.take(read.clone(), &times, &rules(None));
        let told: Vec<_> = sorted.taken.iter().map(|t| (t.id.ms, t.bytes.len(), t.refused.as_ref().map(|r| r.0))).collect();
        assert_eq!(
            told,
            [(1, 2, None), (3, 4, Some("poison")), (4, 10, Some("no_field")), (5, FRAME_BYTES_MAX, Some("too_long")), (6, 5, None)]
        );
        assert_eq!(sorted.taken[2].bytes, b"a: x\nb: y\n");
        assert_eq!(sorted.gone, [id(2)]);
        held.hand_in(sorted.taken.iter().map(|t| t.id).collect());
        // Read again, even where it is gone by now: what is under way has its bytes.
        let mut again = read;
        again[0].fields = None;
        assert_eq!(held.take(again, &times, &rules(None)), Sorted { taken: vec![], gone: vec![id(2)] });
        let due = held.settled(1);
        assert_eq!((due.len(), held.has(id(1))), (5, true), "until Redis has taken the ack");
        held.acked(&due);
        assert!(held.ids().is_empty());
        let never = Rules { field: None, max_deliveries: 0 };
        assert_eq!(held.take(vec![entry(3, &[("data", "boom")])], &times, &never).taken[0].refused, None);
    }

    mod naive {
        use super::Id;

        /// Everything that ever happened, and a look through all of it for each question.
        #[derive(Default)]
        pub struct Held {
            pub batches: Vec<Vec<Id>>,
            pub settled: usize,
            pub acked: usize,
        }

        impl Held {
            pub fn under_way(&self, id: Id) -> bool {
                self.batches[self.acked..].iter().flatten().any(|held| *held == id)
            }
        }
    }

    mod props {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn it_agrees_with_a_list_of_everything(
                steps in prop::collection::vec((prop::collection::vec((0..12u64, any::<bool>()), 0..6), 0..3u64, any::<bool>()), 1..40),
            ) {
                let (mut held, mut naive) = (Held::default(), naive::Held::default());
                let (mut taken, mut acked) = (Vec::new(), Vec::new());
                for (read, settles, acks) in steps {
                    let mut seen = Vec::new();
                    let entries: Vec<Entry> = read
                        .iter()
                        .map(|(n, there)| if *there { entry(*n, &[("data", "{}")]) } else { Entry { id: id(*n), fields: None } })
                        .collect();
                    // What an obvious reading of the table gives.
                    let (mut expected, mut gone) = (Vec::new(), Vec::new());
                    for Entry { id, fields } in &entries {
                        if naive.under_way(*id) || seen.contains(id) {
                            continue;
                        }
                        seen.push(*id);
                        match fields {
                            Some(_) => expected.push(*id),
                            None => gone.push(*id),
                        }
                    }
                    let sorted = held.take(entries, &BTreeMap::new(), &rules(None));
                    let ids: Vec<Id> = sorted.taken.iter().map(|t| t.id).collect();
                    prop_assert_eq!(&ids, &expected);
                    prop_assert_eq!(sorted.gone, gone);
                    if !ids.is_empty() {
                        held.hand_in(ids.clone());
                        naive.batches.push(ids.clone());
                        taken.extend(ids);
                    }
                    let upto = (naive.settled as u64 + settles).min(naive.batches.len() as u64);
                    naive.settled = upto as usize;
                    let due = held.settled(upto);
                    prop_assert_eq!(&due, &naive.batches[naive.acked..naive.settled].concat());
                    if acks {
                        held.acked(&due);
                        naive.acked = naive.settled;
                        acked.extend(due);
                    }
                    for n in 0..12 {
                        prop_assert_eq!(held.has(id(n)), naive.under_way(id(n)));
                    }
                }
                let due = held.settled(u64::MAX);
                held.acked(&due);
                acked.extend(due);
                prop_assert_eq!(acked, taken, "each that was taken is acked once, in order");
                prop_assert!(held.ids().is_empty());
            }
        }
    }
}
