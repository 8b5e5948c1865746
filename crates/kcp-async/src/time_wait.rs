//! Conversations that are over (`docs/protocol.md` 12.3). Pure.
//!
//! A late datagram of one makes no new session. After an orderly close what the peer repeats is
//! acknowledged again, because our last ACKs may have been lost.

use std::cmp;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use kcp_engine::{CLOSE_MARK, Command, Conv, IKCP_WND_RCV, Instant, KcpHeader, Sn, segments};

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Both sides finished. The peer's FIN came just before this sequence number.
    Orderly(Sn),
    /// We gave it up. A peer that still asks for it is told that it is gone.
    GivenUp,
}

/// The conversations that ended a short while ago, at most [`LIMIT`] of them.
#[derive(Debug, Default)]
pub(crate) struct TimeWait {
    entries: HashMap<(SocketAddr, Conv), (Instant, Farewell), RandomState>,
    order: BTreeSet<(Instant, SocketAddr, Conv)>,
}

impl TimeWait {
    /// Remembers a conversation.
    pub(crate) fn insert(
        &mut self,
        now: Instant,
        key: (SocketAddr, Conv),
        rto: Duration,
        farewell: Farewell,
    ) {
        let until = now + cmp::max(rto.saturating_mul(4), SHORTEST);
        if let Some((old, _)) = self.entries.insert(key, (until, farewell)) {
            self.order.remove(&(old, key.0, key.1));
        }
        self.order.insert((until, key.0, key.1));
        if self.order.len() > LIMIT {
            self.forget_first();
        }
    }

    /// How this conversation ended, if that was lately.
    pub(crate) fn find(&self, addr: SocketAddr, conv: Conv) -> Option<Farewell> {
        self.entries
            .get(&(addr, conv))
            .map(|&(_, farewell)| farewell)
    }

    /// Forgets what is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.next().is_some_and(|at| at <= now) {
            self.forget_first();
        }
    }

    /// When something is to be forgotten next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(at, ..)| at)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn forget_first(&mut self) {
        if let Some((_, addr, conv)) = self.order.pop_first() {
            self.entries.remove(&(addr, conv));
        }
    }
}

/// Acknowledges what the peer of a finished conversation repeats: one ACK, for the first segment
/// of the datagram that wants one, whose `una` says that everything has arrived.
///
/// The peer has seen our FIN, or else the conversation would not be over; so the data that it repeats
/// has a `una` other than 0. A PUSH with `una` 0 is of a new conversation under the same address and
/// conv, which must not be told that we have it.
pub(crate) fn acknowledge(datagram: &[u8], next: Sn) -> Option<KcpHeader> {
    let repeated = segments(datagram)
        .map_while(Result::ok)
        .map(|segment| segment.header)
        .find(|header| match header.command() {
            Some(Command::Fin) => true,
            Some(Command::Push) => header.una != Sn::ZERO && header.sn.is_before(next),
            _ => false,
        })?;
    Some(KcpHeader {
        cmd: Command::Ack.to_wire(),
        frg: CLOSE_MARK,
        // Not 0: the peer has sent everything, and would ask for ever when there is room again.
        wnd: IKCP_WND_RCV as u16,
        una: next,
        len: 0,
        ..repeated
    })
}

/// Most records kept; the one that would expire first makes room. About 200 bytes each.
const LIMIT: usize = 8_192;
/// Longer than a datagram lives on any path that a user would put up with.
const SHORTEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> (SocketAddr, Conv) {
        (SocketAddr::from(([10, 0, 0, 1], port)), Conv::new(1))
    }

    const fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    /// protocol.md 12.3
    #[test]
    fn lasts_four_rto_but_at_least_ten_seconds() {
        let mut wait = TimeWait::default();
        wait.insert(
            at(0),
            key(1),
            Duration::from_millis(200),
            Farewell::Orderly(Sn::ZERO),
        );
        wait.insert(at(0), key(2), Duration::from_secs(5), Farewell::GivenUp);
        assert_eq!(wait.next(), Some(at(10)));
        wait.expire(at(10));
        assert_eq!(wait.find(key(1).0, key(1).1), None);
        assert_eq!(wait.find(key(2).0, key(2).1), Some(Farewell::GivenUp));
        wait.expire(at(20));
        assert_eq!((wait.len(), wait.next()), (0, None));
    }

    #[test]
    fn is_bounded_and_forgets_the_oldest() {
        let mut wait = TimeWait::default();
        for n in 0..=LIMIT {
            let now = Instant::from_micros(n as u64);
            wait.insert(
                now,
                key(n as u16 + 1),
                Duration::ZERO,
                Farewell::Orderly(Sn::ZERO),
            );
        }
        assert_eq!((wait.len(), wait.order.len()), (LIMIT, LIMIT));
        assert_eq!(wait.find(key(1).0, key(1).1), None);
        assert!(wait.find(key(2).0, key(2).1).is_some());
    }

    #[test]
    fn the_same_conversation_again_replaces_its_record() {
        let mut wait = TimeWait::default();
        wait.insert(at(0), key(1), Duration::ZERO, Farewell::Orderly(Sn::ZERO));
        wait.insert(at(5), key(1), Duration::ZERO, Farewell::Orderly(Sn::ZERO));
        assert_eq!((wait.len(), wait.order.len()), (1, 1));
        wait.expire(at(14));
        assert_eq!(wait.len(), 1);
    }
}
