//! `docs/CONFIG.md`: every setting there is, written from the tables that also read the config.

use std::fmt::Write as _;

use super::list::{sample, written};
use crate::{
    handlers, lookups, reference,
    register::{Field, Type},
    sinks, sources, stages,
    topology::{
        globals::GLOBALS,
        scanning::settings::{MONITOR, SCAN},
    },
};

const HEAD: &str = r#"# Configuration

Written by `shipper list --markdown` from the tables that read the config, so it cannot lag behind.
How the parts work together and what to do when something fails: [OPERATING.md](OPERATING.md).

The agent reads `/etc/shipper/shipper.toml`, or the file that `--config` names: TOML, or YAML where the
name ends in `.yaml` or `.yml`. A flag wins over the environment, the environment over the file, the file
over the default. `SHIPPER__SINKS__DFN_CERT__TOPIC=cust-1` sets `sinks.dfn_cert.topic`.
`shipper check` tells everything that is wrong at once, each with its line and its remedy.

Sources bring records in, handlers make messages of them, stages remember earlier messages and drop or fold
repeats, lookups ask others about a message and make messages of the answer, sinks take messages out. Each
component has a name of the operator's choice, a `kind`, and, but for sources, `inputs`: a handler names
sources; the others name outputs of handlers, stages and lookups, `"dfn"` for the first output of the handler
named `dfn`, `"dfn.confirm"` for another one. Every handler has `NAME.rejected` as well: records that it refuses,
as they were read; a required sink that takes it is the dead letter of these records. Stages and lookups are optional, and stand in any order that does
not go in a circle. Tables are reference data beside this way: they are read at the start, named by those who use
them, and taken anew as soon as their files change, without a reload.

| type | is written |
|---|---|
| text, path | `"…"` |
| size | a number of bytes, or text such as `"64 KiB"`, `"16 MiB"`, `"2 GB"` |
| span | text such as `"5ms"`, `"90s"`, `"1h 30m"`; `"0"` is none |
| texts | `["a", "b"]`; one text is a list of one |
| address | `"127.0.0.1:9600"` |
| table | `{ "a.key" = "value", other = 5 }`, or `NAME."a.key" = "value"` line by line |
| name of a table | `"misp"` for `[tables.misp]` |

A secret never stands in the config: settings name the file, variable or systemd credential it is in.
"#;

/// The whole page.
pub fn manual() -> String {
    let mut page = String::from(HEAD);
    page += "\n## The agent itself\n\n";
    table(&mut page, GLOBALS);

    page += "\n## Scanning of files\n\n\
        `[scan]`, for files below folders of this host, with cargo feature `scan`: [SCAN.md](SCAN.md).\n\n";
    table(&mut page, SCAN);
    page += "\n`[monitor]`, the watch over it:\n\n";
    table(&mut page, MONITOR);

    page += "\n## Sources\n\n\
        Every source also may have `expect_events_every`, a span: if no record comes for so long, that is told as trouble.\n";
    for kind in sources::ALL {
        component(&mut page, "sources", kind.name(), kind.about(), kind.fields(), "");
    }

    page += "\n## Handlers\n\nEvery handler also has `inputs`: the names of sources, at least one.\n";
    for kind in handlers::ALL {
        let mut outputs = String::new();
        for output in kind.outputs() {
            let name = |n: &str| if n.is_empty() { "`NAME`".to_owned() } else { format!("`NAME.{n}`") };
            let after = output.after.and_then(|index| kind.outputs().get(index));
            let after = after.map_or_else(String::new, |first| format!(" (after {} of the same record was delivered)", name(first.name)));
            let and = if outputs.is_empty() { "Outputs, for a handler called NAME: " } else { ", " };
            let _ = write!(outputs, "{and}{}{after}", name(output.name)); // writing to a String cannot fail
        }
        component(&mut page, "handlers", kind.name(), kind.about(), kind.fields(), &outputs);
    }

    page += "\n## Stages\n\n\
        Every stage also has `inputs`: the names of outputs, at least one. It remembers for each source apart, and over\n\
        restarts where nothing else is said.\n";
    for kind in stages::ALL {
        component(&mut page, "stages", kind.name(), kind.about(), kind.fields(), &named(kind.outputs(), "stage"));
    }

    if !lookups::ALL.is_empty() {
        page += "\n## Lookups\n\n\
            Every lookup also has `inputs`: the names of outputs, at least one; and `required`, true or false: whether a\n\
            record counts as done only when this lookup has answered.\n";
    }
    for kind in lookups::ALL {
        let required = format!("{}. `required` is {} by default.", named(kind.outputs(), "lookup"), kind.required());
        component(&mut page, "lookups", kind.name(), kind.about(), kind.fields(), &required);
    }

    page += "\n## Sinks\n\n\
        Every sink also has `inputs`: the names of outputs, at least one; and `required`, true or false: whether a\n\
        record counts as done only when this sink has it. A sink that is not required never makes anybody wait: what\n\
        it cannot take in time is dropped and counted.\n";
    for kind in sinks::ALL {
        let required = format!("`required` is {} by default.", kind.required());
        component(&mut page, "sinks", kind.name(), kind.about(), kind.fields(), &required);
    }

    page += "\n## Tables\n\n\
        A table that cannot be read is told in the log and by `/health` with what to do; one that was read before stays in\n\
        use until then.\n";
    for kind in reference::ALL {
        component(&mut page, "tables", kind.name(), kind.about(), kind.fields(), "");
    }
    page
}

/// The outputs of a stage or a lookup, where it has more than one.
fn named(outputs: &[&str], what: &str) -> String {
    let name = |n: &&str| if n.is_empty() { "`NAME`".to_owned() } else { format!("`NAME.{n}`") };
    let names: Vec<String> = outputs.iter().map(name).collect();
    format!("Output{}, for a {what} called NAME: {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

fn component(page: &mut String, section: &str, kind: &str, about: &str, fields: &[Field], more: &str) {
    let _ = write!(page, "\n### `{kind}`\n\n{}.", capital(about));
    if !more.is_empty() {
        let _ = write!(page, " {}{}", more, if more.ends_with('.') { "" } else { "." });
    }
    page.push_str("\n\n");
    if fields.is_empty() {
        page.push_str("It has no settings.\n\n");
    } else {
        table(page, fields);
        page.push('\n');
    }
    let _ = write!(page, "```toml\n{}```\n", block(section, kind, fields));
}

/// The shortest block of a kind: what must be set, and the rest as comments with its default.
fn block(section: &str, kind: &str, fields: &[Field]) -> String {
    let mut text = format!("[{section}.NAME]\nkind = \"{kind}\"\n");
    if !["sources", "tables"].contains(&section) {
        text += "inputs = [\"INPUT\"]\n";
    }
    for field in fields {
        let value = field.default.map_or_else(|| sample(field), |default| written(field.kind, default));
        text += &format!("{}{} = {value}\n", if field.required { "" } else { "#" }, field.name);
    }
    text
}

fn table(page: &mut String, fields: &[Field]) {
    page.push_str("| setting | type | default | meaning |\n|---|---|---|---|\n");
    for field in fields {
        let default = match field.default {
            Some(default) => format!("`{}`", written(field.kind, default)),
            None if field.required => "**must be set**".into(),
            None => "unset".into(),
        };
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", field.name, short(field.kind), default, field.doc.replace('|', "\\|"));
    }
}

fn short(kind: Type) -> String {
    match kind {
        Type::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" "),
        Type::Int { min, max } if max == i64::MAX => format!("number from {min}"),
        Type::Int { min, max } => format!("number {min} to {max}"),
        Type::Bytes => "size".into(),
        Type::Span => "span".into(),
        Type::Texts => "texts".into(),
        Type::Address => "address".into(),
        Type::Table(kind) => format!("name of a table of kind `{kind}`"),
        Type::Tables(kind) => format!("names of tables of kind `{kind}`"),
        Type::Records(_) => "list of tables".into(),
        Type::Text | Type::Path | Type::Bool | Type::Number | Type::Map => kind.to_string(),
    }
}

/// A sentence begins with a capital, but for a file's name.
fn capital(text: &str) -> String {
    if text.split(' ').next().is_some_and(|word| word.contains('.')) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
