//! What may be answered before the peer has proven that it sees us (`docs/protocol.md` 11.3).

use crate::segment::IKCP_OVERHEAD;
use crate::time::{Instant, Millis};

/// Bytes that may be sent for each byte received.
const ANSWER_FACTOR: u64 = 3;
/// Datagrams allowed beyond that.
const SMALL_EXTRAS: u8 = 6;
/// Largest datagram sent beyond that, in bytes.
const SMALL_DATAGRAM: usize = 100;
/// Invalid acknowledgements before the first valid one that end the session (protocol.md 11.1).
const FORGED_ACKS: u8 = 64;
/// Between questions to a peer that only sends (protocol.md 11.1).
const QUESTION_INTERVAL_MS: u32 = 1_000;

/// Whether the peer has proven its address, and what it may be sent until then.
#[derive(Debug)]
pub(crate) struct Proof {
    proven: bool,
    /// Connecting sides chose their peer; nothing limits them.
    limited: bool,
    received: u64,
    sent: u64,
    /// Of those, bytes that extras allowed.
    excused: u64,
    extras_left: u8,
    /// When the next of them may leave.
    extras_from: Millis,
    forged: u8,
    wrong_echoes: u8,
    /// When the peer is next asked for the proof, once something was heard.
    question_at: Option<Millis>,
    /// The caller wants it asked with the next flush.
    question_wanted: bool,
}

impl Proof {
    pub(crate) const fn new(limited: bool) -> Self {
        Self {
            proven: false,
            limited,
            received: 0,
            sent: 0,
            excused: 0,
            extras_left: SMALL_EXTRAS,
            extras_from: Millis::of(Instant::ZERO),
            forged: 0,
            wrong_echoes: 0,
            question_at: None,
            question_wanted: false,
        }
    }

    pub(crate) const fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether answers are bounded now.
    pub(crate) const fn is_limited(&self) -> bool {
        self.limited && !self.proven
    }

    pub(crate) const fn on_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    pub(crate) const fn on_sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    pub(crate) const fn on_valid_answer(&mut self) {
        self.proven = true;
    }

    /// Asks with the next flush, if the address is still to be validated.
    pub(crate) const fn want_question(&mut self) {
        self.question_wanted = self.is_limited();
    }

    /// Whether [`want_question`](Self::want_question) was called since the last call of this.
    pub(crate) const fn take_wanted_question(&mut self) -> bool {
        core::mem::replace(&mut self.question_wanted, false) && self.is_limited()
    }

    /// Whether the peer is to be asked now. Most prove themselves by acknowledging what they are
    /// answered; only those that are answered nothing for a while need a question.
    pub(crate) fn wants_question(&mut self, now: Millis) -> bool {
        if !self.is_limited() {
            return false;
        }
        let next = now.plus(QUESTION_INTERVAL_MS);
        let at = *self.question_at.get_or_insert(next);
        let due = now >= at;
        if due {
            self.question_at = Some(next);
        }
        due
    }

    /// An answer echoes a question, rightly or not. After too many wrong ones none counts any more: to
    /// end the session would be to let a forger end one that only receives.
    pub(crate) const fn is_echo_right(&mut self, right: bool) -> bool {
        if !right {
            self.wrong_echoes = self.wrong_echoes.saturating_add(1);
        }
        right && self.wrong_echoes < FORGED_ACKS
    }

    /// Counts an ACK of a transmission that never was; whether it was one too many.
    pub(crate) const fn on_invalid_ack(&mut self) -> bool {
        if self.proven {
            return false;
        }
        self.forged = self.forged.saturating_add(1);
        self.forged >= FORGED_ACKS
    }

    /// Bytes that may still be sent, after `planned` more.
    pub(crate) fn allowance(&self, planned: usize) -> usize {
        if !self.is_limited() {
            return usize::MAX;
        }
        let earned = self.received.saturating_mul(ANSWER_FACTOR);
        let left = earned
            .saturating_add(self.excused)
            .saturating_sub(self.sent)
            .saturating_sub(planned as u64);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// The most payload that the first segment may have, so that it can be sent again when the
    /// allowance is gone.
    pub(crate) const fn first_payload(allowance: usize) -> usize {
        let bytes = if allowance < SMALL_DATAGRAM {
            allowance
        } else {
            SMALL_DATAGRAM
        };
        bytes.saturating_sub(IKCP_OVERHEAD)
    }

    /// Whether something may still leave beyond the allowance.
    pub(crate) const fn has_extra(&self) -> bool {
        self.extras_left > 0
    }

    /// The bytes that a small datagram has left behind `planned` ones, beyond the allowance; uses
    /// one up, unless not even a byte of payload would fit.
    pub(crate) fn take_extra_room(&mut self, planned: usize, now: Millis, wait_ms: u32) -> usize {
        if !self.take_extra(planned + IKCP_OVERHEAD + 1, now, wait_ms) {
            return 0;
        }
        SMALL_DATAGRAM - planned
    }

    /// Whether a datagram of `bytes` may leave beyond the allowance; uses one up. The next may only
    /// follow after `wait_ms`: were all that is in flight to leave at once, a short outage would use
    /// them up, and nothing could bring the proof any more.
    pub(crate) fn take_extra(&mut self, bytes: usize, now: Millis, wait_ms: u32) -> bool {
        if bytes > SMALL_DATAGRAM || self.extras_left == 0 || now < self.extras_from {
            return false;
        }
        let room = self.allowance(0);
        // What leaves beyond the allowance is not a debt: it would keep the answers to later
        // questions of the peer from leaving.
        self.excused += bytes.saturating_sub(room) as u64;
        self.extras_left -= 1;
        self.extras_from = now.plus(wait_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bytes_for_each_received_until_proven() {
        let mut proof = Proof::new(true);
        assert_eq!(proof.allowance(0), 0);
        proof.on_received(25);
        assert_eq!((proof.allowance(0), proof.allowance(24)), (75, 51));
        proof.on_sent(80);
        assert_eq!(proof.allowance(0), 0);
        proof.on_valid_answer();
        assert_eq!(proof.allowance(0), usize::MAX);
    }

    #[test]
    fn six_small_datagrams_beyond() {
        let mut proof = Proof::new(true);
        let start = Millis::of(Instant::ZERO);
        let mut take = |bytes, at| proof.take_extra(bytes, start.plus(at), 200);
        assert!(!take(101, 0));
        assert!(take(100, 0));
        assert!(!take(100, 199), "one per time-out");
        assert_eq!((1..10).filter(|n| take(100, n * 200)).count(), 5);
    }

    #[test]
    fn extras_are_no_debt() {
        let mut proof = Proof::new(true);
        proof.on_received(10);
        assert!(proof.take_extra(100, Millis::of(Instant::ZERO), 200));
        proof.on_sent(100);
        assert_eq!(proof.allowance(0), 0);
        proof.on_received(24);
        assert_eq!(proof.allowance(0), 72);
    }

    #[test]
    fn sixty_four_forgeries_are_too_many_only_before_proof() {
        let mut proof = Proof::new(true);
        assert_eq!((1..=64).find(|_| proof.on_invalid_ack()), Some(64));
        let mut proof = Proof::new(false);
        proof.on_valid_answer();
        assert!((0..1_000).all(|_| !proof.on_invalid_ack()));
    }
}
