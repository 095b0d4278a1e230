//! Lines of a file, each bounded.

use std::io::{self, BufRead};

use super::Reason;

/// Bytes of one line.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// One line without its end; `None` at the end of the file. Of a line that is too long nothing is
/// kept, and `Err` says so.
pub(super) fn next(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<Result<(), Reason>>> {
    line.clear();
    let (mut any, mut too_long) = (false, false);
    loop {
        let held = match from.fill_buf() {
            Ok(held) => held,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if held.is_empty() {
            break;
        }
        any = true;
        let end = memchr::memchr(b'\n', held);
        let part = held.get(..end.unwrap_or(held.len())).unwrap_or_default();
        too_long |= line.len() + part.len() > LINE_BYTES_MAX;
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = end.map_or(held.len(), |end| end + 1);
        from.consume(used);
        if end.is_some() {
            break;
        }
    }
    if !any {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(if too_long { Err(Reason::TooLong) } else { Ok(()) }))
}

/// What takes lines.
pub(super) type TakeLine<'t> = dyn FnMut(u64, Result<&str, Reason>) -> io::Result<()> + 't;

/// Hands out every line as text with its number from 1; a byte-order mark is taken off.
pub(super) fn each(from: &mut impl BufRead, take: &mut TakeLine<'_>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut at = 0;
    while let Some(read) = next(from, &mut line)? {
        at += 1;
        let text = read.and_then(|()| std::str::from_utf8(&line).map_err(|_| Reason::NotUtf8));
        take(at, text.map(|text| if at == 1 { text.trim_start_matches('\u{feff}') } else { text }))?;
    }
    Ok(())
}
