//! The settings of one `misp` lookup.

use std::{path::PathBuf, time::Duration};

use super::{core::Limits, query::Filters, value::Expand};
use crate::net::redis::{Place, Settings as Redis};
use crate::{
    clock::nanos,
    limits,
    net::{breaker, http},
    register::{Field, Section, Type},
};

/// The table of settings.
pub static FIELDS: &[Field] = &[
    Field::new(
        "mode",
        Type::Choice(&["ask", "mirror"]),
        "ask",
        "`ask`: MISP is asked about every indicator. `mirror`: the table `indicators` answers, without a call to MISP.",
    ),
    Field::optional(
        "indicators",
        Type::Table("indicators"),
        "Table that answers in mode `mirror`, and that is kept by sync_every; must be set for either.",
    ),
    Field::required(
        "url",
        Type::Text,
        "Base URL of the MISP, such as \"https://misp.example\", without the path of its API. In mode `mirror` only a synchronisation needs it, and key_file.",
    ),
    Field::required(
        "key_file",
        Type::Path,
        "File whose first line is the API key; read again when MISP refuses it. A role that may only read is enough.",
    ),
    Field::new(
        "sync_every",
        Type::Span,
        "0",
        "How often the table is made what MISP has, by what changed since; from 10s. A new indicator is found that soon. \"0\": only by `shipper intel sync`.",
    ),
    Field::new("rebuild_every", Type::Span, "24h", "Age at which such a synchronisation fetches everything anew; from 1h."),
    Field::optional("tls.ca", Type::Path, "PEM file with the CA that vouches for MISP; unset: the system's CAs."),
    Field::new("tls.verify", Type::Bool, "true", "False takes any certificate, and hands the key to whoever stands between."),
    Field::optional(
        "proxy",
        Type::Text,
        "Address of an HTTP proxy, such as \"http://proxy.example:3128\"; none is taken from the environment.",
    ),
    Field::new(
        "timeout",
        Type::Span,
        "30s",
        "For one search, its answer read; from 1s. Past it the search counts as failed and is sent again.",
    ),
    Field::new("to_ids", Type::Bool, "true", "Only attributes that are meant for detection."),
    Field::new("published", Type::Bool, "true", "Only attributes of published events."),
    Field::new("warninglists", Type::Bool, "true", "Leave out what hits a warninglist that is enabled in MISP."),
    Field::new(
        "types",
        Type::Texts,
        "[]",
        "Only attributes of these types, in MISP's own words (\"ip-dst\", \"filename|sha256\"); empty: any.",
    ),
    Field::new("hosts", Type::Bool, "true", "Ask for the host of a URL as well."),
    Field::new("parents", Type::Bool, "true", "Ask for the names above a name as well, down to the registered one."),
    Field::new(
        "networks_every",
        Type::Span,
        "1h",
        "How often MISP's networks (192.0.2.0/24) are loaded, in which addresses are then looked for; \"0\" does not.",
    ),
    Field::new("batch", Type::Int { min: 1, max: 1000 }, "200", "Values of one search."),
    Field::new("flush", Type::Span, "50ms", "How long the first value of a batch waits for others."),
    Field::new("connections", Type::Int { min: 1, max: 64 }, "4", "Searches at a time."),
    Field::new("page", Type::Int { min: 10, max: 100_000 }, "2000", "Attributes of one page of an answer."),
    Field::new(
        "rate",
        Type::Int { min: 0, max: 10_000 },
        "20",
        "Searches a second; 0 for no limit but MISP's own, which is always heeded.",
    ),
    Field::new("burst", Type::Int { min: 1, max: 10_000 }, "20", "Searches at once after a rest."),
    Field::new(
        "positive",
        Type::Span,
        "24h",
        "How long a value that MISP knows is answered from the cache. Every question for it is still answered as a hit.",
    ),
    Field::new(
        "negative",
        Type::Span,
        "1h",
        "How long a value that MISP does not know is not asked again; the time until a new indicator is seen.",
    ),
    Field::new("cache_bytes", Type::Bytes, "64 MiB", "Memory for values and their attributes."),
    Field::new("hits", Type::Int { min: 1, max: 100_000 }, "100", "Attributes that are kept of one value."),
    Field::new(
        "breaker.failures",
        Type::Int { min: 1, max: 1000 },
        "5",
        "Failed searches in a row after which MISP is left alone for a while; messages wait, none is skipped.",
    ),
    Field::new(
        "breaker.share",
        Type::Int { min: 1, max: 101 },
        "50",
        "Percent of failed searches, of 20 or more within breaker.window, with the same effect; 101: never.",
    ),
    Field::new("breaker.window", Type::Span, "30s", "Time over which the share is counted."),
    Field::new("breaker.wait_max", Type::Span, "60s", "Longest wait between two trials; the first is 1s, and it doubles."),
    Field::optional(
        "redis.url",
        Type::Text,
        "A Redis as a cache beside our own: redis://host:6379, rediss://host:6379 (TLS) or unix:/path. Whatever goes wrong there, lookups go on.",
    ),
    Field::optional("redis.ca", Type::Path, "PEM file with the CA that vouches for a rediss:// Redis; unset: the system's CAs."),
    Field::optional("redis.username", Type::Text, "ACL user of Redis; unset: its default user."),
    Field::optional("redis.password_file", Type::Path, "File whose first line is the password for Redis; read again at each connection."),
    Field::new("redis.db", Type::Int { min: 0, max: 65_535 }, "0", "Database of Redis."),
    Field::new(
        "redis.prefix",
        Type::Text,
        "ioc:",
        "What keys begin with; the value follows. Agents with other filters (to_ids, types, …) need another prefix.",
    ),
    Field::new("redis.timeout", Type::Span, "1s", "For one round trip to Redis, and to connect."),
    Field::new(
        "while_away",
        Type::Choice(&["wait", "spool"]),
        "wait",
        "While MISP is away, silent, or refuses the key: `wait` stops the source, and its file keeps what is unread; `spool` puts messages \
         by on disk, in the state folder, reads on, and asks about them when MISP is back. Nothing is skipped either way.",
    ),
    Field::new("spool_max", Type::Bytes, "1 GiB", "Bytes on disk of messages put by; when they are used up, messages wait."),
    Field::new(
        "sightings",
        Type::Bool,
        "false",
        "Tell MISP which of its values were seen, each once in sightings_window; the key's role needs perm_sighting.",
    ),
    Field::new("sightings_window", Type::Span, "1h", "Time in which a value is told once."),
];

/// Settings of one `misp` lookup, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// Name of the table.
    pub indicators: Option<String>,
    /// How often it is synchronised; `None`: not by the agent.
    pub sync_every: Option<Duration>,
    /// How often that is everything.
    pub rebuild_every: Duration,
    /// Its base is empty where no MISP is set.
    pub http: http::Settings,
    pub key_file: PathBuf,
    pub filters: Filters,
    pub limits: Limits,
    /// A shared cache and the prefix of its keys.
    pub redis: Option<(Redis, String)>,
    /// In which a value is told once; `None`: no sightings.
    pub sightings: Option<Duration>,
    /// Bytes of messages put by while MISP is away; `None`: they wait.
    pub spool_max: Option<u64>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// MISP.
    Ask,
    /// The local table.
    Mirror,
}

/// Settings that say nothing while nobody asks MISP about indicators.
const ONLY_ASK: [&str; 4] = ["redis.url", "sightings", "networks_every", "cache_bytes"];

impl Settings {
    /// True if a MISP is set: its URL and its key.
    pub fn has_misp(&self) -> bool {
        !self.http.base.is_empty()
    }

    fn table(section: &mut Section<'_>, mode: Mode) -> (Option<String>, Option<Duration>, Duration) {
        let indicators = section.opt_text("indicators");
        let sync_every = Some(section.span("sync_every")).filter(|every| !every.is_zero());
        let rebuild_every = section.span("rebuild_every");
        let has_misp = section.is_set("url");
        if mode == Mode::Mirror {
            if indicators.is_none() {
                section.wrong("indicators", "must be set in mode mirror; name a table of kind indicators");
            }
            for name in ONLY_ASK {
                if section.is_set(name) {
                    section.wrong(name, "says nothing in mode mirror, where MISP is not asked; remove it");
                }
            }
        }
        if let Some(every) = sync_every {
            if !has_misp && mode == Mode::Mirror {
                section.wrong("sync_every", "needs url and key_file: the MISP that the table is made of");
            }
            if indicators.is_none() {
                section.wrong("sync_every", "needs indicators: the table that is kept");
            }
            if every < Duration::from_secs(10) {
                section.wrong("sync_every", "is at least 10s, or 0 for never");
            }
        }
        if rebuild_every < Duration::from_secs(3600) {
            section.wrong("rebuild_every", "is at least 1h");
        }
        (indicators, sync_every, rebuild_every)
    }

    /// Reads them; what is wrong is noted in the section.
    pub fn parse(section: &mut Section<'_>) -> Self {
        let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
        let mode = if section.choice("mode") == "mirror" { Mode::Mirror } else { Mode::Ask };
        let (indicators, sync_every, rebuild_every) = Self::table(section, mode);
        // A mirror answers without a MISP; but one that is half there is a mistake.
        let is_asked = mode == Mode::Ask || section.is_set("url") || section.is_set("key_file");
        let base = if is_asked { section.text("url").trim_end_matches('/').to_owned() } else { String::new() };
        let key_file = if is_asked { section.path("key_file") } else { PathBuf::new() };
        if section.is_set("url")
            && let Err(why) = check_url(&base)
        {
            section.wrong("url", why);
        }
        let timeout = section.span("timeout");
        let connections = count(section.int("connections"));
        let http = http::Settings {
            base,
            verify: section.bool("tls.verify"),
            ca: section.opt_path("tls.ca"),
            own: None,
            proxy: section.opt_text("proxy"),
            connect_timeout: timeout.min(Duration::from_secs(10)),
            timeout,
            body_max: limits::MISP_ANSWER_BYTES,
            idle_connections: connections as usize,
        };
        if !http.verify && http.ca.is_some() {
            section.wrong("tls.verify", "is false, so tls.ca says nothing; remove one of the two");
        }
        let filters = Filters {
            to_ids: section.bool("to_ids"),
            published: section.bool("published"),
            warninglists: section.bool("warninglists"),
            types: section.texts("types"),
        };
        let networks_every = Some(section.span("networks_every")).filter(|every| !every.is_zero() && !filters.network_types().is_empty());
        let limits = Limits {
            batch_values: count(section.int("batch")) as usize,
            flush: nanos(section.span("flush")),
            connections: connections as usize,
            page_rows: count(section.int("page")),
            rate: count(section.int("rate")),
            burst: count(section.int("burst")),
            breaker: breaker::Limits {
                failures: count(section.int("breaker.failures")),
                share: count(section.int("breaker.share")),
                window: section.span("breaker.window"),
                wait_max: section.span("breaker.wait_max"),
                ..breaker::Limits::default()
            },
            positive: nanos(section.span("positive")),
            silence: nanos(Duration::from_millis(limits::MISP_SILENCE_MS)),
            negative: nanos(section.span("negative")),
            cache_bytes: usize::try_from(section.bytes("cache_bytes")).unwrap_or(usize::MAX),
            hits_max: count(section.int("hits")) as usize,
            hold_retry: nanos(Duration::from_millis(limits::HOLD_RETRY_MS)),
            expand: Expand { hosts: section.bool("hosts"), parents: section.bool("parents") },
            networks_every: networks_every.map(nanos),
            shared: section.is_set("redis.url"),
            seed: 0,
        };
        let second = Duration::from_secs(1);
        let least =
            [("timeout", second), ("breaker.window", second), ("breaker.wait_max", second), ("redis.timeout", Duration::from_millis(10))];
        for (name, least) in least {
            if section.span(name) < least {
                section.wrong(name, format!("is at least {}ms", least.as_millis()));
            }
        }
        if limits.flush > nanos(second) {
            section.wrong("flush", "is at most 1s");
        }
        if networks_every.is_some_and(|every| every < Duration::from_secs(60)) {
            section.wrong("networks_every", "is at least 60s, or 0 for never");
        }
        Self {
            mode,
            indicators,
            sync_every,
            rebuild_every,
            redis: Self::redis(section),
            spool_max: Self::spool(section),
            sightings: section.bool("sightings").then(|| section.span("sightings_window")),
            key_file,
            http,
            filters,
            limits,
        }
    }

    fn spool(section: &mut Section<'_>) -> Option<u64> {
        let max = section.bytes("spool_max");
        if section.choice("while_away") == "wait" {
            if section.is_set("spool_max") {
                section.wrong("spool_max", "says nothing without while_away = \"spool\"; set that, or remove this");
            }
            return None;
        }
        if max < limits::SPOOL_BYTES_MIN {
            section.wrong("spool_max", format!("is at least {}", limits::SPOOL_BYTES_MIN));
        }
        Some(max)
    }

    fn redis(section: &mut Section<'_>) -> Option<(Redis, String)> {
        let timeout = section.span("redis.timeout");
        let ca = section.opt_path("redis.ca");
        let user = section.opt_text("redis.username");
        let password_file = section.opt_path("redis.password_file");
        let db = u32::try_from(section.int("redis.db")).unwrap_or(0);
        let prefix = section.text("redis.prefix");
        let Some(url) = section.opt_text("redis.url") else {
            for name in ["redis.ca", "redis.username", "redis.password_file", "redis.db", "redis.prefix", "redis.timeout"] {
                if section.is_set(name) {
                    section.wrong(name, "says nothing without redis.url; set that, or remove this");
                }
            }
            return None;
        };
        if user.is_some() && password_file.is_none() {
            section.wrong("redis.username", "needs redis.password_file");
        }
        match Place::parse(&url, ca.clone()) {
            Ok(place) => {
                if ca.is_some() && !matches!(place, Place::Tls { .. }) {
                    section.wrong("redis.ca", "says nothing without TLS; write redis.url as rediss://…");
                }
                Some((Redis { place, user, password_file, db, connect_timeout: timeout, timeout }, prefix))
            }
            Err(why) => {
                section.wrong("redis.url", why);
                None
            }
        }
    }
}

fn check_url(base: &str) -> Result<(), String> {
    let rest = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"));
    let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
        return Err("is no URL; write it as https://misp.example".into());
    };
    if rest.contains('@') {
        return Err("holds a user or password; the key in key_file is all that MISP wants".into());
    }
    if rest.contains(['?', '#']) || rest.to_ascii_lowercase().contains("restsearch") {
        return Err("is not the base of MISP; write it without the path of its API, as https://misp.example".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::{Errors, Node};

    fn parse(text: &str) -> (Settings, String) {
        let node = Node::parse_toml(text).unwrap();
        let mut errors = Errors::default();
        let settings = Settings::parse(&mut Section::open("lookups.misp", &node, FIELDS, &[], &mut errors));
        (settings, errors.to_string())
    }

    #[test]
    fn two_settings_are_enough() {
        let (settings, errors) = parse("url = 'https://misp.example/'\nkey_file = '/etc/shipper/misp.key'\n");
        assert_eq!(errors, "");
        assert_eq!((settings.http.base.as_str(), settings.http.verify), ("https://misp.example", true));
        assert_eq!((settings.limits.batch_values, settings.limits.flush, settings.limits.negative), (200, 50_000_000, 3_600_000_000_000));
        assert!(settings.redis.is_none() && settings.sightings.is_none());
        assert!(settings.filters.to_ids && settings.filters.published && settings.filters.warninglists);
    }

    #[test]
    fn each_mistake_is_told_with_its_remedy() {
        let wrong = |more: &str| parse(&format!("key_file = '/k'\n{more}")).1;
        let rows = [
            ("", "line 1: lookups.misp.url: must be set"),
            ("url = 'misp.example'", "is no URL; write it as https://"),
            ("url = 'https://misp.example/attributes/restSearch/'", "is not the base of MISP"),
            ("url = 'https://u:p@misp.example'", "holds a user or password"),
            ("url = 'https://m'\nkey = 'abc'", "secrets do not stand in the config; write them to a file and set \"key_file\""),
            ("url = 'https://m'\ntimeout = '5ms'", "lookups.misp.timeout: is at least 1000ms"),
            ("url = 'https://m'\nnetworks_every = '5s'", "is at least 60s, or 0 for never"),
            ("url = 'https://m'\nredis.username = 'a'", "redis.username: says nothing without redis.url"),
            ("url = 'https://m'\nredis.url = 'r:6379'", "is no address of a Redis"),
            ("url = 'https://m'\nredis.url = 'redis://r'\nredis.username = 'a'", "needs redis.password_file"),
            ("url = 'https://m'\nredis.url = 'redis://r'\nredis.ca = '/c'", "says nothing without TLS"),
            ("url = 'https://m'\nmode = 'mirror'", "lookups.misp.indicators: must be set in mode mirror"),
            ("url = 'https://m'\nmode = 'mirror'\nindicators = 't'\nredis.url = 'redis://r'", "redis.url: says nothing in mode mirror"),
            ("url = 'https://m'\nsync_every = '5m'", "sync_every: needs indicators"),
            ("url = 'https://m'\nindicators = 't'\nsync_every = '5s'", "sync_every: is at least 10s"),
            ("url = 'https://m'\nrebuild_every = '5s'", "rebuild_every: is at least 1h"),
            ("url = 'https://m'\nspool_max = '1 GiB'", "spool_max: says nothing without while_away"),
            ("url = 'https://m'\nwhile_away = 'spool'\nspool_max = 5", "spool_max: is at least 1048576"),
            ("url = 'https://m'\nwhile_away = 'skip'", "wait, spool"),
            ("url = 'https://m'\ntls.verify = false\ntls.ca = '/c'", "remove one of the two"),
        ];
        for (more, expected) in rows {
            let errors = wrong(more);
            assert!(errors.contains(expected), "{more}: {errors}");
        }
    }

    #[test]
    fn a_mirror_needs_a_table_and_no_misp() {
        let (settings, errors) = parse("mode = 'mirror'\nindicators = 'misp'\n");
        assert_eq!(errors, "");
        assert!(settings.mode == Mode::Mirror && !settings.has_misp() && settings.sync_every.is_none());
        let (_, errors) = parse("mode = 'mirror'\nindicators = 'misp'\nsync_every = '5m'\n");
        assert!(errors.contains("sync_every: needs url and key_file"), "{errors}");
        let (_, errors) = parse("");
        assert!(errors.contains("lookups.misp.url: must be set") && errors.contains("key_file: must be set"), "{errors}");
        let (_, errors) = parse("mode = 'mirror'\nindicators = 'misp'\nurl = 'https://m'\n");
        assert!(errors.contains("key_file: must be set"), "{errors}");
        let synced = "mode = 'mirror'\nindicators = 'misp'\nsync_every = '5m'\nurl = 'https://m'\nkey_file = '/k'\n";
        let (settings, errors) = parse(synced);
        assert_eq!((errors.as_str(), settings.sync_every), ("", Some(Duration::from_secs(300))));
    }

    #[test]
    fn types_without_addresses_load_no_networks() {
        let (settings, _) = parse("url = 'https://m'\nkey_file = '/k'\ntypes = ['md5']\n");
        assert_eq!(settings.limits.networks_every, None);
    }
}
