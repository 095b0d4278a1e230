//! An HTTP client for APIs: one base URL, JSON in and out, every answer bounded. The only module
//! that names reqwest.
//!
//! - Certificates are verified unless the operator says otherwise; a CA of his own replaces the
//!   system's.
//! - No redirect is followed: it would carry the key to another host.
//! - No proxy from the environment; one is used only where it is configured.
//! - An answer longer than agreed is cut off, whatever its headers promise.
//!
//! Invariant: no text that leaves this module holds a header's value.

#![allow(clippy::disallowed_methods, reason = "the CA is a file of the operator, read when a client is built")]

use std::{error::Error as _, path::PathBuf, time::Duration};

use super::secret::Secret;

/// How to reach an API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://host[:port][/path]`, without a slash at the end.
    pub base: String,
    /// False takes any certificate.
    pub verify: bool,
    /// PEM file with the CAs that vouch for the server; `None`: the system's.
    pub ca: Option<PathBuf>,
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
        use_ring();
        let wrong = HttpError::Settings;
        reqwest::Url::parse(&settings.base).map_err(|e| wrong(format!("url {:?} is none: {e}", settings.base)))?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("shipper/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            .pool_max_idle_per_host(settings.idle_connections)
            .no_proxy();
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
    pub async fn call(&self, call: Call, headers: &[(&'static str, &Secret)]) -> Result<Reply, HttpError> {
        let url = format!("{}{}", self.base, call.path);
        let mut request = match call.json {
            Some(json) => self.inner.post(url).header("Content-Type", "application/json").body(json),
            None => self.inner.get(url),
        };
        request = request.header("Accept", "application/json");
        for (name, secret) in headers {
            let mut value = reqwest::header::HeaderValue::from_str(secret.reveal()).map_err(|_| {
                HttpError::Settings(format!(
                    "the value for header {name} holds characters that no header may; write the key alone into its file"
                ))
            })?;
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        let mut answer = request.send().await.map_err(|e| self.failed(e))?;
        let status = answer.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| self.failed(e))? {
            if body.len() + part.len() > self.body_max {
                return Err(HttpError::TooLong(self.body_max));
            }
            body.extend_from_slice(&part);
        }
        Ok(Reply { status, headers, body })
    }

    /// What a failure is to the operator.
    fn failed(&self, error: reqwest::Error) -> HttpError {
        let error = error.without_url();
        let base = &self.base;
        if let Some(tls) = tls_error(&error) {
            let (what, remedy) = match tls {
                rustls::Error::InvalidCertificate(_) => {
                    ("its certificate is not trusted", "name its CA in tls.ca, and use the name that the certificate has")
                }
                rustls::Error::InvalidMessage(_) => ("it does not speak TLS", "use http:// or another port"),
                _ => ("the TLS handshake fails", "see the server's log"),
            };
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
mod tests {
    use super::*;

    fn settings(base: &str) -> Settings {
        let timeout = Duration::from_secs(5);
        Settings {
            base: base.into(),
            verify: true,
            ca: None,
            proxy: None,
            connect_timeout: timeout,
            timeout,
            body_max: 10,
            idle_connections: 1,
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn wrong_settings_are_told_before_anybody_connects() {
        let wrong = |change: &dyn Fn(&mut Settings)| {
            let mut settings = settings("https://misp.example");
            change(&mut settings);
            Client::new(&settings).unwrap_err().to_string()
        };
        assert_eq!(wrong(&|s| s.base = "misp".into()), "url \"misp\" is none: relative URL without a base");
        let gone = wrong(&|s| s.ca = Some("/nowhere/ca.pem".into()));
        assert!(gone.starts_with("tls.ca /nowhere/ca.pem: cannot be read: No such file"), "{gone}");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let path = empty.path().to_owned();
        assert!(wrong(&|s| s.ca = Some(path.clone())).contains("holds no certificate; give a PEM file"));
    }

    #[test]
    fn nobody_there_is_away_and_its_text_holds_no_secret() {
        let error = run(async {
            let client = Client::new(&settings("http://127.0.0.1:9")).unwrap();
            let key = Secret::new("sesame".into());
            client.call(Call { path: "/".into(), json: None }, &[("Authorization", &key)]).await.unwrap_err()
        });
        assert!(matches!(&error, HttpError::Away(text) if text.starts_with("cannot connect to http://127.0.0.1:9: ")), "{error:?}");
        assert!(!format!("{error:?}{error}").contains("sesame"));
    }

    #[test]
    fn a_key_with_a_line_end_inside_is_a_matter_of_settings() {
        let error = run(async {
            let client = Client::new(&settings("http://127.0.0.1:9")).unwrap();
            client.call(Call { path: "/".into(), json: None }, &[("Authorization", &Secret::new("a\nb".into()))]).await.unwrap_err()
        });
        assert!(matches!(error, HttpError::Settings(_)), "{error:?}");
    }
}
