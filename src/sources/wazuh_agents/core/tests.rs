//! Rows of the table, and the property: whatever the list does while it is read, and whenever we are killed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests state what must hold")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { every: 60, page: 3, agents_max: 100 };

/// A list of ids and statuses, as a server has it.
type List = BTreeMap<u32, &'static str>;

fn name(id: u32) -> String {
    format!("{id:03}")
}

fn list(of: &[(u32, &'static str)]) -> List {
    of.iter().copied().collect()
}

/// What a server answers to a page.
fn answer(core: &mut Core, list: &List, step: Step) -> Taken {
    let Step::Page { offset, limit } = step else { panic!("{step:?}") };
    let page: Vec<_> = list.iter().skip(offset as usize).take(limit as usize).map(|(id, status)| (name(*id), *status)).collect();
    let seen: Vec<_> = page.iter().map(|(id, status)| Seen { id, name: "n", ip: "i", status }).collect();
    core.page(&Page { seen: &seen, total: list.len() as u64, is_partial: false })
}

/// A whole look at a list that stands still: changes as (id, event, status), and whether it was whole.
fn look(core: &mut Core, list: &List) -> (Vec<(u32, Event, String)>, bool) {
    let mut changes = Vec::new();
    loop {
        core.due = 0;
        let step = core.next(0);
        let taken = answer(core, list, step);
        core.hand_in(&taken.changes);
        let short = |change: &Change| (change.id.parse().unwrap(), change.event, change.status.as_deref().unwrap_or("-").to_owned());
        changes.extend(taken.changes.iter().map(short));
        if let Some(is_whole) = taken.ended {
            return (changes, is_whole);
        }
    }
}

fn seven() -> List {
    (0..7).map(|id| (id, "active")).collect()
}

#[test]
fn the_first_look_tells_all_and_later_ones_what_changed() {
    let mut core = Core::new(RULES, 1000);
    let (changes, is_whole) = look(&mut core, &seven());
    assert_eq!((changes.len(), is_whole), (7, true));
    assert!(changes.iter().all(|(_, event, status)| *event == Event::New && status == "active"));
    assert_eq!(look(&mut core, &seven()), (vec![], true));
    let mut now = seven();
    now.insert(4, "disconnected");
    assert_eq!(look(&mut core, &now).0, [(4, Event::Status, "disconnected".into())]);
    assert_eq!(core.statuses(), BTreeMap::from([("active", 6), ("disconnected", 1)]));
    now.remove(&2);
    assert_eq!(look(&mut core, &now), (vec![], true), "once is not enough");
    assert_eq!(look(&mut core, &now).0, [(2, Event::Gone, "-".into())]);
    assert_eq!(look(&mut core, &now), (vec![], true));
    now.insert(2, "pending");
    assert_eq!(look(&mut core, &now).0, [(2, Event::New, "pending".into())]);
}

#[test]
fn looks_begin_by_the_clock_and_pages_overlap_by_one() {
    let mut core = Core::new(RULES, 0);
    let list = seven();
    let mut asked = Vec::new();
    loop {
        let step = core.next(1000);
        let Step::Page { offset, limit } = step else { break };
        asked.push((offset, limit));
        answer(&mut core, &list, step);
    }
    assert_eq!(asked, [(0, 3), (2, 3), (4, 3)]);
    assert_eq!(core.next(1059), Step::Wait(1060));
    assert_eq!(core.next(1060), Step::Page { offset: 0, limit: 3 });
    core.broke();
    assert_eq!(core.next(1061), Step::Page { offset: 0, limit: 3 }, "a look that broke is followed at once");
}

#[test]
fn looks_that_are_not_whole_lack_nobody() {
    type Row = (&'static str, fn(&mut List, usize));
    let rows: &[Row] = &[
        ("one before the page goes", |list, page| {
            if page == 1 {
                list.remove(&0);
            }
        }),
        ("one before the page goes, another comes", |list, page| {
            if page == 1 {
                list.remove(&0);
                list.insert(99, "active");
            }
        }),
        ("the last of the page goes and comes", |list, page| {
            if page == 1 {
                list.remove(&2);
                list.insert(98, "active");
            }
        }),
        ("one comes behind", |list, page| {
            if page == 2 {
                list.insert(97, "active");
            }
        }),
        ("empty", |list, _| list.clear()),
    ];
    for (what, change) in rows {
        let mut core = Core::new(RULES, 0);
        look(&mut core, &seven());
        for _ in 0..3 {
            let mut list = seven();
            // Missing throughout, so that it would be gone after two looks that are whole.
            list.remove(&5);
            core.due = 0;
            for page in 0.. {
                change(&mut list, page);
                let step = core.next(0);
                let taken = answer(&mut core, &list, step);
                assert!(taken.changes.iter().all(|change| change.event != Event::Gone), "{what}: {taken:?}");
                if let Some(is_whole) = taken.ended {
                    assert!(!is_whole, "{what}");
                    break;
                }
            }
        }
    }
}

#[test]
fn what_is_odd_on_a_page_is_passed_over_and_makes_it_not_whole() {
    let mut core = Core::new(RULES, 0);
    let seen = |id, status| Seen { id, name: "", ip: "", status };
    let long = "9".repeat(ID_BYTES + 1);
    let mut page = |seen: &[Seen<'_>], is_partial| {
        core.due = 0;
        core.next(0);
        core.page(&Page { seen, total: seen.len() as u64, is_partial })
    };
    let taken = page(&[seen("1", "active"), seen("", "active"), seen("2", ""), seen(&long, "active")], false);
    assert_eq!((taken.changes.len(), taken.strange, taken.ended), (1, 3, Some(false)));
    let taken = page(&[seen("1", "active"), seen("1", "pending")], false);
    assert_eq!((taken.changes.len(), taken.ended), (0, Some(false)), "the second of one look is none");
    assert_eq!(page(&[seen("1", "active")], true).ended, Some(false));
    assert_eq!(page(&[seen("1", "active")], false).ended, Some(true));
}

#[test]
fn a_server_that_answers_the_same_page_for_ever_is_not_asked_for_ever() {
    let mut core = Core::new(RULES, 0);
    let seen: Vec<_> = ["1", "2", "3"].into_iter().map(|id| Seen { id, name: "", ip: "", status: "active" }).collect();
    let asked = (0..)
        .take_while(|_| {
            core.next(0);
            core.page(&Page { seen: &seen, total: u64::MAX, is_partial: false }).ended != Some(false)
        })
        .take(6_000_000)
        .count();
    assert!(asked < 5_100_000, "{asked}");
}

#[test]
fn no_more_agents_are_known_than_there_is_room_for() {
    let mut core = Core::new(Rules { agents_max: 5, page: 10, ..RULES }, 0);
    core.next(0);
    let taken = answer(&mut core, &seven(), Step::Page { offset: 0, limit: 10 });
    assert_eq!((taken.changes.len(), taken.too_many, taken.ended), (5, 2, Some(true)));
    core.hand_in(&taken.changes);
    core.settle(1);
    let mut list = seven();
    list.remove(&0);
    assert_eq!(look(&mut core, &list).0, []);
    assert_eq!(look(&mut core, &list).0, [(0, Event::Gone, "-".into())]);
    core.settle(4);
    assert_eq!(look(&mut core, &list).0, [(5, Event::New, "active".into())], "there is room again");
}

#[test]
fn pages_become_shorter_down_to_the_least() {
    let mut core = Core::new(Rules { page: 35, ..RULES }, 0);
    let limit = |core: &mut Core| if let Step::Page { limit, .. } = core.next(0) { limit } else { 0 };
    assert_eq!(limit(&mut core), 35);
    assert!(core.too_long() && limit(&mut core) == 17 && core.too_long() && limit(&mut core) == PAGE_MIN);
    assert!(!core.too_long());
}

#[test]
fn what_is_saved_speaks_of_settled_changes_alone() {
    let mut core = Core::new(RULES, 1000);
    look(&mut core, &list(&[(1, "active"), (2, "active")]));
    look(&mut core, &list(&[(1, "pending"), (2, "active")]));
    let load = |core: &Core| Core::load(RULES, &core.save()).unwrap();
    let statuses = |core: &Core| core.agents.iter().map(|(id, agent)| (id.to_string(), agent.status.clone().unwrap())).collect::<Vec<_>>();
    assert_eq!(statuses(&load(&core)), []);
    assert!(core.settle(1) && !core.settle(1));
    assert_eq!(statuses(&load(&core)), [("001".to_owned(), "active".into()), ("002".into(), "active".into())]);
    let mut again = load(&core);
    core.settle(2);
    assert_eq!(&*statuses(&load(&core))[0].1, "pending");
    // After a kill before that: the same change under the same number.
    core = Core::load(RULES, &core.save()).unwrap();
    let step = again.next(0);
    let changes = answer(&mut again, &list(&[(1, "pending"), (2, "active")]), step).changes;
    assert_eq!((changes.len(), changes[0].number, changes[0].previous.as_deref()), (1, 1001, Some("active")));
    assert_eq!(core.agents["001"].next, 1002);
    for none in [&b""[..], b"{}", b"{\"format\":2,\"floor\":1,\"agents\":[]}", b"\x01"] {
        assert!(Core::load(RULES, none).is_none());
    }
}

#[test]
fn who_is_back_before_its_end_is_settled_begins_above_it_after_a_kill() {
    let mut core = Core::new(RULES, 1000);
    let (both, one) = (list(&[(1, "active"), (5, "active")]), list(&[(1, "active")]));
    look(&mut core, &both);
    look(&mut core, &one);
    assert_eq!(look(&mut core, &one).0, [(5, Event::Gone, "-".into())]);
    assert_eq!(look(&mut core, &both).0, [(5, Event::New, "active".into())]);
    // The end is settled, and that it is back is not.
    core.settle(3);
    let mut core = Core::load(RULES, &core.save()).unwrap();
    let step = core.next(0);
    let changes = answer(&mut core, &both, step).changes;
    assert_eq!(changes.iter().map(|change| (&*change.id, change.number)).collect::<Vec<_>>(), [("005", 1002)]);
}

/// What the world does next.
#[derive(Clone, Debug)]
enum Act {
    /// The list changes, whatever is being read.
    Set(u32, &'static str),
    Remove(u32),
    /// The next page is asked for.
    Page,
    /// It fails.
    Break,
    /// One more batch is settled, if there is one.
    Settle,
    /// We are killed, and go on from what was saved.
    Kill,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let status = prop::sample::select(vec!["active", "disconnected", "pending"]);
    let act = prop_oneof![
        3 => (0u32..12, status).prop_map(|(id, status)| Act::Set(id, status)),
        1 => (0u32..12).prop_map(Act::Remove),
        8 => Just(Act::Page),
        1 => Just(Act::Break),
        4 => Just(Act::Settle),
        1 => Just(Act::Kill),
    ];
    prop::collection::vec(act, 0..120)
}

/// A change as its address has it.
type Name = (u32, u64, String, String);

fn named(change: &Change) -> Name {
    let [previous, status] = [change.previous.as_deref().unwrap_or("new"), change.status.as_deref().unwrap_or("gone")];
    (change.id.parse().unwrap(), change.number, previous.to_owned(), status.to_owned())
}

/// The naive twin: it keeps every record that was handed in and what the list was at every moment, and never decides anything.
#[derive(Default)]
struct Twin {
    /// Since the list has each agent, by the number of the act; of those that it has.
    since: BTreeMap<u32, usize>,
    /// For each name of a change: what it said.
    names: BTreeMap<Name, Event>,
    /// Those that are settled.
    spent: BTreeSet<Name>,
    /// What whoever got all records knows: of those that were handed in, and of those that are settled.
    heard: BTreeMap<u32, String>,
    settled: BTreeMap<u32, String>,
    /// Batches on their way.
    open: std::collections::VecDeque<Vec<Change>>,
}

impl Twin {
    fn hear(heard: &mut BTreeMap<u32, String>, change: &Change) {
        let id: u32 = change.id.parse().unwrap();
        match &change.status {
            Some(status) => heard.insert(id, status.to_string()),
            None => heard.remove(&id),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_the_list_does_the_records_are_true_and_complete(acts in acts(), page in 2u64..6) {
        let rules = Rules { page, ..RULES };
        let mut core = Core::new(rules, 1000);
        let (mut world, mut twin, mut saved) = (List::new(), Twin::default(), core.save());
        let mut began = 0;
        let quiet = [Act::Page, Act::Settle].into_iter().cycle().take(200);
        for (now, act) in acts.into_iter().chain(quiet).enumerate() {
            match act {
                Act::Set(id, status) => {
                    twin.since.entry(id).or_insert(now);
                    world.insert(id, status);
                }
                Act::Remove(id) => {
                    twin.since.remove(&id);
                    world.remove(&id);
                }
                Act::Page => {
                    core.due = 0;
                    let step = core.next(0);
                    if matches!(step, Step::Page { offset: 0, .. }) && core.look.as_ref().is_some_and(|look| look.read == 0) {
                        began = now;
                    }
                    let taken = answer(&mut core, &world, step);
                    for change in &taken.changes {
                        let id: u32 = change.id.parse().unwrap();
                        let heard = twin.heard.get(&id).cloned();
                        // It says what was said before, and something else than that.
                        prop_assert_eq!(change.previous.as_deref(), heard.as_deref());
                        prop_assert!(change.status.as_deref() != heard.as_deref());
                        match &change.status {
                            Some(status) => prop_assert_eq!(world.get(&id).copied(), Some(&**status), "a status is the server's"),
                            None => prop_assert!(
                                twin.since.get(&id).is_none_or(|since| *since > began),
                                "{} was there from before the look on", id
                            ),
                        }
                        prop_assert!(!twin.spent.contains(&named(change)), "a name that is settled does not come again: {:?}", change);
                        let before = twin.names.insert(named(change), change.event);
                        prop_assert!(before.is_none_or(|before| before == change.event), "one name, one change");
                        Twin::hear(&mut twin.heard, change);
                    }
                    core.hand_in(&taken.changes);
                    twin.open.push_back(taken.changes);
                }
                Act::Break => core.broke(),
                Act::Settle => {
                    if let Some(batch) = twin.open.pop_front() {
                        batch.iter().for_each(|change| Twin::hear(&mut twin.settled, change));
                        twin.spent.extend(batch.iter().map(named));
                        core.settle(core.done + 1);
                        saved = core.save();
                        // What is saved is what whoever got the settled records knows.
                        let loaded = Core::load(rules, &saved).unwrap();
                        let known: BTreeMap<u32, String> = loaded
                            .agents
                            .iter()
                            .map(|(id, agent)| (id.parse().unwrap(), agent.status.as_deref().unwrap().to_owned()))
                            .collect();
                        prop_assert_eq!(&known, &twin.settled);
                    }
                }
                Act::Kill => {
                    core = Core::load(rules, &saved).unwrap();
                    twin.open.clear();
                    twin.heard = twin.settled.clone();
                }
            }
        }
        // It was quiet long enough: everybody knows what the server has. A list that is empty says nothing.
        let have: BTreeMap<u32, String> = world.iter().map(|(id, status)| (*id, (*status).to_owned())).collect();
        if !have.is_empty() {
            prop_assert_eq!(&twin.heard, &have);
            while twin.open.pop_front().is_some() {
                core.settle(core.done + 1);
            }
            prop_assert_eq!(core.agents.keys().map(|id| id.parse().unwrap()).collect::<BTreeSet<u32>>(), have.keys().copied().collect());
        }
    }
}
