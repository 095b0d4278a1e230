//! The table of [`super`], row by row; and any history of documents, faults and kills, judged by lists.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests state what must hold")]

use super::*;
use crate::sources::opensearch::tally::MINUTE;

const SECOND: Nanos = 1_000_000_000;
const RULES: Rules = Rules { overlap: 300, settle: 5, every: 60 * SECOND, page: 4, seen_max: 1000 };

/// Documents of an index as sorted hits: id, time, tie.
fn hits<'a>(all: &'a [(String, Ms, String)]) -> Vec<Hit<'a>> {
    all.iter().map(|(id, at, sort)| Hit { index: "i", id, at: *at, sort }).collect()
}
fn documents(all: &[(&str, Ms, u64)]) -> Vec<(String, Ms, String)> {
    all.iter().map(|(id, at, tie)| ((*id).to_owned(), *at, format!("[{at},{tie}]"))).collect()
}

/// Goes on to the next page, whatever comes before it.
fn search(core: &mut Core, now: Nanos, wall: Ms) -> Search {
    loop {
        match core.next(now, wall) {
            Step::Open => core.opened("p".into()),
            Step::Count { .. } => _ = core.counted(&[]),
            Step::Search(search) => return search,
            other => panic!("{other:?} instead of a page"),
        }
    }
}

/// Answers a page; gives the ids that are handed in.
fn answer(core: &mut Core, all: &[(&str, Ms, u64)]) -> Vec<String> {
    let all = documents(all);
    let hits = hits(&all);
    let taken = core.page(&hits, true);
    core.hand_in(taken.iter().map(|t| (t.name, t.at)).collect());
    taken.iter().map(|t| hits[t.hit].id.to_owned()).collect()
}

#[test]
fn a_round_asks_for_its_span_page_by_page_and_rests() {
    let mut core = Core::new(RULES, 1000);
    assert_eq!(core.next(7 * SECOND, 2005), Step::Open);
    core.opened("p".into());
    let first = search(&mut core, 7 * SECOND, 9999);
    assert_eq!((first.span, first.after.as_deref(), first.size), (Span { from: 1000, until: 2000 }, None, 4), "the clock of its beginning");
    assert_eq!(answer(&mut core, &[("a", 1000, 1), ("b", 1001, 1), ("c", 1001, 2), ("d", 1002, 1)]), ["a", "b", "c"]);
    let second = search(&mut core, 8 * SECOND, 9999);
    assert_eq!(second.after.as_deref(), Some("[1001,2]"), "behind what was taken, not behind the page");
    assert!(core.is_behind());
    assert_eq!(answer(&mut core, &[("d", 1002, 1), ("e", 1500, 1)]), ["d", "e"]);
    assert_eq!(core.next(9 * SECOND, 9999), Step::Close { pit: "p".into() });
    assert_eq!(core.next(9 * SECOND, 9999), Step::Wait(67 * SECOND), "a minute after it began");
    assert!(!core.is_behind());
    let third = search(&mut core, 67 * SECOND, 4005);
    assert_eq!(third.span, Span { from: 1200, until: 4000 }, "the overlap before the last document");
    assert!(third.is_bare, "nearly all is known");
    assert_eq!(answer(&mut core, &[("late", 1300, 9), ("e", 1500, 1), ("f", 1501, 1)]), [""; 0]);
    let Step::Fetch { singles, .. } = core.next(67 * SECOND, 4005) else { panic!("what is new is to be fetched") };
    assert_eq!(singles.iter().map(|s| (s.id.as_str(), s.is_late)).collect::<Vec<_>>(), [("late", true), ("f", false)]);
}

#[test]
fn a_clock_that_is_behind_asks_for_nothing() {
    let mut core = Core::new(RULES, 1000);
    assert_eq!(core.next(0, 1005), Step::Wait(60 * SECOND));
    assert_eq!(core.next(60 * SECOND, 1006), Step::Open);
}

#[test]
fn equal_keys_at_the_end_of_a_page_are_left_to_the_next() {
    let mut core = Core::new(RULES, 0);
    search(&mut core, 0, 5000);
    // Two shards have a document with the same keys, and the page has room for one.
    assert_eq!(answer(&mut core, &[("a", 1, 1), ("b", 2, 1), ("c", 2, 1), ("d", 2, 1)]), ["a"]);
    assert_eq!(search(&mut core, 0, 5000).after.as_deref(), Some("[1,1]"));
    assert_eq!(answer(&mut core, &[("b", 2, 1), ("c", 2, 1), ("d", 2, 1), ("e", 2, 1)]), [""; 0], "nothing but equal keys");
    let longer = search(&mut core, 0, 5000);
    assert_eq!((longer.after.as_deref(), longer.size), (Some("[1,1]"), 8));
    assert_eq!(answer(&mut core, &[("b", 2, 1), ("c", 2, 1), ("d", 2, 1), ("e", 2, 1), ("f", 2, 1)]), ["b", "c", "d", "e", "f"]);
    assert!(matches!(core.next(0, 5000), Step::Close { .. }));
}

#[test]
fn a_point_in_time_that_is_gone_costs_no_document_and_repeats_none() {
    let mut core = Core::new(RULES, 0);
    search(&mut core, 0, 5000);
    assert_eq!(answer(&mut core, &[("a", 1000, 1), ("b", 1000, 2), ("c", 1000, 3), ("d", 1000, 4)]), ["a", "b", "c"]);
    core.expired();
    assert_eq!(core.next(0, 5000), Step::Open);
    let again = search(&mut core, 0, 5000);
    assert_eq!((again.after, again.span.from), (None, 700));
    assert_eq!(answer(&mut core, &[("a", 1000, 1), ("b", 1000, 2), ("d", 1000, 4)]), ["d"]);
}

#[test]
fn too_long_an_answer_makes_pages_shorter_and_at_last_bare() {
    let mut core = Core::new(Rules { page: 100, ..RULES }, 0);
    let size = |core: &mut Core| {
        let now = if core.round.is_some() { 0 } else { core.due };
        let search = search(core, now, 5000);
        (search.size, search.is_bare)
    };
    assert_eq!(size(&mut core), (100, false));
    core.too_long();
    assert_eq!(size(&mut core), (50, false));
    core.too_long();
    assert_eq!(size(&mut core), (PAGE_MIN, false));
    core.too_long();
    assert_eq!(size(&mut core), (PAGE_MIN, true));
    assert_eq!(answer(&mut core, &[("a", 1, 1), ("b", 2, 1)]), [""; 0], "there is nothing of them yet");
    let mut fetch = |ids: &[&str]| {
        let Step::Fetch { singles, .. } = core.next(0, 5000) else { panic!("{ids:?} are to be fetched") };
        assert_eq!(singles.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ids);
        if ids.len() > 1 {
            core.too_long();
        } else {
            core.hand_in(vec![(singles[0].name, singles[0].at)]);
            core.fetched(&[singles[0].name]);
        }
    };
    fetch(&["a", "b"]);
    fetch(&["a"]);
    fetch(&["b"]);
    assert!(matches!(core.next(0, 5000), Step::Close { .. }));
    // What is short lets pages grow again.
    core.too_long();
    let mut core = Core::load(Rules { page: 100, ..RULES }, &core.save()).unwrap();
    search(&mut core, 0, 5000);
    core.too_long();
    search(&mut core, 0, 5000);
    assert_eq!(answer(&mut core, &[("c", 3, 1)]), ["c"]);
    core.next(0, 5000);
    assert_eq!(size(&mut core), (100, true));
}

#[test]
fn only_what_is_settled_is_saved() {
    let mut core = Core::new(RULES, 0);
    search(&mut core, 0, 5000);
    assert_eq!(answer(&mut core, &[("a", 1000, 1), ("b", 1001, 1)]), ["a", "b"]);
    core.next(0, 5000);
    search(&mut core, 60 * SECOND, 65_000);
    assert_eq!(answer(&mut core, &[("a", 1000, 1), ("b", 1001, 1), ("c", 1002, 1)]), [""; 0]);
    let Step::Fetch { singles, .. } = core.next(60 * SECOND, 65_000) else { panic!("c is to be fetched") };
    core.hand_in(vec![(singles[0].name, singles[0].at)]);
    assert!(core.settle(1));
    assert!(!core.settle(1));
    let mut again = Core::load(RULES, &core.save()).unwrap();
    assert_eq!((again.reached, again.remembered()), (1001, 2));
    assert_eq!(search(&mut again, 0, 70_000).span.from, 701);
    assert_eq!(answer(&mut again, &[("a", 1000, 1), ("b", 1001, 1), ("c", 1002, 1)]), ["c"], "its batch was not settled");
    let mut longer = Core::load(Rules { overlap: 900, ..RULES }, &core.save()).unwrap();
    assert_eq!(longer.from(), 101, "nothing was forgotten yet");
    longer.seen.prune(701);
    let longer = Core::load(Rules { overlap: 900, ..RULES }, &longer.save()).unwrap();
    assert_eq!(longer.from(), 701, "a longer look back than before repeats nothing");
    assert!(Core::load(RULES, &core.save()[..20]).is_none());
    assert!(Core::load(RULES, b"").is_none());
}

#[test]
fn more_than_is_remembered_makes_the_look_back_shorter() {
    let mut core = Core::new(Rules { seen_max: 4, page: 10, ..RULES }, 0);
    search(&mut core, 0, 5000);
    answer(&mut core, &[("a", 1000, 1), ("b", 1001, 1), ("c", 1002, 1), ("d", 1003, 1), ("e", 1004, 1)]);
    assert!(core.take_forgotten());
    core.next(0, 5000);
    assert_eq!(search(&mut core, 60 * SECOND, 9000).span.from, 1001);
    // All of one time: the cursor itself is never given up.
    core.hand_in((10..15).map(|n| (n, 1004)).collect());
    core.expired();
    assert_eq!(search(&mut core, 60 * SECOND, 9000).span.from, 1004, "repeated, not lost");
}

/// One document of the world.
#[derive(Clone, Copy, Debug)]
struct Document {
    id: u64,
    at: Ms,
    /// Equal ones exist: it is a number within a shard.
    tie: u64,
    visible: Ms,
}

/// A server with a clock, and who asks it.
struct World {
    documents: Vec<Document>,
    wall: Ms,
    /// What the point in time holds, and its span.
    view: Vec<Document>,
    core: Core,
    rules: Rules,
    /// Handed in, by batch, since the last start.
    batches: Vec<Vec<u64>>,
    settled: usize,
    /// What may not come again.
    known: HashSet<u64>,
    saved: (Vec<u8>, HashSet<u64>),
    times: std::collections::BTreeMap<u64, u32>,
    lost: u64,
    is_exact: bool,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// The next step is done.
    Go,
    /// The next step meets a point in time that is gone.
    Expire,
    TooLong,
    Settle,
    Save,
    /// Kill, and start again from what was saved.
    Kill,
    Later(Ms),
}

impl World {
    fn new(documents: Vec<Document>, rules: Rules) -> Self {
        let core = Core::new(rules, 0);
        let saved = (core.save(), HashSet::new());
        Self {
            documents,
            wall: 0,
            view: Vec::new(),
            core,
            rules,
            batches: Vec::new(),
            settled: 0,
            known: HashSet::new(),
            saved,
            times: Default::default(),
            lost: 0,
            is_exact: true,
        }
    }

    fn name_of(id: u64) -> Name {
        name("i", &id.to_string())
    }

    fn hand_in(&mut self, ids: Vec<(u64, Ms)>) {
        for (id, _) in &ids {
            assert!(!self.is_exact || !self.known.contains(id), "{id} comes again");
            self.known.insert(*id);
            *self.times.entry(*id).or_default() += 1;
        }
        self.core.hand_in(ids.iter().map(|(id, at)| (Self::name_of(*id), *at)).collect());
        self.batches.push(ids.into_iter().map(|(id, _)| id).collect());
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Go => _ = self.go(),
            Act::Expire => self.core.expired(),
            Act::TooLong => {
                // Only an answer can be that.
                if let Step::Search(_) | Step::Fetch { .. } = self.core.next(nanos(self.wall), self.wall) {
                    self.core.too_long();
                }
            }
            Act::Settle => {
                self.settled = (self.settled + 1).min(self.batches.len());
                self.core.settle(self.settled as u64);
            }
            Act::Save => {
                let open: HashSet<u64> = self.batches[self.settled..].iter().flatten().copied().collect();
                self.saved = (self.core.save(), self.known.difference(&open).copied().collect());
            }
            Act::Kill => {
                self.core = Core::load(self.rules, &self.saved.0).unwrap();
                self.known = self.saved.1.clone();
                (self.batches, self.settled) = (Vec::new(), 0);
            }
            Act::Later(by) => self.wall += by,
        }
    }

    /// Does the next step; false if there is none.
    fn go(&mut self) -> bool {
        match self.core.next(nanos(self.wall), self.wall) {
            Step::Open => {
                self.view = self.documents.iter().filter(|d| d.visible <= self.wall).copied().collect();
                self.view.sort_by_key(|d| (d.at, d.tie, d.id));
                self.core.opened("p".into());
            }
            Step::Count { span, .. } => {
                let mut counts = std::collections::BTreeMap::new();
                for d in self.view.iter().filter(|d| (span.from..span.until).contains(&d.at)) {
                    *counts.entry(d.at.div_euclid(MINUTE) * MINUTE).or_insert(0u64) += 1;
                }
                self.lost += self.core.counted(&counts.into_iter().collect::<Vec<_>>());
            }
            Step::Search(search) => {
                let after: Option<(Ms, u64)> = search.after.map(|text| {
                    let (at, tie) = text.trim_matches(['[', ']']).split_once(',').unwrap();
                    (at.parse().unwrap(), tie.parse().unwrap())
                });
                let span = search.span.from..search.span.until;
                let page = self.view.iter().filter(|d| span.contains(&d.at) && after.is_none_or(|after| (d.at, d.tie) > after));
                let page: Vec<Document> = page.take(search.size).copied().collect();
                let texts: Vec<_> = page.iter().map(|d| (d.id.to_string(), d.at, format!("[{},{}]", d.at, d.tie))).collect();
                let taken = self.core.page(&hits(&texts), true);
                // Two to a batch.
                let taken: Vec<(u64, Ms)> = taken.iter().map(|t| (page[t.hit].id, t.at)).collect();
                taken.chunks(2).for_each(|two| self.hand_in(two.to_vec()));
            }
            Step::Fetch { singles, .. } => {
                // Half of them at least come.
                let some = &singles[..singles.len().div_ceil(2)];
                self.hand_in(some.iter().map(|single| (single.id.parse().unwrap(), single.at)).collect());
                self.core.fetched(&some.iter().map(|single| single.name).collect::<Vec<_>>());
            }
            Step::Close { .. } => {}
            Step::Wait(until) => {
                self.wall = self.wall.max(Ms::try_from(until / 1_000_000).unwrap());
                return false;
            }
        }
        true
    }

    /// Rounds until nothing is new, with all settled.
    fn finish(&mut self) {
        for _ in 0..3 {
            while self.go() {}
        }
        self.settled = self.batches.len();
        self.core.settle(self.settled as u64);
    }
}

fn nanos(wall: Ms) -> Nanos {
    wall.cast_unsigned() * 1_000_000
}

mod props {
    use proptest::prelude::*;

    use super::*;

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            12 => Just(Act::Go),
            1 => Just(Act::Expire),
            1 => Just(Act::TooLong),
            4 => Just(Act::Settle),
            2 => Just(Act::Save),
            1 => Just(Act::Kill),
            3 => (0..20_000i64).prop_map(Act::Later),
        ]
    }

    /// Many of equal times and equal ties, some late by up to a minute.
    fn documents(late: Ms) -> impl Strategy<Value = Vec<Document>> {
        let one = (0..40i64, 0..6u64, prop_oneof![3 => Just(0i64), 1 => 0..late]);
        prop::collection::vec(one, 0..60).prop_map(|all| {
            let of = |(id, (at, tie, late)): (usize, (i64, u64, i64))| {
                let at = at * 3000;
                Document { id: id as u64, at, tie, visible: at + late }
            };
            all.into_iter().enumerate().map(of).collect()
        })
    }

    proptest! {
        #[test]
        fn each_document_comes_once_and_a_kill_repeats_only_what_was_not_settled(
            documents in documents(50_000),
            acts in prop::collection::vec(act(), 0..150),
        ) {
            // Nothing is later than the look back, which holds all.
            let rules = Rules { overlap: 60_000, settle: 0, every: 1_000_000_000, page: 5, seen_max: 1000 };
            let mut world = World::new(documents.clone(), rules);
            acts.into_iter().for_each(|act| world.act(act));
            world.act(Act::Later(400_000));
            world.finish();
            for document in &documents {
                prop_assert!(world.known.contains(&document.id), "{document:?} never came, or not again after a kill");
            }
            prop_assert_eq!(world.lost, 0);
        }

        #[test]
        fn what_never_came_is_counted_exactly(documents in documents(600_000), steps in prop::collection::vec(0..30_000i64, 0..60)) {
            let rules = Rules { overlap: 60_000, settle: 0, every: 1_000_000_000, page: 100, seen_max: 1000 };
            let mut documents = documents;
            // The last one lets all minutes before it fall out of the look back.
            documents.push(Document { id: 1_000_000, at: 1_200_000, tie: 0, visible: 1_200_000 });
            let mut world = World::new(documents.clone(), rules);
            for step in steps {
                world.act(Act::Later(step));
                (0..5).for_each(|_| world.act(Act::Go));
            }
            world.act(Act::Later(2_000_000));
            world.finish();
            world.act(Act::Later(2_000_000));
            world.finish();
            let never = documents.iter().filter(|d| !world.times.contains_key(&d.id)).count();
            prop_assert_eq!(world.lost, never as u64);
            prop_assert!(world.times.values().all(|times| *times == 1));
        }

        #[test]
        fn with_less_memory_than_documents_some_repeat_and_none_is_lost_that_came_in_time(
            documents in documents(1),
            acts in prop::collection::vec(act(), 0..150),
            seen_max in 1usize..20,
        ) {
            let rules = Rules { overlap: 60_000, settle: 0, every: 1_000_000_000, page: 5, seen_max };
            let mut world = World::new(documents.clone(), rules);
            world.is_exact = false;
            acts.into_iter().for_each(|act| world.act(act));
            world.act(Act::Later(400_000));
            world.finish();
            for document in &documents {
                prop_assert!(world.known.contains(&document.id), "{document:?} never came, or not again after a kill");
            }
        }
    }
}
