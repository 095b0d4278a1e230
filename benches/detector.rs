//! Events through handler `apt` and stage `detector`, with their alerts, on one core; windows through the forest; and
//! what a hundred thousand entities take.

#![allow(clippy::disallowed_methods, reason = "measures real time and memory")]

use divan::{Bencher, counter::ItemsCount};
use shipper::{
    alert::Parser,
    batch::{Batch, Draft, DraftPool, Place},
    detect::{forest::Forest, oif::OnlineForest, seed::Chance},
    handlers::{self, Handler, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    stages::{self, Late, Now, Out, Stage},
    tables::Shelf,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    memory();
    divan::main();
}

const NOW: Now = Now { mono: 0, wall: 1_900_000_000_000_000_000 };
const START: u64 = 1_740_823_200;

/// One event of the simulator as it stands on Kafka.
///
/// - `n`: the how manieth; ten of them a second.
fn line(out: &mut Vec<u8>, chance: &mut Chance, n: u64, entities: u64) {
    let ms = START * 1000 + n * 100;
    let time = jiff::Timestamp::from_millisecond(ms as i64).expect("a time");
    let host = chance.below(entities);
    let body = match chance.below(4) {
        0 => format!(
            "\"event_type\":\"network_connection\",\"source_ip\":\"10.0.0.{}\",\"destination_ip\":\"192.0.2.7\",\"destination_port\":{},\"protocol\":\"tcp\",\"bytes_sent\":{},\"bytes_received\":812,\"connection_duration\":12",
            host % 250,
            [80, 443, 22][chance.below(3) as usize],
            chance.below(4000)
        ),
        1 => "\"event_type\":\"process\",\"process_name\":\"chrome.exe\",\"process_id\":4711,\"command_line\":\"chrome.exe --type=renderer\",\"action\":\"started\",\"user\":\"user7\"".into(),
        2 => "\"event_type\":\"authentication\",\"authentication_status\":\"success\",\"user\":\"user7\",\"source_ip\":\"10.0.0.9\"".into(),
        _ => "\"event_type\":\"file\",\"file_path\":\"/home/user7/report.docx\",\"action\":\"modified\",\"file_size\":18231,\"user\":\"user7\"".into(),
    };
    out.extend_from_slice(
        format!(
            "{{\"timestamp\":\"{time}\",\"source\":{{\"type\":\"simulation\",\"name\":\"endpoint\"}},\"severity\":\"Low\",\"is_simulated\":true,\"entity\":\"host{host}\",\"entity_type\":\"host\",{body}}}\n"
        )
        .as_bytes(),
    );
}

/// Slabs of events with the places of their lines.
fn slabs(events: u64, entities: u64) -> Vec<(Vec<u8>, Vec<Place>)> {
    let (mut chance, mut slabs) = (Chance(7), Vec::new());
    for n in 0..events {
        if n % 500 == 0 {
            slabs.push((Vec::new(), Vec::new()));
        }
        let (bytes, places): &mut (Vec<u8>, Vec<Place>) = slabs.last_mut().expect("one was just pushed");
        let start = bytes.len();
        line(bytes, &mut chance, n, entities);
        places.push(Place { start: start as u32, len: (bytes.len() - start) as u32 });
    }
    slabs
}

fn handler() -> Box<dyn Handler> {
    let (kind, mut errors) = (handlers::ALL.iter().find(|kind| kind.name() == "apt").expect("registered"), Errors::default());
    let spec = kind.parse(&mut Section::open("handlers.h", &Node::parse_toml("").expect("TOML"), kind.fields(), &[], &mut errors));
    spec.build(&Shelf::default())
}

fn stage() -> Box<dyn Stage> {
    let (kind, mut errors) = (stages::ALL.iter().find(|kind| kind.name() == "detector").expect("registered"), Errors::default());
    let spec = kind.parse(&mut Section::open("stages.d", &Node::parse_toml("").expect("TOML"), kind.fields(), &[], &mut errors));
    spec.build(&Shelf::default())
}

/// Handles a slab's lines into a batch.
fn handled(handler: &mut dyn Handler, parser: &mut Parser, mut draft: Draft, places: &[Place], at: u64) -> Batch {
    for place in places {
        let origin = Origin { stream: "kafka/apt_topic/0", offset: at + u64::from(place.start), len: None };
        let (bytes, mut out) = draft.outbox(*place, 0, &[Some(0), Some(1)], origin);
        let frame = &bytes[..bytes.len() - 1];
        let record = Record { frame, origin, received: 0, own: false };
        divan::black_box(handler.handle(&record, &mut parser.alert(frame), &mut out));
    }
    draft.finish(0, Position::Count(1), 0)
}

/// Shows a batch to the stage as a home does; gives the bytes that come out.
fn staged(stage: &mut dyn Stage, batch: &Batch, out: &mut Out) -> usize {
    let mut bytes = 0;
    for n in batch.numbers().filter(|n| batch.message(*n).output == 1) {
        out.clear();
        stage.take(&batch.message(n), NOW, out);
        bytes += out.made().map(|(_, _, payload)| payload.len()).sum::<usize>();
    }
    while stage.due() == Some(0) {
        let mut late = Late::default();
        stage.tick(NOW, &mut late);
        bytes += late.messages.iter().map(|message| message.payload.len()).sum::<usize>();
    }
    bytes
}

const EVENTS: u64 = 100_000;

fn drafts(slabs: &[(Vec<u8>, Vec<Place>)]) -> Vec<(Draft, &[Place])> {
    let pool = DraftPool::new(slabs.len());
    slabs.iter().map(|(bytes, places)| (pool.draft(Slab::from_bytes(bytes.clone())), &places[..])).collect()
}

/// Decode, handler, detector, alerts: all of it.
#[divan::bench(args = [100, 10_000], sample_count = 10)]
fn events_whole(bencher: Bencher<'_, '_>, entities: u64) {
    let slabs = slabs(EVENTS, entities);
    let (mut handler, mut parser) = (handler(), Parser::new());
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(|| (drafts(&slabs), stage(), Out::default())).bench_local_values(
        |(drafts, mut stage, mut out)| {
            for (n, (draft, places)) in drafts.into_iter().enumerate() {
                let batch = handled(&mut *handler, &mut parser, draft, places, (n as u64) << 20);
                divan::black_box(staged(&mut *stage, &batch, &mut out));
            }
        },
    );
}

/// The detector alone.
#[divan::bench(args = [100, 10_000], sample_count = 10)]
fn events_detector(bencher: Bencher<'_, '_>, entities: u64) {
    let slabs = slabs(EVENTS, entities);
    let (mut handler, mut parser) = (handler(), Parser::new());
    let batches: Vec<Batch> = drafts(&slabs)
        .into_iter()
        .enumerate()
        .map(|(n, (draft, places))| handled(&mut *handler, &mut parser, draft, places, (n as u64) << 20))
        .collect();
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| (stage(), Out::default()))
        .bench_local_values(|(mut stage, mut out)| batches.iter().map(|batch| staged(&mut *stage, batch, &mut out)).sum::<usize>());
}

fn vectors() -> Vec<[f32; 8]> {
    let mut chance = Chance(3);
    (0..2000).map(|_| std::array::from_fn(|_| (0..4).map(|_| chance.unit()).sum::<f64>() as f32)).collect()
}

/// A window's score, learnt afterwards.
#[divan::bench]
fn windows_rcf(bencher: Bencher<'_, '_>) {
    let (vectors, mut forest) = (vectors(), Forest::new(8, 1));
    (0..10).flat_map(|_| &vectors).for_each(|vector| forest.learn(vector, 1.4e-5));
    bencher.counter(ItemsCount::new(vectors.len())).bench_local(|| {
        let mut sum = 0.0;
        for vector in &vectors {
            sum += forest.score(vector);
            forest.learn(vector, 1.4e-5);
        }
        sum
    });
}

#[divan::bench]
fn windows_oif(bencher: Bencher<'_, '_>) {
    let (vectors, mut forest) = (vectors(), OnlineForest::new(8, 1));
    (0..3).flat_map(|_| &vectors).for_each(|vector| forest.learn(vector));
    bencher.counter(ItemsCount::new(vectors.len())).bench_local(|| {
        let mut sum = 0.0;
        for vector in &vectors {
            sum += forest.score(vector);
            forest.learn(vector);
        }
        sum
    });
}

/// Bytes of memory that are resident.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// What a hundred thousand entities take, each with windows behind it and one that is open.
fn memory() {
    let before = resident();
    let (mut stage, mut out, entities) = (stage(), Out::default(), 100_000);
    let (mut handler, mut parser) = (handler(), Parser::new());
    let mut n = 0;
    for round in 0..4 {
        let mut chance = Chance(round);
        for first in (0..entities * 5).step_by(500) {
            let (mut bytes, mut places) = (Vec::new(), Vec::new());
            for _ in first..first + 500 {
                let start = bytes.len();
                // Six hours apart.
                line(&mut bytes, &mut chance, n / 100 + round * 216_000, entities);
                places.push(Place { start: start as u32, len: (bytes.len() - start) as u32 });
                n += 1;
            }
            let batch = handled(&mut *handler, &mut parser, Draft::new(Slab::from_bytes(bytes)), &places, n << 20);
            staged(&mut *stage, &batch, &mut out);
        }
    }
    let resident = resident() - before;
    let begun = std::time::Instant::now();
    let saved = stage.save(NOW).unwrap_or_default();
    let took = begun.elapsed();
    let begun = std::time::Instant::now();
    let mut other = self::stage();
    let loaded = other.load(&saved, NOW);
    println!(
        "{} entities, {n} events: {:.0} MB resident, snapshot {:.1} MB saved in {:.0} ms, loaded in {:.0} ms ({loaded:?})",
        stage.entries(),
        resident as f64 / 1e6,
        saved.len() as f64 / 1e6,
        took.as_secs_f64() * 1e3,
        begun.elapsed().as_secs_f64() * 1e3
    );
}
