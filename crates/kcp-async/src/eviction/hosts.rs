//! What hosts with many sessions of a full prefix give up, and to whom (`docs/protocol.md` 11.4.1). Pure.
//!
//! One host would keep all others of its prefix out, so those that have more than a share make room for those that have
//! less. Newcomers may be forged, so this has a bound; and they may be of a second host that wants the others kept out,
//! so the bound is divided among those that have been validated, and what was given up is kept for them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use kcp_engine::Instant;

use super::class::{CLOSING, sum};
use super::populous::{FIRST, MOST_SCOPES};
use super::{EvictionOrder, Scope};
use crate::session::SessionCell;
use crate::token_bucket::TokenBucket;

/// Of one full prefix.
#[derive(Debug)]
pub(super) struct Given {
    /// What a host may have before it makes room for others. 1 and up.
    share: usize,
    /// What hosts gave up: a share at once, and a share in each minute.
    displaced: TokenBucket,
    /// By hosts, of which a prefix has 256: sessions that were validated. They are forgotten sixteen times as slowly.
    gained: HashMap<Scope, TokenBucket, RandomState>,
}

impl EvictionOrder {
    /// A host of a prefix that has more than a share gives one up after a second of silence.
    pub(super) fn idle_of_a_host(
        &mut self,
        prefix: Scope,
        limit: usize,
        newcomer: SocketAddr,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let share = share_of(limit);
        let (most, _) = self.next_populous(prefix, FIRST)?;
        if most <= share {
            return None;
        }
        let host = Scope::host(newcomer);
        let own = self.count(host);
        let given = self.given_of(prefix, share);
        if !given.takes_part(host, own, now) || !given.has_left(now) {
            return None;
        }
        let found = self.idle_of_those_with_more(prefix, share, now)?;
        let given = self.given_of(prefix, share);
        given.displaced.spend(given.each());
        Some(found)
    }

    /// Whether the places of a prefix that are free or of unvalidated sessions are kept for others: so many as hosts gave
    /// up are for newcomers that take part. The host that gave them up would have them back at once.
    pub(crate) fn keeps_places_from(
        &mut self,
        prefix: Scope,
        limit: usize,
        newcomer: SocketAddr,
        now: Instant,
    ) -> bool {
        let host = Scope::host(newcomer);
        let own = self.count(host);
        let Some(given) = self.given.get_mut(&prefix) else {
            return false;
        };
        let counts = self.counts.get(&prefix);
        let validated = counts.map_or(0, |counts| sum(&counts[CLOSING..]));
        validated + given.displaced(now) >= limit && !given.takes_part(host, own, now)
    }

    /// Whether a newcomer that repeats may take the place of any unvalidated session of a full scope, however recently that
    /// was heard. In a prefix, where those fill no share, only one that takes part: the host that has most would displace
    /// each client within the round trip in which that is validated.
    pub(crate) fn may_draw(
        &mut self,
        scope: Scope,
        limit: usize,
        newcomer: SocketAddr,
        now: Instant,
    ) -> bool {
        let share = share_of(limit);
        let counts = self.counts.get(&scope);
        let unvalidated = counts.map_or(0, |counts| sum(&counts[..CLOSING]));
        if !scope.is_prefix() || unvalidated >= share {
            return true;
        }
        let host = Scope::host(newcomer);
        let own = self.count(host);
        match self.given.get_mut(&scope) {
            Some(given) => given.takes_part(host, own, now),
            None => own < share,
        }
    }

    /// A session of this address was validated.
    pub(super) fn note_validated(&mut self, peer: SocketAddr) {
        if let Some(given) = self.given.get_mut(&Scope::prefix(peer)) {
            let each = given.each();
            given
                .gained
                .entry(Scope::host(peer))
                .or_default()
                .spend(each);
        }
    }

    fn given_of(&mut self, prefix: Scope, share: usize) -> &mut Given {
        if self.given.len() >= MOST_SCOPES {
            let counts = &self.counts;
            self.given.retain(|prefix, _| counts.contains_key(prefix));
        }
        self.given.entry(prefix).or_insert_with(|| Given {
            share,
            displaced: TokenBucket::default(),
            gained: HashMap::default(),
        })
    }
}

impl Given {
    /// Whether hosts make room for newcomers of a host that has so many idle sessions: fewer than a share, and no more
    /// validated lately than could still be given up, or a quarter of a share. So one host leaves others a half, two a
    /// third, and forged ones leave a quarter.
    fn takes_part(&mut self, host: Scope, idle: usize, now: Instant) -> bool {
        let each = self.each();
        let left = SIZE.saturating_sub(self.displaced.spent(now, PER_MICRO));
        let gained = self.gained.get_mut(&host);
        let gained = gained.map_or(0, |gained| gained.spent(now, 1));
        idle < self.share && gained + each <= left.max(SIZE / 4).max(each)
    }

    fn has_left(&mut self, now: Instant) -> bool {
        let each = self.each();
        self.displaced.has(now, PER_MICRO, SIZE, each)
    }

    /// Sessions that were given up, less what is forgotten by now.
    fn displaced(&mut self, now: Instant) -> usize {
        let each = self.each();
        self.displaced.spent(now, PER_MICRO).div_ceil(each) as usize
    }

    /// Tokens for a session.
    const fn each(&self) -> u64 {
        SIZE / self.share as u64
    }
}

fn share_of(limit: usize) -> usize {
    (limit / HOST_SHARE).max(1)
}

/// Part of a prefix that is a share.
const HOST_SHARE: usize = 16;
/// A bucket of a share, which fills in a minute.
const SIZE: u64 = PER_MICRO * 60_000_000;
const PER_MICRO: u64 = 16;

#[cfg(test)]
mod tests {
    use super::super::class::IDLE;
    use super::*;

    fn given() -> Given {
        Given {
            share: 64,
            displaced: TokenBucket::default(),
            gained: HashMap::default(),
        }
    }

    fn host(n: u8) -> Scope {
        Scope::host(([10, 0, 0, n], 9).into())
    }

    /// Newcomers of these hosts that take all that they may at this time, and are validated or not.
    fn take(given: &mut Given, hosts: &[u8], ms: u64, is_validated: bool) -> Vec<u32> {
        let now = Instant::from_micros(ms * 1_000);
        let mut taken = vec![0; hosts.len()];
        loop {
            let before = taken.clone();
            for (&n, taken) in hosts.iter().zip(&mut taken) {
                if given.takes_part(host(n), 0, now) && given.has_left(now) {
                    *taken += 1;
                    let each = given.each();
                    given.displaced.spend(each);
                    if is_validated {
                        given.gained.entry(host(n)).or_default().spend(each);
                    }
                }
            }
            if before == taken {
                return taken;
            }
        }
    }

    #[test]
    fn validated_hosts_leave_something_to_others() {
        for (hosts, first) in [(1, [32, 0, 0]), (2, [22, 21, 0]), (3, [16, 16, 16])] {
            let mut given = given();
            let greedy = &[1, 2, 3][..hosts];
            assert_eq!(take(&mut given, greedy, 0, true), first[..hosts]);
            // Whenever another comes.
            for ms in (0..3_600_000).step_by(1_000) {
                take(&mut given, greedy, ms, true);
                let now = Instant::from_micros(ms * 1_000);
                assert!(given.takes_part(host(9), 0, now) && given.has_left(now));
            }
        }
    }

    #[test]
    fn forged_newcomers_take_a_share_at_once_and_in_each_minute() {
        let mut given = given();
        assert_eq!(take(&mut given, &[1, 2], 0, false), [32, 32]);
        assert_eq!(given.displaced(Instant::ZERO), 64);
        let taken: u32 = (0..60_000)
            .map(|ms| take(&mut given, &[1, 2], ms, false).iter().sum::<u32>())
            .sum();
        assert_eq!(taken, 63);
        // What they took is kept for those that were not validated lately, and not for one that has a share.
        let now = Instant::from_micros(60_000_000);
        assert!(given.takes_part(host(9), 0, now) && !given.takes_part(host(9), 64, now));
    }

    /// Of 1,024 places hosts gave up ten. Those are not for the host that has most, however few sessions hold them.
    #[test]
    fn what_hosts_gave_up_is_kept_for_others() {
        let [most, newcomer] = [1, 9].map(|n| SocketAddr::from(([10, 0, 0, n], 9)));
        let prefix = Scope::prefix(most);
        for (idle, is_kept) in [(1_013, false), (1_014, true), (1_020, true)] {
            let mut order = EvictionOrder::default();
            for scope in [prefix, Scope::host(most)] {
                order.counts.entry(scope).or_default()[IDLE] = idle;
            }
            let mut given = given();
            given.displaced.spend(10 * given.each());
            order.given.insert(prefix, given);
            let mut keeps = |peer| order.keeps_places_from(prefix, 1_024, peer, Instant::ZERO);
            assert_eq!((keeps(most), keeps(newcomer)), (is_kept, false), "{idle}");
        }
    }
}
