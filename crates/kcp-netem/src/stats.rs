//! What a link has done so far.

use std::ops::AddAssign;

/// Counters of one link. Every datagram is accounted for:
/// `offered + duplicated == delivered + dropped() + (still held)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkStats {
    /// Datagrams that were pushed, whatever became of them.
    pub offered: u64,
    /// Their bytes.
    pub offered_bytes: u64,
    /// Datagrams that came out, copies included.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Dropped by the loss model.
    pub dropped_loss: u64,
    /// Dropped because the queue before the bottleneck was full.
    pub dropped_queue: u64,
    /// Dropped because they were longer than the MTU hole lets through.
    pub dropped_mtu: u64,
    /// Dropped because the link was down.
    pub dropped_partition: u64,
    /// Dropped because the emulator held too much: a sign of a badly chosen
    /// [`memory_limit`](crate::LinkConfig::memory_limit).
    pub dropped_memory: u64,
    /// Extra copies made.
    pub duplicated: u64,
    /// Datagrams with a flipped bit.
    pub corrupted: u64,
    /// Datagrams that came out after one that had been pushed later (copies not counted).
    pub reordered: u64,
}

impl LinkStats {
    /// All datagrams that never came out, for whatever reason.
    pub const fn dropped(&self) -> u64 {
        self.dropped_loss
            + self.dropped_queue
            + self.dropped_mtu
            + self.dropped_partition
            + self.dropped_memory
    }
}

impl AddAssign for LinkStats {
    fn add_assign(&mut self, other: Self) {
        // Destructured so that a new counter cannot be forgotten here.
        let Self {
            offered,
            offered_bytes,
            delivered,
            delivered_bytes,
            dropped_loss,
            dropped_queue,
            dropped_mtu,
            dropped_partition,
            dropped_memory,
            duplicated,
            corrupted,
            reordered,
        } = other;
        self.offered += offered;
        self.offered_bytes += offered_bytes;
        self.delivered += delivered;
        self.delivered_bytes += delivered_bytes;
        self.dropped_loss += dropped_loss;
        self.dropped_queue += dropped_queue;
        self.dropped_mtu += dropped_mtu;
        self.dropped_partition += dropped_partition;
        self.dropped_memory += dropped_memory;
        self.duplicated += duplicated;
        self.corrupted += corrupted;
        self.reordered += reordered;
    }
}
