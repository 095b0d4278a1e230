//! `shipper try`: records of standard input through the handlers; no network, no state.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use argh::FromArgs;
use serde_json::{Value, json};

use super::{CONFIG, USAGE};
use crate::{
    alert::Parser,
    batch::{Batch, DraftPool},
    clock::{Clock, SystemClock},
    handlers::{self, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    sources::{At, Chunk, ChunkKind},
    tables::Shelf,
    topology::{
        self, Host, Plan,
        handle::{Desk, Handled},
    },
};

/// Show what handlers would send for records on standard input, one JSON object a line.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "try",
    example = "shipper try --handler dfn < alerts.json",
    example = "shipper try --config shipper.toml --explain < alerts.json"
)]
pub struct Try {
    /// take the handlers of this config
    #[argh(option)]
    config: Option<PathBuf>,
    /// only this handler; without a config, this kind with its defaults
    #[argh(option)]
    handler: Option<String>,
    /// nanoseconds since 1970 at which the records count as received (default: now)
    #[argh(option)]
    received: Option<u64>,
    /// say what each handler saw and why it decided so
    #[argh(switch)]
    explain: bool,
}

/// A handler to be tried: its name, its spec, its outputs' names.
struct Seat {
    name: String,
    spec: Arc<dyn handlers::Spec>,
    outputs: Vec<&'static str>,
}

/// Runs the command.
///
/// # Errors
/// If the config is wrong or standard input or output fails.
pub fn run(args: &Try) -> anyhow::Result<ExitCode> {
    let (seats, tables) = match seats(args)? {
        Ok(seats) => seats,
        Err(code) => return Ok(ExitCode::from(code)),
    };
    let received = args.received.unwrap_or_else(|| SystemClock::new().now());
    let mut slot = 0;
    let mut names = Vec::new();
    let branches = seats
        .iter()
        .map(|seat| {
            let routes = seat.outputs.iter().map(|output| {
                names.push((seat.name.clone(), if output.is_empty() { seat.name.clone() } else { format!("{}.{output}", seat.name) }));
                slot += 1;
                Some(slot - 1)
            });
            (seat.spec.build(&tables), routes.collect())
        })
        .collect();
    let mut desk = Desk::new(branches, DraftPool::new(1), true);
    let mut explainers: Vec<_> = seats.iter().map(|seat| (seat.name.clone(), seat.spec.build(&tables))).collect();
    let origin: Arc<str> = format!("stdin/{}", received / 1_000_000).into();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    let mut number = 0u64;
    while input.read_until(b'\n', &mut line).context("cannot read standard input")? > 0 {
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        let frame = line.trim_ascii_end().to_vec();
        let at = At::Count { origin: origin.clone(), first: number };
        let chunk =
            Chunk { slab: Slab::from_bytes(std::mem::take(&mut line)), at, kind: ChunkKind::Lines, received, own: false, rung: None };
        let (handled, _) = desk.handle(chunk, &vec![0; seats.len()]);
        number += 1;
        let mut answer = answer(handled, number, &names);
        if args.explain {
            let record = Record { frame: &frame, origin: Origin { stream: &origin, offset: number - 1, len: None }, received, own: false };
            answer["facts"] = facts(&mut explainers, &record);
        }
        writeln!(out, "{answer}").context("cannot write to standard output")?;
    }
    out.flush().context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// The handlers, and the tables that they may name.
fn seats(args: &Try) -> anyhow::Result<Result<(Vec<Seat>, Shelf), u8>> {
    let outputs_of = |kind: &str| {
        handlers::ALL.iter().find(|k| k.name() == kind).map(|k| k.outputs().iter().map(|o| o.name).collect()).unwrap_or_default()
    };
    if let Some(path) = &args.config {
        let plan = Plan::load(Some(path), std::env::vars(), &[], &Host::this())?;
        let seats: Vec<_> = plan
            .handlers
            .iter()
            .filter(|h| args.handler.as_ref().is_none_or(|name| *name == h.name))
            .map(|h| Seat { name: h.name.clone(), spec: h.spec.clone(), outputs: outputs_of(h.kind) })
            .collect();
        if seats.is_empty() {
            eprintln!("shipper: config {} has no handler {:?}", path.display(), args.handler.as_deref().unwrap_or_default());
            return Ok(Err(CONFIG));
        }
        for trouble in topology::tables::fill(&plan) {
            eprintln!("shipper: {trouble}");
        }
        return Ok(Ok((seats, plan.shelf)));
    }
    let name = args.handler.as_deref().unwrap_or("dfn");
    let Some(kind) = handlers::ALL.iter().find(|k| k.name() == name) else {
        let known: Vec<_> = handlers::ALL.iter().map(|k| k.name()).collect();
        eprintln!("shipper: no handler {name:?}; known: {}", known.join(", "));
        return Ok(Err(USAGE));
    };
    let (node, mut errors) = (Node::parse_scalar("{}"), Errors::default());
    let spec = kind.parse(&mut Section::open(name, &node, kind.fields(), &[], &mut errors));
    anyhow::ensure!(errors.is_empty(), "handler {name} needs settings; name a config with --config\n{errors}");
    Ok(Ok((vec![Seat { name: name.to_owned(), spec: spec.into(), outputs: outputs_of(name) }], Shelf::default())))
}

fn answer(handled: Handled, line: u64, names: &[(String, String)]) -> Value {
    let Handled { draft, rejected, .. } = handled;
    let batch = draft.finish(0, Position::Count(line), 0);
    if batch.is_empty() {
        return match rejected.first() {
            Some(reject) => json!({"line": line, "fate": "rejected", "reason": reject.reason, "detail": reject.detail}),
            None => json!({"line": line, "fate": "dropped"}),
        };
    }
    let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
    let messages: Vec<Value> = (0..count).map(|n| message(&batch, n, names)).collect();
    json!({"line": line, "fate": "emitted", "messages": messages})
}

fn message(batch: &Batch, n: u32, names: &[(String, String)]) -> Value {
    let message = batch.message(n);
    let (handler, output) = names.get(usize::from(message.output)).cloned().unwrap_or_default();
    let headers: Vec<Value> = message.headers().map(|(name, value)| json!([name, String::from_utf8_lossy(value)])).collect();
    let key = message.key.map(String::from_utf8_lossy);
    let mut shown = json!({"handler": handler, "output": output, "key": key, "headers": headers});
    match std::str::from_utf8(message.payload) {
        Ok(text) => shown["value"] = text.into(),
        Err(_) => shown["value_b64"] = base64(message.payload).into(),
    }
    shown
}

fn facts(explainers: &mut [(String, Box<dyn handlers::Handler>)], record: &Record<'_>) -> Value {
    let mut parser = Parser::new();
    let mut all = serde_json::Map::new();
    for (name, handler) in explainers {
        let facts = handler.explain(record, &mut parser.alert(record.frame));
        let facts: serde_json::Map<String, Value> =
            facts.into_iter().map(|(name, text)| (name.to_owned(), serde_json::from_str(&text).unwrap_or(Value::String(text)))).collect();
        all.insert(name.clone(), Value::Object(facts));
    }
    Value::Object(all)
}

/// RFC 4648 §4, padded; for the rare payload that is no text.
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, b| word << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
    }
}
