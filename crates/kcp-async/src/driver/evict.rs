//! Room for one more session (`docs/protocol.md` 11.4.1).

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kcp_engine::Instant;

use super::EndpointDriver;
use crate::error::ConnectionError;
use crate::eviction::{Class, Newcomer, PROTECTED, Scope, fills_share};
use crate::router::{Origin, Router};
use crate::session::{Evicted, SessionCell};

/// Sessions that wait for accept and may be evicted, as one look at all of them found it.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The longest silent last.
    found: Vec<Arc<SessionCell>>,
    /// Not before this is there another look.
    next: Instant,
}

impl EndpointDriver {
    /// Makes room among the sessions that have not been accepted. `false` if there is none. `repeats`: as for
    /// [`table_has_room`](Self::table_has_room).
    pub(super) fn backlog_has_room(
        &mut self,
        router: &mut Router<Arc<SessionCell>>,
        has_first: bool,
        repeats: bool,
        now: Instant,
    ) -> bool {
        let backlog = self.shared.config.backlog();
        // Embryos take up to half: a hundred forged datagrams a second would otherwise keep all of
        // it taken, and every client out.
        if !has_first && router.embryos() >= backlog / 2 {
            return self.evict_embryo(router, now);
        }
        let waiting = self.shared.accepted.lock("backlog").len();
        if router.embryos() + waiting < backlog {
            return true;
        }
        self.evict_embryo(router, now)
            || self.evict_waiting(router, now)
            || repeats && self.evict_any_waiting(router, now)
    }

    /// Makes room in the table, the networks around an address and for the address itself. `false`
    /// if there is none. `repeats`: the newcomer was refused before, and may take the place of any
    /// unvalidated session, so that forged ones that are kept fresh keep no one out.
    pub(super) fn table_has_room(
        &mut self,
        router: &mut Router<Arc<SessionCell>>,
        peer: SocketAddr,
        repeats: bool,
        now: Instant,
    ) -> bool {
        let config = &self.shared.config;
        let (table, source) = (config.session_limit(), config.source_limit());
        let full_address = !config.shares_remote() && router.count_at(peer) >= PER_ADDRESS;
        if full_address && !self.evict_sibling(router, peer, repeats, now) {
            return false;
        }
        let mut scopes: Vec<Scope> = Scope::all_of(peer).collect();
        while let Some(scope) = scopes.pop() {
            let limit = scope.limit(table, source);
            let newcomer = Newcomer {
                peer,
                repeats,
                spares_unvalidated: self.eviction.keeps_places_from(scope, limit, peer, now),
            };
            let mut is_full =
                newcomer.spares_unvalidated || self.sessions_in(router, scope) >= limit;
            // Sessions that connected may have filled the table further than that.
            while is_full {
                let Some((victim, class)) = self.victim(scope, limit, newcomer, now) else {
                    return false;
                };
                self.evict(router, &victim, class);
                is_full = self.sessions_in(router, scope) >= limit;
            }
        }
        true
    }

    fn victim(
        &mut self,
        scope: Scope,
        limit: usize,
        newcomer: Newcomer,
        now: Instant,
    ) -> Option<(Arc<SessionCell>, Class)> {
        let first = self.eviction.victim(scope, limit, newcomer, now);
        let draws = newcomer.repeats && !newcomer.spares_unvalidated;
        if first.is_some() || !draws || !self.eviction.may_draw(scope, limit, newcomer.peer, now) {
            return first;
        }
        let random = self.draw()?;
        self.eviction.any_unvalidated(scope, random, now)
    }

    fn sessions_in(&self, router: &Router<Arc<SessionCell>>, scope: Scope) -> usize {
        match scope {
            Scope::TABLE => router.len(),
            _ => self.eviction.count(scope),
        }
    }

    fn evict_embryo(&mut self, router: &mut Router<Arc<SessionCell>>, now: Instant) -> bool {
        let mut oldest = self.embryos.values().take(EMBRYOS_CHECKED);
        let silent = |cell: &&Arc<SessionCell>| {
            is_silent(cell.state.lock("embryo").rank().silent_since, now)
        };
        let Some(victim) = oldest.find(silent).map(Arc::clone) else {
            return false;
        };
        self.evict(router, &victim, Class::Undelivered);
        true
    }

    fn evict_waiting(&mut self, router: &mut Router<Arc<SessionCell>>, now: Instant) -> bool {
        if self.waiting.found.is_empty() && self.waiting.next <= now {
            self.waiting.next = now + SURVEY_INTERVAL;
            let queue = self.shared.accepted.lock("survey");
            let ranked = queue
                .iter()
                .map(|cell| (cell.state.lock("survey").rank(), cell));
            let mut found: Vec<_> = ranked
                .filter(|(rank, _)| {
                    rank.class == Class::Undelivered && is_silent(rank.silent_since, now)
                })
                .map(|(rank, cell)| (rank.silent_since, Arc::clone(cell)))
                .collect();
            found.sort_by_key(|&(since, ref cell)| Reverse((since, cell.id)));
            self.waiting.found = found.into_iter().map(|(_, cell)| cell).collect();
        }
        while let Some(cell) = self.waiting.found.pop() {
            let mut session = cell.state.lock("evict waiting");
            let rank = session.rank();
            let still = session.end().is_none() && !session.life.is_accepted();
            drop(session);
            if still && rank.class == Class::Undelivered && is_silent(rank.silent_since, now) {
                self.evict(router, &cell, rank.class);
                return true;
            }
        }
        false
    }

    /// One that waits for accept, by chance, unless it is validated or younger than a second: where clients come faster than
    /// they are accepted, they would displace each other before they could answer a challenge.
    fn evict_any_waiting(&mut self, router: &mut Router<Arc<SessionCell>>, now: Instant) -> bool {
        let queue = self.shared.accepted.lock("draw waiting");
        let Some(cell) = queue.any(|| self.draw()).map(Arc::clone) else {
            return false;
        };
        drop(queue);
        let mut session = cell.state.lock("draw waiting");
        let class = session.class();
        let still = session.end().is_none() && !session.life.is_accepted();
        let had_time = is_silent(session.life.created(), now);
        drop(session);
        let found = still && had_time && !class.is_validated();
        if found {
            self.evict(router, &cell, class);
        }
        found
    }

    fn draw(&self) -> Option<u32> {
        self.shared.random().ok()
    }

    /// Many sessions of one address are a stock client that starts again and again, or forged: the
    /// first of the order goes, or for a newcomer that repeats any unvalidated one.
    fn evict_sibling(
        &mut self,
        router: &mut Router<Arc<SessionCell>>,
        peer: SocketAddr,
        repeats: bool,
        now: Instant,
    ) -> bool {
        let accepted = router
            .at(peer)
            .filter(|cell| cell.origin == Origin::Accepted);
        let mut unvalidated = 0;
        let ranked = accepted.map(|cell| (cell.state.lock("sibling").rank(), cell));
        let counted = ranked.inspect(|(rank, _)| {
            unvalidated += usize::from(!rank.class.is_validated());
        });
        let first = counted.min_by_key(|(rank, cell)| (*rank, cell.id));
        let Some((rank, victim)) = first.map(|(rank, cell)| (rank, Arc::clone(cell))) else {
            return false;
        };
        let spared = rank.class.is_validated() && fills_share(unvalidated, PER_ADDRESS);
        let silent = now.saturating_since(rank.silent_since) > rank.class.protection();
        if silent && !spared {
            self.evict(router, &victim, rank.class);
            return true;
        }
        if !repeats {
            return false;
        }
        let Some((victim, class)) = self.any_unvalidated_at(router, peer, unvalidated) else {
            return false;
        };
        self.evict(router, &victim, class);
        true
    }

    /// One of the unvalidated sessions of an address, of which there are so many, by chance.
    fn any_unvalidated_at(
        &self,
        router: &Router<Arc<SessionCell>>,
        peer: SocketAddr,
        unvalidated: usize,
    ) -> Option<(Arc<SessionCell>, Class)> {
        let drawn = (self.draw()? as usize).checked_rem(unvalidated)?;
        router
            .at(peer)
            .filter(|cell| cell.origin == Origin::Accepted)
            .map(|cell| (cell, cell.state.lock("draw").rank().class))
            .filter(|(_, class)| !class.is_validated())
            .nth(drawn)
            .map(|(cell, class)| (Arc::clone(cell), class))
    }

    /// Takes a session out of the router at once; the rest follows when it is served.
    fn evict(
        &mut self,
        router: &mut Router<Arc<SessionCell>>,
        cell: &Arc<SessionCell>,
        class: Class,
    ) {
        let counters = &self.shared.counters;
        match class {
            Class::Undelivered => counters.evicted_undelivered.add(1),
            Class::Unvalidated => counters.evicted_unvalidated.add(1),
            Class::Closing => counters.evicted_closing.add(1),
            Class::Idle => counters.evicted_idle.add(1),
        }
        let had_alias = router.alias(cell.peer) == Some(cell.conv);
        let found = router.find(cell.peer, cell.conv);
        // A connecting session may have taken its place already.
        if found.is_some_and(|found| Arc::ptr_eq(found.session, cell)) {
            router.remove(cell.peer, cell.conv);
        }
        let mut session = cell.state.lock("evict");
        self.eviction.leave(cell, &mut session);
        session.finish(ConnectionError::Evicted, &mut self.wake);
        session.evicted = Some(Evicted {
            // A client whose first datagram is all that came may begin again.
            remembered: class != Class::Undelivered,
            had_alias,
        });
        if !class.is_validated() {
            self.tell_of_eviction(cell, &session);
        }
        if session.embryo.take().is_some() {
            router.embryo_gone();
            self.embryos.remove(&cell.id);
        }
        self.touch(cell, &mut session);
        drop(session);
        self.shared.forget_waiting(cell);
        crate::log::debug!(peer = %cell.peer, conv = %cell.conv, ?class, "evicted");
    }
}

fn is_silent(since: Instant, now: Instant) -> bool {
    now.saturating_since(since) > PROTECTED
}

/// Sessions of one address, unless it is said to have many.
const PER_ADDRESS: usize = 64;
/// The backlog is looked through this often at most.
const SURVEY_INTERVAL: Duration = Duration::from_millis(100);
/// The oldest embryos are silent nearly always.
const EMBRYOS_CHECKED: usize = 64;
