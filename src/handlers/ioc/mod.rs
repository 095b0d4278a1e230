//! `ioc`: the indicators of an alert: addresses, names, URLs, e-mail addresses and hashes.
//!
//! What counts as one is `intel`'s business, and `docs/INDICATORS.md` has it with examples; which
//! members of an alert are looked at is `walk`'s. One message an alert that has any, its members
//! always in this order:
//!
//! ```json
//! {"alert_id":"1710401112.100","iocs":[{"type":"ip","value":"45.155.205.233","field":"data.srcip","confidence":0.9}],"timestamp":"2026-03-14T05:25:12.004Z"}
//! ```
//!
//! What a warninglist calls harmless is left out; what one only knows carries `"warninglists":["…"]`.
//! Output `known` has the same message with those indicators alone of which the table `indicators`
//! may know something, if there are any: what is worth a lookup.
//!
//! Alerts that the manager made of what we ourselves told it are passed over, so that a match is
//! never looked up again.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod judge;
mod walk;

use std::{io::Write, net::IpAddr};

use ipnet::IpNet;

use super::{Fate, Handler, Kind, Needles, Output, Record, Rejection, Spec};
use crate::{
    alert::{Alert, Node, json_str_plain, timestamp_ms},
    batch::Outbox,
    intel::{Extractor, IocType, Wanted, normal},
    limits,
    metrics::{Counted, Figure},
    register::{Field, Section, Type},
    tables::Shelf,
};
use judge::Judge;

/// The kind.
pub struct Ioc;

const PRIMARY: usize = 0;
const KNOWN: usize = 1;

/// `agent.id` of what the manager says itself.
const MANAGER: &str = "000";

static FIELDS: &[Field] = &[
    Field::new(
        "types",
        Type::Texts,
        "[\"ip\", \"domain\", \"url\", \"email\", \"md5\", \"sha1\", \"sha256\", \"sha512\", \"imphash\", \"ja3\"]",
        "Types of indicators to look for.",
    ),
    Field::new(
        "own_domains",
        Type::Texts,
        "[]",
        "Names of ours, such as \"uni-trier.de\": neither they, nor names below them, nor URLs and e-mail addresses with them are indicators.",
    ),
    Field::new(
        "own_networks",
        Type::Texts,
        "[]",
        "Networks of ours, IPv4 or IPv6, such as \"136.199.0.0/16\": addresses in them are no indicators.",
    ),
    Field::new(
        "own_integrations",
        Type::Texts,
        "[\"dfn\", \"misp\", \"shipper\"]",
        "Values of `data.integration` of alerts of the manager itself (agent 000) that repeat what we told it; nothing is looked for in them.",
    ),
    Field::optional(
        "indicators",
        Type::Table("indicators"),
        "Table that output `known` goes by: only what it may know something of is in there, which is what a lookup need be asked about.",
    ),
    Field::optional(
        "warninglists",
        Type::Table("warninglists"),
        "Table of values that are harmless or only worth a note; unset: the small lists of shipper itself.",
    ),
    Field::new(
        "harmless",
        Type::Choice(&["drop", "annotate"]),
        "\"drop\"",
        "What becomes of an indicator that a warninglist calls harmless: left out, or kept with the lists named beside it.",
    ),
    Field::new(
        "max_iocs",
        Type::Int { min: 1, max: limits::IOCS_PER_ALERT_MAX as i64 },
        "1000",
        "Indicators of one alert; those past it are left out, and the alert is counted in `shipper_cut_records_total`.",
    ),
    Field::new(
        "max_bytes",
        Type::Bytes,
        "4 MiB",
        "Bytes of text of one alert that are looked at; if there are more, the alert is counted in `shipper_cut_records_total`.",
    ),
    Field::new(
        "key",
        Type::Choice(&["none", "agent.id"]),
        "\"none\"",
        "Kafka key: none, or the agent's id, which keeps each agent's messages in order.",
    ),
];

impl Kind for Ioc {
    fn name(&self) -> &'static str {
        "ioc"
    }
    fn about(&self) -> &'static str {
        "the indicators of an alert: addresses, names, URLs, e-mail addresses and hashes"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "", after: None }, Output { name: "known", after: None }]
    }
    fn needs_primary(&self) -> bool {
        false
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let mut kinds = Vec::new();
        for name in section.texts("types") {
            match IocType::of(&name) {
                Some(kind) => kinds.push(kind),
                None => {
                    let known = IocType::ALL.map(IocType::as_str).join(", ");
                    section.wrong("types", format!("no type {name:?}; known: {known}"));
                }
            }
        }
        let mut own_domains = Vec::new();
        for name in section.texts("own_domains") {
            match normal(IocType::Domain, name.trim_start_matches('.')) {
                Some(name) => own_domains.push(name),
                None => section.wrong("own_domains", format!("{name:?} is no domain; write it as uni-trier.de")),
            }
        }
        let mut own_networks = Vec::new();
        for text in section.texts("own_networks") {
            match (text.trim().parse::<IpNet>(), text.trim().parse::<IpAddr>()) {
                (Ok(network), _) => own_networks.push(network),
                (_, Ok(address)) => own_networks.push(address.into()),
                _ => section.wrong("own_networks", format!("{text:?} is no network; write it as 136.199.0.0/16 or 2001:db8::/32")),
            }
        }
        let max_bytes = section.bytes("max_bytes");
        if max_bytes == 0 {
            section.wrong("max_bytes", "0 would find nothing; use 1 byte or more");
        }
        Box::new(Settings {
            wanted: Wanted {
                kinds,
                own_domains,
                own_networks,
                iocs_max: usize::try_from(section.int("max_iocs")).unwrap_or(limits::IOCS_PER_ALERT),
                bytes_max: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            },
            own_integrations: section.texts("own_integrations"),
            indicators: section.opt_text("indicators"),
            warninglists: section.opt_text("warninglists"),
            annotates: section.choice("harmless") == "annotate",
            keyed: section.choice("key") == "agent.id",
        })
    }
}

/// What the table let through.
static MAY_BE_KNOWN: Figure = Figure {
    name: "shipper_known_indicators",
    help: "Indicators of records that the table of handler ioc may know, by type",
    labels: ["type", ""],
    buckets: &[],
};

/// Settings of one `ioc` handler.
#[derive(Clone, Debug)]
struct Settings {
    wanted: Wanted,
    own_integrations: Vec<String>,
    /// Names of tables.
    indicators: Option<String>,
    warninglists: Option<String>,
    /// What is harmless is kept, with a note.
    annotates: bool,
    keyed: bool,
}

impl Spec for Settings {
    fn build(&self, tables: &Shelf) -> Box<dyn Handler> {
        let judge = Judge::new(tables, self.indicators.as_deref(), self.warninglists.as_deref(), self.annotates);
        Box::new(Running { extractor: Extractor::new(self.wanted.clone()), judge, settings: self.clone() })
    }
    fn lacks(&self, output: usize) -> Option<(&'static str, String)> {
        let what = "must be set, since output known is taken; name a table of kind indicators, or take the first output";
        (output == KNOWN && self.indicators.is_none()).then(|| ("indicators", what.to_owned()))
    }
}

/// The handler, with the memory of what it found in the alert at hand.
struct Running {
    settings: Settings,
    extractor: Extractor,
    judge: Judge,
}

impl Running {
    /// Why nothing is looked for in this alert, if so.
    fn passes_over(&self, record: &Record<'_>, root: Node<'_>) -> Option<&'static str> {
        if record.own {
            return Some("own_event");
        }
        if !root.is_object() {
            return Some("not_an_alert");
        }
        let integration = root.path(&["data", "integration"]).and_then(Node::as_str)?;
        // What we tell the manager is its own; an agent's log must not hide itself under our name.
        if root.path(&["agent", "id"]).is_some_and(|id| id.text() != MANAGER) {
            return None;
        }
        self.settings.own_integrations.iter().any(|own| own == integration).then_some("own_integration")
    }

    fn look(&mut self, root: Node<'_>, notes: bool) {
        self.extractor.begin(notes);
        walk::texts(root, |text, place| self.extractor.text(text, place));
    }
}

impl Handler for Running {
    fn needles(&self) -> Needles {
        // Hardly any alert is without a dot, so a probe would only cost.
        Needles::All
    }

    fn handle(&mut self, record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        let root = match alert.root() {
            Ok(root) => root,
            Err(error) => return Fate::Rejected(Rejection { reason: "not_json", detail: error.to_string() }),
        };
        if let Some(why) = self.passes_over(record, root) {
            return Fate::Dropped(why);
        }
        self.look(root, false);
        if self.extractor.unread() > 0 {
            out.cut("max_bytes");
        }
        if self.extractor.beyond() > 0 {
            out.cut("max_iocs");
        }
        if self.extractor.found().is_empty() {
            return Fate::Dropped("no_indicators");
        }
        for ioc in self.extractor.found() {
            out.found(ioc.kind.as_str(), 1);
        }
        if !self.judge.sort(self.extractor.found(), out.wants(KNOWN)) {
            return Fate::Dropped("harmless");
        }
        let is_known = self.judge.any_known();
        for (_, ioc) in self.extractor.found().iter().enumerate().filter(|(n, _)| self.judge.is_known(*n)) {
            out.count(&MAY_BE_KNOWN, Counted::One([ioc.kind.as_str(), ""]));
        }
        if !is_known && !out.wants(PRIMARY) && out.wants(KNOWN) {
            return Fate::Dropped("not_known");
        }
        let time = root.get("timestamp").and_then(Node::as_str).and_then(timestamp_ms);
        let key = root.path(&["agent", "id"]).map(Node::text).filter(|id| self.settings.keyed && !id.is_empty());
        for output in [PRIMARY, KNOWN] {
            if !out.wants(output) || (output == KNOWN && !is_known) {
                continue;
            }
            let mut message = out.message(output);
            if let Some(id) = &key {
                message = message.key(id.as_bytes());
            }
            message.time_ms(time.unwrap_or(0)).payload(|w| self.write(w, root, time, record.received, output == KNOWN));
        }
        Fate::Emitted
    }

    fn explain(&mut self, record: &Record<'_>, alert: &mut Alert<'_>) -> Vec<(&'static str, String)> {
        let root = match alert.root() {
            Ok(root) => root,
            Err(error) => return vec![("why_not", quoted(&error.to_string()))],
        };
        if let Some(why) = self.passes_over(record, root) {
            return vec![("why_not", quoted(why))];
        }
        self.look(root, true);
        self.judge.sort(self.extractor.found(), true);
        let left_out =
            self.extractor.left_out().iter().map(|left| {
                format!("{{\"value\":{},\"field\":{},\"why\":{}}}", quoted(&left.value), quoted(&left.field), quoted(left.why))
            });
        let list = |texts: Vec<String>| format!("[{}]", texts.join(","));
        let found = self.extractor.found();
        let harmless = found.iter().enumerate().filter(|(n, _)| !self.judge.is_kept(*n)).map(|(n, ioc)| {
            let lists = list(self.judge.lists_of(n).map(quoted).collect());
            format!("{{\"value\":{},\"field\":{},\"why\":\"warninglist\",\"lists\":{lists}}}", quoted(&ioc.value), quoted(&ioc.field))
        });
        let kept = (0..found.len()).filter(|n| self.judge.is_kept(*n)).count();
        let mut facts = vec![("iocs", kept.to_string()), ("left_out", list(left_out.chain(harmless).collect()))];
        if self.settings.indicators.is_some() {
            let known = found.iter().enumerate().filter(|(n, _)| self.judge.is_known(*n)).map(|(_, ioc)| quoted(&ioc.value));
            facts.push(("may_be_known", list(known.collect())));
        }
        for (name, count) in [("past_max_iocs", self.extractor.beyond()), ("past_max_bytes", self.extractor.unread())] {
            if count > 0 {
                facts.push((name, count.to_string()));
            }
        }
        facts
    }
}

impl Running {
    /// Appends the message.
    ///
    /// - `time`: of the alert, milliseconds since 1970; without one `received` stands for it.
    /// - `known`: only indicators of which something may be known.
    fn write(&self, w: &mut Vec<u8>, root: Node<'_>, time: Option<i64>, received: u64, known: bool) {
        w.extend_from_slice(b"{\"alert_id\":");
        match root.get("id").filter(|id| !id.is_null()) {
            Some(id) => json_str_plain(w, &id.text()),
            None => w.extend_from_slice(b"null"),
        }
        w.extend_from_slice(b",\"iocs\":[");
        let is_meant = |n: usize| if known { self.judge.is_known(n) } else { self.judge.is_kept(n) };
        let mut is_first = true;
        for (n, ioc) in self.extractor.found().iter().enumerate().filter(|(n, _)| is_meant(*n)) {
            // Names of types are plain words.
            w.extend_from_slice(if std::mem::take(&mut is_first) { b"{\"type\":\"" } else { b",{\"type\":\"" });
            w.extend_from_slice(ioc.kind.as_str().as_bytes());
            w.extend_from_slice(b"\",\"value\":");
            json_str_plain(w, &ioc.value);
            w.extend_from_slice(b",\"field\":");
            json_str_plain(w, &ioc.field);
            // Writing into a vector cannot fail.
            let _ = write!(w, ",\"confidence\":0.{}", ioc.confidence);
            let mut open: &[u8] = b",\"warninglists\":[";
            for list in self.judge.lists_of(n) {
                w.extend_from_slice(std::mem::replace(&mut open, b","));
                json_str_plain(w, list);
            }
            w.extend_from_slice(if open == b"," { b"]}" } else { b"}" });
        }
        let time = time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let time = time.or_else(|| jiff::Timestamp::from_nanosecond(i128::from(received)).ok()).unwrap_or_default();
        let _ = write!(w, "],\"timestamp\":\"{time:.3}\"}}");
    }
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    json_str_plain(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests;
