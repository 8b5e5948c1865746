//! Round-trip time and retransmission time-out (`docs/protocol.md` 6).

/// RTO before the first sample, in ms (`ikcp.c: IKCP_RTO_DEF`).
pub const IKCP_RTO_DEF: u32 = 200;
/// Least RTO with nodelay 1 and 2, in ms (`ikcp.c: IKCP_RTO_NDL`).
pub const IKCP_RTO_NDL: u32 = 30;
/// Least RTO with nodelay 0, in ms (`ikcp.c: IKCP_RTO_MIN`).
pub const IKCP_RTO_MIN: u32 = 100;
/// Greatest RTO of a session, in ms (`ikcp.c: IKCP_RTO_MAX`).
pub const IKCP_RTO_MAX: u32 = 60_000;

/// C's estimator in milliseconds, and a finer one of our own for pacing.
#[derive(Clone, Debug)]
pub(crate) struct RttEstimator {
    /// C's smoothed RTT in ms; 0 means that the next sample is taken as the first.
    pub(crate) smoothed_ms: i32,
    /// C's mean deviation in ms.
    pub(crate) variation_ms: i32,
    /// C's RTO in ms.
    pub(crate) rto_ms: u32,
    min_rto_ms: u32,
    /// Smoothed RTT in microseconds from our own record of transmissions (RFC 6298 gains).
    smoothed_us: Option<u64>,
}

impl RttEstimator {
    pub(crate) const fn new(min_rto_ms: u32) -> Self {
        Self {
            smoothed_ms: 0,
            variation_ms: 0,
            rto_ms: IKCP_RTO_DEF,
            min_rto_ms,
            smoothed_us: None,
        }
    }

    /// protocol.md 6.1 and 6.2; `sample_ms` is not negative.
    pub(crate) fn on_sample(&mut self, sample_ms: i32, interval_ms: u32) {
        if self.smoothed_ms == 0 {
            self.smoothed_ms = sample_ms;
            self.variation_ms = sample_ms / 2;
        } else {
            // A forged sample can be near 2^31: C multiplies in `int` (and wraps, where anything),
            // adds in `long`, and truncates when it stores.
            let delta = (i64::from(sample_ms) - i64::from(self.smoothed_ms)).abs();
            let weighted = i64::from(self.variation_ms.wrapping_mul(3));
            self.variation_ms = ((weighted + delta) / 4) as i32;
            self.smoothed_ms =
                (self.smoothed_ms.wrapping_mul(7).wrapping_add(sample_ms) / 8).max(1);
        }
        // C compares the two terms as unsigned.
        let spread = interval_ms.max(self.variation_ms.wrapping_mul(4) as u32);
        let rto = (self.smoothed_ms as u32).wrapping_add(spread);
        self.rto_ms = rto.max(self.min_rto_ms).min(IKCP_RTO_MAX);
    }

    pub(crate) fn on_fine_sample(&mut self, sample_us: u64) {
        let sample_us = sample_us.min(u64::from(IKCP_RTO_MAX) * 1_000);
        self.smoothed_us = Some(match self.smoothed_us {
            None => sample_us,
            Some(smoothed) => (7 * smoothed + sample_us) / 8,
        });
    }

    /// `None` before the first sample.
    pub(crate) const fn smoothed_us(&self) -> Option<u64> {
        self.smoothed_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// protocol.md 6.1, worked by hand: first sample, then gains of 1/8 and 1/4.
    #[test]
    fn samples_follow_the_formulas() {
        let mut rtt = RttEstimator::new(IKCP_RTO_NDL);
        assert_eq!(rtt.rto_ms, 200);
        rtt.on_sample(100, 10);
        assert_eq!(
            (rtt.smoothed_ms, rtt.variation_ms, rtt.rto_ms),
            (100, 50, 300)
        );
        rtt.on_sample(60, 10);
        assert_eq!(
            (rtt.smoothed_ms, rtt.variation_ms, rtt.rto_ms),
            (95, 47, 283)
        );
    }

    /// protocol.md 6.1: a first sample of 0 leaves the estimator untouched by samples.
    #[test]
    fn zero_first_sample_is_forgotten() {
        let mut rtt = RttEstimator::new(IKCP_RTO_NDL);
        rtt.on_sample(0, 10);
        assert_eq!((rtt.smoothed_ms, rtt.rto_ms), (0, 30));
        rtt.on_sample(80, 10);
        assert_eq!(
            (rtt.smoothed_ms, rtt.variation_ms, rtt.rto_ms),
            (80, 40, 240)
        );
    }

    /// protocol.md 6.2: the interval is the least spread; both bounds hold.
    #[test]
    fn rto_is_bounded() {
        let mut rtt = RttEstimator::new(IKCP_RTO_MIN);
        rtt.on_sample(1, 40);
        assert_eq!(rtt.rto_ms, 100);
        rtt.on_sample(59_000, 40);
        rtt.on_sample(59_000, 40);
        assert_eq!(rtt.rto_ms, 60_000);
    }

    #[test]
    fn forged_samples_do_not_panic() {
        let mut rtt = RttEstimator::new(IKCP_RTO_MIN);
        for sample in [i32::MAX, 0, i32::MAX, 1, i32::MAX, i32::MAX] {
            rtt.on_sample(sample, 5_000);
            assert!((IKCP_RTO_MIN..=IKCP_RTO_MAX).contains(&rtt.rto_ms));
        }
    }
}
