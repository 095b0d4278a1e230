//! A compiled set as bytes: a head that anybody may read, and two bodies for the engine, under a checksum.
//!
//! ```text
//! "shipper rules 1\n"  SHA-256 of the rest  head length u64 LE  head (JSON)  all rules  naming rules
//! ```
//!
//! The checksum tells damage, not forgery: who may write a set may run code. Sets come from a child of ours or from
//! [`super::cache`], which looks at owners and modes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::RulesView;

const MAGIC: &[u8; 16] = b"shipper rules 1\n";
const SUM: usize = 32;

/// A compiled set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    pub view: RulesView,
    /// All rules.
    pub whole: Vec<u8>,
    /// The few files with rules that ask for names, for bytes whose other answers are known. Of these, only
    /// [`Self::naming_rules`] count. Empty if there are none.
    pub naming: Vec<u8>,
    /// Namespace and name, sorted.
    pub naming_rules: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    view: RulesView,
    whole_bytes: usize,
    naming_bytes: usize,
    naming_rules: Vec<(String, String)>,
}

/// Why bytes are no set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    #[error("not a compiled set of rules of this version")]
    Form,
    #[error("the checksum is wrong")]
    Checksum,
}

impl Compiled {
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let head = serde_json::to_vec(&Head {
            view: self.view.clone(),
            whole_bytes: self.whole.len(),
            naming_bytes: self.naming.len(),
            naming_rules: self.naming_rules.clone(),
        })?;
        let length = u64::try_from(head.len()).unwrap_or(u64::MAX).to_le_bytes();
        let mut hash = Sha256::new();
        for part in [&length[..], &head, &self.whole, &self.naming] {
            hash.update(part);
        }
        let sum: [u8; SUM] = hash.finalize().into();
        Ok([&MAGIC[..], &sum, &length, &head, &self.whole, &self.naming].concat())
    }

    /// # Errors
    /// The bytes are something else, cut, or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let rest = bytes.strip_prefix(&MAGIC[..]).ok_or(Damaged::Form)?;
        let (sum, rest) = rest.split_at_checked(SUM).ok_or(Damaged::Form)?;
        if Sha256::digest(rest)[..] != *sum {
            return Err(Damaged::Checksum);
        }
        let (length, rest) = rest.split_at_checked(8).ok_or(Damaged::Form)?;
        let length = length.try_into().map(u64::from_le_bytes).ok().and_then(|length| usize::try_from(length).ok()).ok_or(Damaged::Form)?;
        let (head, rest) = rest.split_at_checked(length).ok_or(Damaged::Form)?;
        let head: Head = serde_json::from_slice(head).map_err(|_| Damaged::Form)?;
        let (whole, naming) = rest.split_at_checked(head.whole_bytes).ok_or(Damaged::Form)?;
        if naming.len() != head.naming_bytes {
            return Err(Damaged::Form);
        }
        Ok(Self { view: head.view, whole: whole.to_vec(), naming: naming.to_vec(), naming_rules: head.naming_rules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_comes_back_and_damage_is_told() {
        let set = Compiled {
            view: RulesView { version: "sha256:00".into(), engine: "e 1".into(), ..RulesView::default() },
            whole: b"whole".to_vec(),
            naming: b"names".to_vec(),
            naming_rules: vec![("a".into(), "b".into())],
        };
        let bytes = set.to_bytes().unwrap();
        assert_eq!(Compiled::from_bytes(&bytes).unwrap(), set);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Compiled::from_bytes(&other).is_err(), "byte {at}");
            assert!(Compiled::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
