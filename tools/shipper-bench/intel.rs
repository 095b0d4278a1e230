//! `intel`: what the indicator tables cost to build, to hold and to ask, beside a plain set.

use std::{
    collections::HashSet,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use argh::FromArgs;
use serde::Serialize;
use shipper::{
    io::disk::RealDisk,
    store::intel::{Import, Tables},
    tables::{Attribute, Hit, Indicator, Kind, Uuid},
};

use crate::size;

/// builds indicator tables of synthetic attributes and asks them; then a plain set of texts
#[derive(FromArgs)]
#[argh(subcommand, name = "intel")]
pub struct Intel {
    /// attributes
    #[argh(option, from_str_fn(size::number), default = "1_000_000")]
    count: u64,
    /// values of the plain set, which holds them all in memory
    #[argh(option, from_str_fn(size::number), default = "500_000")]
    plain: u64,
    /// questions of each sort
    #[argh(option, from_str_fn(size::number), default = "1_000_000")]
    probes: u64,
    /// folder for the tables, about 150 bytes an attribute twice over; removed at the end (default: one in the folder for temporary files)
    #[argh(option)]
    dir: Option<PathBuf>,
    /// print the figures as JSON
    #[argh(switch)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    attributes: u64,
    indicators: u64,
    build_seconds: f64,
    attributes_per_second: f64,
    /// MiB of memory in use before anything.
    base_mib: f64,
    /// MiB more at the peak of building.
    build_peak_mib: f64,
    /// MiB more at the peak of loading and asking.
    load_peak_mib: f64,
    load_seconds: f64,
    filter_mib: f64,
    disk_mib: f64,
    hit_ns: f64,
    miss_ns: f64,
    false_negatives: u64,
    false_positive_rate: f64,
    mirror_us: f64,
    plain_values: u64,
    plain_mib: f64,
    plain_hit_ns: f64,
    plain_miss_ns: f64,
}

/// A value that repeats for no other number.
fn value(n: u64) -> (Kind, String) {
    // SplitMix64: every number has its own.
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    match n % 4 {
        0 => (Kind::Ip, format!("2a01:{:x}:{:x}:{:x}:{:x}::1", x >> 48, x >> 32 & 0xffff, x >> 16 & 0xffff, x & 0xffff)),
        1 => (Kind::Domain, format!("host-{x:x}.evil.example")),
        2 => (Kind::Sha256, format!("{x:016x}{:016x}{:016x}{n:016x}", !x, x.rotate_left(17))),
        _ => (Kind::Url, format!("http://host-{:x}.example/path/{x:x}?q=1", x & 0xfffff)),
    }
}

fn attribute(n: u64) -> Attribute {
    let (kind, text) = value(n);
    Attribute {
        misp_type: "ip-dst".into(),
        category: "Network activity".into(),
        uuid: Some(Uuid(u128::from(n).to_be_bytes())),
        event_id: (n / 1_000).to_string(),
        event_info: format!("Campaign {} as seen by partners", n / 1_000),
        tags: vec!["tlp:green".into()],
        to_ids: Some(true),
        timestamp: 1_700_000_000 + n,
        ..Attribute::bare(Indicator::Text(text), kind)
    }
}

/// KiB that the kernel tells of this process.
fn memory(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// MiB in use now, and the peak set back to it.
fn settle() -> f64 {
    // Where that is not allowed, peaks are those since the start, which only makes them higher.
    let _ = fs::write("/proc/self/clear_refs", "5");
    memory("VmRSS") / 1024.0
}

fn disk_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Nanoseconds for each of `count` questions, and how many were answered with yes.
fn ask(count: u64, from: u64, mut is_known: impl FnMut(&str) -> bool) -> (f64, u64) {
    let (mut took, mut known) = (Duration::ZERO, 0);
    let mut at = 0;
    while at < count {
        let values: Vec<String> = (at..(at + 4096).min(count)).map(|n| value(from + n).1).collect();
        at += values.len() as u64;
        let begun = Instant::now();
        known += values.iter().filter(|value| black_box(is_known(value))).count() as u64;
        took += begun.elapsed();
    }
    (took.as_nanos() as f64 / count.max(1) as f64, known)
}

impl Intel {
    /// Measures.
    pub fn run(&self) -> anyhow::Result<()> {
        let dir = self.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("shipper-bench-intel-{}", std::process::id())));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}; name a folder that is not there yet with --dir", dir.display()))?;
        let measured = self.measure(&dir);
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        let figures = measured?;
        if self.json {
            println!("{}", serde_json::to_string(&figures)?);
            return Ok(());
        }
        let f = &figures;
        println!("{} attributes, {} indicators", f.attributes, f.indicators);
        println!(
            "build   {:.1} s, {:.0} attributes/s, peak {:.1} MiB above {:.1}",
            f.build_seconds, f.attributes_per_second, f.build_peak_mib, f.base_mib
        );
        println!(
            "load    {:.3} s, peak {:.1} MiB above that, of which the filter {:.1}; on disk {:.0} MiB",
            f.load_seconds, f.load_peak_mib, f.filter_mib, f.disk_mib
        );
        println!(
            "ask     {:.0} ns a hit, {:.0} ns a miss; {} false noes, {:.5} % false yeses",
            f.hit_ns,
            f.miss_ns,
            f.false_negatives,
            100.0 * f.false_positive_rate
        );
        println!("mirror  {:.1} µs a hit with its details", f.mirror_us);
        println!(
            "plain   {} texts in a set: {:.1} MiB, {:.0} ns a hit, {:.0} ns a miss (reference)",
            f.plain_values, f.plain_mib, f.plain_hit_ns, f.plain_miss_ns
        );
        let of_plain = f.plain_mib / f.plain_values.max(1) as f64;
        println!(
            "        memory for one indicator: {:.2} of the reference",
            f.load_peak_mib / f.indicators.max(1) as f64 / of_plain.max(1e-12)
        );
        Ok(())
    }

    fn measure(&self, dir: &Path) -> anyhow::Result<Figures> {
        let base = settle();
        let begun = Instant::now();
        let mut import = Import::begin(Arc::new(RealDisk::new()), dir, Box::new(|_| Ok(())))?;
        for n in 0..self.count {
            import.add(&attribute(n))??;
        }
        let status = import.finish(vec!["synthetic".into()], Default::default(), 0, &mut |_| ())?;
        let build = begun.elapsed();
        let build_peak = memory("VmHWM") / 1024.0 - base;
        let before = settle();
        let begun = Instant::now();
        let tables = Tables::load(&RealDisk::new(), dir)?.context("nothing was built")?;
        let load = begun.elapsed();
        let probes = self.probes.min(self.count);
        let is_known = |value: &str| tables.indicators.probe(value.as_bytes()) != Hit::No;
        let (hit_ns, hits) = ask(probes, 0, is_known);
        let (miss_ns, wrong) = ask(self.probes, self.count, is_known);
        let looked = probes.min(20_000);
        let begun = Instant::now();
        let mut told = 0;
        for n in 0..looked {
            told += tables.find(value(n * (self.count / looked.max(1))).1.as_bytes())?.len() as u64;
        }
        let mirror = begun.elapsed();
        anyhow::ensure!(told >= looked, "the mirror has {told} of {looked}; this is a defect of shipper");
        // The base, not what the allocator kept of building: what a fresh process would have.
        let load_peak = memory("VmHWM") / 1024.0 - before.max(base);
        let filter_mib = tables.indicators.filter().bytes() as f64 / f64::from(1 << 20);
        let disk_mib = disk_bytes(&dir.join("intel")) as f64 / f64::from(1 << 20);
        drop(tables);
        let before = settle();
        let plain: HashSet<String> = (0..self.plain).map(|n| value(n).1).collect();
        let plain_mib = memory("VmRSS") / 1024.0 - before;
        let (plain_hit_ns, _) = ask(self.plain.min(self.probes), 0, |value| plain.contains(value));
        let (plain_miss_ns, _) = ask(self.probes, self.count.max(self.plain), |value| plain.contains(value));
        Ok(Figures {
            attributes: self.count,
            indicators: status.indicators,
            build_seconds: build.as_secs_f64(),
            attributes_per_second: self.count as f64 / build.as_secs_f64().max(1e-9),
            base_mib: base,
            build_peak_mib: build_peak,
            load_peak_mib: load_peak,
            load_seconds: load.as_secs_f64(),
            filter_mib,
            disk_mib,
            hit_ns,
            miss_ns,
            false_negatives: probes - hits,
            false_positive_rate: wrong as f64 / self.probes.max(1) as f64,
            mirror_us: mirror.as_secs_f64() * 1e6 / looked.max(1) as f64,
            plain_values: self.plain,
            plain_mib,
            plain_hit_ns,
            plain_miss_ns,
        })
    }
}
