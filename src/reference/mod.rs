//! What fills the tables of an agent: kinds of `[tables.NAME]`.
//!
//! A table is reference data that handlers, stages and lookups read and nobody changes: they are
//! handed its place on a [`Shelf`], and a newer one is put there whole. A kind here knows from
//! which files its table comes and what they hold; when they are looked at, and what is told of
//! it, is `topology`'s.
//!
//! A component names a table in a setting of type [`Type::Table`](crate::register::Type::Table);
//! the config is checked for the name and the kind.
//!
//! Adding one is one file and one line in [`ALL`].

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use crate::register::{Finding, Level};
use crate::{
    clock::Nanos,
    io::Disk,
    metrics::Standing,
    register::{Field, Section},
    tables::Shelf,
};

crate::register! { Kind:
    indicators::IndicatorTables,
    warninglists::Lists,
    reputation::ReputationTables,
    geoip::GeoIpTables,
    suppressions::SuppressionTables,
    model::ModelTables,
    sigma::SigmaTables,
}

/// What exists: a kind of table.
pub trait Kind: Sync {
    /// As in `kind = "…"`.
    fn name(&self) -> &'static str;
    /// One line for `shipper list`.
    fn about(&self) -> &'static str;
    /// Its settings.
    fn fields(&self) -> &'static [Field];
    /// How many tables of it an agent may have.
    fn tables_max(&self) -> usize {
        usize::MAX
    }
    /// Reads its settings; wrong ones are noted in the section.
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec>;
}

/// What the config asks for, checked.
pub trait Spec: Send + Sync + fmt::Debug {
    /// Makes the empty places of a table.
    fn place(&self, name: &str, shelf: &mut Shelf);
    /// Reads the files and puts the table in its places, whole. May take seconds.
    ///
    /// Returns what the table holds, in a few words for a log.
    ///
    /// # Errors
    /// What is wrong and the remedy; but for [`Trouble::Partly`] nothing has changed then.
    fn load(&self, name: &str, shelf: &Shelf, disk: &dyn Disk, state_dir: &Path) -> Result<String, Trouble>;
    /// The files that are other files, or have another size or time, when there is something new to
    /// load. They need not exist.
    fn files(&self, disk: &dyn Disk, state_dir: &Path) -> Vec<PathBuf>;
    /// How often these are looked at.
    fn look_every(&self) -> Duration {
        Duration::from_secs(1)
    }
    /// Tells what has become of the table in use: figures, ends. Called at every look.
    ///
    /// - `now`: wall time.
    fn tend(&self, name: &str, shelf: &Shelf, standing: &Standing, now: Nanos) {
        let _ = (name, shelf, standing, now);
    }
    /// What `shipper check` tells of one.
    fn check(&self, disk: &dyn Disk, state_dir: &Path) -> Vec<Finding>;
}

/// Why there is no table, or no newer one: what, and the remedy after `;`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There never was one.
    #[error("{0}")]
    Missing(String),
    /// There is one that cannot be used.
    #[error("{0}")]
    Broken(String),
    /// A newer one is in its place, and something of it is not as it should be.
    #[error("{0}")]
    Partly(String),
}

impl Trouble {
    /// An error with all that is behind it, on one line.
    fn of(error: &dyn std::error::Error) -> Self {
        Self::Broken(chain(error))
    }
}

/// An error and its causes, joined by colons.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |all, cause| format!("{all}: {cause}"))
}

/// Reads a file that an operator named, through links, and not beyond a size.
///
/// - `what`: the file in one or two words, for the error.
fn read(disk: &dyn Disk, path: &Path, what: &str, bytes_max: u64) -> Result<Vec<u8>, Trouble> {
    let found = found(disk, path, what, bytes_max)?;
    disk.read(&found).map_err(|error| unread(path, what, &error))
}

/// Where a file that an operator named lies, if it is not beyond a size.
fn found(disk: &dyn Disk, path: &Path, what: &str, bytes_max: u64) -> Result<PathBuf, Trouble> {
    let failed = |error: std::io::Error| unread(path, what, &error);
    let found = disk.resolve(path).map_err(failed)?;
    let bytes = disk.len(&found).map_err(failed)?;
    if bytes > bytes_max {
        let shown = path.display();
        return Err(Trouble::Broken(format!("the {what} {shown} has {bytes} bytes, and at most {bytes_max} are read; name another file")));
    }
    Ok(found)
}

/// Why a file cannot be read, and what to do.
fn unread(path: &Path, what: &str, error: &std::io::Error) -> Trouble {
    let shown = path.display();
    match error.kind() {
        std::io::ErrorKind::NotFound => Trouble::Missing(format!("there is no {what} {shown}; put it there, or name another")),
        _ => Trouble::Broken(format!("cannot read the {what} {shown}: {error}; fix its permissions")),
    }
}

/// A finding for `check` from what a load gave.
fn finding(loaded: Result<String, Trouble>) -> Finding {
    match loaded {
        Ok(what) => Finding { level: Level::Good, text: what },
        // It may be filled later, by hand or by the agent.
        Err(Trouble::Missing(what) | Trouble::Partly(what)) => Finding { level: Level::Warning, text: what },
        Err(Trouble::Broken(what)) => Finding { level: Level::Bad, text: what },
    }
}
