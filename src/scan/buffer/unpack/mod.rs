//! Members of ZIP, gzip and tar, in memory. Sizes in headers are not believed: every limit is checked while bytes come out.
//!
//! Names are text. Nothing here opens, makes or follows anything; a link, a device, an encrypted member is told and not read.
//! Total: any bytes have an answer (fuzz target `unpack`).

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod gzip;
mod tar;
mod zip;

use std::borrow::Cow;

use flate2::{Decompress, FlushDecompress, Status};

use super::Limits;
use crate::{
    limits::{UNPACK_NAME_BYTES, UNPACK_RATIO_FREE_BYTES},
    scan::outcome::Reason,
};

/// Forms that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Zip,
    Gzip,
    Tar,
}

/// Which archive the bytes are, by their first ones; `None` if none that is read.
pub fn kind(bytes: &[u8]) -> Option<Kind> {
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        Some(Kind::Zip)
    } else if bytes.starts_with(b"\x1f\x8b") {
        Some(Kind::Gzip)
    } else if bytes.get(257..262) == Some(b"ustar") {
        Some(Kind::Tar)
    } else {
        None
    }
}

/// A member of an archive.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Lossy, shortened.
    pub name: String,
    /// What the archive says; of gzip, what came out.
    pub size: u64,
    /// All of it, or what there is up to a limit or a flaw; `None` if it is not read.
    pub bytes: Option<Cow<'a, [u8]>>,
    /// `bytes` are all of it, as the archive's checksum says.
    pub is_whole: bool,
    pub flaw: Option<Reason>,
}

impl<'a> Member<'a> {
    /// A member that is not read.
    fn refused(name: &[u8], size: u64, reason: Reason) -> Self {
        Self { name: text(name), size, bytes: None, is_whole: false, flaw: Some(reason) }
    }
}

/// A name as text.
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..UNPACK_NAME_BYTES).unwrap_or(name)).into_owned()
}

/// What may still come out of one file, all its archives together.
#[derive(Clone, Debug)]
pub struct Budget {
    children: usize,
    bytes: u64,
    ratio: u64,
    /// By the ratio, of the file itself.
    total: u64,
}

impl Budget {
    /// - `size`: bytes of the file.
    pub fn new(limits: &Limits, size: u64) -> Self {
        let total = size.saturating_mul(limits.ratio_max).max(UNPACK_RATIO_FREE_BYTES);
        Self { children: limits.children_max, bytes: limits.bytes_max, ratio: limits.ratio_max, total }
    }

    /// Bytes that `packed` bytes may become, and the reason if they become more.
    fn allowance(&self, packed: usize) -> (u64, Reason) {
        let packed = u64::try_from(packed).unwrap_or(u64::MAX);
        let ratio = packed.saturating_mul(self.ratio).max(UNPACK_RATIO_FREE_BYTES).min(self.total);
        if self.bytes <= ratio { (self.bytes, Reason::LimitBytes) } else { (ratio, Reason::LimitRatio) }
    }

    fn spend(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.total = self.total.saturating_sub(bytes);
    }
}

/// An archive that is being read.
pub struct Archive<'a> {
    reader: Reader<'a>,
}

enum Reader<'a> {
    Zip(zip::Reader<'a>),
    Gzip(gzip::Reader<'a>),
    Tar(tar::Reader<'a>),
}

impl<'a> Archive<'a> {
    pub fn open(kind: Kind, bytes: &'a [u8]) -> Self {
        let reader = match kind {
            Kind::Zip => Reader::Zip(zip::Reader::new(bytes)),
            Kind::Gzip => Reader::Gzip(gzip::Reader::new(bytes)),
            Kind::Tar => Reader::Tar(tar::Reader::new(bytes)),
        };
        Self { reader }
    }

    /// The next member; `None` behind the last.
    ///
    /// - `is_late`: asked while bytes come out; a member is left there.
    ///
    /// # Errors
    /// A limit of all members together is reached: nothing more may be opened.
    pub fn next(&mut self, budget: &mut Budget, is_late: &dyn Fn() -> bool) -> Option<Result<Member<'a>, Reason>> {
        match &mut self.reader {
            Reader::Zip(reader) => reader.next(budget, is_late),
            Reader::Gzip(reader) => reader.next(budget, is_late),
            Reader::Tar(reader) => reader.next(budget),
        }
    }
}

impl Budget {
    /// Takes one member, or says which limit is reached.
    fn take_child(&mut self) -> Result<(), Reason> {
        self.children = self.children.checked_sub(1).ok_or(Reason::LimitChildren)?;
        if self.bytes == 0 {
            return Err(Reason::LimitBytes);
        }
        Ok(())
    }

    /// A member whose bytes lie in the archive as they are.
    fn stored<'a>(&mut self, bytes: &'a [u8]) -> (Cow<'a, [u8]>, Option<Reason>) {
        let (allowed, reason) = self.allowance(bytes.len());
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        let kept = bytes.get(..allowed).unwrap_or(bytes);
        self.spend(kept.len());
        (Cow::Borrowed(kept), (kept.len() < bytes.len()).then_some(reason))
    }

    /// Raw DEFLATE. Gives what came out, why no more did, and how many bytes were read.
    fn inflate(&mut self, packed: &[u8], is_late: &dyn Fn() -> bool) -> (Vec<u8>, Option<Reason>, usize) {
        const STEP: usize = 8 << 10;
        let (allowed, reason) = self.allowance(packed.len());
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        let mut inflater = Decompress::new(false);
        let mut out = Vec::new();
        let flaw = loop {
            let read = usize::try_from(inflater.total_in()).unwrap_or(usize::MAX);
            let rest = packed.get(read..).unwrap_or_default();
            // Twice as much each time, and one byte beyond what is allowed, which shows that there is more.
            let before = out.len();
            out.reserve_exact(before.max(STEP).min(allowed.saturating_add(1).saturating_sub(before)));
            let status = inflater.decompress_vec(rest, &mut out, FlushDecompress::None);
            if out.len() > allowed {
                out.truncate(allowed);
                break Some(reason);
            }
            match status {
                Ok(Status::StreamEnd) => break None,
                Err(_) => break Some(Reason::Corrupt),
                Ok(_) if out.len() == before => break Some(Reason::Corrupt),
                Ok(_) if is_late() => break Some(Reason::Timeout),
                Ok(_) => {}
            }
        };
        self.spend(out.len());
        let read = usize::try_from(inflater.total_in()).unwrap_or(usize::MAX);
        (out, flaw, read)
    }
}

/// CRC-32 as ZIP and gzip use it.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A little-endian number at `at`; `None` beyond the end.
fn le(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(width)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Reads a whole archive and what is in it, and gives no answer. For the fuzzer.
#[doc(hidden)]
pub fn exercise(bytes: &[u8]) {
    fn walk(bytes: &[u8], budget: &mut Budget, depth: u32) {
        let Some(kind) = kind(bytes).filter(|_| depth < 4) else { return };
        let mut archive = Archive::open(kind, bytes);
        while let Some(Ok(member)) = archive.next(budget, &|| false) {
            if let Some(bytes) = &member.bytes {
                walk(bytes, budget, depth + 1);
            }
        }
    }
    let mut budget = Budget { children: 500, bytes: 4 << 20, ratio: 250, total: 4 << 20 };
    walk(bytes, &mut budget, 0);
    assert!(budget.bytes <= 4 << 20);
}

#[cfg(test)]
pub(crate) mod tests;
