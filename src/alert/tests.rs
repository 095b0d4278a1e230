//! Parsing, mending and salvage: tables, and properties against serde_json.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::{salvage::salvage_counted, *};

/// The naive twin: reads a node into serde_json's tree, numbers by their own text.
fn tree(node: Node<'_>) -> Value {
    match node.kind() {
        Kind::Null => Value::Null,
        Kind::Bool => Value::Bool(node.as_bool().unwrap()),
        Kind::Number => serde_json::from_str(node.number().unwrap()).unwrap(),
        Kind::String => Value::String(node.as_str().unwrap().to_owned()),
        Kind::Array => node.elements().map(tree).collect(),
        Kind::Object => Value::Object(node.distinct().map(|(k, v)| (k.to_owned(), tree(v))).collect()),
    }
}

fn read(text: &[u8]) -> Result<Value, NotJson> {
    let mut parser = Parser::new();
    parser.alert(text).root().map(tree)
}

/// Every node's own text says the same value again.
fn check_raw(node: Node<'_>) {
    let again: Value = serde_json::from_slice(node.raw()).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(node.raw())));
    assert_eq!(again, tree(node));
    node.elements().for_each(check_raw);
    node.members().for_each(|(_, value)| check_raw(value));
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| n.into()),
        any::<u64>().prop_map(|n| n.into()),
        any::<i32>().prop_map(|n| (f64::from(n) / 8.0).into()),
        "[ -~]{0,12}".prop_map(Value::String),
        ".{0,6}".prop_map(Value::String),
        "[\"\\\\\n\u{0}\u{1f}\u{7f}é😀]{0,6}".prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec(("(|timestamp|rule|id|a.b|[a-z]{1,4}|\\PC{1,3})", inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Writes a value with blanks wherever JSON allows them.
fn airy(value: &Value) -> Vec<u8> {
    let compact = serde_json::to_vec(value).unwrap();
    let mut out = b" ".to_vec();
    let (mut inside, mut escaped) = (false, false);
    for byte in compact {
        if !inside && b"{}[],:".contains(&byte) {
            out.extend_from_slice(&[b'\t', byte, b' ']);
            continue;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            _ => {}
        }
        out.push(byte);
    }
    out
}

proptest! {
    #[test]
    fn valid_json_reads_as_the_naive_twin_reads_it(value in json()) {
        for text in [serde_json::to_vec(&value).unwrap(), airy(&value)] {
            prop_assert_eq!(read(&text).unwrap(), value.clone());
            let mut parser = Parser::new();
            let mut alert = parser.alert(&text);
            let root = alert.root().unwrap();
            check_raw(root);
            let mut compact = Vec::new();
            root.write_compact(&mut compact);
            prop_assert_eq!(String::from_utf8(compact).unwrap(), serde_json::to_string(&value).unwrap());
        }
    }

    #[test]
    fn the_repaired_copy_reads_as_the_frame_does(value in json()) {
        let text = serde_json::to_vec(&value).unwrap();
        let (mut mended, mut shown) = (Vec::new(), Vec::new());
        prop_assert_eq!(repair::repair(&text, &mut mended, &mut shown).unwrap(), 0);
        prop_assert_eq!(&mended, &text);
        prop_assert_eq!(shown.len(), text.len());
        // With a number that only the repair takes, the whole goes through it.
        let forced = [b"[1e999,", &text[..], b"]"].concat();
        let mut parser = Parser::new();
        let mut alert = parser.alert(&forced);
        let root = alert.root().unwrap();
        let mut elements = root.elements();
        prop_assert_eq!(elements.next().unwrap().number().unwrap(), "1e999");
        let node = elements.next().unwrap();
        prop_assert_eq!(tree(node), value);
        check_raw(node);
    }

    #[test]
    fn text_that_is_nearly_json_is_judged_as_by_the_naive_twin(text in "[\\[\\]{}:,\" \\\\a0-9.eE+\\-untrl\u{1}\u{e9}]{0,24}") {
        let ours = read(text.trim_end().as_bytes());
        let theirs = serde_json::from_str::<Value>(text.trim_end());
        match theirs {
            Ok(value) => prop_assert_eq!(ours.unwrap(), value),
            Err(error) => if let Ok(value) = ours {
                let text = error.to_string();
                prop_assert!(text.contains("out of range") || text.contains("surrogate") || text.contains("hex escape"), "{} but {}", text, value);
            }
        }
    }

    #[test]
    fn no_bytes_panic_and_pieces_tile_the_frame(
        parts in prop::collection::vec(prop_oneof![
            Just(b"{\"timestamp\":\"t\",\"rule\":{\"id\":\"1\"}}".to_vec()),
            Just(b"{\"timestamp\":\"t\",\"rule\":{\"id\":\"1\"},\"data\":{\"timestamp\":\"u\"}".to_vec()),
            Just(b"{\"timestamp\":\"t".to_vec()),
            Just(b"{\"timestamp\"".to_vec()),
            Just(b"\0\0\0".to_vec()),
            Just(b"}".to_vec()),
            Just(b",\"data\":".to_vec()),
            Just(b"{\"transaction\":{\"id\":\"x\"}}".to_vec()),
            Just(b"{\"transaction\":{\"id\":\"x".to_vec()),
            Just(b"{ \n\"transaction\" : {} }".to_vec()),
            prop::collection::vec(any::<u8>(), 0..12),
        ], 0..12)
    ) {
        let frame = parts.concat();
        looks_broken(&frame);
        let _ = read(&frame);
        check_salvage(&frame);
    }
}

#[track_caller]
fn check_salvage(frame: &[u8]) -> Vec<Piece> {
    check_salvage_as(Form::Event, frame);
    check_salvage_as(Form::Alert, frame)
}

#[track_caller]
fn check_salvage_as(form: Form, frame: &[u8]) -> Vec<Piece> {
    let (pieces, work) = salvage_counted(frame, form);
    let mut at = 0;
    let mut parser = Parser::new();
    for piece in &pieces {
        let range = piece.range();
        assert_eq!(range.start, at, "a gap or an overlap in {pieces:?}");
        assert!(!range.is_empty());
        at = range.end;
        if let Piece::Alert(range) = piece {
            let mut alert = parser.alert(&frame[range.clone()]);
            assert!(alert.root().unwrap().is_object());
        }
    }
    assert_eq!(at, frame.len());
    assert!(work <= 2 * frame.len() + 2, "{work} steps for {} bytes", frame.len());
    pieces
}

const WHOLE: &str =
    r#"{"timestamp":"2026-03-14T06:25:12.004+0100","rule":{"level":5,"groups":["a"]},"id":"1.2","data":{"x":"{\"timestamp\""}}"#;

/// Pieces as text: alerts in `<>`, broken bytes in `()`, padding in `_`.
fn shown(frame: &[u8]) -> String {
    check_salvage(frame)
        .iter()
        .map(|piece| {
            let text = String::from_utf8_lossy(&frame[piece.range()]).replace(WHOLE, "W");
            match piece {
                Piece::Alert(_) => format!("<{text}>"),
                Piece::Broken(_, reason) => format!("({reason} {text})"),
                Piece::Padding(_) => "_".into(),
            }
        })
        .collect()
}

#[test]
fn whole_alerts_are_taken_out_of_broken_lines() {
    let w = WHOLE;
    let other = r#"{"agent":{},"rule":{"id":1},"timestamp":"t"}"#;
    let cases: &[(String, &str)] = &[
        (format!("{w}{w}"), "<W><W>"),
        (format!("{w} {w}\r"), "<W>_<W>_"),
        (format!("{}{w}", &w[..60]), "(cut {\"timestamp\":\"2026-03-14T06:25:12.004+0100\",\"rule\":{\"level\":)<W>"),
        (format!("{{\"timestamp\":\"2026{w}"), "(cut {\"timestamp\":\"2026)<W>"),
        (format!("{{\"timestamp\":\"2026\",\"data\":{w}"), "(cut {\"timestamp\":\"2026\",\"data\":)<W>"),
        (format!("{{\"timestamp\":tru{w}"), "(cut {\"timestamp\":tru)<W>"),
        (format!("{{\"timestamp\":-{w}"), "(cut {\"timestamp\":-)<W>"),
        (format!("{{\"timestamp\":\"\\{w}"), "(cut {\"timestamp\":\"\\)<W>"),
        (format!("{{\"timestamp\":\"\\u00{w}"), "(cut {\"timestamp\":\"\\u00)<W>"),
        (format!("{w}rubbish"), "<W>(not_json rubbish)"),
        (format!("\u{feff}{w}"), "(not_json \u{feff})<W>"),
        (format!("}}}}{w}{{\"timestamp\":"), "(not_json }})<W>(cut {\"timestamp\":)"),
        (format!("\0\0{w}\0\0"), "_<W>_"),
        (format!("{{\"timestamp\":\"a\0\0\0{w}"), "(cut {\"timestamp\":\"a)_<W>"),
        (format!("{other}{w}"), "<{\"agent\":{},\"rule\":{\"id\":1},\"timestamp\":\"t\"}><W>"),
        // The `data` of a cut alert is no alert, whatever it has.
        (
            r#"{"timestamp":"a","rule":{},"data":{"timestamp":"b","id":"3"},"loc"#.into(),
            r#"(cut {"timestamp":"a","rule":{},"data":{"timestamp":"b","id":"3"},"loc)"#,
        ),
        ("  \t".into(), "_"),
        ("\0\0".into(), "_"),
        ("".into(), ""),
        ("rubbish".into(), "(not_json rubbish)"),
        (r#"{"a":1}{"b":2}"#.into(), r#"(cut {"a":1}{"b":2})"#),
    ];
    for (frame, expected) in cases {
        assert_eq!(shown(frame.as_bytes()), *expected, "{frame:?}");
    }
}

#[test]
fn salvage_does_bounded_work_on_four_mebibytes_of_beginnings() {
    let n = 4 << 20;
    let begin = b"{\"timestamp\"";
    let long_tail = [b"{\"timestamp\":".repeat(1000), b"[".to_vec(), b"1,".repeat(n / 2)].concat();
    for frame in [begin.repeat(n / begin.len()), b"{\"timestamp\":".repeat(n / 13), b"{\"timestamp\":\"".repeat(n / 14), long_tail] {
        check_salvage(&frame);
    }
}

#[test]
fn a_frame_that_looks_broken_is_told_from_one_that_does_not() {
    for whole in [WHOLE.to_owned(), format!("{WHOLE} \t\r"), "{}".into(), r#"{ "timestamp":1}"#.into()] {
        assert!(!looks_broken(whole.as_bytes()), "{whole:?}");
    }
    let w = WHOLE;
    for broken in [
        "".into(),
        " ".into(),
        format!(" {w}"),
        w[..20].into(),
        format!("{w}{w}"),
        format!("\0{w}"),
        format!("{w}\0"),
        "[]".into(),
        "{}x".into(),
    ] {
        assert!(looks_broken(broken.as_bytes()), "{broken:?}");
    }
}

#[test]
fn what_the_tape_refuses_is_mended() {
    let cases: &[(&[u8], &str, u32)] = &[
        (b"{\"a\":\"b\xfcro\"}", r#"{"a":"b�ro"}"#, 1),
        (b"{\"a\":\"x\xe2\x82\"}", r#"{"a":"x�"}"#, 1),
        (b"{\"a\":\"x\xed\xa0\x80\"}", r#"{"a":"x���"}"#, 3),
        (b"{\"a\":\"x\xc0\xaf\"}", r#"{"a":"x��"}"#, 2),
        (b"{\"a\":\"x\xf5\x80\x80\x80\"}", r#"{"a":"x����"}"#, 4),
        (br#"{"a":"\ud83d end"}"#, r#"{"a":"� end"}"#, 1),
        (br#"{"a":"\udc00\ud83d\ude00\ud83d\ud83d"}"#, r#"{"a":"�😀��"}"#, 3),
        (br#"{"\\ud800":"\\\ud800"}"#, r#"{"\\ud800":"\\�"}"#, 1),
        (b"\0\0{\"a\":1} \t\r\x0b", r#"{"a":1}"#, 0),
    ];
    for (frame, expected, replaced) in cases {
        let mut parser = Parser::new();
        let mut alert = parser.alert(frame);
        let value = tree(alert.root().unwrap());
        assert_eq!(value, serde_json::from_str::<Value>(expected).unwrap());
        assert_eq!(alert.repaired(), *replaced, "{expected}");
    }
}

#[test]
fn a_mended_subtree_is_passed_on_mended() {
    let mut parser = Parser::new();
    let mut alert = parser.alert(b"{\"data\": {\"n\":1e400, \"s\":\"\\ud83d \xff\", \"m\":18446744073709551616}, \"x\":1}");
    let root = alert.root().unwrap();
    let data = String::from_utf8(root.get("data").unwrap().raw().to_vec()).unwrap();
    assert_eq!(data, "{\"n\":1e400, \"s\":\"\\ufffd \u{fffd}\", \"m\":18446744073709551616}");
    assert_eq!(root.path(&["data", "m"]).unwrap().number(), Some("18446744073709551616"));
}

#[test]
fn what_is_no_json_is_refused() {
    let long = format!("{}{}", "[".repeat(1025), "]".repeat(1025));
    let frames: &[&[u8]] = &[
        b"",
        b"  ",
        b"{",
        b"{\"a\":NaN}",
        b"{\"a\":Infinity}",
        b"{\"a\":-Infinity}",
        b"{'a':1}",
        b"{\"a\":\"\t\"}",
        b"{\"a\":\"\x01\"}",
        b"{\"a\":1}x",
        b"{\"a\":1}{\"a\":1}",
        b"{\"a\":01}",
        b"{\"a\":1.}",
        b"{\"a\":.5}",
        b"{\"a\":1,}",
        b"{\"a\" 1}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\\x\"}",
        b"{\"a\":tru}",
        b"{}\0",
        long.as_bytes(),
    ];
    for frame in frames {
        assert!(read(frame).is_err(), "{:?}", String::from_utf8_lossy(frame));
    }
    for depth in [1, 50, 500, 1024] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let mut parser = Parser::new();
        let mut alert = parser.alert(nested.as_bytes());
        assert_eq!(alert.root().unwrap().raw(), nested.as_bytes(), "{depth}");
    }
    // The same depth through the repair.
    let mended = format!("{}1e999{}", "[".repeat(1024), "]".repeat(1024));
    assert!(Parser::new().alert(mended.as_bytes()).root().is_ok());
}

#[test]
fn a_number_of_five_thousand_digits_keeps_each() {
    let digits = "7".repeat(5000);
    let text = format!("{{\"a\":[0,{digits}],\"b\":-0}}");
    let mut parser = Parser::new();
    let mut alert = parser.alert(text.as_bytes());
    let root = alert.root().unwrap();
    assert_eq!(root.get("a").unwrap().elements().nth(1).unwrap().number(), Some(&*digits));
    assert_eq!(root.get("b").unwrap().number(), Some("-0"));
    assert_eq!(alert.repaired(), 0);
}

#[test]
fn of_equal_keys_the_last_counts_at_the_place_of_the_first() {
    let mut many: String = (0..100).map(|n| format!("\"k{n}\":{n},")).collect();
    many = format!("{{{many}\"a\":1,\"b\":2,\"a\":3}}");
    for (text, first) in [(r#"{"a":1,"b":2,"a":3,"":4,"a.b":5}"#, 0), (&many, 100)] {
        let mut parser = Parser::new();
        let mut alert = parser.alert(text.as_bytes());
        let root = alert.root().unwrap();
        assert_eq!(root.get("a").unwrap().number(), Some("3"));
        let names: Vec<_> = root.distinct().skip(first).map(|(name, value)| (name, value.number().unwrap())).collect();
        assert_eq!(names[..2], [("a", "3"), ("b", "2")]);
        assert_eq!(root.members().filter(|(name, _)| *name == "a").count(), 2);
    }
    let mut parser = Parser::new();
    let mut alert = parser.alert(br#"{"":4,"a.b":5,"a":{"b":6}}"#);
    let root = alert.root().unwrap();
    assert_eq!(root.get("").unwrap().as_u64(), Some(4));
    assert_eq!(root.get("a.b").unwrap().as_u64(), Some(5));
    assert_eq!(root.path(&["a", "b"]).unwrap().as_u64(), Some(6));
}

#[test]
fn one_parser_reads_frame_after_frame() {
    let mut parser = Parser::new();
    for n in 0..50_usize {
        let text = format!("{{\"n\":{n},\"s\":\"{}\"}}", "\\u00e9x".repeat(n * 7 % 40));
        let mut alert = parser.alert(text.as_bytes());
        if n % 3 == 0 {
            continue; // Never parsed.
        }
        let root = alert.root().unwrap();
        assert_eq!(root.get("n").unwrap().as_u64(), Some(n as u64));
        assert_eq!(root.get("s").unwrap().as_str().unwrap().chars().count(), 2 * (n * 7 % 40));
        drop(alert);
        let mut broken = parser.alert(b"{\"a\":");
        assert!(broken.root().is_err());
        assert!(broken.root().is_err(), "refused again, from memory");
    }
}

#[test]
fn strings_are_escaped_as_json() {
    let all: String = (0..0x250).filter_map(char::from_u32).chain(['\u{fffd}', '😀', '\u{10ffff}']).collect();
    for skip in 0..9 {
        let text: String = all.chars().skip(skip).collect();
        let (mut ascii, mut plain) = (Vec::new(), Vec::new());
        json_str(&mut ascii, &text);
        json_str_plain(&mut plain, &text);
        assert!(ascii.is_ascii());
        assert_eq!(serde_json::from_slice::<String>(&ascii).unwrap(), text);
        assert_eq!(String::from_utf8(plain).unwrap(), serde_json::to_string(&text).unwrap());
    }
}

#[test]
fn time_stamps_are_read() {
    let cases = [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2026-03-14T06:25:12.004+0100", Some(1_773_465_912_004)),
        ("2026-03-14T06:25:12.004+01:00", Some(1_773_465_912_004)),
        ("2026-03-14 05:25:12.0049999Z", Some(1_773_465_912_004)),
        ("2026-03-13T21:55:12-0730", Some(1_773_465_912_000)),
        ("2000-02-29T12:00:00+0000", Some(951_825_600_000)),
        ("1969-12-31T23:59:59.5Z", Some(-500)),
        ("2017 Jan 05 14:11:21", None),
        ("2026-03-14T06:25:12", None),
        ("2026-13-14T06:25:12Z", None),
        ("2026-03-14T06:25:12.+0100", None),
        ("2026-03-14T06:25:12+01", None),
        ("", None),
    ];
    for (text, ms) in cases {
        assert_eq!(timestamp_ms(text), ms, "{text}");
    }
}

#[test]
fn events_of_a_firewall_are_found_in_what_is_glued_or_cut() {
    let event = r#"{"transaction":{"id":"x","request":{"uri":"{\"transaction\":{}}"}},"messages":[]}"#;
    let whole = |frame: &str| -> Vec<String> {
        let pieces = check_salvage_as(Form::Event, frame.as_bytes()).into_iter();
        pieces.filter(|piece| matches!(piece, Piece::Alert(_))).map(|piece| frame[piece.range()].to_owned()).collect()
    };
    assert_eq!(whole(&format!("{event}{event}")), [event, event]);
    for cut in 1..event.len() {
        if event.is_char_boundary(cut) {
            assert_eq!(whole(&format!("{}{event}", &event[..cut])), [event], "cut at {cut}");
        }
    }
    let pretty = "{\n  \"transaction\": {\n    \"id\": \"x\"\n  }\n}";
    for cut in 1..pretty.len() {
        assert_eq!(whole(&format!("{}{pretty}", &pretty[..cut])), [pretty], "cut at {cut}");
    }
    assert_eq!(whole(WHOLE), [""; 0], "an alert of the manager is none");
}
