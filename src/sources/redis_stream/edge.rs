//! The half of the source that speaks to Redis, on the edge thread.
//!
//! A session has two connections: one that reads, and may block in it, and one for everything else. While it
//! lasts two loops run: one reads (what is pending with us, what others left, what is new) and hands in; the
//! other acks what is settled, and touches what is under way, so that nobody claims it. Whatever goes wrong ends
//! the session, and another begins: what is under way stays so.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    Settings,
    core::{Held, Taken},
};
use crate::{
    clock::{Nanos, nanos},
    io::Executor,
    limits,
    metrics::{Count, Level, Standing, State},
    net::backoff::{Backoff, Rolls},
    net::redis::stream::{Connection, Entry, Id, Look, Pending, Reader, Trouble},
    position::{Position, encode_name},
    sources::{Brought, Entries, Link},
};

/// Nanoseconds between two looks at how much of a group is pending.
const PENDING_EVERY: Nanos = 10_000_000_000;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// The half on the edge thread.
pub(super) struct Edge {
    settings: Settings,
    consumer: String,
    link: Arc<Link>,
    on: Rc<dyn Executor>,
    standing: Standing,
    streams: Vec<Stream>,
    /// What this Redis, or its user, cannot do; told once.
    cannot: RefCell<HashSet<Lack>>,
    claims_at: Cell<Nanos>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lack {
    Look,
    Counts,
    Autoclaim,
}

/// One stream.
struct Stream {
    key: String,
    /// Text of an origin before the id.
    origin: Arc<str>,
    held: RefCell<Held>,
    /// The greatest id that was handed in.
    highest: Cell<Id>,
    /// The group was there once.
    had_group: Cell<bool>,
    unread: Cell<u64>,
    /// Bytes of an entry, about.
    entry_bytes: Cell<u64>,
    /// Entries that are refused, until they are settled, for `dead_stream`.
    dead: RefCell<BTreeMap<Id, (&'static str, Vec<u8>)>>,
    lost: Count,
    claimed: Count,
    made_again: Count,
    pending: Level,
    age: Level,
    lag: Level,
}

impl Stream {
    fn new(key: &str, standing: &Standing) -> Self {
        let of = [("stream", key)];
        Self {
            key: key.to_owned(),
            origin: format!("redis/{}", encode_name(key)).into(),
            held: RefCell::default(),
            highest: Cell::default(),
            had_group: Cell::new(false),
            unread: Cell::new(0),
            entry_bytes: Cell::new(1024),
            dead: RefCell::default(),
            lost: standing.count("shipper_lost_to_trim", "Entries that were trimmed or deleted before they were read or acked", &of),
            claimed: standing.count("shipper_redis_claimed", "Entries taken over from other consumers", &of),
            made_again: standing.count("shipper_redis_groups_made_again", "Times that a group had vanished", &of),
            pending: standing.level("shipper_redis_pending", "Entries of the group that were given out and are not acked", &of),
            age: standing.level("shipper_redis_pending_age_seconds", "Age of the oldest entry that is not acked, by its id", &of),
            lag: standing.level("shipper_redis_lag", "Entries that the group has not read", &of),
        }
    }
}

impl Edge {
    pub(super) fn new(settings: Settings, consumer: String, link: Arc<Link>, on: Rc<dyn Executor>, standing: Standing) -> Self {
        let streams = settings.streams.iter().map(|key| Stream::new(key, &standing)).collect();
        Self { settings, consumer, link, on, standing, streams, cannot: RefCell::default(), claims_at: Cell::new(0) }
    }

    /// Runs until the home is over.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut rolls = Rolls::new(self.on.clock().now());
        while let Err(trouble) = self.session(&mut backoff).await {
            let is_gone = trouble == Trouble::NoGroup;
            let wait = match trouble {
                Trouble::NoGroup => backoff.wait(rolls.roll()),
                Trouble::Away(why) | Trouble::Unable(why) => {
                    self.standing.set(State::Retrying(why));
                    backoff.wait(rolls.roll())
                }
                Trouble::Wrong(why) => {
                    self.standing.set(State::Holding(why));
                    limits::HOLD_RETRY_MS * 1_000_000
                }
            };
            if self.link.is_over() && !is_gone {
                break;
            }
            tokio::select! {
                () = self.on.sleep(Duration::from_nanos(wait)) => {}
                () = self.over() => break,
            }
        }
        self.link.finish();
    }

    async fn over(&self) {
        while !self.link.is_over() {
            self.link.told().await;
        }
    }

    fn reader(&self) -> Reader<'_> {
        Reader { group: &self.settings.group, consumer: &self.consumer }
    }

    fn is_able(&self, what: Lack) -> bool {
        !self.cannot.borrow().contains(&what)
    }

    /// Notes what cannot be done here, and tells it once.
    fn lacks(&self, what: Lack, why: &str) {
        if !self.cannot.borrow_mut().insert(what) {
            return;
        }
        let place = &self.settings.redis.place;
        match what {
            Lack::Look => {
                tracing::warn!(%place, why, "entries that are trimmed unread cannot be counted here; Redis 7 and a user that may EVAL and XINFO are needed")
            }
            Lack::Counts => {
                tracing::warn!(%place, "entries were deleted out of the middle of a stream, or this Redis keeps no counts: what is trimmed unread is not counted")
            }
            Lack::Autoclaim => tracing::info!(%place, why, "XAUTOCLAIM is not to be had; XPENDING and XCLAIM do its work"),
        }
    }

    async fn session(&self, backoff: &mut Backoff) -> Result<(), Trouble> {
        let redis = &self.settings.redis;
        let control = Connection::open(redis, Duration::ZERO).await?;
        let reading = Connection::open(redis, self.settings.block).await?;
        for stream in &self.streams {
            let again = stream.had_group.get();
            let start = if again { "0" } else { self.settings.start.as_str() };
            let is_new = control.make_group(&stream.key, &self.settings.group, start).await?;
            if is_new && again {
                stream.made_again.inc();
                let (unread, group) = (stream.unread.get(), &self.settings.group);
                tracing::error!(
                    stream = stream.key,
                    group,
                    unread,
                    "the group had vanished and is made again at 0; what was unread before may be lost: see who deletes or flushes the stream"
                );
            }
            stream.had_group.set(true);
            if self.is_able(Lack::Look) {
                match control.look(&stream.key, &self.settings.group).await {
                    Ok(look) => self.looked(stream, &look),
                    Err(Trouble::Unable(why)) => self.lacks(Lack::Look, &why),
                    Err(other) => return Err(other),
                }
            }
        }
        self.standing.set(State::Ready);
        let read = async {
            self.read(&reading, &control).await?;
            Ok(())
        };
        let tried = tokio::try_join!(read, self.keep(&control, backoff));
        tried.map(|_| ())
    }

    /// Acks what is settled and touches what is under way, until the home is over.
    async fn keep(&self, control: &Connection, backoff: &mut Backoff) -> Result<(), Trouble> {
        let every = nanos(self.settings.min_idle) / 3;
        let (mut touches_at, mut counts_at) = (0, 0);
        loop {
            let is_over = self.link.is_over();
            for (number, stream) in self.streams.iter().enumerate() {
                let due = stream.held.borrow_mut().settled(self.link.settled(number));
                if due.is_empty() {
                    continue;
                }
                self.add_dead(control, stream, &due).await?;
                control.ack(&stream.key, &self.settings.group, &due).await?;
                stream.held.borrow_mut().acked(&due);
                backoff.reset();
            }
            if is_over {
                // What is left was given out and not acked because we end, which is nobody's fault.
                for stream in &self.streams {
                    let left = stream.held.borrow().ids();
                    control.touch(&stream.key, &self.reader(), &left, Some(0)).await?;
                }
                return Ok(());
            }
            let now = self.on.clock().mono();
            if now >= touches_at {
                touches_at = now + every;
                for stream in &self.streams {
                    let held = stream.held.borrow().ids();
                    control.touch(&stream.key, &self.reader(), &held, None).await?;
                }
            }
            if now >= counts_at {
                counts_at = now + PENDING_EVERY;
                for stream in &self.streams {
                    let (pending, oldest) = control.pending_count(&stream.key, &self.settings.group).await?;
                    stream.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
                    // Of the clock that made the id, which is Redis's.
                    let age = oldest.map_or(0, |oldest| (self.on.clock().now() / 1_000_000).saturating_sub(oldest.ms) / 1000);
                    stream.age.set(i64::try_from(age).unwrap_or(i64::MAX));
                }
            }
            let left = touches_at.min(counts_at).saturating_sub(now);
            tokio::select! {
                () = self.link.told() => {}
                () = self.on.sleep(Duration::from_nanos(left)) => {}
            }
        }
    }

    /// Reads and hands in until the home takes no more.
    async fn read(&self, reading: &Connection, control: &Connection) -> Result<(), Trouble> {
        for stream in &self.streams {
            let mut after = Id::default();
            loop {
                let page = reading.own(&stream.key, &self.reader(), after, self.count(stream)).await?;
                let Some(last) = page.last() else { break };
                after = last.id;
                if !self.again(stream, page, control).await? {
                    return Ok(());
                }
            }
        }
        self.claims_at.set(0);
        let keys: Vec<String> = self.streams.iter().map(|stream| stream.key.clone()).collect();
        loop {
            let now = self.on.clock().mono();
            if now >= self.claims_at.get() {
                self.claims_at.set(now + nanos(self.settings.min_idle) / 2);
                if !self.claim(control).await? {
                    return Ok(());
                }
            }
            let mut is_idle = true;
            if self.is_able(Lack::Look) {
                for stream in &self.streams {
                    let (look, entries) = reading.look_and_read(&stream.key, &self.reader(), self.count(stream)).await?;
                    self.looked(stream, &look);
                    is_idle &= entries.is_empty();
                    if !self.hand_in(stream, entries, &BTreeMap::new(), control).await? {
                        return Ok(());
                    }
                }
            }
            if !is_idle {
                continue;
            }
            let count = self.streams.iter().map(|stream| self.count(stream)).min().unwrap_or(1);
            let us = self.reader();
            let found = tokio::select! {
                biased;
                // What Redis gives us all the same is pending with us, and comes first at the next start.
                () = self.link.closed() => return Ok(()),
                found = reading.read(&keys, &us, count, Some(self.settings.block)) => found?,
            };
            for (key, entries) in found {
                let Some(stream) = self.streams.iter().find(|stream| stream.key == key) else { continue };
                if !self.hand_in(stream, entries, &BTreeMap::new(), control).await? {
                    return Ok(());
                }
            }
        }
    }

    fn looked(&self, stream: &Stream, look: &Look) {
        if !look.is_exact {
            self.lacks(Lack::Counts, "");
        }
        if let Some(lag) = look.lag {
            stream.unread.set(lag);
            stream.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
        if look.lost > 0 {
            self.lost(stream, look.lost, "read");
        }
    }

    fn lost(&self, stream: &Stream, entries: u64, before: &str) {
        stream.lost.inc_by(entries);
        tracing::error!(
            stream = stream.key,
            entries,
            "entries were trimmed before they were {before}, and are lost; raise MAXLEN of whoever writes the stream, or see what holds us up"
        );
    }

    /// Entries of one read at most: few where they are long.
    fn count(&self, stream: &Stream) -> usize {
        let fit = limits::ENTRIES_BYTES as u64 / stream.entry_bytes.get().max(1);
        self.settings.count.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
    }

    /// Takes over what other consumers left; false if the home takes no more.
    async fn claim(&self, control: &Connection) -> Result<bool, Trouble> {
        for stream in &self.streams {
            // XAUTOCLAIM forgets what is trimmed whoever works on it: that is lost only if it was left.
            let left = self.left(stream, control).await?;
            let Some(mut from) = left.first().copied() else { continue };
            while self.is_able(Lack::Autoclaim) {
                let claimed = control.claim(&stream.key, &self.reader(), self.settings.min_idle, from, self.count(stream)).await;
                let claimed = match claimed {
                    Err(Trouble::Unable(why)) => {
                        self.lacks(Lack::Autoclaim, &why);
                        continue;
                    }
                    other => other?,
                };
                let gone = claimed.gone.iter().filter(|id| left.contains(id)).count() as u64;
                if gone > 0 {
                    self.lost(stream, gone, "acked");
                }
                from = claimed.next;
                if !self.take_over(stream, claimed.entries, control).await? {
                    return Ok(false);
                }
                if from == Id::default() {
                    break;
                }
            }
            if !self.is_able(Lack::Autoclaim) && !self.claim_by_hand(stream, left, control).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What was given to somebody at least `min_idle` ago, and is not under way here.
    async fn left(&self, stream: &Stream, control: &Connection) -> Result<BTreeSet<Id>, Trouble> {
        let (mut left, mut from) = (BTreeSet::new(), Id::default());
        loop {
            let page = control.pending(&stream.key, &self.settings.group, from, None, None).await?;
            let held = stream.held.borrow();
            let is_left = |entry: &&Pending| u128::from(entry.idle_ms) >= self.settings.min_idle.as_millis() && !held.has(entry.id);
            left.extend(page.iter().filter(is_left).map(|entry| entry.id));
            match page.last() {
                Some(last) if page.len() >= limits::REDIS_IDS_MAX => from = last.id.next(),
                _ => return Ok(left),
            }
        }
    }

    /// The same where Redis has no command for it.
    async fn claim_by_hand(&self, stream: &Stream, left: BTreeSet<Id>, control: &Connection) -> Result<bool, Trouble> {
        let (key, group, idle) = (&stream.key, &self.settings.group, self.settings.min_idle);
        let left: Vec<Id> = left.into_iter().collect();
        for ids in left.chunks(self.count(stream)) {
            let entries = control.claim_these(key, &self.reader(), idle, ids).await?;
            for id in ids.iter().filter(|id| entries.iter().all(|entry| entry.id != **id)) {
                // Somebody else was quicker, or it is gone; Redis 7 forgets it then by itself.
                if !control.has(key, *id).await? {
                    control.ack(key, group, &[*id]).await?;
                    self.lost(stream, 1, "acked");
                }
            }
            if !self.take_over(stream, entries, control).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn take_over(&self, stream: &Stream, entries: Vec<Entry>, control: &Connection) -> Result<bool, Trouble> {
        let fresh = entries.iter().filter(|entry| !stream.held.borrow().has(entry.id)).count() as u64;
        if fresh > 0 {
            stream.claimed.inc_by(fresh);
            tracing::info!(stream = stream.key, entries = fresh, "entries that another consumer has left are taken over");
        }
        self.again(stream, entries, control).await
    }

    /// Hands in what was given out before: how often is asked first.
    async fn again(&self, stream: &Stream, entries: Vec<Entry>, control: &Connection) -> Result<bool, Trouble> {
        let mut deliveries = BTreeMap::new();
        let ids = || entries.iter().map(|entry| entry.id);
        if let (Some(mut from), Some(to)) = (ids().min(), ids().max()) {
            loop {
                let page = control.pending(&stream.key, &self.settings.group, from, Some(to), Some(&self.consumer)).await?;
                deliveries.extend(page.iter().map(|entry| (entry.id, entry.deliveries)));
                match page.last() {
                    Some(last) if page.len() >= limits::REDIS_IDS_MAX => from = last.id.next(),
                    _ => break,
                }
            }
        }
        self.hand_in(stream, entries, &deliveries, control).await
    }

    /// Hands entries in; false if the home takes no more.
    async fn hand_in(
        &self,
        stream: &Stream,
        entries: Vec<Entry>,
        deliveries: &BTreeMap<Id, u64>,
        control: &Connection,
    ) -> Result<bool, Trouble> {
        let sorted = stream.held.borrow().take(entries, deliveries, &self.settings.rules);
        if !sorted.gone.is_empty() {
            let gone = control.ack(&stream.key, &self.settings.group, &sorted.gone).await?;
            if gone > 0 {
                self.lost(stream, gone, "acked");
            }
        }
        let read: Vec<Id> = sorted.taken.iter().map(|taken| taken.id).collect();
        let all_in = self.bring_all(stream, sorted.taken).await;
        if !all_in {
            // They were given out to be read at our end, which is nobody's fault.
            let left: Vec<Id> = read.into_iter().filter(|id| !stream.held.borrow().has(*id)).collect();
            control.touch(&stream.key, &self.reader(), &left, Some(0)).await?;
        }
        Ok(all_in)
    }

    /// In batches that are not too long; false if the home takes no more.
    async fn bring_all(&self, stream: &Stream, entries: Vec<Taken>) -> bool {
        let (mut batch, mut ids) = (Entries::default(), Vec::new());
        for Taken { id, bytes, refused } in entries {
            if !batch.is_empty()
                && batch.bytes() + bytes.len() > limits::ENTRIES_BYTES
                && !self.bring(stream, std::mem::take(&mut batch), std::mem::take(&mut ids)).await
            {
                return false;
            }
            if let (Some((reason, _)), Some(_)) = (&refused, &self.settings.dead_stream) {
                stream.dead.borrow_mut().insert(id, (reason, bytes.clone()));
            }
            let at = Position::Redis { ms: id.ms, seq: id.seq };
            batch.push(&bytes, at, received(id), refused);
            ids.push(id);
        }
        if batch.is_empty() {
            return !self.link.is_closed();
        }
        self.bring(stream, batch, ids).await
    }

    async fn bring(&self, stream: &Stream, batch: Entries, ids: Vec<Id>) -> bool {
        // A session may end while this waits. Behind it nothing does: what is under way is on its way.
        if !self.link.has_room().await {
            return false;
        }
        stream.entry_bytes.set((batch.bytes() / batch.len().max(1)) as u64);
        stream.unread.set(stream.unread.get().saturating_sub(ids.len() as u64));
        let highest = ids.iter().copied().fold(stream.highest.get(), Id::max);
        stream.highest.set(highest);
        stream.held.borrow_mut().hand_in(ids);
        let end = Position::Redis { ms: highest.ms, seq: highest.seq };
        let lag = self.streams.iter().map(|stream| stream.unread.get().saturating_mul(stream.entry_bytes.get())).sum();
        let chunk = batch.into_chunk(stream.origin.clone(), end, self.on.clock().now());
        let number = self.streams.iter().position(|each| std::ptr::eq(each, stream)).unwrap_or(0);
        self.link.bring(Brought { stream: number, chunk, lag });
        true
    }

    /// Adds entries that were refused to the stream of the dead, before they are acked.
    async fn add_dead(&self, control: &Connection, stream: &Stream, due: &[Id]) -> Result<(), Trouble> {
        let Some(to) = &self.settings.dead_stream else { return Ok(()) };
        for id in due {
            let Some((reason, bytes)) = stream.dead.borrow().get(id).cloned() else { continue };
            let at = id.to_string();
            let fields =
                [("stream", stream.key.as_bytes()), ("id", at.as_bytes()), ("reason", reason.as_bytes()), ("data", bytes.as_slice())];
            control.add(to, &fields).await?;
            stream.dead.borrow_mut().remove(id);
        }
        Ok(())
    }
}

/// When Redis took an entry in, in nanoseconds: its number within the millisecond tells it from others.
fn received(id: Id) -> Nanos {
    id.ms.saturating_mul(1_000_000).saturating_add(id.seq.min(999_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_was_received_when_its_id_says() {
        let at = |ms, seq| received(Id { ms, seq });
        assert_eq!(at(1_773_480_423_123, 7), 1_773_480_423_123_000_007);
        assert_eq!(at(1, 5_000_000), 1_999_999, "never in the next millisecond");
    }
}
