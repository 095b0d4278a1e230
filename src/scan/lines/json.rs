//! The objects of a line, also of one that is glued, cut, or no UTF-8; and instants.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Map, Value};

/// All whole objects of a line, and whether the line was nothing else. A blank line is whole.
///
/// Bytes that are no UTF-8 and halves of surrogate pairs become U+FFFD. Of equal keys the last wins. What is nested
/// deeper than 128 levels, or has a number that no double holds, is no object.
pub fn objects(line: &[u8]) -> (Vec<Map<String, Value>>, bool) {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    let first = stream(line);
    if first.1 { first } else { stream(mend(line).as_bytes()) }
}

fn stream(line: &[u8]) -> (Vec<Map<String, Value>>, bool) {
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_slice(line).into_iter::<Value>() {
        match value {
            Ok(Value::Object(object)) => found.push(object),
            _ => return (found, false),
        }
    }
    (found, true)
}

/// The line as serde_json takes it: no invalid UTF-8, no escape of half a pair.
fn mend(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let unit = |escape: &str| {
            let digits = escape.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        // Bytes that stay as they are; 0 is half a pair.
        let taken = match unit(escape) {
            Some(0xd800..=0xdbff) => match escape.get(6..).and_then(unit) {
                Some(0xdc00..=0xdfff) => 12,
                _ => 0,
            },
            Some(0xdc00..=0xdfff) => 0,
            Some(_) => 6,
            None => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (kept, behind) = escape.split_at_checked(if taken == 0 { 6 } else { taken }).unwrap_or((escape, ""));
        out.push_str(if taken == 0 { "\\ufffd" } else { kept });
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// A time of ISO 8601 as nanoseconds since 1970; one without a zone is UTC.
pub fn instant(text: &str) -> Option<i64> {
    let stamp = text.parse::<Timestamp>().or_else(|_| {
        // A zone that is written without its colon, or none.
        Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text)
            .or_else(|_| text.parse::<DateTime>().and_then(|civil| TimeZone::UTC.to_timestamp(civil)))
    });
    i64::try_from(stamp.ok()?.as_nanosecond()).ok()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn objects_are_taken_out_of_whatever_line() {
        let cases: &[(&[u8], usize, bool)] = &[
            (b"", 0, true),
            (b"  \r", 0, true),
            (br#"{"a":1}"#, 1, true),
            (b"\xef\xbb\xbf{\"a\":1}\r", 1, true),
            (br#"{"a":1}{"b":2}"#, 2, true),
            (br#"{"a":1}{"b":"#, 1, false),
            (br#"{"a":1e400}"#, 0, false),
            (b"{\"a\":\"J\xfcrgen\"}", 1, true),
            (br#"{"a":"\ud800"}"#, 1, true),
            (br#"{"a":"\\ud800 \"\ud83d\ude00\udc00x\ud83d"}"#, 1, true),
            (br#"{"a":"\ud8"}"#, 0, false),
            (b"[]", 0, false),
            (b"null", 0, false),
            (b"42 {\"a\":1}", 0, false),
        ];
        for (line, count, whole) in cases {
            let (found, is_whole) = objects(line);
            assert_eq!((found.len(), is_whole), (*count, *whole), "{}", line.escape_ascii());
        }
        let text = |line: &[u8]| objects(line).0[0]["a"].as_str().unwrap().to_owned();
        assert_eq!(text(br#"{"a":"\\ud800 \"\ud83d\ude00\udc00x\ud83d"}"#), "\\ud800 \"\u{1f600}\u{fffd}x\u{fffd}");
        assert_eq!(text(br#"{"a":"1","a":"2"}"#), "2");
    }

    proptest! {
        #[test]
        fn whole_json_is_read_as_it_is_mended_or_not(texts in prop::collection::vec((any::<String>(), "[\u{0}-\u{10ffff}]{0,8}"), 0..5), cut in any::<prop::sample::Index>()) {
            let object: Map<String, Value> = texts.into_iter().map(|(name, text)| (name, Value::String(text))).collect();
            for ascii in [false, true] {
                let mut line = serde_json::to_string(&object).unwrap();
                if ascii {
                    let escaped = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
                    line = line.chars().map(|c| if c.is_ascii() { c.to_string() } else { escaped(c) }).collect();
                }
                prop_assert_eq!(objects(line.as_bytes()), (vec![object.clone()], true));
                prop_assert_eq!(mend(line.as_bytes()), line.clone());
                // Cut anywhere it is no object, and nothing panics.
                let cut = cut.index(line.len());
                prop_assert_eq!(objects(&line.as_bytes()[..cut]), (vec![], cut == 0));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(line in prop::collection::vec(prop_oneof![Just(b'\\'), Just(b'u'), Just(b'd'), Just(b'8'), Just(b'"'), Just(b'{'), Just(b'}'), Just(b':'), any::<u8>()], 0..60)) {
            let (found, _) = objects(&line);
            prop_assert!(found.len() <= line.len());
            instant(&String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn instants_honour_their_zone() {
        let three = 1_767_322_800_000_000_000;
        let cases = [
            ("2026-01-02T03:00:00.000000+0000", Some(three)),
            ("2026-01-02T05:00:00.000000+0200", Some(three)),
            ("2026-01-01T23:30:00-03:30", Some(three)),
            ("2026-01-02T03:00:00Z", Some(three)),
            ("2026-01-02T03:00:00.5", Some(three + 500_000_000)),
            ("2026-01-02T03:00:00.000001+0000", Some(three + 1000)),
            ("2026-13-45T99:99:99.000000+0000", None),
            ("not a time", None),
            ("", None),
            ("9999-12-31T23:59:59Z", None), // beyond what 64 bits of nanoseconds hold
        ];
        for (text, expected) in cases {
            assert_eq!(instant(text), expected, "{text}");
        }
    }
}
