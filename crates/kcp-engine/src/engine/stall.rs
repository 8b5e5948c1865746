//! Segments that never pass although the peer is heard: datagrams larger than the path's mtu, and the end of a session
//! whose oldest segment nothing brings through (`docs/protocol.md` 2.3.1, 12.5.1).

use core::time::Duration;

use super::KcpEngine;
use crate::in_flight::InFlight;
use crate::segment::IKCP_OVERHEAD;
use crate::seq::Sn;
use crate::time::Instant;

/// Since when the oldest segment in flight has failed to pass while the peer was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadStall {
    /// Its first transmission, or the last moment at which the peer's window was 0 if that was later.
    pub since: Instant,
    /// How often it has been sent.
    pub transmissions: u32,
}

/// What is remembered for it.
#[derive(Debug, Default)]
pub(super) struct HeadWatch {
    /// When the peer last said that its window is 0.
    window_closed_at: Option<Instant>,
    /// The latest first transmission of a large segment that was acknowledged.
    large_passed: Option<Instant>,
    /// The oldest segment, once it has timed out [`PRESSED_TIMEOUTS`] times.
    pressed: Option<Sn>,
    /// Until when datagrams are taken to be too large for the path.
    narrow_until: Instant,
}

impl HeadWatch {
    pub(super) const fn on_window_closed(&mut self, now: Instant) {
        self.window_closed_at = Some(now);
    }

    /// Whether the oldest segment may have to be sent again when something is heard.
    const fn is_pressed(&self) -> bool {
        self.pressed.is_some()
    }

    /// A segment of `len` bytes, first sent then, was acknowledged.
    #[inline]
    pub(super) fn on_passed(&mut self, len: usize, first_sent: Instant) {
        if len > LARGE_PAYLOAD {
            self.large_passed = self.large_passed.max(Some(first_sent));
        }
    }
}

impl KcpEngine {
    /// Whether the oldest segment in flight has timed out at least twice and not passed since, while the peer's window
    /// was open and valid segments of it arrived. `None` otherwise.
    pub fn head_stall(&self) -> Option<HeadStall> {
        let head = self.in_flight.get(self.in_flight.una())?;
        if head.xmit <= NARROW_TIMEOUTS || self.remote_window == 0 {
            return None;
        }
        let closed = self.head_watch.window_closed_at;
        let since = closed.map_or(head.first_sent, |at| at.max(head.first_sent));
        let stall = HeadStall {
            since,
            transmissions: head.xmit,
        };
        self.last_heard
            .is_some_and(|heard| heard > since)
            .then_some(stall)
    }

    /// Whether a segment has been acknowledged that may have needed a datagram of more than 1,232 bytes.
    pub const fn has_passed_large(&self) -> bool {
        self.head_watch.large_passed.is_some()
    }

    /// Whether the path seems to drop datagrams that need more than the smallest IPv6 mtu, 1,280 bytes, so that they
    /// should be fragmented by the sender (`docs/protocol.md` 2.3.1).
    pub fn suspects_small_mtu(&self) -> bool {
        self.clock.now() < self.head_watch.narrow_until
    }

    /// A segment is about to be sent again because it has timed out, not for the first time; this transmission is counted
    /// already.
    pub(super) fn on_repeated_timeout(&mut self, record: &InFlight) {
        if record.sn != self.in_flight.una() || !self.is_strict() {
            return;
        }
        if record.xmit > PRESSED_TIMEOUTS {
            self.head_watch.pressed = Some(record.sn);
            self.resends_when_heard = true;
        }
        // Before the peer has ever been heard every datagram may have been too large.
        let others_pass = self.last_heard.is_none_or(|heard| heard > record.last_sent);
        let large_passed = self.head_watch.large_passed;
        let large_fails = large_passed.is_none_or(|at| at < record.first_sent);
        if record.xmit > NARROW_TIMEOUTS && others_pass && large_fails {
            self.head_watch.narrow_until = self.clock.now() + NARROW_FOR;
        }
    }

    /// The peer was heard, and something may have to be sent again for it.
    #[cold]
    pub(super) fn resend_as_heard(&mut self) {
        self.press_head();
        if self.proof.is_proven() {
            self.resend_refused();
        }
        self.resends_when_heard = self.head_watch.is_pressed() || self.refusals.may_exist();
    }

    /// The peer was heard: a head that has waited out several time-outs is not backed off any further, since the path
    /// works.
    fn press_head(&mut self) {
        let Some(sn) = self.head_watch.pressed else {
            return;
        };
        let Some(&record) = self.in_flight.get(sn) else {
            self.head_watch.pressed = None;
            return;
        };
        let now = self.clock.millis();
        let age = self.clock.now().saturating_since(record.last_sent);
        let young = self.clock.now().saturating_since(record.first_sent) < PRESSED_AFTER;
        let soon = young || age < PRESSED_EVERY.max(self.rto() * 2);
        if soon || record.resend_at <= now || self.remote_window == 0 || self.proof.is_limited() {
            return;
        }
        self.store_due(InFlight {
            resend_at: now,
            ..record
        });
    }
}

/// The largest datagram that every IPv6 link carries: 1,280 bytes with the headers of IPv6 and UDP.
pub(super) const LARGEST_UNFRAGMENTED: usize = 1_280 - 48;
/// Payload of a segment whose datagram may be larger.
const LARGE_PAYLOAD: usize = LARGEST_UNFRAGMENTED - IKCP_OVERHEAD;
/// Time-outs of the oldest segment after which large datagrams are suspected.
const NARROW_TIMEOUTS: u32 = 2;
/// How long they are; then a large one is tried again.
const NARROW_FOR: Duration = Duration::from_secs(600);
/// Time-outs of the oldest segment after which each sign of the peer's life has it sent again.
const PRESSED_TIMEOUTS: u32 = 3;
/// Before that the backoff decides alone.
const PRESSED_AFTER: Duration = Duration::from_secs(5);
/// At most so often, and every second RTO.
const PRESSED_EVERY: Duration = Duration::from_millis(500);
