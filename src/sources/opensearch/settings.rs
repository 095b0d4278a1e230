//! The settings of one source `opensearch`.

use std::{path::PathBuf, time::Duration};

use super::{
    core::{PAGE_MAX, Rules},
    request::{Flavour, Wanted},
    seen::Ms,
};
use crate::{
    clock::nanos,
    limits,
    net::{base64, http},
    register::{Field, Section, Type},
};

/// The table of settings.
pub(super) static FIELDS: &[Field] = &[
    Field::new(
        "hosts",
        Type::Texts,
        "[\"http://localhost:9200\"]",
        "URLs of nodes of one cluster, tried in turn. One without a scheme is http://, and port 9200 if it names none.",
    ),
    Field::optional("cloud_id", Type::Text, "Name of a deployment of Elastic Cloud, in place of hosts."),
    Field::new(
        "flavour",
        Type::Choice(&["auto", "opensearch", "elasticsearch"]),
        "auto",
        "Whose words are spoken; auto: what the server says of itself.",
    ),
    Field::required(
        "indices",
        Type::Texts,
        "Indices, data streams or patterns to read, such as \"wazuh-alerts-4.x-*\". A document that two of them hold comes once.",
    ),
    Field::new(
        "timestamp_field",
        Type::Text,
        "@timestamp",
        "Field with a document's time, of type date; of Wazuh's alerts it is \"timestamp\" in 4.x. A document without it, or with a time in the future, is not read.",
    ),
    Field::optional("query", Type::Text, "Filter in the server's own words, as JSON: '{\"range\":{\"rule.level\":{\"gte\":7}}}'."),
    Field::new("since", Type::Span, "1h", "How far back the first run begins."),
    Field::new(
        "overlap",
        Type::Span,
        "300s",
        "How far before the latest document late ones are looked for; at most 24h. It is read again each time, and what is known is passed over.",
    ),
    Field::new("settle", Type::Span, "5s", "How old a document must be: longer than the refresh interval of the indices; at most 1h."),
    Field::new("fetch_every", Type::Span, "60s", "From one look to the next, from 1s to 24h. While pages are full there is no rest."),
    Field::new("page", Type::Int { min: 10, max: PAGE_MAX as i64 }, "1000", "Documents of one answer; fewer where they are long."),
    Field::optional("username", Type::Text, "User for basic authentication, with password_file."),
    Field::optional("password_file", Type::Path, "File whose first line is the password; read again whenever a connection was lost."),
    Field::optional("api_key_file", Type::Path, "File whose first line is an API key: its Base64 form, or id:key."),
    Field::optional("bearer_file", Type::Path, "File whose first line is a token."),
    Field::new("timeout", Type::Span, "30s", "For one answer, from 1s to 300s."),
    Field::optional("tls.ca", Type::Path, "PEM file with the CA that vouches for the servers; unset: the system's CAs."),
    Field::new("tls.verify", Type::Bool, "true", "False takes any certificate, and hands secrets to whoever stands between."),
    Field::optional("tls.cert", Type::Path, "PEM file with our certificate, for a server that wants one; with tls.key."),
    Field::optional("tls.key", Type::Path, "PEM file with its key, without a password."),
    Field::optional("proxy", Type::Text, "Address of an HTTP proxy; none is taken from the environment."),
];

/// How we say who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    Nobody,
    User(String, PathBuf),
    ApiKey(PathBuf),
    Bearer(PathBuf),
}

/// Settings of one source, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// URLs without a slash at the end; one at least.
    pub hosts: Vec<String>,
    /// Of these, those that were written without a scheme.
    pub bare_hosts: Vec<String>,
    /// `None`: asked.
    pub flavour: Option<Flavour>,
    pub wanted: Wanted,
    pub since: Ms,
    pub rules: Rules,
    pub login: Login,
    /// Of each host, but for its URL.
    pub http: http::Settings,
}

impl Settings {
    /// Reads them; what is wrong is noted in the section.
    pub(super) fn parse(section: &mut Section<'_>) -> Self {
        let second = Duration::from_secs(1);
        let day = 86_400 * second;
        let spans = [
            ("since", Duration::ZERO, 3650 * day, "is at most 3650d"),
            ("overlap", Duration::ZERO, day, "is at most 24h"),
            ("settle", Duration::ZERO, 3600 * second, "is at most 1h"),
            ("fetch_every", second, day, "is from 1s to 24h"),
            ("timeout", second, 300 * second, "is from 1s to 300s"),
        ];
        for (name, least, most, what) in spans {
            if !(least..=most).contains(&section.span(name)) {
                section.wrong(name, what);
            }
        }
        let ms = |span: Duration| Ms::try_from(span.as_millis()).unwrap_or(Ms::MAX);
        let (hosts, bare_hosts) = Self::hosts(section);
        Self {
            hosts,
            bare_hosts,
            flavour: match section.choice("flavour") {
                "opensearch" => Some(Flavour::OpenSearch),
                "elasticsearch" => Some(Flavour::Elasticsearch),
                _ => None,
            },
            wanted: Self::wanted(section),
            since: ms(section.span("since")),
            rules: Rules {
                overlap: ms(section.span("overlap")),
                settle: ms(section.span("settle")),
                every: nanos(section.span("fetch_every")),
                page: usize::try_from(section.int("page")).unwrap_or(1),
                seen_max: limits::OPENSEARCH_SEEN_MAX,
            },
            login: Self::login(section),
            http: Self::http(section),
        }
    }

    fn hosts(section: &mut Section<'_>) -> (Vec<String>, Vec<String>) {
        if let Some(id) = section.opt_text("cloud_id") {
            if section.is_set("hosts") {
                section.wrong("cloud_id", "and hosts both name servers; remove one of the two");
            }
            return match cloud(&id) {
                Ok(url) => (vec![url], Vec::new()),
                Err(why) => {
                    section.wrong("cloud_id", why);
                    (vec!["http://localhost:9200".to_owned()], Vec::new())
                }
            };
        }
        let (mut hosts, mut bare) = (Vec::new(), Vec::new());
        for written in section.texts("hosts") {
            let url = if written.contains("://") {
                written.trim_end_matches('/').to_owned()
            } else {
                bare.push(written.clone());
                let has_port =
                    written.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
                format!("http://{}{}", written.trim_end_matches('/'), if has_port { "" } else { ":9200" })
            };
            if let Err(why) = is_base(&url) {
                section.wrong("hosts", format!("{written:?} {why}"));
            }
            hosts.push(url);
        }
        if hosts.is_empty() {
            section.wrong("hosts", "names none; write hosts = [\"https://indexer.example:9200\"]");
            hosts.push("http://localhost:9200".to_owned());
        }
        (hosts, bare)
    }

    fn wanted(section: &mut Section<'_>) -> Wanted {
        let indices = section.texts("indices");
        let is_name =
            |index: &String| !index.is_empty() && !index.contains([',', '/', '?', '#', ' ', '"', '\\']) && !index.starts_with('_');
        if section.is_set("indices") && (indices.is_empty() || !indices.iter().all(is_name)) {
            section.wrong("indices", "must name at least one index, data stream or pattern, each a text of its own");
        }
        if indices.iter().any(|index| index.starts_with('-')) {
            section.wrong("indices", "names one to leave out; give a narrower pattern, or a query");
        }
        let field = section.text("timestamp_field");
        if field.is_empty() {
            section.wrong("timestamp_field", "is empty; name the field, for example \"@timestamp\"");
        }
        let query = section.opt_text("query").filter(|text| !text.trim().is_empty());
        if let Some(text) = &query {
            match serde_json::from_str::<serde_json::Value>(text) {
                Ok(serde_json::Value::Object(_)) => {}
                Ok(_) => section.wrong("query", "is JSON but no object; write it as '{\"term\":{\"agent.name\":\"web\"}}'"),
                Err(error) => section.wrong("query", format!("is no JSON: {error}; write it as '{{\"term\":{{\"agent.name\":\"web\"}}}}'")),
            }
        }
        Wanted { indices, field, query }
    }

    fn login(section: &mut Section<'_>) -> Login {
        let user = section.opt_text("username").filter(|user| !user.is_empty());
        let [password, key, bearer] = ["password_file", "api_key_file", "bearer_file"].map(|name| section.opt_path(name));
        if [user.is_some() || password.is_some(), key.is_some(), bearer.is_some()].iter().filter(|is| **is).count() > 1 {
            section.wrong("username", "and password_file, api_key_file and bearer_file are three logins; set one");
        }
        match (user, password, key, bearer) {
            (Some(user), Some(password), ..) => Login::User(user, password),
            (Some(_), None, ..) => {
                section.wrong("username", "needs its password; set password_file");
                Login::Nobody
            }
            (None, Some(_), ..) => {
                section.wrong("password_file", "says nothing without username; set that, or remove this");
                Login::Nobody
            }
            (None, None, Some(key), _) => Login::ApiKey(key),
            (None, None, None, Some(bearer)) => Login::Bearer(bearer),
            (None, None, None, None) => Login::Nobody,
        }
    }

    fn http(section: &mut Section<'_>) -> http::Settings {
        let (cert, key) = (section.opt_path("tls.cert"), section.opt_path("tls.key"));
        if cert.is_some() != key.is_some() {
            section.wrong("tls.cert", "and tls.key need each other; set both or none");
        }
        let (verify, ca) = (section.bool("tls.verify"), section.opt_path("tls.ca"));
        if !verify && ca.is_some() {
            section.wrong("tls.verify", "is false, so tls.ca says nothing; remove one of the two");
        }
        let timeout = section.span("timeout");
        http::Settings {
            base: String::new(),
            verify,
            ca,
            own: cert.zip(key),
            proxy: section.opt_text("proxy"),
            connect_timeout: timeout.min(Duration::from_secs(10)),
            timeout,
            body_max: limits::OPENSEARCH_ANSWER_BYTES,
            idle_connections: 1,
        }
    }
}

/// Whether this is a URL that paths of an API can follow.
fn is_base(url: &str) -> Result<(), &'static str> {
    let after = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let Some(after) = after else { return Err("is no URL; write it as https://indexer.example:9200") };
    let authority = after.split('/').next().unwrap_or_default();
    if authority.is_empty() || authority.starts_with(':') {
        return Err("names no host; write it as https://indexer.example:9200");
    }
    if authority.contains('@') {
        return Err("holds a user or password; use username and password_file");
    }
    if url.contains(['?', '#']) || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("holds more than scheme, host, port and path; index and query have settings of their own");
    }
    Ok(())
}

/// The URL of a deployment: `name:BASE64(host[:port]$cluster[:port]$…)`.
fn cloud(id: &str) -> Result<String, &'static str> {
    const NONE: &str = "is none; copy it whole from the deployment's page, as name:dXMtZWFzdC0…";
    let coded = id.rsplit_once(':').map_or(id, |(_, coded)| coded);
    let text = base64::decode(coded.trim()).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(NONE)?;
    let mut parts = text.split('$');
    let (Some(host), Some(cluster)) = (parts.next(), parts.next()) else { return Err(NONE) };
    let with_port = |text: &str| match text.split_once(':') {
        Some((name, port)) => (name.to_owned(), Some(port.to_owned())),
        None => (text.to_owned(), None),
    };
    let ((host, port), (cluster, own_port)) = (with_port(host), with_port(cluster));
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    let is_port = |port: &Option<String>| port.as_ref().is_none_or(|port| port.parse::<u16>().is_ok());
    if !is_name(&host) || !is_name(&cluster) || !is_port(&port) || !is_port(&own_port) {
        return Err(NONE);
    }
    let port = own_port.or(port).unwrap_or_else(|| "443".to_owned());
    Ok(format!("https://{cluster}.{host}:{port}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;
    use crate::register::{Errors, Node};

    fn parse(text: &str) -> (Settings, String) {
        let node = Node::parse_toml(text).unwrap();
        let mut errors = Errors::default();
        let settings = Settings::parse(&mut Section::open("sources.o", &node, FIELDS, &[], &mut errors));
        (settings, errors.to_string())
    }

    #[test]
    fn indices_are_enough() {
        let (settings, errors) = parse("indices = 'wazuh-alerts-4.x-*'");
        assert_eq!(errors, "");
        assert_eq!((settings.hosts.as_slice(), settings.since), (&["http://localhost:9200".to_owned()][..], 3_600_000));
        let Rules { overlap, settle, every, page, seen_max } = settings.rules;
        assert_eq!((overlap, settle, every, page, seen_max), (300_000, 5000, 60_000_000_000, 1000, 1_000_000));
        assert_eq!((settings.wanted.field.as_str(), &settings.login), ("@timestamp", &Login::Nobody));
    }

    #[test]
    fn a_host_without_a_scheme_is_http_and_is_told() {
        let (settings, errors) = parse("indices = 'a'\nhosts = ['a.example', 'b.example:9201', 'https://c.example/es/', '[::1]:9200']");
        assert_eq!(errors, "");
        assert_eq!(settings.hosts, ["http://a.example:9200", "http://b.example:9201", "https://c.example/es", "http://[::1]:9200"]);
        assert_eq!(settings.bare_hosts, ["a.example", "b.example:9201", "[::1]:9200"]);
    }

    #[test]
    fn a_cloud_is_decoded() {
        let id = |text: &str| format!("my:deployment:{}", base64::encode(text.as_bytes()));
        let rows = [
            ("us-east-1.aws.found.io$abc123$def456", Some("https://abc123.us-east-1.aws.found.io:443")),
            ("eu.example:9243$abc$", Some("https://abc.eu.example:9243")),
            ("eu.example:443$abc:9999$kib", Some("https://abc.eu.example:9999")),
            ("eu.example", None),
            ("eu.example$a/b$", None),
            ("$abc", None),
        ];
        for (text, url) in rows {
            assert_eq!(cloud(&id(text)).ok().as_deref(), url, "{text}");
        }
        assert!(cloud("name:%%%").is_err());
        let (settings, errors) = parse(&format!("indices = 'a'\ncloud_id = '{}'", id("h.example$c")));
        assert_eq!((settings.hosts, errors), (vec!["https://c.h.example:443".to_owned()], String::new()));
    }

    #[test]
    fn each_mistake_is_told_with_its_remedy() {
        let rows = [
            ("", "indices: must be set"),
            ("indices = []", "indices: must name at least one"),
            ("indices = ['a,b']", "indices: must name at least one"),
            ("indices = ['a', '-b']", "indices: names one to leave out"),
            ("indices = 'a'\nhosts = []", "hosts: names none"),
            ("indices = 'a'\nhosts = 'ftp://x'", "is no URL; write it as https://"),
            ("indices = 'a'\nhosts = 'http://u:p@x'", "use username and password_file"),
            ("indices = 'a'\nhosts = 'x'\ncloud_id = 'y'", "cloud_id: and hosts both name servers"),
            ("indices = 'a'\ncloud_id = 'y'", "cloud_id: is none; copy it whole"),
            ("indices = 'a'\nquery = '['", "query: is no JSON"),
            ("indices = 'a'\nquery = '[]'", "query: is JSON but no object"),
            ("indices = 'a'\ntimestamp_field = ''", "timestamp_field: is empty"),
            ("indices = 'a'\nusername = 'u'", "username: needs its password"),
            ("indices = 'a'\npassword_file = '/p'", "password_file: says nothing without username"),
            ("indices = 'a'\napi_key_file = '/k'\nbearer_file = '/b'", "are three logins; set one"),
            ("indices = 'a'\napi_key = 'k'", "secrets do not stand in the config"),
            ("indices = 'a'\nfetch_every = '100ms'", "fetch_every: is from 1s to 24h"),
            ("indices = 'a'\noverlap = '2d'", "overlap: is at most 24h"),
            ("indices = 'a'\ntls.verify = false\ntls.ca = '/c'", "remove one of the two"),
            ("indices = 'a'\ntls.cert = '/c'", "tls.cert: and tls.key need each other"),
        ];
        for (text, expected) in rows {
            let errors = parse(text).1;
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
