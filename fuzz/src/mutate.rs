//! New inputs from old ones.

use fastrand::Rng;

/// Bytes that mean something to one parser or another.
const BYTES: &[u8] = b"\r\n\0 \t,:;=/?#%&@[]{}()\"'\\-+_.*<>|~!0159aAfFxXzZ\x7f\x80\xc3\xff";

/// Numbers at the edges of what fits somewhere.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "00",
    "255",
    "256",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "ffffffffffffffff",
    "10000000000000000",
    "1e9",
    "0x10",
    "0.1",
    "+1",
];

/// Changes `data` a few times; what is put in comes from `dictionary` and from `other`, another input.
pub fn mutate(rng: &mut Rng, data: &mut Vec<u8>, dictionary: &[&str], other: &[u8], max_len: usize) {
    let times = 1 << rng.u32(0..4);
    for _ in 0..rng.u32(1..=times) {
        step(rng, data, dictionary, other);
        data.truncate(max_len);
    }
}

fn step(rng: &mut Rng, data: &mut Vec<u8>, dictionary: &[&str], other: &[u8]) {
    let at = rng.usize(..=data.len());
    let range = piece(rng, data.len());
    match rng.u32(0..16) {
        0 if at < data.len() => data[at] ^= 1 << rng.u32(0..8),
        1 if at < data.len() => data[at] = *choose(rng, BYTES),
        2 if at < data.len() => data[at] = rng.u8(..),
        3 => data.insert(at, *choose(rng, BYTES)),
        4 if at < data.len() => drop(data.remove(at)),
        5 => drop(data.drain(range)),
        6 => {
            let copy = data[range].to_vec();
            insert(data, at, &copy);
        }
        7 => data.truncate(at),
        8 => {
            let from = piece(rng, other.len());
            insert(data, at, &other[from]);
        }
        9 => {
            let from = rng.usize(..=other.len());
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        10 => {
            let number = choose(rng, NUMBERS);
            replace_number(data, at, number.as_bytes());
        }
        11 if rng.u32(0..16) == 0 => {
            let copy = data[range].to_vec();
            let times = 1 << rng.u32(1..10);
            insert(data, at, &copy.repeat(times));
        }
        12 => data[range].reverse(),
        13 => {
            let byte = *choose(rng, BYTES);
            let times = 1 << rng.u32(0..6);
            insert(data, at, &vec![byte; times]);
        }
        _ if !dictionary.is_empty() => {
            let word = choose(rng, dictionary).as_bytes();
            if rng.bool() && !range.is_empty() {
                data.drain(range.clone());
                insert(data, range.start, word);
            } else {
                insert(data, at, word);
            }
        }
        _ => data.push(rng.u8(..)),
    }
}

fn choose<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

/// A range, mostly a short one.
fn piece(rng: &mut Rng, len: usize) -> std::ops::Range<usize> {
    let start = rng.usize(..=len);
    let most = if rng.u32(0..4) == 0 { len - start } else { (len - start).min(16) };
    start..start + rng.usize(..=most)
}

fn insert(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    data.splice(at..at, bytes.iter().copied());
}

/// Puts `number` in place of the digits at or behind `at`.
fn replace_number(data: &mut Vec<u8>, at: usize, number: &[u8]) {
    let start = data[at..].iter().position(u8::is_ascii_digit).map_or(at, |offset| at + offset);
    let end = data[start..].iter().position(|b| !b.is_ascii_digit()).map_or(data.len(), |n| start + n);
    data.splice(start..end, number.iter().copied());
}
