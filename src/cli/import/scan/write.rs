//! Writes files of the Zeek-YARA scanner as our configuration, and says what became of every key.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use serde_json::json;

use super::{
    super::{
        apt::{given::Config, keys::find},
        page::{Page, Written},
    },
    keys::KEYS,
};

const HEAD: &str = "\
# Written by `shipper import scan` from files of the Zeek-YARA scanner.
# Read the notes, then run `shipper check --config` on this file before the agent starts with it.
";

/// What the command line adds.
#[derive(Clone, Copy, Debug)]
pub struct Places<'p> {
    /// Folder in which passwords and keys will lie.
    pub secrets: &'p Path,
    /// URL of the master, for the configuration of a worker.
    pub master: Option<&'p str>,
}

const SCAN: &str = "scan";
const WORKER: &str = "scan.worker";
const QUEUE: &str = "scan.queue";
const WORKERS: &str = "scan.workers";
const BALANCE: &str = "scan.balance";
const RULES: &str = "scan.rules";
const CLEANUP: &str = "scan.cleanup";
const CORRELATE: &str = "scan.correlate";
const MONITOR: &str = "monitor";
const API: &str = "api";

/// Writes our configuration.
pub fn written(config: &Config, places: &Places<'_>) -> Written {
    let mut writing = Writing { config, places, page: Page::default() };
    for (key, what) in &config.notes {
        writing.page.note(key, what);
    }
    let role = if places.master.is_some() { "\"worker\"" } else { "\"both\"" };
    writing.page.table(SCAN, &[("role", role)]);
    for table in [WORKER, QUEUE, WORKERS, BALANCE, RULES, CLEANUP, CORRELATE, MONITOR, API] {
        writing.page.table(table, &[]);
    }
    writing.files();
    writing.rules();
    match places.master {
        Some(master) => writing.worker(master),
        None => {
            writing.queue();
            writing.workers();
            writing.cleanup();
            writing.correlate();
            writing.monitor();
            writing.alerts();
        }
    }
    writing.api();
    writing.rest();
    writing.page.written(HEAD)
}

struct Writing<'i> {
    config: &'i Config,
    places: &'i Places<'i>,
    page: Page,
}

impl Writing<'_> {
    /// Notes what becomes of a key that is given; of one that did nothing also that.
    fn note(&mut self, key: &str, what: impl AsRef<str>) {
        if !self.config.has(key.trim_end_matches('.')) {
            return;
        }
        let did_nothing = find(KEYS, key).is_some_and(|key| !key.did_something);
        let before = if did_nothing { "never did anything; " } else { "" };
        self.page.note(key.trim_end_matches('.'), format!("{before}{}", what.as_ref()));
    }

    /// Takes a whole number over, the nearest one where it is beyond our bounds, which is told.
    fn whole(&mut self, key: &str, table: &str, setting: &str, min: i64, max: i64) {
        let Some(given) = self.config.whole(key) else { return };
        let taken = given.clamp(min, max);
        if taken != given {
            self.note(key, format!("is {given}, ours is from {min} to {max}: {taken} is written"));
        } else if find(KEYS, key).is_some_and(|key| !key.did_something) {
            self.note(key, format!("now it does: {table}.{setting}"));
        }
        self.page.set(table, setting, &json!(taken));
    }

    /// Names a file for a secret, and says how it gets there.
    fn secret(&mut self, key: &str, table: &str, setting: &str, file: &str) {
        let what = self.page.secret(table, setting, &self.places.secrets.join(file));
        self.note(key, what);
    }

    /// A path that must be absolute: the program took it from its own folder.
    fn path(&mut self, key: &str) -> Option<String> {
        let given = self.config.text(key)?.to_owned();
        if !given.starts_with('/') {
            self.note(key, format!("is {given:?}, from the folder in which the program ran; write it from / on"));
        }
        Some(given)
    }

    fn files(&mut self) {
        let folder = self.path("EXTRACT_DIR").unwrap_or_else(|| "/opt/zeek/spool/extract_files".into());
        let roots = format!("[{{ name = \"zeek\", path = {} }}]", super::super::page::quoted(&folder));
        self.page.set_written(SCAN, "roots", roots);
        self.note("EXTRACT_DIR", "is the root \"zeek\"; subfolders are watched one level deep (depth), and nothing outside it is opened");
        self.whole("MAX_FILE_SIZE", SCAN, "file_bytes_max", 1, 4 << 30);
        self.whole("SCAN_TIMEOUT", SCAN, "timeout_s", 1, 300);
        self.whole("THREADS", SCAN, "children", 1, 64);
        self.note("THREADS", "is the number of processes that scan (children), each with its own rules; never more than cores");
        let types = self.config.texts("SCAN_MIME_TYPES");
        if !types.is_empty() {
            let ours: Vec<String> = types.iter().map(|each| mime(each)).collect();
            self.page.set(SCAN, "mime_types", &json!(ours));
            if ours != types {
                self.note("SCAN_MIME_TYPES", format!("any beginning matched; here a type is exact or type/*: {}", ours.join(", ")));
            }
        }
        let extensions = self.config.texts("SCAN_EXTENSIONS");
        if !extensions.is_empty() {
            self.page.set(SCAN, "extensions", &json!(extensions));
        }
    }

    fn rules(&mut self) {
        let folder = self.path("RULES_DIR");
        let index = self.config.text("RULES_INDEX").and_then(|index| Path::new(index).parent()?.to_str().map(str::to_owned));
        let Some(folder) = folder.or(index).filter(|folder| !folder.is_empty()) else { return };
        self.page.set(RULES, "paths", &json!([folder]));
        self.note("RULES_INDEX", "left out: every *.yar and *.yara below the folder is read, each file its own namespace, and one that is broken costs its broken rules only");
    }

    fn queue(&mut self) {
        let config = self.config;
        self.whole("MAX_QUEUE_SIZE", QUEUE, "size_max", 1, 10_000_000);
        let word = config.text("MESSAGE_QUEUE_TYPE").unwrap_or("memory").to_ascii_lowercase();
        let is_on = config.switch("DISTRIBUTED_ENABLED").unwrap_or(false);
        let kind = match word.as_str() {
            "rabbitmq" | "kafka" if is_on => word.as_str(),
            "rabbitmq" | "kafka" => {
                self.note(
                    "MESSAGE_QUEUE_TYPE",
                    format!(
                        "is {word}, while DISTRIBUTED_ENABLED is not on: the queue is the task store itself; set scan.queue.kind to use it"
                    ),
                );
                return;
            }
            "memory" => "memory",
            _ => {
                self.note("MESSAGE_QUEUE_TYPE", format!("is {word:?}, which the program took for memory; so it is here"));
                "memory"
            }
        };
        self.page.set(QUEUE, "kind", &json!(kind));
        match kind {
            "rabbitmq" => {
                let (host, port) = (config.text("RABBITMQ_HOST").unwrap_or("localhost"), config.whole("RABBITMQ_PORT").unwrap_or(5672));
                self.page.set(QUEUE, "rabbitmq.url", &json!(format!("amqp://{host}:{port}/%2f")));
                self.page.set(
                    QUEUE,
                    "rabbitmq.queue",
                    &json!(format!("{}.shipper", config.text("RABBITMQ_QUEUE").unwrap_or("zeek_yara_tasks"))),
                );
                let what = "has .shipper behind its name: the program declared its queue without any arguments, and a queue keeps those it was made with; let the old one run empty, or point its producers to the new one";
                self.page.note("RABBITMQ_QUEUE", what);
                let username = config.text("RABBITMQ_USERNAME").unwrap_or("shipper");
                self.page.set(QUEUE, "rabbitmq.username", &json!(username));
                self.secret("RABBITMQ_PASSWORD", QUEUE, "rabbitmq.password_file", "rabbitmq.password");
                self.page.note("RABBITMQ_USERNAME", "the program took user and password from its environment alone; here the user stands in the file and the password in a file of its own");
            }
            "kafka" => {
                let given = config.texts("KAFKA_BOOTSTRAP_SERVERS");
                let brokers = if given.is_empty() { vec!["localhost:9092".to_owned()] } else { given };
                let topic = config.text("KAFKA_TOPIC").unwrap_or("zeek-yara-tasks");
                self.page.set(QUEUE, "kafka.brokers", &json!(brokers));
                self.page.set(QUEUE, "kafka.topic", &json!(topic));
                self.page.set(QUEUE, "kafka.group", &json!(config.text("KAFKA_GROUP_ID").unwrap_or("zeek-yara-workers")));
                let what = format!(
                    "beside {topic} create {topic}.high, {topic}.low, {topic}.dead and {topic}.results: priorities, what nobody understands, outcomes"
                );
                self.page.note("KAFKA_TOPIC", what);
            }
            _ => {}
        }
    }

    fn workers(&mut self) {
        self.whole("WORKER_HEARTBEAT_INTERVAL", WORKERS, "heartbeat_s", 1, 3600);
        self.whole("WORKER_HEARTBEAT_TIMEOUT", WORKERS, "offline_s", 2, 86_400);
        if !self.config.has("WORKER_HEARTBEAT_INTERVAL") {
            self.whole("worker_defaults.heartbeat_interval", WORKERS, "heartbeat_s", 1, 3600);
        }
        self.whole("master_node.max_workers", WORKERS, "max", 1, 10_000);
        let hosts: Vec<String> = self.config.texts("security.allowed_worker_ips").iter().map(|host| network(host)).collect();
        if !hosts.is_empty() {
            self.page.set(WORKERS, "hosts", &json!(hosts));
            self.note("security.allowed_worker_ips", "now it does: workers call from there alone, and are called there alone");
        } else if self.config.switch("DISTRIBUTED_ENABLED") == Some(true) {
            self.page.remark(WORKERS, "hosts = [\"192.0.2.0/24\"]  # the networks of the workers; without it they are on this host");
            self.note(
                "DISTRIBUTED_ENABLED",
                "workers of other hosts may register once scan.workers.hosts names their networks, and api a key and a certificate",
            );
        }
        let word = self.config.text("LOAD_BALANCE_ALGORITHM").or_else(|| self.config.text("load_balancing.algorithm"));
        match word {
            Some(word @ ("load_based" | "round_robin" | "capability_based")) => self.page.set(BALANCE, "algorithm", &json!(word)),
            Some(word) => {
                self.page.note("LOAD_BALANCE_ALGORITHM", format!("is {word:?}, which the program took for load_based; so it is here"))
            }
            None => {}
        }
        for (name, setting) in [("cpu_weight", "weights.cpu"), ("memory_weight", "weights.memory"), ("queue_weight", "weights.queue")] {
            let key = format!("load_balancing.options.load_based.{name}");
            if let Some(weight) = self.config.number(&key) {
                self.page.set(BALANCE, setting, &json!(weight.clamp(0.0, 1.0)));
                self.note(&key, format!("now it does: {BALANCE}.{setting}"));
            }
        }
        let strict = "load_balancing.options.capability_based.strict_matching";
        if let Some(is_strict) = self.config.switch(strict) {
            self.page.set(BALANCE, "strict", &json!(is_strict));
            self.note(strict, format!("now it does: {BALANCE}.strict"));
        }
    }

    fn worker(&mut self, master: &str) {
        self.page.set(WORKER, "master", &json!(master));
        self.page.set(WORKER, "key_file", &json!(self.places.secrets.join("worker.key")));
        self.page.remark(WORKER, "id = \"worker-1\"  # its name at the master; the instance's where unset");
        self.whole("worker_defaults.max_tasks", WORKER, "tasks_max", 1, 100);
        self.page.note("--master", "make the key on the master: `shipper keys new --role worker`, one for each worker, bound to its id");
        if self.config.switch("VERIFY_SSL") == Some(false) {
            self.note("VERIFY_SSL", "left out: the master's certificate is always verified; name its CA in scan.worker.ca");
        }
        for key in ["MESSAGE_QUEUE_TYPE", "LOAD_BALANCE_ALGORITHM", "CLEANUP_ENABLED", "DB_FILE"] {
            self.note(key, "left out: that is the master's");
        }
    }

    fn cleanup(&mut self) {
        let rows = [
            ("CLEANUP_RETENTION_CLEAN_HOURS", "clean_hours", 0, 87_600),
            ("CLEANUP_RETENTION_MATCHED_HOURS", "matched_hours", 0, 87_600),
            ("CLEANUP_INTERVAL_MINUTES", "interval_minutes", 1, 10_080),
            ("CLEANUP_DISK_WARNING_THRESHOLD", "disk_warn", 1, 100),
            ("CLEANUP_DISK_CRITICAL_THRESHOLD", "disk_critical", 1, 100),
        ];
        for (key, setting, min, max) in rows {
            self.whole(key, CLEANUP, setting, min, max);
        }
        match self.config.switch("CLEANUP_ENABLED") {
            Some(false) => self.page.set(CLEANUP, "enabled", &json!(false)),
            Some(true) => {
                self.page.set(CLEANUP, "enabled", &json!(false));
                let what = "is not taken over: the program also removed files that it had never scanned; here only files with a stored answer go. To remove evidence is a decision: set scan.cleanup.enabled";
                self.note("CLEANUP_ENABLED", what);
            }
            None => {}
        }
    }

    fn correlate(&mut self) {
        self.whole("CORRELATION_WINDOW", CORRELATE, "window_s", 1, 86_400);
        self.whole("TIME_PROXIMITY_WINDOW", CORRELATE, "proximity_s", 1, 86_400);
        self.whole("MIN_ALERT_CONFIDENCE", CORRELATE, "confidence_min", 0, 100);
        if let Some(folder) = self.path("SURICATA_LOG_DIR") {
            self.page.set(CORRELATE, "eve", &json!(format!("{}/eve.json", folder.trim_end_matches('/'))));
        }
        if self.config.has("CORRELATION_WINDOW") || self.config.has("SURICATA_LOG_DIR") {
            self.page.remark(CORRELATE, "zeek_logs = \"/opt/zeek/logs/current\"  # files.log tells which connection carried a file");
        }
        for key in ["SURICATA_BIN", "SURICATA_CONFIG", "SURICATA_RULES_DIR", "SURICATA_INTERFACE"] {
            self.note(key, "left out: the agent reads eve.json, and starts nothing");
        }
        if self.config.switch("SURICATA_AUTO_START") == Some(true) {
            self.note("SURICATA_AUTO_START", "left out: let systemd start Suricata; the agent reads its eve.json");
        }
    }

    fn monitor(&mut self) {
        self.whole("METRICS_COLLECTION_INTERVAL", MONITOR, "collect_s", 1, 3600);
        self.whole("MONITORING_INTERVAL", MONITOR, "check_s", 1, 3600);
        self.whole("BASELINE_CALCULATION_SAMPLES", MONITOR, "baseline_samples", 2, 10_000);
        self.whole("MAX_ALERT_HISTORY", MONITOR, "history_max", 1, 100_000);
        if self.config.switch("MONITORING_ENABLED") == Some(false) {
            self.note(
                "MONITORING_ENABLED",
                "left out: the figures are always there; alerts of the monitor go where a sink takes scan.monitor",
            );
        }
        let rows = [
            ("ALERT_HIGH_ERROR_RATE", "high_error_rate", 0.1),
            ("ALERT_HIGH_QUEUE_SIZE", "high_queue_size", 100.0),
            ("ALERT_LOW_THROUGHPUT", "low_throughput", 1.0),
            ("ALERT_HIGH_CPU", "high_cpu_usage", 80.0),
            ("ALERT_HIGH_MEMORY", "high_memory_usage", 80.0),
            ("ALERT_LOW_DISK", "low_disk_space", 90.0),
        ];
        for (key, rule, usual) in rows {
            if let Some(value) = self.config.number(key).filter(|value| (value - usual).abs() > f64::EPSILON) {
                self.note(
                    key,
                    format!("no rule of the program could fire; ours do, at {usual}: for {value} say PUT /monitoring/rules/{rule}"),
                );
            }
        }
    }

    /// Where alerts go: the program kept them in its database.
    fn alerts(&mut self) {
        self.page.table("sources.scan", &[("kind", r#""scan""#)]);
        self.page.table("handlers.scan", &[("kind", r#""scan""#), ("inputs", r#"["scan"]"#)]);
        let path = r#""/var/log/shipper/scan-alerts.json""#;
        self.page.table("sinks.alerts", &[("kind", r#""file""#), ("inputs", r#"["scan.alert"]"#), ("path", path)]);
        if self.config.has("DB_FILE") {
            self.note("DB_FILE", "left out: alerts are kept in the task store, shown by GET /alerts, and written to /var/log/shipper/scan-alerts.json; the old database is not read");
        }
    }

    fn api(&mut self) {
        let host = self.config.text("API_HOST").unwrap_or("127.0.0.1");
        let port = self.config.whole("API_PORT").unwrap_or(8000).clamp(1, 65_535);
        let (is_local, is_worker) = (matches!(host, "127.0.0.1" | "localhost" | "::1"), self.places.master.is_some());
        let host = if host == "localhost" { "127.0.0.1" } else { host };
        let listen = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        if is_worker && !self.config.has("API_HOST") {
            return;
        }
        self.page.set(API, "listen", &json!(listen));
        let has_key = self.config.text("API_KEY").is_some() || self.config.text("master_node.api_key").is_some();
        if has_key || !is_local {
            self.page.set(API, "keys_file", &json!(self.places.secrets.join("keys")));
            let what = "is not taken over: make a key for each caller, `shipper keys new`, and give it the role that it needs";
            self.note("API_KEY", what);
            self.note("master_node.api_key", what);
        }
        if !is_local {
            self.page.set(API, "tls.cert", &json!(self.places.secrets.join("api.cert.pem")));
            self.page.set(API, "tls.key", &json!(self.places.secrets.join("api.key.pem")));
            self.page.note(
                "API_HOST",
                format!("is {host}, which others can reach: that needs a certificate (api.tls) and keys, or the agent does not start"),
            );
        }
    }

    fn rest(&mut self) {
        let rows = [
            ("LOG_DIR", "left out: the log goes to stderr, which systemd's journal keeps"),
            ("LOG_FILE", "left out: the log goes to stderr, which systemd's journal keeps"),
            ("LOG_LEVEL", "left out: say --log-level, or [log]"),
            ("QUEUE_TIMEOUT_NORMAL", "left out: nobody waits for a place; a full queue is told at once, and a watched folder waits"),
            ("QUEUE_TIMEOUT_PRIORITY", "left out: priority 8 and above is ahead, and not only waits less"),
            ("SCAN_INTERVAL", "left out: a file is scanned when it is closed"),
            ("HEALTH_CHECK_INTERVAL", "left out: a process that hangs is ended by its own deadline"),
            ("MAX_WORKER_IDLE_TIME", "left out: a process that hangs is ended by its own deadline"),
            ("ENVIRONMENT", "left out: nothing depends on it"),
            ("FORCE_HTTPS", "left out: what is not on this host speaks TLS, always"),
            ("AUTO_START_SCANNER", "left out: scanning begins with the agent; POST /scanner/stop halts it"),
            ("MULTI_THREADED", "left out: children says how many scan at once"),
            ("WORKER_HEALTH_CHECK_INTERVAL", "left out: how a worker stands is a matter of the clock, and told when it is asked for"),
            ("DISTRIBUTED_CONFIG_FILE", "left out: name that file beside this one, shipper import scan FILE DISTRIBUTED_FILE"),
            ("HEALTH_ERROR_RATE_THRESHOLD", "left out: /health has fixed bounds"),
            ("HEALTH_RESPONSE_TIME_THRESHOLD", "left out: /health has fixed bounds"),
            ("HEALTH_QUEUE_SIZE_THRESHOLD", "left out: /health has fixed bounds"),
            ("HEALTH_WORKER_AVAILABILITY_THRESHOLD", "left out: /health has fixed bounds"),
            ("SECURITY.", "left out: bounds are fixed; rates are api.rate and api.register_rate"),
            ("BATCH_SIZE", "left out: a worker takes as many as it has room for"),
            ("PROCESSING_TIMEOUT", "left out: see timeout_s"),
            ("deployment.", "left out: nothing depends on it"),
            ("master_node.host", "left out: see api.listen; a worker names it in scan.worker.master"),
            ("master_node.port", "left out: see api.listen; a worker names it in scan.worker.master"),
            ("worker_defaults.threads", "left out: children says how many scan at once"),
            ("worker_defaults.capabilities", "left out: a worker of ours can file_scan and yara_analysis"),
            ("message_queue.", "left out: the queue is that of MESSAGE_QUEUE_TYPE, RABBITMQ_* and KAFKA_*"),
            ("load_balancing.options.capability_based.fallback_algorithm", "left out: it is load_based"),
            ("monitoring.", "left out: see [monitor]"),
            ("scaling.", "left out: workers are started by Kubernetes, Compose or systemd, by GET /monitoring/metrics"),
            ("security.", "left out: keys, roles and TLS are always on where others can reach the API"),
        ];
        for (key, what) in rows {
            self.note(key, what);
        }
    }
}

/// A type that is exact, or `type/*`.
fn mime(given: &str) -> String {
    match given.trim().split_once('/') {
        None => format!("{}/*", given.trim()),
        Some((kind, "" | "*")) => format!("{kind}/*"),
        Some(_) => given.trim().to_owned(),
    }
}

/// An address as a network.
fn network(given: &str) -> String {
    match given.parse::<std::net::IpAddr>() {
        Ok(address) => format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }),
        Err(_) => given.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::{super::super::given::Given, *};

    fn import(text: &str, master: Option<&str>) -> Written {
        let config = Config::by(&Given::parse_json(text).unwrap(), KEYS).unwrap();
        written(&config, &Places { secrets: Path::new("/etc/shipper"), master })
    }

    fn tables(written: &Written) -> &str {
        let at = written.toml.find("\n[").unwrap();
        written.toml[at..].trim_start()
    }

    const DEFAULT: &str = r#"{"EXTRACT_DIR": "./extracted_files", "RULES_DIR": "./rules", "RULES_INDEX": "./rules/index.yar", "LOG_FILE": "./logs/yara_scan.log",
        "DB_FILE": "./logs/alerts.db", "MAX_FILE_SIZE": 20971520, "THREADS": 4, "MAX_QUEUE_SIZE": 1000, "QUEUE_TIMEOUT_NORMAL": 1.0, "SCAN_INTERVAL": 10,
        "SCAN_MIME_TYPES": [], "SCAN_EXTENSIONS": [], "API_HOST": "127.0.0.1", "API_PORT": 8000, "API_KEY": "", "DISTRIBUTED_ENABLED": false,
        "MESSAGE_QUEUE_TYPE": "memory", "WORKER_HEARTBEAT_TIMEOUT": 60, "WORKER_HEARTBEAT_INTERVAL": 30, "LOAD_BALANCE_ALGORITHM": "load_based",
        "CLEANUP_ENABLED": true, "CLEANUP_RETENTION_CLEAN_HOURS": 24, "CORRELATION_WINDOW": 300, "SURICATA_LOG_DIR": "/var/log/suricata"}"#;

    #[test]
    fn the_file_that_came_with_the_program_becomes_this() {
        let written = import(DEFAULT, None);
        let want = r#"[scan]
role = "both"
roots = [{ name = "zeek", path = "./extracted_files" }]
file_bytes_max = 20971520
children = 4

[scan.queue]
size_max = 1000
kind = "memory"

[scan.workers]
heartbeat_s = 30
offline_s = 60

[scan.balance]
algorithm = "load_based"

[scan.rules]
paths = ["./rules"]

[scan.cleanup]
clean_hours = 24
enabled = false

[scan.correlate]
window_s = 300
eve = "/var/log/suricata/eve.json"
# zeek_logs = "/opt/zeek/logs/current"  # files.log tells which connection carried a file

[api]
listen = "127.0.0.1:8000"

[sources.scan]
kind = "scan"

[handlers.scan]
kind = "scan"
inputs = ["scan"]

[sinks.alerts]
kind = "file"
inputs = ["scan.alert"]
path = "/var/log/shipper/scan-alerts.json"
"#;
        assert_eq!(tables(&written), want);
        let told = written.notes.join("\n");
        for part in [
            "EXTRACT_DIR: is \"./extracted_files\", from the folder",
            "SCAN_INTERVAL: never did anything; left out",
            "CLEANUP_ENABLED: is not taken over",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        assert!(!told.contains("API_KEY"), "an empty key is none: {told}");
    }

    #[test]
    fn brokers_workers_and_keys_become_ours_and_no_secret_is_shown() {
        let text = r#"{"EXTRACT_DIR": "/x", "DISTRIBUTED_ENABLED": true, "MESSAGE_QUEUE_TYPE": "RabbitMQ", "RABBITMQ_HOST": "mq.example", "RABBITMQ_PASSWORD": "hush",
            "API_HOST": "0.0.0.0", "API_KEY": "hush", "SCAN_MIME_TYPES": ["application/x-dosexec", "image/", "text"], "SCAN_TIMEOUT": 900, "SCAN_TIMOUT": 3,
            "ALERT_HIGH_CPU": 95, "master_node": {"max_workers": 10, "api_key": "hush"}, "security": {"allowed_worker_ips": ["10.0.0.7", "10.1.0.0/16"]},
            "load_balancing": {"options": {"load_based": {"cpu_weight": 0.5}, "capability_based": {"strict_matching": true}}}, "scaling": {"min_workers": 1}}"#;
        let written = import(text, None);
        for part in [
            "mime_types = [\"application/x-dosexec\", \"image/*\", \"text/*\"]",
            "timeout_s = 300",
            "kind = \"rabbitmq\"\nrabbitmq.url = \"amqp://mq.example:5672/%2f\"\nrabbitmq.queue = \"zeek_yara_tasks.shipper\"\nrabbitmq.username = \"shipper\"\nrabbitmq.password_file = \"/etc/shipper/rabbitmq.password\"",
            "max = 10\nhosts = [\"10.0.0.7/32\", \"10.1.0.0/16\"]",
            "weights.cpu = 0.5\nstrict = true",
            "listen = \"0.0.0.0:8000\"\nkeys_file = \"/etc/shipper/keys\"\ntls.cert = ",
        ] {
            assert!(written.toml.contains(part), "{part}\n{}", written.toml);
        }
        let told = written.notes.join("\n");
        for part in [
            "SCAN_TIMOUT: left out: the program knows no such key; did you mean SCAN_TIMEOUT?",
            "SCAN_TIMEOUT: is 900, ours is from 1 to 300: 300 is written",
            "ALERT_HIGH_CPU: never did anything; no rule of the program could fire; ours do, at 80: for 95 say PUT /monitoring/rules/high_cpu_usage",
            "scaling: never did anything; left out",
            "master_node.max_workers: never did anything; now it does: scan.workers.max",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        assert!(!written.toml.contains("hush") && !told.contains("hush"));
    }

    #[test]
    fn kafka_tells_which_topics_are_to_be_there() {
        let written = import(
            r#"{"DISTRIBUTED_ENABLED": true, "MESSAGE_QUEUE_TYPE": "kafka", "KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2", "KAFKA_TOPIC": "t"}"#,
            None,
        );
        assert!(
            written.toml.contains("kafka.brokers = [\"a:1\", \"b:2\"]\nkafka.topic = \"t\"\nkafka.group = \"zeek-yara-workers\""),
            "{}",
            written.toml
        );
        assert!(written.notes.iter().any(|note| note.contains("t.high, t.low, t.dead and t.results")));
        let off = import(r#"{"MESSAGE_QUEUE_TYPE": "kafka"}"#, None);
        assert!(
            !off.toml.contains("kafka.brokers") && off.notes.iter().any(|note| note.starts_with("MESSAGE_QUEUE_TYPE: is kafka, while"))
        );
    }

    #[test]
    fn a_worker_gets_what_is_a_workers() {
        let written = import(
            r#"{"EXTRACT_DIR": "/x", "VERIFY_SSL": false, "CLEANUP_ENABLED": true, "worker_defaults": {"max_tasks": 7}}"#,
            Some("https://scan.example:8000"),
        );
        let want = "[scan]\nrole = \"worker\"\nroots = [{ name = \"zeek\", path = \"/x\" }]\n\n[scan.worker]\nmaster = \"https://scan.example:8000\"\nkey_file = \"/etc/shipper/worker.key\"\ntasks_max = 7\n# id = \"worker-1\"  # its name at the master; the instance's where unset\n";
        assert_eq!(tables(&written), want);
        assert!(written.notes.iter().any(|note| note.starts_with("VERIFY_SSL: left out: the master's certificate is always verified")));
    }
}
