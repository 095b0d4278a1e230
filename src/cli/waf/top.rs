//! `shipper waf top`: which rule hits which variable on which path, how often, and how to exclude it.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write,
    path::PathBuf,
    process::ExitCode,
};

use argh::FromArgs;
use serde_json::json;

use super::{From, directive, events, moment, variable};
use crate::{
    cli::{USAGE, plain, tell},
    handlers::waf::{event::Event, message},
};

/// Rows that are told apart; beyond, a scan has made them.
const ROWS_MAX: usize = 200_000;
/// Clients that are told apart in a row.
const CLIENTS_MAX: usize = 1000;
/// Characters of a host or a path that are told apart.
const CHARS_MAX: usize = 200;

/// Count rule, host, path (without query) and variable in audit logs, most frequent first, each with directives that
/// exclude the variable from the rule. Many clients of one row are rather a false positive, one client rather an attack.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "top",
    example = "shipper waf top /var/log/modsecurity/audit.json",
    example = "shipper waf top --since 7d --limit 50 /var/log/modsecurity/audit.json /var/log/modsecurity/audit.json.1",
    example = "zcat /var/log/modsecurity/audit.json.*.gz | shipper waf top --since 2026-11-01",
    example = "shipper waf top --json audit.json | jq -r '.exclude_here // empty' > exclusions.conf"
)]
pub struct Top {
    /// audit logs, JSON; standard input if there are none
    #[argh(positional)]
    files: Vec<PathBuf>,
    /// only events from then on: a span such as 24h or 7d, a day, or a time
    #[argh(option)]
    since: Option<String>,
    /// rows to show (default 20)
    #[argh(option, default = "20")]
    limit: usize,
    /// zone of time stamps that name none (default UTC)
    #[argh(option)]
    timezone: Option<String>,
    /// id of the first rule that is written for one path; they count up (default 10000)
    #[argh(option, default = "10000")]
    first_id: u32,
    /// one JSON object a line
    #[argh(switch)]
    json: bool,
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    rule: String,
    host: String,
    path: String,
    variable: Option<String>,
}

/// What is known of a place.
#[derive(Clone, Debug, Default)]
struct Row {
    events: u64,
    blocked: u64,
    clients: BTreeSet<String>,
    /// The rule's words.
    message: String,
}

/// Counts of all places.
#[derive(Debug, Default)]
struct Table {
    rows: HashMap<Place, Row>,
    /// Hits that found no room.
    beyond: u64,
}

impl Table {
    fn add(&mut self, event: &Event<'_>) {
        let host = if event.site().is_empty() { event.server } else { event.site() };
        let path = event.uri.split(['?', '#']).next().unwrap_or_default();
        let text = |text: &str| text.chars().take(CHARS_MAX).collect::<String>();
        // A rule that hits a variable twice, or is loaded twice, counts once.
        let mut seen = BTreeSet::new();
        for entry in event.messages.into_iter().flat_map(|messages| messages.elements()) {
            let Some(found) = message::read(entry, None).filter(|found| !found.is_bookkeeping()) else { continue };
            let place = Place { rule: found.id.clone().into_owned(), host: text(host), path: text(path), variable: variable::of(entry) };
            if !seen.insert(place.clone()) {
                continue;
            }
            if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&place) {
                self.beyond += 1;
                continue;
            }
            let row = self.rows.entry(place).or_default();
            row.events += 1;
            row.blocked += u64::from(event.is_blocked());
            if row.clients.len() < CLIENTS_MAX {
                row.clients.insert(text(event.client));
            }
            if row.message.is_empty() {
                row.message = text(found.text);
            }
        }
    }

    /// The rows, most frequent first.
    fn sorted(&self) -> Vec<(&Place, &Row)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|(a, x), (b, y)| y.events.cmp(&x.events).then_with(|| a.cmp(b)));
        rows
    }
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read, or standard output fails.
pub(super) fn run(args: &Top) -> anyhow::Result<ExitCode> {
    let now = super::now();
    let since = match args.since.as_deref().map(|text| moment(text, now)).transpose() {
        Ok(since) => since.unwrap_or(0),
        Err(what) => {
            eprintln!("shipper: --since: {what}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let mut table = Table::default();
    let from = From { files: &args.files, timezone: args.timezone.as_deref() };
    let account = events::each(&from, now, &mut |event, at| {
        if at >= since {
            table.add(event);
        }
    })?;
    tell(&if args.json { json(args, &table) } else { text(args, &table) })?;
    if account.timeless > 0 {
        eprintln!("shipper: {} events have no time that can be read; they are counted", account.timeless);
    }
    if !account.told().is_empty() {
        eprintln!("shipper: {}", account.told());
    }
    if table.beyond > 0 {
        eprintln!("shipper: {} hits in more than {ROWS_MAX} different places are not shown; narrow it with --since", table.beyond);
    }
    Ok(ExitCode::SUCCESS)
}

/// The directives of the nth row.
fn directives(args: &Top, n: usize, place: &Place) -> (Option<String>, Option<String>) {
    let id = args.first_id.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
    let variable = place.variable.as_deref();
    (directive::on_path(id, &place.rule, variable, &place.path), directive::everywhere(&place.rule, variable))
}

fn json(args: &Top, table: &Table) -> String {
    let mut out = String::new();
    for (n, (place, row)) in table.sorted().into_iter().take(args.limit).enumerate() {
        let (here, everywhere) = directives(args, n, place);
        let line = json!({
            "events": row.events, "blocked": row.blocked, "clients": row.clients.len(), "rule": place.rule, "host": place.host,
            "path": place.path, "variable": place.variable, "message": row.message, "exclude_here": here, "exclude_everywhere": everywhere,
        });
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{line}");
    }
    out
}

fn text(args: &Top, table: &Table) -> String {
    let mut out = String::new();
    if table.rows.is_empty() {
        return "no rule hit anything\n".into();
    }
    out.push_str("  events  blocked  clients  rule, host, path, variable\n");
    for (n, (place, row)) in table.sorted().into_iter().take(args.limit).enumerate() {
        let clients = if row.clients.len() >= CLIENTS_MAX { format!("{CLIENTS_MAX}+") } else { row.clients.len().to_string() };
        let Place { rule, host, path, variable } = place;
        let variable = variable.as_deref().unwrap_or("-");
        let _ = writeln!(
            out,
            "{:>8} {:>8} {clients:>8}  {rule}  {}  {}  {}",
            row.events,
            row.blocked,
            plain(host),
            plain(path),
            plain(variable)
        );
        if !row.message.is_empty() {
            let _ = writeln!(out, "{:28}{}", "", plain(&row.message));
        }
        let (here, everywhere) = directives(args, n, place);
        let by_hand = || "# its name cannot be pasted safely; exclude it by hand".to_owned();
        for line in here.into_iter().chain([everywhere.unwrap_or_else(by_hand)]) {
            let _ = writeln!(out, "{:28}{line}", "");
        }
    }
    let left = table.rows.len().saturating_sub(args.limit);
    if left > 0 {
        let _ = writeln!(out, "and {left} more; --limit shows them");
    }
    out
}
