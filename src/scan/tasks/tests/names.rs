//! What is known of files by their names, against a list of all that was ever submitted.

use proptest::prelude::*;

use super::{super::*, ALL, Hand, S, matched, one, open_in, outcome, submission};

/// One accepted task, in the order of coming.
#[derive(Clone, Debug)]
struct Entry {
    id: TaskId,
    path: usize,
    identity: u64,
    state: State,
    verdict: Option<Verdict>,
    reason: Option<Reason>,
}

#[derive(Clone, Debug)]
enum Op {
    Submit {
        path: usize,
        identity: u64,
        is_again: bool,
    },
    /// The n-th live task ends so.
    Finish {
        nth: usize,
        end: usize,
    },
    Cancel {
        nth: usize,
    },
    Forget {
        path: usize,
    },
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (path, identity) = (0..3usize, 0..3u64);
    let op = prop_oneof![
        6 => (path.clone(), identity, prop::bool::weighted(0.2)).prop_map(|(path, identity, is_again)| Op::Submit { path, identity, is_again }),
        4 => (0..4usize, 0..5usize).prop_map(|(nth, end)| Op::Finish { nth, end }),
        1 => (0..4usize).prop_map(|nth| Op::Cancel { nth }),
        1 => path.prop_map(|path| Op::Forget { path }),
        1 => Just(Op::Restart),
    ];
    prop::collection::vec(op, 1..40)
}

fn is_live(entry: &Entry) -> bool {
    entry.state == State::Queued
}

/// The newest of a name that was not forgotten.
fn newest<'a>(all: &'a [Entry], forgotten: &[usize], path: usize) -> Option<&'a Entry> {
    all.iter().enumerate().rfind(|(at, entry)| entry.path == path && !forgotten.contains(at)).map(|(_, entry)| entry)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_file_is_known_by_its_newest_task(ops in ops()) {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
        let limits = Limits { size_max: 5, attempts_max: 1, ..Limits::default() };
        let mut store = open_in(dir.path(), limits.clone(), &clock);
        let (mut all, mut forgotten) = (Vec::<Entry>::new(), Vec::new());
        for op in ops {
            clock.turn(S);
            let live: Vec<_> = (0..all.len()).filter(|at| is_live(&all[*at])).collect();
            match op {
                Op::Submit { path, identity, is_again } => {
                    let wanted = submission(&format!("p{path}"), identity);
                    let submitted = if is_again { store.submit_again(vec![wanted]).wait().unwrap().remove(0) } else { one(&store, wanted) };
                    let known = newest(&all, &forgotten, path).filter(|entry| entry.identity == identity);
                    let expected = match known {
                        Some(entry) if is_live(entry) => Some(Submitted::UnderWay(entry.id.clone())),
                        Some(entry) if !is_again && entry.reason != Some(Reason::NotFound) => Some(Submitted::Known { id: entry.id.clone(), verdict: entry.verdict }),
                        _ if live.len() >= 5 => Some(Submitted::Full),
                        _ => None,
                    };
                    match expected {
                        Some(expected) => prop_assert_eq!(submitted, expected),
                        None => {
                            let Submitted::Queued(id) = submitted else { panic!("{submitted:?}") };
                            all.push(Entry { id, path, identity, state: State::Queued, verdict: None, reason: None });
                        }
                    }
                }
                Op::Finish { nth, end } => {
                    let Some(at) = live.get(nth).copied() else { continue };
                    let lease = store.lease("w", ALL, 1, Take::This(all[at].id.clone())).wait().unwrap().remove(0);
                    let (answer, state, verdict, reason) = match end {
                        0 => (outcome(&lease, Verdict::Clean), State::Done, Some(Verdict::Clean), None),
                        1 => (matched(&lease, &["r"]), State::Done, Some(Verdict::Matched), None),
                        2 => (Outcome::error(&lease.task, Reason::NotFound), State::Done, Some(Verdict::Error), Some(Reason::NotFound)),
                        3 => (Outcome::error(&lease.task, Reason::TooLarge), State::Done, Some(Verdict::Error), Some(Reason::TooLarge)),
                        _ => (Outcome::error(&lease.task, Reason::Io), State::Dead, None, None),
                    };
                    let finished = store.finish("w", answer).wait().unwrap();
                    prop_assert_eq!(matches!(finished, Finished::Applied { .. }), state == State::Done);
                    all[at] = Entry { state, verdict, reason, ..all[at].clone() };
                }
                Op::Cancel { nth } => {
                    let Some(at) = live.get(nth).copied() else { continue };
                    store.cancel(&all[at].id).wait().unwrap();
                    all[at].state = State::Cancelled;
                }
                Op::Forget { path } => {
                    let is_free = newest(&all, &forgotten, path).is_some_and(|entry| !is_live(entry));
                    prop_assert_eq!(store.forget_file("zeek", &RelPath(format!("p{path}").into_bytes())).wait().unwrap(), is_free);
                    if is_free {
                        forgotten.extend((0..all.len()).filter(|at| all[*at].path == path));
                    }
                }
                Op::Restart => {
                    store.close();
                    drop(store);
                    store = open_in(dir.path(), limits.clone(), &clock);
                }
            }
            for path in 0..3 {
                let known = store.known("zeek", &RelPath(format!("p{path}").into_bytes())).wait().unwrap();
                let known = known.map(|known| (known.task_id, known.identity.inode, known.verdict));
                let expected = newest(&all, &forgotten, path).map(|entry| (entry.id.clone(), entry.identity, entry.verdict));
                prop_assert_eq!(known, expected);
            }
            // What cleanup may take: newest of its name, with an outcome.
            let old: Vec<_> = store.done_older_than(u64::MAX, None, 99).wait().unwrap().into_iter().map(|known| known.task_id).collect();
            let done = (0..3).filter_map(|path| newest(&all, &forgotten, path)).filter(|entry| entry.state == State::Done);
            prop_assert_eq!(old.len(), done.clone().count());
            prop_assert!(done.into_iter().all(|entry| old.contains(&entry.id)));
            let figures = store.figures();
            let count = |state| all.iter().filter(|entry| entry.state == state).count() as u64;
            prop_assert_eq!((figures.queued, figures.done, figures.dead, figures.cancelled), (count(State::Queued), count(State::Done), count(State::Dead), count(State::Cancelled)));
        }
    }
}
