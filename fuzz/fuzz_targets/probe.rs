//! The law of the probe: for a frame that is JSON, every handler emits the same with and without
//! it. The handlers run with their defaults.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memchr::memmem::find;
use shipper::{
    alert::Parser,
    batch::{Draft, Place},
    handlers::{self, Needles, Record},
    io::Slab,
    position::Origin,
    register::{Errors, Node, Section},
};

fuzz_target!(|frame: &[u8]| {
    if serde_json::from_slice::<serde_json::Value>(frame).is_err() {
        return;
    }
    let origin = Origin { stream: "m/alerts/2026-03-14/000", offset: 0, len: None };
    let place = Place { start: 0, len: frame.len() as u32 };
    let mut parser = Parser::new();
    for kind in handlers::ALL {
        let mut errors = Errors::default();
        let spec = kind.parse(&mut Section::open("handlers.h", &Node::parse_scalar("{}"), kind.fields(), &[], &mut errors));
        if !errors.is_empty() {
            continue; // A kind that must be told something.
        }
        let mut handler = spec.build(&shipper::tables::Shelf::default());
        let probed = match handler.needles() {
            Needles::All => true,
            Needles::Any(needles) => needles.iter().any(|needle| find(frame, needle).is_some()) || find(frame, b"\\u").is_some(),
        };
        let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
        let routes = vec![Some(0); kind.outputs().len()];
        let (_, mut out) = draft.outbox(place, 0, &routes, origin);
        handler.handle(&Record { frame, origin, received: 0, own: false }, &mut parser.alert(frame), &mut out);
        assert!(probed || draft.is_empty(), "{} emits what the probe hides", kind.name());
    }
});
