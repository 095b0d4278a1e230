//! What `shipper import` prints, read back: our own config reader must take all of it.

use serde_json::Value;
use shipper::{
    cli::import::{
        dfn::{self, Imported},
        given::Format,
        keys::{KEYS, Kind},
        write::written,
    },
    register::{Node, SettingsError},
    topology::{Host, Plan, config::Config},
};

/// Everything that our own reader and planner say against an import.
pub(crate) fn objections(imported: &Imported) -> Vec<SettingsError> {
    let toml = written(imported).toml;
    let tree = Node::parse_toml(&toml).unwrap_or_else(|e| panic!("no TOML: {e}\n{toml}"));
    let host = Host { name: "manager".into(), embedded: None };
    Plan::build(Config::read(tree, std::iter::empty(), &[], &host)).err().unwrap_or_default().0
}

/// An import is taken as it is, but for the topic where upstream had none.
pub(crate) fn assert_taken(what: &str, imported: &Imported) {
    let topic = imported.value("dfn.dfn_id").as_str().is_some_and(|id| !id.is_empty());
    let mut objections = objections(imported);
    if !topic {
        let before = objections.len();
        objections.retain(|error| !(error.key == "sinks.dfn_cert.topic" && error.what.starts_with("must be set")));
        assert_eq!(before, objections.len() + 1, "{what}: a missing topic must be told");
    }
    assert!(objections.is_empty(), "{what}: {objections:#?}\n{}", written(imported).toml);
}

fn yaml(text: &str) -> Imported {
    dfn::read(Some((text, Format::Yaml)), &[], &[]).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn an_import_of_each_form_is_taken_by_our_own_reader() {
    for text in [
        "dfn: {}\n",
        "dfn: {dfn_id: a, dfn_cert: \"\"}\n",
        "dfn: {dfn_id: a, dfn_broker: \"k, [::1], ::1, fe80::1%eth0, b:9093\"}\n",
        "dfn: {dfn_id: a, dfn_cert: \"a\\u007f\\\"\\\\\\n\", dfn_key: k}\n",
        "dfn: {dfn_id: a}\nkafka: {producer_config: {linger_ms: 5, linger.ms: 6, reconnect.backoff.max.ms: 9, max_batch_size: 1, \
         acks: 1, sasl.mechanism: PLAIN, sasl.username: u, ssl.key.password: p, max_in_flight_requests_per_connection: 50, \
         socket.keepalive.enable: true, batch.num.messages: 1e3, compression_type: none}, max_wait_time: 7}\n",
        "dfn: {dfn_id: a}\nhealth: {api: {enabled: true, host: 0.0.0.0, https_enabled: true, cert_file: c, key_file: k, auth_token: 0123456789abcdef}}\n",
        "dfn: {dfn_id: a}\nhealth: {api: {enabled: true, host: \"[::1]\", port: 1}}\n",
        "dfn: {dfn_id: a}\nwazuh: {unix_socket_path: [localhost, 1514], integration_name: \"a b\", max_event_size: 1}\n",
        "dfn: {dfn_id: a}\nlog: {console: false, file_path: \"\"}\nwazuh: {failed_alerts_path: \"\", integration_name: \"\"}\n",
        "dfn: {dfn_id: a}\nmisc: {own_network: \"2001:db8::/32\"}\n",
        "dfn: {dfn_id: a}\nmisc: {own_network: 10.0.0.0/255.0.0.0}\n",
    ] {
        assert_taken(text, &yaml(text));
    }
}

#[test]
fn every_number_may_be_as_small_and_as_large_as_upstream_takes_it() {
    for key in KEYS {
        let Kind::Int(min, max) = key.kind else { continue };
        for value in [min, max, 1, 65_536] {
            if !(min..=max).contains(&value) {
                continue;
            }
            let env = [(key.variable.to_owned(), value.to_string()), ("HEALTH_HTTP_SERVER_ENABLED".to_owned(), "true".to_owned())];
            // A threshold that does not fit its sister is upstream's own error.
            if let Ok(imported) = dfn::read(None, &[], &env) {
                assert_taken(&format!("{} = {value}", key.name), &imported);
            }
        }
    }
}

#[test]
fn what_is_left_of_a_key_is_never_nothing() {
    let whole = yaml("dfn: {dfn_id: cust-1, dfn_broker: \"k:9093\", dfn_cert: /c, dfn_key: /k, dfn_ca: /ca}\nlog: {console: off}\n");
    let notes = written(&whole).notes;
    assert!(notes.iter().any(|note| note.starts_with("log.console: left out")), "{notes:?}");
    let toml: Value = toml::from_str::<toml::Table>(&written(&whole).toml).map(|t| serde_json::to_value(t).unwrap()).unwrap();
    assert_eq!(toml["sinks"]["dfn_cert"]["brokers"], serde_json::json!(["k:9093"]));
    assert_eq!(toml["sinks"]["dfn_cert"]["tls"], serde_json::json!({"ca": "/ca", "cert": "/c", "key": "/k"}));
}
