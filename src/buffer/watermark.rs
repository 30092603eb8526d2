//! A buffer that tells when it has become too full and when it is low again.
//!
//! Mirrors Envoy's `source/common/buffer/watermark_buffer.cc`. Envoy calls functions from inside the
//! buffer; here the crossing is a return value, so that the owner calls out with nothing borrowed.

use super::Buffer;

/// A [`Buffer`] with a high and a low watermark.
#[derive(Default, Debug)]
pub struct WatermarkBuffer {
    /// The bytes. After changing them directly call [`WatermarkBuffer::went_above`] or
    /// [`WatermarkBuffer::went_below`].
    pub buffer: Buffer,
    high: u32,
    above: bool,
}

impl WatermarkBuffer {
    /// Sets the high watermark in bytes and the low one to half of it; 0 turns both off.
    pub fn set_watermarks(&mut self, high: usize) {
        self.high = u32::try_from(high).unwrap_or(u32::MAX);
    }

    /// The high watermark in bytes; 0 when off.
    pub fn high_watermark(&self) -> usize {
        self.high as usize
    }

    /// Whether the buffer is between a crossing of the high and one of the low watermark.
    pub fn is_above(&self) -> bool {
        self.above
    }

    /// To call after adding: true once when the length has come above the high watermark.
    #[must_use]
    pub fn went_above(&mut self) -> bool {
        if self.above || self.high == 0 || self.buffer.len() <= self.high as usize {
            return false;
        }
        self.above = true;
        true
    }

    /// To call after draining: true once when the length has come below the low watermark.
    #[must_use]
    pub fn went_below(&mut self) -> bool {
        if !self.above || (self.high != 0 && self.buffer.len() >= self.high as usize / 2) {
            return false;
        }
        self.above = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossings_are_told_once() {
        let mut w = WatermarkBuffer::default();
        w.set_watermarks(10);
        w.buffer.add(b"0123456789");
        assert!(!w.went_above(), "at the mark is not above it");
        w.buffer.add(b"x");
        assert!(w.went_above());
        assert!(!w.went_above());
        w.buffer.drain(6);
        assert!(!w.went_below(), "5 is the low mark, not below it");
        w.buffer.drain(1);
        assert!(w.went_below());
        assert!(!w.went_below());
    }

    #[test]
    fn zero_is_off() {
        let mut w = WatermarkBuffer::default();
        w.buffer.add(&[0; 100_000]);
        assert!(!w.went_above());
    }
}
