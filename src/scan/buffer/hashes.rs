//! Digests by which files are known elsewhere.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::scan::rules::load::hex;

/// Of one buffer; hex, lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    pub md5: String,
    pub sha1: String,
    pub sha256: String,
    /// Similar files have similar ones. `None` below 50 bytes, and where the bytes are too much alike.
    pub tlsh: Option<String>,
}

impl Hashes {
    pub fn of(bytes: &[u8]) -> Self {
        let tlsh = tlsh2::TlshDefaultBuilder::build_from(bytes).map(|tlsh| String::from_utf8_lossy(&tlsh.hash()).into_owned());
        Self { md5: md5(bytes), sha1: hex(&Sha1::digest(bytes)), sha256: sha256(bytes), tlsh }
    }
}

pub fn md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_other_tools() {
        let hashes = Hashes::of(b"");
        assert_eq!(hashes.md5, "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hashes.sha1, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hashes.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hashes.tlsh, None);
        // Trend Micro's own tool.
        let text: Vec<u8> = (0..512u32).map(|n| (n * n % 251) as u8).collect();
        assert_eq!(Hashes::of(&text).tlsh.as_deref(), Some("T14EF02421C210AE5022A0EA0CC8AE0C0B1E1F9A8212409946A671BB29A3C221EB742C63"));
    }
}
