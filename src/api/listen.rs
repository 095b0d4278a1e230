//! Where the face listens, and connections that cannot hold anybody up.

#![allow(clippy::disallowed_methods, reason = "real sockets: they are bound before anything runs, and timed by tokio's own clock")]

use std::{
    collections::HashMap,
    fmt, fs,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};

use crate::{
    limits,
    net::acceptor::{Acceptor, Shown},
};

/// Where the HTTP face listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address: of loopback, or with TLS.
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
    tls: Option<Acceptor>,
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
                Ok(Self { ear: StdEar::Tcp(ear), address, file: None, tls: None })
            }
            Listen::Unix(path) => {
                clear(path)?;
                let ear = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
                let file = SocketFile::at(path).map_err(failed)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
                ear.set_nonblocking(true).map_err(failed)?;
                Ok(Self { ear: StdEar::Unix(ear), address: listen.to_string(), file: Some(file), tls: None })
            }
        }
    }

    /// As in `api.listen`; a port 0 is the one that the kernel chose.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Speaks nothing but TLS there.
    pub fn secure(&mut self, acceptor: Acceptor) {
        self.tls = Some(acceptor);
    }

    /// True if others than this host's can come here.
    pub fn is_reachable(&self) -> bool {
        match &self.ear {
            StdEar::Tcp(ear) => ear.local_addr().map_or(true, |address| !address.ip().is_loopback()),
            StdEar::Unix(_) => false,
        }
    }

    /// True if it speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Begins to hear; on a thread of tokio's.
    ///
    /// - `connections`: at a time.
    pub(super) fn open(self, connections: usize) -> io::Result<Ear> {
        let inner = match self.ear {
            StdEar::Tcp(ear) => Inner::Tcp(tokio::net::TcpListener::from_std(ear)?),
            StdEar::Unix(ear) => Inner::Unix(tokio::net::UnixListener::from_std(ear)?),
        };
        Ok(Ear { inner, room: Arc::new(Semaphore::new(connections)), crowd: Crowd::default(), tls: self.tls, _file: self.file })
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
    crowd: Crowd,
    tls: Option<Acceptor>,
    _file: Option<SocketFile>,
}

enum Inner {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Connections by address.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them.
struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// `None` if this address has as many as it may.
    fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_default();
        if *count >= limits::API_CONNECTIONS_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

impl Listener for Ear {
    type Io = Brief;
    type Addr = ();

    async fn accept(&mut self) -> (Brief, ()) {
        loop {
            let Ok(room) = self.room.clone().acquire_owned().await else { unreachable!("the semaphore is never closed") };
            let accepted: io::Result<(Box<dyn Duplex>, Option<IpAddr>)> = match &self.inner {
                Inner::Tcp(ear) => ear.accept().await.map(|(stream, peer)| (Box::new(stream) as _, Some(peer.ip().to_canonical()))),
                Inner::Unix(ear) => ear.accept().await.map(|(stream, _)| (Box::new(stream) as _, None)),
            };
            match accepted {
                Ok((stream, address)) => {
                    let place = address.map(|address| self.crowd.enter(address));
                    if matches!(place, Some(None)) {
                        continue;
                    }
                    let caller = Caller::new(address);
                    let stream = match &self.tls {
                        Some(tls) => Box::new(tls.accept(stream, caller.0.certificate.clone())) as _,
                        None => stream,
                    };
                    return (Brief::new(stream, caller, room, place.flatten()), ());
                }
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

/// Who is at the other end of a connection, and what that one may still do there.
#[derive(Clone, Debug)]
pub(super) struct Caller(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    /// `None` for a unix socket.
    address: Option<IpAddr>,
    certificate: Shown,
    begun: Instant,
    /// Milliseconds since then at which it ends.
    end_ms: AtomicU64,
    bytes_left: AtomicUsize,
}

impl Caller {
    fn new(address: Option<IpAddr>) -> Self {
        Self(Arc::new(Connection {
            address,
            certificate: Shown::default(),
            begun: Instant::now(),
            end_ms: AtomicU64::new(limits::API_REQUEST_MS),
            bytes_left: AtomicUsize::new(limits::API_REQUEST_BYTES_MAX),
        }))
    }
    /// `None` for a unix socket.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.0.address
    }
    /// SHA-256 of the certificate that was shown and verified.
    pub(super) fn certificate(&self) -> Option<[u8; 32]> {
        self.0.certificate.get().copied()
    }
    /// Lets the connection go on for so long from now, and send so many bytes more.
    pub(super) fn allow(&self, ms: u64, bytes: usize) {
        let now = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.end_ms.fetch_max(now.saturating_add(ms), Ordering::Relaxed);
        self.0.bytes_left.fetch_add(bytes, Ordering::Relaxed);
    }
    fn end(&self) -> Instant {
        self.0.begun + Duration::from_millis(self.0.end_ms.load(Ordering::Relaxed))
    }
    /// False if that is more than it may.
    fn takes(&self, bytes: usize) -> bool {
        self.0.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

impl Connected<IncomingStream<'_, Ear>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Ear>) -> Self {
        stream.io().caller.clone()
    }
}

/// A connection that ends after a while, and after so many bytes read, whatever its peer does.
pub(super) struct Brief {
    stream: Box<dyn Duplex>,
    end: Pin<Box<Sleep>>,
    caller: Caller,
    _room: OwnedSemaphorePermit,
    _place: Option<Place>,
}

impl Brief {
    fn new(stream: Box<dyn Duplex>, caller: Caller, room: OwnedSemaphorePermit, place: Option<Place>) -> Self {
        let end = Box::pin(tokio::time::sleep_until(caller.end().into()));
        Self { stream, end, caller, _room: room, _place: place }
    }

    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.end.as_mut().poll(cx).is_ready() {
            let end = tokio::time::Instant::from_std(self.caller.end());
            if end <= tokio::time::Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // It was allowed to go on since.
            self.end.as_mut().reset(end);
        }
        Ok(())
    }
}

impl AsyncRead for Brief {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if !self.caller.takes(buf.filled().len() - before) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long")));
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
