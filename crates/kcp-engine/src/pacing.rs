//! When data may leave: bursts of two trains, which are about 128 KiB, the rest at window / srtt
//! (`docs/protocol.md` 11.6).

use crate::time::Instant;

/// Most bytes of one train: what UDP takes in one call, on every system.
pub(crate) const TRAIN_BYTES: usize = 65_000;

/// The largest burst. Of full datagrams of the usual sizes it fits into the 208 KiB that Linux grants a
/// socket by default, and no train of it is short.
const BURST_TRAINS: usize = 2;

/// What is held back leaves in trains of this many microseconds, the resolution of most timers.
const QUANTUM_US: u64 = 1_000;
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
    /// The largest burst, in bytes.
    burst: u32,
    /// May fall below zero by one segment.
    tokens: i64,
    refilled: Instant,
    /// Bytes per `per_us`.
    bytes: u64,
    per_us: u32,
    /// When what was held back last may leave.
    release_at: Instant,
}

impl Pacer {
    pub(crate) const fn unlimited() -> Self {
        Self { bucket: None }
    }

    pub(crate) fn new(mtu: usize) -> Self {
        let burst = burst_bytes(mtu);
        let bucket = Bucket {
            burst,
            tokens: i64::from(burst),
            refilled: Instant::ZERO,
            bytes: u64::from(burst),
            per_us: 1_000,
            release_at: Instant::ZERO,
        };
        Self {
            bucket: Some(bucket),
        }
    }

    /// The burst follows the mtu.
    pub(crate) fn set_mtu(&mut self, mtu: usize) {
        if let Some(bucket) = &mut self.bucket {
            bucket.burst = burst_bytes(mtu);
            bucket.release_at = bucket.next_release();
        }
    }

    /// Adds what has become free since the last call, at `window_bytes` per `rtt_us` microseconds, which
    /// are at most an RTO.
    pub(crate) fn refill(&mut self, now: Instant, window_bytes: u64, rtt_us: u64) {
        let Some(bucket) = &mut self.bucket else {
            return;
        };
        bucket.bytes = window_bytes.max(1);
        bucket.per_us = u32::try_from(rtt_us).unwrap_or(u32::MAX).max(1);
        let elapsed = now.as_micros().saturating_sub(bucket.refilled.as_micros());
        // A product that saturates is still more than a burst after the longest round trip.
        let earned = elapsed.saturating_mul(bucket.bytes) / u64::from(bucket.per_us);
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        if earned > 0 {
            // Less than a byte's time is kept for the next call.
            bucket.refilled = now;
            let tokens = bucket.tokens.saturating_add(earned);
            bucket.tokens = tokens.min(i64::from(bucket.burst));
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

    /// Something is held back; [`next_release`](Self::next_release) is from then on when it may leave.
    pub(crate) fn hold(&mut self) {
        if let Some(bucket) = &mut self.bucket {
            bucket.release_at = bucket.next_release();
        }
    }

    /// When the next train may leave, as of the last [`hold`](Self::hold). Asked several times per datagram.
    pub(crate) fn next_release(&self) -> Instant {
        self.bucket
            .as_ref()
            .map_or(Instant::ZERO, |bucket| bucket.release_at)
    }
}

impl Bucket {
    /// Not for a segment alone, but for about a millisecond's worth.
    fn next_release(&self) -> Instant {
        let per_us = u64::from(self.per_us);
        let quantum = self.bytes.saturating_mul(QUANTUM_US) / per_us;
        let quantum = i64::try_from(quantum)
            .unwrap_or(i64::MAX)
            .clamp(LEAST_QUANTUM_BYTES, i64::from(self.burst));
        let missing = (quantum - self.tokens).max(0).unsigned_abs();
        let wait = missing.saturating_mul(per_us).div_ceil(self.bytes);
        Instant::from_micros(self.refilled.as_micros().saturating_add(wait))
    }
}

/// Bytes of whole trains of full datagrams.
fn burst_bytes(mtu: usize) -> u32 {
    let train = (TRAIN_BYTES / mtu).max(1) * mtu;
    u32::try_from(BURST_TRAINS * train).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const RTT_US: u64 = 10_000;

    #[test]
    fn a_burst_is_bounded_and_the_rest_follows_at_the_rate() {
        let mut pacer = Pacer::new(1_400);
        let start = Instant::from_millis(5_000);
        pacer.refill(start, 1_000_000, RTT_US);
        let mut sent = 0;
        while pacer.allows() {
            pacer.spend(1_400);
            sent += 1_400;
        }
        // Two trains of 46.
        assert_eq!(sent, 92 * 1_400);
        // A millisecond's 100000, at 100 bytes a microsecond.
        pacer.hold();
        assert_eq!(pacer.next_release(), start + Duration::from_millis(1));
        pacer.refill(start, 1_000_000, RTT_US);
        assert!(!pacer.allows());
        pacer.refill(start + Duration::from_micros(1), 1_000_000, RTT_US);
        assert!(pacer.allows());
    }

    #[test]
    fn slow_rates_do_not_lose_fractions() {
        let mut pacer = Pacer::new(1_400);
        pacer.spend(92 * 1_400);
        let rtt_us = 1_000_000;
        // 1000 bytes a second, looked at every 100 us: a byte takes ten looks.
        for tick in 1..=10_000_u64 {
            pacer.refill(Instant::from_micros(tick * 100), 1_000, rtt_us);
        }
        assert_eq!(pacer.bucket.as_ref().unwrap().tokens, 1_000);
    }

    #[test]
    fn a_burst_of_any_mtu_is_whole_datagrams_and_at_most_128_kib() {
        for mtu in 50..=65_507 {
            let burst = burst_bytes(mtu);
            assert_eq!(burst % mtu as u32, 0, "{mtu}");
            assert!((65_000..=131_072).contains(&burst), "{mtu}: {burst}");
        }
    }

    #[test]
    fn the_burst_follows_the_mtu() {
        let mut pacer = Pacer::new(1_400);
        pacer.set_mtu(40_000);
        pacer.refill(Instant::from_millis(5_000), 1_000_000, RTT_US);
        // A train of one datagram, and another.
        pacer.spend(80_000);
        assert!(!pacer.allows());
    }

    #[test]
    fn unlimited_always_allows() {
        let mut pacer = Pacer::unlimited();
        pacer.spend(usize::MAX / 2);
        assert!(pacer.allows());
    }
}
