//! `shipper apt score`: the alerts of records, one JSON object a line.
//!
//! The handler and the detector are those of the agent; the clock is that of the events. What a handler refuses is
//! told on standard error and is not in the way.

#![allow(clippy::disallowed_methods, reason = "a command reads files that a person names")]

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use argh::FromArgs;

use super::out::Gone;
use crate::{
    batch::DraftPool,
    cli::CONFIG,
    clock::{Clock, SystemClock},
    handlers,
    io::Slab,
    position::Position,
    register::{Errors, Node, Section},
    sources::{At, Chunk, ChunkKind},
    stages::{self, Now, Stage},
    tables::Shelf,
    topology::{self, Host, Plan, handle::Desk},
};

/// Standard input as a file, for which `-` stands on the command line.
pub const STDIN: &str = "/dev/stdin";

/// Print the alerts of records, one JSON object a line: those of single events, and at the end those of windows.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "score",
    example = "shipper apt score - < events.json",
    example = "shipper apt score --config /etc/shipper/shipper.toml alerts.json",
    example = "shipper apt simulate --scenario brute_force --output stdout | shipper apt score --single -"
)]
pub struct Score {
    /// files of records, one a line; - is standard input
    #[argh(positional)]
    files: Vec<PathBuf>,
    /// take the handler `apt` and the stage `detector` of this config
    #[argh(option)]
    config: Option<PathBuf>,
    /// only alerts of single events, none of windows
    #[argh(switch)]
    single: bool,
}

/// What reads records, and what remembers their events.
struct Parts {
    handler: Arc<dyn handlers::Spec>,
    detector: Box<dyn Stage>,
    tables: Shelf,
}

impl Parts {
    /// With the defaults of both.
    fn plain() -> anyhow::Result<Self> {
        let (node, mut errors) = (Node::parse_scalar("{}"), Errors::default());
        let handler = handlers::ALL.iter().find(|kind| kind.name() == "apt").context("no handler apt in this build")?;
        let stage = stages::ALL.iter().find(|kind| kind.name() == "detector").context("no stage detector in this build")?;
        let handler = handler.parse(&mut Section::open("apt", &node, handler.fields(), &[], &mut errors));
        let stage = stage.parse(&mut Section::open("detector", &node, stage.fields(), &[], &mut errors));
        anyhow::ensure!(errors.is_empty(), "{errors}");
        let tables = Shelf::default();
        Ok(Self { handler: handler.into(), detector: stage.build(&tables), tables })
    }

    /// The first of each kind in a config; `None` if it has no such handler.
    fn of(path: &Path) -> anyhow::Result<Option<Self>> {
        let plan = Plan::load(Some(path), std::env::vars(), &[], &Host::this())?;
        for trouble in topology::tables::fill(&plan) {
            eprintln!("shipper: {trouble}");
        }
        let Some(handler) = plan.handlers.iter().find(|handler| handler.kind == "apt") else { return Ok(None) };
        let detector = match plan.stages.iter().find(|stage| stage.kind == "detector") {
            Some(stage) => stage.spec.build(&plan.shelf),
            None => Self::plain()?.detector,
        };
        Ok(Some(Self { handler: handler.spec.clone(), detector, tables: plan.shelf }))
    }
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read, or standard output fails.
pub(super) fn run(args: &Score) -> anyhow::Result<ExitCode> {
    let parts = match &args.config {
        None => Parts::plain()?,
        Some(path) => match Parts::of(path)? {
            Some(parts) => parts,
            None => {
                eprintln!("shipper: config {} has no handler of kind apt; add one, or leave --config away", path.display());
                return Ok(ExitCode::from(CONFIG));
            }
        },
    };
    let mut scoring = Scoring::new(parts, args.single);
    let standard = [PathBuf::from(STDIN)];
    for path in if args.files.is_empty() { &standard[..] } else { &args.files } {
        if path.as_os_str() == STDIN {
            scoring.read(&mut io::stdin().lock(), "standard input")?;
        } else {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            scoring.read(&mut BufReader::new(file), &path.display().to_string())?;
        }
    }
    scoring.finish()
}

/// Records on their way to alerts.
struct Scoring {
    desk: Desk,
    detector: Option<Box<dyn Stage>>,
    out: BufWriter<io::Stdout>,
    /// When it began, nanoseconds since 1970.
    now: u64,
    origin: Arc<str>,
    records: u64,
    events: u64,
    alerts: u64,
    refused: BTreeMap<&'static str, u64>,
}

impl Scoring {
    fn new(parts: Parts, single: bool) -> Self {
        let Parts { handler, detector, tables } = parts;
        let now = SystemClock::new().now();
        Self {
            desk: Desk::new(vec![(handler.build(&tables), vec![Some(0), Some(1)])], DraftPool::new(1), true),
            detector: (!single).then_some(detector),
            out: BufWriter::new(io::stdout()),
            now,
            origin: format!("stdin/{}", now / 1_000_000).into(),
            records: 0,
            events: 0,
            alerts: 0,
            refused: BTreeMap::new(),
        }
    }

    /// The present, of the clock that does not move: windows close by the time of events alone.
    fn at(&self) -> Now {
        Now { mono: self.now, wall: self.now }
    }

    fn read(&mut self, input: &mut dyn BufRead, name: &str) -> anyhow::Result<()> {
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line).with_context(|| format!("cannot read {name}"))? > 0 {
            if !line.ends_with(b"\n") {
                line.push(b'\n');
            }
            self.record(std::mem::take(&mut line))?;
        }
        Ok(())
    }

    fn record(&mut self, line: Vec<u8>) -> anyhow::Result<()> {
        let at = At::Count { origin: self.origin.clone(), first: self.records };
        self.records += 1;
        let (slab, kind) = (Slab::from_bytes(line), ChunkKind::Lines);
        let (handled, _) = self.desk.handle(Chunk { slab, at, kind, received: self.now, own: false, rung: None }, &[0]);
        for rejected in handled.rejected {
            *self.refused.entry(rejected.reason).or_default() += 1;
        }
        let batch = handled.draft.finish(0, Position::Count(self.records), 0);
        for n in batch.numbers() {
            let message = batch.message(n);
            if message.output == 0 {
                self.write(message.payload)?;
                continue;
            }
            self.events += 1;
            if let Some(detector) = &mut self.detector {
                let (now, mut out) = (Now { mono: self.now, wall: self.now }, stages::Out::default());
                detector.take(&message, now, &mut out);
                let made: Vec<_> = out.made().filter(|(output, ..)| *output == 0).map(|(.., payload)| payload.to_vec()).collect();
                for payload in made {
                    self.write(&payload)?;
                }
            }
        }
        self.ticks()
    }

    /// Lets the detector say what is due.
    fn ticks(&mut self) -> anyhow::Result<()> {
        let now = self.at();
        let Some(detector) = &mut self.detector else { return Ok(()) };
        if detector.due().is_none_or(|due| due > now.mono) {
            return Ok(());
        }
        let mut late = stages::Late::default();
        detector.tick(now, &mut late);
        self.late(&late)
    }

    fn late(&mut self, late: &stages::Late) -> anyhow::Result<()> {
        late.messages.iter().filter(|message| message.output == 0).try_for_each(|message| self.write(&message.payload))
    }

    fn write(&mut self, alert: &[u8]) -> anyhow::Result<()> {
        self.alerts += 1;
        match self.out.write_all(alert).and_then(|()| self.out.write_all(b"\n")) {
            // Whoever closed the pipe does not want more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Gone.into()),
            done => done.context("cannot write to standard output"),
        }
    }

    fn finish(mut self) -> anyhow::Result<ExitCode> {
        let now = self.at();
        if let Some(detector) = &mut self.detector {
            let mut late = stages::Late::default();
            detector.flush(now, &mut late);
            self.late(&late)?;
        }
        self.out.flush().or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
        let refused: Vec<_> = self.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let refused = if refused.is_empty() { String::new() } else { format!("; refused: {}", refused.join(", ")) };
        eprintln!("{} records, {} events, {} alerts{refused}", self.records, self.events, self.alerts);
        Ok(ExitCode::SUCCESS)
    }
}
