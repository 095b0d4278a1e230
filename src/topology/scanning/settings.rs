//! `[scan]` and `[monitor]` of a config, read against their tables.
//!
//! Spans of scanning are whole seconds with their unit in the name, since that is how the services say them that it replaces.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use crate::{
    register::{Errors, Field, Node, Section, Type},
    scan::{
        monitor,
        settings::{
            Algorithm, Balance, Cleanup, Correlate, Kafka, Queue, QueueKind, Rabbitmq, Role, Root, Rules, Settings, Tls, Unpack, Workers,
        },
    },
};

/// What a root has.
static ROOT: &[Field] = &[
    Field::required("name", Type::Text, "Name in tasks and answers: letters, digits, \"_\" and \"-\"."),
    Field::required("path", Type::Path, "The folder. Nothing outside it is opened, and no link is followed."),
    Field::new("watch", Type::Bool, "true", "Whether new files below it are scanned by themselves."),
    Field::new("depth", Type::Int { min: 0, max: 32 }, "1", "Levels of subfolders that are watched; 0 is the folder alone."),
];

/// `[scan]`.
pub static SCAN: &[Field] = &[
    Field::new(
        "role",
        Type::Choice(&["both", "master", "worker"]),
        "both",
        "`master` accepts files, owns them until their answer is stored and gives them out; `worker` scans for a master; `both` is one host.",
    ),
    Field::new(
        "roots",
        Type::Records(ROOT),
        "[]",
        "Folders whose files may be scanned, the default one first: tables of `name`, `path`, `watch = true` (new files are scanned by \
         themselves) and `depth = 1` (levels of subfolders that are watched).",
    ),
    Field::new("file_bytes_max", Type::Bytes, "20 MiB", "The largest file that is scanned; a larger one is answered with `too_large`."),
    Field::new(
        "timeout_s",
        Type::Int { min: 1, max: 300 },
        "60",
        "Seconds that the rules may take for a file, and for each member of an archive.",
    ),
    Field::new(
        "mime_types",
        Type::Texts,
        "[]",
        "Only files of these types are scanned, by content: exact, or `\"image/*\"`; an empty list is every type.",
    ),
    Field::new(
        "extensions",
        Type::Texts,
        "[]",
        "Only files with these extensions are scanned, in any case, with or without the dot; an empty list is every one.",
    ),
    Field::new(
        "settle_s",
        Type::Int { min: 1, max: 86_400 },
        "150",
        "Seconds without a change after which a file is taken that was found in a folder and that nobody was seen to close.",
    ),
    Field::new(
        "children",
        Type::Int { min: 1, max: 64 },
        "4",
        "Processes that scan, each with its own copy of the rules; never more than there are cores.",
    ),
    Field::optional(
        "child_socket",
        Type::Path,
        "Socket of shipper-scan.socket, whose processes scan apart from the agent; unset: the packaged one where it is started, else the agent starts them itself.",
    ),
    Field::optional("worker.master", Type::Text, "Of a worker: where its master answers, such as \"https://scan.example:8000\"."),
    Field::optional(
        "worker.id",
        Type::Text,
        "Of a worker: its name at the master, 3 to 64 of letters, digits, \"_\" and \"-\"; `instance` where unset.",
    ),
    Field::optional(
        "worker.key_file",
        Type::Path,
        "Of a worker: file with its key, made by `shipper keys new` on the master. Of a master: the key that it shows to workers which it calls.",
    ),
    Field::optional("worker.ca", Type::Path, "Certificates that the other side's must come from; those of the system where unset."),
    Field::new("worker.tasks_max", Type::Int { min: 1, max: 100 }, "5", "Of a worker: files that it takes at once."),
    Field::new(
        "queue.kind",
        Type::Choice(&["memory", "rabbitmq", "kafka"]),
        "memory",
        "How files reach workers: `memory` is the task store itself, on disk and without a server; the others bring them to any number of hosts.",
    ),
    Field::new(
        "queue.size_max",
        Type::Int { min: 1, max: 10_000_000 },
        "1000",
        "Files that may wait; then the API answers 503, and watched folders wait.",
    ),
    Field::new("queue.attempts_max", Type::Int { min: 1, max: 100 }, "3", "Attempts before a file goes to the dead letter."),
    Field::new(
        "queue.backoff_s",
        Type::Texts,
        "[5, 30, 120]",
        "Seconds before the second attempt, the third and so on; the last one holds on.",
    ),
    Field::new(
        "queue.task_ttl_s",
        Type::Int { min: 1, max: 86_400 },
        "600",
        "Seconds without an answer after which a file is given out again.",
    ),
    Field::new(
        "queue.rabbitmq.url",
        Type::Text,
        "amqp://localhost:5672/%2f",
        "The broker, `amqp://` or `amqps://`, without user and password.",
    ),
    Field::optional("queue.rabbitmq.username", Type::Text, "User at the broker."),
    Field::optional("queue.rabbitmq.password_file", Type::Path, "File with the password."),
    Field::new(
        "queue.rabbitmq.queue",
        Type::Text,
        "zeek_yara_tasks",
        "The queue; what cannot be scanned goes to the one with `.dead` behind its name.",
    ),
    Field::optional(
        "queue.rabbitmq.tls.ca",
        Type::Path,
        "PEM file with the CA that vouches for an `amqps://` broker, beside the system's CAs.",
    ),
    Field::optional("queue.rabbitmq.tls.cert", Type::Path, "PEM file with our certificate, for a broker that wants one; with tls.key."),
    Field::optional("queue.rabbitmq.tls.key", Type::Path, "PEM file with its key, without a password."),
    Field::new("queue.rabbitmq.type", Type::Choice(&["quorum", "classic"]), "quorum", "What the queue is declared as."),
    Field::new("queue.kafka.brokers", Type::Texts, "[\"localhost:9092\"]", "Brokers that are asked first."),
    Field::new("queue.kafka.topic", Type::Text, "zeek-yara-tasks", "The topic; beside it `.high`, `.low` and `.dead`."),
    Field::new("queue.kafka.group", Type::Text, "zeek-yara-workers", "The consumer group of all who scan."),
    Field::new("workers.heartbeat_s", Type::Int { min: 1, max: 3600 }, "30", "Seconds between two signs of life of a worker."),
    Field::new(
        "workers.offline_s",
        Type::Int { min: 2, max: 86_400 },
        "60",
        "Seconds without one after which what a worker had is given to others; from 0.8 of it on it gets nothing new.",
    ),
    Field::new("workers.max", Type::Int { min: 1, max: 10_000 }, "100", "Workers that may register."),
    Field::new(
        "workers.hosts",
        Type::Texts,
        "[\"127.0.0.0/8\", \"::1/128\"]",
        "Networks from which workers may call, and in which they may be called.",
    ),
    Field::new(
        "balance.algorithm",
        Type::Choice(&["load_based", "round_robin", "capability_based"]),
        "load_based",
        "Who gets the next file: whoever has least to do, each in turn, or whoever can do what the task asks for.",
    ),
    Field::new("balance.weights.cpu", Type::Number, "0.3", "Share of the processor in a worker's load, 0 to 1."),
    Field::new("balance.weights.memory", Type::Number, "0.3", "Share of memory in it."),
    Field::new("balance.weights.queue", Type::Number, "0.4", "Share of what it has in hand."),
    Field::new("balance.strict", Type::Bool, "false", "With `capability_based`: a task that nobody can do waits; else any worker gets it."),
    Field::new(
        "rules.paths",
        Type::Texts,
        "[\"/etc/shipper/rules\"]",
        "Folders of YARA rules, `*.yar` and `*.yara`; the namespace is the path below.",
    ),
    Field::new("rules.relaxed", Type::Bool, "true", "Whether escapes in regular expressions that only libyara knows are taken."),
    Field::new(
        "rules.reload_s",
        Type::Int { min: 0, max: 86_400 },
        "10",
        "Seconds between two looks at the rules; 0 is never, they are then taken anew on request.",
    ),
    Field::new(
        "rules.matches_max",
        Type::Int { min: 1, max: 1_000_000 },
        "10000",
        "Matches of one pattern in one file; beyond, the answer is `partial`.",
    ),
    Field::new("rules.match_bytes", Type::Int { min: 0, max: 4096 }, "64", "Bytes shown of a match."),
    Field::new("rules.matches_reported", Type::Int { min: 0, max: 1000 }, "16", "Matches shown of a pattern."),
    Field::new(
        "rules.rescan_hours",
        Type::Int { min: 0, max: 720 },
        "0",
        "Files of so many hours are scanned again by new rules; 0 is none.",
    ),
    Field::new("unpack.depth_max", Type::Int { min: 0, max: 16 }, "4", "Archives within archives; 0 unpacks nothing."),
    Field::new("unpack.children_max", Type::Int { min: 1, max: 100_000 }, "500", "Members of one file, all levels together."),
    Field::new("unpack.bytes_max", Type::Bytes, "100 MiB", "Their bytes together."),
    Field::new("unpack.ratio_max", Type::Int { min: 1, max: 100_000 }, "250", "Bytes out for each byte in."),
    Field::new(
        "cleanup.enabled",
        Type::Bool,
        "false",
        "Whether scanned files are removed. To remove evidence is a decision, so it is off.",
    ),
    Field::new("cleanup.clean_hours", Type::Int { min: 0, max: 87_600 }, "24", "Hours after its answer that a clean file stays."),
    Field::new("cleanup.matched_hours", Type::Int { min: 0, max: 87_600 }, "168", "Hours that a matched one stays."),
    Field::new("cleanup.interval_minutes", Type::Int { min: 1, max: 10_080 }, "60", "Minutes between two rounds."),
    Field::new("cleanup.disk_warn", Type::Int { min: 1, max: 100 }, "80", "Percent of the disk to which a full one is brought back."),
    Field::new(
        "cleanup.disk_critical",
        Type::Int { min: 1, max: 100 },
        "90",
        "Percent from which clean files go first, whatever their age.",
    ),
    Field::optional(
        "cleanup.quarantine",
        Type::Path,
        "Folder to which matched files are moved in place of being removed, named by their SHA-256.",
    ),
    Field::optional("correlate.eve", Type::Path, "Suricata's eve.json; its alerts are told with files of the same connection."),
    Field::optional(
        "correlate.zeek_logs",
        Type::Path,
        "The folder of Zeek's current logs; files.log says which connection carried a file.",
    ),
    Field::new(
        "correlate.window_s",
        Type::Int { min: 1, max: 86_400 },
        "300",
        "Seconds between a file and an alert of the same connection.",
    ),
    Field::new("correlate.proximity_s", Type::Int { min: 1, max: 86_400 }, "60", "Seconds where only one address is the same."),
    Field::new("correlate.confidence_min", Type::Int { min: 0, max: 100 }, "70", "Relations below it are not told."),
];

/// `[monitor]`.
pub static MONITOR: &[Field] = &[
    Field::new("collect_s", Type::Int { min: 1, max: 3600 }, "30", "Seconds between two looks at the figures."),
    Field::new("check_s", Type::Int { min: 1, max: 3600 }, "60", "Seconds between two looks at the alert rules."),
    Field::new("history_max", Type::Int { min: 1, max: 100_000 }, "1000", "Monitor alerts that are kept."),
    Field::new("baseline_samples", Type::Int { min: 2, max: 10_000 }, "100", "Values of a figure that make its baseline."),
    Field::optional("export_dir", Type::Path, "The one folder into which `/monitoring/export` writes; off where unset."),
];

/// `[scan]` and `[monitor]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanPlan {
    pub settings: Settings,
    pub monitor: monitor::Settings,
    /// Socket of the unit that keeps the children apart.
    pub child_socket: Option<PathBuf>,
    pub worker: WorkerSettings,
}

/// `[scan.worker]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    pub master: Option<String>,
    pub id: String,
    pub key_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub tasks_max: usize,
}

/// A number that its field has bounded.
fn number<T: TryFrom<i64> + Default>(n: i64) -> T {
    T::try_from(n).unwrap_or_default()
}

/// True if a name may stand in tasks, in answers and in paths of the API.
fn is_name(name: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl ScanPlan {
    /// Reads `[scan]` and `[monitor]`; `None` without the first.
    ///
    /// - `instance`: the agent's name.
    pub fn read(tree: &Node, instance: &str, errors: &mut Errors) -> Option<Self> {
        let monitor = watch(tree, errors);
        let node = tree.get("scan")?;
        let mut section = Section::open("scan", node, SCAN, &[], errors);
        let worker = WorkerSettings {
            master: section.opt_text("worker.master"),
            id: section.opt_text("worker.id").unwrap_or_else(|| instance.to_owned()),
            key_file: section.opt_path("worker.key_file"),
            ca: section.opt_path("worker.ca"),
            tasks_max: number(section.int("worker.tasks_max")),
        };
        let settings = settings(&mut section);
        check_worker(&mut section, settings.role, &worker);
        let child_socket = section.opt_path("child_socket");
        Some(Self { settings, monitor, child_socket, worker })
    }
}

fn watch(tree: &Node, errors: &mut Errors) -> monitor::Settings {
    let empty = Node::empty();
    let mut section = Section::open("monitor", tree.get("monitor").unwrap_or(&empty), MONITOR, &[], errors);
    if tree.get("scan").is_none() && tree.get("monitor").is_some() {
        let what = "watches over scanning, and there is no [scan]; add it, or remove [monitor]";
        section.wrong("collect_s", what);
    }
    monitor::Settings {
        collect_s: number(section.int("collect_s")),
        check_s: number(section.int("check_s")),
        history_max: number(section.int("history_max")),
        baseline_samples: number(section.int("baseline_samples")),
        export_dir: section.opt_path("export_dir"),
    }
}

fn check_worker(section: &mut Section<'_>, role: Role, worker: &WorkerSettings) {
    let is_worker = role == Role::Worker;
    match &worker.master {
        None if is_worker => {
            section.wrong("worker.master", "must be set for a worker; write the master's address, such as \"https://scan.example:8000\"")
        }
        Some(_) if !is_worker => section.wrong("worker.master", "is of a worker only; set role = \"worker\", or remove it"),
        Some(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
            section.wrong("worker.master", "is no address of HTTP; write it as \"https://scan.example:8000\"");
        }
        _ => {}
    }
    if is_worker && !is_name(&worker.id, 3, 64) {
        section.wrong("worker.id", "is no name of a worker; use 3 to 64 of letters, digits, \"_\" and \"-\"");
    }
}

fn settings(section: &mut Section<'_>) -> Settings {
    let role = match section.choice("role") {
        "master" => Role::Master,
        "worker" => Role::Worker,
        _ => Role::Both,
    };
    let roots = roots(section);
    if roots.is_empty() && role != Role::Worker {
        section.wrong("roots", "must be set; name the folders whose files may be scanned: roots = [{ name = \"zeek\", path = \"/opt/zeek/spool/extract_files\" }]");
    }
    let file_bytes_max = section.bytes("file_bytes_max");
    if file_bytes_max == 0 || file_bytes_max > FILE_BYTES_MAX {
        section.wrong("file_bytes_max", "must be 1 byte to 1 GiB: a file is read whole into memory; write \"20 MiB\"");
    }
    Settings {
        role,
        roots,
        file_bytes_max,
        timeout_s: number(section.int("timeout_s")),
        mime_types: mime_types(section),
        extensions: section
            .texts("extensions")
            .iter()
            .map(|text| format!(".{}", text.trim_start_matches('.').to_ascii_lowercase()))
            .collect(),
        settle_s: number(section.int("settle_s")),
        children: number(section.int("children")),
        queue: queue(section),
        workers: workers(section),
        balance: balance(section),
        rules: Rules {
            paths: section.texts("rules.paths").into_iter().map(PathBuf::from).collect(),
            relaxed: section.bool("rules.relaxed"),
            reload_s: number(section.int("rules.reload_s")),
            matches_max: number(section.int("rules.matches_max")),
            match_bytes: number(section.int("rules.match_bytes")),
            matches_reported: number(section.int("rules.matches_reported")),
            rescan_hours: number(section.int("rules.rescan_hours")),
        },
        unpack: Unpack {
            depth_max: number(section.int("unpack.depth_max")),
            children_max: number(section.int("unpack.children_max")),
            bytes_max: section.bytes("unpack.bytes_max"),
            ratio_max: number(section.int("unpack.ratio_max")),
        },
        cleanup: cleanup(section),
        correlate: Correlate {
            eve: section.opt_path("correlate.eve"),
            zeek_logs: section.opt_path("correlate.zeek_logs"),
            window_s: number(section.int("correlate.window_s")),
            proximity_s: number(section.int("correlate.proximity_s")),
            confidence_min: number(section.int("correlate.confidence_min")),
        },
    }
}

/// The most that `file_bytes_max` may say.
const FILE_BYTES_MAX: u64 = 1 << 30;

fn roots(section: &mut Section<'_>) -> Vec<Root> {
    let mut names: Vec<String> = Vec::new();
    section.records("roots", |root| {
        let name = root.text("name");
        if !name.is_empty() && !is_name(&name, 1, 64) {
            root.wrong("name", "is no name; use letters, digits, \"_\" and \"-\"");
        }
        if name == UPLOADS {
            root.wrong("name", "is where uploaded files are kept; name it otherwise");
        }
        if names.contains(&name) {
            root.wrong("name", "is the name of two roots; rename one");
        }
        names.push(name.clone());
        let path = root.path("path");
        if !path.as_os_str().is_empty() && !path.is_absolute() {
            root.wrong("path", "must be absolute; write it with its first slash");
        }
        Root { name, path, watch: root.bool("watch"), depth: number(root.int("depth")) }
    })
}

/// The root of what came by the API.
pub const UPLOADS: &str = "upload";

fn mime_types(section: &mut Section<'_>) -> Vec<String> {
    let types = section.texts("mime_types");
    let is_type = |text: &String| {
        text.split_once('/').is_some_and(|(kind, sort)| !kind.is_empty() && !sort.is_empty() && (sort == "*" || !sort.contains('*')))
    };
    if let Some(wrong) = types.iter().find(|text| !is_type(text)) {
        section.wrong("mime_types", format!("{wrong:?} is no type; write \"application/pdf\", or \"image/*\" for all of a kind"));
    }
    types.iter().map(|text| text.to_ascii_lowercase()).collect()
}

fn queue(section: &mut Section<'_>) -> Queue {
    let kind = match section.choice("queue.kind") {
        "rabbitmq" => QueueKind::Rabbitmq(Rabbitmq {
            url: rabbitmq_url(section),
            username: section.opt_text("queue.rabbitmq.username"),
            password_file: section.opt_path("queue.rabbitmq.password_file"),
            queue: section.text("queue.rabbitmq.queue"),
            is_quorum: section.choice("queue.rabbitmq.type") == "quorum",
            tls: rabbitmq_tls(section),
        }),
        "kafka" => QueueKind::Kafka(Kafka {
            brokers: section.texts("queue.kafka.brokers"),
            topic: section.text("queue.kafka.topic"),
            group: section.text("queue.kafka.group"),
        }),
        _ => QueueKind::Memory,
    };
    let backoff: Option<Vec<u64>> =
        section.texts("queue.backoff_s").iter().map(|text| text.parse().ok().filter(|s| *s <= 86_400)).collect();
    if backoff.as_ref().is_none_or(Vec::is_empty) {
        section.wrong("queue.backoff_s", "is no list of seconds, each at most 86400; write [5, 30, 120]");
    }
    Queue {
        kind,
        size_max: number(section.int("queue.size_max")),
        attempts_max: number(section.int("queue.attempts_max")),
        backoff_s: backoff.unwrap_or_else(|| Queue::default().backoff_s),
        task_ttl_s: number(section.int("queue.task_ttl_s")),
    }
}

fn rabbitmq_url(section: &mut Section<'_>) -> String {
    let url = section.text("queue.rabbitmq.url");
    if !url.starts_with("amqp://") && !url.starts_with("amqps://") {
        section.wrong("queue.rabbitmq.url", "is no address of RabbitMQ; write it as \"amqp://rabbit.example:5672/%2f\"");
    } else if url.split("://").nth(1).and_then(|rest| rest.split('/').next()).is_some_and(|host| host.contains('@')) {
        let what = "has a user in it, and secrets do not stand in the config; set queue.rabbitmq.username and queue.rabbitmq.password_file";
        section.wrong("queue.rabbitmq.url", what);
    }
    url
}

fn rabbitmq_tls(section: &mut Section<'_>) -> Tls {
    let [ca, cert, key] = ["ca", "cert", "key"].map(|file| section.opt_path(&format!("queue.rabbitmq.tls.{file}")));
    if cert.is_some() != key.is_some() {
        section.wrong("queue.rabbitmq.tls.cert", "and queue.rabbitmq.tls.key need each other; set both or none");
    }
    if (ca.is_some() || cert.is_some()) && section.text("queue.rabbitmq.url").starts_with("amqp://") {
        section.wrong("queue.rabbitmq.tls.ca", "and its neighbours say nothing without TLS; write queue.rabbitmq.url as amqps://…");
    }
    Tls { ca, own: cert.zip(key) }
}

fn workers(section: &mut Section<'_>) -> Workers {
    let nets: Vec<_> = section.texts("workers.hosts").iter().map(|text| (text.clone(), net(text))).collect();
    for (text, _) in nets.iter().filter(|(_, net)| net.is_none()) {
        section.wrong("workers.hosts", format!("{text:?} is no network; write it as 192.0.2.0/24, or 192.0.2.7 for one address"));
    }
    let workers = Workers {
        heartbeat_s: number(section.int("workers.heartbeat_s")),
        offline_s: number(section.int("workers.offline_s")),
        max: number(section.int("workers.max")),
        hosts: nets.into_iter().filter_map(|(_, net)| net).collect(),
    };
    if workers.offline_s <= workers.heartbeat_s {
        section.wrong("workers.offline_s", "must be more than workers.heartbeat_s, else every worker is lost between two signs of life");
    }
    workers
}

fn net(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from))
}

fn balance(section: &mut Section<'_>) -> Balance {
    let [cpu, memory, queue] = ["cpu", "memory", "queue"].map(|share| {
        let name = format!("balance.weights.{share}");
        let weight = section.number(&name);
        if !(0.0..=1.0).contains(&weight) {
            section.wrong(&name, "is no share; write a number from 0 to 1");
        }
        weight
    });
    if cpu + memory + queue <= 0.0 {
        section.wrong("balance.weights.queue", "every share is 0, so all workers would be alike; give one a share");
    }
    let algorithm = match section.choice("balance.algorithm") {
        "round_robin" => Algorithm::RoundRobin,
        "capability_based" => Algorithm::CapabilityBased,
        _ => Algorithm::LoadBased,
    };
    Balance { algorithm, cpu, memory, queue, strict: section.bool("balance.strict") }
}

fn cleanup(section: &mut Section<'_>) -> Cleanup {
    let cleanup = Cleanup {
        enabled: section.bool("cleanup.enabled"),
        clean_hours: number(section.int("cleanup.clean_hours")),
        matched_hours: number(section.int("cleanup.matched_hours")),
        interval_minutes: number(section.int("cleanup.interval_minutes")),
        disk_warn: number(section.int("cleanup.disk_warn")),
        disk_critical: number(section.int("cleanup.disk_critical")),
        quarantine: section.opt_path("cleanup.quarantine"),
    };
    if cleanup.disk_warn >= cleanup.disk_critical {
        section.wrong("cleanup.disk_warn", "must be below cleanup.disk_critical: the disk is brought back from the one to the other");
    }
    if cleanup.quarantine.as_ref().is_some_and(|path| !path.is_absolute()) {
        section.wrong("cleanup.quarantine", "must be absolute; write it with its first slash");
    }
    cleanup
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<ScanPlan>, String) {
        let mut errors = Errors::default();
        let tree = Node::parse_toml(text).unwrap();
        (ScanPlan::read(&tree, "host-1", &mut errors), errors.to_string())
    }

    #[test]
    fn what_is_left_out_is_as_the_settings_say() {
        let (plan, errors) = read("[scan]\nroots = [{ name = \"zeek\", path = \"/files\" }]\n");
        assert_eq!(errors, "");
        let plan = plan.unwrap();
        let root = Root { name: "zeek".into(), path: "/files".into(), watch: true, depth: 1 };
        assert_eq!(plan.settings, Settings { roots: vec![root], ..Settings::default() });
        assert_eq!((plan.monitor.collect_s, plan.monitor.check_s, plan.worker.id.as_str()), (30, 60, "host-1"));
        assert_eq!(read("cores = 1\n"), (None, String::new()));
    }

    #[test]
    fn everything_wrong_is_told_at_once_with_its_line() {
        let text = "[scan]\ntimeout = 60\nroots = [{ name = \"a b\", path = \"files\" }, { name = \"x\", path = \"/x\" }, { name = \"x\", path = \"/y\", dept = 2 }]\n\
            timeout_s = 0\nmime_types = [\"image\"]\n[scan.queue]\nkind = \"kafa\"\nbackoff_s = [5, \"soon\"]\n[scan.workers]\noffline_s = 20\nhosts = [\"here\"]\n\
            [scan.balance]\nweights = { cpu = 3 }\n[scan.cleanup]\ndisk_warn = 95\n[monitor]\ncollect = 5\n";
        let (plan, errors) = read(text);
        assert!(plan.is_some());
        for told in [
            "line 2: scan.timeout: no such setting; did you mean \"timeout_s\"?",
            "line 3: scan.roots[0].name: is no name",
            "line 3: scan.roots[0].path: must be absolute",
            "line 3: scan.roots[2].name: is the name of two roots",
            "line 3: scan.roots[2].dept: no such setting; did you mean \"depth\"?",
            "line 4: scan.timeout_s: 0 is not a whole number from 1 to 300",
            "line 5: scan.mime_types: \"image\" is no type",
            "line 7: scan.queue.kind: \"kafa\" is not one of memory, rabbitmq, kafka",
            "line 8: scan.queue.backoff_s: is no list of seconds",
            "line 10: scan.workers.offline_s: must be more than",
            "line 11: scan.workers.hosts: \"here\" is no network",
            "line 13: scan.balance.weights.cpu: is no share",
            "line 15: scan.cleanup.disk_warn: must be below",
            "line 17: monitor.collect: no such setting; did you mean \"collect_s\"?",
        ] {
            assert!(errors.contains(told), "{told}\nin\n{errors}");
        }
    }

    #[test]
    fn a_broker_s_address_holds_no_secret_and_a_worker_needs_its_master() {
        let text = "[scan]\nroots = [{ name = \"x\", path = \"/x\" }]\n[scan.queue]\nkind = \"rabbitmq\"\nrabbitmq = { url = \"amqp://me:secret@host/%2f\" }\n";
        let (_, errors) = read(text);
        assert!(errors.contains("scan.queue.rabbitmq.url: has a user in it"), "{errors}");
        assert!(!errors.contains("secret@"), "{errors}");
        assert!(read("[scan]\nrole = \"worker\"\n").1.contains("scan.worker.master: must be set"));
        assert_eq!(read("[scan]\nrole = \"worker\"\nworker = { master = \"https://m:1\" }\n").1, "");
        assert!(read("[monitor]\ncollect_s = 5\n").1.contains("there is no [scan]"));
    }
}
