//! `shipper waf`: what audit logs of a web application firewall say, for who tunes its rules.

mod directive;
pub(super) mod events;
mod report;
mod top;
mod variable;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::FromArgs;

use crate::clock::{Clock, Nanos, SystemClock, nanos};

/// Look at audit logs of ModSecurity and Coraza: which rules hit where, and how the week was.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "waf",
    example = "shipper waf top /var/log/modsecurity/audit.json",
    example = "shipper waf report /var/log/modsecurity/audit.json*"
)]
pub struct Waf {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum What {
    Top(top::Top),
    Report(report::Report),
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read, or standard output fails.
pub fn run(args: &Waf) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Top(args) => top::run(args),
        What::Report(args) => report::run(args),
    }
}

/// Where events come from, and when they were.
struct From<'a> {
    /// Empty: standard input.
    files: &'a [PathBuf],
    /// Of stamps without a zone.
    timezone: Option<&'a str>,
}

/// A moment that is named by a span before now (`24h`, `7d`), a day, or a time.
fn moment(text: &str, now: Nanos) -> Result<Nanos, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()).map(|days| Duration::from_secs(86_400) * days);
    if let Some(span) = days.or_else(|| crate::register::section::parse_span(text)) {
        return Ok(now.saturating_sub(nanos(span)));
    }
    let day = |text: &str| {
        let day = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == "2026-12-24".len())?;
        jiff::tz::Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()
    };
    let time = day(text).or_else(|| text.parse::<jiff::Timestamp>().ok());
    let time = time.and_then(|time| u64::try_from(time.as_nanosecond()).ok());
    time.ok_or_else(|| format!("{text:?} is no time; write a span such as 24h or 7d, a day such as 2026-12-24, or 2026-12-24T18:00:00Z"))
}

fn now() -> Nanos {
    SystemClock::new().now()
}

/// A time as people read it, to the minute.
fn shown(at: Nanos) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spans_days_and_times() {
        let now = moment("2026-11-30T12:00:00Z", 0).unwrap();
        assert_eq!(moment("24h", now), moment("2026-11-29T12:00:00Z", 0));
        assert_eq!(moment("7d", now), moment("2026-11-23T12:00:00Z", 0));
        assert_eq!(moment("2026-11-23", now), moment("2026-11-23T00:00:00Z", 0));
        assert!(["", "soon", "2026-13-01", "d"].iter().all(|text| moment(text, now).is_err()));
        assert_eq!(shown(now), "2026-11-30 12:00");
    }
}
