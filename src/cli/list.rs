//! `shipper list`: the kinds there are, and an example of each.

use std::process::ExitCode;

use argh::FromArgs;

use crate::{
    handlers, lookups, reference,
    register::{Field, Type},
    sinks, sources, stages,
};

/// List the kinds of tables, sources, handlers, stages, lookups and sinks, or print an example of one.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "list", example = "shipper list", example = "shipper list --example dfn")]
pub struct List {
    /// print a commented block of this kind, ready to paste into a config
    #[argh(option)]
    example: Option<String>,
    /// print every setting of every kind as a page of Markdown (docs/CONFIG.md)
    #[argh(switch)]
    markdown: bool,
}

/// What a build may lack, and whether this one has it.
const FEATURES: [(&str, bool, &str); 3] = [
    ("sigma", cfg!(feature = "sigma"), "Sigma rules"),
    ("onnx", cfg!(feature = "onnx"), "models in ONNX form"),
    ("scan", cfg!(feature = "scan"), "scanning of files with YARA"),
];

type Row = (&'static str, &'static str, &'static str, &'static [Field]);

/// Every kind: section, name, about, fields.
pub fn kinds() -> Vec<Row> {
    let sources = sources::ALL.iter().map(|k| ("sources", k.name(), k.about(), k.fields()));
    let handlers = handlers::ALL.iter().map(|k| ("handlers", k.name(), k.about(), k.fields()));
    let stages = stages::ALL.iter().map(|k| ("stages", k.name(), k.about(), k.fields()));
    let lookups = lookups::ALL.iter().map(|k| ("lookups", k.name(), k.about(), k.fields()));
    let sinks = sinks::ALL.iter().map(|k| ("sinks", k.name(), k.about(), k.fields()));
    let tables = reference::ALL.iter().map(|k| ("tables", k.name(), k.about(), k.fields()));
    sources.chain(handlers).chain(stages).chain(lookups).chain(sinks).chain(tables).collect()
}

/// Runs the command.
///
/// # Errors
/// None: an unknown kind is told and ends with 64.
pub fn run(args: &List) -> anyhow::Result<ExitCode> {
    if args.markdown {
        print!("{}", super::manual::manual());
        return Ok(ExitCode::SUCCESS);
    }
    let kinds = kinds();
    let Some(name) = &args.example else {
        for (section, name, about, _) in kinds {
            println!("{section:9} {name:12} {about}");
        }
        for (name, is_in, about) in FEATURES {
            println!("{:9} {name:12} {about}{}", "feature", if is_in { "" } else { "; not in this build" });
        }
        return Ok(ExitCode::SUCCESS);
    };
    let found: Vec<_> = kinds.iter().filter(|(_, kind, ..)| kind == name).collect();
    if found.is_empty() {
        let known: Vec<_> = kinds.iter().map(|(_, name, ..)| *name).collect();
        eprintln!("shipper: no kind {name:?}; known: {}", known.join(", "));
        return Ok(ExitCode::from(super::USAGE));
    }
    for (section, kind, about, fields) in found {
        print!("{}", example(section, kind, about, fields));
    }
    Ok(ExitCode::SUCCESS)
}

/// A commented TOML block: what must be set stands bare, the rest is a comment with its default.
fn example(section: &str, kind: &str, about: &str, fields: &[Field]) -> String {
    let mut text = format!("# {about}\n[{section}.{kind}]\nkind = \"{kind}\"\n");
    if !["sources", "tables"].contains(&section) {
        text += "inputs = []                 # names of sources or outputs\n";
    }
    for field in fields {
        text += &format!("\n# {} ({})\n", field.doc, field.kind);
        let value = field.default.map_or_else(|| sample(field), |default| written(field.kind, default));
        let mark = if field.required { "" } else { "# " };
        text += &format!("{mark}{} = {value}\n", field.name);
    }
    text
}

/// A default as it stands in TOML.
pub(super) fn written(kind: Type, default: &str) -> String {
    let bare = matches!(kind, Type::Bool | Type::Int { .. } | Type::Number | Type::Map | Type::Records(_))
        || default.starts_with(['"', '['])
        || default.parse::<i64>().is_ok();
    if bare { default.to_owned() } else { format!("{default:?}") }
}

/// A value that a setting without a default might have; what must be set is one that is taken.
pub(super) fn sample(field: &Field) -> String {
    match (field.kind, field.name) {
        (_, "brokers") => "[\"kafka.example.org:9093\"]".into(),
        (_, "topic") => "\"cust-1\"".into(),
        (Type::Texts, "inputs") => "[\"cpu_usage_mean\"]".into(),
        (_, "url") if field.doc.contains("redis://") => "\"redis://redis.example.org:6379\"".into(),
        (_, "url") if field.doc.contains("InfluxDB") => "\"http://influx.example.org:8086\"".into(),
        (_, "url") => "\"https://misp.example.org\"".into(),
        (_, "redis.url") => "\"redis://redis.example.org:6379\"".into(),
        (_, "proxy") => "\"http://proxy.example.org:3128\"".into(),
        (Type::Path, _) => "\"/path/to/file\"".into(),
        (Type::Bool, _) => "true".into(),
        (Type::Int { min, .. }, _) => min.to_string(),
        (Type::Choice(words), _) => format!("{:?}", words.first().unwrap_or(&"")),
        (Type::Texts, _) => "[\"…\"]".into(),
        (Type::Map, _) => "{}".into(),
        (Type::Records(_), _) => "[]".into(),
        (Type::Table(kind), _) => format!("{kind:?}"),
        (Type::Tables(kind), _) => format!("[{kind:?}]"),
        (Type::Number, _) => "0.5".into(),
        _ => "\"…\"".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Node;

    #[test]
    fn every_example_is_toml_and_every_field_is_explained() {
        for (section, kind, about, fields) in kinds() {
            let text = example(section, kind, about, fields);
            // Also with each comment taken off: an operator will.
            let bare: String = text
                .lines()
                .map(|line| if line.contains(" = ") { line.trim_start_matches("# ") } else { line })
                .fold(String::new(), |all, line| all + line + "\n");
            for text in [&text, &bare] {
                assert!(Node::parse_toml(text).is_ok(), "{section}.{kind} is no TOML:\n{text}");
            }
            assert!(fields.iter().all(|f| !f.doc.is_empty()), "{section}.{kind}: a field says nothing");
        }
    }
}
