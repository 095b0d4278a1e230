//! Addresses out of a JSON document, while it is read: as a tree of values it would take many times its size.
//!
//! | member | means |
//! |---|---|
//! | `cidr` | an entry, of Spamhaus |
//! | `value`, `scope`, `type`, `simulated` | a decision of CrowdSec: bans of addresses and ranges |
//! | `value`, `type`, `deleted`, `to_ids` | an attribute of MISP: addresses that are for detection |
//! | `decisions`, `new`, `response`, `Event`, `Object`, `Attribute` | more of them inside |

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Members that hold others.
const INSIDE: [&str; 6] = ["decisions", "new", "response", "Event", "Object", "Attribute"];

/// Hands every entry of a value to `entry`; serde_json bounds the depth.
pub(super) struct Walk<'f>(pub(super) &'f mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }
    // A scalar says nothing by itself.
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while all.next_element_seed(Walk(&mut *self.0))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let [mut cidr, mut value, mut scope, mut kind] = [const { None::<String> }; 4];
        let [mut simulated, mut deleted, mut to_ids] = [None::<bool>; 3];
        while let Some(Scalar { text: name, .. }) = members.next_key_seed(Any)? {
            let name = name.unwrap_or_default();
            match name.as_str() {
                "cidr" => cidr = members.next_value_seed(Any)?.text,
                "value" => value = members.next_value_seed(Any)?.text,
                "scope" => scope = members.next_value_seed(Any)?.text,
                "type" => kind = members.next_value_seed(Any)?.text,
                "simulated" => simulated = members.next_value_seed(Any)?.flag,
                "deleted" => deleted = members.next_value_seed(Any)?.flag,
                "to_ids" => to_ids = members.next_value_seed(Any)?.flag,
                name if INSIDE.contains(&name) => members.next_value_seed(Walk(&mut *self.0))?,
                _ => _ = members.next_value::<IgnoredAny>()?,
            }
        }
        match (cidr, value, scope, kind) {
            (Some(cidr), ..) => (self.0)(&cidr),
            (_, Some(value), Some(scope), Some(kind)) => {
                let is_address = ["ip", "range"].iter().any(|known| scope.eq_ignore_ascii_case(known));
                if is_address && kind.eq_ignore_ascii_case("ban") && simulated != Some(true) {
                    (self.0)(&value);
                }
            }
            (_, Some(value), None, Some(kind))
                if matches!(kind.as_str(), "ip-src" | "ip-dst" | "ip-src|port" | "ip-dst|port")
                    && deleted != Some(true)
                    && to_ids != Some(false) =>
            {
                (self.0)(value.split('|').next().unwrap_or_default());
            }
            _ => {}
        }
        Ok(())
    }
}

/// A text or a flag; of anything else neither.
#[derive(Default)]
struct Scalar {
    text: Option<String>,
    flag: Option<bool>,
}

/// Reads whatever it is as a [`Scalar`].
struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Scalar;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Scalar, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Scalar;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar { flag: Some(flag), text: None })
    }
    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar { text: Some(text.to_owned()), flag: None })
    }
    fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }
    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Scalar, A::Error> {
        while all.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::default())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Scalar, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::default())
    }
}
