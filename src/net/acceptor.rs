//! TLS of a server of ours: the certificate that it shows, and the one that a client may show.
//!
//! The handshake is part of the first read, so that a slow client holds up nobody but itself.
//!
//! Refuses to know what is served, and what a client may do. Start at [`Acceptor::read`].

#![allow(clippy::disallowed_methods, reason = "certificates are files of the operator, read before anything is served")]

use std::{
    fmt, fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};

/// Files of PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate and those between it and its root.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Who signs certificates of clients; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// Speaks TLS with those who connect.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

/// SHA-256 of a client's certificate, once it was verified.
pub type Shown = Arc<OnceLock<[u8; 32]>>;

impl Acceptor {
    /// Reads certificate and key. A client's certificate is asked for where there is a CA, and none is demanded: a key may stand for it.
    ///
    /// # Errors
    /// Which file is wrong, and the remedy.
    pub fn read(files: &Files) -> Result<Self, String> {
        let chain = certificates(&files.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?).map_err(|_| {
            format!("{} holds no private key as PEM that can be read without a password; write it there", files.key.display())
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let config = match &files.client_ca {
            None => config.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path)? {
                    roots
                        .add(root)
                        .map_err(|error| format!("{} holds a certificate that is no CA ({error}); correct it", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated().build();
                config.with_client_cert_verifier(verifier.map_err(|error| format!("{} cannot verify clients ({error})", path.display()))?)
            }
        };
        let mut config = config.with_single_cert(chain, key).map_err(|error| {
            format!(
                "{} and {} do not belong together ({error}); give the key of that certificate",
                files.cert.display(),
                files.key.display()
            )
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Begins the handshake, which goes on as the stream is read.
    ///
    /// - `shown`: gets the digest of the client's certificate, if there is one.
    pub fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, shown: Shown) -> Secured<S> {
        Secured { state: State::Greeting(Box::new(self.0.accept(stream))), shown }
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path)
        .map_err(|error| format!("{} cannot be read: {error}; write the file there, readable for the agent's user", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(path)?).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{} holds no certificate as PEM (-----BEGIN CERTIFICATE-----); write it there", path.display())),
    }
}

/// A stream that was, or is about to be, greeted.
pub struct Secured<S> {
    state: State<S>,
    shown: Shown,
}

enum State<S> {
    Greeting(Box<Accept<S>>),
    Open(Box<TlsStream<S>>),
    /// The handshake failed, and said so once.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Secured<S> {
    fn open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<S>>>> {
        if let State::Greeting(accept) = &mut self.state {
            match ready!(Pin::new(accept.as_mut()).poll(cx)) {
                Ok(stream) => {
                    if let Some(first) = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
                        let _ = self.shown.set(Sha256::digest(first).into());
                    }
                    self.state = State::Open(Box::new(stream));
                }
                Err(error) => {
                    self.state = State::Closed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        match &mut self.state {
            State::Open(stream) => Poll::Ready(Ok(Pin::new(stream.as_mut()))),
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.open(cx))?.poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.open(cx))?.poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.open(cx))?.poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}
