//! The settings of one `influx` sink.

use std::{path::PathBuf, time::Duration};

use super::lines::Bounds;
use crate::{
    limits,
    net::{http, secret::SecretIn},
    register::{Field, Section, Type},
};

/// The table of settings.
pub(super) const FIELDS: &[Field] = &[
    Field::required("url", Type::Text, "Where InfluxDB listens, such as \"http://influx.example:8086\"; a path before its API may follow."),
    Field::new(
        "api",
        Type::Choice(&["auto", "v1", "v2"]),
        "auto",
        "v1: /write of 1.x. v2: /api/v2/write of 1.8, 2.x and 3. auto: what the version says that /ping tells, asked at each new start.",
    ),
    Field::required("bucket", Type::Text, "Bucket that is written; of 1.x the database, or \"database/retention-policy\"."),
    Field::optional("org", Type::Text, "Organisation that owns the bucket; 2.x wants it, 1.x does not look at it."),
    Field::optional(
        "rp",
        Type::Text,
        "Retention policy of 1.x; unset: the database's default one. What is older than it allows is refused.",
    ),
    Field::optional("token_file", Type::Path, "File whose first line is the API token; for 1.x it has the form user:password."),
    Field::optional("token_env", Type::Text, "Environment variable that holds the token."),
    Field::optional("token_credential", Type::Text, "Name of the systemd credential (LoadCredential=) that holds the token."),
    Field::optional("username", Type::Text, "User of 1.x, in place of a token."),
    Field::optional("password_file", Type::Path, "File whose first line is that user's password."),
    Field::optional("password_env", Type::Text, "Environment variable that holds the password."),
    Field::optional("password_credential", Type::Text, "Name of the systemd credential (LoadCredential=) that holds the password."),
    Field::new(
        "create_database",
        Type::Bool,
        "false",
        "Makes the database, where the API is v1 and it is missing; the user must be an administrator.",
    ),
    Field::new("batch", Type::Int { min: 1, max: 100_000 }, "5000", "Lines of one request at most."),
    Field::new(
        "batch_bytes",
        Type::Bytes,
        "1 MiB",
        "Bytes of one request at most, not compressed; from 1 KiB to 16 MiB. A longer line goes alone.",
    ),
    Field::new(
        "linger",
        Type::Span,
        "1s",
        "How long the first line of a request waits for others; at most 60s. \"0\" writes at once what there is.",
    ),
    Field::new("gzip", Type::Bool, "true", "Whether bodies are compressed."),
    Field::new("timeout", Type::Span, "10s", "For one request, its answer read; from 1s to 300s. Past it the request is sent again."),
    Field::new(
        "backoff_max",
        Type::Span,
        "30s",
        "Longest wait before the same request is sent again; the first is 0.2s, and it doubles. From 1s to 1h. There is no last try.",
    ),
    Field::optional("tls.ca", Type::Path, "PEM file with the CA that vouches for the server; unset: the system's CAs."),
    Field::new("tls.verify", Type::Bool, "true", "False takes any certificate, and hands lines and secrets to whoever stands between."),
    Field::optional("tls.cert", Type::Path, "PEM file with our certificate, for a server that wants one; with tls.key."),
    Field::optional("tls.key", Type::Path, "PEM file with its key, without a password."),
    Field::optional(
        "proxy",
        Type::Text,
        "Address of an HTTP proxy, such as \"http://proxy.example:3128\"; none is taken from the environment.",
    ),
];

/// Which of InfluxDB's APIs is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    V1,
    V2,
}

/// What is written into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// A bucket; of 1.x the database.
    pub name: String,
    /// Retention policy of 1.x.
    pub rp: Option<String>,
    pub org: Option<String>,
}

impl Target {
    /// As API v2 calls it.
    pub(super) fn bucket(&self) -> String {
        match &self.rp {
            Some(rp) => format!("{}/{rp}", self.name),
            None => self.name.clone(),
        }
    }
    /// As API v1 calls it: database and retention policy.
    pub(super) fn database(&self) -> (&str, Option<&str>) {
        match (self.rp.as_deref(), self.name.split_once('/')) {
            (None, Some((db, rp))) => (db, Some(rp)),
            (rp, _) => (&self.name, rp),
        }
    }
}

/// How we say who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    Nobody,
    Token(SecretIn),
    User(String, SecretIn),
}

/// Settings of one `influx` sink, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// `None`: what the server's version says.
    pub api: Option<Api>,
    pub target: Target,
    pub login: Login,
    pub create_database: bool,
    pub bounds: Bounds,
    pub linger: Duration,
    pub gzip: bool,
    pub backoff_max: Duration,
    pub is_required: bool,
    pub http: http::Settings,
}

impl Settings {
    /// Reads them; what is wrong is noted in the section.
    ///
    /// - `required`: whether the kind is required by default.
    pub(super) fn parse(section: &mut Section<'_>, required: bool) -> Self {
        let api = match section.choice("api") {
            "v1" => Some(Api::V1),
            "v2" => Some(Api::V2),
            _ => None,
        };
        let create_database = section.bool("create_database");
        if create_database && api == Some(Api::V2) {
            section.wrong("create_database", "says nothing where api is v2; make the bucket there, or remove it");
        }
        let second = Duration::from_secs(1);
        let spans = [
            ("timeout", second, Duration::from_secs(300), "is from 1s to 300s"),
            ("linger", Duration::ZERO, Duration::from_secs(60), "is at most 60s"),
            ("backoff_max", second, Duration::from_secs(3600), "is from 1s to 1h"),
        ];
        for (name, least, most, what) in spans {
            if !(least..=most).contains(&section.span(name)) {
                section.wrong(name, what);
            }
        }
        let bytes = section.bytes("batch_bytes");
        if !(1 << 10..=limits::INFLUX_BATCH_BYTES_MAX).contains(&bytes) {
            section.wrong("batch_bytes", "is from 1 KiB to 16 MiB");
        }
        let small = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let lines = small(u64::try_from(section.int("batch")).unwrap_or(1));
        Self {
            api,
            target: Self::target(section),
            login: Self::login(section),
            create_database,
            bounds: Bounds { lines, bytes: small(bytes) },
            linger: section.span("linger"),
            gzip: section.bool("gzip"),
            backoff_max: section.span("backoff_max"),
            is_required: section.also_bool("required").unwrap_or(required),
            http: Self::http(section),
        }
    }

    fn target(section: &mut Section<'_>) -> Target {
        let [org, rp] = ["org", "rp"].map(|name| section.opt_text(name).filter(|text| !text.is_empty()));
        let name = section.text("bucket");
        if name.is_empty() && section.is_set("bucket") {
            section.wrong("bucket", "is empty; name the bucket, or the database of 1.x");
        }
        if rp.is_some() && name.contains('/') {
            section.wrong("rp", "and a bucket with a slash both name a retention policy; remove one of the two");
        }
        Target { name, rp, org }
    }

    fn login(section: &mut Section<'_>) -> Login {
        let (token, user) = (SecretIn::parse(section, "token"), section.opt_text("username"));
        match (token, user, SecretIn::parse(section, "password")) {
            (Some(_), Some(_), _) => {
                section.wrong("username", "and a token are two logins; remove one of the two");
                Login::Nobody
            }
            (Some(token), None, None) => Login::Token(token),
            (None, Some(user), Some(password)) => Login::User(user, password),
            (None, Some(_), None) => {
                section.wrong("username", "needs its password; set password_file");
                Login::Nobody
            }
            (_, None, Some(_)) => {
                section.wrong("password_file", "says nothing without username; set that, or remove this");
                Login::Nobody
            }
            (None, None, None) => Login::Nobody,
        }
    }

    fn http(section: &mut Section<'_>) -> http::Settings {
        let url = section.text("url");
        let base = url.trim_end_matches('/');
        if section.is_set("url")
            && let Err(why) = is_base(&url)
        {
            section.wrong("url", why);
        }
        let (cert, key) = (section.opt_path("tls.cert"), section.opt_path("tls.key"));
        if cert.is_some() != key.is_some() {
            section.wrong("tls.cert", "and tls.key need each other; set both or none");
        }
        let (verify, ca): (bool, Option<PathBuf>) = (section.bool("tls.verify"), section.opt_path("tls.ca"));
        if !verify && ca.is_some() {
            section.wrong("tls.verify", "is false, so tls.ca says nothing; remove one of the two");
        }
        let timeout = section.span("timeout");
        http::Settings {
            base: base.to_owned(),
            verify,
            ca,
            own: cert.zip(key),
            proxy: section.opt_text("proxy"),
            connect_timeout: timeout.min(Duration::from_secs(10)),
            timeout,
            body_max: limits::INFLUX_ANSWER_BYTES,
            idle_connections: 1,
        }
    }
}

/// Whether this is a URL that paths of an API can follow.
fn is_base(url: &str) -> Result<(), &'static str> {
    let after = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let Some(after) = after else { return Err("is no URL; write it as http://influx.example:8086") };
    let authority = after.split('/').next().unwrap_or_default();
    if authority.is_empty() {
        return Err("names no host; write it as http://influx.example:8086");
    }
    if authority.contains('@') {
        return Err("holds a user or password; use username and password_file, or token_file");
    }
    if url.contains(['?', '#']) || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("holds more than scheme, host, port and path; bucket, org and the rest have settings of their own");
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
        let settings = Settings::parse(&mut Section::open("sinks.i", &node, FIELDS, &["required"], &mut errors), true);
        (settings, errors.to_string())
    }

    #[test]
    fn a_url_and_a_bucket_are_enough() {
        let (settings, errors) = parse("url = 'http://i:8086/'\nbucket = 'waf'");
        assert_eq!(errors, "");
        assert_eq!((settings.api, settings.login, settings.http.base.as_str()), (None, Login::Nobody, "http://i:8086"));
        assert_eq!((settings.bounds.lines, settings.bounds.bytes, settings.gzip), (5000, 1 << 20, true));
        assert!(settings.is_required && !parse("url = 'http://i'\nbucket = 'b'\nrequired = false").0.is_required);
    }

    #[test]
    fn bucket_and_database_are_two_names_of_one_thing() {
        let of = |text: &str| {
            let (settings, errors) = parse(&format!("url = 'http://i'\n{text}"));
            assert_eq!(errors, "");
            let target = settings.target;
            let (db, rp) = target.database();
            (target.bucket(), db.to_owned(), rp.map(str::to_owned))
        };
        assert_eq!(of("bucket = 'waf'"), ("waf".into(), "waf".into(), None));
        assert_eq!(of("bucket = 'waf/week'"), ("waf/week".into(), "waf".into(), Some("week".into())));
        assert_eq!(of("bucket = 'waf'\nrp = 'week'"), ("waf/week".into(), "waf".into(), Some("week".into())));
    }

    #[test]
    fn each_mistake_is_told_with_its_remedy() {
        let rows = [
            ("bucket = 'b'", "url: must be set"),
            ("url = 'i:8086'\nbucket = 'b'", "url: is no URL; write it as http://"),
            ("url = 'http://'\nbucket = 'b'", "names no host"),
            ("url = 'http://u:p@i'\nbucket = 'b'", "use username and password_file"),
            ("url = 'http://i/write?db=x'\nbucket = 'b'", "holds more than scheme"),
            ("url = 'http://i'", "bucket: must be set"),
            ("url = 'http://i'\nbucket = ''", "bucket: is empty"),
            ("url = 'http://i'\nbucket = 'b/c'\nrp = 'r'", "rp: and a bucket with a slash"),
            ("url = 'http://i'\nbucket = 'b'\ntoken = 'abc'", "secrets do not stand in the config"),
            ("url = 'http://i'\nbucket = 'b'\ntoken_file = '/t'\nusername = 'u'", "username: and a token are two logins"),
            ("url = 'http://i'\nbucket = 'b'\nusername = 'u'", "username: needs its password"),
            ("url = 'http://i'\nbucket = 'b'\npassword_file = '/p'", "password_file: says nothing without username"),
            ("url = 'http://i'\nbucket = 'b'\ntoken_file = '/t'\ntoken_env = 'T'", "token_file: and token_env"),
            ("url = 'http://i'\nbucket = 'b'\napi = 'v2'\ncreate_database = true", "create_database: says nothing where api is v2"),
            ("url = 'http://i'\nbucket = 'b'\nlinger = '2m'", "linger: is at most 60s"),
            ("url = 'http://i'\nbucket = 'b'\ntimeout = '10ms'", "timeout: is from 1s to 300s"),
            ("url = 'http://i'\nbucket = 'b'\nbatch_bytes = '1'", "batch_bytes: is from 1 KiB to 16 MiB"),
            ("url = 'http://i'\nbucket = 'b'\ntls.cert = '/c'", "tls.cert: and tls.key need each other"),
            ("url = 'http://i'\nbucket = 'b'\ntls.verify = false\ntls.ca = '/c'", "remove one of the two"),
        ];
        for (text, expected) in rows {
            let errors = parse(text).1;
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
