//! What the audit log of a firewall looks like: whether it is one that can be read, and whether its engine is set up so
//! that attacks show in it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Finding, size};
use crate::{
    cli::waf::events,
    handlers::waf::{event::Event, message, reader},
    sources::Reads,
    topology::Config,
};

/// Bytes of a log's end that are looked at.
const TAIL_BYTES: u64 = 4 << 20;
/// Files of a folder that are looked at, the newest.
const FILES_MAX: usize = 200;
/// Events from which on their number says something.
const EVENTS_MIN: u64 = 20;
/// Percent of the events from which on something is how the engine is set.
const MOST: u64 = 90;

/// Looks at what is read by handlers of kind `waf`.
pub(super) fn logs(config: &Config) -> Vec<Finding> {
    let inputs = config.handlers.iter().filter(|handler| handler.kind == "waf").flat_map(|handler| &handler.inputs.names);
    let mut names: Vec<&str> = inputs.map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let sources = config.sources.iter().filter(|source| names.contains(&source.name.as_str()));
    let read = sources.filter_map(|source| Some((&source.name, source.spec.as_ref()?.reads())));
    read.flat_map(|(name, reads)| reads.iter().flat_map(|reads| log(name, reads)).collect::<Vec<_>>()).collect()
}

fn log(name: &str, reads: &Reads) -> Vec<Finding> {
    let topic = format!("sources.{name}");
    let files = match reads {
        Reads::File(path) => vec![path.clone()],
        Reads::Folder(folder) => newest(folder),
    };
    let mut seen = Seen::default();
    let mut found = Vec::new();
    for path in &files {
        match tail(path) {
            Ok(bytes) => seen.look(&bytes),
            // A single file that is not there or not ours is told where all files are.
            Err(error) if matches!(reads, Reads::Folder(_)) && error.kind() == io::ErrorKind::PermissionDenied => {
                found.push(Finding::bad(
                    topic.as_str(),
                    format!("cannot read {}: {error}", path.display()),
                    "set SecAuditLogDirMode 0750 and SecAuditLogFileMode 0640, give the folder to a group of the agent's user, and set its g+s",
                ));
                break;
            }
            Err(_) => {}
        }
    }
    let of = match reads {
        Reads::File(path) => path,
        Reads::Folder(folder) => folder,
    };
    found.extend(files.first().and_then(|path| open_to_all(&topic, path)));
    found.extend(seen.told(&topic, of));
    found
}

/// Files of a folder and of those inside it, the newest first.
fn newest(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
        // Days and minutes have names that sort; of a tree the newest branch is enough.
        let mut inside: Vec<PathBuf> = Vec::new();
        for entry in entries {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => inside.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    files.push((entry.metadata().and_then(|found| found.modified()).unwrap_or(std::time::UNIX_EPOCH), entry.path()))
                }
                _ => {}
            }
        }
        folders.extend(inside.into_iter().max());
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    files.into_iter().take(FILES_MAX).map(|(_, path)| path).collect()
}

/// The end of a file, from the start of a line.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    if len > TAIL_BYTES {
        file.seek(SeekFrom::Start(len - TAIL_BYTES))?;
    }
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    if len > TAIL_BYTES {
        let start = memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1);
        bytes.drain(..start);
    }
    Ok(bytes)
}

fn open_to_all(topic: &str, path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    let what = format!("anybody may read {} (mode {mode:04o}), and cookies and passwords may stand in it", path.display());
    (mode & 0o004 != 0).then(|| Finding::warn(topic, what, "set SecAuditLogFileMode 0640, and chmod o-r what is there"))
}

/// What the end of a log holds.
#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    events: u64,
    /// Events by what wrote them.
    writers: BTreeMap<&'static str, u64>,
    /// Events in which no rule stands.
    without_rules: u64,
    /// Events of an engine that blocks nothing.
    detection_only: u64,
    off: u64,
    /// Events that say that the rule set is not configured.
    unconfigured: u64,
    /// Events in which every rule stands twice.
    doubled: u64,
    /// Frames that are no events, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// Lines of the index of a concurrent log.
    index: u64,
    /// Lines at which a section of the native format begins.
    sections: u64,
}

impl Seen {
    fn look(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for line in bytes.split(|byte| *byte == b'\n') {
            self.index += u64::from(is_index(line));
            self.sections += u64::from(reader::is_native(line));
        }
        let account = events::of(&mut io::Cursor::new(bytes), &mut |event| self.event(event));
        for (reason, count) in account.map(|account| account.refused).unwrap_or_default() {
            *self.refused.entry(reason).or_default() += count;
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        self.events += 1;
        *self.writers.entry(event.writer.word()).or_default() += 1;
        self.without_rules += u64::from(event.messages.is_none());
        self.detection_only += u64::from(event.mode_word() == "detection_only");
        self.off += u64::from(event.mode_word() == "off");
        let entries: Vec<_> = event.messages.into_iter().flat_map(|messages| messages.elements()).collect();
        let is_unconfigured = entries.iter().any(|entry| message::read(*entry, None).is_some_and(|found| found.id == "901001"));
        self.unconfigured += u64::from(is_unconfigured);
        let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for entry in entries {
            let mut text = Vec::new();
            entry.write_compact(&mut text);
            *counts.entry(text).or_default() += 1;
        }
        self.doubled += u64::from(!counts.is_empty() && counts.values().all(|count| count % 2 == 0));
    }

    fn told(&self, topic: &str, of: &Path) -> Vec<Finding> {
        let (of, end) = (of.display(), size(self.bytes));
        let warn = |what: String, remedy: &str| Finding::warn(topic, what, remedy);
        let mut found = Vec::new();
        if self.index > 0 && self.events == 0 {
            let what = format!("{of} is the index of a concurrent audit log: it names the files of the events, and holds none");
            found.push(Finding::bad(
                topic,
                what,
                "name the folder of SecAuditLogStorageDir with /** behind it as path, or set SecAuditLogType Serial",
            ));
        }
        if self.sections > 0 && self.index == 0 {
            let what = format!("{of} is the sectioned audit log");
            found.push(Finding::bad(topic, what, "set SecAuditLogFormat JSON in the engine's configuration"));
        }
        for (reason, what, remedy) in [
            ("no_json_support", "is of a ModSecurity that cannot write JSON", "install one that is built with YAJL"),
            ("ocsf", "is Coraza's OCSF", "set SecAuditLogFormat JSON in its configuration"),
        ] {
            if self.refused.contains_key(reason) {
                found.push(Finding::bad(topic, format!("{of} {what}"), remedy));
            }
        }
        let others: u64 = self.refused.values().sum();
        if found.is_empty() && others > self.events {
            let what = format!("most of the end of {of} is no event: {others} pieces in {end}, beside {} events", self.events);
            found.push(warn(what, "`shipper try --handler waf < FILE` tells why; name the audit log itself"));
        }
        let is_most = |part: u64| self.events >= EVENTS_MIN && part * 100 >= self.events * MOST;
        let all = self.events;
        if is_most(self.without_rules) {
            let what = format!("in {} of {all} events stands no rule, so none can score", self.without_rules);
            found.push(warn(what, "add part H to SecAuditLogParts (with Coraza also K), and see whether rules are loaded at all"));
        }
        if is_most(self.detection_only) {
            found.push(warn(
                "the engine only detects (DetectionOnly) and blocks nothing".into(),
                "set SecRuleEngine On once the rules are tuned",
            ));
        }
        if is_most(self.off) {
            found.push(warn("the engine is off".into(), "set SecRuleEngine On, or DetectionOnly"));
        }
        if self.unconfigured > 0 {
            let what =
                format!("rule 901001 is in {} of {all} events: the Core Rule Set is there without its configuration", self.unconfigured);
            found.push(warn(what, "include crs-setup.conf before the rules"));
        }
        if is_most(self.doubled) {
            let what = format!("in {} of {all} events every rule stands twice: the rule set is loaded twice", self.doubled);
            found.push(warn(what, "include it once; sums of points count double until then"));
        }
        if self.events > 0 {
            let writers: Vec<String> = self.writers.iter().map(|(writer, count)| format!("{count} of {writer}")).collect();
            found.insert(0, Finding::good(topic, format!("{of} ends with events: {} in {end}", writers.join(", "))));
        }
        found
    }
}

/// A line of the index that ModSecurity writes beside the files of a concurrent log: at its end stand the file's name,
/// two numbers and its MD5.
fn is_index(line: &[u8]) -> bool {
    let Some(at) = memchr::memmem::rfind(line, b" md5:") else { return false };
    let sum = line.get(at + 5..).unwrap_or_default().trim_ascii();
    sum.len() == 32 && sum.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sinks::Level;

    /// What is told of a log with these bytes, each with its level.
    fn told(bytes: &[u8]) -> Vec<(Level, String)> {
        let mut seen = Seen::default();
        seen.look(bytes);
        seen.told("sources.audit", Path::new("/l")).into_iter().map(|finding| (finding.level, finding.what)).collect()
    }

    fn event(n: u64, mode: &str, rules: &[&str]) -> Value {
        let rules: Vec<Value> = rules.iter().map(|id| json!({"message": "m", "details": {"ruleId": id, "severity": "2"}})).collect();
        json!({"transaction": {"client_ip": "203.0.113.9", "unique_id": n.to_string(), "messages": rules,
            "producer": {"modsecurity": "ModSecurity v3", "secrules_engine": mode}}})
    }

    fn log(count: u64, mode: &str, rules: &[&str]) -> Vec<u8> {
        (0..count).flat_map(|n| format!("{}\n", event(n, mode, rules)).into_bytes()).collect()
    }

    #[test]
    fn a_log_is_judged_by_its_end() {
        let good =
            |n: u64, bytes: &[u8]| (Level::Good, format!("/l ends with events: {n} of modsecurity3 in {}", size(bytes.len() as u64)));
        let rows: [(u64, &str, &[&str], Option<&str>); 7] = [
            (20, "Enabled", &["942100", "949110"], None),
            (20, "Enabled", &[], Some("in 20 of 20 events stands no rule, so none can score")),
            (19, "Enabled", &[], None),
            (20, "DetectionOnly", &["942100"], Some("the engine only detects (DetectionOnly) and blocks nothing")),
            (20, "Disabled", &["942100"], Some("the engine is off")),
            (3, "Enabled", &["901001"], Some("rule 901001 is in 3 of 3 events: the Core Rule Set is there without its configuration")),
            (
                25,
                "Enabled",
                &["942100", "949110", "942100", "949110"],
                Some("in 25 of 25 events every rule stands twice: the rule set is loaded twice"),
            ),
        ];
        for (count, mode, rules, expected) in rows {
            let bytes = log(count, mode, rules);
            let mut all = vec![good(count, &bytes)];
            all.extend(expected.map(|text| (Level::Warning, text.to_owned())));
            assert_eq!(told(&bytes), all, "{mode} {rules:?}");
        }
        assert_eq!(told(b""), []);
    }

    #[test]
    fn what_is_no_log_of_events_is_told() {
        let native = "--a1b2c3d4-A--\n[24/Nov/2026:10:00:00 +0000] x 192.0.2.1 1 192.0.2.2 80\n--a1b2c3d4-Z--\n\n";
        let index = "shop 192.0.2.1 - - [24/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 403 10 \"-\" \"-\" id \"-\" /20261124/20261124-1000/20261124-100000-id 0 1234 md5:0123456789abcdef0123456789abcdef\n";
        for (bytes, part) in [
            (native.repeat(3), "/l is the sectioned audit log"),
            (index.repeat(3), "/l is the index of a concurrent audit log"),
            ("{\"error\":\"ModSecurity was not compiled with JSON support.\"}\n".to_owned(), "cannot write JSON"),
        ] {
            let found = told(bytes.as_bytes());
            assert!(found.iter().any(|(level, what)| *level == Level::Bad && what.contains(part)), "{part}: {found:?}");
        }
        let other = told("{\"a\":1}\n".repeat(5).as_bytes());
        assert!(matches!(&other[..], [(Level::Warning, what)] if what.contains("is no event: 5 pieces")), "{other:?}");
    }

    #[test]
    fn the_end_of_a_file_begins_with_a_line_and_a_tree_with_its_newest_branch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.json");
        let line = format!("{}\n", "x".repeat(99));
        fs::write(&path, line.repeat(50_000)).unwrap();
        let end = tail(&path).unwrap();
        assert!(end.len().is_multiple_of(100) && end.len() as u64 > TAIL_BYTES - 200, "{}", end.len());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open_to_all("s", &path).unwrap().what.contains("mode 0644"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(open_to_all("s", &path), None);
        for minute in ["20261124/20261124-1000", "20261124/20261124-1001", "20261123/20261123-2359"] {
            fs::create_dir_all(dir.path().join("tree").join(minute)).unwrap();
            fs::write(dir.path().join("tree").join(minute).join("e"), minute).unwrap();
        }
        assert_eq!(newest(&dir.path().join("tree")), [dir.path().join("tree/20261124/20261124-1001/e")]);
    }
}
