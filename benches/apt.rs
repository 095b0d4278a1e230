//! Events of APT detection: decoded, their features taken, written for the detector; beside the bare simd-json tape
//! over the same lines.

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use shipper::{
    alert::Parser,
    batch::{Draft, DraftPool, Place},
    detect::Event,
    handlers::{self, Record},
    io::Slab,
    limits,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    synth::apt::{
        features::Features,
        simulation::{Settings, Simulation},
    },
};
use simd_json::{Buffers, Tape};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// When the first event was.
const START: u64 = 1_740_823_200_000_000_000;
/// What is measured: events of the simulator, the same with a tab before each so that the tape reads them, messages of
/// ten features of which a third are alerts.
const FORMS: [&str; 3] = ["sim", "sim_by_tape", "features"];

/// Events of one form as slabs, each with the places of its lines.
fn slabs(form: &str) -> Vec<(Vec<u8>, Vec<Place>)> {
    let mut slabs = vec![(Vec::new(), Vec::new())];
    let mut simulation = Simulation::new(Settings::new(1, START));
    let mut features = Features::new(1, true);
    for n in 0..8000 {
        let mut line = match form {
            "sim" => simulation.next().expect("a simulation has no end").json,
            "sim_by_tape" => [&b"\t"[..], &simulation.next().expect("a simulation has no end").json].concat(),
            _ => features.message(START + n * 1_000_000).json,
        };
        line.push(b'\n');
        if slabs.last().is_some_and(|(bytes, _): &(Vec<u8>, _)| bytes.len() + line.len() > limits::SLAB_BYTES) {
            slabs.push((Vec::new(), Vec::new()));
        }
        let (bytes, places) = slabs.last_mut().expect("one was just pushed");
        places.push(Place { start: bytes.len() as u32, len: line.len() as u32 });
        bytes.extend_from_slice(&line);
    }
    slabs
}

fn total(slabs: &[(Vec<u8>, Vec<Place>)]) -> (BytesCount, ItemsCount) {
    let bytes = slabs.iter().map(|(bytes, _)| bytes.len()).sum::<usize>();
    (BytesCount::new(bytes), ItemsCount::new(slabs.iter().map(|(_, places)| places.len()).sum::<usize>()))
}

/// The reference: copy, fill the tape.
#[divan::bench(args = FORMS)]
fn bare_tape(bencher: Bencher<'_, '_>, form: &str) {
    let slabs = slabs(form);
    let (bytes, items) = total(&slabs);
    let (mut buffers, mut scratch) = (Buffers::default(), Vec::new());
    bencher.counter(bytes).counter(items).bench_local(move || {
        let mut tape = Tape::null();
        for (bytes, places) in &slabs {
            for place in places {
                scratch.clear();
                scratch.extend_from_slice(&bytes[place.start as usize..(place.start + place.len - 1) as usize]);
                let mut filled = tape.reset();
                simd_json::fill_tape(&mut scratch, &mut buffers, &mut filled).expect("our own events are JSON");
                tape = filled.reset();
            }
        }
    });
}

/// Ours: nothing is wired, so events are decoded, recognised, their features taken and judged, and nothing is written.
/// A million events of the simulator a second on one core is the bar.
#[divan::bench(args = FORMS)]
fn apt_read(bencher: Bencher<'_, '_>, form: &str) {
    handle(bencher, form, &[None, None]);
}

/// Ours: alerts alone are wired, so features are taken and judged, and little is written.
#[divan::bench(args = FORMS)]
fn apt(bencher: Bencher<'_, '_>, form: &str) {
    handle(bencher, form, &[Some(0), None]);
}

/// Ours: with an event for the detector each.
#[divan::bench(args = FORMS)]
fn apt_event(bencher: Bencher<'_, '_>, form: &str) {
    handle(bencher, form, &[Some(0), Some(1)]);
}

fn handle(bencher: Bencher<'_, '_>, form: &str, routes: &[Option<u8>]) {
    let slabs = slabs(form);
    let (bytes, items) = total(&slabs);
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "apt").expect("the kind is registered");
    let (node, mut errors) = (Node::parse_scalar("{}"), Errors::default());
    let spec = kind.parse(&mut Section::open("handlers.h", &node, kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    let mut handler = spec.build(&shipper::tables::Shelf::default());
    let mut parser = Parser::new();
    let pool = DraftPool::new(slabs.len());
    let drafts = || -> Vec<(Draft, &[Place])> {
        slabs.iter().map(|(bytes, places)| (pool.draft(Slab::from_bytes(bytes.clone())), &places[..])).collect()
    };
    bencher.counter(bytes).counter(items).with_inputs(drafts).bench_local_values(|drafts| {
        for (mut draft, places) in drafts {
            for place in places {
                let origin = Origin { stream: "kafka/apt_topic/0", offset: u64::from(place.start), len: None };
                let (bytes, mut out) = draft.outbox(*place, 0, routes, origin);
                let frame = &bytes[..bytes.len() - 1];
                let record = Record { frame, origin, received: 0, own: false };
                divan::black_box(handler.handle(&record, &mut parser.alert(frame), &mut out));
            }
            divan::black_box(draft.finish(0, Position::Count(1), 0));
        }
    });
}

/// Payloads of events, as stage `detector` reads them, and writes them again.
#[divan::bench(args = FORMS)]
fn event_read(bencher: Bencher<'_, '_>, form: &str) {
    let payloads = payloads(form);
    bencher.counter(ItemsCount::new(payloads.len())).bench_local(|| {
        for payload in &payloads {
            divan::black_box(Event::read(payload).expect("an event"));
        }
    });
}

#[divan::bench(args = FORMS)]
fn event_write(bencher: Bencher<'_, '_>, form: &str) {
    let payloads = payloads(form);
    let events: Vec<_> = payloads.iter().map(|payload| Event::read(payload).expect("an event")).collect();
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(events.len())).bench_local(|| {
        for event in &events {
            out.clear();
            event.write(&mut out);
            divan::black_box(&out);
        }
    });
}

fn payloads(form: &str) -> Vec<Vec<u8>> {
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "apt").expect("the kind is registered");
    let (node, mut errors) = (Node::parse_scalar("{}"), Errors::default());
    let spec = kind.parse(&mut Section::open("handlers.h", &node, kind.fields(), &[], &mut errors));
    let (mut handler, mut parser, mut found) = (spec.build(&shipper::tables::Shelf::default()), Parser::new(), Vec::new());
    for (bytes, places) in slabs(form) {
        let mut draft = Draft::new(Slab::from_bytes(bytes));
        for place in &places {
            let origin = Origin { stream: "kafka/apt_topic/0", offset: 0, len: None };
            let (bytes, mut out) = draft.outbox(*place, 0, &[None, Some(1)], origin);
            let frame = &bytes[..bytes.len() - 1];
            handler.handle(&Record { frame, origin, received: 0, own: false }, &mut parser.alert(frame), &mut out);
        }
        let batch = draft.finish(0, Position::Count(1), 0);
        found.extend(batch.numbers().map(|n| batch.message(n).payload.to_vec()));
    }
    found
}
