//! What a session holds that cannot be delivered yet: how much, how far ahead, and for how long
//! (`docs/protocol.md` 11.4).

use core::mem::size_of;
use core::time::Duration;

use super::{Arrived, FIRST_SLOTS, Receiver};
use crate::memory::Order;
use crate::seq::Sn;
use crate::time::Instant;

/// Watches for a gap or an incomplete message that stays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StaleWatch {
    mark: Option<Mark>,
    /// Segments up to `until` were let go when `missing` had been missing for too long. The peer may
    /// take them for delivered.
    lost: Option<Lost>,
}

/// What was held at one moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    next: Sn,
    furthest: Sn,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    missing: Sn,
    until: Sn,
}

/// What has been held for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    /// Nothing.
    None,
    /// So many segments behind a gap. They are gone.
    Gap(usize),
    /// The message in front, or a gap after such segments were let go: there is no way on.
    Stream,
}

/// Whether a segment that cannot be delivered is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    None,
    /// Beyond the account, in the session's allotment: it gets no more memory than twice its bytes.
    Allotted,
    /// On the account.
    Ample,
}

impl Room {
    const fn within(bytes: usize, allotment: usize) -> Self {
        if bytes <= allotment {
            Self::Allotted
        } else {
            Self::None
        }
    }
}

impl Receiver {
    /// Whether a segment so far ahead would make the ring larger than what a peer that has not proven
    /// its address has earned by sending: a first flight, and a multiple of what was taken.
    pub(super) const fn is_too_far_ahead(&self, ahead: usize) -> bool {
        let earned = (self.taken as usize).saturating_mul(SLOTS_PER_SEGMENT);
        self.is_stranger && ahead >= earned.saturating_add(FIRST_FLIGHT)
    }

    /// Whether there is room for the next segment in order, if it leaves a message incomplete; of an unvalidated
    /// peer, for any.
    #[inline]
    pub(super) fn room_for_next(&mut self, frg: u8, len: usize) -> Room {
        if !self.lease.is_bounded() {
            return Room::Ample;
        }
        let head = self.ready.front().map_or(frg, |head| head.frg);
        if !self.is_stranger && self.ready.len() >= usize::from(head) {
            return Room::Ample;
        }
        let blocks = self.ready.block_bytes_with(len, self.is_stranger);
        let held = self.ring_bytes(0) + self.kept.block_bytes() + blocks;
        if self.lease.admits(held, Order::Next) {
            return Room::Ample;
        }
        // The message by itself: what waits behind a gap must not keep its next fragment out.
        let message = self.ready.unread().saturating_add(len);
        Room::within(message, self.lease.allotment(Order::Next))
    }

    /// Whether there is room for one more segment out of order.
    pub(super) fn room_ahead(&mut self, ahead: usize, len: usize) -> Room {
        if !self.lease.is_bounded() {
            return Room::Ample;
        }
        let others = self.ring_bytes(ahead + 1) + self.counted_ready_bytes();
        let held = others + self.kept.block_bytes_with(len, self.is_stranger);
        if self.lease.admits(held, Order::Ahead) {
            return Room::Ample;
        }
        let held = others + self.kept.block_bytes_with(len, true);
        Room::within(held, self.lease.allotment(Order::Ahead))
    }

    /// Tells the account what is held.
    #[inline]
    pub(super) fn settle_memory(&mut self) {
        if self.lease.is_bounded() {
            let kept = self.ring_bytes(0) + self.kept.block_bytes();
            self.lease.settle(kept + self.counted_ready_bytes());
        }
    }

    /// What counts of the segments in order: those that no reader can take yet; of an unvalidated peer all.
    fn counted_ready_bytes(&self) -> usize {
        match self.is_stranger {
            true => self.ready.block_bytes(),
            false => self.ready.blocked_bytes(),
        }
    }

    /// Memory of the ring for segments out of order, with at least `slots`.
    fn ring_bytes(&self, slots: usize) -> usize {
        let ring = if slots > self.reorder.len() {
            slots.next_power_of_two().max(FIRST_SLOTS)
        } else {
            self.reorder.len()
        };
        ring * size_of::<Option<Arrived>>()
    }

    fn is_stuck(&self) -> bool {
        self.reordered > 0 || self.ready.incomplete_bytes() > 0 || self.awaits_lost()
    }

    /// Whether the next segment is one that was let go, which the peer may take for delivered.
    fn awaits_lost(&self) -> bool {
        self.stale
            .lost
            .is_some_and(|lost| lost.missing != self.next && !lost.until.is_before(self.next))
    }

    /// Whether anything was let go.
    pub(crate) const fn has_let_go(&self) -> bool {
        self.stale.lost.is_some()
    }

    /// To be called after each segment of a peer that has not proven its address, or had not when something was
    /// let go.
    pub(crate) fn watch(&mut self, now: Instant) {
        if !self.is_stuck() {
            self.stale.mark = None;
        } else if self.stale.mark.is_none() {
            self.stale.mark = Some(Mark {
                at: now,
                next: self.next,
                furthest: self.furthest,
            });
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn stale_at(&self) -> Option<Instant> {
        self.stale.mark.map(|mark| mark.at + STALE_AFTER)
    }

    /// Lets go of what has been held for too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Stale {
        if self.stale_at().is_none_or(|at| now < at) {
            return Stale::None;
        }
        let Some(mark) = self.stale.mark.take() else {
            return Stale::None;
        };
        if !self.is_stuck() {
            return Stale::None;
        }
        let stands_still = mark.next == self.next;
        let incomplete = self.is_stranger && self.ready.incomplete_bytes() > 0;
        if stands_still && (incomplete || self.awaits_lost()) {
            return Stale::Stream;
        }
        let has_passed = mark.furthest.is_before(self.next);
        if !self.is_stranger || self.reordered == 0 || has_passed {
            self.watch(now);
            return Stale::None;
        }
        let count = self.reordered;
        // What was let go before stays lost.
        let before = self.stale.lost;
        let missing = before.filter(|_| self.awaits_lost());
        let until = before.filter(|before| self.furthest.is_before(before.until));
        self.stale.lost = Some(Lost {
            missing: missing.map_or(self.next, |before| before.missing),
            until: until.map_or(self.furthest, |before| before.until),
        });
        self.drop_reordered();
        self.settle_memory();
        self.watch(now);
        Stale::Gap(count)
    }
}

/// How long something that cannot be delivered is kept for a peer that has not proven its address.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// The default send window of stock peers: a flight whose first segments are lost is kept, whatever came
/// before.
const FIRST_FLIGHT: usize = 32;
/// Further slots of the ring for each segment taken.
const SLOTS_PER_SEGMENT: usize = 8;

#[cfg(test)]
mod tests;
