//! When an event was: ISO 8601, or seconds or milliseconds since 1970.

use crate::alert::{Kind, Node};

/// From here on a number counts milliseconds, not seconds.
const MILLIS_FROM: i64 = 100_000_000_000;
/// 0000-01-01 and the end of 9999: what is outside is no time of an event.
const RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// Milliseconds since 1970, rounded down; `None` if the value is no time.
///
/// Text without a zone is UTC.
pub(super) fn millis(node: Node<'_>) -> Option<i64> {
    match node.kind() {
        Kind::String => of_text(node.as_str()?),
        Kind::Number => epoch(node.number()?).filter(|ms| RANGE.contains(ms)),
        _ => None,
    }
}

/// As [`millis`], of text.
pub(super) fn of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    iso(text.as_bytes()).or_else(|| epoch(text)).filter(|ms| RANGE.contains(ms))
}

/// `1740823200`, `1740823200.123456`, `1740823200123`.
fn epoch(text: &str) -> Option<i64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if !is_plain(whole.strip_prefix('-').unwrap_or(whole)) || !is_plain(rest) || whole.starts_with('-') {
        // With an exponent, or before 1970: rare enough to be read as a double.
        let starts = text.as_bytes().first().is_some_and(|b| b.is_ascii_digit() || *b == b'-');
        let x = text.parse::<f64>().ok().filter(|x| starts && x.abs() < 1e15)?;
        return Some(if x > MILLIS_FROM as f64 { x.floor() } else { (x * 1000.0).floor() } as i64);
    }
    let whole: i64 = whole.parse().ok()?;
    if whole > MILLIS_FROM || (whole == MILLIS_FROM && rest.bytes().any(|b| b != b'0')) {
        return Some(whole);
    }
    let fraction = rest.bytes().chain(*b"000").take(3).fold(0, |ms, b| ms * 10 + i64::from(b - b'0'));
    Some(whole * 1000 + fraction)
}

/// `2025-03-01T10:00:00.123+01:00`: a blank for the `T`, no seconds, no zone, or a date alone are read as well.
fn iso(text: &[u8]) -> Option<i64> {
    let year = digits(text, 0, 4)?;
    let month = digits(text, 5, 2)?;
    let day = digits(text, 8, 2)?;
    if text.get(4) != Some(&b'-') || text.get(7) != Some(&b'-') || !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day)
    {
        return None;
    }
    let date = days(year, month, day) * 86_400_000;
    let Some(between) = text.get(10) else { return Some(date) };
    if !matches!(between, b'T' | b't' | b' ') {
        return None;
    }
    let hour = digits(text, 11, 2)?;
    let minute = digits(text, 14, 2)?;
    if text.get(13) != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let (mut second, mut ms, mut at) = (0, 0, 16);
    if text.get(16) == Some(&b':') {
        second = digits(text, 17, 2)?;
        at = 19;
        if matches!(text.get(19), Some(b'.' | b',')) {
            let fraction = text.get(20..)?;
            let len = fraction.iter().position(|b| !b.is_ascii_digit()).unwrap_or(fraction.len());
            if len == 0 {
                return None;
            }
            ms = fraction.iter().take(len).chain(b"000").take(3).fold(0, |ms, b| ms * 10 + i64::from(b - b'0'));
            at = 20 + len;
        }
    }
    if second > 60 {
        return None;
    }
    let zone = zone(text.get(at..)?)?;
    Some(date + hour * 3_600_000 + (minute - zone) * 60_000 + second * 1000 + ms)
}

/// Minutes east of Greenwich: none, `Z`, `±hh:mm`, `±hhmm` or `±hh`.
fn zone(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text.trim_ascii_start().split_first() {
        None | Some((b'Z' | b'z', [])) => return Some(0),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        _ => return None,
    };
    let hours = digits(rest, 0, 2)?;
    let minutes = match rest.len() {
        2 => 0,
        4 => digits(rest, 2, 2)?,
        5 if rest.get(2) == Some(&b':') => digits(rest, 3, 2)?,
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn digits(text: &[u8], from: usize, len: usize) -> Option<i64> {
    text.get(from..from + len)?.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date. Years begin in March here, so that the leap day is the last of a year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn a_time_is_read_in_every_form() {
        let cases = [
            ("2025-03-01T10:00:00.123Z", Some(1_740_823_200_123)),
            ("2025-03-01T10:00:00.1", Some(1_740_823_200_100)),
            ("2025-03-01 10:00:00,123999", Some(1_740_823_200_123)),
            ("2025-03-01T10:00", Some(1_740_823_200_000)),
            ("2025-03-01", Some(1_740_787_200_000)),
            ("2025-03-01t12:00:00.123456+02:00", Some(1_740_823_200_123)),
            ("2025-03-01T12:00:00 +0200", Some(1_740_823_200_000)),
            ("2025-03-01T06:30:00-03:30", Some(1_740_823_200_000)),
            ("2025-03-01T11:00:00+01", Some(1_740_823_200_000)),
            ("1969-12-31T23:59:59.5z", Some(-500)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2023-02-29T00:00:00Z", None),
            ("2025-04-31T00:00:00Z", None),
            ("2025-03-01T24:00:00Z", None),
            ("2025-03-01T10:00:00.Z", None),
            ("2025-03-01T10:00:00Zx", None),
            ("2025-03-01T10:00:00+1", None),
            ("2025-03-01T10:00:00+01:0", None),
            ("2025-03-01X10:00:00", None),
            ("01.03.2025 10:00", None),
            ("yesterday", None),
            ("", None),
            ("1740823200", Some(1_740_823_200_000)),
            ("1740823200.123999", Some(1_740_823_200_123)),
            ("1740823200123", Some(1_740_823_200_123)),
            ("1740823200123.9", Some(1_740_823_200_123)),
            ("100000000000", Some(100_000_000_000_000)),
            ("100000000001", Some(100_000_000_001)),
            ("1.7408232e9", Some(1_740_823_200_000)),
            ("-1.5", Some(-1500)),
            ("-", None),
            ("1740823200123456789", None),
            ("inf", None),
            ("1e400", None),
            ("1740823200.12x", None),
        ];
        for (text, ms) in cases {
            let frame =
                format!("[\"{text}\"{}]", if text.parse::<f64>().is_ok_and(f64::is_finite) { format!(",{text}") } else { String::new() });
            let mut parser = crate::alert::Parser::new();
            let mut alert = parser.alert(frame.as_bytes());
            for node in alert.root().unwrap().elements() {
                assert_eq!(millis(node), ms, "{text} as {:?}", node.kind());
            }
        }
    }

    #[test]
    fn what_is_written_as_a_time_is_read_as_it() {
        for n in -20_000..20_000_i64 {
            let ms = n * 3_086_400_017;
            if !RANGE.contains(&ms) {
                continue;
            }
            let mut text = Vec::new();
            json::time(&mut text, ms);
            assert_eq!(iso(&text), Some(ms));
        }
    }
}
