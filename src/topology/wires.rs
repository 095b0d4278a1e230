//! Who takes what from whom: names of inputs to outputs, and what is wrong with them. Pure.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::{
    config::{HandlerEntry, Inputs, LookupEntry, SinkEntry, StageEntry},
    spooled::is_ours,
};
use crate::{
    handlers::REJECTED,
    register::{Errors, Place, section::nearest},
};

/// One that has outputs: a handler, a stage or a lookup.
pub(super) struct Producer<'c> {
    pub section: &'static str,
    pub name: &'c str,
    pub place: &'c Place,
    /// Full names: `dfn`, `dfn.confirm`. Empty if its kind is unknown.
    pub outputs: Vec<String>,
    known: bool,
    /// Index as a taker, if it takes from other producers.
    pub taker: Option<usize>,
}

/// One that takes from producers: a stage, a lookup or a sink.
pub(super) struct Taker<'c> {
    pub section: &'static str,
    pub name: &'c str,
    inputs: &'c Inputs,
}

/// A wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub producer: usize,
    pub output: usize,
    pub taker: usize,
}

/// Every producer and taker of a config, and the wires between them.
pub(super) struct Wires<'c> {
    /// Handlers, then stages, then lookups.
    pub producers: Vec<Producer<'c>>,
    /// Stages, then lookups, then sinks.
    pub takers: Vec<Taker<'c>>,
    pub wires: Vec<Wire>,
    /// Stages and lookups, as producers, each behind all that it takes from.
    pub order: Vec<usize>,
}

impl<'c> Wires<'c> {
    /// Resolves every name; what is wrong goes to `errors`.
    pub fn of(
        (handlers, stages, lookups, sinks): (&'c [HandlerEntry], &'c [StageEntry], &'c [LookupEntry], &'c [SinkEntry]),
        sources: &[&str],
        errors: &mut Errors,
    ) -> Self {
        let mut producers: Vec<Producer<'_>> = handlers
            .iter()
            .map(|h| Producer {
                section: "handlers",
                name: &h.name,
                place: &h.place,
                outputs: h.outputs.iter().map(|o| o.name).chain([REJECTED]).map(|output| output_name(&h.name, output)).collect(),
                known: h.spec.is_some(),
                taker: None,
            })
            .collect();
        let mut takers = Vec::new();
        let inner = stages.iter().map(|s| ("stages", &s.name, &s.place, &s.inputs, s.outputs, s.spec.is_some()));
        let inner = inner.chain(lookups.iter().map(|l| ("lookups", &l.name, &l.place, &l.inputs, l.outputs, l.spec.is_some())));
        for (section, name, place, inputs, outputs, known) in inner {
            let outputs = outputs.iter().map(|output| output_name(name, output)).collect();
            let taker = takers.len();
            if let Some(first) = producers.iter().find(|p| p.name == name) {
                let what = format!("{}.{name} has this name as well, and inputs name both; rename one", first.section);
                errors.add(place, format!("{section}.{name}"), what);
            }
            producers.push(Producer { section, name, place, outputs, known, taker: Some(taker) });
            takers.push(Taker { section, name, inputs });
        }
        takers.extend(sinks.iter().map(|s| Taker { section: "sinks", name: &s.name, inputs: &s.inputs }));
        let mut wires = Self { producers, takers, wires: Vec::new(), order: Vec::new() };
        for taker in 0..wires.takers.len() {
            wires.resolve(taker, sources, errors);
        }
        wires.sort(errors);
        wires
    }

    fn resolve(&mut self, taker: usize, sources: &[&str], errors: &mut Errors) {
        let Self { producers, takers, wires, .. } = self;
        let Some(Taker { section, name: own, inputs, .. }) = takers.get(taker) else { return };
        let written = producers.iter().filter(|p| !is_ours(p.name));
        // That every handler has an output for what it refuses as well is not worth a word here.
        let is_said = |name: &&str| !name.ends_with(&format!(".{REJECTED}"));
        let names: Vec<&str> = written.flat_map(|p| p.outputs.iter().map(String::as_str)).filter(is_said).collect();
        let only_handlers = producers.iter().all(|p| p.taker.is_none());
        for (name, place) in &inputs.names {
            let key = || format!("{section}.{own}.inputs");
            let of = producers.iter().position(|p| p.name == name.split('.').next().unwrap_or_default());
            match of.and_then(|index| producers.get(index).map(|p| (index, p))) {
                // Its kind is unknown, and so are its outputs; that error is told already.
                Some((_, producer)) if !producer.known => {}
                Some((index, producer)) => match producer.outputs.iter().position(|o| o == name) {
                    Some(output) => wires.push(Wire { producer: index, output, taker }),
                    None => {
                        let own: Vec<&str> = producer.outputs.iter().map(String::as_str).collect();
                        errors.add(place, key(), unknown("output", name, &own));
                    }
                },
                None if sources.contains(&name.as_str()) => errors.add(
                    place,
                    key(),
                    format!("{name:?} is a source, and {section} take from handlers; put a handler of kind \"forward\" between them"),
                ),
                None => {
                    let what = if only_handlers { "handler" } else { "handler, stage or lookup" };
                    errors.add(place, key(), unknown(what, name, &names));
                    // What was meant counts as taken: one slip of the hand is one error.
                    let meant = nearest(name, names.iter().copied());
                    wires.extend(producers.iter().enumerate().find_map(|(producer, p)| {
                        let output = p.outputs.iter().position(|o| Some(o.as_str()) == meant)?;
                        Some(Wire { producer, output, taker })
                    }));
                }
            }
        }
    }

    /// Puts stages and lookups in an order in which nobody stands before what it takes from.
    fn sort(&mut self, errors: &mut Errors) {
        let mut left: Vec<usize> = (0..self.producers.len()).filter(|p| self.taker_of(*p).is_some()).collect();
        while !left.is_empty() {
            let Some(at) = left.iter().position(|p| self.feeders(*p).all(|feeder| !left.contains(&feeder))) else { break };
            self.order.push(left.remove(at));
        }
        if left.is_empty() {
            return;
        }
        // Whoever is left takes from one that is left: walking back must come round.
        let mut way: Vec<usize> = left.first().copied().into_iter().collect();
        while let Some(back) = way.last().and_then(|last| self.feeders(*last).find(|feeder| left.contains(feeder))) {
            if let Some(at) = way.iter().position(|p| *p == back) {
                let mut circle = way.split_off(at);
                circle.push(back);
                circle.reverse();
                let names: Vec<&str> = circle.iter().filter_map(|p| self.producers.get(*p)).map(|p| p.name).collect();
                if let Some(taker) = self.taker_of(back) {
                    let what = format!("goes in a circle: {}; take one of them out of the other's inputs", names.join(" → "));
                    errors.add(&taker.inputs.place, format!("{}.{}.inputs", taker.section, taker.name), what);
                }
                return;
            }
            way.push(back);
        }
    }

    fn taker_of(&self, producer: usize) -> Option<&Taker<'c>> {
        self.takers.get(self.producers.get(producer)?.taker?)
    }

    /// Producers that feed a stage or a lookup.
    pub fn feeders(&self, producer: usize) -> impl Iterator<Item = usize> {
        let taker = self.producers.get(producer).and_then(|p| p.taker);
        self.wires.iter().filter(move |w| Some(w.taker) == taker).map(|w| w.producer)
    }
}

/// `dfn`, or `dfn.confirm` for another output than the primary one.
fn output_name(name: &str, output: &str) -> String {
    if output.is_empty() { name.to_owned() } else { format!("{name}.{output}") }
}

/// The answer to a name that nobody has.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let cut: String = name.chars().take(64).collect();
    let mut answer = format!("no {what} {cut:?}; known: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") });
    if let Some(near) = nearest(name, known.iter().copied()) {
        answer.push_str(&format!("; did you mean \"{near}\"?"));
    }
    answer
}
