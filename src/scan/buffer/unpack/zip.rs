//! ZIP (APPNOTE 6.3): by its central directory, as people's tools open it. Stored and deflated members; ZIP64.

use std::borrow::Cow;

use super::{Budget, Member, crc, le};
use crate::scan::outcome::Reason;

const END: &[u8] = b"PK\x05\x06";
const END64_PLACE: &[u8] = b"PK\x06\x07";
const END64: &[u8] = b"PK\x06\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// A comment of the end record is no longer than this.
const COMMENT_MAX: usize = 0xffff;
/// In fields of 32 bits: the number stands in the ZIP64 extra field.
const ELSEWHERE: u64 = 0xffff_ffff;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Of the next entry; `None` if there is no directory, which is told once.
    at: Option<usize>,
    left: u64,
}

/// An entry of the directory.
struct Entry<'a> {
    name: &'a [u8],
    flags: u64,
    method: u64,
    crc: u64,
    packed: u64,
    size: u64,
    local: u64,
    /// Of Unix; 0 if another system wrote it.
    mode: u64,
    length: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (at, left) = directory(bytes).unzip();
        Self { bytes, at, left: left.unwrap_or(1) }
    }

    pub(super) fn next(&mut self, budget: &mut Budget, is_late: &dyn Fn() -> bool) -> Option<Result<Member<'a>, Reason>> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let entry = self.at.and_then(|at| entry(self.bytes.get(at..)?));
            let Some(entry) = entry else {
                self.left = 0;
                return Some(budget.take_child().map(|()| Member::refused(b"", 0, Reason::Corrupt)));
            };
            self.at = self.at.and_then(|at| at.checked_add(entry.length));
            if entry.name.ends_with(b"/") && entry.size == 0 {
                continue;
            }
            if let Err(reason) = budget.take_child() {
                self.left = 0;
                return Some(Err(reason));
            }
            return Some(Ok(self.member(&entry, budget, is_late)));
        }
    }

    fn member(&self, entry: &Entry<'a>, budget: &mut Budget, is_late: &dyn Fn() -> bool) -> Member<'a> {
        let refused = |reason| Member::refused(entry.name, entry.size, reason);
        // Bit 0: encrypted; 6: strongly; 13: the directory as well.
        if entry.flags & (1 | 1 << 6 | 1 << 13) != 0 {
            return refused(Reason::Encrypted);
        }
        // Regular files alone, or of a system without modes.
        if !matches!(entry.mode & 0o170_000, 0 | 0o100_000) {
            return refused(Reason::Refused);
        }
        let Some((packed, is_cut)) = self.packed(entry) else { return refused(Reason::Corrupt) };
        let (bytes, limit): (Cow<'a, [u8]>, _) = match entry.method {
            0 => budget.stored(packed),
            8 => {
                let (out, flaw, _) = budget.inflate(packed, is_late);
                (Cow::Owned(out), flaw)
            }
            _ => return refused(Reason::Refused),
        };
        let is_right = u64::try_from(bytes.len()) == Ok(entry.size) && u64::from(crc(&bytes)) == entry.crc;
        let flaw = limit.or((is_cut || !is_right).then_some(Reason::Corrupt));
        Member { name: super::text(entry.name), size: entry.size, bytes: Some(bytes), is_whole: flaw.is_none(), flaw }
    }

    /// The member's bytes as they lie there, and whether some are missing.
    fn packed(&self, entry: &Entry<'a>) -> Option<(&'a [u8], bool)> {
        let local = self.bytes.get(usize::try_from(entry.local).ok()?..)?;
        if !local.starts_with(LOCAL) {
            return None;
        }
        let skip = 30 + usize::try_from(le(local, 26, 2)? + le(local, 28, 2)?).ok()?;
        let rest = local.get(skip..)?;
        let length = usize::try_from(entry.packed).ok()?;
        Some((rest.get(..length).unwrap_or(rest), length > rest.len()))
    }
}

/// Where the directory begins, and how many entries it has.
fn directory(bytes: &[u8]) -> Option<(usize, u64)> {
    let from = bytes.len().saturating_sub(COMMENT_MAX + 22);
    let tail = bytes.get(from..)?;
    let end = from + tail.windows(END.len()).rposition(|window| window == END)?;
    let (count, offset) = (le(bytes, end + 10, 2)?, le(bytes, end + 16, 4)?);
    if count != 0xffff && offset != ELSEWHERE {
        return Some((usize::try_from(offset).ok()?, count));
    }
    let place = end.checked_sub(20).filter(|place| bytes.get(*place..).is_some_and(|rest| rest.starts_with(END64_PLACE)));
    let Some(place) = place else { return Some((usize::try_from(offset).ok()?, count)) };
    let end64 = bytes.get(usize::try_from(le(bytes, place + 8, 8)?).ok()?..).filter(|rest| rest.starts_with(END64))?;
    Some((usize::try_from(le(end64, 48, 8)?).ok()?, le(end64, 32, 8)?))
}

fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    if !bytes.starts_with(ENTRY) {
        return None;
    }
    let number = |at, width| le(bytes, at, width);
    let (name, extra, comment) =
        (usize::try_from(number(28, 2)?).ok()?, usize::try_from(number(30, 2)?).ok()?, usize::try_from(number(32, 2)?).ok()?);
    let (mut packed, mut size, mut local) = (number(20, 4)?, number(24, 4)?, number(42, 4)?);
    let mut fields = bytes.get(46 + name..46 + name + extra)?;
    while let (Some(id), Some(length)) = (le(fields, 0, 2), le(fields, 2, 2)) {
        let length = usize::try_from(length).ok()?;
        if id == 1 {
            // Only those that do not fit stand here, in this order.
            let mut at = 4;
            for value in [&mut size, &mut packed, &mut local] {
                if *value == ELSEWHERE {
                    *value = le(fields, at, 8)?;
                    at += 8;
                }
            }
        }
        fields = fields.get(4 + length..).unwrap_or_default();
    }
    let is_unix = number(5, 1)? == 3;
    Some(Entry {
        name: bytes.get(46..46 + name)?,
        flags: number(8, 2)?,
        method: number(10, 2)?,
        crc: number(16, 4)?,
        packed,
        size,
        local,
        mode: if is_unix { number(38, 4)? >> 16 } else { 0 },
        length: 46 + name + extra + comment,
    })
}
