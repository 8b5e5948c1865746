//! The bytes of an exchange: the same in every language.

use sha2::{Digest, Sha256};

/// `length` bytes of SHA-256 in counter mode: block `i` is the hash of the seed and `i`,
/// both 32 bits little-endian.
pub(crate) fn content(seed: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 32);
    let mut counter = 0u32;
    while out.len() < length {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(counter.to_le_bytes());
        out.extend_from_slice(&hash.finalize());
        counter += 1;
    }
    out.truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_agree_and_seeds_differ() {
        assert_eq!(content(7, 100), content(7, 1000)[..100]);
        assert_ne!(content(7, 100), content(8, 100));
    }

    #[test]
    fn first_block_is_the_hash_of_seed_and_zero() {
        assert_eq!(
            content(1, 32)[..],
            Sha256::digest([1, 0, 0, 0, 0, 0, 0, 0])[..]
        );
    }
}
