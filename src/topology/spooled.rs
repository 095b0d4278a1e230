//! What the plan adds for a lookup with a spool: a source that brings messages again, its branch, and the
//! wire between them. Pure.
//!
//! Both are called `misp:spool`, which is no name that a config may give. The branch's handler never sees a
//! record: what a spool holds are messages, which the desk emits as they are.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::{
    config::{HandlerEntry, Inputs, LookupEntry, SourceEntry},
    globals::Globals,
};
use crate::{
    alert::Alert,
    batch::Outbox,
    handlers::{Fate, Handler, Needles, Output, Record, Spec},
    limits::BRANCHES_MAX,
    register::Errors,
    sources::spool::Spooled,
    spool::KIND,
    tables::Shelf,
};

/// What no name of a config holds.
const MARK: char = ':';

/// The source and the branch of a lookup's spool.
pub fn name_of(lookup: &str) -> String {
    format!("{lookup}{MARK}spool")
}

/// True for a name that the plan gave.
pub fn is_ours(name: &str) -> bool {
    name.contains(MARK)
}

/// Adds what each lookup with a spool needs.
pub(super) fn add(
    globals: &Globals,
    sources: &mut Vec<SourceEntry>,
    handlers: &mut Vec<HandlerEntry>,
    lookups: &mut [LookupEntry],
    errors: &mut Errors,
) {
    for lookup in lookups {
        let Some(spooling) = lookup.spec.as_ref().and_then(|spec| spec.spool()) else { continue };
        if !lookup.required {
            if spooling.max.is_some() {
                let what =
                    "puts messages by, so records have to wait until they are on disk; set required = true, or while_away = \"wait\"";
                errors.add(&lookup.place, format!("lookups.{}", lookup.name), what);
            }
            continue;
        }
        let (name, place) = (name_of(&lookup.name), lookup.place.clone());
        let spec = Spooled { lookup: lookup.name.clone(), state_dir: globals.state_dir.clone() };
        sources.push(SourceEntry { name: name.clone(), place: place.clone(), kind: KIND, spec: Some(Box::new(spec)) });
        handlers.push(HandlerEntry {
            name: name.clone(),
            place: place.clone(),
            kind: KIND,
            inputs: Inputs { place: place.clone(), names: vec![(name.clone(), place.clone())] },
            outputs: &[Output { name: "", after: None }],
            needs_primary: true,
            spec: Some(Box::new(Passed)),
        });
        lookup.inputs.names.push((name, place.clone()));
        if handlers.len() > BRANCHES_MAX {
            let what = format!("there are {} handlers with the spools of lookups, at most {BRANCHES_MAX} can be", handlers.len());
            errors.add(&place, format!("lookups.{}", lookup.name), what + "; split the config over two agents");
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
