//! `reputation`: lists of bad addresses, from files that somebody else keeps up to date.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Finding, Kind, Level, Spec, Trouble, finding, found, unread};
use crate::{
    io::Disk,
    limits::REPUTATION_FILE_BYTES,
    register::{Field, Section, Type},
    tables::{
        Reputation, Shelf, networks,
        reputation::{Builder, LISTS_MAX, OWN, Own, count, read},
    },
};

/// The kind.
pub struct ReputationTables;

static FIELDS: &[Field] = &[
    Field::required(
        "files",
        Type::Texts,
        "Files of addresses and networks, each a list with the name of its file: `.netset`, `.ipset` and plain lists (`#` begins a comment), Spamhaus DROP as text or JSON, bans of CrowdSec (`cscli decisions list -o json`), JSON exports of MISP. The form is told by the content. They are read again when they change.",
    ),
    Field::new("bad_ips", Type::Texts, "[]", "Addresses and networks that are bad, taken as given: also private ones."),
    Field::new("allow", Type::Texts, "[]", "Addresses and networks that are on no list, whatever the lists say."),
    Field::new(
        "match_private",
        Type::Bool,
        "false",
        "Whether private addresses can be on a list of `files`; lists for firewalls carry all private networks.",
    ),
];

impl Kind for ReputationTables {
    fn name(&self) -> &'static str {
        "reputation"
    }
    fn about(&self) -> &'static str {
        "bad addresses, from lists in files and from the config"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let files: Vec<PathBuf> = section.texts("files").into_iter().map(PathBuf::from).collect();
        let mut networks = |name: &'static str| {
            let mut found = Vec::new();
            for text in section.texts(name) {
                match networks::parse(text.trim()) {
                    Some(network) => found.push(network),
                    None => section.wrong(name, format!("{text:?} is no network; write it as 203.0.113.0/24 or 2001:db8::/32")),
                }
            }
            found
        };
        let own = Own { bad: networks("bad_ips"), allow: networks("allow"), match_private: section.bool("match_private") };
        if section.is_set("files") && files.is_empty() && own.bad.is_empty() {
            section.wrong("files", "is empty, and bad_ips as well, so there is no list at all; name files or addresses");
        }
        if files.len() > LISTS_MAX {
            section.wrong("files", format!("there are {}, at most {LISTS_MAX} can be; join some", files.len()));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = files.iter().find(|file| !names.insert(name_of(file))) {
            section.wrong("files", format!("{:?} is the name of two lists; rename one of the files", name_of(twice)));
        }
        Box::new(Settings { files, own })
    }
}

/// A list's name: its file's, without the extension.
fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[derive(Clone, Debug)]
struct Settings {
    files: Vec<PathBuf>,
    own: Own,
}

/// What a look at all files gave.
struct Read {
    table: Reputation,
    /// What is worth a note.
    notes: Vec<String>,
    /// What is not as it should be; each list that is meant is as it was, or is not there.
    wrong: Vec<String>,
}

/// What a file is called in errors.
const WHAT: &str = "list of addresses";

impl Settings {
    /// - `before`: a list that has vanished or shrunk stays as it is there.
    fn read(&self, disk: &dyn Disk, before: Option<&Reputation>) -> Read {
        let (mut notes, mut wrong) = (Vec::new(), Vec::new());
        let files: Vec<Result<PathBuf, Trouble>> = self.files.iter().map(|file| found(disk, file, WHAT, REPUTATION_FILE_BYTES)).collect();
        // Room for all at once: a table that had to grow would be there twice for a moment.
        let room: usize = files.iter().flatten().map(|path| count(&|| disk.reader(path)).unwrap_or(0)).sum();
        let mut builder = Builder::with_capacity(room);
        for (file, path) in self.files.iter().zip(files) {
            let (name, shown) = (name_of(file), file.display());
            let known = before.and_then(|before| before.lists().iter().find(|list| list.name == name)).map(|list| list.networks);
            let mut adding = builder.begin();
            let read = path.and_then(|path| {
                read(&|| disk.reader(&path), self.own.match_private, &mut adding).map_err(|error| unread(file, WHAT, &error))
            });
            let now = adding.count();
            let stays = match &read {
                Err(trouble) => {
                    let stays = if known.is_some() { "; what was read of it before stays in use" } else { "; the other lists count" };
                    Some(format!("{trouble}{stays}"))
                }
                Ok(_) => known.filter(|known| (now == 0 || now < known.div_ceil(2)) && now < *known).map(|known| {
                    format!(
                        "{shown} has {now} entries and had {known}; what was read of it before stays in use; mend the file, or reload the agent to take it as it is"
                    )
                }),
            };
            if let Some(what) = stays {
                wrong.push(what);
                adding.clear();
                if let Some(before) = before {
                    builder.keep(&name, before);
                }
                continue;
            }
            if let Ok(left_out) = read {
                if left_out.unusable + left_out.too_wide > 0 {
                    notes.push(format!("{shown}: left out are {left_out}"));
                }
                if now == 0 {
                    notes.push(format!("{shown} has no entry that counts"));
                }
            }
            adding.finish(name);
        }
        Read { table: builder.finish(&self.own), notes, wrong }
    }
}

fn told(table: &Reputation) -> String {
    let own = table.len() - table.lists().iter().map(|list| list.networks).sum::<usize>();
    let own = if own == 0 { String::new() } else { format!(", {own} of them in {OWN}") };
    format!("{} lists of addresses with {} entries{own}", table.lists().len(), table.len())
}

impl Spec for Settings {
    fn place(&self, name: &str, shelf: &mut Shelf) {
        shelf.place::<Reputation>(name);
    }

    fn load(&self, name: &str, shelf: &Shelf, disk: &dyn Disk, _state_dir: &Path) -> Result<String, Trouble> {
        let held = shelf.of::<Reputation>(name);
        let before = held.as_ref().and_then(|held| held.get());
        let Read { table, notes, wrong } = self.read(disk, before.as_deref());
        for note in notes {
            tracing::warn!(table = name, "{note}");
        }
        let what = told(&table);
        if let Some(held) = held {
            held.put(Arc::new(table));
        }
        if wrong.is_empty() { Ok(what) } else { Err(Trouble::Partly(wrong.join("; "))) }
    }

    fn files(&self, _disk: &dyn Disk, _state_dir: &Path) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn check(&self, disk: &dyn Disk, _state_dir: &Path) -> Vec<Finding> {
        let Read { table, notes, wrong } = self.read(disk, None);
        let good = finding(Ok(told(&table)));
        let bad = wrong.into_iter().map(|text| Finding { level: Level::Bad, text });
        bad.chain(notes.into_iter().map(|text| Finding { level: Level::Warning, text })).chain([good]).collect()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use std::{fs, net::IpAddr};

    use super::*;
    use crate::{
        io::disk::RealDisk,
        register::{Errors, Node},
    };

    fn parse_settings(text: &str) -> (Box<dyn Spec>, String) {
        let (node, mut errors) = (Node::parse_toml(text).unwrap(), Errors::default());
        let spec = ReputationTables.parse(&mut Section::open("tables.bad", &node, FIELDS, &[], &mut errors));
        (spec, errors.to_string())
    }

    #[test]
    fn a_list_that_is_empty_or_shrinks_by_half_stays_as_it_was_and_the_others_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let lines = |from: u8, count: u8| (from..from + count).map(|n| format!("203.0.113.{n}\n")).collect::<String>();
        fs::write(path("real.netset"), lines(0, 10)).unwrap();
        std::os::unix::fs::symlink(path("real.netset"), path("bots.netset")).unwrap();
        fs::write(path("drop.txt"), "198.51.100.0/24 ; SBL1\n").unwrap();
        let text = format!("files = [{:?}, {:?}]\nbad_ips = ['10.6.6.6']\nallow = '203.0.113.3'\n", path("bots.netset"), path("drop.txt"));
        let (spec, errors) = parse_settings(&text);
        assert_eq!(errors, "");
        let mut shelf = Shelf::default();
        spec.place("bad", &mut shelf);
        let load = || spec.load("bad", &shelf, &RealDisk::new(), Path::new("/"));
        let list_of = |address: &str| {
            let table = shelf.of::<Reputation>("bad").unwrap().get().unwrap();
            table.list_of(address.parse::<IpAddr>().unwrap()).map(str::to_owned)
        };
        assert_eq!(load(), Ok("2 lists of addresses with 12 entries, 1 of them in bad_ips".into()));
        assert_eq!(list_of("203.0.113.9").as_deref(), Some("bots"));
        assert_eq!(list_of("198.51.100.77").as_deref(), Some("drop"));
        assert_eq!(list_of("10.6.6.6").as_deref(), Some("bad_ips"));
        assert_eq!(list_of("203.0.113.3"), None);
        // Half of it is still taken; a single entry may go to none of them only by a reload.
        fs::write(path("real.netset"), lines(5, 5)).unwrap();
        load().unwrap();
        assert_eq!((list_of("203.0.113.4"), list_of("203.0.113.5").as_deref()), (None, Some("bots")));
        for too_few in [lines(100, 2), String::new(), "nonsense\n".into()] {
            fs::write(path("real.netset"), too_few).unwrap();
            fs::write(path("drop.txt"), "198.51.100.0/25\n").unwrap();
            let Err(Trouble::Partly(why)) = load() else { panic!("it is told") };
            assert!(why.contains("entries and had 5; what was read of it before stays in use"), "{why}");
            assert_eq!((list_of("203.0.113.9").as_deref(), list_of("198.51.100.200")), (Some("bots"), None));
        }
        fs::remove_file(path("drop.txt")).unwrap();
        fs::write(path("real.netset"), lines(0, 9)).unwrap();
        let Err(Trouble::Partly(why)) = load() else { panic!("it is told") };
        assert!(why.contains("there is no list of addresses"), "{why}");
        assert_eq!((list_of("203.0.113.0").as_deref(), list_of("198.51.100.7").as_deref()), (Some("bots"), Some("drop")));
        // A new start takes what is there.
        fs::write(path("real.netset"), "").unwrap();
        let mut anew = Shelf::default();
        spec.place("bad", &mut anew);
        let Err(Trouble::Partly(why)) = spec.load("bad", &anew, &RealDisk::new(), Path::new("/")) else { panic!("it is told") };
        assert!(why.contains("the other lists count"), "{why}");
        assert_eq!(anew.of::<Reputation>("bad").unwrap().get().unwrap().len(), 1);
        let check = spec.check(&RealDisk::new(), Path::new("/"));
        let levels: Vec<Level> = check.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Bad, Level::Warning, Level::Good], "{check:?}");
    }

    #[test]
    fn wrong_settings_are_answered() {
        for (text, expected) in [
            ("files = []\nmatch_private = true\n", "there is no list at all"),
            ("bad_ips = ['here']\nallow = ['10.0.0.0/33']\n", "\"10.0.0.0/33\" is no network"),
            ("files = ['/a/x.netset', '/b/x.ipset']\n", "\"x\" is the name of two lists"),
        ] {
            let errors = parse_settings(text).1;
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
