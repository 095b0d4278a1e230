//! The indicator filter: all keys of the last full build, in parts, as one run of bytes.
//!
//! The keys are parted by their first bits and each part is a filter of its own (see `fuse`), so
//! that building needs the keys of one part at a time: 65,536 of them, 3 MB, however many there
//! are in all. Ten million keys make 22 MB. A start reads the bytes and uses them as they lie.
//!
//! ```text
//! 16 bytes   magic, format, zero
//! …          fingerprints of part 0, of part 1, …: 16 bits each
//! 24 × parts directory: seed, segment, segments, offset of the fingerprints
//! …          networks (see `networks`)
//! 64 bytes   trailer: offsets, counts, CRC32C of all before it, magic
//! ```
//!
//! Numbers are little-endian. What is not exactly what was written is refused as a whole.

use std::io::{self, Write};

use super::{
    fuse::{self, Shape},
    key::Key,
    networks::{self, Networks},
};

/// The format that this build writes and reads.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"shpIoCf\n";
const END: [u8; 8] = *b"fCoIphs\n";
const HEADER_BYTES: usize = 16;
const PART_BYTES: usize = 24;
const TRAILER_BYTES: usize = 64;

/// Keys that a part should have; more only when there are more than 2^24 in all.
const PART_KEYS: u64 = 1 << 16;
/// Parts are at most 2^8: a part is then no smaller than a spool of `build`.
const PART_BITS_MAX: u32 = 8;

/// Why bytes are no table of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Not the bytes that were written.
    #[error("the {what} is damaged: {why}; run `shipper intel import` again")]
    Damaged { what: &'static str, why: &'static str },
    /// A later shipper wrote it.
    #[error("the {what} has format {found}, this build reads {known}; upgrade shipper, or run `shipper intel import` again")]
    TooNew { what: &'static str, found: u32, known: u32 },
}

fn damaged(why: &'static str) -> TableError {
    TableError::Damaged { what: "indicator filter", why }
}

/// Counts and sums what goes out.
#[derive(Debug)]
pub(super) struct Summed<W> {
    out: W,
    pub crc: u32,
    pub bytes: u64,
}

impl<W: Write> Summed<W> {
    pub fn new(out: W) -> Self {
        Self { out, crc: 0, bytes: 0 }
    }
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a filter down while keys come in ascending order.
#[derive(Debug)]
pub struct FilterWriter<W> {
    out: Summed<W>,
    bits: u32,
    keys: Vec<Key>,
    directory: Vec<u8>,
    count: u64,
}

impl<W: Write> FilterWriter<W> {
    /// Begins a filter.
    ///
    /// - `about`: how many keys will come; only the size of the parts depends on it.
    ///
    /// # Errors
    /// As `out`.
    pub fn new(out: W, about: u64) -> io::Result<Self> {
        let bits = about.div_ceil(PART_KEYS).max(1).next_power_of_two().trailing_zeros().min(PART_BITS_MAX);
        let mut out = Summed::new(out);
        out.put(&MAGIC)?;
        out.put(&FORMAT.to_le_bytes())?;
        out.put(&[0; 4])?;
        Ok(Self { out, bits, keys: Vec::new(), directory: Vec::new(), count: 0 })
    }

    fn parts(&self) -> usize {
        self.directory.len() / PART_BYTES
    }

    /// Takes the next key; one that is not above the last is taken for the last again.
    ///
    /// # Errors
    /// As `out`.
    pub fn push(&mut self, key: Key) -> io::Result<()> {
        if self.keys.last().is_some_and(|last| *last >= key) {
            return Ok(());
        }
        while self.parts() < part_of(key, self.bits) {
            self.close_part()?;
        }
        self.keys.push(key);
        self.count += 1;
        Ok(())
    }

    fn close_part(&mut self) -> io::Result<()> {
        // Distinct keys always have a filter: a hundred seeds that each fail in a few of a hundred.
        let built = fuse::build(&self.keys).ok_or_else(|| io::Error::other("no filter for these keys; this is a defect of shipper"))?;
        self.directory.extend_from_slice(&built.shape.seed.to_le_bytes());
        self.directory.extend_from_slice(&built.shape.segment.to_le_bytes());
        self.directory.extend_from_slice(&built.shape.segments.to_le_bytes());
        self.directory.extend_from_slice(&self.out.bytes.to_le_bytes());
        let bytes: Vec<u8> = built.fingerprints.iter().flat_map(|fingerprint| fingerprint.to_le_bytes()).collect();
        self.out.put(&bytes)?;
        self.keys.clear();
        Ok(())
    }

    /// Ends the filter; returns how many keys it has.
    ///
    /// - `built`: wall time, seconds since 1970, for people.
    ///
    /// # Errors
    /// As `out`.
    pub fn finish(mut self, networks: &Networks, built: u64) -> io::Result<u64> {
        while self.parts() < 1 << self.bits {
            self.close_part()?;
        }
        let directory_at = self.out.bytes;
        let directory = std::mem::take(&mut self.directory);
        self.out.put(&directory)?;
        let networks_at = self.out.bytes;
        self.out.put(&networks::encode(networks))?;
        let length = self.out.bytes + TRAILER_BYTES as u64;
        for number in [directory_at, networks_at, self.count, built, length, u64::from(self.bits)] {
            self.out.put(&number.to_le_bytes())?;
        }
        let crc = self.out.crc;
        self.out.put(&crc.to_le_bytes())?;
        self.out.put(&[0; 4])?;
        self.out.put(&END)?;
        self.out.flush()?;
        Ok(self.count)
    }
}

/// The part of a key, from 0.
fn part_of(key: Key, bits: u32) -> usize {
    // A shift by 64 has no meaning, and without bits there is one part.
    key.0.checked_shr(64 - bits).unwrap_or(0) as usize
}

/// Where a part lies.
#[derive(Clone, Copy, Debug)]
struct Part {
    shape: Shape,
    at: usize,
}

/// A filter in memory: the bytes as they were written.
#[derive(Clone)]
pub struct Filter {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    bits: u32,
    keys: u64,
    built: u64,
    networks: Networks,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("keys", &self.keys).field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Reads a number of 4 or 8 bytes.
pub(super) fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

impl Filter {
    /// Takes the bytes that [`FilterWriter`] wrote.
    ///
    /// # Errors
    /// [`TableError::TooNew`] if a later shipper wrote them, else [`TableError::Damaged`] for
    /// whatever else they are.
    pub fn parse(mut bytes: Vec<u8>) -> Result<Self, TableError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(damaged("it does not begin as one"));
        }
        let found = number(&bytes, 8, 4).and_then(|n| u32::try_from(n).ok()).ok_or_else(|| damaged("it is cut"))?;
        if found > FORMAT {
            return Err(TableError::TooNew { what: "indicator filter", found, known: FORMAT });
        }
        let trailer_at = bytes.len().checked_sub(TRAILER_BYTES).filter(|at| *at >= HEADER_BYTES).ok_or_else(|| damaged("it is cut"))?;
        let (body, trailer) = bytes.split_at(trailer_at);
        let field = |index: usize| number(trailer, index * 8, 8).and_then(|n| usize::try_from(n).ok()).ok_or_else(|| damaged("it is cut"));
        if !trailer.ends_with(&END) || field(4)? != bytes.len() {
            return Err(damaged("it is cut"));
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), trailer.get(..48).unwrap_or_default());
        if number(trailer, 48, 8) != Some(u64::from(crc)) {
            return Err(damaged("its checksum does not match"));
        }
        let unsound = || damaged("its parts do not fit");
        let (directory_at, networks_at, keys, built, bits) = (field(0)?, field(1)?, field(2)? as u64, field(3)? as u64, field(5)?);
        let directory = body.get(directory_at..networks_at).ok_or_else(unsound)?;
        let networks = networks::decode(body.get(networks_at..).ok_or_else(unsound)?).ok_or_else(unsound)?;
        let bits = u32::try_from(bits).ok().filter(|bits| *bits <= PART_BITS_MAX).ok_or_else(unsound)?;
        let (rows, rest) = directory.as_chunks::<PART_BYTES>();
        if rows.len() != 1 << bits || !rest.is_empty() || found != FORMAT || number(&bytes, 12, 4) != Some(0) {
            return Err(unsound());
        }
        let mut parts = Vec::with_capacity(rows.len());
        let mut end = HEADER_BYTES;
        for row in rows {
            let (Some(seed), Some(segment), Some(segments), Some(at)) =
                (number(row, 0, 8), number(row, 8, 4), number(row, 12, 4), number(row, 16, 8))
            else {
                return Err(unsound());
            };
            let shape = Shape { seed, segment: segment as u32, segments: segments as u32 };
            let bytes = shape.places().and_then(|places| places.checked_mul(2)).ok_or_else(unsound)?;
            if at != end as u64 {
                return Err(unsound());
            }
            parts.push(Part { shape, at: end });
            end = end.checked_add(bytes).ok_or_else(unsound)?;
        }
        if end != directory_at {
            return Err(unsound());
        }
        bytes.truncate(directory_at);
        Ok(Self { bytes, parts, bits, keys, built, networks })
    }

    /// True if the key may be one that the filter was built of: always for those, and for one in
    /// 65,536 of all others.
    pub fn may_hold(&self, key: Key) -> bool {
        let Some(Part { shape, at }) = self.parts.get(part_of(key, self.bits)) else { return false };
        shape.holds(key, |place| {
            let from = at + 2 * place;
            let bytes = self.bytes.get(from..from + 2)?;
            bytes.try_into().ok().map(u16::from_le_bytes)
        })
    }

    /// Keys that it was built of.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes of memory for the fingerprints.
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Wall time at which it was built, seconds since 1970.
    pub fn built(&self) -> u64 {
        self.built
    }

    /// Networks in CIDR form.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn filter(keys: &[Key], networks: &[&str]) -> Vec<u8> {
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        let mut bytes = Vec::new();
        let mut writer = FilterWriter::new(&mut bytes, keys.len() as u64).unwrap();
        for key in sorted {
            writer.push(key).unwrap();
        }
        let networks = Networks::build(networks.iter().map(|net| (networks::parse(net).unwrap(), 0)));
        writer.finish(&networks, 1_700_000_000).unwrap();
        bytes
    }

    fn keys(n: u64) -> Vec<Key> {
        (0..n).map(|n| Key::of(&n.to_be_bytes())).collect()
    }

    #[test]
    fn a_filter_of_parts_finds_all_its_keys_and_few_others() {
        for n in [0, 1, 500, 65_536, 200_000] {
            let keys = keys(n);
            let filter = Filter::parse(filter(&keys, &["10.0.0.0/8"])).unwrap();
            assert_eq!((filter.keys(), filter.built(), filter.networks().len()), (n, 1_700_000_000, 1));
            assert!(keys.iter().all(|key| filter.may_hold(*key)), "{n}");
            let wrong = (0..200_000).filter(|n| filter.may_hold(Key::of(format!("other {n}").as_bytes()))).count();
            assert!(wrong < 20, "{wrong} with {n} keys");
        }
        assert_eq!(Filter::parse(filter(&keys(200_000), &[])).unwrap().parts.len(), 4);
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_taken_for_a_filter() {
        let good = filter(&keys(40), &["10.0.0.0/8", "2001:db8::/32"]);
        assert!(Filter::parse(good.clone()).is_ok());
        for cut in 0..good.len() {
            assert!(Filter::parse(good[..cut].to_vec()).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for bit in [1, 0x80] {
                let mut bytes = good.clone();
                bytes[at] ^= bit;
                assert!(Filter::parse(bytes).is_err(), "byte {at}");
            }
        }
        let mut new = good.clone();
        new[8] = 9;
        assert_eq!(
            Filter::parse(new).unwrap_err().to_string(),
            "the indicator filter has format 9, this build reads 1; upgrade shipper, or run `shipper intel import` again"
        );
        let mut longer = good;
        longer.extend_from_slice(&[0; 64]);
        assert!(Filter::parse(longer).is_err());
    }

    #[test]
    fn a_forged_directory_with_a_right_checksum_is_refused_or_harmless() {
        let good = filter(&keys(40), &[]);
        let trailer = good.len() - TRAILER_BYTES;
        for at in HEADER_BYTES..good.len() - 16 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let crc = crc32c::crc32c(&bytes[..trailer + 48]);
                bytes[trailer + 48..trailer + 52].copy_from_slice(&crc.to_le_bytes());
                if let Ok(filter) = Filter::parse(bytes) {
                    filter.may_hold(Key(u64::MAX));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_filter_agrees_with_a_set(given in proptest::collection::vec(0..400u64, 0..200)) {
            let keys: Vec<Key> = given.iter().map(|n| Key::of(&n.to_be_bytes())).collect();
            let twin: HashSet<Key> = keys.iter().copied().collect();
            let filter = Filter::parse(filter(&keys, &[])).unwrap();
            prop_assert_eq!(filter.keys(), twin.len() as u64);
            for key in &twin {
                prop_assert!(filter.may_hold(*key));
            }
            let wrong = (0..400u64).map(|n| Key::of(&n.to_be_bytes())).filter(|key| !twin.contains(key) && filter.may_hold(*key)).count();
            prop_assert!(wrong <= 2, "{} false hits of 400", wrong);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Filter::parse(bytes.clone()).is_err());
            prop_assert!(Filter::parse([&MAGIC[..], &FORMAT.to_le_bytes(), &bytes].concat()).is_err());
        }
    }
}
