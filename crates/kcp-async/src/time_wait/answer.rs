//! What the record of a finished conversation answers (`docs/protocol.md` 12.3, 12.4). Pure.

use kcp_engine::{
    CLOSE_MARK, Command, Conv, IKCP_WND_RCV, Instant, KcpHeader, Sn, WireTs, segments,
};

use super::{Farewell, Record};
use crate::gate;

/// What happens to a datagram of a conversation that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Silence,
    /// An ACK: the peer repeats what has arrived.
    Acknowledge(KcpHeader),
    /// A WASK: the peer may have begun a new conversation.
    Question(KcpHeader),
    /// An RST to a validated peer.
    Reset(KcpHeader),
    /// An RST to a peer whose address was never validated: within a budget.
    BoundedReset(KcpHeader),
    /// The peer has begun a new conversation, so the record is in its way.
    Reopen,
}

/// The questions that a record has asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Instant,
    ts: WireTs,
    before: Option<WireTs>,
}

/// What the segments of a datagram say about the conversation that is over.
#[derive(Default)]
struct Reading {
    /// The first segment that wants an ACK.
    repeated: Option<KcpHeader>,
    /// sn 0 with una 0: the beginning of a conversation, this one or the next.
    begins: bool,
    /// A WINS which tells that its sender has received nothing of this conversation.
    restarted: bool,
    /// A WINS that echoes no question of ours: nothing behind it is an answer.
    guessed: bool,
    /// `ts` of a marked WASK.
    asked_at: Option<WireTs>,
    is_reset: bool,
}

impl Record {
    /// Answers a datagram. `draw` gives a random number.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        conv: Conv,
        datagram: &[u8],
        draw: impl FnOnce() -> Option<u32>,
    ) -> Answer {
        let reading = self.read(datagram);
        if reading.is_reset {
            return Answer::Silence;
        }
        if reading.restarted {
            return Answer::Reopen;
        }
        if let Some(header) = reading.repeated {
            return Answer::Acknowledge(header);
        }
        match (self.farewell, reading.asked_at) {
            // Under conv 0 an RST would tell that the address has asked for a session (protocol.md 12.4).
            (Farewell::GivenUp, Some(asked_at)) if conv.get() != 0 => {
                return self.reset(now, conv, asked_at);
            }
            (_, Some(_)) => return Answer::Silence,
            (_, None) => {}
        }
        match reading.begins {
            true => self.question(now, conv, draw),
            false => Answer::Silence,
        }
    }

    fn read(&mut self, datagram: &[u8]) -> Reading {
        let mut reading = Reading::default();
        let headers = || {
            segments(datagram)
                .map_while(Result::ok)
                .map(|segment| segment.header)
        };
        reading.begins = headers().any(|header| {
            let first = header.command() == Some(Command::Push) && header.sn == Sn::ZERO;
            first && header.una == Sn::ZERO
        });
        self.begun_again |= reading.begins;
        for header in headers() {
            match header.command() {
                Some(Command::Fin | Command::Push) if reading.repeated.is_none() => {
                    reading.repeated = self.acknowledge(&header);
                }
                Some(Command::Wins) if !reading.guessed => {
                    self.read_window(&header, &mut reading);
                }
                Some(Command::Wask) if header.is_marked() => reading.asked_at = Some(header.ts),
                Some(Command::Rst) => reading.is_reset = true,
                _ => {}
            }
        }
        reading
    }

    /// The ACK for a segment of an orderly finished conversation that arrives again, whose `una` says
    /// that everything has arrived.
    ///
    /// A segment with `una` 0 of a peer that has told a higher one is of a new conversation under the
    /// same address and conv, which must not be told that we have it. Of a peer that never has, only
    /// the last segment of the conversation is taken for a repetition, and not if it is also the
    /// first: what is not yet acknowledged ends with that one.
    fn acknowledge(&self, header: &KcpHeader) -> Option<KcpHeader> {
        let Farewell::Orderly(next) = self.farewell else {
            return None;
        };
        let is_fin = header.command() == Some(Command::Fin);
        let is_old = match (header.una == Sn::ZERO, self.una_shown) {
            (false, _) => is_fin || header.sn.is_before(next),
            (true, true) => false,
            (true, false) => header.sn + 1 == next && header.sn != Sn::ZERO && !self.begun_again,
        };
        is_old.then(|| KcpHeader {
            cmd: Command::Ack.to_wire(),
            frg: CLOSE_MARK,
            // Not 0: the peer has sent everything, and would ask for ever when there is room again.
            wnd: IKCP_WND_RCV as u16,
            una: next,
            len: 0,
            ..*header
        })
    }

    /// A WINS shows that the peer has begun again if it answers our question, and has received nothing,
    /// although the peer of the finished conversation had. Where that has shown the mark, only an echo is an
    /// answer: anyone who knows the conversation id can forge another. A datagram has one guess at what is to
    /// be echoed, and the record [`GUESSES`].
    fn read_window(&mut self, header: &KcpHeader, reading: &mut Reading) {
        let Some(asked) = self.asked.filter(|_| self.una_shown) else {
            return;
        };
        let answers = match header.is_echo() {
            true => asked.ts == header.ts || asked.before == Some(header.ts),
            false => !self.marked,
        };
        if header.is_echo() && !answers {
            reading.guessed = true;
            self.wrong_echoes = self.wrong_echoes.saturating_add(1);
        }
        let believed = self.wrong_echoes < GUESSES;
        reading.restarted |= answers && believed && header.una == Sn::ZERO;
    }

    /// The peer may have begun a new conversation: asks what it has received, at most once per RTO. If
    /// its earlier `una` was 0 too, the answer would tell nothing.
    fn question(&mut self, now: Instant, conv: Conv, draw: impl FnOnce() -> Option<u32>) -> Answer {
        let recently = self
            .asked
            .is_some_and(|asked| now.saturating_since(asked.at) < self.rto);
        if !self.una_shown || recently {
            return Answer::Silence;
        }
        let Some(ts) = draw().map(WireTs::new) else {
            return Answer::Silence;
        };
        let before = self.asked.map(|asked| asked.ts);
        self.asked = Some(Asked {
            at: now,
            ts,
            before,
        });
        Answer::Question(KcpHeader {
            conv,
            cmd: Command::Wask.to_wire(),
            frg: CLOSE_MARK,
            wnd: IKCP_WND_RCV as u16,
            ts,
            sn: Sn::ZERO,
            // Anything else would acknowledge data of the new conversation.
            una: Sn::ZERO,
            len: 0,
        })
    }

    /// The RST that a marked WASK for a conversation which we gave up gets.
    fn reset(&mut self, now: Instant, conv: Conv, asked_at: WireTs) -> Answer {
        let header = gate::reset(conv, asked_at);
        if !self.validated {
            return Answer::BoundedReset(header);
        }
        let spacing = self.rto / RESETS_PER_RTO;
        let recently = self
            .last_reset
            .is_some_and(|at| now.saturating_since(at) < spacing);
        if recently {
            return Answer::Silence;
        }
        self.last_reset = Some(now);
        Answer::Reset(header)
    }
}

/// A peer asks once per RTO of its own, which may be shorter than ours.
const RESETS_PER_RTO: u32 = 4;
/// Datagrams with a wrong echo until no other is an answer. At 2 time stamps each, chance is 1 in 33 million.
const GUESSES: u8 = 64;
