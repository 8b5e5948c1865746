//! Datagrams of a beginning on a session that is past it (`docs/protocol.md` 12.8).

use core::time::Duration;

use super::KcpEngine;
use super::input::Shared;
use super::transmit::Outgoing;
use crate::error::Fault;
use crate::segment::{Command, KcpHeader, segments};
use crate::seq::Sn;

impl KcpEngine {
    /// Whether a datagram says that its sender has heard nothing from us, while the peer once told
    /// that it had: a late copy, or another peer. Each datagram has one una, that of its flush. Where
    /// nothing of the old peer was taken yet, nothing can be mixed up.
    ///
    /// Without data such a datagram is looked at only while the question is open. `first` is the header of
    /// its first segment, whose una is that of a beginning.
    #[inline]
    pub(super) fn is_beginning_again(&self, first: &KcpHeader, datagram: &[u8]) -> bool {
        self.is_una_shown()
            && self.is_first_una_old()
            && self.receiver.next() != self.first_sn
            && self.is_strict()
            && first.conv == self.conv
            && (self.restart.is_open() || has_push(datagram))
    }

    /// Takes nothing of it but the answer to our question, and asks.
    #[cold]
    pub(super) fn on_beginning_again(&mut self, datagram: &[u8]) {
        self.counters.ignored_beginning += 1;
        // The next segment of the old peer shows that it lives, also if it says what its last one said.
        self.applied = Shared::default();
        if self.is_all_said() {
            return; // All that is left is to read, and to say so; a record of protocol.md 12.3 follows.
        }
        let (now, rtt) = (self.clock.now(), self.round_trip());
        for segment in segments(datagram).map_while(Result::ok) {
            let header = segment.header;
            if header.conv != self.conv || header.una != self.first_sn {
                break;
            }
            match header.command() {
                Some(Command::Wins) => self.on_answer_of_a_beginning(&header),
                Some(Command::Wask) if self.is_question_of_the_old_peer(&header) => {
                    return self.on_mutual_question(&header);
                }
                _ => {}
            }
        }
        if has_push(datagram) && self.restart.on_beginning(now, rtt) {
            // What was decided would reach the new peer, which would take its una for its own.
            self.outbox.clear();
        }
        self.flush_wanted |= self.restart.ask_at().is_some_and(|at| at <= now);
    }

    /// Whether a WASK is the question that the peer of this session asks when it doubts us: its sn is what that peer has
    /// received, which one that begins again cannot have.
    fn is_question_of_the_old_peer(&self, header: &KcpHeader) -> bool {
        header.is_marked()
            && !self.liveness.is_stale(header.sn)
            && !self.in_flight.nxt().is_before(header.sn)
    }

    /// Each of two peers asks whether the other has begun again: forged datagrams opened the question on both sides.
    /// Neither would hear the other's una, and both would end.
    #[cold]
    fn on_mutual_question(&mut self, header: &KcpHeader) {
        self.last_heard = Some(self.clock.now());
        self.liveness.on_heard();
        self.on_old_peer();
        self.probe.on_question(Some(header.ts));
        self.receiver.on_question();
        self.flush_wanted = true;
    }

    /// Whether una is past [`first_sn`](Self::first_sn). It is not where the numbers have wrapped, and the
    /// peer acknowledges what was sent before that one.
    fn is_first_una_old(&self) -> bool {
        self.liveness.is_stale(self.first_sn) || self.in_flight.nxt().is_before(self.first_sn)
    }

    /// A WINS while the question is open. One echo decides; any other WINS of ours is late, of the time
    /// before the peer heard our data.
    fn on_answer_of_a_beginning(&mut self, header: &KcpHeader) {
        let echoes = header.is_echo() && self.is_echo_of_ours(header);
        if echoes && self.restart.has_asked(header.ts) {
            self.fault.get_or_insert(Fault::Ghost);
            return;
        }
        if self.on_stale_window(header, echoes) {
            let (now, rtt) = (self.clock.now(), self.round_trip());
            let apart = self.stale_answers_apart() / QUESTIONS_APART;
            self.restart.on_stale_answer(now, rtt.max(apart));
        }
    }

    /// A WINS with an una before the newest that the peer has told (protocol.md 12.6). Whether it counts:
    /// anyone who knows the conv can send it, but only a peer that hears us can echo, and ours do.
    #[cold]
    pub(super) fn on_stale_window(&mut self, header: &KcpHeader, echoes: bool) -> bool {
        if !echoes && (self.peer_knows_close() || header.is_marked()) {
            self.counters.ignored_stale_answer += 1;
            return false;
        }
        let apart = match echoes {
            true => self.round_trip(),
            false => self.stale_answers_apart(),
        };
        if self.liveness.is_ghost(self.clock.now(), echoes, apart) {
            self.fault.get_or_insert(Fault::Ghost);
        }
        true
    }

    fn stale_answers_apart(&self) -> Duration {
        (self.rto() * STALE_APART_RTOS).max(STALE_APART)
    }

    /// Whether the last answer of the peer was of before what it had told: ask again soon
    /// (`docs/protocol.md` 12.6).
    pub const fn is_peer_doubtful(&self) -> bool {
        self.liveness.is_doubtful()
    }

    /// The peer shows that it is the one that we know.
    #[cold]
    pub(super) fn on_old_peer(&mut self) {
        let (now, rtt) = (self.clock.now(), self.round_trip());
        self.flush_wanted |= self.restart.on_old_peer(now, rtt);
    }

    /// A flush while the question is open: nothing leaves but the question. Its una acknowledges
    /// nothing, or a new peer would take what it has sent for delivered.
    pub(super) fn ask_whether_restarted(&mut self) {
        let (now, rto) = (self.clock.now(), self.rto());
        let ts = self.clock.wire();
        // Who forges the first datagram of a session must not end one whose peer cannot be reached for a while.
        let owed = self.wait_snd() > 0;
        if owed {
            self.liveness.owe(now);
        }
        if self.restart.takes_question(now, ts, rto) {
            self.liveness.on_asked(now, ts, owed);
            self.outbox.push_back(Outgoing::AskRestarted { ts });
        }
    }

    /// Data that has arrived before.
    pub(super) fn on_repetition(&mut self, sn: Sn) {
        if sn == self.first_sn && self.may_begin_again_untold() {
            let (now, rto) = (self.clock.now(), self.rto());
            let news = self.last_new_push.unwrap_or_default();
            if self.restart.on_repeated_first(now, rto, news) {
                self.fault.get_or_insert(Fault::Ghost);
            }
        }
    }

    /// Whether a beginning shows only by being repeated: the peer, which chose us, has not told an una past
    /// the first number. One that shows the mark is asked, and answers what no other can.
    fn may_begin_again_untold(&self) -> bool {
        let told_nothing = self.peer_is_stock() && !self.is_una_shown();
        self.proof.is_limited() || (self.proof.is_of_accepted() && told_nothing)
    }

    fn round_trip(&self) -> Duration {
        let smoothed = self.rtt.smoothed_us().map(Duration::from_micros);
        smoothed.unwrap_or_else(|| self.rto())
    }
}

/// From the first stale answer of a stock peer to the last question (protocol.md 12.6).
const STALE_APART: Duration = Duration::from_secs(1);
const STALE_APART_RTOS: u32 = 4;
/// Questions in that time, where stale answers come to all of them (protocol.md 12.8).
const QUESTIONS_APART: u32 = 8;

/// Whether there is a PUSH in it.
fn has_push(datagram: &[u8]) -> bool {
    segments(datagram)
        .map_while(Result::ok)
        .any(|segment| segment.header.command() == Some(Command::Push))
}
