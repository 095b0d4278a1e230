//! Source `opensearch` on a real OpenSearch, plain and with users and TLS: each document comes out once, whoever is killed.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    agent::{House, wait},
    broker::{certificate, given, services},
    redis_stream::metric,
};

/// Held by whoever restarts the plain server, or would mind.
static PLAIN: Mutex<()> = Mutex::new(());
/// Documents of the long run.
const DOCUMENTS: u64 = 50_000;

/// Milliseconds since 1970.
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What the administrator's curl says.
fn tool(service: &str, path: &str, more: &[&str]) -> String {
    services(&[&["tool", service, path, "-H", "Content-Type: application/json"][..], more].concat())
}

/// A document of some 500 bytes, with a number that only its text is true to.
fn document(n: u64, at: i64) -> String {
    format!("{{\"n\":{n}, \"timestamp\":{at},\"rule\":{{\"level\":7,\"big\":1.50}},\"pad\":\"{}\"}}", "x".repeat(440))
}

/// The index of a document: two, each of some shards.
fn index(run: &str, n: u64) -> String {
    format!("{run}-{}", n % 2)
}

/// Puts documents in, and lets them be seen.
fn put(service: &str, run: &str, numbers: impl Iterator<Item = u64>, at: i64) {
    let numbers: Vec<u64> = numbers.collect();
    for part in numbers.chunks(5000) {
        let mut body = String::new();
        for n in part {
            writeln!(body, "{{\"create\":{{\"_index\":{:?},\"_id\":\"d/{n}\"}}}}\n{}", index(run, *n), document(*n, at)).unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), body).unwrap();
        let said = tool(service, "/_bulk?refresh=true&filter_path=errors", &["--data-binary", &format!("@{}", file.path().display())]);
        assert!(said.contains("\"errors\":false"), "{said}");
    }
}

fn make(service: &str, run: &str) {
    for n in 0..2 {
        let body = "{\"settings\":{\"number_of_shards\":3,\"number_of_replicas\":0},\"mappings\":{\"properties\":{\"timestamp\":{\"type\":\"date\"}}}}";
        tool(service, &format!("/{run}-{n}"), &["-X", "PUT", "-d", body]);
    }
}

fn house(source: &str) -> (House, PathBuf) {
    let mut out = PathBuf::new();
    let house = House::with(|dir| {
        out = dir.join("out.jsonl");
        let api = dir.join("api.sock");
        format!(
            "[api]\nlisten = \"unix:{}\"\n[sources.wazuh]\nkind = \"opensearch\"\ntimestamp_field = \"timestamp\"\nsettle = \"0\"\nfetch_every = \"1s\"\n{source}\n\
             [handlers.all]\nkind = \"forward\"\ninputs = [\"wazuh\"]\n[sinks.out]\nkind = \"file\"\npath = {:?}\ninputs = [\"all\"]\n",
            api.display(),
            out.display().to_string()
        )
    });
    (house, out)
}

/// How often each document lies in the file; what lies there is what was put in, byte for byte.
fn found(out: &Path) -> BTreeMap<u64, u32> {
    let mut times = BTreeMap::new();
    let text = fs::read_to_string(out).unwrap_or_default();
    // A line that a kill cut off is written again.
    for line in text.lines().filter(|line| line.starts_with("{\"n\":") && line.ends_with("\"}")) {
        let n: u64 = line[5..].split(',').next().unwrap().parse().unwrap();
        let at = line.split("\"timestamp\":").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        assert_eq!(line, document(n, at));
        *times.entry(n).or_default() += 1;
    }
    times
}

#[track_caller]
fn until_found(out: &Path, what: &str, least: u64) {
    let count = || found(out).len() as u64;
    wait(&format!("{what}: {least} documents are found"), || count() >= least, || format!("{} are", count()));
}

/// The names of documents in what was saved of the source: everything of them was settled.
fn saved(house: &House) -> HashSet<u64> {
    let bytes = fs::read(house.dir.path().join("state/snapshot/wazuh")).unwrap_or_default();
    let Some(line) = bytes.iter().position(|b| *b == b'\n') else { return HashSet::new() };
    let mut rest = &bytes[line + 1 + 1 + 8 + 8..];
    fn eight(rest: &mut &[u8]) -> u64 {
        let (eight, after) = rest.split_first_chunk::<8>().unwrap();
        *rest = after;
        u64::from_le_bytes(*eight)
    }
    fn step(rest: &mut &[u8]) {
        let end = rest.iter().position(|b| b & 128 == 0).unwrap();
        *rest = &rest[end + 1..];
    }
    for _ in 0..eight(&mut rest) {
        eight(&mut rest);
        step(&mut rest);
        step(&mut rest);
    }
    // What was forgotten, and the earliest time.
    eight(&mut rest);
    eight(&mut rest);
    let of = |rest: &mut &[u8]| {
        step(rest);
        eight(rest)
    };
    (0..eight(&mut rest)).map(|_| of(&mut rest)).collect()
}

/// The name of a document in what is saved.
fn name(run: &str, n: u64) -> u64 {
    let index = index(run, n);
    let mut hash = Sha256::new();
    hash.update((index.len() as u64).to_le_bytes());
    hash.update(format!("{index}d/{n}"));
    u64::from_be_bytes(hash.finalize()[..8].try_into().unwrap())
}

#[test]
fn fifty_thousand_documents_of_one_time_come_once_though_the_server_restarts() {
    let Some(url) = given("OPENSEARCH_URL") else { return };
    let _alone = PLAIN.lock().unwrap_or_else(PoisonError::into_inner);
    let (run, service) = ("once", "opensearch");
    make(service, run);
    let at = now() - 60_000;
    put(service, run, 0..DOCUMENTS, at);
    let (house, out) = house(&format!("hosts = [{url:?}]\nindices = [\"{run}-*\"]\npage = 200\n"));
    let agent = house.start();
    until_found(&out, "before the restart", 3000);
    services(&["kill", service]);
    let before = found(&out).len();
    assert!((before as u64) < DOCUMENTS, "killed too late to show anything");
    agent.says(&["cannot connect to"]);
    services(&["start", service]);
    until_found(&out, "after the restart", DOCUMENTS);
    let times = found(&out);
    assert!(times.values().all(|times| *times == 1), "each once");
    eprintln!("{before} of {DOCUMENTS} documents of one time were read before the server was killed; all came once");
    // Once for each thing that is wrong while it ends and starts, not for each try.
    assert!(agent.lines("state=retrying") <= 4, "{}", agent.said());

    // Late ones, of an earlier time and of the same.
    put(service, run, DOCUMENTS..DOCUMENTS + 10, at - 100_000);
    put(service, run, DOCUMENTS + 10..DOCUMENTS + 20, at);
    until_found(&out, "late ones", DOCUMENTS + 20);
    wait(
        "the late are counted",
        || metric(&house, "shipper_opensearch_late_total") == 10,
        || metric(&house, "shipper_opensearch_late_total").to_string(),
    );
    assert_eq!(metric(&house, "shipper_opensearch_seen"), DOCUMENTS + 20);

    // Killed at rest, and started again: the look back brings nothing twice.
    let all = (0..DOCUMENTS + 20).map(|n| name(run, n)).collect::<HashSet<_>>();
    wait("all of them are saved", || saved(&house) == all, || format!("{} are", saved(&house).len()));
    agent.kill();
    let agent = house.start();
    put(service, run, DOCUMENTS + 20..DOCUMENTS + 30, now());
    until_found(&out, "after a kill at rest", DOCUMENTS + 30);
    assert!(found(&out).values().all(|times| *times == 1), "each once");
    agent.stop();
    assert_eq!(house.dead_letters(), []);
}

#[test]
fn a_kill_repeats_only_what_was_not_settled() {
    let Some(url) = given("OPENSEARCH_URL") else { return };
    let _alone = PLAIN.lock().unwrap_or_else(PoisonError::into_inner);
    let (run, service) = ("killed", "opensearch");
    make(service, run);
    put(service, run, 0..DOCUMENTS, now() - 60_000);
    let (house, out) = house(&format!("hosts = [{url:?}]\nindices = [\"{run}-0\", \"{run}-1\"]\npage = 200\n"));
    let mut kills = 0;
    for part in 1..=5 {
        let agent = house.start();
        until_found(&out, "before a kill", DOCUMENTS * part / 6);
        agent.kill();
        kills += 1;
        // What was saved as settled is in the file, and never comes again.
        let (settled, before) = (saved(&house), found(&out));
        let lost = (0..DOCUMENTS).filter(|n| settled.contains(&name(run, *n)) && !before.contains_key(n)).count();
        assert_eq!(lost, 0, "saved as settled, and nowhere to be found");
        let agent = house.start();
        std::thread::sleep(Duration::from_millis(300));
        agent.kill();
        let again = found(&out);
        let repeated = (0..DOCUMENTS).filter(|n| settled.contains(&name(run, *n)) && again[n] > before[n]).count();
        assert_eq!(repeated, 0, "settled, and read again");
    }
    let agent = house.start();
    until_found(&out, "at last", DOCUMENTS);
    agent.stop();
    let repeats: u32 = found(&out).values().map(|times| times - 1).sum();
    eprintln!("{kills} kills, each with another soon after: all of {DOCUMENTS} documents came, {repeats} of them were repeats");
}

#[test]
fn users_who_may_not_read_are_told_and_those_who_may_read() {
    let Some(url) = given("OPENSEARCH_SECURE_URL") else { return };
    let (run, service) = ("secure", "opensearch-secure");
    make(service, run);
    put(service, run, 0..2000, now() - 60_000);
    let secrets = PathBuf::from(std::env::var("OPENSEARCH_SECRETS").unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let password = scratch.path().join("password");
    let ca = certificate("ca.pem");
    let of = |user: &str, password: &Path| {
        house(&format!("hosts = [{url:?}]\nindices = \"{run}-*\"\nusername = {user:?}\npassword_file = {password:?}\ntls.ca = {ca:?}\n"))
    };

    let (house, _) = of("readall", &secrets.join("readall"));
    let (code, said) = house.check(&[]);
    assert_eq!(code, Some(0), "{said}");
    for part in ["is OpenSearch and lets us in", "secure-* can be read", "field \"timestamp\" is a date"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (house, _) = of("logstash", &secrets.join("logstash"));
    let (code, said) = house.check(&[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("answers 403 (security_exception: no permissions for") && said.contains("grant this user read"), "{said}");
    let agent = house.start();
    agent.says(&["state=holding", "answers 403", "grant this user read"]);
    agent.stop();

    // A wrong password, which is then corrected.
    fs::write(&password, "guess\n").unwrap();
    let (house, out) = of("readall", &password);
    let (code, said) = house.check(&[]);
    assert!(code == Some(69) && said.contains("answers 401") && said.contains("see username and password_file"), "{said}");
    let agent = house.start();
    agent.says(&["state=holding", "answers 401", "see username and password_file"]);
    fs::copy(secrets.join("readall"), &password).unwrap();
    until_found(&out, "with the right password", 2000);
    assert!(found(&out).values().all(|times| *times == 1), "each once");
    assert!(!agent.said().contains("guess") && !agent.said().contains("Basic "), "a secret is shown");
    agent.stop();

    // Without the CA nobody vouches for it.
    let (house, _) = self::house(&format!("hosts = [{url:?}]\nindices = \"{run}-*\"\n"));
    let (code, said) = house.check(&[]);
    assert!(
        code == Some(69) && said.contains("nobody that we know vouches for its certificate") && said.contains("name its CA in tls.ca"),
        "{said}"
    );
    let _: Value = serde_json::from_str(&tool(service, "/_cat/indices?format=json", &[])).unwrap();
}
