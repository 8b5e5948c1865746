//! Which session makes room for a new one (`docs/protocol.md` 11.4.1). Pure.
//!
//! Every accepted session has an entry per scope (the table, each prefix of its address, and its host), in the order of
//! eviction. Entries are not moved when something is heard: one that reaches the front is compared with its session,
//! and moved back if the session was heard since. So a datagram costs nothing, and a search costs a lookup and what had
//! to be moved: each session at most once a second, [`CHECKS_PER_WINDOW`] of them in 100 ms, a part of these for one
//! full scope. Sessions that connected are never evicted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use kcp_engine::Instant;

use class::{CLOSING, IDLE, STEPS, steps, sum};
pub(crate) use class::{Class, PROTECTED, Rank, fills_share, level};
use hosts::Given;
use populous::Turn;
pub(crate) use scope::Scope;

use crate::deadlines::SessionId;
use crate::session::{Session, SessionCell};

mod class;
mod hosts;
mod populous;
mod scope;

/// The order of eviction of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct EvictionOrder {
    entries: BTreeMap<(Scope, Rank, SessionId), Arc<SessionCell>>,
    counts: HashMap<Scope, [u32; STEPS], RandomState>,
    /// Source prefixes by how many of their sessions are of [`Class::Idle`], in each scope around them; hosts in their
    /// prefix.
    populous: BTreeSet<(Scope, usize, Scope)>,
    /// Entries of unvalidated peers, for those who connect.
    unvalidated: Arc<AtomicUsize>,
    checks: Checks,
    /// Full scopes that were searched for one within them that makes room.
    turns: HashMap<Scope, Turn, RandomState>,
    /// Full prefixes of which hosts made room.
    given: HashMap<Scope, Given, RandomState>,
}

/// For what room is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer {
    pub(crate) peer: SocketAddr,
    /// It was refused before.
    pub(crate) repeats: bool,
    /// The unvalidated sessions of the scope are [kept](EvictionOrder::keeps_places_from) for others.
    pub(crate) spares_unvalidated: bool,
}

/// Sessions that may still be compared with their entry.
#[derive(Debug, Default)]
struct Checks {
    window: u64,
    spent: usize,
    /// By full scopes: newcomers to one are not to use up what others need.
    by_scope: HashMap<Scope, usize, RandomState>,
    /// The one that is searched.
    full: Option<Scope>,
}

impl EvictionOrder {
    /// Keeps the number of unvalidated sessions there.
    pub(crate) fn new(unvalidated: Arc<AtomicUsize>) -> Self {
        Self {
            unvalidated,
            ..Self::default()
        }
    }

    /// Enters an accepted session.
    pub(crate) fn enter(&mut self, cell: &Arc<SessionCell>, session: &mut Session) {
        let rank = session.rank();
        session.ranked = Some(rank);
        self.put(cell, rank);
    }

    /// Moves a session whose class has changed. To be called when it is served.
    pub(crate) fn update(&mut self, cell: &Arc<SessionCell>, session: &mut Session) {
        let Some(old) = session.ranked else { return };
        if session.class() != old.class {
            self.leave(cell, session);
            self.enter(cell, session);
        }
    }

    /// Takes a session out.
    pub(crate) fn leave(&mut self, cell: &Arc<SessionCell>, session: &mut Session) {
        let Some(rank) = session.ranked.take() else {
            return;
        };
        self.take(cell, rank);
        if !rank.class.is_validated() && session.class().is_validated() {
            self.note_validated(cell.peer);
        }
    }

    /// Accepted sessions in a scope.
    pub(crate) fn count(&self, scope: Scope) -> usize {
        self.counts.get(&scope).map_or(0, |counts| sum(counts))
    }

    /// The session that a new one displaces in a full scope, if any may be.
    ///
    /// A class is spared while unvalidated sessions before it fill their share of the scope: those
    /// displace each other, a second after their last datagram.
    pub(crate) fn victim(
        &mut self,
        scope: Scope,
        limit: usize,
        newcomer: Newcomer,
        now: Instant,
    ) -> Option<(Arc<SessionCell>, Class)> {
        self.checks.begin(now, scope);
        for (step, (class, level)) in steps().enumerate() {
            if self.is_spared(scope, step, limit) {
                return None;
            }
            let found = match class {
                _ if newcomer.spares_unvalidated && !class.is_validated() => None,
                Class::Idle if !scope.is_prefix() => {
                    self.idle_of_a_prefix(scope, newcomer.peer, now)
                }
                Class::Idle if newcomer.repeats => self
                    .idle_of_a_host(scope, limit, newcomer.peer, now)
                    .or_else(|| self.longest_silent(scope, class, level, class.protection(), now)),
                _ => self.longest_silent(scope, class, level, class.protection(), now),
            };
            if let Some(cell) = found {
                return Some((cell, class));
            }
        }
        None
    }

    /// An unvalidated session of this scope, drawn by a random number, however recently it was heard. Where
    /// there are very many, one of the first in the order of eviction. `None` if there is none, if what was
    /// drawn is validated by now, or if no more checks are allowed at present.
    pub(crate) fn any_unvalidated(
        &mut self,
        scope: Scope,
        random: u32,
        now: Instant,
    ) -> Option<(Arc<SessionCell>, Class)> {
        let counts = self.counts.get(&scope)?;
        let unvalidated = sum(&counts[..CLOSING]).min(MOST_DRAWN_FROM);
        let drawn = (random as usize).checked_rem(unvalidated)?;
        self.checks.begin(now, scope);
        if !self.checks.take(1 + drawn / STEPS_PER_CHECK) {
            return None;
        }
        let first = Rank {
            class: Class::Undelivered,
            level: 0,
            silent_since: Instant::ZERO,
        };
        let from = (scope, first, SessionId(0));
        let (_, cell) = self.entries.range(from..).nth(drawn)?;
        // It may have been validated and not served since.
        let class = cell.state.lock("draw").class();
        (!class.is_validated()).then(|| (Arc::clone(cell), class))
    }

    fn is_spared(&self, scope: Scope, step: usize, limit: usize) -> bool {
        let counts = self.counts.get(&scope).copied().unwrap_or_default();
        step > 0 && fills_share(sum(&counts[..step.min(CLOSING)]), limit)
    }

    fn longest_silent(
        &mut self,
        scope: Scope,
        class: Class,
        level: u8,
        protection: Duration,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let first = Rank {
            class,
            level,
            silent_since: Instant::ZERO,
        };
        loop {
            let from = (scope, first, SessionId(0));
            let (&(at, rank, _), cell) = self.entries.range(from..).next()?;
            let is_here = (at, rank.class, rank.level) == (scope, class, level);
            let silent = now.saturating_since(rank.silent_since) > protection;
            if !is_here || !silent || !self.checks.take(1) {
                return None;
            }
            let cell = Arc::clone(cell);
            let mut session = cell.state.lock("evict");
            let actual = session.rank();
            if session.ranked == Some(actual) {
                drop(session);
                return Some(cell);
            }
            self.leave(&cell, &mut session);
            self.enter(&cell, &mut session);
        }
    }

    fn put(&mut self, cell: &Arc<SessionCell>, rank: Rank) {
        for scope in scopes_of(cell.peer, rank) {
            let key = (scope, rank, cell.id);
            self.entries.insert(key, Arc::clone(cell));
        }
        self.count_one(cell.peer, rank, |count| *count += 1);
        if !rank.class.is_validated() {
            self.unvalidated.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&mut self, cell: &Arc<SessionCell>, rank: Rank) {
        for scope in scopes_of(cell.peer, rank) {
            let key = (scope, rank, cell.id);
            self.entries.remove(&key);
        }
        self.count_one(cell.peer, rank, |count| *count -= 1);
        if !rank.class.is_validated() {
            self.unvalidated.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn count_one(&mut self, peer: SocketAddr, rank: Rank, change: impl Fn(&mut u32)) {
        for scope in scopes_of(peer, rank) {
            let counts = self.counts.entry(scope).or_default();
            let before = counts[IDLE] as usize;
            change(&mut counts[rank.step()]);
            let idle = counts[IDLE] as usize;
            if counts.iter().all(|&count| count == 0) {
                self.counts.remove(&scope);
            }
            let around = Scope::all_of(peer).filter(|&full| scope.competes_in(full));
            for full in around.filter(|_| before != idle) {
                self.populous.remove(&(full, before, scope));
                if idle > 0 {
                    self.populous.insert((full, idle, scope));
                }
            }
        }
    }
}

/// Where such a session has an entry. Only idle ones have one with their host.
fn scopes_of(peer: SocketAddr, rank: Rank) -> impl Iterator<Item = Scope> {
    let host = (rank.class == Class::Idle).then(|| Scope::host(peer));
    Scope::all_of(peer).chain(host)
}

impl Checks {
    /// From now on checks are for this full scope.
    fn begin(&mut self, now: Instant, full: Scope) {
        let window = now.as_micros() / 100_000;
        if window != self.window {
            self.window = window;
            self.spent = 0;
            self.by_scope.clear();
        }
        self.full = Some(full);
    }

    /// Takes some. `false` if the scope has had its part, or all are used up.
    fn take(&mut self, checks: usize) -> bool {
        let Some(full) = self.full else { return false };
        let of_scope = self.by_scope.entry(full).or_default();
        let part = full.part_of(CHECKS_PER_WINDOW);
        if *of_scope + checks > part || self.spent + checks > CHECKS_PER_WINDOW {
            return false;
        }
        *of_scope += checks;
        self.spent += checks;
        true
    }

    /// Whether one could be taken.
    fn are_left(&self) -> bool {
        let of = |full: Scope| {
            let of_scope = self.by_scope.get(&full).copied().unwrap_or_default();
            of_scope < full.part_of(CHECKS_PER_WINDOW)
        };
        self.spent < CHECKS_PER_WINDOW && self.full.is_some_and(of)
    }
}

/// A millisecond or so.
const CHECKS_PER_WINDOW: usize = 8_192;
/// Sessions from which one is drawn, and how many of them go at the cost of a check.
const MOST_DRAWN_FROM: usize = 4_096;
const STEPS_PER_CHECK: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_bounded() {
        let mut checks = Checks::default();
        let at = |ms: u64| Instant::from_micros(ms * 1_000);
        let mut taken = |ms: u64, full: Scope| {
            checks.begin(at(ms), full);
            (0..100_000).filter(|_| checks.take(1)).count()
        };
        let prefix = |n: u8| Scope::prefix(([10, 0, n, 1], 9).into());
        // What newcomers to one full prefix use up leaves enough for seven others.
        let of_prefixes: Vec<usize> = (0..10).map(|n| taken(50, prefix(n))).collect();
        assert_eq!(of_prefixes, [[1_024; 8].as_slice(), &[0, 0]].concat());
        assert_eq!(taken(50, Scope::TABLE), 0);
        assert_eq!(taken(100, Scope::TABLE), 4_096);
        assert_eq!(taken(100, prefix(0)), 1_024);
    }
}
