//! Mends what simd-json refuses although it should be passed on.
//!
//! | found | becomes |
//! |---|---|
//! | bytes that are not UTF-8 | U+FFFD for each maximal bad sequence, as the standard library and Python replace them |
//! | an escape of a lone surrogate | `\ufffd`, which is as long |
//! | a number of any length or size | stays; the parser is shown a `0` and blanks in its place |
//! | NULs before the first byte | left out |
//! | blanks of any kind at the end | left out |

use super::{
    NotJson,
    scan::{Met, scan},
};

/// Writes the mended frame to `mended` and what the parser should see to `shown`; both have the
/// same length, and everything but numbers is equal. Returns how many characters were replaced.
///
/// # Errors
/// [`NotJson`] if the frame is no JSON even so.
pub(super) fn repair(frame: &[u8], mended: &mut Vec<u8>, shown: &mut Vec<u8>) -> Result<u32, NotJson> {
    let start = frame.iter().position(|&b| b != 0).unwrap_or(frame.len());
    let end = frame.iter().rposition(|&b| !is_blank(b)).map_or(0, |n| n + 1);
    let frame = frame.get(start..end).unwrap_or_default();
    let mut replaced = 0;
    mended.clear();
    for chunk in frame.utf8_chunks() {
        mended.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            mended.extend_from_slice("\u{fffd}".as_bytes());
            replaced += 1;
        }
    }
    shown.clear();
    shown.extend_from_slice(mended);
    let mut open = Vec::new();
    let end = scan(mended, 0, &mut open, |met| match met {
        Met::Key { at, end } | Met::Text { at, end } => {
            if let Some(string) = shown.get_mut(at..end) {
                replaced += surrogates(string);
            }
        }
        Met::Number { at, end } => {
            if let Some((first, rest)) = shown.get_mut(at..end).and_then(<[u8]>::split_first_mut) {
                *first = b'0';
                rest.fill(b' ');
            }
        }
        _ => {}
    })?;
    if super::scan::blanks(mended, end) != mended.len() {
        return Err(NotJson { what: "something behind the value", at: super::scan::blanks(mended, end) });
    }
    if replaced > 0 {
        // The same strings again, now in the text that is passed on.
        let seen = std::mem::take(shown);
        let _ = scan(&seen, 0, &mut open, |met| {
            if let Met::Key { at, end } | Met::Text { at, end } = met
                && let (Some(to), Some(from)) = (mended.get_mut(at..end), seen.get(at..end))
            {
                to.copy_from_slice(from);
            }
        });
        *shown = seen;
    }
    Ok(replaced)
}

/// What may stand behind a frame's last byte without meaning anything.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Replaces the escapes of lone surrogates in one string, quotes included; its escapes are well
/// formed. Returns how many.
fn surrogates(string: &mut [u8]) -> u32 {
    let mut replaced = 0;
    let mut at = 0;
    while let Some(n) = memchr::memchr(b'\\', string.get(at..).unwrap_or_default()) {
        at += n;
        match unit(string, at) {
            None => at += 2,
            Some(0xd800..0xdc00) if matches!(unit(string, at + 6), Some(0xdc00..0xe000)) => at += 12,
            Some(0xd800..0xe000) => {
                if let Some(digits) = string.get_mut(at + 2..at + 6) {
                    digits.copy_from_slice(b"fffd");
                }
                replaced += 1;
                at += 6;
            }
            Some(_) => at += 6,
        }
    }
    replaced
}

/// The code unit of the escape `\uXXXX` at `at`, if one stands there.
fn unit(string: &[u8], at: usize) -> Option<u16> {
    let digits = string.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
