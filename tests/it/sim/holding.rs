//! A stage whose memory must survive: the windows of a detector, over kills at any call.
//!
//! Its twin is a detector that is shown every line once, in order, by nobody who could be killed. What the agent tells of
//! windows, over all its lives, must be what the twin tells: none more, none less, and of one window never two things.
//! That the same may come twice is what at least once means; receivers know it by its id.

use std::collections::{BTreeMap, BTreeSet};

use shipper::{
    batch::DraftPool,
    framing::whole_frames,
    io::Slab,
    position::Position,
    sources::{At, Chunk, ChunkKind},
    stages::{Late, Now, Out},
    topology::handle::Desk,
};

use super::{
    judge::{Address, origin_of},
    world::Dated,
    *,
};

/// The stage: windows so short that many close, told of as soon as there is a score; nothing of it goes by the wall clock.
pub(super) const CONFIG: &str = "wazuh_alert_level = 0\n[stages.windows]\nkind = \"detector\"\ninputs = [\"all.event\"]\n\
    window = \"1s\"\nallowed_lateness = \"1s\"\nidle_close = \"10h\"\nthreshold = \"0.5\"\nalert_budget_per_day = 0\nsnapshot_every = \"1s\"\n";

/// The stage's outputs by the sinks that take them.
const SINKS: [&str; 2] = ["windows", "windows_window"];

/// Windows enough for scores. Those of the last seconds stay open: no later event closes them, and nobody stops the agent kindly.
fn day() -> Scenario {
    let short = short_day(&["held"]);
    Scenario { habits: Habits { lines: 400, pause_ms: 4000, ..short.habits.clone() }, midnight: 30, message_bytes_max: 1 << 20, ..short }
}

/// What a detector tells that sees all lines: alerts, and rows of windows.
///
/// - `is_before`: of a file that was finished when the agent first began; what it holds is never read.
fn twin(plan: &Plan, world: &World, is_before: impl Fn(&Dated) -> bool) -> [BTreeSet<String>; 2] {
    let branches = plan.branches_of(0).map(|handler| (handler.spec.build(&plan.shelf), handler.routes.clone())).collect::<Vec<_>>();
    let from = vec![0; branches.len()];
    let mut desk = Desk::new(branches, DraftPool::new(1), true);
    let [stage_plan] = &plan.stages[..] else { panic!("one stage") };
    let mut stage = stage_plan.spec.build(&plan.shelf);
    let now = Now { mono: 0, wall: u64::MAX / 2 };
    let (mut out, mut late) = (Out::default(), Late::default());
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    for (file, dated) in world.dated.iter().filter(|(_, dated)| !dated.segment.is_empty() && !is_before(dated)) {
        files.push((&dated.segment, world.files.content_of(*file)));
    }
    files.sort();
    for (segment, content) in files {
        let origin = format!("mgr-1/alerts/{segment}");
        let number = Address::parse(&format!("{origin}/0+0")).number;
        let at = At::File { origin: origin.into(), segment: number, incarnation: 0, offset: 0 };
        let slab = Slab::from_bytes(content[..whole_frames(&content)].to_vec());
        let chunk = Chunk { slab, at, kind: ChunkKind::Lines, received: 0, own: false, rung: None };
        let batch = desk.handle(chunk, &from).0.draft.finish(0, Position::Count(0), 0);
        for n in batch.numbers().filter(|n| stage_plan.inputs >> batch.message(*n).output & 1 == 1) {
            stage.take(&batch.message(n), now, &mut out);
            while stage.due() == Some(0) {
                stage.tick(now, &mut late);
            }
        }
    }
    let mut told = [BTreeSet::new(), BTreeSet::new()];
    for message in late.messages {
        told[message.output].insert(String::from_utf8(message.payload).unwrap());
    }
    told
}

/// What a message is about: an alert's id, or entity, window and part.
fn subject(payload: &str) -> String {
    let message: serde_json::Value = serde_json::from_str(payload).unwrap();
    if message["id"].is_string() {
        return message["id"].to_string();
    }
    format!("{} {} {}", message["entity"], message["time_window"], message["part"])
}

/// Runs it; gives how much came again, and how many lives went on from a snapshot.
fn run(scenario: Scenario) -> (usize, u32) {
    let mut sim = Sim::new(scenario, false, false);
    for fate in sim.scenario.fates.clone() {
        sim.live_and_die(fate);
    }
    sim.finish();
    let said = SINKS.map(|sink| sim.topics.iter().find(|topic| topic.sink == sink).unwrap().cluster.accepted().concat());
    let first = said.iter().flatten().map(|message| Address::parse(&origin_of(message)).segment).min();
    let is_before = |dated: &Dated| sim.judge.is_before(dated, first.as_ref());
    let expected = twin(&sim.plan, &sim.world.borrow(), is_before);
    assert!(expected[0].len() > 30 && expected[1].len() > 100, "{} alerts, {} windows", expected[0].len(), expected[1].len());
    let mut repeats = 0;
    for ((sink, all), expected) in SINKS.iter().zip(said).zip(expected) {
        let all: Vec<String> = all.into_iter().map(|message| String::from_utf8(message.payload).unwrap()).collect();
        let told: BTreeSet<String> = all.iter().cloned().collect();
        let lost: Vec<_> = expected.difference(&told).take(3).collect();
        let invented: Vec<_> = told.difference(&expected).take(3).collect();
        assert!(lost.is_empty() && invented.is_empty(), "{sink}: lost {lost:#?}, invented {invented:#?}");
        let mut of: BTreeMap<String, &String> = BTreeMap::new();
        for payload in &told {
            assert_eq!(of.insert(subject(payload), payload), None, "{sink}: two things are told of one window");
        }
        repeats += all.len() - told.len();
    }
    (repeats, sim.with_snapshots)
}

#[test]
fn windows_and_their_alerts_are_the_same_whenever_the_agent_is_killed() {
    assert_eq!(run(day()), (0, 0), "nobody kills it: nothing comes again");
    let calls = calls_of(day()).min(CALLS);
    assert!(calls > 200, "only {calls} calls");
    let (mut repeats, mut with_snapshots) = (0, 0);
    for call in (1..=calls).step_by(7) {
        // Twice: the second life ends where it may have just loaded what the first one saved.
        let fate = |calls| Fate { stops: false, calls: Some(calls), after: REST / 60, power: false, pause: Duration::from_millis(300) };
        let scenario = Scenario { fates: vec![fate(call), fate(1 + call % 60)], ..day() };
        match std::panic::catch_unwind(|| run(scenario)) {
            Ok((again, snapshots)) => (repeats, with_snapshots) = (repeats + again, with_snapshots + snapshots),
            Err(panic) => {
                eprintln!("a kill at call {call} fails");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{calls} calls; {repeats} messages came again, {with_snapshots} lives began with a snapshot");
    assert!(repeats > 0 && with_snapshots > 0, "{repeats} came again, {with_snapshots} lives began with a snapshot");
}
