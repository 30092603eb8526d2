//! Numbers computed from the bins of a histogram (Envoy `source/common/stats/histogram_impl.*`, and the
//! approximations of libcircllhist).

use super::bins::Bin;

/// The quantiles of every histogram, from 0 to 1.
pub const SUPPORTED_QUANTILES: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];

/// The upper bounds of the buckets that Prometheus sees.
pub const SUPPORTED_BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0,
    300000.0, 600000.0, 1800000.0, 3600000.0,
];

/// Numbers about a set of samples.
#[derive(Clone, Debug)]
pub struct HistogramStatistics {
    /// The value at each of [`SUPPORTED_QUANTILES`]; NaN without samples.
    pub quantiles: [f64; SUPPORTED_QUANTILES.len()],
    /// How many samples are in bins that begin at or below each of [`SUPPORTED_BUCKETS`].
    pub buckets: [u64; SUPPORTED_BUCKETS.len()],
    /// How many samples there are.
    pub count: u64,
    /// Their approximate sum.
    pub sum: f64,
}

impl HistogramStatistics {
    /// From bins in order, none of them empty.
    pub(super) fn new(bins: &[(Bin, u64)]) -> Self {
        HistogramStatistics {
            quantiles: quantiles(bins),
            buckets: SUPPORTED_BUCKETS.map(|bound| {
                bins.iter().take_while(|(bin, _)| bin.left() <= bound).map(|(_, count)| count).sum()
            }),
            count: bins.iter().map(|(_, count)| count).sum(),
            // Not the negative zero that nothing adds up to.
            sum: bins.iter().fold(0.0, |sum, (bin, count)| sum + bin.midpoint() * *count as f64),
        }
    }
}

impl HistogramStatistics {
    /// How many samples are in each of [`SUPPORTED_BUCKETS`] and in none before it.
    pub fn disjoint_buckets(&self) -> [u64; SUPPORTED_BUCKETS.len()] {
        let mut below = 0;
        self.buckets.map(|count| count - std::mem::replace(&mut below, count))
    }
}

/// The `n` samples of a bin are taken to be spread evenly, the `k`th at `k / (n + 1)` of its width. The
/// quantile `q` of `n` samples is the `ceil(q * n)`th one, the first for q = 0.
fn quantiles(bins: &[(Bin, u64)]) -> [f64; SUPPORTED_QUANTILES.len()] {
    let mut result = [f64::NAN; SUPPORTED_QUANTILES.len()];
    let total: f64 = bins.iter().map(|(_, count)| *count as f64).sum();
    let mut bins = bins.iter();
    let Some((mut bin, mut count)) = bins.next().copied() else {
        return result;
    };
    let mut below = 0.0;
    for (result, quantile) in result.iter_mut().zip(SUPPORTED_QUANTILES) {
        let rank = total * quantile;
        while below + (count as f64) < rank {
            let Some(next) = bins.next() else { break };
            below += count as f64;
            (bin, count) = *next;
        }
        let nth = (rank - below).ceil().max(1.0);
        *result = bin.left() + nth / (count as f64 + 1.0) * bin.width();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: &[(u64, u64)]) -> HistogramStatistics {
        let bins: Vec<(Bin, u64)> = samples.iter().map(|(value, count)| (Bin::of(*value), *count)).collect();
        HistogramStatistics::new(&bins)
    }

    #[test]
    fn no_samples_have_no_quantiles() {
        let none = of(&[]);
        assert!(none.quantiles.iter().all(|q| q.is_nan()));
        assert_eq!((none.count, none.sum.to_bits(), none.buckets), (0, 0, [0; 19]));
    }

    /// The expected numbers here and below are what Envoy 1.40 prints.
    #[test]
    fn samples_of_one_bin_are_spread_over_it() {
        let seven = of(&[(1, 7)]);
        assert_eq!(
            seven.quantiles,
            [1.0125, 1.025, 1.05, 1.075, 1.0875, 1.0875, 1.0875, 1.0875, 1.0875, 1.0875]
        );
        assert_eq!(seven.sum, 7.333333333333334);
        assert_eq!(of(&[(14, 1)]).quantiles, [14.5; 10]);
    }

    #[test]
    fn the_zero_bin_has_no_width() {
        let q = of(&[(0, 2), (1, 2)]).quantiles;
        assert_eq!(q[..4], [0.0, 0.0, 0.0, 1.0333333333333334]);
        assert_eq!(q[9], 1.0666666666666667);
    }

    #[test]
    fn buckets_are_cumulative_and_include_their_bound() {
        let buckets = of(&[(0, 1), (1, 2), (26, 4), (5_000_000, 8)]).buckets;
        assert_eq!(buckets[..6], [1, 3, 3, 3, 3, 7]);
        assert_eq!(buckets[18], 7);
        let disjoint = of(&[(0, 1), (1, 2), (26, 4), (5_000_000, 8)]).disjoint_buckets();
        assert_eq!((&disjoint[..6], disjoint[18]), (&[1, 2, 0, 0, 0, 4][..], 0));
        for bound in SUPPORTED_BUCKETS.iter().filter(|b| **b >= 1.0) {
            assert_eq!(Bin::of(*bound as u64).left(), *bound);
        }
    }
}
