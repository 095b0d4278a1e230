//! Any bytes as any of our own table files, and as a warninglist: an error or a table that can be
//! asked, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipper::tables::{Filter, Key, Kind, Mirror, changes::Changes, warninglists::Builder};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(filter) = Filter::parse(bytes.to_vec()) {
        filter.may_hold(Key::of(bytes));
        filter.networks().len();
    }
    if let Ok(mirror) = Mirror::open(bytes.to_vec()) {
        let _ = mirror.find(b"evil.example");
        let _ = mirror.of_key(Key(u64::MAX));
    }
    if let Ok(changes) = Changes::parse(bytes) {
        changes.get(Key::of(bytes));
        changes.encode();
    }
    let mut lists = Builder::new();
    if lists.add("x", bytes).is_ok() {
        if let Ok(lists) = lists.build() {
            for kind in Kind::ALL {
                lists.check(kind, "http://a.evil.example/?q=1");
            }
        }
    }
});
