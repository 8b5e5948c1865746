//! How much the path has shown that it carries (`docs/protocol.md` 11.6).
//!
//! A window far beyond what fits the path is not flow control but a queue: on a short fast path it is
//! the receiver's socket buffer, and what is over is lost. So no more than a multiple of the fastest
//! delivery of late, over the shortest round trip of late, is unacknowledged; nor more than that over the
//! time that the hosts take, where this is longer.

use crate::time::Instant;

/// Segments that may be unacknowledged on any path: 176 KB, which the smallest usual socket buffer
/// holds even if its reader sleeps.
const ALWAYS_ALLOWED: usize = 128;
/// How long the hosts may take to wake up and to read, in microseconds: the shortest round trip does
/// not show it, and on a path as fast as memory more arrives meanwhile than the path carries.
const HOST_DELAY_US: u64 = 250;
/// The most that is allowed for it: six trains of 46. More only leaves the caches before it is read; of
/// this the smallest usual socket buffer loses some when its reader is late, a datagram in ten thousand.
const MOST_FOR_HOSTS: usize = 276;
/// How far beyond what the path carries: lost segments are unacknowledged until they are resent, and
/// a path that has become faster must be able to show it.
const HEADROOM: usize = 4;
/// Deliveries are counted over this long, in microseconds.
const INTERVAL_US: u64 = 10_000;
/// "Of late" is this epoch and the one before, in microseconds each.
const EPOCH_US: u64 = 5_000_000;

/// What was seen in an epoch.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    least_rtt_us: u32,
    /// Segments acknowledged in the best interval.
    most_delivered: u32,
}

const UNSEEN: Epoch = Epoch {
    least_rtt_us: u32::MAX,
    most_delivered: 0,
};

/// An estimate of the path's capacity, in segments in flight.
#[derive(Debug)]
pub(crate) struct PathCapacity {
    epochs: [Epoch; 2],
    epoch_began: Instant,
    interval_began: Instant,
    delivered: u32,
    /// The last round trip since the last delivery; `u32::MAX` if there was none.
    rtt_us: u32,
    /// When the newest transmission left that is known to have arrived.
    newest_arrived: Instant,
}

impl PathCapacity {
    pub(crate) const fn new() -> Self {
        Self {
            epochs: [UNSEEN; 2],
            epoch_began: Instant::ZERO,
            interval_began: Instant::ZERO,
            delivered: 0,
            rtt_us: u32::MAX,
            newest_arrived: Instant::ZERO,
        }
    }

    /// A datagram has acknowledged `segments`. To be called after [`on_round_trip`](Self::on_round_trip) for each of its ACKs.
    pub(crate) fn on_delivered(&mut self, now: Instant, segments: u64) {
        if self.rtt_us != u32::MAX {
            let sent = now.as_micros().saturating_sub(u64::from(self.rtt_us));
            self.newest_arrived = self.newest_arrived.max(Instant::from_micros(sent));
            self.rtt_us = u32::MAX;
        }
        if micros(self.interval_began, now) >= INTERVAL_US {
            self.interval_began = now;
            self.delivered = 0;
        }
        if micros(self.epoch_began, now) >= EPOCH_US {
            self.epoch_began = now;
            self.epochs = [UNSEEN, self.epochs[0]];
        }
        self.delivered = self.delivered.wrapping_add(segments as u32);
        let most = &mut self.epochs[0].most_delivered;
        *most = self.delivered.max(*most);
    }

    /// A round trip took this long.
    pub(crate) fn on_round_trip(&mut self, rtt_us: u64) {
        let rtt_us = rtt_us.min(u64::from(u32::MAX)) as u32;
        let least = &mut self.epochs[0].least_rtt_us;
        *least = rtt_us.min(*least);
        self.rtt_us = rtt_us;
    }

    /// When the newest transmission left whose time stamp an ACK has echoed; the epoch of the clock if there is
    /// none.
    pub(crate) const fn newest_arrived(&self) -> Instant {
        self.newest_arrived
    }

    /// The most segments that may be unacknowledged.
    pub(crate) fn most_outstanding(&self) -> usize {
        let [now, before] = &self.epochs;
        let rtt = now.least_rtt_us.min(before.least_rtt_us);
        let delivered = now.most_delivered.max(before.most_delivered);
        if delivered == 0 || rtt == u32::MAX {
            return ALWAYS_ALLOWED;
        }
        let (rtt, delivered) = (u64::from(rtt), u64::from(delivered));
        let while_the_hosts_wake = delivered_in(HOST_DELAY_US, delivered).min(MOST_FOR_HOSTS);
        delivered_in(rtt, delivered)
            .saturating_mul(HEADROOM)
            .max(while_the_hosts_wake)
            .max(ALWAYS_ALLOWED)
    }
}

/// Segments in a time, at `delivered` in each interval.
fn delivered_in(us: u64, delivered: u64) -> usize {
    usize::try_from(delivered.saturating_mul(us) / INTERVAL_US).unwrap_or(usize::MAX)
}

const fn micros(from: Instant, to: Instant) -> u64 {
    to.as_micros().saturating_sub(from.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers so many segments every 10 ms for a second, over a round trip of `rtt_us`.
    fn after_a_second(per_interval: u64, rtt_us: u64) -> PathCapacity {
        let mut capacity = PathCapacity::new();
        for interval in 0..100 {
            let now = Instant::from_millis(1_000 + interval * 10);
            capacity.on_delivered(now, per_interval);
            capacity.on_round_trip(rtt_us);
        }
        capacity
    }

    /// protocol.md 11.6
    #[test]
    fn a_short_path_needs_no_more_than_any() {
        assert_eq!(PathCapacity::new().most_outstanding(), 128);
        // 700 MB/s over 60 us: 30 segments.
        assert_eq!(after_a_second(5_087, 60).most_outstanding(), 128);
    }

    #[test]
    fn a_path_as_fast_as_memory_is_given_the_time_of_the_hosts() {
        // 1 GB/s over 20 us: 15 segments, and 182 in 250 us.
        assert_eq!(after_a_second(7_267, 20).most_outstanding(), 181);
        // 3 GB/s.
        assert_eq!(after_a_second(21_801, 20).most_outstanding(), 276);
    }

    #[test]
    fn a_long_fast_path_is_given_four_times_what_it_carries() {
        // 1 Gbit/s over 200 ms.
        assert_eq!(after_a_second(900, 200_000).most_outstanding(), 72_000);
    }

    /// protocol.md 11.3.1
    #[test]
    fn an_echo_tells_what_arrived() {
        let mut capacity = PathCapacity::new();
        capacity.on_round_trip(30_000);
        capacity.on_round_trip(20_000);
        capacity.on_delivered(Instant::from_millis(1_000), 2);
        assert_eq!(capacity.newest_arrived(), Instant::from_millis(980));
        // What una frees without an ACK tells nothing, nor does an ACK that is repeated.
        capacity.on_delivered(Instant::from_millis(5_000), 1);
        assert_eq!(capacity.newest_arrived(), Instant::from_millis(980));
        capacity.on_round_trip(8_020_000);
        capacity.on_delivered(Instant::from_millis(9_000), 1);
        assert_eq!(capacity.newest_arrived(), Instant::from_millis(980));
    }

    #[test]
    fn what_was_seen_long_ago_is_forgotten() {
        let mut capacity = after_a_second(900, 200_000);
        for second in 3..14 {
            capacity.on_delivered(Instant::from_millis(second * 1_000), 1);
            capacity.on_round_trip(200_000);
        }
        assert_eq!(capacity.most_outstanding(), 128);
    }
}
