//! The headers of one message.
//!
//! Mirrors Envoy's `source/common/http/header_map_impl.cc`: insertion order is kept, known names are
//! found in constant time, and most known names given twice become one value. Differs in layout: all
//! bytes lie in one arena, which is recycled from message to message of a thread. Values grow in place where
//! they can, and what is left behind is given back once it is half of the arena.

mod head_fields;

pub(super) use head_fields::HeadFields;

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, Range, RangeInclusive};
use std::rc::Rc;

use super::headers::{COUNT, HeaderId, LONGEST, Repeat};
use super::http1::OriginalNames;
use crate::buffer::Writer;

/// Headers shared between the stages of one stream.
#[derive(Clone, Debug)]
pub struct HeaderMapPtr(Rc<RefCell<HeaderMap>>);

const NONE: u16 = u16::MAX;
const REMOVED: u32 = u32::MAX;
/// Idle arenas that a thread keeps.
const POOL_MAPS: usize = 512;
/// Shared maps that a thread keeps.
const SHARED_MAPS: usize = 512;
/// What a new arena has room for.
const NEW_ARENA: usize = 512;
const NEW_ENTRIES: usize = 16;
/// Arenas that grew beyond this are not recycled.
const MAX_POOLED_ARENA: usize = 4096;
/// Nor are lists of fields.
const MAX_POOLED_ENTRIES: usize = 256;
/// What an arena may hold: places in it are 32-bit numbers.
const MAX_ARENA: usize = if cfg!(test) { 1 << 20 } else { u32::MAX as usize };
/// What a map may hold: places in it are 16-bit numbers, and [`NONE`] is none of them.
const MAX_ENTRIES: usize = NONE as usize;
/// Bytes that no field uses are put up with below this.
const MAX_SMALL_WASTE: usize = 4096;
/// A value that is moved because it grows gets room to double, from this length on.
const ROOM_FROM: usize = 128;

thread_local! {
    static POOL: RefCell<Vec<(Vec<u8>, Vec<Entry>)>> = const { RefCell::new(Vec::new()) };
    static SHARED: RefCell<Vec<Rc<RefCell<HeaderMap>>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy)]
struct Entry {
    /// Place of the name in the arena, unless `id` is known.
    name_start: u32,
    name_len: u32,
    id: Option<HeaderId>,
    /// [`REMOVED`] once the field is gone.
    value_start: u32,
    value_len: u32,
    /// Bytes behind the value that are kept for it.
    value_room: u32,
}

impl Entry {
    fn value(&self) -> Range<usize> {
        let start = self.value_start as usize;
        start..start + self.value_len as usize
    }

    fn name(&self) -> Range<usize> {
        let start = self.name_start as usize;
        start..start + self.name_len as usize
    }

    /// Where the value and the room behind it end.
    fn end(&self) -> usize {
        self.value().end + self.value_room as usize
    }
}

impl HeaderMapPtr {
    /// No headers, in a map that may have been another message's.
    #[inline(always)]
    pub(super) fn recycled() -> Self {
        let pooled = SHARED.try_with(|maps| maps.borrow_mut().pop()).ok().flatten();
        match pooled {
            Some(map) => {
                map.borrow_mut().clear();
                HeaderMapPtr(map)
            }
            None => HeaderMap::new().shared(),
        }
    }
}

impl Deref for HeaderMapPtr {
    type Target = RefCell<HeaderMap>;

    #[inline(always)]
    fn deref(&self) -> &RefCell<HeaderMap> {
        &self.0
    }
}

/// The last one keeps the map for the next message: it is used soon, while it is near.
impl Drop for HeaderMapPtr {
    #[inline]
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 1 {
            self.keep();
        }
    }
}

impl HeaderMapPtr {
    fn keep(&self) {
        let _ = SHARED.try_with(|maps| {
            let mut maps = maps.borrow_mut();
            if maps.len() < SHARED_MAPS && self.0.borrow().may_be_kept() {
                maps.push(self.0.clone());
            }
        });
    }
}

/// A field does not fit into its map, which is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderMapFull;

/// An ordered list of header fields with lower-case names.
pub struct HeaderMap {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// The first field of each known name.
    first: [u16; COUNT],
    live: usize,
    /// Bytes of the arena that no field uses.
    wasted: usize,
    /// How the names were written, for who is to write them so again.
    original_names: Option<Rc<OriginalNames>>,
}

impl Default for HeaderMap {
    fn default() -> Self {
        HeaderMap::new()
    }
}

impl HeaderMap {
    /// No headers.
    #[inline(always)]
    pub fn new() -> Self {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        let (arena, entries) =
            pooled.unwrap_or_else(|| (Vec::with_capacity(NEW_ARENA), Vec::with_capacity(NEW_ENTRIES)));
        HeaderMap { arena, entries, first: [NONE; COUNT], live: 0, wasted: 0, original_names: None }
    }

    fn may_be_kept(&self) -> bool {
        self.arena.capacity() <= MAX_POOLED_ARENA && self.entries.capacity() <= MAX_POOLED_ENTRIES
    }

    #[inline(always)]
    fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.first = [NONE; COUNT];
        (self.live, self.wasted) = (0, 0);
        self.original_names = None;
    }

    /// Wraps the map for sharing.
    #[inline(always)]
    pub fn shared(self) -> HeaderMapPtr {
        HeaderMapPtr(Rc::new(RefCell::new(self)))
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes of all names and values.
    pub fn byte_size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    fn fits(&self, bytes: usize) -> Result<(), HeaderMapFull> {
        if bytes <= MAX_ARENA - self.arena.len() { Ok(()) } else { Err(HeaderMapFull) }
    }

    /// Adds a field whose name, unless it has an `id`, is at the arena's end, from `name_start` on.
    #[inline(always)]
    fn push(&mut self, name_start: usize, id: Option<HeaderId>, value: &[u8]) -> Result<(), HeaderMapFull> {
        let value_start = self.arena.len();
        let full = self.entries.len() >= MAX_ENTRIES || self.fits(value.len()).is_err();
        if full {
            self.arena.truncate(name_start);
            return Err(HeaderMapFull);
        }
        self.arena.extend_from_slice(value);
        self.entries.push(Entry {
            name_start: name_start as u32,
            name_len: (value_start - name_start) as u32,
            id,
            value_start: value_start as u32,
            value_len: value.len() as u32,
            value_room: 0,
        });
        self.live += 1;
        Ok(())
    }

    fn value_of(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.value()]
    }

    fn name_of(&self, entry: &Entry) -> &[u8] {
        match entry.id {
            Some(id) => id.name().as_bytes(),
            None => &self.arena[entry.name()],
        }
    }

    /// Gives back the bytes that no field uses, once they are many and half of all.
    fn compact(&mut self) {
        if self.wasted <= MAX_SMALL_WASTE || self.wasted * 2 <= self.arena.len() {
            return;
        }
        let mut arena = Vec::with_capacity(self.arena.len() - self.wasted);
        for entry in self.entries.iter_mut().filter(|e| e.value_start != REMOVED) {
            let (name, bytes) = (entry.name(), entry.value_start as usize..entry.end());
            entry.name_start = arena.len() as u32;
            arena.extend_from_slice(&self.arena[name]);
            entry.value_start = arena.len() as u32;
            arena.extend_from_slice(&self.arena[bytes]);
        }
        self.arena = arena;
        self.wasted = 0;
    }

    /// Adds a field as it was received: the name is lower-cased, and a repeated known name is joined
    /// to the first one where Envoy does so.
    ///
    /// # Errors
    /// It does not fit.
    pub fn add_parsed(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderMapFull> {
        match HeaderId::find(name) {
            Some(id) => self.add_known(id, value),
            None => self.add_unknown(name, value),
        }
    }

    /// Adds a field, under its name in lower case, that is none of the known ones.
    pub(super) fn add_unknown(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderMapFull> {
        self.fits(name.len())?;
        let start = self.arena.len();
        self.arena.extend_from_slice(name);
        self.arena[start..].make_ascii_lowercase();
        self.push(start, None, value)
    }

    /// Adds a field, unless it does not fit; `name` must be in lower case.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        debug_assert!(!name.bytes().any(|b| b.is_ascii_uppercase()));
        let _ = self.add_parsed(name.as_bytes(), value);
    }

    pub(super) fn add_known(&mut self, id: HeaderId, value: &[u8]) -> Result<(), HeaderMapFull> {
        let join = self.has(id)
            && match id.repeat() {
                Repeat::Comma => true,
                Repeat::Separate => false,
                Repeat::CommaInRequests => !self.has(HeaderId::Status),
                Repeat::CommaInResponses => self.has(HeaderId::Status),
            };
        if join { self.try_append(id, value, ",") } else { self.push_known(id, value) }
    }

    fn push_known(&mut self, id: HeaderId, value: &[u8]) -> Result<(), HeaderMapFull> {
        self.push(self.arena.len(), Some(id), value)?;
        if self.first[id as usize] == NONE {
            self.first[id as usize] = (self.entries.len() - 1) as u16;
        }
        Ok(())
    }

    /// The value of the first field of this name.
    #[inline]
    pub fn get(&self, id: HeaderId) -> Option<&[u8]> {
        let index = self.first[id as usize];
        if index == NONE {
            return None;
        }
        Some(self.value_of(&self.entries[index as usize]))
    }

    /// The value as text; `None` also when it is not UTF-8.
    pub fn get_str(&self, id: HeaderId) -> Option<&str> {
        self.get(id).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn has(&self, id: HeaderId) -> bool {
        self.first[id as usize] != NONE
    }

    /// Whether there is a field of any of these names.
    #[inline(always)]
    pub fn has_any(&self, names: RangeInclusive<HeaderId>) -> bool {
        let places = &self.first[*names.start() as usize..=*names.end() as usize];
        // Without a look at each of them.
        places.iter().fold(NONE, |all, place| all & place) != NONE
    }

    /// The values of all fields of a name.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
    }

    /// The number of fields of a known name.
    pub fn count(&self, id: HeaderId) -> usize {
        self.entries.iter().filter(|e| e.id == Some(id) && e.value_start != REMOVED).count()
    }

    /// Replaces the value, in place when the name is there, else at the end; unless it does not fit.
    #[inline(always)]
    pub fn set(&mut self, id: HeaderId, value: &[u8]) {
        let index = self.first[id as usize];
        if index != NONE {
            return self.replace(index, value);
        }
        let (start, place) = (self.arena.len(), self.entries.len() as u16);
        if self.push(start, Some(id), value).is_ok() {
            self.first[id as usize] = place;
        }
    }

    fn replace(&mut self, index: u16, value: &[u8]) {
        let entry = &mut self.entries[index as usize];
        let there = (entry.value_len + entry.value_room) as usize;
        if value.len() <= there {
            let start = entry.value_start as usize;
            self.arena[start..start + value.len()].copy_from_slice(value);
            (entry.value_len, entry.value_room) = (value.len() as u32, 0);
            self.wasted += there - value.len();
        } else if value.len() <= MAX_ARENA - self.arena.len() {
            entry.value_start = self.arena.len() as u32;
            (entry.value_len, entry.value_room) = (value.len() as u32, 0);
            self.arena.extend_from_slice(value);
            self.wasted += there;
        }
        self.compact();
    }

    /// Replaces the value with a number.
    pub fn set_int(&mut self, id: HeaderId, value: u64) {
        match value {
            0..10 => self.set(id, &[b'0' + value as u8]),
            _ => self.set(id, itoa::Buffer::new().format(value).as_bytes()),
        }
    }

    /// Appends to the value behind `delimiter`, or adds the field; unless it does not fit.
    pub fn append(&mut self, id: HeaderId, value: &[u8], delimiter: &str) {
        let _ = self.try_append(id, value, delimiter);
    }

    fn try_append(&mut self, id: HeaderId, value: &[u8], delimiter: &str) -> Result<(), HeaderMapFull> {
        let index = self.first[id as usize];
        if index == NONE {
            return self.push_known(id, value);
        }
        if value.is_empty() {
            return Ok(());
        }
        let old = self.entries[index as usize];
        let delimiter = if old.value_len == 0 { &[] } else { delimiter.as_bytes() };
        let more = delimiter.len() + value.len();
        let mut new = Entry { value_len: old.value_len + more as u32, value_room: 0, ..old };
        if old.value_room as usize >= more {
            new.value_room = old.value_room - more as u32;
            let (first, second) = self.arena[old.value().end..old.end()].split_at_mut(delimiter.len());
            first.copy_from_slice(delimiter);
            second[..value.len()].copy_from_slice(value);
        } else if old.end() == self.arena.len() {
            self.fits(more)?;
            self.arena.truncate(old.value().end);
            self.arena.extend_from_slice(delimiter);
            self.arena.extend_from_slice(value);
        } else {
            let length = old.value_len as usize + more;
            let room = if length < ROOM_FROM { 0 } else { length };
            self.fits(length + room)?;
            new.value_start = self.arena.len() as u32;
            new.value_room = room as u32;
            self.arena.extend_from_within(old.value());
            self.arena.extend_from_slice(delimiter);
            self.arena.extend_from_slice(value);
            self.arena.resize(self.arena.len() + room, 0);
            self.wasted += old.end() - old.value().start;
        }
        self.entries[index as usize] = new;
        self.compact();
        Ok(())
    }

    fn remove_entry(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        self.wasted += entry.end() - entry.value_start as usize + entry.name_len as usize;
        entry.value_start = REMOVED;
        self.live -= 1;
    }

    /// Removes all fields of a known name.
    pub fn remove(&mut self, id: HeaderId) {
        let index = self.first[id as usize];
        if index == NONE {
            return;
        }
        self.first[id as usize] = NONE;
        for i in index as usize..self.entries.len() {
            let entry = &self.entries[i];
            if entry.id == Some(id) && entry.value_start != REMOVED {
                self.remove_entry(i);
            }
        }
        self.compact();
    }

    /// Removes all fields of a name given in lower case.
    pub fn remove_by_name(&mut self, name: &[u8]) {
        if let Some(id) = HeaderId::find(name) {
            return self.remove(id);
        }
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            if entry.id.is_none() && entry.value_start != REMOVED && self.name_of(entry) == name {
                self.remove_entry(i);
            }
        }
        self.compact();
    }

    pub(super) fn original_names(&self) -> Option<&OriginalNames> {
        self.original_names.as_deref()
    }

    pub(super) fn set_original_names(&mut self, names: Rc<OriginalNames>) {
        self.original_names = Some(names);
    }

    /// Removes the fields whose names are `unwanted`.
    pub fn remove_if(&mut self, unwanted: impl Fn(&[u8]) -> bool) {
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            if entry.value_start == REMOVED || !unwanted(self.name_of(entry)) {
                continue;
            }
            match entry.id {
                Some(id) => self.remove(id),
                None => self.remove_entry(i),
            }
        }
        self.compact();
    }

    /// Moves the value of `from` to `to`, keeping the place of the field.
    pub(super) fn rename(&mut self, from: HeaderId, to: HeaderId) {
        let index = self.first[from as usize];
        if index == NONE {
            return;
        }
        self.entries[index as usize].id = Some(to);
        self.first[to as usize] = index;
        self.first[from as usize] = NONE;
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().filter(|e| e.value_start != REMOVED).map(|e| (self.name_of(e), self.value_of(e)))
    }

    /// What [`HeaderMap::write_fields`] writes at most.
    #[inline]
    pub(super) fn written_size(&self) -> usize {
        // Names that are not known lie in the arena, beside the values.
        self.arena.len() + self.entries.len() * (LONGEST + ": \r\n".len())
    }

    /// Writes the value of the first field of this name, if there is one.
    #[inline(always)]
    pub(super) fn write_value(&self, id: HeaderId, out: &mut Writer<'_>) {
        let index = self.first[id as usize];
        if index != NONE {
            out.put_part(&self.arena, self.entries[index as usize].value());
        }
    }

    /// Writes all fields but pseudo headers, in order, as HTTP/1 has them.
    #[inline(always)]
    pub(super) fn write_fields(&self, out: &mut Writer<'_>) {
        for entry in self.entries.iter().filter(|e| e.value_start != REMOVED) {
            match entry.id {
                Some(id) if id.is_pseudo() => continue,
                Some(id) => id.begin_field(out),
                None => {
                    let name = entry.name();
                    if self.arena.get(name.start) == Some(&b':') && !name.is_empty() {
                        continue;
                    }
                    out.put_part(&self.arena, name);
                    out.put(b": ");
                }
            }
            out.put_part(&self.arena, entry.value());
            out.put(b"\r\n");
        }
    }

    /// The response status; 0 when there is none that reads as a number.
    #[inline(always)]
    pub fn status(&self) -> u16 {
        match self.get(HeaderId::Status) {
            // Asked often, and nearly always this.
            Some(b"200") => 200,
            _ => self.other_status(),
        }
    }

    #[inline(never)]
    fn other_status(&self) -> u16 {
        self.get_str(HeaderId::Status).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// Sets the response status.
    pub fn set_status(&mut self, status: u16) {
        self.set_int(HeaderId::Status, status as u64);
    }
}

impl Drop for HeaderMap {
    fn drop(&mut self) {
        let (arena, entries) = (self.arena.capacity(), self.entries.capacity());
        if arena == 0 || arena > MAX_POOLED_ARENA || entries > MAX_POOLED_ENTRIES {
            return;
        }
        let (mut arena, mut entries) = (std::mem::take(&mut self.arena), std::mem::take(&mut self.entries));
        arena.clear();
        entries.clear();
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOL_MAPS {
                pool.push((arena, entries));
            }
        });
    }
}

impl Clone for HeaderMap {
    fn clone(&self) -> Self {
        let mut copy = HeaderMap::new();
        copy.arena.extend_from_slice(&self.arena);
        copy.entries.extend_from_slice(&self.entries);
        copy.first = self.first;
        (copy.live, copy.wasted) = (self.live, self.wasted);
        copy.original_names.clone_from(&self.original_names);
        copy
    }
}

/// Envoy's log form: one `'name', 'value'` a line, pseudo headers first.
impl fmt::Display for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pseudo in [true, false] {
            for (name, value) in self.iter().filter(|(n, _)| n.starts_with(b":") == pseudo) {
                writeln!(f, "'{}', '{}'", String::from_utf8_lossy(name), String::from_utf8_lossy(value))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
