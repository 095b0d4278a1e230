//! The settings of one `webhook` sink.

use std::{path::PathBuf, time::Duration};

use super::form::Form;
use crate::{
    limits,
    net::{
        http,
        secret::{Secret, SecretIn},
    },
    register::{Field, Section, Type},
};

/// The table of settings.
pub(super) const FIELDS: &[Field] = &[
    Field::required("url", Type::Text, "Where messages are posted to, such as \"https://hooks.example/in\"."),
    Field::optional(
        "path_file",
        Type::Path,
        "File whose first line begins with a slash and is appended to url, for a path that is a secret itself, as those of Slack's webhooks are.",
    ),
    Field::new(
        "form",
        Type::Choice(Form::WORDS),
        "json",
        "json: one payload a request, as it is. array, ndjson: many a request, as a JSON array or one a line. pagerduty, slack: one alert record a request, in the words of PagerDuty's Events API v2 or of Slack's incoming webhooks. An incident of PagerDuty is one address, attack type, host and hour; of records without type and host, one address, rule family and hour.",
    ),
    Field::new("batch", Type::Int { min: 1, max: 10_000 }, "100", "Messages of one request at most, for forms array and ndjson."),
    Field::new("batch_bytes", Type::Bytes, "1 MiB", "Bytes of their payloads at most; a longer one goes alone."),
    Field::new("linger", Type::Span, "200ms", "How long the first message of such a request waits for others; at most 60s."),
    Field::optional("content_type", Type::Text, "In place of application/json, or application/x-ndjson of form ndjson."),
    Field::new("headers", Type::Map, "{}", "Headers of every request, none of them secret."),
    Field::new("headers_file", Type::Map, "{}", "Headers whose values are secret: each name with the file whose first line is the value."),
    Field::new("headers_env", Type::Map, "{}", "The same: each name with the environment variable that holds the value."),
    Field::optional(
        "signature.key_file",
        Type::Path,
        "File whose first line is a key: every request then carries sha256=HEX, the HMAC-SHA256 of its body.",
    ),
    Field::new("signature.header", Type::Text, "X-Signature-256", "Header that carries it."),
    Field::optional("pagerduty.routing_key_file", Type::Path, "File whose first line is the integration key, for form pagerduty."),
    Field::new("pagerduty.source", Type::Text, "shipper", "What is affected, where an alert names no host."),
    Field::optional(
        "from_severity",
        Type::Int { min: 0, max: 1_000_000 },
        "Alerts below this are let go, counted, in forms pagerduty (unset: 90) and slack (unset: 0).",
    ),
    Field::new("timeout", Type::Span, "10s", "For one request, its answer read; from 1s to 300s. Past it the request is sent again."),
    Field::new(
        "rate",
        Type::Int { min: 0, max: 10_000 },
        "0",
        "Requests a second; 0 for no limit but the receiver's own (429), which is always heeded.",
    ),
    Field::new(
        "backoff_max",
        Type::Span,
        "60s",
        "Longest wait before a receiver that is away is tried again; the first is 1s, and it doubles. From 1s.",
    ),
    Field::new(
        "give_up_after",
        Type::Span,
        "1h",
        "Age at which a message that could not be delivered is let go, counted, by a sink that is not required. At most 10,000 messages and 16 MiB wait, the oldest go first.",
    ),
    Field::optional("tls.ca", Type::Path, "PEM file with the CA that vouches for the receiver; unset: the system's CAs."),
    Field::new("tls.verify", Type::Bool, "true", "False takes any certificate, and hands messages and secrets to whoever stands between."),
    Field::optional("tls.cert", Type::Path, "PEM file with our certificate, for a receiver that wants one; with tls.key."),
    Field::optional("tls.key", Type::Path, "PEM file with its key, without a password."),
    Field::optional(
        "proxy",
        Type::Text,
        "Address of an HTTP proxy, such as \"http://proxy.example:3128\"; none is taken from the environment.",
    ),
];

/// A URL in two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `https://host[:port]`.
    pub base: String,
    /// Path and query: in many a webhook the secret.
    pub path: Secret,
}

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it; the URL itself is not shown.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let after = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let Some(after) = after else { return Err("is no URL; write it as https://hooks.example/in") };
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        if authority.is_empty() {
            return Err("names no host; write it as https://hooks.example/in");
        }
        if authority.contains('@') {
            return Err("holds a user or password; give the header Authorization by headers_file");
        }
        if path.contains('#') {
            return Err("holds a #; nothing behind it is ever sent, remove it");
        }
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("holds a blank; write it as https://hooks.example/in");
        }
        let base = url[..url.len() - path.len()].to_owned();
        Ok(Self { base, path: Secret::new(path.to_owned()) })
    }
}

/// Settings of one `webhook` sink, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    target: Target,
    /// What is appended to its path.
    pub path_file: Option<PathBuf>,
    pub form: Form,
    pub batch: usize,
    pub batch_bytes: usize,
    pub linger: Duration,
    pub content_type: String,
    pub headers: Vec<(String, Secret)>,
    pub secret_headers: Vec<(String, SecretIn)>,
    /// Name of the header, and key.
    pub signature: Option<(String, SecretIn)>,
    pub routing_key: Option<SecretIn>,
    pub source: String,
    pub from_severity: f64,
    pub timeout: Duration,
    /// Requests a second; 0: no limit.
    pub rate: u32,
    pub backoff_max: Duration,
    pub give_up_after: Duration,
    pub is_required: bool,
    verify: bool,
    ca: Option<PathBuf>,
    own: Option<(PathBuf, PathBuf)>,
    proxy: Option<String>,
}

/// Headers that are ours, or that only a file or variable may hold.
const OURS: &[&str] = &["content-type", "content-length", "host", "transfer-encoding", "connection", "shipper-origin"];
const SECRETS: &[&str] = &["authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token"];

impl Settings {
    /// Reads them; what is wrong is noted in the section.
    ///
    /// - `required`: whether the kind is required by default.
    pub(super) fn parse(section: &mut Section<'_>, required: bool) -> Self {
        let form = Form::of(section.choice("form"));
        let url = section.text("url");
        let target = Target::parse(&url).unwrap_or_else(|why| {
            if section.is_set("url") {
                section.wrong("url", why);
            }
            Target { base: String::new(), path: Secret::new(String::new()) }
        });
        let small = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
        let batch = small(section.int("batch"));
        if !form.is_batch() {
            for name in ["batch", "batch_bytes", "linger"] {
                if section.is_set(name) {
                    section.wrong(name, "says nothing in this form, which has one message a request; use form array or ndjson");
                }
            }
        }
        let routing_key = section.opt_path("pagerduty.routing_key_file").map(SecretIn::File);
        match (form == Form::PagerDuty, routing_key.is_some()) {
            (true, false) => {
                section.wrong("pagerduty.routing_key_file", "must be set in form pagerduty; write the integration key into it")
            }
            (false, true) => section.wrong("pagerduty.routing_key_file", "says nothing but in form pagerduty; remove one of the two"),
            _ => {}
        }
        if section.is_set("from_severity") && !form.wants_alerts() {
            section.wrong("from_severity", "says nothing but in forms pagerduty and slack; remove it");
        }
        let default = if form == Form::PagerDuty { 90 } else { 0 };
        let from_severity = if section.is_set("from_severity") { section.int("from_severity") } else { default };
        let (headers, secret_headers, signature) = Self::headers(section);
        let (cert, key) = (section.opt_path("tls.cert"), section.opt_path("tls.key"));
        let own = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                section.wrong("tls.cert", "and tls.key need each other; set both or none");
                None
            }
        };
        let (verify, ca) = (section.bool("tls.verify"), section.opt_path("tls.ca"));
        if !verify && ca.is_some() {
            section.wrong("tls.verify", "is false, so tls.ca says nothing; remove one of the two");
        }
        let content_type = section.opt_text("content_type");
        if content_type.as_ref().is_some_and(|text| !is_header_value(text)) {
            section.wrong("content_type", "is none; write it as \"application/json\"");
        }
        let second = Duration::from_secs(1);
        let spans = [
            ("timeout", second, Duration::from_secs(300), "is from 1s to 300s"),
            ("linger", Duration::ZERO, Duration::from_secs(60), "is at most 60s"),
            ("backoff_max", second, Duration::from_secs(3600), "is from 1s to 1h"),
            ("give_up_after", second, Duration::MAX, "is at least 1s"),
        ];
        for (name, least, most, what) in spans {
            if !(least..=most).contains(&section.span(name)) {
                section.wrong(name, what);
            }
        }
        let is_required = section.also_bool("required").unwrap_or(required);
        if is_required && section.is_set("give_up_after") {
            section.wrong("give_up_after", "says nothing where required is true: then nothing is given up by age; remove one of the two");
        }
        Self {
            target,
            path_file: section.opt_path("path_file"),
            form,
            batch: if form.is_batch() { batch } else { 1 },
            batch_bytes: usize::try_from(section.bytes("batch_bytes")).unwrap_or(usize::MAX),
            linger: if form.is_batch() { section.span("linger") } else { Duration::ZERO },
            content_type: content_type.unwrap_or_else(|| form.content_type().to_owned()),
            headers,
            secret_headers,
            signature,
            routing_key,
            source: section.text("pagerduty.source"),
            from_severity: from_severity as f64,
            timeout: section.span("timeout"),
            rate: u32::try_from(section.int("rate")).unwrap_or(u32::MAX),
            backoff_max: section.span("backoff_max"),
            give_up_after: section.span("give_up_after"),
            is_required,
            verify,
            ca,
            own,
            proxy: section.opt_text("proxy"),
        }
    }

    #[allow(clippy::type_complexity, reason = "three lists, named where they are kept")]
    fn headers(section: &mut Section<'_>) -> (Vec<(String, Secret)>, Vec<(String, SecretIn)>, Option<(String, SecretIn)>) {
        let plain = section.map("headers");
        let files = section.map("headers_file");
        let variables = section.map("headers_env");
        let mut known: Vec<String> = OURS.iter().map(|name| (*name).to_owned()).collect();
        let lists = [("headers", &plain), ("headers_file", &files), ("headers_env", &variables)];
        for (setting, list) in lists {
            for (name, value) in list {
                let lower = name.to_ascii_lowercase();
                let wrong = if !is_header_name(name) {
                    Some("is no header's name; it has letters, digits and -")
                } else if OURS.contains(&lower.as_str()) {
                    Some("is set by the agent itself; remove it")
                } else if known.contains(&lower) {
                    Some("is set twice; remove one")
                } else if setting == "headers" && SECRETS.contains(&lower.as_str()) {
                    Some("is a secret, which does not stand in the config; write it to a file and use headers_file")
                } else if setting == "headers" && !is_header_value(value) {
                    Some("holds characters that no header may")
                } else {
                    None
                };
                if let Some(why) = wrong {
                    section.wrong(setting, format!("{name:?} {why}"));
                }
                known.push(lower);
            }
        }
        let header = section.text("signature.header");
        if !is_header_name(&header) || known.contains(&header.to_ascii_lowercase()) {
            section.wrong("signature.header", "is no header's name, or is set otherwise; write \"X-Signature-256\"");
        }
        let key = section.opt_path("signature.key_file");
        if section.is_set("signature.header") && key.is_none() {
            section.wrong("signature.header", "says nothing without signature.key_file; set that, or remove this");
        }
        let plain = plain.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        let files = files.into_iter().map(|(name, path)| (name, SecretIn::File(path.into())));
        let secret = files.chain(variables.into_iter().map(|(name, variable)| (name, SecretIn::Env(variable)))).collect();
        (plain, secret, key.map(|key| (header, SecretIn::File(key))))
    }

    /// The receiver's URL.
    ///
    /// # Errors
    /// What is wrong with the file of its path, and the remedy.
    pub(super) fn target(&self) -> Result<Target, String> {
        let Some(file) = &self.path_file else { return Ok(self.target.clone()) };
        let more = Secret::named("path", file)?;
        let wrong = |why: &str| format!("path_file {}: its first line {why}; write what follows url, such as /services/…", file.display());
        // Nothing in it can be part of a host.
        if !more.reveal().starts_with('/') {
            return Err(wrong("does not begin with a slash"));
        }
        let whole = format!("{}{}{}", self.target.base, self.target.path.reveal().trim_end_matches('/'), more.reveal().trim());
        Target::parse(&whole).map_err(|_| wrong("is no path of a URL"))
    }

    /// How it is reached.
    pub(super) fn http(&self, base: String) -> http::Settings {
        http::Settings {
            base,
            verify: self.verify,
            ca: self.ca.clone(),
            own: self.own.clone(),
            proxy: self.proxy.clone(),
            connect_timeout: self.timeout.min(Duration::from_secs(10)),
            timeout: self.timeout,
            body_max: limits::WEBHOOK_ANSWER_BYTES,
            idle_connections: 1,
        }
    }

    /// False takes any certificate.
    pub(super) fn verifies(&self) -> bool {
        self.verify
    }
}

/// RFC 9110 §5.6.2: `token`, of which we take the part that people use.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::{Errors, Node};

    fn parse(text: &str) -> (Settings, String) {
        let node = Node::parse_toml(text).unwrap();
        let mut errors = Errors::default();
        let settings = Settings::parse(&mut Section::open("sinks.w", &node, FIELDS, &["required"], &mut errors), false);
        (settings, errors.to_string())
    }

    #[test]
    fn a_url_is_enough_and_its_path_is_never_shown() {
        let (settings, errors) = parse("url = 'https://hooks.example:8443/services/T0/B0/sesame?x=1'");
        assert_eq!(errors, "");
        assert!(!format!("{settings:?}").contains("sesame"), "{settings:?}");
        let target = settings.target().unwrap();
        assert_eq!((target.base.as_str(), target.path.reveal()), ("https://hooks.example:8443", "/services/T0/B0/sesame?x=1"));
        assert_eq!((settings.batch, settings.is_required, settings.content_type.as_str()), (1, false, "application/json"));
        assert_eq!(parse("url = 'http://h'").0.target().unwrap().path.reveal(), "");
    }

    #[test]
    fn the_words_of_the_setting_are_the_forms() {
        let all = [Form::Json, Form::Array, Form::Ndjson, Form::PagerDuty, Form::Slack];
        assert_eq!(Form::WORDS.iter().map(|word| Form::of(word)).collect::<Vec<_>>(), all);
    }

    #[test]
    fn required_is_read_beside_its_own_settings() {
        let of = |more: &str| parse(&format!("url = 'http://h'\n{more}"));
        assert!(of("required = true").0.is_required && of("required = 'true'").0.is_required);
        assert!(!of("required = false").0.is_required);
        assert!(of("required = true\ngive_up_after = '1h'").1.contains("give_up_after: says nothing where required is true"));
    }

    #[test]
    fn each_mistake_is_told_with_its_remedy() {
        let rows = [
            ("", "url: must be set"),
            ("url = 'hooks.example'", "is no URL; write it as https://"),
            ("url = 'ftp://hooks.example'", "is no URL"),
            ("url = 'https://'", "names no host"),
            ("url = 'https://u:p@h/x'", "holds a user or password"),
            ("url = 'https://h/x#y'", "holds a #"),
            ("url = 'https://h/x y'", "holds a blank"),
            ("url = 'https://h'\nbatch = 5", "batch: says nothing in this form"),
            ("url = 'https://h'\nform = 'pagerduty'", "pagerduty.routing_key_file: must be set"),
            ("url = 'https://h'\npagerduty.routing_key_file = '/k'", "says nothing but in form pagerduty"),
            ("url = 'https://h'\npagerduty.routing_key = 'k'", "did you mean \"pagerduty.routing_key_file\"?"),
            ("url = 'https://h'\nfrom_severity = 5", "from_severity: says nothing but"),
            ("url = 'https://h'\nheaders.Authorization = 'x'", "\"Authorization\" is a secret"),
            ("url = 'https://h'\nheaders.'a b' = 'x'", "\"a b\" is no header's name"),
            ("url = 'https://h'\nheaders.X-A = \"a\\nb\"", "holds characters that no header may"),
            ("url = 'https://h'\nheaders.Host = 'x'", "\"Host\" is set by the agent itself"),
            ("url = 'https://h'\nheaders.X-A = 'x'\nheaders_env.x-a = 'V'", "\"x-a\" is set twice"),
            ("url = 'https://h'\nsignature.header = 'X-S'", "says nothing without signature.key_file"),
            ("url = 'https://h'\nsignature.key = 'abc'", "secrets do not stand in the config"),
            ("url = 'https://h'\ntls.cert = '/c'", "tls.cert: and tls.key need each other"),
            ("url = 'https://h'\ntls.verify = false\ntls.ca = '/c'", "remove one of the two"),
            ("url = 'https://h'\ntimeout = '10ms'", "timeout: is from 1s to 300s"),
            ("url = 'https://h'\nform = 'array'\nlinger = '2m'", "linger: is at most 60s"),
            ("url = 'https://h'\ncontent_type = ''", "content_type: is none"),
        ];
        for (text, expected) in rows {
            let errors = parse(text).1;
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
