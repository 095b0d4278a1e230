//! A stream of Redis as a place that takes messages: each is an entry with one field.

use super::out::Account;
use crate::net::redis::{
    Settings,
    commands::{Command, Connection, NoAnswer},
};

/// Commands of one pipeline.
const PIPELINE: usize = 256;

/// One connection, and what waits for it.
pub(super) struct Stream {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
    key: String,
    field: String,
    waiting: Vec<Command>,
    account: Account,
}

fn told(why: NoAnswer) -> String {
    match why {
        NoAnswer::Away(text) | NoAnswer::Settings(text) => text,
        NoAnswer::Refused(refusal) => format!("{}: {}", refusal.code, refusal.text),
    }
}

impl Stream {
    /// # Errors
    /// If it cannot be connected to, or refuses the login.
    pub(super) fn open(server: Settings, key: String, field: String) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connection = runtime.block_on(Connection::open(&server)).map_err(|why| anyhow::anyhow!("{}: {}", server.place, told(why)))?;
        Ok(Self { runtime, connection, key, field, waiting: Vec::with_capacity(PIPELINE), account: Account::default() })
    }

    pub(super) fn send(&mut self, payload: &[u8]) {
        self.waiting.push(Command::of(&[b"XADD", self.key.as_bytes(), b"*", self.field.as_bytes(), payload]));
        if self.waiting.len() >= PIPELINE {
            self.flush();
        }
    }

    /// Sends what waits and hears the answers. What has none is not sent again: it may be there.
    pub(super) fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        match self.runtime.block_on(self.connection.send(&self.waiting)) {
            Ok(answers) => {
                for answer in answers {
                    match answer {
                        Ok(_) => self.account.done += 1,
                        Err(refusal) => self.account.fail(1, &format!("stream {}: {}: {}", self.key, refusal.code, refusal.text)),
                    }
                }
            }
            Err(why) => self.account.fail(self.waiting.len() as u64, &told(why)),
        }
        self.waiting.clear();
    }

    pub(super) fn finish(mut self) -> Account {
        self.flush();
        self.account
    }
}
