//! `sigma`: a folder of Sigma rules.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Finding, Kind, Level, Spec, Trouble, finding};
use crate::{
    io::Disk,
    limits::{SIGMA_BYTES, SIGMA_FILE_BYTES, SIGMA_FOLDERS_MAX},
    register::{Field, Section, Type},
    tables::{
        Shelf,
        sigma::{Broken, Builder, Left, Rules},
    },
};

/// The kind.
pub struct SigmaTables;

static FIELDS: &[Field] = &[Field::required(
    "path",
    Type::Path,
    "A file of Sigma rules, or a folder with files `*.yml` and `*.yaml` in it and below it (the folder `rules` of SigmaHQ). \
     Looked at every 30 seconds, and read again when a file has changed, come or gone. A rule that cannot be used is named, and the others work.",
)];

impl Kind for SigmaTables {
    fn name(&self) -> &'static str {
        "sigma"
    }
    fn about(&self) -> &'static str {
        "Sigma rules, from a folder"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings { path: section.path("path") })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    path: PathBuf,
}

/// Broken rules that are named; the rest are counted.
const NAMED_MAX: usize = 5;

/// The files of rules, and the folders that they lie in.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

fn is_rules(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("yml") || extension.eq_ignore_ascii_case("yaml"))
}

impl Settings {
    /// All files of rules, in the order of their names.
    fn found(&self, disk: &dyn Disk) -> Result<Found, Trouble> {
        let mut found = Found::default();
        if is_rules(&self.path) {
            found.files.push(self.path.clone());
            return Ok(found);
        }
        let shown = self.path.display();
        let mut left = vec![(self.path.clone(), 0)];
        while let Some((folder, depth)) = left.pop() {
            let paths = match disk.list(&folder) {
                Ok(paths) => paths,
                // A file that is no rule.
                Err(error) if depth > 0 && matches!(error.kind(), std::io::ErrorKind::NotADirectory | std::io::ErrorKind::NotFound) => {
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Trouble::Missing(format!("there is no folder of Sigma rules {shown}; put it there, or name another")));
                }
                Err(error) => {
                    let folder = folder.display();
                    return Err(Trouble::Broken(format!("cannot list the folder of Sigma rules {folder}: {error}; fix its permissions")));
                }
            };
            found.folders.push(folder);
            for path in paths {
                let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                match is_rules(&path) {
                    true if !is_hidden => found.files.push(path),
                    false if !is_hidden && depth < SIGMA_FOLDERS_MAX => left.push((path, depth + 1)),
                    _ => {}
                }
            }
        }
        found.files.sort();
        Ok(found)
    }

    fn read(&self, disk: &dyn Disk) -> Result<(Rules, Left), Trouble> {
        let mut builder = Builder::default();
        let mut total = 0;
        for path in self.found(disk)?.files {
            let name =
                path.strip_prefix(&self.path).ok().filter(|rest| !rest.as_os_str().is_empty()).unwrap_or(&path).display().to_string();
            match text_of(disk, &path, &mut total) {
                Ok(text) => builder.add(&name, &text),
                Err(why) => builder.add_broken(&name, why),
            }
        }
        let (rules, left) = builder.build();
        if rules.is_empty() {
            let shown = self.path.display();
            return Err(match left.broken.first() {
                None => {
                    Trouble::Missing(format!("there is no Sigma rule in {shown}; it must hold files *.yml, as the folder rules of SigmaHQ"))
                }
                Some(_) => Trouble::Broken(format!("no Sigma rule in {shown} can be used; {}", told_of(&left.broken))),
            });
        }
        Ok((rules, left))
    }
}

/// The text of a file.
///
/// - `total`: bytes of all files so far.
fn text_of(disk: &dyn Disk, path: &Path, total: &mut u64) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}; fix its permissions");
    let path = disk.resolve(path).map_err(unreadable)?;
    let len = disk.len(&path).map_err(unreadable)?;
    if len > SIGMA_FILE_BYTES {
        return Err(format!("has {len} bytes, and at most {SIGMA_FILE_BYTES} are read; split it"));
    }
    *total += len;
    if *total > SIGMA_BYTES {
        return Err(format!("is beyond the {SIGMA_BYTES} bytes that are read of a folder; name a smaller one"));
    }
    String::from_utf8(disk.read(&path).map_err(unreadable)?).map_err(|_| "is no UTF-8; save it as that".to_owned())
}

fn told(rules: &Rules, left: &Left) -> String {
    let broken = if left.broken.is_empty() { String::new() } else { format!(", {} left out", left.broken.len()) };
    let also = match left.correlations {
        0 => String::new(),
        n => format!(", and {n} correlation rules, which are not evaluated"),
    };
    format!("{} Sigma rules for {} log sources{broken}{also}", rules.len(), rules.sources())
}

/// Which rules are left out and why, the first of them.
fn told_of(broken: &[Broken]) -> String {
    let named: Vec<String> = broken.iter().take(NAMED_MAX).map(|one| format!("{}: {}", one.rule, one.why.replace('\n', " "))).collect();
    let more = match broken.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        n => format!("; and {n} more"),
    };
    format!("{}{more}", named.join("; "))
}

impl Spec for Settings {
    fn place(&self, name: &str, shelf: &mut Shelf) {
        shelf.place::<Rules>(name);
    }

    fn load(&self, name: &str, shelf: &Shelf, disk: &dyn Disk, _state_dir: &Path) -> Result<String, Trouble> {
        let (rules, left) = self.read(disk)?;
        let what = told(&rules, &left);
        if let Some(held) = shelf.of::<Rules>(name) {
            held.put(Arc::new(rules));
        }
        // One rule that cannot be used is no reason to read them all again and again.
        if !left.broken.is_empty() {
            let (left_out, why) = (left.broken.len(), told_of(&left.broken));
            tracing::warn!(table = name, left_out, why, "Sigma rules are left out; mend or remove them");
        }
        Ok(what)
    }

    fn files(&self, disk: &dyn Disk, _state_dir: &Path) -> Vec<PathBuf> {
        let Found { files, folders } = self.found(disk).unwrap_or_default();
        std::iter::once(self.path.clone()).chain(folders).chain(files).collect()
    }

    fn look_every(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn check(&self, disk: &dyn Disk, _state_dir: &Path) -> Vec<Finding> {
        match self.read(disk) {
            Ok((rules, left)) => {
                let warning = |one: &Broken| Finding {
                    level: Level::Warning,
                    text: format!("the Sigma rule {}: {}", one.rule, one.why.replace('\n', " ")),
                };
                left.broken.iter().map(warning).chain([finding(Ok(told(&rules, &left)))]).collect()
            }
            // A folder that was named on purpose and has no rule is a mistake.
            Err(trouble) => vec![Finding { level: Level::Bad, text: trouble.to_string() }],
        }
    }
}

#[cfg(all(test, feature = "sigma"))]
#[allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        io::disk::RealDisk,
        register::{Errors, Node},
    };

    fn spec(path: &Path) -> Box<dyn Spec> {
        let node = Node::parse_toml(&format!("path = {path:?}\n")).unwrap();
        let mut errors = Errors::default();
        let spec = SigmaTables.parse(&mut Section::open("tables.s", &node, FIELDS, &[], &mut errors));
        assert!(errors.is_empty(), "{errors}");
        spec
    }

    fn rule(title: &str, id: u8) -> String {
        format!(
            "title: {title}\nid: 00000000-0000-0000-0000-0000000000{id:02x}\nstatus: test\nlogsource:\n  product: windows\n  category: process_creation\n\
             detection:\n  selection:\n    Image|endswith: '\\a.exe'\n  condition: selection\nlevel: high\n"
        )
    }

    #[test]
    fn a_folder_is_read_with_those_below_it_and_broken_rules_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let (disk, state) = (RealDisk::new(), Path::new("/"));
        assert!(spec(path).check(&disk, state)[0].text.contains("there is no Sigma rule in"));
        assert!(spec(&path.join("no")).check(&disk, state)[0].text.contains("there is no folder of Sigma rules"));
        fs::create_dir_all(path.join("windows/process_creation")).unwrap();
        fs::create_dir(path.join(".git")).unwrap();
        fs::write(path.join(".git/x.yml"), rule("Hidden", 9)).unwrap();
        fs::write(path.join("README.md"), "text").unwrap();
        fs::write(path.join("windows/process_creation/a.yml"), rule("First", 1)).unwrap();
        fs::write(path.join("b.yaml"), format!("{}---\n{}", rule("Second", 2), rule("Third", 3))).unwrap();
        let mut shelf = Shelf::default();
        let all = spec(path);
        all.place("s", &mut shelf);
        assert_eq!(all.load("s", &shelf, &disk, state), Ok("3 Sigma rules for 1 log sources".into()));
        let files = all.files(&disk, state);
        assert!(files.contains(&path.join("b.yaml")) && files.contains(&path.join("windows/process_creation")), "{files:?}");
        fs::write(path.join("c.yml"), "title: [").unwrap();
        fs::write(path.join("d.yml"), rule("Fourth", 1)).unwrap();
        assert_eq!(all.load("s", &shelf, &disk, state), Ok("3 Sigma rules for 1 log sources, 2 left out".into()));
        assert_eq!(shelf.of::<Rules>("s").unwrap().get().unwrap().len(), 3);
        let findings = all.check(&disk, state);
        let warnings = findings.iter().filter(|finding| finding.level == Level::Warning).count();
        assert_eq!((findings.len(), warnings), (3, 2), "{findings:?}");
        assert!(
            findings[0].text.contains("another rule with the id") || findings[1].text.contains("another rule with the id"),
            "{findings:?}"
        );
        assert!(findings.iter().any(|finding| finding.text.starts_with("the Sigma rule c.yml: ")), "{findings:?}");
        assert_eq!(spec(&path.join("b.yaml")).check(&disk, state)[0].text, "2 Sigma rules for 1 log sources");
    }
}
