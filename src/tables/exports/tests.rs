//! Exports as tables: what stands in a file, what is read of it.

use std::io::{BufReader, Cursor};

use proptest::prelude::*;

use super::*;

const UUID: &str = "5a8b2c1d-0000-4000-8000-00000000abcd";
const EVENT: &str = "5a8b2c1d-0000-4000-8000-000000000042";

/// All that is read, with a buffer of so many bytes.
fn read_by(format: &Format, bytes: &[u8], buffer: usize) -> Vec<Read> {
    let mut all = Vec::new();
    let mut from = BufReader::with_capacity(buffer, Cursor::new(bytes));
    read(format, &mut from, &mut |read| {
        all.push(read);
        Ok(())
    })
    .unwrap();
    all
}

/// `type:value`, or `!line reason`.
fn told(reads: &[Read]) -> Vec<String> {
    let one = |read: &Read| match read {
        Read::Attribute(Exported { value: Value::Text(text), misp_type, .. }) => {
            format!("{}:{text}", misp_type.as_deref().unwrap_or("?"))
        }
        Read::Attribute(Exported { value: Value::Sum(sum), .. }) => format!("sum:{}", key::hex(sum)),
        Read::Skipped { at, reason } => format!("!{at} {reason}"),
    };
    reads.iter().map(one).collect()
}

#[track_caller]
fn check(format: &Format, text: &str, expected: &[&str]) {
    for buffer in [1, 2, 7, 4096] {
        assert_eq!(told(&read_by(format, text.as_bytes(), buffer)), expected, "{text:?} in pieces of {buffer}");
    }
}

#[test]
fn a_file_says_what_it_is() {
    let sum = "900150983cd24fb0d6963f7d28e17f72";
    let sha1 = "a".repeat(40);
    for (name, head, expected) in [
        ("x", "uuid,event_id,category,type,value,comment,to_ids,date\n", Ok("csv")),
        ("x", "\u{feff}\"value\",\"type\"\r\n\"a\",\"b\"", Ok("csv")),
        ("x", "value\n1.2.3.4\n", Ok("csv")),
        ("x", &format!("\"{UUID}\",42,\"Network activity\",\"ip-dst\",\"1.2.3.4\",\"\",1,20260314,\"\",\"\"\n"), Ok("csv")),
        ("x", &format!("\"1.2.3.4\",\"ip-dst\",42,\"{UUID}\",1,1700000000\n"), Ok("csv")),
        ("x", "\"1.2.3.4\",\"ip-dst\"\n", Err(Unclear::NoHeader)),
        ("x", &format!("{sum},{EVENT}\n{sum},{EVENT}\n"), Ok("cache")),
        ("x", &format!("{sum}\n{sum},{EVENT}\n{sum}"), Ok("cache")),
        ("x", &format!("{sum}\n{sum}\n"), Err(Unclear::HashesOrSums)),
        ("misp-Cache.txt", &format!("{sum}\n{sum}\n"), Ok("cache")),
        ("hashes.csv", &format!("{sum}\n"), Ok("cache")),
        ("x", &format!("{sum}\n{sha1}\n"), Ok("hashes")),
        ("x", &format!("{sha1}\n"), Ok("hashes")),
        ("x", "# ours\n1.2.3.4\nevil.example\n", Ok("text")),
        ("x", "http://evil.example/a,b\n", Ok("text")),
        ("x", "  {\"Event\":", Ok("json")),
        ("x", "[{\"Event\":", Ok("json")),
        ("x", "", Err(Unclear::Empty)),
        ("x", " \n\n", Err(Unclear::Empty)),
        ("x", "PK\u{3}\u{4}\0\0", Err(Unclear::Binary)),
    ] {
        assert_eq!(detect(name, head.as_bytes()).map(|format| format.name()), expected, "{head:?}");
    }
}

#[test]
fn csv_is_read_as_misp_writes_it() {
    let head = "uuid,event_id,category,type,value,comment,to_ids,date,object_relation,attribute_tag,object_uuid,object_name,object_meta_category\n";
    let Ok(format) = detect("x", head.as_bytes()) else { panic!() };
    let row = |misp_type: &str, value: &str, comment: &str| {
        format!(
            "\"{UUID}\",42,\"Network activity\",\"{misp_type}\",\"{value}\",\"{comment}\",1,20260314,\"\",\"tlp:green,c2\",\"\",\"\",\"\"\n"
        )
    };
    let text = [
        head,
        &row("ip-dst", "203.0.113.9", "said \"\"so\"\", twice"),
        "\n",
        &row("domain|ip", "evil.example|203.0.113.9", "two\nlines\r\nand, a third"),
        "\"only\",3,\"columns\"\n",
        &row("url", "http://evil.example/?a=\"\"b\"\"", ""),
        &row("md5", "", ""),
        "\"x\"y,1\n",
    ]
    .concat();
    check(
        &format,
        &text,
        &[
            "ip-dst:203.0.113.9",
            "domain|ip:evil.example|203.0.113.9",
            "!7 fewer columns than the header has",
            "url:http://evil.example/?a=\"b\"",
            "!9 no value",
            "!10 a quoted field that does not end as one",
        ],
    );
    let Read::Attribute(first) = &read_by(&format, text.as_bytes(), 64)[0] else { panic!() };
    let expected = Exported {
        at: 2,
        misp_type: Some("ip-dst".into()),
        category: "Network activity".into(),
        uuid: Uuid::parse(UUID),
        event_id: "42".into(),
        tags: vec!["tlp:green".into(), "c2".into()],
        to_ids: Some(true),
        timestamp: 1_773_446_400,
        ..Exported::bare(Value::Text("203.0.113.9".into()))
    };
    assert_eq!(*first, expected);
}

#[test]
fn csv_with_asked_columns_needs_no_header() {
    let text = format!("\"1.2.3.4\",\"ip-dst\",42,\"{UUID}\",0,1700000000\n");
    let Ok(format) = detect("x", text.as_bytes()) else { panic!() };
    let Read::Attribute(read) = &read_by(&format, text.as_bytes(), 64)[0] else { panic!() };
    assert_eq!((read.to_ids, read.timestamp, read.uuid, &*read.event_id), (Some(false), 1_700_000_000, Uuid::parse(UUID), "42"));
    let named = Format::Csv(Columns::parse("type, value").unwrap());
    check(&named, "domain,evil.example\n", &["domain:evil.example"]);
    assert_eq!(Columns::parse("type,uuid"), None);
}

#[test]
fn a_quote_that_is_never_closed_costs_one_line() {
    let format = Format::Csv(Columns::parse("value,type").unwrap());
    let mut text = String::from("\"evil.example,domain\n");
    let mut expected = vec!["!1 a quoted field that does not end as one".to_owned()];
    for n in 0..200 {
        text += &format!("h{n}.example,domain\n");
        expected.push(format!("domain:h{n}.example"));
    }
    check(&format, &text, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    check(&format, "\"never", &["!1 a quoted field that does not end as one"]);
    check(&format, "a,b\n\"never\nx,domain", &["b:a", "!2 a quoted field that does not end as one", "domain:x"]);
}

#[test]
fn lists_are_read_line_by_line() {
    check(&Format::Text, "\u{feff}# ours\n 1.2.3.4 \r\n\na|b\nlast", &["?:1.2.3.4", "?:a|b", "?:last"]);
    check(&Format::Hashes, &format!("{}\nevil.example\n", "a".repeat(40)), &[&format!("?:{}", "a".repeat(40)), "!2 not a hash"]);
    let sum = "900150983cd24fb0d6963f7d28e17f72";
    check(
        &Format::Sums,
        &format!("{sum}\n{sum},{EVENT}\nx\n"),
        &[&format!("sum:{sum}"), &format!("sum:{sum}"), "!3 not the MD5 of a value"],
    );
    let Read::Attribute(second) = &read_by(&Format::Sums, format!("{sum},{EVENT}\n").as_bytes(), 64)[0] else { panic!() };
    assert_eq!(second.event_uuid, Uuid::parse(EVENT));
    let long = format!("a\n{}\nb\n", "x".repeat(lines::LINE_BYTES_MAX + 1));
    assert_eq!(told(&read_by(&Format::Text, long.as_bytes(), 4096)), ["?:a", "!2 longer than a line may be (64 KiB)", "?:b"]);
    assert_eq!(told(&read_by(&Format::Text, b"a\n\xff\nb\n", 4096)), ["?:a", "!2 not UTF-8", "?:b"]);
}

#[test]
fn an_event_gives_its_attributes_with_its_info_wherever_that_stands() {
    let attribute = |misp_type: &str, value: &str, more: &str| format!(r#"{{"type":"{misp_type}","value":"{value}"{more}}}"#);
    let event = format!(
        r#"{{"Event":{{"Attribute":[{},{},5,{}],"RelatedEvent":[{{"Event":{{"Attribute":[{{"value":"no"}}]}}}}],
            "Object":[{{"name":"file","Attribute":[{}]}}],"info":"Third wave","uuid":"{EVENT}","id":"42","Tag":[{{"name":"tlp:green"}},{{"name":"c2"}}]}}}}"#,
        attribute(
            "ip-dst|port",
            "203.0.113.9|443",
            &format!(r#","to_ids":true,"timestamp":"1700000000","uuid":"{UUID}","Tag":[{{"name":"c2"}}],"data":"QUJD""#)
        ),
        attribute("domain", "", ""),
        attribute("domain", "evil.example", r#","to_ids":"0","deleted":true"#),
        attribute("md5", "ff", r#","to_ids":1"#),
    );
    check(&Format::Json, &event, &["ip-dst|port:203.0.113.9|443", "!2 no value", "domain:evil.example", "md5:ff"]);
    let reads = read_by(&Format::Json, event.as_bytes(), 64);
    let Read::Attribute(first) = &reads[0] else { panic!() };
    assert_eq!((&*first.event_info, first.event_uuid, &*first.event_id), ("Third wave", Uuid::parse(EVENT), "42"));
    assert_eq!((first.tags.clone(), first.to_ids, first.timestamp), (vec!["c2".to_owned(), "tlp:green".into()], Some(true), 1_700_000_000));
    let Read::Attribute(third) = &reads[2] else { panic!() };
    assert_eq!((third.to_ids, third.deleted, third.useless()), (Some(false), true, Some(Reason::Deleted)));
}

#[test]
fn answers_of_a_search_are_read_too() {
    let flat = format!(
        r#"{{"response":{{"Attribute":[{{"value":"a.example","type":"domain","event_id":"7","Event":{{"info":"Seven","uuid":"{EVENT}"}}}}]}}}}"#
    );
    let nested = r#"{"response":[{"Event":{"info":"One","Attribute":[{"value":"a","type":"domain"}]}},{"Event":{"info":"Two","Attribute":[{"value":"b","type":"domain"}]}}]}"#;
    let Read::Attribute(read) = &read_by(&Format::Json, flat.as_bytes(), 64)[0] else { panic!() };
    assert_eq!((&*read.event_info, &*read.event_id), ("Seven", "7"));
    let infos: Vec<String> = read_by(&Format::Json, nested.as_bytes(), 64)
        .into_iter()
        .map(|read| match read {
            Read::Attribute(read) => read.event_info,
            Read::Skipped { .. } => panic!(),
        })
        .collect();
    assert_eq!(infos, ["One", "Two"]);
    check(&Format::Json, r#"{"Attribute":[{"value":"a","type":"t"},"#, &["t:a", "!2 not JSON; what follows it in the file is not read"]);
    check(&Format::Json, "", &["!1 not JSON; what follows it in the file is not read"]);
    check(&Format::Json, "[]", &[]);
}

#[test]
fn a_manifest_names_its_events() {
    let text = format!(r#"{{"{EVENT}":{{"info":"Third wave","Orgc":{{"name":"o"}},"Tag":[{{"name":"c2"}}]}},"rubbish":{{"info":"x"}}}}"#);
    let heads = manifest(text.as_bytes()).unwrap();
    let uuid = Uuid::parse(EVENT);
    assert_eq!(heads[&uuid.unwrap()], EventHead { uuid, info: "Third wave".into(), tags: vec!["c2".into()], id: String::new() });
    assert_eq!(heads.len(), 1);
    assert!(manifest(&b"[]"[..]).is_err());
}

#[test]
fn an_error_of_whoever_takes_ends_the_reading() {
    let texts: &[(Format, &str)] = &[
        (Format::Text, "a\nb"),
        (Format::Json, r#"{"Attribute":[{"value":"a"},{"value":"b"}]}"#),
        (Format::Csv(Columns::parse("value").unwrap()), "a\nb"),
    ];
    for (format, text) in texts {
        let mut count = 0;
        let ended = read(format, &mut Cursor::new(text.as_bytes()), &mut |_| {
            count += 1;
            Err(io::Error::other("full"))
        });
        assert_eq!((ended.unwrap_err().to_string(), count), ("full".to_owned(), 1));
    }
}

#[test]
fn a_composite_becomes_one_attribute_for_each_part() {
    let exported = Exported { misp_type: Some("domain|ip".into()), ..Exported::bare(Value::Text("Evil.example|203.0.113.9".into())) };
    let all = exported.attributes(|_, value| Some(value.to_lowercase()));
    let shown: Vec<_> = all.iter().map(|a| (a.kind, a.indicator.clone(), &*a.value)).collect();
    assert_eq!(
        shown,
        [
            (Kind::Domain, Indicator::Text("evil.example".into()), "Evil.example|203.0.113.9"),
            (Kind::Ip, Indicator::Text("203.0.113.9".into()), "Evil.example|203.0.113.9"),
        ]
    );
    let comment = Exported { misp_type: Some("comment".into()), ..exported };
    assert_eq!((comment.attributes(|_, _| panic!()), comment.useless()), (vec![], Some(Reason::NoIndicator)));
}

proptest! {
    #[test]
    fn what_is_quoted_by_the_rules_is_read_again(rows in proptest::collection::vec(proptest::collection::vec("[a\",\n\r ]{0,6}", 3), 1..8)) {
        let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
        let text: String = rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n").collect();
        let format = Format::Csv(Columns::parse("value,type,category").unwrap());
        let read: Vec<Option<String>> = read_by(&format, text.as_bytes(), 3).into_iter().map(|read| match read {
            Read::Attribute(Exported { value: Value::Text(text), .. }) => Some(text),
            _ => None,
        }).collect();
        // A line break is `\n` after reading, however it stood.
        let expected: Vec<Option<String>> = rows.iter().map(|row| {
            let value = row[0].replace("\r\n", "\n");
            (!value.trim().is_empty()).then(|| value.trim().to_owned())
        }).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn hostile_bytes_are_read_to_their_end(bytes in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'{'), Just(b'['), Just(b'}'), any::<u8>()], 0..300)) {
        let lines = bytes.split(|byte| *byte == b'\n').count() as u64 + 1;
        for format in [Format::Csv(Columns::parse("value,type").unwrap()), Format::Text, Format::Hashes, Format::Sums, Format::Json] {
            for read in read_by(&format, &bytes, 5) {
                if let Read::Skipped { at, .. } = read {
                    prop_assert!(at >= 1 && at <= lines.max(300));
                }
            }
        }
        let _ = detect("x", &bytes);
        let _ = manifest(&bytes[..]);
    }
}
