//! Follows a log by its name, and hands out whole lines.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::limits;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Why a log is not read.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error("cannot read {path}; let the agent's user read it")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a regular file; name the log itself")]
    NotAFile { path: PathBuf },
}

/// Reads a log to its end whenever it is asked to.
///
/// | seen | done |
/// |---|---|
/// | first file, long | lines with `#` at its start, then the last [`limits::SCAN_LOG_START_BYTES`] |
/// | another file under the name, with bytes in it | the old one to its end, its last line even without a newline, then the new one from 0 |
/// | another file, empty | the old one still: its writer has not moved yet |
/// | no file | the old one still |
/// | shorter than what was read | from 0: it was truncated |
pub struct Tail {
    path: PathBuf,
    open: Option<Open>,
    /// A file was open once: later ones are read from their start.
    is_later: bool,
    /// Lines longer than [`limits::SCAN_LOG_LINE_BYTES`].
    too_long: u64,
}

struct Open {
    fd: OwnedFd,
    offset: u64,
    /// A line's first bytes.
    part: Vec<u8>,
    /// Up to the next newline nothing counts.
    is_skipping: bool,
}

impl Tail {
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None, is_later: false, too_long: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines that were too long to be looked at.
    pub fn too_long(&self) -> u64 {
        self.too_long
    }

    /// Hands on each whole line that has come since the last time, without its newline. A file that is not there is none.
    ///
    /// # Errors
    /// It cannot be opened or read; a later call tries again.
    pub fn read(&mut self, mut with: impl FnMut(&[u8])) -> Result<(), TailError> {
        if self.open.is_none() {
            self.open = self.open_at(&mut with)?;
        }
        loop {
            let Some(open) = &mut self.open else { return Ok(()) };
            open.read_on(&mut self.too_long, &mut with).map_err(|errno| failed(&self.path, errno))?;
            let ours = rustix::fs::fstat(&open.fd).map_err(|errno| failed(&self.path, errno))?;
            let length = u64::try_from(ours.st_size).unwrap_or(0);
            if length < open.offset {
                (open.offset, open.is_skipping) = (0, false);
                open.part.clear();
                continue;
            }
            let Ok(named) = rustix::fs::stat(&self.path) else { return Ok(()) };
            if same(&named, &ours) || named.st_size == 0 {
                return Ok(());
            }
            // Its writer has moved on, so this is all there will be.
            open.read_on(&mut self.too_long, &mut with).map_err(|errno| failed(&self.path, errno))?;
            if !open.part.is_empty() && !open.is_skipping {
                with(&open.part);
            }
            self.open = None;
            self.open = self.open_at(&mut with)?;
        }
    }

    fn open_at(&mut self, with: &mut impl FnMut(&[u8])) -> Result<Option<Open>, TailError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(&self.path, errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed(&self.path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(TailError::NotAFile { path: self.path.clone() });
        }
        let mut open = Open { fd, offset: 0, part: Vec::new(), is_skipping: false };
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        if !self.is_later && length > limits::SCAN_LOG_START_BYTES {
            open.head(with).map_err(|errno| failed(&self.path, errno))?;
            (open.offset, open.is_skipping) = (length - limits::SCAN_LOG_START_BYTES, true);
        }
        self.is_later = true;
        Ok(Some(open))
    }
}

fn failed(path: &Path, errno: Errno) -> TailError {
    TailError::Read { path: path.to_owned(), source: errno.into() }
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

impl Open {
    /// The comment lines at the start of a file.
    fn head(&self, with: &mut impl FnMut(&[u8])) -> Result<(), Errno> {
        let mut bytes = vec![0; CHUNK_BYTES];
        let n = rustix::io::retry_on_intr(|| rustix::io::pread(&self.fd, &mut bytes[..], 0))?;
        let lines = bytes.get(..n).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
        lines.take_while(|line| line.starts_with(b"#")).filter_map(|line| line.strip_suffix(b"\n")).for_each(with);
        Ok(())
    }

    fn read_on(&mut self, too_long: &mut u64, with: &mut impl FnMut(&[u8])) -> Result<(), Errno> {
        let mut bytes = vec![0; CHUNK_BYTES];
        loop {
            let n = rustix::io::retry_on_intr(|| rustix::io::pread(&self.fd, &mut bytes[..], self.offset))?;
            if n == 0 {
                return Ok(());
            }
            self.offset += n as u64;
            for piece in bytes.get(..n).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                let (piece, is_end) = piece.strip_suffix(b"\n").map_or((piece, false), |line| (line, true));
                if !self.is_skipping && self.part.len() + piece.len() > limits::SCAN_LOG_LINE_BYTES {
                    *too_long += 1;
                    self.is_skipping = true;
                    self.part = Vec::new();
                }
                if !self.is_skipping {
                    match (is_end, self.part.is_empty()) {
                        (true, true) => with(piece),
                        _ => self.part.extend_from_slice(piece),
                    }
                    if is_end && !self.part.is_empty() {
                        with(&self.part);
                    }
                }
                if is_end {
                    self.part.clear();
                    self.is_skipping = false;
                }
            }
        }
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tail({}, {:?})", self.path.display(), self.open.as_ref().map(|open| open.offset))
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests state what must hold, outside the simulated machine"
)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        io::Write,
    };

    use proptest::prelude::*;

    use super::*;

    fn append(path: &Path, text: &str) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn lines(tail: &mut Tail) -> Vec<String> {
        let mut found = Vec::new();
        tail.read(|line| found.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        found
    }

    #[test]
    fn whole_lines_come_once_through_rotation_and_truncation() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("files.log"), dir.path().join("files.1.log"));
        let mut tail = Tail::new(path.clone());
        assert!(lines(&mut tail).is_empty(), "there need not be a file");
        append(&path, "a\nb\nc1");
        assert_eq!(lines(&mut tail), ["a", "b"]);
        append(&path, "c2\n\nd");
        assert_eq!(lines(&mut tail), ["c1c2", ""]);
        assert!(lines(&mut tail).is_empty());

        // Renamed: its writer writes on for a while, also while the new one is there and empty.
        fs::rename(&path, &old).unwrap();
        append(&old, "d2\ne\n");
        assert_eq!(lines(&mut tail), ["dd2", "e"]);
        append(&path, "");
        append(&old, "f\ng");
        assert_eq!(lines(&mut tail), ["f"]);
        append(&path, "h\n");
        assert_eq!(lines(&mut tail), ["g", "h"], "what was cut ends with its file");

        // Copied and truncated.
        append(&path, "hh\n");
        assert_eq!(lines(&mut tail), ["hh"]);
        fs::write(&path, "i\n").unwrap();
        assert_eq!(lines(&mut tail), ["i"]);
        // Two rotations between two looks: the file in between is gone, which is what its rename meant.
        fs::rename(&path, &old).unwrap();
        fs::write(&path, "lost\n").unwrap();
        fs::rename(&path, &old).unwrap();
        append(&path, "j\n");
        assert_eq!(lines(&mut tail), ["j"]);
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Append(String),
        /// Renamed, and written on under the new name; the next one begins with a whole line.
        Rotate(String),
        Read,
    }

    proptest! {
        #[test]
        fn every_line_comes_once_and_in_order(deeds in prop::collection::vec(prop_oneof![
            3 => "[ab\n]{0,6}".prop_map(Deed::Append),
            1 => "[ab\n]{0,6}".prop_map(Deed::Rotate),
            3 => Just(Deed::Read),
        ], 0..40)) {
            let dir = tempfile::tempdir().unwrap();
            let (path, mut tail) = (dir.path().join("log"), Tail::new(dir.path().join("log")));
            let (mut found, mut expected, mut part) = (Vec::new(), Vec::new(), String::new());
            let mut take = |part: &mut String, text: &str| {
                part.push_str(text);
                while let Some(at) = part.find('\n') {
                    expected.push(part[..at].to_owned());
                    part.drain(..=at);
                }
            };
            for (n, deed) in deeds.into_iter().chain([Deed::Read]).enumerate() {
                match deed {
                    Deed::Append(text) => {
                        append(&path, &text);
                        take(&mut part, &text);
                    }
                    Deed::Rotate(text) => {
                        append(&path, "");
                        // A file that was never seen is not known to have been: only one rotation between two looks.
                        found.extend(lines(&mut tail));
                        let old = dir.path().join(format!("log.{n}"));
                        fs::rename(&path, &old).unwrap();
                        append(&old, &text);
                        append(&path, "new\n");
                        take(&mut part, &text);
                        if !part.is_empty() {
                            take(&mut part, "\n"); // it ends with its file
                        }
                        take(&mut part, "new\n");
                        found.extend(lines(&mut tail));
                    }
                    Deed::Read => found.extend(lines(&mut tail)),
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_long_log_is_read_from_near_its_end_with_its_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("files.log");
        let mut text = "#separator \\x09\n#fields\ta\tb\n".to_owned();
        for n in 0..400_000 {
            text.push_str(&format!("{n:06} {}\n", "x".repeat(50)));
        }
        fs::write(&path, &text).unwrap();
        let mut tail = Tail::new(path.clone());
        let found = lines(&mut tail);
        assert_eq!(found[..2], ["#separator \\x09", "#fields\ta\tb"]);
        let from = text.len() - usize::try_from(limits::SCAN_LOG_START_BYTES).unwrap();
        let expected: Vec<&str> = text[from..].lines().skip(1).collect();
        assert_eq!(found[2..], expected);

        let long = "y".repeat(limits::SCAN_LOG_LINE_BYTES + 1);
        append(&path, &format!("{long}\nshort\n{long}"));
        assert_eq!(lines(&mut tail), ["short"]);
        append(&path, "\nnext\n");
        assert_eq!((lines(&mut tail), tail.too_long()), (vec!["next".to_owned()], 2));
    }

    #[test]
    fn what_is_no_file_is_said_and_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eve.json");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut tail = Tail::new(path.clone());
        let told = tail.read(|_| {}).unwrap_err().to_string();
        assert!(told.contains("is not a regular file"), "{told}");
        fs::remove_file(&path).unwrap();
        append(&path, "a\n");
        assert_eq!(lines(&mut tail), ["a"]);
    }
}
