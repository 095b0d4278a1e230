//! `live`: what the agent costs beside a live writer, and how long an alert takes to its ack.
//!
//! Cost is of an agent in a process of its own, librdkafka's threads included; the broker and the
//! writer are in this one. Latency is of an agent inside this process, whose acks can be seen.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use argh::FromArgs;
use hdrhistogram::Histogram;
use rdkafka::mocking::MockCluster;
use serde::Serialize;
use shipper::{
    checkpoint::choose,
    cli::{flights::Flights, inside::Inside, live::LiveWriter, scratch::Scratch},
    io::{Asked, choose as choose_engine},
    synth::{Mix, Synth},
    topology::Host,
};

use crate::size;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// writes alerts live and measures the agent that ships them: its cost, and the latency of acks
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "live",
    example = "{command_name} --rate 500 --for 2m",
    example = "{command_name} --rate 0 --before 1G --for 1m    # an idle agent behind a large file"
)]
pub struct Live {
    /// alerts a second; 0 writes none
    #[argh(option, from_str_fn(size::number), default = "500")]
    rate: u64,
    /// how long (2m)
    #[argh(option, long = "for", from_str_fn(size::span), default = "Duration::from_secs(60)")]
    span: Duration,
    /// bytes in the file before, read to their end and acked before anything is measured
    #[argh(option, from_str_fn(size::number), default = "0")]
    before: u64,
    /// handler: dfn or forward
    #[argh(option, default = "String::from(\"dfn\")")]
    handler: String,
    /// which alerts: natural, windows, fail2ban, irrelevant or plain
    #[argh(option, from_str_fn(size::mix), default = "Mix::Natural")]
    mix: Mix,
    /// auto, uring or pread
    #[argh(option, default = "String::from(\"auto\")")]
    engine: String,
    /// milliseconds that messages wait for others; without it the sink's default where the cost is measured, and
    /// 0 where the latency is
    #[argh(option)]
    linger_ms: Option<u32>,
    /// a real broker, with topic shipper-bench; the embedded one if not given
    #[argh(option)]
    brokers: Option<String>,
    /// each alert is written at once, instead of in blocks of 4 KiB with a flush each second
    #[argh(switch)]
    each: bool,
    /// print the figures as JSON
    #[argh(switch)]
    json: bool,
}

const TOPIC: &str = "shipper-bench";

/// What came out.
#[derive(Debug, Serialize)]
struct Outcome {
    engine: String,
    handler: String,
    rate: u64,
    seconds: f64,
    /// Of one core, all threads of the agent's process.
    cpu_percent: f64,
    rss_mib: f64,
    /// Who spent it; threads that cost next to nothing are left out.
    threads: Vec<Share>,
    /// From the write that completed a line to its ack; absent where nothing was written.
    ack_p50_ms: Option<f64>,
    ack_p99_ms: Option<f64>,
    ack_max_ms: Option<f64>,
}

/// What threads of one name cost.
#[derive(Debug, Serialize)]
struct Share {
    thread: String,
    /// Of one core.
    cpu_percent: f64,
    /// How often a second they waited.
    waits: f64,
}

impl Live {
    /// Measures.
    pub fn run(&self) -> anyhow::Result<()> {
        let cluster = MockCluster::new(1).context("cannot start the embedded broker; is a local port free?")?;
        cluster.create_topic(TOPIC, 1, 1).context("cannot make the topic on the embedded broker")?;
        let brokers = self.brokers.clone().unwrap_or_else(|| cluster.bootstrap_servers());
        let (cpu_percent, rss_mib, seconds, threads) = self.cost(&brokers)?;
        let latency = if self.rate == 0 { None } else { Some(self.latency(&brokers)?) };
        let millis = |quantile: f64| latency.as_ref().map(|l| l.value_at_quantile(quantile) as f64 / 1e6);
        let outcome = Outcome {
            engine: self.engine.clone(),
            handler: self.handler.clone(),
            rate: self.rate,
            seconds,
            cpu_percent,
            rss_mib,
            threads,
            ack_p50_ms: millis(0.5),
            ack_p99_ms: millis(0.99),
            ack_max_ms: millis(1.0),
        };
        if self.json {
            println!("{}", serde_json::to_string(&outcome)?);
        } else {
            println!(
                "{} alerts/s through {}, engine {}, {:.0} s: {:.2} % of a core, {:.1} MiB resident",
                self.rate, self.handler, self.engine, seconds, cpu_percent, rss_mib
            );
            let shares = outcome.threads.iter().map(|t| format!("{} {:.2} % ({:.0} waits/s)", t.thread, t.cpu_percent, t.waits));
            println!("threads: {}", shares.collect::<Vec<_>>().join(", "));
            if let (Some(p50), Some(p99), Some(max)) = (outcome.ack_p50_ms, outcome.ack_p99_ms, outcome.ack_max_ms) {
                println!("from the write that completed a line to its ack: p50 {p50:.1} ms, p99 {p99:.1} ms, most {max:.1} ms");
            }
        }
        Ok(())
    }

    /// - `linger_ms`: as in the sink; its default where `None`.
    fn config(&self, scratch: &Scratch, brokers: &str, linger_ms: Option<u32>) -> String {
        let linger = linger_ms.map_or_else(String::new, |ms| format!("linger = \"{ms}ms\"\n"));
        format!(
            "instance = \"bench\"\nengine = {:?}\nstate.dir = {:?}\n[sources.in]\nkind = \"wazuh\"\npath = {:?}\nstart_at = \"beginning\"\n[handlers.h]\nkind = {:?}\ninputs = [\"in\"]\n[sinks.out]\nkind = \"kafka\"\ninputs = [\"h\"]\nbrokers = [{:?}]\ntopic = {TOPIC:?}\n{linger}",
            self.engine,
            scratch.path().join("state"),
            scratch.path().join("alerts.json"),
            self.handler,
            brokers,
        )
    }

    /// A writer whose file holds what was asked for before.
    fn writer(&self, scratch: &Scratch) -> anyhow::Result<LiveWriter> {
        let failed = || format!("cannot write below {}; check its space", scratch.path().display());
        let mut writer = LiveWriter::open(scratch.path(), Synth::new(1, self.mix), 0, None).with_context(failed)?;
        while writer.bytes() < self.before {
            writer.write().with_context(failed)?;
        }
        writer.flush().with_context(failed)?;
        Ok(writer)
    }

    /// Writes at the rate for the time, and tells each flush to `told`.
    fn write(&self, writer: &mut LiveWriter, mut told: impl FnMut(&LiveWriter)) -> anyhow::Result<()> {
        let (begun, first) = (Instant::now(), writer.alerts());
        while begun.elapsed() < self.span {
            let owed = (begun.elapsed().as_secs_f64() * self.rate as f64) as u64;
            while writer.alerts() - first < owed {
                writer.write().context("cannot write an alert")?;
                if self.each {
                    writer.flush().context("cannot write an alert")?;
                }
                told(writer);
            }
            writer.tick().context("cannot write an alert")?;
            told(writer);
            thread::sleep(Duration::from_micros(if self.rate == 0 { 100_000 } else { 500 }));
        }
        writer.flush().context("cannot write an alert")?;
        told(writer);
        Ok(())
    }

    /// Percent of a core, MiB, seconds measured, and the shares of threads.
    fn cost(&self, brokers: &str) -> anyhow::Result<(f64, f64, f64, Vec<Share>)> {
        let scratch = Scratch::make("shipper-bench-live")?;
        let mut writer = self.writer(&scratch)?;
        let path = scratch.path().join("shipper.toml");
        fs::write(&path, self.config(&scratch, brokers, self.linger_ms))?;
        let agent = Agent::start(&path)?;
        agent.reach(&scratch.path().join("state"), writer.flushed())?;
        // What a start leaves to do is done by then.
        thread::sleep(Duration::from_secs(2));
        let (begun, before, threads) = (Instant::now(), agent.ticks()?, agent.threads()?);
        self.write(&mut writer, |_| {})?;
        let (seconds, after) = (begun.elapsed().as_secs_f64(), agent.ticks()?);
        let rss = agent.rss_kib()? as f64 / 1024.0;
        let mut shares: Vec<Share> = Vec::new();
        // One thread of several of a name may have ended meanwhile, and then less is spent than before.
        for (thread, spent) in agent.threads()? {
            let earlier = threads.get(&thread).copied().unwrap_or_default();
            let cpu_percent = spent.nanos.saturating_sub(earlier.nanos) as f64 / 1e9 / seconds * 100.0;
            if cpu_percent >= 0.005 {
                shares.push(Share { thread, cpu_percent, waits: spent.waits.saturating_sub(earlier.waits) as f64 / seconds });
            }
        }
        shares.sort_by(|a, b| b.cpu_percent.total_cmp(&a.cpu_percent));
        Ok(((after - before) as f64 / TICKS / seconds * 100.0, rss, seconds, shares))
    }

    fn latency(&self, brokers: &str) -> anyhow::Result<Histogram<u64>> {
        let scratch = Scratch::make("shipper-bench-live")?;
        let mut writer = self.writer(&scratch)?;
        let asked = match self.engine.as_str() {
            "uring" => Asked::Uring,
            "pread" => Asked::Pread,
            _ => Asked::Auto,
        };
        let (engine, _) = choose_engine(asked).map_err(anyhow::Error::msg)?;
        let host = Host { name: "bench".into(), embedded: None };
        let inside = Inside::start(
            &self.config(&scratch, brokers, self.linger_ms.or(Some(0))),
            &host,
            &scratch.path().join("state"),
            engine,
            Vec::new(),
        )?;
        let counts = inside.metrics.branch("in", "h");
        let begun = Instant::now();
        while counts.read.get() < self.before || counts.in_flight.get() > 0 {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "what was there before is not acked: {:?}", inside.board.rows());
            thread::sleep(Duration::from_millis(10));
        }
        // The first message waits for the producer's id.
        thread::sleep(Duration::from_secs(1));
        let mut flights = Flights::watch(counts.clone())?;
        let mut last = writer.bytes();
        self.write(&mut writer, |writer| {
            if writer.bytes() != last {
                last = writer.bytes();
                flights.line(last);
            }
            flights.flushed(writer.flushed());
        })?;
        let begun = Instant::now();
        while counts.read.get() < writer.bytes() || counts.in_flight.get() > 0 {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "what was written is not acked: {:?}", inside.board.rows());
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(5));
        let mut all = Histogram::new_with_bounds(1_000, 120_000_000_000, 3)?;
        for latency in flights.take() {
            all.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        }
        inside.agent.drain();
        Ok(all)
    }
}

/// What threads of one name have spent since they began.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// On a core.
    nanos: u64,
    /// Voluntary switches, as proc(5) counts them.
    waits: u64,
}

/// Clock ticks a second, as /proc counts them.
const TICKS: f64 = 100.0;

/// The agent in a process of its own: the binary beside this one.
struct Agent(Child);

impl Agent {
    fn start(config: &Path) -> anyhow::Result<Self> {
        let program: PathBuf = std::env::current_exe()?.with_file_name("shipper");
        let child = Command::new(&program)
            .args(["run", "--config"])
            .arg(config)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}; it must lie beside this program", program.display()))?;
        Ok(Self(child))
    }

    /// Waits until the saved watermark is at `offset`.
    fn reach(&self, state: &Path, offset: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let read = |name: &str| fs::read(state.join(name)).ok();
            let chosen = choose(state, read("checkpoint.a").as_deref(), read("checkpoint.b").as_deref())?;
            let at = chosen.as_ref().and_then(|c| c.checkpoint.rows.first()).and_then(|row| row.lowest()).and_then(|p| p.file_offset());
            if offset == 0 || at == Some(offset) {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the agent's watermark is {at:?} and not {offset}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn ticks(&self) -> anyhow::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).context("the agent has ended; run it by hand to see why")?;
        let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Fields 14 and 15 of proc(5); the state is field 3.
        Ok([11, 12].iter().filter_map(|n| fields.get(*n)?.parse::<u64>().ok()).sum())
    }

    /// What each thread has spent, by name; those of one name together, and those that have ended not at all.
    fn threads(&self) -> anyhow::Result<BTreeMap<String, Spent>> {
        let mut threads: BTreeMap<String, Spent> = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let task = task?.path();
            // One that ends meanwhile has no files any more.
            let read = |name: &str| fs::read_to_string(task.join(name)).ok();
            let (Some(name), Some(schedstat), Some(status)) = (read("comm"), read("schedstat"), read("status")) else { continue };
            let spent = threads.entry(name.trim().to_owned()).or_default();
            spent.nanos += schedstat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
            let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            spent.waits += waits.and_then(|waits| waits.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(threads)
    }

    fn rss_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("/proc/PID/status has no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
