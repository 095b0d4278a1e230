//! `shipper scan rules check`: what is wrong with rule files, before an agent has them.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use argh::FromArgs;

use super::{CONFIG, refused};
use crate::{
    cli::tell,
    scan::{
        children::{Children, NothingKept, Program, ReloadError},
        rules::{RuleError, RulesView},
        settings::Settings,
    },
};

/// Look at YARA rules.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "rules", example = "shipper scan rules check /etc/shipper/rules")]
pub(super) struct Rules {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum What {
    Check(Check),
}

/// Compile rules and list what is wrong. Exit codes: 0 every rule compiles, 78 some do not, 69 this build has no YARA.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "check",
    example = "shipper scan rules check /etc/shipper/rules",
    example = "shipper scan rules check new.yar --strict"
)]
struct Check {
    /// rule files, or folders of *.yar and *.yara (default /etc/shipper/rules)
    #[argh(positional)]
    paths: Vec<PathBuf>,
    /// refuse the loose escapes in regular expressions that only libyara takes
    #[argh(switch)]
    strict: bool,
    /// rules and errors as one JSON object
    #[argh(switch)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Output fails.
pub(super) fn run(args: &Rules) -> anyhow::Result<ExitCode> {
    let What::Check(args) = &args.what;
    let mut settings = Settings { children: 0, ..Settings::default() };
    if !args.paths.is_empty() {
        settings.rules.paths = args.paths.clone();
    }
    settings.rules.relaxed = !args.strict;
    let view = match Children::start(Program::own(), &settings, None, Arc::new(NothingKept)) {
        Ok(children) => children.rules(),
        // Nothing compiles, and why is what was asked for.
        Err(ReloadError::Refused { errors, .. }) => Arc::new(RulesView { errors, ..RulesView::default() }),
        Err(error) => return Ok(refused(&error)),
    };
    tell(&if args.json { serde_json::to_string(&*view)? + "\n" } else { text(&view) })?;
    Ok(if view.rules.is_empty() || view.errors.iter().any(|error| !error.harmless) { ExitCode::from(CONFIG) } else { ExitCode::SUCCESS })
}

fn text(view: &RulesView) -> String {
    let mut text: String = view.errors.iter().map(|error: &RuleError| format!("{}\n", crate::cli::plain(&error.to_string()))).collect();
    if view.errors_more > 0 {
        text.push_str(&format!("and {} more\n", view.errors_more));
    }
    let costly = view.errors.iter().filter(|error| !error.harmless).count();
    text.push_str(&format!("{} rules compile; {costly} errors, {} notes", view.rules.len(), view.errors.len() - costly));
    if !view.version.is_empty() {
        text.push_str(&format!("; version {}", view.version));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_first_and_sums_last() {
        let error = |harmless| RuleError { file: "a\u{1b}.yar".into(), line: 3, code: "E009".into(), message: "unknown".into(), harmless };
        let view =
            RulesView { errors: vec![error(false), error(true)], errors_more: 2, version: "sha256:00".into(), ..RulesView::default() };
        let expected = "a\\u{1b}.yar:3: error[E009]: unknown\na\\u{1b}.yar:3: note[E009]: unknown\nand 2 more\n0 rules compile; 1 errors, 1 notes; \
                        version sha256:00\n";
        assert_eq!(text(&view), expected);
    }
}
