//! Classes of sessions in the order of eviction, and for how long each is protected. Pure.

use std::time::Duration;

use kcp_engine::Instant;

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

impl Rank {
    /// Its place among [`steps`].
    pub(super) const fn step(self) -> usize {
        match self.class {
            Class::Undelivered => 0,
            Class::Unvalidated => 1 + self.level as usize,
            Class::Closing => CLOSING,
            Class::Idle => IDLE,
        }
    }
}

/// Classes and levels in the order of eviction.
pub(super) fn steps() -> impl Iterator<Item = (Class, u8)> {
    let unvalidated = (0..LEVELS).map(|level| (Class::Unvalidated, level));
    std::iter::once((Class::Undelivered, 0))
        .chain(unvalidated)
        .chain([(Class::Closing, 0), (Class::Idle, 0)])
}

pub(super) fn sum(counts: &[u32]) -> usize {
    counts.iter().sum::<u32>() as usize
}

/// The level of an unvalidated session that has delivered this much in this time. Each is sixteen
/// times the one before, so a forged session of a high level costs both bytes and time.
pub(crate) fn level(bytes: u64, time: Duration) -> u8 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let product = bytes.saturating_mul(millis).max(1);
    // Four bits a level, and 64 bits in all.
    (product.ilog2() / 4) as u8
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

/// A session that was heard within this time is not evicted: it is in use, or its peer had no time
/// to answer yet.
pub(crate) const PROTECTED: Duration = Duration::from_secs(1);
/// The same for a validated session, unless its prefix has more sessions than the newcomer's.
pub(super) const PROTECTED_VALIDATED: Duration = Duration::from_secs(60);
/// Unvalidated sessions displace better ones up to this part of a bound: forged first datagrams cost
/// nothing, and would end all others.
const UNVALIDATED_SHARE: usize = 16;
/// Levels of [`Class::Unvalidated`]: the last is a gigabyte in a day, or more.
const LEVELS: u8 = 16;
pub(super) const CLOSING: usize = 1 + LEVELS as usize;
pub(super) const IDLE: usize = CLOSING + 1;
pub(super) const STEPS: usize = IDLE + 1;

#[cfg(test)]
mod tests {
    use super::*;

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
}
