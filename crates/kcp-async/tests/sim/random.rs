//! Random numbers from a seed, and the bytes that flows carry.

use std::time::Duration;

/// splitmix64 in sequence.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        mix(self.0)
    }

    /// Below `end`, which is not 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From `low` to `high`, both included.
    pub(crate) const fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(crate) const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them, all equally likely.
    pub(crate) fn pick<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len() as u64) as usize]
    }

    /// Whole milliseconds, both ends included.
    pub(crate) const fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.range(low, high))
    }

    /// Like a size in real life: the number of its bits is uniform.
    pub(crate) const fn size(&mut self, low: u64, high: u64) -> u64 {
        let (first, last) = (low.ilog2() as u64, high.ilog2() as u64);
        let bits = self.range(first, last);
        let size = (1 << bits) + self.below(1 << bits);
        if size < low {
            low
        } else if size > high {
            high
        } else {
            size
        }
    }
}

/// Fills `bytes` with what a flow carries from `offset` on. Each byte depends on where it is, so a
/// byte lost, doubled or moved shows.
pub(crate) fn fill(key: u64, offset: u64, bytes: &mut [u8]) {
    let mut at = offset;
    let mut word = mix(key.wrapping_add(at / 8)).to_le_bytes();
    for byte in bytes {
        *byte = word[(at % 8) as usize];
        at += 1;
        if at.is_multiple_of(8) {
            word = mix(key.wrapping_add(at / 8)).to_le_bytes();
        }
    }
}

/// Where `bytes` first differ from what the flow carries from `offset` on.
pub(crate) fn difference(key: u64, offset: u64, bytes: &[u8]) -> Option<usize> {
    let mut expected = vec![0; bytes.len()];
    fill(key, offset, &mut expected);
    (expected != bytes).then(|| {
        let mut pairs = expected.iter().zip(bytes);
        pairs.position(|(a, b)| a != b).unwrap_or(0)
    })
}

pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
