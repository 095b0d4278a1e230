//! `warninglists`: values that are harmless or only worth a note, from MISP's own files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Finding, Kind, Level, Spec, Trouble, chain, finding};
use crate::{
    io::Disk,
    register::{Field, Section, Type},
    tables::{
        Shelf, Warninglists,
        warninglists::{Builder, Category},
    },
};

/// The kind.
pub struct Lists;

static FIELDS: &[Field] = &[
    Field::optional(
        "path",
        Type::Path,
        "Folder of MISP's warninglists: each list a folder with a `list.json` (the folder `lists` of the repository misp-warninglists), or files NAME.json.",
    ),
    Field::new(
        "built_in",
        Type::Bool,
        "true",
        "Also the small lists of shipper itself: addresses that are not public, reserved names, hashes of nothing, public resolvers.",
    ),
    Field::new("lists", Type::Texts, "[]", "Only these lists of the folder, by the names of their folders or files; empty: all."),
    Field::new(
        "annotate",
        Type::Texts,
        "[]",
        "Lists, by the names of their folders, that are only noted beside an indicator, whatever they say of themselves.",
    ),
    Field::new("drop", Type::Texts, "[]", "Lists whose values are harmless, whatever they say of themselves."),
];

impl Kind for Lists {
    fn name(&self) -> &'static str {
        "warninglists"
    }
    fn about(&self) -> &'static str {
        "values that are harmless or only worth a note, from MISP's own lists in a folder and a few built-in ones"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let settings = Settings {
            path: section.opt_path("path"),
            built_in: section.bool("built_in"),
            lists: section.texts("lists"),
            annotate: section.texts("annotate"),
            drop: section.texts("drop"),
        };
        if settings.path.is_none() && !settings.built_in {
            section.wrong("built_in", "is false and path is not set, so there is no list at all; change one of the two");
        }
        if settings.path.is_none() {
            for name in ["lists", "annotate", "drop"] {
                if section.is_set(name) {
                    section.wrong(name, "says nothing without path; set that, or remove this");
                }
            }
        }
        if let Some(both) = settings.annotate.iter().find(|name| settings.drop.contains(name)) {
            section.wrong("drop", format!("{both:?} stands in annotate as well; remove one of the two"));
        }
        Box::new(settings)
    }
}

#[derive(Clone, Debug)]
struct Settings {
    path: Option<PathBuf>,
    built_in: bool,
    lists: Vec<String>,
    annotate: Vec<String>,
    drop: Vec<String>,
}

/// What was read, for people.
struct Read {
    lists: Warninglists,
    /// Names of lists that were set and are not there, and what was left out.
    notes: Vec<String>,
}

impl Settings {
    /// The files of the lists, each with the list's name, by name.
    fn found(&self, disk: &dyn Disk) -> Result<Vec<(String, PathBuf)>, Trouble> {
        let Some(dir) = &self.path else { return Ok(Vec::new()) };
        let unreadable = |error| {
            Trouble::Broken(format!(
                "cannot list the folder of warninglists {}: {error}; fix the table's path, or the folder's permissions",
                dir.display()
            ))
        };
        let mut found = Vec::new();
        for path in disk.list(dir).map_err(unreadable)? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            match name.strip_suffix(".json") {
                Some(name) => found.push((name.to_owned(), path.clone())),
                // A folder without a list is passed over when it is read.
                None if !name.starts_with('.') && !name.contains('.') => found.push((name.to_owned(), path.join("list.json"))),
                None => {}
            }
        }
        found.retain(|(name, _)| self.lists.is_empty() || self.lists.contains(name));
        found.sort();
        Ok(found)
    }

    fn read(&self, disk: &dyn Disk) -> Result<Read, Trouble> {
        let mut builder = Builder::new();
        let mut notes = Vec::new();
        if self.built_in {
            builder.add_built_in().map_err(|error| Trouble::of(&error))?;
        }
        let mut names = Vec::new();
        for (name, path) in self.found(disk)? {
            let bytes = match disk.read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound || error.kind() == std::io::ErrorKind::NotADirectory => continue,
                Err(error) => {
                    return Err(Trouble::Broken(format!("cannot read the warninglist {}: {error}; fix its permissions", path.display())));
                }
            };
            let category = if self.annotate.contains(&name) {
                Some(Category::Known)
            } else {
                self.drop.contains(&name).then_some(Category::FalsePositive)
            };
            // One list that cannot be used must not take the others with it.
            if let Err(error) = builder.add_as(&name, &bytes, category) {
                notes.push(format!("{}: {}; the other lists count", path.display(), chain(&error)));
                continue;
            }
            names.push(name);
        }
        if let (Some(dir), true) = (&self.path, names.is_empty()) {
            let what = format!(
                "there is no warninglist in {}; it must hold folders with a list.json, as the folder lists of misp-warninglists",
                dir.display()
            );
            return Err(Trouble::Missing(what));
        }
        for name in [&self.lists, &self.annotate, &self.drop].into_iter().flatten().filter(|name| !names.contains(name)) {
            notes.push(format!("no warninglist {name:?} can be used; known: {}", names.join(", ")));
        }
        match builder.unusable() {
            [] => {}
            [first, ..] => {
                let what = format!(
                    "{} entries cannot be used, such as {:?} of {:?}: {}",
                    builder.unusable().len(),
                    first.entry,
                    first.list,
                    first.why
                );
                notes.push(what);
            }
        }
        let lists = builder.build().map_err(|error| Trouble::of(&error))?;
        Ok(Read { lists, notes })
    }
}

fn told(lists: &Warninglists) -> String {
    let entries: u64 = lists.lists().iter().map(|list| list.entries).sum();
    format!("{} warninglists with {entries} entries", lists.lists().len())
}

impl Spec for Settings {
    fn place(&self, name: &str, shelf: &mut Shelf) {
        shelf.place::<Warninglists>(name);
    }

    fn load(&self, name: &str, shelf: &Shelf, disk: &dyn Disk, _state_dir: &Path) -> Result<String, Trouble> {
        let Read { lists, notes } = self.read(disk)?;
        for note in notes {
            tracing::warn!(table = name, "{note}");
        }
        let what = told(&lists);
        if let Some(held) = shelf.of::<Warninglists>(name) {
            held.put(Arc::new(lists));
        }
        Ok(what)
    }

    fn files(&self, disk: &dyn Disk, _state_dir: &Path) -> Vec<PathBuf> {
        let lists = self.found(disk).unwrap_or_default().into_iter().map(|(_, path)| path);
        self.path.clone().into_iter().chain(lists).collect()
    }

    fn look_every(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn check(&self, disk: &dyn Disk, _state_dir: &Path) -> Vec<Finding> {
        match self.read(disk) {
            Ok(Read { lists, notes }) => {
                let good = finding(Ok(told(&lists)));
                notes.into_iter().map(|text| Finding { level: Level::Warning, text }).chain([good]).collect()
            }
            // A folder that was named on purpose and has no list is a mistake.
            Err(trouble) => vec![Finding { level: Level::Bad, text: trouble.to_string() }],
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        io::disk::RealDisk,
        register::{Errors, Node},
        tables::Kind as IndicatorKind,
    };

    fn parse(text: &str) -> (Box<dyn Spec>, String) {
        let node = Node::parse_toml(text).unwrap();
        let mut errors = Errors::default();
        let spec = Lists.parse(&mut Section::open("tables.lists", &node, FIELDS, &[], &mut errors));
        (spec, errors.to_string())
    }

    fn put(dir: &Path, name: &str, text: &str) {
        fs::create_dir_all(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("list.json"), text).unwrap();
    }

    #[test]
    fn a_folder_of_lists_is_loaded_and_settings_say_what_a_list_means() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "good-names", r#"{"name":"Good names","type":"hostname","list":["good.net"],"matching_attributes":["domain"]}"#);
        put(dir.path(), "vpn-x", r#"{"name":"A VPN","type":"cidr","list":["9.9.9.0/24"]}"#);
        put(dir.path(), "broken", "{");
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::write(dir.path().join("README.md"), "text").unwrap();
        let path = dir.path().display();
        let load = |more: &str| {
            let (spec, errors) = parse(&format!("path = '{path}'\nbuilt_in = false\n{more}"));
            assert_eq!(errors, "");
            let mut shelf = Shelf::default();
            spec.place("x", &mut shelf);
            let what = spec.load("x", &shelf, &RealDisk::new(), Path::new("/")).unwrap();
            (what, shelf.of::<Warninglists>("x").unwrap().get().unwrap(), spec.check(&RealDisk::new(), Path::new("/")))
        };
        let (what, lists, check) = load("");
        assert_eq!(what, "2 warninglists with 2 entries");
        assert!(lists.is_harmless(IndicatorKind::Domain, "a.good.net") && !lists.is_harmless(IndicatorKind::Ip, "9.9.9.9"));
        assert_eq!(lists.check(IndicatorKind::Ip, "9.9.9.9")[0].name, "A VPN");
        assert!(check[0].level == Level::Warning && check[0].text.contains("broken/list.json"), "{check:?}");
        let (_, lists, _) = load("annotate = ['good-names']\ndrop = ['vpn-x']\n");
        assert!(!lists.is_harmless(IndicatorKind::Domain, "a.good.net") && lists.is_harmless(IndicatorKind::Ip, "9.9.9.9"));
        let (what, _, check) = load("lists = ['vpn-x', 'vpn-y']\n");
        assert_eq!(what, "1 warninglists with 1 entries");
        assert!(check[0].text.contains("no warninglist \"vpn-y\""), "{check:?}");
    }

    #[test]
    fn what_says_nothing_is_told_and_an_empty_folder_is_a_mistake() {
        for (text, expected) in [
            ("built_in = false\n", "there is no list at all"),
            ("drop = ['a']\n", "says nothing without path"),
            ("path = '/x'\ndrop = ['a']\nannotate = ['a']\n", "stands in annotate as well"),
        ] {
            let errors = parse(text).1;
            assert!(errors.contains(expected), "{text}: {errors}");
        }
        let dir = tempfile::tempdir().unwrap();
        for (path, expected) in [(dir.path().to_owned(), "there is no warninglist in"), (dir.path().join("no"), "cannot list the folder")] {
            let (spec, _) = parse(&format!("path = '{}'\n", path.display()));
            let found = spec.check(&RealDisk::new(), Path::new("/"));
            assert!(found[0].level == Level::Bad && found[0].text.contains(expected), "{found:?}");
        }
        let (spec, errors) = parse("");
        assert_eq!(errors, "");
        assert_eq!(spec.check(&RealDisk::new(), Path::new("/"))[0].level, Level::Good);
    }
}
