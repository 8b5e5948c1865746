//! When data may leave: bursts of at most 128 KiB, the rest at window / srtt
//! (`docs/protocol.md` 11.6).

use core::time::Duration;

use crate::time::Instant;

/// The largest burst, in bytes: it fits twice into the 256 KiB that Linux grants a socket by
/// default, of which bookkeeping takes half.
const BURST_BYTES: i64 = 128 * 1_024;

/// What is held back leaves in trains of this much time, the resolution of most timers.
const QUANTUM: Duration = Duration::from_millis(1);
/// And of two full segments at least.
const LEAST_QUANTUM_BYTES: i64 = 2 * 1_400;

/// A token bucket in bytes.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// `None`: no pacing (comparison with C).
    bucket: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// May fall below zero by one segment.
    tokens: i64,
    refilled: Instant,
    /// Bytes per `per`.
    bytes: u64,
    per: Duration,
}

impl Pacer {
    pub(crate) const fn unlimited() -> Self {
        Self { bucket: None }
    }

    pub(crate) const fn new() -> Self {
        let bucket = Bucket {
            tokens: BURST_BYTES,
            refilled: Instant::ZERO,
            bytes: BURST_BYTES as u64,
            per: Duration::from_millis(1),
        };
        Self {
            bucket: Some(bucket),
        }
    }

    /// Adds what has become free since the last call, at `window_bytes` per `rtt`.
    pub(crate) fn refill(&mut self, now: Instant, window_bytes: u64, rtt: Duration) {
        let Some(bucket) = &mut self.bucket else {
            return;
        };
        bucket.bytes = window_bytes.max(1);
        bucket.per = rtt.max(Duration::from_micros(1));
        let elapsed = now.saturating_since(bucket.refilled).as_micros();
        let earned = elapsed * u128::from(bucket.bytes) / bucket.per.as_micros();
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        if earned > 0 {
            // Less than a byte's time is kept for the next call.
            bucket.refilled = now;
            bucket.tokens = bucket.tokens.saturating_add(earned).min(BURST_BYTES);
        }
    }

    /// Whether a segment may leave now.
    pub(crate) fn allows(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| bucket.tokens > 0)
    }

    /// A segment of `bytes` leaves.
    pub(crate) fn spend(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.bucket {
            bucket.tokens -= bytes as i64;
        }
    }

    /// When the next train may leave: not for a segment alone, but for about a millisecond's worth.
    pub(crate) fn next_release(&self) -> Instant {
        let Some(bucket) = &self.bucket else {
            return Instant::ZERO;
        };
        let quantum = u128::from(bucket.bytes) * QUANTUM.as_micros() / bucket.per.as_micros();
        let quantum = i64::try_from(quantum)
            .unwrap_or(i64::MAX)
            .clamp(LEAST_QUANTUM_BYTES, BURST_BYTES);
        let missing = u128::from((quantum - bucket.tokens).max(0).unsigned_abs());
        let wait = (missing * bucket.per.as_micros()).div_ceil(u128::from(bucket.bytes));
        bucket.refilled + Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    #[test]
    fn a_burst_is_bounded_and_the_rest_follows_at_the_rate() {
        let mut pacer = Pacer::new();
        let start = Instant::from_millis(5_000);
        pacer.refill(start, 1_000_000, RTT);
        let mut sent = 0;
        while pacer.allows() {
            pacer.spend(1_400);
            sent += 1_400;
        }
        assert_eq!(sent, 94 * 1_400);
        // 528 bytes over, and a millisecond's 100000: at 100 bytes a microsecond.
        assert_eq!(pacer.next_release(), start + Duration::from_micros(1_006));
        pacer.refill(start + Duration::from_micros(5), 1_000_000, RTT);
        assert!(!pacer.allows());
        pacer.refill(start + Duration::from_micros(6), 1_000_000, RTT);
        assert!(pacer.allows());
    }

    #[test]
    fn slow_rates_do_not_lose_fractions() {
        let mut pacer = Pacer::new();
        pacer.spend(BURST_BYTES as usize);
        let rtt = Duration::from_secs(1);
        // 1000 bytes a second, looked at every 100 us: a byte takes ten looks.
        for tick in 1..=10_000_u64 {
            pacer.refill(Instant::from_micros(tick * 100), 1_000, rtt);
        }
        assert_eq!(pacer.bucket.as_ref().unwrap().tokens, 1_000);
    }

    #[test]
    fn unlimited_always_allows() {
        let mut pacer = Pacer::unlimited();
        pacer.spend(usize::MAX / 2);
        assert!(pacer.allows());
    }
}
