//! Where the face listens, and connections that cannot hold anybody up.

#![allow(clippy::disallowed_methods, reason = "real sockets: they are bound before anything runs, and timed by tokio's own clock")]

use std::{
    fmt, fs,
    future::Future,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};

use crate::limits;

/// Where the HTTP face listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why the face cannot listen. The command line exits with 69.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("cannot listen on {address}: another process does; stop it, or name another address in api.listen")]
    Taken { address: String },
    /// The path of the unix socket is something else.
    #[error("cannot listen on unix:{}: a file that is no socket has this name; remove it, or name another path in api.listen", path.display())]
    NoSocket { path: PathBuf },
    /// Anything else.
    #[error("cannot listen on {address}; check that it is this host's, and for a unix socket that its folder exists and is ours")]
    Io { address: String, source: io::Error },
}

/// A place to listen that is ours; connections wait until it is opened.
#[derive(Debug)]
pub struct Bound {
    ear: StdEar,
    address: String,
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum StdEar {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    /// Takes the place.
    ///
    /// A unix socket whose owner is gone is replaced; nothing else that has its name ever is. Ours
    /// may be used by our user and group (mode 0660).
    ///
    /// # Errors
    /// As [`BindError`] says.
    pub fn bind(listen: &Listen) -> Result<Self, BindError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken { address: listen.to_string() },
            _ => BindError::Io { address: listen.to_string(), source },
        };
        match listen {
            Listen::Tcp(address) => {
                let ear = std::net::TcpListener::bind(address).map_err(failed)?;
                ear.set_nonblocking(true).map_err(failed)?;
                let address = ear.local_addr().map_err(failed)?.to_string();
                Ok(Self { ear: StdEar::Tcp(ear), address, file: None })
            }
            Listen::Unix(path) => {
                clear(path)?;
                let ear = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
                let file = SocketFile::at(path).map_err(failed)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
                ear.set_nonblocking(true).map_err(failed)?;
                Ok(Self { ear: StdEar::Unix(ear), address: listen.to_string(), file: Some(file) })
            }
        }
    }

    /// As in `api.listen`; a port 0 is the one that the kernel chose.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Begins to hear; on a thread of tokio's.
    pub(super) fn open(self) -> io::Result<Ear> {
        let inner = match self.ear {
            StdEar::Tcp(ear) => Inner::Tcp(tokio::net::TcpListener::from_std(ear)?),
            StdEar::Unix(ear) => Inner::Unix(tokio::net::UnixListener::from_std(ear)?),
        };
        Ok(Ear { inner, room: Arc::new(Semaphore::new(limits::API_CONNECTIONS_MAX)), _file: self.file })
    }
}

/// Makes room for a socket: removes the one that a killed agent left.
fn clear(path: &Path) -> Result<(), BindError> {
    let address = || format!("unix:{}", path.display());
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        // If its folder is missing too, the bind says so.
        Err(_) => return Ok(()),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NoSocket { path: path.to_owned() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| BindError::Io { address: address(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(BindError::Io { address: address(), source: error }),
        _ => Err(BindError::Taken { address: address() }),
    }
}

/// The name of our socket, removed with it, if it is still ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Hears connections, no more at a time than there is room for.
pub(super) struct Ear {
    inner: Inner,
    room: Arc<Semaphore>,
    _file: Option<SocketFile>,
}

enum Inner {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Listener for Ear {
    type Io = Brief;
    type Addr = ();

    async fn accept(&mut self) -> (Brief, ()) {
        loop {
            let Ok(room) = self.room.clone().acquire_owned().await else { unreachable!("the semaphore is never closed") };
            let accepted: io::Result<Box<dyn Duplex>> = match &self.inner {
                Inner::Tcp(ear) => ear.accept().await.map(|(stream, _)| Box::new(stream) as _),
                Inner::Unix(ear) => ear.accept().await.map(|(stream, _)| Box::new(stream) as _),
            };
            match accepted {
                Ok(stream) => return (Brief::new(stream, room), ()),
                // No descriptors left, as a rule: the next second may have some.
                Err(error) => {
                    tracing::warn!(%error, "api cannot accept a connection");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that ends after a while, and after so many bytes read, whatever its peer does.
pub(super) struct Brief {
    stream: Box<dyn Duplex>,
    end: Pin<Box<Sleep>>,
    bytes_left: usize,
    _room: OwnedSemaphorePermit,
}

impl Brief {
    fn new(stream: Box<dyn Duplex>, room: OwnedSemaphorePermit) -> Self {
        let end = Box::pin(tokio::time::sleep(Duration::from_millis(limits::API_REQUEST_MS)));
        Self { stream, end, bytes_left: limits::API_REQUEST_BYTES_MAX, _room: room }
    }

    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Brief {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        match self.bytes_left.checked_sub(buf.filled().len() - before) {
            Some(left) => self.bytes_left = left,
            None => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Brief {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_answers_is_replaced_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let listen = Listen::Unix(path.clone());
        // As after a kill: the name is there, nobody listens.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bound = Bound::bind(&listen).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(Bound::bind(&listen), Err(BindError::Taken { .. })));
        drop(bound);
        assert!(!path.exists(), "ours is removed with us");

        fs::write(&path, "precious").unwrap();
        assert!(matches!(Bound::bind(&listen), Err(BindError::NoSocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();

        let bound = Bound::bind(&listen).unwrap();
        fs::rename(&path, dir.path().join("old.sock")).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists(), "another's socket of the same name stays");
        drop(other);

        let nowhere = Bound::bind(&Listen::Unix(dir.path().join("no/api.sock"))).unwrap_err();
        assert!(nowhere.to_string().contains("its folder exists"), "{nowhere}");
    }

    #[test]
    fn a_port_in_use_is_told_with_its_remedy() {
        let first = Bound::bind(&Listen::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        let address: SocketAddr = first.address().parse().unwrap();
        assert_eq!(
            Bound::bind(&Listen::Tcp(address)).unwrap_err().to_string(),
            format!("cannot listen on {address}: another process does; stop it, or name another address in api.listen")
        );
    }
}
