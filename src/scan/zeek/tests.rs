//! Rows of both forms and both generations, and what broken lines leave.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, reason = "tests state what must hold")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::{fs, io::Write};

use proptest::prelude::*;

use super::*;
use crate::scan::corpus;

const SECOND: u64 = 1_000_000_000;

fn rel(path: &str) -> RelPath {
    RelPath(path.into())
}

fn one(line: &str) -> Row {
    let (rows, is_whole) = row::rows(&mut Header::default(), line.as_bytes());
    assert!(is_whole, "{line}");
    let [row] = rows.try_into().unwrap();
    row
}

#[test]
fn both_forms_and_both_generations_say_the_same() {
    let tsv = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tfiles\n\
        #fields\tts\tfuid\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tsource\tanalyzers\tmime_type\tfilename\tduration\tis_orig\tmissing_bytes\ttimedout\textracted\textracted_cutoff\n\
        1767322800.742302\tFabc\tCabc\t192.0.2.1\t49000\t198.51.100.1\t80\tHTTP\tEXTRACT\ttext/plain\ta\\x09b\\\\x\t1.500000\tT\t3\tT\tx\\x2dy\tT";
    let mut header = Header::default();
    let rows: Vec<Row> = tsv.lines().flat_map(|line| row::rows(&mut header, line.as_bytes()).0).collect();
    let json = one(
        r#"{"_path":"files","ts":1767322800.742302,"fuid":"Fabc","uid":"Cabc","id.orig_h":"192.0.2.1","id.orig_p":49000,"id.resp_h":"198.51.100.1","id.resp_p":80,"source":"HTTP","analyzers":["EXTRACT"],"mime_type":"text/plain","filename":"a\tb\\x","duration":1.5,"is_orig":true,"missing_bytes":3,"timedout":true,"extracted":"x-y","extracted_cutoff":true}"#,
    );
    assert_eq!(rows, std::slice::from_ref(&json));
    let (orig, resp) = ("192.0.2.1:49000".parse().unwrap(), "198.51.100.1:80".parse().unwrap());
    assert_eq!(json.connections, [Connection { uid: "Cabc".into(), orig: Some(orig), resp: Some(resp) }]);
    assert_eq!((json.sender.as_str(), json.receiver.as_str()), ("192.0.2.1", "198.51.100.1"));
    assert_eq!(json.span, Some((1_767_322_800_742_302_000, 1_767_322_802_242_302_000)));
    assert!(json.has_cutoff && json.has_missing_bytes && json.has_timed_out);

    let old = one(
        r#"{"ts":"2026-01-02T03:00:00Z","fuid":"Fabc","tx_hosts":["198.51.100.1"],"rx_hosts":["192.0.2.1","192.0.2.2"],"conn_uids":["C1","C2"]}"#,
    );
    assert_eq!((old.sender.as_str(), old.receiver.as_str()), ("198.51.100.1", "192.0.2.1"));
    assert_eq!(old.connections.iter().map(|connection| connection.uid.as_str()).collect::<Vec<_>>(), ["C1", "C2"]);
    assert_eq!((old.hosts.len(), old.span), (3, Some((1_767_322_800_000_000_000, 1_767_322_800_000_000_000))));
    let mut header = Header::default();
    let lines =
        ["#separator \\x2c", "#set_separator,;", "#fields,fuid,tx_hosts,rx_hosts,conn_uids", "Fabc,198.51.100.1,192.0.2.1;192.0.2.2,C1;C2"];
    let rows: Vec<Row> = lines.iter().flat_map(|line| row::rows(&mut header, line.as_bytes()).0).collect();
    assert_eq!(rows, [Row { span: None, ..old }], "by whatever separators the log names");
}

#[test]
fn a_name_tells_the_id_of_its_file() {
    let cases = [
        ("extract-1767322800.742302-HTTP-FFv3WsFXK2Y7Ev6aE", Some("FFv3WsFXK2Y7Ev6aE")),
        ("HTTP-FBbQxG1GXLXgmWhbk9.exe", Some("FBbQxG1GXLXgmWhbk9")),
        ("HTTP-FBbQxG1GXLXgmWhbk9-C4QpTaGSMDS9dBPFNE-20260102030000.bin", Some("FBbQxG1GXLXgmWhbk9")),
        ("FBbQxG1GXLXgmWhbk9", Some("FBbQxG1GXLXgmWhbk9")),
        ("FBbQxG1GX", None),                  // nine letters
        ("F0123456789", Some("F0123456789")), // ten
        ("F01234567890123456789", Some("F01234567890123456789")),
        ("F012345678901234567890", None),
        ("fBbQxG1GXLXgmWhbk9", None),
        ("HTTP-FBbQxG1GXLX_mWhbk9", None),
        ("file-0027", None),
        ("", None),
    ];
    for (name, expected) in cases {
        assert_eq!(fuid_of(name.as_bytes()), expected, "{name}");
    }
}

#[test]
fn a_row_is_for_the_file_that_it_names() {
    let mut index = Index::default();
    let mut put = |fuid: &str, uid: &str, extracted: &str| {
        index.put(one(&format!(r#"{{"fuid":"{fuid}","uid":"{uid}","extracted":{}}}"#, serde_json::json!(extracted))), 0);
    };
    put("F1", "C1", "plain");
    put("F1", "C2", "plain");
    put("F1", "C2", "plain");
    put("F2", "C3", "/spool/extract_files/worker-1/same");
    put("F3", "C4", "/spool/extract_files/worker-2/same");
    put("F4", "C5", "../../../etc/passwd");
    put("FBbQxG1GXLXgmWhbk9", "C6", "renamed since");
    put("F6", "C7", "a\u{0}b");
    put("F7", "C8", "reused");
    put("F8", "C9", "reused");
    let of = |path: &str| index.of(&rel(path)).map(|facts| (facts.zeek.fuid, facts.zeek.uids.join(" ")));
    let is = |fuid: &str, uids: &str| Some((fuid.to_owned(), uids.to_owned()));
    assert_eq!(of("plain"), is("F1", "C1 C2"));
    assert_eq!(of("worker-1/plain"), is("F1", "C1 C2"));
    assert_eq!(of("worker-1/same"), is("F2", "C3"));
    assert_eq!(of("worker-2/same"), is("F3", "C4"));
    assert_eq!(of("same"), is("F3", "C4"), "the latest that may be meant");
    assert_eq!(of("worker-3/same"), None);
    assert_eq!(of("passwd"), None);
    assert_eq!(of("etc/passwd"), None);
    assert_eq!(of("HTTP-FBbQxG1GXLXgmWhbk9.exe"), is("FBbQxG1GXLXgmWhbk9", "C6"));
    assert_eq!(of("reused"), is("F8", "C9"));
    assert_eq!(of("nobody"), None);
}

#[test]
fn rows_are_kept_ten_minutes_and_not_too_many() {
    let mut index = Index::default();
    index.put(one(r#"{"fuid":"F1","uid":"C1","extracted":"x"}"#), 0);
    index.put(one(r#"{"fuid":"F1","uid":"C2","extracted":"x"}"#), 60 * SECOND);
    index.forget(600 * SECOND - 1);
    assert_eq!(index.count(), (2, 0));
    index.forget(600 * SECOND);
    assert_eq!(index.of(&rel("x")).unwrap().zeek.uid, "C2");
    index.forget(660 * SECOND);
    assert_eq!((index.of(&rel("x")), index.count()), (None, (0, 0)));
    let row = one(r#"{"fuid":"F1","uid":"C1","extracted":"x"}"#);
    for n in 0..limits::SCAN_ZEEK_ROWS_MAX + 5 {
        index.put(Row { fuid: format!("F{n}"), extracted: Some(n.to_string().into()), ..row.clone() }, 700 * SECOND);
    }
    assert_eq!(index.count(), (limits::SCAN_ZEEK_ROWS_MAX, 5));
    assert!(index.of(&rel("4")).is_none() && index.of(&rel("5")).is_some());
}

#[test]
fn a_late_row_is_waited_for_and_then_amends() {
    let dir = tempfile::tempdir().unwrap();
    let (mut logs, path) = (Logs::new(dir.path()), rel("extract-1-HTTP-FBbQxG1GXLXgmWhbk9"));
    assert!(logs.refresh(0).1.is_ok(), "there need not be a log");
    assert_eq!(logs.ask(&path, 3 * SECOND, 4 * SECOND), Answer::Wait(13 * SECOND));
    let Answer::Without(fuid) = logs.ask(&path, 3 * SECOND, 13 * SECOND) else { panic!("it waits on") };
    assert_eq!(fuid, "FBbQxG1GXLXgmWhbk9");
    let mut late = Late::default();
    late.add("task".into(), path.clone(), 13 * SECOND);
    late.add("never".into(), rel("other"), 13 * SECOND);
    assert!(late.settle(logs.index(), 14 * SECOND).is_empty());

    let mut log = fs::File::create(dir.path().join("files.log")).unwrap();
    writeln!(log, r#"{{"fuid":"FBbQxG1GXLXgmWhbk9","uid":"C1","extracted":"extract-1-HTTP-FBbQxG1GXLXgmWhbk9"}}"#).unwrap();
    write!(log, r#"{{"fuid":"F2","uid":"C2","#).unwrap();
    let (news, read) = logs.refresh(20 * SECOND);
    read.unwrap();
    assert_eq!(news, News { named: vec![path.0.clone()], rows: 1, refused: 0 }, "half a line is none");
    assert!(matches!(logs.ask(&path, 3 * SECOND, 20 * SECOND), Answer::Known(_)));
    let settled = late.settle(logs.index(), 21 * SECOND);
    assert_eq!(settled.iter().map(|(task, facts)| (task.as_str(), facts.zeek.uid.as_str())).collect::<Vec<_>>(), [("task", "C1")]);
    assert!(late.settle(logs.index(), 612 * SECOND).is_empty());
    assert_eq!(late.lost(), (0, 0));
    for _ in 0..2 {
        assert!(late.settle(logs.index(), 613 * SECOND).is_empty());
        assert_eq!(late.lost(), (0, 1), "no row came for the other");
    }
    for n in 0..limits::SCAN_ZEEK_LATE_MAX + 3 {
        late.add(format!("task-{n}"), rel("more"), 614 * SECOND);
    }
    assert_eq!(late.lost(), (3, 1), "those that gave way");

    // Rotated by a rename, half a line and all.
    writeln!(log, r#""extracted":"second"}}"#).unwrap();
    fs::rename(dir.path().join("files.log"), dir.path().join("files.03:00:00-04:00:00.log")).unwrap();
    writeln!(log, r#"{{"fuid":"F3","extracted":"third"}}"#).unwrap();
    fs::write(dir.path().join("files.log"), "{\"fuid\":\"F4\",\"extracted\":\"fourth\"}\n").unwrap();
    let (news, read) = logs.refresh(23 * SECOND);
    read.unwrap();
    assert_eq!(news.named, ["second", "third", "fourth"].map(|name| name.as_bytes().to_vec()));
}

#[test]
fn the_logs_of_the_corpus_are_read_whole() {
    let Some(folder) = corpus::path("zeek") else { return };
    let mut rows = 0;
    let mut seen: Vec<(String, Row)> = Vec::new();
    for log in fs::read_dir(folder.join("tsv")).unwrap() {
        let (log, mut header) = (log.unwrap(), Header::default());
        for line in fs::read(log.path()).unwrap().split(|byte| *byte == b'\n') {
            let (found, is_whole) = row::rows(&mut header, line);
            assert!(is_whole, "{}: {}", log.path().display(), line.escape_ascii());
            rows += found.len();
            seen.extend(found.into_iter().map(|row| (log.file_name().into_string().unwrap(), row)));
        }
    }
    assert_eq!(rows, 24);
    let of = |name: &'static str| seen.iter().filter(move |(log, _)| log == name).map(|(_, row)| row);
    assert_eq!(of("many_connections.log").map(|row| &row.fuid).collect::<std::collections::BTreeSet<_>>().len(), 1);
    assert_eq!(of("many_connections.log").count(), 3);
    assert!(of("no_connection.log").all(|row| row.connections.is_empty() && row.sender.is_empty()));
    assert!(of("extract_limit.log").any(|row| row.has_cutoff));
    assert!(of("large_gap.log").any(|row| row.has_missing_bytes));
    assert!(of("byteranges_timeout.log").any(|row| row.has_timed_out));

    let examples = fs::read(folder.join("docs_examples.ndjson")).unwrap();
    let mut index = Index::default();
    let mut header = Header::default();
    for line in examples.split(|byte| *byte == b'\n').take(10) {
        let (rows, is_whole) = row::rows(&mut header, line);
        assert!(is_whole && rows.len() == 1, "{}", line.escape_ascii());
        rows.into_iter().for_each(|row| index.put(row, 0));
    }
    // Zeek's manual extracts to an absolute path here.
    assert_eq!(index.of(&rel("HTTP-FGYKX64SkXc4OcvlFf.exe")).unwrap().zeek.fuid, "FGYKX64SkXc4OcvlFf");
    assert_eq!(index.of(&rel("HTTP-FBbQxG1GXLXgmWhbk9.exe")).unwrap().zeek.uid, "CzoFRWTQ6YIzfFXHk");
}

#[test]
fn broken_lines_are_refused_or_salvaged() {
    let Some(broken) = corpus::path("zeek/broken_lines.txt") else { return };
    let mut header = Header::default();
    let fields = b"#fields\tts\tfuid\tuid\tid.orig_h\tid.orig_p";
    row::rows(&mut header, fields);
    let (mut fuids, mut refused) = (Vec::new(), 0);
    for line in fs::read(broken).unwrap().split(|byte| *byte == b'\n') {
        let (rows, is_whole) = row::rows(&mut header, line);
        refused += usize::from(!is_whole);
        for row in rows {
            assert!(row.extracted.is_none_or(|name| !name.contains(&0)));
            fuids.push(row.fuid);
        }
    }
    assert_eq!(fuids, ["Fglue1", "Fglue2", "Fbadts", "Fdup2", "Fnul", "Fsur", "Flat1", "Fneg", "Fbom"]);
    assert!(refused >= 9, "{refused}");
}

proptest! {
    #[test]
    fn any_line_is_read_without_a_panic_and_names_nothing_above(
        cells in prop::collection::vec(prop_oneof![
            Just("-".to_owned()), Just("(empty)".to_owned()), Just("T".to_owned()), "[0-9.:-]{0,24}", "F[0-9a-zA-Z]{1,20}", "[./\\\\x0-9a-f]{0,20}", "\\PC{0,12}",
        ], 26),
        is_json in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let fields = ["ts", "fuid", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "source", "depth", "analyzers", "mime_type", "filename",
            "duration", "local_orig", "is_orig", "seen_bytes", "total_bytes", "missing_bytes", "overflow_bytes", "timedout", "parent_fuid", "extracted",
            "extracted_cutoff", "tx_hosts", "rx_hosts", "conn_uids"];
        let mut header = Header::default();
        row::rows(&mut header, format!("#fields\t{}", fields.join("\t")).as_bytes());
        let mut line = if is_json {
            let object: serde_json::Map<_, _> = fields.iter().zip(&cells).map(|(name, cell)| ((*name).to_owned(), serde_json::json!(cell))).collect();
            serde_json::to_vec(&object).unwrap()
        } else {
            cells.join("\t").into_bytes()
        };
        let at = at.index(line.len());
        line[at] = byte;
        for row in row::rows(&mut header, &line).0 {
            prop_assert!((1..=64).contains(&row.fuid.len()) && row.fuid.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let is_above = |name: &Vec<u8>| name.split(|byte| *byte == b'/').any(|part| part == b"..") || name.contains(&0);
            prop_assert!(!row.extracted.as_ref().is_some_and(is_above));
            let mut index = Index::default();
            index.put(row, 0);
            index.of(&rel("F0123456789"));
            index.forget(u64::MAX);
            prop_assert_eq!(index.count(), (0, 0));
        }
    }
}
