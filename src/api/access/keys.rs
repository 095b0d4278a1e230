//! The keys file: one key a line, which holds no key.
//!
//! ```text
//! # name  role[,role]  SHA-256 of the key, or cert:SHA-256 of a certificate  [worker-id] [network…]
//! grafana viewer       9f86d081…
//! node-7  worker       2c26b46b…  node-7  192.0.2.0/24
//! ```

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "keys are a file of the operator, read before anything is served")]

use std::{
    fmt::Write as _,
    fs,
    io::Read,
    net::IpAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::{Role, Who};
use crate::limits;

/// What a caller shows, by its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    Key([u8; 32]),
    /// A client's certificate, as DER.
    Certificate([u8; 32]),
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub who: Who,
    pub proof: Proof,
    /// Whence it may come; empty is from anywhere.
    pub networks: Vec<IpNet>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// Reads a keys file, which must be ours (or root's) and readable for nobody else.
    ///
    /// # Errors
    /// What is wrong with it, and the remedy.
    pub fn read(path: &Path) -> Result<Self, String> {
        let at = path.display();
        let mut file = fs::File::open(path)
            .map_err(|error| format!("{at} cannot be read: {error}; make it by `shipper keys new --into {at}`, as the agent's user"))?;
        let meta = file.metadata().map_err(|error| format!("{at} cannot be read: {error}"))?;
        let mode = meta.permissions().mode() & 0o777;
        if !meta.is_file() || mode & 0o077 != 0 {
            return Err(format!("{at} has mode {mode:04o}, so that others may read or change it; `chmod 0600 {at}`"));
        }
        let us = rustix::process::geteuid().as_raw();
        if meta.uid() != us && meta.uid() != 0 {
            return Err(format!("{at} belongs to user {}, and this agent runs as {us}; `chown` it", meta.uid()));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| format!("{at} cannot be read: {error}; it must be text"))?;
        Self::parse(&text).map_err(|(line, what)| format!("{at} line {line}: {what}"))
    }

    /// Reads the lines of one.
    ///
    /// # Errors
    /// Number of the line, and what is wrong there; nothing of the line is quoted but its name.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = Key::parse(line).map_err(|what| (number, what))?;
            if keys.iter().any(|other| other.who.name == key.who.name) {
                return Err((number, format!("the name {} stands here twice; give each key a name of its own", key.who.name)));
            }
            if keys.iter().any(|other| other.proof == key.proof) {
                return Err((number, format!("the key of {} is another one's too; make a new one by `shipper keys new`", key.who.name)));
            }
            if keys.len() >= limits::API_KEYS_MAX {
                return Err((number, format!("there are more than {} keys; remove some", limits::API_KEYS_MAX)));
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who shows this, if it may come from there.
    ///
    /// Looks at every key to the end, so that the time tells nothing of how near a guess was.
    pub fn find(&self, shown: &Proof, address: Option<IpAddr>) -> Option<Who> {
        let mut found = None;
        for key in &self.0 {
            if same(&key.proof, shown) {
                found = Some(key);
            }
        }
        let key = found?;
        // Who comes by a unix socket is on this host, and was let near it by its mode.
        let may = key.networks.is_empty() || address.is_none_or(|address| key.networks.iter().any(|net| net.contains(&address)));
        may.then(|| key.who.clone())
    }
}

fn same(one: &Proof, other: &Proof) -> bool {
    let (a, b, is_same_kind) = match (one, other) {
        (Proof::Key(a), Proof::Key(b)) | (Proof::Certificate(a), Proof::Certificate(b)) => (a, b, true),
        (Proof::Key(a), Proof::Certificate(b)) | (Proof::Certificate(a), Proof::Key(b)) => (a, b, false),
    };
    let differs = a.iter().zip(b).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b)));
    differs == 0 && is_same_kind
}

impl Key {
    fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| is_name(name)).ok_or("the name must be 1 to 64 of A-Z a-z 0-9 . _ -")?;
        let known = "the role must be viewer, submitter, worker or admin, or several with commas";
        let roles: Option<Vec<Role>> = words.next().map(|roles| roles.split(',').map(Role::of).collect::<Option<_>>()).unwrap_or_default();
        let roles = roles.ok_or_else(|| format!("{name}: {known}"))?;
        let digest = words.next().unwrap_or_default();
        let proof = match digest.strip_prefix("cert:") {
            Some(digest) => unhex(&digest.replace(':', "")).map(Proof::Certificate),
            None => unhex(digest).map(Proof::Key),
        };
        let proof = proof.ok_or_else(|| {
            format!("{name}: the third word must be the SHA-256 of the key in 64 hex digits, or cert: and that of a certificate")
        })?;
        let mut who = Who { name: name.to_owned(), roles, worker: None };
        let mut networks = Vec::new();
        for (at, word) in words.enumerate() {
            let network = word.parse::<IpNet>().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from));
            match network {
                Some(network) => networks.push(network),
                None if at == 0 && is_worker_id(word) => who.worker = Some(word.to_owned()),
                None => {
                    return Err(format!("{name}: behind the digest may stand a worker's id of 3 to 64 of A-Z a-z 0-9 _ -, then networks"));
                }
            }
        }
        if who.worker.is_some() && who.roles != [Role::Worker] {
            return Err(format!("{name}: a worker's id may stand only behind the role worker"));
        }
        Ok(Self { who, proof, networks })
    }

    /// As it stands in the file.
    pub fn line(&self) -> String {
        let roles: Vec<&str> = self.who.roles.iter().map(|role| role.word()).collect();
        let (prefix, digest) = match &self.proof {
            Proof::Key(digest) => ("", digest),
            Proof::Certificate(digest) => ("cert:", digest),
        };
        let mut line = format!("{} {} {prefix}{}", self.who.name, roles.join(","), hex(digest));
        let worker = self.who.worker.iter().map(ToString::to_string);
        for word in worker.chain(self.networks.iter().map(ToString::to_string)) {
            let _ = write!(line, " {word}");
        }
        line
    }
}

/// 1 to 64 of `[A-Za-z0-9._-]`.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// 3 to 64 of `[A-Za-z0-9_-]`.
pub fn is_worker_id(id: &str) -> bool {
    (3..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// The digest that stands for a key.
pub fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// In lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2).filter(|pair| !pair.starts_with('+'))?, 16).ok()?;
    }
    Some(bytes)
}
