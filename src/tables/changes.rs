//! What changed since the last full build: small, exact, and laid over filter and mirror.
//!
//! A changed key has here *all* attributes that it has now; none means that it is no indicator any
//! more. So a look-up asks here first, and goes on to filter or mirror only for keys that have not
//! changed. When there are many ([`CHANGES_MAX`]), a full build is due.

use std::collections::BTreeMap;

use super::{
    attribute::{self, Attribute, Uuid},
    filter::{TableError, number},
    key::Key,
    mirror::row,
};

/// Keys that may have changed before a full build is due: 10 MB of memory.
pub const CHANGES_MAX: usize = 50_000;

/// The format that this build writes and reads.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"shpIoCc\n";
const HEADER_BYTES: usize = 32;

/// Changed keys and what they have now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    by_key: BTreeMap<Key, Vec<Attribute>>,
    /// Time up to which changes were fetched, seconds since 1970; 0 if never.
    pub until: u64,
}

/// What becomes of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new, or was edited.
    Put,
    /// It was deleted, or is no indicator any more.
    Gone,
}

impl Changes {
    /// Lays one change over the tables.
    ///
    /// - `before`: gives the attributes of the key in the mirror; asked only for a key that has not
    ///   changed before.
    ///
    /// # Errors
    /// What `before` gives.
    pub fn apply<E>(
        &mut self,
        attribute: Attribute,
        change: Change,
        before: impl FnOnce(Key) -> Result<Vec<Attribute>, E>,
    ) -> Result<(), E> {
        let key = attribute.indicator.key();
        let held = match self.by_key.entry(key) {
            std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(before(key)?),
        };
        let is_same = |other: &Attribute| match attribute.uuid {
            Some(uuid) => other.uuid == Some(uuid) && other.indicator == attribute.indicator,
            None => *other == attribute,
        };
        held.retain(|other| !is_same(other));
        if change == Change::Put {
            held.insert(0, attribute);
        }
        Ok(())
    }

    /// Takes attributes away from the changed keys that they no longer have: their value was edited.
    /// Where the old value stands in the mirror alone, it stays known until the next full build.
    ///
    /// - `keys_of`: all keys that each of them has now.
    pub fn forget(&mut self, keys_of: &BTreeMap<Uuid, Vec<Key>>) {
        for (key, held) in &mut self.by_key {
            held.retain(|other| other.uuid.and_then(|uuid| keys_of.get(&uuid)).is_none_or(|keys| keys.contains(key)));
        }
    }

    /// What a changed key has now; `None` if it has not changed.
    pub fn get(&self, key: Key) -> Option<&[Attribute]> {
        self.by_key.get(&key).map(Vec::as_slice)
    }

    /// How many keys have changed.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// True if nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Changed keys with what they have now, by key.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &[Attribute])> {
        self.by_key.iter().map(|(key, held)| (*key, held.as_slice()))
    }

    /// Writes the changes down.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (key, held) in &self.by_key {
            let mut encoded = Vec::new();
            for attribute in held {
                let at = encoded.len();
                encoded.extend_from_slice(&[0; 4]);
                attribute::encode(attribute, &mut encoded);
                let length = u32::try_from(encoded.len() - at - 4).unwrap_or(0);
                if let Some(place) = encoded.get_mut(at..at + 4) {
                    place.copy_from_slice(&length.to_le_bytes());
                }
            }
            body.extend_from_slice(&key.0.to_le_bytes());
            body.extend_from_slice(&u32::try_from(encoded.len()).unwrap_or(0).to_le_bytes());
            body.extend_from_slice(&encoded);
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&self.until.to_le_bytes()), &body).to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.until.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads what [`Changes::encode`] wrote.
    ///
    /// # Errors
    /// [`TableError::TooNew`] if a later shipper wrote it, else [`TableError::Damaged`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let damaged = |why| TableError::Damaged { what: "list of changed indicators", why };
        let (header, mut body) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("it is cut"))?;
        if !header.starts_with(&MAGIC) {
            return Err(damaged("it does not begin as one"));
        }
        let found = number(header, 8, 4).unwrap_or(0) as u32;
        if found > FORMAT {
            return Err(TableError::TooNew { what: "list of changed indicators", found, known: FORMAT });
        }
        let until = number(header, 24, 8).unwrap_or(0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&until.to_le_bytes()), body);
        if found != FORMAT || number(header, 16, 8) != Some(body.len() as u64) || number(header, 12, 4) != Some(u64::from(crc)) {
            return Err(damaged("its checksum does not match"));
        }
        let mut by_key = BTreeMap::new();
        while !body.is_empty() {
            let ((key, mut encoded), rest) = row(body)?;
            let mut held = Vec::new();
            while !encoded.is_empty() {
                let length = number(encoded, 0, 4).ok_or_else(|| damaged("a row is cut"))? as usize;
                let (one, after) =
                    encoded.get(4..).and_then(|rest| rest.split_at_checked(length)).ok_or_else(|| damaged("a row is cut"))?;
                held.push(attribute::decode(one).ok_or_else(|| damaged("an attribute cannot be read"))?);
                encoded = after;
            }
            by_key.insert(key, held);
            body = rest;
        }
        Ok(Self { by_key, until })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::tables::{attribute::Indicator, kinds::Kind};

    fn attribute(value: &str, uuid: u8) -> Attribute {
        Attribute { uuid: Some(Uuid([uuid; 16])), ..Attribute::bare(Indicator::Text(value.into()), Kind::Domain) }
    }

    fn apply(changes: &mut Changes, attribute: Attribute, change: Change, before: &[Attribute]) {
        changes.apply(attribute, change, |_| Ok::<_, Infallible>(before.to_vec())).unwrap();
    }

    #[test]
    fn a_key_has_what_is_left_of_it() {
        let key = Key::of(b"a.example");
        let (one, two) = (attribute("a.example", 1), attribute("a.example", 2));
        let mut changes = Changes::default();
        assert_eq!(changes.get(key), None);
        apply(&mut changes, one.clone(), Change::Gone, &[one.clone(), two.clone()]);
        assert_eq!(changes.get(key), Some(&[two.clone()][..]));
        apply(&mut changes, two.clone(), Change::Gone, &[]);
        assert_eq!(changes.get(key), Some(&[][..]), "no indicator any more");
        let edited = Attribute { event_info: "new".into(), ..one.clone() };
        apply(&mut changes, one, Change::Put, &[]);
        apply(&mut changes, edited.clone(), Change::Put, &[]);
        assert_eq!(changes.get(key), Some(&[edited][..]), "one attribute, once");
        changes.forget(&BTreeMap::from([(Uuid([1; 16]), vec![key])]));
        assert_eq!(changes.get(key).map(<[_]>::len), Some(1), "it still has this value");
        changes.forget(&BTreeMap::from([(Uuid([9; 16]), vec![])]));
        assert_eq!(changes.get(key).map(<[_]>::len), Some(1), "another one is edited");
        changes.forget(&BTreeMap::from([(Uuid([1; 16]), vec![Key::of(b"b.example")])]));
        assert_eq!(changes.get(key), Some(&[][..]));
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_taken_for_changes() {
        let mut changes = Changes { until: 9, ..Changes::default() };
        apply(&mut changes, crate::tables::attribute::tests::whole(), Change::Put, &[attribute("203.0.113.9", 3)]);
        apply(&mut changes, attribute("b.example", 2), Change::Gone, &[]);
        let good = changes.encode();
        assert_eq!(Changes::parse(&good), Ok(changes));
        for cut in 0..good.len() {
            assert!(Changes::parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(Changes::parse(&bytes).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Changes::parse(&bytes).is_err());
        }
    }
}
