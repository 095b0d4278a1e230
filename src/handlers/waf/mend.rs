//! A line that a client has spoiled.
//!
//! libmodsecurity writes the version of HTTP without quotes, as the server's connector hands it over. With
//! some, a client can put any word there, and the line is no JSON any more: the attack in it must be
//! seen all the same.

use memchr::memmem;

const KEY: &[u8] = b"\"http_version\":";
/// What the engine writes next, at the latest. In a string its quotes would have backslashes, so the last one
/// is the engine's own.
const NEXT: &[u8] = b",\"uri\":";

/// Where the bare word ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the first comma or brace.
    Word,
    /// Where the URI's member begins, whatever the word holds.
    Uri,
}

/// Both, in the order in which they are tried.
pub const ENDS: [End; 2] = [End::Word, End::Uri];

/// Writes the line to `out` with `null` for the version.
///
/// False if there is none.
pub fn mend(line: &[u8], end: End, out: &mut Vec<u8>) -> bool {
    let Some((from, to)) = version(line, end) else { return false };
    out.clear();
    out.extend_from_slice(line.get(..from).unwrap_or_default());
    out.extend_from_slice(b"null");
    out.extend_from_slice(line.get(to..).unwrap_or_default());
    true
}

fn version(line: &[u8], end: End) -> Option<(usize, usize)> {
    let from = memmem::find(line, KEY)? + KEY.len();
    let rest = line.get(from..)?;
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let rest = rest.get(blanks..)?;
    let len = match end {
        End::Word => memchr::memchr2(b',', b'}', rest)?,
        End::Uri => memmem::rfind(rest, NEXT)?,
    };
    Some((from + blanks, from + blanks + len))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    fn mended(line: &str, end: End) -> Option<String> {
        let mut out = Vec::new();
        mend(line.as_bytes(), end, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_bare_version_becomes_null() {
        let line = r#"{"http_version":TEST,"uri":"/"}"#;
        let whole = r#"{"http_version":null,"uri":"/"}"#;
        assert_eq!(mended(line, End::Word).unwrap(), whole);
        assert_eq!(mended(line, End::Uri).unwrap(), whole);
        assert_eq!(
            mended(r#"{"http_version": 1"},{,"uri":"x","hostname":,"uri":"/"}"#, End::Uri).unwrap(),
            r#"{"http_version": null,"uri":"/"}"#
        );
        assert_eq!(mended(r#"{"http_version":TEST}"#, End::Word).unwrap(), r#"{"http_version":null}"#);
        for line in ["", "{}", r#"{"http_version":1.1"#, r#"{"uri":"\"http_version\":TEST,"}"#] {
            assert_eq!(mended(line, End::Word), None, "{line}");
        }
    }
}
