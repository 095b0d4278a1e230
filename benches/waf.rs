//! Scoring one event of a web application firewall, beside the bare simd-json tape over the same lines.

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use shipper::{
    alert::Parser,
    batch::{Draft, DraftPool, Place},
    handlers::{self, Record},
    io::Slab,
    limits,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    synth::firewall::{Events, Form},
};
use simd_json::{Buffers, Tape};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Names of the forms that are measured.
const FORMS: [&str; 2] = ["short", "modsecurity"];

/// Events of one form as slabs, each with the places of its lines.
fn slabs(form: &str) -> Vec<(Vec<u8>, Vec<Place>)> {
    let form = Form::ALL.iter().find(|(name, _)| *name == form).map_or(Form::Short, |(_, form)| *form);
    let (mut events, mut slabs) = (Events::new(form, 10_000), vec![(Vec::new(), Vec::new())]);
    for n in 0..4000 {
        let mut line = Vec::new();
        events.event(&mut line, 1_773_465_912_000_000_000 + n * 2_000_000);
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

/// Ours: `waf` with both outputs wired, into batches.
#[divan::bench(args = FORMS)]
fn waf(bencher: Bencher<'_, '_>, form: &str) {
    score(bencher, form, "");
}

/// Ours: two points an event, addresses masked.
#[divan::bench(args = FORMS)]
fn waf_upstream(bencher: Bencher<'_, '_>, form: &str) {
    score(bencher, form, "layout = 'upstream'\nmask_ip = 'truncate'\nuri = 'redact'");
}

fn score(bencher: Bencher<'_, '_>, form: &str, settings: &str) {
    let slabs = slabs(form);
    let (bytes, items) = total(&slabs);
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "waf").expect("the kind is registered");
    let mut errors = Errors::default();
    let spec = kind.parse(&mut Section::open("handlers.h", &Node::parse_toml(settings).expect("TOML"), kind.fields(), &[], &mut errors));
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
                let origin = Origin { stream: "file/waf/1", offset: u64::from(place.start), len: Some(place.len) };
                let (bytes, mut out) = draft.outbox(*place, 0, &[Some(0), Some(1)], origin);
                let frame = &bytes[..bytes.len() - 1];
                let record = Record { frame, origin, received: 0, own: false };
                divan::black_box(handler.handle(&record, &mut parser.alert(frame), &mut out));
            }
            divan::black_box(draft.finish(0, Position::Count(1), 0));
        }
    });
}
