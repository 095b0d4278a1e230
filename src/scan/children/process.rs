//! One child as its thread sees it: started, given rules and files, listened to, killed when it is late.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
};

use serde::de::DeserializeOwned;

use super::{
    Cached, Lost, Program, Why,
    message::{Ask, Tell},
    socket::{self, Gap, Socket, Until},
};
use crate::{
    clock::{Clock, Nanos, SystemClock},
    limits::{CHILD_GRACE_S, CHILD_LOAD_S, RULE_COMPILE_S},
    scan::{
        buffer::{Job, Limits},
        outcome::Outcome,
    },
};

const SECOND: Nanos = 1_000_000_000;
/// Nanoseconds between two looks at whether the agent wants to end, while a file is scanned.
const LOOK: Nanos = SECOND / 4;

/// A running child.
pub(super) struct Process {
    /// `None` for one that a unit of the system has started: it ends when its socket is closed.
    child: Option<Child>,
    socket: Socket,
    clock: SystemClock,
    /// Files since its start.
    pub files: u32,
    /// Of the rules it has.
    pub generation: u64,
}

impl Process {
    /// # Errors
    /// The program cannot be run, or nobody listens.
    pub(super) fn start(program: &Program) -> io::Result<Self> {
        if let Some(path) = &program.socket {
            let connected = socket::connect(path);
            let socket = connected
                .map_err(|error| io::Error::new(error.kind(), format!("{error} ({}; is shipper-scan.socket started?)", path.display())))?;
            return Ok(Self { child: None, socket, clock: SystemClock::new(), files: 0, generation: 0 });
        }
        let (socket, theirs) = socket::pair()?;
        // Nothing of ours goes along: no environment of ours, no descriptors but the socket and standard error.
        let child = Command::new(&program.path)
            .args(&program.args)
            .env_clear()
            // The agent's allocator takes a GiB of address space at once otherwise, which is all that a child may have.
            .env("MIMALLOC_ARENA_RESERVE", "32MiB")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Self { child: Some(child), socket, clock: SystemClock::new(), files: 0, generation: 0 })
    }

    /// 0 for one that was not started here.
    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// # Errors
    /// In words: the child died, was too slow, or could not.
    pub(super) fn compile(&mut self, relaxed: bool, sources: &OwnedFd, out: &OwnedFd) -> Result<(), String> {
        let until = self.clock.mono() + RULE_COMPILE_S * SECOND;
        self.ask(&Ask::Compile { relaxed }, &[sources, out], until)?;
        match self.hear(until)? {
            Tell::Compiled { error } => error.map_or(Ok(()), Err),
            other => Err(format!("answered something else: {other:?}")),
        }
    }

    pub(super) fn load(&mut self, generation: u64, limits: &Limits, set: &OwnedFd) -> Result<(), String> {
        let until = self.clock.mono() + CHILD_LOAD_S * SECOND;
        self.ask(&Ask::Load { limits: limits.clone() }, &[set], until)?;
        match self.hear(until)? {
            Tell::Loaded { error: None } => {
                self.generation = generation;
                Ok(())
            }
            Tell::Loaded { error: Some(error) } => Err(error),
            other => Err(format!("answered something else: {other:?}")),
        }
    }

    /// Scans one file. After [`Why::Child`], [`Why::Timeout`] and [`Why::Closed`] the process is of no use.
    pub(super) fn scan(
        &mut self,
        job: Job,
        fd: &OwnedFd,
        timeout_s: u64,
        cached: &Cached,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Outcome, Lost> {
        self.files += 1;
        let began = self.clock.mono();
        let mut deadline = began + (timeout_s + CHILD_GRACE_S) * SECOND;
        self.ask(&Ask::Scan { job: Box::new(job) }, &[fd], deadline).map_err(|text| Lost { why: Why::Child, text })?;
        loop {
            let look = (self.clock.mono() + LOOK).min(deadline);
            let tell: Tell = match self.socket.receive(Until { clock: &self.clock, deadline: Some(look) }) {
                Ok((tell, _)) => tell,
                Err(Gap::Late) if is_over() => return Err(Lost { why: Why::Closed, text: "the scan was ended".into() }),
                Err(Gap::Late) if self.clock.mono() < deadline => continue,
                Err(Gap::Late) => {
                    let text = format!("the scan child was killed after {} s", (self.clock.mono() - began) / SECOND);
                    return Err(Lost { why: Why::Timeout, text });
                }
                Err(gap) => return Err(Lost { why: Why::Child, text: self.end_of(&gap) }),
            };
            match tell {
                Tell::Hashed { sha256, size, rules_version } => {
                    let outcome = cached(&sha256, size, &rules_version).map(Box::new);
                    self.ask(&Ask::Cached { outcome }, &[], deadline).map_err(|text| Lost { why: Why::Child, text })?;
                }
                // All members together have three times as long as a file.
                Tell::Unpacking => deadline = began + (3 * timeout_s + CHILD_GRACE_S) * SECOND,
                Tell::Done { outcome } => return Ok(*outcome),
                Tell::Changed => return Err(Lost { why: Why::Changed, text: "the file changed while it was read".into() }),
                Tell::Unread { error } => return Err(Lost { why: Why::Io, text: format!("the file cannot be read: {error}") }),
                Tell::Compiled { .. } | Tell::Loaded { .. } => {
                    return Err(Lost { why: Why::Child, text: "the scan child answered something else".into() });
                }
            }
        }
    }

    fn ask(&mut self, ask: &Ask, files: &[&OwnedFd], deadline: Nanos) -> Result<(), String> {
        let files: Vec<_> = files.iter().map(|fd| fd.as_fd()).collect();
        let sent = self.socket.send(ask, &files, Until { clock: &self.clock, deadline: Some(deadline) });
        sent.map_err(|gap| self.end_of(&gap))
    }

    fn hear<T: DeserializeOwned>(&mut self, deadline: Nanos) -> Result<T, String> {
        let heard = self.socket.receive(Until { clock: &self.clock, deadline: Some(deadline) });
        heard.map(|(tell, _)| tell).map_err(|gap| self.end_of(&gap))
    }

    /// What became of the child, for people.
    fn end_of(&mut self, gap: &Gap) -> String {
        match gap {
            Gap::Late => "the scan child did not answer in time".into(),
            Gap::Long => "a message to or from the scan child is too long".into(),
            Gap::Io(error) => format!("the socket to the scan child failed: {error}"),
            Gap::Closed => match self.child.as_mut().map(Child::wait) {
                Some(Ok(status)) => format!("the scan child ended: {status}"),
                Some(Err(error)) => format!("the scan child ended: {error}"),
                None => "the scan child ended; its unit says why: journalctl -u 'shipper-scan@*'".into(),
            },
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It holds nothing: what it was at is given back by whoever drops it.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
