//! The buffer. Mirrors Envoy's `source/common/buffer/buffer_impl.cc` (`OwnedImpl`).

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use super::slice::{SLICE_SIZE, SMALL_SLICE_SIZE, Slice};
use super::slice_queue::SliceQueue;
use super::writer::Writer;
use crate::common::socket_io;

/// Pieces up to this many bytes are copied into the destination's last slice instead of moved
/// (Envoy copies below 512): one write of one piece costs less than a slice changing hands.
const COPY_THRESHOLD: usize = SMALL_SLICE_SIZE;

/// Slices written by one `writev` (Envoy: 16).
const MAX_WRITE_SLICES: usize = 16;

/// Below this much free space a read starts a new slice.
const MIN_READ_SPACE: usize = SLICE_SIZE / 4;

/// A queue of bytes.
#[derive(Default)]
pub struct Buffer {
    slices: SliceQueue,
    length: usize,
}

/// What one read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadOutcome {
    /// Bytes read; 0 is the end of the stream.
    pub bytes: usize,
    /// Bytes asked for; fewer read means that the socket is empty for now.
    pub asked: usize,
}

impl Buffer {
    /// An empty buffer; it allocates nothing.
    pub const fn new() -> Self {
        Buffer { slices: SliceQueue::new(), length: 0 }
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a copy of `data`.
    pub fn add(&mut self, mut data: &[u8]) {
        self.length += data.len();
        if let Some(last) = self.slices.back_mut() {
            let n = last.append(data);
            data = &data[n..];
        }
        while !data.is_empty() {
            let mut slice = Slice::for_data(data.len());
            let n = slice.append(data);
            data = &data[n..];
            self.slices.push_back(slice);
        }
    }

    /// Has `write` put up to `most` bytes behind what is there, in one piece.
    #[inline(always)]
    pub fn write_with(&mut self, most: usize, write: impl FnOnce(&mut Writer<'_>)) {
        let mut slice = if most <= SLICE_SIZE { Slice::for_data(most) } else { Slice::unpooled(most) };
        let mut writer = Writer::new(slice.space());
        write(&mut writer);
        let written = writer.written();
        if written > 0 {
            slice.commit(written);
            self.length += written;
            self.slices.push_back(slice);
        }
    }

    /// Puts a copy of `data` in front.
    pub fn prepend(&mut self, data: &[u8]) {
        let mut front = Buffer::new();
        front.add(data);
        front.move_from(self);
        *self = front;
    }

    /// Drops the first `n` bytes; all of them when there are fewer.
    pub fn drain(&mut self, n: usize) {
        let mut left = n.min(self.length);
        self.length -= left;
        while left > 0 {
            let Some(first) = self.slices.front_mut() else { return };
            let here = left.min(first.len());
            first.drain(here);
            left -= here;
            if first.is_empty() {
                self.slices.pop_front();
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.slices.clear();
        self.length = 0;
    }

    /// Moves all of `other` to the end of this buffer.
    #[inline(always)]
    pub fn move_from(&mut self, other: &mut Buffer) {
        if self.length == 0 {
            // What is without bytes may have a slice that is.
            self.slices.clear();
            std::mem::swap(self, other);
            return;
        }
        self.push_all(other);
    }

    fn push_all(&mut self, other: &mut Buffer) {
        while let Some(slice) = other.slices.pop_front() {
            self.push_slice(slice);
        }
        other.length = 0;
    }

    /// Moves the first `n` bytes of `other` to the end of this buffer. A slice that goes only in
    /// part is copied.
    pub fn move_n_from(&mut self, other: &mut Buffer, n: usize) {
        if n >= other.length {
            self.move_from(other);
            return;
        }
        let mut left = n;
        while left > 0 {
            let Some(first) = other.slices.front_mut() else { return };
            if first.len() <= left {
                left -= first.len();
                other.length -= first.len();
                if let Some(slice) = other.slices.pop_front() {
                    self.push_slice(slice);
                }
            } else {
                self.add(&first.data()[..left]);
                first.drain(left);
                other.length -= left;
                left = 0;
            }
        }
    }

    fn push_slice(&mut self, slice: Slice) {
        if slice.is_empty() {
            return;
        }
        if slice.len() <= COPY_THRESHOLD
            && let Some(last) = self.slices.back_mut()
            && last.space_len() >= slice.len()
        {
            last.append(slice.data());
            self.length += slice.len();
            return;
        }
        self.length += slice.len();
        self.slices.push_back(slice);
    }

    /// The bytes of the first slice; empty when the buffer is.
    pub fn front(&self) -> &[u8] {
        self.slices.front().map_or(&[], |s| s.data())
    }

    /// The bytes slice by slice.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.slices.iter().map(Slice::data)
    }

    /// The first `n` bytes (all when there are fewer) as one piece, copied together if need be.
    pub fn linearize(&mut self, n: usize) -> &[u8] {
        let n = n.min(self.length);
        if self.front().len() < n {
            let mut joined = if n <= SLICE_SIZE { Slice::for_data(n) } else { Slice::unpooled(n) };
            let mut left = n;
            while left > 0 {
                let Some(first) = self.slices.front_mut() else { break };
                let here = left.min(first.len());
                joined.append(&first.data()[..here]);
                first.drain(here);
                left -= here;
                if first.is_empty() {
                    self.slices.pop_front();
                }
            }
            self.slices.push_front(joined);
        }
        &self.front()[..n]
    }

    /// All bytes as a vector.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.length);
        self.chunks().for_each(|c| out.extend_from_slice(c));
        out
    }

    /// A copy of all bytes in a buffer of its own.
    pub fn duplicate(&self) -> Buffer {
        let mut copy = Buffer::new();
        self.chunks().for_each(|c| copy.add(c));
        copy
    }

    /// Reads once from the socket `fd` into free space.
    ///
    /// # Errors
    /// Those of `recv(2)`, `WouldBlock` among them.
    pub fn read_from(&mut self, fd: BorrowedFd<'_>) -> io::Result<ReadOutcome> {
        if let Some(last) = self.slices.back_mut().filter(|s| s.space_len() >= MIN_READ_SPACE) {
            let space = last.space();
            let asked = space.len();
            let bytes = socket_io::recv(fd, space)?;
            last.commit(bytes);
            self.length += bytes;
            return Ok(ReadOutcome { bytes, asked });
        }
        let mut slice = Slice::new();
        let bytes = socket_io::recv(fd, slice.space())?;
        if bytes > 0 {
            slice.commit(bytes);
            self.slices.push_back(slice);
            self.length += bytes;
        }
        Ok(ReadOutcome { bytes, asked: SLICE_SIZE })
    }

    /// Writes as much as one system call takes and drains that; returns the bytes written.
    ///
    /// # Errors
    /// Those of `send(2)` and `writev(2)`, `WouldBlock` among them.
    pub fn write_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let written = if self.slices.len() == 1 {
            socket_io::send(fd, self.front())?
        } else {
            let mut pieces = [IoSlice::new(&[]); MAX_WRITE_SLICES];
            let mut count = 0;
            for (piece, chunk) in pieces.iter_mut().zip(self.chunks()) {
                *piece = IoSlice::new(chunk);
                count += 1;
            }
            nix::sys::uio::writev(fd, &pieces[..count])?
        };
        self.drain(written);
        Ok(written)
    }
}

impl io::Write for Buffer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.add(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<&[u8]> for Buffer {
    fn from(data: &[u8]) -> Self {
        let mut buffer = Buffer::new();
        buffer.add(data);
        buffer
    }
}

impl From<&str> for Buffer {
    fn from(data: &str) -> Self {
        Buffer::from(data.as_bytes())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:?})", String::from_utf8_lossy(&self.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn pattern(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn add_and_drain_across_slices() {
        let data = pattern(40_000);
        let mut b = Buffer::from(&data[..]);
        assert_eq!(b.chunks().count(), 3);
        b.drain(20_000);
        assert_eq!(b.to_vec(), &data[20_000..]);
        b.drain(usize::MAX);
        assert!(b.is_empty());
        assert_eq!(b.chunks().count(), 0);
    }

    #[test]
    fn move_takes_whole_slices_and_copies_parts() {
        let data = pattern(40_000);
        let mut from = Buffer::from(&data[..]);
        let mut to = Buffer::from("head");
        to.move_n_from(&mut from, 20_000);
        assert_eq!(to.len(), 20_004);
        assert_eq!(from.len(), 20_000);
        to.move_from(&mut from);
        assert!(from.is_empty());
        assert_eq!(&to.to_vec()[4..], &data[..]);
    }

    #[test]
    fn small_pieces_are_joined() {
        let mut to = Buffer::from("head");
        to.move_from(&mut Buffer::from("body"));
        assert_eq!(to.chunks().count(), 1);
        assert_eq!(to.to_vec(), b"headbody");
    }

    #[test]
    fn linearize_joins_the_front_and_keeps_the_rest() {
        let data = pattern(50_000);
        let mut b = Buffer::from(&data[..]);
        assert_eq!(b.linearize(30_000), &data[..30_000]);
        assert_eq!(b.len(), 50_000);
        assert_eq!(b.to_vec(), data);
        assert_eq!(b.linearize(usize::MAX).len(), 50_000);
    }

    #[test]
    fn prepend_goes_in_front() {
        let mut b = Buffer::from("world");
        b.prepend(b"hello ");
        assert_eq!(b.to_vec(), b"hello world");
    }

    #[test]
    fn socket_round_trip_and_short_read() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let data = pattern(30_000);
        let mut out = Buffer::from(&data[..]);
        assert_eq!(out.write_to(a.as_fd()).unwrap(), 30_000);
        assert!(out.is_empty());
        let mut input = Buffer::new();
        let mut last = ReadOutcome { bytes: 0, asked: 0 };
        while input.len() < 30_000 {
            last = input.read_from(b.as_fd()).unwrap();
        }
        assert_eq!(input.to_vec(), data);
        assert!(last.bytes < last.asked, "the socket is empty now");
    }
}
