//! Every configuration that we hand out, read by the real reader: the packaged one, those in the
//! pages, and the page of all settings, which is held equal to the tables.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use shipper::{
    cli::manual::manual,
    register::{Errors, Node},
    topology::{Host, Plan, config::Config},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(text: &str) -> Config {
    let tree = Node::parse_toml(text).unwrap_or_else(|e| panic!("no TOML: {e}\n{text}"));
    Config::read(tree, std::iter::empty(), &[], &Host { name: "host".into(), embedded: None })
}

fn plan(text: &str) -> Result<Plan, Errors> {
    Plan::build(read(text))
}

/// Takes the comment sign off every line that is a setting or a table: `#name = …`, `#[table]`.
fn switched_on(text: &str) -> String {
    let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    text.lines().map(|line| if is_setting(&line) { &line[1..] } else { line }).fold(String::new(), |all, line| all + line + "\n")
}

/// The blocks of TOML in a page, each with its line.
fn fences(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (n, line) in page.lines().enumerate() {
        match &mut open {
            Some(_) if line.starts_with("```") => found.extend(open.take()),
            Some((_, text)) => *text += &format!("{line}\n"),
            None if line.starts_with("```toml") => open = Some((n + 2, String::new())),
            None => {}
        }
    }
    assert!(open.is_none(), "a block of TOML has no end");
    found
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

#[test]
fn the_packaged_config_ships_nothing_until_broker_and_topic_are_set() {
    let errors = plan(&text_of(&root().join("packaging/shipper.toml"))).expect_err("a fresh install must not start");
    let keys: Vec<_> = errors.0.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["sinks.dfn_cert.brokers", "sinks.dfn_cert.topic"], "{errors}");
    assert!(errors.0.iter().all(|error| error.what.starts_with("must be set")), "{errors}");
}

#[test]
fn the_packaged_config_is_right_with_all_its_settings_switched_on() {
    let text = switched_on(&text_of(&root().join("packaging/shipper.toml")));
    assert!(!text.contains("\n#kind") && text.contains("\nbrokers = "), "{text}");
    plan(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
}

#[test]
fn every_config_in_the_pages_is_taken_by_the_reader() {
    let mut seen = 0;
    for page in pages() {
        for (line, block) in fences(&text_of(&page)) {
            let at = format!("{} line {line}", page.display());
            for text in [block.clone(), switched_on(&block)] {
                // The page of all settings shows each with its default, alternatives side by side.
                if page.ends_with("CONFIG.md") && text != block {
                    Node::parse_toml(&text).unwrap_or_else(|e| panic!("{at}: {e}"));
                    continue;
                }
                let config = read(&text);
                assert!(config.errors.is_empty(), "{at}: {}", config.errors);
                if !config.sources.is_empty() && !config.handlers.is_empty() && !config.sinks.is_empty() {
                    plan(&text).unwrap_or_else(|errors| panic!("{at}: {errors}"));
                }
            }
            seen += 1;
        }
    }
    assert!(seen > 5, "the pages have {seen} blocks of TOML, so something is wrong with how they are found");
}

/// `UPDATE=1 cargo test --test it config_page` writes the page anew.
#[test]
fn the_config_page_is_what_the_tables_say() {
    let path = root().join("docs/CONFIG.md");
    let page = manual();
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).expect("docs/CONFIG.md can be written");
    }
    assert!(
        text_of(&path) == page,
        "docs/CONFIG.md is not what `shipper list --markdown` prints; run UPDATE=1 cargo test --test it config_page"
    );
}
