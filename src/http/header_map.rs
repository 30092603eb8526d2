//! The headers of one message.
//!
//! Mirrors Envoy's `source/common/http/header_map_impl.cc`: insertion order is kept, known names are
//! found in constant time, and most known names given twice become one value. Differs in layout: all
//! bytes lie in one arena, which is recycled from message to message of a thread.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::headers::{COUNT, HeaderId, Repeat};

/// Headers shared between the stages of one stream.
pub type HeaderMapPtr = Rc<RefCell<HeaderMap>>;

const NONE: u16 = u16::MAX;
const REMOVED: u32 = u32::MAX;
/// Idle arenas that a thread keeps.
const POOL_MAPS: usize = 512;
/// What a new arena has room for.
const NEW_ARENA: usize = 512;
const NEW_ENTRIES: usize = 16;
/// Arenas that grew beyond this are not recycled.
const MAX_POOLED_ARENA: usize = 4096;

thread_local! {
    static POOL: RefCell<Vec<(Vec<u8>, Vec<Entry>)>> = const { RefCell::new(Vec::new()) };
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
}

/// An ordered list of header fields with lower-case names.
pub struct HeaderMap {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// The first field of each known name.
    first: [u16; COUNT],
    live: usize,
}

impl Default for HeaderMap {
    fn default() -> Self {
        HeaderMap::new()
    }
}

impl HeaderMap {
    /// No headers.
    pub fn new() -> Self {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        let (arena, entries) =
            pooled.unwrap_or_else(|| (Vec::with_capacity(NEW_ARENA), Vec::with_capacity(NEW_ENTRIES)));
        HeaderMap { arena, entries, first: [NONE; COUNT], live: 0 }
    }

    /// Wraps the map for sharing.
    pub fn shared(self) -> HeaderMapPtr {
        Rc::new(RefCell::new(self))
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

    fn push_bytes(&mut self, bytes: &[u8]) -> u32 {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        start
    }

    fn value_of(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.value_start as usize..(entry.value_start + entry.value_len) as usize]
    }

    fn name_of(&self, entry: &Entry) -> &[u8] {
        match entry.id {
            Some(id) => id.name().as_bytes(),
            None => {
                &self.arena[entry.name_start as usize..entry.name_start as usize + entry.name_len as usize]
            }
        }
    }

    /// Adds a field as it was received: the name is lower-cased, and a repeated known name is joined
    /// to the first one where Envoy does so.
    pub fn add_parsed(&mut self, name: &[u8], value: &[u8]) {
        let start = self.arena.len();
        self.arena.extend(name.iter().map(u8::to_ascii_lowercase));
        let id = HeaderId::find(&self.arena[start..]);
        if let Some(id) = id {
            self.arena.truncate(start);
            self.add_known(id, value);
            return;
        }
        let value_start = self.push_bytes(value);
        self.entries.push(Entry {
            name_start: start as u32,
            name_len: name.len() as u32,
            id: None,
            value_start,
            value_len: value.len() as u32,
        });
        self.live += 1;
    }

    /// Adds a field; `name` must be in lower case.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        debug_assert!(!name.bytes().any(|b| b.is_ascii_uppercase()));
        self.add_parsed(name.as_bytes(), value);
    }

    fn add_known(&mut self, id: HeaderId, value: &[u8]) {
        let join = self.has(id)
            && match id.repeat() {
                Repeat::Comma => true,
                Repeat::Separate => false,
                Repeat::CommaInRequests => !self.has(HeaderId::Status),
                Repeat::CommaInResponses => self.has(HeaderId::Status),
            };
        if join {
            self.append(id, value, ",");
        } else {
            self.push_known(id, value);
        }
    }

    fn push_known(&mut self, id: HeaderId, value: &[u8]) {
        let value_start = self.push_bytes(value);
        if self.first[id as usize] == NONE {
            self.first[id as usize] = self.entries.len() as u16;
        }
        self.entries.push(Entry {
            name_start: 0,
            name_len: 0,
            id: Some(id),
            value_start,
            value_len: value.len() as u32,
        });
        self.live += 1;
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

    /// The values of all fields of a name.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
    }

    /// The number of fields of a known name.
    pub fn count(&self, id: HeaderId) -> usize {
        self.entries.iter().filter(|e| e.id == Some(id) && e.value_start != REMOVED).count()
    }

    /// Replaces the value, in place when the name is there, else at the end.
    pub fn set(&mut self, id: HeaderId, value: &[u8]) {
        let index = self.first[id as usize];
        if index == NONE {
            self.push_known(id, value);
            return;
        }
        let value_start = self.push_bytes(value);
        let entry = &mut self.entries[index as usize];
        entry.value_start = value_start;
        entry.value_len = value.len() as u32;
    }

    /// Replaces the value with a number.
    pub fn set_int(&mut self, id: HeaderId, value: u64) {
        self.set(id, itoa::Buffer::new().format(value).as_bytes());
    }

    /// Appends to the value behind `delimiter`, or adds the field.
    pub fn append(&mut self, id: HeaderId, value: &[u8], delimiter: &str) {
        let index = self.first[id as usize];
        if index == NONE {
            self.push_known(id, value);
            return;
        }
        if value.is_empty() {
            return;
        }
        let old = self.entries[index as usize];
        let range = old.value_start as usize..(old.value_start + old.value_len) as usize;
        let start = self.arena.len();
        self.arena.extend_from_within(range.clone());
        if !range.is_empty() {
            self.arena.extend_from_slice(delimiter.as_bytes());
        }
        self.arena.extend_from_slice(value);
        let entry = &mut self.entries[index as usize];
        entry.value_start = start as u32;
        entry.value_len = (self.arena.len() - start) as u32;
    }

    /// Removes all fields of a known name.
    pub fn remove(&mut self, id: HeaderId) {
        let index = self.first[id as usize];
        if index == NONE {
            return;
        }
        self.first[id as usize] = NONE;
        for entry in &mut self.entries[index as usize..] {
            if entry.id == Some(id) && entry.value_start != REMOVED {
                entry.value_start = REMOVED;
                self.live -= 1;
            }
        }
    }

    /// Removes all fields of a name given in lower case.
    pub fn remove_by_name(&mut self, name: &[u8]) {
        if let Some(id) = HeaderId::find(name) {
            return self.remove(id);
        }
        for i in 0..self.entries.len() {
            let entry = self.entries[i];
            if entry.id.is_none() && entry.value_start != REMOVED && self.name_of(&entry) == name {
                self.entries[i].value_start = REMOVED;
                self.live -= 1;
            }
        }
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

    /// The response status; 0 when there is none that reads as a number.
    pub fn status(&self) -> u16 {
        match self.get(HeaderId::Status) {
            // Asked often, and nearly always like this.
            Some([a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                [a, b, c].into_iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
            }
            _ => self.get_str(HeaderId::Status).and_then(|s| s.parse().ok()).unwrap_or(0),
        }
    }

    /// Sets the response status.
    pub fn set_status(&mut self, status: u16) {
        self.set_int(HeaderId::Status, status as u64);
    }
}

impl Drop for HeaderMap {
    fn drop(&mut self) {
        if self.arena.capacity() == 0 || self.arena.capacity() > MAX_POOLED_ARENA {
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
        copy.live = self.live;
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
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_and_known_ones_found() {
        let mut h = HeaderMap::new();
        h.add_parsed(b"Content-Length", b"5");
        h.add_parsed(b"X-Foo", b"a");
        h.add_parsed(b"x-FOO", b"b");
        assert_eq!(h.get(HeaderId::ContentLength), Some(&b"5"[..]));
        assert_eq!(h.get_all("x-foo").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(h.len(), 3);
        assert_eq!(h.byte_size(), 14 + 1 + 5 + 1 + 5 + 1);
    }

    #[test]
    fn repeated_known_names_are_joined_or_kept() {
        let mut h = HeaderMap::new();
        for v in [&b"1"[..], b"2"] {
            h.add_parsed(b"Accept", v);
            h.add_parsed(b"Set-Cookie", v);
        }
        assert_eq!(h.get(HeaderId::Accept), Some(&b"1,2"[..]));
        assert_eq!(h.count(HeaderId::SetCookie), 2);
    }

    #[test]
    fn set_keeps_the_place_and_remove_takes_all() {
        let mut h = HeaderMap::new();
        h.set(HeaderId::Server, b"one");
        h.add("x-a", b"1");
        h.set(HeaderId::Server, b"two");
        assert_eq!(h.iter().map(|(n, _)| n).collect::<Vec<_>>(), [&b"server"[..], b"x-a"]);
        h.add_parsed(b"Set-Cookie", b"1");
        h.add_parsed(b"Set-Cookie", b"2");
        h.remove(HeaderId::SetCookie);
        h.remove_by_name(b"x-a");
        h.remove_by_name(b"server");
        assert!(h.is_empty());
        h.set(HeaderId::Server, b"three");
        assert_eq!(h.get(HeaderId::Server), Some(&b"three"[..]));
    }

    #[test]
    fn a_recycled_map_is_empty() {
        let mut h = HeaderMap::new();
        h.add("x-a", b"1");
        drop(h);
        let h = HeaderMap::new();
        assert!(h.is_empty());
        assert_eq!(h.iter().count(), 0);
    }

    #[test]
    fn clone_and_display() {
        let mut h = HeaderMap::new();
        h.add("x-a", b"1");
        h.set_status(204);
        let copy = h.clone();
        drop(h);
        assert_eq!(copy.status(), 204);
        assert_eq!(copy.to_string(), "':status', '204'\n'x-a', '1'\n");
    }
}
