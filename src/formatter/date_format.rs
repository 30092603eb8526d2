//! [`DateFormat`]: how `%START_TIME(...)%` prints a time, always in UTC.
//!
//! Mirrors `DateFormatter` of Envoy's `source/common/common/utility.cc`, which first takes out `%f`,
//! `%1f` to `%9f` and `%s`, and leaves the rest to `absl::FormatTime` and that in turn to `strftime`.
//! Parsed once; there is no cache of formatted seconds, as a format of known pieces is quick to print.

use super::date_spec::DateSpec;
use crate::common::UtcTime;

/// The format that stands in for an empty one.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";

/// The digits of a second that can be told apart; beyond the ninth they are zero.
const MAX_DIGITS: usize = 18;

/// How to print a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DateFormat {
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(Vec<u8>),
    Spec(DateSpec),
    EpochSeconds,
    /// The year in at least four digits.
    Year4,
    /// Digits of the second's fraction, preceded by the second itself and a point if so wanted.
    Fraction {
        with_second: bool,
        digits: usize,
    },
    /// As many digits of the fraction as are not trailing zeros, likewise.
    FullFraction {
        with_second: bool,
    },
}

impl DateFormat {
    /// Parses a format; the empty one is `%Y-%m-%dT%H:%M:%E3SZ`.
    ///
    /// # Errors
    /// The format asks for a newline.
    pub(super) fn parse(format: &str) -> Result<DateFormat, String> {
        let format = if format.is_empty() { DEFAULT } else { format };
        if has_newline_conversion(format.as_bytes()) {
            return Err("Invalid header configuration. Format string contains newline.".to_string());
        }
        let mut parsed = DateFormat { pieces: Vec::new() };
        let mut rest = format.as_bytes();
        while let Some((before, piece, length)) = find_envoys_own(rest) {
            parsed.add_segment(&rest[..before]);
            parsed.pieces.push(piece);
            rest = &rest[before + length..];
        }
        parsed.add_segment(rest);
        Ok(parsed)
    }

    /// Appends `time`.
    pub(super) fn write(&self, line: &mut Vec<u8>, time: &UtcTime) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text),
                Piece::Spec(spec) => spec.write(line, time),
                Piece::EpochSeconds => write_number(line, time.since_epoch.as_secs(), 1),
                Piece::Year4 => write_number(line, time.year, 4),
                Piece::Fraction { with_second, digits } => {
                    write_fraction(line, time, *with_second, *digits);
                }
                Piece::FullFraction { with_second } => write_full_fraction(line, time, *with_second),
            }
        }
    }

    /// Parses what lies between Envoy's own conversions.
    fn add_segment(&mut self, mut rest: &[u8]) {
        while let Some(percent) = memchr::memchr(b'%', rest) {
            self.add_text(&rest[..percent]);
            rest = &rest[percent + 1..];
            if let Some((piece, length)) = parse_absl(rest) {
                self.pieces.push(piece);
                rest = &rest[length..];
                continue;
            }
            let (spec, length) = DateSpec::parse(rest);
            match spec {
                Ok(spec) => self.pieces.push(Piece::Spec(spec)),
                Err(width) => {
                    self.add_text(&b" ".repeat(width.saturating_sub(length + 1)));
                    self.add_text(b"%");
                    self.add_text(&rest[..length]);
                }
            }
            rest = &rest[length..];
        }
        self.add_text(rest);
    }

    fn add_text(&mut self, text: &[u8]) {
        if let Some(Piece::Text(last)) = self.pieces.last_mut() {
            last.extend_from_slice(text);
        } else if !text.is_empty() {
            self.pieces.push(Piece::Text(text.to_vec()));
        }
    }
}

/// Whether there is a conversion to a newline: `%`, flags, a width without zeros, `E` or `O`, `n`.
fn has_newline_conversion(format: &[u8]) -> bool {
    let after = |text: &[u8], set: &[u8]| text.iter().take_while(|byte| set.contains(byte)).count();
    memchr::memchr_iter(b'%', format).any(|percent| {
        let mut rest = &format[percent + 1..];
        rest = &rest[after(rest, b"-_0^#")..];
        rest = &rest[after(rest, b"123456789")..];
        if let [b'E' | b'O', tail @ ..] = rest {
            rest = tail;
        }
        rest.first() == Some(&b'n')
    })
}

/// The first of `%f`, `%1f` to `%9f` and `%s`, with its place and length. A `%%` before it does not
/// count, so that `%%s` is a percent sign and the seconds.
fn find_envoys_own(text: &[u8]) -> Option<(usize, Piece, usize)> {
    memchr::memchr_iter(b'%', text).find_map(|percent| match &text[percent + 1..] {
        [b's', ..] => Some((percent, Piece::EpochSeconds, 2)),
        [b'f', ..] => Some((percent, Piece::Fraction { with_second: false, digits: 9 }, 2)),
        [digit @ b'1'..=b'9', b'f', ..] => {
            let digits = usize::from(digit - b'0');
            Some((percent, Piece::Fraction { with_second: false, digits }, 3))
        }
        _ => None,
    })
}

/// Reads behind a `%` what is absl's own, and the length of it.
fn parse_absl(text: &[u8]) -> Option<(Piece, usize)> {
    const ZONES: [(&[u8], &str); 6] = [
        (b"ET", "T"),
        (b"Ez", "+00:00"),
        (b"E*z", "+00:00:00"),
        (b":z", "+00:00"),
        (b"::z", "+00:00:00"),
        (b":::z", "+00"),
    ];
    if let Some((name, value)) = ZONES.iter().find(|(name, _)| text.starts_with(name)) {
        return Some((Piece::Text(value.as_bytes().to_vec()), name.len()));
    }
    match text {
        [b'E', b'4', b'Y', ..] => return Some((Piece::Year4, 3)),
        [b'E', b'*', what @ (b'S' | b'f'), ..] => {
            return Some((Piece::FullFraction { with_second: *what == b'S' }, 3));
        }
        _ => {}
    }
    let number = text.strip_prefix(b"E")?;
    let length = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let what = number.get(length).filter(|byte| matches!(byte, b'S' | b'f'))?;
    let digits: usize = std::str::from_utf8(&number[..length]).ok()?.parse().ok()?;
    let piece = Piece::Fraction { with_second: *what == b'S', digits: digits.min(MAX_DIGITS) };
    Some((piece, length + 2))
}

fn write_number(line: &mut Vec<u8>, value: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    line.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
    line.extend_from_slice(text.as_bytes());
}

fn write_fraction(line: &mut Vec<u8>, time: &UtcTime, with_second: bool, digits: usize) {
    if with_second {
        write_number(line, time.second, 2);
        if digits > 0 {
            line.push(b'.');
        }
    }
    let start = line.len();
    write_number(line, u64::from(time.nanosecond), 9);
    line.resize(start + digits, b'0');
}

fn write_full_fraction(line: &mut Vec<u8>, time: &UtcTime, with_second: bool) {
    match (time.nanosecond, with_second) {
        (0, true) => write_number(line, time.second, 2),
        (0, false) => line.push(b'0'),
        _ => {
            write_fraction(line, time, with_second, 9);
            let zeros = line.iter().rev().take_while(|byte| **byte == b'0').count();
            line.truncate(line.len() - zeros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    fn print_at(format: &str, time: SystemTime) -> String {
        let mut line = Vec::new();
        DateFormat::parse(format).unwrap().write(&mut line, &UtcTime::new(time));
        String::from_utf8(line).unwrap()
    }

    /// 2026-11-23 02:32:02.358447, a Monday.
    fn print(format: &str) -> String {
        print_at(format, UNIX_EPOCH + Duration::new(1_795_401_122, 358_447_000))
    }

    #[test]
    fn the_empty_format_is_iso_8601_in_milliseconds() {
        assert_eq!(print(""), "2026-11-23T02:32:02.358Z");
    }

    #[test]
    fn newlines_are_refused() {
        for format in ["%n", "a%n", "%En", "%On", "%-5n", "%_^12En", "%%n"] {
            let error = DateFormat::parse(format).unwrap_err();
            assert_eq!(error, "Invalid header configuration. Format string contains newline.", "{format}");
        }
    }

    #[test]
    fn a_whole_second_has_no_full_fraction() {
        let time = UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(print_at("%E*S %E*f %E3S %f", time), "05 0 05.000 000000000");
    }

    #[test]
    fn the_clock_face_has_twelve_hours() {
        let at = |hour: u64| print_at("%I %p %l", UNIX_EPOCH + Duration::from_secs(hour * 3600));
        assert_eq!([at(0), at(11), at(12), at(15)], ["12 AM 12", "11 AM 11", "12 PM 12", "03 PM  3"]);
    }

    /// Formats and what Envoy 1.40 prints for them.
    const AS_IN_ENVOY: &[(&str, &str)] = &[
        ("%a", "Mon"),
        ("%A", "Monday"),
        ("%b", "Nov"),
        ("%B", "November"),
        ("%c", "Mon Nov 23 02:32:02 2026"),
        ("%C", "20"),
        ("%d", "23"),
        ("%D", "11/23/26"),
        ("%e", "23"),
        ("%F", "2026-11-23"),
        ("%g", "26"),
        ("%G", "2026"),
        ("%h", "Nov"),
        ("%H", "02"),
        ("%I", "02"),
        ("%j", "327"),
        ("%k", " 2"),
        ("%l", " 2"),
        ("%m", "11"),
        ("%M", "32"),
        ("%p", "AM"),
        ("%P", "am"),
        ("%q", "%q"),
        ("%Q", "%Q"),
        ("%r", "02:32:02 AM"),
        ("%R", "02:32"),
        ("%s", "1795401122"),
        ("%S", "02"),
        ("%T", "02:32:02"),
        ("%t", "\t"),
        ("%u", "1"),
        ("%U", "47"),
        ("%V", "48"),
        ("%w", "1"),
        ("%W", "47"),
        ("%x", "11/23/26"),
        ("%X", "02:32:02"),
        ("%y", "26"),
        ("%Y", "2026"),
        ("%z", "+0000"),
        ("%Z", "UTC"),
        ("%v", "%v"),
        ("%E", "%E"),
        ("%O", "%O"),
        ("%f", "358447000"),
        ("%L", "%L"),
        ("%N", "%N"),
        ("%i", "%i"),
        ("%J", "%J"),
        ("%K", "%K"),
        ("%+", "%+"),
        ("%Ec", "Mon Nov 23 02:32:02 2026"),
        ("%EC", "20"),
        ("%Ex", "11/23/26"),
        ("%EX", "02:32:02"),
        ("%Ey", "26"),
        ("%EY", "2026"),
        ("%Ez", "+00:00"),
        ("%ET", "T"),
        ("%ES", "%ES"),
        ("%Od", "23"),
        ("%Oe", "23"),
        ("%OH", "02"),
        ("%OI", "02"),
        ("%Om", "11"),
        ("%OM", "32"),
        ("%OS", "02"),
        ("%Ou", "1"),
        ("%OU", "47"),
        ("%OV", "48"),
        ("%Ow", "1"),
        ("%OW", "47"),
        ("%Oy", "26"),
        ("%E3S", "02.358"),
        ("%E6S", "02.358447"),
        ("%E0S", "02"),
        ("%E*S", "02.358447"),
        ("%E3f", "358"),
        ("%E*f", "358447"),
        ("%E4Y", "2026"),
        ("%E*z", "+00:00:00"),
        ("%:z", "+00:00"),
        ("%::z", "+00:00:00"),
        ("%:::z", "+00"),
        ("%3f", "358"),
        ("%1f", "3"),
        ("%9f", "358447000"),
        ("%0f", "%0f"),
        ("%10f", "      %10f"),
        ("%6f", "358447"),
        ("%-d", "23"),
        ("%_d", "23"),
        ("%0e", "23"),
        ("%^a", "MON"),
        ("%#p", "am"),
        ("%5Y", "02026"),
        ("%-H", "2"),
        ("%_H", " 2"),
        ("%-I", "2"),
        ("%03d", "023"),
        ("%%", "%"),
        ("%%f", "%358447000"),
        ("%%s", "%1795401122"),
        ("%%Y", "%Y"),
        ("%.3S", "%.3S"),
        ("%E15S", "02.358447000000000"),
        ("%E16f", "3584470000000000"),
        ("%", "%"),
        ("%!", "%!"),
        ("%Y-%m-%dT%H:%M:%S.%3f %s", "2026-11-23T02:32:02.358 1795401122"),
        ("%-m/%-d", "11/23"),
        ("%10d", "0000000023"),
        ("%-5d", "   23"),
        ("%^B", "NOVEMBER"),
        ("%_5d", "   23"),
        ("%E3", "%E3"),
        ("%-j", "327"),
        ("%_j", "327"),
        ("%-y", "26"),
        ("%_m", "11"),
        ("%-S", "2"),
        ("%-N", "%-N"),
        ("%Os", "1795401122"),
        ("%Ef", "%Ef"),
        ("%^Z", "UTC"),
        ("%#Z", "utc"),
        ("%_y", "26"),
        ("%-U", "47"),
        ("%010Y", "0000002026"),
        ("%+4Y", "%+4Y"),
        ("%-e", "23"),
        ("%-k", "2"),
        ("%-l", "2"),
        ("%_I", " 2"),
        ("%0k", "02"),
        ("%0l", "02"),
        ("%^p", "AM"),
        ("%^P", "am"),
        ("%#a", "MON"),
        ("%#b", "NOV"),
        ("%^c", "MON NOV 23 02:32:02 2026"),
        ("%_C", "20"),
        ("%-C", "20"),
        ("%-u", "1"),
        ("%3u", "001"),
        ("%2w", "01"),
        ("%-s", "1795401122"),
        ("%15s", "     1795401122"),
        ("%_s", "1795401122"),
        ("%E 3S", "%E 3S"),
        ("%-", "%-"),
        ("%5", "   %5"),
        ("%5%", "    %"),
        ("%-%", "%"),
        ("%8F", "2026-11-23"),
        ("%12D", "    11/23/26"),
        ("%-D", "11/23/26"),
        ("%12T", "    02:32:02"),
        ("%12c", "Mon Nov 23 02:32:02 2026"),
        ("%^x", "11/23/26"),
        ("%-R", "02:32"),
        ("%^h", "NOV"),
        ("%5t", "    \t"),
        ("%_g", "26"),
        ("%-G", "2026"),
        ("%6G", "002026"),
        ("%_V", "48"),
        ("%-W", "47"),
        ("%z %5z", "+0000     +00000"),
        ("%_z", "+   0"),
        ("%-z", "+0"),
        ("%0z", "+0000"),
        ("%^t", "\t"),
    ];

    #[test]
    fn formats_print_as_in_envoy() {
        for (format, expected) in AS_IN_ENVOY {
            assert_eq!(print(format), *expected, "{format:?}");
        }
    }
}
