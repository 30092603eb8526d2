//! [`HeadFields`]: the fields of a head on their way into a map.
//!
//! Differs from Envoy, whose map has a copy of each name and value: what of a head is to be in the map goes there in one
//! piece, with what stands between its values.

use std::ops::Range;

use super::{Entry, HeaderId, HeaderMap, HeaderMapFull, MAX_ARENA, MAX_ENTRIES};

/// Adds fields, in their order, that lie in a head. The map is to be used again once this is dropped.
pub(in crate::http) struct HeadFields<'a> {
    map: &'a mut HeaderMap,
    head: &'a [u8],
    /// How much of the head has been copied, or left out.
    copied: usize,
    /// Where the last value ends.
    end: usize,
    /// The content's length is there more than once.
    second_length: bool,
}

impl<'a> HeadFields<'a> {
    pub fn new(map: &'a mut HeaderMap, head: &'a [u8]) -> Self {
        HeadFields { map, head, copied: 0, end: 0, second_length: false }
    }

    pub fn head(&self) -> &'a [u8] {
        self.head
    }

    /// Where a part of the head begins.
    #[inline]
    fn place(&self, part: &[u8]) -> usize {
        part.as_ptr() as usize - self.head.as_ptr() as usize
    }

    pub fn has_second_length(&self) -> bool {
        self.second_length
    }

    /// Adds a field of a known name, as [`HeaderMap::add_parsed`] does; its value is a part of the head.
    #[inline]
    pub fn add_known(&mut self, id: HeaderId, value: &'a [u8]) -> Result<(), HeaderMapFull> {
        let first = &mut self.map.first[id as usize];
        if *first != super::NONE {
            return self.add_again(id, value);
        }
        *first = self.map.entries.len() as u16;
        let added = self.push(Some(id), 0..0, value);
        if added.is_err() {
            self.map.first[id as usize] = super::NONE;
        }
        added
    }

    /// Adds a field of another name, which is a part of the head, too.
    #[inline(never)]
    pub fn add_unknown(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), HeaderMapFull> {
        let name_end = self.place(name) + name.len();
        if name_end - self.copied > MAX_ARENA - self.map.arena.len() {
            return Err(HeaderMapFull);
        }
        self.copy(name_end);
        let end = self.map.arena.len();
        let place = end - name.len()..end;
        self.map.arena[place.clone()].make_ascii_lowercase();
        let length = name.len();
        self.push(None, place, value)?;
        self.map.wasted -= length; // it stands between two values, but is used
        Ok(())
    }

    /// A repeated one may be joined to the first one.
    #[cold]
    fn add_again(&mut self, id: HeaderId, value: &'a [u8]) -> Result<(), HeaderMapFull> {
        self.second_length |= id == HeaderId::ContentLength;
        self.copy(self.end);
        self.end = self.place(value) + value.len();
        self.copied = self.end;
        self.map.add_known(id, value)
    }

    #[inline]
    fn push(
        &mut self,
        id: Option<HeaderId>,
        name: Range<usize>,
        value: &'a [u8],
    ) -> Result<(), HeaderMapFull> {
        let place = self.place(value);
        let map = &mut *self.map;
        let start = map.arena.len() + (place - self.copied);
        if map.entries.len() >= MAX_ENTRIES || start + value.len() > MAX_ARENA {
            return Err(HeaderMapFull);
        }
        map.entries.push(Entry {
            name_start: name.start as u32,
            name_len: name.len() as u32,
            id,
            value_start: start as u32,
            value_len: value.len() as u32,
            value_room: 0,
        });
        map.live += 1;
        map.wasted += place - self.end;
        self.end = place + value.len();
        Ok(())
    }

    fn copy(&mut self, end: usize) {
        if end > self.copied {
            self.map.arena.extend_from_slice(&self.head[self.copied..end]);
            self.copied = end;
        }
    }
}

impl Drop for HeadFields<'_> {
    #[inline]
    fn drop(&mut self) {
        self.copy(self.end);
    }
}
