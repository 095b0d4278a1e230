//! What Zeek's `files.log` says of a file: its id, the connections that carried it, who sent it, and whether all of it was
//! seen.
//!
//! - [`Logs::refresh`] reads what has come since; whoever needs an answer calls it, and nobody else. Rows stay for
//!   [`limits::SCAN_ZEEK_ROW_MS`].
//! - A row comes after its file was closed, later still by the log writer's buffer. [`Logs::ask`] says how long to wait for
//!   it; [`Late`] remembers who did not get one, so that what was stored can be amended.
//!
//! Refuses to believe a row: names in it are compared with names of files, and nothing is ever opened by them.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod index;
mod row;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use self::row::Header;
pub use self::{
    index::{Index, fuid_of},
    row::{Connection, Row},
};
use super::{
    lines::{Tail, TailError},
    suricata::Transfer,
    task::{RelPath, TaskId, Zeek},
};
use crate::{clock::Nanos, limits};

/// Names of the log in Zeek's folder: its own, and that of the package json-streaming-logs.
const NAMES: [&str; 2] = ["files.log", "json_streaming_files.log"];

/// All rows of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub zeek: Zeek,
    pub connections: Vec<Connection>,
    /// Who took part, whether as a connection or not.
    pub hosts: Vec<IpAddr>,
    /// From its first byte to its last, nanoseconds since 1970; `None` if no row tells a time.
    pub span: Option<(i64, i64)>,
}

impl Facts {
    /// What relates the file to events of others.
    ///
    /// - `sha256`, `md5`: in hex, of its bytes.
    pub fn transfer(&self, sha256: &str, md5: &str) -> Transfer {
        let ends = |connection: &Connection| Some::<(SocketAddr, SocketAddr)>((connection.orig?, connection.resp?));
        Transfer {
            flows: self.connections.iter().filter_map(ends).collect(),
            hosts: self.hosts.clone(),
            span: self.span,
            sha256: sha256.to_ascii_lowercase(),
            md5: md5.to_ascii_lowercase(),
        }
    }
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Known(Box<Facts>),
    /// Its row may still come; ask again until then (monotonic).
    Wait(Nanos),
    /// No row came in time. The file's id if its name tells it, else nothing.
    Without(String),
}

/// What a refresh brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Files that are whole now, by the name that Zeek gave them; for the watch.
    pub named: Vec<Vec<u8>>,
    /// New rows.
    pub rows: u64,
    /// Lines, or parts of one, that say nothing.
    pub refused: u64,
}

/// The logs of one Zeek.
#[derive(Debug)]
pub struct Logs {
    tails: Vec<(Tail, Header)>,
    index: Index,
}

impl Logs {
    /// - `folder`: where Zeek's current logs are; it need not exist yet.
    pub fn new(folder: &Path) -> Self {
        Self { tails: NAMES.map(|name| (Tail::new(folder.join(name)), Header::default())).into(), index: Index::default() }
    }

    /// Reads what has come.
    ///
    /// - `now`: monotonic.
    ///
    /// # Errors
    /// A log that is there cannot be read. What others brought is kept, and a later call tries again.
    pub fn refresh(&mut self, now: Nanos) -> (News, Result<(), TailError>) {
        let mut news = News::default();
        let mut answer = Ok(());
        self.index.forget(now);
        for (tail, header) in &mut self.tails {
            let read = tail.read(|line| {
                let (rows, is_whole) = row::rows(header, line);
                news.refused += u64::from(!is_whole);
                for row in rows {
                    news.named.extend(row.extracted.clone());
                    news.rows += 1;
                    self.index.put(row, now);
                }
            });
            answer = answer.and(read);
        }
        (news, answer)
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where they are, whether there or not.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.tails.iter().map(|(tail, _)| tail.path())
    }

    /// What is known of a file by now.
    ///
    /// - `since`: when the file was found; monotonic, as `now`.
    pub fn ask(&self, path: &RelPath, since: Nanos, now: Nanos) -> Answer {
        if let Some(facts) = self.index.of(path) {
            return Answer::Known(Box::new(facts));
        }
        let until = since.saturating_add(limits::SCAN_ZEEK_WAIT_MS * 1_000_000);
        if now < until {
            return Answer::Wait(until);
        }
        Answer::Without(fuid_of(path.name()).unwrap_or_default().to_owned())
    }
}

/// Tasks whose alerts went without a row, for as long as one may come.
#[derive(Debug, Default)]
pub struct Late {
    waiting: VecDeque<(Nanos, TaskId, RelPath)>,
    /// Gave way to newer ones.
    dropped: u64,
    /// No row came in time.
    given_up: u64,
}

impl Late {
    /// - `now`: monotonic.
    pub fn add(&mut self, task: TaskId, path: RelPath, now: Nanos) {
        if self.waiting.len() >= limits::SCAN_ZEEK_LATE_MAX {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back((now.saturating_add(limits::SCAN_ZEEK_ROW_MS * 1_000_000), task, path));
    }

    /// Those that have a row now, each once.
    pub fn settle(&mut self, index: &Index, now: Nanos) -> Vec<(TaskId, Facts)> {
        let mut found = Vec::new();
        let before = self.waiting.len();
        self.waiting.retain(|(until, task, path)| match index.of(path) {
            Some(facts) => {
                found.push((task.clone(), facts));
                false
            }
            None => now < *until,
        });
        self.given_up += (before - self.waiting.len() - found.len()) as u64;
        found
    }

    /// How many gave way to newer ones, and for how many no row came in time.
    pub fn lost(&self) -> (u64, u64) {
        (self.dropped, self.given_up)
    }
}
