//! One event on its way from a handler to a detector, as the payload of outputs `apt.event` and `sigma.event`.
//!
//! The payload is JSON, its members always in this order and without blanks, so that writing and reading it take
//! little of the three microseconds that an event may cost:
//!
//! ```json
//! {"ts":1740823200000,"entity":"host3","entity_type":"host","source":"sim","event_type":"process","kind":"process created",
//!  "counts":true,"features":[0.04,0.04,0.04,0.04,0.04,0.04,0.04,0.04,0.04,0.54],"level":0,"sigma":null,
//!  "techniques":[["T1059","event"]],"agent_id":""}
//! ```
//! (in one line). A feature that the event does not carry is `null`. [`Event::read`] takes nothing but this form.

use std::borrow::Cow;

use super::{Severity, attack::Evidence};
use crate::json;

/// What an event was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Sim,
    Wazuh,
    Ecs,
    Evtx,
    ZeekConn,
    Features,
    Other,
    Sigma,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 8] =
        [Class::Sim, Class::Wazuh, Class::Ecs, Class::Evtx, Class::ZeekConn, Class::Features, Class::Other, Class::Sigma];

    /// As events and metrics have it.
    pub fn word(self) -> &'static str {
        match self {
            Class::Sim => "sim",
            Class::Wazuh => "wazuh",
            Class::Ecs => "ecs",
            Class::Evtx => "evtx",
            Class::ZeekConn => "zeek_conn",
            Class::Features => "features",
            Class::Other => "other",
            Class::Sigma => "sigma",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Event time, milliseconds since 1970.
    pub ts_ms: i64,
    /// At most [`ENTITY_BYTES_MAX`](crate::limits::ENTITY_BYTES_MAX) bytes; see [`short`](super::short).
    pub entity: Cow<'a, str>,
    /// `host`, `user`, `network`, or what the event says.
    pub entity_type: Cow<'a, str>,
    pub source: Class,
    pub event_type: Cow<'a, str>,
    /// What is counted as the same: the rule's id, else event type and action.
    pub kind: Cow<'a, str>,
    /// False: it marks its window only, and counts as no event of it (a Sigma match beside the event itself).
    pub counts: bool,
    /// In the order of [`FEATURES`](super::FEATURES), all finite; 0 where it carries none.
    pub features: [f64; 10],
    /// Bit n: it carries feature n.
    pub present: u16,
    /// Level of the Wazuh rule; 0 is none.
    pub level: u8,
    /// Level of the Sigma rule that matched.
    pub sigma: Option<Severity>,
    /// Techniques that it names, and who says so.
    pub techniques: Vec<(Cow<'a, str>, Evidence)>,
    pub agent_id: Cow<'a, str>,
}

/// Every feature is carried.
pub const ALL_PRESENT: u16 = (1 << 10) - 1;

impl Event<'_> {
    /// Appends its payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ts\":");
        json::whole(out, self.ts_ms);
        for (key, text) in [
            (&b",\"entity\":"[..], &*self.entity),
            (b",\"entity_type\":", &*self.entity_type),
            (b",\"source\":", self.source.word()),
            (b",\"event_type\":", &*self.event_type),
            (b",\"kind\":", &*self.kind),
        ] {
            out.extend_from_slice(key);
            json::json_str_plain(out, text);
        }
        out.extend_from_slice(if self.counts { b",\"counts\":true" } else { b",\"counts\":false" });
        for (n, value) in self.features.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b",\"features\":[" } else { b"," });
            if self.present >> n & 1 == 1 {
                json::number(out, *value);
            } else {
                out.extend_from_slice(b"null");
            }
        }
        out.extend_from_slice(b"],\"level\":");
        json::whole(out, i64::from(self.level));
        out.extend_from_slice(b",\"sigma\":");
        match self.sigma {
            Some(severity) => json::json_str_plain(out, severity.word()),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"techniques\":[");
        for (n, (id, evidence)) in self.techniques.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b"[" } else { b",[" });
            json::json_str_plain(out, id);
            out.push(b',');
            json::json_str_plain(out, evidence.word());
            out.push(b']');
        }
        out.extend_from_slice(b"],\"agent_id\":");
        json::json_str_plain(out, &self.agent_id);
        out.push(b'}');
    }
}

impl<'a> Event<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with it, if it is not as [`Self::write`] makes it.
    pub fn read(payload: &'a [u8]) -> Result<Self, &'static str> {
        let mut rest = Rest(std::str::from_utf8(payload).map_err(|_| "not UTF-8")?);
        rest.take("{\"ts\":")?;
        let ts_ms = rest.whole()?;
        rest.take(",\"entity\":")?;
        let entity = rest.text()?;
        rest.take(",\"entity_type\":")?;
        let entity_type = rest.text()?;
        rest.take(",\"source\":\"")?;
        let source = rest.one_of(Class::ALL, Class::word)?;
        rest.take("\",\"event_type\":")?;
        let event_type = rest.text()?;
        rest.take(",\"kind\":")?;
        let kind = rest.text()?;
        rest.take(",\"counts\":")?;
        let counts = rest.one_of([true, false], |counts| if counts { "true" } else { "false" })?;
        rest.take(",\"features\":[")?;
        let (mut features, mut present) = ([0.0; 10], 0);
        for (n, feature) in features.iter_mut().enumerate() {
            if n > 0 {
                rest.take(",")?;
            }
            if !rest.skips("null") {
                *feature = rest.number()?;
                present |= 1 << n;
            }
        }
        rest.take("],\"level\":")?;
        let level = u8::try_from(rest.whole()?).map_err(|_| "a level beyond 255")?;
        rest.take(",\"sigma\":")?;
        let sigma = if rest.skips("null") {
            None
        } else {
            rest.take("\"")?;
            let severity = rest.one_of(Severity::ALL, Severity::word)?;
            rest.take("\"")?;
            Some(severity)
        };
        rest.take(",\"techniques\":[")?;
        let mut techniques = Vec::new();
        while !rest.skips("]") {
            if !techniques.is_empty() {
                rest.take(",")?;
            }
            rest.take("[")?;
            let id = rest.text()?;
            rest.take(",\"")?;
            techniques.push((id, rest.one_of(Evidence::ALL, Evidence::word)?));
            rest.take("\"]")?;
        }
        rest.take(",\"agent_id\":")?;
        let agent_id = rest.text()?;
        rest.take("}")?;
        if !rest.0.is_empty() {
            return Err("something behind the event");
        }
        Ok(Self { ts_ms, entity, entity_type, source, event_type, kind, counts, features, present, level, sigma, techniques, agent_id })
    }
}

/// What is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skips(&mut self, text: &str) -> bool {
        match self.0.strip_prefix(text) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, text: &str) -> Result<(), &'static str> {
        if self.skips(text) { Ok(()) } else { Err("members that are not those of an event, in their order") }
    }

    /// The value of which a word is next.
    fn one_of<T: Copy, const N: usize>(&mut self, all: [T; N], word: impl Fn(T) -> &'static str) -> Result<T, &'static str> {
        all.into_iter().find(|value| self.skips(word(*value))).ok_or("a word that is not known here")
    }

    /// The text up to the first byte that is not of a number.
    fn digits(&mut self) -> &'a str {
        let of_number = |b: u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let end = self.0.bytes().position(|b| !of_number(b)).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at_checked(end).unwrap_or((self.0, ""));
        self.0 = rest;
        digits
    }

    fn whole(&mut self) -> Result<i64, &'static str> {
        self.digits().parse().map_err(|_| "no whole number")
    }

    fn number(&mut self) -> Result<f64, &'static str> {
        let text = self.digits();
        let number = short_number(text).or_else(|| text.parse().ok()).filter(|x| x.is_finite());
        number.ok_or("no number")
    }

    fn text(&mut self) -> Result<Cow<'a, str>, &'static str> {
        self.take("\"")?;
        let end = memchr::memchr2(b'"', b'\\', self.0.as_bytes()).ok_or("a text without an end")?;
        let (plain, rest) = self.0.split_at_checked(end).ok_or("a text without an end")?;
        if let Some(rest) = rest.strip_prefix('"') {
            self.0 = rest;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        self.0 = rest;
        loop {
            let end = memchr::memchr2(b'"', b'\\', self.0.as_bytes()).ok_or("a text without an end")?;
            let (plain, rest) = self.0.split_at_checked(end).ok_or("a text without an end")?;
            text.push_str(plain);
            let mut chars = rest.chars();
            if chars.next() == Some('"') {
                self.0 = chars.as_str();
                return Ok(Cow::Owned(text));
            }
            let escape = chars.next().ok_or("a text without an end")?;
            self.0 = chars.as_str();
            text.push(match escape {
                '"' | '\\' => escape,
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => {
                    let (digits, rest) = self.0.split_at_checked(4).ok_or("an escape that is cut")?;
                    self.0 = rest;
                    let code = u32::from_str_radix(digits, 16).map_err(|_| "an escape without digits")?;
                    char::from_u32(code).ok_or("an escape of no character")?
                }
                _ => return Err("an escape that is not known here"),
            });
        }
    }
}

/// A number of at most fifteen digits without an exponent, which one division makes exactly: both of its operands are
/// doubles without a rounding. `None` for any other text.
pub fn short_number(text: &str) -> Option<f64> {
    const TENS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() > 16 || !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let (mut whole, mut places, mut pointed) = (0_u64, 0, false);
    for b in digits.bytes() {
        match b {
            b'0'..=b'9' => {
                whole = whole * 10 + u64::from(b - b'0');
                places += usize::from(pointed);
            }
            b'.' if !pointed => pointed = true,
            _ => return None,
        }
    }
    if whole >= 1_000_000_000_000_000 {
        return None;
    }
    let number = whole as f64 / TENS.get(places)?;
    Some(if digits.len() < text.len() { -number } else { number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event() -> Event<'static> {
        Event {
            ts_ms: 1_740_823_200_000,
            entity: "host3".into(),
            entity_type: "host".into(),
            source: Class::Sim,
            event_type: "process".into(),
            kind: "process created".into(),
            counts: true,
            features: [0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.54],
            present: ALL_PRESENT,
            level: 0,
            sigma: None,
            techniques: vec![("T1059".into(), Evidence::Event)],
            agent_id: "".into(),
        }
    }

    fn written(event: &Event<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        event.write(&mut out);
        out
    }

    #[test]
    fn an_event_is_written_as_the_page_above_says() {
        let page = include_str!("event.rs");
        let example: String =
            page.lines().skip_while(|line| *line != "//! ```json").skip(1).take(3).map(|line| &line[4..]).map(str::trim).collect();
        assert_eq!(String::from_utf8(written(&event())).unwrap(), example);
        assert_eq!(Event::read(example.as_bytes()), Ok(event()));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let good = String::from_utf8(written(&event())).unwrap();
        let wrong = [
            ("{\"ts\"", "{ \"ts\""),
            ("\"sim\"", "\"simulation\""),
            ("true", "yes"),
            ("[0.04", "[\"0.04\""),
            ("[0.04", "[1e999"),
            ("[0.04", "[inf"),
            ("[0.04,", "[0.04,0.04,"),
            ("\"level\":0", "\"level\":256"),
            ("null", "\"grave\""),
            ("\"event\"]]", "\"event\"]"),
            ("host3", "host\\u12"),
            ("host3", "host\\ud800"),
            ("host3", "host\\q"),
            ("}", "} "),
            ("}", ""),
        ];
        for (from, to) in wrong {
            let bad = good.replacen(from, to, 1);
            assert!(Event::read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Event::read(b"\xff").is_err());
        for end in 0..good.len() {
            assert!(Event::read(&good.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    fn texts() -> impl Strategy<Value = Cow<'static, str>> {
        prop_oneof!["[a-zA-Z0-9._-]{0,12}", "[\"\\\\\u{0}-\u{20}aé日\u{7f}]{0,9}"].prop_map(Cow::Owned)
    }

    fn numbers() -> impl Strategy<Value = f64> {
        prop_oneof![
            (0..=1_000_000_u32).prop_map(|n| f64::from(n) / 1e6),
            (-2_000..2_000_i32).prop_map(f64::from),
            any::<f64>().prop_map(|x| if x.is_finite() { x } else { 0.0 }),
        ]
    }

    prop_compose! {
        fn events()(
            ts_ms in any::<i64>(),
            (entity, entity_type, event_type, kind, agent_id) in (texts(), texts(), texts(), texts(), texts()),
            source in 0..8_usize,
            counts in any::<bool>(),
            mut features in prop::array::uniform10(numbers()),
            present in 0..1024_u16,
            level in any::<u8>(),
            sigma in prop::option::of(0..5_usize),
            techniques in prop::collection::vec((texts(), 0..4_usize), 0..4),
        ) -> Event<'static> {
            for (n, feature) in features.iter_mut().enumerate() {
                *feature = if present >> n & 1 == 1 { *feature } else { 0.0 };
            }
            let (source, sigma) = (Class::ALL[source], sigma.map(|n| Severity::ALL[n]));
            let techniques = techniques.into_iter().map(|(id, n)| (id, Evidence::ALL[n])).collect();
            Event { ts_ms, entity, entity_type, source, event_type, kind, counts, features, present, level, sigma, techniques, agent_id }
        }
    }

    /// The same members by a parser of any JSON.
    fn naive(event: &Event<'_>) -> serde_json::Value {
        let features: Vec<_> = (0..10).map(|n| (event.present >> n & 1 == 1).then_some(event.features[n])).collect();
        serde_json::json!({
            "ts": event.ts_ms, "entity": event.entity, "entity_type": event.entity_type, "source": event.source.word(),
            "event_type": event.event_type, "kind": event.kind, "counts": event.counts, "features": features, "level": event.level,
            "sigma": event.sigma.map(Severity::word), "agent_id": event.agent_id,
            "techniques": event.techniques.iter().map(|(id, e)| serde_json::json!([id, e.word()])).collect::<Vec<_>>(),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same_event(event in events()) {
            let payload = written(&event);
            prop_assert_eq!(Event::read(&payload).unwrap(), event.clone());
            let any: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            let mut naive = naive(&event);
            // A whole number has no point here, and that parser is off by a bit now and then.
            for (came, said) in any["features"].as_array().unwrap().iter().zip(naive["features"].as_array_mut().unwrap()) {
                let (x, y) = (came.as_f64().unwrap_or(0.0), said.as_f64().unwrap_or(0.0));
                prop_assert!((x - y).abs() <= x.abs() * 1e-15 + f64::MIN_POSITIVE, "{} and {}", x, y);
                *said = came.clone();
            }
            prop_assert_eq!(any, naive);
        }

        #[test]
        fn a_short_number_is_the_one_that_the_library_reads(whole in 0..1_000_000_000_000_000_u64, places in 0..16_usize, minus in any::<bool>()) {
            let mut text = format!("{whole:016}");
            text.insert(16 - places, '.');
            let text = format!("{}{}", if minus { "-" } else { "" }, text.trim_start_matches("00").trim_end_matches('.'));
            if let Some(number) = short_number(&text) {
                prop_assert_eq!(number.to_bits(), text.parse::<f64>().unwrap().to_bits());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::read(&bytes);
        }
    }
}
