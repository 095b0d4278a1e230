//! Bytes to alert; the only module that names simd-json.

/// A frame that parses on first use.
#[derive(Debug)]
pub struct Alert<'f> {
    frame: &'f [u8],
}

impl<'f> Alert<'f> {
    /// The frame as it was read.
    pub fn frame(&self) -> &'f [u8] {
        self.frame
    }
}
