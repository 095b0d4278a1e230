//! Protocol AIT-W: alerts through the detector.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::Context;

use super::{columns, quality};
use crate::detect::{
    Class, Event,
    detector::{Detector, Engine, Scored, Settings},
};

/// Seconds after the first alert from which on windows count.
const LEARNING_SECONDS: i64 = 86_400;
/// Labels that name no attack that is to be found: that one runs throughout.
const NO_TARGETS: [&str; 2] = ["-", "dnsteal"];

/// Windows that count.
pub(super) struct Windows {
    pub(super) scored: Vec<Counted>,
    /// From the first alert to the last.
    days: f64,
}

/// One of them.
pub(super) struct Counted {
    pub(super) score: f64,
    is_alert: bool,
    labels: BTreeSet<String>,
}

struct Row<'t> {
    seconds: i64,
    host: &'t str,
    short: &'t str,
    label: &'t str,
}

/// Cells of a line; what is in quotes may hold commas.
fn cells(line: &str) -> Vec<&str> {
    let (mut cells, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                cells.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    cells.push(&line[start..]);
    cells.into_iter().map(|cell| cell.trim_matches('"')).collect()
}

fn rows<'t>(text: &'t str, only: &str) -> anyhow::Result<Vec<Row<'t>>> {
    let mut lines = text.lines();
    let [time, host, short, label] = columns(lines.next().unwrap_or_default(), ["time", "host", "short", "event_label"])?;
    let mut rows = Vec::new();
    for (n, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let cells = cells(line);
        let cell = |at: usize| cells.get(at).copied().with_context(|| format!("line {} has too few cells", n + 2));
        let seconds = cell(time)?.parse::<f64>().with_context(|| format!("line {}: {:?} are no seconds", n + 2, cells.get(time)))?;
        let row = Row { seconds: seconds.floor() as i64, host: cell(host)?, short: cell(short)?, label: cell(label)? };
        if row.short.starts_with(only) {
            rows.push(row);
        }
    }
    rows.sort_by_key(|row| row.seconds);
    Ok(rows)
}

/// Runs alerts through the detector.
///
/// - `only`: how the kind of alerts that count begins.
///
/// # Errors
/// If a column or a cell is missing, or there is no alert.
pub(super) fn windows(text: &str, only: &str, engine: Engine, seed: u64) -> anyhow::Result<Windows> {
    let rows = rows(text, only)?;
    let settings = Settings { engine, seed, ..Settings::default() };
    let (first, last) = rows.first().zip(rows.last()).map(|(first, last)| (first.seconds, last.seconds)).context("there is no alert")?;
    let mut labels: BTreeMap<i64, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let (mut detector, mut scored) = (Detector::new(settings), Vec::new());
    let from = (first + LEARNING_SECONDS) * 1000;
    let take = |one: Scored, labels: &mut BTreeMap<i64, BTreeMap<String, BTreeSet<String>>>, scored: &mut Vec<Counted>| {
        let labels = labels.get_mut(&one.window.start).and_then(|hosts| hosts.remove(&*one.entity)).unwrap_or_default();
        if one.window.start >= from {
            scored.push(Counted { score: one.raw, is_alert: one.is_alert, labels });
        }
    };
    for row in &rows {
        let ms = row.seconds * 1000;
        let start = ms.div_euclid(settings.window_ms) * settings.window_ms;
        if !NO_TARGETS.contains(&row.label) {
            labels.entry(start).or_default().entry(row.host.to_owned()).or_default().insert(row.label.to_owned());
        }
        let event = Event {
            ts_ms: ms,
            entity: Cow::Borrowed(row.host),
            entity_type: Cow::Borrowed("host"),
            source: Class::Other,
            event_type: Cow::Borrowed(row.short),
            kind: Cow::Borrowed(row.short),
            counts: true,
            features: [0.0; 10],
            present: 0,
            level: 0,
            sigma: None,
            techniques: Vec::new(),
            agent_id: Cow::Borrowed(""),
        };
        detector.take(&event, i64::MAX, b"");
        while let Some(one) = detector.next() {
            take(one, &mut labels, &mut scored);
        }
    }
    detector.close_all();
    while let Some(one) = detector.next() {
        take(one, &mut labels, &mut scored);
    }
    Ok(Windows { scored, days: (last - first) as f64 / 86_400.0 })
}

impl Windows {
    /// The share of all labels that lie in the windows with the highest scores.
    ///
    /// - `per_day`: how many of them, each day.
    fn coverage(&self, per_day: f64) -> f64 {
        let mut sorted: Vec<&Counted> = self.scored.iter().collect();
        sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
        let labels = |windows: &[&Counted]| windows.iter().flat_map(|one| &one.labels).collect::<BTreeSet<_>>().len() as f64;
        let top = ((per_day * self.days) as usize).min(sorted.len());
        labels(&sorted[..top]) / labels(&sorted)
    }

    /// What is told of them.
    pub(super) fn figures(&self) -> Vec<(&'static str, f64)> {
        let scored: Vec<(f64, bool)> = self.scored.iter().map(|one| (one.score, !one.labels.is_empty())).collect();
        let alerts = || self.scored.iter().filter(|one| one.is_alert);
        vec![
            ("windows", scored.len() as f64),
            ("positive", scored.iter().filter(|(_, is)| *is).count() as f64),
            ("auc", quality::auc(&scored)),
            ("ap", quality::average_precision(&scored)),
            ("cov@3", self.coverage(3.0)),
            ("cov@10", self.coverage(10.0)),
            ("alerts", alerts().count() as f64),
            ("alerts_true", alerts().filter(|one| !one.labels.is_empty()).count() as f64),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(cells("1,\"a, b\",,c"), ["1", "a, b", "", "c"]);
        assert_eq!(cells(""), [""]);
    }

    #[test]
    fn a_missing_column_or_cell_is_named() {
        let wrong = |text| rows(text, "").map(|_| ()).unwrap_err().to_string();
        assert_eq!(wrong("time,host,short\n"), "no column \"event_label\" among time, host, short");
        assert_eq!(wrong("time,host,short,event_label\n1,a,b\n"), "line 2 has too few cells");
        assert_eq!(wrong("time,host,short,event_label\nx,a,b,-\n"), "line 2: Some(\"x\") are no seconds");
    }
}
