//! What we will run: the checked graph, with every component numbered and placed.
//!
//! Pure: nothing is opened, nothing is asked. All that is wrong is told at once, the settings of
//! the config together with what does not fit between the components.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    config::{self, Config, ConfigError, Flag, HandlerEntry, Host},
    globals::Globals,
    scanning::settings::ScanPlan,
    spooled,
    wires::{Wires, unknown},
};
use crate::{
    handlers,
    limits::{BRANCHES_MAX, GATHER_MS_MAX, OUTPUTS_MAX, SINKS_MAX},
    lookups,
    put_by::Spooling,
    reference,
    register::{Errors, Place, section::nearest},
    sinks, sources, stages,
    tables::Shelf,
};

/// The checked graph.
#[derive(Clone, Debug)]
pub struct Plan {
    pub globals: Globals,
    /// Scanning of files, where it is asked for.
    pub scan: Option<ScanPlan>,
    pub tables: Vec<TablePlan>,
    /// The places of the tables, empty until somebody fills them.
    pub shelf: Shelf,
    pub sources: Vec<SourcePlan>,
    /// Their branch number is their index.
    pub handlers: Vec<HandlerPlan>,
    /// Each behind all that it takes from.
    pub stages: Vec<StagePlan>,
    /// Their slots follow those of the sinks.
    pub lookups: Vec<LookupPlan>,
    /// Their slot is their index.
    pub sinks: Vec<SinkPlan>,
    /// Wired outputs; their slot is their index.
    pub outputs: Vec<OutputPlan>,
}

/// Kind of the source that needs `[scan]`.
const SCAN_SOURCE: &str = "scan";

/// One table.
#[derive(Clone, Debug)]
pub struct TablePlan {
    pub name: String,
    pub kind: &'static str,
    pub spec: Arc<dyn reference::Spec>,
}

/// One source and its home.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    pub name: String,
    pub kind: &'static str,
    pub spec: Arc<dyn sources::Spec>,
    /// A silence of so long is trouble.
    pub expects: Option<Duration>,
    /// Number of the shard that is home to its streams, below `globals.cores`.
    pub home: usize,
    /// How much longer it may rest between two looks at a file that grows, in place of its sinks' own linger.
    pub gathers: Duration,
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
    /// The slot of the output for records that it refuses.
    pub rejected: Option<u8>,
}

/// One stage.
#[derive(Clone, Debug)]
pub struct StagePlan {
    pub name: String,
    pub kind: &'static str,
    pub spec: Arc<dyn stages::Spec>,
    /// Mask of the output slots that it takes.
    pub inputs: u64,
    /// Mask of the branches whose messages it takes.
    pub branches: u64,
    /// For each of its outputs the slot, `None` if nothing takes it.
    pub routes: Vec<Option<u8>>,
}

/// One lookup.
#[derive(Clone, Debug)]
pub struct LookupPlan {
    pub slot: u8,
    pub name: String,
    pub kind: &'static str,
    pub spec: Arc<dyn lookups::Spec>,
    /// Whether a record waits for it before it is acked.
    pub required: bool,
    /// Its spool, where it has one.
    pub spool: Option<SpoolPlan>,
    /// Mask of the output slots that it takes.
    pub inputs: u64,
    /// For each of its outputs the slot, `None` if nothing takes it.
    pub routes: Vec<Option<u8>>,
}

/// The spool of a lookup or sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolPlan {
    /// Slot of the output on which messages are brought again.
    pub output: u8,
    /// Bytes on disk at most; `None`: nothing is put by.
    pub max: Option<u64>,
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
    /// Its spool, where it has one.
    pub spool: Option<SpoolPlan>,
    /// Mask of the output slots that it takes.
    pub outputs: u64,
}

/// One wired output of a handler, a stage or a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPlan {
    pub slot: u8,
    /// Branch of its handler, which is also the handler's index; the lowest of those that feed a
    /// stage or a lookup.
    pub branch: u8,
    /// Mask of all branches whose messages it may carry.
    pub branches: u64,
    /// Index in the kind's list of outputs.
    pub index: usize,
    /// `dfn`, or `dfn.confirm` for another output than the primary one.
    pub name: String,
    /// Slot of the output whose required messages of the same record must be delivered first.
    pub after: Option<u8>,
    /// True if an output comes after it, or after what it is made of.
    pub first: bool,
    /// Mask of the sinks and lookups that take it.
    pub sinks: u64,
    /// Mask of those that are required.
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
        let Config { globals, scan, tables, mut sources, mut handlers, stages, mut lookups, mut sinks, mut errors } = config;
        let takers = sinks.len() + lookups.len();
        let scans_alone = scan.is_some() && sources.is_empty() && handlers.is_empty() && sinks.is_empty();
        if scan.is_none()
            && let Some(source) = sources.iter().find(|source| source.kind == SCAN_SOURCE)
        {
            let what = "brings alerts of scanned files, and there is no [scan]; add it, or remove the source";
            errors.add(&source.place, format!("sources.{}", source.name), what);
        }
        check_counts(
            &[("sources", sources.len(), usize::MAX), ("handlers", handlers.len(), BRANCHES_MAX), ("sinks", sinks.len(), SINKS_MAX)],
            // Whoever asks by the API only needs none of these.
            scans_alone,
            &mut errors,
        );
        if sinks.len() <= SINKS_MAX && takers > SINKS_MAX {
            let what = format!("there are {takers} with the sinks, at most {SINKS_MAX} can be; split the config over two agents");
            errors.add(&Place::Default, "lookups", what);
        }
        spooled::add(&globals, &mut sources, &mut handlers, &mut lookups, &mut sinks, &mut errors);

        let source_names: Vec<_> = sources.iter().map(|s| s.name.as_str()).collect();
        let reads: Vec<Vec<usize>> = handlers.iter().map(|handler| read_by(handler, &source_names, &handlers, &mut errors)).collect();
        for (index, source) in sources.iter().enumerate() {
            if !handlers.is_empty() && !reads.iter().flatten().any(|read| *read == index) {
                let what = format!("no handler reads it; add \"{}\" to the inputs of one, or remove it", source.name);
                errors.add(&source.place, format!("sources.{}", source.name), what);
            }
        }

        let graph = Wires::of((&handlers, &stages, &lookups, &sinks), &source_names, &mut errors);
        for table in tables.iter().filter(|table| !table.is_used && table.spec.is_some()) {
            let what = format!("nothing names it; name it in a setting such as indicators = \"{}\", or remove it", table.name);
            errors.add(&table.place, format!("tables.{}", table.name), what);
        }
        check_lacks(&graph, &handlers, &mut errors);
        check_needs(&graph, &handlers, &stages, &mut errors);
        let (outputs, routes) = outputs_of(&graph, &handlers, &lookups, &sinks, &mut errors);
        check_rejected(&handlers, &outputs, &routes, &mut errors);
        if outputs.len() > OUTPUTS_MAX {
            let wired = outputs.len();
            errors.add(
                &Place::Default,
                "sinks",
                format!("{wired} outputs are taken, at most {OUTPUTS_MAX} can be; split the config over two agents"),
            );
        }
        if !errors.is_empty() {
            config::sort(&mut errors);
            return Err(errors);
        }

        // From here on every spec is there: an unknown kind would have been an error.
        let (of_stages, of_lookups) = (handlers.len(), handlers.len() + stages.len());
        let inputs: Vec<u64> = (0..graph.takers.len()).map(|taker| mask_of(taker, &graph, &routes)).collect();
        let mask = |taker: usize| inputs.get(taker).copied().unwrap_or(0);
        let route = |producer: usize| routes.get(producer).cloned().unwrap_or_default();
        let branches = |mask: u64| outputs.iter().filter(|o| bit(o.slot) & mask != 0).fold(0, |all, o| all | o.branches);
        let order: Vec<usize> = graph.order.iter().filter_map(|p| p.checked_sub(of_stages)).filter(|s| *s < stages.len()).collect();
        let (at_lookups, at_sinks, count) = (stages.len(), stages.len() + lookups.len(), sinks.len());
        let holds = |stage: &config::StageEntry| stage.spec.as_ref().is_some_and(|spec| spec.holds().is_some());
        let holders: Vec<_> = stages.iter().filter(|stage| holds(stage)).map(|stage| (stage.name.clone(), stage.place.clone())).collect();
        let mut of_stage: Vec<Option<_>> = stages.into_iter().map(Some).collect();
        let stages = order
            .into_iter()
            .filter_map(|n| {
                let stage = of_stage.get_mut(n)?.take()?;
                let (inputs, routes) = (mask(n), route(of_stages + n));
                Some(StagePlan { name: stage.name, kind: stage.kind, spec: stage.spec?.into(), inputs, branches: branches(inputs), routes })
            })
            .collect();
        let spool = |name: &str, spooling: Option<Spooling>| {
            let output = outputs.iter().find(|output| output.name == spooled::name_of(name))?.slot;
            Some(SpoolPlan { output, max: spooling?.max })
        };
        let lookups = lookups.into_iter().enumerate().filter_map(|(n, lookup)| {
            let (inputs, routes) = (mask(at_lookups + n), route(of_lookups + n));
            let config::LookupEntry { name, kind, required, spec, .. } = lookup;
            let spec: Arc<dyn lookups::Spec> = spec?.into();
            let spool = spool(&name, spec.spool());
            Some(LookupPlan { slot: u8::try_from(count + n).ok()?, name, kind, spec, required, spool, inputs, routes })
        });
        let lookups: Vec<LookupPlan> = lookups.collect();
        let sinks = sinks.into_iter().enumerate().filter_map(|(n, sink)| {
            let config::SinkEntry { name, kind, required, thread, spec, .. } = sink;
            let spec: Arc<dyn sinks::Spec> = spec?.into();
            let (spool, outputs) = (spool(&name, spec.spool()), mask(at_sinks + n));
            Some(SinkPlan { slot: u8::try_from(n).ok()?, name, kind, spec, thread, required, spool, outputs })
        });
        let sinks = sinks.collect();
        let tables = tables.into_iter().filter_map(|t| Some(TablePlan { name: t.name, kind: t.kind, spec: t.spec?.into() }));
        let tables: Vec<_> = tables.collect();
        let mut shelf = Shelf::default();
        tables.iter().for_each(|table| table.spec.place(&table.name, &mut shelf));
        let cores = globals.cores.max(1);
        let sources = sources.into_iter().enumerate();
        let handlers = handlers.into_iter().zip(reads).zip(routes).enumerate();
        let mut plan = Self {
            tables,
            shelf,
            sources: sources
                .filter_map(|(n, s)| {
                    Some(SourcePlan {
                        name: s.name,
                        kind: s.kind,
                        spec: s.spec?.into(),
                        expects: s.expects,
                        home: n % cores,
                        gathers: Duration::ZERO,
                    })
                })
                .collect(),
            handlers: handlers
                .filter_map(|(n, ((h, sources), mut routes))| {
                    let rejected = routes.pop().flatten();
                    let (branch, spec) = (u8::try_from(n).ok()?, h.spec?.into());
                    Some(HandlerPlan { branch, name: h.name, kind: h.kind, spec, sources, routes, rejected })
                })
                .collect(),
            stages,
            lookups,
            sinks,
            outputs,
            scan,
            globals,
        };
        plan.check_holders(&holders)?;
        plan.gather_early();
        Ok(plan)
    }

    /// A start goes on where the snapshot of the stage that holds a source ends: there can be one.
    fn check_holders(&self, holders: &[(String, Place)]) -> Result<(), Errors> {
        let mut errors = Errors::default();
        for (index, source) in self.sources.iter().enumerate() {
            let mut of_source = self.stages_of(index).filter_map(|stage| holders.iter().find(|(name, _)| *name == stage.name));
            let Some((first, _)) = of_source.next() else { continue };
            for (name, place) in of_source {
                let what = format!(
                    "source \"{}\" feeds \"{first}\" already, and only one such stage can hold it; give this one a source of its own",
                    source.name
                );
                errors.add(place, format!("stages.{name}"), what);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// What lookups are built with.
    pub fn given(&self) -> lookups::Given<'_> {
        lookups::Given { tables: &self.shelf, state_dir: &self.globals.state_dir }
    }
    /// Sources and handlers that the config names.
    pub fn written(&self) -> (usize, usize) {
        let is_written = |name: &str| !spooled::is_ours(name);
        (self.sources.iter().filter(|s| is_written(&s.name)).count(), self.handlers.iter().filter(|h| is_written(&h.name)).count())
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

    /// Stages that take something of a source, each behind all that it takes from.
    pub fn stages_of(&self, source: usize) -> impl Iterator<Item = &StagePlan> {
        let branches = self.branches_of(source).fold(0, |mask, handler| mask | bit(handler.branch));
        self.stages.iter().filter(move |stage| stage.branches & branches != 0)
    }

    fn branches(&self, outputs: u64) -> u64 {
        self.outputs.iter().filter(|output| outputs & bit(output.slot) != 0).fold(0, |all, output| all | output.branches)
    }

    /// True if a source whose home is `shard` feeds the sink.
    pub fn feeds(&self, shard: usize, sink: &SinkPlan) -> bool {
        self.feeders(sink).any(|source| self.sources.get(source).is_some_and(|source| source.home == shard))
    }

    /// Indexes of the sources that feed a sink; one that does so by two handlers comes twice.
    fn feeders(&self, sink: &SinkPlan) -> impl Iterator<Item = usize> {
        let branches = self.branches(sink.outputs);
        self.handlers.iter().filter(move |handler| branches & bit(handler.branch) != 0).flat_map(|handler| handler.sources.iter().copied())
    }

    /// Lets readers of files rest for the time that their sinks would let messages wait for others, and has the sinks wait
    /// less for it: no message is later, and far fewer looks find as much. A sink that somebody else feeds as
    /// well keeps its waiting, and one that is not required delays nobody.
    fn gather_early(&mut self) {
        let most = Duration::from_millis(GATHER_MS_MAX);
        let rests = |source: &usize| self.sources.get(*source).is_some_and(|source| source.spec.rests());
        let feeders: Vec<Vec<usize>> = self.sinks.iter().map(|sink| self.feeders(sink).collect()).collect();
        let gathers: Vec<Duration> = (0..self.sources.len())
            .map(|source| {
                let fed = self.sinks.iter().zip(&feeders).filter(|(sink, by)| sink.required && by.contains(&source));
                let lets = fed.map(|(sink, by)| sink.spec.linger().filter(|_| by.iter().all(rests)).unwrap_or_default());
                lets.min().unwrap_or_default().min(most)
            })
            .collect();
        for (sink, by) in self.sinks.iter_mut().zip(&feeders) {
            let less = by.iter().filter_map(|source| gathers.get(*source)).min().copied().unwrap_or_default();
            if let Some(spec) = sink.spec.relieved(less).filter(|_| !less.is_zero()) {
                sink.spec = spec;
            }
        }
        for (source, gathers) in self.sources.iter_mut().zip(gathers) {
            source.gathers = gathers;
        }
    }
}

fn bit(n: u8) -> u64 {
    1_u64.checked_shl(u32::from(n)).unwrap_or(0)
}

fn small(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// For each output of a producer the slot, `None` if nothing takes it.
type Routes = Vec<Vec<Option<u8>>>;

/// Numbers every output that is taken.
fn outputs_of(
    graph: &Wires<'_>,
    handlers: &[HandlerEntry],
    lookups: &[config::LookupEntry],
    sinks: &[config::SinkEntry],
    errors: &mut Errors,
) -> (Vec<OutputPlan>, Routes) {
    let stages = graph.takers.len() - lookups.len() - sinks.len();
    // A taker's slot, and whether it is required; stages have none.
    let end = |taker: usize| match taker.checked_sub(stages)? {
        n if n < lookups.len() => Some((small(sinks.len() + n), lookups.get(n)?.required)),
        n => Some((small(n - lookups.len()), sinks.get(n - lookups.len())?.required)),
    };
    let mut outputs: Vec<OutputPlan> = Vec::new();
    let mut routes: Routes = Vec::new();
    for (producer, from) in graph.producers.iter().enumerate() {
        let mut route = Vec::new();
        for (index, name) in from.outputs.iter().enumerate() {
            let takers: Vec<usize> = graph.wires.iter().filter(|w| (w.producer, w.output) == (producer, index)).map(|w| w.taker).collect();
            if takers.is_empty() {
                // Without any sink the error about that says it all.
                let is_optional = handlers.get(producer).is_some_and(|handler| !handler.needs_primary);
                let own = handlers.get(producer).map_or(0, |handler| handler.outputs.len());
                let is_replaced = is_optional && graph.wires.iter().any(|w| w.producer == producer && w.output < own);
                if name == from.name && !sinks.is_empty() && !is_replaced {
                    let what = format!("nothing takes its output \"{name}\"; add \"{name}\" to the inputs of a sink");
                    errors.add(from.place, format!("{}.{name}", from.section), what);
                }
                route.push(None);
                continue;
            }
            let slot = small(outputs.len());
            let (mut sinks, mut required) = (0, 0);
            for (end, is_required) in takers.iter().filter_map(|taker| end(*taker)) {
                sinks |= bit(end);
                required |= if is_required { bit(end) } else { 0 };
            }
            let branches = if producer < handlers.len() { bit(small(producer)) } else { 0 };
            outputs.push(OutputPlan {
                slot,
                branch: small(producer),
                branches,
                index,
                name: name.clone(),
                after: None,
                first: false,
                sinks,
                required,
            });
            route.push(Some(slot));
        }
        routes.push(route);
    }
    for (producer, handler) in handlers.iter().enumerate() {
        let Some(route) = routes.get(producer) else { continue };
        for (index, output) in handler.outputs.iter().enumerate() {
            let after = output.after.and_then(|after| route.get(after).copied().flatten());
            let (Some(after), Some(slot)) = (after, route.get(index).copied().flatten()) else { continue };
            if let Some(output) = outputs.get_mut(usize::from(slot)) {
                output.after = Some(after);
            }
            if let Some(first) = outputs.get_mut(usize::from(after)) {
                first.first = true;
            }
        }
    }
    // What flows into a stage or a lookup flows out of it.
    for producer in &graph.order {
        let taker = graph.producers.get(*producer).and_then(|p| p.taker);
        let taken: Vec<u8> = graph
            .wires
            .iter()
            .filter(|w| Some(w.taker) == taker)
            .filter_map(|w| routes.get(w.producer)?.get(w.output).copied().flatten())
            .collect();
        let taken = || outputs.iter().filter(|o| taken.contains(&o.slot));
        let (branches, first) = (taken().fold(0, |all, o| all | o.branches), taken().any(|o| o.first));
        for slot in routes.get(*producer).into_iter().flatten().flatten() {
            if let Some(output) = outputs.get_mut(usize::from(*slot)) {
                (output.branches, output.first) = (branches, first);
                output.branch = u8::try_from(branches.trailing_zeros()).unwrap_or(u8::MAX);
            }
        }
    }
    (outputs, routes)
}

/// Outputs that are taken and that their handler's settings cannot give.
fn check_lacks(graph: &Wires<'_>, handlers: &[HandlerEntry], errors: &mut Errors) {
    for (producer, handler) in handlers.iter().enumerate() {
        let Some(spec) = &handler.spec else { continue };
        let mut told = Vec::new();
        for output in 0..handler.outputs.len() {
            if graph.wires.iter().any(|w| (w.producer, w.output) == (producer, output))
                && let Some((setting, what)) = spec.lacks(output)
                && !told.contains(&setting)
            {
                told.push(setting);
                errors.add(&handler.place, format!("handlers.{}.{setting}", handler.name), what);
            }
        }
    }
}

/// Stages that take an output of a handler whose payloads lack what they go by.
fn check_needs(graph: &Wires<'_>, handlers: &[HandlerEntry], stages: &[config::StageEntry], errors: &mut Errors) {
    for wire in &graph.wires {
        let (Some(handler), Some(stage)) = (handlers.get(wire.producer), stages.get(wire.taker)) else { continue };
        let (Some(handler_spec), Some(spec)) = (&handler.spec, &stage.spec) else { continue };
        let Some(members) = handler_spec.members(wire.output) else { continue };
        let (setting, needs) = spec.needs();
        let missing: Vec<&str> = needs.into_iter().filter(|need| !members.contains(need)).collect();
        if !missing.is_empty() {
            let output = graph.producers.get(wire.producer).and_then(|from| from.outputs.get(wire.output)).map_or("", String::as_str);
            let what = format!(
                "records of \"{output}\" have no {}; take another output, or set what the handler puts into its records (alert_fields = \"full\")",
                missing.join(", ")
            );
            errors.add(&stage.place, format!("stages.{}.{setting}", stage.name), what);
        }
    }
}

/// What takes refused records is their dead letter, and must not lose them.
fn check_rejected(handlers: &[HandlerEntry], outputs: &[OutputPlan], routes: &Routes, errors: &mut Errors) {
    for (handler, route) in handlers.iter().zip(routes) {
        let slot = route.get(handler.outputs.len()).copied().flatten();
        if let Some(output) = slot.and_then(|slot| outputs.get(usize::from(slot)))
            && output.required == 0
        {
            let what =
                format!("what takes \"{}\" is the dead letter of these records; a sink that is required must be among it", output.name);
            errors.add(&handler.place, format!("handlers.{}", handler.name), what);
        }
    }
}

/// The output slots that a taker takes.
fn mask_of(taker: usize, graph: &Wires<'_>, routes: &Routes) -> u64 {
    let wires = graph.wires.iter().filter(|w| w.taker == taker);
    wires.filter_map(|w| routes.get(w.producer)?.get(w.output).copied().flatten()).fold(0, |mask, slot| mask | bit(slot))
}

fn check_counts(counts: &[(&str, usize, usize)], may_be_none: bool, errors: &mut Errors) {
    for (section, count, max) in counts {
        if *count == 0 && may_be_none {
            continue;
        }
        if *count == 0 {
            errors.add(&Place::Default, *section, format!("there are none; write [{section}.NAME], `shipper list` shows the kinds"));
        } else if count > max {
            errors.add(&Place::Default, *section, format!("there are {count}, at most {max} can be; split the config over two agents"));
        }
    }
}

/// Names that a config gave.
fn written<'n>(names: &[&'n str]) -> Vec<&'n str> {
    names.iter().copied().filter(|name| !spooled::is_ours(name)).collect()
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
            errors.add(place, key, format!("{name:?} is a handler, and handlers read sources; known: {}", written(sources).join(", ")));
        } else {
            errors.add(place, key, unknown("source", name, &written(sources)));
            // What was meant counts as read: one slip of the hand is one error.
            found.extend(nearest(name, sources.iter().copied()).and_then(|near| sources.iter().position(|source| *source == near)));
        }
    }
    found.sort_unstable();
    found
}
