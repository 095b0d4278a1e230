//! One second in the forms that logs write it, made once and used for every alert of that second.

use jiff::{Timestamp, tz::Offset};

use crate::clock::Nanos;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment in one zone.
#[derive(Debug)]
pub(super) struct Moment {
    now: Nanos,
    second: u64,
    zone_minutes: i32,
    local: String,
    utc: String,
    zone: String,
    syslog: String,
    web: String,
}

impl Moment {
    /// The moment `now` (nanoseconds since 1970), written in a zone so many minutes east of UTC.
    pub(super) fn new(now: Nanos, zone_minutes: i32) -> Self {
        let text = String::new;
        let mut moment =
            Self { now, second: u64::MAX, zone_minutes, local: text(), utc: text(), zone: text(), syslog: text(), web: text() };
        moment.set(now, zone_minutes);
        moment
    }

    /// Moves to another moment; within the same second this costs nothing.
    pub(super) fn set(&mut self, now: Nanos, zone_minutes: i32) {
        self.now = now;
        let second = now / 1_000_000_000;
        if second == self.second && zone_minutes == self.zone_minutes {
            return;
        }
        self.second = second;
        self.zone_minutes = zone_minutes;
        // Both fit: 2^64 ns end in the year 2554, and a zone beyond a day is cut to one.
        let stamp = Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH);
        let offset = Offset::from_seconds(zone_minutes.clamp(-1439, 1439) * 60).unwrap_or(Offset::UTC);
        let (local, utc) = (offset.to_datetime(stamp), Offset::UTC.to_datetime(stamp));
        let (sign, zone) = (if zone_minutes < 0 { '-' } else { '+' }, zone_minutes.unsigned_abs().min(1439));
        let month = usize::try_from(local.month() - 1).ok().and_then(|n| MONTHS.get(n)).copied().unwrap_or_default();
        let clock = format!("{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second());
        self.zone = format!("{sign}{:02}{:02}", zone / 60, zone % 60);
        self.local = format!("{:04}-{:02}-{:02}T{clock}", local.year(), local.month(), local.day());
        self.utc = utc.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        self.syslog = format!("{month} {:2} {clock}", local.day());
        self.web = format!("{:02}/{month}/{}:{clock} {}", local.day(), local.year(), self.zone);
    }

    /// `2026-03-14T06:25:12`, local.
    pub(super) fn local(&self) -> &[u8] {
        self.local.as_bytes()
    }
    /// The same in UTC.
    pub(super) fn utc(&self) -> &[u8] {
        self.utc.as_bytes()
    }
    /// `+0100`
    pub(super) fn zone(&self) -> &[u8] {
        self.zone.as_bytes()
    }
    /// `Mar 14 06:25:12`, the day padded with a blank.
    pub(super) fn syslog(&self) -> &[u8] {
        self.syslog.as_bytes()
    }
    /// `14/Mar/2026:06:25:12 +0100`
    pub(super) fn web(&self) -> &[u8] {
        self.web.as_bytes()
    }
    /// Milliseconds within the second.
    pub(super) fn millis(&self) -> u64 {
        self.now / 1_000_000 % 1000
    }
    /// Seconds since 1970.
    pub(super) fn epoch(&self) -> u64 {
        self.second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_west_of_utc_can_be_another_day() {
        let moment = Moment::new(1_709_251_200_000_000_000, -330); // 2024-03-01T00:00:00Z
        assert_eq!(moment.local(), b"2024-02-29T18:30:00");
        assert_eq!((moment.zone(), moment.syslog()), (&b"-0530"[..], &b"Feb 29 18:30:00"[..]));
    }

    #[test]
    fn a_new_zone_counts_within_the_same_second() {
        let mut moment = Moment::new(0, 0);
        moment.set(0, 60);
        assert_eq!(moment.local(), b"1970-01-01T01:00:00");
    }
}
