//! What our questions (WASKs) tell about the peer: that it lives, that it is gone, or that another
//! answers in its place (`docs/protocol.md` 12.4 to 12.6).

use core::time::Duration;

use crate::seq::{Sn, WireTs};
use crate::time::Instant;

/// WASKs whose time stamps a RST may echo (protocol.md 12.4).
const REMEMBERED_ASKS: usize = 4;

/// The WASKs that were sent, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    asked: [Option<WireTs>; REMEMBERED_ASKS],
    last_asked: Option<Instant>,
    /// When the oldest WASK without any sign of life since was sent.
    unanswered_since: Option<Instant>,
    ghost: GhostWatch,
}

/// Watches for a peer that answers WASKs with an older `una` than it once had (protocol.md 12.6).
#[derive(Clone, Copy, Debug, Default)]
struct GhostWatch {
    /// The newest `una` that the peer has told. Not ours: a peer without room for the next segment
    /// in order acknowledges later ones by their numbers.
    newest_una: Option<Sn>,
    asked_at: Option<Instant>,
    stale_answer_at: Option<Instant>,
}

impl Liveness {
    /// A WASK with this time stamp goes out. `owed`: the peer is taken for dead if it never answers.
    pub(crate) fn on_asked(&mut self, now: Instant, ts: WireTs, owed: bool) {
        self.asked.rotate_right(1);
        self.asked[0] = Some(ts);
        self.last_asked = Some(now);
        if owed {
            self.unanswered_since.get_or_insert(now);
        }
        self.ghost.asked_at.get_or_insert(now);
    }

    /// Whether a silent peer may be asked again. Once per RTO and not with every retransmission:
    /// an answer must find its WASK among the remembered ones (protocol.md 12.4).
    pub(crate) fn may_press(&self, now: Instant, rto: Duration) -> bool {
        self.last_asked
            .is_none_or(|asked| now.saturating_since(asked) >= rto)
    }

    /// Whether a RST with this time stamp answers a WASK of ours.
    pub(crate) fn has_asked(&self, ts: WireTs) -> bool {
        self.asked.contains(&Some(ts))
    }

    /// The peer lives.
    pub(crate) const fn on_heard(&mut self) {
        self.unanswered_since = None;
    }

    /// The newest `una` that a validated peer has told.
    pub(crate) const fn newest_una(&self) -> Option<Sn> {
        self.ghost.newest_una
    }

    pub(crate) const fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered_since
    }

    /// A WINS arrived. Whether it is the second stale answer, at least one RTT after the first.
    pub(crate) fn is_ghost(&mut self, now: Instant, una: Sn, rtt_us: u64) -> bool {
        if self
            .ghost
            .newest_una
            .is_none_or(|newest| !una.is_before(newest))
        {
            self.ghost.asked_at = None;
            return false;
        }
        let Some(asked_at) = self.ghost.asked_at.take() else {
            return false;
        };
        match self.ghost.stale_answer_at {
            None => {
                self.ghost.stale_answer_at = Some(now);
                false
            }
            // Both the answers and the question behind the second one must be apart.
            Some(first) => {
                asked_at >= first && now.as_micros().saturating_sub(first.as_micros()) >= rtt_us
            }
        }
    }

    /// A proven peer tells this `una`. One that is up to date is not a ghost's; whether it is.
    pub(crate) fn on_una(&mut self, una: Sn) -> bool {
        let newest = self.ghost.newest_una;
        let is_current = newest.is_none_or(|newest| !una.is_before(newest));
        if is_current {
            self.ghost.newest_una = Some(una);
            self.ghost.stale_answer_at = None;
        }
        is_current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// protocol.md 12.4
    #[test]
    fn a_silent_peer_is_asked_once_per_rto() {
        let mut liveness = Liveness::default();
        let rto = Duration::from_millis(200);
        assert!(liveness.may_press(Instant::from_millis(5), rto));
        liveness.on_asked(Instant::from_millis(5), WireTs::new(5), true);
        assert!(!liveness.may_press(Instant::from_millis(204), rto));
        assert!(liveness.may_press(Instant::from_millis(205), rto));
    }
}
