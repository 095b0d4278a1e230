//! `rates`: alerts of what no single event shows: too many requests, errors, blocked ones, rules.
//!
//! | rate | of each | what is counted in a window | told above |
//! |---|---|---|---|
//! | `request_rate` | client | events | `requests.above` |
//! | `blocked_share` | host | percent of events that were blocked, of at least `blocked.at_least` | `blocked.above` |
//! | `error_rate` | host and path | answers from 400 on | `errors.above` |
//! | `distinct_rules` | client | different rules that it set off: a scanner | `rules.above` |
//!
//! It takes a record for each event (output `event` of handler `waf`), and emits nothing but its alerts. What lacks
//! a member is not counted where it is needed. A key above its limit is told once a window, and a record is told
//! of once: if it lifts two rates, the second is told with the next record. Nothing is remembered over a restart;
//! windows then begin anew.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod windows;

use std::io::Write;

use windows::{Counts, Distinct, Windows};

use super::{Fate, Kind, LEVELS, Now, Out, Spec, Stage, WORDS, name};
use crate::{
    alert::{Node, Parser, json_str},
    batch::Message,
    clock::{Nanos, nanos},
    limits::RATES_KEYS_MAX,
    register::{Field, Section, Type},
    tables::Shelf,
};

/// The kind.
pub struct Rates;

const COUNT: Type = Type::Int { min: 0, max: 1_000_000_000 };

static FIELDS: &[Field] = &[
    Field::new("requests.above", COUNT, "50", "Events of one client in a window that are still no alert; 0 does not look."),
    Field::new("requests.window", Type::Span, "\"1m\"", "That window."),
    Field::new("requests.level", WORDS, "critical", "Level of that alert."),
    Field::new(
        "blocked.above",
        Type::Int { min: 0, max: 100 },
        "30",
        "Percent of a host's events in a window that may be blocked before it is an alert; 0 does not look.",
    ),
    Field::new("blocked.at_least", COUNT, "50", "Events of a host in a window from which on that share says something."),
    Field::new("blocked.window", Type::Span, "\"5m\"", "That window."),
    Field::new("blocked.level", WORDS, "medium", "Level of that alert."),
    Field::new("errors.above", COUNT, "10", "Answers from 400 on of one path in a window that are still no alert; 0 does not look."),
    Field::new("errors.window", Type::Span, "\"5m\"", "That window."),
    Field::new("errors.level", WORDS, "high", "Level of that alert."),
    Field::new(
        "rules.above",
        Type::Int { min: 0, max: 250 },
        "10",
        "Different rules that one client may set off in a window before it is an alert; 0 does not look.",
    ),
    Field::new("rules.window", Type::Span, "\"5m\"", "That window."),
    Field::new("rules.level", WORDS, "high", "Level of that alert."),
    Field::new(
        "keys",
        Type::Int { min: 1, max: RATES_KEYS_MAX as i64 },
        "50000",
        "Clients, hosts or paths that each rate follows at once; beyond, the one that was silent longest goes, and is counted.",
    ),
];

impl Kind for Rates {
    fn name(&self) -> &'static str {
        "rates"
    }
    fn about(&self) -> &'static str {
        "alerts of too many requests, blocked requests, errors or rules in a window, from a record of each event"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [&'static str] {
        &[""]
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let mut limit = |rate: &'static str, above: &'static str, window: &'static str, level: &'static str| {
            let span = section.span(window);
            let (above, level) = (u64::try_from(section.int(above)).unwrap_or(0), section.choice(level));
            if above > 0 && span.as_millis() < 1000 {
                section.wrong(window, "is shorter than a second; write a span, such as \"1m\"");
            }
            Limit { rate, above, window: nanos(span), level }
        };
        let requests = limit("request_rate", "requests.above", "requests.window", "requests.level");
        let blocked = limit("blocked_share", "blocked.above", "blocked.window", "blocked.level");
        let errors = limit("error_rate", "errors.above", "errors.window", "errors.level");
        let rules = limit("distinct_rules", "rules.above", "rules.window", "rules.level");
        if [&requests, &blocked, &errors, &rules].iter().all(|limit| limit.above == 0) {
            section.wrong("requests.above", "is 0, and so are the other limits: nothing is looked at; set one, or remove the stage");
        }
        let keys = usize::try_from(section.int("keys")).unwrap_or(1).clamp(1, RATES_KEYS_MAX);
        let at_least = u64::try_from(section.int("blocked.at_least")).unwrap_or(0);
        Box::new(Settings { requests, blocked, at_least, errors, rules, keys })
    }
}

/// One rate's limit.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// Its name in alerts.
    rate: &'static str,
    /// 0 does not look.
    above: u64,
    window: Nanos,
    level: &'static str,
}

#[derive(Clone, Debug)]
struct Settings {
    requests: Limit,
    blocked: Limit,
    at_least: u64,
    errors: Limit,
    rules: Limit,
    keys: usize,
}

impl Spec for Settings {
    fn needs(&self) -> (&'static str, Vec<&str>) {
        ("inputs", vec!["client_ip", "host", "uri", "blocked", "rules"])
    }
    fn build(&self, _tables: &Shelf) -> Box<dyn Stage> {
        Box::new(Running {
            requests: Windows::new(self.requests.window, self.keys),
            blocked: Windows::new(self.blocked.window, self.keys),
            errors: Windows::new(self.errors.window, self.keys),
            rules: Windows::new(self.rules.window, self.keys),
            settings: self.clone(),
            parser: Parser::new(),
            payload: Vec::new(),
        })
    }
}

struct Running {
    settings: Settings,
    requests: Windows<Counts>,
    blocked: Windows<Counts>,
    errors: Windows<Counts>,
    rules: Windows<Distinct>,
    parser: Parser,
    /// Scratch.
    payload: Vec<u8>,
}

/// What is told of a record.
struct Told<'r> {
    limit: &'r Limit,
    value: u64,
    client: &'r str,
    host: &'r str,
    path: &'r str,
}

/// A rule's id, as a number or as text.
fn rule_id(node: Node<'_>) -> Option<u64> {
    node.as_u64().or_else(|| node.as_str()?.parse().ok())
}

impl Stage for Running {
    fn take(&mut self, message: &Message<'_>, now: Now, out: &mut Out) -> Fate {
        let Self { settings, requests, blocked, errors, rules, parser, payload } = self;
        let mut event = parser.alert(message.payload);
        let Ok(root) = event.root() else { return Fate::Dropped("no_event") };
        let text = |member: &str| root.get(member).and_then(Node::as_str).unwrap_or_default();
        let (client, host) = (text("client_ip"), text("host"));
        let path = text("uri").split(['?', '#']).next().unwrap_or_default();
        // A clock ahead of ours must not make all that follows old.
        let at = u64::try_from(message.time_ms).ok().filter(|ms| *ms > 0).map_or(now.wall, |ms| ms.saturating_mul(1_000_000).min(now.wall));
        let mut told: Option<Told<'_>> = None;
        let over = |limit: &Limit| {
            let above = limit.above;
            move |value: u64| (value > above).then_some(value)
        };
        if settings.requests.above > 0 && !client.is_empty() {
            let over = over(&settings.requests);
            let value = requests.note(name(&[client.as_bytes()]), at, [0], true, |all, _| over(all));
            told = value.map(|value| Told { limit: &settings.requests, value, client, host, path: "" });
        }
        if settings.rules.above > 0 && !client.is_empty() {
            let ids = root.get("rules").into_iter().flat_map(Node::elements).filter_map(rule_id);
            let over = over(&settings.rules);
            let value = rules.note(name(&[client.as_bytes()]), at, ids, told.is_none(), |all, _| over(all));
            told = told.or(value.map(|value| Told { limit: &settings.rules, value, client, host, path: "" }));
        }
        let code = root.get("response_code").and_then(Node::as_u64);
        if settings.errors.above > 0 && !path.is_empty() && code.is_some_and(|code| code >= 400) {
            let over = over(&settings.errors);
            let key = name(&[host.as_bytes(), &[0], path.as_bytes()]);
            let value = errors.note(key, at, [0], told.is_none(), |all, _| over(all));
            told = told.or(value.map(|value| Told { limit: &settings.errors, value, client: "", host, path }));
        }
        if let Some(is_blocked) = root.get("blocked").and_then(Node::as_bool)
            && settings.blocked.above > 0
            && !host.is_empty()
        {
            let (over, at_least) = (over(&settings.blocked), settings.at_least);
            let share = |all: u64, marked: u64| over(marked * 100 / all.max(1)).filter(|_| all >= at_least);
            let value = blocked.note(name(&[host.as_bytes()]), at, [u64::from(is_blocked)], told.is_none(), share);
            told = told.or(value.map(|value| Told { limit: &settings.blocked, value, client: "", host, path: "" }));
        }
        let Some(told) = told else { return Fate::Dropped("counted") };
        payload.clear();
        write(payload, &told, at, text("tx_id"));
        out.message(0, None, payload);
        Fate::Emitted
    }
    fn entries(&self) -> usize {
        self.requests.len() + self.blocked.len() + self.errors.len() + self.rules.len()
    }
    fn take_evicted(&mut self) -> u64 {
        let all = [&mut self.requests.evicted, &mut self.blocked.evicted, &mut self.errors.evicted, &mut self.rules.evicted];
        all.into_iter().map(std::mem::take).sum()
    }
}

/// Writes an alert: members of the alerts of handler `waf`, then its own.
fn write(out: &mut Vec<u8>, told: &Told<'_>, at: Nanos, tx_id: &str) {
    let Told { limit, value, client, host, path } = told;
    let severity = LEVELS.iter().find(|(level, _)| *level == limit.level).map_or(0, |(_, severity)| *severity);
    // Writing to memory cannot fail.
    let _ = write!(out, r#"{{"timestamp":{},"severity":{severity}"#, at / 1_000_000_000);
    let members =
        [("client_ip", *client), ("uri", *path), ("tx_id", tx_id), ("level", limit.level), ("attack_type", limit.rate), ("host", *host)];
    for (key, text) in members.iter().filter(|(_, text)| !text.is_empty()) {
        let _ = write!(out, r#","{key}":"#);
        json_str(out, text);
    }
    let _ = write!(out, r#","value":{value},"above":{},"window_seconds":{}}}"#, limit.above, limit.window / 1_000_000_000);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{Apart, Batch},
        position::Position,
        register::{Errors, Node as Tree},
    };

    const WALL: Nanos = 1_773_466_512_000_000_000;

    fn parse(settings: &str) -> (Box<dyn Spec>, String) {
        let (node, mut errors) = (Tree::parse_toml(settings).unwrap(), Errors::default());
        let spec = Rates.parse(&mut Section::open("stages.rates", &node, FIELDS, &[], &mut errors));
        (spec, errors.to_string())
    }

    fn take(stage: &mut dyn Stage, second: u64, payload: &str) -> Option<String> {
        let mut batch = Batch::apart(0, 0, Position::Count(0), 0);
        let time_ms = i64::try_from(WALL / 1_000_000 + second * 1000).unwrap();
        batch.push(Apart { output: 0, branch: 0, origin: b"s/0", key: None, payload: payload.as_bytes(), time_ms });
        let mut out = Out::default();
        let fate = stage.take(&batch.message(0), Now { mono: 0, wall: WALL + 3_600_000_000_000 }, &mut out);
        let made: Vec<String> = out.made().map(|(_, _, payload)| String::from_utf8(payload.to_vec()).unwrap()).collect();
        assert_eq!(fate == Fate::Emitted, made.len() == 1, "{made:?}");
        made.into_iter().next()
    }

    #[test]
    fn each_rate_is_told_once_a_window() {
        let (spec, errors) =
            parse("requests = { above = 3 }\nblocked = { above = 50, at_least = 4 }\nerrors = { above = 2 }\nrules = { above = 2 }\n");
        assert_eq!(errors, "");
        let mut stage = spec.build(&Shelf::default());
        let event = |client: &str, host: &str, uri: &str, blocked: bool, code: u32, rules: &str| {
            format!(
                r#"{{"client_ip":"{client}","host":"{host}","uri":"{uri}","blocked":{blocked},"response_code":{code},"rules":[{rules}],"tx_id":"t"}}"#
            )
        };
        // Requests of one client: the fourth within a minute.
        for second in [0, 1, 2] {
            assert_eq!(take(&mut *stage, second, &event("192.0.2.9", "a", "/", false, 200, "")), None);
        }
        let told = take(&mut *stage, 3, &event("192.0.2.9", "a", "/", false, 200, "")).unwrap();
        assert_eq!(
            told,
            r#"{"timestamp":1773466515,"severity":80,"client_ip":"192.0.2.9","tx_id":"t","level":"critical","attack_type":"request_rate","host":"a","value":4,"above":3,"window_seconds":60}"#
        );
        assert_eq!(take(&mut *stage, 4, &event("192.0.2.9", "a", "/", false, 200, "")), None, "told");
        // Rules of one client.
        assert_eq!(take(&mut *stage, 5, &event("192.0.2.8", "b", "/", false, 200, "942100,\"941100\"")), None);
        let told = take(&mut *stage, 6, &event("192.0.2.8", "b", "/", false, 200, "942100,932100")).unwrap();
        assert!(
            told.contains(r#""client_ip":"192.0.2.8""#) && told.contains(r#""attack_type":"distinct_rules","host":"b","value":3"#),
            "{told}"
        );
        // Errors of one path, whoever asks; the query does not matter, the host does.
        for (n, second) in [10, 11].into_iter().enumerate() {
            assert_eq!(take(&mut *stage, second, &event(&format!("198.51.100.{n}"), "c", &format!("/x?{n}"), false, 404, "")), None);
        }
        assert_eq!(take(&mut *stage, 12, &event("198.51.100.3", "d", "/x", false, 404, "")), None);
        let told = take(&mut *stage, 13, &event("198.51.100.4", "c", "/x#a", false, 500, "")).unwrap();
        assert!(
            told.contains(r#""severity":60,"uri":"/x","tx_id":"t","level":"high","attack_type":"error_rate","host":"c","value":3"#),
            "{told}"
        );
        // Blocked share of one host, once there are four of it.
        for n in 20..23 {
            assert_eq!(take(&mut *stage, n, &event(&format!("203.0.113.{n}"), "e", "/", n < 22, 0, "")), None);
        }
        let told = take(&mut *stage, 23, &event("203.0.113.23", "e", "/", true, 0, "")).unwrap();
        assert!(told.contains(r#""attack_type":"blocked_share","host":"e","value":75,"above":50,"window_seconds":300"#), "{told}");
        // A window later it is told again.
        let told: Vec<String> = (70..75).filter_map(|n| take(&mut *stage, n, &event("192.0.2.9", "a", "/", false, 200, ""))).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(take(&mut *stage, 80, "no JSON"), None);
        assert_eq!(take(&mut *stage, 80, "{}"), None, "what lacks members is not counted");
        assert!(stage.entries() > 5 && stage.take_evicted() == 0);
    }

    #[test]
    fn a_record_that_lifts_two_rates_is_told_of_once_and_the_second_with_the_next() {
        let (spec, _) = parse("requests = { above = 1 }\nrules = { above = 1 }\n");
        let mut stage = spec.build(&Shelf::default());
        let event = r#"{"client_ip":"192.0.2.9","rules":[942100,942110]}"#;
        let told: Vec<Option<String>> = (0..4).map(|second| take(&mut *stage, second, event)).collect();
        let rates: Vec<Option<&str>> =
            told.iter().map(|told| told.as_ref()?.split("\"attack_type\":\"").nth(1)?.split('"').next()).collect();
        assert_eq!(rates, [Some("distinct_rules"), Some("request_rate"), None, None]);
    }

    #[test]
    fn a_clock_ahead_of_ours_counts_as_now() {
        let (spec, _) = parse("requests = { above = 2 }\n");
        let mut stage = spec.build(&Shelf::default());
        let event = r#"{"client_ip":"192.0.2.9"}"#;
        assert_eq!(take(&mut *stage, 999_999_999, event), None);
        assert_eq!(take(&mut *stage, 3599, event), None);
        assert!(take(&mut *stage, 3600, event).is_some());
    }

    #[test]
    fn wrong_settings_are_answered() {
        let errors = parse("requests = { above = 0 }\nblocked = { above = 0 }\nerrors = { above = 0 }\nrules = { above = 0 }\n").1;
        assert!(errors.contains("nothing is looked at"), "{errors}");
        assert!(parse("requests = { window = '10ms' }\n").1.contains("shorter than a second"));
    }
}
