//! The way to the manager: a datagram socket, or a TCP connection with one record a line.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::SocketAddr,
    os::unix::fs::FileTypeExt,
    path::PathBuf,
    time::Duration,
};

use rustix::io::Errno;
use tokio::net::{TcpStream, UnixDatagram};

use crate::metrics::State;

/// How long a TCP connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// A unix datagram socket.
    Socket(PathBuf),
    /// TCP.
    Address(SocketAddr),
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// An open way.
pub(super) enum Link {
    Socket(UnixDatagram),
    /// With the bytes of the record under way that are out, and the line end that is still owed.
    Stream(TcpStream, usize),
}

/// What became of a record.
#[derive(Debug)]
pub(super) enum Sent {
    /// The kernel has it.
    Whole,
    /// Nobody reads fast enough: wait until it is writable.
    Full,
    /// The kernel has no memory: try again in a while.
    Short,
    /// The kernel will never take one so long.
    TooLong,
    /// The other side is gone.
    Broken(io::Error),
}

impl Link {
    /// Opens a way.
    ///
    /// # Errors
    /// As socket(2) and connect(2); [`ErrorKind::TimedOut`] if nobody answers.
    pub(super) async fn open(to: &To) -> io::Result<Self> {
        match to {
            To::Socket(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Self::Socket(socket))
            }
            To::Address(address) => {
                let stream = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await??;
                stream.set_nodelay(true)?;
                Ok(Self::Stream(stream, 0))
            }
        }
    }

    /// Tries to send a record, without waiting. One that is [`Sent::Full`] must be tried again
    /// before any other.
    pub(super) fn send(&mut self, record: &[u8]) -> Sent {
        match self {
            Self::Socket(socket) => match socket.try_send(record) {
                Ok(_) => Sent::Whole,
                Err(e) => judge(e),
            },
            Self::Stream(stream, out) => {
                // A connection that the other side closed takes one more write without a word.
                match stream.try_read(&mut [0; 64]) {
                    Ok(0) => return Sent::Broken(ErrorKind::UnexpectedEof.into()),
                    Err(e) if e.kind() != ErrorKind::WouldBlock => return Sent::Broken(e),
                    _ => {}
                }
                while *out <= record.len() {
                    let rest = record.get(*out..).unwrap_or_default();
                    match stream.try_write(if rest.is_empty() { b"\n" } else { rest }) {
                        Ok(0) => return Sent::Broken(ErrorKind::WriteZero.into()),
                        Ok(n) => *out += n,
                        Err(e) => return judge(e),
                    }
                }
                *out = 0;
                Sent::Whole
            }
        }
    }

    /// Waits until more can be sent.
    pub(super) async fn writable(&self) {
        // An error shows when sending.
        let _ = match self {
            Self::Socket(socket) => socket.writable().await,
            Self::Stream(stream, _) => stream.writable().await,
        };
    }

    /// Waits until the other side has closed; for ever where that cannot be seen.
    pub(super) async fn closed(&self) -> io::Error {
        let Self::Stream(stream, _) = self else { return std::future::pending().await };
        loop {
            if let Err(e) = stream.readable().await {
                return e;
            }
            match stream.try_read(&mut [0; 64]) {
                Ok(0) => return ErrorKind::UnexpectedEof.into(),
                Err(e) if e.kind() != ErrorKind::WouldBlock => return e,
                // What it says is nothing to us.
                _ => {}
            }
        }
    }
}

fn judge(e: io::Error) -> Sent {
    match e.raw_os_error().map(Errno::from_raw_os_error) {
        // tokio answers so by itself, without a number, until it is woken.
        _ if e.kind() == ErrorKind::WouldBlock => Sent::Full,
        Some(Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Sent::Short,
        Some(Errno::MSGSIZE) => Sent::TooLong,
        _ => Sent::Broken(e),
    }
}

/// How a sink stands that cannot reach `to`, with the remedy.
pub(super) fn standing(to: &To, e: &io::Error) -> State {
    let mut errno = e.raw_os_error().map(Errno::from_raw_os_error);
    if let (To::Socket(path), Some(Errno::CONNREFUSED)) = (to, errno)
        && std::fs::metadata(path).is_ok_and(|meta| !meta.file_type().is_socket())
    {
        // connect(2) says the same of a socket that nobody reads and of a plain file.
        errno = Some(Errno::NOTSOCK);
    }
    match (to, errno) {
        (To::Socket(_), Some(Errno::NOENT)) => {
            State::Retrying(format!("{to} is not there; start wazuh-manager, or name its queue with `path`"))
        }
        (To::Socket(_), Some(Errno::CONNREFUSED | Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN)) => {
            State::Retrying(format!("nobody reads {to}; start wazuh-manager, or name its queue with `path`"))
        }
        (To::Socket(_), Some(Errno::ACCESS | Errno::PERM)) => State::Holding(format!(
            "this user may not write to {to}; add it to group wazuh (usermod -aG wazuh shipper) and start shipper again"
        )),
        (To::Socket(_), Some(Errno::PROTOTYPE | Errno::NOTSOCK)) => State::Holding(format!(
            "{to} is no datagram socket; name Wazuh's queue with `path` (it is queue/sockets/queue where Wazuh lives)"
        )),
        _ => State::Retrying(format!("cannot reach {to}: {e}; start what listens there, or name another")),
    }
}
