//! Those that have most make room first: prefixes within a network, hosts within a prefix.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use kcp_engine::Instant;

use super::class::{Class, IDLE, PROTECTED, PROTECTED_VALIDATED, Rank};
use super::{EvictionOrder, MOST_DRAWN_FROM, STEPS_PER_CHECK, Scope};
use crate::deadlines::SessionId;
use crate::session::SessionCell;

impl EvictionOrder {
    /// A prefix that has more sessions than the newcomer's gives one up after a second of silence.
    pub(super) fn idle_of_the_most_populous(
        &mut self,
        scope: Scope,
        newcomer: SocketAddr,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let own = self.count(Scope::prefix(newcomer));
        let range = (scope, 0, Scope::TABLE)..=(scope, usize::MAX, Scope::LAST);
        let populous = self.populous.range(range).rev();
        let prefixes: Vec<(usize, Scope)> = populous
            .take(PREFIXES)
            .map(|&(_, idle, prefix)| (idle, prefix))
            .collect();
        prefixes.into_iter().find_map(|(idle, prefix)| {
            let protection = match idle > own {
                true => PROTECTED,
                false => PROTECTED_VALIDATED,
            };
            self.longest_silent(prefix, Class::Idle, 0, protection, now)
        })
    }

    /// Within a prefix a host gives one up after a second of silence if it has more than a sixteenth of what the
    /// prefix may have, and more than the newcomer's: one host would keep all others of its prefix out.
    pub(super) fn idle_of_the_most_populous_host(
        &mut self,
        prefix: Scope,
        limit: usize,
        newcomer: SocketAddr,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let share = limit / HOST_SHARE;
        let idle = self.counts.get(&prefix)?[IDLE] as usize;
        let cost = 1 + idle.min(MOST_DRAWN_FROM) / STEPS_PER_CHECK;
        if idle <= share || !self.checks.take_many(now, cost) {
            return None;
        }
        let mut counts: HashMap<Scope, usize, RandomState> = HashMap::default();
        for cell in self.idle_of(prefix) {
            *counts.entry(Scope::host(cell.peer)).or_default() += 1;
        }
        let own = counts.get(&Scope::host(newcomer)).copied();
        let most = counts
            .into_iter()
            .max_by_key(|&(host, count)| (count, host));
        let (host, count) = most?;
        if count <= share || count <= own.unwrap_or_default() {
            return None;
        }
        let of_host = self
            .idle_of(prefix)
            .filter(|cell| Scope::host(cell.peer) == host);
        let asked: Vec<_> = of_host.take(MOST_ASKED).map(Arc::clone).collect();
        asked.into_iter().find(|cell| self.is_idle_now(cell, now))
    }

    /// Whether a session may be displaced by its host's neighbours. One that was heard since it got its entry is moved
    /// back, or those in front, kept in use, would hide the others.
    fn is_idle_now(&mut self, cell: &Arc<SessionCell>, now: Instant) -> bool {
        let mut session = cell.state.lock("host");
        let rank = session.rank();
        if rank.class == Class::Idle && now.saturating_since(rank.silent_since) > PROTECTED {
            return true;
        }
        if session.ranked != Some(rank) {
            self.leave(cell, &mut session);
            self.enter(cell, &mut session);
        }
        false
    }

    /// Sessions of [`Class::Idle`] in a scope, in the order of eviction.
    fn idle_of(&self, scope: Scope) -> impl Iterator<Item = &Arc<SessionCell>> {
        let first = Rank {
            class: Class::Idle,
            level: 0,
            silent_since: Instant::ZERO,
        };
        let entries = self.entries.range((scope, first, SessionId(0))..);
        let idle = entries
            .take_while(move |&(&(at, rank, _), _)| at == scope && rank.class == Class::Idle);
        idle.map(|(_, cell)| cell).take(MOST_DRAWN_FROM)
    }
}

/// Part of a prefix that a host may have before it makes room for others.
const HOST_SHARE: usize = 16;
/// Sessions of such a host that are asked whether they are silent.
const MOST_ASKED: usize = 64;
/// Prefixes that are searched for a session that is idle.
const PREFIXES: usize = 8;
