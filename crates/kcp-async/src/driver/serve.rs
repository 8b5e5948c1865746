//! Looking after one session: its fate, its trains, its deadline.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};

use kcp_engine::{Conv, Fault, Instant};

use super::EndpointDriver;
use crate::error::ConnectionError;
use crate::eviction::Scope;
use crate::router::Origin;
use crate::session::{Fate, Session, SessionCell};
use crate::socket::is_fatal;
use crate::time_wait::{Ending, Farewell};
use crate::transmit::{self, Drained};

impl EndpointDriver {
    /// Settles what happened to a session, sends what it has to say, arms its next deadline.
    pub(super) fn serve<'a>(
        &mut self,
        cell: &'a Arc<SessionCell>,
        mut session: MutexGuard<'a, Session>,
        now: Instant,
    ) {
        let shared = Arc::clone(&self.shared);
        session.touched = false;
        let mut fate = session.settle(now, &shared.times, &mut self.wake);
        if fate == Fate::Lives {
            let drained;
            (session, drained) = transmit::drain(&shared, cell, session, now, TRAINS_PER_SERVICE);
            match drained {
                Drained::Empty => fate = session.conclude(&mut self.wake),
                Drained::SocketFull => self.wait_for_room(cell, &mut session),
                Drained::Bound => self.unfinished.push(Arc::clone(cell)),
                Drained::Elsewhere => {}
            }
            session.driver_waits = drained == Drained::Elsewhere;
        }
        if fate != Fate::Lives {
            self.retire(cell, session, fate, now);
            return;
        }
        if session.engine.take_extra_wanted() {
            self.grant_extra(cell, &mut session, now);
        }
        self.rearm(cell, &mut session);
        self.eviction.update(cell, &mut session);
        let succeeds = !session.succession_settled && session.engine.is_proven();
        session.succession_settled |= succeeds;
        drop(session);
        if succeeds {
            self.close_predecessors(cell, now);
        }
    }

    /// protocol.md 11.3: one more small datagram to an address that is not validated.
    fn grant_extra(&mut self, cell: &SessionCell, session: &mut Session, now: Instant) {
        let counters = &self.shared.counters;
        let random = || self.shared.random().ok();
        if self.extras.take(now, Scope::prefix(cell.peer), random) {
            session.engine.grant_extra();
            counters.extras_granted.add(1);
        } else {
            counters.extras_refused.add(1);
        }
    }

    fn wait_for_room(&mut self, cell: &Arc<SessionCell>, session: &mut Session) {
        if !session.in_blocked_list {
            session.in_blocked_list = true;
            self.blocked.push_back(Arc::clone(cell));
        }
    }

    fn rearm(&mut self, cell: &Arc<SessionCell>, session: &mut Session) {
        let next = session.next_deadline(&self.shared.times);
        // A deadline that moved later is left where it is: looking too early costs less than
        // moving it with every datagram.
        let keep = match (session.armed, next) {
            (Some(armed), Some(next)) => armed <= next,
            (Some(_), None) => true,
            (None, next) => next.is_none(),
        };
        if !keep {
            self.deadlines
                .rearm(cell.id, session.armed, next, || Arc::clone(cell));
            session.armed = next;
        }
    }

    /// Takes a session out of everything.
    fn retire(
        &mut self,
        cell: &Arc<SessionCell>,
        mut session: MutexGuard<'_, Session>,
        fate: Fate,
        now: Instant,
    ) {
        let armed = session.armed.take();
        let ending = session.ending(fate);
        let is_stock = !session.engine.peer_knows_close();
        let was_embryo = session.embryo.take().is_some();
        let evicted = session.evicted.take();
        self.eviction.leave(cell, &mut session);
        self.embryos.remove(&cell.id);
        let finished_first = session.life.finished_first();
        let is_replaced = session.engine.fault() == Some(Fault::Ghost);
        drop(session);
        crate::log::debug!(peer = %cell.peer, conv = %cell.conv, ?fate, "session over");

        self.deadlines
            .rearm(cell.id, armed, None, || Arc::clone(cell));
        let has_alias = match evicted {
            Some(evicted) if !evicted.remembered => return,
            Some(evicted) => evicted.had_alias,
            None => {
                let mut router = self.shared.router.lock("retire");
                // A list may still name a session that is gone, and its place may have been taken.
                let found = router.find(cell.peer, cell.conv);
                if !found.is_some_and(|found| Arc::ptr_eq(found.session, cell)) {
                    return;
                }
                let has_alias = router.alias(cell.peer) == Some(cell.conv);
                router.remove(cell.peer, cell.conv);
                if was_embryo {
                    router.embryo_gone();
                    return;
                }
                has_alias
            }
        };
        self.shared.forget_waiting(cell);
        if is_replaced && fate != Fate::Finished {
            // protocol.md 12.8: another peer begins there, and its next datagram is to find no record.
            return;
        }
        let Some(mut ending) = ending else { return };
        // A socket of its own need not stay open to refuse new sessions, which it never makes; only to
        // repeat the last ACK, if that was ours, or to tell the peer that the session was given up.
        if self.shared.is_released() {
            let repeats = fate == Fate::Finished && finished_first;
            if !repeats && !ending.tells {
                return;
            }
            ending.brief = !repeats || is_stock;
        }
        let mut time_wait = self.shared.time_wait.lock("retire");
        time_wait.insert(now, (cell.peer, cell.conv), ending);
        if has_alias {
            // A late request for an id is not to get another one; only a new one is.
            let key = (cell.peer, Conv::new(0));
            let alias = Ending {
                farewell: Farewell::GivenUp,
                tells: false,
                ..ending
            };
            time_wait.insert(now, key, alias);
        }
        self.time_wait_due = time_wait.next();
    }

    /// kcp-go's restart rule (`docs/protocol.md` 13.4): the new session has proven its address, so
    /// older ones of stock peers at that address are dead. A peer of ours would have said so.
    fn close_predecessors(&mut self, cell: &Arc<SessionCell>, now: Instant) {
        let older: Vec<_> = {
            let router = self.shared.router.lock("predecessors");
            let at_address = router.at(cell.peer);
            at_address
                .filter(|other| other.id < cell.id && other.origin == Origin::Accepted)
                .map(Arc::clone)
                .collect()
        };
        for other in older {
            let mut session = other.state.lock("predecessor");
            if !session.engine.peer_knows_close() {
                let reason = ConnectionError::Replaced;
                session.finish(reason, &mut self.wake);
                self.retire(&other, session, Fate::Ended(reason), now);
            }
        }
    }

    /// Offers the socket what it had no room for.
    pub(super) fn send_blocked(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<bool, ConnectionError> {
        let mut progress = false;
        for _ in 0..READINESS_TRIES {
            if self.blocked.is_empty() {
                self.shared.socket_is_full.store(false, Ordering::Release);
                self.send_backoff.reset();
                self.full_for.reset();
                return Ok(false);
            }
            if self.send_backoff.holds(now) {
                return Ok(false);
            }
            match self.shared.socket.poll_send_ready(cx) {
                Poll::Pending => {
                    if self.finds_room(now) {
                        self.offer_blocked(now);
                    }
                    return Ok(false);
                }
                Poll::Ready(Err(error)) if is_fatal(&error) => {
                    return Err(ConnectionError::Socket(error.kind()));
                }
                // Whether there is room shows when the socket is tried.
                Poll::Ready(Err(_)) => {
                    self.shared.counters.send_ready_errors.add(1);
                    self.send_backoff.fail(now);
                }
                Poll::Ready(Ok(())) => {}
            }
            self.full_for.reset();
            progress = self.offer_blocked(now);
            if progress {
                self.send_backoff.reset();
            }
        }
        if !progress {
            // It says that there is room, and there is none: asking on would take a whole core.
            self.send_backoff.pause(now);
        }
        Ok(progress)
    }

    /// Whether a send is worth a try although the socket is not reported ready. Linux reports that only once half of the
    /// buffer is free, and datagrams to addresses that do not answer may take that half (protocol.md 11.3.1).
    fn finds_room(&mut self, now: Instant) -> bool {
        let socket = &self.shared.socket;
        // A system call: when it begins to wait, and for each retry, not in each turn.
        let begins = self.full_for.next().is_none();
        if begins && socket.send_queue().is_none() {
            return false;
        }
        self.full_for.retries(now)
            && socket
                .send_queue()
                .is_some_and(|queue| queue.used < queue.limit)
    }

    /// Sends what was blocked until the socket is full again. Whether anything left.
    fn offer_blocked(&mut self, now: Instant) -> bool {
        let shared = Arc::clone(&self.shared);
        shared.socket_is_full.store(false, Ordering::Release);
        let mut progress = false;
        for _ in 0..self.blocked.len() {
            let Some(cell) = self.blocked.pop_front() else {
                break;
            };
            let session = cell.state.lock("resume");
            let (mut session, sent) = transmit::resume(&shared, &cell, session);
            if !sent {
                self.blocked.push_front(Arc::clone(&cell));
                break;
            }
            progress = true;
            session.in_blocked_list = false;
            self.serve(&cell, session, now);
            if shared.socket_is_full.load(Ordering::Acquire) {
                break;
            }
        }
        progress
    }
}

/// Trains of one session before the others have their turn: about 512 KiB.
const TRAINS_PER_SERVICE: usize = 8;
/// How often a socket may claim to be ready and be full before the driver takes a break.
const READINESS_TRIES: usize = 4;
