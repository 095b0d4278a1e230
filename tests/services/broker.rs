//! The real brokers: their addresses, and what an administrator does to them.

use std::{env, path::PathBuf, process::Command};

/// Value of a variable that `tools/services env` gives; says once that the test skips without it.
pub fn given(name: &str) -> Option<String> {
    let value = env::var(name).ok();
    if value.is_none() {
        eprintln!("skipped: {name} is not set; the parts services, influx, opensearch and scan of tools/test start what sets it");
    }
    value
}

/// Runs `tools/services` with the services' folder of this run.
#[track_caller]
pub fn services(args: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/services");
    let done = Command::new(script).args(args).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "tools/services {args:?}: {text}");
    text
}

/// Makes a topic; `more` are further arguments of Kafka's own tool.
#[track_caller]
pub fn make_topic(service: &str, topic: &str, partitions: u32, more: &[&str]) {
    let partitions = partitions.to_string();
    let mut args = vec!["tool", service, "topics", "--create", "--topic", topic, "--partitions", &partitions];
    args.extend(more);
    services(&args);
}

/// Allows `user` to write a topic and to read it.
#[track_caller]
pub fn allow(topic: &str, user: &str) {
    let principal = format!("User:{user}");
    let args = ["tool", "kafka-tls", "acls", "--add", "--allow-principal", &principal];
    services(&[&args[..], &["--operation", "Write", "--operation", "Describe", "--topic", topic]].concat());
}

/// A file of the services' certificates.
pub fn certificate(name: &str) -> PathBuf {
    PathBuf::from(env::var("SERVICES_CERTS").expect("tools/services env gives SERVICES_CERTS")).join(name)
}
