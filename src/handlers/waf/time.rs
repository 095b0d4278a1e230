//! When an event happened.
//!
//! The first member that can be read says so, else the time at which the event was received. A time
//! without a zone is in the zone that is set, but for one thing: libmodsecurity writes local time without
//! a zone, and the true second at the front of its id. Where the two differ by what a zone may be, the id
//! is right.
//!
//! Clocks of whole seconds give many events one time, and a database keeps one point for each time and
//! set of tags. So a time that is written in whole seconds gets a fraction made of the event itself: the same again
//! whenever it is read, and another one for nearly every other event.

use jiff::{civil, tz::TimeZone};

use super::event::{Event, trimmed};

const SECOND: i64 = 1_000_000_000;

/// The time of an event, nanoseconds since 1970.
///
/// - `client`, `uri`: as they are shown, so that the fraction tells nothing of what is hidden.
/// - `received`: nanoseconds since 1970.
pub fn nanos(event: &Event<'_>, client: &str, uri: &str, zone: &TimeZone, received: u64) -> i64 {
    let Some(Time { nanos, is_whole }) = told(event, zone) else {
        return i64::try_from(received).unwrap_or(i64::MAX);
    };
    if !is_whole || (event.id.is_empty() && event.port.is_none()) {
        return nanos;
    }
    nanos.saturating_add(fraction(event.id, client, event.port, uri))
}

/// A moment, as far as a clock told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time {
    nanos: i64,
    /// The clock has whole seconds: nothing finer is written, not even zeros.
    is_whole: bool,
}

/// What the event itself says.
fn told(event: &Event<'_>, zone: &TimeZone) -> Option<Time> {
    if let Some(time) = event.unix.and_then(super::number::integer).and_then(unix) {
        return Some(time);
    }
    let stamps = event.stamps.into_iter().chain([event.classification.timestamp]);
    stamps.filter(|stamp| !stamp.is_empty()).find_map(|stamp| read(stamp, event.id, zone))
}

/// A count of seconds, milliseconds, microseconds or nanoseconds, by its size.
fn unix(count: i64) -> Option<Time> {
    let unit = match count {
        ..1_000_000_000 => return None,
        1_000_000_000..100_000_000_000 => SECOND,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    Some(Time { nanos: count.checked_mul(unit)?, is_whole: unit == SECOND })
}

/// FNV-1a, 64 bits, of the event's marks, below one second.
fn fraction(id: &str, client: &str, port: Option<i64>, uri: &str) -> i64 {
    let port = port.map(|port| port.to_string()).unwrap_or_default();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [id, "|", client, "|", &port, "|", uri] {
        for byte in part.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    (hash % SECOND as u64) as i64
}

/// A moment without a zone, and what is known of the zone.
struct Stamp {
    civil: civil::DateTime,
    /// Seconds east of Greenwich.
    offset: Option<i64>,
    is_ctime: bool,
    is_whole: bool,
}

/// Reads a stamp in any of the writers' forms.
fn read(stamp: &str, id: &str, zone: &TimeZone) -> Option<Time> {
    let stamp = rfc3339(stamp).or_else(|| log_line(stamp)).or_else(|| ctime(stamp))?;
    let plain = TimeZone::UTC.to_timestamp(stamp.civil).ok()?.as_nanosecond();
    let time = match stamp.offset {
        Some(offset) => plain - i128::from(offset) * i128::from(SECOND),
        None => match epoch_of(id).filter(|epoch| stamp.is_ctime && is_zone(plain / i128::from(SECOND) - i128::from(*epoch))) {
            Some(epoch) => i128::from(epoch) * i128::from(SECOND),
            None => zone.to_timestamp(stamp.civil).ok()?.as_nanosecond(),
        },
    };
    Some(Time { nanos: i64::try_from(time).ok()?, is_whole: stamp.is_whole })
}

/// True if clocks somewhere on Earth differ from Greenwich by so many seconds.
fn is_zone(seconds: i128) -> bool {
    seconds.abs() <= 14 * 3600 && seconds % 900 == 0
}

/// The second at the front of an id of libmodsecurity: ten digits, up to two more, and a fraction.
fn epoch_of(id: &str) -> Option<i64> {
    let (whole, fraction) = id.split_once('.').unwrap_or((id, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !(10..=12).contains(&whole.len()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    whole.get(..10)?.parse().ok()
}

/// `2024-03-01T12:00:00.25+01:00`: also with slashes, a blank for the `T`, and without a zone.
fn rfc3339(stamp: &str) -> Option<Stamp> {
    let mut rest = stamp.as_bytes();
    let year = digits(&mut rest, 4)?;
    let dash = mark(&mut rest, b"-/")?;
    let month = digits(&mut rest, 2)?;
    mark(&mut rest, &[dash])?;
    let day = digits(&mut rest, 2)?;
    mark(&mut rest, b"Tt ")?;
    let (civil, is_whole, rest) = clock(year, month, day, rest)?;
    let offset = match rest {
        [] => None,
        _ => Some(zone_of(rest)?),
    };
    Some(Stamp { civil, offset, is_ctime: false, is_whole })
}

/// `23/May/2022:06:28:50.123456 +0000`.
fn log_line(stamp: &str) -> Option<Stamp> {
    let mut rest = stamp.as_bytes();
    let day = digits(&mut rest, 2)?;
    mark(&mut rest, b"/")?;
    let month = month(&mut rest)?;
    mark(&mut rest, b"/")?;
    let year = digits(&mut rest, 4)?;
    mark(&mut rest, b":")?;
    let (civil, is_whole, rest) = clock(year, month, day, rest)?;
    let offset = match rest.trim_ascii_start() {
        [] => None,
        rest => Some(zone_of(rest)?),
    };
    Some(Stamp { civil, offset, is_ctime: false, is_whole })
}

/// `Tue May 10 04:52:04 2022`, the day padded with a blank.
fn ctime(stamp: &str) -> Option<Stamp> {
    let mut words = stamp.split_ascii_whitespace();
    let weekday = words.next()?;
    if weekday.len() != 3 || !weekday.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let mut name = words.next()?.as_bytes();
    let month = month(&mut name).filter(|_| name.is_empty())?;
    let day = words.next().filter(|day| day.len() <= 2)?;
    let time = words.next()?;
    let mut year_of = words.next()?.as_bytes();
    let year = digits(&mut year_of, 4).filter(|_| year_of.is_empty())?;
    if words.next().is_some() || !day.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (civil, is_whole, rest) = clock(year, month, day.parse().ok()?, time.as_bytes())?;
    rest.is_empty().then_some(Stamp { civil, offset: None, is_ctime: true, is_whole })
}

/// `06:28:50` and a fraction if there is one; gives whether there is none, and what is behind it.
fn clock(year: i64, month: i64, day: i64, mut rest: &[u8]) -> Option<(civil::DateTime, bool, &[u8])> {
    let hour = digits(&mut rest, 2)?;
    mark(&mut rest, b":")?;
    let minute = digits(&mut rest, 2)?;
    mark(&mut rest, b":")?;
    let second = digits(&mut rest, 2)?;
    let (mut nanos, mut is_whole) = (0, true);
    if mark(&mut rest, b".,").is_some() {
        let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if len == 0 {
            return None;
        }
        let (fraction, after) = rest.split_at_checked(len)?;
        // What is finer than a nanosecond is cut off.
        nanos = fraction.iter().chain(std::iter::repeat(&b'0')).take(9).fold(0, |n, b| n * 10 + i32::from(b - b'0'));
        (rest, is_whole) = (after, false);
    }
    let narrow = |n: i64| i8::try_from(n).ok();
    let (month, day, hour, minute, second) = (narrow(month)?, narrow(day)?, narrow(hour)?, narrow(minute)?, narrow(second)?);
    let civil = civil::DateTime::new(i16::try_from(year).ok()?, month, day, hour, minute, second, nanos).ok()?;
    Some((civil, is_whole, rest))
}

/// Seconds east of Greenwich: `Z`, `+01:00`, `+0100`, and three slips of old versions: the sign printed twice
/// (`--0400`), again before the minutes (`--03-30`), and hours followed by seconds (`+101800`).
fn zone_of(zone: &[u8]) -> Option<i64> {
    if matches!(zone, [b'Z' | b'z']) {
        return Some(0);
    }
    let mut rest = zone;
    let sign = mark(&mut rest, b"+-")?;
    mark(&mut rest, &[sign]);
    let hours = digits(&mut rest, 2)?;
    let _ = mark(&mut rest, b":").or_else(|| mark(&mut rest, &[sign]));
    let more = match rest.len() {
        0 => 0,
        2 => digits(&mut rest, 2).filter(|minutes| *minutes < 60)? * 60,
        4 => digits(&mut rest, 4).filter(|seconds| *seconds < 3600)?,
        _ => return None,
    };
    if hours > 23 {
        return None;
    }
    let seconds = hours * 3600 + more;
    Some(if sign == b'-' { -seconds } else { seconds })
}

/// So many digits at the front.
fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (front, after) = rest.split_at_checked(count)?;
    let number = front.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))?;
    *rest = after;
    Some(number)
}

/// One of these bytes at the front.
fn mark(rest: &mut &[u8], any: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first().filter(|(first, _)| any.contains(first))?;
    *rest = after;
    Some(*first)
}

/// The three letters of a month at the front.
fn month(rest: &mut &[u8]) -> Option<i64> {
    const NAMES: [&[u8]; 12] = [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let (front, after) = rest.split_at_checked(3)?;
    let at = NAMES.iter().position(|name| front.eq_ignore_ascii_case(name))?;
    *rest = after;
    i64::try_from(at + 1).ok()
}

/// A zone by its name, or `UTC`, or a fixed distance such as `+09:00`.
pub fn zone(name: &str) -> Option<TimeZone> {
    let name = trimmed(name);
    if name.is_empty() || name.eq_ignore_ascii_case("utc") || name == "Z" {
        return Some(TimeZone::UTC);
    }
    if name.starts_with(['+', '-']) {
        let seconds = i32::try_from(zone_of(name.as_bytes())?).ok()?;
        return jiff::tz::Offset::from_seconds(seconds).ok().map(TimeZone::fixed);
    }
    TimeZone::get(name).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    fn of(stamp: &str, id: &str, name: &str) -> Option<i64> {
        read(stamp, id, &zone(name).unwrap()).map(|time| time.nanos / SECOND)
    }

    #[test]
    fn every_form_of_a_stamp_is_read() {
        let noon = 1_709_294_400;
        for (stamp, name, expected) in [
            ("2024-03-01T12:00:00Z", "UTC", Some(noon)),
            ("2024-03-01t12:00:00z", "UTC", Some(noon)),
            ("2024-03-01T12:00:00.999Z", "UTC", Some(noon)),
            ("2024-03-01T13:00:00+01:00", "UTC", Some(noon)),
            ("2024-03-01T13:00:00+0100", "Asia/Seoul", Some(noon)),
            ("2024-03-01 12:00:00", "UTC", Some(noon)),
            ("2024/03/01 21:00:00", "Asia/Seoul", Some(noon)),
            ("2024/03/01 21:00:00", "+09:00", Some(noon)),
            ("Fri Mar  1 12:00:00 2024", "UTC", Some(noon)),
            ("Fri Mar 01 12:00:00 2024", "UTC", Some(noon)),
            ("01/Mar/2024:12:00:00 +0000", "UTC", Some(noon)),
            ("01/Mar/2024:12:00:00.5 +0000", "UTC", Some(noon)),
            ("01/Mar/2024:08:00:00 --0400", "UTC", Some(noon)),
            ("01/Mar/2024:08:30:00 --03-30", "UTC", Some(noon)),
            ("01/Mar/2024:22:30:00 +101800", "UTC", Some(noon)),
            ("01/Mar/2024:12:00:00", "UTC", Some(noon)),
            ("2024-02-30T00:00:00Z", "UTC", None),
            ("2024-03/01T00:00:00Z", "UTC", None),
            ("2024-03-01T24:00:00Z", "UTC", None),
            ("2024-03-01T12:00:60Z", "UTC", None),
            ("2024-03-01T12:00:00.Z", "UTC", None),
            ("2024-03-01T12:00:00 CET", "UTC", None),
            ("9999-12-31T00:00:00Z", "UTC", None),
            ("Fri Mar  1 12:00:00 2024 UTC", "UTC", None),
            ("Freitag Mar  1 12:00:00 2024", "UTC", None),
            ("garbage", "UTC", None),
            ("", "UTC", None),
        ] {
            assert_eq!(of(stamp, "", name), expected, "{stamp} in {name}");
        }
    }

    #[test]
    fn an_id_tells_the_second_where_the_two_differ_by_a_zone() {
        let (stamp, truth) = ("Tue May 10 11:22:04 2022", 1_652_158_324);
        for (id, expected) in [
            ("165215832450.639870", truth),
            ("1652158324", truth),
            ("16521583245", truth),
            ("1652158324123", 1_652_181_724),
            ("1652158324.", 1_652_181_724),
            ("1652158325", 1_652_181_724),
            ("1652098324", 1_652_181_724),
            ("Yospoq1AV2oonr8Z9ZoDTgAAAEU", 1_652_181_724),
        ] {
            assert_eq!(of(stamp, id, "UTC"), Some(expected), "{id}");
        }
        assert_eq!(of("2022-05-10 11:22:04", "1652158324", "UTC"), Some(1_652_181_724), "only where the clock of C wrote it");
    }

    #[test]
    fn a_count_is_taken_by_its_size() {
        let s = 1_629_575_755;
        for (unit, is_whole) in [(1, true), (1_000, false), (1_000_000, false), (SECOND, false)] {
            assert_eq!(unix(s * unit), Some(Time { nanos: s * SECOND, is_whole }), "{unit}");
        }
        assert_eq!((unix(999_999_999), unix(-1)), (None, None));
    }

    #[test]
    fn a_fraction_is_one_although_it_is_zero() {
        let is_whole = |stamp| read(stamp, "", &TimeZone::UTC).unwrap().is_whole;
        assert!(is_whole("2024-03-01T12:00:00Z") && is_whole("Fri Mar  1 12:00:00 2024") && is_whole("01/Mar/2024:12:00:00 +0000"));
        assert!(!is_whole("2024-03-01T12:00:00.000Z") && !is_whole("01/Mar/2024:12:00:00.000000 +0000"));
    }

    #[test]
    fn zones_have_names_or_a_distance() {
        for name in ["", "UTC", "utc", "Europe/Berlin", "-03:30", "+0900"] {
            assert!(zone(name).is_some(), "{name}");
        }
        for name in ["Mars/Olympus", "../../etc/passwd", "+99:00"] {
            assert!(zone(name).is_none(), "{name}");
        }
    }
}
