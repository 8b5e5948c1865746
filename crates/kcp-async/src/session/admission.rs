//! What writers may hand over while the peer's address is not validated (`docs/protocol.md` 11.3).
//!
//! A forged datagram must not make the endpoint hold what the application answers. So a session
//! takes what its peer may be sent, and a few KiB; more waits for the validation. A stock peer
//! validates itself only by acknowledging data. Once it has answered a question, a message that is
//! longer than that is taken whole after all, from a reserve that all sessions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Session;

/// Bytes that all unvalidated sessions of an endpoint may hold beyond their own bounds.
#[derive(Debug, Default)]
pub(crate) struct Reserve(AtomicUsize);

/// Bytes taken from a [`Reserve`]; they return when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    reserve: Arc<Reserve>,
    bytes: usize,
}

impl Reserve {
    fn lend(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        let enough = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= RESERVE_BYTES);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough)
            .ok()?;
        Some(Lease {
            reserve: Arc::clone(self),
            bytes,
        })
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.reserve.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Session {
    /// Bytes that an unvalidated peer allows to be queued and in flight; `None` once it is validated.
    pub(super) fn unvalidated_limit(&self) -> Option<usize> {
        let allowance = self.engine.answer_allowance()?;
        Some(allowance.saturating_add(UNVALIDATED_QUEUE_BYTES))
    }

    /// Whether `send` takes a message of this length now; if not, it waits.
    pub(crate) fn takes_message(&mut self, len: usize, reserve: &Arc<Reserve>) -> bool {
        let room = self.room();
        let Some(limit) = self.unvalidated_limit() else {
            return room > 0;
        };
        if room == 0 {
            return false;
        }
        let free = limit.saturating_sub(self.engine.queued_bytes());
        if len <= free {
            return true;
        }
        // What is queued already brings the validation. Otherwise only data can bring it, where the
        // peer is a stock one; that it has answered makes a forged address unlikely, no more.
        let helps = self.engine.is_drained() && self.engine.peer_is_stock();
        if helps && self.lease.is_none() {
            self.lease = reserve.lend(len - free);
        }
        helps && self.lease.is_some()
    }

    /// The most bytes that a write may add now: whole segments beyond the room where that does no
    /// harm, so that a full queue does not turn into one small segment per wake-up.
    pub(crate) fn write_limit(&self) -> usize {
        let room = self.room();
        match self.engine.answer_allowance() {
            Some(_) => room,
            None => room.next_multiple_of(self.engine.config().mss()),
        }
    }
}

/// Beyond what the peer may be sent: enough that a writer is rarely the one that waits.
const UNVALIDATED_QUEUE_BYTES: usize = 4_096;
/// For first messages to stock peers: 90 of the largest at the default mtu.
const RESERVE_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_returns() {
        let reserve = Arc::new(Reserve::default());
        let lease = reserve.lend(RESERVE_BYTES).unwrap();
        assert!(reserve.lend(1).is_none());
        drop(lease);
        assert_eq!(reserve.used(), 0);
        assert!(reserve.lend(1).is_some());
        assert!(reserve.lend(usize::MAX).is_none());
    }
}
