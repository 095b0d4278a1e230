//! The header by which a receiver knows that a request is ours and whole.

use crate::hmac::Keyed;

/// `sha256=` and the HMAC in lower-case hex, as receivers of webhooks know it.
pub(super) fn signature(key: &[u8], body: &[u8]) -> String {
    let mut hex = String::from("sha256=");
    for byte in Keyed::new(key).hash(body) {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_signature_is_hex_behind_its_name() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(super::signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }
}
