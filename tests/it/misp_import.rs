//! `shipper import misp`: what it prints, our own `check` takes; what it is told wrong, it tells with its place.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn import(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(["import", "misp"])
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("FROM_SHELL", "12")
        .output()
        .unwrap()
}

/// What an import prints, and that `check --offline` takes it once the key is where it says.
#[track_caller]
fn taken(dir: &Path, args: &[&str]) -> (String, String) {
    let key = dir.join("misp.key");
    let mut whole = args.to_vec();
    let key_arg = key.display().to_string();
    whole.extend(["--key-file", &key_arg]);
    let done = import(dir, &whole);
    let (toml, notes) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert!(done.status.success(), "{}: {notes}", done.status);
    fs::write(dir.join("shipper.toml"), &toml).unwrap();
    let check = || {
        let mut check = Command::new(env!("CARGO_BIN_EXE_shipper"));
        check.args(["check", "--offline", "--config"]).arg(dir.join("shipper.toml")).env_clear().output().unwrap()
    };
    let without = check();
    assert_eq!(without.status.code(), Some(69), "the key is not there yet: {}", String::from_utf8_lossy(&without.stdout));
    fs::write(&key, format!("{}\n", "k".repeat(40))).unwrap();
    let with = check();
    let said = format!("{}{}", String::from_utf8_lossy(&with.stdout), String::from_utf8_lossy(&with.stderr));
    assert!(with.status.success(), "{}: {said}\n{toml}", with.status);
    fs::remove_file(&key).unwrap();
    (toml, notes)
}

const SECRET: &str = "s3cret-s3cret-s3cret-s3cret-s3cret-s3cre";

#[test]
fn a_compose_file_with_all_that_it_leans_on_is_taken_by_check() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("docker-compose.yml"),
        "x-logging: &log {driver: json-file}\nservices:\n  redis: {image: 'redis:7', logging: *log, ports: ['127.0.0.1:6379:6379']}\n  misp-processor:\n    \
         build: .\n    env_file: [misp.env]\n    environment:\n      - CACHE_TTL_HOURS=${FROM_SHELL:-1}\n      - MISP_URL=https://${MISP_HOST}/attributes/restSearch/\n      \
         - MISP_API_KEY\n      - ALERTS_FILES=/a/alerts.json,/b/alerts.json\n      - REDIS_HOST=redis\n    volumes: ['/var/ossec/logs/alerts:/a:ro', '/mnt/m2:/b', './logs:/var/log/misp-processor']\n",
    )
    .unwrap();
    fs::write(dir.path().join("misp.env"), "CACHE_TTL_HOURS=99\nMISP_SSL_VERIFY=true\nBURST_LIMIT=20 # a second\nLOG_LEVEL=DEBUG\n")
        .unwrap();
    fs::write(dir.path().join(".env"), format!("MISP_HOST=misp.example.org\nMISP_API_KEY={SECRET}\n")).unwrap();
    let (toml, notes) = taken(dir.path(), &["docker-compose.yml"]);
    let here = dir.path().canonicalize().unwrap();
    for part in [
        "url = \"https://misp.example.org\"",
        "positive = \"12h\"",
        "burst = 20",
        "path = \"/var/ossec/logs/alerts/alerts.json\"",
        "path = \"/mnt/m2/alerts.json\"",
        "redis.url = \"redis://127.0.0.1:6379\"",
        "level = \"debug\"",
        &format!("path = \"{}/logs/ioc-matched.log\"", here.display()),
        "start_at = \"beginning\"",
    ] {
        assert!(toml.contains(part), "{part}\n{toml}");
    }
    assert!(!toml.contains(SECRET) && !notes.contains(SECRET), "{notes}\n{toml}");
    assert!(!toml.contains("MISP_SSL_VERIFY"), "it is on on both sides");
    for note in notes.lines() {
        assert!(toml.contains(&format!("# {note}")), "every note stands above the config too: {note}");
    }
}

#[test]
fn an_env_file_and_the_environment_are_taken_by_check() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("misp.env"),
        format!("MISP_URL=\"https://misp.example.org/attributes/restSearch/\"\nMISP_API_KEY={SECRET}\n"),
    )
    .unwrap();
    let (toml, notes) = taken(dir.path(), &["misp.env"]);
    assert!(toml.contains("# MISP_SSL_VERIFY: WARNING") && !toml.contains("\ntls.verify"), "{toml}");
    assert!(!toml.contains(SECRET) && !notes.contains(SECRET));
    let key = dir.path().join("misp.key");
    fs::write(&key, format!("{SECRET}\n")).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_shipper"))
        .args(["import", "misp", "--env", "--json"])
        .env_clear()
        .envs([
            ("MISP_URL", "https://me:hush@misp.example.org"),
            ("MISP_API_KEY", SECRET),
            ("REDIS_HOST", "r"),
            ("LOG_DIR", "/x"),
            ("PATH", "/bin"),
        ])
        .output()
        .unwrap();
    assert!(done.status.success());
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let want = serde_json::json!({"accepted": {"MISP_URL": "https://misp.example.org", "MISP_API_KEY": "***", "REDIS_HOST": "r"}});
    assert_eq!(told, want);
}

#[test]
fn every_bound_of_ours_that_an_import_can_reach_is_one_that_check_takes() {
    let dir = tempfile::tempdir().unwrap();
    for value in ["-9223372036854775808", "-1", "0", "1", "65536", "9223372036854775807"] {
        let whole = shipper::cli::import::misp::variables::VARIABLES.iter().filter(|variable| {
            use shipper::cli::import::misp::variables::Kind;
            matches!(variable.kind, Kind::Whole | Kind::Number)
        });
        let text = whole.fold("MISP_URL=https://h\nREDIS_HOST=r\n".to_owned(), |all, variable| format!("{all}{}={value}\n", variable.name));
        fs::write(dir.path().join("e"), text).unwrap();
        taken(dir.path(), &["e"]);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let text = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    text("a.env", "MISP_URL=https://h\n\nCACHE_TTL_HOURS=5.0\nREDIS_PORT=\n");
    text("b.yml", "services: {m: {environment: {MISP_URL: 'https://h', CACHE_TTL_HOURS: 5.0}}}\n");
    text("c.yml", "services: {m: {environment: {MISP_URL: 'https://h'}, env_file: no.env}}\n");
    for (args, code, parts) in [
        (
            &["a.env"][..],
            78,
            &["CACHE_TTL_HOURS: is \"5.0\"; it must be a whole number, without a fraction (in a.env line 3)", "REDIS_PORT: is empty"][..],
        ),
        (&["b.yml"], 78, &["CACHE_TTL_HOURS: is \"5.0\"", "(in services.m.environment)"]),
        (&["c.yml"], 78, &["services.m.env_file: cannot read no.env"]),
        (&["d.yml"], 78, &["cannot read d.yml"]),
        (&[], 64, &["no file named"]),
        (&["a.env", "--format", "toml"], 64, &["--format is \"toml\"; it must be compose or env"]),
        (&["a.env", "--service", "x"], 78, &["--service is for a Compose file"]),
    ] {
        let done = import(dir.path(), args);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
        assert!(done.stdout.is_empty());
    }
}
