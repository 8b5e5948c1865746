//! The engine's clock: microseconds that never wrap.
//!
//! Wire time ([`WireTs`](crate::WireTs)) is 32 bits of milliseconds and wraps; it exists only in
//! headers. Everything else compares [`Instant`]s with `<`.

use core::ops::{Add, AddAssign};
use core::time::Duration;

/// A point on a monotonic clock, in microseconds from an epoch that the caller chose.
///
/// The engine never reads a clock: each call that needs the time is given one of these. A caller
/// whose clock steps back does no harm: the engine keeps the latest time it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// The instant `micros` microseconds after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The instant `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        // `as_micros` has 128 bits.
        let micros = rhs
            .as_secs()
            .saturating_mul(1_000_000)
            .saturating_add(u64::from(rhs.subsec_micros()));
        Self(self.0.saturating_add(micros))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

/// Milliseconds since the epoch: the resolution of C's timers, without their wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(u64);

impl Millis {
    pub(crate) const fn of(now: Instant) -> Self {
        Self(now.as_millis())
    }

    pub(crate) const fn to_instant(self) -> Instant {
        Instant::from_millis(self.0)
    }

    pub(crate) const fn plus(self, millis: u32) -> Self {
        Self(self.0.saturating_add(millis as u64))
    }

    pub(crate) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_saturates_instead_of_wrapping() {
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Instant::ZERO + Duration::MAX, end);
    }

    #[test]
    fn since_a_later_instant_is_zero() {
        let early = Instant::from_millis(1);
        assert_eq!(
            early.saturating_since(early + Duration::from_secs(1)),
            Duration::ZERO
        );
    }
}
