//! Writes an environment of the realtime processor as our configuration, and says what became of every variable.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::super::{
    misp::compose::{Service, Variable},
    page::{Page, Written},
};

/// Every variable that the program, its documents or its image know, with its default as it would be written.
const VARIABLES: &[(&str, &str)] = &[
    ("REDIS_URL", ""),
    ("KAFKA_BROKERS", "kafka:9092"),
    ("KAFKA_TOPIC", "waf-realtime-events"),
    ("KAFKA_GROUP", "realtime-processor"),
    ("INFLUXDB_URL", "http://waf-influxdb:8086"),
    ("INFLUXDB_TOKEN", ""),
    ("INFLUXDB_ORG", "waf-org"),
    ("INFLUXDB_BUCKET", "waf-realtime"),
    ("GEOIP_DB_PATH", "/data/GeoLite2-City.mmdb"),
    ("INFLUXDB_DUAL_WRITE", "true"),
    ("LOG_LEVEL", ""),
    ("LOG_FORMAT", ""),
    ("REALTIME_SEVERITY_THRESHOLD", ""),
    ("REDIS_STREAMS_MAXLEN", ""),
];

/// Their names.
pub const NAMES: &[&str] = &[
    "REDIS_URL",
    "KAFKA_BROKERS",
    "KAFKA_TOPIC",
    "KAFKA_GROUP",
    "INFLUXDB_URL",
    "INFLUXDB_TOKEN",
    "INFLUXDB_ORG",
    "INFLUXDB_BUCKET",
    "GEOIP_DB_PATH",
    "INFLUXDB_DUAL_WRITE",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "REALTIME_SEVERITY_THRESHOLD",
    "REDIS_STREAMS_MAXLEN",
];

const HEAD: &str = "\
# Written by `shipper import waf` from the environment of the realtime processor.
# Read the notes, then run `shipper check --config` on this file before the agent starts with it.
";

/// Where secrets will lie.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'k> {
    /// InfluxDB's token.
    pub token: &'k Path,
    /// Redis's password.
    pub password: &'k Path,
}

/// What was given, by name; secrets masked.
pub fn accepted(variables: &[Variable]) -> Value {
    let given = NAMES.iter().filter_map(|name| Some((*name, variables.iter().rev().find(|given| given.name == *name)?)));
    let shown = |name: &str, value: &str| match name {
        "INFLUXDB_TOKEN" => json!("***"),
        "REDIS_URL" | "INFLUXDB_URL" => json!(super::super::misp::given::without_login(value)),
        _ => json!(value),
    };
    given.map(|(name, given)| (name.to_owned(), shown(name, &given.value))).collect::<serde_json::Map<_, _>>().into()
}

/// Writes our configuration.
///
/// - `notes`: what was passed over when the file was read.
/// - `folder`: of the Compose file, to which its relative paths belong.
pub fn written(
    variables: &[Variable],
    notes: &[(String, String)],
    service: Option<&Service>,
    folder: Option<&Path>,
    keys: &Keys<'_>,
) -> Written {
    let mut writing = Writing { variables, service, folder, page: Page::default() };
    for (key, what) in notes {
        writing.page.note(key, what);
    }
    writing.page.table("log", &[]);
    writing.source();
    writing.handler();
    writing.influx(keys);
    writing.alerts(keys);
    writing.rest();
    writing.page.written(HEAD)
}

struct Writing<'i> {
    variables: &'i [Variable],
    service: Option<&'i Service>,
    folder: Option<&'i Path>,
    page: Page,
}

const HANDLER: &str = "handlers.waf";
const INFLUX: &str = "sinks.influx";
const ALERTS: &str = "sinks.alerts";
const SOURCE: &str = "sources.events";

impl Writing<'_> {
    /// The given value, without blanks around it.
    fn given(&self, name: &str) -> Option<String> {
        self.variables.iter().rev().find(|given| given.name == name).map(|given| given.value.trim().to_owned())
    }

    /// The given value or the default; an empty one counts as not given, as in the program.
    fn text(&self, name: &str) -> String {
        let default = || VARIABLES.iter().find(|(known, _)| *known == name).map_or("", |(_, default)| default).to_owned();
        self.given(name).filter(|value| !value.is_empty()).unwrap_or_else(default)
    }

    fn source(&mut self) {
        let has_kafka = ["KAFKA_BROKERS", "KAFKA_TOPIC", "KAFKA_GROUP"].iter().any(|name| self.given(name).is_some());
        let redis = self.given("REDIS_URL").filter(|url| !url.is_empty());
        if let (Some(_), false) = (&redis, has_kafka) {
            self.page.table(SOURCE, &[("kind", r#""redis_stream""#)]);
            self.page.set(SOURCE, "streams", &json!(["waf-realtime"]));
            self.page.note(
                "REDIS_URL",
                "the stream waf-realtime and the group waf-realtime are those of the document; other pages of it say waf-realtime-events",
            );
            return;
        }
        self.page.table(SOURCE, &[("kind", r#""kafka""#)]);
        let listed = self.text("KAFKA_BROKERS");
        let brokers: Vec<String> = listed
            .split(',')
            .map(str::trim)
            .filter(|broker| !broker.is_empty())
            .map(|broker| self.outside("KAFKA_BROKERS", broker))
            .collect();
        self.page.set(SOURCE, "brokers", &json!(brokers));
        self.page.set(SOURCE, "topics", &json!([self.text("KAFKA_TOPIC")]));
        self.page.set(SOURCE, "group", &json!(self.text("KAFKA_GROUP")));
        self.page.note(
            "KAFKA_GROUP",
            "stays the same, so reading goes on where the program had committed; what it had committed and not written is lost already",
        );
    }

    fn handler(&mut self) {
        self.page.table(HANDLER, &[("kind", r#""waf""#), ("inputs", r#"["events"]"#)]);
        let dual = self.text("INFLUXDB_DUAL_WRITE").eq_ignore_ascii_case("true");
        self.page.set(HANDLER, "layout", &json!(if dual { "upstream" } else { "doc" }));
        if !dual {
            let what = "is not true: the layout doc has waf_events alone, without method, URI and place; layout = \"upstream\" has them, and writes waf_requests as well";
            self.page.note("INFLUXDB_DUAL_WRITE", what);
        }
        let what = "scores come from what engines write, so levels rise: the program gave every event of its own pipeline 0, or 15 for two private \
                    addresses that it had built in as bad. None is built in here: write yours into bad_ips";
        self.page.note("severity", what);
        self.page.remark(HANDLER, "bad_ips = [\"203.0.113.0/24\"]  # 15 points for each event of theirs");
        self.page.remark(HANDLER, "anomaly_multiplier = 3  # if most of your events come to low: see docs/WAF.md, Levels and alerts");
        if let Some(given) = self.given("GEOIP_DB_PATH").filter(|path| !path.is_empty()) {
            let path = self.path("GEOIP_DB_PATH", &given);
            self.page.set(HANDLER, "geoip", &json!("geo"));
            self.page.table("tables.geo", &[("kind", r#""geoip""#)]);
            self.page.set("tables.geo", "path", &json!(path));
        } else {
            self.page.note("GEOIP_DB_PATH", "not set: country and city are unknown; name a database in [tables.geo] to have them");
        }
    }

    fn influx(&mut self, keys: &Keys<'_>) {
        self.page.table(INFLUX, &[("kind", r#""influx""#), ("inputs", r#"["waf"]"#)]);
        let url = self.text("INFLUXDB_URL");
        let url = self.outside("INFLUXDB_URL", &super::super::misp::given::without_login(&url));
        self.page.set(INFLUX, "url", &json!(url.trim_end_matches('/')));
        self.page.set(INFLUX, "org", &json!(self.text("INFLUXDB_ORG")));
        self.page.set(INFLUX, "bucket", &json!(self.text("INFLUXDB_BUCKET")));
        self.page.set(INFLUX, "token_file", &json!(keys.token));
        let file = keys.token.display();
        let put = format!(
            "put it, alone, into {file}: `install -m 0640 -o root -g shipper /dev/stdin {file}`, paste it, Enter, Ctrl-D; then take it out of the old file"
        );
        match self.given("INFLUXDB_TOKEN").as_deref() {
            None | Some("") => self.page.note("INFLUXDB_TOKEN", format!("not set; when you have it {put}")),
            Some("admin-token-change-me") => {
                self.page
                    .note("INFLUXDB_TOKEN", format!("WARNING: is the one of the example, which everybody knows; make another, and {put}"));
            }
            Some(_) => self.page.note("INFLUXDB_TOKEN", format!("is not shown here; {put}")),
        }
    }

    fn alerts(&mut self, keys: &Keys<'_>) {
        match self.given("REDIS_URL").filter(|url| !url.is_empty()) {
            Some(url) => {
                self.page.table(ALERTS, &[("kind", r#""redis""#), ("inputs", r#"["waf.alert"]"#), ("list", r#""waf:alerts""#)]);
                let redis = Redis::of(&url);
                let place = self.outside("REDIS_URL", &redis.url);
                let reads = self.page.has(SOURCE, "streams");
                for table in [ALERTS, SOURCE] {
                    if table == SOURCE && !reads {
                        continue;
                    }
                    self.page.set(table, "url", &json!(place));
                    if let Some(name) = redis.user.as_ref().filter(|name| !name.is_empty()) {
                        self.page.set(table, "username", &json!(name));
                    }
                    if redis.has_password {
                        self.page.set(table, "password_file", &json!(keys.password));
                    }
                    if let Some(db) = redis.db {
                        self.page.set(table, "db", &json!(db));
                    }
                }
                if redis.has_password {
                    self.page.note(
                        "REDIS_URL",
                        format!("holds a password, which is not shown here; put it, alone, into {}", keys.password.display()),
                    );
                }
            }
            None => {
                self.page.table(ALERTS, &[("kind", r#""file""#), ("inputs", r#"["waf.alert"]"#)]);
                self.page.set(ALERTS, "path", &json!("/var/log/shipper/waf-alerts.json"));
                self.page.note(
                    "alerts",
                    "the program only logged them; here they go into a file, and a sink redis or webhook takes them as well",
                );
            }
        }
    }

    fn rest(&mut self) {
        if let Some(given) = self.given("LOG_LEVEL").filter(|level| !level.is_empty()) {
            let level = match given.to_ascii_lowercase().as_str() {
                "debug" | "trace" => "debug",
                "warning" | "warn" => "warn",
                "error" | "fatal" | "panic" => "error",
                _ => "info",
            };
            self.page.set("log", "level", &json!(level));
            self.page.note("LOG_LEVEL", "was not read, the program always wrote two lines for each event; here no level writes any");
        }
        let left_out = [
            ("LOG_FORMAT", "was not read; log.format is text or json"),
            ("REALTIME_SEVERITY_THRESHOLD", "was never read; set alert_at of the handler, 80 unless set"),
            ("REDIS_STREAMS_MAXLEN", "was never read; who writes into the stream trims it, and what is cut unread is counted here"),
        ];
        for (name, why) in left_out {
            if self.given(name).is_some() {
                self.page.note(name, format!("left out: {why}"));
            }
        }
    }

    /// An address as it is outside of the Compose network: the published port of a service that is named as host.
    fn outside(&mut self, name: &str, place: &str) -> String {
        let (scheme, rest) = place.split_once("://").map_or((None, place), |(scheme, rest)| (Some(scheme), rest));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let services = self.service.map_or(&[][..], |service| &service.services);
        let Some((_, ports)) = services.iter().find(|(service, _)| service == host) else { return place.to_owned() };
        let scheme = scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
        match ports.iter().find(|(inside, _)| inside.to_string() == port) {
            Some((_, published)) => {
                self.page.note(name, format!("{authority} is {published} outside of the Compose network"));
                format!("{scheme}{published}{path}")
            }
            None => {
                self.page.note(name, format!("{authority} is a service of the Compose file without a published port: publish it, or run the agent in that network"));
                place.to_owned()
            }
        }
    }

    /// A path as it is outside of the container.
    fn path(&mut self, name: &str, inside: &str) -> String {
        let mounts = self.service.map_or(&[][..], |service| &service.mounts);
        let holds = |target: &str| {
            inside == target || inside.strip_prefix(target).is_some_and(|rest| rest.starts_with('/') || target.ends_with('/'))
        };
        let Some(mount) = mounts.iter().filter(|mount| holds(&mount.target)).max_by_key(|mount| mount.target.len()) else {
            return inside.to_owned();
        };
        if !mount.is_path() {
            let what = format!(
                "lies in Docker's volume {}; set tables.geo.path to a copy outside, which `geoipupdate` may keep up to date",
                mount.source
            );
            self.page.note(name, what);
            return inside.to_owned();
        }
        let rest = inside.strip_prefix(&*mount.target).unwrap_or_default().trim_start_matches('/');
        let joined = self.folder.unwrap_or(Path::new("/")).join(&mount.source).join(rest);
        let plain: PathBuf = joined.components().filter(|part| *part != Component::CurDir).collect();
        plain.to_string_lossy().trim_end_matches('/').to_owned()
    }
}

/// The parts of Redis's URL.
#[derive(Debug, PartialEq, Eq)]
struct Redis {
    /// Without user, password and database.
    url: String,
    user: Option<String>,
    has_password: bool,
    db: Option<u32>,
}

impl Redis {
    fn of(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        let (user, has_password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(user.to_owned()), !password.is_empty()),
            None => (None, false),
        };
        Self { url: format!("{scheme}://{host}"), user, has_password, db: path.parse().ok().filter(|db| *db > 0) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn toml(pairs: &[(&str, &str)], service: Option<&Service>) -> Written {
        let variable =
            |(name, value): &(&str, &str)| Variable { name: (*name).into(), value: (*value).into(), place: "x.env line 7".into() };
        let variables: Vec<_> = pairs.iter().map(variable).collect();
        let keys = Keys { token: Path::new("/etc/shipper/influx.token"), password: Path::new("/etc/shipper/redis.password") };
        written(&variables, &[], service, Some(Path::new("/srv/waf")), &keys)
    }

    #[test]
    fn every_variable_has_a_name_and_a_default() {
        assert!(NAMES.iter().eq(VARIABLES.iter().map(|(name, _)| name)));
    }

    #[test]
    fn a_compose_service_becomes_this() {
        let service = Service {
            mounts: vec![super::super::super::misp::compose::Mount { target: "/data".into(), source: "./geo".into() }],
            services: vec![("kafka".into(), vec![(9092, "127.0.0.1:19092".into())]), ("waf-influxdb".into(), vec![])],
            ..Service::default()
        };
        let written = toml(
            &[
                ("KAFKA_BROKERS", "kafka:9092, other:9092"),
                ("INFLUXDB_TOKEN", "hush"),
                ("INFLUXDB_DUAL_WRITE", "TRUE"),
                ("GEOIP_DB_PATH", "/data/GeoLite2-City.mmdb"),
                ("LOG_LEVEL", "warning"),
            ],
            Some(&service),
        );
        let tables = written.toml.split_once("\n[log]").unwrap().1;
        insta::assert_snapshot!(format!("[log]{tables}"), @r#"
        [log]
        level = "warn"

        [sources.events]
        kind = "kafka"
        brokers = ["127.0.0.1:19092", "other:9092"]
        topics = ["waf-realtime-events"]
        group = "realtime-processor"

        [handlers.waf]
        kind = "waf"
        inputs = ["events"]
        layout = "upstream"
        geoip = "geo"
        # bad_ips = ["203.0.113.0/24"]  # 15 points for each event of theirs
        # anomaly_multiplier = 3  # if most of your events come to low: see docs/WAF.md, Levels and alerts

        [tables.geo]
        kind = "geoip"
        path = "/srv/waf/geo/GeoLite2-City.mmdb"

        [sinks.influx]
        kind = "influx"
        inputs = ["waf"]
        url = "http://waf-influxdb:8086"
        org = "waf-org"
        bucket = "waf-realtime"
        token_file = "/etc/shipper/influx.token"

        [sinks.alerts]
        kind = "file"
        inputs = ["waf.alert"]
        path = "/var/log/shipper/waf-alerts.json"
        "#);
        assert!(!written.toml.contains("hush") && !written.notes.concat().contains("hush"));
        assert!(
            written.notes.iter().any(|note| note.contains("waf-influxdb:8086 is a service of the Compose file without a published port"))
        );
    }

    #[test]
    fn redis_is_the_source_where_kafka_is_not_spoken_of() {
        let written = toml(&[("REDIS_URL", "redis://me:hush@r.example:6380/3"), ("INFLUXDB_DUAL_WRITE", "no")], None);
        for part in [
            "[sources.events]\nkind = \"redis_stream\"\nstreams = [\"waf-realtime\"]\nurl = \"redis://r.example:6380\"\nusername = \"me\"\npassword_file = ",
            "[sinks.alerts]\nkind = \"redis\"\ninputs = [\"waf.alert\"]\nlist = \"waf:alerts\"\nurl = \"redis://r.example:6380\"\nusername = \"me\"\n",
            "db = 3\n",
            "layout = \"doc\"\n",
        ] {
            assert!(written.toml.contains(part), "{part}\n{}", written.toml);
        }
        assert!(!written.toml.contains("hush"));
        assert_eq!(Redis::of("r:6379"), Redis { url: "redis://r:6379".into(), user: None, has_password: false, db: None });
        assert_eq!(
            Redis::of("rediss://:p@r/0"),
            Redis { url: "rediss://r".into(), user: Some(String::new()), has_password: true, db: None }
        );
    }

    #[test]
    fn what_was_given_is_told_without_secrets() {
        let of = |name: &str, value: &str| Variable { name: name.into(), value: value.into(), place: String::new() };
        let told =
            accepted(&[of("INFLUXDB_TOKEN", "hush"), of("REDIS_URL", "redis://u:hush@r"), of("PATH", "/bin"), of("KAFKA_GROUP", "g")]);
        assert_eq!(told, json!({"INFLUXDB_TOKEN": "***", "REDIS_URL": "redis://r", "KAFKA_GROUP": "g"}));
    }
}
