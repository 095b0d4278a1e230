//! How alerts reach the disk: Wazuh's writer as a model of file operations.
//!
//! Lines go into a stdio buffer, whole blocks of 4096 bytes go to the file at any byte of a line,
//! and once a second the rest follows. The file proper is `YYYY/Mon/ossec-alerts-DD[-NNN].json`
//! (local date); `alerts.json` is a hard link to it. A switch writes out and leaves the old file
//! (unlinks it first if nothing was ever written), makes the new one, unlinks the name, links it
//! again: between the last two there is no `alerts.json`. Nothing is truncated or renamed.
//!
//! Refuses to touch a disk or a clock: the operations come back as values, to be executed in
//! order by whoever has a disk, real or simulated. Start at [`Writer`].

use std::{
    mem,
    path::{Path, PathBuf},
};

use jiff::civil::Date;

use super::template::mix;
use crate::clock::Nanos;

/// Bytes of the writer's stdio buffer.
pub const BLOCK_BYTES: usize = 4096;
/// Nanoseconds between two flushes.
pub const FLUSH_EVERY: Nanos = 1_000_000_000;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// One operation on the file system. Executed in order they give the writer's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes a directory with its parents; no error if it is there.
    MakeDir(PathBuf),
    /// Makes an empty file; one that exists stays as it is (mode `a`).
    Create(PathBuf),
    /// Writes at the end of a file, in one write.
    Append { path: PathBuf, bytes: Vec<u8> },
    /// Removes a name; no error if there is none.
    Unlink(PathBuf),
    /// Gives a file a second name.
    Link { from: PathBuf, to: PathBuf },
    /// Cuts a file (not something Wazuh does: an admin, or a power loss).
    Truncate { path: PathBuf, len: u64 },
}

/// What a rotation switches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The first file of a day.
    Day(Date),
    /// The next part of the same day, as `rotate_interval` and `max_output_size` cause it.
    Part,
}

/// An accident, to be had on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The line's second half and newline never come: the next line is glued on.
    Cut,
    /// The newline never comes.
    Glued,
    /// Zero bytes stand where the line should be, without a newline (power loss).
    Nuls(u32),
}

/// The writer of one `alerts` folder.
#[derive(Debug)]
pub struct Writer {
    base: PathBuf,
    date: Date,
    part: u32,
    path: PathBuf,
    /// In the file, and still in the stdio buffer.
    written: u64,
    buffer: Vec<u8>,
    flushed_at: Option<Nanos>,
    rotate_bytes: Option<u64>,
}

impl Writer {
    /// A writer for `base` (the folder of `alerts.json`) on a local date. Touches nothing:
    /// [`Writer::open`] gives the first operations.
    pub fn new(base: impl Into<PathBuf>, date: Date) -> Self {
        let base = base.into();
        let path = dated(&base, date, 0);
        Self { base, date, part: 0, path, written: 0, buffer: Vec::with_capacity(BLOCK_BYTES), flushed_at: None, rotate_bytes: None }
    }

    /// Begins a new part once a file holds `bytes` (`max_output_size`).
    pub fn rotating_at(mut self, bytes: u64) -> Self {
        self.rotate_bytes = Some(bytes.max(1));
        self
    }

    /// Opens the day's file, as at the manager's start.
    pub fn open(&mut self) -> Vec<Op> {
        let mut ops = Vec::with_capacity(4);
        self.link(&mut ops);
        ops
    }

    /// The name of the file being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written to the current file and waiting in the buffer.
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// True if nothing was written to the current file.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a line (with its newline); gives the blocks that became full.
    ///
    /// A file that has reached its size is left between two lines, never within one.
    pub fn write(&mut self, line: &[u8]) -> Vec<Op> {
        let mut ops = Vec::new();
        if self.rotate_bytes.is_some_and(|most| self.len() >= most) {
            ops = self.rotate(Rotation::Part);
        }
        self.put(line, &mut ops);
        ops
    }

    /// Takes a line to which an accident happens; `seed` says where.
    pub fn write_faulty(&mut self, line: &[u8], fault: Fault, seed: u64) -> Vec<Op> {
        let mut ops = Vec::new();
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        match fault {
            Fault::Cut => {
                let most = text.len().max(1) as u64;
                self.put(&text[..(mix(seed) % most) as usize], &mut ops);
            }
            Fault::Glued => self.put(text, &mut ops),
            Fault::Nuls(count) => self.put(&vec![0; count as usize], &mut ops),
        }
        ops
    }

    /// Is told the time; gives the flush that is due once a second.
    pub fn tick(&mut self, now: Nanos) -> Vec<Op> {
        if self.flushed_at.is_some_and(|last| now < last.saturating_add(FLUSH_EVERY)) {
            return Vec::new();
        }
        self.flushed_at = Some(now);
        self.flush()
    }

    /// Writes out what the buffer holds.
    pub fn flush(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        if !self.buffer.is_empty() {
            let bytes = mem::replace(&mut self.buffer, Vec::with_capacity(BLOCK_BYTES));
            self.append(bytes, &mut ops);
        }
        ops
    }

    /// Switches to another file. An empty one is not left for a further part, and is unlinked at
    /// a new day.
    pub fn rotate(&mut self, to: Rotation) -> Vec<Op> {
        if to == Rotation::Part && self.is_empty() {
            return Vec::new();
        }
        let mut ops = self.flush();
        if self.written == 0 {
            ops.push(Op::Unlink(self.path.clone()));
        }
        (self.date, self.part) = match to {
            Rotation::Day(date) => (date, 0),
            Rotation::Part => (self.date, self.part + 1),
        };
        self.path = dated(&self.base, self.date, self.part);
        self.written = 0;
        self.link(&mut ops);
        ops
    }

    /// Dies without a flush: what the buffer held is lost, and returned. The next [`Writer::open`]
    /// goes on at the end of the same file, on the same line.
    pub fn crash(&mut self) -> Vec<u8> {
        self.flushed_at = None;
        mem::take(&mut self.buffer)
    }

    fn link(&self, ops: &mut Vec<Op>) {
        let name = self.base.join("alerts.json");
        if let Some(folder) = self.path.parent() {
            ops.push(Op::MakeDir(folder.to_owned()));
        }
        ops.push(Op::Create(self.path.clone()));
        // Two system calls: whoever looks in between finds no alerts.json.
        ops.push(Op::Unlink(name.clone()));
        ops.push(Op::Link { from: self.path.clone(), to: name });
    }

    fn put(&mut self, mut bytes: &[u8], ops: &mut Vec<Op>) {
        // As stdio does it: fill the buffer, write it, then whole blocks straight from the line.
        while self.buffer.len() + bytes.len() >= BLOCK_BYTES {
            let room = BLOCK_BYTES - self.buffer.len();
            let (head, rest) = bytes.split_at(room);
            let mut block = mem::replace(&mut self.buffer, Vec::with_capacity(BLOCK_BYTES));
            block.extend_from_slice(head);
            let whole = rest.len() - rest.len() % BLOCK_BYTES;
            block.extend_from_slice(&rest[..whole]);
            self.append(block, ops);
            bytes = &rest[whole..];
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn append(&mut self, bytes: Vec<u8>, ops: &mut Vec<Op>) {
        self.written += bytes.len() as u64;
        ops.push(Op::Append { path: self.path.clone(), bytes });
    }
}

/// The dated name of a part: `YYYY/Mon/ossec-alerts-DD[-NNN].json`.
pub fn dated(base: &Path, date: Date, part: u32) -> PathBuf {
    let month = usize::try_from(date.month() - 1).ok().and_then(|n| MONTHS.get(n)).copied().unwrap_or_default();
    let name = match part {
        0 => format!("ossec-alerts-{:02}.json", date.day()),
        part => format!("ossec-alerts-{:02}-{part:03}.json", date.day()),
    };
    base.join(date.year().to_string()).join(month).join(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A file system small enough to be obviously right: names to numbers, numbers to bytes.
    #[derive(Default)]
    struct Disk {
        names: BTreeMap<PathBuf, usize>,
        files: Vec<Vec<u8>>,
        missing_seen: bool,
    }

    impl Disk {
        fn apply(&mut self, ops: Vec<Op>) {
            for op in ops {
                match op {
                    Op::MakeDir(_) => {}
                    Op::Create(path) => {
                        if !self.names.contains_key(&path) {
                            self.names.insert(path, self.files.len());
                            self.files.push(Vec::new());
                        }
                    }
                    Op::Append { path, bytes } => self.files[self.names[&path]].extend_from_slice(&bytes),
                    Op::Unlink(path) => {
                        self.missing_seen |= self.names.remove(&path).is_some() && path.ends_with("alerts.json");
                    }
                    Op::Link { from, to } => {
                        assert!(!self.names.contains_key(&to), "link onto an existing name fails");
                        self.names.insert(to, self.names[&from]);
                    }
                    Op::Truncate { path, len } => self.files[self.names[&path]].truncate(len as usize),
                }
            }
        }
        fn all(&self) -> Vec<u8> {
            self.files.concat()
        }
        fn read(&self, path: &str) -> &[u8] {
            &self.files[self.names[Path::new(path)]]
        }
    }

    fn date(day: i8) -> Date {
        Date::new(2026, 3, day).unwrap()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Line(usize),
        Tick(u64),
        Part,
        Day,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1..9000usize).prop_map(Step::Line),
            2 => (0..2_000_000_000u64).prop_map(Step::Tick),
            1 => Just(Step::Part),
            1 => Just(Step::Day),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn the_files_in_order_are_exactly_the_lines(steps in steps(), size in prop_oneof![Just(u64::MAX), 1..20_000u64]) {
            let (mut writer, mut disk) = (Writer::new("alerts", date(1)).rotating_at(size), Disk::default());
            let (mut lines, mut now, mut day) = (Vec::new(), 0, 1);
            disk.apply(writer.open());
            for step in steps {
                let before = lines.len();
                match step {
                    Step::Line(len) => {
                        lines.extend((0..len).map(|n| b'a' + ((before + n) % 26) as u8));
                        lines.push(b'\n');
                        disk.apply(writer.write(&lines[before..]));
                    }
                    Step::Tick(span) => {
                        now += span;
                        disk.apply(writer.tick(now));
                    }
                    Step::Part => disk.apply(writer.rotate(Rotation::Part)),
                    Step::Day if day < 28 => {
                        day += 1;
                        disk.apply(writer.rotate(Rotation::Day(date(day))));
                    }
                    Step::Day => {}
                }
                prop_assert!(lines.starts_with(&disk.all()), "only a tail may be missing");
                prop_assert!(lines.len() - disk.all().len() < BLOCK_BYTES, "and less than a block of it");
                let current = disk.names[writer.path()];
                prop_assert_eq!(disk.names[Path::new("alerts/alerts.json")], current, "one file, two names");
            }
            disk.apply(writer.flush());
            prop_assert_eq!(disk.all(), lines);
            for file in &disk.files {
                prop_assert!(file.is_empty() || file.ends_with(b"\n"), "no line goes over two files");
            }
        }
    }

    #[test]
    fn names_are_those_of_wazuh() {
        let (mut writer, mut disk) = (Writer::new("alerts", date(9)), Disk::default());
        disk.apply(writer.open());
        disk.apply(writer.write(b"one\n"));
        disk.apply(writer.rotate(Rotation::Part));
        disk.apply(writer.write(b"two\n"));
        assert!(disk.missing_seen, "for a moment there is no alerts.json");
        disk.apply(writer.rotate(Rotation::Day(date(10))));
        assert_eq!(disk.read("alerts/2026/Mar/ossec-alerts-09.json"), b"one\n");
        assert_eq!(disk.read("alerts/2026/Mar/ossec-alerts-09-001.json"), b"two\n");
        assert_eq!(disk.read("alerts/alerts.json"), b"");
        assert!(disk.names.contains_key(Path::new("alerts/2026/Mar/ossec-alerts-10.json")));
    }

    #[test]
    fn an_empty_day_leaves_no_file() {
        let (mut writer, mut disk) = (Writer::new("alerts", date(9)), Disk::default());
        disk.apply(writer.open());
        assert_eq!(writer.rotate(Rotation::Part), []);
        disk.apply(writer.rotate(Rotation::Day(date(10))));
        assert!(!disk.names.contains_key(Path::new("alerts/2026/Mar/ossec-alerts-09.json")));
    }

    #[test]
    fn the_buffer_is_flushed_once_a_second() {
        let mut writer = Writer::new("alerts", date(9));
        assert_eq!(writer.tick(5), []);
        assert_eq!(writer.write(b"a\n"), []);
        assert_eq!(writer.tick(5 + FLUSH_EVERY - 1), []);
        assert_eq!(writer.tick(5 + FLUSH_EVERY).len(), 1);
        assert_eq!(writer.tick(5 + 2 * FLUSH_EVERY), []);
    }

    #[test]
    fn accidents_are_what_they_are_called() {
        let after = |fault| {
            let mut writer = Writer::new("alerts", date(9));
            writer.write_faulty(b"{\"a\":1}\n", fault, 4);
            writer.write(b"{}\n");
            writer.crash()
        };
        assert_eq!(after(Fault::Glued), b"{\"a\":1}{}\n");
        assert_eq!(after(Fault::Nuls(3)), b"\0\0\0{}\n");
        let cut = after(Fault::Cut);
        assert!(cut.len() < 10 && cut.ends_with(b"{}\n"), "{cut:?}");
    }

    #[test]
    fn after_a_crash_the_same_file_goes_on_without_what_was_buffered() {
        let (mut writer, mut disk) = (Writer::new("alerts", date(9)), Disk::default());
        disk.apply(writer.open());
        disk.apply(writer.write(&[b'x'; BLOCK_BYTES + 10]));
        assert_eq!(writer.crash(), [b'x'; 10]);
        disk.apply(writer.open());
        disk.apply(writer.write(b"{}\n"));
        disk.apply(writer.flush());
        assert_eq!(disk.all().len(), BLOCK_BYTES + 3);
    }
}
