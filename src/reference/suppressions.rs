//! `suppressions`: what is known and shall raise no alarm for a while, from a file of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Finding, Kind, Level, Spec, Trouble, read};
use crate::{
    clock::{Clock, Nanos, SystemClock},
    io::Disk,
    limits::{SUPPRESSIONS_FILE_BYTES, SUPPRESSIONS_MAX},
    metrics::Standing,
    register::{Errors, Field, Node, Section, Type, Value},
    tables::{
        Shelf, Suppressions,
        networks::{self, Networks},
        suppressions::Rule,
    },
};

/// The kind.
pub struct SuppressionTables;

static FIELDS: &[Field] = &[Field::required(
    "path",
    Type::Path,
    "The file of suppressions, TOML or YAML, read again when it changes. Each is a `[[suppress]]` with `until` (a day, which is \
     included, or a time such as 2026-12-24T18:00:00Z; days are those of UTC), `reason`, and at least one of `rules` (ids and ranges such as \"942100-942199\"), \
     `host` (`*.example.org` is every name below), `path` (its beginning) and `client` (addresses and networks). An event is suppressed if every \
     rule that it set off is covered. It is still scored, written and counted; only its alert is held back.",
)];

/// The settings of one suppression.
static RULE_FIELDS: &[Field] = &[
    Field::new("rules", Type::Texts, "[]", "Ids and ranges of ids."),
    Field::new("host", Type::Texts, "[]", "Names of hosts."),
    Field::new("path", Type::Texts, "[]", "Beginnings of paths."),
    Field::new("client", Type::Texts, "[]", "Addresses and networks of clients."),
    Field::required("until", Type::Text, "The last day, or the moment of its end."),
    Field::required("reason", Type::Text, "For people."),
];

impl Kind for SuppressionTables {
    fn name(&self) -> &'static str {
        "suppressions"
    }
    fn about(&self) -> &'static str {
        "events that shall raise no alarm for a while, each with an end and a reason"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings { path: section.path("path") })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    path: PathBuf,
}

impl Settings {
    fn read(&self, disk: &dyn Disk) -> Result<Vec<Rule>, Trouble> {
        let bytes = read(disk, &self.path, "file of suppressions", SUPPRESSIONS_FILE_BYTES)?;
        let broken = |errors: &dyn std::fmt::Display| {
            let errors = errors.to_string().replace('\n', "; ");
            Trouble::Broken(format!("the file of suppressions {} is wrong: {errors}", self.path.display()))
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| broken(&"it is no UTF-8; save it as that"))?;
        let is_yaml = self.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
        let tree = if is_yaml { Node::parse_yaml(text) } else { Node::parse_toml(text) };
        parse(&tree.map_err(|errors| broken(&errors))?).map_err(|errors| broken(&errors))
    }
}

/// Reads the suppressions of a file.
///
/// # Errors
/// All that is wrong, with its line.
fn parse(tree: &Node) -> Result<Vec<Rule>, Errors> {
    let (mut errors, mut all) = (Errors::default(), Vec::new());
    for (key, _) in tree.entries().iter().filter(|(key, _)| key.name != "suppress") {
        errors.add(&key.place, key.name.as_str(), "no such setting; write [[suppress]] for each suppression");
    }
    let rules = match tree.get("suppress") {
        None => &[],
        Some(Node { value: Value::List(rules), .. }) => rules.as_slice(),
        Some(one) => {
            errors.add(&one.place, "suppress", format!("{} is no list of tables; write [[suppress]]", one.value.shown()));
            &[]
        }
    };
    if rules.len() > SUPPRESSIONS_MAX {
        errors.add(&tree.place, "suppress", format!("there are {}, at most {SUPPRESSIONS_MAX} can be; join some", rules.len()));
    }
    for (number, node) in (1..).zip(rules) {
        let name = format!("suppress[{number}]");
        if !matches!(node.value, Value::Table(_)) {
            errors.add(&node.place, name, format!("{} is no table; write [[suppress]]", node.value.shown()));
            continue;
        }
        all.push(rule(&mut Section::open(name, node, RULE_FIELDS, &[], &mut errors)));
    }
    if errors.is_empty() { Ok(all) } else { Err(errors) }
}

fn rule(section: &mut Section<'_>) -> Rule {
    let mut rules = Vec::new();
    for text in section.texts("rules") {
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => rules.push(first..=last),
            _ => section.wrong("rules", format!("{text:?} is no rule; write an id or a range, such as \"942100-942199\"")),
        }
    }
    let mut hosts = Vec::new();
    for host in section.texts("host") {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() || name.strip_prefix("*.").unwrap_or(&name).contains(['*', ':', '/']) {
            section.wrong("host", format!("{host:?} is no name; write www.example.org or *.example.org, without port"));
        }
        hosts.push(name);
    }
    let paths = section.texts("path");
    if let Some(wrong) = paths.iter().find(|path| !path.starts_with('/') || path.contains(['?', '#'])) {
        section.wrong("path", format!("{wrong:?} is no beginning of a path; write it as /search/, without a query"));
    }
    let mut clients = Vec::new();
    for text in section.texts("client") {
        match networks::parse(text.trim()) {
            Some(network) => clients.push((network, 0)),
            None => section.wrong("client", format!("{text:?} is no network; write it as 203.0.113.0/24 or 2001:db8::/32")),
        }
    }
    let until = section.text("until");
    let end = end_of(&until);
    if end.is_none() && section.is_set("until") {
        section.wrong("until", format!("{until:?} is no time; write a day such as 2026-12-24, or 2026-12-24T18:00:00Z"));
    }
    let reason = section.text("reason");
    if reason.trim().is_empty() && section.is_set("reason") {
        section.wrong("reason", "is empty; say why, and who decided it");
    }
    let until = end.unwrap_or_default();
    let rule = Rule { rules, hosts, paths, clients: Networks::build(clients), until, reason };
    let names = ["rules", "host", "path", "client"];
    if rule.is_boundless() && names.iter().all(|name| !section.is_set(name)) {
        section.wrong("until", "this suppression would hold back every alert; set rules, host, path or client");
    }
    rule
}

/// The first moment at which a suppression no longer counts: the time that is written, or the end of that day.
fn end_of(text: &str) -> Option<Nanos> {
    let time = match text.trim().parse::<jiff::civil::Date>() {
        Ok(day) if text.trim().len() == "2026-12-24".len() => {
            jiff::tz::Offset::UTC.to_timestamp(day.tomorrow().ok()?.at(0, 0, 0, 0)).ok()?
        }
        _ => text.trim().parse::<jiff::Timestamp>().ok()?,
    };
    u64::try_from(time.as_nanosecond()).ok()
}

/// A time as people write it.
fn shown(at: Nanos) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
    format!("{time:.0}")
}

fn told(table: &Suppressions) -> String {
    format!("{} suppressions", table.all().len())
}

impl Spec for Settings {
    fn place(&self, name: &str, shelf: &mut Shelf) {
        shelf.place::<Suppressions>(name);
    }

    fn load(&self, name: &str, shelf: &Shelf, disk: &dyn Disk, _state_dir: &Path) -> Result<String, Trouble> {
        let all = self.read(disk)?;
        let held = shelf.of::<Suppressions>(name);
        let before = held.as_ref().and_then(|held| held.get());
        let table = Suppressions::new(all, before.as_deref());
        let what = told(&table);
        if let Some(held) = held {
            held.put(Arc::new(table));
        }
        Ok(what)
    }

    fn files(&self, _disk: &dyn Disk, _state_dir: &Path) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn tend(&self, name: &str, shelf: &Shelf, standing: &Standing, now: Nanos) {
        let Some(table) = shelf.of::<Suppressions>(name).and_then(|held| held.get()) else { return };
        for suppression in table.newly_expired(now) {
            let (until, held_back) = (shown(suppression.rule.until), suppression.count());
            let reason = &suppression.rule.reason;
            tracing::warn!(table = name, until, held_back, reason, "a suppression has ended; remove it, or give it another end");
        }
        for suppression in table.all() {
            let new = suppression.take_new();
            if new > 0 {
                let help = "Alerts that suppressions held back, by reason";
                standing.count("shipper_suppressed_alerts", help, &[("reason", &label(&suppression.rule.reason))]).inc_by(new);
            }
        }
    }

    fn check(&self, disk: &dyn Disk, _state_dir: &Path) -> Vec<Finding> {
        let all = match self.read(disk) {
            Ok(all) => all,
            Err(trouble) => return vec![Finding { level: Level::Bad, text: trouble.to_string() }],
        };
        let now = SystemClock::new().now();
        let ended = |rule: &Rule| Finding {
            level: Level::Warning,
            text: format!("the suppression {:?} ended at {}; remove it, or give it another end", rule.reason, shown(rule.until)),
        };
        let mut findings: Vec<Finding> = all.iter().filter(|rule| rule.is_expired(now)).map(ended).collect();
        findings.push(Finding { level: Level::Good, text: told(&Suppressions::new(all, None)) });
        findings
    }
}

/// A reason as the value of a label: short, and nothing that a reader of figures must escape.
fn label(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\') { ' ' } else { c }).take(80).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        io::disk::RealDisk,
        metrics::{Board, Metrics},
        tables::suppressions::Event,
    };

    const FILE: &str = "\
[[suppress]]
rules = [920350, '942100-942199']
host = 'shop.example'
path = '/search'
client = ['192.0.2.0/24']
until = 2099-12-24
reason = 'search \"takes\" SQL'

[[suppress]]
client = '198.51.100.7'
until = 2026-01-31T12:00:00Z
reason = 'pen test'
";

    fn write(text: &str) -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("suppressions.toml");
        fs::write(&path, text).unwrap();
        (dir, Settings { path })
    }

    #[test]
    fn a_file_is_read_counts_are_shown_and_an_end_is_told_once() {
        let (_dir, settings) = write(FILE);
        let (disk, mut shelf, board) = (RealDisk::new(), Shelf::default(), Board::default());
        settings.place("known", &mut shelf);
        assert_eq!(settings.load("known", &shelf, &disk, Path::new("/")), Ok("2 suppressions".into()));
        let held = shelf.of::<Suppressions>("known").unwrap();
        let event = Event { rules: &[942_100], host: "shop.example", path: "/search/x", client: "192.0.2.9".parse().ok(), at: 0 };
        assert_eq!(held.get().unwrap().hold_back(&event), Some("search \"takes\" SQL"));
        let (standing, metrics) = (board.enter("tables.known"), Metrics::new(&board));
        let now = end_of("2026-01-31T12:00:00Z").unwrap();
        settings.tend("known", &shelf, &standing, now);
        settings.tend("known", &shelf, &standing, now);
        let line = r#"shipper_suppressed_alerts_total{component="tables.known",reason="search  takes  SQL"} 1"#;
        assert!(metrics.text().contains(line), "{}", metrics.text());
        assert_eq!(held.get().unwrap().newly_expired(now).count(), 0, "told");
        settings.load("known", &shelf, &disk, Path::new("/")).unwrap();
        assert_eq!((held.get().unwrap().count(), held.get().unwrap().newly_expired(now).count()), (1, 0), "a reload keeps both");
        let check = settings.check(&disk, Path::new("/"));
        assert!(check[0].level == Level::Warning && check[0].text.contains("\"pen test\" ended at 2026-01-31T12:00:00Z"), "{check:?}");
        assert_eq!(check[1], Finding { level: Level::Good, text: "2 suppressions".into() });
        fs::write(&settings.path, "").unwrap();
        assert_eq!(settings.load("known", &shelf, &disk, Path::new("/")), Ok("0 suppressions".into()));
    }

    #[test]
    fn a_day_is_included() {
        assert_eq!(end_of("2026-12-24"), end_of("2026-12-25T00:00:00Z"));
        assert_eq!(end_of("2026-12-24T18:00:00+01:00"), end_of("2026-12-24T17:00:00Z"));
        assert!([" ", "tomorrow", "2026-13-01", "24.12.2026"].iter().all(|text| end_of(text).is_none()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let text = "\
[[suppress]]
until = 'soon'
reason = ' '
[[suppress]]
rules = ['x', '9-1']
host = 'a:80'
path = 'search'
client = 'here'
reasn = 'x'
[[suppres]]
";
        let (_dir, settings) = write(text);
        let error = settings.read(&RealDisk::new()).unwrap_err().to_string();
        let error = error.split_once(" is wrong: ").unwrap().1.replace("; line", ";\nline");
        insta::assert_snapshot!(error, @r#"
        line 10: suppres: no such setting; write [[suppress]] for each suppression;
        line 2: suppress[1].until: "soon" is no time; write a day such as 2026-12-24, or 2026-12-24T18:00:00Z;
        line 3: suppress[1].reason: is empty; say why, and who decided it;
        line 2: suppress[1].until: this suppression would hold back every alert; set rules, host, path or client;
        line 9: suppress[2].reasn: no such setting; did you mean "reason"?;
        line 5: suppress[2].rules: "x" is no rule; write an id or a range, such as "942100-942199";
        line 5: suppress[2].rules: "9-1" is no rule; write an id or a range, such as "942100-942199";
        line 6: suppress[2].host: "a:80" is no name; write www.example.org or *.example.org, without port;
        line 7: suppress[2].path: "search" is no beginning of a path; write it as /search/, without a query;
        line 8: suppress[2].client: "here" is no network; write it as 203.0.113.0/24 or 2001:db8::/32;
        line 4: suppress[2].until: must be set; it is text;
        line 4: suppress[2].reason: must be set; it is text
        "#);
        let (_dir, settings) = write("suppress = 1\n");
        assert!(settings.read(&RealDisk::new()).unwrap_err().to_string().contains("write [[suppress]]"));
    }
}
