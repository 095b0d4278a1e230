//! tar: POSIX ustar and pax, and GNU's long names. Folders hold no bytes and are not listed.

use super::{Budget, Member, text};
use crate::scan::outcome::Reason;

const BLOCK: usize = 512;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_over: bool,
}

/// What a header before the file's own says of it.
#[derive(Default)]
struct Before {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, is_over: false }
    }

    pub(super) fn next(&mut self, budget: &mut Budget) -> Option<Result<Member<'a>, Reason>> {
        let mut before = Before::default();
        while !self.is_over {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(header) = rest.get(..BLOCK) else {
                // Some tools write no end; what is less than a block is something else.
                self.is_over = true;
                return (!rest.is_empty()).then(|| broken(budget));
            };
            if header.iter().all(|byte| *byte == 0) {
                self.is_over = true;
                return None;
            }
            let Some(mut size) = number(header.get(124..136)).filter(|_| has_sum(header)) else {
                self.is_over = true;
                return Some(broken(budget));
            };
            let kind = header.get(156).copied().unwrap_or(0);
            if matches!(kind, b'0' | 0 | b'7') {
                size = before.size.unwrap_or(size);
            }
            let holds = matches!(kind, b'0' | 0 | b'7' | b'L' | b'K' | b'x' | b'g' | b'S' | b'X') || !matches!(kind, b'1'..=b'6');
            let length = if holds { usize::try_from(size).unwrap_or(usize::MAX) } else { 0 };
            let body = rest.get(BLOCK..).unwrap_or_default();
            let whole = body.get(..length);
            let padded = length.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX);
            self.at = self.at.saturating_add(BLOCK).saturating_add(padded);
            match kind {
                b'L' => before.name = whole.map(|name| name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
                b'x' => pax(whole.unwrap_or_default(), &mut before),
                b'K' | b'g' => {}
                b'5' => before = Before::default(),
                b'0' | 0 | b'7' if !before.is_sparse => {
                    if let Err(reason) = budget.take_child() {
                        self.is_over = true;
                        return Some(Err(reason));
                    }
                    let name = before.name.take().unwrap_or_else(|| own_name(header));
                    let (bytes, limit) = budget.stored(whole.unwrap_or(body));
                    let flaw = limit.or(whole.is_none().then_some(Reason::Corrupt));
                    return Some(Ok(Member { name: text(&name), size, bytes: Some(bytes), is_whole: flaw.is_none(), flaw }));
                }
                _ => {
                    if let Err(reason) = budget.take_child() {
                        self.is_over = true;
                        return Some(Err(reason));
                    }
                    let name = before.name.take().unwrap_or_else(|| own_name(header));
                    return Some(Ok(Member::refused(&name, size, Reason::Refused)));
                }
            }
        }
        None
    }
}

fn broken<'a>(budget: &mut Budget) -> Result<Member<'a>, Reason> {
    budget.take_child()?;
    Ok(Member::refused(b"", 0, Reason::Corrupt))
}

/// Octal digits, or base 256 with the first bit set.
fn number(field: Option<&[u8]>) -> Option<u64> {
    let field = field?;
    if field.first()? & 0x80 != 0 {
        let (first, rest) = field.split_first()?;
        return rest.iter().try_fold(u64::from(first & 0x7f), |n, byte| n.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = field.split(|byte| *byte == 0).next()?.trim_ascii();
    digits.iter().try_fold(0u64, |n, byte| match byte {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Whether the header's checksum is right: the sum of its bytes, the checksum's own as blanks.
fn has_sum(header: &[u8]) -> bool {
    let sum: u64 = header.iter().enumerate().map(|(n, byte)| if (148..156).contains(&n) { 32 } else { u64::from(*byte) }).sum();
    number(header.get(148..156)) == Some(sum)
}

fn own_name(header: &[u8]) -> Vec<u8> {
    let field = |range| header.get::<std::ops::Range<usize>>(range).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    let (name, prefix) = (field(0..100), field(345..500));
    // GNU keeps times where POSIX has the prefix.
    if prefix.is_empty() || header.get(257..263) != Some(b"ustar\0") { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// Records `length key=value\n`; of them the path, the size and whether the file has holes.
fn pax(mut records: &[u8], before: &mut Before) {
    while let Some(blank) = records.iter().position(|byte| *byte == b' ') {
        let length = records.get(..blank).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok()).unwrap_or(0);
        let Some(record) = records.get(blank + 1..length.saturating_sub(1)) else { return };
        if let Some(equals) = record.iter().position(|byte| *byte == b'=') {
            let (key, value) = (record.get(..equals).unwrap_or_default(), record.get(equals + 1..).unwrap_or_default());
            match key {
                b"path" => before.name = Some(value.to_vec()),
                b"size" => before.size = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()),
                key if key.starts_with(b"GNU.sparse.") => before.is_sparse = true,
                _ => {}
            }
        }
        records = records.get(length..).unwrap_or_default();
    }
}
