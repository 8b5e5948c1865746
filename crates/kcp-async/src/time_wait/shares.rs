//! Shares of the TIME-WAIT table by source prefix, and which record makes room. Pure.

use std::cmp::Reverse;
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
    counts: HashMap<Scope, Count, RandomState>,
    /// Of prefixes with as many records the one that changed longest ago is the last.
    populous: BTreeSet<(Count, Scope)>,
    len: usize,
    changes: u64,
}

/// Records of a prefix, and its last change.
type Count = (usize, Reverse<u64>);

/// How many records there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    table: usize,
    prefix: usize,
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
    pub(super) fn victim(&self, now: Instant, newcomer: Key, bounds: Bounds) -> Option<Key> {
        let own = Scope::prefix(newcomer.0);
        let has = self.counts.get(&own).map_or(0, |&(count, _)| count);
        if has >= bounds.prefix {
            return self.first_of(own, now);
        }
        let (_, most) = self.populous.last().filter(|_| self.len >= bounds.table)?;
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
        let old = self.counts.remove(&prefix).unwrap_or_default();
        self.populous.remove(&(old, prefix));
        self.changes += 1;
        let new = (change(old.0), Reverse(self.changes));
        self.len = self.len + new.0 - old.0;
        if new.0 > 0 {
            self.counts.insert(prefix, new);
            self.populous.insert((new, prefix));
        }
    }
}

/// Most records of one source prefix: a quarter of the table.
pub(super) const SHARE: usize = super::LIMIT / 4;

pub(super) const VALIDATED: Bounds = Bounds {
    table: super::LIMIT,
    prefix: SHARE,
};

pub(super) const UNVALIDATED: Bounds = Bounds {
    table: super::UNVALIDATED_LIMIT,
    prefix: super::UNVALIDATED_LIMIT / 4,
};
