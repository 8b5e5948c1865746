//! One datagram in: header walk, checks, dispatch (`docs/protocol.md` 2.4, 4.1, 5, 11).

use super::KcpEngine;
use crate::error::{Fault, InputError};
use crate::in_flight::Freed;
use crate::recv::Arrival;
use crate::segment::{Command, IKCP_OVERHEAD, KcpHeader, KcpSegment, split_payload};
use crate::seq::{Sn, WireTs};
use crate::time::Instant;

/// Segments further behind the window than this are not even acknowledged again.
const OLDEST_DUPLICATE: i32 = 65_536;

/// ACK list entries allowed beyond the receive window (protocol.md 11.7): room for a window of
/// duplicates.
const ACK_LIST_SPARE: usize = 128;

/// What a walk over a datagram leaves for its end.
#[derive(Default)]
struct Walk {
    /// Some segment passed the checks.
    heard: bool,
    /// One of these was more than data that had arrived before.
    news: bool,
    /// The latest ACK by the conserve rule (protocol.md 5.3).
    latest: Option<(Sn, WireTs)>,
}

impl Walk {
    fn add_ack(&mut self, sn: Sn, ts: WireTs) {
        let newer = self
            .latest
            .is_none_or(|(max, at)| sn.distance_from(max) > 0 && ts.distance_from(at) > 0);
        if newer {
            self.latest = Some((sn, ts));
        }
    }
}

/// What the checks made of a segment.
enum Verdict {
    /// Process it as C would.
    Believe,
    /// Process it; an ACK of a transmission that we remember.
    Acknowledges(Echoed),
    /// Nothing of it is used.
    Ignore,
}

/// The transmission whose time stamp an ACK echoes.
#[derive(Clone, Copy)]
struct Echoed {
    /// When it was, if it was the last one: of earlier ones only the wire time is known.
    sent: Option<Instant>,
}

impl KcpEngine {
    /// Reads one datagram (C: `ikcp_input`). Never panics, whatever the bytes.
    ///
    /// # Errors
    /// Why reading stopped; segments before stay applied. Everything is counted in
    /// [`stats`](Self::stats), so the result may be dropped.
    pub fn input(&mut self, now: Instant, datagram: &[u8]) -> Result<(), InputError> {
        self.clock.observe(now);
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += datagram.len() as u64;
        if self.is_beginning_again(datagram) {
            self.on_beginning_again(datagram);
            return Ok(());
        }
        let una_before = self.in_flight.una();
        let outstanding_before = self.in_flight.outstanding();
        let window_before = self.remote_window;
        let mut walk = Walk::default();
        let result = self.input_segments(datagram, &mut walk);
        if walk.heard {
            self.last_heard = Some(self.clock.now());
            self.liveness.on_heard();
            if self.head_watch.is_pressed() {
                self.press_head();
            }
        }
        if walk.news {
            self.last_news = self.last_heard;
        }
        let delivered = outstanding_before - self.in_flight.outstanding();
        if delivered > 0 {
            self.last_acknowledged = Some(self.clock.now());
            self.capacity
                .on_delivered(self.clock.now(), delivered as u64);
        }
        match result {
            Ok(()) => self.end_datagram(una_before, walk.latest),
            Err(error) => self.count_error(error),
        }
        let opened = self.in_flight.una() != una_before || self.remote_window > window_before;
        self.want_flush_after_input(opened);
        result
    }

    fn input_segments(&mut self, datagram: &[u8], walk: &mut Walk) -> Result<(), InputError> {
        if datagram.len() < IKCP_OVERHEAD {
            return Err(InputError::TooShort);
        }
        let mut rest = datagram;
        let mut ours = false;
        while let Some(header) = KcpHeader::parse(rest) {
            if header.conv != self.conv {
                return Err(InputError::WrongConv);
            }
            let (segment, tail) = split_payload(header, &rest[IKCP_OVERHEAD..])?;
            rest = tail;
            if !ours {
                ours = true;
                self.proof.on_received(datagram.len());
            }
            let command = self.command(&segment)?;
            let duplicates = self.counters.duplicates;
            match self.verdict(command, &segment) {
                Verdict::Ignore => continue,
                Verdict::Believe => self.apply(command, &segment, None),
                Verdict::Acknowledges(echoed) => self.apply(command, &segment, Some(echoed)),
            }
            walk.heard = true;
            self.session_heard |= command != Command::Wask;
            walk.news |= self.counters.duplicates == duplicates;
            if command == Command::Ack {
                walk.add_ack(header.sn, header.ts);
            }
        }
        Ok(())
    }

    fn command(&self, segment: &KcpSegment<'_>) -> Result<Command, InputError> {
        match segment.header.command() {
            Some(Command::Fin | Command::Rst) | None if !self.is_strict() => {
                Err(InputError::UnknownCommand)
            }
            command => command.ok_or(InputError::UnknownCommand),
        }
    }

    /// The one step in which a segment is doubted; protocol.md 11.1, 11.2, 12.4.
    fn verdict(&mut self, command: Command, segment: &KcpSegment<'_>) -> Verdict {
        if !self.is_strict() {
            return Verdict::Believe;
        }
        let header = &segment.header;
        if command == Command::Rst {
            self.on_reset(header);
            return Verdict::Ignore;
        }
        if self.in_flight.nxt().is_before(header.una) {
            self.counters.ignored_invalid_una += 1;
            return Verdict::Ignore;
        }
        match command {
            Command::Ack => self.ack_verdict(header),
            Command::Push | Command::Fin
                if self.receiver.next().distance_from(header.sn) > OLDEST_DUPLICATE =>
            {
                self.counters.ignored_out_of_window += 1;
                Verdict::Ignore
            }
            _ => Verdict::Believe,
        }
    }

    fn ack_verdict(&mut self, header: &KcpHeader) -> Verdict {
        let remembered = self.in_flight.remembered(header.sn);
        if let Some(record) = remembered.filter(|record| record.was_sent_at(header.ts)) {
            let is_last = record.last_ts == header.ts;
            let sent = is_last.then_some(record.last_sent);
            self.on_proof();
            return Verdict::Acknowledges(Echoed { sent });
        }
        // An old number whose slot was used again can no longer be checked; its una can be.
        if header.sn.is_before(self.in_flight.una()) {
            return Verdict::Believe;
        }
        self.counters.ignored_invalid_ack += 1;
        // Only for a segment in flight was there a time stamp to guess.
        if self.in_flight.contains(header.sn) && self.proof.on_invalid_ack() {
            self.fault.get_or_insert(Fault::ForgedAcks);
        }
        Verdict::Ignore
    }

    /// protocol.md 11.1: the peer sees what we send.
    #[inline]
    fn on_proof(&mut self) {
        if self.proof.is_proven() {
            return;
        }
        self.proof.on_valid_answer();
        self.receiver.set_stranger(false);
    }

    fn apply(&mut self, command: Command, segment: &KcpSegment<'_>, echoed: Option<Echoed>) {
        let header = &segment.header;
        if self.is_strict() {
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
        }
        self.largest_remote_window = self.largest_remote_window.max(Some(self.remote_window));
        self.apply_una(header.una);
        match command {
            Command::Push | Command::Fin => self.on_data(command == Command::Fin, segment),
            Command::Ack => self.on_ack(header, echoed),
            // protocol.md 7.3
            Command::Wask => {
                let echo = self.is_strict().then_some(header.ts);
                self.probe.on_question(echo);
            }
            Command::Wins => self.on_window(header),
            Command::Rst => {}
        }
    }

    /// protocol.md 5.1; before the peer's proof an una frees nothing (protocol.md 11.1).
    fn apply_una(&mut self, una: Sn) {
        if self.is_strict() && !self.proof.is_proven() {
            return;
        }
        while let Some(freed) = self.in_flight.acknowledge_before(una) {
            self.release(freed);
        }
        if self.liveness.on_una(una) && self.restart.is_open() {
            self.on_old_peer();
        }
    }

    fn release(&mut self, freed: Freed) {
        self.queue.store.release(freed.payload, freed.len);
        self.head_watch.on_passed(freed.len, freed.first_sent);
        self.outbox_is_stale |= !self.outbox.is_empty();
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
                return;
            }
            Arrival::NoMemory => {
                self.counters.ignored_no_memory += 1;
                return;
            }
        }
        if self.receiver.is_message_too_long() {
            self.fault.get_or_insert(Fault::MessageTooLong);
        }
        if self.proof.is_limited() {
            self.receiver.watch(self.clock.now());
        }
        if fin {
            self.on_mark(); // protocol.md 12.1: an acceptable FIN shows it too
        }
        let limit = self.receiver.window() as usize + ACK_LIST_SPARE;
        if self.is_strict() && self.acks.len() >= limit {
            self.counters.ignored_ack_list_full += 1;
        } else {
            self.acks.push((header.sn, header.ts));
        }
    }

    fn on_window(&mut self, header: &KcpHeader) {
        if !self.is_strict() {
            return;
        }
        if header.is_echo() && self.proof.is_echo_right(self.liveness.has_asked(header.ts)) {
            self.on_proof();
        }
        let rtt_us = self.rtt.smoothed_us().unwrap_or_default();
        if self.liveness.is_ghost(self.clock.now(), header.una, rtt_us) {
            self.fault.get_or_insert(Fault::Ghost);
        }
    }

    /// The end of a datagram that was read whole: fast-ack event, then window growth.
    fn end_datagram(&mut self, una_before: Sn, latest: Option<(Sn, WireTs)>) {
        if let Some((sn, ts)) = latest {
            let trusted = self.is_strict();
            self.fast.on_acks(sn, ts, trusted, &mut self.in_flight);
        }
        if self.in_flight.una().distance_from(una_before) > 0 {
            let mss = self.config.mss() as u32;
            self.congestion.on_acknowledged(self.remote_window, mss);
        }
    }

    /// protocol.md 7.6: after input, Immediate acknowledges, fills an opened window and resends
    /// what was overtaken.
    fn want_flush_after_input(&mut self, opened: bool) {
        if !self.is_immediate() || self.flush_wanted {
            return;
        }
        let more_to_send = (opened || self.proof.is_limited()) && self.can_admit();
        self.flush_wanted = more_to_send
            || !self.acks.is_empty()
            || self.probe.tell
            || self.fast.is_ready(&self.in_flight);
    }

    const fn count_error(&mut self, error: InputError) {
        let counter = match error {
            InputError::TooShort => &mut self.counters.dropped_short,
            InputError::WrongConv => &mut self.counters.dropped_wrong_conv,
            InputError::BadLength => &mut self.counters.dropped_bad_length,
            InputError::UnknownCommand => &mut self.counters.dropped_unknown_command,
        };
        *counter += 1;
    }
}
