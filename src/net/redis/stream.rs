//! Streams of Redis, read by a consumer group.
//!
//! One [`Connection`] sends one command after another; whoever blocks in a read has one of its own.
//! Answers are read as Redis 5 to 7 give them. What a Redis does not know or does not allow, and what
//! can be done without, is [`Trouble::Unable`].
//!
//! Refuses to decide: what is acked, claimed or counted is the caller's business.

use std::{fmt, time::Duration};

use redis::{AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection};

use super::{Place, SAID_CHARS, Settings, client};
use crate::limits;

/// Place of an entry in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Milliseconds since 1970, where Redis chose it.
    pub ms: u64,
    pub seq: u64,
}

impl Id {
    /// Reads `1773480423123-7`.
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }
    /// The least place behind it.
    pub fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { seq, ..self },
            None => Self { ms: self.ms.saturating_add(1), seq: 0 },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Names and values of an entry, in their order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// An entry as Redis gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: Id,
    /// `None`: it was trimmed or deleted, and only its id is known.
    pub fields: Option<Fields>,
}

/// An entry that was given to a consumer and is not acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub id: Id,
    /// Milliseconds since it was last given to somebody.
    pub idle_ms: u64,
    /// How often it was.
    pub deliveries: u64,
}

/// What a look at a group found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Entries that were cut off the stream before anybody of the group had read them, since the last look.
    pub lost: u64,
    /// Entries that the group has not read; `None` where Redis cannot tell.
    pub lag: Option<u64>,
    /// False where entries were deleted out of the middle, or this Redis keeps no counts: `lost` is not known.
    pub is_exact: bool,
}

/// One page of what was claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Where the next page begins; `0-0` behind the last.
    pub next: Id,
    pub entries: Vec<Entry>,
    /// Entries that were pending and are gone from the stream; Redis has forgotten them now.
    pub gone: Vec<Id>,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is away or busy; try again.
    Away(String),
    /// A person must mend it: what, and the remedy after `;`.
    Wrong(String),
    /// The group or its stream is gone.
    NoGroup,
    /// This Redis is too old for the command, or this user may not use it.
    Unable(String),
}

/// One connection.
pub struct Connection {
    place: Place,
    inner: MultiplexedConnection,
}

/// Asks Redis and keeps the group's own count right, in one step that nothing can come between.
///
/// `entries-read` is how many entries of the stream, from its first ever, lie up to the last one that the
/// group was given. Redis 7.0 does not add to it what was trimmed unread, so the script does, and gives back
/// how much that was: each lost entry is counted once, whoever of the group asks.
const LOOK: &str = r"
local function of(list, name)
  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end
end
local function less(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  if a1 ~= b1 then return tonumber(a1) < tonumber(b1) end
  return tonumber(a2) < tonumber(b2)
end
local stream, group = redis.call('XINFO', 'STREAM', KEYS[1]), nil
for _, each in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if of(each, 'name') == ARGV[1] then group = each end
end
if not group then return {-2, -1} end
local added = of(stream, 'entries-added')
if not added then return {-1, -1} end
local at, read = of(group, 'last-delivered-id'), of(group, 'entries-read')
local first, deleted = of(stream, 'first-entry'), of(stream, 'max-deleted-entry-id')
first = first and first[1]
local cut, least = added - of(stream, 'length'), nil
if at == of(stream, 'last-generated-id') then
  least = added
elseif first and deleted and not less(deleted, first) then
  return {-1, -1}
elseif not first or less(at, first) then
  least = cut
end
local known = read
if not read then
  if not least then return {-1, -1} end
  read = least
end
local lost = 0
if least and least > read then lost = least - read end
if lost > 0 or not known then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], at, 'ENTRIESREAD', read + lost) end
return {lost, added - read - lost}
";

impl Connection {
    /// Connects and logs in. The password is read anew each time.
    ///
    /// - `blocks`: how long a read may block, beyond the settings' time for an answer.
    ///
    /// # Errors
    /// [`Trouble::Away`] or [`Trouble::Wrong`].
    pub async fn open(settings: &Settings, blocks: Duration) -> Result<Self, Trouble> {
        let client = client(settings).map_err(Trouble::Wrong)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.timeout.saturating_add(blocks)));
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(inner) => Ok(Self { place: settings.place.clone(), inner }),
            Err(error) => Err(trouble(&settings.place, &error)),
        }
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, Trouble> {
        command.query_async(&mut self.inner.clone()).await.map_err(|error| trouble(&self.place, &error))
    }

    /// Makes the group, and the stream if it is not there; false if it was there.
    ///
    /// - `start`: the id behind which the group begins: `0` is the whole stream, `$` its end.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn make_group(&self, key: &str, group: &str, start: &str) -> Result<bool, Trouble> {
        let made = redis::cmd("XGROUP").arg("CREATE").arg(key).arg(group).arg(start).arg("MKSTREAM").to_owned();
        match made.query_async::<Value>(&mut self.inner.clone()).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(false),
            Err(error) => Err(trouble(&self.place, &error)),
        }
    }

    /// What this consumer was given and has not acked, behind `after`.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn own(&self, key: &str, reader: &Reader<'_>, after: Id, count: usize) -> Result<Vec<Entry>, Trouble> {
        let mut read = reader.command(count);
        let answer = self.ask(read.arg("STREAMS").arg(key).arg(after.to_string())).await?;
        Ok(streams(answer).into_iter().flat_map(|(_, entries)| entries).collect())
    }

    /// Looks at the group.
    ///
    /// # Errors
    /// [`Trouble::Unable`] where this user may not look.
    pub async fn look(&self, key: &str, group: &str) -> Result<Look, Trouble> {
        let answer = self.ask(redis::cmd("EVAL").arg(LOOK).arg(1).arg(key).arg(group)).await;
        match answer {
            Ok(answer) => looked(answer),
            // Not the key: making the group would have said so.
            Err(Trouble::Wrong(why)) => Err(Trouble::Unable(why)),
            Err(other) => Err(other),
        }
    }

    /// New entries of one stream, at once, and a look at the group just before, with nothing between.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn look_and_read(&self, key: &str, reader: &Reader<'_>, count: usize) -> Result<(Look, Vec<Entry>), Trouble> {
        let mut both = Pipeline::new();
        let mut read = reader.command(count);
        read.arg("STREAMS").arg(key).arg(">");
        both.atomic().cmd("EVAL").arg(LOOK).arg(1).arg(key).arg(reader.group).add_command(read).ignore_errors();
        let answers = both.query_async::<Vec<RedisResult<Value>>>(&mut self.inner.clone()).await;
        let mut answers = answers.map_err(|error| trouble(&self.place, &error))?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil)).map_err(|error| trouble(&self.place, &error));
        let (look, read) = (next(), next()?);
        let entries = streams(read).into_iter().flat_map(|(_, entries)| entries).collect();
        // The entries are ours now, whatever became of the look.
        let look = look.and_then(looked).unwrap_or_default();
        Ok((look, entries))
    }

    /// New entries of any of these streams; waits for the first at most `block`, or not at all.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn read(
        &self,
        keys: &[String],
        reader: &Reader<'_>,
        count: usize,
        block: Option<Duration>,
    ) -> Result<Vec<(String, Vec<Entry>)>, Trouble> {
        let mut read = reader.command(count);
        if let Some(block) = block {
            // 0 would be for ever.
            read.arg("BLOCK").arg(block.as_millis().clamp(1, u128::from(u32::MAX)) as u64);
        }
        read.arg("STREAMS").arg(keys);
        keys.iter().for_each(|_| _ = read.arg(">"));
        Ok(streams(self.ask(&read).await?))
    }

    /// Takes over entries that somebody was given at least `idle` ago and has not acked.
    ///
    /// # Errors
    /// [`Trouble::Unable`] before Redis 6.2.
    pub async fn claim(&self, key: &str, reader: &Reader<'_>, idle: Duration, from: Id, count: usize) -> Result<Claimed, Trouble> {
        let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(key).arg(reader.group).arg(reader.consumer).arg(idle).arg(from.to_string()).arg("COUNT").arg(count);
        let mut parts = list(self.ask(&command).await?).into_iter();
        let next = parts.next().as_ref().and_then(id).unwrap_or_default();
        let entries = parts.next().map(entries).unwrap_or_default();
        let gone = parts.next().map(|gone| list(gone).iter().filter_map(id).collect()).unwrap_or_default();
        Ok(Claimed { next, entries, gone })
    }

    /// Takes over these entries, if they are idle for that long still. What is gone from the stream is left out.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn claim_these(&self, key: &str, reader: &Reader<'_>, idle: Duration, ids: &[Id]) -> Result<Vec<Entry>, Trouble> {
        let mut command = redis::cmd("XCLAIM");
        command.arg(key).arg(reader.group).arg(reader.consumer).arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        ids.iter().for_each(|id| _ = command.arg(id.to_string()));
        Ok(entries(self.ask(&command).await?))
    }

    /// True if the stream still has the entry.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn has(&self, key: &str, id: Id) -> Result<bool, Trouble> {
        let command = redis::cmd("XRANGE").arg(key).arg(id.to_string()).arg(id.to_string()).to_owned();
        Ok(!entries(self.ask(&command).await?).is_empty())
    }

    /// Says that we still work on these entries: nobody claims them for another while. It is no delivery.
    ///
    /// - `deliveries`: sets how often they were given to somebody.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn touch(&self, key: &str, reader: &Reader<'_>, ids: &[Id], deliveries: Option<u64>) -> Result<(), Trouble> {
        for ids in ids.chunks(limits::REDIS_IDS_MAX) {
            let mut command = redis::cmd("XCLAIM");
            command.arg(key).arg(reader.group).arg(reader.consumer).arg(0);
            ids.iter().for_each(|id| _ = command.arg(id.to_string()));
            if let Some(deliveries) = deliveries {
                command.arg("RETRYCOUNT").arg(deliveries);
            }
            self.ask(command.arg("JUSTID")).await?;
        }
        Ok(())
    }

    /// What is pending from `from` to `to`, in order, a page of it.
    ///
    /// - `consumer`: only what this one was given.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn pending(&self, key: &str, group: &str, from: Id, to: Option<Id>, consumer: Option<&str>) -> Result<Vec<Pending>, Trouble> {
        let mut command = redis::cmd("XPENDING");
        let to = to.map_or_else(|| "+".to_owned(), |to| to.to_string());
        command.arg(key).arg(group).arg(from.to_string()).arg(to).arg(limits::REDIS_IDS_MAX);
        if let Some(consumer) = consumer {
            command.arg(consumer);
        }
        let one = |row: Value| {
            let row = list(row);
            let number = |at: usize| row.get(at).and_then(number).and_then(|n| u64::try_from(n).ok());
            Some(Pending { id: row.first().and_then(id)?, idle_ms: number(2)?, deliveries: number(3)? })
        };
        Ok(list(self.ask(&command).await?).into_iter().filter_map(one).collect())
    }

    /// How many entries of the group are pending, and which is the oldest.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn pending_count(&self, key: &str, group: &str) -> Result<(u64, Option<Id>), Trouble> {
        let answer = list(self.ask(redis::cmd("XPENDING").arg(key).arg(group)).await?);
        let count = answer.first().and_then(number).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        Ok((count, answer.get(1).and_then(id)))
    }

    /// Acks entries; gives how many of them were pending.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn ack(&self, key: &str, group: &str, ids: &[Id]) -> Result<u64, Trouble> {
        let mut acked = 0;
        for ids in ids.chunks(limits::REDIS_IDS_MAX) {
            let mut command = redis::cmd("XACK");
            command.arg(key).arg(group);
            ids.iter().for_each(|id| _ = command.arg(id.to_string()));
            acked += number(&self.ask(&command).await?).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        }
        Ok(acked)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn add(&self, key: &str, fields: &[(&str, &[u8])]) -> Result<(), Trouble> {
        let mut command = redis::cmd("XADD");
        command.arg(key).arg("*");
        fields.iter().for_each(|(name, value)| _ = command.arg(name).arg(value));
        self.ask(&command).await.map(drop)
    }

    /// Its version, and what it does when its memory is full, as far as this user may see it.
    pub async fn facts(&self) -> (Option<String>, Option<String>) {
        let line = |text: &str, name: &str| text.lines().find_map(|line| line.strip_prefix(name).map(str::trim).map(str::to_owned));
        let mut told = (None, None);
        if let Ok(Value::BulkString(bytes)) = self.ask(redis::cmd("INFO").arg("server")).await {
            told.0 = line(&String::from_utf8_lossy(&bytes), "redis_version:");
        }
        if let Ok(Value::BulkString(bytes)) = self.ask(redis::cmd("INFO").arg("memory")).await {
            told.1 = line(&String::from_utf8_lossy(&bytes), "maxmemory_policy:");
        }
        told
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.place)
    }
}

/// Who reads: a consumer of a group.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'n> {
    pub group: &'n str,
    pub consumer: &'n str,
}

impl Reader<'_> {
    fn command(&self, count: usize) -> Cmd {
        redis::cmd("XREADGROUP").arg("GROUP").arg(self.group).arg(self.consumer).arg("COUNT").arg(count).to_owned()
    }
}

/// The name of this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What an error means, and what to do.
fn trouble(place: &Place, error: &RedisError) -> Trouble {
    let said: String = error.to_string().chars().take(SAID_CHARS).collect();
    let told = |remedy: &str| format!("{place}: {said}; {remedy}");
    let lower = said.to_ascii_lowercase();
    match error.code() {
        Some("NOGROUP" | "UNBLOCKED") => Trouble::NoGroup,
        Some("NOAUTH") => Trouble::Wrong(told("it wants a password: set password_file")),
        Some("WRONGPASS") => Trouble::Wrong(told("user or password is refused: check username and password_file")),
        Some("NOPERM") if lower.contains("xautoclaim") || lower.contains("'eval'") => Trouble::Unable(said),
        Some("NOPERM") => Trouble::Wrong(told("the user may not do this: let it read, ack and claim by group on the keys of streams")),
        Some("WRONGTYPE") => Trouble::Wrong(told("the key holds something else than a stream: correct streams")),
        Some("READONLY") => Trouble::Wrong(told("it is a replica: name the primary in url")),
        _ if error.kind() == ErrorKind::AuthenticationFailed => {
            Trouble::Wrong(told("user or password is refused: check username and password_file"))
        }
        _ if lower.contains("unknown command") => Trouble::Unable(said),
        _ if lower.contains("requires the key to exist") || lower.contains("no such key") => Trouble::NoGroup,
        _ if lower.contains("db index is out of range") => Trouble::Wrong(told("it has no such database: correct db")),
        _ if lower.contains("certificate") => Trouble::Wrong(told("see tls.ca, and the name that is in the certificate")),
        _ if error.is_timeout() => Trouble::Away(told("it does not answer in time")),
        _ => Trouble::Away(told("see the network and its log")),
    }
}

fn looked(answer: Value) -> Result<Look, Trouble> {
    match numbers(answer)[..] {
        [-2, _] => Err(Trouble::NoGroup),
        [lost, lag] => Ok(Look { lost: u64::try_from(lost).unwrap_or(0), lag: u64::try_from(lag).ok(), is_exact: lost >= 0 }),
        _ => Ok(Look::default()),
    }
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) | Value::Set(all) => all,
        _ => Vec::new(),
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        _ => None,
    }
}

fn numbers(value: Value) -> Vec<i64> {
    list(value).iter().filter_map(number).collect()
}

fn id(value: &Value) -> Option<Id> {
    match value {
        Value::BulkString(bytes) => Id::parse(std::str::from_utf8(bytes).ok()?),
        Value::SimpleString(text) => Id::parse(text),
        _ => None,
    }
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        Value::Int(n) => n.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

/// Entries of a list of `[id, [name, value, …]]`; a missing list of fields is an entry that is gone, and a missing
/// entry (Redis 6.2) says nothing.
fn entries(value: Value) -> Vec<Entry> {
    let one = |entry: Value| {
        let mut parts = list(entry).into_iter();
        let id = parts.next().as_ref().and_then(id)?;
        let fields = match parts.next() {
            Some(Value::Array(fields)) => {
                let mut fields = fields.into_iter();
                Some(std::iter::from_fn(|| Some((bytes(fields.next()?), fields.next().map(bytes).unwrap_or_default()))).collect())
            }
            _ => None,
        };
        Some(Entry { id, fields })
    };
    list(value).into_iter().filter_map(one).collect()
}

/// Entries by stream.
fn streams(value: Value) -> Vec<(String, Vec<Entry>)> {
    let one = |stream: Value| {
        let mut parts = list(stream).into_iter();
        let key = String::from_utf8_lossy(&bytes(parts.next()?)).into_owned();
        Some((key, entries(parts.next()?)))
    };
    match value {
        Value::Map(all) => all.into_iter().map(|(key, all)| (String::from_utf8_lossy(&bytes(key)).into_owned(), entries(all))).collect(),
        other => list(other).into_iter().filter_map(one).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn answers_are_read_as_redis_gives_them() {
        let entry = Value::Array(vec![text("5-1"), Value::Array(vec![text("data"), text("{}"), text("n"), text("1")])]);
        let gone = Value::Array(vec![text("5-2"), Value::Nil]);
        let read = Value::Array(vec![Value::Array(vec![text("waf"), Value::Array(vec![entry, gone, Value::Nil])])]);
        let fields = vec![(b"data".to_vec(), b"{}".to_vec()), (b"n".to_vec(), b"1".to_vec())];
        let expected = vec![Entry { id: Id { ms: 5, seq: 1 }, fields: Some(fields) }, Entry { id: Id { ms: 5, seq: 2 }, fields: None }];
        assert_eq!(streams(read), [("waf".to_owned(), expected)]);
        assert_eq!(streams(Value::Nil), []);
    }

    #[test]
    fn ids_are_read_and_ordered() {
        assert_eq!(Id::parse("1773480423123-7"), Some(Id { ms: 1_773_480_423_123, seq: 7 }));
        for wrong in ["", "5", "-", "a-1", "1-b"] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
        let at = |ms, seq| Id { ms, seq };
        assert!(at(1, u64::MAX) < at(2, 0));
        assert_eq!((at(1, 1).next(), at(1, u64::MAX).next()), (at(1, 2), at(2, 0)));
    }
}
