//! An HTTP client for APIs and webhooks: one base URL, every answer bounded. The only module that
//! names reqwest.
//!
//! - Certificates are verified unless the operator says otherwise; a CA of his own replaces the
//!   system's.
//! - No redirect is followed: it would carry the key to another host.
//! - No proxy from the environment; one is used only where it is configured.
//! - An answer longer than agreed is cut off, whatever its headers promise.
//!
//! Invariant: no text that leaves this module holds a header's value.

#![allow(clippy::disallowed_methods, reason = "the CA is a file of the operator, read when a client is built")]

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::fmt::rfc2822;

use super::secret::Secret;
use crate::{clock::Nanos, limits};

/// How to reach an API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://host[:port][/path]`, without a slash at the end.
    pub base: String,
    /// False takes any certificate.
    pub verify: bool,
    /// PEM file with the CAs that vouch for the server; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// PEM files with our certificate and its key, for a server that wants one.
    pub own: Option<(PathBuf, PathBuf)>,
    /// `http://host:port` of a proxy.
    pub proxy: Option<String>,
    pub connect_timeout: Duration,
    /// For a whole call, its answer read.
    pub timeout: Duration,
    /// Bytes of an answer.
    pub body_max: usize,
    /// Connections kept open without a call.
    pub idle_connections: usize,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Nobody answers there, or not in time, or the answer broke off: try again later.
    #[error("{0}")]
    Away(String),
    /// It can never work so: a person must mend settings or certificates.
    #[error("{0}")]
    Settings(String),
    /// More bytes than agreed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// We made a request that is none.
    #[error("{0}")]
    Ours(String),
}

/// One delivery: bytes for a receiver that answers by its status.
#[derive(Clone, Debug)]
pub struct Post<'p> {
    /// Path and query, appended to the base; empty, or begins with a slash or question mark. Never shown.
    pub path: &'p Secret,
    pub content_type: &'p str,
    pub body: Vec<u8>,
    /// Names in any case, and values.
    pub headers: &'p [(String, Secret)],
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Appended to the base; begins with a slash.
    pub path: String,
    /// JSON to be sent by POST; `None` is a GET.
    pub json: Option<Vec<u8>>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    ///
    /// - `name`: in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// How long the server wants us to wait, in nanoseconds; at most [`limits::RETRY_AFTER_MS_MAX`].
    ///
    /// - `now`: wall time.
    ///
    /// # Source
    /// RFC 9110 §10.2.3: `Retry-After = HTTP-date / delay-seconds`.
    pub fn retry_after(&self, now: Nanos) -> Option<Nanos> {
        const SECOND: Nanos = 1_000_000_000;
        let text = self.header("retry-after")?.trim();
        let wait = match text.parse::<u64>() {
            Ok(seconds) => seconds.saturating_mul(SECOND),
            Err(_) => {
                let at = rfc2822::parse(text).ok()?.timestamp().as_nanosecond();
                Nanos::try_from(at).ok()?.saturating_sub(now)
            }
        };
        Some(wait.min(limits::RETRY_AFTER_MS_MAX * 1_000_000))
    }
}

/// A client with its kept connections. Cheap to clone; to be used within tokio.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    base: String,
    body_max: usize,
}

/// Makes rustls use ring, for every client of this process.
pub fn use_ring() {
    // An error says that somebody did it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Client {
    /// A client; connects to nobody yet.
    ///
    /// # Errors
    /// [`HttpError::Settings`] for a CA file that cannot be read, or a URL that is none.
    pub fn new(settings: &Settings) -> Result<Self, HttpError> {
        Self::to(settings, None)
    }

    /// The same, which calls the host of the URL at this address and no other, whatever its name resolves to now.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn at(settings: &Settings, address: IpAddr) -> Result<Self, HttpError> {
        Self::to(settings, Some(address))
    }

    fn to(settings: &Settings, address: Option<IpAddr>) -> Result<Self, HttpError> {
        use_ring();
        let wrong = HttpError::Settings;
        let url = reqwest::Url::parse(&settings.base).map_err(|e| wrong(format!("url {:?} is none: {e}", settings.base)))?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("shipper/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            .pool_max_idle_per_host(settings.idle_connections)
            .no_proxy();
        if let (Some(address), Some(host)) = (address, url.domain()) {
            // Port 0: that of the URL stays.
            builder = builder.resolve(host, SocketAddr::new(address, 0));
        }
        if let Some(proxy) = &settings.proxy {
            let proxy = reqwest::Proxy::all(proxy).map_err(|e| wrong(format!("proxy is no address of a proxy: {e}")))?;
            builder = builder.proxy(proxy);
        }
        if let Some(path) = &settings.ca {
            let cannot =
                |e: &dyn std::fmt::Display| wrong(format!("tls.ca {}: {e}; give a PEM file with the CA of the server", path.display()));
            let pem = std::fs::read(path).map_err(|e| cannot(&format!("cannot be read: {e}")))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| cannot(&e))?;
            if certificates.is_empty() {
                return Err(cannot(&"holds no certificate"));
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some((cert, key)) = &settings.own {
            builder = builder.identity(identity(cert, key).map_err(wrong)?);
        }
        if !settings.verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let inner = builder.build().map_err(|e| wrong(format!("cannot make a client: {}", chain(&e))))?;
        Ok(Self { inner, base: settings.base.clone(), body_max: settings.body_max })
    }

    /// Makes one call and reads the whole answer.
    ///
    /// - `headers`: sent beside `Accept` and, with a body, `Content-Type`.
    ///
    /// # Errors
    /// Only where there is no answer; one with any status is a [`Reply`].
    pub async fn call(&self, call: Call, headers: &[(&str, &Secret)]) -> Result<Reply, HttpError> {
        let url = format!("{}{}", self.base, call.path);
        let request = match call.json {
            Some(json) => self.inner.post(url).header("Content-Type", "application/json").body(json),
            None => self.inner.get(url),
        };
        self.ask(request, headers).await
    }

    /// As [`call`](Self::call), by PUT.
    ///
    /// # Errors
    /// Only where there is no answer; one with any status is a [`Reply`].
    pub async fn put(&self, path: &str, json: Vec<u8>, headers: &[(&str, &Secret)]) -> Result<Reply, HttpError> {
        let request = self.inner.put(format!("{}{path}", self.base)).header("Content-Type", "application/json").body(json);
        self.ask(request, headers).await
    }

    /// As [`call`](Self::call), by DELETE without a body: what is to go is named by the path.
    ///
    /// # Errors
    /// Only where there is no answer; one with any status is a [`Reply`].
    pub async fn remove(&self, path: &str, headers: &[(&str, &Secret)]) -> Result<Reply, HttpError> {
        self.ask(self.inner.delete(format!("{}{path}", self.base)), headers).await
    }

    /// As [`call`](Self::call), by DELETE with a body of JSON: what an API wants gone is named in it.
    ///
    /// # Errors
    /// Only where there is no answer; one with any status is a [`Reply`].
    pub async fn delete(&self, path: &str, json: Vec<u8>, headers: &[(&str, &Secret)]) -> Result<Reply, HttpError> {
        let request = self.inner.delete(format!("{}{path}", self.base)).header("Content-Type", "application/json").body(json);
        self.ask(request, headers).await
    }

    async fn ask(&self, mut request: reqwest::RequestBuilder, headers: &[(&str, &Secret)]) -> Result<Reply, HttpError> {
        request = request.header("Accept", "application/json");
        for (name, secret) in headers {
            request = request.header(*name, value_of(name, secret)?);
        }
        let mut answer = request.send().await.map_err(|e| self.failed(e))?;
        let (status, headers) = told(&answer);
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| self.failed(e))? {
            if body.len() + part.len() > self.body_max {
                return Err(HttpError::TooLong(self.body_max));
            }
            body.extend_from_slice(&part);
        }
        Ok(Reply { status, headers, body })
    }

    /// Delivers, and reads of the answer's body what there is, up to the agreed length: the status has
    /// said all, so a body that is longer or breaks off changes nothing.
    ///
    /// # Errors
    /// Only where there is no answer; one with any status is a [`Reply`].
    pub async fn post(&self, post: Post<'_>) -> Result<Reply, HttpError> {
        let url = format!("{}{}", self.base, post.path.reveal());
        let mut request = self.inner.post(url).header("Content-Type", post.content_type).body(post.body);
        for (name, secret) in post.headers {
            request = request.header(name, value_of(name, secret)?);
        }
        let mut answer = request.send().await.map_err(|e| self.failed(e))?;
        let (status, headers) = told(&answer);
        let mut body = Vec::new();
        while let Ok(Some(part)) = answer.chunk().await {
            body.extend_from_slice(&part[..part.len().min(self.body_max - body.len())]);
            if body.len() == self.body_max {
                break;
            }
        }
        Ok(Reply { status, headers, body })
    }

    /// What a failure is to the operator.
    fn failed(&self, error: reqwest::Error) -> HttpError {
        let error = error.without_url();
        let base = &self.base;
        if error.is_builder() {
            return HttpError::Ours(format!("a request to {base} cannot be made: {}", chain(&error)));
        }
        if let Some(tls) = tls_error(&error) {
            let (what, remedy) = tls_words(tls);
            return HttpError::Settings(format!("{base}: {what}: {tls}; {remedy}"));
        }
        let cause = chain(&error);
        HttpError::Away(if error.is_connect() {
            format!("cannot connect to {base}: {cause}; check url, network and firewall")
        } else if error.is_timeout() {
            format!("{base} does not answer in time; raise timeout if it is only slow")
        } else if error.is_body() || error.is_decode() {
            format!("{base} broke off in its answer: {cause}")
        } else {
            format!("{base} gives no answer: {cause}")
        })
    }
}

/// Our certificate and its key.
fn identity(cert: &Path, key: &Path) -> Result<reqwest::Identity, String> {
    let mut pem = Vec::new();
    for (setting, path) in [("tls.cert", cert), ("tls.key", key)] {
        let bytes = std::fs::read(path)
            .map_err(|e| format!("{setting} {}: cannot be read: {e}; give a PEM file, readable for the agent's user", path.display()))?;
        pem.extend(bytes);
        pem.push(b'\n');
    }
    reqwest::Identity::from_pem(&pem).map_err(|e| {
        let (cert, key) = (cert.display(), key.display());
        format!("tls.cert {cert} with tls.key {key}: {}; give PEM files, the key without a password", chain(&e))
    })
}

/// A header's value, which is shown to nobody.
fn value_of(name: &str, secret: &Secret) -> Result<reqwest::header::HeaderValue, HttpError> {
    let mut value = reqwest::header::HeaderValue::from_str(secret.reveal()).map_err(|_| {
        HttpError::Settings(format!("the value for header {name} holds characters that no header may; write the key alone into its file"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Status and headers of an answer.
fn told(answer: &reqwest::Response) -> (u16, Vec<(String, String)>) {
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answer.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    (answer.status().as_u16(), headers)
}

/// The innermost causes, outermost first.
fn chain(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { error.to_string() } else { parts.join(": ") }
}

/// What a failed handshake is to the operator: what is wrong, and the remedy.
fn tls_words(error: &rustls::Error) -> (&'static str, &'static str) {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    match error {
        Error::InvalidCertificate(what) => match what {
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                ("its certificate is expired", "have it renewed there, or set the clock of this host right")
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                ("its certificate is not valid yet", "set the clock of this host right, or have it made anew there")
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                ("its certificate has another name", "use a name in url that the certificate has, or have it made anew there")
            }
            Certificate::UnknownIssuer => ("nobody that we know vouches for its certificate", "name its CA in tls.ca"),
            Certificate::Revoked => ("its certificate is revoked", "have a new one made there"),
            _ => ("its certificate is not trusted", "name its CA in tls.ca, and see the certificate itself"),
        },
        Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => ("it wants a client's certificate and got none, or one that it does not take", "see tls.cert and tls.key"),
        Error::InvalidMessage(_) => ("it does not speak TLS", "use http:// or another port"),
        _ => ("the TLS handshake fails", "see the server's log"),
    }
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls);
        }
        // An I/O error hides what it wraps from `source`.
        next = match inner {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests;
