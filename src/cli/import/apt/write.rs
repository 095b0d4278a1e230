//! Writes a file of the APT detection system as our configuration, and says what became of every key.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use serde_json::json;

use super::{
    super::{
        misp::given::without_login,
        page::{Page, Written},
    },
    given::Config,
    keys::named,
};
use crate::net::kafka::settings::check_consumer_option;

const HEAD: &str = "\
# Written by `shipper import apt` from a file of the APT detection system.
# Read the notes, then run `shipper check --config` on this file before the agent starts with it.
";

/// What the command line adds.
#[derive(Clone, Copy, Debug)]
pub struct Places<'p> {
    /// Folder in which passwords and keys will lie.
    pub secrets: &'p Path,
    /// URL of Wazuh's indexer.
    pub indexer: Option<&'p str>,
    /// The agent runs on the Wazuh manager.
    pub is_manager: bool,
}

const KAFKA: &str = "sources.events";
const WAZUH: &str = "sources.wazuh";
const ELASTIC: &str = "sources.elasticsearch";
const HANDLER: &str = "handlers.apt";
const DETECTOR: &str = "stages.detector";
const ALERTS: &str = "sinks.alerts";

/// Writes our configuration.
pub fn written(config: &Config, places: &Places<'_>) -> Written {
    let mut writing = Writing { config, places, page: Page::default() };
    for (key, what) in &config.notes {
        writing.page.note(key, what);
    }
    writing.page.table("log", &[]);
    writing.page.table("api", &[]);
    let mut inputs = Vec::new();
    // The program leaves Kafka out where the file does not speak of it.
    if config.has("kafka") || !config.has("data_sources") {
        writing.kafka();
        inputs.push("events");
    }
    if writing.is_on("wazuh") {
        writing.wazuh();
        inputs.push("wazuh");
    }
    if writing.is_on("elasticsearch") {
        writing.elastic();
        inputs.push("elasticsearch");
    }
    if inputs.is_empty() {
        writing.kafka();
        writing.page.note("data_sources", "no source is switched on; the program's Kafka with its defaults is written, correct it");
        inputs.push("events");
    }
    writing.page.table(HANDLER, &[("kind", r#""apt""#)]);
    writing.page.set(HANDLER, "inputs", &json!(inputs));
    writing.models();
    writing.detector();
    writing.alerts();
    writing.face();
    writing.rest();
    writing.page.written(HEAD)
}

struct Writing<'i> {
    config: &'i Config,
    places: &'i Places<'i>,
    page: Page,
}

impl Writing<'_> {
    /// Notes what becomes of a key; of one that did nothing also that.
    fn note(&mut self, key: &str, what: impl AsRef<str>) {
        let did_nothing = named(key).is_some_and(|key| !key.did_something);
        let before = if did_nothing { "never did anything; " } else { "" };
        self.page.note(key, format!("{before}{}", what.as_ref()));
    }

    /// The same where the key is given.
    fn note_if(&mut self, key: &str, what: &str) {
        if self.config.has(key) {
            self.note(key, what);
        }
    }

    /// Names a file for a secret, and says how it gets there.
    fn secret(&mut self, key: &str, table: &str, setting: &str, file: &str) {
        let what = self.page.secret(table, setting, &self.places.secrets.join(file));
        self.note(key, what);
    }

    /// A whole number within bounds, the nearest one where it is beyond, which is told.
    fn within(&mut self, key: &str, min: i64, max: i64) -> Option<i64> {
        let given = self.config.whole(key)?;
        let taken = given.clamp(min, max);
        if taken != given {
            self.note(key, format!("is {given}, ours is from {min} to {max}: {taken} is written"));
        }
        Some(taken)
    }

    /// Whether a connector is there and not switched off.
    fn is_on(&self, name: &str) -> bool {
        let section = format!("data_sources.{name}");
        self.config.has(&section) && self.config.switch(&format!("{section}.enabled")).unwrap_or(true)
    }

    fn kafka(&mut self) {
        let config = self.config;
        self.page.table(KAFKA, &[("kind", r#""kafka""#)]);
        let given = config.texts("kafka.bootstrap_servers");
        let brokers = if given.is_empty() { vec!["localhost:9092".to_owned()] } else { given };
        let brokers: Vec<String> = brokers.into_iter().map(|b| if b.contains(':') { b } else { format!("{b}:9092") }).collect();
        self.page.set(KAFKA, "brokers", &json!(brokers));
        let mut topics = config.texts("kafka.topics");
        if let Some(topic) = config.text("kafka.topic") {
            self.note_if("kafka.topics", "left out: kafka.topic is given as well, and was what the program read");
            topics = vec![topic.to_owned()];
        } else if topics.is_empty() {
            topics = vec!["apt_topic".to_owned()];
        } else {
            self.note("kafka.topics", "taken over");
        }
        self.page.set(KAFKA, "topics", &json!(topics));
        self.page.set(KAFKA, "group", &json!(config.text("kafka.group_id").unwrap_or("apt_detection_group")));
        let what = "the group stays the same, so reading goes on where the program had committed; it committed every five seconds whatever became of the events";
        self.page.note("kafka.group_id", what);
        match config.text("kafka.auto_offset_reset") {
            Some(word @ ("earliest" | "latest" | "none")) => {
                self.page.set(KAFKA, "start", &json!(word));
                self.note("kafka.auto_offset_reset", "taken over");
            }
            Some(word) => self.note("kafka.auto_offset_reset", format!("is {word:?}; ours is earliest, latest or none: earliest stands")),
            None => {}
        }
        if config.switch("kafka.enable_auto_commit") == Some(false) {
            self.page.set(KAFKA, "commit_interval", &json!("0"));
            self.note("kafka.enable_auto_commit", "offsets are committed only when a partition goes and at the end");
        }
        for (key, setting, max) in
            [("kafka.session_timeout_ms", "session_timeout", 3_600_000), ("kafka.request_timeout_ms", "request_timeout", 300_000)]
        {
            if let Some(ms) = self.within(key, 1000, max) {
                self.page.set(KAFKA, setting, &json!(format!("{ms}ms")));
                self.note(key, "taken over");
            }
        }
        let what = "left out: the agent reads until it is stopped; for a run that ends set exit_when_idle";
        self.note_if("kafka.consumer_timeout_ms", what);
        for (key, setting) in
            [("kafka.fetch_max_bytes", "fetch_max_bytes"), ("kafka.max_partition_fetch_bytes", "max_partition_fetch_bytes")]
        {
            if let Some(bytes) = self.within(key, 1024, 1 << 30) {
                self.page.set(KAFKA, setting, &json!(bytes));
                self.note(key, "taken over");
            }
        }
        self.note_if("kafka.compression_type", "left out: a consumer takes whatever codec the producer chose");
        self.login();
        let mut options = serde_json::Map::new();
        for (name, value) in config.below("kafka.rdkafka.") {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match check_consumer_option(name, &text) {
                Ok(()) => drop(options.insert(name.to_owned(), value.clone())),
                Err(why) => self.page.note(&format!("kafka.rdkafka.{name}"), format!("left out: {why}")),
            }
        }
        for (name, value) in options {
            self.page.set(KAFKA, format!("options.\"{name}\""), &value);
        }
    }

    /// TLS and SASL of Kafka.
    fn login(&mut self) {
        let config = self.config;
        let protocol = config.text("kafka.security_protocol").unwrap_or("PLAINTEXT").to_ascii_uppercase();
        let (tls, sasl) = match protocol.as_str() {
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            "PLAINTEXT" => (false, false),
            other => {
                self.note("kafka.security_protocol", format!("is {other:?}, which is none; no TLS and no login are written"));
                (false, false)
            }
        };
        if config.has("kafka.security_protocol") {
            self.note("kafka.security_protocol", "taken over; the program always spoke without TLS and login");
        }
        let files = [("kafka.ssl_cafile", "tls.ca"), ("kafka.ssl_certfile", "tls.cert"), ("kafka.ssl_keyfile", "tls.key")];
        if tls {
            self.page.set(KAFKA, "tls.enabled", &json!(true));
            for (key, setting) in files {
                if let Some(path) = config.text(key) {
                    self.page.set(KAFKA, setting, &json!(path));
                    self.note(key, "taken over; the agent's user must be allowed to read it");
                }
            }
            if config.has("kafka.ssl_key_password") {
                self.secret("kafka.ssl_key_password", KAFKA, "tls.key_password_file", "kafka-key.password");
            }
            if config.switch("kafka.ssl_check_hostname") == Some(false) {
                self.note(
                    "kafka.ssl_check_hostname",
                    "left out: the broker's name is always verified; write the name in its certificate into brokers",
                );
            }
        } else {
            for (key, _) in files.into_iter().chain([("kafka.ssl_key_password", "")]) {
                self.note_if(key, "left out: kafka.security_protocol is without TLS");
            }
        }
        if sasl {
            let mechanism = config.text("kafka.sasl_mechanism").unwrap_or("PLAIN").to_ascii_uppercase();
            if matches!(mechanism.as_str(), "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512") {
                self.page.set(KAFKA, "sasl.mechanism", &json!(mechanism));
                self.page.set(KAFKA, "sasl.username", &json!(config.text("kafka.sasl_plain_username").unwrap_or_default()));
                self.secret("kafka.sasl_plain_password", KAFKA, "sasl.password_file", "kafka.password");
            } else {
                self.note(
                    "kafka.sasl_mechanism",
                    format!("is {mechanism:?}, which is not there; set sasl.mechanism to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, with sasl.username and sasl.password_file"),
                );
            }
        } else {
            for key in ["kafka.sasl_mechanism", "kafka.sasl_plain_username", "kafka.sasl_plain_password"] {
                self.note_if(key, "left out: kafka.security_protocol is without a login");
            }
        }
    }

    fn wazuh(&mut self) {
        let config = self.config;
        self.note_if("data_sources.wazuh.fetch_interval", "left out: the program slept for settings.collection_interval_seconds");
        if self.places.is_manager {
            self.page.table(WAZUH, &[("kind", r#""wazuh""#)]);
            let what = "left out: alerts are read from this manager's alerts.json, where they stand first";
            for key in ["data_sources.wazuh.api_url", "data_sources.wazuh.username", "data_sources.wazuh.password"] {
                self.note_if(key, what);
            }
            self.note_if("data_sources.wazuh.verify_ssl", "left out: nothing is asked over the network");
            self.agents();
            return;
        }
        let api = config.text("data_sources.wazuh.api_url").map(without_login).unwrap_or_default();
        let rest = api.split_once("://").map_or(api.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        };
        let indexer = match self.places.indexer {
            Some(url) => without_login(url),
            None => format!("https://{}:9200", if host.is_empty() { "localhost" } else { host }),
        };
        self.page.table(WAZUH, &[("kind", r#""opensearch""#)]);
        self.page.set(WAZUH, "hosts", &json!([indexer]));
        self.page.set(WAZUH, "indices", &json!(["wazuh-alerts-4.x-*"]));
        self.page.set(WAZUH, "timestamp_field", &json!("timestamp"));
        self.page.note(
            "data_sources.wazuh.api_url",
            format!("Wazuh's API has no alerts: not one came through it. They are read from the indexer, {indexer} here (--indexer names another); on the manager itself --manager reads alerts.json, which is sooner and needs no login"),
        );
        // The API's user is none of the indexer's.
        self.page.set(WAZUH, "username", &json!("shipper"));
        self.page.set(WAZUH, "password_file", &json!(self.places.secrets.join("wazuh-indexer.password")));
        self.note_if(
            "data_sources.wazuh.username",
            "left out: a user of the API is none of the indexer; make one there that may read the index, shipper is written",
        );
        let path = self.places.secrets.join("wazuh-indexer.password");
        self.page.note(
            "data_sources.wazuh.password",
            format!("left out with the API's user; put that of the indexer's user, alone, into {}", path.display()),
        );
        self.pace(WAZUH);
        self.verify("data_sources.wazuh.verify_ssl", WAZUH);
        self.agents();
    }

    /// What the API has: the status of agents, as comments, since the program never asked for it.
    fn agents(&mut self) {
        let config = self.config;
        let Some(user) = config.text("data_sources.wazuh.username") else { return };
        let url = config.text("data_sources.wazuh.api_url").map_or_else(|| "https://localhost:55000".to_owned(), without_login);
        let file = self.places.secrets.join("wazuh-api.password");
        let lines = [
            "the status of agents, which is what the API has (docs/OPERATING.md); take the signs away, put its password into the file,"
                .to_owned(),
            "and give a handler `forward` the input \"agents\":".to_owned(),
            "[sources.agents]".to_owned(),
            r#"kind = "wazuh_agents""#.to_owned(),
            format!("url = {}", json!(url)),
            format!("username = {}", json!(user)),
            format!("password_file = {}", json!(file)),
        ];
        for line in lines {
            self.page.remark(WAZUH, line);
        }
    }

    fn elastic(&mut self) {
        let config = self.config;
        self.page.table(ELASTIC, &[("kind", r#""opensearch""#)]);
        let hosts = config.texts("data_sources.elasticsearch.hosts");
        let cloud = config.text("data_sources.elasticsearch.cloud_id");
        if let Some(id) = cloud {
            self.page.set(ELASTIC, "cloud_id", &json!(id));
            self.note_if("data_sources.elasticsearch.hosts", "left out: cloud_id says where it is");
        } else {
            let plain = hosts.iter().any(|host| !host.contains("://"));
            let whole = |host: &String| if host.contains("://") { without_login(host) } else { format!("http://{}", without_login(host)) };
            let hosts: Vec<String> =
                if hosts.is_empty() { vec!["http://localhost:9200".into()] } else { hosts.iter().map(whole).collect() };
            self.page.set(ELASTIC, "hosts", &json!(hosts));
            if plain {
                self.note(
                    "data_sources.elasticsearch.hosts",
                    "has no scheme, which the program's client refused; http is written, make it https where it is",
                );
            }
        }
        let index = config.texts("data_sources.elasticsearch.index_pattern");
        let index = if index.is_empty() { vec!["winlogbeat-*".to_owned()] } else { index };
        self.page.set(ELASTIC, "indices", &json!(index));
        if config.has("data_sources.elasticsearch.api_key") {
            self.secret("data_sources.elasticsearch.api_key", ELASTIC, "api_key_file", "elasticsearch.api_key");
            for key in ["data_sources.elasticsearch.username", "data_sources.elasticsearch.password"] {
                self.note_if(key, "left out: api_key is given as well");
            }
        } else if let Some(user) = config.text("data_sources.elasticsearch.username") {
            self.page.set(ELASTIC, "username", &json!(user));
            self.secret("data_sources.elasticsearch.password", ELASTIC, "password_file", "elasticsearch.password");
        }
        self.note_if("data_sources.elasticsearch.fetch_interval", "left out: the program slept for settings.collection_interval_seconds");
        self.pace(ELASTIC);
        self.verify("data_sources.elasticsearch.verify_certs", ELASTIC);
    }

    fn pace(&mut self, table: &str) {
        if let Some(seconds) = self.config.number("settings.collection_interval_seconds") {
            self.page.set(table, "fetch_every", &json!(format!("{}s", seconds.clamp(1.0, 86_400.0).round())));
        }
    }

    fn verify(&mut self, key: &str, table: &str) {
        if self.config.switch(key) == Some(false) {
            self.note(key, format!("left out: a certificate is always verified; name its CA in tls.ca of {table}"));
        }
    }

    fn models(&mut self) {
        self.page.remark(HANDLER, "wazuh_alert_level = 12  # alerts of Wazuh from this level on are alerts here");
        self.page.remark(HANDLER, "models = [\"mine\"]  # with [tables.mine], kind = \"model\": see docs/MIGRATING-APT.md");
        for (key, how) in [
            ("model_paths.lightgbm", "save it as text where it can still be loaded: `model.booster_.save_model(\"mine.txt\")`"),
            ("model_paths.bilstm", "convert it to ONNX where it can still be loaded"),
        ] {
            let what = format!(
                "left out: no pickle and no HDF5 is ever loaded, since either may run code; {how}, and name that in a table of kind model. The models that came with the program knew nothing of the values that it gave them"
            );
            self.note_if(key, &what);
        }
        self.note_if("model_paths.base_dir", "left out with the models");
    }

    fn detector(&mut self) {
        self.page.table(DETECTOR, &[("kind", r#""detector""#), ("inputs", r#"["apt.event"]"#)]);
        let name = |name: &str| format!("settings.behavioral_analytics.{name}");
        if let Some(minutes) = self.config.number(&name("time_window_minutes")) {
            let seconds = (minutes * 60.0).round().clamp(60.0, 86_400.0);
            self.page.set(DETECTOR, "window", &json!(format!("{seconds}s")));
        }
        let what = "left out: it was on a scale on which nothing passed 0.63. Here a score of 0.7 is one window in 100, 0.8 one in 1000, 0.9 one in 10,000; threshold is 0.7 unless set";
        self.note_if(&name("anomaly_threshold"), what);
        if let Some(days) = self.config.number(&name("baseline_period_days")) {
            self.page.set(DETECTOR, "baseline_period", &json!(format!("{}h", (days * 24.0).round().clamp(1.0, 8760.0))));
            let what = "is how long the detector remembers; what is usual is learnt from what comes, not from invented days";
            self.note(&name("baseline_period_days"), what);
        }
    }

    fn alerts(&mut self) {
        self.page.table(
            ALERTS,
            &[
                ("kind", r#""redis""#),
                ("inputs", r#"["apt", "detector"]"#),
                ("form", r#""alerts""#),
                ("url", r#""redis://localhost:6379""#),
            ],
        );
        self.page.note(
            "redis",
            "the program knew one place, localhost:6379 without a password; the list apt_detection:alerts stays readable, and each alert is there once",
        );
        if let Some(most) = self.within("settings.alerts.max_alerts", 10, 10_000_000) {
            self.page.set(ALERTS, "max_alerts", &json!(most));
            self.note("settings.alerts.max_alerts", "taken over; the program kept 1000, whatever it said");
        }
        if let Some(days) = self.config.number("settings.alerts.retention_days") {
            self.page.set(ALERTS, "retention", &json!(format!("{}d", days.round().clamp(1.0, 3650.0))));
            self.note("settings.alerts.retention_days", "taken over; the program let nothing expire");
        }
    }

    fn face(&mut self) {
        if !self.config.has("dashboard") {
            return;
        }
        let port = self.within("dashboard.port", 1, 65_535).unwrap_or(5000);
        self.page.set("api", "listen", &json!(format!("127.0.0.1:{port}")));
        let host = self.config.text("dashboard.host").unwrap_or("0.0.0.0");
        let what = match host {
            "127.0.0.1" | "localhost" | "::1" => "the same routes below /api/ are there; its pages are not".to_owned(),
            host => format!(
                "is {host:?}: anybody could read it, and train models by its URLs. Here it listens on this host alone, unless it has TLS and api.keys_file"
            ),
        };
        self.page.note("dashboard.host", what);
        self.note_if("dashboard.debug", "left out: there is no such mode");
    }

    fn rest(&mut self) {
        if let Some(level) = self.config.text("settings.log_level") {
            let level = match level.to_ascii_lowercase().as_str() {
                "debug" => "debug",
                "warning" | "warn" => "warn",
                "error" | "critical" => "error",
                _ => "info",
            };
            self.page.set("log", "level", &json!(level));
            self.note("settings.log_level", "taken over");
        }
        self.note_if("settings.overwrite_models", "left out: models are files that you replace");
        for (section, what) in [
            ("training_params", "left out: the agent trains no models of yours; train them where you like and name their files"),
            ("split_params", "left out with training_params"),
            ("data_paths", "left out: the agent trains no models of yours"),
        ] {
            if self.config.has(section) {
                let before = if section == "data_paths" { "" } else { "never did anything; " };
                self.page.note(section, format!("{before}{what}"));
            }
        }
        for name in ["wazuh", "elasticsearch"] {
            if self.config.has(&format!("data_sources.{name}")) && !self.is_on(name) {
                self.page.note(&format!("data_sources.{name}.enabled"), "is false, so no source is written for it");
            }
        }
        self.simulation();
    }

    /// The simulation is a command of its own here.
    fn simulation(&mut self) {
        let config = self.config;
        if !config.has("simulation") {
            return;
        }
        let mut command = String::from("shipper apt simulate");
        let mut add = |flag: &str, value: String| command.push_str(&format!(" --{flag} {value}"));
        if let Some(rate) = config.number("simulation.events.rate").filter(|rate| *rate > 0.0) {
            add("rate", rate.to_string());
        }
        for (key, flag) in [("simulation.entities.hosts.count", "hosts"), ("simulation.entities.users.count", "users")] {
            if let Some(count) = config.whole(key).filter(|count| *count > 0) {
                add(flag, count.to_string());
            }
        }
        if config.has("simulation.events.distribution") {
            let share = |name: &str, usual: f64| {
                let share = config.number(&format!("simulation.events.distribution.{name}")).unwrap_or(usual);
                (share * 100.0).round().clamp(0.0, 1_000_000.0).to_string()
            };
            add("weights", [share("network", 0.4), share("endpoint", 0.4), share("user", 0.2)].join(","));
        }
        let is_off = config.switch("simulation.scenarios.enabled") == Some(false);
        if let Some(word) = config.text("simulation.scenarios.frequency").filter(|word| matches!(*word, "low" | "medium" | "high")) {
            add("frequency", if is_off { "off".to_owned() } else { word.to_owned() });
        } else if is_off {
            add("frequency", "off".to_owned());
        }
        if let Some(count) = config.whole("simulation.scenarios.concurrent").filter(|count| *count > 0) {
            add("concurrent", count.to_string());
        }
        let hour = |name: &str, usual: i64| config.whole(&format!("simulation.time_patterns.business_hours.{name}")).unwrap_or(usual);
        if config.switch("simulation.time_patterns.enabled") == Some(true) {
            add("hours", format!("{}-{}", hour("start", 9).clamp(0, 23), hour("end", 17).clamp(0, 23)));
        }
        if let Some(word) = config.text("simulation.output.type").filter(|word| matches!(*word, "kafka" | "redis")) {
            add("output", word.to_owned());
        }
        self.page.note("simulation", format!("is a command here, beside the agent: `{command}`"));
        self.note_if(
            "simulation.output.redis_key",
            "was written into and never read; --output redis fills a stream, which source redis_stream reads",
        );
        for (key, what) in [
            ("simulation.realism_level", "left out"),
            ("simulation.entities.networks", "left out"),
            ("simulation.adaptive_behavior", "left out"),
        ] {
            if config.has(key) {
                self.page.note(key, format!("never did anything; {what}"));
            }
        }
        if config.has("simulation.time_patterns") {
            self.page.note("simulation.time_patterns", "never did anything; --hours makes them real, Monday to Friday, UTC");
        }
        for (key, usual) in [("simulation.entities.hosts.prefix", "host"), ("simulation.entities.users.prefix", "user")] {
            if config.text(key).is_some_and(|prefix| prefix != usual) {
                self.note(key, format!("left out: they are {usual}1, {usual}2, …"));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::{
        super::super::given::{Format, Given},
        *,
    };

    fn import(text: &str, indexer: Option<&str>, is_manager: bool) -> Written {
        let config = Config::of(&Given::parse(text, Format::Yaml).unwrap()).unwrap();
        written(&config, &Places { secrets: Path::new("/etc/shipper"), indexer, is_manager })
    }

    fn tables(written: &Written) -> &str {
        let at = written.toml.find("\n[").unwrap();
        written.toml[at..].trim_start()
    }

    #[test]
    fn the_file_that_came_with_the_program_becomes_this() {
        let text = "model_paths: {base_dir: models/, lightgbm: lightgbm_model.pkl, bilstm: bilstm_model.h5}\n\
                    training_params: {lightgbm: {num_leaves: 31}}\nsplit_params: {test_size: 0.2}\ndata_paths: {dataset: a.csv}\n\
                    kafka: {bootstrap_servers: localhost:9092, topic: apt_topic}\ndashboard: {host: 127.0.0.1, port: 5000, debug: true}\n\
                    settings: {overwrite_models: true, log_level: INFO}\n";
        let written = import(text, None, false);
        insta::assert_snapshot!(tables(&written), @r#"
        [log]
        level = "info"

        [api]
        listen = "127.0.0.1:5000"

        [sources.events]
        kind = "kafka"
        brokers = ["localhost:9092"]
        topics = ["apt_topic"]
        group = "apt_detection_group"

        [handlers.apt]
        kind = "apt"
        inputs = ["events"]
        # wazuh_alert_level = 12  # alerts of Wazuh from this level on are alerts here
        # models = ["mine"]  # with [tables.mine], kind = "model": see docs/MIGRATING-APT.md

        [stages.detector]
        kind = "detector"
        inputs = ["apt.event"]

        [sinks.alerts]
        kind = "redis"
        inputs = ["apt", "detector"]
        form = "alerts"
        url = "redis://localhost:6379"
        "#);
        for part in
            ["model_paths.lightgbm: left out: no pickle", "settings.log_level: never did anything; taken over", "split_params: never did"]
        {
            assert!(written.notes.iter().any(|note| note.starts_with(part)), "{part}: {:#?}", written.notes);
        }
    }

    #[test]
    fn kafka_with_everything_becomes_a_source_with_its_secrets_in_files() {
        let text = "kafka:\n  bootstrap_servers: [a.example:9093, b.example]\n  topics: [x, '^apt-.*']\n  group_id: soc\n  auto_offset_reset: latest\n  \
                    enable_auto_commit: false\n  session_timeout_ms: 45000\n  request_timeout_ms: 900000\n  consumer_timeout_ms: 60000\n  \
                    security_protocol: sasl_ssl\n  ssl_cafile: /ca.pem\n  ssl_check_hostname: false\n  sasl_mechanism: SCRAM-SHA-512\n  \
                    sasl_plain_username: soc\n  sasl_plain_password: hush\n  fetch_max_bytes: 52428800\n  compression_type: gzip\n  \
                    rdkafka: {fetch.wait.max.ms: 50, group.id: no}\n";
        let written = import(text, None, false);
        let source = tables(&written).split("\n\n").next().unwrap();
        insta::assert_snapshot!(source, @r#"
        [sources.events]
        kind = "kafka"
        brokers = ["a.example:9093", "b.example:9092"]
        topics = ["x", "^apt-.*"]
        group = "soc"
        start = "latest"
        commit_interval = "0"
        session_timeout = "45000ms"
        request_timeout = "300000ms"
        fetch_max_bytes = 52428800
        tls.enabled = true
        tls.ca = "/ca.pem"
        sasl.mechanism = "SCRAM-SHA-512"
        sasl.username = "soc"
        sasl.password_file = "/etc/shipper/kafka.password"
        options."fetch.wait.max.ms" = 50
        "#);
        assert!(!written.toml.contains("hush"));
        let told = written.notes.join("\n");
        for part in [
            "kafka.request_timeout_ms: never did anything; is 900000, ours is from 1000 to 300000: 300000 is written",
            "kafka.ssl_check_hostname: never did anything; left out: the broker's name is always verified",
            "kafka.rdkafka.group.id: left out",
            "kafka.sasl_plain_password: never did anything; is not shown here; put it, alone, into /etc/shipper/kafka.password",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
    }

    #[test]
    fn connectors_become_sources_and_the_api_of_wazuh_the_indexer() {
        let text = "data_sources:\n  wazuh: {api_url: 'https://wazuh.example:55000', username: wazuh, password: hush, verify_ssl: false}\n  \
                    elasticsearch: {hosts: ['es.example:9200'], username: elastic, password: hush, verify_certs: true, fetch_interval: 30}\n\
                    settings: {collection_interval_seconds: 30, behavioral_analytics: {time_window_minutes: 5, anomaly_threshold: 0.6}, \
                    alerts: {max_alerts: 500, retention_days: 30}}\n";
        let written = import(text, None, false);
        insta::assert_snapshot!(tables(&written), @r#"
        [sources.wazuh]
        kind = "opensearch"
        hosts = ["https://wazuh.example:9200"]
        indices = ["wazuh-alerts-4.x-*"]
        timestamp_field = "timestamp"
        username = "shipper"
        password_file = "/etc/shipper/wazuh-indexer.password"
        fetch_every = "30s"
        # the status of agents, which is what the API has (docs/OPERATING.md); take the signs away, put its password into the file,
        # and give a handler `forward` the input "agents":
        # [sources.agents]
        # kind = "wazuh_agents"
        # url = "https://wazuh.example:55000"
        # username = "wazuh"
        # password_file = "/etc/shipper/wazuh-api.password"

        [sources.elasticsearch]
        kind = "opensearch"
        hosts = ["http://es.example:9200"]
        indices = ["winlogbeat-*"]
        username = "elastic"
        password_file = "/etc/shipper/elasticsearch.password"
        fetch_every = "30s"

        [handlers.apt]
        kind = "apt"
        inputs = ["wazuh", "elasticsearch"]
        # wazuh_alert_level = 12  # alerts of Wazuh from this level on are alerts here
        # models = ["mine"]  # with [tables.mine], kind = "model": see docs/MIGRATING-APT.md

        [stages.detector]
        kind = "detector"
        inputs = ["apt.event"]
        window = "300s"

        [sinks.alerts]
        kind = "redis"
        inputs = ["apt", "detector"]
        form = "alerts"
        url = "redis://localhost:6379"
        max_alerts = 500
        retention = "30d"
        "#);
        assert!(!written.toml.contains("hush") && !written.notes.concat().contains("hush"));
        assert!(import(text, Some("https://u:p@i.example:9200"), false).toml.contains("hosts = [\"https://i.example:9200\"]"));
        let manager = import(text, None, true).toml;
        assert!(manager.contains("[sources.wazuh]\nkind = \"wazuh\"\n# the status of agents"), "{manager}");
        assert!(manager.contains("\n# password_file = \"/etc/shipper/wazuh-api.password\"\n\n[sources.elasticsearch]"), "{manager}");
        let cloud = import("data_sources: {elasticsearch: {cloud_id: 'c:ZQ==', api_key: hush}, wazuh: {enabled: false}}", None, false);
        assert!(
            cloud.toml.contains("cloud_id = \"c:ZQ==\"") && cloud.toml.contains("api_key_file = \"/etc/shipper/elasticsearch.api_key\"")
        );
        assert!(!cloud.toml.contains("hush") && cloud.notes.iter().any(|note| note.starts_with("data_sources.wazuh.enabled: is false")));
    }

    #[test]
    fn the_simulation_becomes_a_command() {
        let text = "simulation: {enabled: true, realism_level: basic, output: {type: redis, redis_key: 'apt:alerts'}, entities: {hosts: {count: 7, \
                    prefix: srv}, networks: {count: 3}}, events: {rate: 12, distribution: {network: 0.5}}, scenarios: {frequency: high, concurrent: 3}, \
                    time_patterns: {enabled: true, business_hours: {start: 8}}}\n";
        let told = import(text, None, false).notes.join("\n");
        let command =
            "`shipper apt simulate --rate 12 --hosts 7 --weights 50,40,20 --frequency high --concurrent 3 --hours 8-17 --output redis`";
        for part in [command, "simulation.realism_level: never did", "simulation.entities.networks: never did", "they are host1, host2"] {
            assert!(told.contains(part), "{part}\n{told}");
        }
    }
}
