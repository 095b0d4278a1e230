//! The other side: a process that reads descriptors it is sent, scans, and answers. Feature `scan`.

use std::{
    collections::VecDeque,
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
    message::{Answered, Ask, Tell},
    socket::{Gap, Socket, Until},
};
use crate::{
    clock::{Clock, Nanos, SystemClock},
    limits::{CHILD_SLOW_MS, RULE_COMPILED_BYTES, RULE_TEXT_BYTES},
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
    let mut link = Link { socket: Socket::new(socket), clock: &clock, waiting: VecDeque::new(), is_due: false };
    match link.serve() {
        Ok(()) | Err(Gap::Closed) => ExitCode::SUCCESS,
        Err(gap) => {
            eprintln!("shipper scan-child: the socket to the agent failed: {gap:?}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when the other side of the socket is closed.
#[allow(clippy::disallowed_methods, reason = "main may be within a rule that takes for ever, and nothing here is worth a drop")]
fn end_with(socket: &OwnedFd) {
    loop {
        let mut polled = [PollFd::new(socket, PollFlags::empty())];
        let _ = poll(&mut polled, None);
        if polled.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)) {
            std::process::exit(0);
        }
    }
}

/// Nanoseconds after which a file was slow: the agent looks for others to take what waits behind it.
const SLOW: Nanos = CHILD_SLOW_MS * 1_000_000 / 2;
/// Bytes of a buffer that the next file gets too.
const BUFFER_KEPT: usize = 4 << 20;

struct Link<'a> {
    socket: Socket,
    clock: &'a SystemClock,
    /// Files that came before what was waited for.
    waiting: VecDeque<Asked>,
    /// Answers are sent and the bell is not rung.
    is_due: bool,
}

/// A file to scan.
struct Asked {
    number: u64,
    job: Box<Job>,
    unkept: Option<u64>,
    rings: bool,
    /// `None` if none came.
    fd: Option<OwnedFd>,
}

/// Until when.
fn for_ever(clock: &SystemClock) -> Until<'_> {
    Until { clock, deadline: None }
}

fn unasked(what: &str) -> Gap {
    Gap::Io(io::Error::other(what.to_owned()))
}

impl Link<'_> {
    fn hear(&mut self) -> Result<(Ask, Vec<OwnedFd>), Gap> {
        self.socket.receive(for_ever(self.clock))
    }
    /// The same, with a ring of the bell before it waits.
    fn next(&mut self) -> Result<(Ask, Vec<OwnedFd>), Gap> {
        if self.is_due {
            if let Some(next) = self.socket.received()? {
                return Ok(next);
            }
            self.ring();
        }
        self.hear()
    }
    fn ring(&mut self) {
        self.is_due = false;
        self.socket.ring();
    }
    fn tell(&mut self, tell: &Tell) -> Result<(), Gap> {
        self.socket.send(tell, &[], for_ever(self.clock)).map(drop)
    }

    fn serve(&mut self) -> Result<(), Gap> {
        let mut asked = self.hear()?;
        loop {
            match asked {
                (Ask::Compile { relaxed }, files) => {
                    self.tell(&Tell::Compiled { error: compile(files, relaxed).err() })?;
                    asked = self.hear()?;
                }
                (Ask::Load { limits }, mut files) => {
                    if let Some(bell) = files.pop() {
                        self.socket.take_bell(bell);
                    }
                    match open(files) {
                        // Scanners borrow the set, so they live as long as this call.
                        Ok(set) => asked = self.with(&set, &limits)?,
                        Err(error) => {
                            self.tell(&Tell::Loaded { error: Some(error) })?;
                            asked = self.hear()?;
                        }
                    }
                }
                (Ask::Scan { .. } | Ask::Cached { .. } | Ask::Forget, _) => return Err(unasked("asked to scan without rules")),
            }
        }
    }

    /// Scans with one set until another message comes, and gives that.
    fn with(&mut self, set: &Set, limits: &Limits) -> Result<(Ask, Vec<OwnedFd>), Gap> {
        let rules = settings::Rules {
            matches_max: limits.matches_max,
            match_bytes: limits.match_bytes,
            matches_reported: limits.matches_reported,
            ..settings::Rules::default()
        };
        let mut scanners = set.scanners(&rules);
        let (mut bytes, clock) = (Vec::new(), self.clock);
        self.tell(&Tell::Loaded { error: None })?;
        loop {
            let asked = match self.waiting.pop_front() {
                Some(asked) => asked,
                None => match self.next()? {
                    (Ask::Scan { number, job, unkept, rings }, mut files) => Asked { number, job, unkept, rings, fd: files.pop() },
                    (Ask::Forget, _) => {
                        self.forgot()?;
                        continue;
                    }
                    other => return Ok(other),
                },
            };
            let began = self.clock.mono();
            let Asked { number, job, unkept, rings, fd } = asked;
            let read = fd.ok_or_else(|| io::Error::other("no file came with the job")).and_then(|fd| read(&fd, &job, limits, &mut bytes));
            let answer = match read {
                Ok(Content::Whole) => {
                    let mut around = Around { link: self, unkept, gap: None };
                    let outcome = buffer::scan(&bytes, &job, limits, &mut scanners, &mut around, clock);
                    if let Some(gap) = around.gap {
                        return Err(gap);
                    }
                    Answered::Done(Box::new(outcome))
                }
                Ok(Content::Answer(outcome)) => Answered::Done(outcome),
                Ok(Content::Changed) => Answered::Changed,
                Err(error) => Answered::Unread(error.to_string()),
            };
            self.answer(number, answer, rings)?;
            if bytes.capacity() > BUFFER_KEPT {
                bytes = Vec::new();
            }
            if self.clock.mono().saturating_sub(began) >= SLOW {
                self.look()?;
            }
        }
    }

    /// Sends an answer, if need be a shorter one: places of matches go before what else is told of them.
    fn answer(&mut self, number: u64, answer: Answered, rings: bool) -> Result<(), Gap> {
        let mut answer = Tell::Answer { number, answer };
        for shorten in [shorten_places as fn(&mut Match), shorten_matches] {
            match (self.tell(&answer), &mut answer) {
                (Err(Gap::Long), Tell::Answer { answer: Answered::Done(outcome), .. }) => matches_of(outcome).for_each(shorten),
                (told, _) => {
                    self.is_due = true;
                    if rings {
                        self.ring();
                    }
                    return told;
                }
            }
        }
        self.is_due = true;
        self.tell(&answer)
    }

    /// After a file that took long, what waited behind it may have been given to somebody else.
    fn look(&mut self) -> Result<(), Gap> {
        while let Some((ask, files)) = self.socket.received()? {
            let is_last = matches!(ask, Ask::Forget);
            self.put(ask, files)?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// Keeps what is not for now.
    fn put(&mut self, ask: Ask, mut files: Vec<OwnedFd>) -> Result<(), Gap> {
        match ask {
            Ask::Scan { number, job, unkept, rings } => {
                self.waiting.push_back(Asked { number, job, unkept, rings, fd: files.pop() });
                Ok(())
            }
            Ask::Forget => self.forgot(),
            Ask::Compile { .. } | Ask::Load { .. } | Ask::Cached { .. } => Err(unasked("another message came in place of a file")),
        }
    }

    fn forgot(&mut self) -> Result<(), Gap> {
        self.waiting.clear();
        self.tell(&Tell::Forgot)?;
        self.ring();
        Ok(())
    }
}

/// Asks the agent. After a gap there is nobody to ask.
struct Around<'a, 'l> {
    link: &'a mut Link<'l>,
    unkept: Option<u64>,
    gap: Option<Gap>,
}

impl Around<'_, '_> {
    fn ask(&mut self, hashed: &Tell) -> Result<Option<Outcome>, Gap> {
        self.link.tell(hashed)?;
        self.link.ring();
        loop {
            match self.link.hear()? {
                (Ask::Cached { outcome }, _) => return Ok(outcome.map(|outcome| *outcome)),
                (ask, files) => self.link.put(ask, files)?,
            }
        }
    }
}

impl Surroundings for Around<'_, '_> {
    fn cached(&mut self, sha256: &str, size: u64, rules_version: &str) -> Option<Outcome> {
        if self.unkept == Some(size) {
            return None;
        }
        let hashed = Tell::Hashed { sha256: sha256.into(), size, rules_version: rules_version.into() };
        self.ask(&hashed).unwrap_or_else(|gap| {
            self.gap = Some(gap);
            None
        })
    }

    fn unpacking(&mut self) {
        if let Err(gap) = self.link.tell(&Tell::Unpacking) {
            self.gap = Some(gap);
        }
    }
}

/// A file as it was read.
enum Content {
    /// It is in the buffer.
    Whole,
    /// It is not read.
    Answer(Box<Outcome>),
    Changed,
}

/// Reads the whole file into one buffer, which everything else is about.
fn read(fd: &OwnedFd, job: &Job, limits: &Limits, bytes: &mut Vec<u8>) -> io::Result<Content> {
    let before = fstat(fd)?;
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
    bytes.clear();
    // One more than there should be, so that the end is seen without asking again.
    bytes.reserve_exact(usize::try_from(size).unwrap_or(0).saturating_add(1));
    let mut at = 0u64;
    loop {
        if bytes.capacity() == bytes.len() {
            // It grows while it is read, which is said below.
            bytes.reserve(64 << 10);
        }
        let room = bytes.capacity() - bytes.len();
        let got = match rustix::io::pread(fd, rustix::buffer::spare_capacity(bytes), at) {
            Err(rustix::io::Errno::INTR) => continue,
            got => got?,
        };
        at += u64::try_from(got).unwrap_or(0);
        if at > limits.file_bytes_max {
            return answer(Reason::TooLarge, at);
        }
        // A read that is short, and yet brought all that the file had, met its end; whether it still is the end is asked below.
        if got == 0 || (got < room && at >= size) {
            break;
        }
    }
    let after = fstat(fd)?;
    let identity = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
    if identity(&before) != identity(&after) || at != size {
        return Ok(Content::Changed);
    }
    Ok(Content::Whole)
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
