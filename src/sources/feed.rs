//! Records that the agent itself keeps, numbered, for a source to bring.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{io::LocalFuture, ring::Signal};

/// Numbered records on disk, in the order of their numbers.
pub trait Feed: Send + Sync {
    /// Records of a stream whose numbers are above `after`, lowest first, `max` of them at most.
    ///
    /// # Errors
    /// Text for the operator; the source tries again.
    fn after(&self, stream: &'static str, after: u64, max: usize) -> LocalFuture<'static, Result<Vec<FeedRecord>, String>>;
    /// Has `signal` raised whenever there may be more, until the feed goes.
    fn listen(&self, signal: Arc<Signal>);
}

/// A record with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRecord {
    pub number: u64,
    pub bytes: Vec<u8>,
}

/// Where a feed is put before its source runs. Clones are the same place.
#[derive(Clone, Default)]
pub struct FeedPlace(Arc<Mutex<Option<Arc<dyn Feed>>>>);

impl FeedPlace {
    /// Puts a feed there.
    pub fn put(&self, feed: Arc<dyn Feed>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(feed);
    }
    /// The feed, if one was put.
    pub fn get(&self) -> Option<Arc<dyn Feed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for FeedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.get().is_some() { "FeedPlace(taken)" } else { "FeedPlace(free)" })
    }
}
