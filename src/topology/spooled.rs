//! What the plan adds for a lookup or sink with a spool: a source that brings messages again, its branch, and the
//! wire between them. Pure.
//!
//! Both are called `misp:spool`, which is no name that a config may give. The branch's handler never sees a
//! record: what a spool holds are messages, which the desk emits as they are.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::{
    config::{HandlerEntry, Inputs, LookupEntry, SinkEntry, SourceEntry},
    globals::Globals,
};
use crate::{
    alert::Alert,
    batch::Outbox,
    handlers::{Fate, Handler, Needles, Output, Record, Spec},
    limits::BRANCHES_MAX,
    put_by::Spooling,
    register::{Errors, Place},
    sources::spool::Spooled,
    spool::KIND,
    tables::Shelf,
};

/// What no name of a config holds.
const MARK: char = ':';

/// The source and the branch of a spool.
///
/// - `of`: the lookup's or sink's name.
pub fn name_of(of: &str) -> String {
    format!("{of}{MARK}spool")
}

/// True for a name that the plan gave.
pub fn is_ours(name: &str) -> bool {
    name.contains(MARK)
}

/// One that may have a spool.
struct Keeper<'e> {
    section: &'static str,
    name: &'e str,
    place: &'e Place,
    required: bool,
    spooling: Spooling,
    inputs: &'e mut Inputs,
}

/// Adds what each lookup and sink with a spool needs.
pub(super) fn add(
    globals: &Globals,
    sources: &mut Vec<SourceEntry>,
    handlers: &mut Vec<HandlerEntry>,
    lookups: &mut [LookupEntry],
    sinks: &mut [SinkEntry],
    errors: &mut Errors,
) {
    let of_lookups = lookups.iter_mut().filter_map(|entry| {
        let LookupEntry { name, place, required, spec, inputs, .. } = entry;
        Some(Keeper { section: "lookups", name, place, required: *required, spooling: spec.as_ref()?.spool()?, inputs })
    });
    let of_sinks = sinks.iter_mut().filter_map(|entry| {
        let SinkEntry { name, place, required, spec, inputs, .. } = entry;
        Some(Keeper { section: "sinks", name, place, required: *required, spooling: spec.as_ref()?.spool()?, inputs })
    });
    for Keeper { section, name: of, place, required, spooling, inputs } in of_lookups.chain(of_sinks) {
        let name = name_of(of);
        if !required {
            if spooling.max.is_some() {
                let what =
                    "puts messages by, so records have to wait until they are on disk; set required = true, or while_away = \"wait\"";
                errors.add(place, format!("{section}.{of}"), what);
            }
            continue;
        }
        if sources.iter().any(|source| source.name == name) {
            errors.add(place, format!("{section}.{of}"), format!("lookups.{of} has a spool of this name as well; rename one"));
            continue;
        }
        let spec = Spooled { lookup: of.to_owned(), state_dir: globals.state_dir.clone() };
        sources.push(SourceEntry { name: name.clone(), place: place.clone(), kind: KIND, expects: None, spec: Some(Box::new(spec)) });
        handlers.push(HandlerEntry {
            name: name.clone(),
            place: place.clone(),
            kind: KIND,
            inputs: Inputs { place: place.clone(), names: vec![(name.clone(), place.clone())] },
            outputs: &[Output { name: "", after: None }],
            needs_primary: true,
            spec: Some(Box::new(Passed)),
        });
        inputs.names.push((name, place.clone()));
        if handlers.len() > BRANCHES_MAX {
            let what = format!("there are {} handlers with the spools, at most {BRANCHES_MAX} can be", handlers.len());
            errors.add(place, format!("{section}.{of}"), what + "; split the config over two agents");
        }
    }
}

/// The handler of a branch that takes messages only.
#[derive(Debug)]
struct Passed;

impl Spec for Passed {
    fn build(&self, _: &Shelf) -> Box<dyn Handler> {
        Box::new(Self)
    }
}

impl Handler for Passed {
    fn needles(&self) -> Needles {
        Needles::All
    }
    fn handle(&mut self, _: &Record<'_>, _: &mut Alert<'_>, _: &mut Outbox<'_>) -> Fate {
        Fate::Dropped("no_message")
    }
}
