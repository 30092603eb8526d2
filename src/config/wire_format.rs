//! The fields of a message in protobuf's binary form, without any idea of what they mean.
//!
//! Stands where Envoy has protobuf's `CodedInputStream`.

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Integers, booleans and enums.
    Varint(u64),
    /// `fixed64`, `sfixed64` and `double`.
    Fixed64(u64),
    /// Text, bytes, messages and packed lists.
    Bytes(&'a [u8]),
    /// `fixed32`, `sfixed32` and `float`.
    Fixed32(u32),
}

impl<'a> Payload<'a> {
    /// What stands in a field that has a length.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Payload::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Text.
    pub fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// An integer.
    pub fn varint(self) -> Option<u64> {
        match self {
            Payload::Varint(value) => Some(value),
            _ => None,
        }
    }
}

/// The fields of a message in their order; ends after what is malformed.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Those of the message that `data` is.
    pub fn of(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// What has not been looked at.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn read(&mut self) -> Option<(u32, Payload<'a>)> {
        let tag = take_varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|&number| number > 0 && number < 1 << 29)?;
        let payload = match tag & 7 {
            0 => Payload::Varint(take_varint(&mut self.rest)?),
            1 => Payload::Fixed64(take_fixed64(&mut self.rest)?),
            2 => {
                let length = usize::try_from(take_varint(&mut self.rest)?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Payload::Bytes(bytes)
            }
            5 => Payload::Fixed32(take_fixed32(&mut self.rest)?),
            // Groups, which proto3 does not have.
            _ => return None,
        };
        Some((number, payload))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Payload<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

/// Takes an integer of up to 64 bits from the front.
pub fn take_varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (i, &byte) in data.iter().enumerate().take(10) {
        // As protobuf does, what would not fit is cut off.
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *data = &data[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Takes eight bytes from the front.
pub fn take_fixed64(data: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = data.split_first_chunk()?;
    *data = rest;
    Some(u64::from_le_bytes(*bytes))
}

/// Takes four bytes from the front.
pub fn take_fixed32(data: &mut &[u8]) -> Option<u32> {
    let (bytes, rest) = data.split_first_chunk()?;
    *data = rest;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field() {
        let data = [
            &[0x08, 0xac, 0x02][..],
            &[0x11, 1, 0, 0, 0, 0, 0, 0, 0],
            &[0x1a, 2, b'h', b'i'],
            &[0x25, 2, 0, 0, 0],
            &[0xfa, 0xff, 0xff, 0xff, 0x0f, 0],
        ]
        .concat();
        let fields: Result<Vec<_>, _> = Fields::of(&data).collect();
        let want = [
            (1, Payload::Varint(300)),
            (2, Payload::Fixed64(1)),
            (3, Payload::Bytes(b"hi")),
            (4, Payload::Fixed32(2)),
            ((1 << 29) - 1, Payload::Bytes(b"")),
        ];
        assert_eq!(fields.unwrap(), want);
        assert_eq!(want[2].1.text(), Some("hi"));
    }

    #[test]
    fn what_is_cut_off_or_no_field_ends_the_message() {
        let eleven = [0x80u8; 11];
        for data in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x11, 0, 0],
            &[0x1a, 2, b'h'],
            &[0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x25, 0],
            &[0x0b],
            &[0x0e, 0],
            &[0x00, 0],
            &eleven,
        ] {
            let fields: Vec<_> = Fields::of(data).collect();
            assert_eq!(fields, [Err(Malformed)], "{data:x?}");
        }
        let mut minus_one = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..];
        assert_eq!(take_varint(&mut minus_one), Some(u64::MAX));
    }
}
