//! Names of files' owners, for rules that ask for them: children cannot look.

use std::collections::BTreeMap;

use rustix::fs::Stat;

/// What `/etc/passwd` says; others are their number.
pub(super) struct Owners(BTreeMap<u32, String>);

impl Owners {
    #[allow(clippy::disallowed_methods, reason = "read once, at the start of the scan, which no simulator runs")]
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read("/etc/passwd").unwrap_or_default())
    }

    fn parse(passwd: &[u8]) -> Self {
        let row = |line: &[u8]| {
            let line = String::from_utf8_lossy(line).into_owned();
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        // The first of two names of one number is the usual one.
        Self(passwd.split(|byte| *byte == b'\n').rev().filter_map(row).collect())
    }

    /// The owner of a file.
    pub(super) fn of(&self, stat: &Stat) -> String {
        self.0.get(&stat.st_uid).cloned().unwrap_or_else(|| stat.st_uid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_first_name() {
        let owners = Owners::parse(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/\nbroken\nzeek:x:999:999::/:/");
        assert_eq!(owners.0, BTreeMap::from([(0, "root".to_owned()), (999, "zeek".to_owned())]));
    }
}
