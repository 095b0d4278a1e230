//! The running source: polls, hands in, commits, and answers what the group asks.
//!
//! Two tasks. One turns: it never waits for credits, so the group hears from us whatever stands behind us. The
//! other hands chunks in, one after another.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{Settings, core::Flights};
use crate::{
    clock::{Nanos, nanos},
    io::Io,
    limits,
    metrics::{Count, Level, Standing, State},
    net::{
        backoff::{Backoff, Rolls},
        kafka::consumer::{Consumer, End, News, Place, Record},
    },
    position::{Position, encode_name},
    ring::Signal,
    sources::{Admit, Chunk, Entries},
};

/// Percent of the credits above which nothing is fetched, and below which it goes on.
const PAUSE_ABOVE: u8 = 75;
const RESUME_BELOW: u8 = 25;
/// Chunks that wait to be handed in, above which nothing is fetched.
const READY_MAX: usize = 16;
/// Records of one turn.
const TURN_RECORDS: usize = 4096;
/// Nanoseconds that a commit may take before a partition goes without its answer.
const COMMIT_PATIENCE: Nanos = 5_000_000_000;
/// The same at the end.
const LAST_COMMIT: Nanos = (limits::LAST_WORDS_MS - 300) * 1_000_000;
/// Between two tries of the last commit.
const COMMIT_AGAIN: Duration = Duration::from_millis(200);
/// How long the end waits until the group knows that we leave.
const LEAVE: Duration = Duration::from_secs(1);
/// Between two polls with nothing to do; the group wants one every five minutes.
const REST: Duration = Duration::from_secs(60);

/// Name and help of the figure that tells how far a partition is behind.
const LAG: (&str, &str) = ("shipper_kafka_lag_offsets", "Offsets between what is settled of a partition and its end");

/// The running source.
pub(super) struct Running {
    name: String,
    settings: Settings,
    io: Rc<dyn Io>,
    admit: Rc<dyn Admit>,
    standing: Standing,
    shared: Rc<Shared>,
    origins: BTreeMap<Place, Arc<str>>,
    /// Given to us, while their streams still have something under way from before.
    given: BTreeSet<Place>,
    /// Being begun.
    beginning: BTreeSet<Place>,
    wanted: Option<Wanted>,
    is_paused: bool,
    /// Partitions have begun since the last pause.
    has_new: bool,
    commits_at: Nanos,
    /// When nobody waits any longer for the commit that is under way.
    committing: Option<Nanos>,
    /// When the files of the settings are looked at again, while it holds.
    looks_at: Nanos,
    /// When the last record came.
    last_record: Nanos,
    tombstones: Count,
    deleted: Count,
    partitions: Level,
}

/// What the task that hands in works on.
struct Shared {
    ready: RefCell<VecDeque<(Place, Chunk, i64)>>,
    flights: RefCell<BTreeMap<Place, Flights>>,
    /// Of what is being handed in right now.
    bringing: RefCell<Option<Place>>,
    /// Given back, and still being handed in: their streams end after that.
    ending: RefCell<BTreeSet<Place>>,
    /// Raised for the task that hands in.
    more: Signal,
    /// Raised for the task that turns.
    turn: Arc<Signal>,
    is_closed: Cell<bool>,
}

/// Partitions that the group wants back.
struct Wanted {
    places: Vec<Place>,
    until: Nanos,
    /// Their last commit is on its way.
    is_committing: bool,
}

/// The name of a partition's stream.
fn stream(place: &Place) -> String {
    format!("{}/{}", place.topic, place.partition)
}

/// The offset of a place in Kafka.
fn offset(position: &Position) -> Option<i64> {
    match position {
        Position::Kafka { offset, .. } => Some(*offset),
        _ => None,
    }
}

impl Running {
    pub(super) fn new(name: String, settings: Settings, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> Self {
        let now = io.clock().mono();
        let shared = Rc::new(Shared {
            ready: RefCell::default(),
            flights: RefCell::default(),
            bringing: RefCell::default(),
            ending: RefCell::default(),
            more: Signal::default(),
            turn: Arc::default(),
            is_closed: Cell::new(false),
        });
        Self {
            tombstones: standing.count("shipper_kafka_tombstones", "Records without a value, or with an empty one", &[]),
            deleted: standing.count("shipper_kafka_deleted_unread", "Records that retention deleted before they were read", &[]),
            partitions: standing.level("shipper_kafka_partitions", "Partitions that the group has given us", &[]),
            name,
            settings,
            io,
            admit,
            standing,
            shared,
            origins: BTreeMap::new(),
            given: BTreeSet::new(),
            beginning: BTreeSet::new(),
            wanted: None,
            is_paused: false,
            has_new: false,
            commits_at: 0,
            committing: None,
            looks_at: 0,
            last_record: now,
        }
    }

    pub(super) async fn run(mut self) {
        let (shared, admit) = (self.shared.clone(), self.admit.clone());
        self.io.spawn("hand in", Box::pin(async move { shared.hand_in(&*admit).await }));
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_millis(limits::HOLD_RETRY_MS));
        let mut rolls = Rolls::new(self.io.clock().now());
        loop {
            let joined =
                Consumer::join(&self.settings.connection, &self.settings.properties(), &self.settings.topics, self.shared.turn.clone());
            let why = match joined {
                Ok(consumer) => {
                    if let Some(ends) = consumer.certificate_ends {
                        self.standing.certificate_ends(ends, self.io.clock().now());
                    }
                    match self.turns(&consumer).await {
                        None => {
                            let left = Arc::new(Signal::default());
                            consumer.leave(left.clone());
                            tokio::select! {
                                biased;
                                () = left.wait() => {}
                                () = self.io.sleep(LEAVE) => {}
                            }
                            break;
                        }
                        Some(why) => why,
                    }
                }
                Err(why) => why,
            };
            self.standing.set(State::Holding(why));
            self.forget();
            tokio::select! {
                biased;
                () = self.admit.closed() => break,
                () = self.io.sleep(Duration::from_nanos(backoff.wait(rolls.roll()))) => {}
            }
        }
        self.shared.close();
        self.admit.last();
        // What is still under way is read again by whoever reads next.
        while self.admit.is_closed() && self.admit.settles().await {}
    }

    /// Turns until the drain is over (`None`), or a new consumer must be made, and why.
    async fn turns(&mut self, consumer: &Consumer) -> Option<String> {
        loop {
            let is_closed = self.admit.is_closed();
            if is_closed && !self.shared.is_closed.get() {
                self.shared.close();
                consumer.pause(&self.places(), true);
                self.admit.last();
            }
            self.settle();
            let more = self.poll(consumer);
            for news in consumer.news() {
                if let Some(why) = self.hear(news) {
                    return Some(why);
                }
            }
            self.begin(consumer);
            self.work_off(consumer);
            self.commit(consumer);
            let now = self.io.clock().mono();
            if let State::Holding(why) = self.standing.get()
                && now >= self.looks_at
            {
                self.looks_at = now + limits::HOLD_RETRY_MS * 1_000_000;
                if consumer.is_stale(&self.settings.connection) {
                    // New certificates or a new password: only a new client takes them.
                    return Some(why);
                }
            }
            let idle = nanos(self.settings.exit_when_idle);
            if idle > 0 && !is_closed && now.saturating_sub(self.last_record) >= idle && self.is_idle() {
                tracing::info!(source = self.name, "no record came for as long as exit_when_idle says; the source ends");
                self.last_commit(consumer).await;
                return None;
            }
            if more {
                self.io.pause().await;
                continue;
            }
            let rest = self.rest(now, idle);
            let goes_on = tokio::select! {
                () = self.shared.turn.wait() => true,
                goes_on = self.admit.settles() => goes_on,
                () = self.admit.closed(), if !is_closed => true,
                () = self.io.sleep(rest) => true,
            };
            if !goes_on {
                self.settle();
                self.last_commit(consumer).await;
                return None;
            }
        }
    }

    /// How long nothing need be done by itself.
    fn rest(&self, now: Nanos, idle: Nanos) -> Duration {
        let is_due = self.shared.flights.borrow().values().any(|flights| flights.due().is_some());
        let waits = [
            self.wanted.as_ref().map(|wanted| wanted.until),
            self.committing,
            (is_due && !self.settings.commit_interval.is_zero()).then_some(self.commits_at),
            (idle > 0).then_some(self.last_record + idle),
            matches!(self.standing.get(), State::Holding(_)).then_some(self.looks_at),
            (!self.given.is_empty() || self.is_paused).then_some(now + 1_000_000_000),
        ];
        let next = waits.into_iter().flatten().min().map(|at| Duration::from_nanos(at.saturating_sub(now).max(1_000_000)));
        next.unwrap_or(REST).min(REST)
    }

    fn places(&self) -> Vec<Place> {
        self.shared.flights.borrow().keys().cloned().collect()
    }

    fn is_idle(&self) -> bool {
        self.shared.ready.borrow().is_empty() && self.shared.flights.borrow().values().all(Flights::is_idle)
    }

    fn settle(&self) {
        for (place, flights) in self.shared.flights.borrow_mut().iter_mut() {
            flights.settled(self.admit.settled(&stream(place)));
        }
    }

    /// Polls records and makes them ready; true if there may be more.
    fn poll(&mut self, consumer: &Consumer) -> bool {
        let used = self.admit.used();
        let is_full = self.shared.ready.borrow().len() >= READY_MAX;
        let pauses = if self.is_paused { used > RESUME_BELOW || is_full } else { used > PAUSE_ABOVE || is_full };
        if (pauses != self.is_paused || self.has_new) && !self.shared.is_closed.get() {
            self.has_new = false;
            self.is_paused = pauses;
            consumer.pause(&self.places(), pauses);
        }
        let received = self.io.clock().now();
        let mut gathered: Vec<(Place, Entries, i64)> = Vec::new();
        // Records come in runs of one partition.
        let mut last = 0;
        let (mut bytes, mut records, mut tombstones) = (0, 0, 0);
        let flights = self.shared.flights.borrow();
        let going = self.wanted.as_ref().map(|wanted| wanted.places.as_slice()).unwrap_or_default();
        let is_closed = self.shared.is_closed.get();
        let more = consumer.poll(|record| {
            let Record { topic, partition, offset, key, value, time_ms } = record;
            records += 1;
            let is_it = |(place, ..): &(Place, Entries, i64)| place.partition == partition && place.topic == topic;
            if !gathered.get(last).is_some_and(is_it) {
                last = gathered.iter().position(is_it).unwrap_or(gathered.len());
            }
            if last == gathered.len() {
                let place = Place { topic: topic.to_owned(), partition };
                // Of what goes nothing more is taken: whoever has it next reads it.
                if is_closed || !flights.contains_key(&place) || going.contains(&place) {
                    return records < TURN_RECORDS;
                }
                gathered.push((place, Entries::default(), 0));
            }
            let Some((_, entries, end)) = gathered.get_mut(last) else { return false };
            *end = offset + 1;
            match value.filter(|value| !value.is_empty()) {
                None => tombstones += 1,
                Some(value) => {
                    let at = Position::Kafka { partition, offset, epoch: 0 };
                    let time = time_ms.and_then(|ms| u64::try_from(ms).ok()).map_or(received, |ms| ms.saturating_mul(1_000_000));
                    let refused = (value.len() > limits::FRAME_BYTES_MAX)
                        .then(|| ("too_long", format!("{} bytes, of which the first {} are kept", value.len(), limits::FRAME_BYTES_MAX)));
                    let value = value.get(..limits::FRAME_BYTES_MAX).unwrap_or(value);
                    entries.push(value, at, time, refused);
                    if let Some(key) = key {
                        entries.key(key);
                    }
                    bytes += value.len();
                }
            }
            bytes < limits::ENTRIES_BYTES && records < TURN_RECORDS
        });
        drop(flights);
        if records > 0 {
            self.last_record = self.io.clock().mono();
            self.tombstones.inc_by(tombstones);
            // A turn that was cut short leaves at least as much behind.
            self.admit.lag(if more { bytes as u64 } else { 0 });
        }
        for (place, entries, end) in gathered {
            if let Some(flights) = self.shared.flights.borrow_mut().get_mut(&place) {
                flights.polled(entries.first().and_then(offset).unwrap_or(end - 1), end);
            }
            let origin = self
                .origins
                .entry(place.clone())
                .or_insert_with(|| format!("kafka/{}/{}", encode_name(&place.topic), place.partition).into());
            let position = Position::Kafka { partition: place.partition, offset: end, epoch: 0 };
            let chunk = entries.into_chunk(origin.clone(), position, received);
            self.shared.ready.borrow_mut().push_back((place, chunk, end));
            self.shared.more.raise();
        }
        more
    }

    /// Takes in what happened; what it gives is why a new consumer must be made.
    fn hear(&mut self, news: News) -> Option<String> {
        match news {
            News::Stands(state) => self.standing.set(state),
            News::Given(places) => self.given.extend(places),
            News::Began(places) => {
                for (place, deleted) in places {
                    if deleted > 0 {
                        self.deleted.inc_by(deleted);
                        let (topic, partition) = (&place.topic, place.partition);
                        tracing::error!(
                            topic,
                            partition,
                            records = deleted,
                            "records were deleted before they were read, and are lost; raise the topic's retention, or see what held us up"
                        );
                    }
                    self.beginning.remove(&place);
                }
                // They are not paused yet where all others are.
                self.has_new = true;
                self.tell_partitions();
                self.standing.set(State::Ready);
            }
            News::Wanted(places) => {
                let until = self.io.clock().mono() + nanos(self.settings.drain);
                self.shared.ready.borrow_mut().retain(|(place, ..)| !places.contains(place));
                self.given.retain(|place| !places.contains(place));
                self.wanted = Some(Wanted { places, until, is_committing: false });
            }
            News::Lost(places) => {
                tracing::warn!(
                    partitions = places.len(),
                    "the group gave partitions to others while we were not heard; whoever has them now may read once more what was not committed"
                );
                self.let_go(&places);
            }
            News::Ends(ends) => self.tell_lags(&ends),
            News::Committed(offsets, done) => {
                self.committing = None;
                match done {
                    Ok(()) => {
                        let mut flights = self.shared.flights.borrow_mut();
                        for (place, offset) in offsets {
                            if let Some(flights) = flights.get_mut(&place) {
                                flights.committed(offset);
                            }
                        }
                    }
                    // Tried again with the next.
                    Err(why) => tracing::info!(why, "offsets are not committed yet"),
                }
            }
            News::Broken(why) => return Some(why),
        }
        None
    }

    fn tell_lags(&self, ends: &BTreeMap<Place, End>) {
        for (place, flights) in self.shared.flights.borrow().iter() {
            let Some(at) = ends.get(place) else { continue };
            let end = if self.settings.read_committed { at.stable } else { at.high };
            let partition = place.partition.to_string();
            let level = self.standing.level(LAG.0, LAG.1, &[("topic", &place.topic), ("partition", &partition)]);
            level.set(flights.lag(at, end));
        }
    }

    fn tell_partitions(&self) {
        self.partitions.set(i64::try_from(self.shared.flights.borrow().len()).unwrap_or(i64::MAX));
    }

    /// Begins to read what was given to us, once nothing is under way of an earlier time.
    fn begin(&mut self, consumer: &Consumer) {
        if self.given.is_empty() || self.shared.is_closed.get() || self.given.iter().any(|place| self.admit.is_open(&stream(place))) {
            return;
        }
        let saved = |place: &Place| match self.admit.resume(&stream(place)).as_ref().and_then(|row| row.lowest()) {
            Some(Position::Kafka { offset, .. }) => Some(*offset),
            _ => None,
        };
        let starts = self.given.iter().map(|place| (place.clone(), saved(place))).collect();
        // Known before their first record can come: what nobody knows would be passed over.
        self.shared.flights.borrow_mut().extend(self.given.iter().map(|place| (place.clone(), Flights::default())));
        self.beginning = std::mem::take(&mut self.given);
        consumer.begin(starts);
    }

    /// Gives back what the group wants, once it is worked off or its time is over.
    fn work_off(&mut self, consumer: &Consumer) {
        let now = self.io.clock().mono();
        let Some(Wanted { places, until, is_committing }) = &mut self.wanted else { return };
        let flights = self.shared.flights.borrow();
        let bringing = self.shared.bringing.borrow();
        let is_busy = |place: &Place| bringing.as_ref() == Some(place) || flights.get(place).is_some_and(|flights| !flights.is_idle());
        if now < *until && places.iter().any(is_busy) {
            // What a stage holds is ours to commit once it is saved.
            self.admit.hurry();
            return;
        }
        if !*is_committing {
            if self.committing.is_some() && now < *until {
                return;
            }
            let due: BTreeMap<Place, i64> = places.iter().filter_map(|place| Some((place.clone(), flights.get(place)?.due()?))).collect();
            *is_committing = true;
            if !due.is_empty() {
                *until = now + COMMIT_PATIENCE;
                consumer.commit(due);
                self.committing = Some(*until);
                return;
            }
        }
        if self.committing.is_some() && now < *until {
            return;
        }
        drop((flights, bringing));
        let Some(Wanted { places, .. }) = self.wanted.take() else { return };
        let left = places.iter().filter(|place| self.shared.flights.borrow().get(place).is_some_and(|flights| !flights.is_idle())).count();
        if left > 0 {
            tracing::warn!(
                partitions = left,
                "partitions go before all of them is settled: what is under way may come twice; raise drain, or see what is slow behind"
            );
        }
        consumer.release(&places);
        self.let_go(&places);
    }

    /// These are not ours any more.
    fn let_go(&mut self, places: &[Place]) {
        self.shared.ready.borrow_mut().retain(|(place, ..)| !places.contains(place));
        self.given.retain(|place| !places.contains(place));
        self.beginning.retain(|place| !places.contains(place));
        for place in places {
            let is_known = self.shared.flights.borrow_mut().remove(place).is_some_and(|flights| flights.is_known());
            // Whoever has it now tells of it.
            self.standing.forget(LAG.0, &[("topic", &place.topic), ("partition", &place.partition.to_string())]);
            if self.shared.bringing.borrow().as_ref() == Some(place) {
                self.shared.ending.borrow_mut().insert(place.clone());
            } else if is_known {
                self.admit.end(&stream(place));
            } else {
                self.admit.leave(&stream(place));
            }
        }
        self.tell_partitions();
    }

    /// The consumer is gone, and with it all that it had.
    fn forget(&mut self) {
        let places = self.places();
        self.let_go(&places);
        (self.wanted, self.committing, self.is_paused) = (None, None, false);
        self.given.clear();
        self.beginning.clear();
    }

    fn commit(&mut self, consumer: &Consumer) {
        let now = self.io.clock().mono();
        self.committing = self.committing.filter(|until| now < *until);
        let interval = self.settings.commit_interval;
        if interval.is_zero() || now < self.commits_at || self.committing.is_some() || self.wanted.is_some() {
            return;
        }
        let due = self.due();
        if due.is_empty() {
            return;
        }
        self.commits_at = now + nanos(interval);
        consumer.commit(due);
        self.committing = Some(now + nanos(self.settings.request_timeout));
    }

    fn due(&self) -> BTreeMap<Place, i64> {
        self.shared.flights.borrow().iter().filter_map(|(place, flights)| Some((place.clone(), flights.due()?))).collect()
    }

    /// Commits all that is settled, and waits a moment for the answer.
    async fn last_commit(&mut self, consumer: &Consumer) {
        let (until, mut tries) = (self.io.clock().mono() + LAST_COMMIT, 0);
        loop {
            if self.committing.is_none() {
                let due = self.due();
                if due.is_empty() {
                    return;
                }
                if tries > 0 {
                    self.io.sleep(COMMIT_AGAIN).await;
                }
                tries += 1;
                consumer.commit(due);
                self.committing = Some(until);
            }
            let left = until.saturating_sub(self.io.clock().mono());
            if left == 0 {
                return;
            }
            tokio::select! {
                () = self.shared.turn.wait() => {}
                () = self.io.sleep(Duration::from_nanos(left)) => {}
            }
            consumer.poll(|_| true);
            for news in consumer.news() {
                if matches!(news, News::Committed(..)) {
                    self.hear(news);
                }
            }
        }
    }
}

impl Shared {
    fn close(&self) {
        self.is_closed.set(true);
        self.ready.borrow_mut().clear();
        self.more.raise();
    }

    /// Hands chunks in until the source closes.
    async fn hand_in(&self, admit: &dyn Admit) {
        while !self.is_closed.get() {
            let Some((place, chunk, end)) = self.ready.borrow_mut().pop_front() else {
                self.more.wait().await;
                continue;
            };
            let stream = stream(&place);
            let start = match chunk.at.first() {
                Some(first) => first.clone(),
                None => Position::Kafka { partition: place.partition, offset: end, epoch: 0 },
            };
            if !admit.is_open(&stream) {
                admit.open(&stream, start);
            }
            *self.bringing.borrow_mut() = Some(place.clone());
            let is_taken = admit.chunk(&stream, chunk).await;
            *self.bringing.borrow_mut() = None;
            if !is_taken {
                return;
            }
            if let Some(flights) = self.flights.borrow_mut().get_mut(&place) {
                flights.hand_in(end);
            }
            if self.ending.borrow_mut().remove(&place) {
                admit.leave(&stream);
            }
            self.turn.raise();
        }
    }
}
