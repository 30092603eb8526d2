//! What the recorded streams ask for: events are too small to say it.

use super::ring::Ring;

/// Streams that are remembered per thread; a request leaves some 100 events, so the ring of events holds fewer.
const CAPACITY: usize = 1024;
/// Longer ones are cut.
const MAX_METHOD: usize = 15;
const MAX_PATH: usize = 96;
/// The stream's id, then both lengths and both texts.
const WORDS: usize = 16;

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

/// The last names of one thread.
pub(super) struct Names(Ring<CAPACITY, WORDS>);

impl Names {
    pub(super) fn new() -> Self {
        const { assert!(8 + 2 + MAX_METHOD + MAX_PATH <= WORDS * 8) };
        Names(Ring::new())
    }

    pub(super) fn clear(&self) {
        self.0.clear();
    }

    /// The writing thread's business.
    pub(super) fn push(&self, stream: u64, method: &[u8], path: &[u8]) {
        let (method, path) = (cut(method, MAX_METHOD), cut(path, MAX_PATH));
        let mut bytes = [0; WORDS * 8];
        bytes[..8].copy_from_slice(&stream.to_ne_bytes());
        (bytes[8], bytes[9]) = (method.len() as u8, path.len() as u8);
        let (to_method, to_path) = bytes[10..].split_at_mut(method.len());
        to_method.copy_from_slice(method);
        to_path[..path.len()].copy_from_slice(path);
        self.0.push(std::array::from_fn(|i| word(&bytes, i)));
    }

    /// The oldest first.
    pub(super) fn read(&self) -> Vec<StreamName> {
        let unpack = |words: [u64; WORDS]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let (method, rest) = bytes[10..].split_at(bytes[8].into());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            StreamName { stream: words[0], method: text(method), path: text(&rest[..bytes[9].into()]) }
        };
        self.0.read().entries.into_iter().map(unpack).collect()
    }
}

fn word(bytes: &[u8; WORDS * 8], number: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[number * 8..][..8]);
    u64::from_ne_bytes(word)
}

fn cut(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_names_are_kept_in_order_and_cut() {
        let names = Names::new();
        names.push(7, b"GET", b"/a?b");
        names.push(8, &[b'M'; 20], &[b'/'; 200]);
        let read = names.read();
        assert_eq!(read[0], StreamName { stream: 7, method: "GET".into(), path: "/a?b".into() });
        assert_eq!((read[1].method.len(), read[1].path.len()), (15, 96));
        (0..CAPACITY as u64).for_each(|n| names.push(100 + n, b"GET", b"/"));
        let streams: Vec<u64> = names.read().iter().map(|name| name.stream).collect();
        assert_eq!((streams.len(), streams[0], streams[CAPACITY - 2]), (CAPACITY - 1, 101, 1123));
        names.clear();
        assert!(names.read().is_empty());
    }
}
