//! A tree of files of which each is a record: what ModSecurity writes with `SecAuditLogType Concurrent`, a file for each
//! transaction in a folder for each minute in a folder for each day.
//!
//! The whole tree is one stream, in the order in which its files were last written, and of one moment in the order of their
//! names: that order, unlike the names, has nothing new before what was there when everything was looked at. Reading stops
//! before a file that is not whole yet, and the place that is saved is never beyond the begin of the last look at every
//! folder, so a place is all that a restart needs: what was written since that look comes again after a kill, and after a stop,
//! which looks once more, nothing does. Nothing is ever removed.
//!
//! | a folder | is |
//! |---|---|
//! | changed within [`LIVE`] | watched, and listed when it changed |
//! | other | looked at every [`SWEEP`]; listed if it changed |
//!
//! A request is written into the folder of its start, so a slow one comes into an old folder. Within one run a file that came with an older time (copied, or the clock was set back) is read as well; over a
//! restart the time decides, and it never lies in the future.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::{follow::StartAt, many::Due};
use crate::{
    clock::{Nanos, nanos},
    framing::Objects,
    io::{Io, Stat},
    limits,
    metrics::{Standing, State},
    position::{Position, encode_name},
    ring::Signal,
    sources::{Admit, Entries},
};

/// For so long after its last change a folder is watched.
const LIVE: Duration = Duration::from_secs(300);
/// Between two looks at the other folders.
const SWEEP: Duration = Duration::from_secs(10);
/// A file that was written so long ago is whole, whatever it looks like.
const WHOLE_AFTER: Nanos = 2_000_000_000;
/// A file may say that it was written so long before it was: the kernel's clock for that ticks.
const TICK: Nanos = 20_000_000;
/// Between two looks at least, and while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks take one part of so many of the time.
const SHARE: u32 = 10;
/// Folders inside each other that are looked into: a link may lead back.
const DEPTH_MAX: usize = 8;
/// Steps between two pauses for others.
const STEPS: usize = 128;

/// Files below a folder.
pub struct Tree {
    pub io: Rc<dyn Io>,
    pub admit: Rc<dyn Admit>,
    pub standing: Standing,
    /// The source's name.
    pub name: String,
    pub root: PathBuf,
    pub start_at: StartAt,
}

/// A place in the stream: when a file was last written, and its name below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    modified: Nanos,
    name: String,
}

impl Place {
    /// Numbers of one length, so that texts order as places do.
    fn cursor(&self) -> Position {
        Position::Cursor(format!("{:020} {}", self.modified, self.name).into())
    }

    fn of(cursor: &str) -> Option<Self> {
        let (modified, name) = cursor.split_once(' ')?;
        Some(Self { modified: modified.parse().ok()?, name: name.to_owned() })
    }
}

/// How far everything is done.
struct End {
    /// The last file in order that was handed in.
    reached: Place,
    /// Wall time: what was written before was seen.
    sure: Nanos,
    /// The place that was told last.
    told: Place,
}

impl End {
    fn place(&self) -> Place {
        self.reached.clone().min(Place { modified: self.sure, name: String::new() })
    }
}

/// One folder of the tree.
struct Folder {
    /// Its last change as of the last list; `None` before.
    changed: Option<Nanos>,
    /// Wall time of that list.
    listed: Nanos,
    /// Files of it that are done, with how much of each; only while it is live.
    done: HashMap<OsString, u64>,
    /// All files that were there at the last list are in `done`, or wait: any other is new, however old it says it is.
    knows_all: bool,
    /// Files that were last written before this are done.
    since: Place,
    /// Files that were found at the last list and are not handed in yet.
    waiting: usize,
    watch: Option<Due>,
}

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    place: Place,
    path: PathBuf,
    /// Bytes of it that were handed in before.
    from: u64,
    size: u64,
}

impl Tree {
    /// Runs until the admission is closed.
    pub async fn run(self) {
        let stream = self.root.display().to_string();
        let saved = self.admit.resume(&stream);
        let saved = saved.as_ref().and_then(|row| match row.lowest() {
            Some(Position::Cursor(cursor)) => Place::of(cursor),
            _ => None,
        });
        let floor = saved.unwrap_or_else(|| Place {
            modified: if self.start_at == StartAt::End { self.io.clock().now() } else { 0 },
            name: String::new(),
        });
        self.admit.open(&stream, floor.cursor());
        let bell = Rc::new(Signal::default());
        let mut folders = BTreeMap::from([(self.root.clone(), Folder::new(floor.clone()))]);
        let (mut end, mut swept) = (End { reached: floor.clone(), sure: floor.modified, told: floor }, 0);
        while !self.admit.is_closed() {
            let (began, wall) = (self.io.clock().mono(), self.io.clock().now());
            let sweeps = began >= swept;
            if sweeps {
                swept = began + nanos(SWEEP);
            }
            let (mut found, trouble) = self.look(&mut folders, sweeps, &bell).await;
            if sweeps {
                end.sure = wall.saturating_sub(TICK);
            }
            found.sort();
            self.admit.lag(found.iter().map(|file| file.size - file.from).sum());
            let (is_whole, refused) = self.hand_in(&stream, &found, &mut folders, &mut end).await;
            if sweeps && end.told < end.place() && !self.tell(&stream, Entries::default(), &mut end).await {
                continue;
            }
            self.standing.set(trouble.or(refused).map_or(State::Ready, State::Retrying));
            let took = Duration::from_nanos(self.io.clock().mono() - began);
            let is_settled = is_whole && folders.values().all(Folder::is_settled);
            let rest = LOOK_EVERY.max(took * SHARE);
            tokio::select! {
                biased;
                () = self.admit.closed() => break,
                () = self.io.sleep(rest) => {}
            }
            if is_settled {
                let left = swept.saturating_sub(self.io.clock().mono()).max(1);
                tokio::select! {
                    biased;
                    () = self.admit.closed() => {}
                    () = bell.wait() => {}
                    () = self.io.sleep(Duration::from_nanos(left)) => {}
                }
            }
        }
        self.last_look(&stream, &mut folders, &mut end, &bell).await;
    }

    /// Looks once more at every folder, so that a start after a clean stop reads nothing again. What came since is left
    /// to it.
    async fn last_look(&self, stream: &str, folders: &mut BTreeMap<PathBuf, Folder>, end: &mut End, bell: &Rc<Signal>) {
        let wall = self.io.clock().now();
        let (found, trouble) = self.look(folders, true, bell).await;
        let left = found.iter().map(|file| file.place.modified.saturating_sub(1)).min();
        end.sure = left.unwrap_or(wall).min(wall.saturating_sub(TICK));
        if trouble.is_none() && end.told < end.place() {
            self.tell(stream, Entries::default(), end).await;
        }
    }

    /// What is new below the root, and what is in the way.
    ///
    /// - `sweeps`: looks at every folder, not only at those that are watched.
    async fn look(&self, folders: &mut BTreeMap<PathBuf, Folder>, sweeps: bool, bell: &Rc<Signal>) -> (Vec<Found>, Option<String>) {
        let (mut found, mut trouble, mut steps) = (Vec::new(), None, 0);
        let mut todo: Vec<PathBuf> = folders
            .iter()
            .filter(|(_, folder)| sweeps || folder.watch.is_some() || !folder.is_settled())
            .map(|(path, _)| path.clone())
            .collect();
        while let Some(path) = todo.pop() {
            steps += 1;
            if steps % STEPS == 0 {
                self.io.pause().await;
            }
            let stat = match self.io.stat(&path) {
                Ok(stat) => stat,
                Err(error) if path == self.root => {
                    return (found, Some(format!("cannot look at {}: {error}; waiting for it", path.display())));
                }
                // Whoever tidies up took it away.
                Err(_) => {
                    folders.remove(&path);
                    continue;
                }
            };
            let Some(folder) = folders.get_mut(&path) else { continue };
            let now = self.io.clock().now();
            let is_live = now.saturating_sub(stat.modified) < nanos(LIVE) || path == self.root;
            if is_live && folder.watch.is_none() {
                // Watched before it is listed, so that nothing comes between.
                folder.watch = Some(Due::on(&self.io, &path, bell));
            }
            if folder.changed == Some(stat.modified) && folder.is_settled() {
                if !is_live {
                    folder.rest();
                }
                continue;
            }
            let names = match self.io.list(&path) {
                Ok(names) => names,
                Err(error) => {
                    trouble = Some(format!("cannot list {}: {error}; let the agent's user read it", path.display()));
                    continue;
                }
            };
            let knew_all = std::mem::replace(&mut folder.knows_all, is_live);
            (folder.changed, folder.listed, folder.waiting) = (Some(stat.modified), now, 0);
            for inside in names {
                steps += 1;
                if steps % STEPS == 0 {
                    self.io.pause().await;
                }
                let Ok(stat) = self.io.stat(&inside) else { continue };
                if !stat.is_file {
                    if folders.len() >= limits::TREE_FOLDERS_MAX {
                        let (most, root) = (limits::TREE_FOLDERS_MAX, self.root.display());
                        trouble = Some(format!("there are more than {most} folders below {root}, the others wait; move old ones away"));
                    } else if self.is_near(&inside) && !folders.contains_key(&inside) && self.io.list(&inside).is_ok() {
                        // That of the root is where this run began.
                        let since = folders.get(&self.root).map_or_else(Place::default, |root| root.since.clone());
                        folders.insert(inside.clone(), Folder::new(since));
                        todo.push(inside);
                    }
                    continue;
                }
                let Some(folder) = folders.get_mut(&path) else { break };
                if let Some(file) = self.found(folder, inside, &stat, knew_all) {
                    folder.waiting += 1;
                    found.push(file);
                }
            }
        }
        (found, trouble)
    }

    fn is_near(&self, folder: &Path) -> bool {
        folder.strip_prefix(&self.root).is_ok_and(|below| below.components().count() <= DEPTH_MAX)
    }

    /// A file that is to be read, or read on.
    fn found(&self, folder: &mut Folder, path: PathBuf, stat: &Stat, knew_all: bool) -> Option<Found> {
        let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().into_owned();
        let place = Place { modified: stat.modified, name };
        let from = folder.done.get(path.file_name()?).copied();
        let is_new = from.map_or_else(|| knew_all || place > folder.since, |from| stat.size > from);
        if !is_new && folder.knows_all && from.is_none() {
            folder.done.insert(path.file_name()?.to_owned(), stat.size);
        }
        is_new.then(|| Found { place, path, from: from.unwrap_or(0), size: stat.size })
    }

    /// Reads files in their order and hands them in, up to one that is not whole yet. True if none was left, and
    /// what of them cannot be read.
    async fn hand_in(
        &self,
        stream: &str,
        found: &[Found],
        folders: &mut BTreeMap<PathBuf, Folder>,
        end: &mut End,
    ) -> (bool, Option<String>) {
        let (mut entries, mut trouble, mut is_whole) = (Entries::default(), None, true);
        let mut gathered: Vec<&Found> = Vec::new();
        for file in found {
            let now = self.io.clock().now();
            match self.read(file).await {
                Ok(bytes) if is_record(&bytes) || now.saturating_sub(file.place.modified) >= WHOLE_AFTER => {
                    let at = format!("{}/{}+{}", encode_name(&file.place.name), file.from, bytes.len());
                    let is_long = file.size - file.from > limits::FRAME_BYTES_MAX as u64;
                    let refused = is_long.then(|| ("too_long", format!("{} bytes, of which the first are kept", file.size - file.from)));
                    if !bytes.trim_ascii().is_empty() {
                        // Of an event without a time: the same however often it is read.
                        entries.push(&bytes, Position::Cursor(at.into()), file.place.modified, refused);
                    }
                    gathered.push(file);
                }
                Ok(_) => {
                    is_whole = false;
                    break;
                }
                // It was removed, or is not ours: it waits for nobody.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => gathered.push(file),
                Err(error) => {
                    trouble = Some(format!(
                        "cannot read {}: {error}; set SecAuditLogDirMode 0750 and SecAuditLogFileMode 0640, for a group of the agent's user",
                        file.path.display()
                    ));
                    is_whole = false;
                    break;
                }
            }
            let is_full = entries.bytes() >= limits::ENTRIES_BYTES || entries.len() >= limits::TREE_ENTRIES;
            if is_full && !self.take(stream, std::mem::take(&mut entries), &mut gathered, folders, end).await {
                return (true, trouble);
            }
        }
        if !gathered.is_empty() && !self.take(stream, entries, &mut gathered, folders, end).await {
            return (true, trouble);
        }
        (is_whole, trouble)
    }

    /// Hands in what was gathered; false if the agent drains.
    async fn take(
        &self,
        stream: &str,
        entries: Entries,
        gathered: &mut Vec<&Found>,
        folders: &mut BTreeMap<PathBuf, Folder>,
        end: &mut End,
    ) -> bool {
        let Some(last) = gathered.last() else { return true };
        // What came with an older time does not take the place back, and one to come, which would have others passed
        // over after a restart, is none.
        let now = Place { modified: self.io.clock().now(), name: String::new() };
        end.reached = last.place.clone().max(end.reached.clone()).min(now);
        if !entries.is_empty() && !self.tell(stream, entries, end).await {
            return false;
        }
        for file in gathered.drain(..) {
            let name = file.path.file_name().map(ToOwned::to_owned);
            if let (Some(folder), Some(name)) = (file.path.parent().and_then(|folder| folders.get_mut(folder)), name) {
                folder.done.insert(name, file.size);
                folder.waiting = folder.waiting.saturating_sub(1);
            }
        }
        true
    }

    /// Hands entries in, and with them how far everything is done; false if the agent drains.
    async fn tell(&self, stream: &str, entries: Entries, end: &mut End) -> bool {
        end.told = end.place();
        let origin = format!("file/{}", encode_name(&self.name)).into();
        self.admit.chunk(stream, entries.into_chunk(origin, end.told.cursor(), self.io.clock().now())).await
    }

    /// The rest of a file, up to the longest record.
    async fn read(&self, file: &Found) -> std::io::Result<Vec<u8>> {
        let open = self.io.open(&file.path)?;
        let len = usize::try_from(file.size - file.from).unwrap_or(usize::MAX).min(limits::FRAME_BYTES_MAX);
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let (want, at) = (len - bytes.len(), file.from + bytes.len() as u64);
            let (slab, read) = open.read_at(at, want, false, self.io.slabs().take(want)).await;
            if read? == 0 {
                break;
            }
            bytes.extend_from_slice(&slab.bytes);
        }
        Ok(bytes)
    }
}

/// True if nothing is missing at the end: objects, and nothing open.
fn is_record(bytes: &[u8]) -> bool {
    bytes.trim_ascii().first() == Some(&b'{') && Objects::default().whole(bytes) == bytes.len()
}

impl Folder {
    fn new(since: Place) -> Self {
        Self { changed: None, listed: 0, done: HashMap::new(), knows_all: false, since, waiting: 0, watch: None }
    }

    /// True if the last list has seen all, and all of that is done: a change in the same moment shows no other time.
    fn is_settled(&self) -> bool {
        self.waiting == 0 && self.changed.is_some_and(|changed| self.listed.saturating_sub(changed) >= 1_000_000_000)
    }

    /// Forgets its files: nothing came for long, and what was there when it was last listed is done.
    fn rest(&mut self) {
        if self.watch.take().is_some() {
            (self.done, self.knows_all) = (HashMap::new(), false);
            self.since = Place { modified: self.listed, name: String::new() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_order_as_their_texts_do_and_are_read_back() {
        let place = |modified, name: &str| Place { modified, name: name.into() };
        let places = [place(0, ""), place(9, "b"), place(10, "a b"), place(10, "b"), place(u64::MAX, "a")];
        assert!(places.is_sorted() && places.each_ref().map(|place| place.cursor()).is_sorted());
        for place in places {
            let Position::Cursor(text) = place.cursor() else { panic!("a cursor") };
            assert_eq!(Place::of(&text), Some(place));
        }
        assert_eq!([Place::of("x"), Place::of("x y")], [None, None]);
    }

    #[test]
    fn a_record_has_an_end() {
        for (bytes, is_one) in [
            (r#"{"a":1}"#, true),
            ("{\"a\":{}}\n", true),
            ("{\"a\":1}{\"b\":2}\n", true),
            (r#"{"a":"}"#, false),
            ("", false),
            ("--a-\n", false),
        ] {
            assert_eq!(is_record(bytes.as_bytes()), is_one, "{bytes}");
        }
    }
}
