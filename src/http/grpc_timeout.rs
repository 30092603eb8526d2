//! The header by which a request of gRPC says for how long it waits.
//!
//! Mirrors `Grpc::Common::getGrpcTimeout` and `toGrpcTimeout` of Envoy's `source/common/grpc/common.cc`.

use std::time::Duration;

use super::{HeaderId, HeaderMap};

/// What it can say at most, in its unit.
const MAX: u128 = 99_999_999;

/// For how long the request waits; `None` where it does not say, or nothing that can be read.
pub fn get(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(HeaderId::GrpcTimeout)?.split_last()?;
    let number: u64 =
        std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let milliseconds = match unit {
        b'H' => number.saturating_mul(3_600_000),
        b'M' => number.saturating_mul(60_000),
        b'S' => number.saturating_mul(1000),
        b'm' => number,
        // More rather than less.
        b'u' => number.div_ceil(1000),
        b'n' => number.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(milliseconds))
}

/// Has the request say that it waits so long.
pub fn set(headers: &mut HeaderMap, timeout: Duration) {
    let ms = timeout.as_millis();
    let units = [(ms, 'm'), (ms / 1000, 'S'), (ms / 60_000, 'M'), (ms / 3_600_000, 'H')];
    let (number, unit) = units.into_iter().find(|(number, _)| *number <= MAX).unwrap_or((MAX, 'H'));
    headers.set(HeaderId::GrpcTimeout, format!("{number}{unit}").as_bytes());
}

/// What comes of what a request says: with `offset` taken off unless nothing would be left, and no more than `max`. Zero is
/// for any time.
pub fn limited(timeout: Duration, max: Duration, offset: Duration) -> Duration {
    let timeout = if offset < timeout { timeout - offset } else { timeout };
    if !max.is_zero() && (timeout.is_zero() || timeout > max) { max } else { timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let mut headers = HeaderMap::new();
        for (text, ms) in [
            ("5S", Some(5000)),
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("7m", Some(7)),
            ("1001u", Some(2)),
            ("1n", Some(1)),
            ("0S", Some(0)),
            ("S", None),
            ("5", None),
            ("-1S", None),
            ("", None),
            ("+1S", None),
        ] {
            headers.set(HeaderId::GrpcTimeout, text.as_bytes());
            assert_eq!(get(&headers), ms.map(Duration::from_millis), "{text}");
        }
        for (ms, text) in
            [(0, "0m"), (99_999_999, "99999999m"), (100_000_000, "100000S"), (u64::MAX, "99999999H")]
        {
            set(&mut headers, Duration::from_millis(ms));
            assert_eq!(headers.get(HeaderId::GrpcTimeout), Some(text.as_bytes()));
        }
    }
}
