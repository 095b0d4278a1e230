//! What we will run: the checked graph, with every component numbered and placed.
//!
//! Pure: nothing is opened, nothing is asked. All that is wrong is told at once, the settings of
//! the config together with what does not fit between the components.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{path::Path, sync::Arc};

use super::{
    config::{self, Config, ConfigError, Flag, HandlerEntry, Host},
    globals::Globals,
};
use crate::{
    handlers,
    limits::{BRANCHES_MAX, OUTPUTS_MAX, SINKS_MAX},
    register::{Errors, Place, section::nearest},
    sinks, sources,
};

/// The checked graph.
#[derive(Clone, Debug)]
pub struct Plan {
    pub globals: Globals,
    pub sources: Vec<SourcePlan>,
    /// Their branch number is their index.
    pub handlers: Vec<HandlerPlan>,
    /// Their slot is their index.
    pub sinks: Vec<SinkPlan>,
    /// Wired outputs; their slot is their index.
    pub outputs: Vec<OutputPlan>,
}

/// One source and its home.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    pub name: String,
    pub kind: &'static str,
    pub spec: Arc<dyn sources::Spec>,
    /// Number of the shard that is home to its streams, below `globals.cores`.
    pub home: usize,
}

/// One handler, which is one branch.
#[derive(Clone, Debug)]
pub struct HandlerPlan {
    pub branch: u8,
    pub name: String,
    pub kind: &'static str,
    pub spec: Arc<dyn handlers::Spec>,
    /// Indexes of the sources it reads, rising.
    pub sources: Vec<usize>,
    /// For each of its outputs the slot, `None` if nothing takes it.
    pub routes: Vec<Option<u8>>,
}

/// One sink.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    pub slot: u8,
    pub name: String,
    pub kind: &'static str,
    pub spec: Arc<dyn sinks::Spec>,
    pub thread: sinks::Thread,
    /// Whether a record waits for it before it is acked.
    pub required: bool,
    /// Mask of the output slots that it takes.
    pub outputs: u64,
}

/// One wired output of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPlan {
    pub slot: u8,
    /// Branch of its handler, which is also the handler's index.
    pub branch: u8,
    /// Index in the handler kind's list of outputs.
    pub index: usize,
    /// `dfn`, or `dfn.confirm` for another output than the primary one.
    pub name: String,
    /// Slot of the output whose required messages of the same record must be delivered first.
    pub after: Option<u8>,
    /// Mask of the sinks that take it.
    pub sinks: u64,
    /// Mask of the sinks that take it and are required.
    pub required: u64,
}

impl Plan {
    /// Loads a config and builds its plan.
    ///
    /// # Errors
    /// If the file cannot be read, or with everything that is wrong with it.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[Flag],
        host: &Host,
    ) -> Result<Self, ConfigError> {
        let config = Config::load(path, env, flags, host)?;
        Self::build(config).map_err(|errors| ConfigError::Invalid { path: path.map(Path::to_owned), errors })
    }

    /// Builds the graph.
    ///
    /// # Errors
    /// Everything that is wrong, the config's own errors included, in the order of the file.
    pub fn build(config: Config) -> Result<Self, Errors> {
        let Config { globals, sources, handlers, sinks, mut errors } = config;
        check_counts(
            &[("sources", sources.len(), usize::MAX), ("handlers", handlers.len(), BRANCHES_MAX), ("sinks", sinks.len(), SINKS_MAX)],
            &mut errors,
        );

        let source_names: Vec<_> = sources.iter().map(|s| s.name.as_str()).collect();
        let reads: Vec<Vec<usize>> = handlers.iter().map(|handler| read_by(handler, &source_names, &handlers, &mut errors)).collect();
        for (index, source) in sources.iter().enumerate() {
            if !handlers.is_empty() && !reads.iter().flatten().any(|read| *read == index) {
                let what = format!("no handler reads it; add \"{}\" to the inputs of one, or remove it", source.name);
                errors.add(&source.place, format!("sources.{}", source.name), what);
            }
        }

        let taken = outputs_taken(&sinks, &handlers, &source_names, &mut errors);
        let mut outputs: Vec<OutputPlan> = Vec::new();
        let mut routes: Vec<Vec<Option<u8>>> = Vec::new();
        let mut wired = 0;
        for (branch, handler) in handlers.iter().enumerate() {
            let mut route = Vec::new();
            for (index, output) in handler.outputs.iter().enumerate() {
                let takers = taken.iter().filter(|t| t.handler == branch && t.output == index);
                let (all, required) = takers.fold((0, 0), |(all, required), t| {
                    let bit = 1_u64.checked_shl(number(t.sink)).unwrap_or(0);
                    (all | bit, if sinks.get(t.sink).is_some_and(|s| s.required) { required | bit } else { required })
                });
                let is_wired = taken.iter().any(|t| t.handler == branch && t.output == index);
                if !is_wired {
                    // Without any sink the error about that says it all.
                    if output.name.is_empty() && !sinks.is_empty() {
                        let what = format!("nothing takes its output \"{0}\"; add \"{0}\" to the inputs of a sink", handler.name);
                        errors.add(&handler.place, format!("handlers.{}", handler.name), what);
                    }
                    route.push(None);
                    continue;
                }
                let slot = u8::try_from(wired).unwrap_or(u8::MAX);
                wired += 1;
                route.push(Some(slot));
                let branch = u8::try_from(branch).unwrap_or(u8::MAX);
                outputs.push(OutputPlan {
                    slot,
                    branch,
                    index,
                    name: output_name(&handler.name, output),
                    after: None,
                    sinks: all,
                    required,
                });
            }
            routes.push(route);
        }
        if wired > OUTPUTS_MAX {
            errors.add(
                &Place::Default,
                "sinks",
                format!("{wired} outputs are taken, at most {OUTPUTS_MAX} can be; split the config over two agents"),
            );
        }
        for output in &mut outputs {
            let after = handlers.get(usize::from(output.branch)).and_then(|h| h.outputs.get(output.index)).and_then(|o| o.after);
            output.after = after.and_then(|index| routes.get(usize::from(output.branch))?.get(index).copied().flatten());
        }
        if !errors.is_empty() {
            config::sort(&mut errors);
            return Err(errors);
        }

        // From here on every spec is there: an unknown kind would have been an error.
        let masks: Vec<u64> = (0..sinks.len()).map(|sink| mask_of(sink, &outputs)).collect();
        let cores = globals.cores.max(1);
        let sources = sources.into_iter().enumerate();
        let handlers = handlers.into_iter().zip(reads).zip(routes).enumerate();
        let sinks = sinks.into_iter().zip(masks).enumerate();
        Ok(Self {
            sources: sources
                .filter_map(|(n, s)| Some(SourcePlan { name: s.name, kind: s.kind, spec: s.spec?.into(), home: n % cores }))
                .collect(),
            handlers: handlers
                .filter_map(|(n, ((h, sources), routes))| {
                    Some(HandlerPlan { branch: u8::try_from(n).ok()?, name: h.name, kind: h.kind, spec: h.spec?.into(), sources, routes })
                })
                .collect(),
            sinks: sinks
                .filter_map(|(n, (s, outputs))| {
                    let slot = u8::try_from(n).ok()?;
                    Some(SinkPlan {
                        slot,
                        name: s.name,
                        kind: s.kind,
                        spec: s.spec?.into(),
                        thread: s.thread,
                        required: s.required,
                        outputs,
                    })
                })
                .collect(),
            outputs,
            globals,
        })
    }

    /// True for a source that the agent runs for: it ends when all of these have ended.
    pub fn keeps_running(&self, source: usize) -> bool {
        let keeps = |source: &SourcePlan| source.spec.keeps_running();
        self.sources.get(source).is_some_and(keeps) || !self.sources.iter().any(keeps)
    }

    /// Branches that read a source, in the order of their numbers.
    pub fn branches_of(&self, source: usize) -> impl Iterator<Item = &HandlerPlan> {
        self.handlers.iter().filter(move |handler| handler.sources.contains(&source))
    }

    /// True if a source whose home is `shard` feeds the sink.
    pub fn feeds(&self, shard: usize, sink: &SinkPlan) -> bool {
        let outputs = self.outputs.iter().filter(|output| sink.outputs >> output.slot & 1 == 1);
        let handlers = outputs.filter_map(|output| self.handlers.get(usize::from(output.branch)));
        let mut sources = handlers.flat_map(|handler| &handler.sources).filter_map(|source| self.sources.get(*source));
        sources.any(|source| source.home == shard)
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn output_name(handler: &str, output: &handlers::Output) -> String {
    if output.name.is_empty() { handler.to_owned() } else { format!("{handler}.{}", output.name) }
}

fn mask_of(sink: usize, outputs: &[OutputPlan]) -> u64 {
    let takes = |output: &&OutputPlan| output.sinks.checked_shr(number(sink)).unwrap_or(0) & 1 == 1;
    outputs.iter().filter(takes).fold(0, |mask, output| mask | 1_u64.checked_shl(u32::from(output.slot)).unwrap_or(0))
}

fn check_counts(counts: &[(&str, usize, usize)], errors: &mut Errors) {
    for (section, count, max) in counts {
        if *count == 0 {
            errors.add(&Place::Default, *section, format!("there are none; write [{section}.NAME], `shipper list` shows the kinds"));
        } else if count > max {
            errors.add(&Place::Default, *section, format!("there are {count}, at most {max} can be; split the config over two agents"));
        }
    }
}

fn read_by(handler: &HandlerEntry, sources: &[&str], handlers: &[HandlerEntry], errors: &mut Errors) -> Vec<usize> {
    let mut found = Vec::new();
    for (name, place) in &handler.inputs.names {
        if let Some(index) = sources.iter().position(|source| source == name) {
            found.push(index);
            continue;
        }
        let key = format!("handlers.{}.inputs", handler.name);
        if handlers.iter().any(|h| h.name == *name) {
            errors.add(place, key, format!("{name:?} is a handler, and handlers read sources; known: {}", sources.join(", ")));
        } else {
            errors.add(place, key, unknown("source", name, sources));
            // What was meant counts as read: one slip of the hand is one error.
            found.extend(nearest(name, sources.iter().copied()).and_then(|near| sources.iter().position(|source| *source == near)));
        }
    }
    found.sort_unstable();
    found
}

struct Taken {
    sink: usize,
    handler: usize,
    output: usize,
}

fn outputs_taken(sinks: &[config::SinkEntry], handlers: &[HandlerEntry], sources: &[&str], errors: &mut Errors) -> Vec<Taken> {
    let names: Vec<String> = handlers.iter().flat_map(|h| h.outputs.iter().map(|o| output_name(&h.name, o))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut taken = Vec::new();
    for (sink, entry) in sinks.iter().enumerate() {
        for (name, place) in &entry.inputs.names {
            let key = || format!("sinks.{}.inputs", entry.name);
            let of = handlers.iter().position(|h| h.name == name.split('.').next().unwrap_or_default());
            match of.and_then(|index| handlers.get(index).map(|h| (index, h))) {
                // Its kind is unknown, and so are its outputs; that error is told already.
                Some((_, handler)) if handler.spec.is_none() => {}
                Some((index, handler)) => match handler.outputs.iter().position(|o| output_name(&handler.name, o) == *name) {
                    Some(output) => taken.push(Taken { sink, handler: index, output }),
                    None => {
                        let own: Vec<String> = handler.outputs.iter().map(|o| output_name(&handler.name, o)).collect();
                        let own: Vec<&str> = own.iter().map(String::as_str).collect();
                        errors.add(place, key(), unknown("output", name, &own));
                    }
                },
                None if sources.contains(&name.as_str()) => errors.add(
                    place,
                    key(),
                    format!("{name:?} is a source, and sinks take from handlers; put a handler of kind \"forward\" between them"),
                ),
                None => {
                    errors.add(place, key(), unknown("handler", name, &names));
                    // What was meant counts as taken: one slip of the hand is one error.
                    let meant = nearest(name, names.iter().copied());
                    taken.extend(handlers.iter().enumerate().find_map(|(handler, h)| {
                        let output = h.outputs.iter().position(|o| Some(output_name(&h.name, o).as_str()) == meant)?;
                        Some(Taken { sink, handler, output })
                    }));
                }
            }
        }
    }
    taken
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let cut: String = name.chars().take(64).collect();
    let mut answer = format!("no {what} {cut:?}; known: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") });
    if let Some(near) = nearest(name, known.iter().copied()) {
        answer.push_str(&format!("; did you mean \"{near}\"?"));
    }
    answer
}
