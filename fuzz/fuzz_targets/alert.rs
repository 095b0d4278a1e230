//! Any bytes: nothing panics, pieces tile the frame, what is JSON for the twin is JSON for us
//! and says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipper::alert::{Kind, Node, Parser, Piece, looks_broken, salvage};

/// Reads all there is, and checks that every value's own text is JSON again.
fn walk(node: Node<'_>, depth: usize) {
    assert!(!node.raw().is_empty());
    if depth > 64 {
        return;
    }
    match node.kind() {
        Kind::Array => node.elements().for_each(|element| walk(element, depth + 1)),
        Kind::Object => node.distinct().for_each(|(name, value)| {
            assert!(node.get(name).is_some());
            walk(value, depth + 1);
        }),
        Kind::Number => assert!(node.number().is_some_and(|text| !text.is_empty())),
        _ => drop(node.text()),
    }
}

fuzz_target!(|frame: &[u8]| {
    let mut parser = Parser::new();
    let twin = serde_json::from_slice::<serde_json::Value>(frame).ok();
    let mut alert = parser.alert(frame);
    let read = match alert.root() {
        Ok(root) => {
            walk(root, 0);
            let mut compact = Vec::new();
            root.write_compact(&mut compact);
            Some(compact)
        }
        Err(_) => None,
    };
    drop(alert);
    if let Some(value) = twin {
        let read = read.expect("the twin takes it");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&read).expect("what we write is JSON"), value);
    }
    looks_broken(frame);
    let mut at = 0;
    for piece in salvage(frame) {
        let range = piece.range();
        assert_eq!(range.start, at);
        assert!(range.end > at);
        at = range.end;
        if let Piece::Alert(range) = piece {
            assert!(parser.alert(&frame[range]).root().expect("an alert parses").is_object());
        }
    }
    assert_eq!(at, frame.len());
});
