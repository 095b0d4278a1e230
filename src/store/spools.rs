//! The spools of lookups: messages that wait on disk, in segments of their own.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    segments::{Kept, Segments},
    writer::Done,
};
use crate::{
    checkpoint::Row,
    io::Disk,
    position::Position,
    ring::Signal,
    spool::{self, Entry},
};

/// The folder of spools, in the state folder.
pub const SPOOL: &str = "spool";

impl Kept for Entry {
    const WHAT: &'static str = "spool";
    const COMES_AGAIN: bool = true;

    fn append(&self, segment: &mut Vec<u8>, base: u64) {
        spool::append(segment, base, self);
    }
    fn segment_name(of: &str, number: u32) -> String {
        spool::segment_name(of, number)
    }
    fn segment_number(of: &str, path: &Path) -> Option<u32> {
        spool::segment_of(path).filter(|(lookup, _)| *lookup == of).map(|(_, number)| number)
    }
    fn end(held: &[u8]) -> Result<u64, String> {
        let damaged = |(from, to)| format!("bytes {from} to {to} are no entry; they go into the dead letter, all others are used");
        spool::end(held).map(|end| end as u64).map_err(damaged)
    }
}

/// All spools of a state folder.
#[derive(Debug)]
pub(super) struct Spools {
    dir: PathBuf,
    segment_bytes: u64,
    has_dir: bool,
    all: BTreeMap<String, Segments<Entry>>,
    /// Up to where each is worked off, with the tags of those who said so.
    done: BTreeMap<String, (u32, u64, Vec<u64>)>,
}

impl Spools {
    /// Finds those that an earlier run left.
    ///
    /// - `rows`: of the checkpoint. What a spool gets lies above its row, even if all its files are gone.
    pub(super) fn open(disk: &dyn Disk, dir: PathBuf, segment_bytes: u64, rows: &[Row]) -> io::Result<Self> {
        let paths = match disk.list(&dir) {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let has_dir = !paths.is_empty();
        if has_dir {
            // As with the checkpoint: what is believed from here on must not vanish.
            disk.sync_dir(&dir)?;
        }
        let mut spools = Self { dir, segment_bytes, has_dir, all: BTreeMap::new(), done: BTreeMap::new() };
        for (lookup, _) in paths.iter().filter_map(|path| spool::segment_of(path)) {
            if !spools.all.contains_key(lookup) {
                let segments = Segments::open(disk, spools.dir.clone(), lookup.to_owned(), segment_bytes)?;
                spools.all.insert(lookup.to_owned(), segments);
            }
        }
        for row in rows.iter().filter(|row| row.kind == spool::KIND) {
            if let Some(Position::File { segment, .. }) = row.lowest() {
                spools.of(&row.stream).begin_above(*segment);
            }
        }
        Ok(spools)
    }

    fn of(&mut self, lookup: &str) -> &mut Segments<Entry> {
        let Self { dir, segment_bytes, has_dir, all, .. } = self;
        all.entry(lookup.to_owned()).or_insert_with(|| Segments::new(dir.clone(), lookup.to_owned(), *segment_bytes, *has_dir))
    }

    pub(super) fn add(&mut self, lookup: &str, entries: Vec<Entry>, tag: u64) {
        self.of(lookup).add(entries, tag);
    }

    /// Everything below this place is worked off.
    pub(super) fn forget(&mut self, lookup: String, segment: u32, offset: u64, tag: u64) {
        let done = self.done.entry(lookup).or_default();
        (done.0, done.1) = (done.0, done.1).max((segment, offset));
        done.2.push(tag);
    }

    pub(super) fn waiting(&self) -> usize {
        self.all.values().map(Segments::waiting).sum::<usize>() + self.done.values().map(|(.., tags)| tags.len()).sum::<usize>()
    }

    /// Each spool with its segments and their bytes that may be read, oldest first.
    pub(super) fn ends(&self) -> impl Iterator<Item = (&str, Vec<(u32, u64)>)> {
        self.all.iter().map(|(lookup, segments)| (lookup.as_str(), segments.ends()))
    }

    /// Writes what waits, and removes what is worked off; the error says why something still waits.
    pub(super) fn commit(&mut self, disk: &dyn Disk, done: &mut Vec<Done>) -> Result<(), String> {
        for segments in self.all.values_mut() {
            while segments.next_bytes().is_some() {
                segments.write(disk, u64::MAX, done)?;
            }
        }
        while let Some(entry) = self.done.first_entry() {
            let (segment, offset, _) = *entry.get();
            if let Some(segments) = self.all.get_mut(entry.key()) {
                segments.forget(disk, segment, offset)?;
            }
            let (.., tags) = entry.remove();
            done.extend(tags.into_iter().map(|tag| Done::Kept { tag }));
        }
        Ok(())
    }
}

/// One lookup's spool, as those see it who fill and read it.
#[derive(Debug)]
pub struct Spool {
    lookup: String,
    /// Segments with their durable bytes, oldest first.
    ends: Mutex<Vec<(u32, u64)>>,
    /// Bytes on their way to the disk.
    coming: AtomicU64,
    /// Raised when the ends have changed. One task waits: the reader.
    changed: Signal,
}

impl Spool {
    pub(super) fn new(lookup: &str) -> Arc<Self> {
        let (ends, coming, changed) = (Mutex::default(), AtomicU64::new(0), Signal::default());
        Arc::new(Self { lookup: lookup.to_owned(), ends, coming, changed })
    }

    pub(super) fn publish(&self, ends: Vec<(u32, u64)>) {
        let mut shown = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != ends {
            *shown = ends;
            drop(shown);
            self.changed.raise();
        }
    }

    /// The lookup's name.
    pub fn lookup(&self) -> &str {
        &self.lookup
    }

    /// The file of a segment.
    ///
    /// - `state`: the state folder.
    pub fn path(&self, state: &Path, segment: u32) -> PathBuf {
        state.join(SPOOL).join(spool::segment_name(&self.lookup, segment))
    }

    /// Segments with their bytes that are durable and may be read, oldest first.
    pub fn ends(&self) -> Vec<(u32, u64)> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, bytes)| bytes).sum()
    }

    /// Waits until something was added or removed. One task at a time may wait.
    pub async fn changed(&self) {
        self.changed.wait().await;
    }

    /// Takes room for so many bytes; false if there is less.
    ///
    /// - `max`: bytes that the spool may take.
    pub fn reserve(&self, bytes: u64, max: u64) -> bool {
        // One task fills a spool, so nobody else reserves meanwhile; the store only gives back.
        let has_room = self.bytes().saturating_add(self.coming.load(Ordering::Acquire)).saturating_add(bytes) <= max;
        if has_room {
            self.coming.fetch_add(bytes, Ordering::AcqRel);
        }
        has_room
    }

    /// What was reserved is on disk, and counted there.
    pub fn has_come(&self, bytes: u64) {
        self.coming.fetch_sub(bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::ErrorKind};

    use super::{
        super::{
            twin::{At, LEFT, Left, TwinDisk},
            *,
        },
        *,
    };
    use crate::{
        checkpoint::{BranchRow, Checkpoint},
        spool::Found,
    };

    const DIR: &str = "/state";

    fn open(disk: &TwinDisk) -> Result<Writer, StoreError> {
        let options = Options { segment_bytes: 400, ..Options::default() };
        Writer::open(Box::new(disk.clone()), Path::new(DIR), options).map(|(writer, _)| writer)
    }

    fn add(tags: &[u64]) -> Job {
        let entry = |tag: &u64| Entry { origin: "o".into(), payload: tag.to_string().into_bytes(), ..Entry::default() };
        Job::Spool { lookup: "misp".into(), entries: tags.iter().map(entry).collect(), tag: *tags.last().unwrap() }
    }

    /// Where everything that may be read ends.
    fn end(writer: &Writer) -> (u32, u64) {
        writer.spools().find(|(lookup, _)| *lookup == "misp").and_then(|(_, ends)| ends.last().copied()).unwrap_or_default()
    }

    /// Every message that may be read, with its place.
    fn read(disk: &TwinDisk, writer: &Writer) -> Vec<((u32, u64), u64)> {
        let mut all = Vec::new();
        for (segment, len) in writer.spools().flat_map(|(_, ends)| ends) {
            let held = disk.read(&Path::new(DIR).join(SPOOL).join(spool::segment_name("misp", segment))).unwrap();
            let held = &held[..usize::try_from(len).unwrap()];
            for found in spool::entries(held, 0) {
                if let Found::Message(message) = found {
                    let tag = std::str::from_utf8(&held[message.payload]).unwrap().parse().unwrap();
                    all.push(((segment, message.from as u64), tag));
                }
            }
        }
        all
    }

    /// Messages of one job, and whether all is worked off then.
    const STEPS: &[(&[u64], bool)] =
        &[(&[1, 2], false), (&[3], true), (&[4], false), (&[], true), (&[5, 6, 7, 8, 9], false), (&[10], true)];

    #[derive(Default)]
    struct Run {
        /// Messages that are durable, and those below the place that was said to be worked off.
        promised: BTreeSet<u64>,
        gone: BTreeSet<u64>,
        done: (u32, u64),
    }

    impl Run {
        fn drive(disk: &TwinDisk) -> Self {
            let mut run = Self::default();
            let Some(mut writer) = (0..3).find_map(|_| open(disk).ok()) else {
                assert!(disk.is_stopped());
                return run;
            };
            for (tags, works_off) in STEPS {
                run.note(writer.commit(if tags.is_empty() { Vec::new() } else { vec![add(tags)] }));
                if *works_off && !disk.is_stopped() {
                    // As the reader does: all that it could read, and nothing else.
                    (run.done, run.gone) = (end(&writer), run.promised.clone());
                    let (segment, offset) = run.done;
                    run.note(writer.commit(vec![Job::Unspool { lookup: "misp".into(), segment, offset, tag: 1000 }]));
                }
            }
            for _ in 0..4 {
                run.note(writer.commit(Vec::new()));
            }
            assert!(disk.is_stopped() || writer.waiting() == 0 && writer.trouble().is_none(), "{:?}", writer.trouble());
            run
        }

        fn note(&mut self, done: Vec<Done>) {
            for done in done {
                let Done::Kept { tag } = done else { panic!("{done:?}") };
                // The answer to a job is that of its last message.
                let job = STEPS.iter().find(|(tags, _)| tags.last() == Some(&tag));
                self.promised.extend(job.into_iter().flat_map(|(tags, _)| *tags));
            }
        }

        /// What was promised and not worked off is there, and what comes is above what was.
        fn check(&self, disk: &TwinDisk, case: &str) {
            let mut writer = open(disk).unwrap_or_else(|e| panic!("{case}: {e}"));
            let there = read(disk, &writer);
            for tag in self.promised.difference(&self.gone) {
                let place = there.iter().find(|(_, found)| found == tag).map(|(place, _)| *place);
                assert!(
                    place.is_some_and(|place| place >= self.done),
                    "{case}: {tag} is at {place:?}, all below {:?} is passed over",
                    self.done
                );
            }
            assert_eq!(writer.commit(vec![add(&[99])]).len(), 1, "{case}: {:?}", writer.trouble());
            let (place, _) = read(disk, &writer).into_iter().find(|(_, tag)| *tag == 99).unwrap();
            assert!(place >= self.done, "{case}: {place:?} would be passed over, everything below {:?} is", self.done);
            let ends: Vec<_> = writer.spools().flat_map(|(_, ends)| ends).collect();
            assert!(ends.windows(2).all(|two| two[0].0 < two[1].0), "{case}: {ends:?}");
            let disk = disk.reboot(Left::Nothing, Left::Nothing);
            let writer = open(&disk).unwrap_or_else(|e| panic!("{case}, then: {e}"));
            assert!(read(&disk, &writer).iter().any(|(_, tag)| *tag == 99), "{case}: what was answered is gone");
        }
    }

    fn calls_of_a_clean_run() -> usize {
        let disk = TwinDisk::default();
        let run = Run::drive(&disk);
        assert_eq!((run.promised, run.gone.len() > 1), ((1..=10).collect(), true));
        let writer = open(&disk).unwrap();
        assert_eq!(read(&disk, &writer), [], "all of it is worked off");
        let files: Vec<_> = disk.names().into_iter().filter(|path| spool::segment_of(path).is_some()).collect();
        assert_eq!(files.len(), 1, "one that holds the number: {files:?}");
        disk.calls()
    }

    #[test]
    fn a_stop_at_any_call_loses_no_message_and_gives_no_place_twice() {
        let calls = calls_of_a_clean_run();
        for n in 1..=calls {
            for applied in 0..3 {
                let disk = TwinDisk::default().with(&[(n, At::Stop(applied))]);
                let run = Run::drive(&disk);
                for contents in LEFT {
                    for names in LEFT {
                        let case = format!("stop at call {n}, {applied}/2 done, contents {contents:?}, names {names:?}");
                        run.check(&disk.reboot(contents, names), &case);
                    }
                }
            }
        }
    }

    #[test]
    fn a_call_that_fails_is_tried_again_and_a_stop_thereafter_loses_no_message() {
        for n in 1..=calls_of_a_clean_run() {
            for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
                let disk = TwinDisk::default().with(&[(n, At::Fail(kind))]);
                let run = Run::drive(&disk);
                assert_eq!(run.promised.len(), 10, "{kind} at call {n}");
                for contents in LEFT {
                    run.check(&disk.reboot(contents, Left::Nothing), &format!("{kind} at call {n}, contents {contents:?}"));
                }
            }
        }
    }

    #[test]
    fn a_spool_whose_files_were_taken_away_goes_on_above_its_row() {
        let disk = TwinDisk::default();
        let branches = vec![BranchRow { branch: "misp:spool".into(), position: Position::File { segment: 6, incarnation: 0, offset: 90 } }];
        let row = Row { source: "misp:spool".into(), stream: "misp".into(), kind: spool::KIND.into(), branches, ..Row::default() };
        let saved = Checkpoint { instance: "m".into(), rows: vec![row], ..Checkpoint::default() };
        let mut writer = open(&disk).unwrap();
        assert_eq!(writer.commit(vec![add(&[1]), Job::Save { checkpoint: saved, tag: 2 }]).len(), 2);
        for taken_away in [false, true] {
            if taken_away {
                disk.names().iter().filter(|path| spool::segment_of(path).is_some()).for_each(|path| disk.remove(path).unwrap());
            }
            let mut writer = open(&disk).unwrap();
            writer.commit(vec![add(&[99])]);
            assert_eq!(read(&disk, &writer).last(), Some(&((7, 0), 99)), "taken away: {taken_away}");
        }
    }

    #[test]
    fn room_is_taken_until_it_is_used_up_and_given_back_with_what_is_worked_off() {
        let spool = Spool::new("misp");
        assert!(spool.reserve(60, 100) && !spool.reserve(41, 100));
        spool.publish(vec![(0, 60)]);
        spool.has_come(60);
        assert_eq!((spool.bytes(), spool.reserve(40, 100), spool.reserve(1, 100)), (60, true, false));
        spool.publish(vec![(1, 40)]);
        assert!(!spool.reserve(60, 100), "40 on disk, 40 on their way");
        spool.has_come(40);
        assert!(spool.reserve(60, 100));
    }
}
