//! HMAC-SHA256 (RFC 2104), by which a receiver knows that a request is ours and whole.

use sha2::{Digest, Sha256};

/// RFC 2104 §2: B, the byte-length of the hash's blocks.
const BLOCK: usize = 64;

/// `sha256=` and the HMAC in lower-case hex, as receivers of webhooks know it.
pub(super) fn signature(key: &[u8], body: &[u8]) -> String {
    let mut hex = String::from("sha256=");
    for byte in hmac(key, body) {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // "Applications that use keys longer than B bytes will first hash the key using H".
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    // H(K XOR opad, H(K XOR ipad, text)).
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
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
            assert_eq!(signature(key, text), format!("sha256={expected}"));
        }
    }
}
