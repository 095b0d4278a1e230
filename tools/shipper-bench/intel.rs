//! `intel`: what the indicator tables cost to build, to hold and to ask, beside a plain set.

use std::{
    collections::HashSet,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use argh::FromArgs;
use serde::{Deserialize, Serialize};
use shipper::{
    io::disk::RealDisk,
    store::intel::{Import, Tables},
    tables::{Attribute, Hit, Indicator, Kind, Uuid},
};

use crate::{Usage, size};

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
    /// one part alone, in this process, as JSON: build, ask (what was built) or plain; wants --dir
    #[argh(option)]
    part: Option<String>,
    /// print the figures as JSON
    #[argh(switch)]
    json: bool,
}

/// What building costs.
#[derive(Debug, Serialize, Deserialize)]
struct Build {
    attributes: u64,
    indicators: u64,
    seconds: f64,
    attributes_per_second: f64,
    /// MiB in use before.
    base_mib: f64,
    /// MiB more at the peak.
    peak_mib: f64,
    disk_mib: f64,
}

/// What holding and asking costs.
#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    load_seconds: f64,
    /// MiB more than before loading, at the peak of loading and asking.
    peak_mib: f64,
    filter_mib: f64,
    hit_ns: f64,
    miss_ns: f64,
    false_noes: u64,
    false_yes_rate: f64,
    /// Microseconds for a hit with its details.
    mirror_us: f64,
}

/// The reference: all texts in a set.
#[derive(Debug, Serialize, Deserialize)]
struct Plain {
    values: u64,
    /// MiB at the peak.
    peak_mib: f64,
    hit_ns: f64,
    miss_ns: f64,
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

/// MiB that the kernel tells of this process: `VmRSS` now, `VmHWM` at the peak.
fn memory(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
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
    /// Measures: each part in a process of its own, since an allocator keeps what it once had.
    pub fn run(&self) -> anyhow::Result<()> {
        if let (Some(part), Some(dir)) = (self.part.as_deref(), &self.dir) {
            println!("{}", self.measure(part, dir)?);
            return Ok(());
        }
        let dir = self.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("shipper-bench-intel-{}", std::process::id())));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}; name a folder that is not there yet with --dir", dir.display()))?;
        let measured = ["build", "ask", "plain"].map(|part| self.part(part, &dir));
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        let [build, ask, plain] = measured;
        let build: Build = serde_json::from_str(&build?)?;
        let ask: Ask = serde_json::from_str(&ask?)?;
        let plain: Plain = serde_json::from_str(&plain?)?;
        if self.json {
            println!("{}", serde_json::json!({"build": build, "ask": ask, "plain": plain}));
            return Ok(());
        }
        println!("{} attributes, {} indicators", build.attributes, build.indicators);
        let Build { seconds, attributes_per_second, peak_mib, base_mib, disk_mib, .. } = build;
        println!(
            "build   {seconds:.1} s, {attributes_per_second:.0} attributes/s, peak {peak_mib:.1} MiB above {base_mib:.1}; on disk {disk_mib:.0} MiB"
        );
        println!("load    {:.3} s, peak {:.1} MiB, of which the filter {:.1}", ask.load_seconds, ask.peak_mib, ask.filter_mib);
        let rate = 100.0 * ask.false_yes_rate;
        println!(
            "ask     {:.0} ns a hit, {:.0} ns a miss; {} false noes, {rate:.5} % false yeses",
            ask.hit_ns, ask.miss_ns, ask.false_noes
        );
        println!("mirror  {:.1} µs a hit with its details", ask.mirror_us);
        let Plain { values, peak_mib, hit_ns, miss_ns } = plain;
        println!("plain   {values} texts in a set: peak {peak_mib:.1} MiB, {hit_ns:.0} ns a hit, {miss_ns:.0} ns a miss (reference)");
        let one = |mib: f64, count: u64| mib * f64::from(1 << 20) / count.max(1) as f64;
        println!("memory  {:.1} bytes an indicator, reference {:.1}", one(ask.peak_mib, build.indicators), one(peak_mib, values));
        Ok(())
    }

    /// One part in a process of its own; what it prints.
    fn part(&self, part: &str, dir: &Path) -> anyhow::Result<String> {
        let own = std::env::current_exe().context("cannot tell where shipper-bench is")?;
        let numbers = [("--count", self.count), ("--plain", self.plain), ("--probes", self.probes)];
        let output = Command::new(own)
            .args(["intel", "--part", part, "--dir"])
            .arg(dir)
            .args(numbers.iter().flat_map(|(flag, number)| [(*flag).to_owned(), number.to_string()]))
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start the part {part}"))?;
        anyhow::ensure!(output.status.success(), "the part {part} ended with {}", output.status);
        String::from_utf8(output.stdout).with_context(|| format!("the part {part} prints no text"))
    }

    fn measure(&self, part: &str, dir: &Path) -> anyhow::Result<String> {
        Ok(match part {
            "build" => serde_json::to_string(&self.build(dir)?)?,
            "ask" => serde_json::to_string(&self.ask(dir)?)?,
            "plain" => serde_json::to_string(&self.plain())?,
            other => return Err(Usage(format!("no part {other:?}; known: build, ask, plain")).into()),
        })
    }

    fn build(&self, dir: &Path) -> anyhow::Result<Build> {
        let base_mib = memory("VmRSS");
        let begun = Instant::now();
        let mut import = Import::begin(Arc::new(RealDisk::new()), dir, Box::new(|_| Ok(())))?;
        for n in 0..self.count {
            import.add(&attribute(n))??;
        }
        let status = import.finish(vec!["synthetic".into()], Default::default(), 0, &mut |_| ())?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Build {
            attributes: self.count,
            indicators: status.indicators,
            seconds,
            attributes_per_second: self.count as f64 / seconds.max(1e-9),
            base_mib,
            peak_mib: memory("VmHWM") - base_mib,
            disk_mib: disk_bytes(&dir.join("intel")) as f64 / f64::from(1 << 20),
        })
    }

    fn ask(&self, dir: &Path) -> anyhow::Result<Ask> {
        let base = memory("VmRSS");
        let begun = Instant::now();
        let tables = Tables::load(&RealDisk::new(), dir)?.context("nothing was built")?;
        let load = begun.elapsed();
        let probes = self.probes.min(self.count);
        let is_known = |value: &str| tables.indicators.probe(value.as_bytes()) != Hit::No;
        let (hit_ns, hits) = ask(probes, 0, is_known);
        let (miss_ns, wrong) = ask(self.probes, self.count, is_known);
        let looked = probes.clamp(1, 20_000);
        let begun = Instant::now();
        let mut told = 0;
        for n in 0..looked.min(self.count) {
            told += tables.find(value(n * (self.count / looked)).1.as_bytes())?.len() as u64;
        }
        let mirror = begun.elapsed();
        anyhow::ensure!(told >= looked.min(self.count), "the mirror has {told} of {looked}; this is a defect of shipper");
        Ok(Ask {
            load_seconds: load.as_secs_f64(),
            peak_mib: memory("VmHWM") - base,
            filter_mib: tables.indicators.filter().bytes() as f64 / f64::from(1 << 20),
            hit_ns,
            miss_ns,
            false_noes: probes - hits,
            false_yes_rate: wrong as f64 / self.probes.max(1) as f64,
            mirror_us: mirror.as_secs_f64() * 1e6 / looked as f64,
        })
    }

    fn plain(&self) -> Plain {
        let base = memory("VmRSS");
        let set: HashSet<String> = (0..self.plain).map(|n| value(n).1).collect();
        let (hit_ns, _) = ask(self.plain.min(self.probes), 0, |value| set.contains(value));
        let (miss_ns, _) = ask(self.probes, self.count.max(self.plain), |value| set.contains(value));
        Plain { values: self.plain, peak_mib: memory("VmHWM") - base, hit_ns, miss_ns }
    }
}
