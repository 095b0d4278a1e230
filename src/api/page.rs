//! The page for a person with a browser: one request, nothing to fetch, nothing to run.
//!
//! Every text that is not ours goes through [`escape`]: a component's trouble may quote a peer.

use std::{fmt, fmt::Write, time::Duration};

use super::{Face, Look, VERSION};
use crate::{
    clock::Clock,
    detect::kept::{Brief, brief::rfc3339},
    metrics::Behind,
};

/// Seconds between two looks.
const REFRESH_S: u32 = 5;
/// Alerts that are shown.
const ALERTS: usize = 10;

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1c2430;--dim:#66707f;--line:#e1e5ea;--good:#1a7f4b;--warn:#a86400;--bad:#c0262d}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2029;--text:#e4e8ee;--dim:#929dac;--line:#2a323d;--good:#4cc38a;--warn:#e0a13a;--bad:#ff6b70}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 3rem}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:.25rem 1rem}
h1{margin:0;font-size:1.5rem}
h2{margin:2rem 0 .5rem;font-size:1rem}
.dim{color:var(--dim)}
.mark{display:inline-block;padding:0 .6rem;border:1px solid currentColor;border-radius:1rem;font-size:.85rem;font-weight:600}
.ok,.ready{color:var(--good)}.degraded,.starting,.retrying{color:var(--warn)}.failing,.holding{color:var(--bad)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1.25rem 0 0}
dl div,.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem}
dl div{padding:.5rem .75rem}
dt{color:var(--dim);font-size:.8rem}
dd{margin:0;font-weight:600;overflow-wrap:anywhere}
.card{overflow-x:auto}
table{width:100%;border-collapse:collapse}
th,td{padding:.45rem .75rem;text-align:left;vertical-align:top;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--dim);font-size:.8rem;font-weight:600;white-space:nowrap}
td{overflow-wrap:anywhere}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
ul.reasons{margin:1rem 0 0;padding:.6rem .75rem .6rem 2rem;border:1px solid var(--line);border-left:4px solid var(--warn);border-radius:.5rem;background:var(--card)}
ul.reasons.failing{border-left-color:var(--bad);color:inherit}
footer{margin-top:2rem;font-size:.85rem}
a{color:inherit}
";

/// The whole page.
pub(super) fn page(face: &Face, look: &Look) -> String {
    let mut html = String::with_capacity(16 << 10);
    // Writing into a string cannot fail.
    let _ = write(&mut html, face, look);
    html
}

fn write(html: &mut String, face: &Face, look: &Look) -> fmt::Result {
    let status = look.health.status.word();
    let instance = escape(&face.instance);
    writeln!(html, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(html, "<meta name=\"viewport\" content=\"width=device-width\">\n<meta http-equiv=\"refresh\" content=\"{REFRESH_S}\">")?;
    writeln!(html, "<title>{status}: shipper on {instance}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>")?;
    writeln!(html, "<header><h1>shipper</h1><span class=\"mark {status}\">{status}</span><span class=\"dim\">{instance}</span></header>")?;
    if !look.health.reasons.is_empty() {
        writeln!(html, "<ul class=\"reasons {status}\">")?;
        for reason in &look.health.reasons {
            writeln!(html, "<li>{}</li>", escape(reason))?;
        }
        writeln!(html, "</ul>")?;
    }
    facts(html, face, look)?;
    components(html, look)?;
    sources(html, face, look)?;
    branches(html, look)?;
    alerts(html, face)?;
    writeln!(
        html,
        "<footer class=\"dim\">Looks again every {REFRESH_S} s. For programs: <a href=\"/metrics\">/metrics</a>, <a href=\"/health\">/health</a>, \
         <a href=\"/health/live\">/health/live</a>, <a href=\"/health/ready\">/health/ready</a>.</footer>"
    )?;
    writeln!(html, "</main>\n</body>\n</html>")
}

fn facts(html: &mut String, face: &Face, look: &Look) -> fmt::Result {
    let usage = crate::io::usage();
    let dead_letter = format!("{} of {}", bytes(look.dead_letter_bytes), bytes(face.dead_letter_bytes_max));
    let saved = look.checkpoint_age.map_or("not yet".to_owned(), |age| format!("{} ago", span(age)));
    let facts = [
        ("Version", VERSION.to_owned()),
        ("Engine", face.engine.clone()),
        ("Running for", span(look.uptime)),
        ("Memory", bytes(usage.resident_bytes)),
        ("Processor time", span(usage.cpu)),
        ("Checkpoint saved", saved),
        ("Dead letter on disk", dead_letter),
    ];
    writeln!(html, "<dl>")?;
    for (name, value) in facts {
        writeln!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value))?;
    }
    writeln!(html, "</dl>")
}

fn components(html: &mut String, look: &Look) -> fmt::Result {
    table(html, "Components", &["Component", "Kind", "State", ""])?;
    for c in &look.health.components {
        let word = c.state.word();
        // The word stands in its own column; what follows it is the trouble.
        let text = c.state.to_string();
        let why = text.strip_prefix(word).unwrap_or(&text).trim_start_matches([':', ' ']);
        let waited_for = if c.required { "" } else { " <span class=\"dim\">(not required)</span>" };
        writeln!(
            html,
            "<tr><td>{}{waited_for}</td><td>{}</td><td class=\"{word}\">{word}</td><td>{}</td></tr>",
            escape(&c.name),
            escape(c.kind),
            escape(why)
        )?;
    }
    end(html)
}

fn sources(html: &mut String, face: &Face, look: &Look) -> fmt::Result {
    table(html, "Sources", &["Source", "#Records read", "#Lag", "#Oldest unacked", "#Read again", "#Missed", ""])?;
    let (now, mono) = (face.clock.now(), face.clock.mono());
    for (source, counts, behind) in face.metrics.sources(now, mono) {
        let stalled = look.health.streams.iter().any(|s| s.source == source && s.stalled);
        let age = if behind == Behind::default() { "–".to_owned() } else { span(behind.age) };
        writeln!(
            html,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{age}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"failing\">{}</td></tr>",
            escape(&source),
            grouped(counts.records.get()),
            bytes(behind.lag()),
            bytes(counts.reread.get()),
            bytes(counts.missed.get()),
            if stalled { "stalled" } else { "" }
        )?;
    }
    end(html)
}

fn branches(html: &mut String, look: &Look) -> fmt::Result {
    table(html, "Branches", &["Source", "Branch", "#Read", "#Shipped", "#Dropped by rule", "#Dead letter", "#In flight"])?;
    for (source, branch, counts) in &look.branches {
        writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(source),
            escape(branch),
            bytes(counts.read.get()),
            bytes(counts.shipped.get()),
            bytes(counts.dropped.total()),
            bytes(counts.dead_letter.total()),
            bytes(u64::try_from(counts.in_flight.get()).unwrap_or(0))
        )?;
    }
    end(html)
}

/// The newest alerts in memory, if any are kept there.
fn alerts(html: &mut String, face: &Face) -> fmt::Result {
    let newest = face.alerts.newest(ALERTS);
    if newest.is_empty() {
        return Ok(());
    }
    table(html, "Alerts", &["Time", "Severity", "Entity", "Source", ""])?;
    for kept in newest {
        let Brief { id, entity, time_ms, severity, source } = &kept.brief;
        // An id is letters, digits, dots and dashes.
        writeln!(
            html,
            "<tr><td>{}</td><td>{severity}</td><td>{}</td><td>{}</td><td><a href=\"/api/alerts/{id}\">{id}</a></td></tr>",
            rfc3339(*time_ms),
            escape(entity),
            escape(source)
        )?;
    }
    end(html)
}

/// Begins a table; a heading that begins with `#` stands over numbers.
fn table(html: &mut String, title: &str, headings: &[&str]) -> fmt::Result {
    writeln!(html, "<h2>{title}</h2>\n<div class=\"card\"><table>\n<thead><tr>")?;
    for heading in headings {
        match heading.strip_prefix('#') {
            Some(heading) => writeln!(html, "<th class=\"n\">{heading}</th>")?,
            None => writeln!(html, "<th>{heading}</th>")?,
        }
    }
    writeln!(html, "</tr></thead>\n<tbody>")
}

fn end(html: &mut String) -> fmt::Result {
    writeln!(html, "</tbody></table></div>")
}

/// Text that HTML takes for nothing but text, also within quotes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// `1.5 MiB`; whole below 1 KiB.
fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `2 d 3 h`, `14 min`, `2.5 s`: as exact as a glance needs.
fn span(of: Duration) -> String {
    let s = of.as_secs();
    match s {
        0..10 => format!("{:.1} s", of.as_secs_f64()),
        10..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

/// `1 234 567`, with spaces that do not break.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(escape("<a href='x\"&'>"), "&lt;a href=&#39;x&quot;&amp;&#39;&gt;");
        assert_eq!(escape("sinks.dfn_cert – grün"), "sinks.dfn_cert – grün");
    }

    #[test]
    fn figures_read_at_a_glance() {
        for (n, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_610_612_736, "1.5 GiB"), (u64::MAX, "16777216.0 TiB")] {
            assert_eq!(bytes(n), text);
        }
        for (ms, text) in
            [(0, "0.0 s"), (2_540, "2.5 s"), (61_000, "61 s"), (3_600_000, "60 min"), (7_260_000, "2 h 1 min"), (180_000_000, "2 d 2 h")]
        {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
    }
}
