//! What an operator may say of scanning. Defaults are those of `Default`; units are in the names.

use std::path::PathBuf;

/// What this process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Accepts, owns, gives out.
    Master,
    /// Scans for a master.
    Worker,
    #[default]
    Both,
}

/// A folder whose files may be scanned. Nothing outside a root is ever opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub name: String,
    pub path: PathBuf,
    /// Whether new files below it become tasks by themselves.
    pub watch: bool,
    /// Levels of subfolders that are watched; 0 is the folder alone.
    pub depth: u32,
}

/// `[scan]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub role: Role,
    pub roots: Vec<Root>,
    pub file_bytes_max: u64,
    /// 1 to 300.
    pub timeout_s: u64,
    /// Exact, or `type/*`; empty is every one.
    pub mime_types: Vec<String>,
    /// Lower case, with their dot; empty is every one.
    pub extensions: Vec<String>,
    /// Stillness after which a listed file that nobody was seen to close is taken.
    pub settle_s: u64,
    pub children: usize,
    pub queue: Queue,
    pub workers: Workers,
    pub balance: Balance,
    pub rules: Rules,
    pub unpack: Unpack,
    pub cleanup: Cleanup,
    pub correlate: Correlate,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            role: Role::Both,
            roots: Vec::new(),
            file_bytes_max: 20 << 20,
            timeout_s: 60,
            mime_types: Vec::new(),
            extensions: Vec::new(),
            settle_s: 150,
            children: 4,
            queue: Queue::default(),
            workers: Workers::default(),
            balance: Balance::default(),
            rules: Rules::default(),
            unpack: Unpack::default(),
            cleanup: Cleanup::default(),
            correlate: Correlate::default(),
        }
    }
}

/// How tasks reach workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueueKind {
    /// The task store itself.
    #[default]
    Memory,
    Rabbitmq(Rabbitmq),
    Kafka(Kafka),
}

/// A queue of RabbitMQ. The address holds no secrets: they come from files or the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rabbitmq {
    pub url: String,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub queue: String,
    /// Else a classic one.
    pub is_quorum: bool,
    pub tls: Tls,
}

/// PEM files of a client of TLS. They are read for each connection, so renewed ones count from the next one on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who vouches for the other side, beside the system's CAs.
    pub ca: Option<PathBuf>,
    /// Our certificate, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Topics of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    pub brokers: Vec<String>,
    pub topic: String,
    pub group: String,
}

/// `[scan.queue]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub kind: QueueKind,
    /// Tasks that may wait.
    pub size_max: u64,
    pub attempts_max: u32,
    /// Before the second attempt, the third and so on; the last one holds on.
    pub backoff_s: Vec<u64>,
    /// No outcome by then: given out again.
    pub task_ttl_s: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { kind: QueueKind::Memory, size_max: 1000, attempts_max: 3, backoff_s: vec![5, 30, 120], task_ttl_s: 600 }
    }
}

/// `[scan.workers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    pub heartbeat_s: u64,
    pub offline_s: u64,
    pub max: usize,
    /// Networks from which workers may call and where they may be called.
    pub hosts: Vec<ipnet::IpNet>,
}

impl Default for Workers {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect();
        Self { heartbeat_s: 30, offline_s: 60, max: 100, hosts: loopback }
    }
}

/// Who gets the next task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    #[default]
    LoadBased,
    RoundRobin,
    CapabilityBased,
}

/// `[scan.balance]`. Shares of a worker's load, each of 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    pub algorithm: Algorithm,
    pub cpu: f64,
    pub memory: f64,
    pub queue: f64,
    /// A task that nobody is able to do waits; else any worker gets it.
    pub strict: bool,
}

impl Default for Balance {
    fn default() -> Self {
        Self { algorithm: Algorithm::LoadBased, cpu: 0.3, memory: 0.3, queue: 0.4, strict: false }
    }
}

/// `[scan.rules]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub paths: Vec<PathBuf>,
    /// Regular expressions with escapes that only libyara knows.
    pub relaxed: bool,
    /// Between two looks at the files; 0 is never.
    pub reload_s: u64,
    /// Of one pattern in one file.
    pub matches_max: usize,
    /// Shown of each match.
    pub match_bytes: usize,
    /// Shown of each pattern.
    pub matches_reported: usize,
    /// Files of so many hours are scanned again by new rules; 0 is none.
    pub rescan_hours: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            paths: vec!["/etc/shipper/rules".into()],
            relaxed: true,
            reload_s: 10,
            matches_max: 10_000,
            match_bytes: 64,
            matches_reported: 16,
            rescan_hours: 0,
        }
    }
}

/// `[scan.unpack]`. Of one file, all its members together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpack {
    pub depth_max: u32,
    pub children_max: usize,
    pub bytes_max: u64,
    /// Bytes out for each byte in.
    pub ratio_max: u64,
}

impl Default for Unpack {
    fn default() -> Self {
        Self { depth_max: 4, children_max: 500, bytes_max: 100 << 20, ratio_max: 250 }
    }
}

/// `[scan.cleanup]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanup {
    pub enabled: bool,
    pub clean_hours: u64,
    pub matched_hours: u64,
    pub interval_minutes: u64,
    /// Percent of the disk.
    pub disk_warn: u8,
    pub disk_critical: u8,
    /// Matched files go there instead of away.
    pub quarantine: Option<PathBuf>,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self {
            enabled: false,
            clean_hours: 24,
            matched_hours: 168,
            interval_minutes: 60,
            disk_warn: 80,
            disk_critical: 90,
            quarantine: None,
        }
    }
}

/// `[scan.correlate]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correlate {
    pub eve: Option<PathBuf>,
    /// The folder of Zeek's current logs.
    pub zeek_logs: Option<PathBuf>,
    pub window_s: u64,
    pub proximity_s: u64,
    pub confidence_min: u8,
}

impl Default for Correlate {
    fn default() -> Self {
        Self { eve: None, zeek_logs: None, window_s: 300, proximity_s: 60, confidence_min: 70 }
    }
}
