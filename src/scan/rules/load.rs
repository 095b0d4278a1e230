//! Reads rule files: sorted, decoded, with their includes resolved below the rules' path and nowhere else.
//!
//! A file is refused alone; what is wrong with it stands in [`Sources::errors`]. No text of a file stands in a message.

#![allow(clippy::disallowed_methods, reason = "rules are read by threads of the scan, which no simulator runs")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{Part, RuleError, Source, Sources, lex};
use crate::limits::{RULE_DEPTH_MAX, RULE_FILE_BYTES, RULE_FILES_MAX, RULE_FOLDER_BYTES, RULE_TEXT_BYTES};

/// Reads all `*.yar` and `*.yara` of the paths: folders with what is below them, or single files.
///
/// Names that begin with a dot are left out. Links are followed as long as they end below their path.
pub fn load(paths: &[PathBuf]) -> Sources {
    let mut loader = Loader::default();
    for path in paths {
        if let Err(error) = loader.path(path) {
            loader.error(
                path.display(),
                0,
                "unreadable",
                format!("cannot be read ({error}); is the path right, and may this user read it?"),
            );
        }
    }
    loader.finish()
}

/// Changes when a file below the paths does: its name, size, time or inode. Unlike [`load`] it reads no file.
pub fn stamp(paths: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for path in paths {
        let Ok(base) = path.canonicalize() else { continue };
        let mut tree = Tree::new(base.clone());
        let _ = tree.walk(&base, 0);
        for (rel, file) in &tree.files {
            let Ok(meta) = fs::metadata(file) else { continue };
            hash.update(rel.as_os_str().as_bytes());
            hash.update(format!("\0{}\0{}.{}\0{}\n", meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino()));
        }
    }
    hash.finalize().into()
}

/// Regular files below a path, by their path from it.
struct Tree {
    base: PathBuf,
    files: BTreeMap<PathBuf, PathBuf>,
    /// Links whose ends are elsewhere.
    outside: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
}

impl Tree {
    fn new(base: PathBuf) -> Self {
        Self { base, files: BTreeMap::new(), outside: Vec::new(), seen: BTreeSet::new() }
    }

    fn walk(&mut self, dir: &Path, depth: usize) -> io::Result<()> {
        if fs::metadata(dir)?.is_file() {
            let name = dir.file_name().map(PathBuf::from).unwrap_or_default();
            self.files.insert(name, dir.to_owned());
            return Ok(());
        }
        if depth > RULE_DEPTH_MAX || !self.seen.insert(dir.canonicalize()?) {
            return Ok(());
        }
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name().as_bytes().starts_with(b".") || self.files.len() >= RULE_FILES_MAX {
                continue;
            }
            if entry.file_type()?.is_symlink() && !path.canonicalize().is_ok_and(|end| end.starts_with(&self.base)) {
                self.outside.push(path);
                continue;
            }
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => self.walk(&path, depth + 1)?,
                Ok(meta) if meta.is_file() => {
                    let rel = path.strip_prefix(&self.base).unwrap_or(&path).to_owned();
                    self.files.insert(rel, path);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_rules(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "yar" || suffix == "yara")
}

#[derive(Default)]
struct Loader {
    files: Vec<Source>,
    errors: Vec<RuleError>,
    /// What the version is made of: paths and hashes of contents.
    contents: BTreeSet<(Vec<u8>, [u8; 32])>,
    namespaces: BTreeSet<String>,
    text_bytes: usize,
}

/// A file's text with what is known of it.
struct Text {
    text: String,
    canonical: PathBuf,
}

impl Loader {
    fn error(&mut self, file: impl std::fmt::Display, line: u32, code: &str, message: impl Into<String>) {
        self.note(file, line, code, message, false);
    }

    fn note(&mut self, file: impl std::fmt::Display, line: u32, code: &str, message: impl Into<String>, harmless: bool) {
        self.errors.push(RuleError { file: file.to_string(), line, code: code.into(), message: message.into(), harmless });
    }

    fn path(&mut self, path: &Path) -> io::Result<()> {
        let canonical = path.canonicalize()?;
        let is_file = canonical.is_file();
        let mut tree = Tree::new(canonical.clone());
        tree.walk(&canonical, 0)?;
        for link in std::mem::take(&mut tree.outside) {
            self.error(link.display(), 0, "link_outside", "a link that leaves the rules' path, or ends nowhere; it is not followed");
        }
        let files: Vec<(PathBuf, PathBuf)> = tree.files.into_iter().filter(|(rel, _)| is_file || is_rules(rel)).collect();
        let bytes: u64 = files.iter().filter_map(|(_, file)| Some(fs::metadata(file).ok()?.len())).sum();
        if bytes > RULE_FOLDER_BYTES {
            let message = format!("holds {bytes} bytes of rules, at most {RULE_FOLDER_BYTES} are allowed; none of them is loaded");
            self.error(path.display(), 0, "folder_too_large", message);
            return Ok(());
        }
        let base = match (canonical.parent(), path.parent()) {
            (Some(canonical), Some(shown)) if is_file => Base { canonical: canonical.to_owned(), shown: shown.to_owned() },
            _ => Base { canonical, shown: path.to_owned() },
        };
        let mut texts = Vec::new();
        for (rel, file) in &files {
            let shown = if is_file { path.to_owned() } else { path.join(rel) };
            if let Some(text) = self.read(file, rel, &shown) {
                texts.push((rel.clone(), shown, text));
            }
        }
        let loaded: BTreeSet<PathBuf> = texts.iter().map(|(.., text)| text.canonical.clone()).collect();
        for (rel, shown, text) in texts {
            let found = lex::statements(&text.text);
            let ends: Vec<Option<PathBuf>> =
                found.includes.iter().map(|include| resolve(&base.canonical, &text.canonical, &include.path).ok()).collect();
            if found.is_index && ends.iter().all(|end| end.as_ref().is_some_and(|end| loaded.contains(end))) {
                self.note(shown.display(), 0, "index", "only includes what is loaded anyway; left out, so that no rule counts twice", true);
                continue;
            }
            let namespace = self.namespace(&rel, &shown);
            let mut parts = Vec::new();
            let mut open = vec![text.canonical.clone()];
            let mut done = BTreeSet::from([text.canonical.clone()]);
            self.split(&base, &shown, &text, found, &mut parts, &mut open, &mut done);
            self.files.push(Source { namespace, parts });
        }
        Ok(())
    }

    /// The path without its suffix; one that is taken keeps its suffix, or gets a number.
    fn namespace(&mut self, rel: &Path, shown: &Path) -> String {
        let plain = rel.with_extension("").to_string_lossy().into_owned();
        let whole = rel.to_string_lossy().into_owned();
        let numbered = (2..).map(|n| format!("{whole}~{n}"));
        let free = [plain.clone(), whole.clone()].into_iter().chain(numbered).find(|name| !self.namespaces.contains(name));
        let namespace = free.unwrap_or_else(|| plain.clone());
        if namespace != plain {
            let message = format!("another file has the namespace `{plain}`; this one is `{namespace}`");
            self.note(shown.display(), 0, "namespace_taken", message, true);
        }
        self.namespaces.insert(namespace.clone());
        namespace
    }

    /// Reads and decodes one file; `None` if it is refused, which is then said.
    fn read(&mut self, file: &Path, rel: &Path, shown: &Path) -> Option<Text> {
        let read = || -> io::Result<(Vec<u8>, PathBuf)> {
            let mut bytes = Vec::new();
            fs::File::open(file)?.take(RULE_FILE_BYTES + 1).read_to_end(&mut bytes)?;
            Ok((bytes, file.canonicalize()?))
        };
        let (bytes, canonical) = match read() {
            Ok(read) => read,
            Err(error) => {
                self.error(shown.display(), 0, "unreadable", format!("cannot be read: {error}"));
                return None;
            }
        };
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > RULE_FILE_BYTES {
            self.error(shown.display(), 0, "file_too_large", format!("has more than {RULE_FILE_BYTES} bytes; split it"));
            return None;
        }
        self.contents.insert((rel.as_os_str().as_bytes().to_vec(), Sha256::digest(&bytes).into()));
        let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) => {
                self.note(shown.display(), 1, "bom", "begins with a byte order mark, which was left out", true);
                rest.to_vec()
            }
            None => bytes,
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                let message = "is not UTF-8; what could not be read became U+FFFD, so a rule may ask for other bytes than it did";
                self.note(shown.display(), u32::try_from(line).unwrap_or(0), "not_utf8", message, true);
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
        };
        Some(Text { text, canonical })
    }

    /// Cuts a file at its includes, so that each text is compiled where it is included.
    #[allow(clippy::too_many_arguments, reason = "a recursion with its two sets")]
    fn split(
        &mut self,
        base: &Base,
        shown: &Path,
        text: &Text,
        found: lex::Statements,
        parts: &mut Vec<Part>,
        open: &mut Vec<PathBuf>,
        done: &mut BTreeSet<PathBuf>,
    ) {
        let mut from = 0;
        let mut rules = found.rules.into_iter().peekable();
        let included = open.len() > 1;
        for include in &found.includes {
            let declared = std::iter::from_fn(|| rules.next_if(|rule| rule.line <= include.line)).collect();
            self.part(parts, shown, included, &text.text, from..include.range.start, declared);
            from = include.range.end;
            match self.included(&base.canonical, text, &include.path, open, done) {
                Ok(Some((rel, path))) => {
                    let shown = base.shown.join(&rel);
                    let Some(inner) = self.read(&path, &rel, &shown) else { continue };
                    let found = lex::statements(&inner.text);
                    open.push(inner.canonical.clone());
                    self.split(base, &shown, &inner, found, parts, open, done);
                    open.pop();
                }
                Ok(None) => {}
                Err((code, message)) => self.error(shown.display(), include.line, code, message),
            }
        }
        let declared = rules.collect();
        self.part(parts, shown, included, &text.text, from..text.text.len(), declared);
    }

    /// Where an include ends; `None` if this namespace has it already.
    fn included(
        &self,
        base: &Path,
        text: &Text,
        path: &str,
        open: &[PathBuf],
        done: &mut BTreeSet<PathBuf>,
    ) -> Result<Option<(PathBuf, PathBuf)>, (&'static str, String)> {
        let end = resolve(base, &text.canonical, path)?;
        if open.contains(&end) {
            return Err(("include_circular", "includes itself, by way of others or directly; the include is left out".into()));
        }
        if open.len() > RULE_DEPTH_MAX {
            return Err(("include_deep", format!("more than {RULE_DEPTH_MAX} files include each other; the include is left out")));
        }
        let rel = end.strip_prefix(base).unwrap_or(&end).to_owned();
        Ok(done.insert(end.clone()).then_some((rel, end)))
    }

    fn part(
        &mut self,
        parts: &mut Vec<Part>,
        shown: &Path,
        included: bool,
        text: &str,
        range: std::ops::Range<usize>,
        declared: Vec<lex::Declared>,
    ) {
        let (Some(before), Some(own)) = (text.get(..range.start), text.get(range)) else { return };
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        if own.trim().is_empty() && !parts.is_empty() {
            return;
        }
        self.text_bytes += lines + own.len();
        if self.text_bytes > RULE_TEXT_BYTES {
            let message = format!("all rules with what they include have more than {RULE_TEXT_BYTES} bytes; this file is left out");
            self.error(shown.display(), 0, "text_too_large", message);
            return;
        }
        let text = "\n".repeat(lines) + own;
        parts.push(Part { file: shown.display().to_string(), included, text, declared });
    }

    fn finish(self) -> Sources {
        let mut hash = Sha256::new();
        for (path, content) in &self.contents {
            hash.update(u64::try_from(path.len()).unwrap_or(0).to_le_bytes());
            hash.update(path);
            hash.update(content);
        }
        let digest: [u8; 32] = hash.finalize().into();
        Sources { files: self.files, errors: self.errors, version: format!("sha256:{}", hex(&digest)) }
    }
}

/// A path of rules: where it is, and what people call it.
struct Base {
    canonical: PathBuf,
    shown: PathBuf,
}

/// The file that an include of `from` names: beside it, or below `base`.
fn resolve(base: &Path, from: &Path, path: &str) -> Result<PathBuf, (&'static str, String)> {
    let outside = || ("include_outside", "an include that leaves the rules' path; it was not opened".to_owned());
    let missing = || ("include_missing", "an include that is not there, beside this file or below the rules' path".to_owned());
    if Path::new(path).is_absolute() || path.contains('\0') {
        return Err(outside());
    }
    let beside = from.parent().unwrap_or(base);
    // Whether such a file is there is nobody's business.
    let depth = beside.strip_prefix(base).map_or(0, |rel| rel.components().count());
    let climbs = Path::new(path).components().scan(depth, |depth, part| {
        *depth = match part {
            Component::ParentDir => depth.checked_sub(1)?,
            Component::Normal(_) => *depth + 1,
            _ => *depth,
        };
        Some(())
    });
    if climbs.count() < Path::new(path).components().count() {
        return Err(outside());
    }
    let mut left = false;
    for folder in [beside, base] {
        let Ok(end) = folder.join(path).canonicalize() else { continue };
        if !end.starts_with(base) {
            left = true;
        } else if end.is_file() {
            return Ok(end);
        }
    }
    Err(if left { outside() } else { missing() })
}

/// Bytes in hex, lower case.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS.get(usize::from(n & 15)).copied().unwrap_or(b'0'));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
