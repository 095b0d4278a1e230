//! Strings as JSON.

/// Appends `s` in quotes, all non-ASCII as `\uXXXX`.
pub fn json_str(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    json_body(out, s);
    out.push(b'"');
}

/// Appends `s` in quotes, escaped only where JSON asks for it.
pub fn json_str_plain(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    json_body_plain(out, s);
    out.push(b'"');
}

/// Appends `s` as [`json_str`] does, without the quotes.
pub fn json_body(out: &mut Vec<u8>, s: &str) {
    let mut rest = s;
    loop {
        let run = plain_run(rest.as_bytes(), 0x80);
        let (plain, special) = rest.split_at_checked(run).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        let mut chars = special.chars();
        let Some(c) = chars.next() else { return };
        if c.is_ascii() {
            escape_ascii(out, c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escape_unit(out, *unit);
            }
        }
        rest = chars.as_str();
    }
}

/// Appends `s` as [`json_str_plain`] does, without the quotes.
pub fn json_body_plain(out: &mut Vec<u8>, s: &str) {
    let mut rest = s;
    loop {
        let run = plain_run(rest.as_bytes(), 0);
        let (plain, special) = rest.split_at_checked(run).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        let mut chars = special.chars();
        let Some(c) = chars.next() else { return };
        escape_ascii(out, c);
        rest = chars.as_str();
    }
}

/// Bytes up to the first that JSON wants escaped, or that has a bit of `high`.
///
/// Eight bytes at a time: a byte below 0x20, equal to `"` or `\`, or with the high bit is found
/// by the borrow it causes in its lane. A lane above one that borrowed may be marked wrongly,
/// the lowest mark never is, and only the lowest is used.
fn plain_run(bytes: &[u8], high: u8) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let mask = if high == 0 { 0 } else { HIGHS };
    let (chunks, tail) = bytes.as_chunks::<8>();
    let mut run = 0;
    for chunk in chunks {
        let x = u64::from_le_bytes(*chunk);
        let below = x.wrapping_sub(ONES * 0x20) & !x;
        let quote = zero(x ^ (ONES * u64::from(b'"')));
        let slash = zero(x ^ (ONES * u64::from(b'\\')));
        let found = ((below | quote | slash) & HIGHS) | (x & mask);
        if found != 0 {
            return run + (found.trailing_zeros() / 8) as usize;
        }
        run += 8;
    }
    let special = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\' || (high != 0 && *b >= 0x80);
    run + tail.iter().position(special).unwrap_or(tail.len())
}

fn escape_ascii(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        _ => escape_unit(out, c as u16),
    }
}

fn escape_unit(out: &mut Vec<u8>, unit: u16) {
    let digit = |n: u16| char::from_digit(u32::from(n & 15), 16).map_or(b'0', |c| c as u8);
    out.extend_from_slice(&[b'\\', b'u', digit(unit >> 12), digit(unit >> 8), digit(unit >> 4), digit(unit)]);
}
