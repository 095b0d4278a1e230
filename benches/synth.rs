//! Making alerts, beside a copy of the same bytes.

use divan::{Bencher, counter::BytesCount};
use shipper::synth::{Mix, Synth};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

const ALERTS: u64 = 2000;

fn fill(synth: &mut Synth, out: &mut Vec<u8>) {
    out.clear();
    for n in 0..ALERTS {
        synth.alert(out, 1_773_465_912_000_000_000 + n * 2_000_000, 60);
    }
}

/// The reference: the bytes, copied.
#[divan::bench]
fn copy(bencher: Bencher<'_, '_>) {
    let (mut made, mut out) = (Vec::new(), Vec::new());
    fill(&mut Synth::new(1, Mix::Natural), &mut made);
    bencher.counter(BytesCount::of_slice(&made)).bench_local(move || {
        out.clear();
        out.extend_from_slice(&made);
        divan::black_box_drop(out.len());
    });
}

#[divan::bench]
fn alerts(bencher: Bencher<'_, '_>) {
    let (mut synth, mut out) = (Synth::new(1, Mix::Natural), Vec::new());
    fill(&mut synth, &mut out);
    let bytes = BytesCount::of_slice(&out);
    bencher.counter(bytes).bench_local(move || fill(&mut synth, &mut out));
}
