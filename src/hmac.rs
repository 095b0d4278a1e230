//! HMAC-SHA256 (RFC 2104): a hash that only the owner of a key can make.

use std::fmt;

use sha2::{Digest, Sha256};

/// RFC 2104 §2: bytes of a block of the hash.
const BLOCK: usize = 64;

/// A key, worked into both hashes once.
#[derive(Clone)]
pub struct Keyed {
    inner: Sha256,
    outer: Sha256,
}

impl Keyed {
    /// - `key`: of any length.
    pub fn new(key: &[u8]) -> Self {
        // For a key longer than a block its hash stands.
        let mut block = [0; BLOCK];
        let short: &[u8] = if key.len() > BLOCK { &Sha256::digest(key) } else { key };
        for (to, from) in block.iter_mut().zip(short) {
            *to = *from;
        }
        let with = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
        Self { inner: with(0x36), outer: with(0x5c) }
    }

    /// The HMAC of `text`.
    pub fn hash(&self, text: &[u8]) -> [u8; 32] {
        let inner = self.inner.clone().chain_update(text).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4231_agrees() {
        let rows: [(&[u8], &[u8], &str); 4] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, text, expected) in rows {
            let hex: String = Keyed::new(key).hash(text).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected);
        }
        assert_eq!(format!("{:?}", Keyed::new(b"secret")), "***");
    }
}
