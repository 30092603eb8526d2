//! One conversion of `strftime` with its flags and width, in the C locale.
//!
//! Follows the GNU C library, which Envoy hands these conversions to.

use crate::common::UtcTime;

/// What stands between `%` and the conversion, and the conversion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DateSpec {
    /// The last of the flags `_`, `-` and `0`.
    pad: Option<u8>,
    /// Flag `^`.
    upper: bool,
    /// Flag `#`.
    swap_case: bool,
    /// At most 255; 0 is none.
    width: usize,
    conversion: u8,
}

/// A number on its way to the line.
struct Number {
    value: u64,
    digits: usize,
    /// What fills it up to its digits when no flag says so.
    pad: u8,
}

impl DateSpec {
    /// Reads the conversion behind a `%`; returns it and its length without the `%`. Whatever is no
    /// conversion is to be printed as it is, but in its width.
    pub(super) fn parse(text: &[u8]) -> (Result<DateSpec, usize>, usize) {
        let (mut pad, mut upper, mut swap_case, mut at) = (None, false, false, 0);
        while let Some(flag) = text.get(at) {
            match flag {
                b'_' | b'-' | b'0' => pad = Some(*flag),
                b'^' => upper = true,
                b'#' => swap_case = true,
                _ => break,
            }
            at += 1;
        }
        let mut width = 0;
        while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
            width = (width * 10 + usize::from(digit - b'0')).min(255);
            at += 1;
        }
        // Without other eras and digits these modifiers change nothing, but not all may be modified.
        let refused: &[u8] = match text.get(at) {
            Some(b'E') => b"aAbBdDeFgGhHIjklmMSUVwW",
            Some(b'O') => b"aAcDFxXY",
            _ => b"",
        };
        if !refused.is_empty() {
            at += 1;
        }
        let known = |conversion: u8| {
            b"aAbBcCdDeFgGhHIjklmMpPrRsStTuUVwWxXyYzZ%".contains(&conversion)
                && !refused.contains(&conversion)
        };
        match text.get(at) {
            Some(&conversion) if known(conversion) => {
                (Ok(DateSpec { pad, upper, swap_case, width, conversion }), at + 1)
            }
            // The byte that spoils it belongs to what is printed, unless a character begins there.
            Some(byte) if byte.is_ascii() => (Err(width), at + 1),
            _ => (Err(width), at),
        }
    }

    /// Appends the conversion of `time`.
    pub(super) fn write(&self, line: &mut Vec<u8>, time: &UtcTime) {
        match number(self.conversion, time) {
            Some(number) => self.write_number(line, &number),
            None if self.conversion == b'z' => self.write_zone(line),
            None => self.write_text(line, time),
        }
    }

    fn write_number(&self, line: &mut Vec<u8>, number: &Number) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number.value);
        let fill = match self.pad {
            Some(b'_') | Some(b'-') => b' ',
            Some(pad) => pad,
            None => number.pad,
        };
        let least = if self.pad == Some(b'-') { 0 } else { number.digits };
        fill_up(line, fill, self.width.max(least), digits.len());
        line.extend_from_slice(digits.as_bytes());
    }

    /// The offset of UTC: a sign and a number of four digits. A width fills up both, as it does in glibc.
    fn write_zone(&self, line: &mut Vec<u8>) {
        let sign_fill = if self.pad == Some(b'0') { b'0' } else { b' ' };
        fill_up(line, sign_fill, self.width, 1);
        line.push(b'+');
        let offset = Number { value: 0, digits: 4, pad: b'0' };
        self.write_number(line, &offset);
    }

    fn write_text(&self, line: &mut Vec<u8>, time: &UtcTime) {
        let start = line.len();
        let plain = DateSpec { pad: None, width: 0, ..*self };
        let write = |line: &mut Vec<u8>, conversions: &[u8]| {
            for &byte in conversions {
                match byte.is_ascii_alphabetic() {
                    true => DateSpec { conversion: byte, ..plain }.write(line, time),
                    false => line.push(byte),
                }
            }
        };
        let weekday = time.weekday_name();
        let month = time.month_name();
        match self.conversion {
            b'a' => line.extend_from_slice(&weekday.as_bytes()[..3]),
            b'A' => line.extend_from_slice(weekday.as_bytes()),
            b'b' | b'h' => line.extend_from_slice(&month.as_bytes()[..3]),
            b'B' => line.extend_from_slice(month.as_bytes()),
            b'c' => write(line, b"a b e H:M:S Y"),
            b'D' | b'x' => write(line, b"m/d/y"),
            b'F' => write(line, b"Y-m-d"),
            b'p' | b'P' => line.extend_from_slice(if time.hour < 12 { b"AM" } else { b"PM" }),
            b'r' => write(line, b"I:M:S p"),
            b'R' => write(line, b"H:M"),
            b'T' | b'X' => write(line, b"H:M:S"),
            b't' => line.push(b'\t'),
            b'Z' => line.extend_from_slice(b"UTC"),
            _ => line.push(b'%'),
        }
        self.change_case(&mut line[start..]);
        let length = line.len() - start;
        if length < self.width {
            let fill = if self.pad == Some(b'0') { b'0' } else { b' ' };
            line.splice(start..start, std::iter::repeat_n(fill, self.width - length));
        }
    }

    fn change_case(&self, text: &mut [u8]) {
        let names_of_two_cases = matches!(self.conversion, b'p' | b'Z');
        if self.conversion == b'P' || (self.swap_case && names_of_two_cases) {
            text.make_ascii_lowercase();
        } else if self.upper
            || (self.swap_case && matches!(self.conversion, b'a' | b'A' | b'b' | b'B' | b'h'))
        {
            text.make_ascii_uppercase();
        }
    }
}

/// The number that a conversion stands for, if it stands for one.
fn number(conversion: u8, time: &UtcTime) -> Option<Number> {
    let (value, digits, pad) = match conversion {
        b'C' => (time.year / 100, 2, b'0'),
        b'd' => (time.day, 2, b'0'),
        b'e' => (time.day, 2, b' '),
        b'g' => (time.iso_week().0 % 100, 2, b'0'),
        b'G' => (time.iso_week().0, 1, b'0'),
        b'H' => (time.hour, 2, b'0'),
        b'I' => (time.hour12(), 2, b'0'),
        b'j' => (time.day_of_year + 1, 3, b'0'),
        b'k' => (time.hour, 2, b' '),
        b'l' => (time.hour12(), 2, b' '),
        b'm' => (time.month, 2, b'0'),
        b'M' => (time.minute, 2, b'0'),
        b's' => (time.since_epoch.as_secs(), 1, b' '),
        b'S' => (time.second, 2, b'0'),
        b'u' => ((time.weekday + 6) % 7 + 1, 1, b'0'),
        b'U' => (time.week_from(0), 2, b'0'),
        b'V' => (time.iso_week().1, 2, b'0'),
        b'w' => (time.weekday, 1, b'0'),
        b'W' => (time.week_from(1), 2, b'0'),
        b'y' => (time.year % 100, 2, b'0'),
        b'Y' => (time.year, 1, b'0'),
        _ => return None,
    };
    Some(Number { value, digits, pad })
}

fn fill_up(line: &mut Vec<u8>, fill: u8, width: usize, length: usize) {
    line.extend(std::iter::repeat_n(fill, width.saturating_sub(length)));
}
