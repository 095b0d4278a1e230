//! `gen`: alerts into a file, or into a folder as a live manager writes them.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use argh::FromArgs;
use shipper::{
    cli::live::LiveWriter,
    clock::{Clock, SystemClock, nanos},
    synth::{Mix, Synth},
};

use crate::{
    Usage,
    size::{self, Begun, Figure},
};

/// Bytes gathered before they are written to a file.
const CHUNK_BYTES: usize = 1 << 20;
/// Time between two alerts of a file that is made at once: 500 alerts a second.
const STEP: Duration = Duration::from_millis(2);

/// makes alerts: into a file as fast as it goes, or live as a manager would
#[derive(FromArgs)]
#[argh(subcommand, name = "gen")]
pub struct Gen {
    /// how many alerts (20K, 1M)
    #[argh(option, from_str_fn(size::number))]
    count: Option<u64>,
    /// how many bytes at least (64 MiB, 1G)
    #[argh(option, from_str_fn(size::number))]
    bytes: Option<u64>,
    /// the file to write; without it, standard output
    #[argh(option)]
    out: Option<PathBuf>,
    /// which alerts: natural, windows, fail2ban, irrelevant or plain
    #[argh(option, from_str_fn(size::mix), default = "Mix::Natural")]
    mix: Mix,
    /// the same seed gives the same alerts
    #[argh(option, default = "1")]
    seed: u64,
    /// time of the first alert of a file, seconds since 1970; now if not given
    #[argh(option)]
    start: Option<u64>,
    /// the manager's zone, minutes east of UTC
    #[argh(option, default = "0")]
    zone: i32,
    /// write as a manager does: dated file, hard link, stdio blocks, a flush each second
    #[argh(switch)]
    live: bool,
    /// live: the folder of alerts.json
    #[argh(option)]
    dir: Option<PathBuf>,
    /// live: alerts a second
    #[argh(option, from_str_fn(size::number), default = "500")]
    rate: u64,
    /// live: for how long (60s); until --count or --bytes if not given
    #[argh(option, long = "for", from_str_fn(size::span))]
    span: Option<Duration>,
    /// live: a new part so often (10s)
    #[argh(option, from_str_fn(size::span))]
    rotate_every: Option<Duration>,
    /// live: a new part at this size
    #[argh(option, from_str_fn(size::number))]
    rotate_bytes: Option<u64>,
    /// print the sums as JSON on standard output
    #[argh(switch)]
    json: bool,
}

impl Gen {
    /// Makes what is asked for.
    pub fn run(&self) -> anyhow::Result<()> {
        if self.count.is_none() && self.bytes.is_none() && self.span.is_none() {
            return Err(Usage("gen needs an end; give --count, --bytes or, with --live, --for".into()).into());
        }
        let figure = match (&self.dir, self.live) {
            (Some(dir), true) => self.live(dir)?,
            (None, true) => return Err(Usage("gen --live needs a folder; give --dir".into()).into()),
            (Some(_), false) => return Err(Usage("--dir is for live writing; give --live, or --out for a file".into()).into()),
            (None, false) if self.span.is_some() || self.rotate_every.is_some() || self.rotate_bytes.is_some() => {
                return Err(Usage("--for and --rotate-… are for live writing; give --live and --dir".into()).into());
            }
            (None, false) => self.file()?,
        };
        match (self.json, self.out.is_some() || self.live) {
            (true, true) => println!("{}", serde_json::to_string(&figure)?),
            (true, false) => eprintln!("{}", serde_json::to_string(&figure)?),
            (false, _) => {
                eprintln!("{} alerts, {} bytes in {:.2} s: {:.3} GB/s", figure.lines, figure.bytes, figure.seconds, figure.gb_per_second)
            }
        }
        Ok(())
    }

    fn ends(&self, lines: u64, bytes: u64) -> bool {
        self.count.is_some_and(|most| lines >= most) || self.bytes.is_some_and(|most| bytes >= most)
    }

    #[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    fn file(&self) -> anyhow::Result<Figure> {
        let (mut out, name): (Box<dyn Write>, _) = match &self.out {
            Some(path) => {
                let file =
                    File::create(path).with_context(|| format!("cannot make {}; check the folder and its permissions", path.display()))?;
                (Box::new(file), path.display().to_string())
            }
            None => (Box::new(io::stdout().lock()), "standard output".to_owned()),
        };
        let mut synth = Synth::new(self.seed, self.mix);
        let mut now = self.start.map_or_else(|| SystemClock::new().now(), |seconds| seconds.saturating_mul(1_000_000_000));
        let (begun, mut told, mut chunk, mut bytes) = (Begun::now(), Instant::now(), Vec::with_capacity(CHUNK_BYTES + (64 << 10)), 0);
        loop {
            let end = self.ends(synth.ordinal(), bytes + chunk.len() as u64);
            if end || chunk.len() >= CHUNK_BYTES {
                out.write_all(&chunk).with_context(|| format!("cannot write to {name}; is the disk full?"))?;
                bytes += chunk.len() as u64;
                chunk.clear();
                if told.elapsed() >= Duration::from_secs(1) {
                    told = Instant::now();
                    eprintln!("{} alerts, {} bytes", synth.ordinal(), bytes);
                }
            }
            if end {
                break;
            }
            synth.alert(&mut chunk, now, self.zone);
            now = now.saturating_add(nanos(STEP));
        }
        out.flush().with_context(|| format!("cannot write to {name}; is the disk full?"))?;
        Ok(Figure::new("gen", begun.done(synth.ordinal(), bytes)))
    }

    #[allow(clippy::disallowed_methods, reason = "live alerts come in real time")]
    fn live(&self, dir: &Path) -> anyhow::Result<Figure> {
        let failed = || format!("cannot write below {}; check its permissions and space", dir.display());
        let mut writer = LiveWriter::open(dir, Synth::new(self.seed, self.mix), self.zone, self.rotate_bytes).with_context(failed)?;
        let (begun, mut told, mut rotated) = (Begun::now(), Instant::now(), Instant::now());
        loop {
            // As many as the rate owes by now: sleeping too long is made up for, not lost.
            let owed = (begun.elapsed().as_secs_f64() * self.rate as f64) as u64;
            while writer.alerts() < owed && !self.ends(writer.alerts(), writer.bytes()) {
                writer.write().with_context(failed)?;
            }
            writer.tick().with_context(failed)?;
            if self.span.is_some_and(|span| begun.elapsed() >= span) || self.ends(writer.alerts(), writer.bytes()) {
                break;
            }
            if self.rotate_every.is_some_and(|every| rotated.elapsed() >= every) {
                rotated = Instant::now();
                writer.rotate().with_context(failed)?;
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                eprintln!("{} alerts, {} bytes, writing {}", writer.alerts(), writer.bytes(), writer.path().display());
            }
            thread::sleep(Duration::from_millis(2));
        }
        writer.flush().with_context(failed)?;
        Ok(Figure::new("gen", begun.done(writer.alerts(), writer.bytes())))
    }
}
