//! One strict, linear pass over JSON that tells what it meets.
//!
//! Slower than the tape and only used where the tape refused: it finds the exact byte at which
//! JSON ends, takes numbers of any length and escapes of lone surrogates, and does not look at
//! bytes from 0x80 on.

use super::NotJson;
use crate::limits;

/// Why a scan ended at a bracket that is one too many.
pub(super) const TOO_DEEP: &str = "brackets nested too deep";

/// What the pass met; places are bytes of the scanned text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// An opening bracket; `object` for a brace.
    Open { at: usize, object: bool },
    /// A closing bracket; the place behind it.
    Close { end: usize },
    /// A key, quotes included.
    Key { at: usize, end: usize },
    /// A string value, quotes included.
    Text { at: usize, end: usize },
    /// A number.
    Number { at: usize, end: usize },
    /// `true`, `false`, `null`.
    Word,
}

enum Expect {
    Value,
    ValueOrClose,
    KeyOrClose,
    Key,
    CommaOrClose,
}

/// Scans one value that begins at `from` (blanks before it are skipped) and returns the place
/// behind it.
///
/// - `open`: scratch for the brackets that are open.
///
/// # Errors
/// What is wrong, and the first byte that no JSON can have there.
pub(super) fn scan(text: &[u8], from: usize, open: &mut Vec<bool>, mut tell: impl FnMut(Met)) -> Result<usize, NotJson> {
    open.clear();
    let mut at = from;
    let mut expect = Expect::Value;
    loop {
        at = blanks(text, at);
        let byte = text.get(at).copied();
        match expect {
            Expect::KeyOrClose if byte == Some(b'}') => {
                open.pop();
                at += 1;
                tell(Met::Close { end: at });
            }
            Expect::ValueOrClose if byte == Some(b']') => {
                open.pop();
                at += 1;
                tell(Met::Close { end: at });
            }
            Expect::KeyOrClose | Expect::Key => {
                if byte != Some(b'"') {
                    return Err(wrong(text, at, "no key"));
                }
                let end = string(text, at)?;
                tell(Met::Key { at, end });
                at = blanks(text, end);
                if text.get(at) != Some(&b':') {
                    return Err(wrong(text, at, "no colon after a key"));
                }
                at += 1;
                expect = Expect::Value;
                continue;
            }
            Expect::CommaOrClose => {
                let object = open.last().copied().unwrap_or_default();
                match byte {
                    Some(b',') => {
                        at += 1;
                        expect = if object { Expect::Key } else { Expect::Value };
                        continue;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => return Err(wrong(text, at, "neither comma nor closing bracket")),
                }
                open.pop();
                at += 1;
                tell(Met::Close { end: at });
            }
            Expect::Value | Expect::ValueOrClose => match byte {
                Some(b'{' | b'[') => {
                    let object = byte == Some(b'{');
                    if open.len() >= limits::JSON_DEPTH_MAX {
                        return Err(NotJson { what: TOO_DEEP, at });
                    }
                    open.push(object);
                    tell(Met::Open { at, object });
                    at += 1;
                    expect = if object { Expect::KeyOrClose } else { Expect::ValueOrClose };
                    continue;
                }
                Some(b'"') => {
                    let end = string(text, at)?;
                    tell(Met::Text { at, end });
                    at = end;
                }
                Some(b'-' | b'0'..=b'9') => {
                    let end = number(text, at)?;
                    tell(Met::Number { at, end });
                    at = end;
                }
                _ => {
                    at = word(text, at)?;
                    tell(Met::Word);
                }
            },
        }
        // A value has ended.
        if open.is_empty() {
            return Ok(at);
        }
        expect = Expect::CommaOrClose;
    }
}

/// The place of the next byte that is no blank of JSON.
pub(super) fn blanks(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(rest.len())
}

fn wrong(text: &[u8], at: usize, what: &'static str) -> NotJson {
    if at >= text.len() { NotJson { what: "its end, too early,", at: text.len() } } else { NotJson { what, at } }
}

fn string(text: &[u8], from: usize) -> Result<usize, NotJson> {
    let mut at = from + 1;
    loop {
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match text.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    for n in 2..6 {
                        match text.get(at + n) {
                            Some(b) if b.is_ascii_hexdigit() => {}
                            _ => return Err(wrong(text, at + n, "an escape without four digits")),
                        }
                    }
                    at += 6;
                }
                _ => return Err(wrong(text, at + 1, "an unknown escape")),
            },
            Some(0..0x20) => return Err(NotJson { what: "a raw control character in a string", at }),
            Some(_) => at += 1,
            None => return Err(wrong(text, at, "")),
        }
    }
}

fn number(text: &[u8], from: usize) -> Result<usize, NotJson> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        from + rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len())
    };
    let some = |from: usize| {
        let end = digits(from);
        if end == from { Err(wrong(text, from, "a number without digits")) } else { Ok(end) }
    };
    let mut at = from;
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if text.get(at) == Some(&b'0') { at + 1 } else { some(at)? };
    if text.get(at) == Some(&b'.') {
        at = some(at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = some(at)?;
    }
    Ok(at)
}

fn word(text: &[u8], from: usize) -> Result<usize, NotJson> {
    let rest = text.get(from..).unwrap_or_default();
    for word in [&b"true"[..], b"false", b"null"] {
        if rest.starts_with(word) {
            return Ok(from + word.len());
        }
    }
    // Where the word stops to be one: a cut `fal{"timestamp"` must not hide the brace.
    let letters = rest.iter().position(|b| !b.is_ascii_lowercase()).unwrap_or(rest.len());
    Err(wrong(text, from + letters.min(4), "no value"))
}
