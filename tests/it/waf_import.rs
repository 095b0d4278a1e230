//! `shipper import waf`: what an environment of the realtime processor becomes, and that the agent takes it.

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
    Command::new(env!("CARGO_BIN_EXE_shipper")).args(["import", "waf"]).args(args).current_dir(dir).env_clear().output().unwrap()
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

#[test]
fn an_environment_becomes_a_config_that_the_agent_takes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("waf.env"),
        format!("KAFKA_BROKERS=a.example:9092,b.example:9092\nINFLUXDB_URL=http://i.example:8086/\nINFLUXDB_TOKEN={SECRET}\nGEOIP_DB_PATH=/var/lib/GeoIP/GeoLite2-City.mmdb\nLOG_LEVEL=debug\n"),
    )
    .unwrap();
    let toml = taken(dir.path(), &["waf.env"]);
    for part in ["kind = \"kafka\"", "layout = \"upstream\"", "url = \"http://i.example:8086\"", "geoip = \"geo\"", "level = \"debug\""] {
        assert!(toml.contains(part), "{part}\n{toml}");
    }
    fs::write(dir.path().join("redis.env"), format!("REDIS_URL=redis://:{SECRET}@r.example:6379/2\n")).unwrap();
    let toml = taken(dir.path(), &["redis.env"]);
    assert!(toml.contains("kind = \"redis_stream\"") && toml.contains("list = \"waf:alerts\""), "{toml}");
}

#[test]
fn a_compose_file_is_taken_by_its_service() {
    let dir = tempfile::tempdir().unwrap();
    let compose = format!(
        "services:\n  kafka: {{ports: ['127.0.0.1:19092:9092']}}\n  waf-influxdb: {{ports: ['8086:8086']}}\n  realtime-processor:\n    environment:\n      - KAFKA_BROKERS=kafka:9092\n      - INFLUXDB_TOKEN={SECRET}\n    volumes: ['./geo:/data']\n"
    );
    fs::write(dir.path().join("docker-compose.yml"), compose).unwrap();
    let toml = taken(dir.path(), &["docker-compose.yml"]);
    assert!(toml.contains("brokers = [\"127.0.0.1:19092\"]"), "{toml}");
}

#[test]
fn a_wrong_use_is_told_with_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yml"), "services: {a: {}, b: {}}\n").unwrap();
    for (args, code, part) in [
        (&[][..], 64, "no file named"),
        (&["c.yml", "--format", "toml"], 64, "it must be compose or env"),
        (&["c.yml"], 78, "none of a, b has INFLUXDB_TOKEN"),
        (&["d.env"], 78, "cannot read d.env"),
    ] {
        let done = import(dir.path(), args);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
        assert!(done.stdout.is_empty());
    }
}
