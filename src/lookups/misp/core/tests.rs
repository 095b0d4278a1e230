//! The engine against a perfect MISP in memory, through every order of failures.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

const MS: Nanos = 1_000_000;

fn limits() -> Limits {
    Limits {
        batch_values: 200,
        flush: 50 * MS,
        connections: 4,
        page_rows: 1000,
        rate: 0,
        burst: 1,
        breaker: breaker::Limits::default(),
        positive: 3600 * SECOND,
        silence: u64::MAX,
        negative: 600 * SECOND,
        cache_bytes: 1 << 20,
        hits_max: 100,
        hold_retry: 30 * SECOND,
        expand: Expand { hosts: true, parents: true },
        networks_every: None,
        shared: false,
        seed: 1,
    }
}

fn attribute(id: usize, kind: &str, value: &str) -> Attribute {
    Attribute { id: id.to_string().into(), kind: kind.into(), value: value.into(), ..Attribute::default() }
}

/// What the twin knows of MISP: rows, and values that it refuses.
#[derive(Clone, Debug, Default)]
struct World {
    rows: Vec<Attribute>,
    refused: BTreeSet<String>,
}

impl World {
    /// As MISP's columns compare: without case and accents.
    fn fold(text: &str) -> String {
        text.to_lowercase().replace('é', "e")
    }

    fn search(&self, ask: &Ask, page: u32, page_rows: u32) -> Outcome {
        let is_found = |row: &Attribute| match ask {
            Ask::Canary => false,
            Ask::Networks => row.value.contains('/') && !row.value.contains("://"),
            Ask::Values(values) => {
                value::parts(&row.kind, &row.value).any(|part| values.iter().any(|value| Self::fold(part) == Self::fold(value)))
            }
        };
        if matches!(ask, Ask::Values(values) if values.iter().any(|value| self.refused.contains(&**value))) {
            return Outcome::Refused("MISP answers 400".into());
        }
        let skip = (page as usize - 1) * page_rows as usize;
        let rows = self.rows.iter().filter(|row| is_found(row)).skip(skip).take(page_rows as usize).cloned().collect();
        Outcome::Rows { rows, skipped: 0, rest: None }
    }

    /// The verdict by looking at every row: ids of hits, or whether it is given up.
    fn verdict(&self, kind: &str, value: &str, limits: &Limits) -> Result<BTreeSet<Box<str>>, ()> {
        let (mut hits, mut is_given_up) = (BTreeSet::new(), false);
        for (ask, via) in value::asks(kind, value, limits.expand) {
            if self.refused.contains(&ask) || (via == Via::Value && value::may_be_sent(&ask).is_err()) {
                is_given_up = true;
            } else if value::may_be_sent(&ask).is_ok() {
                let is_it = |row: &&Attribute| value::parts(&row.kind, &row.value).any(|part| value::normal(part) == ask);
                hits.extend(self.rows.iter().filter(is_it).map(|row| row.id.clone()));
            }
            if let Some(address) = value::address(&ask).filter(|_| limits.networks_every.is_some()) {
                let holds = |row: &&Attribute| row.value.parse::<IpNet>().is_ok_and(|net| net.contains(&address));
                hits.extend(self.rows.iter().filter(holds).map(|row| row.id.clone()));
            }
        }
        if hits.is_empty() && is_given_up { Err(()) } else { Ok(hits) }
    }
}

fn judged(verdict: &Verdict) -> Result<BTreeSet<Box<str>>, ()> {
    match verdict {
        Verdict::Hit(hits) => {
            assert!(!hits.is_empty());
            Ok(hits.iter().map(|hit| hit.attribute.id.clone()).collect())
        }
        Verdict::Miss => Ok(BTreeSet::new()),
        Verdict::Failed(_) => Err(()),
    }
}

/// Drives an engine whose every search is answered by `answer`, at once, until it has nothing to do.
fn settle(core: &mut Core, now: &mut Nanos, mut answer: impl FnMut(&Ask, u32) -> Outcome) -> BTreeMap<Token, Verdict> {
    let mut verdicts = BTreeMap::new();
    for _ in 0..10_000 {
        while let Some((token, verdict)) = core.verdict() {
            assert!(verdicts.insert(token, verdict).is_none(), "two verdicts for {token}");
        }
        match core.next(*now) {
            Step::Search { id, ask, page } => core.answered(*now, id, answer(&ask, page)),
            Step::Recall { id, .. } => core.recalled(*now, 0, id, None),
            Step::Wait(_) if core.open() == 0 => break,
            Step::Wait(until) => *now = until.expect("somebody waits, and nothing is under way").max(*now),
        }
    }
    assert_eq!(core.open(), 0, "{core:?}");
    verdicts
}

#[test]
fn twenty_thousand_questions_for_a_thousand_values_are_a_few_searches() {
    let world = World { rows: (0..829).map(|n| attribute(n, "domain", &format!("n{n}.evil"))).collect(), ..World::default() };
    let mut core = Core::new(limits());
    let (mut now, mut searches) = (0, 0);
    let mut verdicts = BTreeMap::new();
    // Four bursts, so that some come from the cache and some meet a value in flight.
    for burst in 0..4u64 {
        for n in burst * 5000..(burst + 1) * 5000 {
            core.ask(now, n, "domain", &format!("n{}.evil", n % 1000));
        }
        verdicts.extend(settle(&mut core, &mut now, |ask, page| {
            searches += 1;
            world.search(ask, page, 1000)
        }));
        now += SECOND;
    }
    assert_eq!(searches, 5);
    assert_eq!(verdicts.len(), 20_000);
    assert_eq!(verdicts.values().filter(|verdict| matches!(verdict, Verdict::Hit(_))).count(), 829 * 20);
    let counts = core.counts();
    assert_eq!((counts.coalesced, counts.cached + counts.cached_misses), (4000, 15_000));
}

#[test]
fn a_batch_leaves_when_it_is_full_or_its_oldest_value_has_waited() {
    let mut core = Core::new(Limits { batch_values: 2, ..limits() });
    core.ask(0, 1, "md5", "a");
    assert_eq!(core.next(0), Step::Wait(Some(50 * MS)));
    core.ask(10 * MS, 2, "md5", "b");
    core.ask(10 * MS, 3, "md5", "c");
    assert!(matches!(core.next(10 * MS), Step::Search { ask: Ask::Values(values), page: 1, .. } if values.len() == 2));
    assert_eq!(core.next(10 * MS), Step::Wait(Some(60 * MS)));
    assert!(matches!(core.next(60 * MS), Step::Search { ask: Ask::Values(values), .. } if values.len() == 1));
}

#[test]
fn one_bad_value_is_halved_out_and_its_neighbours_get_their_answers() {
    let rows = vec![attribute(1, "md5", "aa3")];
    let world = World { rows, refused: ["aa7".to_owned()].into() };
    let mut core = Core::new(limits());
    (0..200).for_each(|n| core.ask(0, n, "md5", &format!("aa{n}")));
    let (mut now, mut searches) = (0, 0);
    let verdicts = settle(&mut core, &mut now, |ask, page| {
        searches += 1;
        world.search(ask, page, 1000)
    });
    let failed: Vec<_> = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Failed(_))).collect();
    assert_eq!(failed, [(&7, &Verdict::Failed("MISP answers 400".into()))]);
    assert!(matches!(verdicts[&3], Verdict::Hit(_)));
    assert!(searches <= 2 * 8 + 1, "{searches}");
}

#[test]
fn a_misp_that_refuses_every_search_holds_and_loses_nothing() {
    let mut core = Core::new(limits());
    (0..3).for_each(|n| core.ask(0, n, "md5", &format!("aa{n}")));
    let mut now = 0;
    let mut refusals = 0;
    while refusals < 30 {
        match core.next(now) {
            Step::Search { id, .. } => {
                refusals += 1;
                core.answered(now, id, Outcome::Refused("MISP answers 400".into()));
            }
            Step::Wait(until) => now = until.unwrap(),
            Step::Recall { .. } => unreachable!("there is no shared cache"),
        }
    }
    assert!(matches!(core.state(now), State::Holding(why) if why.contains("a harmless one too")));
    assert_eq!((core.open(), core.verdict()), (3, None));
    let verdicts = settle(&mut core, &mut now, |ask, page| World::default().search(ask, page, 1000));
    assert!(verdicts.values().all(|verdict| *verdict == Verdict::Miss));
    assert_eq!(core.state(now), State::Ready);
}

#[test]
fn a_refused_key_holds_is_tried_twice_a_minute_and_opens_no_breaker() {
    let mut core = Core::new(Limits { batch_values: 1, ..limits() });
    (0..10).for_each(|n| core.ask(0, n, "md5", &format!("aa{n}")));
    let ids: Vec<_> = std::iter::from_fn(|| match core.next(0) {
        Step::Search { id, .. } => Some(id),
        _ => None,
    })
    .collect();
    assert_eq!(ids.len(), 4, "connections");
    ids.iter().for_each(|id| core.answered(0, *id, Outcome::Denied("403".into())));
    assert_eq!(core.state(0), State::Holding("403".into()));
    assert_eq!(core.next(0), Step::Wait(Some(30 * SECOND)));
    let Step::Search { id, .. } = core.next(30 * SECOND) else { panic!("no trial") };
    assert_eq!(core.next(30 * SECOND), Step::Wait(None), "one trial at a time");
    core.answered(31 * SECOND, id, Outcome::Denied("403".into()));
    assert_eq!(core.next(31 * SECOND), Step::Wait(Some(61 * SECOND)));
    let mut now = 61 * SECOND;
    let verdicts = settle(&mut core, &mut now, |ask, page| World::default().search(ask, page, 1000));
    assert_eq!((verdicts.len(), core.state(now)), (10, State::Ready));
}

#[test]
fn an_outage_opens_the_breaker_and_everything_waits() {
    let mut core = Core::new(Limits { batch_values: 10, ..limits() });
    (0..100).for_each(|n| core.ask(0, n, "md5", &format!("aa{n}")));
    let (mut now, mut tries) = (0, 0);
    while now < 3600 * SECOND {
        match core.next(now) {
            Step::Search { id, .. } => {
                tries += 1;
                core.answered(now, id, Outcome::Away("MISP answers 502".into()));
            }
            Step::Wait(until) => now = until.unwrap(),
            Step::Recall { .. } => unreachable!("there is no shared cache"),
        }
    }
    assert!((5 + 60..150).contains(&tries), "an hour of waits of up to a minute: {tries}");
    assert_eq!((core.open(), core.verdict()), (100, None));
    assert_eq!(core.state(now), State::Retrying("MISP answers 502".into()));
    let verdicts = settle(&mut core, &mut now, |ask, page| World::default().search(ask, page, 1000));
    assert!(verdicts.len() == 100 && verdicts.values().all(|verdict| *verdict == Verdict::Miss));
}

#[test]
fn a_value_that_makes_misp_fail_does_not_stop_the_others_for_ever() {
    let mut core = Core::new(Limits { batch_values: 8, connections: 1, ..limits() });
    (0..40).for_each(|n| core.ask(0, n, "md5", &format!("aa{n}")));
    let (mut now, mut searches) = (0, 0);
    let verdicts = settle(&mut core, &mut now, |ask, page| {
        searches += 1;
        match ask {
            Ask::Values(values) if values.iter().any(|value| &**value == "aa5") => Outcome::Away("MISP answers 500".into()),
            _ => World::default().search(ask, page, 1000),
        }
    });
    let failed: Vec<_> = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Failed(_))).map(|(token, _)| *token).collect();
    assert_eq!(failed, [5]);
    assert!(searches < 120, "{searches}");
}

#[test]
fn its_own_limit_stops_searches_until_its_reset() {
    let mut core = Core::new(Limits { batch_values: 1, ..limits() });
    (0..3).for_each(|n| core.ask(0, n, "md5", &format!("aa{n}")));
    let search = |core: &mut Core, now| match core.next(now) {
        Step::Search { id, .. } => id,
        other => panic!("{other:?}"),
    };
    let id = search(&mut core, 0);
    core.answered(0, id, Outcome::Rows { rows: vec![], skipped: 0, rest: Some(7 * SECOND) });
    assert_eq!(core.next(0), Step::Wait(Some(7 * SECOND)));
    let id = search(&mut core, 7 * SECOND);
    core.answered(7 * SECOND, id, Outcome::Limited(900 * SECOND));
    assert_eq!(core.next(8 * SECOND), Step::Wait(Some(907 * SECOND)));
    assert!(matches!(core.state(8 * SECOND), State::Retrying(_)));
    search(&mut core, 907 * SECOND);
}

#[test]
fn the_rate_is_kept() {
    let mut core = Core::new(Limits { batch_values: 1, connections: 100, rate: 10, burst: 3, ..limits() });
    (0..20).for_each(|n| core.ask(0, n, "md5", &format!("aa{n}")));
    let (mut now, mut sent) = (0, Vec::new());
    while sent.len() < 20 {
        match core.next(now) {
            Step::Search { .. } => sent.push(now / MS),
            Step::Wait(until) => now = until.unwrap(),
            Step::Recall { .. } => unreachable!("there is no shared cache"),
        }
    }
    assert_eq!(sent[..6], [0, 0, 0, 100, 200, 300]);
}

#[test]
fn pages_are_turned_until_one_is_not_full_and_a_server_that_turns_none_ends_too() {
    let rows: Vec<_> = (0..25).map(|n| attribute(n, "md5", "aa")).collect();
    let world = World { rows: rows.clone(), ..World::default() };
    let run = |answer: &dyn Fn(&Ask, u32) -> Outcome| {
        let mut core = Core::new(Limits { page_rows: 10, ..limits() });
        core.ask(0, 1, "md5", "aa");
        let mut pages = Vec::new();
        let verdicts = settle(&mut core, &mut 0, |ask, page| {
            pages.push(page);
            answer(ask, page)
        });
        (pages, judged(&verdicts[&1]).unwrap().len())
    };
    assert_eq!(run(&|ask, page| world.search(ask, page, 10)), (vec![1, 2, 3], 25));
    assert_eq!(run(&|ask, _| world.search(ask, 1, 10)), (vec![1, 2], 10), "the same page again and again");
    assert_eq!(run(&|ask, _| world.search(ask, 1, 100)), (vec![1, 2], 25), "a server that knows no pages");
    // A warninglist leaves rows out after the page was cut: a short page, though more follow.
    let skipping = |_: &Ask, page: u32| match page {
        1 => Outcome::Rows { rows: rows[..3].to_vec(), skipped: 7, rest: None },
        2 => Outcome::Rows { rows: vec![], skipped: 10, rest: None },
        _ => Outcome::Rows { rows: rows[3..5].to_vec(), skipped: 0, rest: None },
    };
    assert_eq!(run(&skipping), (vec![1, 2, 3], 5));
}

#[test]
fn answers_of_other_values_are_nobodys_hits() {
    let rows = vec![attribute(1, "domain", "évil.example"), attribute(2, "domain", "other.example"), attribute(3, "filename|md5", "x|AA")];
    let mut core = Core::new(limits());
    core.ask(0, 1, "domain", "evil.example");
    core.ask(0, 2, "md5", "aa");
    let verdicts = settle(&mut core, &mut 0, |_, _| Outcome::Rows { rows: rows.clone(), skipped: 0, rest: None });
    assert_eq!(verdicts[&1], Verdict::Miss);
    assert_eq!(judged(&verdicts[&2]), Ok(["3".into()].into()));
    assert_eq!(core.counts().foreign_rows, 2);
}

#[test]
fn found_and_not_found_live_apart() {
    let world = World { rows: vec![attribute(1, "md5", "aa")], ..World::default() };
    let mut core = Core::new(limits());
    let mut searches = 0;
    let mut ask_both = |core: &mut Core, mut now, token| {
        core.ask(now, token, "md5", "aa");
        core.ask(now, token + 1, "md5", "bb");
        settle(core, &mut now, |ask, page| {
            let Ask::Values(values) = ask else { panic!("{ask:?}") };
            searches += values.len();
            world.search(ask, page, 1000)
        });
        std::mem::take(&mut searches)
    };
    assert_eq!(ask_both(&mut core, 0, 1), 2);
    assert_eq!(ask_both(&mut core, 500 * SECOND, 3), 0);
    assert_eq!(ask_both(&mut core, 700 * SECOND, 5), 1, "not found: ten minutes");
    assert_eq!(ask_both(&mut core, 3700 * SECOND, 7), 2, "found: an hour");
}

#[test]
fn the_shared_cache_answers_and_is_not_believed_blindly() {
    let mut core = Core::new(Limits { shared: true, ..limits() });
    let values = ["good", "old", "undated", "none", "lie", "absent"];
    (0..6).for_each(|n| core.ask(0, n, "md5", values[n as usize]));
    let Step::Recall { id, keys } = core.next(0) else { panic!("the shared cache goes first") };
    assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), values);
    let found = |value: &str, at| Some((vec![attribute(1, "md5", value)], at));
    let answers = vec![found("GOOD", 9000), found("old", 5000), found("undated", 0), Some((vec![], 9000)), found("other", 9000), None];
    core.recalled(0, 10_000, id, Some(answers));
    let mut verdicts = BTreeMap::new();
    while let Some((token, verdict)) = core.verdict() {
        verdicts.insert(token, verdict);
    }
    assert_eq!(verdicts.keys().copied().collect::<Vec<_>>(), [0, 2], "ten minutes of `none` are over, too");
    let mut now = 0;
    let rest = settle(&mut core, &mut now, |ask, page| {
        let Ask::Values(values) = ask else { panic!("{ask:?}") };
        assert_eq!(values.iter().map(|value| &**value).collect::<Vec<_>>(), ["old", "none", "lie", "absent"]);
        World::default().search(ask, page, 1000)
    });
    assert_eq!(rest.len(), 4);
    let learned: Vec<_> = core.learned().into_iter().map(|learned| (learned.key.to_string(), learned.lives)).collect();
    assert_eq!(learned, ["old", "none", "lie", "absent"].map(|key| (key.to_owned(), 600)));
    // What is left of an hour: 3600 − 1000 seconds; of an undated one five minutes.
    core.ask(2599 * SECOND, 10, "md5", "good");
    assert!(matches!(core.verdict(), Some((10, Verdict::Hit(_)))));
    core.ask(301 * SECOND, 11, "md5", "undated");
    assert_eq!(core.verdict(), None);
}

#[test]
fn addresses_wait_for_the_networks() {
    let rows = vec![attribute(1, "ip-src", "192.0.2.0/24"), attribute(2, "ip-dst", "192.0.2.7")];
    let world = World { rows, ..World::default() };
    let mut core = Core::new(Limits { networks_every: Some(3600 * SECOND), ..limits() });
    core.ask(0, 1, "ip", "192.0.2.7");
    core.ask(0, 2, "url", "http://192.0.2.8/x");
    core.ask(0, 3, "md5", "aa");
    let mut asked = Vec::new();
    let mut now = 0;
    let verdicts = settle(&mut core, &mut now, |ask, page| {
        asked.push(ask.clone());
        world.search(ask, page, 1000)
    });
    assert_eq!(asked[0], Ask::Networks);
    let Verdict::Hit(hits) = &verdicts[&1] else { panic!("{verdicts:?}") };
    assert_eq!(hits.iter().map(|hit| (hit.via, &*hit.attribute.id)).collect::<Vec<_>>(), [(Via::Network, "1"), (Via::Value, "2")]);
    assert_eq!(judged(&verdicts[&2]), Ok(["1".into()].into()));
    assert_eq!(core.networks(), 1);
    assert!(matches!(core.next(now + 3600 * SECOND), Step::Search { ask: Ask::Networks, .. }));
}

#[test]
fn a_value_that_is_a_pattern_to_misp_is_said_and_not_sent() {
    let mut core = Core::new(limits());
    core.ask(0, 1, "url", "http://a.evil/%");
    let verdicts = settle(&mut core, &mut 0, |ask, page| {
        assert!(!format!("{ask:?}").contains('%'));
        World::default().search(ask, page, 1000)
    });
    assert!(matches!(&verdicts[&1], Verdict::Failed(why) if why.contains("pattern")));
}

#[test]
fn it_is_away_when_it_is_left_alone_silent_limited_or_refuses_the_key_and_back_with_the_first_answer() {
    let sent = |core: &mut Core, now| match core.next(now) {
        Step::Search { id, .. } => id,
        step => panic!("{step:?}"),
    };
    let outcomes = [Outcome::Limited(5 * SECOND), Outcome::Denied("403".into()), Outcome::Away("away".into())];
    for outcome in outcomes {
        let breaker = breaker::Limits { failures: 1, ..breaker::Limits::default() };
        let mut core = Core::new(Limits { batch_values: 1, breaker, ..limits() });
        core.ask(0, 1, "md5", "aa");
        let id = sent(&mut core, 0);
        assert!(!core.is_away(0));
        core.answered(0, id, outcome.clone());
        assert!(core.is_away(0), "{outcome:?}");
        let id = sent(&mut core, 40 * SECOND);
        core.answered(40 * SECOND, id, Outcome::Rows { rows: Vec::new(), skipped: 0, rest: None });
        assert!(!core.is_away(40 * SECOND), "{outcome:?}");
    }
    let mut core = Core::new(Limits { batch_values: 1, silence: 10 * SECOND, ..limits() });
    for (token, value) in ["aa", "bb"].into_iter().enumerate() {
        core.ask(0, token as u64, "md5", value);
    }
    let (first, second) = (sent(&mut core, 0), sent(&mut core, 5 * SECOND));
    assert_eq!((core.is_away(9 * SECOND), core.is_away(10 * SECOND)), (false, true));
    core.answered(11 * SECOND, first, Outcome::Rows { rows: Vec::new(), skipped: 0, rest: None });
    assert_eq!((core.is_away(20 * SECOND), core.is_away(21 * SECOND)), (false, true), "the other is still out");
    core.answered(22 * SECOND, second, Outcome::Rows { rows: Vec::new(), skipped: 0, rest: None });
    assert!(!core.is_away(u64::MAX));
}

#[test]
fn what_is_forgotten_is_not_asked_unless_it_is_on_its_way() {
    let mut core = Core::new(Limits { batch_values: 2, ..limits() });
    for (token, value) in ["aa", "bb", "cc", "aa"].into_iter().enumerate() {
        core.ask(0, token as u64, "md5", value);
    }
    let Step::Search { id, .. } = core.next(0) else { panic!() };
    core.forget(&[0, 1, 2].into());
    assert_eq!((core.open(), core.next(60 * MS)), (1, Step::Wait(None)), "cc is not asked");
    core.ask(60 * MS, 4, "md5", "bb");
    core.answered(61 * MS, id, Outcome::Rows { rows: Vec::new(), skipped: 0, rest: None });
    let verdicts: Vec<_> = std::iter::from_fn(|| core.verdict()).collect();
    assert_eq!(verdicts.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [3, 4]);
}

/// Values of few letters, so that they meet; some of several forms.
const VALUES: &[(&str, &str)] = &[
    ("md5", "aa"),
    ("md5", "AA"),
    ("md5", "bb"),
    ("sha1", "cc"),
    ("domain", "a.evil"),
    ("domain", "b.a.evil"),
    ("domain", "évil.evil"),
    ("domain", "evil.evil"),
    ("url", "http://a.evil/X"),
    ("url", "http://a.evil/x"),
    ("url", "http://1.2.3.4/%"),
    ("ip", "1.2.3.4"),
    ("ip", "1.2.3.5"),
    ("ip", "2001:db8::1"),
    ("email", "x@a.evil"),
];
const ROWS: &[(&str, &str)] = &[
    ("md5", "aa"),
    ("filename|md5", "x|bb"),
    ("domain|ip", "a.evil|1.2.3.4"),
    ("domain", "evil.evil"),
    ("domain", "évil.evil"),
    ("url", "HTTP://A.evil/X"),
    ("ip-dst", "1.2.3.0/24"),
    ("ip-dst|port", "1.2.3.5|443"),
    ("ip-src", "2001:DB8::1"),
    ("hostname", "a.evil"),
    ("comment", "aa and more"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn every_token_gets_the_right_verdict_whatever_fails(
        rows in prop::collection::vec(0..ROWS.len(), 0..16),
        refused in prop::collection::btree_set(0..VALUES.len(), 0..3),
        questions in prop::collection::vec((0..VALUES.len(), 0u64..400), 1..40),
        choices in prop::collection::vec(any::<u8>(), 0..60),
        batch_values in 1usize..6, connections in 1usize..4, page_rows in 1u32..4,
        forgotten in prop::collection::btree_set(0u64..40, 0..12),
        has_networks: bool, shared: bool, cache_bytes in 0usize..3000, rate in 0u32..50, seed: u64,
    ) {
        let wait = Duration::from_secs(1);
        let limits = Limits {
            batch_values, connections, page_rows, rate, shared, cache_bytes, seed,
            networks_every: has_networks.then_some(20 * SECOND),
            breaker: breaker::Limits { failures: 2, share: 50, calls_min: 4, window: wait, wait, wait_max: 4 * wait },
            ..limits()
        };
        let world = World {
            rows: rows.iter().enumerate().map(|(id, row)| attribute(id, ROWS[*row].0, ROWS[*row].1)).collect(),
            refused: refused.iter().map(|n| value::normal(VALUES[*n].1)).collect(),
        };
        let mut core = Core::new(limits);
        let (mut now, mut flying, mut choices) = (0, Vec::new(), choices.into_iter());
        let mut shared_cache: BTreeMap<String, (Vec<Attribute>, u64)> = BTreeMap::new();
        let (mut verdicts, mut next_question, mut away) = (BTreeMap::new(), 0, 0);
        let mut due = 0;
        for round in 0.. {
            prop_assert!(round < 20_000, "it does not end: {core:?}");
            while next_question < questions.len() && due <= now {
                let (kind, value) = VALUES[questions[next_question].0];
                core.ask(now, next_question as u64, kind, value);
                next_question += 1;
                due += questions.get(next_question).map_or(0, |(_, gap)| gap * MS);
            }
            if round % 16 == 9 {
                core.forget(&forgotten.iter().copied().filter(|token| *token < next_question as u64).collect());
            }
            let step = core.next(now);
            for learned in core.learned() {
                let hits = learned.hits.iter().map(|hit| (**hit).clone()).collect();
                shared_cache.insert(learned.key.to_string(), (hits, now / SECOND + 1));
            }
            while let Some((token, verdict)) = core.verdict() {
                prop_assert!(verdicts.insert(token, verdict).is_none(), "two verdicts for {token}");
            }
            let choice = choices.next().unwrap_or(0);
            match step {
                Step::Search { id, ask, page } => {
                    prop_assert!(flying.len() < connections);
                    if let Ask::Values(values) = &ask {
                        prop_assert!(values.len() <= batch_values && values.iter().all(|value| value::may_be_sent(value).is_ok()));
                    }
                    flying.push((id, ask, page));
                }
                Step::Recall { id, keys } => {
                    let found = (choice % 4 != 1).then(|| keys.iter().map(|key| shared_cache.get(&**key).cloned()).collect());
                    core.recalled(now, now / SECOND + 1, id, found);
                }
                Step::Wait(_) if !flying.is_empty() && choice % 8 != 7 => {
                    let (id, ask, page) = flying.remove(usize::from(choice) % flying.len());
                    let outcome = match choice / 16 {
                        1..=3 if away < 9 => {
                            away += 1;
                            Outcome::Away("away".into())
                        }
                        4 => Outcome::Limited(SECOND),
                        5 => Outcome::Denied("403".into()),
                        _ => world.search(&ask, page, page_rows),
                    };
                    core.answered(now, id, outcome);
                }
                Step::Wait(until) => {
                    if next_question == questions.len() && core.open() == 0 && flying.is_empty() {
                        break;
                    }
                    let until = until.into_iter().chain((next_question < questions.len()).then_some(due)).min();
                    now = until.unwrap_or(now).max(now + MS);
                }
            }
        }
        for (n, (which, _)) in questions.iter().enumerate() {
            let (kind, value) = VALUES[*which];
            let verdict = verdicts.get(&(n as u64));
            if verdict.is_none() && forgotten.contains(&(n as u64)) {
                continue;
            }
            prop_assert_eq!(verdict.map(judged), Some(world.verdict(kind, value, &limits)), "{} {}: {:?}", kind, value, verdict);
        }
    }
}
