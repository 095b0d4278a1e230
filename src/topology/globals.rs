//! Settings of the agent itself, outside the components.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use crate::api::Listen;
use crate::api::access::{Rate, Settings as Access};
use crate::net::acceptor::Files;
use crate::register::{Errors, Field, Node, Section, Type};

/// Every setting outside `sources`, `handlers` and `sinks`.
pub static GLOBALS: &[Field] = &[
    Field::new(
        "cores",
        Type::Int { min: 1, max: 1024 },
        "1",
        "Shards: threads that read, handle and send, each pinned to one core. An idle one sleeps.",
    ),
    Field::new(
        "engine",
        Type::Choice(&["auto", "uring", "pread"]),
        "auto",
        "How files are read: `uring` wants a kernel that allows io_uring, `pread` works everywhere, `auto` picks `uring` where it works.",
    ),
    Field::optional(
        "instance",
        Type::Text,
        "Name of this agent in positions and in the header `shipper-origin`; the host name where unset. Changing it makes old records look new.",
    ),
    Field::new(
        "drain_for",
        Type::Span,
        "10s",
        "How long a stop or reload waits for acks; what is unacked then is sent again after the start.",
    ),
    Field::new("state.dir", Type::Path, "/var/lib/shipper", "Directory of the checkpoint and all other state; only one agent may use it."),
    Field::optional(
        "dead_letter.path",
        Type::Path,
        "Directory of refused records; `dead-letter` inside the state directory where unset. Only one agent may use it.",
    ),
    Field::new("dead_letter.max_bytes", Type::Bytes, "1 GiB", "Size of the dead letter at which `dead_letter.on_full` applies."),
    Field::new(
        "dead_letter.on_full",
        Type::Choice(&["stop", "drop_oldest"]),
        "stop",
        "A full dead letter: `stop` holds the stream until there is room, `drop_oldest` removes the oldest entries and counts them as lost.",
    ),
    Field::optional(
        "dead_letter.max_age",
        Type::Span,
        "Age at which refused records are removed and counted as `dead_letter_age`, a sixteenth of it later at most: for records that hold personal \
         data. They stay until the dead letter is full where unset.",
    ),
    Field::new(
        "dead_letter.mask",
        Type::Bool,
        "false",
        "Whether of what is refused only the place, the reason, the length and the SHA-256 are kept: for records that hold personal data. Such bytes \
         are gone once whoever wrote them has removed them.",
    ),
    Field::new("log.level", Type::Choice(&["error", "warn", "info", "debug", "trace"]), "info", "Least severe lines that are written."),
    Field::new("log.format", Type::Choice(&["text", "json"]), "text", "One line of text or one JSON object an event."),
    Field::optional(
        "log.path",
        Type::Path,
        "File that log lines are appended to, made with mode 0640 and opened anew on SIGHUP; standard error where unset.",
    ),
    Field::new("log.stats_every", Type::Span, "60s", "How often a line of statistics is logged; \"0\" is never."),
    Field::optional(
        "api.listen",
        Type::Text,
        "Where /metrics and /health answer: a loopback address such as \"127.0.0.1:9600\", or \"unix:/run/shipper/api.sock\"; another address \
         needs TLS and keys. Off where unset.",
    ),
    Field::optional("api.tls.cert", Type::Path, "Our certificate with its chain, PEM. With it the API speaks TLS only."),
    Field::optional("api.tls.key", Type::Path, "Its key, PEM, readable by the agent alone."),
    Field::optional(
        "api.tls.client_ca",
        Type::Path,
        "Certificates that a client's own must come from; without one of them nobody gets in.",
    ),
    Field::optional(
        "api.keys_file",
        Type::Path,
        "Who may do what, a line each, as `shipper keys new` writes them; mode 0600. Without it the API is open to this host.",
    ),
    Field::new("api.cors_origins", Type::Texts, "[]", "Origins whose pages may ask from a browser; never with credentials."),
    Field::new("api.rate", Type::Text, "600/minute", "Requests of one key or address, a number a `second`, `minute` or `hour`."),
    Field::new("api.register_rate", Type::Text, "10/minute", "Registrations of workers from one address."),
    Field::new("api.auth_failures", Type::Text, "10/minute", "Wrong keys from one address, before it has to wait."),
    Field::new(
        "health.stall_after",
        Type::Span,
        "60s",
        "A source that has unread or unacked bytes and gets nothing acked for this long is reported as stalled by /health; \"0\" is never.",
    ),
];

/// Settings of the agent itself, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    pub cores: usize,
    pub engine: Engine,
    pub instance: String,
    pub drain_for: Duration,
    pub state_dir: PathBuf,
    pub dead_letter: DeadLetterSettings,
    pub log: LogSettings,
    /// Where the HTTP face listens; `None` is nowhere.
    pub api: Option<Listen>,
    pub access: Access,
    pub stall_after: Duration,
}

/// The engine that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `Uring` where it works.
    Auto,
    Uring,
    Pread,
}

/// Settings of the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterSettings {
    /// Directory.
    pub path: PathBuf,
    pub max_bytes: u64,
    pub on_full: OnFull,
    /// Refused records are removed at this age.
    pub max_age: Option<Duration>,
    /// Bytes are not kept.
    pub mask: bool,
}

/// What a full dead letter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// Hold the stream.
    Stop,
    /// Lose the oldest entries, counted.
    DropOldest,
}

/// Settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    pub format: LogFormat,
    /// Standard error where `None`.
    pub path: Option<PathBuf>,
    /// Zero is never.
    pub stats_every: Duration,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Globals {
    /// Reads them from the top of the tree; wrong ones are noted and their default stands in.
    ///
    /// - `host`: the instance's name where none is set.
    pub fn read(tree: &Node, host: &str, errors: &mut Errors) -> Self {
        let mut section = Section::open("", tree, GLOBALS, &SECTIONS, errors);
        let state_dir = section.path("state.dir");
        let instance = section.opt_text("instance").unwrap_or_else(|| host.to_owned());
        if instance.is_empty() || instance.contains('/') {
            section.wrong("instance", "must not be empty nor contain \"/\"; give this agent a name");
        }
        let access = access(&mut section);
        let api = listen(&mut section, &access);
        Self {
            cores: usize::try_from(section.int("cores")).unwrap_or(1),
            engine: match section.choice("engine") {
                "uring" => Engine::Uring,
                "pread" => Engine::Pread,
                _ => Engine::Auto,
            },
            instance,
            drain_for: section.span("drain_for"),
            dead_letter: DeadLetterSettings {
                path: section.opt_path("dead_letter.path").unwrap_or_else(|| state_dir.join("dead-letter")),
                max_bytes: section.bytes("dead_letter.max_bytes"),
                max_age: section.opt_span("dead_letter.max_age"),
                mask: section.bool("dead_letter.mask"),
                on_full: if section.choice("dead_letter.on_full") == "drop_oldest" { OnFull::DropOldest } else { OnFull::Stop },
            },
            log: LogSettings {
                level: section.choice("log.level"),
                format: if section.choice("log.format") == "json" { LogFormat::Json } else { LogFormat::Text },
                path: section.opt_path("log.path"),
                stats_every: section.span("log.stats_every"),
            },
            access,
            api,
            stall_after: section.span("health.stall_after"),
            state_dir,
        }
    }
}

/// What has a reader of its own.
const SECTIONS: [&str; 8] = ["tables", "sources", "handlers", "stages", "lookups", "sinks", "scan", "monitor"];

fn access(section: &mut Section<'_>) -> Access {
    let (cert, key, client_ca) = (section.opt_path("api.tls.cert"), section.opt_path("api.tls.key"), section.opt_path("api.tls.client_ca"));
    match (&cert, &key) {
        (Some(_), None) => section.wrong("api.tls.key", "must be set beside api.tls.cert; name the file of the certificate's key"),
        (None, Some(_)) => section.wrong("api.tls.cert", "must be set beside api.tls.key; name the file of the certificate"),
        (None, None) if client_ca.is_some() => {
            section.wrong("api.tls.cert", "must be set beside api.tls.client_ca: clients show certificates over TLS only");
        }
        _ => {}
    }
    let mut rate = |name| {
        let text = section.text(name);
        text.parse::<Rate>().unwrap_or_else(|_| {
            section.wrong(name, format!("{text:?} is no rate; write it as \"600/minute\", a number above 0 a second, minute or hour"));
            Access::default().rate
        })
    };
    let (all, register_rate, auth_failures) = (rate("api.rate"), rate("api.register_rate"), rate("api.auth_failures"));
    let cors_origins = section.texts("api.cors_origins");
    if let Some(wrong) = cors_origins.iter().find(|origin| !origin.starts_with("https://") && !origin.starts_with("http://")) {
        let what = format!("{wrong:?} is no origin; write it as \"https://soc.example\"");
        section.wrong("api.cors_origins", what);
    }
    let keys_file = section.opt_path("api.keys_file");
    let tls = cert.zip(key).map(|(cert, key)| Files { cert, key, client_ca });
    Access { keys_file, tls, cors_origins, rate: all, register_rate, auth_failures }
}

fn listen(section: &mut Section<'_>, access: &Access) -> Option<Listen> {
    let text = section.opt_text("api.listen")?;
    if let Some(path) = text.strip_prefix("unix:") {
        if path.starts_with('/') {
            return Some(Listen::Unix(PathBuf::from(path)));
        }
        section.wrong("api.listen", "the path of a unix socket must be absolute; write \"unix:/run/shipper/api.sock\"");
        return None;
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Some(Listen::Tcp(address)),
        Ok(address) if access.tls.is_some() && access.keys_file.is_some() => Some(Listen::Tcp(address)),
        Ok(address) => {
            let what = format!(
                "{address} can be reached from outside, which needs TLS and keys: set api.tls.cert, api.tls.key and \
                 api.keys_file, or use \"127.0.0.1:{}\" or \"unix:/run/shipper/api.sock\"",
                address.port()
            );
            section.wrong("api.listen", what);
            None
        }
        Err(_) => {
            section.wrong("api.listen", "is no address and port; write \"127.0.0.1:9600\" or \"unix:/run/shipper/api.sock\"");
            None
        }
    }
}
