//! Conversations that are over (`docs/protocol.md` 12.3). Pure.
//!
//! A late datagram of one makes no new session. After an orderly close what the peer repeats is
//! acknowledged again, because our last ACKs may have been lost. A peer whose session was given up is
//! told so, and told again when it asks.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use foldhash::fast::RandomState;
use kcp_engine::{Conv, Instant, KcpHeader, Sn, WireTs};

use crate::gate;
use answer::Asked;
use shares::{Rank, Shares, UNVALIDATED, VALIDATED};

pub(crate) use answer::Answer;

mod answer;
mod shares;

/// Peer and conversation.
pub(crate) type Key = (SocketAddr, Conv);

/// Before every other key.
const NO_KEY: Key = (
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    Conv::new(0),
);

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Both sides finished, or we did towards a stock peer. Everything of the peer came before this
    /// sequence number.
    Orderly(Sn),
    /// We gave it up. A peer that still asks for it is told that it is gone.
    GivenUp,
}

/// What is to be remembered of a session that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) farewell: Farewell,
    pub(crate) rto: Duration,
    /// The peer has told an `una` other than 0.
    pub(crate) una_shown: bool,
    /// The peer has shown the mark, so its answers echo the question.
    pub(crate) marked: bool,
    /// The peer's address is validated.
    pub(crate) validated: bool,
    /// The peer does not know that it is over, and understands an RST.
    pub(crate) tells: bool,
    /// Only for as long as it takes to tell the peer: a socket stays open for this record alone.
    pub(crate) brief: bool,
    /// When the record begins, if that is before the end of the session: late copies are of what came
    /// until then.
    pub(crate) since: Option<Instant>,
    /// The local address to answer from.
    pub(crate) source: Option<IpAddr>,
}

/// One conversation that is over.
#[derive(Debug)]
struct Record {
    until: Instant,
    rank: Rank,
    farewell: Farewell,
    rto: Duration,
    una_shown: bool,
    marked: bool,
    validated: bool,
    source: Option<IpAddr>,
    asked: Option<Asked>,
    /// Datagrams that answered a question which we did not ask.
    wrong_echoes: u8,
    /// A datagram has come that may be the first of a new conversation.
    begun_again: bool,
    last_reset: Option<Instant>,
    /// RSTs still to be sent, the next one at `reset_at`.
    resets_left: u32,
    reset_at: Instant,
    resets_every: Duration,
}

/// An RST that tells a peer unasked that its session was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) peer: SocketAddr,
    pub(crate) source: Option<IpAddr>,
    pub(crate) header: KcpHeader,
}

/// The conversations that ended a short while ago, a bounded number of them.
#[derive(Debug, Default)]
pub(crate) struct TimeWait {
    records: HashMap<Key, Record, RandomState>,
    order: BTreeSet<(Instant, Key)>,
    notices: BTreeSet<(Instant, Key)>,
    shares: Shares,
    /// Records of peers that were never validated. They make room for each other only: forged first
    /// datagrams leave as many as the application ends sessions.
    unvalidated: Shares,
    evicted: u64,
}

impl TimeWait {
    /// Remembers a conversation.
    pub(crate) fn insert(&mut self, now: Instant, key: Key, ending: Ending) {
        self.remove(key);
        let record = Record::new(now, ending);
        if record.until <= now {
            return;
        }
        let bounds = match record.validated {
            true => VALIDATED,
            false => UNVALIDATED,
        };
        while let Some(victim) = self.shares_of(record.validated).victim(now, key, bounds) {
            self.remove(victim);
            self.evicted += 1;
        }
        self.order.insert((record.until, key));
        self.shares_of(record.validated).add(key, record.rank);
        if record.resets_left > 0 {
            self.notices.insert((record.reset_at, key));
        }
        self.records.insert(key, record);
    }

    /// Whether this conversation ended a short while ago.
    pub(crate) fn contains(&self, addr: SocketAddr, conv: Conv) -> bool {
        self.records.contains_key(&(addr, conv))
    }

    /// Whether it did, and the peer's address was validated.
    pub(crate) fn contains_validated(&self, addr: SocketAddr, conv: Conv) -> bool {
        let record = self.records.get(&(addr, conv));
        record.is_some_and(|record| record.validated)
    }

    /// What a datagram of such a conversation is answered, and from which address; `None` if there is
    /// no record. `draw` gives a random number.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        key: Key,
        datagram: &[u8],
        draw: impl FnOnce() -> Option<u32>,
    ) -> Option<Answer> {
        let record = self.records.get_mut(&key)?;
        let answer = record.answer(now, key.1, datagram, draw);
        if answer == Answer::Reopen {
            self.remove(key);
        }
        Some(answer)
    }

    /// Forgets what is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.order.first().filter(|&&(at, _)| at <= now) {
            debug_assert!(at <= now);
            self.remove(key);
        }
    }

    /// The next RST that is due.
    pub(crate) fn next_notice(&mut self, now: Instant) -> Option<Notice> {
        let due = self.notices.first().copied().filter(|&(at, _)| at <= now)?;
        self.notices.remove(&due);
        let key = due.1;
        let record = self.records.get_mut(&key)?;
        record.resets_left -= 1;
        if record.resets_left > 0 {
            record.reset_at = now + record.resets_every;
            self.notices.insert((record.reset_at, key));
        }
        Some(Notice {
            peer: key.0,
            source: record.source,
            // It answers no question: the peer asks one, to be sure that the RST is ours.
            header: gate::reset(key.1, WireTs::new(0)),
        })
    }

    /// When something is to be done next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let expiry = self.order.first().map(|&(at, _)| at);
        let notice = self.notices.first().map(|&(at, _)| at);
        [expiry, notice].into_iter().flatten().min()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Records that made room before their time.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn remove(&mut self, key: Key) {
        if let Some(record) = self.records.remove(&key) {
            self.order.remove(&(record.until, key));
            self.notices.remove(&(record.reset_at, key));
            self.shares_of(record.validated).remove(key, record.rank);
        }
    }

    const fn shares_of(&mut self, validated: bool) -> &mut Shares {
        match validated {
            true => &mut self.shares,
            false => &mut self.unvalidated,
        }
    }
}

impl Record {
    fn new(now: Instant, ending: Ending) -> Self {
        let four = ending.rto.saturating_mul(4);
        let lasts = match ending.brief {
            true => four.min(SHORTEST),
            false => four.clamp(SHORTEST, LONGEST),
        };
        let until = ending.since.unwrap_or(now) + lasts;
        Self {
            until,
            rank: match ending.farewell {
                Farewell::Orderly(_) => Rank::Orderly(until),
                Farewell::GivenUp => {
                    Rank::GivenUp(now + ending.rto.saturating_mul(NOTICES).min(lasts))
                }
            },
            farewell: ending.farewell,
            rto: ending.rto,
            una_shown: ending.una_shown,
            marked: ending.marked,
            validated: ending.validated,
            source: ending.source,
            asked: None,
            wrong_echoes: 0,
            begun_again: false,
            last_reset: None,
            resets_left: if ending.tells { NOTICES } else { 0 },
            reset_at: now,
            resets_every: ending.rto.min(lasts / 4),
        }
    }
}

/// Most records of validated peers. About 300 bytes each.
const LIMIT: usize = 8_192;
/// Most records of other peers.
const UNVALIDATED_LIMIT: usize = 1_024;
/// Longer than a datagram lives on any path that a user would put up with.
const SHORTEST: Duration = Duration::from_secs(10);
/// A peer chooses our RTO by when it acknowledges, and must not choose how long it is remembered.
const LONGEST: Duration = Duration::from_secs(30);
/// How often a peer is told unasked that its session was given up.
const NOTICES: u32 = 3;

#[cfg(test)]
mod tests;
