//! Whether the driver asks for more instead of letting its thread sleep.

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};

/// Stays on for a while after something has arrived.
///
/// In real time, not in tokio's: what it saves is the waking of a thread, and a paused clock would
/// not go on while it is on.
#[derive(Debug)]
pub(super) struct BusyPoll {
    time: Duration,
    until: Option<Instant>,
}

impl BusyPoll {
    pub(super) const fn new(time: Duration) -> Self {
        Self { time, until: None }
    }

    /// Something has arrived.
    pub(super) fn heard(&mut self) {
        if !self.time.is_zero() {
            self.until = Some(Instant::now() + self.time);
        }
    }

    /// While it is on, has the driver called again once the runtime has asked the system for news.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if self.is_on() {
            // Waking oneself would come before that, and call other workers to help.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
    }

    fn is_on(&mut self) -> bool {
        self.until = self.until.filter(|&until| Instant::now() < until);
        self.until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_on_from_the_first_arrival_until_the_time_is_up() {
        let mut poll = BusyPoll::new(Duration::from_secs(3_600));
        assert!(!poll.is_on());
        poll.heard();
        assert!(poll.is_on());
        poll.until = Some(Instant::now());
        assert!(!poll.is_on());
    }

    #[test]
    fn is_never_on_without_a_time() {
        let mut poll = BusyPoll::new(Duration::ZERO);
        poll.heard();
        assert!(!poll.is_on());
    }
}
