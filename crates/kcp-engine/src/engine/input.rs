//! One datagram in: header walk and checks (`docs/protocol.md` 2.4, 11). What a segment that passes them
//! does is in `apply`.

use super::KcpEngine;
use crate::config::IKCP_WND_RCV;
use crate::error::{Fault, InputError};
use crate::segment::{Command, IKCP_OVERHEAD, KcpHeader, KcpSegment, split_payload};
use crate::seq::{Sn, WireTs};
use crate::time::Instant;

/// Segments further behind the window than this are not even acknowledged again.
const OLDEST_DUPLICATE: i32 = 65_536;

/// What a walk over a datagram leaves for its end.
#[derive(Default)]
struct Walk {
    /// Bytes for the answer budget: those of the datagram, once, if it is of this session.
    credit: usize,
    /// Segments that passed the checks.
    applied: usize,
    /// Of those, WASKs.
    questions: usize,
    /// The latest ACK by the conserve rule (protocol.md 5.3).
    latest: Option<(Sn, WireTs)>,
}

/// Window, una, and the mark, which depends on the command: mostly those of the segment before, in a run of
/// ACKs as in a transfer one way. The default, whose command does not exist, is that of no segment.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shared {
    cmd: u8,
    frg: u8,
    wnd: u16,
    una: Sn,
}

impl Shared {
    const fn of(header: &KcpHeader) -> Self {
        Self {
            cmd: header.cmd,
            frg: header.frg,
            wnd: header.wnd,
            una: header.una,
        }
    }
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
    /// Process it as C would; for an ACK of a transmission that we remember, which one that is.
    Believe(Option<Echoed>),
    /// Nothing of it is used.
    Ignore,
}

/// The transmission whose time stamp an ACK echoes.
#[derive(Clone, Copy)]
pub(super) struct Echoed {
    /// When it was, if it was the last one: of earlier ones only the wire time is known.
    pub(super) sent: Option<Instant>,
}

/// What a datagram may change that its end compares.
#[derive(Clone, Copy)]
struct Before {
    una: Sn,
    outstanding: usize,
    window: u32,
    duplicates: u64,
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
        let first = KcpHeader::parse(datagram);
        if let Some(first) = &first
            && first.una == self.first_sn
            && self.is_beginning_again(first, datagram)
        {
            self.on_beginning_again(datagram);
            return Ok(());
        }
        let before = Before {
            una: self.in_flight.una(),
            outstanding: self.in_flight.outstanding(),
            window: self.remote_window,
            duplicates: self.counters.duplicates,
        };
        let mut walk = Walk::default();
        let result = match first {
            Some(first) => self.input_segments(first, datagram, &mut walk),
            None => Err(InputError::TooShort),
        };
        self.proof.on_received(walk.credit);
        if walk.applied > 0 {
            self.on_heard(&walk, before);
        }
        match result {
            Ok(()) => self.end_datagram(before.una, walk.latest),
            Err(error) => self.count_error(error),
        }
        let opened = self.in_flight.una() != before.una || self.remote_window > before.window;
        self.want_flush_after_input(opened);
        result
    }

    /// The segments of a datagram, whose first header was read before.
    #[inline]
    fn input_segments(
        &mut self,
        first: KcpHeader,
        datagram: &[u8],
        walk: &mut Walk,
    ) -> Result<(), InputError> {
        let (mut header, mut rest) = (first, datagram);
        loop {
            if header.conv != self.conv {
                return Err(InputError::WrongConv);
            }
            let (segment, tail) = split_payload(header, &rest[IKCP_OVERHEAD..])?;
            rest = tail;
            walk.credit = datagram.len();
            let command = self.command(&segment)?;
            if let Verdict::Believe(echoed) = self.verdict(command, &segment) {
                walk.applied += 1;
                let shared = Shared::of(&header);
                if self.applied != shared {
                    let holds = self.apply_shared(command, &header);
                    self.applied = if holds { shared } else { Shared::default() };
                }
                self.apply(command, &segment, echoed);
                match command {
                    Command::Ack => walk.add_ack(header.sn, header.ts),
                    Command::Wask => walk.questions += 1,
                    _ => {}
                }
            }
            let Some(next) = KcpHeader::parse(rest) else {
                return Ok(());
            };
            header = next;
        }
    }

    /// Some segment passed the checks.
    #[inline]
    fn on_heard(&mut self, walk: &Walk, before: Before) {
        let now = self.clock.now();
        self.last_heard = Some(now);
        self.liveness.on_heard();
        self.session_heard |= walk.applied > walk.questions;
        if self.resends_when_heard {
            self.resend_as_heard();
        }
        let repeated = self.counters.duplicates - before.duplicates;
        if walk.applied as u64 > repeated {
            self.last_news = Some(now);
        }
        let delivered = before.outstanding - self.in_flight.outstanding();
        if delivered > 0 {
            let offered = self.largest_remote_window.map_or(IKCP_WND_RCV, u32::from);
            let window = self.config.send_window_segments().min(offered);
            self.una_credit.end_datagram(window);
            self.last_acknowledged = Some(now);
            self.capacity.on_delivered(now, delivered as u64);
        }
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
            return Verdict::Believe(None);
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
            _ => Verdict::Believe(None),
        }
    }

    fn ack_verdict(&mut self, header: &KcpHeader) -> Verdict {
        let remembered = self.in_flight.remembered(header.sn);
        if let Some(record) = remembered.filter(|record| record.was_sent_at(header.ts)) {
            let is_last = record.last_ts == header.ts;
            let sent = is_last.then_some(record.last_sent);
            if is_last || record.first_ts == header.ts {
                self.una_credit.on_echo(&mut record.echoed);
            }
            if !self.proof.is_proven() {
                // In the time between the two a guess would have too many chances.
                if self.proof.is_limited() && !record.is_first_or_last(header.ts) {
                    return self.doubt_ack(header);
                }
                if !self.prove_by_ack(header) {
                    return Verdict::Ignore;
                }
            }
            return Verdict::Believe(Some(Echoed { sent }));
        }
        // An old number whose slot was used again can no longer be checked; its una can be.
        if header.sn.is_before(self.in_flight.una()) {
            if !self.proof.is_proven() {
                self.on_challenge_ack(header);
            }
            return Verdict::Believe(None);
        }
        self.doubt_ack(header)
    }

    /// The number of the datagram that is read; compared with those of datagrams just before.
    const fn datagram(&self) -> u32 {
        self.counters.datagrams_received as u32
    }

    /// A right ACK validates, unless its datagram has guessed wrong before.
    #[cold]
    fn prove_by_ack(&mut self, header: &KcpHeader) -> bool {
        let has_guessed = self.proof.has_guessed(self.datagram());
        if has_guessed || self.is_of_two_accepting_sides(header) {
            self.counters.ignored_invalid_ack += 1;
            return false;
        }
        self.on_proof(header);
        true
    }

    /// The number of an empty PUSH that only asks to be acknowledged (protocol.md 11.1).
    pub(super) const fn challenge_sn(&self) -> Sn {
        Sn::new(self.first_sn.get().wrapping_sub(1))
    }

    /// An ACK of what is no segment of ours, or of the challenge.
    #[cold]
    fn on_challenge_ack(&mut self, header: &KcpHeader) {
        if header.sn == self.challenge_sn() {
            self.prove_by_echo(header);
        }
    }

    /// Whether this WINS shows the time stamp of a question of ours. To show one validates.
    pub(super) fn is_echo_of_ours(&mut self, header: &KcpHeader) -> bool {
        let is_right = self.liveness.has_asked(header.ts);
        if self.proof.is_proven() {
            return self.believes(is_right);
        }
        self.prove_by_echo(header);
        is_right
    }

    /// Whether the answer to a question is right, and a validated session need not take it for a guess.
    pub(super) fn believes(&mut self, is_right: bool) -> bool {
        let datagram = self.datagram();
        let wrong_in = self.proof.guessed_in();
        self.guesses
            .believes(is_right, self.clock.millis(), datagram, wrong_in)
    }

    /// The answer to a question shows a time stamp of it, or does not.
    fn prove_by_echo(&mut self, header: &KcpHeader) {
        let is_right = self.liveness.has_asked(header.ts);
        let datagram = self.datagram();
        if self.proof.is_echo_right(is_right, datagram) && !self.is_of_two_accepting_sides(header) {
            self.on_proof(header);
        }
    }

    /// Whether the sender of a right answer says that it accepted this session, as we did: forged first
    /// datagrams made two listeners talk to each other. Neither validates the other, and both end. A wrong
    /// answer that says so ends nothing.
    fn is_of_two_accepting_sides(&mut self, header: &KcpHeader) -> bool {
        let both = self.proof.is_limited() && header.is_of_accepting_side();
        if both {
            self.fault.get_or_insert(Fault::TwoAcceptingSides);
        }
        both
    }

    #[cold]
    fn doubt_ack(&mut self, header: &KcpHeader) -> Verdict {
        self.counters.ignored_invalid_ack += 1;
        // Only for a segment in flight was there a time stamp to guess.
        let datagram = self.datagram();
        if self.in_flight.contains(header.sn) {
            self.una_credit.on_wrong_echo();
            if self.proof.on_invalid_ack(datagram) {
                self.fault.get_or_insert(Fault::ForgedAcks);
            }
        }
        Verdict::Ignore
    }

    /// protocol.md 11.1: the peer sees what we send.
    fn on_proof(&mut self, answer: &KcpHeader) {
        if self.proof.is_proven() {
            return;
        }
        self.proof.on_valid_answer();
        self.settle_mark(answer.is_marked());
        self.receiver.set_stranger(false);
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
