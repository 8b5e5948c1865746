//! A bound on what many sessions together hold of what cannot be delivered yet (`docs/protocol.md`
//! 11.4): segments out of order, and messages of which a part is missing; of unvalidated peers whole messages too.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Memory for data that cannot be delivered yet, shared by the sessions of an endpoint.
///
/// Counted in blocks as they are allocated. Sessions whose peer's address is not validated
/// (`docs/protocol.md` 11.1) together take at most a sixteenth. Segments out of order take at most
/// three quarters of either; fragments that continue the message in front may take all of it. What is
/// beyond a bound is refused, and the peer sends it again.
///
/// Each session has an allotment that it may hold whatever the others hold: fragments in order of any
/// session, and segments out of order of a validated one. The allotments are counted too, so that a
/// full account may be exceeded by one allotment for each validated session, and by a sixteenth for all
/// unvalidated ones.
///
/// Whole messages in order are counted while the peer is not validated. Those of a validated peer are not: the
/// receive window of each session bounds them.
#[derive(Debug)]
pub struct ReceiveMemory {
    limit: usize,
    allotment: usize,
    used: AtomicUsize,
    unvalidated: AtomicUsize,
}

impl ReceiveMemory {
    /// At most this many bytes, of which unvalidated sessions take a sixteenth. The allotment of a session
    /// is 16 KiB, and 8 KiB while it is unvalidated.
    pub const fn with_limit(bytes: usize) -> Self {
        Self {
            limit: bytes,
            allotment: LEAST_ALLOTMENT,
            used: AtomicUsize::new(0),
            unvalidated: AtomicUsize::new(0),
        }
    }

    /// At most so many sessions have this account: the allotment of each is an equal part of it, or
    /// 16 KiB if that is more. An unvalidated session has a sixteenth of it, or 8 KiB.
    #[must_use]
    pub const fn shared_by(mut self, sessions: usize) -> Self {
        let sessions = if sessions == 0 { 1 } else { sessions };
        let part = self.limit / sessions;
        self.allotment = if part > LEAST_ALLOTMENT {
            part
        } else {
            LEAST_ALLOTMENT
        };
        self
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Of those, bytes of sessions whose peer's address is not validated.
    pub fn used_unvalidated(&self) -> usize {
        self.unvalidated.load(Ordering::Relaxed)
    }

    /// The allotments of unvalidated sessions together are at most another sixteenth: forged sessions are
    /// as many as the table holds.
    fn has_unvalidated_allotments(&self) -> bool {
        self.used_unvalidated() < self.limit / UNVALIDATED_SHARE * 2
    }

    fn take(&self, bytes: usize, validated: bool, order: Order) -> bool {
        if !take_from(&self.used, bytes, order.part_of(self.limit)) {
            return false;
        }
        let share = order.part_of(self.limit / UNVALIDATED_SHARE);
        let fits = validated || take_from(&self.unvalidated, bytes, share);
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// Whether a segment is the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Next,
    Ahead,
}

impl Order {
    /// The part of an account that segments of this kind may fill.
    const fn part_of(self, limit: usize) -> usize {
        match self {
            Self::Next => limit,
            // Behind a gap nothing is lost by waiting; a refused fragment in order stops the session.
            Self::Ahead => limit - limit / KEPT_FOR_NEXT,
        }
    }
}

fn take_from(used: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        used.checked_add(bytes).filter(|&sum| sum <= limit)
    })
    .is_ok()
}

/// What one session holds of a [`ReceiveMemory`].
#[derive(Debug)]
pub(crate) struct MemoryLease {
    /// `None`: there is no bound.
    memory: Option<Arc<ReceiveMemory>>,
    charged: usize,
    validated: bool,
}

impl MemoryLease {
    pub(crate) const fn new(memory: Arc<ReceiveMemory>) -> Self {
        Self {
            memory: Some(memory),
            charged: 0,
            validated: true,
        }
    }

    /// Whether there is a bound at all; without one nothing need be counted.
    #[inline]
    pub(crate) const fn is_bounded(&self) -> bool {
        self.memory.is_some()
    }

    /// What the session may hold of segments of this kind whatever the other sessions hold.
    pub(crate) fn allotment(&self, order: Order) -> usize {
        let Some(memory) = &self.memory else { return 0 };
        let allotment = memory.allotment;
        match (self.validated, order) {
            (true, _) => allotment,
            (false, Order::Next) if memory.has_unvalidated_allotments() => {
                (allotment / UNVALIDATED_SHARE).max(LEAST_UNVALIDATED)
            }
            // Forged datagrams make gaps at no cost.
            (false, _) => 0,
        }
    }

    /// Whether the account allows the session to hold `bytes` in all; they are taken.
    #[inline]
    pub(crate) fn admits(&mut self, bytes: usize, order: Order) -> bool {
        let target = self.rounded(bytes);
        if target <= self.charged {
            return true;
        }
        let (more, validated) = (target - self.charged, self.validated);
        let memory = self.memory.as_ref();
        let admitted = memory.is_none_or(|memory| memory.take(more, validated, order));
        if admitted {
            self.charged = target;
        }
        admitted
    }

    /// The session holds `bytes`.
    #[inline]
    pub(crate) fn settle(&mut self, bytes: usize) {
        let target = self.rounded(bytes);
        if target != self.charged {
            self.charge(target);
        }
    }

    #[cold]
    fn charge(&mut self, target: usize) {
        let old = core::mem::replace(&mut self.charged, target);
        let change = |count: &AtomicUsize| match target > old {
            true => count.fetch_add(target - old, Ordering::Relaxed),
            false => count.fetch_sub(old - target, Ordering::Relaxed),
        };
        let Some(memory) = &self.memory else { return };
        change(&memory.used);
        if !self.validated {
            change(&memory.unvalidated);
        }
    }

    /// The peer's address is validated, or it is not.
    pub(crate) fn set_validated(&mut self, validated: bool) {
        if self.validated != validated {
            let charged = self.charged;
            self.charge(0);
            self.validated = validated;
            self.charge(charged);
        }
    }

    /// Whole steps, so that the counters are not touched for each segment.
    const fn rounded(&self, bytes: usize) -> usize {
        let step = if self.validated {
            VALIDATED_STEP
        } else {
            UNVALIDATED_STEP
        };
        bytes.saturating_add(step - 1) & !(step - 1)
    }
}

impl Default for MemoryLease {
    fn default() -> Self {
        Self {
            memory: None,
            charged: 0,
            validated: true,
        }
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.charge(0);
    }
}

/// Of the whole, for all unvalidated sessions.
const UNVALIDATED_SHARE: usize = 16;
/// Segments out of order leave one part in so many.
const KEPT_FOR_NEXT: usize = 4;
/// Of the largest message of usual size: eleven full segments.
const LEAST_ALLOTMENT: usize = 16_384;
/// Five full segments: forged sessions are many.
const LEAST_UNVALIDATED: usize = 8_192;
/// A power of two.
const VALIDATED_STEP: usize = 16_384;
/// The same where sessions are many and hold little.
const UNVALIDATED_STEP: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(memory: &Arc<ReceiveMemory>, validated: bool) -> MemoryLease {
        let mut lease = MemoryLease::new(Arc::clone(memory));
        lease.set_validated(validated);
        lease
    }

    #[test]
    fn unvalidated_sessions_share_a_sixteenth() {
        let memory = Arc::new(ReceiveMemory::with_limit(1 << 20));
        let mut forged = lease(&memory, false);
        assert!(forged.admits(60_000, Order::Next));
        assert!(!forged.admits(70_000, Order::Next));
        let mut other = lease(&memory, false);
        assert!(!other.admits(10_000, Order::Next), "it is for all of them");
        let mut known = lease(&memory, true);
        assert!(known.admits(900_000, Order::Next));
        assert!(!known.admits(1_100_000, Order::Next));
        forged.set_validated(true);
        assert_eq!(memory.used_unvalidated(), 0);
        assert!(other.admits(10_000, Order::Next));
        drop((forged, other));
        known.settle(0);
        assert_eq!((memory.used(), memory.used_unvalidated()), (0, 0));
    }

    #[test]
    fn a_quarter_is_kept_for_what_comes_in_order() {
        for (validated, limit) in [(true, 1 << 20), (false, 1 << 16)] {
            let memory = Arc::new(ReceiveMemory::with_limit(1 << 20));
            let mut ahead = lease(&memory, validated);
            assert!(!ahead.admits(limit / 4 * 3 + 1, Order::Ahead));
            assert!(ahead.admits(limit / 4 * 3, Order::Ahead));
            let mut next = lease(&memory, validated);
            assert!(!next.admits(1, Order::Ahead));
            assert!(next.admits(limit / 4, Order::Next));
            assert!(!next.admits(limit / 4 + 1, Order::Next));
        }
    }

    #[test]
    fn allotments_are_parts_of_the_account() {
        let parts = |memory: ReceiveMemory| {
            let memory = Arc::new(memory);
            let [known, forged] = [true, false].map(|validated| lease(&memory, validated));
            let of = |lease: &MemoryLease| [Order::Next, Order::Ahead].map(|o| lease.allotment(o));
            [of(&known), of(&forged)]
        };
        let account = || ReceiveMemory::with_limit(1 << 30);
        let least = [[16_384; 2], [8_192, 0]];
        assert_eq!(parts(account()), least);
        assert_eq!(parts(account().shared_by(1 << 20)), least);
        assert_eq!(
            parts(account().shared_by(1_024)),
            [[1 << 20; 2], [1 << 16, 0]]
        );
        assert_eq!(parts(account().shared_by(0))[0], [1 << 30; 2]);
    }
}
