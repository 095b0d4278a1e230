//! The log: where its lines go, and how they look.
//!
//! Lines go to standard error, or are appended to the file of `log.path`, which SIGHUP opens anew
//! (logrotate moves it away). Where standard error is the journal, a line carries its priority
//! (`<6>`) in place of a time: the journal has a time of its own, and would file every line as
//! `info` otherwise.
//!
//! There is one log for the life of the process; [`Log::set`] takes changed settings.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter, SubscriberBuilder,
        format::{Format, Full, Json, Writer},
        time::SystemTime,
    },
    registry::LookupSpan,
};

use crate::topology::{LogFormat, LogSettings};

/// The process's log.
#[derive(Clone)]
pub struct Log {
    shape: Shape,
    lines: Lines,
    filter: Filter,
}

/// Changes the level from which on lines are written.
type Filter = Arc<dyn Fn(&str) -> anyhow::Result<()> + Send + Sync>;

impl Log {
    /// Begins to log; once in a process.
    ///
    /// # Errors
    /// If the file of `log.path` cannot be opened for appending.
    pub fn start(settings: &LogSettings) -> anyhow::Result<Self> {
        let lines = Lines::default();
        let shape = Shape::default();
        let builder = SubscriberBuilder::default()
            .with_ansi(false)
            .with_target(false)
            .with_writer(lines.clone())
            .event_format(shape.clone())
            .with_env_filter(EnvFilter::new(settings.level))
            .with_filter_reloading();
        let handle = builder.reload_handle();
        let filter: Filter = Arc::new(move |level: &str| handle.reload(EnvFilter::new(level)).context("cannot change the log level"));
        let log = Self { shape, lines, filter };
        log.set(settings)?;
        builder.init();
        Ok(log)
    }

    /// Takes changed settings.
    ///
    /// # Errors
    /// If the file of `log.path` cannot be opened; the log then stays as it was.
    #[allow(clippy::disallowed_methods, reason = "the journal names its stream in the environment")]
    pub fn set(&self, settings: &LogSettings) -> anyhow::Result<()> {
        let target = Target::open(settings.path.as_deref())?;
        let to_journal = settings.path.is_none() && is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref(), &io::stderr());
        self.shape.json.store(settings.format == LogFormat::Json, Ordering::Relaxed);
        self.shape.journal.store(to_journal, Ordering::Relaxed);
        *self.lines.0.lock().unwrap_or_else(PoisonError::into_inner) = target;
        (self.filter)(settings.level)
    }

    /// Opens the file anew: lines go to whatever has its name now.
    ///
    /// # Errors
    /// If that cannot be opened; lines then go on into the old file.
    pub fn reopen(&self) -> anyhow::Result<()> {
        let mut target = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Target::File(path, _) = &*target {
            *target = Target::open(Some(path))?;
        }
        Ok(())
    }
}

/// True if standard error is the stream that `JOURNAL_STREAM` names, as device and inode.
///
/// # Source
/// systemd.exec(5), `$JOURNAL_STREAM`: the variable is inherited by children whose standard error
/// was sent elsewhere, so it alone says nothing.
fn is_journal(named: Option<&str>, stream: &impl std::os::fd::AsFd) -> bool {
    let Some((device, inode)) = named.and_then(|named| named.split_once(':')) else { return false };
    let Ok(stat) = rustix::fs::fstat(stream) else { return false };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}

/// Of a log file that we make.
const MODE: u32 = 0o640;

/// Where lines go now.
#[derive(Clone)]
enum Target {
    Stderr,
    File(PathBuf, Arc<fs::File>),
}

impl Target {
    #[allow(clippy::disallowed_methods, reason = "the log is no part of the simulated machine")]
    fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stderr) };
        let failed =
            || format!("cannot open log file {}; make its folder writable for this user, or name another with log.path", path.display());
        let open = |new: bool| fs::OpenOptions::new().append(true).create_new(new).mode(MODE).open(path);
        let file = match open(true) {
            Ok(file) => {
                // Whatever the unit's umask says: the host's group may read it.
                file.set_permissions(fs::Permissions::from_mode(MODE)).with_context(failed)?;
                file
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => open(false).with_context(failed)?,
            Err(e) => return Err(e).with_context(failed),
        };
        Ok(Self::File(path.to_owned(), Arc::new(file)))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write(bytes),
            Self::File(_, file) => (&**file).write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone)]
struct Lines(Arc<Mutex<Target>>);

impl Default for Lines {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Target::Stderr)))
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Target;
    fn make_writer(&'a self) -> Target {
        // A file's line is one write(2) in append mode, so it needs no lock of ours.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a line looks.
#[derive(Clone)]
struct Shape {
    json: Arc<AtomicBool>,
    journal: Arc<AtomicBool>,
    text_timed: Format<Full, SystemTime>,
    text_plain: Format<Full, ()>,
    json_timed: Format<Json, SystemTime>,
    json_plain: Format<Json, ()>,
}

impl Default for Shape {
    fn default() -> Self {
        let text = Format::default().with_target(false).with_ansi(false);
        let json = text.clone().json();
        Self {
            json: Arc::default(),
            journal: Arc::default(),
            text_plain: text.clone().without_time().with_level(false),
            text_timed: text,
            json_plain: json.clone().without_time(),
            json_timed: json,
        }
    }
}

/// As syslog(3) numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

impl<S, N> FormatEvent<S, N> for Shape
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (json, journal) = (self.json.load(Ordering::Relaxed), self.journal.load(Ordering::Relaxed));
        if journal {
            write!(line, "<{}>", priority(*event.metadata().level()))?;
        }
        match (json, journal) {
            (false, false) => self.text_timed.format_event(context, line, event),
            (false, true) => self.text_plain.format_event(context, line, event),
            (true, false) => self.json_timed.format_event(context, line, event),
            (true, true) => self.json_plain.format_event(context, line, event),
        }
    }
}
