//! The members of an event, wherever its writer puts them.
//!
//! | writer | where |
//! |---|---|
//! | ModSecurity 3, and the seed document | all in `transaction`; rules in `transaction.messages` |
//! | ModSecurity 2, and Coraza's `JsonLegacy` | `request`, `response` and `audit_data` beside it; rules as text in `audit_data` |
//! | Coraza `JSON` | rules in `messages` beside it |
//!
//! What is missing and what is of another type than expected are the same: empty.

use super::number::{self, whole};
use crate::alert::{Kind, Node};

/// What wrote an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    ModSecurity3,
    ModSecurity2,
    Coraza,
    /// Nothing says which; as in the seed document.
    Unknown,
}

impl Writer {
    /// As metrics have it.
    pub fn word(self) -> &'static str {
        match self {
            Writer::ModSecurity3 => "modsecurity3",
            Writer::ModSecurity2 => "modsecurity2",
            Writer::Coraza => "coraza",
            Writer::Unknown => "unknown",
        }
    }
}

/// Text without blanks around it, by which also the four separators of ASCII are meant.
pub fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

/// A string's characters; empty for anything else.
fn text(node: Option<Node<'_>>) -> &str {
    node.and_then(Node::as_str).map_or("", trimmed)
}

fn object(node: Option<Node<'_>>) -> Option<Node<'_>> {
    node.filter(|node| node.is_object())
}

/// What a filter before us made of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Classification<'t> {
    pub track: &'t str,
    pub score: Option<i32>,
    pub rule_id: Option<Node<'t>>,
    pub timestamp: &'t str,
}

impl<'t> Classification<'t> {
    fn of(node: Option<Node<'t>>) -> Self {
        let mut found = Self::default();
        for (name, value) in object(node).into_iter().flat_map(Node::members) {
            match name {
                "track" => found.track = text(Some(value)),
                "anomaly_score" => found.score = whole(value),
                "rule_id" => found.rule_id = Some(value),
                "timestamp" => found.timestamp = text(Some(value)),
                _ => {}
            }
        }
        found
    }
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'t> {
    pub writer: Writer,
    /// The transaction's id.
    pub id: &'t str,
    /// Who asked, as the server saw it.
    pub client: &'t str,
    /// The client's port as it was written; `None` if it is no whole number.
    pub port: Option<i64>,
    /// Address of the server that was asked.
    pub server: &'t str,
    pub method: &'t str,
    /// With its query.
    pub uri: &'t str,
    /// 100 to 999.
    pub code: Option<u16>,
    /// Of the request; names repeat.
    pub headers: Option<Node<'t>>,
    /// `transaction.anomaly_score`.
    pub score: Option<i32>,
    /// True if the engine says that it interfered, false if it says that it did not.
    pub interrupted: Option<bool>,
    pub classification: Classification<'t>,
    /// An array, or nothing.
    pub messages: Option<Node<'t>>,
    /// `unix_timestamp`.
    pub unix: Option<Node<'t>>,
    /// `time_stamp`, `timestamp` and `time`.
    pub stamps: [&'t str; 3],
    /// How the engine says that it is set: `On`, `DetectionOnly`, …
    pub mode: &'t str,
    /// What the engine says of its rule sets: a text, or an array of texts.
    rule_set: Option<Node<'t>>,
    /// Names under which the site is known, the best one first: `request.hostname`, the writer's id of the server.
    names: [&'t str; 2],
}

impl<'t> Event<'t> {
    /// Reads an event.
    ///
    /// - `root`: an object with an object `transaction`.
    /// - `beside`: `classification` of what `root` was packed in.
    ///
    /// `None` if `root` is something else.
    pub fn of(root: Node<'t>, beside: Option<Node<'t>>) -> Option<Self> {
        let mut outer = Outer::default();
        for (name, value) in root.members() {
            match name {
                "transaction" => outer.transaction = Some(value),
                "classification" => outer.classification = Some(value),
                "audit_data" => outer.audit = Some(value),
                "request" => outer.request = Some(value),
                "response" => outer.response = Some(value),
                "messages" => outer.messages = Some(value),
                _ => {}
            }
        }
        let inner = Inner::of(object(outer.transaction)?);
        let audit = object(outer.audit);
        let request = Request::of(object(inner.request).or(object(outer.request)));
        let response = object(inner.response).or(object(outer.response));
        let code = response.and_then(|response| {
            let code = |key| response.get(key).and_then(whole).and_then(|code| u16::try_from(code).ok());
            code("http_code").or_else(|| code("status")).filter(|code| (100..1000).contains(code))
        });
        let (mut intercepted, mut mode, mut rule_set) = (None, "", None);
        let messages = match audit {
            Some(audit) => {
                intercepted = audit.path(&["action", "intercepted"]).and_then(Node::as_bool);
                mode = text(audit.get("engine_mode"));
                rule_set = audit.get("producer");
                rules(audit.get("messages")).or_else(|| rules(audit.get("error_messages")))
            }
            None => rules(inner.messages).or_else(|| rules(outer.messages)),
        };
        let mut writer = if audit.is_some() { Writer::ModSecurity2 } else { Writer::Unknown };
        for (name, value) in object(inner.producer).into_iter().flat_map(Node::members) {
            match name {
                "modsecurity" => writer = Writer::ModSecurity3,
                "secrules_engine" => mode = text(Some(value)),
                "components" | "rulesets" => rule_set = Some(value),
                "rule_engine" => (writer, mode) = (Writer::Coraza, text(Some(value))),
                _ => {}
            }
        }
        Some(Self {
            writer,
            id: first([inner.id, inner.unique_id, inner.transaction_id]),
            client: first([inner.client_ip, inner.remote_address]),
            port: [inner.client_port, inner.remote_port].into_iter().flatten().find_map(number::integer),
            server: first([inner.host_ip, inner.local_address]),
            method: request.method,
            uri: request.uri,
            code,
            headers: object(request.headers),
            score: inner.score.and_then(whole),
            interrupted: inner.interrupted.and_then(Node::as_bool).or(intercepted),
            classification: Classification::of(object(outer.classification).or(beside)),
            messages,
            unix: inner.unix,
            stamps: [inner.time_stamp, inner.timestamp, inner.time].map(text),
            mode,
            rule_set,
            names: [request.host, text(inner.server_id)],
        })
    }

    /// The name of the site, as far as the event tells: what the client asked for, so the client can choose it.
    pub fn site(&self) -> &'t str {
        let [asked, server] = self.names;
        // ModSecurity's id of a server is a hash that nobody knows by heart.
        let is_hash = server.len() == 40 && server.bytes().all(|b| b.is_ascii_hexdigit());
        let named = if is_hash { "" } else { server };
        let header = || self.header("host").next().unwrap_or("");
        [asked, named].into_iter().find(|name| !name.is_empty()).unwrap_or_else(header)
    }

    /// Values of a header of the request, in order.
    ///
    /// - `name`: in lower case.
    pub fn header(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'t str> + use<'t> {
        let members = self.headers.into_iter().flat_map(Node::members);
        let values = members.filter(move |(key, _)| key.eq_ignore_ascii_case(name)).flat_map(|(_, value)| match value.kind() {
            Kind::Array => value.elements().filter_map(Node::as_str).collect(),
            _ => value.as_str().into_iter().collect::<Vec<_>>(),
        });
        values.collect::<Vec<_>>().into_iter()
    }

    /// What the engine is set to, as metrics have it.
    pub fn mode_word(&self) -> &'static str {
        let is = |words: &[&str]| words.iter().any(|word| self.mode.eq_ignore_ascii_case(word));
        match () {
            () if is(&["On", "Enabled"]) => "on",
            () if is(&["Off", "Disabled"]) => "off",
            () if is(&["DetectionOnly", "DETECTION_ONLY"]) => "detection_only",
            () => "unknown",
        }
    }

    /// Names and versions of the rule sets; older builds leave a quote behind each.
    pub fn rule_sets(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let all = match self.rule_set {
            Some(node) if node.kind() == Kind::Array => node.elements().filter_map(Node::as_str).collect(),
            node => node.and_then(Node::as_str).into_iter().collect::<Vec<_>>(),
        };
        all.into_iter().map(|text| text.trim_matches(['"', ' '])).filter(|text| !text.is_empty())
    }

    /// True if the request did not get through.
    pub fn is_blocked(&self) -> bool {
        self.interrupted.unwrap_or(self.code == Some(403))
    }
}

/// The first of several members that says something.
fn first<const N: usize>(nodes: [Option<Node<'_>>; N]) -> &str {
    nodes.into_iter().map(text).find(|text| !text.is_empty()).unwrap_or("")
}

/// A list that has entries.
fn rules(node: Option<Node<'_>>) -> Option<Node<'_>> {
    node.filter(|node| node.kind() == Kind::Array && !node.is_empty())
}

/// Members beside `transaction`.
#[derive(Default)]
struct Outer<'t> {
    transaction: Option<Node<'t>>,
    classification: Option<Node<'t>>,
    audit: Option<Node<'t>>,
    request: Option<Node<'t>>,
    response: Option<Node<'t>>,
    messages: Option<Node<'t>>,
}

/// Members of `transaction`.
#[derive(Default)]
struct Inner<'t> {
    id: Option<Node<'t>>,
    unique_id: Option<Node<'t>>,
    transaction_id: Option<Node<'t>>,
    client_ip: Option<Node<'t>>,
    remote_address: Option<Node<'t>>,
    client_port: Option<Node<'t>>,
    remote_port: Option<Node<'t>>,
    host_ip: Option<Node<'t>>,
    local_address: Option<Node<'t>>,
    server_id: Option<Node<'t>>,
    score: Option<Node<'t>>,
    interrupted: Option<Node<'t>>,
    unix: Option<Node<'t>>,
    time_stamp: Option<Node<'t>>,
    timestamp: Option<Node<'t>>,
    time: Option<Node<'t>>,
    request: Option<Node<'t>>,
    response: Option<Node<'t>>,
    producer: Option<Node<'t>>,
    messages: Option<Node<'t>>,
}

impl<'t> Inner<'t> {
    fn of(transaction: Node<'t>) -> Self {
        let mut found = Self::default();
        for (name, value) in transaction.members() {
            let slot = match name {
                "id" => &mut found.id,
                "unique_id" => &mut found.unique_id,
                "transaction_id" => &mut found.transaction_id,
                "client_ip" => &mut found.client_ip,
                "remote_address" => &mut found.remote_address,
                "client_port" => &mut found.client_port,
                "remote_port" => &mut found.remote_port,
                "host_ip" => &mut found.host_ip,
                "local_address" => &mut found.local_address,
                "server_id" => &mut found.server_id,
                "anomaly_score" => &mut found.score,
                "is_interrupted" => &mut found.interrupted,
                "unix_timestamp" => &mut found.unix,
                "time_stamp" => &mut found.time_stamp,
                "timestamp" => &mut found.timestamp,
                "time" => &mut found.time,
                "request" => &mut found.request,
                "response" => &mut found.response,
                "producer" => &mut found.producer,
                "messages" => &mut found.messages,
                _ => continue,
            };
            *slot = Some(value);
        }
        found
    }
}

/// What was asked for.
#[derive(Default)]
struct Request<'t> {
    method: &'t str,
    uri: &'t str,
    host: &'t str,
    headers: Option<Node<'t>>,
}

impl<'t> Request<'t> {
    fn of(node: Option<Node<'t>>) -> Self {
        let (mut found, mut line) = (Self::default(), "");
        for (name, value) in node.into_iter().flat_map(Node::members) {
            match name {
                "method" => found.method = text(Some(value)),
                "uri" => found.uri = text(Some(value)),
                "hostname" => found.host = text(Some(value)),
                "headers" => found.headers = Some(value),
                "request_line" => line = text(Some(value)),
                _ => {}
            }
        }
        let (method, uri) = request_line(line);
        if found.method.is_empty() {
            found.method = method;
        }
        if found.uri.is_empty() {
            found.uri = uri;
        }
        found
    }
}

/// Method and URI of a request's first line: the first word, then all up to ` HTTP/x.y` at the end.
fn request_line(line: &str) -> (&str, &str) {
    let (method, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let version = |tail: &str| tail.strip_prefix("HTTP/").is_some_and(|v| v.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    let uri = match rest.rsplit_once(char::is_whitespace) {
        Some((uri, tail)) if version(tail) => uri,
        None if version(rest) => "",
        _ => rest,
    };
    (method, trimmed(uri))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;
    use crate::alert::Parser;

    #[test]
    fn a_request_line_is_cut_at_its_ends() {
        for (line, expected) in [
            ("GET /x HTTP/1.1", ("GET", "/x")),
            ("GET /old", ("GET", "/old")),
            ("GET /a b HTTP/1.0", ("GET", "/a b")),
            ("GET /x HTTP/1.1 HTTP/1.1", ("GET", "/x HTTP/1.1")),
            ("GET", ("GET", "")),
            ("GET HTTP/1.1", ("GET", "")),
            ("", ("", "")),
        ] {
            assert_eq!(request_line(line), expected, "{line}");
        }
    }

    #[test]
    fn a_site_is_what_was_asked_for_but_never_a_hash() {
        let hash = "2ce124b0c5d02b433a9392782ff8b313286c1942";
        let with = |request: &str, id: &str| {
            let text = format!("{{\"transaction\":{{\"server_id\":\"{id}\",\"request\":{request}}}}}");
            let mut parser = Parser::new();
            let mut alert = parser.alert(text.as_bytes());
            Event::of(alert.root().unwrap(), None).unwrap().site().to_owned()
        };
        assert_eq!(with(r#"{"hostname":"a.example"}"#, hash), "a.example");
        assert_eq!(with(r#"{"headers":{"Host":"b.example"}}"#, hash), "b.example");
        assert_eq!(with(r#"{"headers":{"host":["c.example"]}}"#, hash), "c.example");
        assert_eq!(with(r#"{"headers":{"host":["c.example"]}}"#, "www.example.org"), "www.example.org");
        assert_eq!(with("null", hash), "");
    }

    #[test]
    fn wrong_types_are_as_absent() {
        let text = br#"{"transaction":{"id":5,"unique_id":"u","client_ip":null,"remote_address":"r","request":[],"response":{"http_code":true,"status":"404"},"messages":{}},"request":{"method":7,"request_line":"PUT /y HTTP/2"},"messages":"x","classification":[]}"#;
        let mut parser = Parser::new();
        let mut alert = parser.alert(text);
        let event = Event::of(alert.root().unwrap(), None).unwrap();
        assert_eq!((event.id, event.client, event.method, event.uri, event.code), ("u", "r", "PUT", "/y", Some(404)));
        assert!(event.messages.is_none());
    }
}
