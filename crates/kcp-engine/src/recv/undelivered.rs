//! What a session holds that cannot be delivered yet: how much, how far ahead, and for how long
//! (`docs/protocol.md` 11.4).

use core::mem::size_of;
use core::time::Duration;

use super::{Arrived, FIRST_SLOTS, Receiver};
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

impl Receiver {
    /// Whether a segment so far ahead would make the ring larger than what a peer that has not proven
    /// its address has earned by sending: a first flight, and then a multiple of what was taken.
    pub(super) const fn is_too_far_ahead(&self, ahead: usize) -> bool {
        let earned = (self.taken as usize).saturating_mul(SLOTS_PER_SEGMENT);
        self.is_stranger && ahead >= FIRST_FLIGHT && ahead > earned
    }

    /// Whether the account has room for one more segment of a message that stays incomplete.
    #[inline]
    pub(super) fn admits_fragment(&mut self, frg: u8, len: usize) -> bool {
        if !self.lease.is_bounded() {
            return true;
        }
        let head = self.ready.front().map_or(frg, |head| head.frg);
        if self.ready.len() >= usize::from(head) {
            return true;
        }
        let held = self.reorder_bytes(0) + self.ready.block_bytes();
        self.lease.admits(held + len)
    }

    /// Whether the account has room for one more segment out of order.
    pub(super) fn admits_ahead(&mut self, ahead: usize, len: usize) -> bool {
        if !self.lease.is_bounded() {
            return true;
        }
        let held = self.reorder_bytes(ahead + 1) + self.ready.blocked_bytes();
        self.lease.admits(held + len)
    }

    /// Tells the account what is held.
    #[inline]
    pub(super) fn settle_memory(&mut self) {
        if self.lease.is_bounded() {
            let held = self.reorder_bytes(0) + self.ready.blocked_bytes();
            self.lease.settle(held);
        }
    }

    /// Memory for segments out of order, with a ring of at least `slots`.
    fn reorder_bytes(&self, slots: usize) -> usize {
        let ring = if slots > self.reorder.len() {
            slots.next_power_of_two().max(FIRST_SLOTS)
        } else {
            self.reorder.len()
        };
        ring * size_of::<Option<Arrived>>() + self.kept.block_bytes()
    }

    fn is_stuck(&self) -> bool {
        self.reordered > 0 || self.ready.incomplete_bytes() > 0
    }

    /// To be called after each segment of a peer that has not proven its address.
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
        let after_a_loss = self
            .stale
            .lost
            .is_some_and(|lost| lost.missing != self.next && !lost.until.is_before(self.next));
        if stands_still && (self.ready.incomplete_bytes() > 0 || after_a_loss) {
            return Stale::Stream;
        }
        let has_passed = mark.furthest.is_before(self.next);
        if self.reordered == 0 || has_passed {
            self.watch(now);
            return Stale::None;
        }
        let count = self.reordered;
        self.stale.lost = Some(Lost {
            missing: self.next,
            until: self.furthest,
        });
        self.drop_reordered();
        self.settle_memory();
        self.watch(now);
        Stale::Gap(count)
    }
}

/// How long something that cannot be delivered is kept for a peer that has not proven its address.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// The window of our widest preset: a flight whose first segments are lost is kept, whatever came before.
const FIRST_FLIGHT: usize = 1_024;
/// Slots of the ring for each segment taken, beyond that.
const SLOTS_PER_SEGMENT: usize = 8;

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::buffer::BufferPool;
    use crate::memory::ReceiveMemory;
    use crate::recv::Arrival;

    fn unvalidated(memory: &Arc<ReceiveMemory>) -> Receiver {
        let pool = Arc::new(BufferPool::new());
        let mut receiver = Receiver::new(Sn::ZERO, 65_535, 1 << 20, pool);
        receiver.set_limits(1 << 20, usize::MAX);
        receiver.set_stranger(true);
        receiver.set_memory(Arc::clone(memory));
        receiver
    }

    /// 50 bytes made a ring of 1 MB.
    #[test]
    fn the_ring_grows_with_what_was_received() {
        let memory = unbounded();
        let mut receiver = unvalidated(&memory);
        receiver.insert(Sn::ZERO, 0, false, b"x");
        assert_eq!(
            receiver.insert(Sn::new(65_534), 0, false, b"x"),
            Arrival::NoRoom
        );
        assert_eq!(receiver.insert(Sn::new(128), 0, false, b"x"), Arrival::New);
        assert!(memory.used_unvalidated() <= 6_144, "{memory:?}");
        assert_eq!(
            receiver.insert(Sn::new(1_024), 0, false, b"x"),
            Arrival::New
        );
        assert!(memory.used_unvalidated() <= 24_576, "{memory:?}");
        // A window of which the first half was lost.
        for sn in 1..500 {
            receiver.insert(Sn::new(sn), 0, false, b"x");
        }
        for sn in (1_025..1_524).rev() {
            assert_eq!(receiver.insert(Sn::new(sn), 0, false, b"x"), Arrival::New);
        }
        // A peer that has proven its address has the window.
        receiver.set_stranger(false);
        let last = receiver.next().get() + 65_534;
        assert_eq!(receiver.insert(Sn::new(last), 0, false, b"x"), Arrival::New);
    }

    #[test]
    fn what_cannot_be_delivered_is_on_the_account() {
        let memory = Arc::new(ReceiveMemory::with_limit(1 << 20));
        let mut receiver = unvalidated(&memory);
        let held = (1..100)
            .take_while(|&sn| receiver.insert(Sn::new(sn), 0, false, &[1; 1_376]) == Arrival::New);
        assert!((30..48).contains(&held.count()));
        assert!(memory.used_unvalidated() <= (1 << 16) + 8_192);
        // Whole messages in order are not counted.
        let mut other = unvalidated(&memory);
        for sn in 0..100 {
            let arrival = other.insert(Sn::new(sn), 0, false, &[1; 1_376]);
            assert_eq!(arrival, Arrival::New);
        }
        // What never becomes whole is.
        let arrival = other.insert(Sn::new(100), 1, false, &[1; 1_376]);
        assert_eq!(
            arrival,
            Arrival::New,
            "behind whole ones, which will be read"
        );
        assert_eq!(other.read(&mut [0; 200_000]), Ok(101 * 1_376));
        let unfinished = (101..200)
            .filter(|&sn| other.insert(Sn::new(sn), 255, false, &[1; 1_376]) == Arrival::New);
        assert!(unfinished.count() < 10);
        drop(receiver);
        drop(other);
        assert_eq!((memory.used(), memory.used_unvalidated()), (0, 0));
    }

    fn unbounded() -> Arc<ReceiveMemory> {
        Arc::new(ReceiveMemory::with_limit(usize::MAX))
    }

    const fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * seconds)
    }

    #[test]
    fn a_gap_that_stays_is_let_go() {
        let memory = unbounded();
        let mut receiver = unvalidated(&memory);
        receiver.insert(Sn::new(1), 0, false, b"x");
        receiver.watch(at(0));
        receiver.insert(Sn::new(3), 0, false, b"x");
        receiver.watch(at(50));
        assert_eq!(receiver.expire(at(59)), Stale::None);
        assert_eq!(receiver.expire(at(60)), Stale::Gap(2));
        assert_eq!((receiver.reordered(), memory.used()), (0, 0));
        // The peer sends all of it again: nothing is missing.
        for sn in 0..4 {
            assert_eq!(receiver.insert(Sn::new(sn), 0, false, b"x"), Arrival::New);
            receiver.watch(at(70));
        }
        assert_eq!(receiver.stale_at(), None);
    }

    /// protocol.md 11.4: whatever arrives in front of it.
    #[test]
    fn a_gap_that_stays_is_let_go_although_the_peer_goes_on() {
        let memory = unbounded();
        let mut receiver = unvalidated(&memory);
        receiver.insert(Sn::new(1_000), 0, false, b"x");
        receiver.watch(at(0));
        for n in 0..6 {
            assert_eq!(receiver.expire(at(10 * n)), Stale::None);
            receiver.insert(Sn::new(n as u32), 0, false, b"x");
            receiver.watch(at(10 * n));
        }
        assert_eq!(receiver.expire(at(60)), Stale::Gap(1));
        assert_eq!((receiver.reordered(), receiver.stale_at()), (0, None));
    }

    #[test]
    fn a_peer_that_takes_what_was_let_go_for_delivered_is_told() {
        let memory = unbounded();
        let mut receiver = unvalidated(&memory);
        receiver.insert(Sn::new(1), 0, false, b"x");
        receiver.watch(at(0));
        assert_eq!(receiver.expire(at(60)), Stale::Gap(1));
        for sn in [0, 2] {
            receiver.insert(Sn::new(sn), 0, false, b"x");
            receiver.watch(at(70));
        }
        assert_eq!(receiver.expire(at(130)), Stale::Stream);
    }

    #[test]
    fn a_peer_that_goes_on_keeps_its_segments() {
        let memory = unbounded();
        let mut receiver = unvalidated(&memory);
        for n in 0..100 {
            receiver.insert(Sn::new(2 * n + 1), 0, false, b"x");
            receiver.watch(at(u64::from(n)));
            receiver.insert(Sn::new(2 * n), 0, false, b"x");
            receiver.insert(Sn::new(2 * n + 3), 0, false, b"x");
            receiver.watch(at(u64::from(n)));
            assert_eq!(receiver.expire(at(u64::from(n))), Stale::None);
        }
    }

    #[test]
    fn a_message_that_stays_incomplete_ends_the_stream() {
        let memory = unbounded();
        let mut receiver = unvalidated(&memory);
        receiver.insert(Sn::ZERO, 3, false, b"x");
        receiver.watch(at(0));
        receiver.insert(Sn::new(1), 2, false, b"x");
        receiver.watch(at(59));
        assert_eq!(receiver.expire(at(60)), Stale::None, "it goes on");
        assert_eq!(receiver.expire(at(120)), Stale::Stream);
    }
}
