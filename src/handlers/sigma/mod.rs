//! `sigma`: which Sigma rules an event sets off.
//!
//! Rules are those of a table of kind `sigma`. An event meets the rules of its own log only (`form` says which that is),
//! by the names that rules have for its fields (`flat`). Each rule that matches is an alert on the first output; output
//! `event` has one mark for the event, with the gravest of its rules and the techniques of all, for what sums up what
//! happened to a host: it adds nothing to the number of events.
//!
//! What nobody is looking for costs a look at the members that say which log it is from.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod flat;
mod form;

use std::{borrow::Cow, sync::Arc};

use super::{Fate, Handler, Kind, Needles, Output, Record, Rejection, Spec};
use crate::{
    alert::{Alert, Node, Piece, json_str_plain, salvage},
    batch::Outbox,
    detect::{self, Class, Detection, Event, Severity, attack, attack::Evidence},
    limits,
    metrics::{Counted, Figure},
    register::{Field, Section, Type},
    tables::{
        Held, Reader, Shelf,
        sigma::{LogSource, Rule, Rules},
    },
};
use flat::Scratch;
use form::{Form, Seen};

/// The kind.
pub struct Sigma;

const PRIMARY: usize = 0;
const EVENT: usize = 1;

static FIELDS: &[Field] = &[
    Field::optional("rules", Type::Table("sigma"), "Table of the rules; it must be set."),
    Field::new(
        "level",
        Type::Choice(&["informational", "low", "medium", "high", "critical"]),
        "\"informational\"",
        "Least level of a rule whose match is an alert. Output `event` marks every match.",
    ),
    Field::new(
        "forms",
        Type::Texts,
        "[\"evtx\", \"wazuh\", \"winlogbeat\", \"ecs\", \"zeek\", \"other\"]",
        "Forms of events that are looked at; docs/SIGMA.md says how each is known. Without `other`, records that are in no such form cost next to nothing.",
    ),
    Field::optional("product", Type::Text, "Product of rules that events meet whose form does not say it, such as \"linux\"."),
    Field::optional("service", Type::Text, "Their service, such as \"auditd\"."),
    Field::optional("category", Type::Text, "Their category, such as \"webserver\"."),
];

impl Kind for Sigma {
    fn name(&self) -> &'static str {
        "sigma"
    }
    fn about(&self) -> &'static str {
        "which Sigma rules an event sets off: alerts, and marks for the detector"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "", after: None }, Output { name: "event", after: None }]
    }
    fn needs_primary(&self) -> bool {
        false
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let mut forms = Vec::new();
        for name in section.texts("forms") {
            match Form::ALL.into_iter().find(|form| form.word() == name) {
                Some(form) => forms.push(form),
                None => {
                    let known = Form::ALL.map(Form::word).join(", ");
                    section.wrong("forms", format!("no form {name:?}; known: {known}"));
                }
            }
        }
        if forms.is_empty() && section.is_set("forms") {
            section.wrong("forms", "is empty, so that no event would be looked at; name one");
        }
        Box::new(Settings {
            rules: section.opt_text("rules"),
            least: Severity::of_word(section.choice("level")).unwrap_or(Severity::Informational),
            forms,
            product: section.text("product"),
            service: section.text("service"),
            category: section.text("category"),
        })
    }
}

/// Settings of one `sigma` handler.
#[derive(Clone, Debug)]
struct Settings {
    /// Name of the table.
    rules: Option<String>,
    least: Severity,
    forms: Vec<Form>,
    product: String,
    service: String,
    category: String,
}

/// Members that every alert has.
const ALERT_MEMBERS: &[&str] = &[
    "schema",
    "id",
    "timestamp",
    "entity",
    "entity_type",
    "event_type",
    "severity",
    "prediction_score",
    "detection_type",
    "features",
    "models",
    "mitre_attack",
    "source",
];
/// Members that every mark has.
const EVENT_MEMBERS: &[&str] =
    &["ts", "entity", "entity_type", "source", "event_type", "kind", "counts", "features", "level", "sigma", "techniques", "agent_id"];

impl Spec for Settings {
    fn members(&self, output: usize) -> Option<&'static [&'static str]> {
        match output {
            PRIMARY => Some(ALERT_MEMBERS),
            EVENT => Some(EVENT_MEMBERS),
            _ => None,
        }
    }
    fn lacks(&self, _output: usize) -> Option<(&'static str, String)> {
        self.rules.is_none().then(|| ("rules", "must be set; name a table of kind sigma".to_owned()))
    }
    fn build(&self, tables: &Shelf) -> Box<dyn Handler> {
        // A table that nobody placed is one that is never filled.
        let rules = self.rules.as_ref().and_then(|name| tables.of::<Rules>(name)).unwrap_or_else(|| Arc::new(Held::default())).reader();
        Box::new(Running { settings: self.clone(), rules, desk: Desk::default() })
    }
}

/// What was set off.
static MATCHES: Figure = Figure {
    name: "shipper_sigma_matches",
    help: "Sigma rules that events set off, by the rule's level",
    labels: ["level", ""],
    buckets: &[],
};

/// The handler.
#[derive(Debug)]
struct Running {
    settings: Settings,
    rules: Reader<Rules>,
    desk: Desk,
}

/// Memory that is used again.
#[derive(Debug, Default)]
struct Desk {
    scratch: Scratch,
    found: Vec<usize>,
    origin: String,
}

/// What became of an event.
enum Verdict<'v> {
    /// Why no rule was held against it, or that none matched.
    Nothing(&'static str),
    /// Rules that match, the gravest first.
    Matches(Vec<(Severity, &'v Rule)>),
}

impl Settings {
    /// The log source of events whose form does not say it.
    fn other<'s>(&'s self, categories: &'s [&'s str]) -> LogSource<'s> {
        let categories = if self.category.is_empty() { &[] } else { categories };
        LogSource { product: &self.product, service: &self.service, categories }
    }

    /// Holds the rules against an event.
    fn judge<'v>(&self, seen: &Seen<'_>, rules: Option<&'v Rules>, scratch: &mut Scratch, found: &mut Vec<usize>) -> Verdict<'v> {
        if !self.forms.contains(&seen.form) {
            return Verdict::Nothing("other_form");
        }
        let Some(rules) = rules else { return Verdict::Nothing("no_rules") };
        if !rules.is_for(seen.source) {
            return Verdict::Nothing("no_rule_for_log");
        }
        found.clear();
        rules.find(seen.source, &seen.fields(scratch), found);
        let mut matches: Vec<_> = found.iter().filter_map(|number| rules.rule(*number)).map(|rule| (severity(rule), rule)).collect();
        if matches.is_empty() {
            return Verdict::Nothing("no_match");
        }
        matches.sort_by(|(a, x), (b, y)| (b, &x.id).cmp(&(a, &y.id)));
        Verdict::Matches(matches)
    }
}

fn severity(rule: &Rule) -> Severity {
    Severity::of_word(rule.level).unwrap_or(Severity::Medium)
}

/// The least score of a severity's band.
fn score(severity: Severity) -> f64 {
    match severity {
        Severity::Critical => 0.9,
        Severity::High => 0.8,
        Severity::Medium => 0.7,
        Severity::Low => 0.5,
        Severity::Informational => 0.3,
    }
}

fn root<'a>(record: &Record<'_>, alert: &'a mut Alert<'_>) -> Result<Node<'a>, Fate> {
    if record.own {
        return Err(Fate::Dropped("own_event"));
    }
    if record.frame.trim_ascii().is_empty() {
        return Err(Fate::Dropped("empty"));
    }
    let rejected = |reason, detail| Err(Fate::Rejected(Rejection { reason, detail }));
    match alert.root() {
        Err(error) => rejected("not_json", error.to_string()),
        Ok(root) if !root.is_object() => rejected("not_object", "an event is a JSON object".to_owned()),
        Ok(root) => Ok(root),
    }
}

impl Handler for Running {
    fn needles(&self) -> Needles {
        let needles: Option<Vec<_>> = self.settings.forms.iter().map(|form| form.needle().map(<[u8]>::to_vec)).collect();
        needles.map_or(Needles::All, Needles::Any)
    }

    fn handle(&mut self, record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        let Self { settings, rules, desk } = self;
        let root = match root(record, alert) {
            Ok(root) => root,
            Err(fate) => return fate,
        };
        let category = [settings.category.as_str()];
        let seen = Seen::of(root, settings.other(&category));
        let matches = match settings.judge(&seen, rules.get(), &mut desk.scratch, &mut desk.found) {
            Verdict::Nothing(why) => return Fate::Dropped(why),
            Verdict::Matches(matches) => matches,
        };
        for (severity, _) in &matches {
            out.count(&MATCHES, Counted::One([severity.word(), ""]));
        }
        let received_ms = i64::try_from(record.received / 1_000_000).unwrap_or(i64::MAX);
        let (entity, entity_type) = seen.entity();
        let about = About {
            entity: detect::short(&entity),
            entity_type,
            event_type: detect::short(seen.event_type()),
            ts_ms: seen.time_ms().unwrap_or(received_ms),
            received_ms,
            agent_id: seen.agent_id(),
            form: seen.form,
        };
        let mut any = false;
        if out.wants(PRIMARY) {
            desk.origin.clear();
            // Writing into a text cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut desk.origin, format_args!("{}", record.origin));
            let told = matches.iter().filter(|(severity, _)| *severity >= settings.least);
            for (severity, rule) in told.take(limits::SIGMA_MATCHES_MAX) {
                about.alert(*severity, rule, &desk.origin, out);
                any = true;
            }
            if matches.len() > limits::SIGMA_MATCHES_MAX {
                out.cut("sigma_matches");
            }
        }
        if out.wants(EVENT) {
            about.mark(&matches, out);
            any = true;
        }
        if any { Fate::Emitted } else { Fate::Dropped("level") }
    }

    fn salvage(&mut self, frame: &[u8]) -> Option<Vec<Piece>> {
        if frame.trim_ascii().is_empty() {
            return Some(Vec::new());
        }
        // Alerts of the manager are found where they are glued or cut; anything else is one record, and broken.
        let pieces = salvage(frame);
        if pieces.iter().any(|piece| !matches!(piece, Piece::Broken(..))) {
            return Some(pieces);
        }
        let reason = if std::str::from_utf8(frame).is_err() { "not_utf8" } else { "not_json" };
        Some(vec![Piece::Broken(0..frame.len(), reason)])
    }

    fn explain(&mut self, record: &Record<'_>, alert: &mut Alert<'_>) -> Vec<(&'static str, String)> {
        let Self { settings, rules, desk } = self;
        let root = match root(record, alert) {
            Ok(root) => root,
            Err(Fate::Dropped(why)) => return vec![("why_not", quoted(why))],
            Err(Fate::Rejected(why)) => return vec![("why_not", quoted(&format!("{}: {}", why.reason, why.detail)))],
            Err(Fate::Emitted) => return Vec::new(),
        };
        let category = [settings.category.as_str()];
        let seen = Seen::of(root, settings.other(&category));
        let verdict = settings.judge(&seen, rules.get(), &mut desk.scratch, &mut desk.found);
        let mut facts = vec![
            ("form", quoted(seen.form.word())),
            ("product", quoted(seen.source.product)),
            ("service", quoted(seen.source.service)),
            ("categories", list(seen.source.categories.iter().map(|category| quoted(category)))),
            ("entity", quoted(&seen.entity().0)),
        ];
        match verdict {
            Verdict::Nothing(why) => facts.push(("why_not", quoted(why))),
            Verdict::Matches(matches) => {
                let rule = |(severity, rule): &(Severity, &Rule)| {
                    format!("{{\"id\":{},\"title\":{},\"level\":{}}}", quoted(&rule.id), quoted(&rule.title), quoted(severity.word()))
                };
                facts.push(("rules", list(matches.iter().map(rule))));
            }
        }
        facts
    }
}

/// What all alerts of one event have in common.
struct About<'t> {
    entity: Cow<'t, str>,
    entity_type: &'static str,
    event_type: Cow<'t, str>,
    ts_ms: i64,
    received_ms: i64,
    agent_id: Cow<'t, str>,
    form: Form,
}

impl About<'_> {
    /// The alert of one rule.
    fn alert(&self, severity: Severity, rule: &Rule, origin: &str, out: &mut Outbox<'_>) {
        let (techniques, _) = attack::of_sigma_tags(rule.tags.iter().map(String::as_str));
        let named = techniques.into_iter().map(|id| (id, Evidence::Sigma, 1));
        let score = score(severity);
        let techniques = attack::of_alert(named, &[0.0; 10], score, &self.event_type, self.entity_type);
        let details = format!(
            "{{\"rule_id\":{},\"rule_title\":{},\"level\":{},\"tags\":{}}}",
            quoted(&rule.id),
            quoted(&rule.title),
            quoted(rule.level),
            list(rule.tags.iter().map(|tag| quoted(tag)))
        );
        let alert = detect::Alert {
            detection: Detection::Sigma,
            of: &rule.id,
            entity: &self.entity,
            entity_type: self.entity_type,
            event_type: &self.event_type,
            ts_ms: self.ts_ms,
            severity,
            score,
            anomaly_score: None,
            features: &[],
            models: &[],
            techniques: &techniques,
            confidence: None,
            origin,
            received_ms: Some(self.received_ms),
            agent_id: &self.agent_id,
            window: None,
            causes: &[],
            evidence: &[origin],
            warming: false,
            detector: None,
            message: &rule.title,
            details: &details,
            data_source: self.form.word(),
        };
        out.message(PRIMARY).key(self.entity.as_bytes()).time_ms(self.ts_ms).payload(|w| alert.write(w));
    }

    /// The mark of the event.
    fn mark(&self, matches: &[(Severity, &Rule)], out: &mut Outbox<'_>) {
        let Some((severity, gravest)) = matches.first() else { return };
        let tags = matches.iter().flat_map(|(_, rule)| rule.tags.iter().map(String::as_str));
        let (techniques, _) = attack::of_sigma_tags(tags);
        let event = Event {
            ts_ms: self.ts_ms,
            entity: Cow::Borrowed(&self.entity),
            entity_type: Cow::Borrowed(self.entity_type),
            source: Class::Sigma,
            event_type: Cow::Borrowed(&self.event_type),
            kind: detect::short(&gravest.id),
            counts: false,
            features: [0.0; 10],
            present: 0,
            level: 0,
            sigma: Some(*severity),
            techniques: techniques.into_iter().take(limits::ALERT_TECHNIQUES_MAX).map(|id| (id, Evidence::Sigma)).collect(),
            agent_id: detect::short(&self.agent_id),
        };
        out.message(EVENT).time_ms(self.ts_ms).payload(|w| event.write(w));
    }
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    json_str_plain(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

#[cfg(all(test, feature = "sigma"))]
mod tests;
