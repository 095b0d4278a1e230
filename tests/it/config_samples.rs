//! Every configuration that we hand out, read by the real reader: the packaged one, those in the
//! pages, and the page of all settings, which is held equal to the tables.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use shipper::{
    cli::{import::given::Given, manual::manual},
    register::{Errors, Node},
    topology::{Host, Plan, config::Config},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(text: &str) -> Config {
    let tree = Node::parse_toml(text).unwrap_or_else(|e| panic!("no TOML: {e}\n{text}"));
    Config::read(tree, std::iter::empty(), &[], &Host { name: "host".into(), embedded: None })
}

fn plan(text: &str) -> Result<Plan, Errors> {
    Plan::build(read(text))
}

/// Takes the comment sign off every line that is a setting or a table: `#name = …`, `#[table]`.
fn switched_on(text: &str) -> String {
    let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    text.lines().map(|line| if is_setting(&line) { &line[1..] } else { line }).fold(String::new(), |all, line| all + line + "\n")
}

/// The blocks of TOML in a page, each with its line.
fn fences(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (n, line) in page.lines().enumerate() {
        match &mut open {
            Some(_) if line.starts_with("```") => found.extend(open.take()),
            Some((_, text)) => *text += &format!("{line}\n"),
            None if line.starts_with("```toml") => open = Some((n + 2, String::new())),
            None => {}
        }
    }
    assert!(open.is_none(), "a block of TOML has no end");
    found
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

#[test]
fn the_packaged_config_ships_nothing_until_broker_and_topic_are_set() {
    let errors = plan(&text_of(&root().join("packaging/shipper.toml"))).expect_err("a fresh install must not start");
    let keys: Vec<_> = errors.0.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["sinks.dfn_cert.brokers", "sinks.dfn_cert.topic"], "{errors}");
    assert!(errors.0.iter().all(|error| error.what.starts_with("must be set")), "{errors}");
}

#[test]
fn the_packaged_config_is_right_with_all_its_settings_switched_on() {
    let text = switched_on(&text_of(&root().join("packaging/shipper.toml")));
    assert!(!text.contains("\n#kind") && text.contains("\nbrokers = "), "{text}");
    plan(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
}

#[test]
fn the_sample_for_a_firewall_writes_nothing_until_a_database_is_named_and_is_right_with_all_its_settings() {
    let text = text_of(&root().join("packaging/waf.toml"));
    let errors = plan(&text).expect_err("nothing is written by accident");
    assert!(errors.0.iter().all(|error| error.key.starts_with("sinks.influx.")), "{errors}");
    let text = switched_on(&text);
    assert!(!text.contains("\n#kind") && text.contains("\nbucket = "), "{text}");
    plan(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
}

#[test]
fn the_sample_for_detection_reads_nothing_until_brokers_are_named_and_is_right_with_all_its_settings() {
    let text = text_of(&root().join("packaging/apt.toml"));
    let errors = plan(&text).expect_err("nothing is read by accident");
    let keys: Vec<_> = errors.0.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["sources.events.brokers"], "{errors}");
    let text = switched_on(&text).replace(r#"inputs = ["events"]"#, r#"inputs = ["events", "alerts", "indexer"]"#);
    let text = text
        .replace(r#"["apt.event"]"#, r#"["apt.event", "sigma.event"]"#)
        .replace(r#"["apt", "detector"]"#, r#"["apt", "detector", "sigma"]"#);
    assert!(!text.contains("\n#kind") && text.contains("\nindices = ") && text.contains("\nrules = "), "{text}");
    plan(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
}

#[test]
fn the_sample_for_scanning_is_right_as_it_is_and_with_all_its_settings() {
    let text = text_of(&root().join("packaging/scan.toml"));
    let found = plan(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(found.scan.map(|scan| scan.settings.roots.len()), Some(1));
    let text = switched_on(&text);
    assert!(!text.contains("\n#kind") && text.contains("\nquarantine = ") && text.contains("\ntls = "), "{text}");
    plan(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
}

#[test]
fn the_sample_for_streams_of_events_is_right_once_brokers_and_a_database_are_named() {
    let text = text_of(&root().join("packaging/waf-streams.toml"));
    let errors = plan(&text).expect_err("nothing is written by accident");
    let keys: Vec<_> = errors.0.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["sources.topic.brokers", "sinks.influx.bucket", "sinks.influx.url", "sinks.alerts.url"], "{errors}");
    let text = switched_on(&text);
    plan(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
}

#[test]
fn the_environment_of_the_realtime_processor_fills_what_a_config_leaves_out() {
    let text = text_of(&root().join("packaging/waf-streams.toml"));
    let env = [
        ("KAFKA_BROKERS", "kafka:9092"),
        ("REDIS_URL", "redis://redis:6379"),
        ("INFLUXDB_URL", "http://waf-influxdb:8086"),
        ("INFLUXDB_ORG", "waf-org"),
        ("INFLUXDB_BUCKET", "waf-realtime"),
        ("INFLUXDB_TOKEN", "hush"),
        ("SHIPPER__SOURCES__TOPIC__GROUP", "another"),
    ];
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let host = Host { name: "host".into(), embedded: None };
    let plan = Plan::build(Config::read(Node::parse_toml(&text).unwrap(), env, &[], &host)).unwrap_or_else(|errors| panic!("{errors}"));
    let told = format!("{:?}", plan.sources.iter().map(|source| &source.spec).collect::<Vec<_>>());
    assert!(told.contains("\"kafka:9092\"") && told.contains("\"another\"") && !told.contains("hush"), "{told}");
    let told = format!("{:?}", plan.sinks.iter().map(|sink| &sink.spec).collect::<Vec<_>>());
    assert!(told.contains("waf-influxdb") && told.contains("INFLUXDB_TOKEN") && !told.contains("hush"), "{told}");
}

#[test]
fn every_config_in_the_pages_is_taken_by_the_reader() {
    let mut seen = 0;
    for page in pages() {
        for (line, block) in fences(&text_of(&page)) {
            let at = format!("{} line {line}", page.display());
            for text in [block.clone(), switched_on(&block)] {
                // The page of all settings shows each with its default, alternatives side by side.
                if page.ends_with("CONFIG.md") && text != block {
                    Node::parse_toml(&text).unwrap_or_else(|e| panic!("{at}: {e}"));
                    continue;
                }
                let config = read(&text);
                assert!(config.errors.is_empty(), "{at}: {}", config.errors);
                if !config.sources.is_empty() && !config.handlers.is_empty() && !config.sinks.is_empty() {
                    plan(&text).unwrap_or_else(|errors| panic!("{at}: {errors}"));
                }
            }
            seen += 1;
        }
    }
    assert!(seen > 5, "the pages have {seen} blocks of TOML, so something is wrong with how they are found");
}

/// `UPDATE=1 cargo test --test it config_page` writes the page anew.
#[test]
fn the_config_page_is_what_the_tables_say() {
    let path = root().join("docs/CONFIG.md");
    let page = manual();
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).expect("docs/CONFIG.md can be written");
    }
    assert!(
        text_of(&path) == page,
        "docs/CONFIG.md is not what `shipper list --markdown` prints; run UPDATE=1 cargo test --test it config_page"
    );
}

/// A member of a YAML file, by the way to it.
fn at<'g>(given: &'g Given, way: &[&str]) -> Option<&'g Given> {
    way.iter().try_fold(given, |given, name| match given {
        Given::Table(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
        _ => None,
    })
}

fn word(given: Option<&Given>) -> String {
    match given {
        Some(Given::Text(text)) => text.clone(),
        other => panic!("no text: {other:?}"),
    }
}

fn compose() -> Given {
    Given::parse_words(&text_of(&root().join("packaging/compose/compose.yaml"))).unwrap_or_else(|e| panic!("no YAML: {e}"))
}

#[test]
fn the_compose_file_mounts_folders_hands_secrets_over_as_files_and_publishes_nothing() {
    let file = compose();
    for service in ["shipper", "redis"] {
        let part = |name: &str| at(&file, &["services", service, name]);
        assert_eq!(word(part("read_only")), "true");
        assert_eq!(part("cap_drop"), Some(&Given::List(vec![Given::Text("ALL".into())])));
        assert!(part("ports").is_none() && part("healthcheck").is_some() && part("mem_limit").is_some());
    }
    let Some(Given::List(volumes)) = at(&file, &["services", "shipper", "volumes"]) else { panic!("volumes") };
    let mounted: Vec<_> = volumes.iter().map(|v| (word(at(v, &["source"])), word(at(v, &["target"])))).collect();
    assert!(mounted.iter().all(|(_, target)| !target.ends_with(".json")), "{mounted:?}");
    assert!(mounted.contains(&("/var/ossec/logs/alerts".into(), "/var/ossec/logs/alerts".into())), "{mounted:?}");
    let Some(Given::Table(secrets)) = at(&file, &["secrets"]) else { panic!("secrets") };
    assert!(secrets.iter().all(|(_, secret)| word(at(secret, &["file"])).starts_with("./secrets/")));
    let config = text_of(&root().join("packaging/compose/shipper.toml"));
    for (name, _) in secrets {
        assert!(config.contains(&format!("\"/run/secrets/{name}\"")), "{name} is used");
    }
    assert_eq!(at(&file, &["networks", "cache", "internal"]).map(|given| word(Some(given))), Some("true".into()));
}

#[test]
fn the_config_of_the_compose_file_passes_check_with_the_environment_that_it_gets() {
    let file = compose();
    let Some(Given::Table(environment)) = at(&file, &["services", "shipper", "environment"]) else { panic!("environment") };
    assert_eq!(environment.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["SHIPPER__LOOKUPS__MISP__URL"]);
    let dir = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let check = |url: Option<&str>| {
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_shipper"));
        check.args(["check", "--offline", "--config"]).arg(root().join("packaging/compose/shipper.toml")).env_clear();
        check.envs(url.map(|url| ("SHIPPER__LOOKUPS__MISP__URL", url)));
        check.env("SHIPPER__LOOKUPS__MISP__KEY_FILE", secret("key", format!("{}\n", "k".repeat(40))));
        check.env("SHIPPER__LOOKUPS__MISP__REDIS__PASSWORD_FILE", secret("password", "p\n".into()));
        let done = check.output().unwrap();
        (done.status.code(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
    };
    let (code, said) = check(Some("https://misp.example.org"));
    assert!(code == Some(0) && !said.contains("warning") && !said.contains("bad:"), "{said}");
    let (code, said) = check(None);
    assert!(code == Some(78) && said.contains("lookups.misp.url"), "{said}");
}
