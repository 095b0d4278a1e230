//! Handling one alert, beside the bare simd-json tape over the same lines.

use divan::{Bencher, counter::BytesCount};
use shipper::{
    alert::Parser,
    synth::{Mix, Synth},
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
