//! What is saved, as bytes: numbers in as few as they need, texts with their length.

/// Writes.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Seven bits a byte, the lowest first.
    pub fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }
    /// A number that may be negative: its sign is its lowest bit.
    pub fn signed(&mut self, n: i64) {
        self.number((n << 1 ^ n >> 63) as u64);
    }
    pub fn byte(&mut self, n: u8) {
        self.0.push(n);
    }
    /// Four bytes.
    pub fn f32(&mut self, x: f32) {
        self.0.extend_from_slice(&x.to_le_bytes());
    }
    /// Eight bytes.
    pub fn f64(&mut self, x: f64) {
        self.0.extend_from_slice(&x.to_le_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }
    /// A length, and as many.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

/// What is wrong with saved bytes.
pub const CUT: &str = "it ends too early or holds a number that cannot be";

/// Reads; an error is where the bytes end too early, or cannot have been written by us.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'b>(pub &'b [u8]);

impl<'b> Reader<'b> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CUT)?;
        self.0 = rest;
        Ok(*taken)
    }
    pub fn byte(&mut self) -> Result<u8, &'static str> {
        self.array().map(|[byte]| byte)
    }
    pub fn number(&mut self) -> Result<u64, &'static str> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(CUT)
    }
    /// A number that fits, such as a `u32`.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Result<T, &'static str> {
        T::try_from(self.number()?).map_err(|_| CUT)
    }
    /// A count of things of which each takes a byte at least: no more than there are bytes.
    pub fn count(&mut self) -> Result<usize, &'static str> {
        let n = self.small::<usize>()?;
        if n > self.0.len() { Err(CUT) } else { Ok(n) }
    }
    pub fn signed(&mut self) -> Result<i64, &'static str> {
        self.number().map(|n| (n >> 1) as i64 ^ -((n & 1) as i64))
    }
    pub fn f32(&mut self) -> Result<f32, &'static str> {
        self.array().map(f32::from_le_bytes)
    }
    pub fn f64(&mut self) -> Result<f64, &'static str> {
        self.array().map(f64::from_le_bytes)
    }
    pub fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn bytes(&mut self) -> Result<&'b [u8], &'static str> {
        let len = self.count()?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }
    pub fn text(&mut self) -> Result<&'b str, &'static str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| CUT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_cuts_are_seen(n in any::<u64>(), i in any::<i64>(), x in any::<f64>(), text in ".{0,20}") {
            let mut writer = Writer::default();
            writer.number(n);
            writer.signed(i);
            writer.f64(x);
            writer.f32(1.5);
            writer.text(&text);
            let read = |bytes| {
                let mut reader = Reader(bytes);
                let read = (reader.number()?, reader.signed()?, reader.f64()?.to_bits(), reader.f32()?, reader.text()?);
                Ok::<_, &'static str>((read, reader.0.len()))
            };
            prop_assert_eq!(read(&writer.0), Ok(((n, i, x.to_bits(), 1.5, text.as_str()), 0)));
            for end in 0..writer.0.len() {
                prop_assert_eq!(read(&writer.0[..end]), Err(CUT));
            }
        }
    }
}
