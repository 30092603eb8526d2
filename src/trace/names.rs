//! What the recorded streams ask for: events are too small to say it.

/// Streams that are remembered per thread; a request leaves some 100 events, so the ring holds fewer.
const CAPACITY: usize = 1024;
/// Longer ones are cut.
const MAX_METHOD: usize = 15;
const MAX_PATH: usize = 96;

/// What a stream asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamName {
    /// The stream's id.
    pub stream: u64,
    /// Its method, at most 15 bytes of it.
    pub method: String,
    /// Its path with the query, at most 96 bytes of it.
    pub path: String,
}

/// A name without allocations.
#[derive(Clone)]
struct Packed {
    stream: u64,
    method_length: u8,
    path_length: u8,
    text: [u8; MAX_METHOD + MAX_PATH],
}

/// The last names of one thread.
#[derive(Default)]
pub(super) struct Names {
    slots: Vec<Packed>,
    next: usize,
}

impl Names {
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.next = 0;
    }

    pub(super) fn push(&mut self, stream: u64, method: &[u8], path: &[u8]) {
        let (method, path) = (cut(method, MAX_METHOD), cut(path, MAX_PATH));
        let slot = self.next_slot();
        (slot.stream, slot.method_length, slot.path_length) = (stream, method.len() as u8, path.len() as u8);
        slot.text[..method.len()].copy_from_slice(method);
        slot.text[method.len()..][..path.len()].copy_from_slice(path);
    }

    /// The oldest name's place once all are taken.
    fn next_slot(&mut self) -> &mut Packed {
        if self.slots.len() < CAPACITY {
            self.slots.reserve_exact(CAPACITY - self.slots.len());
            let text = [0; MAX_METHOD + MAX_PATH];
            self.slots.push(Packed { stream: 0, method_length: 0, path_length: 0, text });
        }
        let place = self.next;
        self.next = (place + 1) % CAPACITY;
        &mut self.slots[place]
    }

    /// The oldest first.
    pub(super) fn read(&self) -> Vec<StreamName> {
        let (newer, older) = self.slots.split_at(self.next);
        let unpack = |packed: &Packed| {
            let (method, rest) = packed.text.split_at(packed.method_length.into());
            let path = &rest[..packed.path_length.into()];
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            StreamName { stream: packed.stream, method: text(method), path: text(path) }
        };
        older.iter().chain(newer).map(unpack).collect()
    }
}

fn cut(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_names_are_kept_in_order_and_cut() {
        let mut names = Names::default();
        names.push(7, b"GET", b"/a?b");
        names.push(8, &[b'M'; 20], &[b'/'; 200]);
        let read = names.read();
        assert_eq!(read[0], StreamName { stream: 7, method: "GET".into(), path: "/a?b".into() });
        assert_eq!((read[1].method.len(), read[1].path.len()), (15, 96));
        (0..CAPACITY as u64).for_each(|n| names.push(100 + n, b"GET", b"/"));
        let streams: Vec<u64> = names.read().iter().map(|name| name.stream).collect();
        assert_eq!((streams.len(), streams[0], streams[CAPACITY - 1]), (CAPACITY, 100, 1123));
        names.push(1, b"", b"");
        assert_eq!(names.read()[0].stream, 101);
        names.clear();
        assert!(names.read().is_empty());
    }
}
