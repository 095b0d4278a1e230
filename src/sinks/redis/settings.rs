//! The settings of one `redis` sink.

use std::time::Duration;

use super::form::{Form, hash_tag};
use crate::{
    net::redis::{Place, Settings as Server},
    register::{Field, Section, Type},
};

/// The table of settings.
pub(super) const FIELDS: &[Field] = &[
    Field::required(
        "url",
        Type::Text,
        "redis://host:6379, rediss://host:6379 (TLS) or unix:/path. User, password and database have settings of their own.",
    ),
    Field::optional("tls.ca", Type::Path, "PEM file with the CA that vouches for a rediss:// server; unset: the system's CAs."),
    Field::optional("username", Type::Text, "ACL user; unset: the default user."),
    Field::optional("password_file", Type::Path, "File whose first line is the password; read again at each connection."),
    Field::new("db", Type::Int { min: 0, max: 65_535 }, "0", "Number of the database."),
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
    Field::new("timeout", Type::Span, "5s", "To connect, and for the answers to a pipeline; from 100ms to 300s."),
    Field::new(
        "backoff_max",
        Type::Span,
        "30s",
        "Longest wait before a server that is away or busy is tried again; the first is 0.2s, and it doubles. From 1s to 1h.",
    ),
];

/// Settings of one `redis` sink, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub server: Server,
    pub forms: Vec<Form>,
    pub backoff_max: Duration,
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
        let place = Place::parse(&url, ca.clone()).unwrap_or_else(|why| {
            if section.is_set("url") {
                // Its own words speak of a lookup's cache.
                section.wrong("url", why.replace("redis.", ""));
            }
            Place::Tcp { host: String::new(), port: 0 }
        });
        if ca.is_some() && !matches!(place, Place::Tls { .. }) {
            section.wrong("tls.ca", "says nothing without TLS; write url as rediss://…");
        }
        let (user, password_file) = (section.opt_text("username"), section.opt_path("password_file"));
        if user.is_some() && password_file.is_none() {
            section.wrong("username", "needs password_file");
        }
        let db = u32::try_from(section.int("db")).unwrap_or(0);
        Self {
            server: Server { place, user, password_file, db, connect_timeout: timeout, timeout },
            forms: Self::forms(section),
            backoff_max: section.span("backoff_max"),
            is_required: section.also_bool("required").unwrap_or(required),
        }
    }

    fn forms(section: &mut Section<'_>) -> Vec<Form> {
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
        ];
        for (text, expected) in rows {
            let errors = parse(text).1;
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
