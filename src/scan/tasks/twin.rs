//! The core against a naive twin: a list that is searched from its start for everything.

use proptest::prelude::*;

use super::{
    Limits, Nanos,
    core::{Core, Fate, Said},
    decide::{DeadReason, Loss, Next, Tries, lost},
};
use crate::scan::task::{Capability, Priority, TaskId};

const S: Nanos = 1_000_000_000;

fn limits() -> Limits {
    Limits {
        size_max: 6,
        attempts_max: 3,
        poison_max: 2,
        backoff: vec![5 * S, 30 * S],
        lease: 90 * S,
        task_ttl: 200 * S,
        ..Limits::default()
    }
}

/// One task of the twin.
#[derive(Clone, Debug)]
struct Plain {
    id: TaskId,
    priority: u8,
    needs: Vec<Capability>,
    not_before: Nanos,
    attempt: u32,
    refusals: u32,
    deaths: u32,
    timeouts: u32,
    /// Worker, deadline, end of the TTL, started, bytes.
    hold: Option<(String, Nanos, Nanos, bool, Option<String>)>,
}

/// In the order of coming.
#[derive(Default)]
struct Twin {
    tasks: Vec<Plain>,
    takes: u64,
}

impl Twin {
    fn waiting(&self) -> usize {
        self.tasks.iter().filter(|task| task.hold.is_none()).count()
    }
    fn take(&mut self, worker: &str, able: &[Capability], max: usize, is_started: bool, now: Nanos) -> Vec<TaskId> {
        let mut taken = Vec::new();
        for _ in 0..max {
            let mut best: Option<usize> = None;
            for (at, task) in self.tasks.iter().enumerate() {
                let is_fit = task.hold.is_none() && task.not_before <= now && task.needs.iter().all(|need| able.contains(need));
                let is_better = match best {
                    None => true,
                    Some(best) => !(self.takes + 1).is_multiple_of(8) && task.priority > self.tasks[best].priority,
                };
                if is_fit && is_better {
                    best = Some(at);
                }
            }
            let Some(best) = best else { break };
            self.takes += 1;
            let task = &mut self.tasks[best];
            task.hold = Some((worker.into(), now + 90 * S, now + 200 * S, is_started, None));
            if is_started {
                task.attempt += 1;
                task.refusals = 0;
            }
            taken.push(task.id.clone());
        }
        taken
    }
    fn held(&mut self, worker: &str, id: &str, now: Nanos) -> Option<&mut Plain> {
        self.tasks.iter_mut().find(|task| task.id == id && task.hold.as_ref().is_some_and(|hold| hold.0 == worker && hold.1 > now))
    }
    /// The sentences of the specification, one after the other.
    fn lose(&mut self, id: &str, loss: Loss, now: Nanos) -> Next {
        let task = self.tasks.iter_mut().find(|task| task.id == id).unwrap();
        let is_started = task.hold.take().unwrap().3;
        let next = if !is_started && (loss == Loss::Worker || loss == Loss::Refused) {
            task.refusals += 1;
            Next::Again { at: if task.refusals == 1 { now } else { now + S } }
        } else {
            task.refusals = 0;
            task.attempt += u32::from(!is_started);
            task.deaths += u32::from(loss == Loss::Child);
            task.timeouts += u32::from(loss == Loss::Timeout);
            if task.deaths == 2 && loss == Loss::Child {
                Next::Dead(DeadReason::Poison)
            } else if loss == Loss::Timeout && (task.timeouts == 2 || task.attempt == 3) {
                Next::TimedOut
            } else if task.attempt == 3 {
                Next::Dead(DeadReason::Attempts)
            } else {
                Next::Again { at: now + if task.attempt == 1 { 5 * S } else { 30 * S } }
            }
        };
        if let Next::Again { at } = next {
            task.not_before = at;
        } else {
            self.tasks.retain(|task| task.id != id);
        }
        next
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add { priority: u8, needs: bool },
    Take { worker: u8, is_able: bool, max: usize, is_started: bool },
    TakeThis { worker: u8, task: usize },
    Start { worker: u8, task: usize },
    Hand { worker: u8, task: usize },
    Judge { worker: u8, task: usize, sha256: u8, passing: Option<Loss> },
    GiveBack { worker: u8, task: usize, loss: Loss },
    Extend { worker: u8, task: usize },
    Lost { worker: u8 },
    Cancel { task: usize },
    Wait { s: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let worker = 0..3u8;
    let task = 0..12usize;
    let loss = prop::sample::select(vec![Loss::Worker, Loss::Lease, Loss::Refused, Loss::Io, Loss::Changed, Loss::Child, Loss::Timeout]);
    let op = prop_oneof![
        4 => (1..=10u8, prop::bool::weighted(0.2)).prop_map(|(priority, needs)| Op::Add { priority, needs }),
        4 => (worker.clone(), any::<bool>(), 0..3usize, any::<bool>()).prop_map(|(worker, is_able, max, is_started)| Op::Take { worker, is_able, max, is_started }),
        1 => (worker.clone(), task.clone()).prop_map(|(worker, task)| Op::TakeThis { worker, task }),
        3 => (worker.clone(), task.clone()).prop_map(|(worker, task)| Op::Start { worker, task }),
        1 => (worker.clone(), task.clone()).prop_map(|(worker, task)| Op::Hand { worker, task }),
        3 => (worker.clone(), task.clone(), 0..3u8, prop::option::of(prop::sample::select(vec![Loss::Io, Loss::Timeout])))
            .prop_map(|(worker, task, sha256, passing)| Op::Judge { worker, task, sha256, passing }),
        3 => (worker.clone(), task.clone(), loss).prop_map(|(worker, task, loss)| Op::GiveBack { worker, task, loss }),
        1 => (worker.clone(), task.clone()).prop_map(|(worker, task)| Op::Extend { worker, task }),
        1 => worker.prop_map(|worker| Op::Lost { worker }),
        1 => task.prop_map(|task| Op::Cancel { task }),
        2 => prop::sample::select(vec![0, 1, 5, 31, 89, 90, 91, 150]).prop_map(|s| Op::Wait { s }),
    ];
    prop::collection::vec(op, 0..120)
}

const HANDED: &str = "AA";

fn run(ops: &[Op]) {
    let (mut core, mut twin) = (Core::new(limits()), Twin::default());
    let mut now = 1_000 * S;
    let mut made = 0;
    let all = [Capability::FileScan, Capability::YaraAnalysis];
    for op in ops {
        // As the store does before each commit.
        let expired: Vec<_> = core.expire(now);
        let over: Vec<_> =
            twin.tasks.iter().filter(|task| task.hold.as_ref().is_some_and(|hold| hold.1 <= now)).map(|task| task.id.clone()).collect();
        let mut theirs: Vec<_> = over.into_iter().map(|id| (id.clone(), twin.lose(&id, Loss::Lease, now))).collect();
        let mut ours = expired;
        ours.iter().for_each(|(id, next)| settle(&mut core, id, *next));
        ours.sort_by(|a, b| a.0.cmp(&b.0));
        theirs.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(ours, theirs, "leases that are over");
        let name = |worker: &u8| format!("w{worker}");
        let id_of = |twin: &Twin, task: usize| twin.tasks.get(task).map_or("none".to_owned(), |task| task.id.clone());
        match op {
            Op::Add { priority, needs } => {
                assert_eq!(core.is_full(), twin.waiting() >= 6);
                if core.is_full() {
                    continue;
                }
                made += 1;
                let id = format!("t{made:03}");
                let needs = if *needs { vec![Capability::YaraAnalysis] } else { Vec::new() };
                core.add(&id, Priority::new(i64::from(*priority)).unwrap(), needs.clone(), None, now);
                twin.tasks.push(Plain {
                    id,
                    priority: *priority,
                    needs,
                    not_before: 0,
                    attempt: 0,
                    refusals: 0,
                    deaths: 0,
                    timeouts: 0,
                    hold: None,
                });
            }
            Op::Take { worker, is_able, max, is_started } => {
                let able = if *is_able { &all[..] } else { &all[..1] };
                let taken = core.take(&name(worker), able, *max, 90 * S, *is_started, now);
                assert_eq!(taken, twin.take(&name(worker), able, *max, *is_started, now));
            }
            Op::TakeThis { worker, task } => {
                let id = id_of(&twin, *task);
                let found = twin.tasks.iter_mut().find(|task| task.id == id && task.hold.is_none() && task.not_before <= now);
                let is_taken = found.is_some();
                if let Some(task) = found {
                    task.hold = Some((name(worker), now + 90 * S, now + 200 * S, false, None));
                    twin.takes += 1;
                }
                assert_eq!(core.take_this(&id, &name(worker), &all, 90 * S, now), is_taken);
            }
            Op::Start { worker, task } => {
                let id = id_of(&twin, *task);
                let held = twin.held(&name(worker), &id, now);
                let is_held = held.is_some();
                if let Some(task) = held
                    && let Some(hold) = task.hold.as_mut()
                    && !std::mem::replace(&mut hold.3, true)
                {
                    task.attempt += 1;
                    task.refusals = 0;
                }
                assert_eq!(core.start(&name(worker), &id, now), is_held);
            }
            Op::Hand { worker, task } => {
                let id = id_of(&twin, *task);
                let held = twin.held(&name(worker), &id, now);
                assert_eq!(core.handed_out(&name(worker), &id, HANDED), held.is_some());
                if let Some(hold) = held.and_then(|task| task.hold.as_mut()) {
                    hold.4 = Some(HANDED.into());
                }
            }
            Op::Judge { worker, task, sha256, passing } => {
                let id = id_of(&twin, *task);
                let sha256 = ["", "aa", "bb"][usize::from(*sha256)];
                let said = Said { sha256, is_of_bytes: passing.is_none(), passing: *passing };
                let fate = core.judge(&name(worker), &id, said, now);
                let theirs = match twin.held(&name(worker), &id, now).map(|task| task.hold.as_ref().unwrap().4.is_some()) {
                    None => Fate::NoLease,
                    // Of the bytes handed out, or an error before any byte was seen.
                    Some(true) if sha256 == "bb" || (sha256.is_empty() && passing.is_none()) => {
                        Fate::WrongBytes(twin.lose(&id, Loss::WrongBytes, now))
                    }
                    Some(_) => match passing {
                        Some(loss) => Fate::Lost(*loss, twin.lose(&id, *loss, now)),
                        None => Fate::Apply,
                    },
                };
                assert_eq!(fate, theirs);
                match fate {
                    Fate::Apply => {
                        core.end(&id);
                        twin.tasks.retain(|task| task.id != id);
                    }
                    Fate::WrongBytes(next) | Fate::Lost(_, next) => settle(&mut core, &id, next),
                    Fate::NoLease => {}
                }
            }
            Op::GiveBack { worker, task, loss } => {
                let id = id_of(&twin, *task);
                let next = core.give_back(&name(worker), &id, *loss, "", now);
                let theirs = twin.held(&name(worker), &id, now).is_some().then(|| twin.lose(&id, *loss, now));
                assert_eq!(next, theirs);
                if let Some(next) = next {
                    settle(&mut core, &id, next);
                }
            }
            Op::Extend { worker, task } => {
                let id = id_of(&twin, *task);
                let mut extended = Vec::new();
                if let Some(hold) = twin.held(&name(worker), &id, now).and_then(|task| task.hold.as_mut()) {
                    let deadline = (now + 90 * S).min(hold.2);
                    if deadline > hold.1 {
                        hold.1 = deadline;
                        extended.push(id.clone());
                    }
                }
                assert_eq!(core.extend(&name(worker), &[id], now), extended);
            }
            Op::Lost { worker } => {
                let its: Vec<_> = twin
                    .tasks
                    .iter()
                    .filter(|task| task.hold.as_ref().is_some_and(|hold| hold.0 == name(worker)))
                    .map(|task| task.id.clone())
                    .collect();
                let theirs: Vec<_> = its.into_iter().map(|id| (id.clone(), twin.lose(&id, Loss::Worker, now))).collect();
                let ours = core.lost(&name(worker), now);
                ours.iter().for_each(|(id, next)| settle(&mut core, id, *next));
                assert_eq!(ours, theirs);
            }
            Op::Cancel { task } => {
                let id = id_of(&twin, *task);
                assert_eq!(core.end(&id).is_some(), twin.tasks.iter().any(|task| task.id == id));
                twin.tasks.retain(|task| task.id != id);
            }
            Op::Wait { s } => now += s * S,
        }
        agree(&mut core, &twin, now);
    }
    // A restart from the rows changes nothing.
    let mut again = Core::new(limits());
    for task in &twin.tasks {
        again.restore(task.id.clone(), core.get(&task.id).unwrap().clone());
    }
    agree(&mut again, &twin, now);
    again.count_from(&core);
    assert_eq!(again.take("w", &all, 99, 90 * S, false, now + 500 * S), core.take("w", &all, 99, 90 * S, false, now + 500 * S));
}

fn settle(core: &mut Core, id: &str, next: Next) {
    if !matches!(next, Next::Again { .. }) {
        core.end(id);
    }
}

fn agree(core: &mut Core, twin: &Twin, now: Nanos) {
    core.wake(now);
    assert_eq!(core.queued() as usize, twin.waiting());
    assert_eq!(core.leased() as usize, twin.tasks.len() - twin.waiting());
    let ready = twin.tasks.iter().filter(|task| task.hold.is_none() && task.not_before <= now).count();
    assert_eq!(core.ready_count() as usize, ready);
    for worker in ["w0", "w1", "w2"] {
        let held = twin.tasks.iter().filter(|task| task.hold.as_ref().is_some_and(|hold| hold.0 == worker)).count();
        assert_eq!(core.in_flight().get(worker).copied().unwrap_or(0) as usize, held);
    }
    for task in &twin.tasks {
        let live = core.get(&task.id).unwrap();
        assert_eq!((live.tries.attempt, live.tries.deaths, live.tries.timeouts), (task.attempt, task.deaths, task.timeouts));
        assert_eq!(live.hold.as_ref().map(|hold| hold.deadline), task.hold.as_ref().map(|hold| hold.1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_core_does_what_a_list_would(ops in ops()) {
        run(&ops);
    }
}

#[test]
fn a_loss_leads_where_its_table_says() {
    let again = |s: u64| Next::Again { at: 100 * S + s * S };
    let dead = |reason| Next::Dead(reason);
    let tries = |attempt, refusals, deaths, timeouts| Tries { attempt, refusals, deaths, timeouts };
    // Before, loss, started → next, after.
    let table = [
        (tries(0, 0, 0, 0), Loss::Worker, false, again(0), tries(0, 1, 0, 0)),
        (tries(0, 1, 0, 0), Loss::Refused, false, again(1), tries(0, 2, 0, 0)),
        (tries(1, 0, 0, 0), Loss::Worker, true, again(5), tries(1, 0, 0, 0)),
        (tries(2, 0, 0, 0), Loss::Refused, true, again(30), tries(2, 0, 0, 0)),
        (tries(3, 0, 0, 0), Loss::Worker, true, dead(DeadReason::Attempts), tries(3, 0, 0, 0)),
        (tries(0, 0, 0, 0), Loss::Lease, false, again(5), tries(1, 0, 0, 0)),
        (tries(2, 5, 0, 0), Loss::Lease, false, dead(DeadReason::Attempts), tries(3, 0, 0, 0)),
        (tries(1, 0, 0, 0), Loss::Io, true, again(5), tries(1, 0, 0, 0)),
        (tries(3, 0, 0, 0), Loss::Changed, true, dead(DeadReason::Attempts), tries(3, 0, 0, 0)),
        (tries(1, 0, 0, 0), Loss::WrongBytes, true, again(5), tries(1, 0, 0, 0)),
        (tries(1, 0, 0, 0), Loss::Child, true, again(5), tries(1, 0, 1, 0)),
        (tries(2, 0, 1, 0), Loss::Child, true, dead(DeadReason::Poison), tries(2, 0, 2, 0)),
        (tries(3, 0, 1, 0), Loss::Child, true, dead(DeadReason::Poison), tries(3, 0, 2, 0)),
        (tries(1, 0, 0, 0), Loss::Timeout, true, again(5), tries(1, 0, 0, 1)),
        (tries(2, 0, 0, 1), Loss::Timeout, true, Next::TimedOut, tries(2, 0, 0, 2)),
        (tries(3, 0, 0, 0), Loss::Timeout, true, Next::TimedOut, tries(3, 0, 0, 1)),
    ];
    for (before, loss, is_started, next, after) in table {
        let mut tries = before;
        assert_eq!(lost(&mut tries, loss, is_started, &limits(), 100 * S), next, "{before:?} {loss:?} {is_started}");
        assert_eq!(tries, after, "{before:?} {loss:?} {is_started}");
    }
}
