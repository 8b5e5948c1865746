//! Which datagrams are lost.

use crate::{
    rng::{Purpose, draw},
    units::Probability,
};

/// A loss model.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Loss {
    /// Nothing is lost.
    #[default]
    None,
    /// Each datagram is lost with this probability, whatever happened to its neighbours.
    Bernoulli(Probability),
    /// Losses come in bursts.
    GilbertElliott(GilbertElliott),
}

impl Loss {
    /// The share of datagrams lost over a long run.
    pub fn average(self) -> Probability {
        match self {
            Self::None => Probability::NEVER,
            Self::Bernoulli(probability) => probability,
            Self::GilbertElliott(model) => model.average(),
        }
    }
}

/// The Gilbert-Elliott model: a good and a bad state, each with a loss probability of its own.
///
/// The state may change before each datagram; a link starts in the good state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GilbertElliott {
    /// The probability of going from good to bad before a datagram.
    pub good_to_bad: Probability,
    /// The probability of going from bad to good before a datagram. The mean burst is 1 / this many datagrams.
    pub bad_to_good: Probability,
    /// The loss in the good state.
    pub loss_in_good: Probability,
    /// The loss in the bad state.
    pub loss_in_bad: Probability,
}

impl GilbertElliott {
    /// Everything is lost in the bad state and nothing in the good one, so that over a long run `average` of the
    /// datagrams are lost, in bursts of `mean_burst` datagrams on average (at least 1; smaller counts as 1).
    ///
    /// An average that needs more than certain entry into the bad state (above `mean_burst / (mean_burst + 1)`) is
    /// cut down to what is possible.
    pub const fn bursts(average: Probability, mean_burst: f64) -> Self {
        let length = if mean_burst >= 1.0 { mean_burst } else { 1.0 };
        let leave = 1.0 / length;
        let share = average.get();
        let enter = if share >= 1.0 {
            1.0
        } else {
            leave * share / (1.0 - share)
        };
        Self {
            good_to_bad: Probability::clamped(enter),
            bad_to_good: Probability::clamped(leave),
            loss_in_good: Probability::NEVER,
            loss_in_bad: Probability::ALWAYS,
        }
    }

    /// The share of datagrams lost over a long run.
    pub fn average(self) -> Probability {
        let (enter, leave) = (self.good_to_bad.get(), self.bad_to_good.get());
        let bad = if enter == 0.0 {
            0.0
        } else {
            enter / (enter + leave)
        };
        Probability::clamped(bad * self.loss_in_bad.get() + (1.0 - bad) * self.loss_in_good.get())
    }
}

/// The memory of a loss model.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LossState {
    bad: bool,
}

impl LossState {
    /// Decides about datagram `index`. Call it exactly once per index, in order.
    pub(crate) fn loses(&mut self, model: Loss, seed: u64, index: u64) -> bool {
        let drawn = draw(seed, index, Purpose::Loss);
        match model {
            Loss::None => false,
            Loss::Bernoulli(probability) => probability.hits(drawn),
            Loss::GilbertElliott(model) => {
                let turn = draw(seed, index, Purpose::LossState);
                let change = if self.bad {
                    model.bad_to_good
                } else {
                    model.good_to_bad
                };
                self.bad ^= change.hits(turn);
                let loss = if self.bad {
                    model.loss_in_bad
                } else {
                    model.loss_in_good
                };
                loss.hits(drawn)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(model: Loss, seed: u64, count: u64) -> Vec<bool> {
        let mut state = LossState::default();
        (0..count)
            .map(|index| state.loses(model, seed, index))
            .collect()
    }

    #[test]
    fn bernoulli_loss_is_binomial() {
        // 1e6 draws at 5 %: mean 50 000, standard deviation 218. A normal variable leaves 6.2 deviations with a
        // probability below 1e-9, so a fair generator is within 1352 of the mean; and the seed is fixed anyway.
        for seed in 0..5 {
            let hits = lost(Loss::Bernoulli(Probability::percent(5)), seed, 1_000_000);
            let count = hits.iter().filter(|lost| **lost).count() as i64;
            assert!((count - 50_000).abs() <= 1352, "seed {seed}: {count}");
        }
    }

    #[test]
    fn neighbours_are_independent_under_bernoulli() {
        // Pairs lost together: 999 999 trials (neighbouring pairs share a datagram, which widens the deviation of
        // this count at 5 % from 50 to at most 53); 6.2 of those are 329 around the mean of 2500.
        let hits = lost(Loss::Bernoulli(Probability::percent(5)), 3, 1_000_000);
        let pairs = hits.windows(2).filter(|pair| pair[0] && pair[1]).count() as i64;
        assert!((pairs - 2500).abs() <= 329, "{pairs}");
    }

    #[test]
    fn bursts_have_the_asked_share_and_length() {
        let model = GilbertElliott::bursts(Probability::percent(4), 5.0);
        assert!((model.average().get() - 0.04).abs() < 1e-12);
        let hits = lost(Loss::GilbertElliott(model), 11, 1_000_000);
        let count = hits.iter().filter(|lost| **lost).count() as i64;
        let starts = hits.windows(2).filter(|pair| !pair[0] && pair[1]).count() as i64;
        // Cycles of good (mean 120, geometric) and bad (mean 5, geometric): 8000 cycles in 1e6 datagrams. Renewal
        // theory: the count of cycles has a standard deviation of sqrt(1e6 * v / 125^3) with v = 119.5^2 + 4.5^2, so
        // 85.5; the lost datagrams sqrt(8000 * var(bad - 0.04 * cycle)) = sqrt(8000 * (4.32^2 + 4.78^2)) = 576.
        // Bounds are 6.2 deviations: 1e-9.
        assert!((starts - 8000).abs() <= 530, "{starts}");
        assert!((count - 40_000).abs() <= 3571, "{count}");
    }

    #[test]
    fn impossible_averages_are_cut_down() {
        let model = GilbertElliott::bursts(Probability::ALWAYS, 4.0);
        assert_eq!(model.good_to_bad, Probability::ALWAYS);
        assert!(
            GilbertElliott::bursts(Probability::percent(5), f64::NAN).bad_to_good
                == Probability::ALWAYS
        );
        assert_eq!(
            GilbertElliott::bursts(Probability::NEVER, 4.0).average(),
            Probability::NEVER
        );
    }
}
