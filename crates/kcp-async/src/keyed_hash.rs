//! A hash that peers cannot foresee, and that a test's seed decides. Pure.

use std::hash::{DefaultHasher, Hasher};

/// Its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashKey([u32; 2]);

impl HashKey {
    /// A key of random numbers; `None` where there are none.
    pub(crate) fn draw(random: impl Fn() -> Option<u32>) -> Option<Self> {
        Some(Self([random()?, random()?]))
    }

    /// SipHash, with the key in front.
    pub(crate) fn hash(self, bytes: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for word in self.0 {
            hasher.write_u32(word);
        }
        hasher.write(bytes);
        hasher.finish()
    }
}
