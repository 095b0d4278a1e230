//! Messages between agent and scan child over one socket: a length, JSON, and open files beside it.

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketAddrUnix, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socket_with, socketpair,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    clock::{Clock, Nanos},
    limits::CHILD_FRAME_BYTES,
};

/// Open files that one message may bring.
const FILES: usize = 2;
const HEAD: usize = 4;

/// One end.
pub(super) struct Socket {
    fd: OwnedFd,
}

/// Both ends; the second is to become a child's standard input.
pub(super) fn pair() -> io::Result<(Socket, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok((Socket { fd: ours }, theirs))
}

/// Our end of a connection to whoever starts children.
pub(super) fn connect(path: &Path) -> io::Result<Socket> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(Socket { fd })
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
    #[cfg(feature = "scan")]
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Sends a message whole.
    ///
    /// # Errors
    /// [`Gap`]; after it the socket is of no use, but for [`Gap::Long`].
    pub(super) fn send(&self, message: &impl Serialize, files: &[BorrowedFd<'_>], until: Until<'_>) -> Result<(), Gap> {
        let body = serde_json::to_vec(message).map_err(|error| Gap::Io(error.into()))?;
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= CHILD_FRAME_BYTES);
        let length = length.ok_or(Gap::Long)?;
        let head = length.to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let mut sent = loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(files));
            }
            match sendmsg(&self.fd, &[IoSlice::new(&head), IoSlice::new(&body)], &mut control, flags) {
                Err(Errno::AGAIN | Errno::INTR) => self.ready(PollFlags::OUT, until)?,
                sent => break sent?,
            }
        };
        while sent < HEAD + body.len() {
            // The head is shorter than any buffer, so it has gone with the files.
            match send(&self.fd, body.get(sent.saturating_sub(HEAD)..).unwrap_or_default(), flags) {
                Err(Errno::AGAIN | Errno::INTR) => self.ready(PollFlags::OUT, until)?,
                more => sent += more?,
            }
        }
        Ok(())
    }

    /// The next message, and the files that came with it.
    pub(super) fn receive<T: DeserializeOwned>(&self, until: Until<'_>) -> Result<(T, Vec<OwnedFd>), Gap> {
        let mut head = [0; HEAD];
        let (mut got, mut files) = (0, Vec::new());
        while got < HEAD {
            self.ready(PollFlags::IN, until)?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let rest = head.get_mut(got..).unwrap_or_default();
            let read = match recvmsg(&self.fd, &mut [IoSliceMut::new(rest)], &mut control, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                read => read?.bytes,
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    files.extend(fds);
                }
            }
            if read == 0 {
                return Err(Gap::Closed);
            }
            got += read;
        }
        let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
        if length > CHILD_FRAME_BYTES {
            return Err(Gap::Long);
        }
        let mut body = vec![0; length];
        let mut got = 0;
        while got < length {
            let rest = body.get_mut(got..).unwrap_or_default();
            match recv(&self.fd, rest, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => self.ready(PollFlags::IN, until)?,
                Ok((0, _)) => return Err(Gap::Closed),
                read => got += read?.0,
            }
        }
        let message = serde_json::from_slice(&body).map_err(|error| Gap::Io(error.into()))?;
        Ok((message, files))
    }

    /// Waits until the socket can be read or written.
    fn ready(&self, what: PollFlags, until: Until<'_>) -> Result<(), Gap> {
        loop {
            let left = match until.deadline {
                None => None,
                Some(deadline) => {
                    let left = deadline.checked_sub(until.clock.mono()).filter(|left| *left > 0).ok_or(Gap::Late)?;
                    Some(Timespec::try_from(Duration::from_nanos(left)).map_err(|_| Gap::Late)?)
                }
            };
            let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), what)];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
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
        let (ours, theirs) = pair().unwrap();
        let theirs = Socket { fd: theirs };
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
        let (ours, _theirs) = pair().unwrap();
        let until = Until { clock: &clock, deadline: Some(clock.mono() + 30_000_000) };
        assert!(matches!(ours.receive::<u8>(until), Err(Gap::Late)));
        let text = "x".repeat(8 << 20);
        let until = Until { clock: &clock, deadline: Some(clock.mono() + 30_000_000) };
        assert!(matches!(ours.send(&text, &[], until), Err(Gap::Late)), "nobody reads");
    }
}
