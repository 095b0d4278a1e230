//! The settings of one source `wazuh_agents`.

use std::{net::IpAddr, time::Duration};

use super::core::{PAGE_MAX, PAGE_MIN, Rules};
use crate::{
    clock::nanos,
    limits,
    net::{http, secret::SecretIn},
    register::{Field, Section, Type},
};

/// Where the password is, unless somebody says otherwise.
const PASSWORD_FILE: &str = "/etc/shipper/wazuh-api.password";

/// The table of settings.
pub(super) static FIELDS: &[Field] = &[
    Field::new(
        "url",
        Type::Text,
        "https://localhost:55000",
        "Where the API of the Wazuh server listens, by a name that is in its certificate (in Wazuh's own only localhost); in a cluster that of the master. Plain http:// for this host itself only.",
    ),
    Field::required("username", Type::Text, "User of the API (not of the indexer) whose role has agent:read on agent:id:*."),
    Field::optional(
        "password_file",
        Type::Path,
        "File whose first line is the password; read again at each login. Unset, and without the other two: /etc/shipper/wazuh-api.password.",
    ),
    Field::optional("password_env", Type::Text, "Variable of the environment that holds the password, in place of a file."),
    Field::optional("password_credential", Type::Text, "Name of a systemd credential that holds the password, in place of a file."),
    Field::new("poll_interval", Type::Span, "60s", "From one look at the list of agents to the next, from 1s to 24h."),
    Field::new(
        "page",
        Type::Int { min: PAGE_MIN as i64, max: PAGE_MAX as i64 },
        "500",
        "Agents of one answer; fewer where they are too long. The server advises against more than 500.",
    ),
    Field::new("timeout", Type::Span, "30s", "For one answer, from 1s to 300s."),
    Field::optional(
        "tls.ca",
        Type::Path,
        "PEM file with the CA that vouches for the server, or its own certificate (api/configuration/ssl/server.crt of the manager, where nobody replaced it); unset: the system's CAs.",
    ),
    Field::new("tls.verify", Type::Bool, "true", "False takes any certificate, and hands the password to whoever stands between."),
    Field::optional("tls.cert", Type::Path, "PEM file with our certificate, for a server that wants one; with tls.key."),
    Field::optional("tls.key", Type::Path, "PEM file with its key, without a password."),
    Field::optional("proxy", Type::Text, "Address of an HTTP proxy; none is taken from the environment."),
];

/// Settings of one source, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub rules: Rules,
    pub username: String,
    pub password: SecretIn,
    pub http: http::Settings,
}

impl Settings {
    /// Reads them; what is wrong is noted in the section.
    pub(super) fn parse(section: &mut Section<'_>) -> Self {
        let second = Duration::from_secs(1);
        let spans = [("poll_interval", 86_400 * second, "is from 1s to 24h"), ("timeout", 300 * second, "is from 1s to 300s")];
        for (name, most, what) in spans {
            if !(second..=most).contains(&section.span(name)) {
                section.wrong(name, what);
            }
        }
        let username = section.text("username");
        if section.is_set("username") && (username.is_empty() || username.contains(':')) {
            section.wrong("username", "is no name of a user; write one without a colon");
        }
        let password = SecretIn::parse(section, "password").unwrap_or_else(|| SecretIn::File(PASSWORD_FILE.into()));
        Self {
            rules: Rules {
                every: nanos(section.span("poll_interval")),
                page: u64::try_from(section.int("page")).unwrap_or(PAGE_MIN),
                agents_max: limits::WAZUH_AGENTS_MAX,
            },
            username,
            password,
            http: Self::http(section),
        }
    }

    fn http(section: &mut Section<'_>) -> http::Settings {
        let url = section.text("url");
        let base = url.trim_end_matches('/');
        if let Err(why) = is_base(base) {
            section.wrong("url", why);
        }
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
            base: base.to_owned(),
            verify,
            ca,
            own: cert.zip(key),
            proxy: section.opt_text("proxy"),
            connect_timeout: timeout.min(Duration::from_secs(10)),
            timeout,
            body_max: limits::WAZUH_ANSWER_BYTES,
            idle_connections: 1,
        }
    }
}

/// Whether this is a URL that paths of the API can follow, by which a password may go.
fn is_base(url: &str) -> Result<(), &'static str> {
    let (is_plain, after) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(after), _) => (false, after),
        (_, Some(after)) => (true, after),
        _ => return Err("is no URL; write it as https://manager.example:55000"),
    };
    let authority = after.split('/').next().unwrap_or_default();
    if authority.is_empty() || authority.starts_with(':') {
        return Err("names no host; write it as https://manager.example:55000");
    }
    if authority.contains('@') {
        return Err("holds a user or password; use username and password_file");
    }
    if url.contains(['?', '#']) || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("holds more than scheme, host, port and path; the agent adds its questions itself");
    }
    if is_plain && !is_this_host(authority) {
        return Err("is plain http to another host, which would show the password to whoever is on the way; write https://");
    }
    Ok(())
}

fn is_this_host(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;
    use crate::register::{Errors, Node};

    fn parse(text: &str) -> (Settings, String) {
        let node = Node::parse_toml(text).unwrap();
        let mut errors = Errors::default();
        let settings = Settings::parse(&mut Section::open("sources.a", &node, FIELDS, &[], &mut errors));
        (settings, errors.to_string())
    }

    #[test]
    fn a_user_is_enough() {
        let (settings, errors) = parse("username = 'shipper'\npassword_file = '/p'");
        assert_eq!(errors, "");
        assert_eq!((settings.http.base.as_str(), settings.http.verify), ("https://localhost:55000", true));
        assert_eq!(settings.rules, Rules { every: 60_000_000_000, page: 500, agents_max: 100_000 });
        assert_eq!(settings.password, SecretIn::File("/p".into()));
        let (settings, errors) = parse("username = 'shipper'");
        assert_eq!((settings.password, errors.as_str()), (SecretIn::File(PASSWORD_FILE.into()), ""));
        for place in ["password_env = 'P'", "password_credential = 'p'"] {
            assert_eq!(parse(&format!("username = 's'\n{place}")).1, "");
        }
        for url in ["http://127.0.0.1:55000", "http://localhost", "http://[::1]:55000/", "https://w.example/wazuh/"] {
            let (settings, errors) = parse(&format!("username = 's'\npassword_file = '/p'\nurl = '{url}'"));
            assert_eq!((settings.http.base.as_str(), errors.as_str()), (url.trim_end_matches('/'), ""));
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_remedy() {
        let good = "username = 'u'\npassword_file = '/p'\n";
        let rows = [
            ("", "username: must be set"),
            ("username = 'u:v'\npassword_file = '/p'", "without a colon"),
            ("username = 'u'\npassword_file = '/p'\npassword_env = 'P'", "name two places; remove all but one"),
            ("username = 'u'\npassword = 'hush'", "password"),
            (&format!("{good}url = 'manager:55000'"), "url: is no URL; write it as https://"),
            (&format!("{good}url = 'https://:55000'"), "url: names no host"),
            (&format!("{good}url = 'https://u:hush@m'"), "use username and password_file"),
            (&format!("{good}url = 'https://m/?pretty'"), "url: holds more than"),
            (&format!("{good}url = 'http://manager.example:55000'"), "url: is plain http to another host"),
            (&format!("{good}url = 'http://127.0.0.1.example:55000'"), "url: is plain http to another host"),
            (&format!("{good}poll_interval = '100ms'"), "poll_interval: is from 1s to 24h"),
            (&format!("{good}timeout = '10m'"), "timeout: is from 1s to 300s"),
            (&format!("{good}page = 5"), "page:"),
            (&format!("{good}page = 100001"), "page:"),
            (&format!("{good}tls.verify = false\ntls.ca = '/c'"), "remove one of the two"),
            (&format!("{good}tls.cert = '/c'"), "tls.cert: and tls.key need each other"),
        ];
        for (text, expected) in rows {
            let errors = parse(text).1;
            assert!(errors.contains(expected) && !errors.contains("hush"), "{text}: {errors}");
        }
    }
}
