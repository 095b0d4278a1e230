//! Sigma rules against events: those that set off a rule, those that set off none, and those of a log that no rule is for,
//! beside the bare simd-json tape over the same lines.
//!
//! Rules and events of the corpus (`SHIPPER_CORPUS`, default `../shared/corpus`) where they are there, else our own few.

#![allow(clippy::disallowed_methods, reason = "a bench reads what it measures")]

use std::{fs, io::Read, path::PathBuf, sync::Arc};

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use shipper::{
    alert::Parser,
    batch::{Draft, Place},
    handlers::{self, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    tables::{
        Shelf,
        sigma::{Builder, Rules},
    },
};
use simd_json::{Buffers, Tape};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

fn ours(name: &str) -> String {
    fs::read_to_string(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sigma")).join(name)).expect("it is in the checkout")
}

fn corpus(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("SHIPPER_CORPUS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus")), PathBuf::from);
    fs::read(folder.join("apt").join(name)).ok()
}

fn rules() -> Rules {
    let mut builder = Builder::default();
    match corpus("sigma_rules.yml.gz") {
        Some(packed) => {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("gzip");
            builder.add("corpus", &text);
        }
        None => {
            let names = ["encoded_powershell", "certutil_download", "run_key", "copied_interpreter"];
            names.iter().for_each(|name| builder.add(name, &ours(&format!("rules/windows/{name}.yml"))));
        }
    }
    builder.build().0
}

/// Names of the events that are measured.
const EVENTS: [&str; 3] = ["matching", "quiet", "foreign"];

/// Lines: events that set off a rule; the same with nothing that a rule looks for; and of another log.
fn lines(kind: &str) -> Vec<Vec<u8>> {
    let events = corpus("sigma_events.jsonl").map_or_else(|| ours("events.jsonl"), |bytes| String::from_utf8(bytes).expect("UTF-8"));
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["event"].take());
    let line = |mut event: serde_json::Value| {
        match kind {
            "quiet" => {
                for (name, value) in event["Event"]["EventData"].as_object_mut().into_iter().flatten() {
                    if value.is_string() && name != "UtcTime" {
                        *value = format!("{:x<width$}", "", width = value.as_str().map_or(0, str::len)).into();
                    }
                }
            }
            "foreign" => event["Event"]["System"]["Channel"] = "Some-Product/Operational".into(),
            _ => {}
        }
        event.to_string().into_bytes()
    };
    events.map(line).collect()
}

fn total(lines: &[Vec<u8>]) -> (BytesCount, ItemsCount) {
    (BytesCount::new(lines.iter().map(Vec::len).sum::<usize>()), ItemsCount::new(lines.len()))
}

/// The reference: copy, fill the tape.
#[divan::bench(args = EVENTS)]
fn bare_tape(bencher: Bencher<'_, '_>, kind: &str) {
    let lines = lines(kind);
    let (bytes, items) = total(&lines);
    let (mut buffers, mut scratch) = (Buffers::default(), Vec::new());
    bencher.counter(bytes).counter(items).bench_local(move || {
        let mut tape = Tape::null();
        for line in &lines {
            scratch.clear();
            scratch.extend_from_slice(line);
            let mut filled = tape.reset();
            simd_json::fill_tape(&mut scratch, &mut buffers, &mut filled).expect("events are JSON");
            tape = filled.reset();
        }
    });
}

/// Ours: handler `sigma` with both outputs wired.
#[divan::bench(args = EVENTS)]
fn sigma(bencher: Bencher<'_, '_>, kind: &str) {
    let lines = lines(kind);
    let (bytes, items) = total(&lines);
    let mut shelf = Shelf::default();
    shelf.place::<Rules>("rules");
    shelf.of::<Rules>("rules").expect("it was placed").put(Arc::new(rules()));
    let handler = handlers::ALL.iter().find(|kind| kind.name() == "sigma").expect("the kind is registered");
    let mut errors = Errors::default();
    let settings = Node::parse_toml("rules = 'rules'\n").expect("TOML");
    let spec = handler.parse(&mut Section::open("handlers.h", &settings, handler.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    let mut handler = spec.build(&shelf);
    let mut parser = Parser::new();
    bencher.counter(bytes).counter(items).bench_local(move || {
        for line in &lines {
            let origin = Origin { stream: "kafka/events/0", offset: 1, len: None };
            let mut draft = Draft::new(Slab::from_bytes(line.clone()));
            let place = Place { start: 0, len: line.len() as u32 };
            let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1)], origin);
            let record = Record { frame: line, origin, received: 0, own: false };
            divan::black_box(handler.handle(&record, &mut parser.alert(line), &mut out));
            divan::black_box(draft.finish(0, Position::Count(1), 0));
        }
    });
}
