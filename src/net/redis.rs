//! Redis as a cache beside us: whatever goes wrong there is a miss. The only module that names the
//! crate `redis`.
//!
//! - One connection, on which everything is pipelined; made anew for ever, with growing waits, and
//!   nobody is kept waiting for it: while it is away an answer is "not there" at once.
//! - What is wrong is logged once, and once that it is well again.
//! - The password is read anew at each connection, so a new one is taken without a restart.
//!
//! Invariant: no error of Redis leaves this module but as an [`Away`].

#![allow(clippy::disallowed_methods, reason = "the CA is a file of the operator, read when a connection is made")]

pub mod commands;
mod find;
pub mod stream;

use std::{cell::RefCell, fmt, path::PathBuf, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates,
    aio::MultiplexedConnection,
};

pub use find::slot_of;

use super::{
    backoff::{Backoff, Rolls},
    secret::Secret,
};
use crate::clock::Nanos;

/// How to reach it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub place: Place,
    /// ACL user; `None`: the default user.
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub db: u32,
    pub connect_timeout: Duration,
    /// For one round trip.
    pub timeout: Duration,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Tcp {
        host: String,
        port: u16,
    },
    /// TLS, verified by the CAs in this PEM file or by the system's.
    Tls {
        host: String,
        port: u16,
        ca: Option<PathBuf>,
    },
    Unix(PathBuf),
    /// The primary that sentinels name.
    Sentinel {
        sentinels: Hosts,
        /// Name of the primary, as the sentinels know it.
        primary: String,
        /// Login at the sentinels.
        user: Option<String>,
        password_file: Option<PathBuf>,
    },
    /// The node of a cluster that has this slot.
    Cluster {
        nodes: Hosts,
        slot: u16,
    },
}

/// Servers of one kind, any of which may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// At least one: host and port.
    pub all: Vec<(String, u16)>,
    /// TLS to each of them and to what they name, verified by the CAs in this PEM file or by the system's.
    pub tls: Option<Option<PathBuf>>,
}

impl Hosts {
    /// One of them.
    fn place(&self, host: &str, port: u16) -> Place {
        let host = host.to_owned();
        match &self.tls {
            Some(ca) => Place::Tls { host, port, ca: ca.clone() },
            None => Place::Tcp { host, port },
        }
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (host, port)) in self.all.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp { host, port } => write!(f, "redis://{host}:{port}"),
            Place::Tls { host, port, .. } => write!(f, "rediss://{host}:{port}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Sentinel { sentinels, primary, .. } => {
                write!(f, "redis{}+sentinel://{sentinels}/{primary}", if sentinels.tls.is_some() { "s" } else { "" })
            }
            Place::Cluster { nodes, .. } => write!(f, "redis{}+cluster://{nodes}", if nodes.tls.is_some() { "s" } else { "" }),
        }
    }
}

impl Place {
    /// Reads `redis://host[:port]`, `rediss://host[:port]` (TLS) or `unix:/path`. Users, passwords and
    /// databases have settings of their own.
    ///
    /// # Errors
    /// What is wrong, and the remedy.
    pub fn parse(text: &str, ca: Option<PathBuf>) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return if path.is_absolute() {
                Ok(Place::Unix(path))
            } else {
                Err("names no absolute path; write unix:/run/redis/redis.sock".into())
            };
        }
        let (rest, tls) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err("is no address of a Redis; write redis://host:6379, rediss://host:6379 (TLS) or unix:/path".into()),
        };
        if rest.contains('@') {
            return Err("holds a user or password; use username and password_file".into());
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err("holds a path; use db for the database".into());
        }
        let (host, port) = host_and_port(rest, 6379)?;
        Ok(if tls { Place::Tls { host, port, ca } } else { Place::Tcp { host, port } })
    }

    /// The same, and `redis+sentinel://host[:port],…/NAME` and `redis+cluster://host[:port],…`, which are `rediss+…`
    /// with TLS. Slot and login at the sentinels are the caller's to fill in.
    ///
    /// # Errors
    /// What is wrong, and the remedy.
    pub fn parse_any(text: &str, ca: Option<PathBuf>) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else { return Self::parse(text, ca) };
        let (tls, kind) = match scheme {
            "redis+sentinel" => (None, 26379),
            "rediss+sentinel" => (Some(ca), 26379),
            "redis+cluster" => (None, 6379),
            "rediss+cluster" => (Some(ca), 6379),
            _ => return Self::parse(text, ca),
        };
        if rest.contains('@') {
            return Err("holds a user or password; use username and password_file".into());
        }
        let (hosts, name) = rest.split_once('/').unwrap_or((rest, ""));
        let all = hosts.split(',').map(|host| host_and_port(host.trim(), kind)).collect::<Result<Vec<_>, _>>()?;
        let hosts = Hosts { all, tls };
        match (kind, name) {
            (26379, "") => Err("names no primary; write redis+sentinel://host:26379/NAME, with the name that the sentinels know".into()),
            (26379, name) if name.contains('/') => Err("holds a path behind the primary's name; use db for the database".into()),
            (26379, name) => Ok(Place::Sentinel { sentinels: hosts, primary: name.to_owned(), user: None, password_file: None }),
            (_, "") => Ok(Place::Cluster { nodes: hosts, slot: 0 }),
            _ => Err("holds a path, and a cluster has one database only; remove it".into()),
        }
    }

    /// The CA that vouches for its servers, if it is a file of its own.
    pub fn ca(&self) -> Option<&std::path::Path> {
        match self {
            Place::Tls { ca, .. } => ca.as_deref(),
            Place::Sentinel { sentinels: hosts, .. } | Place::Cluster { nodes: hosts, .. } => hosts.tls.as_ref()?.as_deref(),
            Place::Tcp { .. } | Place::Unix(_) => None,
        }
    }

    /// True if what goes there is encrypted.
    pub fn is_tls(&self) -> bool {
        match self {
            Place::Tls { .. } => true,
            Place::Sentinel { sentinels: hosts, .. } | Place::Cluster { nodes: hosts, .. } => hosts.tls.is_some(),
            Place::Tcp { .. } | Place::Unix(_) => false,
        }
    }

    /// Hosts to which bytes go in plain text; what they name is not known yet.
    pub fn plain_hosts(&self) -> Vec<&str> {
        match self {
            Place::Tcp { host, .. } => vec![host],
            Place::Sentinel { sentinels: hosts, .. } | Place::Cluster { nodes: hosts, .. } if hosts.tls.is_none() => {
                hosts.all.iter().map(|(host, _)| host.as_str()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(text: &str, port: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| format!("{port:?} is no port"))?),
        _ => (text, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err("names no host; write redis://host:6379".into());
    }
    Ok((host, port))
}

/// It cannot be asked now: count a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away;

/// A value with its key and how long it lives, for [`Redis::put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Vec<u8>,
    /// Seconds; at least 1.
    pub lives: u64,
}

/// A Redis that may be away.
pub struct Redis {
    settings: Settings,
    link: RefCell<Link>,
}

struct Link {
    connection: Option<MultiplexedConnection>,
    /// True while somebody makes the connection; others count a miss in that time.
    is_connecting: bool,
    next_try: Nanos,
    backoff: Backoff,
    rolls: Rolls,
    /// Why it does not read, and why it does not write.
    trouble: [Option<String>; 2],
}

/// Characters that are shown of what Redis says.
const SAID_CHARS: usize = 200;
const READS: usize = 0;
const WRITES: usize = 1;

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", self.settings.place)
    }
}

impl Redis {
    /// One that connects at the first use.
    ///
    /// - `seed`: for the jitter between tries.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let link = Link {
            connection: None,
            is_connecting: false,
            next_try: 0,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            rolls: Rolls::new(seed),
            trouble: [None, None],
        };
        Self { settings, link: RefCell::new(link) }
    }

    /// The values of these keys, in their order.
    ///
    /// - `now`: monotonic time.
    ///
    /// # Errors
    /// [`Away`]: whatever went wrong, or no connection and it is too soon to try again.
    pub async fn get(&self, now: Nanos, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Away> {
        let mut connection = self.connection(now).await?;
        let answer = redis::cmd("MGET").arg(keys).query_async::<Vec<Option<Vec<u8>>>>(&mut connection).await;
        match answer {
            Ok(values) if values.len() == keys.len() => {
                self.is_well(READS);
                Ok(values)
            }
            Ok(values) => {
                Err(self.is_ill(READS, now, format!("{} answers {} values to {} keys", self.settings.place, values.len(), keys.len())))
            }
            Err(error) => Err(self.failed(READS, now, &error)),
        }
    }

    /// Stores values, each with its own life, in one pipeline.
    ///
    /// # Errors
    /// [`Away`]; some of them may have been stored.
    pub async fn put(&self, now: Nanos, entries: &[Entry]) -> Result<(), Away> {
        let mut connection = self.connection(now).await?;
        let mut pipe = redis::pipe();
        for entry in entries {
            pipe.cmd("SET").arg(&entry.key).arg(&entry.value).arg("EX").arg(entry.lives.max(1));
        }
        // Of many errors, each with its own text, the first says enough.
        let answers = pipe.ignore_errors().query_async::<Vec<RedisResult<redis::Value>>>(&mut connection).await;
        match answers.and_then(|answers| answers.into_iter().collect::<RedisResult<Vec<_>>>()) {
            Ok(_) => {
                self.is_well(WRITES);
                Ok(())
            }
            Err(error) => Err(self.failed(WRITES, now, &error)),
        }
    }

    /// What is wrong with it, if anything is.
    pub fn trouble(&self) -> Option<String> {
        self.link.borrow().trouble.iter().flatten().next().cloned()
    }

    async fn connection(&self, now: Nanos) -> Result<MultiplexedConnection, Away> {
        {
            let mut link = self.link.borrow_mut();
            if let Some(connection) = &link.connection {
                return Ok(connection.clone());
            }
            if link.is_connecting || now < link.next_try {
                return Err(Away);
            }
            link.is_connecting = true;
        }
        // Given up in the middle, nobody would ever try again.
        let _guard = Connecting(&self.link);
        let made = self.connect().await;
        match made {
            Ok(connection) => {
                let mut link = self.link.borrow_mut();
                link.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(why) => Err(self.is_ill(READS, now, why)),
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let Settings { place, connect_timeout, timeout, .. } = &self.settings;
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(*connect_timeout)).set_response_timeout(Some(*timeout));
        client(&self.settings)?.get_multiplexed_async_connection_with_config(&config).await.map_err(|e| explain(place, &e))
    }

    fn failed(&self, side: usize, now: Nanos, error: &RedisError) -> Away {
        let why = explain(&self.settings.place, error);
        if is_an_answer(error) {
            // The connection is good, Redis will not do it: a replica, a full memory, no permission.
            self.is_told(side, Some(why));
            return Away;
        }
        self.is_ill(side, now, why)
    }

    /// The connection is lost, or was never made.
    fn is_ill(&self, side: usize, now: Nanos, why: String) -> Away {
        {
            let mut link = self.link.borrow_mut();
            link.connection = None;
            let roll = link.rolls.roll();
            link.next_try = now.saturating_add(link.backoff.wait(roll));
        }
        self.is_told(side, Some(why));
        Away
    }

    fn is_well(&self, side: usize) {
        self.link.borrow_mut().backoff.reset();
        self.is_told(side, None);
    }

    /// Notes how a side stands and logs the change, once.
    fn is_told(&self, side: usize, trouble: Option<String>) {
        let mut link = self.link.borrow_mut();
        let was = std::mem::replace(&mut link.trouble[side], trouble.clone());
        let place = &self.settings.place;
        match (was, trouble) {
            (None, Some(why)) => tracing::warn!(%place, why, "the shared cache is not used; lookups go on without it"),
            (Some(_), None) => tracing::info!(%place, "the shared cache is used again"),
            _ => {}
        }
    }
}

/// A client for these settings; it opens nothing yet. The CA and the password are read anew each time.
fn client(settings: &Settings) -> Result<Client, String> {
    let Settings { place, user, password_file, db, .. } = settings;
    let mut certificates = TlsCertificates { client_tls: None, root_cert: None };
    let address = match place {
        Place::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        Place::Unix(path) => ConnectionAddr::Unix(path.clone()),
        Place::Tls { host, port, ca } => {
            if let Some(ca) = ca {
                let pem = std::fs::read(ca)
                    .map_err(|e| format!("cannot read the CA in {}: {e}; name a PEM file that the agent's user may read", ca.display()))?;
                certificates.root_cert = Some(pem);
            }
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
        }
        Place::Sentinel { .. } | Place::Cluster { .. } => return Err(format!("{place}: others have to be asked where it is")),
    };
    let told = |error: &RedisError| explain(place, error);
    let mut info = address.into_connection_info().map_err(|e| told(&e))?;
    let mut login = redis::RedisConnectionInfo::default().set_db(i64::from(*db));
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(path) = password_file {
        login = login.set_password(Secret::from_file(path)?.reveal());
    }
    info = info.set_redis_settings(login);
    super::http::use_ring();
    let client = match place {
        Place::Tls { .. } => Client::build_with_tls(info, certificates),
        _ => Client::open(info),
    };
    client.map_err(|e| told(&e))
}

struct Connecting<'l>(&'l RefCell<Link>);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().is_connecting = false;
    }
}

/// True if Redis itself said no, on a connection that works.
fn is_an_answer(error: &RedisError) -> bool {
    error.code().is_some() && !error.is_connection_dropped() && !error.is_timeout() && !error.is_io_error()
}

/// An error in an operator's words.
fn explain(place: &Place, error: &RedisError) -> String {
    let remedy = match error.code() {
        _ if error.is_timeout() => "it does not answer in time: raise redis.timeout if it is only slow",
        Some("NOAUTH") => "it wants a password: set password_file",
        Some("WRONGPASS") => "user or password is refused: check username and password_file",
        Some("NOPERM") => "the user may not do this: allow MGET and SET on the keys of redis.prefix",
        Some("READONLY") => "it is a replica: name the primary",
        Some("OOM") => "its memory is full: raise maxmemory, or let it evict",
        _ if error.kind() == ErrorKind::AuthenticationFailed => "user or password is refused: check username and password_file",
        _ => "see its log",
    };
    let said: String = error.to_string().chars().take(SAID_CHARS).collect();
    match error.code() {
        Some(code) if !said.contains(code) => format!("{place}: {code}: {said}; {remedy}"),
        _ => format!("{place}: {said}; {remedy}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port| Ok(Place::Tcp { host: host.into(), port });
        let rows = [
            ("redis://r", tcp("r", 6379)),
            ("redis://r:7/", tcp("r", 7)),
            ("redis://[::1]:7", tcp("::1", 7)),
            ("redis://[::1]", tcp("::1", 6379)),
            ("rediss://r:8", Ok(Place::Tls { host: "r".into(), port: 8, ca: None })),
            ("unix:/run/r.sock", Ok(Place::Unix("/run/r.sock".into()))),
            ("unix:///run/r.sock", Ok(Place::Unix("/run/r.sock".into()))),
            ("redis://u:p@r", Err("holds a user or password; use username and password_file".into())),
            ("redis://r/1", Err("holds a path; use db for the database".into())),
            ("redis://:1", Err("names no host; write redis://host:6379".into())),
            ("redis://r:x", Err("\"x\" is no port".into())),
            ("unix:r", Err("names no absolute path; write unix:/run/redis/redis.sock".into())),
            ("http://r", Err("is no address of a Redis; write redis://host:6379, rediss://host:6379 (TLS) or unix:/path".into())),
        ];
        for (text, expected) in rows {
            assert_eq!(Place::parse(text, None), expected, "{text}");
        }
    }

    #[test]
    fn sentinels_and_nodes_of_a_cluster_are_read() {
        let hosts = |all: &[(&str, u16)], tls| Hosts { all: all.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect(), tls };
        let sentinel = |sentinels| Ok(Place::Sentinel { sentinels, primary: "mymaster".into(), user: None, password_file: None });
        let cluster = |nodes| Ok(Place::Cluster { nodes, slot: 0 });
        let ca = Some(PathBuf::from("/ca"));
        let rows = [
            ("redis+sentinel://a,b:7/mymaster", sentinel(hosts(&[("a", 26379), ("b", 7)], None))),
            ("rediss+sentinel://[::1]:7/mymaster", sentinel(hosts(&[("::1", 7)], Some(ca.clone())))),
            ("redis+cluster://a:1, b", cluster(hosts(&[("a", 1), ("b", 6379)], None))),
            ("rediss+cluster://a/", cluster(hosts(&[("a", 6379)], Some(ca.clone())))),
            ("redis://r:7", Ok(Place::Tcp { host: "r".into(), port: 7 })),
        ];
        for (text, expected) in rows {
            assert_eq!(Place::parse_any(text, ca.clone()), expected, "{text}");
        }
        for (text, why) in [
            ("redis+sentinel://a", "names no primary"),
            ("redis+sentinel://a/m/1", "use db for the database"),
            ("redis+cluster://a/1", "one database only"),
            ("redis+cluster://a,,b", "names no host"),
            ("redis+sentinel://u:p@a/m", "use username and password_file"),
            ("redis+ring://a", "is no address of a Redis"),
        ] {
            assert!(Place::parse_any(text, None).unwrap_err().contains(why), "{text}");
        }
        let place = Place::parse_any("rediss+sentinel://[::1]:7,b/mymaster", ca).unwrap();
        assert_eq!(place.to_string(), "rediss+sentinel://[::1]:7,b:26379/mymaster");
        assert!(place.is_tls() && place.plain_hosts().is_empty() && place.ca().is_some());
    }

    #[test]
    fn one_that_is_not_there_is_away_and_is_not_tried_again_at_once() {
        let timeout = Duration::from_secs(5);
        let place = Place::Unix("/nowhere/redis.sock".into());
        let redis = Redis::new(Settings { place, user: None, password_file: None, db: 0, connect_timeout: timeout, timeout }, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(redis.get(0, &["a".into()]).await, Err(Away));
            let next = redis.link.borrow().next_try;
            assert!(next >= 500_000_000, "{next}");
            assert!(redis.trouble().unwrap().starts_with("unix:/nowhere/redis.sock: "));
            assert_eq!(redis.put(next - 1, &[]).await, Err(Away));
            assert_eq!(redis.link.borrow().next_try, next, "it was not tried");
            assert_eq!(redis.get(next, &["a".into()]).await, Err(Away));
            assert!(redis.link.borrow().next_try > next);
        });
    }
}
