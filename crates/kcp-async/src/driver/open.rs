//! Datagrams from strangers: the gate, embryos, and answers without a session.

use std::sync::{Arc, MutexGuard};

use kcp_engine::{Conv, Instant, Role, WireTs};

use super::EndpointDriver;
use super::receive::Path;
use crate::error::ConnectionError;
use crate::eviction::Scope;
use crate::gate;
use crate::router::Router;
use crate::session::{Embryo, Session, SessionCell};
use crate::time_wait::Answer;

impl EndpointDriver {
    /// A datagram whose (address, conv) has no session.
    pub(super) fn receive_from_stranger(
        &mut self,
        router: &mut Router<Arc<SessionCell>>,
        path: Path,
        conv: Conv,
        datagram: &mut [u8],
        now: Instant,
    ) {
        if conv.get() == 0 && router.alias(path.peer).is_some() {
            // protocol.md 13.3: the session that it once asked for is called by its own conv now.
            self.shared.counters.dropped_conv_zero.add(1);
            return;
        }
        if self.answer_late(path, conv, datagram, now) {
            return;
        }
        let verdict = gate::judge(datagram);
        let accepting = self.shared.accepted.lock("gate").open;
        if verdict.opens && accepting {
            let random = || self.shared.random().ok();
            if !self.openings.take(now, path.peer, conv, random) {
                self.shared.counters.dropped_opening.add(1);
                return;
            }
            self.open_embryo(router, path, conv, datagram, verdict.has_first, now);
            return;
        }
        if let Some(asked_at) = verdict.asked_at {
            self.answer_question(path, conv, asked_at, now);
        }
        self.shared.counters.dropped_unknown.add(1);
    }

    /// Answers a datagram of a conversation that is over. `false` if there is no record of it, or no
    /// longer: its peer has begun a new one.
    fn answer_late(&mut self, path: Path, conv: Conv, datagram: &[u8], now: Instant) -> bool {
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        let mut time_wait = shared.time_wait.lock("receive");
        let draw = || shared.random().ok();
        let Some(answer) = time_wait.receive(now, (path.peer, conv), datagram, draw) else {
            return false;
        };
        let reply = match answer {
            Answer::Silence => None,
            Answer::Acknowledge(header) => Some(header),
            Answer::Question(header) => {
                counters.time_wait_questions.add(1);
                Some(header)
            }
            Answer::Reset(header) => {
                counters.resets_sent.add(1);
                Some(header)
            }
            Answer::BoundedReset(header) => self.may_reset(path, conv, now).then_some(header),
            Answer::Reopen => {
                counters.time_wait_reopened.add(1);
                self.time_wait_due = time_wait.next();
                return false;
            }
        };
        counters.dropped_time_wait.add(1);
        self.replies
            .extend(reply.map(|header| (path, header.to_bytes())));
        true
    }

    /// protocol.md 12.4: a question is answered, nothing else is.
    fn answer_question(&mut self, path: Path, conv: Conv, asked_at: WireTs, now: Instant) {
        if self.may_reset(path, conv, now) {
            self.replies
                .push((path, gate::reset(conv, asked_at).to_bytes()));
        }
    }

    /// Tells a peer whose address is not validated that its session was evicted (protocol.md 11.4.1): a
    /// peer of ours that waits for an answer would not ask. This RST makes it ask.
    pub(super) fn tell_of_eviction(&mut self, cell: &SessionCell, session: &Session) {
        if !session.may_tell_unvalidated() {
            return;
        }
        let path = Path {
            peer: cell.peer,
            local: session.source,
        };
        // A budget of its own: a flood that evicts by the thousand leaves the answers to its prefix alone.
        let random = || self.shared.random().ok();
        let now = self.shared.clock.now();
        if self.notices.take(now, Scope::prefix(cell.peer), random) {
            let unasked = gate::reset(cell.conv, WireTs::new(0));
            self.replies.push((path, unasked.to_bytes()));
            self.shared.counters.resets_announced.add(1);
        }
    }

    /// Whether a RST may leave. None does under conv 0: whether an address has a session is not to be
    /// learned.
    fn may_reset(&mut self, path: Path, conv: Conv, now: Instant) -> bool {
        let counters = &self.shared.counters;
        let random = || self.shared.random().ok();
        if conv.get() == 0 {
            return false;
        }
        let may = self.resets.take(now, Scope::prefix(path.peer), random);
        match may {
            true => counters.resets_sent.add(1),
            false => counters.dropped_resets.add(1),
        }
        may
    }

    /// Makes a session that is not yet shown to the application. All limits are checked before
    /// anything is allocated.
    fn open_embryo(
        &mut self,
        router: &mut Router<Arc<SessionCell>>,
        path: Path,
        conv: Conv,
        datagram: &mut [u8],
        has_first: bool,
        now: Instant,
    ) {
        let shared = Arc::clone(&self.shared);
        let config = &shared.config;
        let was_refused = has_first && self.openings.has_refused(path.peer, conv);
        if !self.backlog_has_room(router, has_first, was_refused, now) {
            self.openings
                .refuse(path.peer, conv, || shared.random().ok());
            shared.counters.dropped_backlog.add(1);
            return;
        }
        if !self.table_has_room(router, path.peer, was_refused, now) {
            self.openings
                .refuse(path.peer, conv, || shared.random().ok());
            shared.counters.dropped_limit.add(1);
            return;
        }
        // protocol.md 13.3: conv 0 asks for an id, and is this session's second name from now on.
        let named = match conv.get() {
            0 => self.shared.draw_conv(|conv| {
                router.find(path.peer, conv).is_some() || shared.is_late(path.peer, conv)
            }),
            _ => Ok(conv),
        };
        let has_siblings = router.at(path.peer).next().is_some();
        let opened = named
            .and_then(|named| shared.open_session(router, path.peer, named, Role::Accepted, now));
        let Ok(cell) = opened else {
            // No randomness, or a config that was valid a moment ago is not: nothing to serve with.
            shared.counters.dropped_limit.add(1);
            return;
        };
        if conv != cell.conv {
            router.set_alias(path.peer, cell.conv);
            gate::rename(datagram, cell.conv);
        }
        router.embryo_made();
        self.embryos.insert(cell.id, Arc::clone(&cell));
        let mut session = cell.state.lock("embryo");
        session.embryo = Some(Embryo::default());
        self.eviction.enter(&cell, &mut session);
        session.succession_settled = !has_siblings || config.shares_remote();
        session.source = path.local;
        if was_refused {
            // Until it is validated any repetition of another may take its place.
            session.engine.ask_for_validation();
        }
        crate::log::trace!(peer = %path.peer, conv = %cell.conv, "embryo");
        self.feed_embryo(router, &cell, session, path, datagram, now);
    }

    /// Gives a datagram to an embryo, and the embryo to the application once its first segment is
    /// there.
    ///
    /// Until then it is silent: were it to acknowledge the middle of a dead conversation, the
    /// sender would believe in a session that nobody serves.
    pub(super) fn feed_embryo(
        &mut self,
        router: &mut Router<Arc<SessionCell>>,
        cell: &Arc<SessionCell>,
        mut session: MutexGuard<'_, Session>,
        path: Path,
        datagram: &[u8],
        now: Instant,
    ) {
        let verdict = gate::judge(datagram);
        if let Some(asked_at) = verdict.asked_at {
            // protocol.md 13.2: what made the embryo was of a session that is forgotten.
            session.finish(ConnectionError::Reset, &mut self.wake);
            self.touch(cell, &mut session);
            self.answer_question(path, cell.conv, asked_at, now);
            return;
        }
        let Some(embryo) = session.embryo.as_mut().filter(|_| verdict.opens) else {
            self.shared.counters.dropped_embryo.add(1);
            return;
        };
        if !verdict.has_first {
            embryo.datagrams += 1;
            embryo.segments += verdict.pushes;
            if embryo.datagrams > EMBRYO_DATAGRAMS || embryo.segments > EMBRYO_SEGMENTS {
                self.shared.counters.dropped_embryo.add(1);
                return;
            }
        }
        session.receive(now, datagram);
        self.touch(cell, &mut session);
        if !verdict.has_first {
            return;
        }
        session.embryo = None;
        // What came before the first segment may be forged, to another address.
        session.source = path.local;
        session.life.begin(now);
        session.opened_until = session.engine.classic_state().rcv_nxt;
        drop(session);
        self.embryos.remove(&cell.id);
        router.embryo_gone();
        let mut queue = self.shared.accepted.lock("promote");
        queue.push(cell.id, Arc::clone(cell));
        queue.waiters.move_to(&mut self.wake);
        drop(queue);
        self.shared.counters.accepted.add(1);
        crate::log::debug!(peer = %cell.peer, conv = %cell.conv, "session opened");
    }
}

/// What may overtake the first datagram on a reordering path is worth keeping; a first flight
/// whose head is lost is sent again whole anyway. Together with the backlog this bounds what
/// strangers can hold: 32 datagrams of at most 64 segments in all.
const EMBRYO_DATAGRAMS: u32 = 32;
/// Each segment costs at least one buffer, however short it is.
const EMBRYO_SEGMENTS: u32 = 64;
