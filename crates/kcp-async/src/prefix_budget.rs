//! How many RSTs may leave (`docs/protocol.md` 12.4), and how many small datagrams beyond the answer
//! budgets of sessions (11.3). Pure.
//!
//! A flood of questions from forged addresses must not become a flood of answers. The bounds are
//! per source prefix and for the endpoint, and each is drawn again every second: what is left of
//! one tells an observer nothing about what others have asked.

use kcp_engine::Instant;

use crate::eviction::Scope;
use crate::keyed_hash::HashKey;

/// The bounds of one endpoint for one kind of answer.
#[derive(Debug)]
pub(crate) struct PrefixBudget {
    /// A second's bound on average: it is drawn from half of this to three halves.
    per_second: u32,
    per_prefix: u32,
    /// Drawn with the first question.
    key: Option<HashKey>,
    total: Spent,
    /// Prefixes share a slot by a keyed hash. Empty until the first question.
    prefixes: Vec<Spent>,
}

/// Answers in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    second: u32,
    count: u32,
}

impl PrefixBudget {
    /// RSTs: 24 bytes each, so 24 kB/s. Thousands of clients of a restarted server ask for some seconds;
    /// those behind one address wait for some retransmissions.
    pub(crate) fn of_resets() -> Self {
        Self::new(1_000, 64)
    }

    /// RSTs that tell unvalidated peers of an eviction, each within the answer budget of its session.
    pub(crate) fn of_notices() -> Self {
        Self::new(500, 32)
    }

    /// Datagrams beyond the answer budgets: 128 bytes each with headers, so 6 kB/s.
    pub(crate) fn of_extras() -> Self {
        Self::new(50, 5)
    }

    fn new(per_second: u32, per_prefix: u32) -> Self {
        Self {
            per_second,
            per_prefix,
            key: None,
            total: Spent::default(),
            prefixes: Vec::new(),
        }
    }

    /// Whether one may leave for this prefix. `random` is asked once; without randomness none leaves.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        prefix: Scope,
        random: impl Fn() -> Option<u32>,
    ) -> bool {
        if self.key.is_none() {
            self.key = HashKey::draw(random);
            self.prefixes = vec![Spent::default(); SLOTS];
        }
        let Some(key) = self.key else {
            return false;
        };
        let second = (now.as_micros() / 1_000_000) as u32;
        let slot = key.hash(&prefix.to_bytes()) as usize % SLOTS;
        let most = |mean, whose: u64| {
            let bytes = [whose.to_be_bytes(), u64::from(second).to_be_bytes()].concat();
            mean / 2 + (key.hash(&bytes) % (u64::from(mean) + 1)) as u32
        };
        let of_prefix = most(self.per_prefix, slot as u64);
        let of_all = most(self.per_second, u64::MAX);
        self.total.has_left(second, of_all)
            && self.prefixes[slot].take(second, of_prefix)
            && self.total.take(second, of_all)
    }
}

impl Spent {
    fn has_left(&self, second: u32, most: u32) -> bool {
        self.second != second || self.count < most
    }

    fn take(&mut self, second: u32, most: u32) -> bool {
        if self.second != second {
            *self = Self { second, count: 0 };
        }
        self.count += 1;
        self.count <= most
    }
}

/// 8 KiB for each kind.
const SLOTS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    fn prefix(n: u32) -> Scope {
        let [_, a, b, _] = n.to_be_bytes();
        Scope::prefix(([10, a, b, 1], 1).into())
    }

    fn sent(budget: &mut PrefixBudget, ms: u64, prefixes: impl Iterator<Item = u32>) -> u32 {
        let taken = prefixes.filter(|&n| budget.take(at(ms), prefix(n << 8), || Some(7)));
        taken.count() as u32
    }

    #[test]
    fn each_second_has_a_bound_of_its_own() {
        let mut budget = PrefixBudget::of_resets();
        let counts: Vec<u32> = (0..50)
            .map(|second| sent(&mut budget, 1_000 * second, (0..20_000).map(|n| n % 5_000)))
            .collect();
        let (least, most) = (500, 1_500);
        assert!(
            counts.iter().all(|&n| n >= least && n <= most),
            "{counts:?}"
        );
        assert!(counts.iter().any(|n| n != &counts[0]));
        assert_eq!(sent(&mut budget, 49_999, 0..5_000), 0);
    }

    #[test]
    fn a_prefix_has_a_share() {
        let mut budget = PrefixBudget::of_resets();
        let greedy = sent(&mut budget, 0, (0..10_000).map(|_| 1));
        assert!((32..=96).contains(&greedy), "{greedy}");
        assert_eq!(sent(&mut budget, 500, 100..110), 10);
    }

    #[test]
    fn without_randomness_there_is_no_answer() {
        assert!(!PrefixBudget::of_resets().take(at(0), prefix(1), || None));
    }
}
