//! `indicators`: the indicators of MISP in the state folder, as `store::intel` keeps them.
//!
//! Two places: the filter with its changes ([`Indicators`]) for whoever asks about every indicator
//! of an alert, and the whole ([`Tables`]) for whoever tells what is known of one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Finding, Kind, Spec, Trouble, finding};
use crate::{
    io::Disk,
    register::{Field, Section},
    store::intel::{Tables, current, folder},
    tables::{Indicators, Shelf},
};

/// The kind.
pub struct IndicatorTables;

impl Kind for IndicatorTables {
    fn name(&self) -> &'static str {
        "indicators"
    }
    fn about(&self) -> &'static str {
        "the indicators that `shipper intel import` or a synchronisation with MISP keeps in the state folder"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn parse(&self, _section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings)
    }
}

/// There is nothing to set.
#[derive(Clone, Copy, Debug)]
struct Settings;

impl Spec for Settings {
    fn place(&self, name: &str, shelf: &mut Shelf) {
        shelf.place::<Tables>(name);
        shelf.place::<Indicators>(name);
    }

    fn load(&self, name: &str, shelf: &Shelf, disk: &dyn Disk, state_dir: &Path) -> Result<String, Trouble> {
        let held = shelf.of::<Tables>(name);
        let before = held.as_ref().and_then(|held| held.get());
        let tables = Tables::load_after(disk, state_dir, before.as_deref()).map_err(|error| Trouble::of(&error))?;
        let tables = Arc::new(tables.ok_or_else(|| missing(state_dir))?);
        let what = told(&tables);
        // What knows comes before what asks: whatever the new filter lets through is known then.
        if let Some(held) = held {
            held.put(tables.clone());
        }
        if let Some(held) = shelf.of::<Indicators>(name) {
            held.put(tables.indicators.clone());
        }
        Ok(what)
    }

    fn files(&self, _disk: &dyn Disk, state_dir: &Path) -> Vec<PathBuf> {
        vec![current(state_dir)]
    }

    fn check(&self, disk: &dyn Disk, state_dir: &Path) -> Vec<Finding> {
        let loaded = Tables::load(disk, state_dir).map_err(|error| Trouble::of(&error));
        vec![finding(loaded.and_then(|tables| tables.as_ref().map(told).ok_or_else(|| missing(state_dir))))]
    }
}

fn missing(state_dir: &Path) -> Trouble {
    let folder = folder(state_dir);
    Trouble::Missing(format!(
        "there are no indicators in {}; fill them with `shipper intel import` or `shipper intel sync`",
        folder.display()
    ))
}

fn told(tables: &Tables) -> String {
    let status = &tables.status;
    let built = i64::try_from(status.built).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).unwrap_or_default();
    let changed = match tables.indicators.changed() {
        0 => String::new(),
        n => format!(", {n} changed since"),
    };
    format!("generation {} of {built} with {} indicators{changed}", status.generation, status.indicators)
}
