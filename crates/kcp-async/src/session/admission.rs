//! What writers may hand over while the peer's address is not validated (`docs/protocol.md` 11.3).
//!
//! A forged datagram must not make the endpoint hold what the application answers. So a session
//! takes what its peer may be sent, and a few KiB; more waits for the validation, which the engine asks
//! for and every KCP answers.

use super::Session;

impl Session {
    /// Bytes that an unvalidated peer allows to be queued and in flight; `None` once it is validated.
    pub(super) fn unvalidated_limit(&self) -> Option<usize> {
        let allowance = self.engine.answer_allowance()?;
        Some(allowance.saturating_add(UNVALIDATED_QUEUE_BYTES))
    }

    /// Whether `send` takes a message of this length now; if not, it waits.
    pub(crate) fn takes_message(&self, len: usize) -> bool {
        let room = self.room();
        match self.unvalidated_limit() {
            None => room > 0,
            Some(limit) => room > 0 && len <= limit.saturating_sub(self.engine.queued_bytes()),
        }
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
