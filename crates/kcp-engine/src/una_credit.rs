//! What the peer may acknowledge by `una` alone (`docs/protocol.md` 11.1.2).

use crate::config::IKCP_WND_RCV;
use crate::seq::Sn;

/// Segments that an una may still free. An ACK shows the time stamp of a transmission, an una shows nothing: a peer that has
/// left its address could keep the session sending there, with 24 bytes for each window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnaCredit {
    left: u16,
    /// Wrong ACKs that no right one has made up for.
    wrong: u8,
}

impl UnaCredit {
    /// An ACK echoes a transmission; `echoed` is whether an earlier one did for the same segment, and may be
    /// repeated by anyone who has seen it.
    ///
    /// It vouches for all that its datagram frees, and then for a window: kcp-go sends the ACK of the last segment in a
    /// flush, and of those before only what una does not cover.
    pub(crate) const fn on_echo(&mut self, echoed: &mut bool) {
        if core::mem::replace(echoed, true) {
            return;
        }
        match self.wrong {
            0 => self.left = u16::MAX,
            _ => self.wrong -= 1,
        }
    }

    /// An ACK of a segment in flight echoes no transmission of it. No KCP sends that: it is a guess.
    pub(crate) const fn on_wrong_echo(&mut self) {
        if self.wrong < MOST_WRONG {
            self.wrong += 1;
        }
    }

    /// Takes as much of this una as may be believed; `current` is the one so far.
    pub(crate) fn take(&mut self, una: Sn, current: Sn) -> Sn {
        let ahead = una.distance_from(current);
        if ahead > i32::from(self.left) {
            let most = current + u32::from(self.left);
            self.left = 0;
            return most;
        }
        self.left -= ahead.max(0) as u16;
        una
    }

    /// The end of a datagram that freed something. `window`: the most that may be in flight; all of their ACKs may be lost.
    pub(crate) fn end_datagram(&mut self, window: u32) {
        let most = window.clamp(IKCP_WND_RCV, u16::MAX.into()) as u16;
        self.left = self.left.min(most);
    }
}

impl Default for UnaCredit {
    fn default() -> Self {
        Self {
            // What a stock peer offers.
            left: IKCP_WND_RCV as u16,
            wrong: 0,
        }
    }
}

/// More are not counted: a peer that lives must be able to make up for what others forge in its name.
const MOST_WRONG: u8 = 8;
