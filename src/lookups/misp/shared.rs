//! The shared cache: which keys in Redis, and what lies there.

use std::rc::Rc;

use super::{
    attribute,
    core::{Learned, Recalled},
};
use crate::{
    clock::Nanos,
    net::redis::{Entry, Redis, Settings},
};

/// Entries of one pipeline.
const ENTRIES: usize = 500;

/// Hits in Redis, readable by a person and by whoever knows MISP's answers: `ioc:<value>`.
#[derive(Debug)]
pub struct Shared {
    redis: Redis,
    prefix: String,
}

impl Shared {
    /// - `prefix`: of every key. Those who share a Redis must use the same filters, or prefixes of
    ///   their own.
    pub fn new(settings: Settings, prefix: String, seed: u64) -> Self {
        Self { redis: Redis::new(settings, seed), prefix }
    }

    /// What it has for these values; `None` if it is away.
    ///
    /// - `now`: monotonic time.
    pub async fn recall(&self, now: Nanos, values: &[Rc<str>]) -> Option<Vec<Option<Recalled>>> {
        let keys: Vec<_> = values.iter().map(|value| self.key(value)).collect();
        let found = self.redis.get(now, &keys).await.ok()?;
        Some(found.into_iter().map(|bytes| attribute::from_cache(&bytes?)).collect())
    }

    /// Keeps what was learned; what cannot be kept is forgotten.
    ///
    /// - `wall`: seconds since 1970.
    pub async fn keep(&self, now: Nanos, wall: u64, learned: &[Learned]) {
        for part in learned.chunks(ENTRIES) {
            let entry = |learned: &Learned| Entry {
                key: self.key(&learned.key),
                value: attribute::to_cache(&learned.hits, wall),
                lives: learned.lives,
            };
            if self.redis.put(now, &part.iter().map(entry).collect::<Vec<_>>()).await.is_err() {
                return;
            }
        }
    }

    /// What is wrong with it, if anything is.
    pub fn trouble(&self) -> Option<String> {
        self.redis.trouble()
    }

    fn key(&self, value: &str) -> String {
        format!("{}{value}", self.prefix)
    }
}
