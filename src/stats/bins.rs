//! The log-linear bins of histograms, as libcircllhist has them: two significant decimal digits.
//!
//! A bin holds the integers that share their first two digits and their length, so `1` is in
//! `[1.0, 1.1)` and `1234` in `[1200, 1300)`. Zero has a bin of its own.

/// Bins of one decade, from 1.0 to 9.9 times a power of ten.
pub(super) const BINS_PER_DECADE: usize = 90;

/// Decades needed for 64 bits.
pub(super) const DECADES: usize = u64::MAX.ilog10() as usize + 1;

/// A bin, ordered by the values it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bin {
    Zero,
    /// Values from `(10 + step) / 10 * 10^decade`.
    Step {
        decade: u8,
        step: u8,
    },
}

impl Bin {
    /// The bin of `value`.
    #[inline]
    pub(super) fn of(value: u64) -> Bin {
        match value {
            0 => return Bin::Zero,
            1..10 => return Bin::Step { decade: 0, step: (value * 10 - 10) as u8 },
            _ => {}
        }
        let decade = value.ilog10();
        let two_digits = value / 10u64.pow(decade - 1);
        Bin::Step { decade: decade as u8, step: (two_digits - 10) as u8 }
    }

    /// The smallest value of the bin.
    pub(super) fn left(self) -> f64 {
        match self {
            Bin::Zero => 0.0,
            Bin::Step { decade, step } => f64::from(10 + step) / 10.0 * power_of_ten(decade),
        }
    }

    /// The distance to the next bin; zero for the zero bin.
    pub(super) fn width(self) -> f64 {
        match self {
            Bin::Zero => 0.0,
            Bin::Step { decade, .. } => power_of_ten(decade) / 10.0,
        }
    }

    /// The value that stands for the samples of the bin in a sum: a bit left of the middle, which
    /// evens out the relative error.
    pub(super) fn midpoint(self) -> f64 {
        let (left, width) = (self.left(), self.width());
        if width == 0.0 { left } else { left + width * (left / (left + left + width)) }
    }
}

fn power_of_ten(exponent: u8) -> f64 {
    10f64.powi(i32::from(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(decade: u8, step: u8) -> Bin {
        Bin::Step { decade, step }
    }

    #[test]
    fn values_fall_into_bins_of_two_digits() {
        assert_eq!(Bin::of(0), Bin::Zero);
        assert_eq!(Bin::of(1), step(0, 0));
        assert_eq!(Bin::of(9), step(0, 80));
        assert_eq!(Bin::of(10), step(1, 0));
        assert_eq!(Bin::of(99), step(1, 89));
        assert_eq!(Bin::of(100), step(2, 0));
        assert_eq!(Bin::of(1299), step(3, 2));
        assert_eq!(Bin::of(u64::MAX), step(19, 8));
    }

    #[test]
    fn every_value_is_within_its_bin() {
        for value in (0..2000).chain([12_345, 99_999, 100_000, 987_654_321]) {
            let bin = Bin::of(value);
            // The bin of 110 begins at 110.00000000000001, and so it does in Envoy.
            let (left, right) = (bin.left() - 1e-9, bin.left() + bin.width() - 1e-9);
            assert!(left <= value as f64, "{value}");
            assert!(value == 0 || (value as f64) < right, "{value}");
        }
    }

    #[test]
    fn bins_are_ordered_by_value() {
        let bins: Vec<Bin> = (0..5000).map(Bin::of).collect();
        assert!(bins.is_sorted());
    }

    #[test]
    fn a_midpoint_leans_to_the_left() {
        assert_eq!(Bin::Zero.midpoint(), 0.0);
        assert!((Bin::of(16).midpoint() - 16.484848484848484).abs() < 1e-12);
    }
}
