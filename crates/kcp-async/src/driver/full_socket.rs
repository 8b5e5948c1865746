//! Retries of a socket that stays full. Pure.

use std::time::Duration;

use kcp_engine::Instant;

/// How long the socket has not been reported ready, and when it is tried all the same.
#[derive(Debug, Default)]
pub(super) struct FullSocket {
    next: Option<Instant>,
}

impl FullSocket {
    /// The socket is ready, or nothing waits for it.
    pub(super) const fn reset(&mut self) {
        self.next = None;
    }

    /// The socket is not ready. Whether it is to be tried all the same.
    pub(super) fn retries(&mut self, now: Instant) -> bool {
        match self.next {
            None => {
                self.next = Some(now + PATIENCE);
                false
            }
            Some(next) if now < next => false,
            Some(_) => {
                self.next = Some(now + INTERVAL);
                true
            }
        }
    }

    /// When the socket is tried next.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }
}

/// A buffer that drains is reported sooner, except on links of some Mbit/s.
const PATIENCE: Duration = Duration::from_millis(50);
/// A system call or two each.
const INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_after_50_ms_and_then_every_10() {
        let mut full = FullSocket::default();
        let mut tried = Vec::new();
        for ms in 0..90 {
            if full.retries(Instant::from_micros(1_000 * ms)) {
                tried.push(ms);
            }
        }
        assert_eq!(tried, [50, 60, 70, 80]);
        full.reset();
        assert_eq!(full.next(), None);
        assert!(!full.retries(Instant::from_micros(200_000)));
    }
}
