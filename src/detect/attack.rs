//! Techniques and tactics of MITRE ATT&CK: their names, and which an event points to.
//!
//! What an event or a rule names is taken as it is. Only where nothing is named, techniques are inferred from the
//! features that are high and from the kind of event, by the tables below, and are marked so.

use std::{borrow::Cow, sync::OnceLock};

use super::FEATURES;
use crate::limits;

/// Who says that a technique was used, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// `rule.mitre` of a Wazuh alert, `threat` of an ECS document.
    Rule,
    /// Tags of a Sigma rule that matched.
    Sigma,
    /// The event itself.
    Event,
    /// The tables here.
    Inferred,
}

impl Evidence {
    /// All of them.
    pub const ALL: [Evidence; 4] = [Evidence::Rule, Evidence::Sigma, Evidence::Event, Evidence::Inferred];

    /// As alerts have it.
    pub fn word(self) -> &'static str {
        match self {
            Evidence::Rule => "rule",
            Evidence::Sigma => "sigma",
            Evidence::Event => "event",
            Evidence::Inferred => "inferred",
        }
    }
}

/// A technique of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Technique<'a> {
    /// `T1059` or `T1059.001`.
    pub id: Cow<'a, str>,
    pub evidence: Evidence,
    /// How many events name it; 1 for what is inferred.
    pub count: u32,
}

/// Tactics as bits, in the order of [`TACTICS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tactics(u16);

/// Id, name, and the short name that Sigma's tags and STIX have; by id.
const TACTICS: [(&str, &str, &str); 14] = [
    ("TA0001", "Initial Access", "initial-access"),
    ("TA0002", "Execution", "execution"),
    ("TA0003", "Persistence", "persistence"),
    ("TA0004", "Privilege Escalation", "privilege-escalation"),
    ("TA0005", "Defense Evasion", "defense-evasion"),
    ("TA0006", "Credential Access", "credential-access"),
    ("TA0007", "Discovery", "discovery"),
    ("TA0008", "Lateral Movement", "lateral-movement"),
    ("TA0009", "Collection", "collection"),
    ("TA0010", "Exfiltration", "exfiltration"),
    ("TA0011", "Command and Control", "command-and-control"),
    ("TA0040", "Impact", "impact"),
    ("TA0042", "Resource Development", "resource-development"),
    ("TA0043", "Reconnaissance", "reconnaissance"),
];

impl Tactics {
    /// The tactic of an id, such as `TA0001`; none if there is no such.
    pub fn of_id(id: &str) -> Self {
        Self(TACTICS.iter().position(|(known, ..)| *known == id).map_or(0, |n| 1 << n))
    }

    fn of_ids(ids: &str) -> Self {
        ids.split(' ').fold(Self::default(), |all, id| all.and(Self::of_id(id)))
    }

    /// The tactic of a short name, such as `initial-access`; ATT&CK 19's two halves of Defense Evasion are that.
    pub fn of_short_name(name: &str) -> Option<Self> {
        let name = name.replace('_', "-").to_ascii_lowercase();
        let name = if matches!(&*name, "stealth" | "defense-impairment") { "defense-evasion" } else { &name };
        TACTICS.iter().position(|(.., short)| *short == name).map(|n| Self(1 << n))
    }

    /// True if both have one.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those of either.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Ids and names, by id.
    pub fn list(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        TACTICS.iter().enumerate().filter(move |(n, _)| self.0 >> n & 1 == 1).map(|(_, (id, name, _))| (*id, *name))
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: &'static str,
    pub name: &'static str,
    pub tactics: Tactics,
}

/// The table: its version, and rows by id.
struct Table {
    version: &'static str,
    rows: Vec<Row>,
    /// Of each row, [`number`].
    numbers: Vec<u32>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let text = include_str!("attack.tsv");
        let version = text.strip_prefix("# ATT&CK Enterprise ").and_then(|rest| rest.split(':').next()).unwrap_or("unknown");
        let row = |line: &'static str| {
            let mut parts = line.split('\t');
            Some(Row { id: parts.next()?, name: parts.next()?, tactics: Tactics::of_ids(parts.next()?) })
        };
        let rows: Vec<Row> = text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect();
        let numbers = rows.iter().filter_map(|row| number(row.id)).collect();
        Table { version, rows, numbers }
    })
}

/// A technique's id as a number of the same order, a parent before its parts: compared at once where text takes a call.
fn number(id: &str) -> Option<u32> {
    let digits = |of: &[u8]| of.iter().try_fold(0, |all, b| b.is_ascii_digit().then(|| all * 10 + u32::from(b - b'0')));
    let (parent, part) = match id.as_bytes() {
        [b'T', parent @ ..] if parent.len() == 4 => (parent, None),
        [b'T', parent @ .., b'.', a, b, c] if parent.len() == 4 => (parent, Some([*a, *b, *c])),
        _ => return None,
    };
    let part = match part {
        Some(part) => digits(&part)? + 1,
        None => 0,
    };
    Some(digits(parent)? * 1001 + part)
}

/// The version of ATT&CK that the table is of.
pub fn version() -> &'static str {
    table().version
}

/// What the table has of a technique. What was revoked has the tactics of what came in its place.
pub fn row(id: &str) -> Option<&'static Row> {
    let table = table();
    let n = table.numbers.binary_search(&number(id)?).ok()?;
    table.rows.get(n)
}

/// The name of a technique and its tactics; a sub-technique without a row has its parent's.
pub fn known(id: &str) -> (&'static str, Tactics) {
    let parent = || row(id.split('.').next().unwrap_or(id));
    row(id).or_else(parent).map_or(("Unknown Technique", Tactics::default()), |row| (row.name, row.tactics))
}

/// The tactics of a technique; a sub-technique without a row has its parent's.
pub fn tactics(id: &str) -> Tactics {
    known(id).1
}

/// The id in its normal form, if the text is one: `T` and four digits, perhaps a point and three more.
pub fn id(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    let is_id = matches!(text.as_bytes(), [b'T' | b't', rest @ ..] if match rest {
        [a, b, c, d] => [a, b, c, d].iter().all(|b| b.is_ascii_digit()),
        [a, b, c, d, b'.', e, f, g] => [a, b, c, d, e, f, g].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    });
    is_id.then(|| if text.starts_with('T') { Cow::Borrowed(text) } else { Cow::Owned(text.to_ascii_uppercase()) })
}

/// What the tags of a Sigma rule name: techniques by id, and the tactics of tags and techniques.
pub fn of_sigma_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> (Vec<Cow<'a, str>>, Tactics) {
    let (mut techniques, mut all) = (Vec::new(), Tactics::default());
    for tag in tags {
        let Some(rest) = tag.get(..7).filter(|start| start.eq_ignore_ascii_case("attack.")).and_then(|_| tag.get(7..)) else { continue };
        match id(rest) {
            Some(id) => {
                all = all.and(tactics(&id));
                techniques.push(id);
            }
            None => all = all.and(Tactics::of_short_name(rest).unwrap_or_default()),
        }
    }
    techniques.sort_unstable();
    techniques.dedup();
    (techniques, all)
}

/// From when on a feature counts as high, and what that points to; in the order of [`FEATURES`].
const BY_FEATURE: [(f64, &[&str]); 10] = [
    (0.7, &["T1071", "T1105", "T1041", "T1095", "T1571"]),
    (0.6, &["T1078", "T1021", "T1133"]),
    (0.5, &["T1078", "T1110", "T1187", "T1212"]),
    (0.6, &["T1005", "T1083", "T1213", "T1530", "T1537"]),
    (0.7, &["T1566", "T1114", "T1048", "T1534"]),
    (0.7, &["T1486", "T1496", "T1489", "T1490", "T1561"]),
    (0.6, &["T1055", "T1559", "T1562", "T1497"]),
    (0.6, &["T1005", "T1560", "T1486", "T1074", "T1115"]),
    (0.5, &["T1071", "T1095", "T1571", "T1572"]),
    (0.6, &["T1057", "T1059", "T1106", "T1204", "T1569"]),
];

/// What an event type points to.
const BY_EVENT_TYPE: [(&str, &[&str]); 7] = [
    ("process", &["T1059", "T1106", "T1204", "T1569"]),
    ("network_connection", &["T1071", "T1095", "T1571"]),
    ("authentication", &["T1078", "T1110"]),
    ("file", &["T1005", "T1083", "T1074"]),
    ("dns_query", &["T1071", "T1189", "T1598"]),
    ("service", &["T1543", "T1569"]),
    ("login", &["T1078", "T1021"]),
];

/// Tactics that matter for a type of entity.
const BY_ENTITY_TYPE: [(&str, &str); 3] = [
    ("host", "TA0002 TA0003 TA0004 TA0005 TA0007"),
    ("user", "TA0001 TA0003 TA0004 TA0006 TA0008"),
    ("network", "TA0001 TA0008 TA0010 TA0011"),
];

/// The score below which nothing is inferred.
const SCORE_MIN: f64 = 0.5;

/// From when on a feature counts as high; 0.6 for a name that is none of [`FEATURES`].
pub fn threshold(feature: &str) -> f64 {
    let known = FEATURES.iter().zip(BY_FEATURE).find(|(name, _)| **name == feature);
    known.map_or(0.6, |(_, (threshold, _))| threshold)
}

/// Techniques that features and event type point to, by id.
///
/// - `features`: 0 where there is none.
/// - `score`: of the alert; below 0.5 nothing is inferred.
/// - `entity_type`: of `host`, `user` and `network` only techniques are kept that have a tactic of it, unless that
///   would leave none.
pub fn infer(features: &[f64; 10], score: f64, event_type: &str, entity_type: &str) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = Vec::new();
    if score.is_nan() || score < SCORE_MIN {
        return found;
    }
    for (value, (threshold, ids)) in features.iter().zip(BY_FEATURE) {
        if *value >= threshold {
            found.extend(ids);
        }
    }
    if let Some((_, ids)) = BY_EVENT_TYPE.iter().find(|(name, _)| *name == event_type) {
        found.extend(*ids);
    }
    found.sort_unstable();
    found.dedup();
    if let Some((_, wanted)) = BY_ENTITY_TYPE.iter().find(|(name, _)| *name == entity_type) {
        let wanted = Tactics::of_ids(wanted);
        if found.iter().any(|id| tactics(id).meets(wanted)) {
            found.retain(|id| tactics(id).meets(wanted));
        }
    }
    found
}

/// Techniques of an alert, by id: what was named, each once with its best evidence and how often; only if nothing
/// was, what is inferred.
///
/// Of more than [`limits::ALERT_TECHNIQUES_MAX`] those with the best evidence, then those named most often are kept.
pub fn of_alert<'a>(
    named: impl IntoIterator<Item = (Cow<'a, str>, Evidence, u32)>,
    features: &[f64; 10],
    score: f64,
    event_type: &str,
    entity_type: &str,
) -> Vec<Technique<'a>> {
    let mut all: Vec<Technique<'a>> = Vec::new();
    for (id, evidence, count) in named {
        all.push(Technique { id, evidence, count });
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all.dedup_by(|again, kept| {
        let same = again.id == kept.id;
        if same {
            kept.evidence = kept.evidence.min(again.evidence);
            kept.count = kept.count.saturating_add(again.count);
        }
        same
    });
    if all.is_empty() {
        let inferred = infer(features, score, event_type, entity_type).into_iter();
        return inferred.map(|id| Technique { id: Cow::Borrowed(id), evidence: Evidence::Inferred, count: 1 }).collect();
    }
    if all.len() > limits::ALERT_TECHNIQUES_MAX {
        all.sort_by(|a, b| (a.evidence, b.count, &a.id).cmp(&(b.evidence, a.count, &b.id)));
        all.truncate(limits::ALERT_TECHNIQUES_MAX);
        all.sort_by(|a, b| a.id.cmp(&b.id));
    }
    all
}

/// How many of these features count as high.
pub fn high<'f>(features: impl IntoIterator<Item = (&'f str, f64)>) -> u32 {
    features.into_iter().map(|(name, value)| u32::from(value >= threshold(name))).sum()
}

/// How sure the techniques of a behavioural alert are, 0 to 0.9 in hundredths.
///
/// - `high`: how many features count as high.
pub fn confidence(score: f64, high: u32) -> f64 {
    let sure = (0.7 * score + 0.05 * f64::from(high)).clamp(0.0, 0.9);
    (sure * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(feature: usize) -> [f64; 10] {
        let mut features = [0.0; 10];
        features[feature] = 0.95;
        features
    }

    #[test]
    fn the_table_is_whole_and_in_order() {
        let table = table();
        assert_eq!((table.version, table.rows.len()), ("18.1", 835));
        assert!(table.rows.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(table.numbers.len(), table.rows.len());
        assert!(table.numbers.is_sorted_by(|a, b| a < b));
        for row in &table.rows {
            assert_eq!(id(row.id).as_deref(), Some(row.id));
            assert!(!row.name.is_empty());
            assert_ne!(row.tactics, Tactics::default(), "{}", row.id);
        }
        let ids = BY_FEATURE.iter().flat_map(|(_, ids)| *ids).chain(BY_EVENT_TYPE.iter().flat_map(|(_, ids)| *ids));
        for id in ids {
            assert!(row(id).is_some(), "{id}");
        }
    }

    #[test]
    fn a_number_stands_for_one_id_and_nothing_else_has_one() {
        let ids = ["T0000", "T0000.000", "T0000.999", "T0001", "T1059", "T1059.000", "T1059.001", "T9999.999"];
        assert!(ids.map(|id| number(id).unwrap()).is_sorted_by(|a, b| a < b));
        for text in ["", "T", "T105", "T10590", "T1059.", "T1059.01", "t1059", "TA0001", "T1059.00a", "T10a9", "T1059x001"] {
            assert_eq!((number(text), row(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn a_technique_that_is_not_in_the_table_has_what_its_parent_has() {
        assert_eq!(
            ["T1059.001", "T1059.999", "T9999"].map(|id| known(id).0),
            ["PowerShell", "Command and Scripting Interpreter", "Unknown Technique"]
        );
        assert_eq!(tactics("T1059.999"), tactics("T1059"));
        assert_eq!(tactics("T9999.001"), Tactics::default());
        // T1086 was revoked by T1059.001.
        assert_eq!(known("T1086"), ("PowerShell", Tactics::of_ids("TA0002")));
    }

    #[test]
    fn an_id_has_one_form() {
        assert_eq!([" t1059.001 ", "T1005"].map(|text| id(text).unwrap().into_owned()), ["T1059.001", "T1005"]);
        for text in ["", "T", "T105", "T10590", "T1059.", "T1059.01", "TA0001", "T1059.00a", "S0001", "T\u{661}059"] {
            assert_eq!(id(text), None, "{text}");
        }
    }

    #[test]
    fn an_entity_type_keeps_what_it_knows_unless_that_is_nothing() {
        assert_eq!(infer(&only(2), 0.8, "", "host"), ["T1078"]);
        assert_eq!(infer(&only(2), 0.8, "", "thing"), ["T1078", "T1110", "T1187", "T1212"]);
        // Impact is no tactic of a host.
        assert_eq!(infer(&only(7), 0.8, "", "host"), ["T1005", "T1074", "T1115", "T1486", "T1560"]);
        assert_eq!(infer(&only(7), 0.499, "", "host"), Vec::<&str>::new());
        assert_eq!(infer(&only(7), f64::NAN, "", "host"), Vec::<&str>::new());
        assert_eq!(infer(&[0.0; 10], 0.5, "dns_query", "network"), ["T1071", "T1189"]);
    }

    #[test]
    fn what_is_named_wins_over_what_is_inferred() {
        let named = [("T1110.001", Evidence::Event, 2), ("T1021", Evidence::Sigma, 1), ("T1110.001", Evidence::Rule, 1)];
        let all = of_alert(named.map(|(id, evidence, n)| (id.into(), evidence, n)), &only(0), 0.9, "process", "host");
        let rows: Vec<_> = all.iter().map(|t| (&*t.id, t.evidence, t.count)).collect();
        assert_eq!(rows, [("T1021", Evidence::Sigma, 1), ("T1110.001", Evidence::Rule, 3)]);
        let inferred = of_alert([], &only(0), 0.9, "", "");
        assert_eq!(inferred.len(), 5);
        assert!(inferred.iter().all(|t| t.evidence == Evidence::Inferred && t.count == 1));
    }

    #[test]
    fn of_too_many_techniques_the_best_are_kept() {
        let many = (0..200).map(|n| (Cow::Owned(format!("T{n:04}")), if n % 2 == 0 { Evidence::Event } else { Evidence::Rule }, n));
        let kept = of_alert(many, &[0.0; 10], 0.9, "", "");
        assert_eq!(kept.len(), limits::ALERT_TECHNIQUES_MAX);
        assert!(kept.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!((&*kept[0].id, kept.last().map(|t| &*t.id)), ("T0073", Some("T0199")));
    }

    #[test]
    fn tags_of_sigma_say_techniques_and_tactics() {
        let (ids, tactics) =
            of_sigma_tags(["attack.stealth", "attack.t1036.005", "attack.Initial_Access", "detection.emerging-threats", "cve.2025-1"]);
        assert_eq!(ids, ["T1036.005"]);
        assert_eq!(tactics.list().collect::<Vec<_>>(), [("TA0001", "Initial Access"), ("TA0005", "Defense Evasion")]);
    }

    #[test]
    fn confidence_has_a_ceiling() {
        assert_eq!((confidence(0.62, 0), confidence(0.62, 3), confidence(1.0, 9)), (0.43, 0.58, 0.9));
        assert_eq!(high([("cpu_usage_mean", 0.7), ("cpu_usage_mean", 0.69), ("anything", 0.6), ("anything", 0.59)]), 2);
    }
}
