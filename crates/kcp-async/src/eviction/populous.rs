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
/// When no host had one to give up: to count them takes time.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Beyond so many, those that have no session any more are forgotten.
const MOST_PREFIXES: usize = 1_024;
/// Part of a prefix that a host may have before it makes room for others.
const HOST_SHARE: usize = 16;
/// Sessions of such a host that are asked whether they are silent.
const MOST_ASKED: usize = 64;
/// Prefixes that are searched for a session that is idle.
const PREFIXES: usize = 8;
