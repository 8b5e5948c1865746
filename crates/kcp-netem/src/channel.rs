//! The fate of datagrams on one direction of one path: everything but holding them.

use std::time::Duration;

use crate::{
    config::{Bottleneck, Jitter, LinkConfig, Queue},
    link::Datagram,
    loss::LossState,
    rng::{Purpose, draw},
    stats::LinkStats,
    time::{Time, whole_micros},
};

/// Decides what happens to each datagram. The owner holds the datagrams until their time and then calls
/// [`release`](Self::release).
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) config: LinkConfig,
    pub(crate) partitioned: bool,
    seed: u64,
    next_index: u64,
    loss: LossState,
    /// When the bottleneck has sent everything admitted so far, in nanoseconds: at 1 Gbit/s and more a datagram takes
    /// no whole number of microseconds.
    busy_until_nanos: u64,
    /// The latest arrival among datagrams that keep their order.
    in_order_until: Time,
    blackouts: Vec<(Time, Time)>,
    held_bytes: usize,
    newest_delivered: Option<u64>,
    stats: LinkStats,
}

/// When a datagram arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    pub(crate) index: u64,
    pub(crate) at: Time,
    pub(crate) copy_at: Option<Time>,
}

impl Channel {
    pub(crate) fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            partitioned: false,
            seed,
            next_index: 0,
            loss: LossState::default(),
            busy_until_nanos: 0,
            in_order_until: Time::ZERO,
            blackouts: Vec::new(),
            held_bytes: 0,
            newest_delivered: None,
            stats: LinkStats::default(),
        }
    }

    /// Decides about the next datagram, which may be changed. `None`: it is gone.
    pub(crate) fn admit<D: Datagram>(&mut self, now: Time, datagram: &mut D) -> Option<Fate> {
        let index = self.next_index;
        self.next_index += 1;
        let len = datagram.len();
        self.stats.offered += 1;
        self.stats.offered_bytes += len as u64;
        // Before any return: the loss model sees every index.
        let lost = self.loss.loses(self.config.loss, self.seed, index);

        if self.is_down(now) {
            self.stats.dropped_partition += 1;
            return None;
        }
        if self.config.mtu_hole.is_some_and(|limit| len > limit) {
            self.stats.dropped_mtu += 1;
            return None;
        }
        if !self.has_room_for(len) {
            self.stats.dropped_memory += 1;
            return None;
        }
        let Some(sent) = self.pass_bottleneck(now, len) else {
            self.stats.dropped_queue += 1;
            return None;
        };
        if lost {
            self.stats.dropped_loss += 1;
            return None;
        }

        if self.draws(self.config.corrupt, index, Purpose::Corrupt) && len > 0 {
            datagram.flip_bit(draw(self.seed, index, Purpose::CorruptBit) % (len as u64 * 8));
            self.stats.corrupted += 1;
        }
        let at = self.arrival(sent, index);
        self.held_bytes += len + OVERHEAD_BYTES;
        let mut copy_at = None;
        if self.draws(self.config.duplicate, index, Purpose::Duplicate) && self.has_room_for(len) {
            copy_at = Some(match self.config.jitter {
                Jitter::Free(range) => self.free_arrival(sent, index, range, Purpose::CopyJitter),
                _ => at,
            });
            self.held_bytes += len + OVERHEAD_BYTES;
            self.stats.duplicated += 1;
        }
        Some(Fate { index, at, copy_at })
    }

    /// A datagram has come out.
    pub(crate) fn release(&mut self, index: u64, len: usize, is_copy: bool) {
        self.held_bytes -= len + OVERHEAD_BYTES;
        self.stats.delivered += 1;
        self.stats.delivered_bytes += len as u64;
        if is_copy {
            return;
        }
        match self.newest_delivered {
            Some(newest) if index < newest => self.stats.reordered += 1,
            _ => self.newest_delivered = Some(index),
        }
    }

    /// Adds a black-out from `from` until before `until`.
    pub(crate) fn black_out(&mut self, from: Time, until: Time) {
        self.blackouts.push((from, until));
    }

    pub(crate) fn stats(&self) -> LinkStats {
        self.stats
    }

    fn is_down(&mut self, now: Time) -> bool {
        if !self.blackouts.is_empty() {
            self.blackouts.retain(|(_, until)| now < *until);
        }
        self.partitioned || self.blackouts.iter().any(|(from, _)| *from <= now)
    }

    fn has_room_for(&self, len: usize) -> bool {
        self.held_bytes.saturating_add(len + OVERHEAD_BYTES) <= self.config.memory_limit
    }

    fn draws(&self, probability: crate::Probability, index: u64, purpose: Purpose) -> bool {
        probability.hits(draw(self.seed, index, purpose))
    }

    /// When the last bit has been sent, or `None` if the queue is full.
    fn pass_bottleneck(&mut self, now: Time, len: usize) -> Option<Time> {
        let Some(Bottleneck { rate, queue }) = self.config.bottleneck else {
            return Some(now);
        };
        let now_nanos = now.as_micros().saturating_mul(1000);
        let waits = self.busy_until_nanos.saturating_sub(now_nanos);
        let fits = match queue {
            Queue::Bytes(limit) => rate.bytes_in(waits).saturating_add(len as u64) <= limit as u64,
            Queue::Time(limit) => u128::from(waits) <= limit.as_nanos(),
        };
        if waits > 0 && !fits {
            return None;
        }
        let sent = now_nanos
            .saturating_add(waits)
            .saturating_add(rate.nanos_for(len));
        self.busy_until_nanos = sent;
        Some(Time::from_micros(sent.div_ceil(1000)))
    }

    fn arrival(&mut self, sent: Time, index: u64) -> Time {
        let at = match self.config.jitter {
            Jitter::None => sent + self.config.delay,
            Jitter::Free(range) => self.free_arrival(sent, index, range, Purpose::Jitter),
            Jitter::Ordered(range) => {
                sent + self.config.delay_with(self.wandering_offset(sent, range))
            }
        };
        if self.draws(self.config.reorder, index, Purpose::Reorder) {
            return at + self.config.reorder_delay;
        }
        if matches!(self.config.jitter, Jitter::Free(_)) {
            return at;
        }
        self.in_order_until = self.in_order_until.max(at);
        self.in_order_until
    }

    fn free_arrival(&self, sent: Time, index: u64, range: Duration, purpose: Purpose) -> Time {
        let range = bounded_micros(range);
        let offset = draw(self.seed, index, purpose) % (2 * range + 1);
        sent + self.config.delay_with(offset as i64 - range as i64)
    }

    /// The offset at `time`: on the line between two random points. Its slope is at most one half, so a later
    /// datagram never arrives earlier.
    fn wandering_offset(&self, time: Time, range: Duration) -> i64 {
        let range = bounded_micros(range);
        if range == 0 {
            return 0;
        }
        let spacing = 4 * range;
        let slot = time.as_micros() / spacing;
        let point = |slot: u64| (draw(self.seed, slot, Purpose::Jitter) % (2 * range + 1)) as i64;
        let (start, end) = (point(slot), point(slot + 1));
        let along = (time.as_micros() % spacing) as i64;
        start + (end - start) * along / spacing as i64 - range as i64
    }
}

impl LinkConfig {
    /// The delay moved by `offset` microseconds, never below zero.
    fn delay_with(&self, offset: i64) -> Duration {
        Duration::from_micros(whole_micros(self.delay).saturating_add_signed(offset))
    }
}

/// A jitter range in microseconds, small enough that no product of two of them overflows.
fn bounded_micros(range: Duration) -> u64 {
    whole_micros(range).min(MAX_JITTER_MICROS)
}

/// 10 minutes: no network varies more.
const MAX_JITTER_MICROS: u64 = 600_000_000;

/// What a held datagram is taken to cost beside its bytes.
const OVERHEAD_BYTES: usize = 64;
