//! gzip (RFC 1952): its members one behind the other are one file, as all tools see it. What follows them is no member.

use std::borrow::Cow;

use super::{Budget, Member, crc, le, text};
use crate::scan::outcome::Reason;

pub(super) struct Reader<'a> {
    bytes: Option<&'a [u8]>,
}

/// Header flags.
const HAS_CRC: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: Some(bytes) }
    }

    pub(super) fn next(&mut self, budget: &mut Budget, is_late: &dyn Fn() -> bool) -> Option<Result<Member<'a>, Reason>> {
        let mut rest = self.bytes.take()?;
        if let Err(reason) = budget.take_child() {
            return Some(Err(reason));
        }
        let (mut name, mut out, mut flaw) = (None, Vec::new(), None);
        while rest.starts_with(b"\x1f\x8b") {
            let Some((header, own)) = header(rest) else {
                flaw = Some(Reason::Corrupt);
                break;
            };
            name.get_or_insert(own);
            let packed = rest.get(header..).unwrap_or_default();
            let (more, why, read) = budget.inflate(packed, is_late);
            let sums = (le(packed, read, 4), le(packed, read.saturating_add(4), 4));
            let expected = (Some(u64::from(crc(&more))), u64::try_from(more.len()).ok().map(|length| length & 0xffff_ffff));
            out.extend_from_slice(&more);
            flaw = why.or((sums != expected).then_some(Reason::Corrupt));
            if flaw.is_some() {
                break;
            }
            rest = packed.get(read.saturating_add(8)..).unwrap_or_default();
        }
        Some(Ok(Member {
            name: text(name.unwrap_or_default()),
            size: u64::try_from(out.len()).unwrap_or(u64::MAX),
            is_whole: flaw.is_none(),
            bytes: (flaw.is_none() || !out.is_empty()).then_some(Cow::Owned(out)),
            flaw,
        }))
    }
}

/// Length of the header, and the name in it.
fn header(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let flags = *bytes.get(3)?;
    if bytes.get(2) != Some(&8) || flags & 0xe0 != 0 {
        return None;
    }
    let mut at = 10;
    if flags & HAS_EXTRA != 0 {
        at += 2 + usize::try_from(le(bytes, at, 2)?).ok()?;
    }
    let until_zero = |at: &mut usize| {
        let rest = bytes.get(*at..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        *at += length + 1;
        rest.get(..length)
    };
    let name = if flags & HAS_NAME != 0 { until_zero(&mut at)? } else { &[] };
    if flags & HAS_COMMENT != 0 {
        until_zero(&mut at)?;
    }
    if flags & HAS_CRC != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some((at, name))
}
