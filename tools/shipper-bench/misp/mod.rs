//! `misp`: alerts with indicators through the whole agent, to a stand-in of MISP over HTTP.
//!
//! Everything of the agent stays on one core; the stand-in has the others.

mod standin;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use argh::FromArgs;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use shipper::{
    cli::{inside::Inside, scratch::Scratch},
    io::{Asked, Engine, choose, cores},
    metrics::BranchCounts,
    synth::{
        indicators::{Indicators, indicator},
        writer::dated,
    },
    topology::Host,
};

use crate::{Usage, size};
use standin::{Standin, THREAD};

/// Alerts among which every indicator comes: as many as the tool that this replaces was measured with.
const ROUND: u64 = 20_000;
/// What that tool took a minute, on alerts made alike: with its cache warm, and with new indicators only
/// (`MISP Processor`, measured once; one call a new indicator, fifty a second).
const BEFORE: [(&str, f64); 2] = [("known indicators, cache warm", 41_391.0), ("new indicators", 2_995.0)];
/// Without progress for this long a run has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the thread is called that makes the alerts and waits.
const OWN: &str = "shipper-bench";
/// Clock ticks a second, as /proc counts them.
const TICKS: f64 = 100.0;

/// runs alerts through ioc, dedup and lookup misp on one core, with a stand-in of MISP over HTTP on others
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "misp",
    example = "The figures for the record, some minutes:\n  {command_name}",
    example = "A quick look, where MISP knows most of what is asked:\n  {command_name} --count 100K --history 100K --known 829",
    note = "In each phase: alerts a minute from the first byte that can be read to the last that is acked, searches, and\nCPU-seconds of a million alerts, by thread."
)]
pub struct Misp {
    /// alerts of one phase with a warm cache
    #[argh(option, from_str_fn(size::number), default = "200_000")]
    count: u64,
    /// indicators; each comes once in so many alerts
    #[argh(option, from_str_fn(size::number), default = "1000")]
    distinct: u64,
    /// how many of a thousand indicators MISP knows
    #[argh(option, default = "50")]
    known: u64,
    /// ids that dedup remembers in the last phase
    #[argh(option, from_str_fn(size::number), default = "1_000_000")]
    history: u64,
    /// auto, uring or pread
    #[argh(option, default = "String::from(\"auto\")")]
    engine: String,
    /// print the figures as JSON
    #[argh(switch)]
    json: bool,
}

/// What one phase took.
#[derive(Debug, Serialize)]
struct Phase {
    name: String,
    alerts: u64,
    bytes: u64,
    seconds: f64,
    alerts_per_minute: f64,
    /// Requests to MISP, those for its networks among them.
    searches: u64,
    /// Ids that dedup remembered before.
    remembered: u64,
    /// CPU-seconds of a million alerts, by thread.
    cpu_per_million: BTreeMap<String, f64>,
}

impl Misp {
    /// Measures.
    pub fn run(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=ROUND).contains(&self.distinct), Usage(format!("--distinct is 1 to {ROUND}")));
        anyhow::ensure!(self.known <= 1000, Usage("--known is of a thousand indicators; 1000 at most".into()));
        let (engine, _) = choose(match self.engine.as_str() {
            "uring" => Asked::Uring,
            "pread" => Asked::Pread,
            "auto" => Asked::Auto,
            other => return Err(Usage(format!("no engine {other:?}; known: auto, uring, pread")).into()),
        })
        .map_err(anyhow::Error::msg)?;
        // Known are those whose number is so in its thousand; both sets of indicators lie below.
        let known = (0..self.distinct + ROUND).filter(|n| n % 1000 < self.known).map(indicator);
        let standin = Standin::start(known).context("cannot start the stand-in of MISP; is a local port free?")?;
        eprintln!("the agent stays on one core, engine {engine}");
        let mut phases = Vec::new();
        {
            let mut site = Site::start(engine, &standin, Graph::Ioc)?;
            let mut made = Indicators::new(0, self.distinct);
            phases.push(site.phase("ioc into nothing (reference)", &mut made, self.count)?);
            site.ends()?;
        }
        {
            let mut site = Site::start(engine, &standin, Graph::Misp)?;
            phases.push(site.phase("new indicators", &mut Indicators::new(self.distinct, ROUND), ROUND)?);
            site.ends()?;
        }
        {
            let mut site = Site::start(engine, &standin, Graph::Misp)?;
            let mut made = Indicators::new(0, self.distinct);
            phases.push(site.phase("cold: each indicator new once", &mut made, ROUND)?);
            phases.push(site.phase("warm", &mut made, self.count)?);
            while made.ordinal() < self.history {
                let count = self.count.min(self.history - made.ordinal());
                let phase = site.phase("history", &mut made, count)?;
                eprintln!("{} of {} alerts for the history, {:.0} a minute", made.ordinal(), self.history, phase.alerts_per_minute);
            }
            phases.push(site.phase("warm, long history", &mut made, self.count)?);
            site.ends()?;
        }
        self.print(&phases)
    }

    fn print(&self, phases: &[Phase]) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(phases)?);
            return Ok(());
        }
        println!("{} indicators in {ROUND} alerts, MISP knows {} of 1000", self.distinct, self.known);
        for phase in phases {
            let Phase { name, alerts, bytes, seconds, alerts_per_minute, searches, remembered, cpu_per_million } = phase;
            let mbs = *bytes as f64 / 1e6 / seconds;
            println!(
                "{name:<30} {alerts:>8} alerts {seconds:>7.3} s {alerts_per_minute:>10.0} a minute {mbs:>6.0} MB/s {searches:>4} searches, {remembered} ids remembered"
            );
            let cpu: Vec<String> = cpu_per_million.iter().map(|(thread, seconds)| format!("{thread} {seconds:.2}")).collect();
            println!("{:<30} CPU-s a million: {} = {:.2}", "", cpu.join(" + "), cpu_per_million.values().sum::<f64>());
        }
        for (name, per_minute) in BEFORE {
            println!("{name:<30} {per_minute:>38.0} a minute: the tool that this replaces, measured once");
        }
        let rate = |name: &str| phases.iter().find(|phase| phase.name == name).map_or(f64::NAN, |phase| phase.alerts_per_minute);
        println!("long history / short           {:>5.2} of its rate", rate("warm, long history") / rate("warm"));
        println!("with lookup / without          {:>5.2} of the reference", rate("warm") / rate("ioc into nothing (reference)"));
        Ok(())
    }
}

/// Runs `start` on the first core that may be used; the threads that it starts stay there.
fn on_one_core<T>(start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let all = sched_getaffinity(None).context("cannot ask which cores may be used")?;
    let core = *cores().context("cannot ask which cores may be used")?.first().context("no core may be used")?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).with_context(|| format!("cannot stay on core {core}; allow it in the container's cpuset"))?;
    let started = start();
    sched_setaffinity(None, &all).context("cannot go back to all cores")?;
    started
}

/// What is behind the source.
#[derive(Clone, Copy)]
enum Graph {
    Ioc,
    Misp,
}

/// An agent that follows a channel, and the parts that are written for it.
struct Site<'s> {
    scratch: Scratch,
    standin: &'s Standin,
    inside: Inside,
    counts: BranchCounts,
    parts: u16,
    acked: u64,
}

impl<'s> Site<'s> {
    fn start(engine: Engine, standin: &'s Standin, graph: Graph) -> anyhow::Result<Self> {
        let scratch = Scratch::make("shipper-bench-misp")?;
        let key = scratch.path().join("key");
        fs::write(&key, "0123456789012345678901234567890123456789\n").context("cannot write the key")?;
        let graph = match graph {
            Graph::Ioc => "[sinks.out]\nkind = \"blackhole\"\ninputs = [\"iocs\"]\n".to_owned(),
            Graph::Misp => format!(
                "[stages.once]\nkind = \"dedup\"\ninputs = [\"iocs\"]\nmembers = [\"alert_id\"]\nwindow = \"24h\"\nentries = 4_000_000\n\
                 [lookups.intel]\nkind = \"misp\"\ninputs = [\"once\"]\nurl = \"http://{}\"\nkey_file = {key:?}\n\
                 [sinks.out]\nkind = \"blackhole\"\ninputs = [\"intel\"]\n",
                standin.address
            ),
        };
        let state = scratch.path().join("state");
        let config = format!(
            "instance = \"bench\"\ncores = 1\n[state]\ndir = {state:?}\n[sources.in]\nkind = \"wazuh\"\npath = {:?}\nstart_at = \"beginning\"\n\
             [handlers.iocs]\nkind = \"ioc\"\ninputs = [\"in\"]\n{graph}",
            scratch.path().join("alerts.json")
        );
        let host = Host { name: "bench".into(), embedded: None };
        let inside = on_one_core(|| Inside::start(&config, &host, &state, engine, Vec::new()))?;
        let counts = inside.metrics.branch("in", "iocs");
        let mut site = Self { scratch, standin, inside, counts, parts: 0, acked: 0 };
        // An alert of no interest is acked first, so that the start is not timed.
        let first = "{\"timestamp\":\"2026-03-14T06:25:12.001+0100\",\"rule\":{\"level\":3,\"id\":\"1\"},\"id\":\"1\"}\n";
        fs::create_dir_all(site.part().parent().unwrap_or(site.scratch.path())).context("cannot make the folder of a day")?;
        fs::write(site.part(), first).context("cannot write an alert")?;
        site.show()?;
        site.until(first.len() as u64)?;
        Ok(site)
    }

    fn part(&self) -> PathBuf {
        dated(self.scratch.path(), jiff::civil::date(2026, 3, 14), u32::from(self.parts))
    }

    /// Rotates to the part that was just written.
    fn show(&mut self) -> anyhow::Result<()> {
        let channel = self.scratch.path().join("alerts.json");
        let _ = fs::remove_file(&channel); // the first time it is not there
        fs::hard_link(self.part(), &channel).context("cannot link the channel to its part")?;
        self.parts += 1;
        Ok(())
    }

    /// Writes so many alerts as a part of their own, and measures until all are acked.
    fn phase(&mut self, name: &str, made: &mut Indicators, count: u64) -> anyhow::Result<Phase> {
        let remembered = self.inside.metrics.stage("in", "once").entries.get();
        let path = self.part();
        let mut out = BufWriter::new(File::create(&path).with_context(|| format!("cannot make {}", path.display()))?);
        let (mut bytes, mut line) = (0, Vec::new());
        for n in 0..count {
            line.clear();
            made.alert(&mut line, 1_773_465_912_000_000_000 + n * 2_000_000);
            bytes += line.len() as u64;
            out.write_all(&line).context("cannot write alerts below TMPDIR; is the disk full?")?;
        }
        out.flush().context("cannot write alerts below TMPDIR; is the disk full?")?;
        let (cpu, searches, begun) = (cpu_by_thread(), self.standin.searches(), Instant::now());
        self.show()?;
        self.until(bytes)?;
        let seconds = begun.elapsed().as_secs_f64();
        let million = count as f64 / 1e6;
        let mut used = BTreeMap::new();
        for (thread, ticks) in cpu_by_thread() {
            let seconds = (ticks - cpu.get(&thread).copied().unwrap_or(0.0)) / TICKS / million;
            if seconds > 0.0 && thread != THREAD && thread != OWN {
                used.insert(thread, seconds);
            }
        }
        // What is acked is not read again.
        fs::remove_file(&path).context("cannot remove a part")?;
        Ok(Phase {
            name: name.into(),
            alerts: count,
            bytes,
            seconds,
            alerts_per_minute: count as f64 / seconds * 60.0,
            searches: self.standin.searches() - searches,
            remembered: u64::try_from(remembered).unwrap_or(0),
            cpu_per_million: used,
        })
    }

    /// Waits until so many more bytes are acked.
    fn until(&mut self, bytes: u64) -> anyhow::Result<()> {
        self.acked += bytes;
        let (mut moved, mut before) = (Instant::now(), 0);
        loop {
            let done = self.counts.shipped.get() + self.counts.dropped.total() + self.counts.dead_letter.total();
            if done >= self.acked {
                return Ok(());
            }
            if done != before {
                (moved, before) = (Instant::now(), done);
            }
            anyhow::ensure!(
                moved.elapsed() < PATIENCE,
                "{done} of {} bytes are acked and nothing moves; {:?}",
                self.acked,
                self.inside.board.rows()
            );
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn ends(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.counts.dead_letter.total() == 0, "alerts went to the dead letter: {:?}", self.inside.board.rows());
        anyhow::ensure!(self.inside.agent.drain(), "the agent stopped before all was acked");
        Ok(())
    }
}

/// Ticks that each thread of this process has used, by name; those of one name together.
fn cpu_by_thread() -> BTreeMap<String, f64> {
    let mut used = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        // `pid (name) S …`: the name may hold blanks and brackets.
        let text = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((head, tail)) = text.rsplit_once(") ") else { continue };
        let Some((_, name)) = head.split_once('(') else { continue };
        let ticks = tail.split(' ').skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>();
        *used.entry(name.to_owned()).or_default() += ticks;
    }
    used
}
