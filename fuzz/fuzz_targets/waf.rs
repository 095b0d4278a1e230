//! Any bytes as an event: nothing panics, what is written is one line of the protocol a point and JSON an alert,
//! and what is refused has a reason. The first byte chooses the settings.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipper::{
    alert::Parser,
    batch::{Draft, Place},
    handlers::{self, Fate, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
};

const SETTINGS: [&str; 4] = [
    "",
    "layout = 'upstream'\nmask_ip = 'truncate'\nalert_at = -1000000\nalert_fields = 'full'\nhost_from = 'name'",
    "layout = 'lean'\nuri = 'redact'\ncategory_from = 'tag'\nclient_ip_from = 'x-forwarded-for'\ntrusted_proxies = ['10.0.0.0/8']\nalert_at = 0",
    "others = 'drop'\nuri = 'path'\ntimezone = 'America/St_Johns'\ncategory_weights = 'primary'\nbad_ips = ['0.0.0.0/0']\nkey = 'request'\nupstream_names = true\nalert_at = 0",
];

/// The measurement, and the time at the end; between them no line may end.
fn is_point(line: &str) -> bool {
    let time = line.rsplit(' ').next().and_then(|time| time.parse::<i64>().ok());
    (line.starts_with("waf_events") || line.starts_with("waf_requests")) && time.is_some() && !line.contains(['\n', '\r'])
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, frame)) = bytes.split_first() else { return };
    let settings = SETTINGS[usize::from(*first) % SETTINGS.len()];
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "waf").expect("the kind is registered");
    let mut errors = Errors::default();
    let node = Node::parse_toml(settings).expect("TOML");
    let spec = kind.parse(&mut Section::open("handlers.waf", &node, kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    let mut handler = spec.build(&shipper::tables::Shelf::default());
    let origin = Origin { stream: "stdin/1", offset: 0, len: None };
    let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
    let place = Place { start: 0, len: frame.len() as u32 };
    let record = Record { frame, origin, received: 1_640_995_200_000_000_000, own: false };
    let fate = {
        let (_, mut out) = draft.outbox(place, 0, &[Some(0), Some(1), Some(2)], origin);
        handler.handle(&record, &mut Parser::new().alert(frame), &mut out)
    };
    let batch = draft.finish(0, Position::Count(1), 0);
    assert_eq!(fate == Fate::Emitted, !batch.is_empty());
    for n in batch.numbers() {
        let message = batch.message(n);
        let text = std::str::from_utf8(message.payload).expect("UTF-8");
        match message.output {
            0 => assert!(is_point(text), "{text}"),
            _ => assert!(serde_json::from_str::<serde_json::Value>(text).is_ok_and(|alert| alert.is_object()), "{text}"),
        }
    }
    for (name, fact) in handler.explain(&record, &mut Parser::new().alert(frame)) {
        assert!(serde_json::from_str::<serde_json::Value>(&fact).is_ok(), "{name}: {fact}");
    }
    if let Some(pieces) = handler.salvage(frame) {
        let mut at = 0;
        for piece in pieces {
            assert_eq!(piece.range().start, at);
            at = piece.range().end;
        }
        assert_eq!(at, frame.len());
    }
});
