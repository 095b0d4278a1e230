//! What the paths of an import are: files, and folders of a feed.

#![allow(clippy::disallowed_methods, reason = "a command of the operator works on real files")]

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{Context, anyhow, bail};

use crate::tables::{
    Uuid,
    exports::{Columns, EventHead, Format, detect, manifest},
};

/// Bytes by which a format is told.
const HEAD_BYTES: u64 = 64 << 10;

/// A file to read.
#[derive(Debug)]
pub(super) struct Found {
    pub path: PathBuf,
    pub format: Format,
    /// Bytes.
    pub size: u64,
    /// Of a feed without events: what its manifest says of each.
    pub events: Option<BTreeMap<Uuid, EventHead>>,
}

/// What a person says of all files.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub format: Option<String>,
    pub columns: Option<String>,
}

/// Opens a regular file; anything else could wait for ever.
pub(super) fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    let about = fs::metadata(path).with_context(|| format!("cannot read {}; name a file that is there", path.display()))?;
    if !about.is_file() {
        bail!("{} is no file; name a file or the folder of a feed", path.display());
    }
    let file = File::open(path).with_context(|| format!("cannot open {}; fix its permissions", path.display()))?;
    Ok((file, about.len()))
}

impl Said {
    /// The files of a path, in the order of their names.
    pub fn files(&self, path: &Path) -> anyhow::Result<Vec<Found>> {
        let is_dir = fs::metadata(path).with_context(|| format!("cannot read {}; name a file that is there", path.display()))?.is_dir();
        if is_dir {
            return self.feed(path);
        }
        if path.file_name().is_some_and(|name| name == "manifest.json") {
            return self.feed(path.parent().unwrap_or(Path::new(".")));
        }
        Ok(vec![self.one(path)?])
    }

    fn one(&self, path: &Path) -> anyhow::Result<Found> {
        let (mut file, size) = open(path)?;
        let mut head = Vec::new();
        file.by_ref().take(HEAD_BYTES).read_to_end(&mut head).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let format = self.format(&name, &head).with_context(|| format!("cannot tell what {} is", path.display()))?;
        Ok(Found { path: path.to_owned(), format, size, events: None })
    }

    fn format(&self, name: &str, head: &[u8]) -> anyhow::Result<Format> {
        let first = || String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned();
        let named =
            self.columns.as_deref().map(|names| Columns::parse(names).ok_or_else(|| anyhow!("--columns must name `value`"))).transpose()?;
        let said = self.format.as_deref().or(named.is_some().then_some("csv"));
        Ok(match said {
            None => detect(name, head)?,
            Some("text") => Format::Text,
            Some("hashes") => Format::Hashes,
            Some("cache") => Format::Sums,
            Some("json") => Format::Json,
            _ => {
                let first = first();
                let first = first.trim_start_matches('\u{feff}');
                let columns = named.or_else(|| Columns::of_header(first)).or_else(|| Columns::guess(first));
                Format::Csv(columns.ok_or_else(|| anyhow!("its first line names no columns; name them with --columns"))?)
            }
        })
    }

    /// A feed: its events, or where there are none, its list of sums.
    fn feed(&self, dir: &Path) -> anyhow::Result<Vec<Found>> {
        let (file, _) = open(&dir.join("manifest.json")).with_context(|| {
            format!("{} is not the folder of a MISP feed; name its files one by one if they are exports", dir.display())
        })?;
        let mut events = Vec::new();
        for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}; fix its permissions", dir.display()))? {
            let path = entry.with_context(|| format!("cannot list {}", dir.display()))?.path();
            let is_event = path.extension().is_some_and(|e| e == "json")
                && path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| Uuid::parse(stem).is_some());
            if is_event {
                let (_, size) = open(&path)?;
                events.push(Found { path, format: Format::Json, size, events: None });
            }
        }
        events.sort_by(|a, b| a.path.cmp(&b.path));
        if !events.is_empty() {
            return Ok(events);
        }
        let path = dir.join("hashes.csv");
        let (_, size) =
            open(&path).with_context(|| format!("the feed {} has neither events nor hashes.csv; fetch it whole", dir.display()))?;
        let heads = manifest(BufReader::new(file)).with_context(|| format!("cannot read {}", dir.join("manifest.json").display()))?;
        Ok(vec![Found { path, format: Format::Sums, size, events: Some(heads) }])
    }
}

/// A file that tells how far it is.
#[derive(Debug)]
pub(super) struct Counted<R> {
    pub from: R,
    /// Bytes taken out since the start; a seek counts as having taken what is before it. Shared,
    /// since a reader holds the file while it hands out what it reads.
    pub bytes: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buf)?;
        self.bytes.set(self.bytes.get() + n as u64);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.from.fill_buf()
    }
    fn consume(&mut self, n: usize) {
        self.bytes.set(self.bytes.get() + n as u64);
        self.from.consume(n);
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = self.from.seek(to)?;
        self.bytes.set(at);
        Ok(at)
    }
}
