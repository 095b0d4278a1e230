//! Any bytes as any export: nothing panics, every line is read once or skipped with its number,
//! however the file is cut into reads.

#![no_main]

use std::io::{BufReader, Cursor};

use libfuzzer_sys::fuzz_target;
use shipper::tables::{
    Kind,
    exports::{Columns, Format, Read, detect, manifest, read},
};

fn all(format: &Format, bytes: &[u8], buffer: usize) -> Vec<Read> {
    let mut all = Vec::new();
    let mut from = BufReader::with_capacity(buffer, Cursor::new(bytes));
    read(format, &mut from, &mut |read| {
        all.push(read);
        Ok(())
    })
    .expect("memory can be read");
    all
}

fuzz_target!(|bytes: &[u8]| {
    let columns = Columns::parse("value,type,event_id,uuid,to_ids,timestamp").expect("a value");
    let mut formats = vec![Format::Csv(columns), Format::Text, Format::Hashes, Format::Sums, Format::Json];
    formats.extend(detect("x", bytes).ok());
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    for format in formats {
        let read = all(&format, bytes, 8192);
        assert_eq!(read, all(&format, bytes, 7), "{format:?}");
        for read in read {
            match read {
                Read::Skipped { at, .. } => assert!(at >= 1 && (at <= lines || format == Format::Json)),
                Read::Attribute(exported) => {
                    let parts = exported.attributes(|_, value| Some(value.to_owned()));
                    assert!(parts.len() <= 2);
                    assert!(parts.iter().all(|part| Kind::ALL.contains(&part.kind)));
                }
            }
        }
    }
    let _ = manifest(bytes);
});
