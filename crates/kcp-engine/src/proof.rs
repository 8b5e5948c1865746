//! What may be answered before the peer has proven that it sees us (`docs/protocol.md` 11.3), and when it is challenged
//! to (11.1).

use crate::segment::IKCP_OVERHEAD;
use crate::time::{Instant, Millis};

/// Bytes that may be sent for each byte received, headers below KCP included.
const ANSWER_FACTOR: u64 = 3;
/// Those headers of a datagram: IPv4 without options, and UDP. Over IPv6 20 more travel in each direction.
const HEADERS: usize = 28;
/// Datagrams of a session allowed beyond that.
const SMALL_EXTRAS: u8 = 1;
/// Further ones, if the caller grants them.
const GRANTED_EXTRAS: u8 = 5;
/// Largest datagram sent beyond that, in bytes.
const SMALL_DATAGRAM: usize = 100;
/// Invalid acknowledgements before the first valid one that end the session (protocol.md 11.1).
const FORGED_ACKS: u8 = 64;
/// Between the first questions to a peer that only sends (protocol.md 11.1).
const CHALLENGE_INTERVAL_MS: u32 = 1_000;
/// As many follow each other so soon, each behind them after twice as long as the one before, up to 8 s: the last four are
/// remembered, and on a path with a long round trip none of these would be answered in time.
const PROMPT_CHALLENGES: u8 = 4;
/// 8 s.
const MOST_DOUBLINGS: u8 = 3;

/// From one challenge to the next, behind so many questions, in milliseconds.
pub(crate) const fn challenge_interval_ms(asked: u8) -> u32 {
    let doublings = asked.saturating_sub(PROMPT_CHALLENGES);
    CHALLENGE_INTERVAL_MS
        << if doublings < MOST_DOUBLINGS {
            doublings
        } else {
            MOST_DOUBLINGS
        }
}

/// Whether the peer has proven its address, and what it may be sent until then.
#[derive(Debug)]
pub(crate) struct Proof {
    proven: bool,
    /// Connecting sides chose their peer; nothing limits them.
    limited: bool,
    /// With headers, like all bytes here.
    received: u64,
    sent: u64,
    /// Of those, bytes that extras allowed.
    excused: u64,
    extras_left: u8,
    grants_left: u8,
    /// No extra is left, and one was used or refused since the caller was last told.
    extra_wanted: bool,
    /// When the next of them may leave.
    extras_from: Millis,
    forged: u8,
    wrong_echoes: u8,
    /// The datagram, as counted, that last guessed wrong.
    guessed_in: u32,
    /// When the peer is next challenged, once something was heard.
    challenge_at: Option<Millis>,
    /// The caller wants a challenge with the next flush.
    challenge_wanted: bool,
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
            grants_left: GRANTED_EXTRAS,
            extra_wanted: false,
            extras_from: Millis::of(Instant::ZERO),
            forged: 0,
            wrong_echoes: 0,
            guessed_in: 0,
            challenge_at: None,
            challenge_wanted: false,
        }
    }

    pub(crate) const fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether the peer chose us.
    pub(crate) const fn is_of_accepted(&self) -> bool {
        self.limited
    }

    /// Whether answers are bounded now.
    pub(crate) const fn is_limited(&self) -> bool {
        self.limited && !self.proven
    }

    /// A datagram of `bytes` came.
    pub(crate) const fn on_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add((bytes + HEADERS) as u64);
    }

    pub(crate) const fn on_sent(&mut self, bytes: usize, datagrams: usize) {
        self.sent = self
            .sent
            .saturating_add((bytes + HEADERS * datagrams) as u64);
    }

    pub(crate) const fn on_valid_answer(&mut self) {
        self.proven = true;
    }

    /// A challenge leaves with the next flush, if the address is still to be validated.
    pub(crate) const fn want_challenge(&mut self) {
        self.challenge_wanted = self.is_limited();
    }

    /// Whether [`want_challenge`](Self::want_challenge) was called since the last call of this.
    pub(crate) const fn take_wanted_challenge(&mut self) -> bool {
        core::mem::replace(&mut self.challenge_wanted, false) && self.is_limited()
    }

    /// Whether the peer is to be challenged now. Most prove themselves by acknowledging what they are
    /// answered; only those that are answered nothing for a while need a challenge. `asked`: questions so far.
    pub(crate) fn is_challenge_due(&mut self, now: Millis, asked: u8) -> bool {
        if !self.is_limited() {
            return false;
        }
        let next = now.plus(challenge_interval_ms(asked));
        let at = *self.challenge_at.get_or_insert(next);
        let due = now >= at;
        if due {
            self.challenge_at = Some(next);
        }
        due
    }

    /// An answer echoes a question, rightly or not. After too many wrong ones none counts any more: to
    /// end the session would be to let a forger end one that only receives.
    pub(crate) const fn is_echo_right(&mut self, right: bool, datagram: u32) -> bool {
        if !right && self.is_first_guess(datagram) {
            self.wrong_echoes = self.wrong_echoes.saturating_add(1);
        }
        right && !self.has_guessed(datagram) && self.wrong_echoes < FORGED_ACKS
    }

    /// Counts an ACK of a transmission that never was; whether it was one too many. A connecting side
    /// goes on: its peer has not answered yet, and all that a forger needs is to be sooner.
    pub(crate) const fn on_invalid_ack(&mut self, datagram: u32) -> bool {
        if !self.is_first_guess(datagram) {
            return false;
        }
        self.forged = self.forged.saturating_add(1);
        self.limited && self.forged >= FORGED_ACKS
    }

    /// Whether this datagram has guessed wrong, so that nothing in it validates the address: a datagram
    /// has one guess, not as many as segments.
    pub(crate) const fn has_guessed(&self, datagram: u32) -> bool {
        !self.proven && self.guessed_in == datagram
    }

    /// The datagram, as counted, that last guessed wrong.
    pub(crate) const fn guessed_in(&mut self) -> &mut u32 {
        &mut self.guessed_in
    }

    const fn is_first_guess(&mut self, datagram: u32) -> bool {
        if self.proven || self.guessed_in == datagram {
            return false;
        }
        self.guessed_in = datagram;
        true
    }

    /// Bytes that may still be sent in datagrams of at most `mtu`, after `planned` more.
    pub(crate) fn allowance(&self, planned: usize, mtu: usize) -> usize {
        if !self.is_limited() {
            return usize::MAX;
        }
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let after_first = left.saturating_sub(HEADERS);
        // Two datagrams that follow each other have more than an mtu, or they would be one: bytes of k
        // mtus and a rest travel in at most 2 k + 1.
        let mtus = after_first / (mtu + 2 * HEADERS);
        let most = after_first - mtus * 2 * HEADERS;
        most.min((mtus + 1).saturating_mul(mtu) - 1)
            .saturating_sub(planned)
    }

    /// Bytes that may still be sent, headers included.
    const fn left(&self) -> u64 {
        let earned = self.received.saturating_mul(ANSWER_FACTOR);
        earned
            .saturating_add(self.excused)
            .saturating_sub(self.sent)
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

    /// What a FIN costs beyond its bytes: it has a datagram of its own.
    pub(crate) const fn surcharge(fin: bool) -> usize {
        if fin { HEADERS } else { 0 }
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
        if bytes > SMALL_DATAGRAM || now < self.extras_from {
            return false;
        }
        if self.extras_left == 0 {
            self.extra_wanted = true;
            return false;
        }
        // What leaves beyond the allowance is not a debt: it would keep the answers to later
        // questions of the peer from leaving.
        self.excused += ((bytes + HEADERS) as u64).saturating_sub(self.left());
        self.extras_left -= 1;
        self.extra_wanted = self.extras_left == 0;
        self.extras_from = now.plus(wait_ms);
        true
    }

    /// Whether the caller is asked for one more, and has not been since the last was used or missed.
    pub(crate) const fn take_extra_wanted(&mut self) -> bool {
        core::mem::replace(&mut self.extra_wanted, false)
            && self.is_limited()
            && self.grants_left > 0
    }

    pub(crate) const fn grant_extra(&mut self) {
        if self.grants_left > 0 {
            self.grants_left -= 1;
            self.extras_left += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bytes_for_each_received_until_proven() {
        let mut proof = Proof::new(true);
        assert_eq!(proof.allowance(0, 1_400), 0);
        proof.on_received(25);
        // 3 * 53, and 28 of them for headers.
        assert_eq!(proof.allowance(0, 1_400), 131);
        assert_eq!(proof.allowance(24, 1_400), 107);
        proof.on_sent(131, 1);
        assert_eq!(proof.allowance(0, 1_400), 0);
        proof.on_valid_answer();
        assert_eq!(proof.allowance(0, 1_400), usize::MAX);
    }

    /// However the segments fall into datagrams, their headers are paid for.
    #[test]
    fn headers_of_many_datagrams_are_within_the_allowance() {
        for received in [100, 1_400, 3_000, 40_000] {
            for segment in [1_400, 701, 500, 90] {
                let mut proof = Proof::new(true);
                proof.on_received(received);
                let mut planned = 0;
                while proof.allowance(planned, 1_400) >= segment {
                    planned += segment;
                }
                let datagrams = (planned / segment).div_ceil(1_400 / segment);
                assert!(planned + HEADERS * datagrams <= 3 * (received + HEADERS));
            }
        }
    }

    #[test]
    fn one_small_datagram_beyond_and_five_that_are_granted() {
        let mut proof = Proof::new(true);
        let start = Millis::of(Instant::ZERO);
        let take = |proof: &mut Proof, bytes, at| proof.take_extra(bytes, start.plus(at), 200);
        assert!(!take(&mut proof, 101, 0));
        assert!(!proof.take_extra_wanted());
        assert!(take(&mut proof, 100, 0));
        assert!(proof.take_extra_wanted());
        assert!(!proof.take_extra_wanted(), "asked once");
        assert!(!take(&mut proof, 100, 200));
        assert!(proof.take_extra_wanted(), "and again when it was missed");
        for n in 2..7 {
            proof.grant_extra();
            assert!(take(&mut proof, 100, n * 200), "{n}");
            assert!(!take(&mut proof, 100, n * 200 + 199), "one per time-out");
        }
        proof.grant_extra();
        assert!(!take(&mut proof, 100, 2_000), "five");
        assert!(!proof.take_extra_wanted());
    }

    #[test]
    fn extras_are_no_debt() {
        let mut proof = Proof::new(true);
        proof.on_received(2);
        assert!(proof.take_extra(100, Millis::of(Instant::ZERO), 200));
        proof.on_sent(100, 1);
        assert_eq!(proof.allowance(0, 1_400), 0);
        proof.on_received(24);
        assert_eq!(proof.allowance(0, 1_400), 3 * 52 - 28);
    }

    #[test]
    fn sixty_four_forgeries_are_too_many_only_before_proof() {
        let mut proof = Proof::new(true);
        assert_eq!((1..=64).find(|&n| proof.on_invalid_ack(n)), Some(64));
        let mut proof = Proof::new(true);
        assert!((0..1_000).all(|_| !proof.on_invalid_ack(1)), "one datagram");
        let mut proof = Proof::new(true);
        proof.on_valid_answer();
        assert!((1..1_000).all(|n| !proof.on_invalid_ack(n)));
        let mut proof = Proof::new(false);
        assert!((1..1_000).all(|n| !proof.on_invalid_ack(n)), "connecting");
    }
}
