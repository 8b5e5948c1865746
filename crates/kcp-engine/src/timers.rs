//! Retransmission deadlines: one heap entry for a run of segments that share a time.

use alloc::collections::BinaryHeap;
use alloc::collections::binary_heap::PeekMut;
use alloc::vec::Vec;
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

impl Entry {
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
}

impl ResendTimers {
    /// Reminds of `count` segments from `first` on at `at`.
    pub(crate) fn arm(&mut self, at: Millis, first: Sn, count: u32) {
        if count > 0 {
            self.heap.push(Entry { at, first, count });
        }
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
    pub(crate) fn expire(&mut self, now: Millis, ring: &InFlightRing, due: &mut Vec<Sn>) {
        while let Some(top) = self.heap.peek_mut() {
            if top.at > now {
                break;
            }
            let entry = PeekMut::pop(top);
            let sns = (0..entry.count).map(|i| entry.first + i);
            due.extend(sns.filter(|&sn| entry.is_live(sn, ring)));
        }
    }
}
