//! Who may ask what, and how often.
//!
//! | caller | keys file | becomes |
//! |---|---|---|
//! | any | none | `local`, who may do all: such a face is reached from this host only |
//! | shows a key or a certificate that stands in it, from where it may | read | that one |
//! | shows one that does not | read | refused: 401 |
//! | shows none | read | nobody: what is open is open |
//!
//! A key is never kept or shown: its SHA-256 is. All digests are compared, each in the same time.

pub mod keys;
mod limiter;

use std::{net::IpAddr, path::PathBuf, sync::Mutex};

use sha2::{Digest, Sha256};

pub use keys::{Keys, Proof};
pub use limiter::Rate;

use crate::{
    clock::Nanos,
    net::acceptor::{Acceptor, Files},
};
use limiter::Limiter;

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Has files scanned.
    Submitter,
    /// Scans.
    Worker,
    /// May do all.
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Submitter, Self::Worker, Self::Admin];

    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }
    /// By its word, or the word's first letter in upper case.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word || (word.len() == 1 && role.word().to_ascii_uppercase().starts_with(word)))
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Of the key.
    pub name: String,
    pub roles: Vec<Role>,
    /// The only worker for which it may speak.
    pub worker: Option<String>,
}

impl Who {
    /// Somebody on this host, where nobody needs a key.
    pub fn local() -> Self {
        Self { name: "local".into(), roles: vec![Role::Admin], worker: None }
    }
    /// True if one of its roles is this one, or admin.
    pub fn is(&self, role: Role) -> bool {
        self.roles.iter().any(|own| *own == role || *own == Role::Admin)
    }
    /// True if it may speak for a worker.
    pub fn is_worker(&self, id: &str) -> bool {
        self.is(Role::Admin) || (self.is(Role::Worker) && self.worker.as_deref().is_none_or(|own| own == id))
    }
}

/// `[api]`, as far as it is about access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub keys_file: Option<PathBuf>,
    pub tls: Option<Files>,
    /// Origins of pages that may ask; never with credentials.
    pub cors_origins: Vec<String>,
    /// Of each key and each address.
    pub rate: Rate,
    /// Registrations of workers from an address.
    pub register_rate: Rate,
    /// Wrong keys from an address.
    pub auth_failures: Rate,
}

impl Default for Settings {
    fn default() -> Self {
        let minute = |count| Rate { count, per_s: 60 };
        Self {
            keys_file: None,
            tls: None,
            cors_origins: Vec::new(),
            rate: minute(600),
            register_rate: minute(10),
            auth_failures: minute(10),
        }
    }
}

/// Why the face may not be opened. The command line exits with 78.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("api.keys_file: {0}")]
    Keys(String),
    #[error("api.tls: {0}")]
    Tls(String),
    /// It could be reached by anybody.
    #[error(
        "api.listen {0} can be reached from outside, and there are no keys; name a keys_file (`shipper keys new` makes keys), or listen on 127.0.0.1"
    )]
    NoKeys(String),
    /// Keys could be read on their way.
    #[error("api.listen {0} can be reached from outside, and keys would go there in the clear; set api.tls, or listen on 127.0.0.1")]
    NoTls(String),
}

impl Settings {
    /// Reads the files, secures the place, and says who may come.
    ///
    /// - `listen`: as in the config; for errors.
    ///
    /// # Errors
    /// As [`AccessError`] says: the face must not be opened then.
    pub fn guard(&self, bound: &mut super::Bound) -> Result<Gate, AccessError> {
        let keys = self.keys_file.as_deref().map(Keys::read).transpose().map_err(AccessError::Keys)?;
        if let Some(files) = &self.tls {
            bound.secure(Acceptor::read(files).map_err(AccessError::Tls)?);
        }
        if bound.is_reachable() {
            if keys.as_ref().is_none_or(Keys::is_empty) {
                return Err(AccessError::NoKeys(bound.address().to_owned()));
            }
            if !bound.is_secure() {
                return Err(AccessError::NoTls(bound.address().to_owned()));
            }
        }
        Ok(Gate::new(keys, self))
    }
}

/// Lets in.
#[derive(Debug)]
pub struct Gate {
    keys: Option<Keys>,
    origins: Vec<String>,
    limits: Mutex<Limits>,
}

#[derive(Debug)]
struct Limits {
    requests: Limiter,
    registrations: Limiter,
    failures: Limiter,
    /// Lines of the audit about those who are sent away.
    noted: Limiter,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The key or certificate is not known, or not from there.
    Wrong,
    /// Milliseconds to wait.
    TooMany(u64),
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(None, &Settings::default())
    }
}

impl Gate {
    /// - `keys`: `None` where everybody may do all.
    pub fn new(keys: Option<Keys>, settings: &Settings) -> Self {
        let limits = Limits {
            requests: Limiter::new(settings.rate),
            registrations: Limiter::new(settings.register_rate),
            failures: Limiter::new(settings.auth_failures),
            noted: Limiter::new(Rate { count: 10, per_s: 60 }),
        };
        Self { keys, origins: settings.cors_origins.clone(), limits: Mutex::new(limits) }
    }

    /// True where keys are asked for.
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// True if pages of this origin may ask.
    pub fn is_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|own| own == origin)
    }

    /// Lets a caller in, as somebody or as nobody.
    ///
    /// - `address`: `None` for a unix socket.
    /// - `key`, `certificate`: what was shown.
    ///
    /// # Errors
    /// Why not.
    pub fn enter(
        &self,
        address: Option<IpAddr>,
        key: Option<&[u8]>,
        certificate: Option<[u8; 32]>,
        now: Nanos,
    ) -> Result<Option<Who>, Denied> {
        let from = limiter::network(address);
        let mut limits = self.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Who shows nothing guesses nothing.
        if key.is_some() {
            limits.failures.look(&from, now).map_err(Denied::TooMany)?;
        }
        limits.requests.take(&from, now).map_err(Denied::TooMany)?;
        let Some(keys) = &self.keys else { return Ok(Some(Who::local())) };
        let shown = key.map(|key| Proof::Key(Sha256::digest(key).into())).or(certificate.map(Proof::Certificate));
        let Some(shown) = shown else { return Ok(None) };
        match keys.find(&shown, address) {
            Some(who) => {
                limits.requests.take(&format!("key {}", who.name), now).map_err(Denied::TooMany)?;
                Ok(Some(who))
            }
            // A certificate that stands nowhere is no guess at anything: it was verified.
            None if matches!(shown, Proof::Certificate(_)) => Ok(None),
            None => {
                let _ = limits.failures.take(&from, now);
                Err(Denied::Wrong)
            }
        }
    }

    /// Counts a registration.
    ///
    /// # Errors
    /// Milliseconds to wait.
    pub fn register(&self, address: Option<IpAddr>, now: Nanos) -> Result<(), u64> {
        let mut limits = self.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        limits.registrations.take(&limiter::network(address), now)
    }

    /// Whether the audit takes one more line about somebody who is sent away from there: a flood must not fill the store.
    pub fn is_noted(&self, address: Option<IpAddr>, now: Nanos) -> bool {
        let mut limits = self.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        limits.noted.take(&limiter::network(address), now).is_ok()
    }
}

#[cfg(test)]
mod tests;
