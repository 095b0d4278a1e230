//! What the operator sets.

use std::{path::PathBuf, time::Duration};

use jiff::tz::TimeZone;

use super::{
    line::Layout,
    mask::Mask,
    rule::{Category, Weights},
    score::{Levels, Rules},
    time,
    uri::Uri,
};
use crate::{
    hmac::Keyed,
    limits,
    net::secret::Secret,
    register::{Field, Section, Type},
    tables::networks::{self, Networks},
};

/// Scores are held to 32 bits, so nothing beyond them can be reached.
const POINTS: Type = Type::Int { min: -1_000_000, max: 1_000_000 };

pub(super) static FIELDS: &[Field] = &[
    Field::new(
        "layout",
        Type::Choice(&["doc", "upstream", "lean"]),
        "\"doc\"",
        "Points of the first output: doc, one with client_ip, rule_id and severity_level as tags; upstream, two for each event, waf_events and \
         waf_requests; lean, one whose tags have few values (attack_type, blocked, host, severity_level), for databases that count every set of tags.",
    ),
    Field::new("levels.critical", POINTS, "80", "Severity from which on an event is critical."),
    Field::new("levels.high", POINTS, "60", "Severity from which on an event is high."),
    Field::new("levels.medium", POINTS, "40", "Severity from which on an event is medium; below, it is low."),
    Field::new("alert_at", POINTS, "80", "Severity from which on an event is an alert, whatever its level is called."),
    Field::new(
        "weights",
        Type::Map,
        "{}",
        "Points that a category of rules adds once to an event, by the first three digits of their ids, such as 944 with 35; laid over 930 with 20, \
         932 with 35, 941 with 25 and 942 with 30.",
    ),
    Field::new(
        "category_weights",
        Type::Choice(&["all", "primary"]),
        "\"all\"",
        "Which categories add their points: all that matched, each once, or only that of the rule which names the event.",
    ),
    Field::new(
        "category_from",
        Type::Choice(&["id", "tag"]),
        "\"id\"",
        "Where a rule's category comes from: its id, or its tag attack-… where it has one; of several tags the one with the highest weight.",
    ),
    Field::new(
        "anomaly_multiplier",
        Type::Int { min: 1, max: 1000 },
        "1",
        "The anomaly score times this goes into the severity. Rule sets of today give 5 for a critical rule: with 3, one blocked SQL injection \
         comes to 45.",
    ),
    Field::new(
        "blocking_paranoia_level",
        Type::Int { min: 1, max: 4 },
        "1",
        "Where no rule states the score, only rules up to this paranoia level are summed up. Set it to tx.blocking_paranoia_level of the rule set.",
    ),
    Field::new("reputation_points", POINTS, "15", "Points for an address of bad repute, once."),
    Field::new(
        "bad_ips",
        Type::Texts,
        "[]",
        "Addresses and networks of bad repute, IPv4 or IPv6, such as \"203.0.113.0/24\"; taken as they are, private ones too.",
    ),
    Field::optional(
        "reputation",
        Type::Table("reputation"),
        "Table of bad addresses; an alert with all fields names the list that the address is on.",
    ),
    Field::optional("geoip", Type::Table("geoip"), "Table that says where an address is; without one, country and city are unknown."),
    Field::optional(
        "suppressions",
        Type::Table("suppressions"),
        "Table of what is known and shall not alert; such an event is scored and written all the same, and counted.",
    ),
    Field::new(
        "client_ip_from",
        Type::Choice(&["client_ip", "x-forwarded-for"]),
        "\"client_ip\"",
        "Who asked: the address that the server saw, or, where that is a trusted proxy, what the proxies wrote into X-Forwarded-For (needs part B \
         of the audit log).",
    ),
    Field::new("trusted_proxies", Type::Texts, "[]", "Addresses and networks of our proxies, whose word in X-Forwarded-For is taken."),
    Field::new(
        "host_from",
        Type::Choice(&["address", "name"]),
        "\"address\"",
        "What is called host: the address of the server that was asked, or the name of the site. A client can ask for any name, and each is a new \
         tag and a new group of alerts.",
    ),
    Field::new(
        "mask_ip",
        Type::Choice(&["off", "truncate", "hash"]),
        "\"off\"",
        "How clients' addresses are hidden, after scoring: truncate keeps /24 of IPv4 and /48 of IPv6, hash writes h: and 16 hex digits of an HMAC. \
         The dead letter keeps what was read.",
    ),
    Field::optional("mask_key_file", Type::Path, "File whose first line is the key for hashes of mask_ip; read when the config is."),
    Field::optional("mask_key_env", Type::Text, "Environment variable that holds this key."),
    Field::optional("mask_key_credential", Type::Text, "Name of the systemd credential (LoadCredential=) that holds this key."),
    Field::new(
        "uri",
        Type::Choice(&["full", "path", "redact"]),
        "\"full\"",
        "What is kept of URIs: all, the path alone, or all but the values of redact_parameters.",
    ),
    Field::new(
        "redact_parameters",
        Type::Texts,
        "[\"password\", \"passwd\", \"pwd\", \"token\", \"secret\", \"key\", \"session\", \"sid\"]",
        "Parameters whose values redact hides in URIs, whatever their case.",
    ),
    Field::new(
        "timezone",
        Type::Text,
        "\"UTC\"",
        "Zone of times that name none, such as \"Europe/Berlin\" or \"+02:00\". ModSecurity 3 tells the true second in its ids, whatever the zone.",
    ),
    Field::optional("only_track", Type::Text, "Takes only events whose classification.track is this."),
    Field::new(
        "alert_fields",
        Type::Choice(&["upstream", "full"]),
        "\"upstream\"",
        "Members of an alert: timestamp, severity, client_ip, rule_id, uri and tx_id, or also level, attack_type, blocked, host, and the list that \
         names the address. Stages that group alerts need full.",
    ),
    Field::optional(
        "alert_max_age",
        Type::Span,
        "Age at which an event is no alert any more, counted in `shipper_waf_alerts_total`; for logs that are read again. Unset: any age alerts.",
    ),
    Field::new(
        "others",
        Type::Choice(&["refuse", "drop"]),
        "\"refuse\"",
        "What becomes of JSON that is no audit event: the dead letter, or nothing, for a source that holds other things as well.",
    ),
    Field::new("max_bytes", Type::Bytes, "1 MiB", "Bytes of an event; longer ones go into the dead letter."),
    Field::new(
        "key",
        Type::Choice(&["none", "request"]),
        "\"none\"",
        "Key of every message: none, or a hash of host, client, port, URI, rules and second, by which a stage dedup knows the second entry that an \
         internal redirect of nginx (error_page) writes of one request.",
    ),
    Field::new(
        "upstream_names",
        Type::Bool,
        "false",
        "Tells what is counted also by the names waf_events_processed_total, waf_severity_scores, waf_alerts_generated_total and \
         waf_processing_latency_seconds, for dashboards that know them.",
    ),
];

/// Names of the tables that are asked.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pub reputation: Option<String>,
    pub geoip: Option<String>,
    pub suppressions: Option<String>,
}

/// Settings of one `waf` handler.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub layout: Layout,
    pub rules: Rules,
    pub bad: Networks,
    pub tables: Tables,
    /// Proxies whose word is taken; `None` takes the address that the server saw.
    pub proxies: Option<Networks>,
    pub by_name: bool,
    pub mask: Mask,
    pub uri: Uri,
    pub zone: TimeZone,
    pub only_track: Option<String>,
    pub is_full: bool,
    pub alert_max_age: Option<Duration>,
    pub drops_others: bool,
    pub max_bytes: u64,
    /// Messages have a key by which two entries of one request are known.
    pub by_request: bool,
    /// Figures are also told by the names of the service that we replace.
    pub upstream_names: bool,
}

impl Settings {
    /// Reads the section; wrong settings are noted in it.
    pub(super) fn parse(section: &mut Section<'_>) -> Self {
        let levels = levels(section);
        let rules = Rules {
            levels,
            alert_at: section.int("alert_at"),
            weights: weights(section),
            primary_only: section.choice("category_weights") == "primary",
            by_tag: section.choice("category_from") == "tag",
            multiplier: section.int("anomaly_multiplier"),
            paranoia: u32::try_from(section.int("blocking_paranoia_level")).unwrap_or(1),
            reputation: section.int("reputation_points"),
        };
        let max_bytes = section.bytes("max_bytes");
        if max_bytes == 0 {
            section.wrong("max_bytes", "0 would refuse everything; use 1 MiB or so");
        }
        Self {
            layout: match section.choice("layout") {
                "upstream" => Layout::Upstream,
                "lean" => Layout::Lean,
                _ => Layout::Doc,
            },
            rules,
            bad: addresses(section, "bad_ips"),
            tables: Tables {
                reputation: section.opt_text("reputation"),
                geoip: section.opt_text("geoip"),
                suppressions: section.opt_text("suppressions"),
            },
            proxies: proxies(section),
            by_name: section.choice("host_from") == "name",
            mask: mask(section),
            uri: match section.choice("uri") {
                "path" => Uri::Path,
                "redact" => Uri::Redact(section.texts("redact_parameters").iter().map(|name| name.to_ascii_lowercase()).collect()),
                _ => Uri::Full,
            },
            zone: zone(section),
            only_track: section.opt_text("only_track"),
            is_full: section.choice("alert_fields") == "full",
            alert_max_age: section.opt_span("alert_max_age"),
            drops_others: section.choice("others") == "drop",
            max_bytes: max_bytes.min(limits::FRAME_BYTES_MAX as u64),
            by_request: section.choice("key") == "request",
            upstream_names: section.bool("upstream_names"),
        }
    }
}

fn levels(section: &mut Section<'_>) -> Levels {
    let [critical, high, medium] = ["critical", "high", "medium"].map(|level| section.int(&format!("levels.{level}")));
    if high > critical {
        section.wrong("levels.high", format!("{high} is above levels.critical, {critical}; no event would be high"));
    }
    if medium > high {
        section.wrong("levels.medium", format!("{medium} is above levels.high, {high}; no event would be medium"));
    }
    Levels { critical, high, medium }
}

fn weights(section: &mut Section<'_>) -> Weights {
    let mut weights = Weights::default();
    for (name, text) in section.map("weights") {
        let category = name.parse().ok().and_then(Category::new);
        let points = text.trim().parse::<i32>().ok().filter(|points| points.abs() <= 1_000_000);
        match (category, points) {
            (Some(category), Some(_)) if category.is_bookkeeping() => {
                section.wrong(
                    "weights",
                    format!("rules of {name} only keep the books, every event above the threshold has one; leave it out"),
                );
            }
            (Some(category), Some(points)) => weights.set(category, points),
            (None, _) => section.wrong(
                "weights",
                format!("{name:?} is no category; write the first three digits of its rules' ids, such as 942 for SQL injection"),
            ),
            (_, None) => section.wrong("weights", format!("{text:?} for {name} is no whole number of up to a million")),
        }
    }
    weights
}

fn addresses(section: &mut Section<'_>, name: &str) -> Networks {
    let mut nets = Vec::new();
    for text in section.texts(name) {
        match networks::parse(text.trim()) {
            Some(net) => nets.push((net, 0)),
            None => {
                section.wrong(name, format!("{text:?} is no address or network; write it as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"))
            }
        }
    }
    Networks::build(nets)
}

fn proxies(section: &mut Section<'_>) -> Option<Networks> {
    let proxies = addresses(section, "trusted_proxies");
    match (section.choice("client_ip_from"), section.is_set("trusted_proxies")) {
        ("client_ip", true) => section.wrong("trusted_proxies", "is of no use alone; set client_ip_from = \"x-forwarded-for\""),
        ("x-forwarded-for", false) => {
            section.wrong("trusted_proxies", "must be set for client_ip_from = \"x-forwarded-for\"; or any client could write any address");
        }
        _ => {}
    }
    (section.choice("client_ip_from") == "x-forwarded-for").then_some(proxies)
}

fn zone(section: &mut Section<'_>) -> TimeZone {
    let name = section.text("timezone");
    time::zone(&name).unwrap_or_else(|| {
        section.wrong("timezone", format!("no zone {name:?}; write it as \"Europe/Berlin\" (package tzdata has the names) or \"+02:00\""));
        TimeZone::UTC
    })
}

fn mask(section: &mut Section<'_>) -> Mask {
    let (file, env) = (section.opt_path("mask_key_file"), section.opt_text("mask_key_env"));
    let credential = section.opt_text("mask_key_credential");
    let given = [("mask_key_file", file.is_some()), ("mask_key_env", env.is_some()), ("mask_key_credential", credential.is_some())];
    let mut given = given.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name);
    let (first, second) = (given.next(), given.next());
    match section.choice("mask_ip") {
        "truncate" => return Mask::Truncate,
        "hash" => {}
        _ => return Mask::Off,
    }
    if let Some(second) = second {
        section.wrong(second, format!("the key is also in {}; keep one", first.unwrap_or_default()));
    }
    let Some(first) = first else {
        section.wrong("mask_ip", "hash needs a key; set mask_key_file, and keep the key secret: with it, hashes are addresses again");
        return Mask::Truncate;
    };
    match key(file, env, credential) {
        Ok(key) => Mask::Hash(Box::new(Keyed::new(key.reveal().as_bytes()))),
        Err(wrong) => {
            section.wrong(first, wrong);
            Mask::Truncate
        }
    }
}

/// Reads the key. It is part of the settings: a handler that had none could show addresses, or nothing.
#[allow(clippy::disallowed_methods, reason = "a secret is no setting of the config's, and handlers read nothing later")]
fn key(file: Option<PathBuf>, env: Option<String>, credential: Option<String>) -> Result<Secret, String> {
    if let Some(name) = env {
        return std::env::var(&name).ok().filter(|text| !text.is_empty()).map(Secret::new).ok_or_else(|| {
            format!("environment variable {name} holds no key; set it for the agent, for example by EnvironmentFile= of its unit")
        });
    }
    let path = match (file, credential) {
        (Some(path), _) => path,
        (None, name) => {
            let name = name.unwrap_or_default();
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
                .ok_or_else(|| format!("no systemd credentials here; add LoadCredential={name}:FILE to the unit, or use mask_key_file"))?;
            PathBuf::from(folder).join(name)
        }
    };
    Secret::named("key", &path)
}
