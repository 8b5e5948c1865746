//! What our questions (WASKs) tell about the peer: that it lives, that it is gone, or that another
//! answers in its place (`docs/protocol.md` 12.4 to 12.6).

use core::time::Duration;

use crate::seq::{Sn, WireTs};
use crate::time::Instant;

/// WASKs whose time stamps a RST may echo (protocol.md 12.4).
const REMEMBERED_ASKS: usize = 4;
/// Stale answers in a row, each to a question of its own, that end a session (protocol.md 12.6).
const STALE_ANSWERS: u8 = 4;
/// The same where each shows the time stamp of its question: no one else can have sent it.
const STALE_ECHOES: u8 = 2;

/// The WASKs that were sent, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    asked: [WireTs; REMEMBERED_ASKS],
    /// How many there were, up to 255.
    asks: u8,
    last_asked: Instant,
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
    /// When the first WASK since the last answer that counted was sent.
    asked_at: Option<Instant>,
    /// How many stale answers there are in a row.
    stale: u8,
    /// When the first of them came.
    stale_since: Instant,
}

impl Liveness {
    /// A WASK with this time stamp goes out. `owed`: the peer is taken for dead if it never answers.
    pub(crate) fn on_asked(&mut self, now: Instant, ts: WireTs, owed: bool) {
        self.remember(ts);
        self.last_asked = now;
        if owed {
            self.unanswered_since.get_or_insert(now);
        }
        self.ghost.asked_at.get_or_insert(now);
    }

    /// From now on the peer is taken for dead if it is not heard.
    pub(crate) fn owe(&mut self, now: Instant) {
        self.unanswered_since.get_or_insert(now);
    }

    /// An empty PUSH with this time stamp goes out, to validate the address.
    pub(crate) fn on_challenged(&mut self, ts: WireTs) {
        self.remember(ts);
    }

    /// Answers are compared with the last ones.
    fn remember(&mut self, ts: WireTs) {
        self.asked.rotate_right(1);
        self.asked[0] = ts;
        self.asks = self.asks.saturating_add(1);
    }

    /// How many questions of both kinds there were, up to 255.
    pub(crate) const fn asks(&self) -> u8 {
        self.asks
    }

    /// Whether a silent peer may be asked again. Once per RTO and not with every retransmission:
    /// an answer must find its WASK among the remembered ones (protocol.md 12.4).
    pub(crate) fn may_press(&self, now: Instant, rto: Duration) -> bool {
        self.asks == 0 || now.saturating_since(self.last_asked) >= rto
    }

    /// Whether a RST with this time stamp answers a WASK of ours.
    pub(crate) fn has_asked(&self, ts: WireTs) -> bool {
        let known = REMEMBERED_ASKS.min(usize::from(self.asks));
        self.asked[..known].contains(&ts)
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

    /// Whether a validated peer has told a later `una` than this.
    pub(crate) fn is_stale(&self, una: Sn) -> bool {
        self.ghost
            .newest_una
            .is_some_and(|newest| una.is_before(newest))
    }

    /// A WINS that is up to date arrived.
    pub(crate) const fn on_current_answer(&mut self) {
        self.ghost.asked_at = None;
    }

    /// Whether the last answer was stale: the peer is to be asked again, soon.
    pub(crate) const fn is_doubtful(&self) -> bool {
        self.ghost.stale > 0
    }

    /// A stale WINS arrived. Whether it ends the session: the last of them must be `apart` after the first,
    /// and its question too where they do not echo, so that all answers of a peer that lives would have to
    /// be lost meanwhile.
    pub(crate) fn is_ghost(&mut self, now: Instant, echoes: bool, apart: Duration) -> bool {
        let Some(asked_at) = self.ghost.asked_at.take() else {
            return false;
        };
        if self.ghost.stale == 0 {
            self.ghost.stale_since = now;
        }
        let first = self.ghost.stale_since;
        self.ghost.stale = self.ghost.stale.saturating_add(1);
        let (least, asked_from) = match echoes {
            true => (STALE_ECHOES, first),
            false => (STALE_ANSWERS, first + apart),
        };
        self.ghost.stale >= least && asked_at >= asked_from && now >= first + apart
    }

    /// A proven peer tells this `una`. One that is up to date is not a ghost's; whether it is.
    pub(crate) fn on_una(&mut self, una: Sn) -> bool {
        let newest = self.ghost.newest_una;
        let is_current = newest.is_none_or(|newest| !una.is_before(newest));
        if is_current {
            self.ghost.newest_una = Some(una);
            self.ghost.stale = 0;
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
