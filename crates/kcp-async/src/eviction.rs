//! Which session makes room for a new one (`docs/protocol.md` 11.4.1). Pure.
//!
//! Every accepted session has an entry per scope (the table, and each prefix of its address), in
//! the order of eviction. Entries are not moved when something is heard: one that reaches the front
//! is compared with its session, and moved back if the session was heard since. So a datagram
//! costs nothing, and a search costs a lookup and what had to be moved: each session at most once
//! a second, [`CHECKS_PER_WINDOW`] of them in 100 ms. Sessions that connected are never evicted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use kcp_engine::Instant;

use crate::deadlines::SessionId;
use crate::session::{Session, SessionCell};

/// Why a session may be evicted; earlier classes go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The address is not validated, and the application got nothing beyond the first datagram.
    Undelivered,
    /// The address is not validated.
    Unvalidated,
    /// The application has closed it.
    Closing,
    /// All others.
    Idle,
}

/// Where a session stands in the order: its class, within [`Class::Unvalidated`] how much it has
/// delivered, and since when it is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) class: Class,
    /// Below [`LEVELS`]; 0 in all other classes.
    pub(crate) level: u8,
    pub(crate) silent_since: Instant,
}

/// Sessions that have one bound: the endpoint's, or those of a prefix. The first byte is the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope([u8; 8]);

/// The order of eviction of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct EvictionOrder {
    entries: BTreeMap<(Scope, Rank, SessionId), Arc<SessionCell>>,
    counts: HashMap<Scope, [u32; STEPS], RandomState>,
    /// Source prefixes by how many of their sessions are of [`Class::Idle`], in each scope around them.
    populous: BTreeSet<(Scope, usize, Scope)>,
    /// Entries of unvalidated peers, for those who connect.
    unvalidated: Arc<AtomicUsize>,
    checks: Checks,
}

/// Sessions that may still be compared with their entry.
#[derive(Debug, Default)]
struct Checks {
    window: u64,
    spent: usize,
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
        let class = session.class();
        if class != old.class {
            self.take(cell, old);
            self.enter(cell, session);
        }
    }

    /// Takes a session out.
    pub(crate) fn leave(&mut self, cell: &Arc<SessionCell>, session: &mut Session) {
        if let Some(rank) = session.ranked.take() {
            self.take(cell, rank);
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
        newcomer: SocketAddr,
        now: Instant,
    ) -> Option<(Arc<SessionCell>, Class)> {
        for (step, (class, level)) in steps().enumerate() {
            if self.is_spared(scope, step, limit) {
                return None;
            }
            let found = match class {
                Class::Idle if !scope.is_prefix() => {
                    self.idle_of_the_most_populous(scope, newcomer, now)
                }
                _ => self.longest_silent(scope, class, level, class.protection(), now),
            };
            if let Some(cell) = found {
                return Some((cell, class));
            }
        }
        None
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
            if !is_here || !silent || !self.checks.take(now) {
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

    /// A prefix that has more sessions than the newcomer's gives one up after a second of silence.
    fn idle_of_the_most_populous(
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

    fn put(&mut self, cell: &Arc<SessionCell>, rank: Rank) {
        for scope in Scope::all_of(cell.peer) {
            let key = (scope, rank, cell.id);
            self.entries.insert(key, Arc::clone(cell));
        }
        self.count_one(cell.peer, rank, |count| *count += 1);
        if !rank.class.is_validated() {
            self.unvalidated.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&mut self, cell: &Arc<SessionCell>, rank: Rank) {
        for scope in Scope::all_of(cell.peer) {
            let key = (scope, rank, cell.id);
            self.entries.remove(&key);
        }
        self.count_one(cell.peer, rank, |count| *count -= 1);
        if !rank.class.is_validated() {
            self.unvalidated.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn count_one(&mut self, peer: SocketAddr, rank: Rank, change: impl Fn(&mut u32)) {
        let mut idle = (0, 0);
        for scope in Scope::all_of(peer) {
            let counts = self.counts.entry(scope).or_default();
            let before = counts[IDLE] as usize;
            change(&mut counts[rank.step()]);
            idle = (before, counts[IDLE] as usize);
            if counts.iter().all(|&count| count == 0) {
                self.counts.remove(&scope);
            }
        }
        // The innermost scope came last.
        if idle.0 != idle.1 {
            let prefix = Scope::prefix(peer);
            for scope in Scope::all_of(peer).filter(|scope| !scope.is_prefix()) {
                self.populous.remove(&(scope, idle.0, prefix));
                if idle.1 > 0 {
                    self.populous.insert((scope, idle.1, prefix));
                }
            }
        }
    }
}

impl Rank {
    /// Its place among [`steps`].
    const fn step(self) -> usize {
        match self.class {
            Class::Undelivered => 0,
            Class::Unvalidated => 1 + self.level as usize,
            Class::Closing => CLOSING,
            Class::Idle => IDLE,
        }
    }
}

/// Classes and levels in the order of eviction.
fn steps() -> impl Iterator<Item = (Class, u8)> {
    let unvalidated = (0..LEVELS).map(|level| (Class::Unvalidated, level));
    std::iter::once((Class::Undelivered, 0))
        .chain(unvalidated)
        .chain([(Class::Closing, 0), (Class::Idle, 0)])
}

fn sum(counts: &[u32]) -> usize {
    counts.iter().sum::<u32>() as usize
}

/// The level of an unvalidated session that has delivered this much in this time. Each is sixteen
/// times the one before: who forges sessions pays in bytes and in time.
pub(crate) fn level(bytes: u64, time: Duration) -> u8 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let product = bytes.saturating_mul(millis).max(1);
    let level = product.ilog2() / 4;
    u8::try_from(level).map_or(LEVELS, |level| level.min(LEVELS - 1))
}

impl Class {
    pub(crate) const fn is_validated(self) -> bool {
        matches!(self, Self::Closing | Self::Idle)
    }

    /// For how long after its last datagram a session is not displaced.
    pub(crate) const fn protection(self) -> Duration {
        match self.is_validated() {
            true => PROTECTED_VALIDATED,
            false => PROTECTED,
        }
    }
}

/// Whether this many unvalidated sessions are as many as may be where they displace better ones.
pub(crate) const fn fills_share(unvalidated: usize, limit: usize) -> bool {
    unvalidated.saturating_mul(UNVALIDATED_SHARE) >= limit
}

impl Checks {
    fn take(&mut self, now: Instant) -> bool {
        let window = now.as_micros() / 100_000;
        if window != self.window {
            *self = Self { window, spent: 0 };
        }
        self.spent += 1;
        self.spent <= CHECKS_PER_WINDOW
    }
}

impl Scope {
    /// All sessions.
    pub(crate) const TABLE: Self = Self([0; 8]);
    const LAST: Self = Self([u8::MAX; 8]);

    /// The part of an address that one customer of a network usually has: IPv4 /24, IPv6 /56.
    pub(crate) fn prefix(addr: SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self([4, a, b, c, 0, 0, 0, 0])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                Self([6, a, b, c, d, e, f, g])
            }
        }
    }

    /// Every scope of an address, outermost first: the table, for IPv6 /32 and /48, the prefix.
    pub(crate) fn all_of(addr: SocketAddr) -> impl Iterator<Item = Self> {
        let prefix = Self::prefix(addr);
        let Self([kind, a, b, c, d, e, f, _]) = prefix;
        let networks = (kind == 6).then_some([
            Self([1, a, b, c, d, 0, 0, 0]),
            Self([2, a, b, c, d, e, f, 0]),
        ]);
        std::iter::once(Self::TABLE)
            .chain(networks.into_iter().flatten())
            .chain([prefix])
    }

    /// How many sessions it may have, if a prefix may have `limit` and the table `table`.
    pub(crate) const fn limit(self, table: usize, limit: usize) -> usize {
        match self.0[0] {
            0 => table,
            1 => limit.saturating_mul(V6_32),
            2 => limit.saturating_mul(V6_48),
            _ => limit,
        }
    }

    pub(crate) const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    const fn is_prefix(self) -> bool {
        self.0[0] >= 4
    }
}

/// A session that was heard within this time is not evicted: it is in use, or its peer had no time
/// to answer yet.
pub(crate) const PROTECTED: Duration = Duration::from_secs(1);
/// The same for a validated session, unless its prefix has more sessions than the newcomer's.
const PROTECTED_VALIDATED: Duration = Duration::from_secs(60);
/// Unvalidated sessions displace better ones up to this part of a bound: forged first datagrams cost
/// nothing, and would end all others.
const UNVALIDATED_SHARE: usize = 16;
/// Levels of [`Class::Unvalidated`]: the last is a gigabyte in a day, or more.
pub(crate) const LEVELS: u8 = 16;
const CLOSING: usize = 1 + LEVELS as usize;
const IDLE: usize = CLOSING + 1;
const STEPS: usize = IDLE + 1;
/// A millisecond or so.
const CHECKS_PER_WINDOW: usize = 8_192;
/// Prefixes that are searched for a session that is idle.
const PREFIXES: usize = 8;
/// A site has a /48 and 256 prefixes in it; a provider has a /32.
const V6_48: usize = 4;
const V6_32: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Vec<Scope> {
        Scope::all_of(text.parse().unwrap()).collect()
    }

    #[test]
    fn scopes_are_nested() {
        assert_eq!(scopes("10.0.0.1:1"), scopes("[::ffff:10.0.0.200]:9"));
        assert_ne!(scopes("10.0.0.1:1")[1], scopes("10.0.1.1:1")[1]);
        let one = scopes("[2001:db8:0:aa00::1]:1");
        assert_eq!(one, scopes("[2001:db8:0:aaff::2]:2"));
        let other = scopes("[2001:db8:0:ab00::1]:1");
        assert_eq!((&one[..3], one.len()), (&other[..3], 4));
        assert_ne!(one[3], other[3]);
        let site = scopes("[2001:db8:1:aa00::1]:1");
        assert_eq!(one[..2], site[..2]);
        assert_ne!(one[2], site[2]);
    }

    #[test]
    fn limits_grow_with_the_network() {
        let limits = |text| -> Vec<usize> {
            let scopes = scopes(text).into_iter();
            scopes.map(|scope| scope.limit(65_536, 1_024)).collect()
        };
        assert_eq!(limits("10.0.0.1:1"), [65_536, 1_024]);
        assert_eq!(limits("[2001:db8::1]:1"), [65_536, 16_384, 4_096, 1_024]);
    }

    #[test]
    fn levels_grow_with_bytes_and_time() {
        let of = |bytes, ms| level(bytes, Duration::from_millis(ms));
        assert_eq!(
            (of(0, 1_000), of(1, 15), of(1, 16), of(16, 1)),
            (0, 0, 1, 1)
        );
        assert_eq!((of(2, 50), of(3_000, 300), of(3_000, 30_000)), (1, 4, 6));
        assert_eq!(of(u64::MAX, u64::MAX), LEVELS - 1);
    }

    #[test]
    fn steps_are_in_the_order_of_eviction() {
        let ranks = steps().map(|(class, level)| Rank {
            class,
            level,
            silent_since: Instant::ZERO,
        });
        let ranks: Vec<Rank> = ranks.collect();
        assert!(ranks.is_sorted());
        assert!(ranks.iter().map(|rank| rank.step()).eq(0..STEPS));
    }

    #[test]
    fn checks_are_bounded() {
        let mut checks = Checks::default();
        let at = |ms: u64| Instant::from_micros(ms * 1_000);
        let taken = (0..100_000).filter(|_| checks.take(at(50))).count();
        assert_eq!(taken, CHECKS_PER_WINDOW);
        assert!(checks.take(at(100)));
    }
}
