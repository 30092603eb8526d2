//! Text of histograms as `/stats` prints it, and numbers the way Envoy writes them.

use std::fmt::Write;

use super::histogram::{Histogram, HistogramBucket};
use super::statistics::{HistogramStatistics, SUPPORTED_BUCKETS, SUPPORTED_QUANTILES};

impl Histogram {
    /// `P0(<interval>,<cumulative>) P25(...) ... P100(...)`, or `No recorded values`.
    pub fn summary(&self) -> String {
        if !self.used() {
            return "No recorded values".to_string();
        }
        let (interval, cumulative) = (self.interval(), self.cumulative());
        let mut text = String::new();
        for (i, quantile) in SUPPORTED_QUANTILES.iter().enumerate() {
            let separator = if i == 0 { "" } else { " " };
            let percent = format_g(quantile * 100.0, 6);
            let (interval, cumulative) =
                (format_double(interval.quantiles[i]), format_double(cumulative.quantiles[i]));
            let _ = write!(text, "{separator}P{percent}({interval},{cumulative})");
        }
        text
    }

    /// `B0.5(<interval>,<cumulative>) B1(...) ...` with the counts of cumulative buckets, or
    /// `No recorded values`.
    pub fn bucket_summary(&self) -> String {
        self.bucket_counts(|statistics| statistics.buckets)
    }

    /// The same with the counts of disjoint buckets.
    pub fn disjoint_bucket_summary(&self) -> String {
        self.bucket_counts(HistogramStatistics::disjoint_buckets)
    }

    fn bucket_counts(&self, of: fn(&HistogramStatistics) -> [u64; SUPPORTED_BUCKETS.len()]) -> String {
        if !self.used() {
            return "No recorded values".to_string();
        }
        let (interval, cumulative) = (of(&self.interval()), of(&self.cumulative()));
        let mut text = String::new();
        for (i, bound) in SUPPORTED_BUCKETS.iter().enumerate() {
            let separator = if i == 0 { "" } else { " " };
            let _ = write!(text, "{separator}B{}({},{})", format_g(*bound, 6), interval[i], cumulative[i]);
        }
        text
    }

    /// `<lower bound>,<width>:<count>` of each bin that has samples, as lines of all and of the interval's, and the
    /// summary; or `No recorded values`.
    pub fn detail(&self) -> String {
        if !self.used() {
            return " No recorded values".to_string();
        }
        let text = |buckets: Vec<HistogramBucket>| {
            let bucket = |b: &HistogramBucket| {
                format!("{},{}:{}", format_g(b.lower_bound, 6), format_g(b.width, 6), b.count)
            };
            buckets.iter().map(bucket).collect::<Vec<_>>().join(", ")
        };
        let (totals, intervals) = (text(self.cumulative_buckets()), text(self.interval_buckets()));
        format!("\n  totals={totals}\n  intervals={intervals}\n  summary={}", self.summary())
    }
}

/// The shortest text that reads back as `value`, with an exponent below 1e-4 and from 1e16 on; `nan`
/// when not a number. Envoy's `{}`.
pub fn format_double(value: f64) -> String {
    if !value.is_finite() {
        return non_finite(value);
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return with_exponent(mantissa, exponent.parse().unwrap_or(0));
    }
    value.to_string()
}

/// The shortest text that reads back as `value`, in the notation that is shorter; `null` when not a number. As
/// Envoy writes JSON.
pub fn format_shortest(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_string();
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let scientific = with_exponent(mantissa, exponent.parse().unwrap_or(0));
    let fixed = value.to_string();
    if fixed.len() <= scientific.len() { fixed } else { scientific }
}

/// As `%.<precision>g` of printf: at most `precision` (1 or more) significant digits, no trailing
/// zeros. Prometheus sums are written with 32, labels with 6.
pub fn format_g(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        return non_finite(value);
    }
    let digits = precision.max(1);
    let text = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        return with_exponent(without_trailing_zeros(mantissa), exponent);
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    without_trailing_zeros(&format!("{value:.decimals$}")).to_string()
}

fn non_finite(value: f64) -> String {
    let text = if value.is_nan() {
        "nan"
    } else if value > 0.0 {
        "inf"
    } else {
        "-inf"
    };
    text.to_string()
}

fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn without_trailing_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    fn histogram(samples: &[u64]) -> Histogram {
        let histogram = Histogram::new("h".into(), Unit::Milliseconds, 1);
        samples.iter().for_each(|v| histogram.record(*v));
        histogram.merge();
        histogram
    }

    #[test]
    fn an_unused_histogram_says_so() {
        assert_eq!(histogram(&[]).summary(), "No recorded values");
        assert_eq!(histogram(&[]).bucket_summary(), "No recorded values");
    }

    #[test]
    fn a_summary_has_interval_and_cumulative_quantiles() {
        let histogram = histogram(&[1; 7]);
        let first = "P0(1.0125,1.0125) P25(1.025,1.025) P50(1.05,1.05) P75(1.075,1.075) \
                     P90(1.0875,1.0875) P95(1.0875,1.0875) P99(1.0875,1.0875) P99.5(1.0875,1.0875) \
                     P99.9(1.0875,1.0875) P100(1.0875,1.0875)";
        assert_eq!(histogram.summary(), first);
        histogram.merge();
        assert!(histogram.summary().starts_with("P0(nan,1.0125) P25(nan,1.025) "));
        histogram.record(0);
        histogram.merge();
        assert!(histogram.summary().starts_with("P0(0,0) P25(0,1.0125) "), "{}", histogram.summary());
    }

    #[test]
    fn a_bucket_summary_has_counts() {
        let text = histogram(&[1; 7]).bucket_summary();
        assert!(text.starts_with("B0.5(0,0) B1(7,7) B5(7,7) "), "{text}");
        assert!(text.ends_with(" B600000(7,7) B1.8e+06(7,7) B3.6e+06(7,7)"), "{text}");
    }

    #[test]
    fn doubles_are_written_short() {
        let cases = [(0.0, "0"), (1.05, "1.05"), (100.0, "100"), (1e15, "1000000000000000")];
        for (value, text) in cases {
            assert_eq!(format_double(value), text);
        }
        assert_eq!(format_double(1.05e16), "1.05e+16");
        assert_eq!(format_double(1e-5), "1e-05");
        assert_eq!(format_double(f64::NAN), "nan");
        assert_eq!(format_double(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn details_have_bins_and_disjoint_buckets_their_own_counts() {
        let histogram = histogram(&[0, 1, 1, 15]);
        histogram.merge();
        histogram.record(15);
        histogram.merge();
        let detail = histogram.detail();
        assert!(
            detail.starts_with("\n  totals=0,0:1, 1,0.1:2, 15,1:2\n  intervals=15,1:1\n  summary=P0(15"),
            "{detail}"
        );
        let text = histogram.disjoint_bucket_summary();
        assert!(text.starts_with("B0.5(0,1) B1(0,2) B5(0,0) B10(0,0) B25(1,2) B50(0,0) "), "{text}");
    }

    #[test]
    fn json_has_the_shorter_notation() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (60000.0, "60000"),
            (3e5, "3e+05"),
            (1.8e6, "1800000"),
            (1e-5, "1e-05"),
            (0.0001, "1e-04"),
            (1.0125, "1.0125"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(format_shortest(value), text);
        }
    }

    #[test]
    fn g_has_significant_digits() {
        assert_eq!(format_g(99.5, 6), "99.5");
        assert_eq!(format_g(600000.0, 6), "600000");
        assert_eq!(format_g(1800000.0, 6), "1.8e+06");
        assert_eq!(format_g(0.00001234, 3), "1.23e-05");
        assert_eq!(format_g(0.0, 6), "0");
        assert_eq!(format_g(7.333333333333334, 32), "7.3333333333333339254522798000835");
        assert_eq!(format_g(f64::INFINITY, 6), "inf");
    }
}
