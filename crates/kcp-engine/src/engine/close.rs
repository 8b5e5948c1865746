//! The end of a session: the mark, FIN and RST (`docs/protocol.md` 12).

use super::KcpEngine;
use crate::error::Fault;
use crate::segment::KcpHeader;
use crate::seq::Sn;

/// `sn` of every RST: not 0, on which kcp-go and `tokio_kcp` would replace a live session.
const RESET_SN: Sn = Sn::new(u32::MAX);

#[derive(Debug, Default)]
pub(super) struct Close {
    finishing: bool,
    fin_queued: bool,
    peer_knows: bool,
    /// A segment that ours always mark came without the mark.
    pub(super) shown_stock: bool,
}

impl Close {
    pub(super) const fn is_finishing(&self) -> bool {
        self.finishing
    }
}

/// How far the close of each direction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FinState {
    /// Our FIN is queued or sent.
    pub sent: bool,
    /// The peer has acknowledged our FIN, and with it everything before.
    pub acknowledged: bool,
    /// The peer's FIN has arrived, and everything before it.
    pub received: bool,
}

impl KcpEngine {
    /// Ends our direction: later sends fail, and behind what is queued a FIN goes out if the peer
    /// has shown that it knows FIN. If it has been heard and has not, it is asked once; a stock peer
    /// is told nothing (protocol.md 12.7). Calling it again does nothing.
    pub fn finish(&mut self) {
        if self.close.finishing {
            return;
        }
        self.close.finishing = true;
        self.flush_wanted = true;
        if self.close.peer_knows {
            self.queue_fin();
        } else if self.is_strict() && self.session_heard {
            // A peer that only ever sent data has had no occasion to show the mark. One that was
            // never heard may not have the session yet, and would answer with RST.
            self.probe.ask = true;
        }
    }

    /// Whether [`finish`](Self::finish) was called: nothing more is taken.
    pub const fn is_finishing(&self) -> bool {
        self.close.finishing
    }

    /// Whether the peer has shown that it understands FIN and RST.
    pub const fn peer_knows_close(&self) -> bool {
        self.close.peer_knows
    }

    /// Whether the peer has shown that it does not: an ACK, WASK or WINS of it had no mark.
    ///
    /// Until it has shown either, a close waits: a peer that only sent data has had no occasion.
    pub const fn peer_is_stock(&self) -> bool {
        self.close.shown_stock && !self.close.peer_knows
    }

    /// How far the close has come.
    pub fn fin_state(&self) -> FinState {
        FinState {
            sent: self.close.fin_queued,
            acknowledged: self.close.fin_queued && self.is_drained(),
            received: self.receiver.is_finished(),
        }
    }

    /// Both FINs have arrived: all that is left to say are ACKs.
    pub(super) fn is_over(&self) -> bool {
        let fin = self.fin_state();
        fin.acknowledged && fin.received
    }

    /// The same, but that the peer's FIN may still wait for room. The peer is in TIME-WAIT, and answers no
    /// question any more.
    pub(super) fn is_all_said(&self) -> bool {
        self.fin_state().acknowledged && self.receiver.has_everything()
    }

    pub(super) fn on_mark(&mut self) {
        self.close.peer_knows = true;
        if self.close.finishing && !self.close.fin_queued {
            self.queue_fin();
        }
    }

    /// A right answer tells what the peer is, whatever was forged before (protocol.md 12.1).
    pub(super) fn settle_mark(&mut self, is_marked: bool) {
        if is_marked {
            self.on_mark();
            return;
        }
        self.close.peer_knows = false;
        self.close.shown_stock = true;
        if core::mem::take(&mut self.close.fin_queued) {
            self.take_fin_back();
        }
    }

    /// A stock peer would never acknowledge it. Nothing follows it.
    #[cold]
    fn take_fin_back(&mut self) {
        if self.queue.pop_fin() {
            return;
        }
        let last = Sn::new(self.in_flight.nxt().get().wrapping_sub(1));
        if self.in_flight.get(last).is_some_and(|record| record.fin)
            && let Some(fin) = self.in_flight.acknowledge(last)
        {
            self.release(fin);
        }
    }

    fn queue_fin(&mut self) {
        self.close.fin_queued = true;
        self.flush_wanted = true;
        self.queue.push_fin();
    }

    /// Only an answer to a question of ours counts. Any other RST makes us ask, so that a peer that
    /// has given the session up can answer (protocol.md 12.4).
    pub(super) fn on_reset(&mut self, header: &KcpHeader) {
        let answers = header.sn == RESET_SN && self.liveness.has_asked(header.ts);
        if self.believes(answers) {
            self.fault.get_or_insert(Fault::Reset);
            return;
        }
        self.counters.ignored_invalid_reset += 1;
        if self.may_question_reset() {
            self.counters.reset_questions += 1;
            self.probe.confirm = true;
            self.flush_wanted = true;
        }
    }

    /// At most once per RTO. Before address validation once in all: a forged RST must not make us
    /// send to its source again and again.
    fn may_question_reset(&self) -> bool {
        if self.probe.confirm || self.is_over() || !self.session_heard {
            return false;
        }
        match self.proof.is_proven() {
            true => self.liveness.may_press(self.clock.now(), self.rto()),
            false => self.counters.reset_questions == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KcpConfig;
    use crate::engine::EngineOptions;
    use crate::segment::{CLOSE_MARK, Command};
    use crate::seq::{Conv, WireTs};
    use crate::time::Instant;

    fn segment(command: Command, frg: u8) -> [u8; 24] {
        let header = KcpHeader {
            conv: Conv::new(1),
            cmd: command.to_wire(),
            frg,
            wnd: 128,
            ts: WireTs::new(0),
            sn: Sn::ZERO,
            una: Sn::ZERO,
            len: 0,
        };
        header.to_bytes()
    }

    /// protocol.md 12.1, 12.7: a PUSH says nothing, an unmarked WINS says stock, a marked one
    /// says ours for good.
    #[test]
    fn a_peer_shows_what_it_is_by_what_ours_always_mark() {
        let config = KcpConfig::normal();
        let mut engine = KcpEngine::new(Conv::new(1), &config, EngineOptions::default()).unwrap();
        let mut hears = |command, frg| {
            engine.input(Instant::ZERO, &segment(command, frg)).unwrap();
            (engine.peer_is_stock(), engine.peer_knows_close())
        };
        assert_eq!(hears(Command::Push, 0), (false, false));
        assert_eq!(hears(Command::Wins, 0), (true, false));
        assert_eq!(hears(Command::Wins, CLOSE_MARK), (false, true));
        assert_eq!(hears(Command::Wask, 0), (false, true));
    }
}
