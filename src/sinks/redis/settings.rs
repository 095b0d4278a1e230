//! The settings of one `redis` sink.

use std::{path::PathBuf, time::Duration};

use super::{
    alerts::Alerts,
    form::{Form, hash_tag},
};
use crate::{
    detect::kept::Keys,
    limits,
    net::redis::{Place, Settings as Server, slot_of},
    register::{Field, Section, Type},
};

/// The table of settings.
pub(super) const FIELDS: &[Field] = &[
    Field::required(
        "url",
        Type::Text,
        "redis://host:6379, rediss://host:6379 (TLS), unix:/path, redis+sentinel://host:26379,host:26379/NAME (the primary that \
         sentinels name) or redis+cluster://host:6379,host:6379; the last two with TLS are rediss+…. User, password and database have \
         settings of their own.",
    ),
    Field::optional("tls.ca", Type::Path, "PEM file with the CA that vouches for a rediss:// server; unset: the system's CAs."),
    Field::optional("username", Type::Text, "ACL user; unset: the default user."),
    Field::optional("password_file", Type::Path, "File whose first line is the password; read again at each connection."),
    Field::optional("sentinel.username", Type::Text, "ACL user at the sentinels; unset: the default user."),
    Field::optional("sentinel.password_file", Type::Path, "File with the password of the sentinels; unset: they want none."),
    Field::new("db", Type::Int { min: 0, max: 65_535 }, "0", "Number of the database."),
    Field::new(
        "form",
        Type::Choice(&["messages", "alerts"]),
        "messages",
        "How messages are stored: `messages` as they are, by list, stream and publish; `alerts` under their own ids, each once however \
         often it comes, with indices by time and entity, counts, a list of the newest and a channel: see prefix.",
    ),
    Field::new(
        "prefix",
        Type::Text,
        "apt_detection:",
        "Beginning of all keys of form `alerts`: alert:ID, alerts (the list), by_time, by_entity:ENTITY, stats, entities, and the channel \
         new. In a cluster the default is {apt_detection}:, and another one needs such a hash tag.",
    ),
    Field::new("max_alerts", Type::Int { min: 10, max: 10_000_000 }, "10000", "Alerts on the list `alerts`, the newest."),
    Field::new("retention", Type::Span, "90d", "How long an alert and its places in the indices are kept; whole days, from 1d."),
    Field::new(
        "list",
        Type::Text,
        "waf:alerts",
        "Key of a list: each message is pushed onto its head once, however often its record is read. With stream or publish there is a list only if it is set.",
    ),
    Field::new("list_max", Type::Int { min: 1, max: 10_000_000 }, "1000", "Entries of the list that are kept, the newest."),
    Field::new("list_expires", Type::Span, "24h", "Time after the last push at which the list is gone; \"0\": it stays."),
    Field::optional("stream", Type::Text, "Key of a stream: each message becomes an entry (XADD)."),
    Field::new("stream_max", Type::Int { min: 1, max: 1_000_000_000 }, "1000", "Entries of the stream that are kept, about (MAXLEN ~)."),
    Field::new("stream_field", Type::Text, "data", "Name of the entry's one field, which holds the payload."),
    Field::new("stream_once", Type::Bool, "false", "Whether a message becomes one entry however often its record is read, as in a list."),
    Field::optional("publish", Type::Text, "Channel on which each message is published, to whoever listens at that moment."),
    Field::new(
        "seen_for",
        Type::Span,
        "24h",
        "How long a message is known for list and stream_once, by a key {KEY}:seen:HASH; from 1m. A record that is read again later is pushed again.",
    ),
    Field::new("timeout", Type::Span, "5s", "For the answers to a pipeline; from 100ms to 300s. Connecting has 2s of it at most."),
    Field::new(
        "backoff_max",
        Type::Span,
        "30s",
        "Longest wait before a server that is away or busy is tried again; the first is 0.2s, and it doubles. From 1s to 1h.",
    ),
    Field::new(
        "while_away",
        Type::Choice(&["wait", "spool"]),
        "wait",
        "While Redis is away or does not take messages for 2s: `wait` stops the source, which keeps what is unread; `spool` puts \
         messages by on disk, in the state folder, reads on, and sends them when Redis is back, in their order but behind newer ones. \
         Nothing is skipped either way.",
    ),
    Field::new("spool_max", Type::Bytes, "1 GiB", "Bytes on disk of messages put by; when they are used up, messages wait."),
];

/// Settings of one `redis` sink, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub server: Server,
    pub forms: Vec<Form>,
    pub backoff_max: Duration,
    /// Bytes of messages put by while Redis is away; `None`: they wait.
    pub spool_max: Option<u64>,
    pub is_required: bool,
}

impl Settings {
    /// Reads them; what is wrong is noted in the section.
    ///
    /// - `required`: whether the kind is required by default.
    pub(super) fn parse(section: &mut Section<'_>, required: bool) -> Self {
        let spans = [
            ("timeout", Duration::from_millis(100), Duration::from_secs(300), "is from 100ms to 300s"),
            ("backoff_max", Duration::from_secs(1), Duration::from_secs(3600), "is from 1s to 1h"),
            ("seen_for", Duration::from_secs(60), Duration::MAX, "is at least 1m"),
        ];
        for (name, least, most, what) in spans {
            if !(least..=most).contains(&section.span(name)) {
                section.wrong(name, what);
            }
        }
        let timeout = section.span("timeout");
        let ca = section.opt_path("tls.ca");
        let url = section.text("url");
        let mut place = Place::parse_any(&url, ca.clone()).unwrap_or_else(|why| {
            if section.is_set("url") {
                // Its own words speak of a lookup's cache.
                section.wrong("url", why.replace("redis.", ""));
            }
            Place::Tcp { host: String::new(), port: 0 }
        });
        if ca.is_some() && !place.is_tls() {
            section.wrong("tls.ca", "says nothing without TLS; write url as rediss://…");
        }
        let (user, password_file) = Self::login(section, ["username", "password_file"]);
        let at_sentinels = Self::login(section, ["sentinel.username", "sentinel.password_file"]);
        let db = u32::try_from(section.int("db")).unwrap_or(0);
        let is_cluster = matches!(place, Place::Cluster { .. });
        let forms = match section.choice("form") {
            "alerts" => Self::of_alerts(section, is_cluster),
            _ => Self::forms(section),
        };
        match &mut place {
            Place::Sentinel { user, password_file, .. } => (*user, *password_file) = at_sentinels,
            _ if at_sentinels.1.is_some() => {
                section.wrong("sentinel.password_file", "says nothing without sentinels; write url as redis+sentinel://…");
            }
            Place::Cluster { slot, .. } => {
                if db != 0 {
                    section.wrong("db", "is 0 in a cluster; remove this");
                }
                *slot = Self::slot(section, &forms);
            }
            _ => {}
        }
        let connect_timeout = timeout.min(Duration::from_millis(limits::REDIS_CONNECT_MS));
        Self {
            server: Server { place, user, password_file, db, connect_timeout, timeout },
            forms,
            backoff_max: section.span("backoff_max"),
            spool_max: Self::spool(section),
            is_required: section.also_bool("required").unwrap_or(required),
        }
    }

    /// How alerts are stored, if they are.
    pub(super) fn alerts(&self) -> Option<&Alerts> {
        self.forms.iter().find_map(|form| match form {
            Form::Alerts(alerts) => Some(alerts),
            _ => None,
        })
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

    fn login(section: &mut Section<'_>, [user, password_file]: [&'static str; 2]) -> (Option<String>, Option<PathBuf>) {
        let login = (section.opt_text(user), section.opt_path(password_file));
        if login.0.is_some() && login.1.is_none() {
            section.wrong(user, format!("needs {password_file}"));
        }
        login
    }

    /// The slot of a cluster that has all keys.
    fn slot(section: &mut Section<'_>, forms: &[Form]) -> u16 {
        let tags = forms.iter().flat_map(Form::keys).map(|(key, _)| hash_tag(&key).unwrap_or(&key).to_owned());
        let mut slots: Vec<u16> = tags.map(|tag| slot_of(tag.as_bytes())).collect();
        slots.dedup();
        if slots.len() > 1 {
            section.wrong(
                "url",
                "names a cluster, which keeps list and stream on different nodes; give both keys one {tag}, or write two sinks",
            );
        }
        slots.first().copied().unwrap_or(0)
    }

    fn of_alerts(section: &mut Section<'_>, is_cluster: bool) -> Vec<Form> {
        let of_messages =
            ["list", "list_max", "list_expires", "stream", "stream_max", "stream_field", "stream_once", "publish", "seen_for"];
        for name in of_messages {
            if section.is_set(name) {
                section.wrong(name, "says nothing with form = \"alerts\", whose keys begin with prefix; remove this, or write two sinks");
            }
        }
        let prefix = match section.text("prefix") {
            prefix if is_cluster && !section.is_set("prefix") => format!("{{{}}}:", prefix.trim_end_matches(':')),
            prefix => prefix,
        };
        if is_cluster && hash_tag(&prefix).is_none() {
            section.wrong("prefix", "needs a hash tag in a cluster, so that all keys are on one node; write {apt_detection}:");
        } else if prefix.contains(['{', '}']) && hash_tag(&prefix).is_none() {
            section.wrong("prefix", "holds a brace that makes no hash tag; write {tag} in it, or no brace");
        }
        const DAY: u64 = 86_400;
        let lives = section.span("retention").as_secs();
        if lives < DAY || !lives.is_multiple_of(DAY) {
            section.wrong("retention", "is whole days, at least 1d");
        }
        let most = u64::try_from(section.int("max_alerts")).unwrap_or(0);
        vec![Form::Alerts(Alerts { keys: Keys::new(prefix), most, lives })]
    }

    fn forms(section: &mut Section<'_>) -> Vec<Form> {
        for name in ["prefix", "max_alerts", "retention"] {
            if section.is_set(name) {
                section.wrong(name, "says nothing without form = \"alerts\"; set that, or remove this");
            }
        }
        let [list, stream, publish] = ["list", "stream", "publish"].map(|name| section.opt_text(name).filter(|text| !text.is_empty()));
        let list = list.filter(|_| section.is_set("list") || stream.is_none() && publish.is_none());
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let seen_for = section.span("seen_for").as_secs();
        let is_once = section.bool("stream_once");
        let belongs = [
            ("list_max", list.is_some(), "list"),
            ("list_expires", list.is_some(), "list"),
            ("stream_max", stream.is_some(), "stream"),
            ("stream_field", stream.is_some(), "stream"),
            ("stream_once", stream.is_some(), "stream"),
            ("seen_for", list.is_some() || stream.is_some() && is_once, "list, or stream with stream_once"),
        ];
        for (name, is_used, of) in belongs {
            if section.is_set(name) && !is_used {
                section.wrong(name, format!("says nothing without {of}; set that, or remove this"));
            }
        }
        for (name, key) in [("list", &list), ("stream", &stream)] {
            let is_odd = |key: &String| key.contains(['{', '}']) && hash_tag(key).is_none();
            if key.as_ref().is_some_and(is_odd) {
                section.wrong(name, "holds a brace that makes no hash tag; write {tag} in it, or no brace");
            }
        }
        if list.is_some() && list == stream {
            section.wrong("stream", "and list are one key, which cannot be both; name another");
        }
        let mut forms = Vec::new();
        if let Some(key) = list {
            let (most, lives) = (number(section.int("list_max")), section.span("list_expires").as_secs());
            forms.push(Form::List { key, most, lives, seen_for });
        }
        if let Some(key) = stream {
            let (most, field) = (number(section.int("stream_max")), section.text("stream_field"));
            forms.push(Form::Stream { key, most, field, seen_for: if is_once { seen_for } else { 0 } });
        }
        if let Some(channel) = publish {
            forms.push(Form::Publish { channel });
        }
        if forms.is_empty() {
            section.wrong("list", "is empty, and neither stream nor publish is set; name a key");
        }
        forms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::{Errors, Node};

    fn parse(text: &str) -> (Settings, String) {
        let node = Node::parse_toml(text).unwrap();
        let mut errors = Errors::default();
        let settings = Settings::parse(&mut Section::open("sinks.r", &node, FIELDS, &["required"], &mut errors), true);
        (settings, errors.to_string())
    }

    #[test]
    fn a_url_and_a_key_are_enough_and_forms_go_together() {
        let (settings, errors) = parse("url = 'redis://r'\nlist = 'waf:alerts'");
        assert_eq!(errors, "");
        let list = Form::List { key: "waf:alerts".into(), most: 1000, lives: 86_400, seen_for: 86_400 };
        assert_eq!((settings.forms, settings.is_required), (vec![list.clone()], true));
        let (settings, errors) =
            parse("url = 'unix:/r.sock'\nlist = 'waf:alerts'\nstream = 'waf-alerts'\nstream_once = true\npublish = 'waf'");
        assert_eq!(errors, "");
        let stream = Form::Stream { key: "waf-alerts".into(), most: 1000, field: "data".into(), seen_for: 86_400 };
        assert_eq!(settings.forms, [list, stream, Form::Publish { channel: "waf".into() }]);
    }

    #[test]
    fn alerts_have_keys_of_their_own_and_in_a_cluster_a_tag() {
        let of = |text: &str| {
            let (settings, errors) = parse(text);
            assert_eq!(errors, "", "{text}");
            settings
        };
        let alerts = |prefix: &str, most, lives| vec![Form::Alerts(Alerts { keys: Keys::new(prefix), most, lives })];
        assert_eq!(of("url = 'redis://r'\nform = 'alerts'").forms, alerts("apt_detection:", 10_000, 7_776_000));
        let mine = of("url = 'redis://r'\nform = 'alerts'\nprefix = 'a:'\nmax_alerts = 20\nretention = '7d'");
        assert_eq!(mine.forms, alerts("a:", 20, 604_800));
        assert_eq!((mine.server.connect_timeout, mine.server.timeout), (Duration::from_secs(2), Duration::from_secs(5)));
        let cluster = of("url = 'redis+cluster://r,s'\nform = 'alerts'");
        assert_eq!(cluster.forms, alerts("{apt_detection}:", 10_000, 7_776_000));
        assert!(matches!(cluster.server.place, Place::Cluster { slot, .. } if slot == slot_of(b"apt_detection")));
        let both = of("url = 'redis+cluster://r'\nlist = '{waf}:a'\nstream = '{waf}:b'\npublish = 'c'");
        assert!(matches!(both.server.place, Place::Cluster { slot, .. } if slot == slot_of(b"waf")));
        let login = of("url = 'redis+sentinel://r,s/m'\nform = 'alerts'\nsentinel.password_file = '/p'");
        assert!(matches!(login.server.place, Place::Sentinel { password_file: Some(_), .. }));
    }

    #[test]
    fn each_mistake_is_told_with_its_remedy() {
        let rows = [
            ("list = 'k'", "url: must be set"),
            ("url = 'r:6379'\nlist = 'k'", "is no address of a Redis"),
            ("url = 'redis://u:p@r'\nlist = 'k'", "holds a user or password; use username and password_file"),
            ("url = 'redis://r/1'\nlist = 'k'", "use db for the database"),
            ("url = 'redis://r'\nlist = ''", "list: is empty, and neither stream nor publish"),
            ("url = 'redis://r'\nlist = 'k'\npassword = 'abc'", "secrets do not stand in the config"),
            ("url = 'redis://r'\nlist = 'k'\nusername = 'u'", "username: needs password_file"),
            ("url = 'redis://r'\nlist = 'k'\ntls.ca = '/c'", "tls.ca: says nothing without TLS"),
            ("url = 'redis://r'\nlist = 'k'\nstream_max = 5", "stream_max: says nothing without stream"),
            ("url = 'redis://r'\nstream = 'k'\nseen_for = '1h'", "seen_for: says nothing without list"),
            ("url = 'redis://r'\nlist = 'k'\nseen_for = '1s'", "seen_for: is at least 1m"),
            ("url = 'redis://r'\nlist = 'k'\nstream = 'k'", "stream: and list are one key"),
            ("url = 'redis://r'\nlist = 'a}b'", "list: holds a brace that makes no hash tag"),
            ("url = 'redis://r'\nlist = 'k'\ntimeout = '10ms'", "timeout: is from 100ms to 300s"),
            ("url = 'redis://r'\nlist = 'k'\nspool_max = '1 GiB'", "spool_max: says nothing without while_away"),
            ("url = 'redis://r'\nlist = 'k'\nwhile_away = 'spool'\nspool_max = 5", "spool_max: is at least 1048576"),
            ("url = 'redis://r'\nprefix = 'k'", "prefix: says nothing without form"),
            ("url = 'redis://r'\nform = 'alerts'\nlist = 'k'", "list: says nothing with form"),
            ("url = 'redis://r'\nform = 'alerts'\nretention = '36h'", "retention: is whole days"),
            ("url = 'redis://r'\nform = 'alerts'\nprefix = 'a}b'", "prefix: holds a brace"),
            ("url = 'redis+cluster://r'\nform = 'alerts'\nprefix = 'apt:'", "prefix: needs a hash tag in a cluster"),
            ("url = 'redis+cluster://r'\nlist = 'a'\nstream = 'b'", "url: names a cluster, which keeps list and stream"),
            ("url = 'redis+cluster://r'\nlist = 'a'\ndb = 1", "db: is 0 in a cluster"),
            ("url = 'redis+sentinel://r'\nlist = 'a'", "url: names no primary"),
            ("url = 'redis://r'\nlist = 'a'\nsentinel.password_file = '/p'", "sentinel.password_file: says nothing without sentinels"),
            ("url = 'redis+sentinel://r/m'\nlist = 'a'\nsentinel.username = 'u'", "sentinel.username: needs sentinel.password_file"),
        ];
        for (text, expected) in rows {
            let errors = parse(text).1;
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
