//! Round-trip times, kept to three significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A histogram of durations with microsecond resolution.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

/// What a report says about a set of durations, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        // Three digits are always allowed, and the range grows by itself.
        let histogram = Histogram::new(3).expect("3 significant digits are valid");
        Self { histogram }
    }

    /// Counts one duration. Anything below a microsecond counts as one.
    pub(crate) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros())
            .unwrap_or(u64::MAX)
            .clamp(1, LONGEST);
        // Fails only where the range is fixed; ours grows.
        let _ = self.histogram.record(micros);
    }

    /// None before anything has been recorded.
    pub(crate) fn summary(&self) -> Option<Summary> {
        if self.histogram.is_empty() {
            return None;
        }
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        Some(Summary {
            count: self.histogram.len(),
            min: self.histogram.min() as f64 / 1e3,
            mean: self.histogram.mean() / 1e3,
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            max: self.histogram.max() as f64 / 1e3,
        })
    }
}

/// A day: keeps the histogram small whatever a clock does.
const LONGEST: u64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_set() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), None);
        for ms in 1..=100 {
            latencies.record(Duration::from_millis(ms));
        }
        let summary = latencies.summary().unwrap();
        assert_eq!(summary.count, 100);
        for (got, expected) in [
            (summary.min, 1.0),
            (summary.mean, 50.5),
            (summary.p50, 50.0),
            (summary.p90, 90.0),
            (summary.p99, 99.0),
            (summary.max, 100.0),
        ] {
            assert!(
                (got - expected).abs() / expected < 0.002,
                "{got} for {expected}"
            );
        }
    }

    #[test]
    fn extremes_are_kept_in_range() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.summary().unwrap().count, 2);
    }
}
