//! Strings and times as JSON.
//!
//! Refuses to know what they are of. Start at [`json_str_plain`].

/// Appends `s` in quotes, all non-ASCII as `\uXXXX`.
pub fn json_str(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    json_body(out, s);
    out.push(b'"');
}

/// Appends `s` in quotes, escaped only where JSON asks for it.
pub fn json_str_plain(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    json_body_plain(out, s);
    out.push(b'"');
}

/// Appends `s` as [`json_str`] does, without the quotes.
pub fn json_body(out: &mut Vec<u8>, s: &str) {
    let mut rest = s;
    loop {
        let run = plain_run(rest.as_bytes(), 0x80);
        let (plain, special) = rest.split_at_checked(run).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        let mut chars = special.chars();
        let Some(c) = chars.next() else { return };
        if c.is_ascii() {
            escape_ascii(out, c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escape_unit(out, *unit);
            }
        }
        rest = chars.as_str();
    }
}

/// Appends `s` as [`json_str_plain`] does, without the quotes.
pub fn json_body_plain(out: &mut Vec<u8>, s: &str) {
    let mut rest = s;
    loop {
        let run = plain_run(rest.as_bytes(), 0);
        let (plain, special) = rest.split_at_checked(run).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        let mut chars = special.chars();
        let Some(c) = chars.next() else { return };
        escape_ascii(out, c);
        rest = chars.as_str();
    }
}

/// Appends a time as RFC 3339 with milliseconds, UTC: `2025-03-01T10:00:00.000Z`.
///
/// - `ms`: milliseconds since 1970; a year outside of 0 to 9999 becomes the nearest that is inside.
pub fn time(out: &mut Vec<u8>, ms: i64) {
    // 0000-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z.
    let ms = ms.clamp(-62_167_219_200_000, 253_402_300_799_999);
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Years begin in March here, so that the leap day is the last of a year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut digits = |mut n: i64, places: usize, after: u8| {
        let mut text = [b'0'; 4];
        for place in text.iter_mut().take(places).rev() {
            *place = b'0' + u8::try_from(n % 10).unwrap_or(0);
            n /= 10;
        }
        out.extend_from_slice(text.get(..places).unwrap_or_default());
        out.push(after);
    };
    digits(year, 4, b'-');
    digits(month, 2, b'-');
    digits(day, 2, b'T');
    digits(of_day / 3_600_000, 2, b':');
    digits(of_day / 60_000 % 60, 2, b':');
    digits(of_day / 1000 % 60, 2, b'.');
    digits(of_day % 1000, 3, b'Z');
}

/// Appends a whole number.
pub fn whole(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    let (mut rest, mut text, mut from) = (n.unsigned_abs(), [b'0'; 20], 20);
    loop {
        from -= 1;
        if let Some(place) = text.get_mut(from) {
            *place = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
}

/// Appends a number in the fewest digits that read as the same one; whole ones without a point, and `null` for what
/// JSON has no number for.
pub fn number(out: &mut Vec<u8>, x: f64) {
    let n = x as i64;
    if n as f64 == x && n.unsigned_abs() < 1_000_000_000_000_000 {
        whole(out, n);
    } else if x.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(x).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Bytes up to the first that JSON wants escaped, or that has a bit of `high`.
///
/// Eight bytes at a time: a byte below 0x20, equal to `"` or `\`, or with the high bit is found
/// by the borrow it causes in its lane. A lane above one that borrowed may be marked wrongly,
/// the lowest mark never is, and only the lowest is used.
fn plain_run(bytes: &[u8], high: u8) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let mask = if high == 0 { 0 } else { HIGHS };
    let (chunks, tail) = bytes.as_chunks::<8>();
    let mut run = 0;
    for chunk in chunks {
        let x = u64::from_le_bytes(*chunk);
        let below = x.wrapping_sub(ONES * 0x20) & !x;
        let quote = zero(x ^ (ONES * u64::from(b'"')));
        let slash = zero(x ^ (ONES * u64::from(b'\\')));
        let found = ((below | quote | slash) & HIGHS) | (x & mask);
        if found != 0 {
            return run + (found.trailing_zeros() / 8) as usize;
        }
        run += 8;
    }
    let special = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\' || (high != 0 && *b >= 0x80);
    run + tail.iter().position(special).unwrap_or(tail.len())
}

fn escape_ascii(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        _ => escape_unit(out, c as u16),
    }
}

fn escape_unit(out: &mut Vec<u8>, unit: u16) {
    let digit = |n: u16| char::from_digit(u32::from(n & 15), 16).map_or(b'0', |c| c as u8);
    out.extend_from_slice(&[b'\\', b'u', digit(unit >> 12), digit(unit >> 8), digit(unit >> 4), digit(unit)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_time_is_what_the_calendar_says() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_740_823_200_123, "2025-03-01T10:00:00.123Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_825_600_000, "2000-02-29T12:00:00.000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(written(|out| time(out, ms)), text);
        }
        for day in -800_000..80_000_i64 {
            let ms = day * 86_400_000 + day.rem_euclid(86_400_000);
            if !(-719_528..=2_932_896).contains(&day) {
                continue;
            }
            let stamp = jiff::Timestamp::from_millisecond(ms).unwrap();
            assert_eq!(written(|out| time(out, ms)), format!("{stamp:.3}"));
        }
    }

    #[test]
    fn a_number_reads_as_the_same_one() {
        let cases = [(0.0, "0"), (-0.0, "0"), (1.0, "1"), (0.04, "0.04"), (-1.5, "-1.5"), (1e21, "1e+21"), (f64::NAN, "null")];
        for (x, text) in cases {
            assert_eq!(written(|out| number(out, x)), text);
        }
        assert_eq!(written(|out| whole(out, i64::MIN)), i64::MIN.to_string());
        let mut x = 0.000_123_456_789;
        for _ in 0..200 {
            let text = written(|out| number(out, x));
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), x.to_bits(), "{text}");
            assert!(serde_json::from_str::<f64>(&text).is_ok(), "{text}");
            x *= -1.731;
        }
    }
}
