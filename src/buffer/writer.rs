//! [`Writer`]: puts something together in memory that has room for all of it.
//!
//! Stands where Envoy's codec reserves memory for a head and copies into it (`StreamEncoderImpl::reserveBuffer` and
//! `copyToBuffer` of `source/common/http/http1/codec_impl.cc`).

use std::ops::Range;

/// Short texts are copied with what stands behind them, up to this length: that takes no look at how long they are.
const SHORT: usize = 32;

/// Memory that is filled from its begin on. What does not fit makes it panic: who asks for it knows how much is enough.
pub struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Writer { rest: memory }
    }

    /// How much room is left.
    pub(super) fn room(&self) -> usize {
        self.rest.len()
    }

    #[inline(always)]
    fn skip(&mut self, n: usize) {
        self.rest = &mut std::mem::take(&mut self.rest)[n..];
    }

    /// Writes `text`.
    #[inline(always)]
    pub fn put(&mut self, text: &[u8]) {
        self.rest[..text.len()].copy_from_slice(text);
        self.skip(text.len());
    }

    /// Writes the first `length` bytes of `text`.
    #[inline(always)]
    pub fn put_first<const N: usize>(&mut self, text: &[u8; N], length: usize) {
        match self.rest.first_chunk_mut() {
            Some(room) => *room = *text,
            None => self.rest[..length].copy_from_slice(&text[..length]),
        }
        self.skip(length);
    }

    /// Writes a part of `text`.
    #[inline(always)]
    pub fn put_part(&mut self, text: &[u8], part: Range<usize>) {
        let length = part.len();
        if length <= SHORT
            && let Some(begin) = text.get(part.start..).and_then(|text| text.first_chunk::<SHORT>())
            && let Some(room) = self.rest.first_chunk_mut()
        {
            *room = *begin;
            return self.skip(length);
        }
        self.put(&text[part]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `write` leaves in memory of this size, and how much room.
    fn written(size: usize, write: impl FnOnce(&mut Writer<'_>)) -> (Vec<u8>, usize) {
        let mut memory = vec![b'.'; size];
        let mut writer = Writer::new(&mut memory);
        write(&mut writer);
        let room = writer.room();
        memory.truncate(size - room);
        (memory, room)
    }

    #[test]
    fn parts_are_written_wherever_they_lie_and_end() {
        let text: Vec<u8> = (0..100).collect();
        for start in 0..=100 {
            for end in start..=100 {
                for room in [0, SHORT] {
                    let size = 2 * (end - start) + 1 + room;
                    let (all, left) = written(size, |out| {
                        out.put_part(&text, start..end);
                        out.put(b"-");
                        out.put_part(&text, start..end);
                    });
                    assert_eq!(all, [&text[start..end], b"-", &text[start..end]].concat());
                    assert_eq!(left, room);
                }
            }
        }
    }

    #[test]
    fn the_first_bytes_are_written_with_and_without_room_for_all() {
        for room in 0..9 {
            assert_eq!(written(3 + room, |out| out.put_first(b"abcdefgh", 3)), (b"abc".to_vec(), room));
        }
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn nothing_is_written_beyond_the_memory() {
        written(3, |out| out.put_first(b"abcd", 4));
    }
}
