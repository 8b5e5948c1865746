//! From tokio's clock to the engine's and back.

use std::time::Duration;

use kcp_engine::Instant;

/// The engine's microseconds, counted from the birth of the endpoint.
///
/// tokio's clock and not `std`'s, so that a test that pauses time drives everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            epoch: tokio::time::Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Instant {
        let elapsed = tokio::time::Instant::now().saturating_duration_since(self.epoch);
        Instant::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// The moment on tokio's clock. Beyond what it can express: some thirty years from now.
    pub(crate) fn at(self, instant: Instant) -> tokio::time::Instant {
        self.epoch
            .checked_add(Duration::from_micros(instant.as_micros()))
            .unwrap_or_else(|| tokio::time::Instant::now() + FAR_FUTURE)
    }
}

const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);
