//! What the peer may acknowledge by `una` alone (`docs/protocol.md` 11.1.2).

use crate::config::IKCP_WND_RCV;
use crate::seq::Sn;

/// Segments that an una may still free. An ACK shows the time stamp of a transmission, an una shows nothing: a peer that has
/// left its address could have the session send there without end, with 24 bytes for each window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnaCredit {
    left: i32,
}

impl UnaCredit {
    /// An ACK echoes a transmission; `echoed` is whether an earlier one did for the same segment, and may be
    /// repeated by anyone who has seen it.
    pub(crate) const fn on_echo(&mut self, echoed: &mut bool) {
        if !core::mem::replace(echoed, true) {
            self.left += PER_ACK;
        }
    }

    /// An ACK of a segment in flight echoes no transmission of it. No KCP sends that: somebody guesses.
    pub(crate) const fn on_wrong_echo(&mut self) {
        self.left = self.left.saturating_sub(PER_WRONG_ACK);
    }

    /// As much of this una as may be believed; `current` is the one so far.
    pub(crate) fn most(&self, una: Sn, current: Sn) -> Sn {
        match una.distance_from(current) > self.left {
            true => current + self.left.max(0) as u32,
            false => una,
        }
    }

    /// The datagram has freed this many, by una or by ACKs. `window`: the most that may be in flight; all of their ACKs may
    /// be lost.
    pub(crate) fn on_freed(&mut self, segments: usize, window: u32) {
        let most = window.max(LEAST_WINDOW) as i32;
        self.left = (self.left - segments as i32).clamp(0, most);
    }
}

impl Default for UnaCredit {
    fn default() -> Self {
        Self {
            left: LEAST_WINDOW as i32,
        }
    }
}

/// What a stock peer offers; windows change.
const LEAST_WINDOW: u32 = IKCP_WND_RCV;
/// So that seven of eight ACKs may be lost before an una is believed in part only.
const PER_ACK: i32 = 8;
/// Who can predict time stamps in most cases gains nothing by una yet.
const PER_WRONG_ACK: i32 = 64;
