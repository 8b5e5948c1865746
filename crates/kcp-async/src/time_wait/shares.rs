//! Shares of the TIME-WAIT table by source prefix, and which record makes room. Pure.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use kcp_engine::Instant;

use super::{Key, NO_KEY};
use crate::eviction::Scope;

/// The order in which the records of a prefix make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Given up: first to go once this time has passed, before that the last.
    GivenUp(Instant),
    /// Ended in order, until this time.
    Orderly(Instant),
}

/// How many records each prefix has, and which of them goes first.
#[derive(Debug, Default)]
pub(super) struct Shares {
    ranked: BTreeSet<(Scope, Rank, Key)>,
    counts: HashMap<Scope, usize, RandomState>,
    populous: BTreeSet<(usize, Scope)>,
}

impl Shares {
    pub(super) fn add(&mut self, key: Key, rank: Rank) {
        let prefix = Scope::prefix(key.0);
        self.ranked.insert((prefix, rank, key));
        self.count(prefix, |count| count + 1);
    }

    pub(super) fn remove(&mut self, key: Key, rank: Rank) {
        let prefix = Scope::prefix(key.0);
        self.ranked.remove(&(prefix, rank, key));
        self.count(prefix, |count| count - 1);
    }

    /// The record that makes room for one of this address in a full share or table.
    pub(super) fn victim(&self, now: Instant, newcomer: Key, table_is_full: bool) -> Option<Key> {
        let own = Scope::prefix(newcomer.0);
        if self.counts.get(&own).is_some_and(|&count| count >= SHARE) {
            return self.first_of(own, now);
        }
        let (_, most) = self.populous.last().filter(|_| table_is_full)?;
        self.first_of(*most, now)
    }

    fn first_of(&self, prefix: Scope, now: Instant) -> Option<Key> {
        let of = |rank: Rank| {
            let from = (prefix, rank, NO_KEY);
            let next = self.ranked.range(from..).next();
            next.filter(|(found, ..)| *found == prefix)
        };
        let first = of(Rank::GivenUp(Instant::ZERO));
        let may_go = |rank: &Rank| match *rank {
            Rank::GivenUp(protected_until) => protected_until <= now,
            Rank::Orderly(_) => true,
        };
        let victim = first
            .filter(|(_, rank, _)| may_go(rank))
            .or_else(|| of(Rank::Orderly(Instant::ZERO)))
            .or(first);
        victim.map(|&(.., key)| key)
    }

    fn count(&mut self, prefix: Scope, change: impl Fn(usize) -> usize) {
        let old = self.counts.remove(&prefix).unwrap_or(0);
        self.populous.remove(&(old, prefix));
        let new = change(old);
        if new > 0 {
            self.counts.insert(prefix, new);
            self.populous.insert((new, prefix));
        }
    }
}

/// Most records of one source prefix: a quarter of the table.
pub(super) const SHARE: usize = super::LIMIT / 4;
