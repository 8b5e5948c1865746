//! What a segment that passed the checks does, by command (`docs/protocol.md` 4.1, 5, 6, 7.3).

use super::KcpEngine;
use super::input::Echoed;
use crate::error::Fault;
use crate::in_flight::Freed;
use crate::recv::Arrival;
use crate::segment::{Command, KcpHeader, KcpSegment};
use crate::seq::Sn;

/// ACK list entries allowed beyond the receive window (protocol.md 11.7): room for a window of
/// duplicates.
const ACK_LIST_SPARE: usize = 128;

impl KcpEngine {
    /// Applies mark, window and una; whether to do so again would change nothing, until a segment with others
    /// is applied.
    ///
    /// Not so before the peer's proof, since until then an una frees nothing (protocol.md 11.1), nor with a
    /// closed window, whose time counts, nor for C's manners, which believe an una of what is sent later.
    #[inline]
    pub(super) fn apply_shared(&mut self, command: Command, header: &KcpHeader) -> bool {
        let proven = self.proof.is_proven();
        // protocol.md 12.1: then the answer that validated has told.
        if self.is_strict() && !proven {
            match command {
                Command::Push | Command::Fin => {}
                _ if header.is_marked() => self.on_mark(),
                Command::Ack | Command::Wask | Command::Wins => self.close.shown_stock = true,
                _ => {}
            }
        }
        self.remote_window = u32::from(header.wnd);
        if self.remote_window == 0 {
            self.head_watch.on_window_closed(self.clock.now());
            self.refusals.on_window_closed();
            self.resends_when_heard = true;
        }
        self.largest_remote_window = self.largest_remote_window.max(Some(header.wnd));
        if !self.is_strict() {
            self.apply_una(header.una);
            return false;
        }
        if !proven {
            return false;
        }
        let una = self.una_credit.take(header.una, self.in_flight.una());
        self.apply_una(una);
        if una != header.una {
            self.counters.ignored_invalid_una += 1;
            return false;
        }
        self.remote_window != 0
    }

    /// protocol.md 5.1.
    fn apply_una(&mut self, una: Sn) {
        while let Some(freed) = self.in_flight.acknowledge_before(una) {
            self.release(freed);
        }
        if self.liveness.on_una(una) && self.restart.is_open() {
            self.on_old_peer();
        }
    }

    pub(super) fn release(&mut self, freed: Freed) {
        self.queue.store.release(freed.payload, freed.len);
        self.head_watch.on_passed(freed.len, freed.first_sent);
        self.outbox_is_stale |= !self.outbox.is_empty();
    }

    #[inline]
    pub(super) fn apply(
        &mut self,
        command: Command,
        segment: &KcpSegment<'_>,
        echoed: Option<Echoed>,
    ) {
        let header = &segment.header;
        match command {
            Command::Push | Command::Fin => self.on_data(command == Command::Fin, segment),
            Command::Ack => self.on_ack(header, echoed),
            // protocol.md 7.3
            Command::Wask => {
                let echo = self.is_strict().then_some(header.ts);
                self.probe.on_question(echo);
                self.receiver.on_question();
            }
            Command::Wins => self.on_window(header),
            Command::Rst => {}
        }
    }

    /// protocol.md 5.2 and 6.1.
    fn on_ack(&mut self, header: &KcpHeader, echoed: Option<Echoed>) {
        let sample = self.clock.wire().distance_from(header.ts);
        if sample >= 0 && (echoed.is_some() || !self.is_strict()) {
            self.rtt.on_sample(sample, self.interval_ms());
        }
        if let Some(sent) = echoed.and_then(|echoed| echoed.sent) {
            let now = self.clock.now().as_micros();
            let rtt_us = now.saturating_sub(sent.as_micros());
            self.rtt.on_fine_sample(rtt_us);
            self.capacity.on_round_trip(rtt_us);
        }
        if let Some(freed) = self.in_flight.acknowledge(header.sn) {
            self.release(freed);
        }
    }

    /// protocol.md 4.1 and 4.2.
    fn on_data(&mut self, fin: bool, segment: &KcpSegment<'_>) {
        let header = &segment.header;
        if !self.receiver.is_before_window_end(header.sn) {
            self.counters.ignored_out_of_window += 1;
            return;
        }
        let payload = if fin { &[] } else { segment.payload };
        match self.receiver.insert(header.sn, header.frg, fin, payload) {
            Arrival::New => {
                self.counters.segments_received += 1;
                self.counters.payload_received += payload.len() as u64;
                self.last_new_push = Some(self.clock.now());
                self.probe.on_push();
                self.restart.on_new_data();
            }
            Arrival::Duplicate => {
                self.counters.duplicates += 1;
                self.on_repetition(header.sn);
            }
            Arrival::NoRoom => {
                self.counters.ignored_no_room += 1;
                self.on_refused(header.sn);
                return;
            }
            Arrival::NoMemory => {
                self.counters.ignored_no_memory += 1;
                self.on_refused(header.sn);
                return;
            }
        }
        if self.receiver.is_message_too_long() {
            self.fault.get_or_insert(Fault::MessageTooLong);
        }
        if self.receiver.watches_undelivered() {
            self.receiver.watch(self.clock.now());
        }
        if fin && !self.proof.is_proven() {
            self.on_mark(); // protocol.md 12.1: an acceptable FIN shows it too
        }
        let limit = self.receiver.window() as usize + ACK_LIST_SPARE;
        if self.is_strict() && self.acks.len() >= limit {
            self.counters.ignored_ack_list_full += 1;
        } else {
            self.acks.push((header.sn, header.ts));
        }
    }

    /// protocol.md 4.6: a peer whose next segment is refused learns that the window is 0, not that nothing
    /// passes.
    #[cold]
    fn on_refused(&mut self, sn: Sn) {
        let is_next = sn == self.receiver.next();
        self.probe.tell |= is_next && self.is_strict() && self.receiver.is_closed();
    }

    fn on_window(&mut self, header: &KcpHeader) {
        if !self.is_strict() {
            return;
        }
        let was_proven = self.proof.is_proven();
        let echoes = header.is_echo() && self.is_echo_of_ours(header);
        if echoes && was_proven {
            self.resend_missed(header.ts);
        }
        if self.liveness.is_stale(header.una) {
            self.on_stale_window(header, echoes);
        } else {
            self.liveness.on_current_answer();
        }
    }
}
