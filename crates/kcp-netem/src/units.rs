//! Validated quantities: a probability and a bit rate.

use std::{error, fmt, num::NonZeroU64};

/// A probability from 0 to 1.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Probability(f64);

impl Probability {
    /// Never.
    pub const NEVER: Self = Self(0.0);
    /// Always.
    pub const ALWAYS: Self = Self(1.0);

    /// The probability `value`, 0 to 1.
    ///
    /// # Errors
    /// [`OutOfRange`] when `value` is not in that range or not a number.
    pub const fn new(value: f64) -> Result<Self, OutOfRange> {
        if value >= 0.0 && value <= 1.0 {
            Ok(Self(value))
        } else {
            Err(OutOfRange::Probability)
        }
    }

    /// `percent` in a hundred; more than 100 counts as 100.
    pub const fn percent(percent: u32) -> Self {
        Self::ppm(percent.saturating_mul(10_000))
    }

    /// `ppm` in a million; more than a million counts as a million.
    pub const fn ppm(ppm: u32) -> Self {
        if ppm >= 1_000_000 {
            Self::ALWAYS
        } else {
            Self(ppm as f64 / 1e6)
        }
    }

    /// The value, 0 to 1.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Whether a number drawn uniformly from all of `u64` falls under this probability.
    pub(crate) fn hits(self, drawn: u64) -> bool {
        // 53 bits are what an f64 holds exactly, so the comparison is the same everywhere; the left side is below 1.
        ((drawn >> 11) as f64) * (1.0 / (1u64 << 53) as f64) < self.0
    }

    /// `value`, which the caller has computed from probabilities, forced into the range.
    pub(crate) const fn clamped(value: f64) -> Self {
        if value >= 1.0 {
            Self::ALWAYS
        } else if value > 0.0 {
            Self(value)
        } else {
            Self::NEVER
        }
    }
}

impl TryFrom<f64> for Probability {
    type Error = OutOfRange;

    fn try_from(value: f64) -> Result<Self, OutOfRange> {
        Self::new(value)
    }
}

impl fmt::Debug for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// In percent, rounded to a ten-thousandth: `5 %`.
impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", (self.0 * 1e6).round() / 1e4)
    }
}

/// A rate in bits per second, never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bitrate(NonZeroU64);

impl Bitrate {
    /// `bits_per_second`, at least 1.
    ///
    /// # Errors
    /// [`OutOfRange`] when it is zero: a link that carries nothing is a partition.
    pub const fn new(bits_per_second: u64) -> Result<Self, OutOfRange> {
        match NonZeroU64::new(bits_per_second) {
            Some(rate) => Ok(Self(rate)),
            None => Err(OutOfRange::Bitrate),
        }
    }

    /// `kbit` thousand bits per second; 0 counts as 1.
    pub const fn kbit(kbit: u32) -> Self {
        Self::at_least_one(kbit as u64 * 1000)
    }

    /// `mbit` million bits per second; 0 counts as one bit per second.
    pub const fn mbit(mbit: u32) -> Self {
        Self::at_least_one(mbit as u64 * 1_000_000)
    }

    /// Bits per second.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// How long `bytes` occupy the wire, in nanoseconds, rounded up.
    pub(crate) fn nanos_for(self, bytes: usize) -> u64 {
        let bits = bytes as u128 * 8;
        let nanos = (bits * 1_000_000_000).div_ceil(u128::from(self.get()));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How many whole bytes leave in `nanos` nanoseconds.
    pub(crate) fn bytes_in(self, nanos: u64) -> u64 {
        let bytes = u128::from(nanos) * u128::from(self.get()) / 8_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    const fn at_least_one(bits_per_second: u64) -> Self {
        match NonZeroU64::new(bits_per_second) {
            Some(rate) => Self(rate),
            None => Self(NonZeroU64::MIN),
        }
    }
}

impl fmt::Debug for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// In the largest unit that keeps it whole: `100 Mbit/s`.
impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.get();
        match rate {
            _ if rate.is_multiple_of(1_000_000_000) => write!(f, "{} Gbit/s", rate / 1_000_000_000),
            _ if rate.is_multiple_of(1_000_000) => write!(f, "{} Mbit/s", rate / 1_000_000),
            _ if rate.is_multiple_of(1000) => write!(f, "{} kbit/s", rate / 1000),
            _ => write!(f, "{rate} bit/s"),
        }
    }
}

/// A quantity outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutOfRange {
    /// A probability is from 0 to 1.
    Probability,
    /// A bit rate is at least 1 bit per second.
    Bitrate,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probability => "a probability must be from 0 to 1",
            Self::Bitrate => "a bit rate must be at least 1 bit per second",
        })
    }
}

impl error::Error for OutOfRange {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probability_refuses_what_is_not_one() {
        for bad in [-0.001, 1.001, f64::NAN, f64::INFINITY] {
            assert_eq!(Probability::new(bad), Err(OutOfRange::Probability));
        }
        assert_eq!(Probability::new(0.05), Ok(Probability::percent(5)));
        assert_eq!(Probability::percent(500), Probability::ALWAYS);
        assert_eq!(Probability::percent(u32::MAX), Probability::ALWAYS);
        assert_eq!(Probability::ppm(2500).to_string(), "0.25 %");
    }

    #[test]
    fn the_ends_are_never_and_always() {
        assert!(!Probability::NEVER.hits(0));
        assert!(Probability::ALWAYS.hits(u64::MAX));
        let half = Probability::percent(50);
        assert!(half.hits((1 << 63) - 1) && !half.hits(1 << 63));
    }

    #[test]
    fn rate_converts_exactly() {
        assert_eq!(Bitrate::new(0), Err(OutOfRange::Bitrate));
        assert_eq!(Bitrate::mbit(100).nanos_for(1400), 112_000);
        assert_eq!(Bitrate::mbit(1000).nanos_for(1400), 11_200);
        // 8 bits at 3 bit/s are 2.666.. s: rounded up to the next nanosecond.
        assert_eq!(Bitrate::new(3).unwrap().nanos_for(1), 2_666_666_667);
        assert_eq!(Bitrate::mbit(8).bytes_in(1_000_000), 1000);
        assert_eq!(Bitrate::mbit(0).get(), 1);
    }

    #[test]
    fn rates_print_in_their_unit() {
        let text = |bits| Bitrate::new(bits).unwrap().to_string();
        assert_eq!(text(1_000_000_000), "1 Gbit/s");
        assert_eq!(text(100_000_000), "100 Mbit/s");
        assert_eq!(text(1500), "1500 bit/s");
        assert_eq!(text(64_000), "64 kbit/s");
    }
}
