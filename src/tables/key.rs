//! The name of an indicator in the tables: 64 bits of the MD5 of its normal form.
//!
//! MD5, because some exports hold nothing else: the `cache` export of a server and `hashes.csv` of
//! a feed name each value by its MD5. So all exports end in one table, whatever they were. It
//! guards nothing: who makes two values with one key gets one lookup too many, and details are
//! compared whole before they are shown.

use md5::{Digest, Md5};

/// The whole MD5 of a value.
pub type Md5Sum = [u8; 16];

/// First 64 bits of the MD5 of an indicator's normal form, most significant byte first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

impl Key {
    /// The key of a value in normal form.
    pub fn of(value: &[u8]) -> Self {
        Self::of_sum(&md5(value))
    }

    /// The key of a value of which only the MD5 is known.
    pub fn of_sum(sum: &Md5Sum) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *sum;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// MD5 of a value.
pub fn md5(value: &[u8]) -> Md5Sum {
    Md5::digest(value).into()
}

/// Reads 32 hexadecimal digits of either case.
pub fn parse_sum(hex: &[u8]) -> Option<Md5Sum> {
    parse_hex(hex)
}

/// Reads exactly `N` bytes from `2 × N` hexadecimal digits of either case.
pub(super) fn parse_hex<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    if hex.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = u8::try_from(char::from(*high).to_digit(16)? << 4 | char::from(*low).to_digit(16)?).ok()?;
    }
    Some(bytes)
}

/// Hexadecimal digits, lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_head_of_the_sum_that_exports_hold() {
        // RFC 1321, appendix A.5.
        let sum = parse_sum(b"900150983cd24fb0d6963f7d28e17f72").unwrap();
        assert_eq!(md5(b"abc"), sum);
        assert_eq!(Key::of(b"abc"), Key(0x9001_5098_3cd2_4fb0));
        assert_eq!(Key::of_sum(&sum), Key::of(b"abc"));
        assert_eq!(hex(&sum), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(parse_sum(b"900150983CD24FB0D6963F7D28E17F72"), Some(sum));
        for wrong in
            [&b""[..], b"900150983cd24fb0d6963f7d28e17f7", b"900150983cd24fb0d6963f7d28e17f7g", b"+00150983cd24fb0d6963f7d28e17f72"]
        {
            assert_eq!(parse_sum(wrong), None);
        }
    }
}
