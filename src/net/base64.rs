//! Base64 (RFC 4648 §4), padded: logins in headers, names of clouds.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of some bytes.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            let letter = usize::try_from(bits >> (18 - 6 * n) & 63).unwrap_or(0);
            out.push(if n <= three.len() { char::from(LETTERS[letter]) } else { '=' });
        }
    }
    out
}

/// The bytes of a text; missing padding is forgiven, since people copy without it. `None` if it is no Base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for four in text.as_bytes().chunks(4) {
        let bits = four.iter().try_fold(0u32, |bits, byte| {
            let letter = LETTERS.iter().position(|letter| letter == byte)?;
            Some(bits << 6 | u32::try_from(letter).unwrap_or(0))
        })?;
        // One letter alone holds six bits, which are no byte.
        let bytes = match four.len() {
            1 => return None,
            len => len - 1,
        };
        let bits = bits << (6 * (4 - four.len()));
        out.extend((0..bytes).map(|n| u8::try_from(bits >> (16 - 8 * n) & 255).unwrap_or(0)));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_hold() {
        let rows =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in rows {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded).as_deref(), Some(plain.as_bytes()));
            assert_eq!(decode(coded.trim_end_matches('=')).as_deref(), Some(plain.as_bytes()));
        }
        for none in ["Z", "Zm9vY", "Zm 9v", "Zm9-"] {
            assert_eq!(decode(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
