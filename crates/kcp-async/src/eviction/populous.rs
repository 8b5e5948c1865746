//! Those that have most make room first: prefixes within a network, hosts within a prefix.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use kcp_engine::Instant;

use super::class::{Class, IDLE, PROTECTED, PROTECTED_VALIDATED, Rank};
use super::scope::host_address;
use super::{EvictionOrder, MOST_DRAWN_FROM, STEPS_PER_CHECK, Scope};
use crate::deadlines::SessionId;
use crate::session::SessionCell;
use crate::token_bucket::TokenBucket;

impl EvictionOrder {
    /// A prefix that has more sessions than the newcomer's gives one up after a second of silence, the others after a
    /// minute.
    pub(super) fn idle_of_a_prefix(
        &mut self,
        network: Scope,
        newcomer: SocketAddr,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let own = self.count(Scope::prefix(newcomer));
        let found = self.idle_of_those_with_more(network, own, now);
        if found.is_some() {
            return found;
        }
        let mut before = (own + 1, Scope::TABLE);
        for _ in 0..PREFIXES {
            before = self.next_populous(network, before)?;
            let (_, prefix) = before;
            let found = self.longest_silent(prefix, Class::Idle, 0, PROTECTED_VALIDATED, now);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The longest silent session of the most populous scope within a full one that has more idle ones than this, and one
    /// that is silent for a second. Those that had none are asked again a second later, so that scopes whose sessions are
    /// in use hide no others and cost no more than a look each.
    fn idle_of_those_with_more(
        &mut self,
        full: Scope,
        more_than: usize,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let mut turn = self.turn_of(full, now);
        turn.is_cut = false;
        let mut found = None;
        while let Some(next) = self.next_populous(full, turn.before) {
            let (idle, inner) = next;
            if idle <= more_than {
                break;
            }
            if self.checks.take(1) {
                found = self.longest_silent(inner, Class::Idle, 0, PROTECTED, now);
            }
            turn.is_cut = found.is_none() && !self.checks.are_left();
            if found.is_some() || turn.is_cut {
                break;
            }
            turn.before = next;
        }
        self.turns.insert(full, turn);
        found
    }

    /// Where the search of a full scope goes on.
    fn turn_of(&mut self, full: Scope, now: Instant) -> Turn {
        if self.turns.len() >= MOST_PREFIXES {
            let counts = &self.counts;
            self.turns.retain(|scope, _| counts.contains_key(scope));
        }
        let turn = self.turns.get(&full).copied();
        let goes_on = turn.filter(|turn| turn.is_cut || now < turn.until);
        goes_on.unwrap_or(Turn {
            before: (usize::MAX, Scope::LAST),
            until: now + ASKED_AGAIN_AFTER,
            is_cut: false,
        })
    }

    /// The most populous scope within another that comes after this one, and how many of its sessions are idle.
    fn next_populous(&self, full: Scope, before: (usize, Scope)) -> Option<(usize, Scope)> {
        let (idle, inner) = before;
        let range = (full, 0, Scope::TABLE)..(full, idle, inner);
        let &(_, idle, inner) = self.populous.range(range).next_back()?;
        Some((idle, inner))
    }

    /// Within a prefix a host gives one up after a second of silence if it has more than a sixteenth of what the
    /// prefix may have, and more than the newcomer's: one host would keep all others of its prefix out. As many as that
    /// sixteenth at once, and in a minute: forged newcomers would end those of an honest one again and again.
    pub(super) fn idle_of_the_most_populous_host(
        &mut self,
        prefix: Scope,
        limit: usize,
        newcomer: SocketAddr,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let share = limit / HOST_SHARE;
        let idle = self.counts.get(&prefix)?[IDLE] as usize;
        if idle <= share.max(1) || !self.may_ask_hosts(prefix, share, now) {
            return None;
        }
        let counted = idle.min(MOST_DRAWN_FROM);
        if !self.checks.take(1 + counted / STEPS_PER_CHECK) {
            return None;
        }
        let found = self.idle_of_a_host_with_more(prefix, share, newcomer, now);
        let turn = self.hosts.entry(prefix).or_default();
        match found {
            Some(_) => turn.displaced.spend(micros_each(share)),
            None => turn.next = Some(now + ASKED_AGAIN_AFTER),
        }
        found
    }

    /// Whether a host of this prefix may have to give one up again.
    fn may_ask_hosts(&mut self, prefix: Scope, share: usize, now: Instant) -> bool {
        if self.hosts.len() >= MOST_PREFIXES {
            let counts = &self.counts;
            self.hosts.retain(|prefix, _| counts.contains_key(prefix));
        }
        let turn = self.hosts.entry(prefix).or_default();
        turn.next.is_none_or(|next| next <= now)
            && turn
                .displaced
                .has(now, 1, MINUTE_MICROS, micros_each(share))
    }

    fn idle_of_a_host_with_more(
        &mut self,
        prefix: Scope,
        share: usize,
        newcomer: SocketAddr,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let mut counts: HashMap<u64, usize, RandomState> = HashMap::default();
        for cell in self.idle_of(prefix) {
            *counts.entry(host_of(cell.peer)).or_default() += 1;
        }
        let own = counts.get(&host_of(newcomer)).copied();
        let most = counts
            .into_iter()
            .max_by_key(|&(host, count)| (count, host));
        let (host, count) = most?;
        if count <= share || count <= own.unwrap_or_default() {
            return None;
        }
        let of_host = self
            .idle_of(prefix)
            .filter(|cell| host_of(cell.peer) == host);
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

/// How far the scopes within a full one have been asked for an idle session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// This one and those that come before it, which have more, had none.
    before: (usize, Scope),
    /// From then on they are asked again,
    until: Instant,
    /// unless the checks were used up: then the search goes on first.
    is_cut: bool,
}

/// One host of a prefix: an IPv4 address, an IPv6 /64.
fn host_of(addr: SocketAddr) -> u64 {
    match host_address(addr) {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
    }
}

/// Of one full prefix: when its hosts are looked at again, and what they gave up.
#[derive(Debug, Default)]
pub(super) struct HostsTurn {
    next: Option<Instant>,
    displaced: TokenBucket,
}

/// A bucket of `share` that fills in a minute.
fn micros_each(share: usize) -> u64 {
    MINUTE_MICROS / share.max(1) as u64
}

const MINUTE_MICROS: u64 = 60_000_000;
/// When those that had none to give up are asked again.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Beyond so many, those that have no session any more are forgotten.
const MOST_PREFIXES: usize = 1_024;
/// Part of a prefix that a host may have before it makes room for others.
const HOST_SHARE: usize = 16;
/// Sessions of such a host that are asked whether they are silent.
const MOST_ASKED: usize = 64;
/// Prefixes with no more sessions than the newcomer's that are searched for one that is silent for a minute.
const PREFIXES: usize = 8;
