//! Backoff from a socket that fails. Pure.

use std::time::Duration;

use kcp_engine::Instant;

/// Counts failures in a row and says when the socket may be tried again.
///
/// A burst to a dead peer brings back an error for each datagram, and the errors stand in front of
/// data: a few are passed over at once. A socket that fails without end is tried at a low rate, so
/// that it cannot keep the driver busy.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// The socket works.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
        self.until = None;
    }

    /// The socket failed. Every [`BURST`]th failure in a row is followed by a pause.
    pub(super) fn fail(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_multiple_of(BURST) {
            let pause = match self.failures {
                ..=MANY => SHORT_PAUSE,
                _ => LONG_PAUSE,
            };
            self.until = Some(now + pause);
        }
    }

    /// Leaves the socket alone for a moment, whatever the count of failures.
    pub(super) fn pause(&mut self, now: Instant) {
        self.until = Some(now + SHORT_PAUSE);
    }

    /// Whether the socket is to be left alone now.
    pub(super) fn holds(&mut self, now: Instant) -> bool {
        self.until = self.until.filter(|&until| now < until);
        self.until.is_some()
    }

    /// When the pause ends, if there is one.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.until
    }
}

/// Failures in a row that are passed over at once: with the pause, at most 6 % of a core.
const BURST: u32 = 64;
/// Failures in a row after which the socket is taken to fail for a long time.
const MANY: u32 = 100 * BURST;
const SHORT_PAUSE: Duration = Duration::from_millis(1);
const LONG_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_number_of_failures_in_a_row() {
        let mut backoff = Backoff::default();
        let mut now = Instant::from_micros(5);
        let mut fail_until_paused = |backoff: &mut Backoff| {
            let mut failures = 0;
            while !backoff.holds(now) {
                backoff.fail(now);
                failures += 1;
            }
            let pause = backoff.next().unwrap().saturating_since(now);
            now += pause;
            (failures, pause)
        };
        for _ in 0..100 {
            assert_eq!(fail_until_paused(&mut backoff), (BURST, SHORT_PAUSE));
        }
        assert_eq!(fail_until_paused(&mut backoff), (BURST, LONG_PAUSE));
        backoff.reset();
        assert_eq!(backoff.next(), None);
        assert_eq!(fail_until_paused(&mut backoff), (BURST, SHORT_PAUSE));
    }
}
