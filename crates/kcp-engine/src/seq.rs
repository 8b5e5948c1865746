//! The three 32-bit integers of the header that must not be mixed up.

use core::fmt;
use core::ops::Add;

/// A conversation id: which session of an address a segment belongs to.
///
/// 0 is reserved: `tokio_kcp` uses it to ask the server for an id (`docs/protocol.md` 13.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conv(u32);

impl Conv {
    /// A conversation id from its wire value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The wire value.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Conv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A sequence number. It wraps at 2^32, so it has a signed distance instead of an order
/// (`docs/protocol.md` 9.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sn(u32);

impl Sn {
    /// Where every stock session starts.
    pub const ZERO: Self = Self(0);

    /// A sequence number from its wire value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The wire value.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// How far `self` is ahead of `other`; negative when it is behind.
    pub const fn distance_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether `self` comes before `other`, within half the number space.
    pub const fn is_before(self, other: Self) -> bool {
        self.distance_from(other) < 0
    }

    /// The sequence number after this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl Add<u32> for Sn {
    type Output = Self;

    fn add(self, rhs: u32) -> Self {
        Self(self.0.wrapping_add(rhs))
    }
}

/// A time stamp as it stands in a header: milliseconds, wrapping after 49.7 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WireTs(u32);

impl WireTs {
    /// A time stamp from its wire value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The wire value.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Milliseconds from `other` to `self`; negative when `self` is earlier.
    pub const fn distance_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = Sn::new(u32::MAX);
        assert!(last.is_before(last + 1));
        assert_eq!((last + 1).get(), 0);
        assert_eq!((last + 5).distance_from(last), 5);
        assert_eq!(last.distance_from(last + 5), -5);
        assert_eq!(WireTs::new(3).distance_from(WireTs::new(u32::MAX)), 4);
    }
}
