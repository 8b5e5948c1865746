//! How many answers to our questions may be wrong (`docs/protocol.md` 11.1.1).

use crate::time::Millis;

/// Bounds what can be learned, or done, by guessing the time stamp of a question: a datagram has one
/// guess, and wrong ones use up a budget that fills slowly.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    /// When the budget is full again.
    full_at: Millis,
}

impl Guesses {
    /// Whether an answer is right and may be believed. A wrong one is counted. `wrong_in` is the datagram, as
    /// counted, that last guessed wrong.
    pub(crate) fn believes(
        &mut self,
        is_right: bool,
        now: Millis,
        datagram: u32,
        wrong_in: &mut u32,
    ) -> bool {
        let is_spent = self.full_at > now.plus((GUESSES - 1) * MS_PER_GUESS);
        if is_spent || *wrong_in == datagram {
            return false;
        }
        if !is_right {
            *wrong_in = datagram;
            self.full_at = self.full_at.max(now).plus(MS_PER_GUESS);
        }
        is_right
    }
}

/// Wrong answers in a row. Honest ones are: an RST by which a peer gives up, and answers to questions older
/// than the last four.
const GUESSES: u32 = 64;
/// One more each second: with four time stamps to hit, one in 34 years is right by chance.
const MS_PER_GUESS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    fn at(ms: u64) -> Millis {
        Millis::of(Instant::from_millis(ms))
    }

    #[test]
    fn sixty_four_wrong_ones_and_one_more_each_second() {
        let mut guesses = Guesses::default();
        let wrong = &mut 0;
        for datagram in 1..=64 {
            assert!(!guesses.believes(false, at(5), datagram, wrong));
        }
        assert!(!guesses.believes(true, at(5), 65, wrong));
        assert!(!guesses.believes(true, at(1_004), 65, wrong));
        assert!(
            guesses.believes(true, at(1_005), 65, wrong),
            "a right one is free"
        );
        assert!(!guesses.believes(false, at(1_005), 66, wrong));
        assert!(!guesses.believes(true, at(1_005), 67, wrong));
        assert!(guesses.believes(true, at(100_000), 67, wrong));
    }

    #[test]
    fn a_datagram_has_one() {
        let mut guesses = Guesses::default();
        let wrong = &mut 0;
        for _ in 0..1_000 {
            assert!(!guesses.believes(false, at(5), 1, wrong));
        }
        assert!(!guesses.believes(true, at(5), 1, wrong));
        assert!(guesses.believes(true, at(5), 2, wrong));
    }
}
