//! Any bytes as a record of APT detection: nothing panics, what is written is an event that reads again and an alert
//! within bounds, and what is refused has a reason. The bytes as an event's payload: read or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipper::{
    alert::Parser,
    batch::{Draft, Place},
    detect::Event,
    handlers::{self, Fate, Record},
    io::Slab,
    limits,
    position::{Origin, Position},
    register::{Errors, Node, Section},
};

fuzz_target!(|frame: &[u8]| {
    if let Ok(event) = Event::read(frame) {
        let mut again = Vec::new();
        event.write(&mut again);
        assert_eq!(Event::read(&again).as_ref(), Ok(&event));
    }
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "apt").expect("the kind is registered");
    let mut errors = Errors::default();
    let node = Node::parse_toml("wazuh_alert_level = 1").expect("TOML");
    let spec = kind.parse(&mut Section::open("handlers.apt", &node, kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    let mut handler = spec.build(&shipper::tables::Shelf::default());
    let origin = Origin { stream: "stdin/1", offset: 0, len: None };
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let place = Place { start: 0, len: frame.len() as u32 };
    let record = Record { frame, origin, received: 1_640_995_200_000_000_000, own: false };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1)], origin);
        handler.handle(&record, &mut Parser::new().alert(frame), &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    assert_eq!(fate == Fate::Emitted, !batch.is_empty());
    for n in batch.numbers() {
        let message = batch.message(n);
        match message.output {
            0 => {
                assert!(message.payload.len() <= limits::ALERT_BYTES_MAX);
                let alert: serde_json::Value = serde_json::from_slice(message.payload).expect("an alert is JSON");
                assert!(alert.is_object());
            }
            _ => {
                let event = Event::read(message.payload).expect("an event reads again");
                assert!(event.features.iter().all(|feature| feature.is_finite()));
                assert!(
                    [&event.entity, &event.entity_type, &event.event_type, &event.kind, &event.agent_id]
                        .iter()
                        .all(|text| text.len() <= limits::ENTITY_BYTES_MAX)
                );
            }
        }
    }
    for (name, fact) in handler.explain(&record, &mut Parser::new().alert(frame)) {
        assert!(serde_json::from_str::<serde_json::Value>(&fact).is_ok(), "{name}: {fact}");
    }
    if let Some(pieces) = handler.salvage(frame) {
        let mut at = 0;
        for piece in &pieces {
            assert_eq!(piece.range().start, at);
            at = piece.range().end;
        }
        assert!(pieces.is_empty() || at == frame.len());
    }
});
