//! Messages between agent and scan child over one socket: a length, how many open files come with it, JSON.
//!
//! One call sends a message, and one receives as many as have come: what is not asked for yet is kept here. A *bell* beside the
//! socket wakes who waits for messages, so that not each of them does.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, send, sendmsg, socket_with, socketpair,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    clock::{Clock, Nanos},
    limits::CHILD_FRAME_BYTES,
};

/// Open files that one message may bring.
const FILES: usize = 2;
/// Length of the body, and number of files.
const HEAD: usize = 5;
/// Bytes that are received at once; a longer message gets room of its own, for as long as it is here.
const ROOM: usize = 64 << 10;

/// One end.
pub(super) struct Socket {
    fd: OwnedFd,
    /// Wakes the other side, or us.
    bell: Option<OwnedFd>,
    /// What was received is `from..to` of it.
    received: Vec<u8>,
    from: usize,
    to: usize,
    /// Files of messages in `received`, in their order.
    files: VecDeque<OwnedFd>,
    /// The message that is sent.
    sent: Vec<u8>,
}

/// Both ends; the second is to become a child's standard input.
pub(super) fn pair() -> io::Result<(Socket, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok((Socket::new(ours), theirs))
}

/// Our end of a connection to whoever starts children.
pub(super) fn connect(path: &Path) -> io::Result<Socket> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(Socket::new(fd))
}

/// Why nothing came.
#[derive(Debug)]
pub(super) enum Gap {
    /// Not until the deadline.
    Late,
    /// The other side has gone.
    Closed,
    /// More than one message may have; nothing of it was sent.
    Long,
    Io(io::Error),
}

impl From<io::Error> for Gap {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<Errno> for Gap {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// How long to wait: by this clock until then; `None` is for ever.
#[derive(Clone, Copy)]
pub(super) struct Until<'a> {
    pub clock: &'a dyn Clock,
    pub deadline: Option<Nanos>,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, bell: None, received: Vec::new(), from: 0, to: 0, files: VecDeque::new(), sent: Vec::new() }
    }

    /// A new bell for this side to wait by. Gives the other end of it, for the other side.
    pub(super) fn hang_bell(&mut self) -> io::Result<OwnedFd> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let theirs = bell.try_clone()?;
        self.bell = Some(bell);
        Ok(theirs)
    }

    /// Takes the bell that this side is to ring.
    #[cfg(feature = "scan")]
    pub(super) fn take_bell(&mut self, bell: OwnedFd) {
        self.bell = Some(bell);
    }

    /// Wakes who waits in [`wait`](Self::wait) on the other side.
    pub(super) fn ring(&self) {
        if let Some(bell) = &self.bell {
            // Full is rung.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }

    /// Waits until the bell is rung or the other side has gone; messages alone do not end it. Not an error: the deadline.
    pub(super) fn wait(&self, until: Until<'_>) -> Result<(), Gap> {
        let Some(bell) = &self.bell else { return self.ready(PollFlags::IN, until) };
        let mut fds = [PollFd::new(bell, PollFlags::IN), PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::empty())];
        match wait_for(&mut fds, until) {
            Err(Gap::Late) => Ok(()),
            waited => {
                // Before messages are read, so that none is missed.
                let _ = rustix::io::read(bell, &mut [0u8; 8]);
                waited
            }
        }
    }

    /// Sends a message whole. Gives how many bytes it had.
    ///
    /// # Errors
    /// [`Gap`]; after it the socket is of no use, but for [`Gap::Long`].
    pub(super) fn send(&mut self, message: &impl Serialize, files: &[BorrowedFd<'_>], until: Until<'_>) -> Result<usize, Gap> {
        let mut bytes = std::mem::take(&mut self.sent);
        bytes.clear();
        bytes.extend([0; HEAD]);
        serde_json::to_writer(&mut bytes, message).map_err(|error| Gap::Io(error.into()))?;
        let body = bytes.len() - HEAD;
        let length = u32::try_from(body).ok().filter(|_| body <= CHILD_FRAME_BYTES).ok_or(Gap::Long)?;
        for (byte, head) in bytes.iter_mut().zip(length.to_le_bytes().into_iter().chain(u8::try_from(files.len()))) {
            *byte = head;
        }
        self.send_bytes(&bytes, files, until)?;
        let length = bytes.len();
        if bytes.capacity() <= ROOM {
            self.sent = bytes;
        }
        Ok(length)
    }

    fn send_bytes(&self, bytes: &[u8], files: &[BorrowedFd<'_>], until: Until<'_>) -> Result<(), Gap> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = bytes.get(sent..).unwrap_or_default();
            // The head is shorter than any buffer, so it has gone with the files.
            let more = if sent == 0 && !files.is_empty() {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(files));
                sendmsg(&self.fd, &[IoSlice::new(rest)], &mut control, flags)
            } else {
                send(&self.fd, rest, flags)
            };
            match more {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // Nobody reads, and may be waiting for it.
                    self.ring();
                    self.ready(PollFlags::OUT, until)?;
                }
                more => sent += more?,
            }
        }
        Ok(())
    }

    /// The next message, and the files that came with it.
    pub(super) fn receive<T: DeserializeOwned>(&mut self, until: Until<'_>) -> Result<(T, Vec<OwnedFd>), Gap> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            // For ever needs no look before it.
            let is_patient = until.deadline.is_none();
            if !self.fill(is_patient)? && !is_patient {
                self.ready(PollFlags::IN, until)?;
            }
        }
    }

    /// The next message if it has come already.
    pub(super) fn received<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, Gap> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if !self.fill(false)? {
                return Ok(None);
            }
        }
    }

    /// The first message of what was received, if it is whole.
    fn take<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, Gap> {
        let bytes = self.received.get(self.from..self.to).unwrap_or_default();
        let Some((&[a, b, c, d, files], rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > CHILD_FRAME_BYTES {
            return Err(Gap::Long);
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(|error| Gap::Io(error.into()))?;
        self.from += HEAD + length;
        let files = usize::from(files);
        if files > self.files.len() {
            return Err(Gap::Io(io::Error::other("a file did not come with its message")));
        }
        Ok(Some((message, self.files.drain(..files).collect())))
    }

    /// Receives what there is. `false` if there is nothing; waits for something if `is_patient`.
    fn fill(&mut self, is_patient: bool) -> Result<bool, Gap> {
        self.make_room();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | if is_patient { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let room = self.received.get_mut(self.to..).unwrap_or_default();
        let got = match recvmsg(&self.fd, &mut [IoSliceMut::new(room)], &mut control, flags) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            got => got?,
        };
        if got.flags.contains(ReturnFlags::CTRUNC) {
            // A file of a message was dropped: the next one would be taken for it.
            return Err(Gap::Io(io::Error::other("an open file got lost on its way")));
        }
        let got = got.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.files.extend(fds);
            }
        }
        self.to += got;
        if got == 0 { Err(Gap::Closed) } else { Ok(true) }
    }

    /// Moves the part of a message that is here to the start, with room for its rest behind it.
    fn make_room(&mut self) {
        self.received.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let wanted = match self.received.get(..self.to).and_then(|bytes| bytes.first_chunk::<4>()) {
            Some(length) => usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX).min(CHILD_FRAME_BYTES) + HEAD,
            None => 0,
        };
        let wanted = wanted.max(ROOM);
        if self.received.len() < wanted {
            self.received.resize(wanted, 0);
        } else if self.received.len() > wanted {
            self.received.truncate(wanted.max(self.to));
            self.received.shrink_to_fit();
        }
    }

    /// Waits until the socket can be read or written.
    fn ready(&self, what: PollFlags, until: Until<'_>) -> Result<(), Gap> {
        wait_for(&mut [PollFd::from_borrowed_fd(self.fd.as_fd(), what)], until)
    }
}

fn wait_for(fds: &mut [PollFd<'_>], until: Until<'_>) -> Result<(), Gap> {
    loop {
        let left = match until.deadline {
            None => None,
            Some(deadline) => {
                let left = deadline.checked_sub(until.clock.mono()).filter(|left| *left > 0).ok_or(Gap::Late)?;
                Some(Timespec::try_from(Duration::from_nanos(left)).map_err(|_| Gap::Late)?)
            }
        };
        match poll(fds, left.as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek, Write},
    };

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn messages_and_files_arrive_whole_and_in_order() {
        let clock = SystemClock::new();
        let until = Until { clock: &clock, deadline: Some(20_000_000_000) };
        let (mut ours, theirs) = pair().unwrap();
        let mut theirs = Socket::new(theirs);
        let long = "x".repeat(3 << 20);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        let sent = long.clone();
        let writer = std::thread::spawn(move || {
            let clock = SystemClock::new();
            let until = Until { clock: &clock, deadline: None };
            ours.send(&"first", &[], until).unwrap();
            ours.send(&sent, &[file.as_fd(), file.as_fd()], until).unwrap();
            ours.send(&3, &[], until).unwrap();
        });
        assert_eq!(theirs.receive::<String>(until).unwrap().0, "first");
        let (text, mut files) = theirs.receive::<String>(until).unwrap();
        assert!(text == long && files.len() == 2);
        let mut file = File::from(files.remove(0));
        let mut inside = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut inside).unwrap();
        assert_eq!(inside, "inside");
        assert_eq!(theirs.receive::<u8>(until).unwrap().0, 3);
        writer.join().unwrap();
        assert!(matches!(theirs.receive::<u8>(until), Err(Gap::Closed)));
        assert!(matches!(theirs.send(&1, &[], until), Err(Gap::Closed)));
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let clock = SystemClock::new();
        let (mut ours, _theirs) = pair().unwrap();
        let until = Until { clock: &clock, deadline: Some(clock.mono() + 30_000_000) };
        assert!(matches!(ours.receive::<u8>(until), Err(Gap::Late)));
        let text = "x".repeat(8 << 20);
        let until = Until { clock: &clock, deadline: Some(clock.mono() + 30_000_000) };
        assert!(matches!(ours.send(&text, &[], until), Err(Gap::Late)), "nobody reads");
    }
}
