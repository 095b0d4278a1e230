//! Settings that the environment lends where the config leaves them out: the variables by which the realtime processor
//! of WAF events is configured, so that a Compose file can stay as it is.
//!
//! They count only where the config has a handler `waf`, and only for what is not set: names such as `REDIS_URL` are
//! everybody's, and must not choose where an agent of another system sends things.
//!
//! | variable | lent to |
//! |---|---|
//! | `KAFKA_BROKERS`, `KAFKA_TOPIC`, `KAFKA_GROUP` | sources `kafka`: `brokers`, `topics`, `group` |
//! | `REDIS_URL` | sources `redis_stream` and sinks `redis`: `url`, `username`, `db` |
//! | `INFLUXDB_URL`, `INFLUXDB_ORG`, `INFLUXDB_BUCKET` | sinks `influx`: `url`, `org`, `bucket` |
//! | `INFLUXDB_TOKEN` | sinks `influx`: its name, as `token_env` |
//! | `GEOIP_DB_PATH` | tables `geoip`: `path` |
//! | `INFLUXDB_DUAL_WRITE` | handlers `waf`: `layout`, `upstream` if it is true, else `doc` |
//! | `LOG_LEVEL` | `log.level` |
//!
//! A password in `REDIS_URL` is not lent: it is told where it belongs.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use crate::register::{Errors, Node, Place, Value};

/// Variable, section, kind, setting.
const PLAIN: [(&str, &str, &str, &str); 7] = [
    ("KAFKA_BROKERS", "sources", "kafka", "brokers"),
    ("KAFKA_TOPIC", "sources", "kafka", "topics"),
    ("KAFKA_GROUP", "sources", "kafka", "group"),
    ("INFLUXDB_URL", "sinks", "influx", "url"),
    ("INFLUXDB_ORG", "sinks", "influx", "org"),
    ("INFLUXDB_BUCKET", "sinks", "influx", "bucket"),
    ("GEOIP_DB_PATH", "tables", "geoip", "path"),
];

/// Who has a setting `url` of Redis.
const REDIS: [(&str, &str); 2] = [("sources", "redis_stream"), ("sinks", "redis")];

/// Settings by which InfluxDB is logged in to.
const LOGINS: [&str; 4] = ["token_file", "token_env", "token_credential", "username"];

/// Sets what the tree leaves out and the environment has.
pub(super) fn underlay(tree: &mut Node, env: &[(String, String)], errors: &mut Errors) {
    if components(tree, "handlers", "waf").is_empty() {
        return;
    }
    let given = |name: &'static str| {
        let found = env.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty()).map(|value| Given { name, value })
    };
    for (name, section, kind, setting) in PLAIN {
        let Some(given) = given(name) else { continue };
        for path in components(tree, section, kind) {
            given.lend(tree, &format!("{path}.{setting}"), given.value, errors);
        }
    }
    if let Some(given) = given("INFLUXDB_TOKEN") {
        for path in components(tree, "sinks", "influx") {
            if LOGINS.iter().all(|setting| at(tree, &format!("{path}.{setting}")).is_none()) {
                given.lend(tree, &format!("{path}.token_env"), given.name, errors);
            }
        }
    }
    if let Some(given) = given("REDIS_URL") {
        let redis = Redis::of(given.value);
        for path in REDIS.iter().flat_map(|(section, kind)| components(tree, section, kind)).collect::<Vec<_>>() {
            if at(tree, &format!("{path}.url")).is_some() {
                continue;
            }
            given.lend(tree, &format!("{path}.url"), &redis.url, errors);
            if !redis.username.is_empty() {
                given.lend(tree, &format!("{path}.username"), redis.username, errors);
            }
            if !redis.db.is_empty() {
                given.lend(tree, &format!("{path}.db"), redis.db, errors);
            }
            if redis.has_password && at(tree, &format!("{path}.password_file")).is_none() {
                let what = "must be set: the variable holds a password, which is taken from a file only; write it there, alone";
                errors.add(&given.place(), format!("{path}.password_file"), what);
            }
        }
    }
    if let Some(given) = given("INFLUXDB_DUAL_WRITE") {
        let layout = if given.value.eq_ignore_ascii_case("true") { "upstream" } else { "doc" };
        for path in components(tree, "handlers", "waf") {
            given.lend(tree, &format!("{path}.layout"), layout, errors);
        }
    }
    if let Some(given) = given("LOG_LEVEL") {
        let level = match given.value.to_ascii_lowercase().as_str() {
            "debug" | "trace" => "debug",
            "warn" | "warning" => "warn",
            "error" | "fatal" | "panic" => "error",
            _ => "info",
        };
        given.lend(tree, "log.level", level, errors);
    }
}

/// A variable that is set.
#[derive(Clone, Copy)]
struct Given<'e> {
    name: &'static str,
    value: &'e str,
}

impl Given<'_> {
    fn place(self) -> Place {
        Place::Env(self.name.to_owned())
    }

    /// Sets a setting that is not set.
    fn lend(self, tree: &mut Node, path: &str, value: &str, errors: &mut Errors) {
        if at(tree, path).is_none() {
            tree.set(path, Value::Text(value.to_owned()), self.place(), errors);
        }
    }
}

/// What stands at a dotted path.
fn at<'t>(tree: &'t Node, path: &str) -> Option<&'t Node> {
    path.split('.').try_fold(tree, |node, name| node.get(name))
}

/// Paths of the components of a kind.
fn components(tree: &Node, section: &str, kind: &str) -> Vec<String> {
    let all = tree.get(section).into_iter().flat_map(Node::entries);
    // A name with a dot is told as wrong elsewhere.
    let named = all.filter(|(key, node)| {
        !key.name.contains('.') && node.get("kind").and_then(|kind| kind.value.as_text()).is_some_and(|known| known == kind)
    });
    named.map(|(key, _)| format!("{section}.{}", key.name)).collect()
}

/// The parts of a URL of Redis.
struct Redis<'u> {
    /// Without login and database.
    url: String,
    username: &'u str,
    has_password: bool,
    /// Empty where it names none.
    db: &'u str,
}

impl<'u> Redis<'u> {
    fn of(url: &'u str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
        if scheme == "unix" {
            return Self { url: url.to_owned(), username: "", has_password: false, db: "" };
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = login.split_once(':').unwrap_or((login, ""));
        Self { url: format!("{scheme}://{host}"), username, has_password: !password.is_empty(), db: path }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    const CONFIG: &str = "
        [sources.events]
        kind = 'kafka'
        group = 'mine'
        [sources.stream]
        kind = 'redis_stream'
        [handlers.waf]
        kind = 'waf'
        [sinks.points]
        kind = 'influx'
        bucket = 'mine'
        [sinks.other]
        kind = 'influx'
        token_file = '/t'
        [sinks.alerts]
        kind = 'redis'
        url = 'redis://mine:1'
        [sinks.kafka]
        kind = 'kafka'
        [tables.geo]
        kind = 'geoip'
        ";

    const ENV: [(&str, &str); 10] = [
        ("KAFKA_BROKERS", "a:1, b:2"),
        ("KAFKA_TOPIC", "t"),
        ("KAFKA_GROUP", "g"),
        ("REDIS_URL", "redis://me@r.example:6380/3"),
        ("INFLUXDB_URL", "http://i:8086"),
        ("INFLUXDB_TOKEN", "hush"),
        ("INFLUXDB_BUCKET", "b"),
        ("GEOIP_DB_PATH", "/g"),
        ("INFLUXDB_DUAL_WRITE", "TRUE"),
        ("LOG_LEVEL", "WARNING"),
    ];

    fn laid(config: &str, env: &[(&str, &str)]) -> (Node, Errors) {
        let (mut tree, mut errors) = (Node::parse_toml(config).unwrap(), Errors::default());
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        underlay(&mut tree, &env, &mut errors);
        (tree, errors)
    }

    #[test]
    fn what_is_left_out_is_lent_and_nothing_else() {
        let (tree, errors) = laid(CONFIG, &ENV);
        assert!(errors.is_empty(), "{errors}");
        for (path, value) in [
            ("sources.events.brokers", Some("a:1, b:2")),
            ("sources.events.topics", Some("t")),
            ("sources.events.group", Some("mine")),
            ("sources.stream.url", Some("redis://r.example:6380")),
            ("sources.stream.username", Some("me")),
            ("sources.stream.db", Some("3")),
            ("sinks.alerts.url", Some("redis://mine:1")),
            ("sinks.alerts.username", None),
            ("sinks.points.url", Some("http://i:8086")),
            ("sinks.points.bucket", Some("mine")),
            ("sinks.points.token_env", Some("INFLUXDB_TOKEN")),
            ("sinks.points.org", None),
            ("sinks.other.bucket", Some("b")),
            ("sinks.other.token_env", None),
            ("sinks.kafka.brokers", None),
            ("tables.geo.path", Some("/g")),
            ("handlers.waf.layout", Some("upstream")),
            ("log.level", Some("warn")),
        ] {
            assert_eq!(at(&tree, path).and_then(|node| node.value.as_text()).as_deref(), value, "{path}");
        }
        assert_eq!(at(&tree, "sources.events.topics").unwrap().place, Place::Env("KAFKA_TOPIC".into()));
    }

    #[test]
    fn nothing_is_lent_where_no_firewall_is_read() {
        let config = CONFIG.replace("kind = 'waf'", "kind = 'forward'");
        assert_eq!(laid(&config, &ENV).0, Node::parse_toml(&config).unwrap());
        assert_eq!(laid(CONFIG, &[("KAFKA_TOPIC", " ")]).0, Node::parse_toml(CONFIG).unwrap(), "an empty variable is none");
    }

    #[test]
    fn a_password_is_not_lent_and_its_place_is_told() {
        let (tree, errors) = laid(CONFIG, &[("REDIS_URL", "rediss://:hush@r:6380")]);
        let told = "environment REDIS_URL: sources.stream.password_file: must be set";
        assert!(errors.to_string().starts_with(told) && errors.0.len() == 1, "{errors}");
        assert!(!format!("{tree:?}{errors}").contains("hush"));
        assert_eq!(at(&tree, "sources.stream.url").unwrap().value, Value::Text("rediss://r:6380".into()));
        let with_file = CONFIG.replace("kind = 'redis_stream'", "kind = 'redis_stream'\npassword_file = '/p'");
        assert!(laid(&with_file, &[("REDIS_URL", "redis://:hush@r")]).1.is_empty());
    }
}
