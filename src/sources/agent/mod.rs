//! `agent`: the agent's own events as records, so that they travel like any other.
//!
//! Start, reload and stop, trouble of a component and its end, and messages let go. A record is
//!
//! ```json
//! {"timestamp":"2026-03-14T06:25:12.004+01:00","shipper":{"event":"error","component":"sinks.out","description":"…"}}
//! ```
//!
//! with `held` (messages), `lost` (messages), `seconds` and `repeated` where they say something.
//! Events are told once and never again after a restart. While nobody takes them they wait in
//! bounded lists, the oldest are let go, counted: no component ever waits for this source.

mod fold;

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{Admit, At, Chunk, ChunkKind, Kind, Source, SourceError, Spec};
use crate::{
    alert::json_str,
    clock::Nanos,
    io::{Io, LocalFuture, Slab},
    limits,
    metrics::{Standing, State},
    position::{Position, encode_name},
    register::{Field, Section},
    ring::Signal,
};
use fold::{Event, Fold};

/// The kind.
pub struct Agent;

impl Kind for Agent {
    fn name(&self) -> &'static str {
        "agent"
    }
    fn about(&self) -> &'static str {
        "our own events: start, stop, trouble and its end, losses"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn parse(&self, _section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings)
    }
}

#[derive(Debug)]
struct Settings;

impl Spec for Settings {
    fn build(&self, name: &str, instance: &str) -> Box<dyn Source> {
        Box::new(Running { component: format!("sources.{name}"), instance: instance.to_owned() })
    }
    fn keeps_running(&self) -> bool {
        false
    }
}

struct Running {
    component: String,
    instance: String,
}

/// Its one stream in the checkpoint.
const STREAM: &str = "agent";

impl Source for Running {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let signal = Arc::new(Signal::default());
            let raised = signal.clone();
            let listener = standing.board().listen(move || raised.raise());
            let started = io.clock().now() / 1_000_000;
            let origin = format!("agent/{}/{started}", encode_name(&self.instance));
            let branches = admit.resume(STREAM).map(|row| row.branches).unwrap_or_default();
            // Numbers go on, since what is acked of a stream is never set back.
            let count = |position: &Position| if let Position::Count(n) = position { *n } else { 0 };
            let next = branches.iter().map(|branch| count(&branch.position)).max().unwrap_or(0);
            admit.open(STREAM, Position::Count(next));
            let mut out = Out { io, admit, origin: origin.into(), next };
            standing.set(State::Ready);
            let board = standing.board();
            let version = env!("CARGO_PKG_VERSION");
            out.tell(&[if board.is_next() {
                self.event("reload", format!("shipper {version} has taken its config anew"))
            } else {
                self.event("start", format!("shipper {version} starts as {}", self.instance))
            }])
            .await;
            let mut fold = Fold::default();
            loop {
                let news = listener.take();
                let is_news = !news.changes.is_empty() || !news.losses.is_empty();
                if news.overflow > 0 {
                    standing.dropped("news_full", news.overflow);
                }
                let events = fold.take(news, out.io.clock().mono());
                out.tell(&events).await;
                if out.admit.is_closed() {
                    break;
                }
                let now = out.io.clock().mono();
                let span =
                    if is_news { Some(limits::OWN_EVENT_FOLD_MS * 1_000_000) } else { fold.due().map(|due| due.saturating_sub(now)) };
                let timer = async {
                    match span {
                        Some(span) => out.io.sleep(Duration::from_nanos(span)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = out.admit.closed() => {}
                    () = timer => {}
                    // More of the same is gathered for a moment.
                    () = signal.wait(), if !is_news => {}
                }
            }
            if !standing.board().has_next() {
                out.tell(&[self.event("stop", "shipper stops".to_owned())]).await;
            }
            Ok(())
        })
    }
}

impl Running {
    fn event(&self, event: &'static str, description: String) -> Event {
        Event { event, component: self.component.clone(), description, ..Event::default() }
    }
}

/// The way out.
struct Out {
    io: Rc<dyn Io>,
    admit: Rc<dyn Admit>,
    origin: Arc<str>,
    next: u64,
}

impl Out {
    async fn tell(&mut self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let received = self.io.clock().now();
        let mut bytes = Vec::new();
        for event in events {
            write(&mut bytes, received, event);
        }
        let at = At::Count { origin: self.origin.clone(), first: self.next };
        self.next += events.len() as u64;
        let chunk = Chunk { slab: Slab::from_bytes(bytes), at, kind: ChunkKind::Lines, received, own: true, rung: None };
        self.admit.chunk(STREAM, chunk).await;
    }
}

/// Characters of a description; errors of the outside world have no limit of their own.
const DESCRIPTION_CHARS: usize = 2000;

fn write(w: &mut Vec<u8>, now: Nanos, event: &Event) {
    let Event { event, component, description, held, lost, seconds, repeated } = event;
    w.extend_from_slice(b"{\"timestamp\":");
    json_str(w, &local(now));
    w.extend_from_slice(b",\"shipper\":{\"event\":");
    json_str(w, event);
    w.extend_from_slice(b",\"component\":");
    json_str(w, component);
    w.extend_from_slice(b",\"description\":");
    let cut = description.char_indices().nth(DESCRIPTION_CHARS).map_or(description.len(), |(at, _)| at);
    json_str(w, description.get(..cut).unwrap_or_default());
    for (name, value) in [("held", held), ("lost", lost), ("seconds", seconds), ("repeated", repeated)] {
        if let Some(value) = value {
            w.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        }
    }
    w.extend_from_slice(b"}}\n");
}

/// Wall time as this host's people read it, with its offset.
fn local(now: Nanos) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(now)).unwrap_or_default();
    time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}
