//! The other side: a process that reads descriptors it is sent, scans, and answers. Feature `scan`.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    process::ExitCode,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, Stat, fstat},
};

use super::{
    confine,
    message::{Ask, Tell},
    socket::{Gap, Socket, Until},
};
use crate::{
    clock::SystemClock,
    limits::{RULE_COMPILED_BYTES, RULE_TEXT_BYTES},
    scan::{
        buffer::{self, Job, Limits, Surroundings, unseen},
        outcome::{Match, Outcome, Reason, Verdict},
        rules::{Sources, compiled::Compiled},
        settings,
        yara::{self, Set},
    },
};

/// Serves until the agent closes the socket.
///
/// - `socket`: the child's standard input.
pub fn serve(socket: OwnedFd) -> ExitCode {
    for undone in confine::confine() {
        eprintln!("shipper scan-child: not confined: {undone}");
    }
    if let Ok(watched) = socket.try_clone() {
        // An agent that has given up on a file closes the socket, and may have no other way to end us.
        std::thread::spawn(move || end_with(&watched));
    }
    let clock = SystemClock::new();
    let link = Link { socket: Socket::new(socket), clock: &clock };
    match link.serve() {
        Ok(()) | Err(Gap::Closed) => ExitCode::SUCCESS,
        Err(gap) => {
            eprintln!("shipper scan-child: the socket to the agent failed: {gap:?}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when the other side of the socket is closed.
fn end_with(socket: &OwnedFd) {
    loop {
        let mut polled = [PollFd::new(socket, PollFlags::empty())];
        let _ = poll(&mut polled, None);
        if polled.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)) {
            std::process::exit(0);
        }
    }
}

struct Link<'a> {
    socket: Socket,
    clock: &'a SystemClock,
}

impl Link<'_> {
    fn until(&self) -> Until<'_> {
        Until { clock: self.clock, deadline: None }
    }
    fn hear(&self) -> Result<(Ask, Vec<OwnedFd>), Gap> {
        self.socket.receive(self.until())
    }
    fn tell(&self, tell: &Tell) -> Result<(), Gap> {
        self.socket.send(tell, &[], self.until())
    }

    fn serve(&self) -> Result<(), Gap> {
        let mut asked = self.hear()?;
        loop {
            match asked {
                (Ask::Compile { relaxed }, files) => {
                    self.tell(&Tell::Compiled { error: compile(files, relaxed).err() })?;
                    asked = self.hear()?;
                }
                (Ask::Load { limits }, files) => match open(files) {
                    // Scanners borrow the set, so they live as long as this call.
                    Ok(set) => asked = self.with(&set, &limits)?,
                    Err(error) => {
                        self.tell(&Tell::Loaded { error: Some(error) })?;
                        asked = self.hear()?;
                    }
                },
                (Ask::Scan { .. } | Ask::Cached { .. }, _) => return Err(Gap::Io(io::Error::other("asked to scan without rules"))),
            }
        }
    }

    /// Scans with one set until another message comes, and gives that.
    fn with(&self, set: &Set, limits: &Limits) -> Result<(Ask, Vec<OwnedFd>), Gap> {
        let rules = settings::Rules {
            matches_max: limits.matches_max,
            match_bytes: limits.match_bytes,
            matches_reported: limits.matches_reported,
            ..settings::Rules::default()
        };
        let mut scanners = set.scanners(&rules);
        self.tell(&Tell::Loaded { error: None })?;
        loop {
            let (job, mut files) = match self.hear()? {
                (Ask::Scan { job }, files) => (job, files),
                other => return Ok(other),
            };
            let answer =
                match files.pop().ok_or_else(|| io::Error::other("no file came with the job")).and_then(|fd| read(fd, &job, limits)) {
                    Ok(Content::Bytes(bytes)) => {
                        let mut around = Around { link: self, gap: None };
                        let outcome = buffer::scan(&bytes, &job, limits, &mut scanners, &mut around, self.clock);
                        if let Some(gap) = around.gap {
                            return Err(gap);
                        }
                        Tell::Done { outcome: Box::new(outcome) }
                    }
                    Ok(Content::Answer(outcome)) => Tell::Done { outcome },
                    Ok(Content::Changed) => Tell::Changed,
                    Err(error) => Tell::Unread { error: error.to_string() },
                };
            self.answer(answer)?;
        }
    }

    /// Sends an answer, if need be a shorter one: places of matches go before what else is told of them.
    fn answer(&self, mut answer: Tell) -> Result<(), Gap> {
        for shorten in [shorten_places as fn(&mut Match), shorten_matches] {
            match (self.tell(&answer), &mut answer) {
                (Err(Gap::Long), Tell::Done { outcome }) => matches_of(outcome).for_each(shorten),
                (told, _) => return told,
            }
        }
        self.tell(&answer)
    }
}

/// Asks the agent. After a gap there is nobody to ask.
struct Around<'a> {
    link: &'a Link<'a>,
    gap: Option<Gap>,
}

impl Surroundings for Around<'_> {
    fn cached(&mut self, sha256: &str, size: u64, rules_version: &str) -> Option<Outcome> {
        let hashed = Tell::Hashed { sha256: sha256.into(), size, rules_version: rules_version.into() };
        match self.link.tell(&hashed).and_then(|()| self.link.hear()) {
            Ok((Ask::Cached { outcome }, _)) => outcome.map(|outcome| *outcome),
            Ok(_) => {
                self.gap = Some(Gap::Io(io::Error::other("another message came in place of an answer")));
                None
            }
            Err(gap) => {
                self.gap = Some(gap);
                None
            }
        }
    }

    fn unpacking(&mut self) {
        if let Err(gap) = self.link.tell(&Tell::Unpacking) {
            self.gap = Some(gap);
        }
    }
}

/// A file as it was read.
enum Content {
    Bytes(Vec<u8>),
    /// It is not read.
    Answer(Box<Outcome>),
    Changed,
}

/// Reads the whole file into one buffer, which everything else is about.
fn read(fd: OwnedFd, job: &Job, limits: &Limits) -> io::Result<Content> {
    let before = fstat(&fd)?;
    let answer = |reason, size| {
        let mut outcome = unseen(job, Verdict::Error, reason);
        outcome.size = size;
        Ok(Content::Answer(Box::new(outcome)))
    };
    let size = u64::try_from(before.st_size).unwrap_or(0);
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return answer(Reason::NotAFile, 0);
    }
    if size > limits.file_bytes_max {
        return answer(Reason::TooLarge, size);
    }
    let room = usize::try_from(size).unwrap_or(0).saturating_add(1);
    let mut bytes = Vec::with_capacity(room);
    let mut at = 0u64;
    loop {
        if bytes.capacity() == bytes.len() {
            // It grows while it is read, which is said below.
            bytes.reserve(64 << 10);
        }
        let got = rustix::io::pread(&fd, rustix::buffer::spare_capacity(&mut bytes), at)?;
        if got == 0 {
            break;
        }
        at += u64::try_from(got).unwrap_or(0);
        if at > limits.file_bytes_max {
            return answer(Reason::TooLarge, at);
        }
    }
    let after = fstat(&fd)?;
    let identity = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
    if identity(&before) != identity(&after) || at != size {
        return Ok(Content::Changed);
    }
    Ok(Content::Bytes(bytes))
}

fn matches_of(outcome: &mut Outcome) -> impl Iterator<Item = &mut Match> {
    outcome.matches.iter_mut().chain(outcome.children.iter_mut().flat_map(|child| &mut child.matches))
}

fn shorten_places(found: &mut Match) {
    found.patterns.iter_mut().for_each(|pattern| pattern.at.clear());
}

fn shorten_matches(found: &mut Match) {
    (found.patterns, found.meta) = (Vec::new(), Vec::new());
}

/// A whole file that was sent, from its start wherever its offset is.
fn whole(fd: OwnedFd, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn compile(mut files: Vec<OwnedFd>, relaxed: bool) -> Result<(), String> {
    let (Some(out), Some(sources)) = (files.pop(), files.pop()) else { return Err("no files came".into()) };
    // Texts in JSON are at most six times as long.
    let sources = whole(sources, 8 * u64::try_from(RULE_TEXT_BYTES).unwrap_or(0)).map_err(|error| error.to_string())?;
    let sources: Sources = serde_json::from_slice(&sources).map_err(|error| error.to_string())?;
    let compiled = yara::compile(&sources, relaxed)?.to_bytes().map_err(|error| error.to_string())?;
    File::from(out).write_all(&compiled).map_err(|error| error.to_string())
}

fn open(mut files: Vec<OwnedFd>) -> Result<Set, String> {
    let fd = files.pop().ok_or("no file came")?;
    // Many children read one descriptor, so its offset is nobody's.
    let size = fstat(&fd).map_err(|error| error.to_string())?.st_size;
    let size = usize::try_from(size).ok().filter(|size| u64::try_from(*size).is_ok_and(|size| size <= RULE_COMPILED_BYTES));
    let mut bytes = vec![0; size.ok_or("the compiled set is too large")?];
    let mut at = 0;
    while at < bytes.len() {
        let offset = u64::try_from(at).unwrap_or(u64::MAX);
        match rustix::io::pread(&fd, bytes.get_mut(at..).unwrap_or_default(), offset) {
            Ok(0) => return Err("the compiled set is cut".into()),
            Ok(got) => at += got,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let compiled = Compiled::from_bytes(&bytes).map_err(|error| error.to_string())?;
    drop(bytes);
    Set::open(compiled).map_err(|error| error.to_string())
}
