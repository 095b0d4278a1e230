//! `shipper apt eval`: how well the detector ranks what is known to be an attack.
//!
//! Two protocols. **AIT-W** (`--ait`): alerts with columns `time, host, short, event_label`, stably sorted by time, go
//! through the detector as it runs in an agent, with windows of ten minutes; windows from a day after the first alert on
//! count, and one is positive if a label other than `-` and `dnsteal` lies in it. Days are those from the first alert to
//! the last. **Tabular**: numbers with a column
//! `label` go one row at a time through the engine alone, scored first and then learnt, in the order of the file and
//! shuffled.

mod ait;
mod quality;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;
use argh::FromArgs;
use serde_json::{Value, json};

use crate::detect::detector::Engine;

/// Measure the detector on labelled data: CSV, or CSV that is compressed with gzip.
///
/// With --ait: alerts with the columns time, host, short and event_label. Without: numbers, and a column label that is
/// 1 for what is to be found. Figures are the area under the ROC curve (auc), average precision (ap), and the share of
/// attack labels that the top 3 and top 10 windows of a day show (cov@3, cov@10).
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "eval",
    example = "shipper apt eval --ait fox_alerts.csv.gz shaw_alerts.csv.gz",
    example = "shipper apt eval --ait --only W --json fox_alerts.csv.gz",
    example = "shipper apt eval shuttle.csv.gz"
)]
#[allow(clippy::disallowed_methods, reason = "measures real time and reads real files")]
pub struct Eval {
    /// the files hold alerts of the AIT alert data set, or such as those
    #[argh(switch)]
    ait: bool,
    /// with --ait: only alerts whose column short begins so; W is Wazuh
    #[argh(option, default = "String::new()")]
    only: String,
    /// rcf (default) or oif
    #[argh(option, default = "String::from(\"rcf\")")]
    engine: String,
    /// seed of the engine and of shuffling (default 42); one seed is one result
    #[argh(option, default = "42")]
    seed: u64,
    /// without --ait: times that rows are shuffled, of which the mean is told (default 3)
    #[argh(option, default = "3")]
    shuffles: u64,
    /// one JSON object
    #[argh(switch)]
    json: bool,
    /// files
    #[argh(positional)]
    files: Vec<PathBuf>,
}

/// The engine of a word.
fn engine(word: &str) -> anyhow::Result<Engine> {
    [Engine::Rcf, Engine::Oif].into_iter().find(|engine| engine.word() == word).with_context(|| format!("no engine {word:?}; rcf or oif"))
}

/// A file's text, uncompressed.
#[allow(clippy::disallowed_methods, reason = "a command reads real files")]
fn text(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&*bytes)
            .read_to_end(&mut plain)
            .with_context(|| format!("{} is no whole gzip", path.display()))?;
        bytes = plain;
    }
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Places of columns in the first line of a CSV.
///
/// # Errors
/// If one is missing.
fn columns<const N: usize>(header: &str, names: [&str; N]) -> anyhow::Result<[usize; N]> {
    let known: Vec<&str> = header.trim_end().split(',').map(|name| name.trim_matches('"')).collect();
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        let found = known.iter().position(|known| *known == name);
        *place = found.with_context(|| format!("no column {name:?} among {}", known.join(", ")))?;
    }
    Ok(places)
}

/// A figure to three digits behind the point.
fn rounded(x: f64) -> Value {
    json!((x * 10_000.0).round() / 10_000.0)
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read or lacks a column, or standard output fails.
#[allow(clippy::disallowed_methods, reason = "measures real time")]
pub fn run(args: &Eval) -> anyhow::Result<ExitCode> {
    let engine = engine(&args.engine)?;
    anyhow::ensure!(!args.files.is_empty(), "no file is named; shipper apt eval --help has examples");
    let mut rows: Vec<(String, Vec<(&'static str, f64)>)> = Vec::new();
    for path in &args.files {
        let begun = Instant::now();
        let text = text(path)?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let of_file = || format!("in {}", path.display());
        let mut figures = if args.ait {
            let windows = ait::windows(&text, &args.only, engine, args.seed).with_context(of_file)?;
            windows.figures()
        } else {
            let table = table::Table::read(&text).with_context(of_file)?;
            table.figures(engine, args.seed, args.shuffles)
        };
        figures.push(("seconds", begun.elapsed().as_secs_f64()));
        rows.push((name, figures));
    }
    let mean: Vec<(&'static str, f64)> = rows.first().map_or_else(Vec::new, |(_, first)| {
        let of = |n: usize| rows.iter().filter_map(|(_, figures)| figures.get(n)).map(|(_, x)| x).sum::<f64>() / rows.len() as f64;
        first.iter().enumerate().map(|(n, (name, _))| (*name, of(n))).collect()
    });
    super::super::tell(&if args.json { as_json(args, &rows, &mean) } else { as_text(&rows, &mean) })?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(args: &Eval, rows: &[(String, Vec<(&'static str, f64)>)], mean: &[(&'static str, f64)]) -> String {
    let object = |figures: &[(&'static str, f64)]| {
        figures.iter().map(|(name, x)| ((*name).to_owned(), rounded(*x))).collect::<serde_json::Map<String, Value>>()
    };
    let files: Vec<Value> = rows
        .iter()
        .map(|(name, figures)| {
            let mut row = object(figures);
            row.insert("file".into(), json!(name));
            Value::Object(row)
        })
        .collect();
    let protocol = if args.ait { "ait-w" } else { "tabular" };
    let all =
        json!({"protocol": protocol, "engine": args.engine, "seed": args.seed, "only": args.only, "files": files, "mean": object(mean)});
    format!("{all}\n")
}

fn as_text(rows: &[(String, Vec<(&'static str, f64)>)], mean: &[(&'static str, f64)]) -> String {
    let shown = |name: &str, x: f64| {
        if matches!(name, "rows" | "windows" | "positive" | "alerts" | "alerts_true") { format!("{x:.0}") } else { format!("{x:.4}") }
    };
    let mut lines: Vec<Vec<String>> = Vec::new();
    lines.push(std::iter::once(String::new()).chain(mean.iter().map(|(name, _)| (*name).to_owned())).collect());
    for (name, figures) in rows {
        lines.push(std::iter::once(super::super::plain(name)).chain(figures.iter().map(|(name, x)| shown(name, *x))).collect());
    }
    if rows.len() > 1 {
        lines.push(std::iter::once("mean".to_owned()).chain(mean.iter().map(|(name, x)| shown(name, *x))).collect());
    }
    let width = |n: usize| lines.iter().filter_map(|line| line.get(n)).map(String::len).max().unwrap_or(0);
    let mut out = String::new();
    for line in &lines {
        for (n, cell) in line.iter().enumerate() {
            let width = width(n);
            out.push_str(&if n == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") });
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}
