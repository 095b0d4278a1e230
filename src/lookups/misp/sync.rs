//! Makes the local tables what MISP has: all of it, or what has changed since the last time.
//!
//! For a command and for the agent alike: it blocks, on a thread of its own, with a small runtime
//! for the calls. What it writes counts whole or not at all (`store::intel`).
//!
//! Changes are fetched in up to four passes over the same span of time, which begins a while before
//! the last synchronisation did (clocks differ, and a transaction ends after it began):
//!
//! | pass | is asked for | becomes of its rows |
//! |---|---|---|
//! | changed | everything that changed, deleted or not, whatever the filters say | taken out, unless in one of the next two |
//! | unpublished | what is in events that changed and are not published | taken out, unless in one of the next two |
//! | wanted | what changed and passes the filters | put in |
//! | published | what passes the filters, in events that were published | put in |
//!
//! The passes of events are left out where `published` is no filter. So an attribute that was
//! deleted, is no longer for detection, hits a warninglist, or whose event was withdrawn, is gone;
//! one whose value was edited is known by its old value, too, until the next whole fetch.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    answer::Outcome,
    attribute::Attribute,
    local,
    query::Pass,
    session::{Session, Sync},
    settings::Settings,
};
use crate::{
    io::Disk,
    limits,
    store::intel::{self, Import, IntelError, Own, Tables},
    tables::changes::{CHANGES_MAX, Change},
};

/// Where the tables are.
pub struct Place {
    pub disk: Arc<dyn Disk + std::marker::Sync>,
    pub state_dir: PathBuf,
    /// As for [`Import::begin`]; called anew for each use.
    pub own: fn(PathBuf) -> Box<Own>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Rows read so far.
    Rows(u64),
    /// Steps of 256 of sorting what was read.
    Sorted(u8),
    /// MISP's own limit is used up; so many seconds.
    Waiting(u64),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Everything was fetched, because of this; `None` for changes alone.
    pub whole: Option<&'static str>,
    /// Rows that MISP sent.
    pub rows: u64,
    /// Attributes put in and taken out, of changes alone.
    pub put: u64,
    pub gone: u64,
    /// Of the tables now.
    pub status: intel::Status,
    /// Keys that have changed since the whole fetch.
    pub changed: usize,
}

/// Why it was not done; the tables are as they were.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A person has something to mend.
    #[error("{0}")]
    Denied(String),
    /// The next try may go well.
    #[error("MISP is away: {0}")]
    Away(String),
    #[error(transparent)]
    Tables(#[from] IntelError),
    /// Out of threads or descriptors.
    #[error("cannot open sockets; raise the limits of open files and of threads")]
    Start(#[source] io::Error),
}

/// What all of one synchronisation share.
struct Run<'a> {
    settings: &'a Settings,
    place: &'a Place,
    session: Rc<Session>,
    runtime: tokio::runtime::Runtime,
    tell: &'a mut dyn FnMut(Progress),
    rows: u64,
}

/// Fetches what is needed and makes it count.
///
/// - `whole`: everything, in any case.
/// - `rebuild_every`: age of the last whole fetch at which everything is fetched again.
/// - `now`: wall time, seconds since 1970.
///
/// # Errors
/// [`SyncError`]; what counted before still does.
pub fn sync(
    settings: &Settings,
    place: &Place,
    whole: bool,
    rebuild_every: Duration,
    now: u64,
    tell: &mut dyn FnMut(Progress),
) -> Result<Synced, SyncError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SyncError::Start)?;
    let page_rows = settings.limits.page_rows.max(limits::MISP_SYNC_PAGE_ROWS);
    let session = Rc::new(Session::new(settings.http.clone(), settings.key_file.clone(), settings.filters.clone(), page_rows));
    let mut run = Run { settings, place, session, runtime, tell, rows: 0 };
    let why = if whole { Some("asked for") } else { run.why_whole(rebuild_every, now) };
    match why {
        Some(why) => run.whole(why, now),
        None => match run.changes(now)? {
            Some(synced) => Ok(synced),
            None => run.whole("much has changed", now),
        },
    }
}

impl Run<'_> {
    /// Server and filters, in words that are others when either is.
    fn identity(&self) -> String {
        let super::query::Filters { to_ids, published, warninglists, types } = &self.settings.filters;
        let base = &self.settings.http.base;
        format!("{base} to_ids={to_ids} published={published} warninglists={warninglists} types={}", types.join(","))
    }

    /// Why changes alone will not do.
    fn why_whole(&self, rebuild_every: Duration, now: u64) -> Option<&'static str> {
        // A table that cannot be read is replaced.
        let Ok(tables) = Tables::load(&*self.place.disk, &self.place.state_dir) else { return Some("the tables cannot be read") };
        let Some(tables) = tables else { return Some("there was nothing yet") };
        if tables.status.synced.is_empty() {
            return Some("the tables were filled from files");
        }
        if tables.status.synced != self.identity() {
            return Some("the server or the filters are others");
        }
        if now.saturating_sub(tables.status.built) >= rebuild_every.as_secs() {
            return Some("the last whole fetch is old");
        }
        None
    }

    /// Hands out the rows of every page of a pass. `take` gives false to end early.
    ///
    /// A page that does not come is asked for again a few times; MISP's own limit is waited for.
    #[allow(clippy::disallowed_methods, reason = "a thread of its own, which the simulator does not have")]
    fn each(&mut self, pass: Pass, take: &mut dyn FnMut(Attribute) -> Result<bool, SyncError>) -> Result<bool, SyncError> {
        let mut pages = Sync::of(self.session.clone(), pass);
        let mut failures = 0;
        loop {
            let rows = match self.runtime.block_on(pages.next()) {
                Ok(Some(rows)) => rows,
                Ok(None) => return Ok(true),
                Err(Outcome::Limited(span)) => {
                    let span = Duration::from_nanos(span);
                    (self.tell)(Progress::Waiting(span.as_secs()));
                    self.runtime.block_on(tokio::time::sleep(span));
                    continue;
                }
                Err(Outcome::Away(why)) => {
                    failures += 1;
                    if failures > limits::MISP_SYNC_TRIES {
                        return Err(SyncError::Away(why));
                    }
                    self.runtime.block_on(tokio::time::sleep(Duration::from_millis(limits::MISP_SYNC_WAIT_MS << failures)));
                    continue;
                }
                Err(Outcome::Denied(why) | Outcome::Refused(why)) => return Err(SyncError::Denied(why)),
                Err(Outcome::Rows { .. }) => return Err(SyncError::Denied("an answer that is none; this is a defect of shipper".into())),
            };
            failures = 0;
            self.rows += rows.len() as u64;
            (self.tell)(Progress::Rows(self.rows));
            for row in rows {
                if !take(row)? {
                    return Ok(false);
                }
            }
        }
    }

    fn own(&self) -> Box<Own> {
        (self.place.own)(self.place.state_dir.clone())
    }

    /// Everything, as a new generation.
    fn whole(mut self, why: &'static str, now: u64) -> Result<Synced, SyncError> {
        let mut import = Import::begin(self.place.disk.clone(), &self.place.state_dir, self.own())?;
        let mut skipped: BTreeMap<String, u64> = BTreeMap::new();
        self.each(Pass::All, &mut |row| {
            let kept = if row.deleted { Vec::new() } else { local::attributes(&row) };
            if kept.is_empty() {
                let reason = if row.deleted { "marked as deleted" } else { "nothing that an alert holds" };
                *skipped.entry(reason.to_owned()).or_default() += 1;
            }
            for attribute in &kept {
                if let Err(refused) = import.add(attribute)? {
                    *skipped.entry(refused.to_string()).or_default() += 1;
                }
            }
            Ok(true)
        })?;
        import.synced(self.identity(), now);
        let tell = &mut self.tell;
        let status = import.finish(vec![self.settings.http.base.clone()], skipped, now, &mut |step| tell(Progress::Sorted(step)))?;
        Ok(Synced { whole: Some(why), rows: self.rows, put: 0, gone: 0, status, changed: 0 })
    }

    /// What has changed, laid over the generation; `None` if that is too much.
    fn changes(&mut self, now: u64) -> Result<Option<Synced>, SyncError> {
        let own = self.own();
        let _lock = intel::lock(&*self.place.disk, &self.place.state_dir, &*own)?;
        let Some(mut tables) = Tables::load(&*self.place.disk, &self.place.state_dir)? else { return Ok(None) };
        let since = tables.changed_until().saturating_sub(limits::MISP_SYNC_OVERLAP_SECONDS);
        let filters = self.settings.filters.clone();
        let (mut gone, mut put): (Vec<Attribute>, Vec<Attribute>) = (Vec::new(), Vec::new());
        let take = |into: &mut Vec<Attribute>, row| {
            into.push(row);
            Ok(into.len() <= CHANGES_MAX)
        };
        let mut fits = self.each(Pass::Changed(since), &mut |row| take(&mut gone, row))?;
        if filters.published {
            fits = fits && self.each(Pass::Unpublished(since), &mut |row| take(&mut gone, row))?;
        }
        fits = fits && self.each(Pass::Wanted(since), &mut |row| take(&mut put, row))?;
        if filters.published {
            fits = fits && self.each(Pass::Published(since), &mut |row| take(&mut put, row))?;
        }
        if !fits {
            return Ok(None);
        }
        let wanted: HashSet<&str> = put.iter().map(|row| &*row.uuid).collect();
        let mut all = Vec::new();
        for row in gone.iter().filter(|row| !wanted.contains(&*row.uuid)) {
            all.extend(local::attributes(row).into_iter().map(|attribute| (attribute, Change::Gone)));
        }
        let out = all.len() as u64;
        for row in put.iter().filter(|row| !row.deleted) {
            all.extend(local::attributes(row).into_iter().map(|attribute| (attribute, Change::Put)));
        }
        let into = all.len() as u64 - out;
        if tables.change(&*self.place.disk, all, now, &*own)? {
            return Ok(None);
        }
        let changed = tables.indicators.changed();
        Ok(Some(Synced { whole: None, rows: self.rows, put: into, gone: out, status: tables.status, changed }))
    }
}
