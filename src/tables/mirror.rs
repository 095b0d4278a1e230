//! The mirror: attributes sorted by key in one file, so that a hit can be told without MISP.
//!
//! ```text
//! 16 bytes  magic, format, zero
//! blocks    4 bytes length of what follows, 4 bytes CRC32C of it,
//!           then for each attribute: 8 bytes key, 4 bytes length, the attribute
//! index     for each block: 8 bytes first key, 8 bytes offset
//! 64 bytes  trailer: offset of the index, counts, length, CRC32C of index and trailer, magic
//! ```
//!
//! A block is closed at a new key when it has 8 KiB, so all attributes of a key lie in one. Only the
//! index is in memory: 16 bytes for 8 KiB, 2 MB for ten million attributes of 100 bytes. A look-up
//! is one read. Numbers are little-endian.

use std::io::{self, Write};

use super::{
    attribute::{self, Attribute},
    filter::{Summed, TableError, number},
    key::Key,
};

/// The format that this build writes and reads.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"shpIoCm\n";
const END: [u8; 8] = *b"mCoIphs\n";
const HEADER_BYTES: u64 = 16;
const TRAILER_BYTES: u64 = 64;
const FRAME_BYTES: usize = 8;
const ROW_BYTES: usize = 12;

/// Bytes at which a block is closed.
const BLOCK_BYTES: usize = 8 << 10;
/// Bytes. No block of ours is longer: a key has at most `build::ATTRIBUTES_PER_KEY_MAX` attributes.
const BLOCK_BYTES_MAX: u64 = 32 << 20;

fn damaged(why: &'static str) -> TableError {
    TableError::Damaged { what: "mirror of attributes", why }
}

/// Why the mirror cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The bytes are not those that were written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// They cannot be read.
    #[error("cannot read the mirror of attributes; fix the disk, or run `shipper intel import` again")]
    Read(#[from] io::Error),
}

/// A key and an attribute of it, encoded.
pub(super) type Row<'r> = (Key, &'r [u8]);
/// What takes rows.
type TakeRow<'t> = dyn FnMut(Key, &[u8]) -> Result<(), MirrorError> + 't;

/// Something to read at any place.
pub trait ReadAt {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// As pread(2); [`io::ErrorKind::UnexpectedEof`] past the end.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Bytes that there are.
    ///
    /// # Errors
    /// As fstat(2).
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let found = self.get(from..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Writes a mirror down while attributes come in ascending order of their keys.
#[derive(Debug)]
pub(super) struct MirrorWriter<W> {
    out: Summed<W>,
    block: Vec<u8>,
    first: Option<Key>,
    last: Option<Key>,
    index: Vec<u8>,
    keys: u64,
    attributes: u64,
}

impl<W: Write> MirrorWriter<W> {
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = Summed::new(out);
        out.put(&MAGIC)?;
        out.put(&FORMAT.to_le_bytes())?;
        out.put(&[0; 4])?;
        Ok(Self { out, block: Vec::new(), first: None, last: None, index: Vec::new(), keys: 0, attributes: 0 })
    }

    /// Takes the next attribute, encoded.
    pub fn push(&mut self, key: Key, attribute: &[u8]) -> io::Result<()> {
        if self.last != Some(key) {
            if self.block.len() >= BLOCK_BYTES {
                self.close_block()?;
            }
            self.keys += 1;
            self.last = Some(key);
        }
        self.first.get_or_insert(key);
        self.attributes += 1;
        self.block.extend_from_slice(&key.0.to_le_bytes());
        self.block.extend_from_slice(&u32::try_from(attribute.len()).map_err(io::Error::other)?.to_le_bytes());
        self.block.extend_from_slice(attribute);
        Ok(())
    }

    fn close_block(&mut self) -> io::Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        self.index.extend_from_slice(&first.0.to_le_bytes());
        self.index.extend_from_slice(&self.out.bytes.to_le_bytes());
        let length = u32::try_from(self.block.len()).map_err(io::Error::other)?;
        self.out.put(&length.to_le_bytes())?;
        self.out.put(&crc32c::crc32c(&self.block).to_le_bytes())?;
        self.out.put(&self.block)?;
        self.block.clear();
        Ok(())
    }

    /// Ends the mirror; returns how many keys and attributes it has.
    pub fn finish(mut self) -> io::Result<(u64, u64)> {
        self.close_block()?;
        let index_at = self.out.bytes;
        let index = std::mem::take(&mut self.index);
        // The trailer's sum covers index and trailer; every block has its own.
        self.out.crc = 0;
        self.out.put(&index)?;
        let length = self.out.bytes + TRAILER_BYTES;
        for number in [index_at, self.keys, self.attributes, length, 0, 0] {
            self.out.put(&number.to_le_bytes())?;
        }
        let crc = self.out.crc;
        self.out.put(&crc.to_le_bytes())?;
        self.out.put(&[0; 4])?;
        self.out.put(&END)?;
        self.out.flush()?;
        Ok((self.keys, self.attributes))
    }
}

/// A mirror that is read.
#[derive(Debug)]
pub struct Mirror<R> {
    from: R,
    /// First key and offset of every block.
    index: Vec<(Key, u64)>,
    index_at: u64,
    keys: u64,
    attributes: u64,
}

impl<R: ReadAt> Mirror<R> {
    /// Opens a mirror: reads its index, not its blocks.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub fn open(from: R) -> Result<Self, MirrorError> {
        let size = from.size()?;
        let trailer_at = size.checked_sub(TRAILER_BYTES).filter(|at| *at >= HEADER_BYTES).ok_or_else(|| damaged("it is cut"))?;
        let mut header = [0; HEADER_BYTES as usize];
        from.read_exact_at(&mut header, 0)?;
        if !header.starts_with(&MAGIC) {
            return Err(damaged("it does not begin as one").into());
        }
        let found = number(&header, 8, 4).unwrap_or(0) as u32;
        if found > FORMAT {
            return Err(TableError::TooNew { what: "mirror of attributes", found, known: FORMAT }.into());
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        from.read_exact_at(&mut trailer, trailer_at)?;
        let field = |index: usize| number(&trailer, index * 8, 8).unwrap_or(0);
        let (index_at, keys, attributes) = (field(0), field(1), field(2));
        if !trailer.ends_with(&END) || field(3) != size {
            return Err(damaged("it is cut").into());
        }
        let unsound = || damaged("its index does not fit");
        let bytes = trailer_at.checked_sub(index_at).and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(unsound)?;
        let mut index = vec![0; bytes];
        from.read_exact_at(&mut index, index_at)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&index), trailer.get(..48).unwrap_or_default());
        if field(6) != u64::from(crc) || found != FORMAT || number(&header, 12, 4) != Some(0) {
            return Err(damaged("its checksum does not match").into());
        }
        let (rows, rest) = index.as_chunks::<16>();
        // Of exact size, so that it is never copied while it grows.
        let index: Vec<(Key, u64)> = rows.iter().map(|row| (Key(number(row, 0, 8).unwrap_or(0)), number(row, 8, 8).unwrap_or(0))).collect();
        let begins = index.first().is_none_or(|(_, at)| *at == HEADER_BYTES);
        let ends = index.last().map_or(index_at == HEADER_BYTES, |(_, at)| *at < index_at);
        if !rest.is_empty() || !begins || !ends || !index.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1) {
            return Err(unsound().into());
        }
        Ok(Self { from, index, index_at, keys, attributes })
    }

    /// Distinct keys.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Attributes of all keys.
    pub fn attributes(&self) -> u64 {
        self.attributes
    }

    fn block(&self, number: usize) -> Result<Vec<u8>, MirrorError> {
        let (_, at) = self.index.get(number).ok_or_else(|| damaged("its index does not fit"))?;
        let end = self.index.get(number + 1).map_or(self.index_at, |(_, at)| *at);
        let bytes = end.saturating_sub(*at);
        if bytes > BLOCK_BYTES_MAX {
            return Err(damaged("a block is too long").into());
        }
        let mut block = vec![0; bytes as usize];
        self.from.read_exact_at(&mut block, *at)?;
        let length = self::number(&block, 0, 4);
        let crc = self::number(&block, 4, 4);
        block.drain(..FRAME_BYTES.min(block.len()));
        if length != Some(block.len() as u64) || crc != Some(u64::from(crc32c::crc32c(&block))) {
            return Err(damaged("a block's checksum does not match").into());
        }
        Ok(block)
    }

    /// All attributes of a value in normal form.
    ///
    /// # Errors
    /// If the block cannot be read, or is not what was written.
    pub fn find(&self, value: &[u8]) -> Result<Vec<Attribute>, MirrorError> {
        let mut found = self.of_key(Key::of(value))?;
        found.retain(|attribute| attribute.indicator.is(value));
        Ok(found)
    }

    /// All attributes of a key.
    ///
    /// # Errors
    /// As [`Mirror::find`].
    pub fn of_key(&self, key: Key) -> Result<Vec<Attribute>, MirrorError> {
        let after = self.index.partition_point(|(first, _)| *first <= key);
        let Some(number) = after.checked_sub(1) else { return Ok(Vec::new()) };
        let block = self.block(number)?;
        let mut found = Vec::new();
        each(&block, &mut |of, bytes| {
            if of == key {
                found.push(attribute::decode(bytes).ok_or_else(|| damaged("an attribute cannot be read"))?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Hands out every attribute, encoded, in the order of the keys.
    ///
    /// # Errors
    /// As [`Mirror::find`], or what `take` gives.
    pub(super) fn each(&self, take: &mut TakeRow<'_>) -> Result<(), MirrorError> {
        for number in 0..self.index.len() {
            each(&self.block(number)?, take)?;
        }
        Ok(())
    }
}

/// Hands out the rows of a block.
fn each(mut rows: &[u8], take: &mut TakeRow<'_>) -> Result<(), MirrorError> {
    while !rows.is_empty() {
        let ((key, encoded), rest) = row(rows)?;
        take(key, encoded)?;
        rows = rest;
    }
    Ok(())
}

/// The first row of a block, or of a spool, which has the same, and what follows it.
pub(super) fn row(rows: &[u8]) -> Result<(Row<'_>, &[u8]), TableError> {
    let torn = || damaged("a row is cut");
    let key = Key(number(rows, 0, 8).ok_or_else(torn)?);
    let length = number(rows, 8, 4).ok_or_else(torn)? as usize;
    let (encoded, rest) = rows.get(ROW_BYTES..).and_then(|rest| rest.split_at_checked(length)).ok_or_else(torn)?;
    Ok(((key, encoded), rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tables::{attribute::Indicator, kinds::Kind};

    fn attribute(value: &str, id: u64) -> Attribute {
        Attribute { event_id: id.to_string(), ..Attribute::bare(Indicator::Text(value.into()), Kind::Domain) }
    }

    fn mirror(attributes: &[Attribute]) -> Vec<u8> {
        let mut sorted: Vec<_> = attributes.iter().map(|a| (a.indicator.key(), a)).collect();
        sorted.sort_by_key(|(key, _)| *key);
        let mut bytes = Vec::new();
        let mut writer = MirrorWriter::new(&mut bytes).unwrap();
        for (key, attribute) in sorted {
            let mut encoded = Vec::new();
            super::attribute::encode(attribute, &mut encoded);
            writer.push(key, &encoded).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn every_attribute_is_found_and_no_other() {
        for n in [0, 1, 10, 5_000] {
            let all: Vec<Attribute> = (0..n).map(|id| attribute(&format!("host-{}.example", id / 2), id)).collect();
            let mirror = Mirror::open(mirror(&all)).unwrap();
            assert_eq!((mirror.keys(), mirror.attributes()), (n.div_ceil(2), n));
            assert!(n < 5_000 || mirror.index.len() > 10);
            for pair in all.chunks(2) {
                let Indicator::Text(value) = &pair[0].indicator else { panic!() };
                assert_eq!(mirror.find(value.as_bytes()).unwrap(), pair);
            }
            for other in 0..1_000 {
                assert_eq!(mirror.find(format!("other-{other}.example").as_bytes()).unwrap(), []);
            }
            let mut count = 0;
            mirror
                .each(&mut |_, _| {
                    count += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(count, n);
        }
    }

    #[test]
    fn a_value_that_only_shares_the_key_is_not_shown() {
        let mut forged = attribute("a.example", 1);
        forged.indicator = Indicator::Text("b.example".into());
        let mut bytes = Vec::new();
        let mut encoded = Vec::new();
        super::attribute::encode(&forged, &mut encoded);
        let mut writer = MirrorWriter::new(&mut bytes).unwrap();
        writer.push(Key::of(b"a.example"), &encoded).unwrap();
        writer.finish().unwrap();
        let mirror = Mirror::open(bytes).unwrap();
        assert_eq!(mirror.find(b"a.example").unwrap(), []);
        assert_eq!(mirror.of_key(Key::of(b"a.example")).unwrap(), [forged]);
    }

    #[test]
    fn no_cut_and_no_changed_byte_gives_a_wrong_answer() {
        let all: Vec<Attribute> = (0..200).map(|id| attribute(&format!("host-{id}.example"), id)).collect();
        let good = mirror(&all);
        for cut in (0..good.len()).step_by(7) {
            assert!(Mirror::open(good[..cut].to_vec()).is_err(), "cut at {cut}");
        }
        let whole: BTreeMap<&[u8], &Attribute> = all
            .iter()
            .map(|a| match &a.indicator {
                Indicator::Text(text) => (text.as_bytes(), a),
                Indicator::Sum(_) => panic!(),
            })
            .collect();
        for at in (0..good.len()).step_by(3) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            let Ok(mirror) = Mirror::open(bytes) else { continue };
            let mut errors = 0;
            for (value, attribute) in &whole {
                match mirror.find(value) {
                    Ok(found) => assert_eq!(found, [(*attribute).clone()], "byte {at}"),
                    Err(_) => errors += 1,
                }
            }
            assert!(errors > 0, "byte {at} is covered by nothing");
        }
    }

    proptest! {
        #[test]
        fn a_mirror_agrees_with_a_map(given in proptest::collection::vec((0..60u64, 0..1000u64), 0..200)) {
            let all: Vec<Attribute> = given.iter().map(|(host, id)| attribute(&format!("h{host}.example"), *id)).collect();
            let mirror = Mirror::open(mirror(&all)).unwrap();
            for host in 0..60 {
                let value = format!("h{host}.example");
                let naive: Vec<&Attribute> = all.iter().filter(|a| a.indicator == Indicator::Text(value.clone())).collect();
                let found = mirror.find(value.as_bytes()).unwrap();
                prop_assert!(found.iter().eq(naive));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Mirror::open(bytes.clone()).is_err());
            prop_assert!(Mirror::open([&MAGIC[..], &FORMAT.to_le_bytes(), &bytes].concat()).is_err());
        }
    }
}
