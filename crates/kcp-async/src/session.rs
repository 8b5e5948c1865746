//! One session: an engine, the tasks that wait on it, and the times it lives by.
//!
//! **Invariant**: pure. Nothing here knows tokio, a socket or a clock; time and bytes come in as
//! arguments. The same holds for `router.rs`, `deadlines.rs`, `gate.rs` and `time_wait.rs`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kcp_engine::{Conv, Fault, FinState, IKCP_OVERHEAD, Instant, KcpEngine, Role, Sn};

pub(crate) use lifetime::{Lifetime, Shutdown};

use crate::config::Times;
use crate::deadlines::SessionId;
use crate::error::{ConnectionError, ProtocolError};
use crate::eviction::Rank;
use crate::mutex::Mutex;
use crate::router::Origin;
use crate::send_share::Doubt;
use crate::time_wait::{Ending, Farewell};
use crate::wakers::{WakeList, Wakers};

mod admission;
mod lifetime;
mod rank;

/// A session as its endpoint and its handles share it.
#[derive(Debug)]
pub(crate) struct SessionCell {
    pub(crate) id: SessionId,
    pub(crate) conv: Conv,
    /// As the socket names it; an IPv4 peer of a dual-stack socket is a mapped address here.
    pub(crate) peer: SocketAddr,
    pub(crate) origin: Origin,
    /// Already in the driver's inbox.
    pub(crate) dirty: AtomicBool,
    pub(crate) state: Mutex<Session>,
}

/// What the lock of a [`SessionCell`] protects.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) engine: KcpEngine,
    pub(crate) life: Lifetime,
    pub(crate) readers: Wakers,
    /// Tasks that wait for room in the queue.
    pub(crate) writers: Wakers,
    /// Tasks that wait for the end of a shutdown.
    pub(crate) closers: Wakers,
    queue_limit: QueueLimit,
    /// The local address to answer from.
    pub(crate) source: Option<IpAddr>,
    /// When the driver has promised to look at this session. Only the driver changes it.
    pub(crate) armed: Option<Instant>,
    /// A train that the socket had no room for. While there is one, the engine is not asked for
    /// more: a full socket is back-pressure.
    pub(crate) unsent: Option<Box<Train>>,
    /// Somebody is between taking a train and handing it to the socket. Nobody else takes one
    /// meanwhile, so trains leave in order.
    pub(crate) transmitting: bool,
    /// The driver found `transmitting` set; whoever has it calls the driver when done.
    pub(crate) driver_waits: bool,
    /// In the driver's list of sessions to serve after this batch.
    pub(crate) touched: bool,
    /// In the driver's list of sessions whose train waits for room in the socket.
    pub(crate) in_blocked_list: bool,
    /// Not yet handed to the accept queue, because its first data is missing.
    pub(crate) embryo: Option<Embryo>,
    /// The entry in the order of eviction. Only the driver changes it.
    pub(crate) ranked: Option<Rank>,
    /// The next segment that was expected in order after the first datagram.
    pub(crate) opened_until: u32,
    /// More than that has arrived since the application accepted the session.
    delivered: bool,
    /// Evicted, and not yet retired.
    pub(crate) evicted: Option<Evicted>,
    /// The restart rule has been applied (or does not apply).
    pub(crate) succession_settled: bool,
    /// The socket refuses what is sent.
    send_failure: Option<SendFailure>,
    /// Why the session is over. Set once. In-order data that has arrived stays readable.
    end: Option<ConnectionError>,
}

/// Why the socket has not taken what the session has sent last.
#[derive(Clone, Copy, Debug)]
enum SendFailure {
    /// A datagram of this size, in bytes, is too large (EMSGSIZE), and none of that size has passed since.
    Size(usize),
    /// Nothing has passed since.
    Other(io::ErrorKind),
}

/// What an embryo has cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Embryo {
    pub(crate) datagrams: u32,
    pub(crate) segments: u32,
}

/// A session that has left the router for a new one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evicted {
    /// Late datagrams of it are to open no new session.
    pub(crate) remembered: bool,
    /// conv 0 was its second name.
    pub(crate) had_alias: bool,
}

/// How much a session's writers may hand over before they wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueueLimit {
    /// As configured.
    Fixed(usize),
    /// Twice what may be in flight, and at most this.
    AsSent(usize),
}

/// Datagrams for one destination that leave together.
#[derive(Debug)]
pub(crate) struct Train {
    pub(crate) contents: Vec<u8>,
    pub(crate) segment_size: usize,
    /// Bytes of it that have left: only a train that was refused as such is sent in parts.
    pub(crate) sent: usize,
}

/// What is to become of a session after it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    /// Over, with the reason. Out of the router it goes.
    Ended(ConnectionError),
    /// Both sides have finished, or we have and the peer is a stock peer; a time-wait follows, which
    /// acknowledges again what the peer repeats.
    Finished,
}

impl Session {
    pub(crate) fn new(engine: KcpEngine, life: Lifetime, queue_limit: QueueLimit) -> Self {
        Self {
            engine,
            life,
            readers: Wakers::default(),
            writers: Wakers::default(),
            closers: Wakers::default(),
            queue_limit,
            source: None,
            armed: None,
            unsent: None,
            transmitting: false,
            driver_waits: false,
            touched: false,
            in_blocked_list: false,
            embryo: None,
            ranked: None,
            opened_until: 0,
            delivered: false,
            evicted: None,
            succession_settled: true,
            send_failure: None,
            end: None,
        }
    }

    /// One datagram from the network.
    pub(crate) fn receive(&mut self, now: Instant, datagram: &[u8]) {
        if self.end.is_none() {
            // Bad bytes are in the engine's counters; the rest of the datagram has been applied.
            let _ = self.engine.input(now, datagram);
        }
    }

    /// Whether the peer has sent new data, of which so many segments were known, or has validated its address.
    #[cold]
    pub(crate) fn has_shown_more(&self, known: u64) -> bool {
        self.engine.is_proven() || self.engine.stats().segments_received > known
    }

    /// The peer's host said that nothing listens there. `true` if that changes a deadline: what
    /// arrives before we have sent anything, or after the peer has been heard, is of no use.
    pub(crate) fn note_refusal(&mut self, now: Instant) -> bool {
        let waits = self.engine.last_heard().is_none() && self.engine.silent_since().is_some();
        waits && self.life.note_refusal(now)
    }

    /// Whether what the session sends may stay in the send buffer, and why.
    pub(crate) fn doubt(&self, now: Instant) -> Option<Doubt> {
        if self.engine.answer_allowance().is_some() {
            return Some(Doubt::Unvalidated);
        }
        let silent = |since: Instant| now.saturating_since(since) > SILENT_AFTER;
        // What is heard may be forged; only an ACK shows that datagrams arrive.
        let unacknowledged = self.engine.unacknowledged_since();
        let unacknowledged = unacknowledged.filter(|&since| silent(since));
        // The common case first: it was heard a moment ago.
        let heard = self.engine.last_heard().is_some_and(|heard| !silent(heard));
        if heard && unacknowledged.is_none() {
            return None;
        }
        let unanswered = self.engine.silent_since().filter(|&since| silent(since));
        let since = unacknowledged.into_iter().chain(unanswered).min()?;
        (now.saturating_since(since) > self.engine.rto()).then_some(Doubt::Silent)
    }

    /// The clock reached a deadline.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.end.is_none() {
            self.engine.handle_timeout(now);
        }
    }

    /// Looks at what a change led to: the session's fate, and who must know.
    ///
    /// To be called after [`receive`](Self::receive) and [`expire`](Self::expire), once for all of
    /// a batch.
    pub(crate) fn settle(&mut self, now: Instant, times: &Times, wake: &mut WakeList) -> Fate {
        if let Some(reason) = self.end {
            return Fate::Ended(reason);
        }
        if self.life.is_detached() {
            self.discard_input();
        }
        if self.writers.is_empty() {
            self.life.forget_waiting_writer();
        }
        self.observe(now);
        // After the last byte both ways nothing can go wrong any more; a late RST must not keep a slow
        // reader from what has arrived.
        let over = both_finished(self.engine.fin_state());
        let fate = match self.engine.fault().filter(|_| !over) {
            Some(fault) => Fate::Ended(reason_of(fault)),
            None => self.life.judge(now, times, &mut self.engine),
        };
        let fate = self.explain(fate);
        match fate {
            Fate::Ended(reason) => self.finish(reason, wake),
            _ => self.wake_the_concerned(wake),
        }
        fate
    }

    /// What the socket did with a train: the largest datagram that it took, the size of the last that was too large, and why
    /// the last other one was lost.
    pub(crate) fn note_sending(
        &mut self,
        now: Instant,
        passed: usize,
        refused: Option<usize>,
        failed: Option<io::ErrorKind>,
    ) {
        match self.send_failure {
            Some(SendFailure::Size(size)) if passed >= size => self.send_failure = None,
            Some(SendFailure::Other(_)) if passed > 0 => {
                self.send_failure = None;
                self.life.forget_refusal();
            }
            _ => {}
        }
        if let Some(size) = refused {
            self.send_failure = Some(SendFailure::Size(size));
        } else if let Some(kind) = failed.filter(|_| passed == 0) {
            self.send_failure = Some(SendFailure::Other(kind));
            self.note_refusal(now);
            if self.life.is_connecting() && may_be_for_its_source(kind) {
                // The address is gone, on another network. The server knows no session of the new one, and says so.
                self.source = None;
            }
        }
    }

    /// The cause instead of the time-out that it led to.
    fn explain(&self, fate: Fate) -> Fate {
        use ConnectionError::{
            CloseStalled, ConnectTimeout, DatagramTooLarge, LingerExpired, PeerDead, Refused,
            Undeliverable, Unreachable,
        };
        match (fate, self.send_failure) {
            (
                Fate::Ended(
                    ConnectTimeout | Refused | PeerDead | Undeliverable | LingerExpired
                    | CloseStalled,
                ),
                Some(failure),
            ) => Fate::Ended(match failure {
                SendFailure::Size(_) => DatagramTooLarge,
                SendFailure::Other(kind) => Unreachable(kind),
            }),
            (fate, _) => fate,
        }
    }

    /// Whether everything is said and done. To be called after the last word has been sent.
    pub(crate) fn conclude(&mut self, wake: &mut WakeList) -> Fate {
        let fate = self.life.conclude(&mut self.engine);
        if fate != Fate::Lives {
            self.finish(ConnectionError::Closed, wake);
        }
        fate
    }

    /// Whether our direction ends; what is left waits for the peer.
    pub(crate) const fn is_closing(&self) -> bool {
        self.life.is_closing()
    }

    /// Brings what is known about the peer and the close up to date.
    pub(crate) fn observe(&mut self, now: Instant) {
        self.life.observe(now, &self.engine);
    }

    /// What is to be remembered of the session, which is over. `None` if the peer has begun again under
    /// the same conversation id: a record would keep the new session out.
    pub(crate) fn ending(&self, fate: Fate) -> Option<Ending> {
        let engine = &self.engine;
        if engine.fault() == Some(Fault::Ghost) {
            return None;
        }
        // A connecting side chose its peer.
        let validated = engine.is_proven() || self.life.is_connecting();
        let told_by_peer = fate == Fate::Ended(ConnectionError::Reset);
        let given_up = fate != Fate::Finished && !both_finished(engine.fin_state());
        Some(Ending {
            farewell: match fate {
                Fate::Finished => Farewell::Orderly(Sn::new(engine.classic_state().rcv_nxt)),
                _ => Farewell::GivenUp,
            },
            rto: engine.rto(),
            una_shown: engine.is_una_shown(),
            marked: engine.peer_knows_close(),
            validated,
            tells: given_up && !told_by_peer && validated && engine.peer_knows_close(),
            brief: false,
            // A forged first datagram must not keep the peer out (protocol.md 12.3).
            since: (!validated && fate != Fate::Finished).then(|| {
                engine
                    .last_new_push()
                    .unwrap_or_else(|| self.life.created())
            }),
            source: self.source,
        })
    }

    /// Whether an RST may tell a peer whose address is not validated that the session ends: the peer has had
    /// an ACK and may know RST, and the RST fits what may be answered (protocol.md 11.3).
    pub(crate) fn may_tell_unvalidated(&self) -> bool {
        let room = self.engine.answer_allowance().unwrap_or(0);
        self.embryo.is_none() && !self.engine.peer_is_stock() && room >= IKCP_OVERHEAD
    }

    /// Ends the session and wakes everyone. The first reason stays.
    pub(crate) fn finish(&mut self, reason: ConnectionError, wake: &mut WakeList) {
        self.end.get_or_insert(reason);
        self.unsent = None;
        self.readers.move_to(wake);
        self.writers.move_to(wake);
        self.closers.move_to(wake);
    }

    fn wake_the_concerned(&mut self, wake: &mut WakeList) {
        if self.engine.has_readable() {
            self.readers.move_to(wake);
        }
        if self.has_much_room() {
            self.writers.move_to(wake);
        }
        if self.life.shutdown_is_over() {
            self.closers.move_to(wake);
        }
    }

    /// Whether a task waits for what has arrived.
    pub(crate) fn wakes_a_reader(&self) -> bool {
        !self.readers.is_empty() && self.engine.has_readable()
    }

    /// Bytes that the queue still takes.
    pub(crate) fn room(&self) -> usize {
        self.queue_limit()
            .saturating_sub(self.engine.queued_bytes())
    }

    /// More than a quarter of the queue is free. A writer that went on with each acknowledged segment
    /// would hand over segment by segment, in trains of a datagram.
    pub(crate) fn has_much_room(&self) -> bool {
        self.room() > self.queue_limit() / 4
    }

    /// Bytes queued and in flight at which writers wait.
    fn queue_limit(&self) -> usize {
        let limit = match self.queue_limit {
            QueueLimit::Fixed(bytes) => bytes,
            // More than that only makes the bytes older, and the memory colder.
            QueueLimit::AsSent(most) => self.engine.path_limit().saturating_mul(2).min(most),
        };
        limit.min(self.unvalidated_limit().unwrap_or(usize::MAX))
    }

    /// Nobody will read any more: keep the window open so that the peer's FIN can come.
    fn discard_input(&mut self) {
        let mut scratch = [0; 4_096];
        while self.engine.read(&mut scratch).is_ok() {}
    }

    /// The next train, if the session may send.
    pub(crate) fn next_train(
        &mut self,
        now: Instant,
        contents: &mut Vec<u8>,
        max_datagrams: usize,
    ) -> Option<usize> {
        if self.end.is_some() || self.unsent.is_some() || self.embryo.is_some() {
            return None;
        }
        contents.clear();
        // One datagram of the largest mtu fits too.
        let fitting = MAX_TRAIN_BYTES / self.engine.config().mtu_bytes();
        let train = self
            .engine
            .poll_transmit(now, contents, max_datagrams.min(fitting).max(1))?;
        Some(train.segment_size)
    }

    /// When the session must be looked at next.
    pub(crate) fn next_deadline(&mut self, times: &Times) -> Option<Instant> {
        if self.end.is_some() {
            return None;
        }
        let life = self.life.next(times, &self.engine);
        // A blocked session is served when the socket has room; its engine's overdue deadline
        // would only spin. An embryo is silent.
        if self.unsent.is_some() || self.embryo.is_some() {
            return life;
        }
        match (self.engine.poll_timeout(), life) {
            (Some(engine), Some(life)) => Some(engine.min(life)),
            (engine, life) => engine.or(life),
        }
    }

    /// Whether the driver has promised too late a look, or none.
    pub(crate) fn needs_earlier_look(&mut self, times: &Times) -> bool {
        match (self.next_deadline(times), self.armed) {
            (Some(next), Some(armed)) => next < armed,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Why the session is over, if it is.
    pub(crate) const fn end(&self) -> Option<ConnectionError> {
        self.end
    }
}

/// Both FINs have been sent and acknowledged.
pub(crate) const fn both_finished(fin: FinState) -> bool {
    fin.acknowledged && fin.received
}

pub(crate) const fn is_connecting(role: Role) -> bool {
    matches!(role, Role::Connecting)
}

fn reason_of(fault: Fault) -> ConnectionError {
    match fault {
        Fault::ForgedAcks => ConnectionError::Protocol(ProtocolError::ForgedAcks),
        Fault::MessageTooLong => ConnectionError::Protocol(ProtocolError::MessageTooLong),
        Fault::Incomplete => ConnectionError::Protocol(ProtocolError::Incomplete),
        Fault::TwoAcceptingSides => ConnectionError::Protocol(ProtocolError::TwoAcceptingSides),
        // A ghost is a reset that a stock server cannot spell.
        _ => ConnectionError::Reset,
    }
}

/// Whether a system may refuse a datagram with this error because no interface has its source address.
const fn may_be_for_its_source(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}

/// A peer on a link that works answers sooner, or an RTO later.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// The largest UDP payload over IPv4: what one GSO send may carry in all.
const MAX_TRAIN_BYTES: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle session is meant to take 4 KiB with all it points to.
    #[test]
    fn a_session_is_small() {
        assert!(
            size_of::<SessionCell>() <= 2_048,
            "{} bytes",
            size_of::<SessionCell>()
        );
    }
}
