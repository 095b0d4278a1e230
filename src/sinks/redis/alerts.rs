//! Alerts as a store that can be looked at: each once, with its indices, its counts and the list of older dashboards. Pure.
//!
//! One script an alert, so that nobody sees half of it. What tells a repeat is the alert's own id: its key is set
//! first, and only if it was not there all else follows. If something cannot be done the key is taken back, so that
//! nothing is taken for stored that is not; the list, which alone counts how often, is pushed onto last.

use crate::{
    clock::Nanos,
    detect::kept::{Brief, Keys, brief::day},
    limits,
    net::redis::commands::Command,
};

/// How alerts are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alerts {
    pub keys: Keys,
    /// Alerts on the list.
    pub most: u64,
    /// Seconds that an alert is kept; whole days.
    pub lives: u64,
}

/// KEYS: alert, list, by_time, by_entity, stats, entities.
/// ARGV: alert, seconds it lives, first index of the list that stays, event time, id, severity, source, day, time before which
/// it is past retention, entity, last rank of entities that goes, channel.
const KEEP: &str = "for n, kind in ipairs({'list', 'zset', 'zset', 'hash', 'zset'}) do \
local is = redis.call('TYPE', KEYS[n + 1]).ok \
if is ~= 'none' and is ~= kind then \
return redis.error_reply('WRONGTYPE key ' .. KEYS[n + 1] .. ' holds a ' .. is .. ', not a ' .. kind) end end \
local new = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) \
if not new then return 0 end if new.err then return new end \
for _, step in ipairs({ \
{'ZADD', KEYS[3], ARGV[4], ARGV[5]}, \
{'ZADD', KEYS[4], ARGV[4], ARGV[5]}, \
{'ZREMRANGEBYSCORE', KEYS[4], '-inf', '(' .. ARGV[9]}, \
{'EXPIRE', KEYS[4], ARGV[2]}, \
{'HINCRBY', KEYS[5], 'alerts', 1}, \
{'HINCRBY', KEYS[5], 'severity:' .. ARGV[6], 1}, \
{'HINCRBY', KEYS[5], 'source:' .. ARGV[7], 1}, \
{'HINCRBY', KEYS[5], 'day:' .. ARGV[8], 1}, \
{'ZINCRBY', KEYS[6], 1, ARGV[10]}, \
{'ZREMRANGEBYRANK', KEYS[6], 0, ARGV[11]}, \
{'LTRIM', KEYS[2], ARGV[3], '-1'}, \
{'PUBLISH', ARGV[12], ARGV[5]}, \
{'RPUSH', KEYS[2], ARGV[1]}}) do \
local done = redis.pcall(unpack(step)) \
if type(done) == 'table' and done.err then redis.pcall('DEL', KEYS[1]) return done end end return 1";

/// Days before the oldest that is kept whose counts are taken out at a sweep: an agent may have been away.
const SWEPT_DAYS: i64 = 60;
const DAY_MS: i64 = 86_400_000;

impl Alerts {
    /// The command that stores one alert. Its answer is 0 where it was there.
    ///
    /// - `now`: wall time. An alert of the future counts as of now, or it would stay in front for ever.
    pub(super) fn command(&self, brief: &Brief, json: &[u8], now: Nanos) -> Command {
        let now_ms = millis(now);
        let Brief { id, entity, time_ms, severity, source } = brief;
        let time_ms = (*time_ms).min(now_ms);
        let keys = [
            self.keys.alert(id),
            self.keys.list(),
            self.keys.by_time(),
            self.keys.by_entity(entity),
            self.keys.stats(),
            self.keys.entities(),
        ];
        // One is about to be pushed.
        let first = 1 - i64::try_from(self.most).unwrap_or(i64::MAX);
        let numbers = [first, time_ms, self.cut(now_ms), -1 - limits::REDIS_ENTITIES as i64].map(|n| n.to_string());
        let [first, time, cut, rank] = numbers.each_ref().map(String::as_bytes);
        let (lives, day, channel) = (self.lives.to_string(), day(time_ms), self.keys.channel());
        let mut words: Vec<&[u8]> = vec![b"EVAL", KEEP.as_bytes(), b"6"];
        words.extend(keys.iter().map(String::as_bytes));
        words.extend([json, lives.as_bytes(), first, time, id.as_bytes(), severity.as_bytes(), source.as_bytes(), day.as_bytes()]);
        words.extend([cut, entity.as_bytes(), rank, channel.as_bytes()]);
        Command::of(&words)
    }

    /// Takes out of the indices what is past its retention.
    pub(super) fn sweep(&self, now: Nanos) -> Vec<Command> {
        let cut = self.cut(millis(now));
        let (by_time, stats, end) = (self.keys.by_time(), self.keys.stats(), format!("({cut}"));
        let days: Vec<String> = (1..=SWEPT_DAYS).map(|n| format!("day:{}", day(cut - n * DAY_MS))).collect();
        let mut counts: Vec<&[u8]> = vec![b"HDEL", stats.as_bytes()];
        counts.extend(days.iter().map(String::as_bytes));
        vec![Command::of(&[b"ZREMRANGEBYSCORE", by_time.as_bytes(), b"-inf", end.as_bytes()]), Command::of(&counts)]
    }

    /// Milliseconds since 1970 before which an alert is past its retention.
    fn cut(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::try_from(self.lives).unwrap_or(i64::MAX).saturating_mul(1000))
    }

    /// Keys that every alert is written to, and the types that Redis has to find there.
    pub(super) fn held(&self) -> Vec<(String, &'static str)> {
        let Self { keys, .. } = self;
        vec![(keys.list(), "list"), (keys.by_time(), "zset"), (keys.stats(), "hash"), (keys.entities(), "zset")]
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(now: Nanos) -> i64 {
    i64::try_from(now / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NOW: Nanos = 1_773_480_423_123_000_000;

    fn alerts() -> Alerts {
        Alerts { keys: Keys::new("apt_detection:"), most: 10_000, lives: 90 * 86_400 }
    }

    fn words(command: &Command) -> Vec<String> {
        command.0.iter().map(|word| String::from_utf8(word.clone()).unwrap()).collect()
    }

    #[test]
    fn an_alert_is_one_script_over_six_keys() {
        let brief =
            Brief { id: "00ff".into(), entity: "host1".into(), time_ms: 1_773_480_000_000, severity: "High", source: "kafka".into() };
        let words = words(&alerts().command(&brief, b"{}", NOW));
        let keys = ["alert:00ff", "alerts", "by_time", "by_entity:host1", "stats", "entities"].map(|key| format!("apt_detection:{key}"));
        assert_eq!((words[0].as_str(), words[2].as_str(), &words[3..9]), ("EVAL", "6", &keys[..]));
        let rest = [
            "{}",
            "7776000",
            "-9999",
            "1773480000000",
            "00ff",
            "High",
            "kafka",
            "2026-03-14",
            "1765704423123",
            "host1",
            "-10001",
            "apt_detection:new",
        ];
        assert_eq!(words[9..], rest.map(str::to_owned));
        assert!((1..=12).all(|n| words[1].contains(&format!("ARGV[{n}]"))) && !words[1].contains("ARGV[13]"));
        assert!((2..=6).all(|n| words[1].contains(&format!("KEYS[{n}]"))));
    }

    #[test]
    fn one_of_the_future_is_stored_as_of_now() {
        let brief = Brief { id: "a".into(), entity: "h".into(), time_ms: 1_999_999_999_999, severity: "Low", source: "kafka".into() };
        let words = words(&alerts().command(&brief, b"{}", NOW));
        assert_eq!((words[12].as_str(), words[16].as_str()), ("1773480423123", "2026-03-14"));
    }

    #[test]
    fn a_sweep_takes_out_what_is_older_than_is_kept() {
        let [times, counts] = <[Command; 2]>::try_from(alerts().sweep(NOW)).unwrap();
        assert_eq!(words(&times), ["ZREMRANGEBYSCORE", "apt_detection:by_time", "-inf", "(1765704423123"]);
        // The oldest moment that is kept is of 2025-12-14, which counts on.
        let counts = words(&counts);
        assert_eq!((counts[1].as_str(), counts[2].as_str(), counts.len()), ("apt_detection:stats", "day:2025-12-13", 62));
    }
}
