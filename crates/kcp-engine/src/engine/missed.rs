//! Segments that the peer does not have although no time-out has told so: those that came while its window was 0, and
//! those that an answer to a later question shows to be lost (`docs/protocol.md` 11.9).

use core::ops::RangeInclusive;

use super::KcpEngine;
use crate::in_flight::InFlight;
use crate::seq::{Sn, WireTs};

/// What a peer may have refused because its window was 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Refusals {
    #[default]
    None,
    /// The window is 0.
    Closed,
    /// It has opened: segments from this one on, which it had no room for so far.
    From(Sn),
}

impl Refusals {
    pub(super) const fn on_window_closed(&mut self) {
        *self = Self::Closed;
    }

    pub(super) const fn may_exist(&self) -> bool {
        !matches!(self, Self::None)
    }
}

impl KcpEngine {
    /// When the peer's window opens after it was 0, what it may have had no room for, and has now, is sent again an
    /// RTO after the last time: no loss caused its backoff. Only what has timed out; the first time-out of the rest is
    /// not far. To be called once a datagram, and looks at so many: a peer may close and open its window at will.
    pub(super) fn resend_refused(&mut self) {
        let refused = match self.refusals {
            Refusals::None => return,
            _ if self.remote_window == 0 || !self.is_strict() => return,
            Refusals::Closed => self.in_flight.una(),
            Refusals::From(sn) => sn,
        };
        let (now, rto_ms) = (self.clock.millis(), self.rtt.rto_ms);
        let una = self.in_flight.una();
        let room = una + self.remote_window;
        let end = self.in_flight.nxt();
        let mut sn = if refused.is_before(una) { una } else { refused };
        let most = sn + REFUSED_AT_ONCE;
        while sn.is_before(end) && sn.is_before(room) && sn.is_before(most) {
            if let Some(&record) = self.in_flight.get(sn) {
                let age = self.clock.now().saturating_since(record.last_sent);
                let left = self.rto().saturating_sub(age).as_millis() as u32;
                let resend_at = now.plus(left);
                if REFUSED_TRANSMISSIONS.contains(&record.xmit) && resend_at < record.resend_at {
                    self.store_due(InFlight {
                        resend_at,
                        rto_ms,
                        ..record
                    });
                }
            }
            sn = sn.next();
        }
        self.refusals = if sn.is_before(end) {
            Refusals::From(sn)
        } else {
            Refusals::None
        };
    }

    /// The peer has answered a question that was sent at `asked`. What left well before that and is not acknowledged is
    /// lost, and the path works: waits that come from a round trip of another time do not count (protocol.md 11.9).
    pub(super) fn resend_missed(&mut self, asked: WireTs) {
        if self.remote_window == 0 {
            return;
        }
        let now = self.clock.millis();
        let mut sn = self.in_flight.una();
        for _ in 0..MISSED_AT_ONCE.min(self.in_flight.span()) {
            if let Some(&record) = self.in_flight.get(sn)
                && asked.distance_from(record.last_ts) >= MISSED_AFTER_MS
            {
                self.store_due(InFlight {
                    rto_ms: record.rto_ms.min(self.rtt.rto_ms),
                    resend_at: record.resend_at.min(now),
                    ..record
                });
            }
            sn = sn + 1;
        }
    }
}

/// How often a segment has been sent that this concerns: it has timed out, and a window that closes and opens without
/// an acknowledgement undoes the backoff only for so long.
const REFUSED_TRANSMISSIONS: RangeInclusive<u32> = 2..=16;
/// Segments that are looked at for each datagram. The ACKs of those bring the next datagrams.
const REFUSED_AT_ONCE: u32 = 256;
/// How long before a question a segment must have left: no path that is in use reorders by more.
const MISSED_AFTER_MS: i32 = 500;
/// Of the oldest segments in flight. The next answer is about the next ones.
const MISSED_AT_ONCE: u32 = 32;
