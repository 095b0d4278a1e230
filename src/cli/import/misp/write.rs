//! Writes an environment of the Wazuh MISP Processor as our configuration, and says what became of
//! every variable.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::{
    super::page::{Page, Written},
    given::{Imported, without_login},
};

const HEAD: &str = "\
# Written by `shipper import misp` from the environment of the Wazuh MISP Processor.
# Read the notes, then run `shipper check --config` on this file before the agent starts with it.
#
# The source belongs to this lookup alone: while MISP is away it waits, and no other system waits with
# it. Beside other systems in one agent, put these tables into their config as they are.
";

/// The variables that are not taken over, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("CIRCUIT_BREAKER_TIMEOUT", "the first wait is one second and doubles up to breaker.wait_max"),
    ("CIRCUIT_BREAKER_BACKOFF_FACTOR", "the wait doubles"),
    ("MISP_PROBE_INTERVAL_SECONDS", "what waits is the probe: it is sent when the breaker lets a trial through"),
    ("REDIS_RETRY_ATTEMPTS", "Redis is tried for ever, beside the lookups, which go on without it"),
    ("REDIS_RETRY_DELAY", "as REDIS_RETRY_ATTEMPTS"),
];

/// Hours, a year: a longer span is a slip of the hand.
const HOURS_MAX: i64 = 8760;
/// Minutes, a year.
const MINUTES_MAX: i64 = HOURS_MAX * 60;
/// Seconds. MISP is asked again at least once an hour, however long it was away.
const WAIT_MAX: i64 = 3600;
/// The most searches a second, and at once, that the lookup takes.
const RATE_MAX: i64 = 10_000;
/// Where the packaged unit lets a sink write.
const WRITABLE: &[&str] = &["/var/log/shipper", "/var/lib/shipper"];

const LOOKUP: &str = "lookups.misp";

/// Writes our configuration.
///
/// - `key_file`: where the API key will lie.
/// - `folder`: of the Compose file, to which its relative paths belong.
pub fn written(imported: &Imported, key_file: &str, folder: Option<&Path>) -> Written {
    let mut writing = Writing { imported, folder, page: Page::default() };
    for (key, what) in &imported.notes {
        writing.page.note(key, what);
    }
    writing.page.table("log", &[]);
    let sources = writing.sources();
    writing.page.table("handlers.ioc", &[("kind", r#""ioc""#)]);
    writing.page.set("handlers.ioc", "inputs", &json!(sources));
    let alerts =
        writing.window("dedup", "ALERT_DEDUP_TTL_MINUTES", "ioc", &["alert_id"], "every alert is looked at, also one that came before");
    writing.page.table(LOOKUP, &[("kind", r#""misp""#)]);
    writing.page.set(LOOKUP, "inputs", &json!([alerts]));
    writing.misp(key_file);
    writing.pace();
    writing.redis();
    let about = ["ioc.type", "ioc.value", "original_agent.id"];
    let matches = writing.window("suppress", "SUPPRESSION_WINDOW_MINUTES", "misp", &about, "every match is written, also a repeated one");
    writing.log_file("sinks.matched", "LOG_FILE_MATCHED", &matches);
    writing.page.remark("sinks.matched", "With \"misp.failed\" among its inputs it also shows the values that MISP will not take.");
    writing.log_file("sinks.parsed", "LOG_FILE_PARSED", &alerts);
    writing.rotation();
    writing.log_level();
    for (name, why) in LEFT_OUT {
        if imported.is_given(name) {
            writing.note(name, format!("left out: {why}"));
        }
    }
    writing.page.written(HEAD)
}

struct Writing<'i> {
    imported: &'i Imported,
    folder: Option<&'i Path>,
    page: Page,
}

impl Writing<'_> {
    fn note(&mut self, name: &str, what: impl AsRef<str>) {
        self.page.note(name, what);
    }

    fn text(&self, name: &str) -> String {
        self.imported.value(name).as_str().unwrap_or_default().trim().to_owned()
    }

    fn number(&self, name: &str) -> f64 {
        self.imported.value(name).as_f64().unwrap_or_default()
    }

    /// A whole number within bounds, the nearest one where it is beyond, which is told.
    fn whole(&mut self, name: &str, min: i64, max: i64) -> i64 {
        let given = self.imported.value(name).as_i64().unwrap_or(min);
        let taken = given.clamp(min, max);
        if taken != given {
            self.note(name, format!("is {given}, ours is from {min} to {max}: {taken} is written"));
        }
        taken
    }

    /// The sources, one for each file; their names.
    fn sources(&mut self) -> Vec<String> {
        let listed: Vec<String> = match self.imported.value("ALERTS_FILES") {
            Value::Array(items) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let (variable, listed) = if listed.is_empty() {
            ("ALERTS_FILE", vec![self.text("ALERTS_FILE")])
        } else {
            if self.imported.is_given("ALERTS_FILE") {
                self.note("ALERTS_FILE", "left out: ALERTS_FILES wins over it");
            }
            ("ALERTS_FILES", listed)
        };
        let mut paths: Vec<String> = Vec::new();
        for inside in listed {
            let path = self.path(variable, &inside);
            if self.mount_of(&inside).is_some_and(|mount| mount.target == inside && mount.is_path()) {
                let what = "the file alone was mounted, and a container keeps the file that it was started with: after the first midnight it \
                            saw no new alerts. Here its name is followed";
                self.note(variable, what);
            }
            if paths.contains(&path) {
                self.note(variable, format!("names {path} twice; it is read once"));
            } else {
                paths.push(path);
            }
        }
        let count = paths.len();
        let named = |n: usize| if count == 1 { "misp_alerts".to_owned() } else { format!("misp_alerts_{}", n + 1) };
        for (n, path) in paths.iter().enumerate() {
            let table = format!("sources.{}", named(n));
            // A manager's own file has its dated tree beside it, which source wazuh knows.
            let is_managers = path.ends_with("/alerts.json") || path.ends_with("/archives.json");
            self.page.table(table.as_str(), &[("kind", if is_managers { r#""wazuh""# } else { r#""file""# })]);
            self.page.set(&table, "path", &json!(path));
            self.page.set(&table, "start_at", &json!("beginning"));
            self.page
                .remark(&table, "The very first start reads what is in the file, as every start did; later ones go on where they were.");
        }
        (0..count).map(named).collect()
    }

    /// A stage that remembers for so many minutes, if it is to remember at all; the name of what comes out.
    fn window(&mut self, kind: &str, name: &str, input: &str, members: &[&str], without: &str) -> String {
        if self.imported.value(name).as_i64().is_some_and(|minutes| minutes <= 0) {
            self.note(name, format!("is 0 or less: {without}"));
            return input.to_owned();
        }
        let minutes = self.whole(name, 1, MINUTES_MAX);
        let table = format!("stages.{kind}");
        self.page.table(table.as_str(), &[("kind", &format!("{kind:?}"))]);
        self.page.set(&table, "inputs", &json!([input]));
        self.page.set(&table, "members", &json!(members));
        self.page.set(&table, "window", &json!(format!("{minutes}m")));
        if kind == "suppress" && self.imported.is_given(name) {
            let what = format!(
                "was read and never used; here the matches of one indicator on one agent within {minutes} minutes are the first one and a count"
            );
            self.note(name, what);
        }
        kind.to_owned()
    }

    fn misp(&mut self, key_file: &str) {
        let given = self.text("MISP_URL");
        match base_of(&given) {
            Ok(base) => {
                if base != given.trim_end_matches('/') {
                    self.note("MISP_URL", format!("ours is the base, {base}; the path of the search is added to it"));
                }
                if base.starts_with("http://") {
                    self.note(
                        "MISP_URL",
                        "WARNING: is http://, so the key goes over the network in plain text; write https:// where MISP has it",
                    );
                }
                self.page.set(LOOKUP, "url", &json!(base));
            }
            Err(why) => {
                self.note("MISP_URL", format!("{why}: set lookups.misp.url"));
                self.page.remark(LOOKUP, "url = \"https://misp.example\"  # must be set: the base URL of MISP");
            }
        }
        self.page.set(LOOKUP, "key_file", &json!(key_file));
        let put = format!(
            "put it, alone, into {key_file}: `install -m 0640 -o root -g shipper /dev/stdin {key_file}`, paste it, Enter, Ctrl-D; then take it out of the old file"
        );
        let missing = self.text("MISP_API_KEY").is_empty();
        self.note("MISP_API_KEY", if missing { format!("not set; when you have it {put}") } else { format!("is not shown here; {put}") });
        if self.imported.value("MISP_SSL_VERIFY") != json!(true) {
            let given = if self.imported.is_given("MISP_SSL_VERIFY") { "is off" } else { "was off, as it is unless set" };
            self.note(
                "MISP_SSL_VERIFY",
                format!(
                    "WARNING: {given}: the key went to whoever answered under MISP's name. Here MISP's certificate IS verified, and the lookup \
                     holds if it does not pass. If a CA of your own signed it, name that in lookups.misp.tls.ca"
                ),
            );
            self.page.remark(LOOKUP, "tls.ca = \"/etc/shipper/tls/misp-ca.pem\"  # if no CA of the system signed MISP's certificate");
            self.page.remark(LOOKUP, "tls.verify = false  # takes any certificate: whoever stands between gets the key");
        }
        if self.imported.is_given("PAUSE_ON_MISP_OUTAGE") {
            let what = match self.imported.value("PAUSE_ON_MISP_OUTAGE") == json!(true) {
                true => "left out: ours always waits, in the middle of a file too; nothing is skipped",
                false => {
                    "left out: while MISP is away its source waits and nothing is skipped; what other systems read has sources of its own"
                }
            };
            self.note("PAUSE_ON_MISP_OUTAGE", what);
        }
    }

    /// Rate, breaker and how long an answer counts.
    fn pace(&mut self) {
        if ["RATE_LIMIT_SECONDS", "BURST_LIMIT", "BURST_WINDOW"].iter().any(|name| self.imported.is_given(name)) {
            let burst = self.whole("BURST_LIMIT", 1, RATE_MAX);
            let (gap, window) = (self.number("RATE_LIMIT_SECONDS"), self.number("BURST_WINDOW"));
            let each = [(gap > 0.0).then(|| 1.0 / gap), (window > 0.0).then(|| burst as f64 / window)];
            let asked = each.into_iter().flatten().reduce(f64::min);
            // Whole searches a second, and 0 is no limit.
            let rate = asked.map_or(0, |asked| asked.clamp(1.0, RATE_MAX as f64) as i64);
            self.page.set(LOOKUP, "rate", &json!(rate));
            self.page.set(LOOKUP, "burst", &json!(burst));
            let what = match asked {
                None => "set no limit together; MISP's own is heeded".to_owned(),
                Some(_) => {
                    format!("are together {rate} searches a second; one search of ours asks for up to 200 values, one of its was for one")
                }
            };
            self.note("RATE_LIMIT_SECONDS, BURST_LIMIT, BURST_WINDOW", what);
        }
        if self.imported.is_given("CACHE_TTL_HOURS") {
            let hours = self.whole("CACHE_TTL_HOURS", 1, HOURS_MAX);
            self.page.set(LOOKUP, "positive", &json!(format!("{hours}h")));
            let what =
                "is for what MISP knows; what it does not know is asked again after an hour (negative), so that new indicators are seen";
            self.note("CACHE_TTL_HOURS", what);
        }
        if self.imported.is_given("CIRCUIT_BREAKER_THRESHOLD") {
            let failures = self.whole("CIRCUIT_BREAKER_THRESHOLD", 1, 1000);
            self.page.set(LOOKUP, "breaker.failures", &json!(failures));
            self.note("CIRCUIT_BREAKER_THRESHOLD", "counts failures in a row; it counted all since the start");
        }
        if self.imported.is_given("CIRCUIT_BREAKER_MAX_TIMEOUT") {
            let seconds = self.whole("CIRCUIT_BREAKER_MAX_TIMEOUT", 1, WAIT_MAX);
            self.page.set(LOOKUP, "breaker.wait_max", &json!(format!("{seconds}s")));
        }
    }

    fn redis(&mut self) {
        let (host, port) = (self.text("REDIS_HOST"), self.whole("REDIS_PORT", 1, 65_535));
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        if host.is_empty() || host.contains(['/', '@', ' ', '?', '#']) {
            return self.note(
                "REDIS_HOST",
                "left out: it is no name or address of a host; answers are kept in memory, or see lookups.misp.redis.url",
            );
        }
        let written = format!("redis://{host}:{port}");
        let services = self.imported.service.as_ref().map(|service| service.services.as_slice()).unwrap_or_default();
        let published = services
            .iter()
            .find(|(name, _)| *name == host)
            .map(|(_, ports)| ports.iter().find(|(inside, _)| i64::from(*inside) == port).map(|(_, outside)| outside.clone()));
        let url = match published {
            Some(Some(outside)) => {
                self.note("REDIS_HOST", format!("is the service {host} of the same file, which this host reaches at {outside}"));
                format!("redis://{outside}")
            }
            Some(None) => {
                let what = format!(
                    "left out: the service {host} of the same file publishes no port, so an agent outside of its network does not reach it. \
                     Answers are kept in memory, which is enough for one agent"
                );
                self.note("REDIS_HOST", what);
                return self.page.remark(LOOKUP, format!("redis.url = \"{written}\""));
            }
            None if !self.imported.is_given("REDIS_HOST") => {
                let what = "not set, which meant the host redis; left out: answers are kept in memory, which is enough for one agent";
                self.note("REDIS_HOST", what);
                return self.page.remark(LOOKUP, format!("redis.url = \"{written}\""));
            }
            None => written,
        };
        self.page.set(LOOKUP, "redis.url", &json!(url));
        let db = self.whole("REDIS_DB", 0, 65_535);
        self.page.set(LOOKUP, "redis.db", &json!(db));
        self.page.remark(LOOKUP, "redis.password_file = \"/etc/shipper/redis.password\"  # where Redis asks for one");
    }

    /// A sink that appends to a file.
    fn log_file(&mut self, table: &str, name: &str, input: &str) {
        let path = self.path(name, &self.text(name));
        self.page.table(table, &[("kind", r#""file""#)]);
        self.page.set(table, "inputs", &json!([input]));
        self.page.set(table, "path", &json!(path));
        let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
        if !WRITABLE.iter().any(|writable| folder.starts_with(writable)) {
            let (owner, folder) = ("-o shipper -g shipper", folder.display());
            let what = format!(
                "the user shipper must own the file and be able to write its folder (`install -d {owner} {folder}`, `chown shipper: {path}` where it \
                 is there), and the unit must be told: `systemctl edit shipper`, [Service], ReadWritePaths={folder}"
            );
            self.note(name, what);
        }
    }

    fn rotation(&mut self) {
        let megabytes = self.whole("LOG_ROTATION_SIZE_MB", 1, 1 << 20);
        let keeps = self.imported.is_given("LOG_ROTATION_BACKUP_COUNT").then(|| self.whole("LOG_ROTATION_BACKUP_COUNT", 0, 1_000_000));
        for table in ["sinks.matched", "sinks.parsed"] {
            self.page.set(table, "rotate_size", &json!(format!("{megabytes} MiB")));
            if let Some(count) = keeps {
                self.page.set(table, "keep", &json!(count));
            }
        }
        if keeps.is_none() {
            let what = "not set: all archives stay here, one was kept before, so that matches were gone after two rotations; see keep and keep_for";
            self.note("LOG_ROTATION_BACKUP_COUNT", what);
        }
    }

    fn log_level(&mut self) {
        if !self.imported.is_given("LOG_LEVEL") {
            return;
        }
        let given = self.text("LOG_LEVEL").to_ascii_uppercase();
        let level = match given.as_str() {
            "DEBUG" => "debug",
            "WARNING" | "WARN" => "warn",
            "ERROR" | "CRITICAL" | "FATAL" => "error",
            _ => "info",
        };
        if level == "info" && given != "INFO" {
            self.note("LOG_LEVEL", "is none of DEBUG, INFO, WARNING, ERROR, CRITICAL, so it is info, as before");
        }
        self.page.set("log", "level", &json!(level));
    }

    fn mount_of(&self, path: &str) -> Option<&super::compose::Mount> {
        let holds = |target: &str| path == target || target == "/" || path.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'));
        let mounts = self.imported.service.as_ref().map(|service| service.mounts.as_slice()).unwrap_or_default();
        mounts.iter().filter(|mount| holds(&mount.target)).max_by_key(|mount| mount.target.len())
    }

    /// The path on this host of one that a container may have named.
    fn path(&mut self, name: &str, inside: &str) -> String {
        if self.imported.service.is_none() {
            return inside.to_owned();
        }
        let Some(mount) = self.mount_of(inside).cloned() else {
            self.note(name, format!("{inside} is inside the container and no volume holds it: name a path on this host"));
            return inside.to_owned();
        };
        let rest = inside.get(mount.target.len()..).unwrap_or_default();
        if !mount.is_path() || mount.source.starts_with('~') {
            let volume = &mount.source;
            let what = match mount.is_path() {
                true => format!("{inside} is {volume}{rest} of whoever started the container: name the whole path"),
                false => format!(
                    "{inside} is in Docker's volume {volume}: `docker volume inspect {volume}` shows its folder on this host, which belongs here"
                ),
            };
            self.note(name, what);
            return inside.to_owned();
        }
        let whole = self.folder.unwrap_or(Path::new("/")).join(&mount.source);
        let outside = format!("{}{rest}", tidy(&whole).display());
        if outside != inside {
            self.note(name, format!("{inside} in the container is {outside} on this host"));
        }
        outside
    }
}

/// A path without `.` and `..`, as far as its text tells.
fn tidy(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole
}

/// The base of a MISP whose search has this URL.
///
/// # Errors
/// What it is not.
fn base_of(url: &str) -> Result<String, String> {
    if url.is_empty() {
        return Err("not set".into());
    }
    let whole = without_login(url);
    if !["https://", "http://"].iter().any(|scheme| whole.to_ascii_lowercase().starts_with(scheme) && whole.len() > scheme.len()) {
        return Err("is no URL that begins with https:// or http://".into());
    }
    let whole = whole.split(['?', '#']).next().unwrap_or_default();
    let lower = whole.to_ascii_lowercase();
    let cut = lower.find("/restsearch").map(|at| lower.get(..at).and_then(|before| before.rfind('/')).unwrap_or(at));
    let base = cut.and_then(|at| whole.get(..at)).unwrap_or(whole).trim_end_matches('/');
    let (scheme, rest) = base.split_once("://").unwrap_or_default();
    if rest.is_empty() { Err("names no host".into()) } else { Ok(format!("{}://{rest}", scheme.to_ascii_lowercase())) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::import::misp::{
        compose::{Outside, Variable, read},
        given::{check, of_file},
    };

    fn env(text: &str) -> Written {
        let variables = of_file(text, ".env", &|_| None).unwrap();
        written(&check(&variables).unwrap_or_else(|e| panic!("{e}")), "/etc/shipper/misp.key", None)
    }

    fn compose(text: &str) -> Written {
        let outside = Outside { variable: &|_| None, file: &|path| Err(format!("cannot read {path}")) };
        let service = read(text, None, "MISP_URL", &outside).unwrap_or_else(|e| panic!("{e}"));
        let variables: Vec<Variable> = service.variables.clone();
        let checked = check(&variables).unwrap_or_else(|e| panic!("{e}"));
        let notes = service.notes.iter().cloned().chain(checked.notes.clone()).collect();
        let imported = Imported { service: Some(service), notes, ..checked };
        written(&imported, "/etc/shipper/misp.key", Some(Path::new("/srv/misp")))
    }

    /// As its README shows it, with everything set.
    const COMPOSE: &str = r#"
services:
  redis:
    image: redis:7-alpine
  misp-processor:
    build: .
    environment:
      MISP_URL: https://misp.example.org/attributes/restSearch/
      MISP_API_KEY: s3cret-s3cret-s3cret-s3cret-s3cret-s3cre
      MISP_SSL_VERIFY: "false"
      ALERTS_FILE: /var/ossec/logs/alerts/alerts.json
      REDIS_HOST: redis
      REDIS_PORT: 6379
      CACHE_TTL_HOURS: 12
      RATE_LIMIT_SECONDS: 0.05
      BURST_LIMIT: 50
      BURST_WINDOW: 1.0
      SUPPRESSION_WINDOW_MINUTES: 15
      ALERT_DEDUP_TTL_MINUTES: 45
      CIRCUIT_BREAKER_THRESHOLD: 3
      CIRCUIT_BREAKER_TIMEOUT: 60
      CIRCUIT_BREAKER_MAX_TIMEOUT: 604800
      LOG_ROTATION_SIZE_MB: 512
      LOG_ROTATION_BACKUP_COUNT: 4
      LOG_LEVEL: WARNING
      PAUSE_ON_MISP_OUTAGE: "true"
      MISP_PROBE_INTERVAL_SECONDS: 30
      REDIS_RETRY_ATTEMPTS: 999
    volumes:
      - /var/ossec/logs/alerts/alerts.json:/var/ossec/logs/alerts/alerts.json:ro
      - ./logs:/var/log/misp-processor
"#;

    #[test]
    fn a_whole_compose_file_reads_like_this() {
        insta::assert_snapshot!(compose(COMPOSE).toml);
    }

    #[test]
    fn an_env_file_with_little_in_it_reads_like_this() {
        insta::assert_snapshot!(env("MISP_URL=https://misp.example.org/attributes/restSearch/\nMISP_API_KEY=s3cret\n").toml);
    }

    #[test]
    fn what_is_written_is_toml_and_holds_no_secret() {
        for got in [
            compose(COMPOSE),
            env(""),
            env(
                "MISP_URL=https://me:s3cret@misp.example/misp/attributes/restSearch?x=s3cret\nMISP_API_KEY=\"s3cret\"\nREDIS_PASSWORD=s3cret\n",
            ),
        ] {
            toml::from_str::<toml::Table>(&got.toml).unwrap_or_else(|e| panic!("{e}\n{}", got.toml));
            assert!(!got.toml.contains("s3cret") && !got.notes.join("\n").contains("s3cret"), "{}", got.toml);
        }
    }

    #[test]
    fn every_variable_is_written_or_named() {
        let bare = env("").toml;
        for variable in super::super::variables::VARIABLES {
            let value = match variable.name {
                "MISP_SSL_VERIFY" | "ALERTS_FILE" | "REDIS_HOST" | "LOG_FILE_PARSED" | "LOG_FILE_MATCHED" | "LOG_LEVEL" => "other",
                "ALERTS_FILES" => "/a,/b",
                "MISP_URL" => "https://h",
                "MISP_API_KEY" => "k",
                "REDIS_PORT" | "REDIS_DB" => continue, // with REDIS_HOST
                _ => variable.default,
            };
            // Our default may be the same.
            let value = value.parse::<u64>().map_or(value.to_owned(), |n| (n + 1).to_string());
            let got = env(&format!("{}={value}\n", variable.name)).toml;
            // What was noted as not set is written now, or there is another note.
            assert!(got != bare || matches!(variable.name, "MISP_SSL_VERIFY"), "{}", variable.name);
        }
        assert!(env("REDIS_HOST=r\nREDIS_PORT=7\nREDIS_DB=3\n").toml.contains("redis.url = \"redis://r:7\"\nredis.db = 3\n"));
    }

    #[test]
    fn the_base_is_cut_out_of_the_url_of_the_search() {
        for (url, want) in [
            ("https://misp.example/attributes/restSearch/", "https://misp.example"),
            ("https://misp.example/attributes/restSearch", "https://misp.example"),
            ("HTTPS://misp.example:8443/misp/Attributes/RESTSEARCH/json/", "https://misp.example:8443/misp"),
            ("https://u:p@misp.example/events/restSearch?limit=1", "https://misp.example"),
            ("http://10.0.0.1/", "http://10.0.0.1"),
            ("https://misp.example", "https://misp.example"),
        ] {
            assert_eq!(base_of(url).as_deref(), Ok(want), "{url}");
        }
        for url in ["", "misp.example", "https://", "ftp://misp.example", "https:///attributes/restSearch"] {
            assert!(base_of(url).is_err(), "{url}");
        }
    }

    #[test]
    fn files_of_several_managers_are_sources_of_their_own() {
        let got = env("ALERTS_FILE=/z\nALERTS_FILES=/m1/alerts.json, /m2/alerts.json,/var/log/x.json,/m1/alerts.json\n");
        for part in [
            "[sources.misp_alerts_1]\nkind = \"wazuh\"\npath = \"/m1/alerts.json\"",
            "[sources.misp_alerts_3]\nkind = \"file\"\npath = \"/var/log/x.json\"",
            "inputs = [\"misp_alerts_1\", \"misp_alerts_2\", \"misp_alerts_3\"]",
            "# ALERTS_FILE: left out: ALERTS_FILES wins",
            "names /m1/alerts.json twice",
        ] {
            assert!(got.toml.contains(part), "{part}\n{}", got.toml);
        }
    }

    #[test]
    fn what_is_beyond_our_bounds_is_told() {
        let got = env(
            "ALERT_DEDUP_TTL_MINUTES=0\nSUPPRESSION_WINDOW_MINUTES=-5\nBURST_WINDOW=0\nRATE_LIMIT_SECONDS=0\nREDIS_PORT=70000\nCACHE_TTL_HOURS=0\n",
        );
        for part in
            ["[lookups.misp]\nkind = \"misp\"\ninputs = [\"ioc\"]", "inputs = [\"misp\"]", "rate = 0\n", "is 70000", "positive = \"1h\""]
        {
            assert!(got.toml.contains(part), "{part}\n{}", got.toml);
        }
        assert!(!got.toml.contains("stages."), "{}", got.toml);
        assert!(env("RATE_LIMIT_SECONDS=5\n").toml.contains("rate = 1\n"));
        assert!(env("RATE_LIMIT_SECONDS=0.01\n").toml.contains("rate = 100\n"));
    }

    #[test]
    fn paths_of_the_container_become_paths_of_this_host() {
        let service = |volumes: &str| {
            format!("services: {{m: {{environment: [MISP_URL=https://h, ALERTS_FILE=/a/alerts.json], volumes: [{volumes}]}}}}")
        };
        for (volumes, part) in [
            ("'/var/ossec/logs/alerts:/a:ro'", "path = \"/var/ossec/logs/alerts/alerts.json\""),
            ("'../x/./y:/a', '/no:/ab'", "path = \"/srv/x/y/alerts.json\""),
            ("'/host.json:/a/alerts.json', '/no:/a'", "path = \"/host.json\""),
            ("'/host.json:/a/alerts.json'", "after the first midnight"),
            ("'wazuh_logs:/a'", "docker volume inspect wazuh_logs"),
            ("'~/a:/a'", "name the whole path"),
            ("", "no volume holds it"),
        ] {
            let got = compose(&service(volumes)).toml;
            assert!(got.contains(part), "{volumes}: {part}\n{got}");
        }
    }

    #[test]
    fn redis_of_the_same_file_is_reached_through_its_published_port() {
        let file = |redis: &str| format!("services: {{redis: {{{redis}}}, m: {{environment: [MISP_URL=https://h, REDIS_DB=2]}}}}");
        let published = compose(&file("ports: ['127.0.0.1:6380:6379']")).toml;
        assert!(published.contains("redis.url = \"redis://127.0.0.1:6380\"\nredis.db = 2\n"), "{published}");
        let hidden = compose(&file("image: redis")).toml;
        assert!(hidden.contains("publishes no port") && hidden.contains("# redis.url = \"redis://redis:6379\""), "{hidden}");
    }
}
