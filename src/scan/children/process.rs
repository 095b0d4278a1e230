//! One child as its thread sees it: started, given rules and files, listened to, killed when it is late.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child, Command, Stdio},
};

use serde::de::DeserializeOwned;

use super::{
    Program,
    message::{Ask, Tell},
    socket::{self, Gap, Socket, Until},
};
use crate::{
    clock::{Clock, Nanos, SystemClock},
    limits::{CHILD_LOAD_S, RULE_COMPILE_S},
    scan::{
        buffer::{Job, Limits},
        outcome::Outcome,
    },
};

pub(super) const SECOND: Nanos = 1_000_000_000;
/// Nanoseconds for a message to go out: the little that a child has not read yet never fills the socket.
const SEND: Nanos = 5 * SECOND;

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
        self.ask(&Ask::Compile { relaxed }, &[sources.as_fd(), out.as_fd()], until)?;
        match self.hear(until)? {
            Tell::Compiled { error } => error.map_or(Ok(()), Err),
            other => Err(format!("answered something else: {other:?}")),
        }
    }

    pub(super) fn load(&mut self, generation: u64, limits: &Limits, set: &OwnedFd) -> Result<(), String> {
        let until = self.clock.mono() + CHILD_LOAD_S * SECOND;
        let bell = self.socket.hang_bell().map_err(|error| format!("no bell: {error}"))?;
        self.ask(&Ask::Load { limits: limits.clone() }, &[set.as_fd(), bell.as_fd()], until)?;
        match self.hear(until)? {
            Tell::Loaded { error: None } => {
                self.generation = generation;
                Ok(())
            }
            Tell::Loaded { error: Some(error) } => Err(error),
            other => Err(format!("answered something else: {other:?}")),
        }
    }

    /// Gives a file to scan after those it has. Gives how many bytes that took.
    ///
    /// - `number`: by which its answer is known.
    /// - `unkept`: a size for whose files nothing is kept.
    /// - `rings`: its answer ends [`wait`](Self::wait).
    ///
    /// # Errors
    /// In words: the child is of no use any more.
    pub(super) fn scan(&mut self, number: u64, job: &Job, fd: &OwnedFd, unkept: Option<u64>, rings: bool) -> Result<usize, String> {
        self.files += 1;
        let until = self.clock.mono() + SEND;
        self.ask(&Ask::Scan { number, job, unkept, rings }, &[fd.as_fd()], until)
    }

    /// # Errors
    /// In words: the child is of no use any more.
    pub(super) fn tell_kept(&mut self, outcome: Option<Outcome>) -> Result<(), String> {
        let until = self.clock.mono() + SEND;
        self.ask(&Ask::<&Job>::Cached { outcome: outcome.map(Box::new) }, &[], until).map(drop)
    }

    /// Takes back what it has not begun; [`Tell::Forgot`] says that it knows.
    ///
    /// # Errors
    /// In words: the child is of no use any more.
    pub(super) fn forget(&mut self) -> Result<(), String> {
        let until = self.clock.mono() + SEND;
        self.ask(&Ask::<&Job>::Forget, &[], until).map(drop)
    }

    /// Waits for its bell, or its end, until then.
    pub(super) fn wait(&mut self, until: Nanos) -> Result<(), String> {
        let waited = self.socket.wait(Until { clock: &self.clock, deadline: Some(until) });
        waited.map_err(|gap| self.end_of(&gap))
    }

    /// What it has said.
    ///
    /// # Errors
    /// In words: it has said all that it ever will.
    pub(super) fn said(&mut self) -> Result<Option<Tell>, String> {
        match self.socket.received() {
            Ok(said) => Ok(said.map(|(tell, _)| tell)),
            Err(gap) => Err(self.end_of(&gap)),
        }
    }

    pub(super) fn now(&self) -> Nanos {
        self.clock.mono()
    }

    fn ask(&mut self, ask: &Ask<&Job>, files: &[BorrowedFd<'_>], deadline: Nanos) -> Result<usize, String> {
        let sent = self.socket.send(ask, files, Until { clock: &self.clock, deadline: Some(deadline) });
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
