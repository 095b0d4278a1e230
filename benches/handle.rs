//! Handling one alert, beside the bare simd-json tape over the same lines.

use std::sync::Arc;

use divan::{Bencher, counter::BytesCount};
use shipper::{
    alert::Parser,
    batch::{Draft, DraftPool, Place},
    handlers::{self, Record},
    io::Slab,
    limits,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    synth::{Mix, Synth},
    tables::{
        self, Attribute, Filter, Indicator, Indicators, Shelf,
        build::{Builder, InMemory},
        changes::Changes,
    },
};
use simd_json::{Buffers, Tape};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Names of the mixes that are measured.
const MIXES: [&str; 2] = ["natural", "windows"];

fn lines(mix: &str) -> Vec<Vec<u8>> {
    let mix = Mix::ALL.iter().find(|(name, _)| *name == mix).map_or(Mix::Natural, |(_, mix)| *mix);
    let mut synth = Synth::new(1, mix);
    let line = |n: u64| {
        let mut line = Vec::new();
        synth.alert(&mut line, 1_773_465_912_000_000_000 + n * 2_000_000, 60);
        line.pop();
        line
    };
    (0..2000).map(line).collect()
}

fn total(lines: &[Vec<u8>]) -> BytesCount {
    BytesCount::new(lines.iter().map(Vec::len).sum::<usize>())
}

/// The reference: copy, fill the tape.
#[divan::bench(args = MIXES)]
fn bare_tape(bencher: Bencher<'_, '_>, mix: &str) {
    let lines = lines(mix);
    let (mut buffers, mut scratch) = (Buffers::default(), Vec::new());
    bencher.counter(total(&lines)).bench_local(move || {
        let mut tape = Tape::null();
        for line in &lines {
            scratch.clear();
            scratch.extend_from_slice(line);
            let mut filled = tape.reset();
            simd_json::fill_tape(&mut scratch, &mut buffers, &mut filled).expect("our own alerts are JSON");
            tape = filled.reset();
        }
    });
}

/// Ours: the same through the parser, with its checks.
#[divan::bench(args = MIXES)]
fn parse(bencher: Bencher<'_, '_>, mix: &str) {
    let lines = lines(mix);
    let mut parser = Parser::new();
    bencher.counter(total(&lines)).bench_local(move || {
        for line in &lines {
            assert!(parser.alert(line).root().is_ok());
        }
    });
}

/// The same lines as slabs, each with the places of its frames.
fn slabs(lines: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<Place>)> {
    let mut slabs = vec![(Vec::new(), Vec::new())];
    for line in lines {
        if slabs.last().is_some_and(|(bytes, _)| bytes.len() + line.len() >= limits::SLAB_BYTES) {
            slabs.push((Vec::new(), Vec::new()));
        }
        let (bytes, places) = slabs.last_mut().expect("one was just pushed");
        places.push(Place { start: bytes.len() as u32, len: line.len() as u32 + 1 });
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    slabs
}

/// Ours: `dfn` with both outputs wired and the probe off, into batches.
#[divan::bench(args = MIXES)]
fn dfn(bencher: Bencher<'_, '_>, mix: &str) {
    handle(bencher, mix, "dfn", "", &Shelf::default());
}

/// Ours: `ioc`, which looks at every text of every alert.
#[divan::bench(args = MIXES)]
fn ioc(bencher: Bencher<'_, '_>, mix: &str) {
    handle(bencher, mix, "ioc", "", &Shelf::default());
}

/// Ours: the same, each indicator asked for in a filter of a million others.
#[divan::bench(args = MIXES)]
fn ioc_known(bencher: Bencher<'_, '_>, mix: &str) {
    let mut builder = Builder::new(InMemory::default());
    for n in 0..1_000_000 {
        let bare = Attribute::bare(Indicator::Text(format!("n{n}.evil.example.com")), tables::Kind::Domain);
        builder.add(&bare).expect("memory").expect("an indicator");
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes, std::io::sink(), 0, &mut |_| ()).expect("memory");
    let mut shelf = Shelf::default();
    shelf.place::<Indicators>("known");
    let filter = Filter::parse(bytes).expect("as it was written");
    shelf.of("known").expect("it was placed").put(Arc::new(Indicators::new(filter, &Changes::default())));
    handle(bencher, mix, "ioc", "indicators = \"known\"", &shelf);
}

fn handle(bencher: Bencher<'_, '_>, mix: &str, name: &str, settings: &str, tables: &Shelf) {
    let lines = lines(mix);
    let slabs = slabs(&lines);
    let kind = handlers::ALL.iter().find(|kind| kind.name() == name).expect("the kind is registered");
    let mut errors = Errors::default();
    let spec = kind.parse(&mut Section::open("handlers.h", &Node::parse_toml(settings).expect("TOML"), kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    let mut handler = spec.build(tables);
    let mut parser = Parser::new();
    let pool = DraftPool::new(slabs.len());
    let drafts = || -> Vec<(Draft, &[Place])> {
        slabs.iter().map(|(bytes, places)| (pool.draft(Slab::from_bytes(bytes.clone())), &places[..])).collect()
    };
    bencher.counter(total(&lines)).with_inputs(drafts).bench_local_values(|drafts| {
        for (mut draft, places) in drafts {
            for place in places {
                let origin = Origin { stream: "mgr-1/alerts/2026-03-14/000", offset: u64::from(place.start), len: Some(place.len) };
                let (bytes, mut out) = draft.outbox(*place, 0, &[Some(0), Some(1)], origin);
                let frame = &bytes[..bytes.len() - 1];
                let record = Record { frame, origin, received: 0, own: false };
                divan::black_box(handler.handle(&record, &mut parser.alert(frame), &mut out));
            }
            divan::black_box(draft.finish(0, Position::Count(1), 0));
        }
    });
}
