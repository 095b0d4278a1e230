//! JSON of events and attributes: a feed's `<uuid>.json`, an event from the web page, an answer of
//! a search.
//!
//! Read in two passes, since an event's info and tags may stand behind its attributes: the first
//! keeps the heads of events, the second hands out attributes one by one. Neither holds more than
//! one attribute; what is of no use, such as an attached file, is stepped over.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, Seek, SeekFrom},
};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Exported, Read, Reason, Take, Value, kept};
use crate::tables::attribute::{TAGS_MAX, Uuid, VALUE_BYTES_MAX};

/// Events of one file: their heads are in memory.
const EVENTS_MAX: usize = 200_000;

/// What is told of all attributes of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventHead {
    pub id: String,
    pub uuid: Option<Uuid>,
    pub info: String,
    pub tags: Vec<String>,
}

/// A text, number or truth value as text; anything else is stepped over.
#[derive(Debug, Default)]
struct Scalar(Option<String>);

impl Scalar {
    fn text(self) -> String {
        self.0.unwrap_or_default()
    }
    fn is_true(&self) -> bool {
        self.0.as_deref().is_some_and(|text| text == "1" || text == "true")
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                // One more than is ever kept, so that it is still seen to be too long.
                let end = (0..=(2 * VALUE_BYTES_MAX + 4).min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                Ok(Scalar(text.get(..end).map(str::to_owned)))
            }
            fn visit_bool<E>(self, is: bool) -> Result<Scalar, E> {
                Ok(Scalar(Some(if is { "1" } else { "0" }.to_owned())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(Some(number.to_string())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(Some(number.to_string())))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(Some(number.to_string())))
            }
            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar(None))
            }
        }
        from.deserialize_any(Any)
    }
}

/// Implements the visits of values that are neither object nor list: they are stepped over.
macro_rules! step_over_scalars {
    ($value:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

/// `[{"name": "tlp:green"}, …]`.
#[derive(Debug, Default)]
struct Tags(Vec<String>);

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Tags;
            step_over_scalars!(Tags::default());
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tags, A::Error> {
                let mut tags = Tags::default();
                while let Some(Tags(more)) = seq.next_element()? {
                    tags.0.extend(more);
                    tags.0.truncate(TAGS_MAX);
                }
                Ok(tags)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
                let mut tags = Tags::default();
                while let Some(Scalar(key)) = map.next_key()? {
                    if key.as_deref() == Some("name") {
                        tags.0.extend(map.next_value::<Scalar>()?.0.filter(|name| !name.is_empty()).map(|name| kept(&name)));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(tags)
            }
        }
        from.deserialize_any(List)
    }
}

/// One attribute, whatever its members are; not an object: none.
struct One(Option<(Result<Exported, Reason>, EventHead)>);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = One;
            step_over_scalars!(One(None));
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<One, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(One(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<One, A::Error> {
                let mut read = Exported::bare(Value::Text(String::new()));
                let mut value = String::new();
                let mut head = EventHead::default();
                while let Some(Scalar(key)) = map.next_key()? {
                    match key.as_deref().unwrap_or_default() {
                        "value" => value = map.next_value::<Scalar>()?.text(),
                        "type" => read.misp_type = map.next_value::<Scalar>()?.0.map(|name| kept(&name)),
                        "category" => read.category = kept(&map.next_value::<Scalar>()?.text()),
                        "uuid" => read.uuid = map.next_value::<Scalar>()?.0.and_then(|uuid| Uuid::parse(&uuid)),
                        "event_id" => read.event_id = kept(&map.next_value::<Scalar>()?.text()),
                        "to_ids" => read.to_ids = Some(map.next_value::<Scalar>()?).filter(|v| v.0.is_some()).map(|v| v.is_true()),
                        "deleted" => read.deleted = map.next_value::<Scalar>()?.is_true(),
                        "timestamp" => read.timestamp = map.next_value::<Scalar>()?.text().parse().unwrap_or(0),
                        "Tag" => read.tags = map.next_value::<Tags>()?.0,
                        "Event" => head = map.next_value::<Head>()?.0,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let value = value.trim();
                let read = match value.len() {
                    0 => Err(Reason::NoValue),
                    n if n > 2 * VALUE_BYTES_MAX => Err(Reason::TooLong),
                    _ => Ok(Exported { value: Value::Text(value.to_owned()), ..read }),
                };
                Ok(One(Some((read, head))))
            }
        }
        from.deserialize_any(Object)
    }
}

/// The head of an event, its attributes stepped over.
#[derive(Default)]
struct Head(EventHead);

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Head;
            step_over_scalars!(Head::default());
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Head, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Head::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
                let mut head = EventHead::default();
                while let Some(Scalar(key)) = map.next_key()? {
                    match key.as_deref().unwrap_or_default() {
                        "id" => head.id = kept(&map.next_value::<Scalar>()?.text()),
                        "uuid" => head.uuid = map.next_value::<Scalar>()?.0.and_then(|uuid| Uuid::parse(&uuid)),
                        "info" => head.info = kept(&map.next_value::<Scalar>()?.text()),
                        "Tag" => head.tags = map.next_value::<Tags>()?.0,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Head(head))
            }
        }
        from.deserialize_any(Object)
    }
}

/// What a pass does with events and attributes.
trait Pass {
    /// An event begins: true if only its head is wanted.
    fn event(&mut self, head: Option<EventHead>) -> bool;
    fn attribute(&mut self, one: One) -> io::Result<()>;
}

/// Walks through what may hold events and attributes.
struct Walk<'p> {
    pass: &'p mut dyn Pass,
    /// What stands here: the value of this member.
    member: Member,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    /// The document, `response`, `Object`, or the inside of an event.
    Other,
    Event,
    Attribute,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if self.member == Member::Event && self.pass.event(None) {
            let Head(head) = Head::deserialize(from)?;
            self.pass.event(Some(head));
            return Ok(());
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();
    step_over_scalars!(());

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let more = if self.member == Member::Attribute {
                match seq.next_element::<One>()? {
                    Some(one) => {
                        self.pass.attribute(one).map_err(serde::de::Error::custom)?;
                        true
                    }
                    None => false,
                }
            } else {
                seq.next_element_seed(Walk { pass: &mut *self.pass, member: Member::Other })?.is_some()
            };
            if !more {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Scalar(key)) = map.next_key()? {
            let member = match key.as_deref().unwrap_or_default() {
                "response" | "Object" => Member::Other,
                "Event" => Member::Event,
                "Attribute" => Member::Attribute,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            map.next_value_seed(Walk { pass: &mut *self.pass, member })?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Heads(Vec<EventHead>);

impl Pass for Heads {
    fn event(&mut self, head: Option<EventHead>) -> bool {
        if let Some(head) = head.filter(|_| self.0.len() < EVENTS_MAX) {
            self.0.push(head);
        }
        true
    }
    fn attribute(&mut self, _: One) -> io::Result<()> {
        Ok(())
    }
}

struct Attributes<'t, 'f> {
    heads: std::vec::IntoIter<EventHead>,
    head: EventHead,
    at: u64,
    take: &'t mut Take<'f>,
    failed: Option<io::Error>,
}

impl Pass for Attributes<'_, '_> {
    fn event(&mut self, _: Option<EventHead>) -> bool {
        self.head = self.heads.next().unwrap_or_default();
        false
    }
    fn attribute(&mut self, One(one): One) -> io::Result<()> {
        self.at += 1;
        let at = self.at;
        let Some((read, own)) = one else { return Ok(()) };
        let read = read.map_or_else(
            |reason| Read::Skipped { at, reason },
            |mut read| {
                read.at = at;
                let head = if own == EventHead::default() { &self.head } else { &own };
                if read.event_id.is_empty() {
                    read.event_id.clone_from(&head.id);
                }
                read.event_uuid = read.event_uuid.or(head.uuid);
                read.event_info.clone_from(&head.info);
                for tag in &head.tags {
                    if read.tags.len() < TAGS_MAX && !read.tags.contains(tag) {
                        read.tags.push(tag.clone());
                    }
                }
                Read::Attribute(read)
            },
        );
        (self.take)(read).map_err(|e| {
            let kind = e.kind();
            self.failed = Some(e);
            kind.into()
        })
    }
}

fn walk(from: &mut impl BufRead, pass: &mut dyn Pass) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_reader(from);
    Walk { pass, member: Member::Other }.deserialize(&mut json)
}

/// Reads a whole file.
pub(super) fn read(from: &mut (impl BufRead + Seek), take: &mut Take<'_>) -> io::Result<()> {
    let start = from.stream_position()?;
    let mut heads = Heads::default();
    match walk(from, &mut heads) {
        Err(e) if e.is_io() => return Err(e.into()),
        // The second pass meets the same place, and tells of it.
        _ => {}
    }
    from.seek(SeekFrom::Start(start))?;
    let mut pass = Attributes { heads: heads.0.into_iter(), head: EventHead::default(), at: 0, take, failed: None };
    let walked = walk(from, &mut pass);
    if let Some(failed) = pass.failed {
        return Err(failed);
    }
    match walked {
        Ok(()) => Ok(()),
        Err(e) if e.is_io() => Err(e.into()),
        Err(_) => {
            let at = pass.at + 1;
            take(Read::Skipped { at, reason: Reason::NotJson })
        }
    }
}

/// Reads a feed's `manifest.json`: what is told of each event.
///
/// # Errors
/// If it is not an object of JSON.
pub fn manifest(from: impl BufRead) -> Result<BTreeMap<Uuid, EventHead>, serde_json::Error> {
    let heads: BTreeMap<String, Head> = serde_json::from_reader(from)?;
    let named = heads.into_iter().filter_map(|(name, Head(head))| {
        let uuid = Uuid::parse(&name)?;
        Some((uuid, EventHead { uuid: Some(uuid), ..head }))
    });
    Ok(named.collect())
}
