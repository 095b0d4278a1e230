//! What the operator wrote: the file, the environment and the flags as one tree, read against
//! the tables of the components.
//!
//! A wrong setting never hides the next one: it is noted in [`Config::errors`], its default stands
//! in, and [`Plan::build`](super::Plan::build) answers with all of them together with what is
//! wrong between the components. Secrets are never in a config: components have keys for the
//! *file* of a secret, and an unknown key is answered without its value.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fmt, fs, io,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{globals::Globals, lent, scanning::settings::ScanPlan};
use crate::{
    handlers,
    limits::CONFIG_BYTES_MAX,
    lookups, reference,
    register::{
        Errors, Field, Node, Place, Section, SettingsError, Type, Value,
        section::{nearest, parse_span},
    },
    sinks, sources, stages,
};

/// Keys that every source has.
pub static SOURCE_FIELDS: &[Field] = &[
    Field::required("kind", Type::Text, "Which kind of source; `shipper list` shows them."),
    Field::optional("expect_events_every", Type::Span, "A source that brings no record for so long is told as trouble."),
];
/// Keys that every table has.
pub static TABLE_FIELDS: &[Field] = &[Field::required("kind", Type::Text, "Which kind of table; `shipper list` shows them.")];
/// Keys that every handler has.
pub static HANDLER_FIELDS: &[Field] = &[
    Field::required("kind", Type::Text, "Which kind of handler; `shipper list` shows them."),
    Field::required("inputs", Type::Texts, "Names of the sources it reads."),
];
/// Keys that every stage has.
pub static STAGE_FIELDS: &[Field] = &[
    Field::required("kind", Type::Text, "Which kind of stage; `shipper list` shows them."),
    Field::required("inputs", Type::Texts, "Outputs that it takes: those of handlers, other stages and lookups."),
];
/// Keys that every lookup has.
pub static LOOKUP_FIELDS: &[Field] = &[
    Field::required("kind", Type::Text, "Which kind of lookup; `shipper list` shows them."),
    Field::required("inputs", Type::Texts, "Outputs that it takes: those of handlers, stages and other lookups."),
    Field::optional("required", Type::Bool, "Whether a record waits for this lookup before it counts as done; the default is the kind's."),
];
/// Keys that every sink has.
pub static SINK_FIELDS: &[Field] = &[
    Field::required("kind", Type::Text, "Which kind of sink; `shipper list` shows them."),
    Field::required("inputs", Type::Texts, "Outputs that it takes: a handler's name, or `name.output` for another output than the first."),
    Field::optional(
        "required",
        Type::Bool,
        "Whether a record waits for this sink before it counts as delivered; the default is the kind's.",
    ),
];

/// The config as written.
#[derive(Debug)]
pub struct Config {
    pub globals: Globals,
    /// `[scan]`, where there is one.
    pub scan: Option<ScanPlan>,
    pub tables: Vec<TableEntry>,
    pub sources: Vec<SourceEntry>,
    pub handlers: Vec<HandlerEntry>,
    pub stages: Vec<StageEntry>,
    pub lookups: Vec<LookupEntry>,
    pub sinks: Vec<SinkEntry>,
    /// Every setting that is wrong.
    pub errors: Errors,
}

/// One `[tables.NAME]`; `spec` is `None` if its kind is unknown.
#[derive(Debug)]
pub struct TableEntry {
    pub name: String,
    pub place: Place,
    pub kind: &'static str,
    /// True if a component names it.
    pub is_used: bool,
    pub spec: Option<Box<dyn reference::Spec>>,
}

/// One `[sources.NAME]`; `spec` is `None` if its kind is unknown.
#[derive(Debug)]
pub struct SourceEntry {
    pub name: String,
    pub place: Place,
    pub kind: &'static str,
    /// A silence of so long is trouble.
    pub expects: Option<Duration>,
    pub spec: Option<Box<dyn sources::Spec>>,
}

/// One `[handlers.NAME]`; `spec` is `None` if its kind is unknown.
#[derive(Debug)]
pub struct HandlerEntry {
    pub name: String,
    pub place: Place,
    pub kind: &'static str,
    pub inputs: Inputs,
    pub outputs: &'static [handlers::Output],
    /// True if its first output must be taken.
    pub needs_primary: bool,
    pub spec: Option<Box<dyn handlers::Spec>>,
}

/// One `[stages.NAME]`; `spec` is `None` if its kind is unknown.
#[derive(Debug)]
pub struct StageEntry {
    pub name: String,
    pub place: Place,
    pub kind: &'static str,
    pub inputs: Inputs,
    pub outputs: &'static [&'static str],
    pub spec: Option<Box<dyn stages::Spec>>,
}

/// One `[lookups.NAME]`; `spec` is `None` if its kind is unknown.
#[derive(Debug)]
pub struct LookupEntry {
    pub name: String,
    pub place: Place,
    pub kind: &'static str,
    pub inputs: Inputs,
    pub required: bool,
    pub outputs: &'static [&'static str],
    pub spec: Option<Box<dyn lookups::Spec>>,
}

/// One `[sinks.NAME]`; `spec` is `None` if its kind is unknown.
#[derive(Debug)]
pub struct SinkEntry {
    pub name: String,
    pub place: Place,
    pub kind: &'static str,
    pub inputs: Inputs,
    pub required: bool,
    pub thread: sinks::Thread,
    pub spec: Option<Box<dyn sinks::Spec>>,
}

/// Names that a component takes from, each with its place.
#[derive(Debug)]
pub struct Inputs {
    /// Place of the key, or of the section where it is not set.
    pub place: Place,
    pub names: Vec<(String, Place)>,
}

/// A flag of the command line that stands for a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Dotted: `log.level`.
    pub path: &'static str,
    pub value: String,
    /// As the operator typed it: `--cores`.
    pub flag: &'static str,
}

/// What a tree is read with, besides itself.
#[derive(Clone, Debug)]
pub struct Host {
    /// The default of `instance`.
    pub name: String,
    /// Address that stands for the broker `embedded`; `None` refuses the word.
    pub embedded: Option<String>,
}

impl Host {
    /// The one we run on, without an embedded broker.
    pub fn this() -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { name: if name.is_empty() { "localhost".into() } else { name }, embedded: None }
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be had.
    #[error("cannot read config {}; name another with --config, or fix its permissions", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// What it says is wrong.
    #[error("{}", Told(path.as_deref(), errors))]
    Invalid { path: Option<PathBuf>, errors: Errors },
}

struct Told<'e>(Option<&'e Path>, &'e Errors);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.1.0.len();
        f.write_str("config ")?;
        if let Some(path) = self.0 {
            write!(f, "{} ", path.display())?;
        }
        write!(f, "has {count} {}\n{}", if count == 1 { "error" } else { "errors" }, self.1)
    }
}

impl Config {
    /// Reads the file (TOML, or YAML if its name ends in `.yaml` or `.yml`), lays the environment
    /// and then the flags over it, and reads the settings.
    ///
    /// - `path`: `None` for no file, when everything comes from flags, environment and defaults.
    ///
    /// # Errors
    /// If the file cannot be read or is neither TOML nor YAML. Wrong *settings* are in
    /// [`Config::errors`].
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[Flag],
        host: &Host,
    ) -> Result<Self, ConfigError> {
        let tree = path.map_or_else(|| Ok(Node::empty()), Self::tree)?;
        Ok(Self::read(tree, env, flags, host))
    }

    /// The tree of a file, TOML or YAML, with nothing laid over it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn tree(path: &Path) -> Result<Node, ConfigError> {
        let text = read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let yaml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
        let tree = if yaml { Node::parse_yaml(&text) } else { Node::parse_toml(&text) };
        tree.map_err(|errors| ConfigError::Invalid { path: Some(path.to_owned()), errors })
    }

    /// Reads the settings of a tree, with the environment and the flags laid over it. No I/O.
    pub fn read(mut tree: Node, env: impl Iterator<Item = (String, String)>, flags: &[Flag], host: &Host) -> Self {
        let mut errors = Errors::default();
        let env: Vec<(String, String)> = env.collect();
        tree.overlay_env(env.iter().cloned(), &mut errors);
        for Flag { path, value, flag } in flags {
            tree.set(path, Value::Text(value.clone()), Place::Flag((*flag).to_owned()), &mut errors);
        }
        lent::underlay(&mut tree, &env, &mut errors);
        embed(&mut tree, "", host.embedded.as_deref(), &mut errors);
        if !matches!(tree.value, Value::Table(_) | Value::Null) {
            errors.add(&tree.place, "config", "is no table; write settings as `key: value`");
        }
        let globals = Globals::read(&tree, &host.name, &mut errors);
        let scan = ScanPlan::read(&tree, &globals.instance, &mut errors);
        let mut tables = entries(&tree, "tables", &mut errors, table);
        check_tables(&tree, &mut tables, &mut errors);
        check_table_counts(&tables, &mut errors);
        let sources = entries(&tree, "sources", &mut errors, source);
        let handlers = entries(&tree, "handlers", &mut errors, handler);
        let stages = entries(&tree, "stages", &mut errors, stage);
        let lookups = entries(&tree, "lookups", &mut errors, lookup);
        let sinks = entries(&tree, "sinks", &mut errors, sink);
        Self { globals, scan, tables, sources, handlers, stages, lookups, sinks, errors }
    }
}

#[allow(clippy::disallowed_methods, reason = "the config is read once, before anything runs")]
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {CONFIG_BYTES_MAX} bytes, which no config is")));
    }
    Ok(text)
}

/// Puts the embedded broker's address where a list of brokers says `embedded`, or refuses it.
fn embed(node: &mut Node, above: &str, address: Option<&str>, errors: &mut Errors) {
    let Value::Table(entries) = &mut node.value else { return };
    for (key, child) in entries {
        let path = if above.is_empty() { key.name.clone() } else { format!("{above}.{}", key.name) };
        if key.name != "brokers" {
            embed(child, &path, address, errors);
            continue;
        }
        let items = match &mut child.value {
            Value::List(items) => items.as_mut_slice(),
            _ => std::slice::from_mut(child),
        };
        for item in items {
            if item.value != Value::Text("embedded".into()) {
                continue;
            }
            match address {
                Some(address) => item.value = Value::Text(address.to_owned()),
                None => errors.add(
                    &item.place,
                    path.as_str(),
                    "the broker \"embedded\" is for demo, tests and benches only; name real ones, such as \"kafka.example:9093\"",
                ),
            }
        }
    }
}

/// Opens every table of a section.
fn entries<T>(tree: &Node, section: &str, errors: &mut Errors, open: impl Fn(&str, &str, &Node, &mut Errors) -> T) -> Vec<T> {
    let Some(node) = tree.get(section) else { return Vec::new() };
    if !matches!(node.value, Value::Table(_) | Value::Null) {
        errors.add(&node.place, section, format!("{} is no table; write [{section}.NAME]", node.value.shown()));
    }
    let mut found = Vec::new();
    for (key, node) in node.entries() {
        let path = format!("{section}.{}", key.name);
        if !matches!(node.value, Value::Table(_) | Value::Null) {
            errors.add(&node.place, path, format!("{} is no table; write [{section}.NAME]", node.value.shown()));
            continue;
        }
        if key.name.is_empty() || !key.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            errors.add(&key.place, path.as_str(), "is no name; use letters, digits, \"_\" and \"-\"");
        }
        found.push(open(&key.name, &path, node, errors));
    }
    found
}

fn table(name: &str, path: &str, node: &Node, errors: &mut Errors) -> TableEntry {
    let found = kind(path, node, "table", reference::ALL.iter().map(|k| (k.name(), *k)), errors);
    let spec = found.map(|kind| kind.parse(&mut Section::open(path, node, kind.fields(), &["kind"], errors)));
    TableEntry { name: name.to_owned(), place: node.place.clone(), kind: found.map_or("", |k| k.name()), is_used: false, spec }
}

/// The settings of a kind of component.
type FieldsOf = fn(&str) -> Option<&'static [Field]>;

/// Sections whose components may name tables.
static NAME_TABLES: [(&str, FieldsOf); 4] = [
    ("handlers", |kind| handlers::ALL.iter().find(|k| k.name() == kind).map(|k| k.fields())),
    ("stages", |kind| stages::ALL.iter().find(|k| k.name() == kind).map(|k| k.fields())),
    ("lookups", |kind| lookups::ALL.iter().find(|k| k.name() == kind).map(|k| k.fields())),
    ("sinks", |kind| sinks::ALL.iter().find(|k| k.name() == kind).map(|k| k.fields())),
];

/// Checks every setting that names a table, and notes which tables are named.
fn check_tables(tree: &Node, tables: &mut [TableEntry], errors: &mut Errors) {
    let mut used = vec![false; tables.len()];
    for (section, fields_of) in NAME_TABLES {
        for (key, node) in tree.get(section).into_iter().flat_map(Node::entries) {
            let kind = node.get("kind").and_then(|kind| kind.value.as_text());
            let fields = kind.and_then(|kind| fields_of(&kind)).unwrap_or_default();
            for field in fields {
                let (Type::Table(wanted) | Type::Tables(wanted)) = field.kind else { continue };
                let Some(setting) = field.name.split('.').try_fold(node, |node, name| node.get(name)) else { continue };
                for (name, place) in names_in(setting, matches!(field.kind, Type::Tables(_))) {
                    let path = || format!("{section}.{}.{}", key.name, field.name);
                    check_table(&name, wanted, tables, &mut used, |what| errors.add(place, path(), what));
                }
            }
        }
    }
    tables.iter_mut().zip(used).for_each(|(table, used)| table.is_used = used);
}

/// Notes tables of a kind beyond what there may be of it.
fn check_table_counts(tables: &[TableEntry], errors: &mut Errors) {
    for kind in reference::ALL {
        let of_kind = || tables.iter().filter(|table| table.kind == kind.name());
        if let Some(one_more) = of_kind().nth(kind.tables_max()) {
            let what =
                format!("there are {} of kind {}, at most {} can be; remove some", of_kind().count(), kind.name(), kind.tables_max());
            errors.add(&one_more.place, format!("tables.{}", one_more.name), what);
        }
    }
}

/// The names that a setting holds, with their places. What is no text is told where the setting is read.
fn names_in(setting: &Node, is_list: bool) -> Vec<(String, &Place)> {
    match &setting.value {
        Value::Text(names) if is_list => {
            names.split(',').map(|name| (name.trim().to_owned(), &setting.place)).filter(|(name, _)| !name.is_empty()).collect()
        }
        Value::List(items) => items.iter().filter_map(|item| Some((item.value.as_text()?, &item.place))).collect(),
        value => value.as_text().map(|name| (name, &setting.place)).into_iter().collect(),
    }
}

/// Checks one name of a table, and notes that it is used.
fn check_table(name: &str, wanted: &str, tables: &[TableEntry], used: &mut [bool], wrong: impl FnOnce(String)) {
    let Some(at) = tables.iter().position(|table| table.name == name) else {
        let of_kind: Vec<&str> = tables.iter().filter(|t| t.kind == wanted).map(|t| t.name.as_str()).collect();
        wrong(match of_kind.is_empty() {
            true => format!("no table {name:?}; write [tables.{name}] with kind = \"{wanted}\""),
            false => super::wires::unknown("table", name, &of_kind),
        });
        // What was meant counts as used: one slip of the hand is one error.
        used.iter_mut().zip(tables).filter(|(_, table)| table.kind == wanted).for_each(|(used, _)| *used = true);
        return;
    };
    if let Some(used) = used.get_mut(at) {
        *used = true;
    }
    let found = tables.get(at).map_or("", |table| table.kind);
    if found != wanted && !found.is_empty() {
        wrong(format!("table {name:?} is of kind {found}, and one of kind {wanted} is wanted"));
    }
}

fn source(name: &str, path: &str, node: &Node, errors: &mut Errors) -> SourceEntry {
    let found = kind(path, node, "source", sources::ALL.iter().map(|k| (k.name(), *k)), errors);
    let expects = expects(path, node, errors);
    let spec = found.map(|kind| kind.parse(&mut Section::open(path, node, kind.fields(), &["kind", EXPECTS], errors)));
    SourceEntry { name: name.to_owned(), place: node.place.clone(), kind: found.map_or("", |k| k.name()), expects, spec }
}

const EXPECTS: &str = "expect_events_every";

fn expects(path: &str, node: &Node, errors: &mut Errors) -> Option<Duration> {
    let node = node.get(EXPECTS)?;
    let read = match &node.value {
        Value::Text(text) => parse_span(text).filter(|span| *span >= Duration::from_secs(1)),
        _ => None,
    };
    if read.is_none() {
        let what = format!("{} is no span of a second or more; write it as \"10m\"", node.value.shown());
        errors.add(&node.place, format!("{path}.{EXPECTS}"), what);
    }
    read
}

fn handler(name: &str, path: &str, node: &Node, errors: &mut Errors) -> HandlerEntry {
    let found = kind(path, node, "handler", handlers::ALL.iter().map(|k| (k.name(), *k)), errors);
    let inputs = inputs(path, node, "sources", errors);
    let spec = found.map(|kind| kind.parse(&mut Section::open(path, node, kind.fields(), &["kind", "inputs"], errors)));
    HandlerEntry {
        name: name.to_owned(),
        place: node.place.clone(),
        kind: found.map_or("", |k| k.name()),
        inputs,
        outputs: found.map_or(&[], |k| k.outputs()),
        needs_primary: found.is_none_or(|k| k.needs_primary()),
        spec,
    }
}

fn stage(name: &str, path: &str, node: &Node, errors: &mut Errors) -> StageEntry {
    let found = kind(path, node, "stage", stages::ALL.iter().map(|k| (k.name(), *k)), errors);
    let inputs = inputs(path, node, "handlers", errors);
    let spec = found.map(|kind| kind.parse(&mut Section::open(path, node, kind.fields(), &["kind", "inputs"], errors)));
    StageEntry {
        name: name.to_owned(),
        place: node.place.clone(),
        kind: found.map_or("", |k| k.name()),
        inputs,
        outputs: found.map_or(&[], |k| k.outputs()),
        spec,
    }
}

fn lookup(name: &str, path: &str, node: &Node, errors: &mut Errors) -> LookupEntry {
    let found = kind(path, node, "lookup", lookups::ALL.iter().map(|k| (k.name(), *k)), errors);
    let inputs = inputs(path, node, "handlers", errors);
    let required = is_required(path, node, errors).unwrap_or_else(|| found.is_none_or(|k| k.required()));
    let spec = found.map(|kind| kind.parse(&mut Section::open(path, node, kind.fields(), &["kind", "inputs", "required"], errors)));
    LookupEntry {
        name: name.to_owned(),
        place: node.place.clone(),
        kind: found.map_or("", |k| k.name()),
        inputs,
        required,
        outputs: found.map_or(&[], |k| k.outputs()),
        spec,
    }
}

fn sink(name: &str, path: &str, node: &Node, errors: &mut Errors) -> SinkEntry {
    let found = kind(path, node, "sink", sinks::ALL.iter().map(|k| (k.name(), *k)), errors);
    let inputs = inputs(path, node, "handlers", errors);
    let required = is_required(path, node, errors).unwrap_or_else(|| found.is_some_and(|k| k.required()));
    let spec = found.map(|kind| kind.parse(&mut Section::open(path, node, kind.fields(), &["kind", "inputs", "required"], errors)));
    SinkEntry {
        name: name.to_owned(),
        place: node.place.clone(),
        kind: found.map_or("", |k| k.name()),
        inputs,
        required,
        thread: found.map_or(sinks::Thread::Edge, |k| k.thread()),
        spec,
    }
}

fn is_required(path: &str, node: &Node, errors: &mut Errors) -> Option<bool> {
    let node = node.get("required")?;
    let read = match &node.value {
        Value::Bool(b) => Some(*b),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    if read.is_none() {
        errors.add(
            &node.place,
            format!("{path}.required"),
            format!("{} is neither true nor false; write one of the two", node.value.shown()),
        );
    }
    read
}

/// Looks a component's kind up.
fn kind<'k, K: ?Sized>(
    path: &str,
    node: &Node,
    what: &str,
    all: impl Iterator<Item = (&'static str, &'k K)> + Clone,
    errors: &mut Errors,
) -> Option<&'k K> {
    let known = || match all.clone().map(|(name, _)| name).collect::<Vec<_>>() {
        names if names.is_empty() => "none in this build".to_owned(),
        names => names.join(", "),
    };
    let Some(written) = node.get("kind") else {
        errors.add(&node.place, format!("{path}.kind"), format!("must be set; known: {}", known()));
        return None;
    };
    let Value::Text(name) = &written.value else {
        errors.add(&written.place, format!("{path}.kind"), format!("{} is not a text; known: {}", written.value.shown(), known()));
        return None;
    };
    let found = all.clone().find(|(known, _)| known == name).map(|(_, kind)| kind);
    if found.is_none() {
        let mut answer = format!("no {what} {}; known: {}", written.value.shown(), known());
        if let Some(near) = nearest(name, all.clone().map(|(name, _)| name)) {
            answer.push_str(&format!("; did you mean \"{near}\"?"));
        }
        errors.add(&written.place, format!("{path}.kind"), answer);
    }
    found
}

fn inputs(path: &str, node: &Node, of: &str, errors: &mut Errors) -> Inputs {
    let key = format!("{path}.inputs");
    let Some(written) = node.get("inputs") else {
        errors.add(&node.place, key, format!("must be set; name {of}, as in inputs = [\"NAME\"]"));
        return Inputs { place: node.place.clone(), names: Vec::new() };
    };
    let mut names: Vec<(String, Place)> = Vec::new();
    let mut add = |text: &str, place: &Place, errors: &mut Errors| {
        if names.iter().any(|(name, _)| name == text) {
            errors.add(place, key.as_str(), format!("{} is named twice; remove one", Value::Text(text.to_owned()).shown()));
        } else {
            names.push((text.to_owned(), place.clone()));
        }
    };
    match &written.value {
        Value::Text(text) => text.split(',').map(str::trim).filter(|t| !t.is_empty()).for_each(|t| add(t, &written.place, errors)),
        Value::List(items) => {
            for item in items {
                match &item.value {
                    Value::Text(text) => add(text, &item.place, errors),
                    Value::Int(n) => add(&n.to_string(), &item.place, errors),
                    other => errors.add(&item.place, key.as_str(), format!("{} is not a name; name {of}", other.shown())),
                }
            }
        }
        other => errors.add(
            &written.place,
            key.as_str(),
            format!("{} is not a list of names; name {of}, as in inputs = [\"NAME\"]", other.shown()),
        ),
    }
    if names.is_empty() && matches!(&written.value, Value::Text(_)) || written.value == Value::List(Vec::new()) {
        errors.add(&written.place, key.as_str(), format!("is empty; name {of}, as in inputs = [\"NAME\"]"));
    }
    Inputs { place: written.place.clone(), names }
}

/// In the order of the file, then environment, flags and defaults.
pub(super) fn sort(errors: &mut Errors) {
    let rank = |error: &SettingsError| match error.place {
        Place::Line(n) => (0, n),
        Place::Env(_) => (1, 0),
        Place::Flag(_) => (2, 0),
        Place::Default => (3, 0),
    };
    errors.0.sort_by_key(rank);
}
