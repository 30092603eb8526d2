//! [`Writer`]: puts something together in memory that has room for all of it.
//!
//! Stands where Envoy's codec reserves memory for a head and copies into it (`ConnectionImpl::reserveBuffer` and
//! `ConnectionImpl::copyToBuffer` of `source/common/http/http1/codec_impl.cc`).

use std::ops::Range;

/// Short texts are copied with what stands behind them, up to this length: that takes no look at how long they are.
const SHORT: usize = 48;

/// Memory that is filled from its begin on. What does not fit makes it panic: who asks for it knows how much is enough.
pub struct Writer<'a> {
    memory: &'a mut [u8],
    at: usize,
}

/// Functions are inlined, so that the place is kept in a register.
impl<'a> Writer<'a> {
    #[inline(always)]
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Writer { memory, at: 0 }
    }

    /// How much was written.
    #[inline(always)]
    pub(super) fn written(&self) -> usize {
        self.at
    }

    /// Writes `text`.
    #[inline(always)]
    pub fn put(&mut self, text: &[u8]) {
        self.memory[self.at..][..text.len()].copy_from_slice(text);
        self.at += text.len();
    }

    /// Writes the first `length` bytes of `text`.
    #[inline(always)]
    pub fn put_first<const N: usize>(&mut self, text: &[u8; N], length: usize) {
        debug_assert!(length <= N);
        match self.memory[self.at..].first_chunk_mut() {
            Some(room) => *room = *text,
            None => put_last(&mut self.memory[self.at..], text, length),
        }
        self.at += length;
    }

    /// Writes a part of `text`.
    #[inline(always)]
    pub fn put_part(&mut self, text: &[u8], part: Range<usize>) {
        match text[part.start..].first_chunk::<SHORT>() {
            Some(begin) if part.len() <= SHORT => self.put_first(begin, part.len()),
            _ => self.put(&text[part]),
        }
    }
}

/// Writes what is at the end of the memory.
#[cold]
#[inline(never)]
fn put_last(memory: &mut [u8], text: &[u8], length: usize) {
    memory[..length].copy_from_slice(&text[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `write` leaves in memory of this size, and how much room.
    fn written(size: usize, write: impl FnOnce(&mut Writer<'_>)) -> (Vec<u8>, usize) {
        let mut memory = vec![b'.'; size];
        let mut writer = Writer::new(&mut memory);
        write(&mut writer);
        let written = writer.written();
        memory.truncate(written);
        (memory, size - written)
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
