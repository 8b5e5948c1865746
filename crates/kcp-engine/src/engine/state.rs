//! What can be asked of a session.

use core::time::Duration;

use super::KcpEngine;
use crate::config::KcpConfig;
use crate::error::Fault;
use crate::proof::challenge_interval_ms;
use crate::seq::Conv;
use crate::stats::{ClassicState, EngineStats};
use crate::time::Instant;

impl KcpEngine {
    /// The conversation id.
    pub const fn conv(&self) -> Conv {
        self.conv
    }

    /// The settings in force.
    pub const fn config(&self) -> &KcpConfig {
        &self.config
    }

    /// Counters and gauges.
    pub fn stats(&self) -> EngineStats {
        EngineStats {
            smoothed_rtt: Duration::from_micros(self.rtt.smoothed_us().unwrap_or(0)),
            rto: Duration::from_millis(u64::from(self.rtt.rto_ms)),
            in_flight_segments: self.in_flight.outstanding(),
            queued_segments: self.queue.len(),
            unacknowledged_bytes: self.queue.store.live_bytes(),
            unread_bytes: self.receiver.held_bytes(),
            remote_window: self.remote_window,
            congestion_window: self.congestion.classic().cwnd,
            ..self.counters
        }
    }

    /// Payload bytes queued or in flight.
    pub const fn queued_bytes(&self) -> usize {
        self.queue.store.live_bytes()
    }

    /// Segments queued or in flight (C: `ikcp_waitsnd`).
    pub fn wait_snd(&self) -> usize {
        self.queue.len() + self.in_flight.outstanding()
    }

    /// Whether everything queued so far has been acknowledged, a FIN included.
    pub fn is_drained(&self) -> bool {
        self.wait_snd() == 0
    }

    /// Whether there is something to take: bytes, an empty message, or the end of the stream. After
    /// an empty message a [`read`](Self::read) may still find nothing.
    pub fn has_readable(&self) -> bool {
        self.receiver.has_readable()
    }

    /// The largest message that [`send`](Self::send) takes now, in bytes: as many fragments as the
    /// peer's largest advertised window (128 until it has spoken) can hold, at most 127.
    pub fn max_message_size(&self) -> usize {
        self.max_fragments() * self.config.mss()
    }

    /// Payload bytes that the path lets be unacknowledged (`docs/protocol.md` 11.6), whatever the windows
    /// are; `usize::MAX` with a congestion window, which says it better.
    pub fn path_limit(&self) -> usize {
        self.most_outstanding().saturating_mul(self.config.mss())
    }

    /// Whether the peer has acknowledged something that only whoever receives our datagrams can
    /// (`docs/protocol.md` 11.1).
    pub const fn is_proven(&self) -> bool {
        self.proof.is_proven()
    }

    /// Bytes that may still be sent to a peer whose address is not validated (`docs/protocol.md`
    /// 11.3); `None` where nothing bounds them: after the validation, and on the connecting side.
    pub fn answer_allowance(&self) -> Option<usize> {
        self.proof.is_limited().then(|| self.answer_room(0))
    }

    /// What the peer did that ends the session. The engine goes on; the caller decides.
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// When the last segment that passed the checks arrived.
    pub const fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    /// Whether the peer has shown that it has this session: something other than a WASK was heard. A
    /// WASK may come from the record of an earlier session (`docs/protocol.md` 12.3).
    pub const fn is_session_heard(&self) -> bool {
        self.session_heard
    }

    /// When the peer last acknowledged a segment that it had not acknowledged before, a FIN included.
    pub const fn last_acknowledged(&self) -> Option<Instant> {
        self.last_acknowledged
    }

    /// Whether the validated peer has told an `una` behind our first sequence number: it has received
    /// something from us in order, so a datagram of this session has an `una` other than 0 from then on.
    pub fn is_una_shown(&self) -> bool {
        let newest = self.liveness.newest_una();
        newest.is_some_and(|newest| {
            let past = newest.distance_from(self.first_sn);
            // Half the number space later the distance turns negative.
            past > 0 || (past < 0 && self.counters.segments_sent >= 1 << 31)
        })
    }

    /// How many questions the peer has been sent, up to 255: WASKs, and challenges (`docs/protocol.md` 11.1).
    pub const fn questions_asked(&self) -> u8 {
        self.liveness.asks()
    }

    /// From one challenge of an unvalidated peer to the next: 1 s, and longer behind several, so that an answer finds its
    /// challenge among the last four (`docs/protocol.md` 11.1).
    pub fn challenge_interval(&self) -> Duration {
        Duration::from_millis(challenge_interval_ms(self.liveness.asks()).into())
    }

    /// When something arrived last that passed the checks and was not only data that had arrived
    /// before.
    pub const fn last_news(&self) -> Option<Instant> {
        self.last_news
    }

    /// When the last segment of new data arrived.
    pub const fn last_new_push(&self) -> Option<Instant> {
        self.last_new_push
    }

    /// Since when the peer owes an answer: to data in flight or to a probe. `None` when it owes
    /// nothing (`docs/protocol.md` 12.5).
    pub fn silent_since(&self) -> Option<Instant> {
        let data = self
            .in_flight
            .get(self.in_flight.una())
            .map(|record| record.first_sent);
        let asked = self.liveness.unanswered_since();
        let owed = [data, asked].into_iter().flatten().min()?;
        Some(self.last_heard.map_or(owed, |heard| owed.max(heard)))
    }

    /// Since when nothing has shown that our datagrams reach the peer, while data waits for its ACK: the first
    /// transmission of the oldest segment in flight, or the last transmission that an ACK has echoed, if that was
    /// later. `None` while nothing is in flight (`docs/protocol.md` 11.3.1).
    #[inline]
    pub fn unacknowledged_since(&self) -> Option<Instant> {
        let oldest = self.in_flight.get(self.in_flight.una())?;
        Some(oldest.first_sent.max(self.capacity.newest_arrived()))
    }

    /// The session's retransmission time-out.
    pub fn rto(&self) -> Duration {
        Duration::from_millis(u64::from(self.rtt.rto_ms))
    }

    /// The state that C shows, for comparing the two.
    pub fn classic_state(&self) -> ClassicState {
        let classic = self.congestion.classic();
        ClassicState {
            snd_una: self.in_flight.una().get(),
            snd_nxt: self.in_flight.nxt().get(),
            rcv_nxt: self.receiver.next().get(),
            rx_srtt: self.rtt.smoothed_ms,
            rx_rttval: self.rtt.variation_ms,
            rx_rto: self.rtt.rto_ms,
            cwnd: classic.cwnd,
            incr: classic.incr,
            ssthresh: classic.ssthresh,
            rmt_wnd: self.remote_window,
            probe: u32::from(self.probe.ask) | u32::from(self.probe.tell) << 1,
            probe_wait: self.probe.wait_ms,
            nsnd_buf: self.in_flight.outstanding() as u32,
            nsnd_que: self.queue.len() as u32,
            nrcv_buf: self.receiver.reordered() as u32,
            nrcv_que: self.receiver.ready() as u32,
            ackcount: self.acks.len() as u32,
            xmit: self.counters.timeout_resends as u32,
            dead: self.counters.dead_link,
        }
    }
}
