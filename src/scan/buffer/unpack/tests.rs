//! Archives made by hand, byte by byte.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::scan::settings::Settings;

/// A ZIP of stored members, as Unix writes them.
pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let members: Vec<_> = members.iter().map(|(name, bytes)| (*name, *bytes, 0, bytes.to_vec(), 0o100_644u32)).collect();
    zip_of(&members)
}

/// The same, deflated.
#[cfg(feature = "scan")]
pub(crate) fn zip_deflated(members: &[(&str, &[u8])]) -> Vec<u8> {
    let members: Vec<_> = members.iter().map(|(name, bytes)| (*name, *bytes, 8, deflated(bytes), 0o100_644u32)).collect();
    zip_of(&members)
}

/// Name, bytes, method, packed bytes, mode.
type Row<'a> = (&'a str, &'a [u8], u16, Vec<u8>, u32);

fn zip_of(members: &[Row<'_>]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes, method, packed, mode) in members {
        let (at, name_length) = (out.len() as u32, (name.len() as u16).to_le_bytes());
        let mut fields = Vec::new();
        fields.extend_from_slice(&[20, 0, 0, 0]);
        fields.extend_from_slice(&method.to_le_bytes());
        fields.extend_from_slice(&[0; 4]);
        for number in [crc(bytes), packed.len() as u32, bytes.len() as u32] {
            fields.extend_from_slice(&number.to_le_bytes());
        }
        fields.extend_from_slice(&name_length);
        fields.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&[b"PK\x03\x04", &fields[..], name.as_bytes(), packed].concat());
        directory.extend_from_slice(&[b"PK\x01\x02\x14\x03", &fields[..], &[0; 6]].concat());
        directory.extend_from_slice(&(mode << 16).to_le_bytes());
        directory.extend_from_slice(&at.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let (count, size, at) =
        ((members.len() as u16).to_le_bytes(), (directory.len() as u32).to_le_bytes(), (out.len() as u32).to_le_bytes());
    [&out[..], &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &at, &[0, 0]].concat()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn limits() -> Limits {
    Limits::from(&Settings::default())
}

/// Name, bytes seen, whether whole, flaw.
type Seen = (String, Option<usize>, bool, Option<Reason>);

/// Each member, and the limit that ended it.
fn read(bytes: &[u8], limits: &Limits) -> (Vec<Seen>, Option<Reason>) {
    let mut budget = Budget::new(limits, bytes.len() as u64);
    let mut archive = Archive::open(kind(bytes).unwrap(), bytes);
    let mut members = Vec::new();
    loop {
        match archive.next(&mut budget, &|| false) {
            None => return (members, None),
            Some(Err(reason)) => return (members, Some(reason)),
            Some(Ok(member)) => members.push((member.name, member.bytes.map(|bytes| bytes.len()), member.is_whole, member.flaw)),
        }
    }
}

#[test]
fn members_of_a_zip_are_files_and_nothing_else() {
    let text = b"text ".repeat(100);
    let archive = zip_of(&[
        ("dir/", b"", 0, Vec::new(), 0o040_755),
        ("link", b"/etc/passwd", 0, b"/etc/passwd".to_vec(), 0o120_777),
        ("dev", b"", 0, Vec::new(), 0o020_644),
        ("a.txt", &text, 8, deflated(&text), 0o100_644),
        ("lzma", b"x", 14, b"x".to_vec(), 0o100_644),
        ("liar", b"xy", 0, b"zz".to_vec(), 0),
    ]);
    let (members, end) = read(&archive, &limits());
    let expected = [
        ("link".to_owned(), None, false, Some(Reason::Refused)),
        ("dev".to_owned(), None, false, Some(Reason::Refused)),
        ("a.txt".to_owned(), Some(500), true, None),
        ("lzma".to_owned(), None, false, Some(Reason::Refused)),
        ("liar".to_owned(), Some(2), false, Some(Reason::Corrupt)),
    ];
    assert_eq!((members.as_slice(), end), (&expected[..], None));
}

#[test]
fn what_comes_out_is_counted_not_what_headers_say() {
    let zeros = vec![0; 4 << 20];
    let archive = zip_of(&[("z", b"small", 8, deflated(&zeros), 0), ("y", b"", 8, deflated(&zeros), 0)]);
    let (members, end) = read(&archive, &limits());
    // Each by its own ratio and both by the file's: four KiB may become a MiB.
    assert_eq!(
        members[0],
        (
            "z".to_owned(),
            Some(usize::try_from(limits().ratio_max).unwrap() * archive.len()).map(|n| n.min(1 << 20)),
            false,
            Some(Reason::LimitRatio)
        )
    );
    assert_eq!((members[1].3, end), (Some(Reason::LimitRatio), None));
    let wide = Limits { ratio_max: 1 << 20, bytes_max: 5 << 20, ..limits() };
    let (members, end) = read(&archive, &wide);
    assert_eq!((members[0].1, members[0].3), (Some(4 << 20), Some(Reason::Corrupt)), "the header lies about the size");
    assert_eq!((members[1].1, members[1].3, end), (Some(1 << 20), Some(Reason::LimitBytes), None));
    let few = Limits { children_max: 1, ..wide };
    assert_eq!(read(&archive, &few).1, Some(Reason::LimitChildren));
}

#[test]
fn a_short_text_of_one_letter_is_no_bomb() {
    let text = vec![b'a'; 900_000];
    let archive = zip_of(&[("a", &text, 8, deflated(&text), 0)]);
    assert!(archive.len() < 2000);
    assert_eq!(read(&archive, &limits()), (vec![("a".to_owned(), Some(900_000), true, None)], None));
}

#[test]
fn a_late_member_is_left_where_it_is() {
    let archive = zip_of(&[("a", &[1; 100_000], 8, deflated(&[1; 100_000]), 0)]);
    let mut budget = Budget::new(&limits(), 1 << 20);
    let member = Archive::open(Kind::Zip, &archive).next(&mut budget, &|| true).unwrap().unwrap();
    assert_eq!((member.flaw, member.is_whole), (Some(Reason::Timeout), false));
}

fn tar_entry(name: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
    header[156] = kind;
    header[257..263].copy_from_slice(b"ustar\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.extend_from_slice(body);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

#[test]
fn tar_names_may_stand_before_their_file() {
    let long = "d/".repeat(100) + "name";
    let record = format!("path={long}\n");
    let record = format!("{} {record}", record.len() + 4);
    let archive = [
        tar_entry("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        tar_entry("short", b'0', b"gnu"),
        tar_entry("pax", b'x', record.as_bytes()),
        tar_entry("short", b'0', b"pax!"),
        tar_entry("dir", b'5', b""),
        tar_entry("fifo", b'6', b""),
        tar_entry("old", 0, b""),
        vec![0; 1024],
    ]
    .concat();
    let (members, _) = read(&archive, &limits());
    let whole = |name: &str, length| (name.to_owned(), Some(length), true, None);
    assert_eq!(members, [whole(&long, 3), whole(&long, 4), ("fifo".to_owned(), None, false, Some(Reason::Refused)), whole("old", 0)]);
    let cut = &archive[..512 * 3 + 2];
    assert_eq!(read(cut, &limits()).0[0].3, Some(Reason::Corrupt));
    let mut broken = tar_entry("a", b'0', b"x");
    broken.extend_from_slice(&[7; 512]);
    assert_eq!(read(&broken, &limits()).0[1], (String::new(), None, false, Some(Reason::Corrupt)));
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(mut bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..3, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        match kind {
            0 => bytes.splice(0..0, *b"PK\x03\x04").for_each(drop),
            1 => bytes.splice(0..0, *b"\x1f\x8b\x08\0").for_each(drop),
            _ => {
                bytes.resize(1200, 0);
                bytes[257..262].copy_from_slice(b"ustar");
            }
        }
        exercise(&bytes);
        let mut archive = zip(&[("a", &bytes), ("b", b"x")]);
        let at = at.index(archive.len());
        archive[at] = byte;
        exercise(&archive);
        let mut archive = tar_entry("a", b'0', &bytes);
        let at = at % archive.len();
        archive[at] = byte;
        exercise(&archive);
    }
}
