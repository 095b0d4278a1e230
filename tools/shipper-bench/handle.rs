//! `handle`: a handler over a file's alerts in memory, beside the bare simd-json tape.

use std::{fs, path::PathBuf};

use anyhow::Context;
use argh::FromArgs;
use shipper::{
    alert::Parser,
    batch::{DraftPool, Place},
    handlers::{self, Fate, Handler, Record},
    io::Slab,
    limits,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    synth::{
        ALERT_BYTES_MEAN, Mix, Synth,
        apt::simulation::{Settings, Simulation},
        firewall::{Events, Form},
    },
};
use simd_json::Buffers;

use crate::{
    Usage,
    size::{self, Round},
};

/// runs a handler over alerts in memory, beside the bare simd-json tape over the same lines
#[derive(FromArgs)]
#[argh(subcommand, name = "handle")]
pub struct Handle {
    /// a file of alerts; 100 MB of synthetic ones if not given
    #[argh(positional)]
    file: Option<PathBuf>,
    /// the handler's kind
    #[argh(option, default = "String::from(\"forward\")")]
    handler: String,
    /// which synthetic alerts: natural, windows, fail2ban, irrelevant or plain
    #[argh(option, from_str_fn(size::mix), default = "Mix::Natural")]
    mix: Mix,
    /// how synthetic events for handler waf are written: short or modsecurity
    #[argh(option, from_str_fn(form), default = "Form::Short")]
    form: Form,
    /// bytes of synthetic alerts
    #[argh(option, from_str_fn(size::number), default = "100_000_000")]
    bytes: u64,
    /// rounds; the quickest counts
    #[argh(option, default = "3")]
    rounds: u32,
    /// print the figures as JSON
    #[argh(switch)]
    json: bool,
}

impl Handle {
    /// Measures.
    pub fn run(&self) -> anyhow::Result<()> {
        let mut handler = build(&self.handler)?;
        let alerts = match &self.file {
            Some(path) => fs::read(path).with_context(|| format!("cannot read {}; make one with `shipper-bench gen`", path.display()))?,
            None if self.handler == "waf" => events(self.form, self.bytes),
            None if self.handler == "apt" => simulated(self.bytes),
            None => synthetic(self.mix, self.bytes),
        };
        let mut refused = 0;
        let mut bare = Bare::default();
        let mut reference = || {
            let (lines, bytes, not_json) = bare.run(&alerts);
            refused = not_json;
            Ok((lines, bytes))
        };
        let mut reference = || Round::of(&mut reference);
        let mut ours = Ours::new();
        let mut handled = || {
            let slabs = slabs(&alerts);
            Round::of(|| Ok(ours.run(slabs, handler.as_mut())))
        };
        let figures =
            size::alternate(self.rounds, &mut [("simd-json tape (reference)", &mut reference), (self.handler.as_str(), &mut handled)])?;
        eprintln!("{} messages, {} rejected; the tape refused {refused} lines", ours.messages, ours.rejected);
        size::print(&figures, self.json)
    }
}

/// A running handler with its defaults.
fn build(name: &str) -> anyhow::Result<Box<dyn Handler>> {
    let known = || handlers::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    let kind =
        handlers::ALL.iter().find(|kind| kind.name() == name).ok_or_else(|| Usage(format!("no handler {name:?}; known: {}", known())))?;
    // An empty table: every setting at its default.
    let (node, mut errors) = (Node::parse_scalar("{}"), Errors::default());
    let spec = kind.parse(&mut Section::open(format!("handlers.{name}"), &node, kind.fields(), &[], &mut errors));
    if !errors.is_empty() {
        return Err(Usage(format!("handler {name:?} has no defaults to run with: {errors}")).into());
    }
    Ok(spec.build(&shipper::tables::Shelf::default()))
}

fn form(text: &str) -> Result<Form, String> {
    let known = || Form::ALL.map(|(name, _)| name).join(", ");
    Form::ALL.iter().find(|(name, _)| *name == text).map(|(_, form)| *form).ok_or_else(|| format!("no form {text:?}; known: {}", known()))
}

fn events(form: Form, bytes: u64) -> Vec<u8> {
    let (mut lines, mut made) = (Vec::with_capacity(bytes as usize + 4096), Events::new(form, 10_000));
    while (lines.len() as u64) < bytes {
        made.event(&mut lines, 1_773_465_912_000_000_000 + made.ordinal() * 2_000_000);
    }
    lines
}

/// Events of a simulated site.
fn simulated(bytes: u64) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes as usize + 4096);
    for made in Simulation::new(Settings::new(1, 1_773_465_912_000_000_000)) {
        lines.extend_from_slice(&made.json);
        lines.push(b'\n');
        if lines.len() as u64 >= bytes {
            break;
        }
    }
    lines
}

fn synthetic(mix: Mix, bytes: u64) -> Vec<u8> {
    let mut alerts = Vec::with_capacity(bytes as usize + 64 * ALERT_BYTES_MEAN);
    let mut synth = Synth::new(1, mix);
    while (alerts.len() as u64) < bytes {
        synth.alert(&mut alerts, 1_773_465_912_000_000_000 + synth.ordinal() * 2_000_000, 60);
    }
    alerts
}

/// The reference: copy the line, fill the tape, nothing else.
#[derive(Default)]
struct Bare {
    buffers: Buffers,
    scratch: Vec<u8>,
}

impl Bare {
    fn run(&mut self, alerts: &[u8]) -> (u64, u64, u64) {
        let mut tape = simd_json::Tape::null();
        let (mut lines, mut refused, mut at) = (0, 0, 0);
        for end in memchr::memchr_iter(b'\n', alerts) {
            let frame = &alerts[at..end];
            self.scratch.clear();
            self.scratch.extend_from_slice(frame);
            let mut filled = tape.reset();
            refused += u64::from(simd_json::fill_tape(&mut self.scratch, &mut self.buffers, &mut filled).is_err());
            tape = filled.reset();
            at = end + 1;
            lines += 1;
        }
        (lines, at as u64, refused)
    }
}

/// Ours: drafts and the handler over slabs as reading fills them, which is not timed here; the batches
/// are dropped, as the blackhole would.
struct Ours {
    drafts: DraftPool,
    parser: Parser,
    messages: u64,
    rejected: u64,
}

impl Ours {
    fn new() -> Self {
        Self { drafts: DraftPool::new(4), parser: Parser::new(), messages: 0, rejected: 0 }
    }

    fn run(&mut self, slabs: Vec<Slab>, handler: &mut dyn Handler) -> (u64, u64) {
        // What people wire: `waf.event`, a third output, is for stages that count events.
        const ROUTES: &[Option<u8>] = &[Some(0), Some(1)];
        (self.messages, self.rejected) = (0, 0);
        let (mut lines, mut at) = (0, 0);
        for slab in slabs {
            let len = slab.bytes.len();
            let mut draft = self.drafts.draft(slab);
            let mut start = 0;
            while let Some(len) = memchr::memchr(b'\n', &draft.bytes()[start..]) {
                let place = Place { start: start as u32, len: len as u32 + 1 };
                let origin = Origin { stream: "bench/alerts/2026-03-14/000", offset: (at + start) as u64, len: Some(place.len) };
                let (bytes, mut out) = draft.outbox(place, 0, ROUTES, origin);
                let frame = &bytes[..len];
                let record = Record { frame, origin, received: 0, own: false };
                let fate = handler.handle(&record, &mut self.parser.alert(frame), &mut out);
                self.rejected += u64::from(matches!(fate, Fate::Rejected(_)));
                start += len + 1;
                lines += 1;
            }
            let batch = draft.finish(0, Position::Count(lines), 0);
            self.messages += batch.len() as u64;
            at += len;
        }
        (lines, at as u64)
    }
}

/// Whole frames up to a slab each; a longer frame gets a slab of its own.
fn slabs(mut alerts: &[u8]) -> Vec<Slab> {
    let mut slabs = Vec::new();
    while !alerts.is_empty() {
        let most = alerts.len().min(limits::SLAB_BYTES);
        let Some(end) = memchr::memrchr(b'\n', &alerts[..most]).or_else(|| memchr::memchr(b'\n', alerts)) else { break };
        slabs.push(Slab::from_bytes(alerts[..=end].to_vec()));
        alerts = &alerts[end + 1..];
    }
    slabs
}
