//! `shipper import apt`: what a file of the APT detection system becomes, and that the agent takes it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use shipper::{
    register::Node,
    topology::{Host, Plan, config::Config},
};

const SECRET: &str = "hush-hush";

fn import(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shipper")).args(["import", "apt"]).args(args).current_dir(dir).env_clear().output().unwrap()
}

/// What is printed for a file, which must be a plan.
#[track_caller]
fn taken(dir: &Path, args: &[&str]) -> String {
    let done = import(dir, args);
    let (toml, notes) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert!(done.status.success(), "{notes}");
    assert!(!toml.contains(SECRET) && !notes.contains(SECRET), "{notes}\n{toml}");
    for note in notes.lines() {
        assert!(toml.contains(&format!("# {note}")), "every note stands above the config too: {note}");
    }
    let tree = Node::parse_toml(&toml).unwrap_or_else(|errors| panic!("{errors}\n{toml}"));
    let host = Host { name: "host".into(), embedded: None };
    if let Err(errors) = Plan::build(Config::read(tree, std::iter::empty(), &[], &host)) {
        panic!("{errors}\n{toml}");
    }
    toml
}

/// A file with every key that means something.
fn whole() -> String {
    format!(
        r#"
model_paths: {{base_dir: models/, lightgbm: lightgbm_model.pkl, bilstm: bilstm_model.h5}}
training_params: {{lightgbm: {{num_leaves: 31}}}}
data_sources:
  wazuh: {{enabled: true, api_url: "https://wazuh.example:55000", username: wazuh, password: {SECRET}, verify_ssl: false, fetch_interval: 60}}
  elasticsearch: {{hosts: ["https://es.example:9200"], index_pattern: "winlogbeat-*", username: elastic, password: {SECRET}}}
kafka:
  bootstrap_servers: [a.example:9093, b.example:9093]
  topic: apt_topic
  group_id: soc
  auto_offset_reset: latest
  enable_auto_commit: false
  session_timeout_ms: 45000
  request_timeout_ms: 30000
  security_protocol: SASL_SSL
  ssl_cafile: /etc/ssl/ca.pem
  ssl_certfile: /etc/ssl/c.pem
  ssl_keyfile: /etc/ssl/c.key
  ssl_key_password: {SECRET}
  sasl_mechanism: SCRAM-SHA-256
  sasl_plain_username: soc
  sasl_plain_password: {SECRET}
  fetch_max_bytes: 52428800
  max_partition_fetch_bytes: 1048576
  rdkafka: {{fetch.wait.max.ms: 50}}
dashboard: {{host: 0.0.0.0, port: 5000, debug: false}}
settings:
  log_level: DEBUG
  collection_interval_seconds: 30
  behavioral_analytics: {{baseline_period_days: 7, anomaly_threshold: 0.6, time_window_minutes: 5}}
  alerts: {{max_alerts: 5000, retention_days: 30}}
simulation: {{enabled: true, events: {{rate: 5}}}}
"#
    )
}

#[test]
fn a_file_with_everything_becomes_a_config_that_the_agent_takes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.yaml"), whole()).unwrap();
    let toml = taken(dir.path(), &["config.yaml"]);
    for part in [
        "sasl.password_file = \"/etc/shipper/kafka.password\"",
        "tls.key_password_file = \"/etc/shipper/kafka-key.password\"",
        "hosts = [\"https://wazuh.example:9200\"]",
        "inputs = [\"events\", \"wazuh\", \"elasticsearch\"]",
        "window = \"300s\"",
        "max_alerts = 5000",
        "retention = \"30d\"",
        "listen = \"127.0.0.1:5000\"",
        "# training_params: never did anything",
        "# simulation: is a command here, beside the agent: `shipper apt simulate --rate 5`",
    ] {
        assert!(toml.contains(part), "{part}\n{toml}");
    }
    let manager = taken(dir.path(), &["--manager", "config.yaml"]);
    assert!(manager.contains("[sources.wazuh]\nkind = \"wazuh\"\n"), "{manager}");
    let elsewhere = taken(dir.path(), &["--indexer", "https://i.example:9200", "--secrets", "/run/secrets", "config.yaml"]);
    assert!(elsewhere.contains("\"https://i.example:9200\"") && elsewhere.contains("\"/run/secrets/kafka.password\""), "{elsewhere}");
}

#[test]
fn a_file_with_little_in_it_becomes_a_config_that_the_agent_takes() {
    let dir = tempfile::tempdir().unwrap();
    for text in [
        "",
        "kafka: {topic: t}\n",
        "data_sources: {wazuh: {enabled: false}}\n",
        "data_sources: {elasticsearch: {cloud_id: 'x:ZXhhbXBsZS5jb20kYWJj', api_key: hush-hush}}\n",
    ] {
        fs::write(dir.path().join("config.yaml"), text).unwrap();
        taken(dir.path(), &["config.yaml"]);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_key_and_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("wrong.yaml"), format!("kafka: {{topic: [x], sasl_plain_password: [{SECRET}]}}\n")).unwrap();
    fs::write(dir.path().join("broken.yaml"), "kafka: [\n").unwrap();
    fs::write(dir.path().join("whole.yaml"), whole()).unwrap();
    for (args, code, part) in [
        (&["wrong.yaml"][..], 78, "kafka.topic: is a list; it must be text\nkafka.sasl_plain_password: must be text"),
        (&["broken.yaml"], 78, "broken.yaml: "),
        (&["nowhere.yaml"], 78, "cannot read nowhere.yaml"),
        (&["--manager", "--indexer", "https://i", "whole.yaml"], 64, "say one of them"),
    ] {
        let done = import(dir.path(), args);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(code) && said.contains(part) && !said.contains(SECRET), "{args:?}: {:?} {said}", done.status);
        assert!(done.stdout.is_empty());
    }
    let done = import(dir.path(), &["--json", "whole.yaml"]);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&told["accepted"]["kafka.topic"], &told["accepted"]["kafka.sasl_plain_password"]), (&"apt_topic".into(), &"***".into()));
    assert!(!told.to_string().contains(SECRET));
}
