//! `scan`: alerts of scanned files, and what the watch over scanning has to say, as records.
//!
//! Two streams. `alerts` brings what the task store keeps: a record's number is the alert's id, so the watermark in the
//! checkpoint says which alerts are out, and after a kill the others come again. `monitor` brings monitor alerts that fired or
//! resolved themselves. A record is one JSON object; handler `scan` makes messages of it.
//!
//! The records lie in a file of our own, so nobody ever waits for this source, and a drain does not wait for a peer that is away.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{Admit, Entries, FeedPlace, Kind, Source, SourceError, Spec};
use crate::{
    io::{Io, LocalFuture},
    limits,
    metrics::{Standing, State},
    position::{Position, encode_name},
    register::{Field, Section, Type},
    ring::Signal,
};

/// The kind.
pub struct Scan;

static FIELDS: &[Field] = &[Field::new(
    "start_at",
    Type::Choice(&["end", "start"]),
    "\"start\"",
    "Where the first run begins: `start` brings the alerts that the store already has, `end` only new ones.",
)];

impl Kind for Scan {
    fn name(&self) -> &'static str {
        "scan"
    }
    fn about(&self) -> &'static str {
        "alerts of scanned files; needs [scan]"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings { from_end: section.choice("start_at") == "end", place: FeedPlace::default() })
    }
}

#[derive(Debug)]
struct Settings {
    from_end: bool,
    place: FeedPlace,
}

impl Spec for Settings {
    fn build(&self, name: &str, instance: &str) -> Box<dyn Source> {
        let origin = format!("scan/{}/{}", encode_name(instance), encode_name(name));
        Box::new(Running { origin, from_end: self.from_end, place: self.place.clone() })
    }
    fn feed(&self) -> Option<&FeedPlace> {
        Some(&self.place)
    }
    fn is_kept(&self) -> bool {
        true
    }
}

struct Running {
    origin: String,
    from_end: bool,
    place: FeedPlace,
}

/// Its streams in the checkpoint.
pub const STREAMS: [&str; 2] = ["alerts", "monitor"];

/// Between two tries of a feed that failed.
const AGAIN: Duration = Duration::from_secs(5);

impl Source for Running {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let Some(feed) = self.place.get() else {
                standing
                    .set(State::Holding("nothing is scanned in this agent, so no alert will come; see why [scan] did not start".into()));
                admit.closed().await;
                return Ok(());
            };
            let signal = Arc::new(Signal::default());
            feed.listen(signal.clone());
            let count = |position: &Position| if let Position::Count(n) = position { *n } else { 0 };
            let mut below = [0; STREAMS.len()];
            for (stream, below) in STREAMS.into_iter().zip(&mut below) {
                *below = match admit.resume(stream) {
                    Some(row) => row.lowest().map_or(0, count),
                    None if self.from_end => last(&*feed, stream).await,
                    None => 0,
                };
                admit.open(stream, Position::Count(*below));
            }
            standing.set(State::Ready);
            while !admit.is_closed() {
                let mut moved = false;
                let mut failed = None;
                for (stream, below) in STREAMS.into_iter().zip(&mut below) {
                    let records = match feed.after(stream, *below, limits::FEED_RECORDS).await {
                        Ok(records) => records,
                        Err(why) => {
                            failed = Some(why);
                            continue;
                        }
                    };
                    let Some(end) = records.last().map(|record| record.number) else { continue };
                    let received = io.clock().now();
                    let mut entries = Entries::default();
                    for record in &records {
                        entries.push(&record.bytes, Position::Count(record.number), received, None);
                    }
                    let origin = format!("{}/{stream}", self.origin).into();
                    if !admit.chunk(stream, entries.into_chunk(origin, Position::Count(end), received)).await {
                        return Ok(());
                    }
                    *below = end;
                    moved = true;
                }
                let has_failed = failed.is_some();
                standing.set(failed.map_or(State::Ready, State::Retrying));
                if moved {
                    continue;
                }
                let again = async {
                    match has_failed {
                        true => io.sleep(AGAIN).await,
                        false => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = admit.closed() => {}
                    () = signal.wait() => {}
                    () = again => {}
                }
            }
            Ok(())
        })
    }
}

/// The number of the last record that there is.
async fn last(feed: &dyn super::Feed, stream: &'static str) -> u64 {
    let mut below = 0;
    while let Ok(records) = feed.after(stream, below, limits::FEED_RECORDS).await {
        let Some(last) = records.last() else { break };
        below = last.number;
    }
    below
}
