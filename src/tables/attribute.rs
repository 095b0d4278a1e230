//! What is kept of a MISP attribute, and how it lies in a table.

use super::{
    key::{Key, Md5Sum, hex, md5},
    kinds::Kind,
};

/// Bytes. A longer value is no indicator that an alert could hold.
pub const VALUE_BYTES_MAX: usize = 8 << 10;
/// Bytes that are kept of an event's info and of each other text.
pub const TEXT_BYTES_MAX: usize = 512;
/// Tags that are kept of one attribute, its event's included.
pub const TAGS_MAX: usize = 32;

/// The value that an alert is searched for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Indicator {
    /// In normal form.
    Text(String),
    /// An export that holds only the MD5 of its values.
    Sum(Md5Sum),
}

impl Indicator {
    /// Its name in the tables.
    pub fn key(&self) -> Key {
        match self {
            Self::Text(text) => Key::of(text.as_bytes()),
            Self::Sum(sum) => Key::of_sum(sum),
        }
    }

    /// True if a value in normal form is this one.
    pub fn is(&self, value: &[u8]) -> bool {
        match self {
            Self::Text(text) => text.as_bytes() == value,
            Self::Sum(sum) => *sum == md5(value),
        }
    }
}

/// An attribute with what is told about a hit. Texts that an export does not have are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub indicator: Indicator,
    pub kind: Kind,
    /// MISP's name of the type: `ip-dst|port`.
    pub misp_type: String,
    /// The value as it stands in MISP, where that is not the indicator: `203.0.113.9|443`.
    pub value: String,
    pub category: String,
    pub uuid: Option<Uuid>,
    /// MISP's number of the attribute, in decimal.
    pub id: String,
    /// MISP's number of the event, in decimal.
    pub event_id: String,
    pub event_uuid: Option<Uuid>,
    pub event_info: String,
    /// Of the attribute and its event.
    pub tags: Vec<String>,
    pub to_ids: Option<bool>,
    /// Last change, seconds since 1970; 0 if not told.
    pub timestamp: u64,
}

/// A UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Reads the form with four hyphens, of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let is_hyphen = |at: usize| [8, 13, 18, 23].contains(&at);
        if bytes.len() != 36 || (0..36).any(|at| is_hyphen(at) != (bytes.get(at) == Some(&b'-'))) {
            return None;
        }
        let digits: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'-').collect();
        super::key::parse_hex(&digits).map(Self)
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = hex(&self.0);
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        write!(f, "{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }
}

impl Attribute {
    /// An attribute of which nothing but the indicator is known.
    pub fn bare(indicator: Indicator, kind: Kind) -> Self {
        Self {
            indicator,
            kind,
            misp_type: String::new(),
            value: String::new(),
            category: String::new(),
            uuid: None,
            id: String::new(),
            event_id: String::new(),
            event_uuid: None,
            event_info: String::new(),
            tags: Vec::new(),
            to_ids: None,
            timestamp: 0,
        }
    }
}

// Fields of an encoded attribute. A reader steps over those that it does not know.
const TEXT: u8 = 1;
const SUM: u8 = 2;
const TYPE: u8 = 3;
const VALUE: u8 = 4;
const CATEGORY: u8 = 5;
const UUID: u8 = 6;
const EVENT_ID: u8 = 7;
const EVENT_UUID: u8 = 8;
const EVENT_INFO: u8 = 9;
const TAG: u8 = 10;
const TO_IDS: u8 = 11;
const TIMESTAMP: u8 = 12;
const ID: u8 = 13;

fn put(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    let mut length = bytes.len();
    out.push(field);
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// The first `max` bytes of a text, cut between characters.
fn head(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// The code of a kind: its place in [`Kind::ALL`].
fn code(kind: Kind) -> u8 {
    (0..).zip(Kind::ALL).find(|(_, of)| *of == kind).map_or(0, |(code, _)| code)
}

/// Appends an attribute: a code of its kind, then fields of a number, a length and bytes.
pub(super) fn encode(attribute: &Attribute, out: &mut Vec<u8>) {
    out.push(code(attribute.kind));
    match &attribute.indicator {
        Indicator::Text(text) => put(out, TEXT, text.as_bytes()),
        Indicator::Sum(sum) => put(out, SUM, sum),
    }
    let Attribute { misp_type, value, category, id, event_id, event_info, .. } = attribute;
    for (field, text, max) in [
        (TYPE, misp_type, TEXT_BYTES_MAX),
        (VALUE, value, 2 * VALUE_BYTES_MAX),
        (CATEGORY, category, TEXT_BYTES_MAX),
        (ID, id, TEXT_BYTES_MAX),
        (EVENT_ID, event_id, TEXT_BYTES_MAX),
        (EVENT_INFO, event_info, TEXT_BYTES_MAX),
    ] {
        if !text.is_empty() {
            put(out, field, head(text, max).as_bytes());
        }
    }
    for (field, uuid) in [(UUID, attribute.uuid), (EVENT_UUID, attribute.event_uuid)] {
        if let Some(uuid) = uuid {
            put(out, field, &uuid.0);
        }
    }
    for tag in attribute.tags.iter().take(TAGS_MAX) {
        put(out, TAG, head(tag, TEXT_BYTES_MAX).as_bytes());
    }
    if let Some(to_ids) = attribute.to_ids {
        put(out, TO_IDS, &[u8::from(to_ids)]);
    }
    if attribute.timestamp > 0 {
        put(out, TIMESTAMP, &attribute.timestamp.to_le_bytes());
    }
}

/// The kind of an encoded attribute.
pub(super) fn kind_of(bytes: &[u8]) -> Option<Kind> {
    Kind::ALL.get(usize::from(*bytes.first()?)).copied()
}

/// Reads an attribute; `None` for what [`encode`] does not write.
pub(super) fn decode(bytes: &[u8]) -> Option<Attribute> {
    let kind = kind_of(bytes)?;
    let mut rest = bytes.get(1..)?;
    let mut indicator = None;
    let mut read = Attribute::bare(Indicator::Text(String::new()), kind);
    while let Some((field, after)) = rest.split_first() {
        let (mut length, mut shift, mut at) = (0usize, 0, 0);
        loop {
            let byte = *after.get(at)?;
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return None;
            }
        }
        let (content, next) = after.get(at..)?.split_at_checked(length)?;
        rest = next;
        let text = || std::str::from_utf8(content).ok().map(str::to_owned);
        let uuid = || content.try_into().ok().map(Uuid);
        match *field {
            TEXT => indicator = Some(Indicator::Text(text()?)),
            SUM => indicator = Some(Indicator::Sum(content.try_into().ok()?)),
            TYPE => read.misp_type = text()?,
            VALUE => read.value = text()?,
            CATEGORY => read.category = text()?,
            UUID => read.uuid = Some(uuid()?),
            ID => read.id = text()?,
            EVENT_ID => read.event_id = text()?,
            EVENT_UUID => read.event_uuid = Some(uuid()?),
            EVENT_INFO => read.event_info = text()?,
            TAG => read.tags.push(text()?),
            TO_IDS => read.to_ids = Some(content == [1]),
            TIMESTAMP => read.timestamp = u64::from_le_bytes(content.try_into().ok()?),
            _ => {}
        }
    }
    read.indicator = indicator?;
    Some(read)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An attribute with everything.
    pub(crate) fn whole() -> Attribute {
        Attribute {
            value: "203.0.113.9|443".into(),
            misp_type: "ip-dst|port".into(),
            category: "Network activity".into(),
            uuid: Uuid::parse("5a8b2c1d-0000-4000-8000-00000000abcd"),
            id: "9".into(),
            event_id: "42".into(),
            event_uuid: Uuid::parse("5a8b2c1d-0000-4000-8000-000000000042"),
            event_info: "Botnet, third wave".into(),
            tags: vec!["tlp:green".into(), "c2".into()],
            to_ids: Some(true),
            timestamp: 1_700_000_000,
            ..Attribute::bare(Indicator::Text("203.0.113.9".into()), Kind::Ip)
        }
    }

    fn encoded(attribute: &Attribute) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(attribute, &mut bytes);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for attribute in [whole(), Attribute::bare(Indicator::Sum([7; 16]), Kind::Unknown), Attribute { to_ids: Some(false), ..whole() }] {
            assert_eq!(decode(&encoded(&attribute)), Some(attribute));
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = Attribute { event_info: "é".repeat(400), tags: vec!["t".into(); 100], ..whole() };
        let read = decode(&encoded(&long)).unwrap();
        assert_eq!((read.event_info.chars().count(), read.tags.len()), (256, 32));
    }

    #[test]
    fn a_uuid_has_one_form() {
        let text = "5a8b2c1d-0000-4000-8000-00000000abcd";
        assert_eq!(Uuid::parse(text).unwrap().to_string(), text);
        assert_eq!(Uuid::parse(&text.to_uppercase()), Uuid::parse(text));
        for wrong in
            ["", "5a8b2c1d000040008000000000000abcd", "5a8b2c1d-0000-4000-8000-00000000abcg", "5a8b2c1d-0000-4000-8000-0000000-abcd"]
        {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), cut in 0..200usize, at in 0..200usize) {
            let _ = decode(&bytes);
            let mut good = encoded(&whole());
            good.truncate(cut);
            if let Some(byte) = good.get_mut(at) {
                *byte ^= 0x41;
            }
            let _ = decode(&good);
        }
    }
}
