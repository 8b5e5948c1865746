//! Random numbers without state: each is a function of (seed, index, purpose).
//!
//! This is splitmix64 addressed by position instead of run in sequence. Adding an impairment draws from another
//! purpose and so leaves every other decision as it was.

/// What a number is drawn for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Loss = 1,
    LossState = 2,
    Jitter = 3,
    CopyJitter = 4,
    Reorder = 5,
    Duplicate = 6,
    Corrupt = 7,
    CorruptBit = 8,
}

/// The number for one decision, uniform over all of `u64`.
pub(crate) fn draw(seed: u64, index: u64, purpose: Purpose) -> u64 {
    let stream = mix(seed ^ mix(purpose as u64));
    mix(stream.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
}

/// A seed for something that belongs to `seed` and is told apart by `label`.
pub(crate) fn derive_seed(seed: u64, label: u64) -> u64 {
    mix(seed ^ mix(label.wrapping_add(GOLDEN_GAMMA)))
}

/// The output function of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The odd number nearest to 2^64 divided by the golden ratio: splitmix64's step.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_and_step_give_the_published_splitmix64_sequence() {
        // The first outputs of splitmix64 for the seed 1234567.
        let output = |n: u64| mix(1_234_567_u64.wrapping_add(GOLDEN_GAMMA.wrapping_mul(n)));
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([output(1), output(2), output(3)], expected);
    }

    #[test]
    fn purposes_and_seeds_are_independent_streams() {
        assert_ne!(draw(1, 0, Purpose::Loss), draw(1, 0, Purpose::Jitter));
        assert_ne!(draw(1, 0, Purpose::Loss), draw(2, 0, Purpose::Loss));
        assert_eq!(draw(9, 5, Purpose::Loss), draw(9, 5, Purpose::Loss));
        assert_ne!(derive_seed(1, 0), derive_seed(1, 1));
    }
}
