//! Any bytes as an archive: nothing panics, and no more comes out than the budget allows. Each form with its mark, so that
//! the fuzzer is past the first look at once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipper::scan::{buffer::unpack, rules::lex};

fuzz_target!(|bytes: &[u8]| {
    unpack::exercise(bytes);
    for mark in [&b"PK\x03\x04"[..], b"\x1f\x8b\x08\0"] {
        unpack::exercise(&[mark, bytes].concat());
    }
    let mut tar = bytes.to_vec();
    if tar.len() >= 512 {
        tar[257..262].copy_from_slice(b"ustar");
        // With the right checksum: the header's sum, its own field as blanks.
        tar[148..156].fill(b' ');
        let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
        tar[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        unpack::exercise(&tar);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for include in lex::statements(text).includes {
            assert!(text.get(include.range).is_some());
        }
    }
});
