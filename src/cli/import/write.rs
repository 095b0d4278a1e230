//! Writes an imported wazuh-dfn configuration as ours, and says what became of every key.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{
    dfn::Imported,
    keys::{self, KEYS, Ours, Shape},
    options::{Taken, taken},
    page::{Page, Written, quoted},
    values,
};

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

/// Where Debian keeps the certificates of the CAs that it trusts.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The port that Kafka's clients take where none is written.
const KAFKA_PORT: u16 = 9092;

/// Writes our configuration.
pub fn written(imported: &Imported) -> Written {
    let mut writing = Writing { imported, page: Page::default() };
    for (table, settings) in TABLES {
        writing.page.table(*table, settings);
    }
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
    page: Page,
}

impl Writing<'_> {
    fn set(&mut self, table: &str, name: impl Into<String>, value: &Value) {
        self.page.set(table, name, value);
    }

    fn note(&mut self, key: &str, what: impl AsRef<str>) {
        self.page.note(key, what);
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
        let text = value.as_str().unwrap_or_default();
        let out = |what: &str| Err(format!("left out: {what}"));
        let at_most = |max: i64| {
            let given = value.as_i64().unwrap_or_default();
            (given.min(max), if given > max { format!("is {given}, ours is at most {max}") } else { String::new() })
        };
        let shaped = match shape {
            Shape::Same => Ok((value, String::new())),
            Shape::Seconds(max) => {
                let (seconds, told) = at_most(max);
                Ok((json!(format!("{seconds}s")), told))
            }
            Shape::Millis(max) => {
                let (seconds, told) = at_most(max);
                Ok((json!(seconds * 1000), told))
            }
            Shape::Brokers => Ok(brokers(text)),
            Shape::Bytes => {
                let given = value.as_i64().unwrap_or_default();
                let bytes = given.clamp(1024, 65_535);
                Ok((json!(bytes), if bytes == given { String::new() } else { format!("is {given}, ours is from 1024 to 65535") }))
            }
            Shape::Filled if text.is_empty() => out("it is empty"),
            Shape::Filled => Ok((value, String::new())),
            Shape::Name if is_name(text) => Ok((value, String::new())),
            Shape::Name => out("our name has 1 to 64 letters, digits, dots, dashes and underscores; confirmations say \"dfn\""),
            Shape::Level => Ok((
                json!(match text {
                    "DEBUG" => "debug",
                    "WARNING" => "warn",
                    "ERROR" | "CRITICAL" => "error",
                    _ => "info",
                }),
                String::new(),
            )),
        };
        let (shaped, told) = match shaped {
            Ok(shaped) => shaped,
            Err(told) => return self.note(key.name, told),
        };
        if !told.is_empty() {
            self.note(key.name, told);
        }
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
                self.set(sink, "tls.ca", &json!(SYSTEM_CAS));
                let what =
                    format!("not set: the system's certificates vouch for the broker, as before; {SYSTEM_CAS} is where Debian has them");
                self.note("dfn.dfn_ca", what);
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
            match taken(name, value) {
                Taken::Setting(setting, value) => {
                    self.set(sink, setting, &value);
                    self.note(&told, format!("is sinks.dfn_cert.{setting}"));
                }
                Taken::Option(ours, value) => {
                    self.set(sink, format!("options.{}", quoted(&ours)), &value);
                    if ours != *name {
                        self.note(&told, format!("is librdkafka's {ours}"));
                    }
                }
                Taken::Out(why) => self.note(&told, format!("left out: {why}")),
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
        let asked: Option<IpAddr> = bare.parse().ok();
        let address = match asked.filter(IpAddr::is_loopback) {
            Some(loopback) => loopback,
            None => {
                let what =
                    format!("{host:?} is not loopback, and ours listens only there; let a proxy with TLS and a login stand before it");
                self.note("health.api.host", what);
                Ipv4Addr::LOCALHOST.into()
            }
        };
        self.set("api", "listen", &json!(SocketAddr::new(address, port).to_string()));
        if self.imported.value("health.api.https_enabled") == Value::Bool(true) {
            self.note("health.api.https_enabled", "left out: on loopback there is no TLS; a proxy before it has the certificate");
        }
        if !self.text("health.api.auth_token").is_empty() {
            self.note("health.api.auth_token", "left out: on loopback nobody is asked for it; a proxy before it may ask");
        }
    }

    fn finish(mut self) -> Written {
        if !self.page.has("sinks.dfn_cert", "topic") {
            self.page.remark("sinks.dfn_cert", "topic = \"\"  # must be set: the customer id");
        }
        self.page.written(HEAD)
    }
}

/// The brokers, each with its port, and what to tell of those that had none.
fn brokers(text: &str) -> (Value, String) {
    let mut portless = Vec::new();
    let mut named = Vec::new();
    for broker in values::brokers(text).unwrap_or_default() {
        let host = match broker.rsplit_once(':') {
            None => Some(broker.clone()),
            Some(_) if broker.ends_with(']') => Some(broker.clone()),
            // An IPv6 address without brackets.
            Some((before, _)) if before.contains(':') && !before.ends_with(']') => Some(format!("[{broker}]")),
            Some(_) => None,
        };
        named.push(host.map_or_else(
            || broker.clone(),
            |host| {
                portless.push(broker.clone());
                format!("{host}:{KAFKA_PORT}")
            },
        ));
    }
    let told =
        if portless.is_empty() { String::new() } else { format!("{} has no port; {KAFKA_PORT} is Kafka's own", portless.join(", ")) };
    (json!(named), told)
}

/// What `handlers.dfn.confirm.integration` takes.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
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
