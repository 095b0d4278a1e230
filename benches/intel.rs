//! What indicators cost to find, in the texts that cost most and in the slowest golden vectors, beside
//! one look at the same bytes. The bar is 20 ms for every vector.

use std::path::PathBuf;

use divan::{Bencher, counter::BytesCount};
use shipper::{
    alert::Parser,
    batch::{DraftPool, Place},
    handlers::{self, Handler, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// What is repeated, by name.
const RUNS: [(&str, &str); 12] = [
    ("dotted digits", "1."),
    ("dotted letters", "a."),
    ("dots", "."),
    ("addresses", "5.1.1.1 "),
    ("names", "a.top "),
    ("urls", "http://a.top/ "),
    ("nested urls", "http://1.1.1.1/+"),
    ("e-mail", "x@a.top "),
    ("defanged", "a[.]top "),
    ("beyond ascii", "é.top "),
    ("hex", "0123456789abcdef"),
    ("words", "the quick brown fox "),
];
const SIZES: [(&str, usize); 2] = [("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];

/// Names of the alerts that are measured: runs of each size, and the longest golden vectors.
fn alerts() -> Vec<String> {
    let runs = SIZES.iter().flat_map(|(size, _)| RUNS.iter().map(move |(run, _)| format!("{size} of {run}")));
    runs.chain(vectors().into_iter().map(|(name, _)| format!("vector {name}"))).collect()
}

/// The longest golden vectors, longest first; none where they are not there, which is told.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let folder = std::env::var_os("SHIPPER_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors")), PathBuf::from);
    let path = folder.join("misp.jsonl");
    #[allow(clippy::disallowed_methods, reason = "a bench reads what it measures")]
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("no golden vectors are measured: cannot read {}", path.display());
        return Vec::new();
    };
    let mut all: Vec<(String, Vec<u8>)> = text
        .lines()
        .map(|line| {
            let vector: serde_json::Value = serde_json::from_str(line).expect("a vector a line");
            let alert = vector["alert"].as_str().map_or_else(|| vector["alert"].to_string(), str::to_owned);
            (vector["name"].as_str().expect("a name").to_owned(), alert.into_bytes())
        })
        .collect();
    all.sort_by_key(|(_, alert)| std::cmp::Reverse(alert.len()));
    all.truncate(4);
    all
}

fn alert(name: &str) -> Vec<u8> {
    if let Some(vector) = name.strip_prefix("vector ") {
        return vectors().into_iter().find(|(name, _)| name == vector).expect("it was there").1;
    }
    let (size, run) = name.split_once(" of ").expect("a size and a run");
    let size = SIZES.iter().find(|(name, _)| *name == size).expect("a size").1;
    let run = RUNS.iter().find(|(name, _)| *name == run).expect("a run").1;
    format!("{{\"id\":\"1.1\",\"full_log\":\"{} 45.155.205.233\"}}", run.repeat(size / run.len())).into_bytes()
}

/// The reference: is it UTF-8, and how many dots has it.
#[divan::bench(args = alerts())]
fn one_look(bencher: Bencher<'_, '_>, name: &str) {
    let alert = alert(name);
    bencher.counter(BytesCount::new(alert.len())).bench_local(|| {
        let text = std::str::from_utf8(divan::black_box(&alert)).expect("our own alerts are text");
        memchr::memchr_iter(b'.', text.as_bytes()).count()
    });
}

/// Ours: the handler over the alert, its parse and its message included.
#[divan::bench(args = alerts())]
fn ioc(bencher: Bencher<'_, '_>, name: &str) {
    let alert = alert(name);
    let mut handler = build();
    let (mut parser, pool) = (Parser::new(), DraftPool::new(1));
    let place = Place { start: 0, len: u32::try_from(alert.len()).expect("a MiB") };
    let origin = Origin { stream: "mgr-1/alerts/2026-03-14/000", offset: 0, len: Some(place.len) };
    bencher.counter(BytesCount::new(alert.len())).with_inputs(|| pool.draft(Slab::from_bytes(alert.clone()))).bench_local_values(
        |mut draft| {
            let (frame, mut out) = draft.outbox(place, 0, &[Some(0)], origin);
            let record = Record { frame, origin, received: 0, own: false };
            divan::black_box(handler.handle(&record, &mut parser.alert(frame), &mut out));
            draft.finish(0, Position::Count(1), 0)
        },
    );
}

fn build() -> Box<dyn Handler> {
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "ioc").expect("the kind is registered");
    let mut errors = Errors::default();
    let spec = kind.parse(&mut Section::open("handlers.h", &Node::parse_scalar("{}"), kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    spec.build(&shipper::tables::Shelf::default())
}
