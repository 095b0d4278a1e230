//! Stage `detector` behind handler `apt`: the vectors of group `window`, exactly.

use std::path::PathBuf;

use serde_json::{Value, json};
use shipper::{
    alert::Parser,
    batch::{Draft, Place},
    handlers::{self, Record},
    io::Slab,
    position::{Origin, Position},
    register::{Errors, Node, Section},
    stages::{self, Late, Now, Out},
    tables::Shelf,
};

/// Rows of windows that alerts become.
fn rows(minutes: u64, alerts: &[Value]) -> Vec<Value> {
    let kind = handlers::ALL.iter().find(|kind| kind.name() == "apt").unwrap();
    let mut errors = Errors::default();
    let spec = kind.parse(&mut Section::open("handlers.apt", &Node::parse_scalar("{}"), kind.fields(), &[], &mut errors));
    let mut handler = spec.build(&Shelf::default());
    let kind = stages::ALL.iter().find(|kind| kind.name() == "detector").unwrap();
    let node = Node::parse_toml(&format!("window = '{minutes}m'")).unwrap();
    let spec = kind.parse(&mut Section::open("stages.d", &node, kind.fields(), &[], &mut errors));
    assert!(errors.is_empty(), "{errors}");
    let mut stage = spec.build(&Shelf::default());
    let now = Now { mono: 0, wall: 1_800_000_000_000_000_000 };
    let mut late = Late::default();
    for (offset, alert) in alerts.iter().enumerate() {
        let frame = alert.to_string().into_bytes();
        let mut draft = Draft::new(Slab::from_bytes(frame.clone()));
        let origin = Origin { stream: "kafka/apt_topic/0", offset: offset as u64, len: None };
        let record = Record { frame: &frame, origin, received: 0, own: false };
        {
            let (_, mut out) = draft.outbox(Place { start: 0, len: frame.len() as u32 }, 0, &[None, Some(1)], origin);
            handler.handle(&record, &mut Parser::new().alert(&frame), &mut out);
        }
        let batch = draft.finish(0, Position::Count(1), 0);
        for n in batch.numbers() {
            stage.take(&batch.message(n), now, &mut Out::default());
            while stage.due() == Some(0) {
                stage.tick(now, &mut late);
            }
        }
    }
    stage.flush(now, &mut late);
    let windows = late.messages.iter().filter(|message| message.output == 1);
    windows.map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
}

#[test]
fn rows_of_windows_are_those_of_the_vectors() {
    let dir = std::env::var_os("SHIPPER_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors"), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(dir.join("apt.jsonl")) else {
        eprintln!("skipped: no vectors at {}; SHIPPER_VECTORS says where they are", dir.display());
        return;
    };
    let (mut count, mut failed) = (0, Vec::new());
    for line in text.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        if vector["group"] != "window" {
            continue;
        }
        count += 1;
        let input = &vector["input"];
        let mut came = rows(input["window_minutes"].as_u64().unwrap(), input["alerts"].as_array().unwrap());
        let mut expected = vector["expected"]["rows"].as_array().unwrap().clone();
        let key = |row: &Value| (row["agent_id"].to_string(), row["time_window"].to_string());
        came.sort_by_key(key);
        expected.sort_by_key(key);
        assert!(expected.iter().all(|row| row.as_object().unwrap().len() == 20), "a row has twenty members");
        let shown: Vec<Value> = expected
            .iter()
            .zip(&came)
            .map(|(expected, came)| {
                let rounded = |value: &Value| value.as_f64().map_or_else(|| value.clone(), |x| json!((x * 1e6).round() / 1e6));
                Value::Object(expected.as_object().unwrap().keys().map(|name| (name.clone(), rounded(&came[name]))).collect())
            })
            .collect();
        if shown != expected || came.len() != expected.len() {
            eprintln!("{}\n  came     {}\n  expected {}", vector["id"], Value::Array(came), Value::Array(expected));
            failed.push(vector["id"].clone());
        }
    }
    eprintln!("{count} vectors, {} failed", failed.len());
    assert!(count > 0 && failed.is_empty(), "{failed:?}");
}
