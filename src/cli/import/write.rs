//! Writes an imported wazuh-dfn configuration as ours, and says what became of every key.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    dfn::Imported,
    keys::{self, KEYS, Ours, Renamed, Shape},
    values,
};

/// Our configuration and what the operator should know about it.
#[derive(Clone, Debug)]
pub struct Written {
    /// A whole configuration, the notes as comments above it.
    pub toml: String,
    /// What was left out or changed, and why; one sentence each, `key: what`.
    pub notes: Vec<String>,
}

/// The tables in the order written, with what they always hold.
const TABLES: &[(&str, &[(&str, &str)])] = &[
    ("log", &[]),
    ("api", &[]),
    ("dead_letter", &[]),
    ("health", &[]),
    ("sources.alerts", &[("kind", r#""wazuh""#)]),
    ("sources.agent", &[("kind", r#""agent""#)]),
    ("handlers.dfn", &[("kind", r#""dfn""#), ("inputs", r#"["alerts", "agent"]"#)]),
    ("sinks.dfn_cert", &[("kind", r#""kafka""#), ("inputs", r#"["dfn"]"#)]),
    ("sinks.manager", &[("kind", r#""wazuh_queue""#), ("inputs", r#"["dfn.confirm"]"#)]),
];

const HEAD: &str = "\
# Written by `shipper import dfn` from a wazuh-dfn configuration.
# Read the notes, then run `shipper check --config` on this file before the agent starts with it.
";

/// Writes our configuration.
pub fn written(imported: &Imported) -> Written {
    let mut writing = Writing { imported, settings: Vec::new(), notes: Vec::new() };
    for key in KEYS {
        writing.key(key);
    }
    writing.kafka();
    writing.manager();
    writing.api();
    if let Some(net) = imported.value("misc.own_network").as_str().and_then(|text| values::network(text).ok()) {
        writing.set("handlers.dfn", "own_networks", &json!([net.to_string()]));
    }
    writing.finish()
}

struct Writing<'i> {
    imported: &'i Imported,
    settings: Vec<(&'static str, String, String)>,
    notes: Vec<String>,
}

impl Writing<'_> {
    fn set(&mut self, table: &'static str, name: impl Into<String>, value: &Value) {
        self.settings.push((table, name.into(), toml_value(value)));
    }

    fn note(&mut self, key: &str, what: impl AsRef<str>) {
        self.notes.push(format!("{key}: {}", what.as_ref()));
    }

    fn text(&self, name: &str) -> String {
        self.imported.value(name).as_str().unwrap_or_default().to_owned()
    }

    fn key(&mut self, key: &'static keys::Key) {
        let value = self.imported.value(key.name);
        let given = self.imported.is_given(key.name);
        let (table, name, shape) = match key.ours {
            Ours::Always(table, name, shape) => (table, name, shape),
            Ours::Given(table, name, shape) if given => (table, name, shape),
            Ours::Out(why) if given => return self.note(key.name, format!("left out: {why}")),
            Ours::Given(..) | Ours::Out(_) | Ours::Part => return,
        };
        if value.is_null() {
            return; // the topic's absence is told with the rest of Kafka
        }
        let seconds = value.as_i64().unwrap_or_default();
        let shaped = match shape {
            Shape::Same => value,
            Shape::Seconds => json!(format!("{seconds}s")),
            Shape::Millis => json!(seconds.saturating_mul(1000)),
            Shape::List => json!(values::brokers(value.as_str().unwrap_or_default()).unwrap_or_default()),
            Shape::Level => json!(match value.as_str().unwrap_or_default() {
                "DEBUG" => "debug",
                "WARNING" => "warn",
                "ERROR" | "CRITICAL" => "error",
                _ => "info",
            }),
        };
        self.set(table, name, &shaped);
    }

    fn kafka(&mut self) {
        let sink = "sinks.dfn_cert";
        if self.text("dfn.dfn_id").is_empty() {
            self.note("dfn.dfn_id", "not set, and wazuh-dfn does not start without it: set sinks.dfn_cert.topic");
        }
        if !self.imported.is_given("dfn.dfn_broker") {
            self.note("dfn.dfn_broker", "not set: sinks.dfn_cert.brokers is wazuh-dfn's example, which is no real broker");
        }
        let (ca, cert, key) = (self.text("dfn.dfn_ca"), self.text("dfn.dfn_cert"), self.text("dfn.dfn_key"));
        if cert.is_empty() || key.is_empty() {
            self.note("dfn.dfn_cert", "certificate or key is empty: messages go out as PLAINTEXT, readable by everyone on the way");
        } else {
            if ca.is_empty() {
                self.note("dfn.dfn_ca", "not set: the system's certificates vouch for the broker");
            } else {
                self.set(sink, "tls.ca", &json!(ca));
                self.note("dfn.dfn_ca", "now vouches for the broker; wazuh-dfn only compared names with it and trusted the system's store");
            }
            self.set(sink, "tls.cert", &json!(cert));
            self.set(sink, "tls.key", &json!(key));
        }
        let options = self.imported.value("kafka.producer_config");
        let codec =
            ["compression_type", "compression.type"].into_iter().find_map(|name| Some(options.get(name)?.as_str().unwrap_or("none")));
        let codec = codec.map_or_else(|| self.text("kafka.compression_type"), str::to_owned);
        self.set(sink, "compression", &json!(codec));
        if !self.imported.is_given("kafka.producer_config") {
            return;
        }
        for (name, value) in options.as_object().into_iter().flatten() {
            let told = format!("kafka.producer_config.{name}");
            if name.contains("password") || name.contains("secret") || name.contains("token") {
                self.note(&told, "left out: it is a secret; put it into a file and name that (tls.key_password_file, sasl.password_file)");
                continue;
            }
            match keys::option(name) {
                Some(Renamed::To(_)) if value.is_null() => self.note(&told, "left out: null means the default"),
                Some(Renamed::To("")) => self.set(sink, format!("options.{}", quoted(name)), value),
                Some(Renamed::To(ours)) => {
                    self.set(sink, format!("options.{}", quoted(ours)), value);
                    self.note(&told, format!("is librdkafka's {ours}"));
                }
                Some(Renamed::Out(why)) => self.note(&told, format!("left out: {why}")),
                None => self.note(&told, "left out: nobody knows it"),
            }
        }
    }

    fn manager(&mut self) {
        match self.imported.value("wazuh.unix_socket_path") {
            Value::String(path) => self.set("sinks.manager", "path", &json!(path)),
            _ => self.note(
                "wazuh.unix_socket_path",
                "left out: host and port are for Windows; confirmations go to the manager's socket on this host",
            ),
        }
    }

    fn api(&mut self) {
        let on = self.imported.value("health.api.enabled") == Value::Bool(true);
        if !on {
            let given = self.imported.given().any(|(key, ..)| key.name.starts_with("health.api.") && matches!(key.ours, Ours::Part));
            if given {
                self.note("health.api.enabled", "is false: the API is off and its keys are left out; api.listen switches it on");
            }
            return;
        }
        let host = self.text("health.api.host");
        let bare = if host == "localhost" { "127.0.0.1" } else { host.trim_matches(['[', ']']) };
        let port = self.imported.value("health.api.port").as_u64().and_then(|n| u16::try_from(n).ok()).unwrap_or(8080);
        match bare.parse::<std::net::IpAddr>() {
            Ok(address) => {
                self.set("api", "listen", &json!(std::net::SocketAddr::new(address, port).to_string()));
                if !address.is_loopback() {
                    self.note("health.api.host", "is not loopback: the API listens there only with api.tls and api.keys_file");
                }
            }
            Err(_) => {
                self.note("health.api.host", format!("left out: {host:?} is no address; set api.listen to an address and the port {port}"))
            }
        }
        if self.imported.value("health.api.https_enabled") == Value::Bool(true) {
            self.set("api", "tls.cert", &json!(self.text("health.api.cert_file")));
            self.set("api", "tls.key", &json!(self.text("health.api.key_file")));
        }
        if !self.text("health.api.auth_token").is_empty() {
            self.note(
                "health.api.auth_token",
                "left out: secrets do not stand in a configuration; put it into a file of mode 0600 and name that in api.keys_file",
            );
        }
    }

    fn finish(self) -> Written {
        let mut toml = String::from(HEAD);
        for note in &self.notes {
            let _ = write!(toml, "#\n# {}\n", note.replace('\n', " ")); // writing to a String cannot fail
        }
        for (table, always) in TABLES {
            let settings: Vec<_> = self.settings.iter().filter(|(of, ..)| of == table).collect();
            if always.is_empty() && settings.is_empty() {
                continue;
            }
            let _ = write!(toml, "\n[{table}]\n");
            for (name, value) in always.iter().copied().chain(settings.iter().map(|(_, name, value)| (name.as_str(), value.as_str()))) {
                let _ = writeln!(toml, "{name} = {value}");
            }
            if *table == "sinks.dfn_cert" && !settings.iter().any(|(_, name, _)| name == "topic") {
                toml.push_str("# topic = \"\"  # must be set: the customer id\n");
            }
        }
        Written { toml, notes: self.notes }
    }
}

/// Text as a TOML string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::{dfn::read, given::Format};

    fn import(yaml: &str) -> Written {
        written(&read(Some((yaml, Format::Yaml)), &[], &[]).unwrap_or_else(|e| panic!("{e}")))
    }

    const WHOLE: &str = r#"
dfn: {dfn_broker: "k1:9093,k2:9093", dfn_cert: /c.pem, dfn_key: /k.pem, dfn_ca: /ca.pem, dfn_id: cust-1}
wazuh: {unix_socket_path: /run/q, max_event_size: 1000, json_alert_prefix: "{", retry_interval: 2, failed_alerts_path: /f, integration_name: soc}
kafka: {timeout: 30, send_max_retries: 9, max_wait_time: 15, compression_type: lz4, producer_config: {linger_ms: 50, "batch.num.messages": 100, acks: 1, "sasl.password": hush}}
log: {console: off, level: WARNING, file_path: /var/log/dfn.log}
health: {stats_interval: 60, worker_stall_threshold: 30, api: {enabled: true, host: localhost, port: 9001, auth_token: s3cret}}
misc: {num_workers: 3, own_network: 10.0.0.0/255.0.0.0}
"#;

    #[test]
    fn a_whole_import_reads_like_this() {
        insta::assert_snapshot!(import(WHOLE).toml);
    }

    #[test]
    fn what_is_written_is_toml_and_holds_no_secret() {
        for yaml in [
            WHOLE,
            "dfn: {}\n",
            "dfn: {dfn_id: a, dfn_cert: \"a\\u007f\\\"\\\\\\n\", dfn_broker: k}\nhealth: {api: {enabled: true, host: h}}\n",
        ] {
            let got = import(yaml);
            toml::from_str::<toml::Table>(&got.toml).unwrap_or_else(|e| panic!("{e}\n{}", got.toml));
            assert!(!got.toml.contains("s3cret") && !got.toml.contains("hush"), "{}", got.toml);
        }
    }

    #[test]
    fn every_given_key_is_written_or_named() {
        for key in KEYS.iter().filter(|key| matches!(key.ours, Ours::Out(_))) {
            let env = [(key.variable.to_owned(), key.default.trim_matches('"').replace("\\\"", "\""))];
            let imported = read(None, &[], &env).unwrap_or_else(|e| panic!("{}: {e}", key.name));
            let notes = written(&imported).notes;
            assert!(notes.iter().any(|note| note.starts_with(&format!("{}: ", key.name))), "{}", key.name);
        }
    }

    #[test]
    fn plaintext_is_said_aloud() {
        assert!(import("dfn: {dfn_cert: \"\", dfn_id: a}\n").notes.iter().any(|note| note.contains("PLAINTEXT")));
    }
}
