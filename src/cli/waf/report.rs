//! `shipper waf report`: how the week was, host by host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::PathBuf,
    process::ExitCode,
};

use argh::FromArgs;
use serde_json::json;

use super::{From, events, moment, shown};
use crate::{
    cli::{USAGE, plain, tell},
    clock::Nanos,
    handlers::waf::{event::Event, message},
};

/// Nanoseconds.
const WEEK: Nanos = 7 * 86_400 * 1_000_000_000;
/// Hosts that are told apart: a client can ask for any name.
const HOSTS_MAX: usize = 10_000;
/// Rules that are shown of a host.
const RULES_SHOWN: usize = 5;

/// Tell for each host how many events of the last seven days were blocked, which rules hit most, and which are new since the
/// seven days before. Give it logs of two weeks.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "report",
    example = "shipper waf report /var/log/modsecurity/audit.json /var/log/modsecurity/audit.json.1",
    example = "zcat -f /var/log/modsecurity/audit.json* | shipper waf report --until 2026-11-30",
    example = "shipper waf report --json audit.json | jq 'select(.blocked_percent > 20)'"
)]
pub struct Report {
    /// audit logs, JSON; standard input if there are none
    #[argh(positional)]
    files: Vec<PathBuf>,
    /// end of the week: a day, or a time (default now)
    #[argh(option)]
    until: Option<String>,
    /// zone of time stamps that name none (default UTC)
    #[argh(option)]
    timezone: Option<String>,
    /// one JSON object a line
    #[argh(switch)]
    json: bool,
}

/// One week of one host.
#[derive(Clone, Debug, Default)]
struct Week {
    events: u64,
    blocked: u64,
    /// Events, by the rule that they set off.
    rules: BTreeMap<String, u64>,
}

impl Week {
    fn add(&mut self, event: &Event<'_>) {
        self.events += 1;
        self.blocked += u64::from(event.is_blocked());
        let entries = event.messages.into_iter().flat_map(|messages| messages.elements());
        let found = entries.filter_map(|entry| message::read(entry, None)).filter(|found| !found.is_bookkeeping());
        let rules: BTreeSet<String> = found.map(|found| found.id.into_owned()).collect();
        for rule in rules {
            *self.rules.entry(rule).or_default() += 1;
        }
    }

    fn blocked_percent(&self) -> f64 {
        if self.events == 0 { 0.0 } else { (self.blocked as f64 * 1000.0 / self.events as f64).round() / 10.0 }
    }

    /// Rules with their events, most frequent first.
    fn top(&self) -> Vec<(&str, u64)> {
        let mut rules: Vec<(&str, u64)> = self.rules.iter().map(|(rule, events)| (rule.as_str(), *events)).collect();
        rules.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
        rules
    }

    /// Rules that another week does not have.
    fn new_since<'w>(&'w self, before: &Week) -> Vec<(&'w str, u64)> {
        self.top().into_iter().filter(|(rule, _)| !before.rules.contains_key(*rule)).collect()
    }
}

/// A host: this week, and the one before.
type Host = (Week, Week);

/// Runs the command.
///
/// # Errors
/// If a file cannot be read, or standard output fails.
pub(super) fn run(args: &Report) -> anyhow::Result<ExitCode> {
    let now = super::now();
    let until = match args.until.as_deref().map(|text| moment(text, now)).transpose() {
        Ok(until) => until.unwrap_or(now),
        Err(what) => {
            eprintln!("shipper: --until: {what}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let (mut hosts, mut outside, mut beyond) = (BTreeMap::<String, Host>::new(), 0_u64, 0_u64);
    let from = From { files: &args.files, timezone: args.timezone.as_deref() };
    // An event without a time is of this week.
    let account = events::each(&from, until.saturating_sub(1), &mut |event, at| {
        let is_this = at < until && at >= until.saturating_sub(WEEK);
        if !is_this && (at >= until || at < until.saturating_sub(2 * WEEK)) {
            outside += 1;
            return;
        }
        let name = if event.site().is_empty() { event.server } else { event.site() };
        let name: String = name.chars().take(200).collect::<String>().to_ascii_lowercase();
        if hosts.len() >= HOSTS_MAX && !hosts.contains_key(&name) {
            beyond += 1;
            return;
        }
        let (this, before) = hosts.entry(name).or_default();
        if is_this { this } else { before }.add(event);
    })?;
    let mut hosts: Vec<(String, Host)> = hosts.into_iter().collect();
    hosts.sort_by_key(|(_, (this, _))| std::cmp::Reverse(this.events));
    tell(&if args.json { json(&hosts, until) } else { text(&hosts, until) })?;
    let sums = [
        (outside, "are of another time"),
        (account.timeless, "have no time that can be read, and count as of this week"),
        (beyond, "are of more hosts than are told apart"),
    ];
    for (count, what) in sums.into_iter().filter(|(count, _)| *count > 0) {
        eprintln!("shipper: {count} events {what}");
    }
    if !account.told().is_empty() {
        eprintln!("shipper: {}", account.told());
    }
    Ok(ExitCode::SUCCESS)
}

fn json(hosts: &[(String, Host)], until: Nanos) -> String {
    let mut out = String::new();
    let rules =
        |rules: Vec<(&str, u64)>| rules.into_iter().map(|(rule, events)| json!({"rule": rule, "events": events})).collect::<Vec<_>>();
    for (host, (this, before)) in hosts {
        let line = json!({
            "host": host, "from": shown(until.saturating_sub(WEEK)), "until": shown(until), "events": this.events, "blocked": this.blocked,
            "blocked_percent": this.blocked_percent(), "events_before": before.events, "blocked_percent_before": before.blocked_percent(),
            "rules": rules(this.top()), "new_rules": rules(this.new_since(before)),
        });
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{line}");
    }
    out
}

fn text(hosts: &[(String, Host)], until: Nanos) -> String {
    let mut out = format!("{} to {} (UTC)\n", shown(until.saturating_sub(WEEK)), shown(until));
    if hosts.is_empty() {
        out.push_str("no event of these two weeks\n");
    }
    let rules = |rules: &[(&str, u64)]| {
        let shown: Vec<String> = rules.iter().take(RULES_SHOWN).map(|(rule, events)| format!("{rule} ({events})")).collect();
        match rules.len().checked_sub(RULES_SHOWN).filter(|left| *left > 0) {
            Some(left) => format!("{} and {left} more", shown.join(", ")),
            None if shown.is_empty() => "none".into(),
            None => shown.join(", "),
        }
    };
    for (host, (this, before)) in hosts {
        let host = if host.is_empty() { "(no name)".to_owned() } else { plain(host) };
        let _ = writeln!(
            out,
            "\n{host}\n  events     {} ({} the week before)\n  blocked    {} %, {} ({} % the week before)\n  top rules  {}\n  new rules  {}",
            this.events,
            before.events,
            this.blocked_percent(),
            this.blocked,
            before.blocked_percent(),
            rules(&this.top()),
            if before.events == 0 { "unknown: there is no event of the week before".into() } else { rules(&this.new_since(before)) },
        );
    }
    out
}
