//! MurmurHash2 as the standard library of GCC has it, by which Envoy can be told to make its rings.
//!
//! Mirrors `MurmurHash::murmurHash2` of Envoy's `source/common/common/hash.cc`.

const SEED: u64 = 0xc70f_6907;
const MULTIPLIER: u64 = (0xc6a4_a793 << 32) + 0x5bd1_e995;

fn shift_mix(value: u64) -> u64 {
    value ^ value >> 47
}

/// The hash of some bytes.
pub fn murmur2(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    for word in words {
        let mixed = shift_mix(u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
        hash = (hash ^ mixed).wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u64::from(*byte));
        hash = (hash ^ last).wrapping_mul(MULTIPLIER);
    }
    shift_mix(shift_mix(hash).wrapping_mul(MULTIPLIER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_hash_of_envoys_test() {
        // `test/common/common/hash_test.cc`.
        assert_eq!(murmur2(b""), 6_142_509_188_972_423_790);
        assert_eq!(murmur2(b"foo"), 9_631_199_822_919_835_226);
        assert_eq!(murmur2(b"bar"), 11_474_628_671_133_349_555);
        assert_eq!(murmur2(b"foo\nbar"), 16_306_510_975_912_980_159);
        assert_eq!(murmur2(b"lyft"), 12_847_078_931_730_529_320);
    }
}
