//! Byte strings in one piece of memory, each as what it does not share with the one before it: what every open window of
//! every entity has, where a list of strings would take an allocation and two words for each. Origins of one stream differ
//! in their last digits.

use super::saved::{Reader, Writer};

/// A list of byte strings, which keeps no spare room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// These strings.
    pub fn of<B: AsRef<[u8]>>(strings: impl IntoIterator<Item = B>) -> Self {
        let (mut packed, mut last) = (Writer::default(), Vec::new());
        for string in strings {
            add(&mut packed, &mut last, string.as_ref());
        }
        Self(packed.0.into_boxed_slice())
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Vec<u8>> {
        let (mut rest, mut last) = (Reader(&self.0), Vec::new());
        std::iter::from_fn(move || {
            let shared = rest.small::<usize>().ok()?;
            last.truncate(shared);
            last.extend_from_slice(rest.bytes().ok()?);
            Some(last.clone())
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let mut rest = Reader(&self.0);
        std::iter::from_fn(|| rest.number().and_then(|_| rest.bytes()).ok()).count()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one at the end.
    pub fn push(&mut self, string: &[u8]) {
        let mut last = self.iter().last().unwrap_or_default();
        let mut one = Writer::default();
        add(&mut one, &mut last, string);
        self.0 = [&*self.0, &one.0].concat().into_boxed_slice();
    }
}

/// Writes one behind `last`, which it then is.
fn add(out: &mut Writer, last: &mut Vec<u8>, string: &[u8]) {
    let shared = last.iter().zip(string).take_while(|(a, b)| a == b).count();
    let (_, rest) = string.split_at(shared);
    out.number(shared as u64);
    out.bytes(rest);
    last.truncate(shared);
    last.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_list_of_what_was_pushed(strings in proptest::collection::vec(proptest::collection::vec(0..3_u8, 0..300), 0..20)) {
            let mut packed = Packed::default();
            strings.iter().for_each(|string| packed.push(string));
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), strings.clone());
            prop_assert_eq!((packed.len(), packed.is_empty()), (strings.len(), strings.is_empty()));
            prop_assert_eq!(packed, Packed::of(&strings));
        }
    }

    #[test]
    fn origins_of_one_stream_take_few_bytes() {
        let origins = (0..16).map(|n| format!("kafka/apt_topic/0/{}", 1_000_000 + 97 * n));
        assert!(Packed::of(origins).0.len() < 16 * 8);
    }
}
