//! A bound on what many sessions together hold of what cannot be delivered yet (`docs/protocol.md`
//! 11.4): segments out of order, and messages of which a part is missing.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Memory for data that cannot be delivered yet, shared by the sessions of an endpoint.
///
/// Counted in blocks as they are allocated. Sessions whose peer's address is not validated
/// (`docs/protocol.md` 11.1) together take at most a sixteenth. What is beyond a bound is refused, and
/// the peer sends it again. Data in order, and whole messages, are not counted: the receive window of
/// each session bounds them.
#[derive(Debug)]
pub struct ReceiveMemory {
    limit: usize,
    used: AtomicUsize,
    unvalidated: AtomicUsize,
}

impl ReceiveMemory {
    /// At most this many bytes, of which unvalidated sessions take a sixteenth.
    pub const fn with_limit(bytes: usize) -> Self {
        Self {
            limit: bytes,
            used: AtomicUsize::new(0),
            unvalidated: AtomicUsize::new(0),
        }
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Of those, bytes of sessions whose peer's address is not validated.
    pub fn used_unvalidated(&self) -> usize {
        self.unvalidated.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize, validated: bool) -> bool {
        if !take_from(&self.used, bytes, self.limit) {
            return false;
        }
        let fits = validated || take_from(&self.unvalidated, bytes, self.limit / UNVALIDATED_SHARE);
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
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

    /// Whether the session may come to hold `bytes` in all; they are taken.
    #[inline]
    pub(crate) fn admits(&mut self, bytes: usize) -> bool {
        let target = self.rounded(bytes);
        if target <= self.charged {
            return true;
        }
        let (more, validated) = (target - self.charged, self.validated);
        let memory = self.memory.as_ref();
        let admitted = memory.is_none_or(|memory| memory.take(more, validated));
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
/// A power of two.
const VALIDATED_STEP: usize = 16_384;
/// The same where sessions are many and hold little.
const UNVALIDATED_STEP: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unvalidated_sessions_share_a_sixteenth() {
        let memory = Arc::new(ReceiveMemory::with_limit(1 << 20));
        let mut forged = MemoryLease::new(Arc::clone(&memory));
        forged.set_validated(false);
        assert!(forged.admits(60_000));
        assert!(!forged.admits(70_000));
        let mut other = MemoryLease::new(Arc::clone(&memory));
        other.set_validated(false);
        assert!(!other.admits(10_000), "it is for all of them");
        let mut known = MemoryLease::new(Arc::clone(&memory));
        assert!(known.admits(900_000));
        assert!(!known.admits(1_100_000));
        forged.set_validated(true);
        assert_eq!(memory.used_unvalidated(), 0);
        assert!(other.admits(10_000));
        drop((forged, other));
        known.settle(0);
        assert_eq!((memory.used(), memory.used_unvalidated()), (0, 0));
    }
}
