//! Identifiers of 128 random bits. Mirrors `RandomGeneratorImpl::uuid` of Envoy's `source/common/runtime/runtime_impl.cc`.

/// A version 4 UUID in its text form.
pub fn random_uuid() -> [u8; 36] {
    let random = fastrand::u128(..);
    let bits = random & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let [first, second, third, last] =
        [bits >> 96, bits >> 64, bits >> 32, bits].map(|bits| hex_digits(bits as u32));
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&first);
    text[9..13].copy_from_slice(&second[..4]);
    text[14..18].copy_from_slice(&second[4..]);
    text[19..23].copy_from_slice(&third[..4]);
    text[24..28].copy_from_slice(&third[4..]);
    text[28..].copy_from_slice(&last);
    text
}

/// A number's digits, all of them worked out at a time.
#[inline(always)]
fn hex_digits(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let apart = u64::from(number);
    let apart = (apart | apart << 16) & 0x0000_ffff_0000_ffff;
    let apart = (apart | apart << 8) & 0x00ff_00ff_00ff_00ff;
    let apart = (apart | apart << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = (apart + 6 * ONES) >> 4 & ONES;
    (apart + u64::from(b'0') * ONES + is_letter * u64::from(b'a' - 10 - b'0')).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_form() {
        let text = String::from_utf8(random_uuid().to_vec()).unwrap();
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&text[14..15], "4");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
        assert!(text.bytes().all(|b| matches!(b, b'-' | b'0'..=b'9' | b'a'..=b'f')));
        assert_ne!(random_uuid(), random_uuid());
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 0x0123_4567, 0x89ab_cdef, u32::MAX].into_iter().chain((0..32).map(|bit| 1 << bit)) {
            assert_eq!(&hex_digits(number), format!("{number:08x}").as_bytes());
        }
    }
}
