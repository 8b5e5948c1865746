//! A token bucket. Pure.

use std::time::Duration;

use kcp_engine::Instant;

/// What was taken and has not been refilled. It begins full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenBucket {
    /// Tokens that are missing, as of `at`.
    spent: u64,
    at: Option<Instant>,
}

impl TokenBucket {
    /// Refills `per_micro` tokens for each microsecond since the last call. Whether a bucket of `size` then has
    /// these.
    pub(crate) fn has(&mut self, now: Instant, per_micro: u64, size: u64, tokens: u64) -> bool {
        self.spent(now, per_micro).saturating_add(tokens) <= size
    }

    /// Refills it likewise. How many are missing then.
    pub(crate) fn spent(&mut self, now: Instant, per_micro: u64) -> u64 {
        let since = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_since(at));
        self.at = Some(now);
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        self.spent = self.spent.saturating_sub(micros.saturating_mul(per_micro));
        self.spent
    }

    /// Takes what it [has](Self::has).
    pub(crate) const fn spend(&mut self, tokens: u64) {
        self.spent = self.spent.saturating_add(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_full_and_refills_to_its_size() {
        let mut bucket = TokenBucket::default();
        let at = Instant::from_micros;
        assert!(bucket.has(at(1_000), 2, 100, 100) && !bucket.has(at(1_000), 2, 100, 101));
        bucket.spend(100);
        assert!(!bucket.has(at(1_000), 2, 100, 1));
        assert!(bucket.has(at(1_010), 2, 100, 20) && !bucket.has(at(1_010), 2, 100, 21));
        assert!(bucket.has(at(9_000), 2, 100, 100) && !bucket.has(at(9_000), 2, 100, 101));
    }
}
