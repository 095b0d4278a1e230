//! A change as a record. Pure.

use super::{answer::Agent, core::Change};
use crate::json::{json_str_plain, time};

/// Appends the record of a change, one line without its end.
///
/// - `source`: as in the config.
/// - `at`: when it was seen, milliseconds since 1970.
/// - `agent`: as the server told it; `None` for one that is gone.
pub(super) fn write(w: &mut Vec<u8>, source: &str, at: i64, change: &Change, agent: Option<&Agent>) {
    w.extend_from_slice(b"{\"timestamp\":\"");
    time(w, at);
    w.extend_from_slice(b"\",\"wazuh_agents\":{\"event\":");
    json_str_plain(w, change.event.name());
    w.extend_from_slice(format!(",\"change\":{}", change.number).as_bytes());
    member(w, "source", source);
    member(w, "status", change.status.as_deref().unwrap_or_default());
    member(w, "previous", change.previous.as_deref().unwrap_or_default());
    w.extend_from_slice(b",\"agent\":{\"id\":");
    json_str_plain(w, &change.id);
    member(w, "name", &change.name);
    member(w, "ip", &change.ip);
    w.push(b'}');
    if let Some(agent) = agent {
        member(w, "last_keep_alive", &agent.last_keep_alive);
        member(w, "version", &agent.version);
        let os = [("platform", &agent.os_platform), ("name", &agent.os_name), ("version", &agent.os_version)];
        let mut before = ",\"os\":{";
        for (name, value) in os.into_iter().filter(|(_, value)| !value.is_empty()) {
            w.extend_from_slice(before.as_bytes());
            json_str_plain(w, name);
            w.push(b':');
            json_str_plain(w, value);
            before = ",";
        }
        if before == "," {
            w.push(b'}');
        }
        if !agent.groups.is_empty() {
            w.extend_from_slice(b",\"groups\":[");
            for (n, group) in agent.groups.iter().enumerate() {
                if n > 0 {
                    w.push(b',');
                }
                json_str_plain(w, group);
            }
            w.push(b']');
        }
        member(w, "node", &agent.node);
    }
    w.extend_from_slice(b"}}");
}

/// A member that is left out where it is empty; never the first one.
fn member(w: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        w.push(b',');
        json_str_plain(w, name);
        w.push(b':');
        json_str_plain(w, value);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::core::Event, *};

    #[test]
    fn a_record_says_what_is_known_and_nothing_else() {
        let line = |change: &Change, agent: Option<&Agent>| {
            let mut out = Vec::new();
            write(&mut out, "agents", 1_764_540_904_120, change, agent);
            let text = String::from_utf8(out).expect("text");
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            text
        };
        let change = Change {
            event: Event::Status,
            id: "005".into(),
            name: "we\"b\n".into(),
            ip: "10.0.0.5".into(),
            status: Some("disconnected".into()),
            previous: Some("active".into()),
            number: 17,
            seen: Some(0),
        };
        let agent = Agent {
            last_keep_alive: "2025-11-30T22:05:01+00:00".into(),
            version: "Wazuh v4.12.0".into(),
            os_platform: "ubuntu".into(),
            os_version: "22.04".into(),
            groups: vec!["default".into(), "web".into()],
            node: "node01".into(),
            ..Agent::default()
        };
        assert_eq!(
            line(&change, Some(&agent)),
            r#"{"timestamp":"2025-11-30T22:15:04.120Z","wazuh_agents":{"event":"status","change":17,"source":"agents","status":"disconnected","previous":"active","agent":{"id":"005","name":"we\"b\n","ip":"10.0.0.5"},"last_keep_alive":"2025-11-30T22:05:01+00:00","version":"Wazuh v4.12.0","os":{"platform":"ubuntu","version":"22.04"},"groups":["default","web"],"node":"node01"}}"#
        );
        let gone = Change { event: Event::Gone, status: None, name: "web".into(), ..change.clone() };
        assert_eq!(
            line(&gone, None),
            r#"{"timestamp":"2025-11-30T22:15:04.120Z","wazuh_agents":{"event":"gone","change":17,"source":"agents","previous":"active","agent":{"id":"005","name":"web","ip":"10.0.0.5"}}}"#
        );
        let new = Change { event: Event::New, previous: None, ip: "".into(), name: "".into(), ..change };
        assert_eq!(
            line(&new, Some(&Agent::default())),
            r#"{"timestamp":"2025-11-30T22:15:04.120Z","wazuh_agents":{"event":"new","change":17,"source":"agents","status":"disconnected","agent":{"id":"005"}}}"#
        );
    }
}
