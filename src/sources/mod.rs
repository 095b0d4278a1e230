//! What brings records in, in the order of their stream, each with its position.
//!
//! A source runs on one shard, the home of its streams. It takes credits before it hands a slab
//! in ([`Admit`]) and is the only thing in the agent that waits for them: a slow sink ends as
//! unread bytes in the file, which is where they are safe.
//!
//! Adding one is one file and one line in [`ALL`].

use std::{fmt, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

pub use crate::register::{Finding, Level};
use crate::{
    checkpoint::{Row, SegmentRow},
    clock::Nanos,
    io::{Executor, Io, LocalFuture, Slab},
    metrics::Standing,
    position::{Position, encode_name},
    register::{Field, Section},
    store::StoreHandle,
};

crate::register! { Kind:
    wazuh::Wazuh,
    file::File,
    stdin::Stdin,
    agent::Agent,
    redis_stream::RedisStream,
    kafka::Kafka,
    opensearch::OpenSearch,
    wazuh_agents::WazuhAgents,
    scan::Scan,
}

pub mod feed;
mod link;
pub mod spool;
mod way;

pub use feed::{Feed, FeedPlace};
use link::{Brought, Ending, Link};
use way::Way;

/// What exists: a kind of source.
pub trait Kind: Sync {
    /// As in `kind = "…"`.
    fn name(&self) -> &'static str;
    /// One line for `shipper list`.
    fn about(&self) -> &'static str;
    /// Its settings.
    fn fields(&self) -> &'static [Field];
    /// Reads its settings; wrong ones are noted in the section.
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec>;
    /// A place in one of its streams, as the header `shipper-origin` says it but for the length;
    /// `None` where the kind has no spelling of its own.
    fn address(&self, stream: &StreamName<'_>, position: &Position) -> Option<String> {
        let _ = (stream, position);
        None
    }
}

/// Which stream: what an address is made of, besides the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamName<'a> {
    /// The agent's name in stream addresses.
    pub instance: &'a str,
    /// The source's name in the config.
    pub source: &'a str,
    /// The stream's name within the source, as checkpoints hold it.
    pub stream: &'a str,
}

/// A place in a stream, as the header `shipper-origin` says it but for the length.
///
/// - `kind`: of the source; one that this build does not know is spelled as its positions allow.
pub fn address(kind: &str, stream: &StreamName<'_>, position: &Position) -> String {
    let own = ALL.iter().find(|known| known.name() == kind).and_then(|known| known.address(stream, position));
    let name = encode_name(stream.stream);
    own.unwrap_or_else(|| match position {
        Position::File { segment, offset, .. } if kind == crate::spool::KIND => {
            format!("spool/{}/{segment}/{offset}", encode_name(stream.source))
        }
        Position::File { segment, incarnation: 0, offset } => format!("file/{}/{name}/{segment}/{offset}", encode_name(stream.source)),
        Position::File { segment, incarnation, offset } => {
            format!("file/{}/{name}/{segment}~{incarnation}/{offset}", encode_name(stream.source))
        }
        Position::Kafka { partition, offset, .. } => format!("kafka/{name}/{partition}/{offset}"),
        Position::Redis { ms, seq } => format!("redis/{name}/{ms}-{seq}"),
        Position::Cursor(cursor) => format!("{kind}/{name}/{}", encode_name(cursor)),
        // The stream's name is the whole of the origin before the number.
        Position::Count(n) => format!("{}/{n}", stream.stream),
    })
}

/// What the config asks for, checked.
pub trait Spec: Send + Sync + fmt::Debug {
    /// One running source.
    ///
    /// - `name`: as in the config.
    /// - `instance`: the agent's name in stream addresses.
    fn build(&self, name: &str, instance: &str) -> Box<dyn Source>;
    /// True for a source that looks at a file again and again while it grows, and rests between two looks as long as
    /// [`Admit::gathers`] lets it.
    fn rests(&self) -> bool {
        false
    }
    /// False for a source that is no reason to run: the agent ends when all others have ended.
    fn keeps_running(&self) -> bool {
        true
    }
    /// True where all that is in flight is kept on disk by ourselves: a drain does not wait for a peer
    /// that is away.
    fn is_kept(&self) -> bool {
        false
    }
    /// Both halves of a source that speaks to the network: what runs on its home shard, which must not, and
    /// what runs on the edge thread. `None` for a kind that [`build`](Self::build) makes whole.
    fn halves(&self, name: &str, instance: &str) -> Option<Halves> {
        let _ = (name, instance);
        None
    }
    /// Asks the other side whether it would answer us: `shipper check`. May block a few seconds.
    /// One line per finding.
    fn check(&self, name: &str) -> Vec<Finding> {
        let _ = name;
        Vec::new()
    }
    /// Where somebody puts what the source brings, for a kind whose records the agent itself makes.
    fn feed(&self) -> Option<&FeedPlace> {
        None
    }
    /// What of the other side's set-up may lose records, for `shipper doctor`. May block a few seconds.
    fn survey(&self) -> Vec<Finding> {
        Vec::new()
    }
    /// What it reads of the file system, for `shipper doctor`.
    fn reads(&self) -> Vec<Reads> {
        Vec::new()
    }
}

/// A source in two halves; see [`Spec::halves`].
pub struct Halves {
    /// Makes the half of the home shard, on that shard.
    pub home: Box<dyn FnOnce() -> Box<dyn Source> + Send>,
    /// Runs the half of the edge thread, until the other one says that it is done.
    pub edge: EdgeHalf,
}

/// Runs on the edge thread.
pub type EdgeHalf = Box<dyn FnOnce(Rc<dyn Executor>, Standing) -> LocalFuture<'static, ()> + Send>;

/// Something that a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The bytes of this file.
    File(PathBuf),
    /// The names in this folder.
    Folder(PathBuf),
}

/// A running source.
pub trait Source {
    /// Runs until the admission is closed (drain) or the source has ended (stdin).
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>>;
}

/// The way into the topology, one per source.
pub trait Admit {
    /// True once the source should stop reading: the agent drains.
    fn is_closed(&self) -> bool;
    /// Waits until the source should stop reading.
    fn closed(&self) -> LocalFuture<'_, ()>;
    /// What the checkpoint holds of a stream; `None` on its first run.
    fn resume(&self, stream: &str) -> Option<Row>;
    /// What the checkpoint holds of every stream of this source.
    fn rows(&self) -> Vec<Row>;
    /// Makes a stream known, with where its branches begin, before its first chunk.
    fn open(&self, stream: &str, start: Position);
    /// Says what is known of a file of the stream; the same segment and incarnation replaces.
    fn segment(&self, stream: &str, row: SegmentRow);
    /// Waits until all that was told so far is saved, or the source should stop. Awaited before
    /// the first bytes under addresses that a restart could give to others.
    fn saved(&self) -> LocalFuture<'_, ()>;
    /// Hands bytes in, in the order of the stream; waits for credits. False if the agent drains and the
    /// chunk was not taken: nothing may be handed in after it.
    fn chunk<'a>(&'a self, stream: &'a str, chunk: Chunk) -> LocalFuture<'a, bool>;
    /// The way back: how many chunks of the stream, in the order in which they were handed in and without a
    /// gap, owe nothing any more in any branch, and are in the saved snapshot of every stage that holds the source.
    fn settled(&self, stream: &str) -> u64 {
        let _ = stream;
        0
    }
    /// Says that others are to go on from where [`settled`](Self::settled) ends: a stage that holds the source takes
    /// a snapshot soon.
    fn hurry(&self) {}
    /// Waits until [`settled`](Self::settled) may have moved; false once it will not move any more. One task
    /// at a time may wait.
    fn settles(&self) -> LocalFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }
    /// True while a stream is known: it was opened, and has not ended with nothing under way.
    fn is_open(&self, stream: &str) -> bool {
        let _ = stream;
        false
    }
    /// How much of the credits is used, in percent.
    fn used(&self) -> u8 {
        0
    }
    /// Says that nothing more will be handed in, though the source runs on: it tells the other side what is
    /// still settled while the agent drains.
    fn last(&self) {}
    /// How much longer a reader may rest between two looks at a file that grows: so long all that it feeds would
    /// let a message wait for others anyway.
    fn gathers(&self) -> Duration {
        Duration::ZERO
    }
    /// Tells how far the reader is behind, in bytes.
    fn lag(&self, bytes: u64);
    /// Counts bytes that vanished unread.
    fn missed(&self, bytes: u64);
    /// The store, for a source whose records lie there; `None` where nothing is kept.
    fn store(&self) -> Option<StoreHandle> {
        None
    }
    /// What the source had kept beside its rows by [`keep`](Self::keep); `None` on its first run.
    fn kept(&self) -> Option<Arc<[u8]>> {
        None
    }
    /// Has something of the source's own saved together with its rows, in place of what it kept before: what no
    /// position says. It may speak of settled records only, since it may be saved at once.
    fn keep(&self, body: Vec<u8>) {
        let _ = body;
    }
    /// Says that a stream has ended for good: once nothing is owed for it, its row leaves the
    /// checkpoint. A stream that was never opened is forgotten at once. An admission without a
    /// checkpoint has nothing to forget.
    fn end(&self, stream: &str) {
        let _ = stream;
    }
    /// Says that a stream is somebody else's for now: as [`end`](Self::end), but its row stays, and says where to go on
    /// should the stream come back.
    fn leave(&self, stream: &str) {
        let _ = stream;
    }
}

/// Whole frames of one stream, on their way in.
#[derive(Debug)]
pub struct Chunk {
    pub slab: Slab,
    pub at: At,
    pub kind: ChunkKind,
    /// Wall time at which the bytes were seen, nanoseconds since 1970.
    pub received: Nanos,
    /// True for the agent's own events.
    pub own: bool,
    /// Checksum of the bytes before the chunk's end, if it is a place to resume from.
    pub rung: Option<u32>,
}

/// Where a chunk lies.
#[derive(Clone, Debug)]
pub enum At {
    /// In a file: its first byte.
    File {
        /// Text of the origin before the offset.
        origin: Arc<str>,
        segment: u32,
        incarnation: u16,
        offset: u64,
    },
    /// Numbered records: the first one's number.
    Count { origin: Arc<str>, first: u64 },
    /// Entries of a stream that somebody else keeps, each in a place of its own, without gaps in the slab.
    Entries {
        /// Text of an origin before the entry's own part.
        origin: Arc<str>,
        entries: Vec<EntryAt>,
        /// The bytes of their keys.
        keys: Vec<u8>,
        /// Everything below has now been handed in.
        end: Position,
    },
}

impl At {
    /// The place of the first entry, of a chunk of entries.
    pub fn first(&self) -> Option<&Position> {
        match self {
            At::Entries { entries, .. } => entries.first().map(|entry| &entry.position),
            _ => None,
        }
    }
}

/// Where an entry lies, in the slab and in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryAt {
    /// Bytes from the start of the slab, and length.
    pub start: u32,
    pub len: u32,
    pub position: Position,
    /// Wall time at which its stream took it in.
    pub received: Nanos,
    /// Why it can be no record, and what a person should know of that.
    pub refused: Option<(&'static str, String)>,
    /// Where its key lies among the keys of its chunk, for those who refuse it.
    pub key: Option<(u32, u32)>,
}

/// Entries gathered for one chunk.
#[derive(Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    keys: Vec<u8>,
    all: Vec<EntryAt>,
}

impl Entries {
    /// Adds one.
    pub fn push(&mut self, bytes: &[u8], position: Position, received: Nanos, refused: Option<(&'static str, String)>) {
        let (start, len) = (self.bytes.len(), bytes.len());
        let narrow = |n: usize| u32::try_from(n).expect("a chunk is smaller than 4 GiB");
        self.bytes.extend_from_slice(bytes);
        self.all.push(EntryAt { start: narrow(start), len: narrow(len), position, received, refused, key: None });
    }
    /// Gives the entry that was added last its key.
    pub fn key(&mut self, key: &[u8]) {
        let narrow = |n: usize| u32::try_from(n).expect("a chunk is smaller than 4 GiB");
        let start = narrow(self.keys.len());
        self.keys.extend_from_slice(key);
        if let Some(entry) = self.all.last_mut() {
            entry.key = Some((start, narrow(self.keys.len())));
        }
    }
    /// The place of the first.
    pub fn first(&self) -> Option<&Position> {
        self.all.first().map(|entry| &entry.position)
    }
    /// Their bytes so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
    /// True before the first.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// All of them, as a chunk.
    ///
    /// - `received`: wall time now.
    pub fn into_chunk(self, origin: Arc<str>, end: Position, received: Nanos) -> Chunk {
        let at = At::Entries { origin, entries: self.all, keys: self.keys, end };
        Chunk { slab: Slab::from_bytes(self.bytes), at, kind: ChunkKind::Entries, received, own: false, rung: None }
    }
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// Whole lines.
    Lines,
    /// Whole objects of JSON.
    Objects,
    /// One frame that can be no record: a lost tail, a line beyond the limit. The reason.
    Broken(&'static str),
    /// Whole entries of a spool: messages that were emitted before.
    Spooled,
    /// Records one after another, whatever bytes are in them; where each lies says [`At::Entries`].
    Entries,
}

/// What ends a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What the checkpoint says cannot be true of what is there.
    #[error("source {name}: {what}")]
    Resume { name: String, what: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_the_header_does() {
        let stream = |stream| StreamName { instance: "mgr 1", source: "waf", stream };
        let file = |segment, incarnation| Position::File { segment, incarnation, offset: 1024 };
        let part = crate::position::Segment::new(20_526, 2).unwrap().0;
        for (kind, name, position, text) in [
            ("wazuh", "alerts", file(part, 0), "mgr%201/alerts/2026-03-14/002/1024"),
            ("wazuh", "alerts", file(part, 1), "mgr%201/alerts/2026-03-14/002~1/1024"),
            ("file", "/var/log/a.log", file(0, 0), "file/waf/%2Fvar%2Flog%2Fa.log/0/1024"),
            ("file", "/var/log/a.log", file(3, 2), "file/waf/%2Fvar%2Flog%2Fa.log/3~2/1024"),
            ("file", "fe00-98a1ff-18a9c0d1", file(0, 0), "file/waf/fe00-98a1ff-18a9c0d1/1024"),
            ("file", "fe00-98a1ff-18a9c0d1", file(0, 3), "file/waf/fe00-98a1ff-18a9c0d1~3/1024"),
            ("spool", "spool", file(3, 0), "spool/waf/3/1024"),
            ("stdin", "stdin/1764", Position::Count(7), "stdin/1764/7"),
            ("of a later build", "t", Position::Kafka { partition: 3, offset: 9, epoch: 0 }, "kafka/t/3/9"),
        ] {
            assert_eq!(address(kind, &stream(name), &position), text);
        }
    }
}
