//! Retransmission deadlines: one heap entry for a run of segments that share a time.

use alloc::collections::BinaryHeap;
use alloc::collections::binary_heap::PeekMut;
use core::cmp::Ordering;

use crate::in_flight::InFlightRing;
use crate::seq::Sn;
use crate::time::Millis;

/// `count` segments from `first` on are due at `at`, unless their record says otherwise.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Millis,
    first: Sn,
    count: u32,
}

/// Entries below which stale ones are left to come up by themselves.
const SWEEP_FROM: usize = 64;

impl Entry {
    fn sns(self) -> impl Iterator<Item = Sn> {
        (0..self.count).map(move |i| self.first + i)
    }

    fn is_live(&self, sn: Sn, ring: &InFlightRing) -> bool {
        ring.get(sn)
            .is_some_and(|record| record.resend_at == self.at)
    }
}

/// Ordered by time, earliest greatest, for the max-heap.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// When segments are due again. Stale entries are dropped when they come up: a record knows its
/// own `resend_at`, an entry is only a reminder to look.
#[derive(Debug, Default)]
pub(crate) struct ResendTimers {
    heap: BinaryHeap<Entry>,
    /// Entries left by the last sweep.
    swept_to: usize,
}

impl ResendTimers {
    /// Reminds of `count` segments from `first` on at `at`.
    pub(crate) fn arm(&mut self, at: Millis, first: Sn, count: u32, ring: &InFlightRing) {
        if count == 0 {
            return;
        }
        // A segment in flight has one live entry, so more than twice as many means that half are
        // stale. Waiting until their number has doubled keeps a sweep cheaper than the arming.
        let many = 2 * ring.outstanding().max(self.swept_to);
        if self.heap.len() >= SWEEP_FROM.max(many) {
            self.heap
                .retain(|entry| entry.sns().any(|sn| entry.is_live(sn, ring)));
            self.swept_to = self.heap.len();
        }
        self.heap.push(Entry { at, first, count });
    }

    /// The earliest deadline of a segment in flight.
    pub(crate) fn earliest(&mut self, ring: &InFlightRing) -> Option<Millis> {
        while let Some(mut top) = self.heap.peek_mut() {
            while top.count > 0 && !top.is_live(top.first, ring) {
                top.first = top.first.next();
                top.count -= 1;
            }
            if top.count > 0 {
                return Some(top.at);
            }
            PeekMut::pop(top);
        }
        None
    }

    /// Appends to `due` every segment whose time has come.
    pub(crate) fn expire(&mut self, now: Millis, ring: &InFlightRing, due: &mut impl Extend<Sn>) {
        while let Some(top) = self.heap.peek_mut() {
            if top.at > now {
                break;
            }
            let entry = PeekMut::pop(top);
            due.extend(entry.sns().filter(|&sn| entry.is_live(sn, ring)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::in_flight::tests::record_due_at;
    use crate::time::Instant;
    use alloc::vec::Vec;

    fn ms(ms: u64) -> Millis {
        Millis::of(Instant::from_millis(ms))
    }

    fn ring_due_at(times: &[u64]) -> InFlightRing {
        let mut ring = InFlightRing::new(Sn::ZERO);
        for &time in times {
            ring.push(record_due_at(ms(time)));
        }
        ring
    }

    #[test]
    fn a_run_shares_an_entry_and_expires_in_order() {
        let mut ring = ring_due_at(&[10, 10, 10, 7]);
        let mut timers = ResendTimers::default();
        timers.arm(ms(10), Sn::ZERO, 3, &ring);
        timers.arm(ms(7), Sn::new(3), 1, &ring);
        assert_eq!(timers.earliest(&ring), Some(ms(7)));
        ring.acknowledge(Sn::new(1));
        let mut due = Vec::new();
        timers.expire(ms(9), &ring, &mut due);
        assert_eq!(due, [Sn::new(3)]);
        timers.expire(ms(10), &ring, &mut due);
        assert_eq!(due, [3, 0, 2].map(Sn::new));
        assert_eq!(timers.earliest(&ring), None);
    }

    #[test]
    fn an_entry_of_another_time_is_stale() {
        let mut ring = ring_due_at(&[10]);
        let mut timers = ResendTimers::default();
        timers.arm(ms(10), Sn::ZERO, 1, &ring);
        ring.get_mut(Sn::ZERO).unwrap().resend_at = ms(30);
        timers.arm(ms(30), Sn::ZERO, 1, &ring);
        assert_eq!(timers.earliest(&ring), Some(ms(30)));
    }

    #[test]
    fn stale_entries_do_not_pile_up() {
        let mut ring = InFlightRing::new(Sn::ZERO);
        let mut timers = ResendTimers::default();
        for i in 0..10_000 {
            let sn = ring.push(record_due_at(ms(1_000_000 + i)));
            timers.arm(ms(1_000_000 + i), sn, 1, &ring);
            ring.acknowledge(sn);
        }
        assert!(timers.heap.len() <= SWEEP_FROM);
    }

    /// A run is not stale while any of its segments waits, whichever it is.
    #[test]
    fn a_sweep_keeps_runs_whose_first_segment_is_acknowledged() {
        let mut ring = InFlightRing::new(Sn::ZERO);
        let mut timers = ResendTimers::default();
        let at = ms(1_000_000);
        let run = ring.push(record_due_at(at));
        let waits = ring.push(record_due_at(at));
        timers.arm(at, run, 2, &ring);
        ring.acknowledge(run);
        for i in 1..10_000 {
            let sn = ring.push(record_due_at(ms(1_000_000 + i)));
            timers.arm(ms(1_000_000 + i), sn, 1, &ring);
            ring.acknowledge(sn);
        }
        assert!(timers.heap.len() <= SWEEP_FROM);
        let mut due = Vec::new();
        timers.expire(at, &ring, &mut due);
        assert_eq!(due, [waits]);
    }
}
