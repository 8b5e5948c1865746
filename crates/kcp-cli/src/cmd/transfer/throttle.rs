//! A limit on the lines that peers can cause.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A token bucket for lines of output: [`BURST`] at once, then one every [`SECONDS_PER_LINE`]
/// seconds. What it holds back is counted.
#[derive(Debug)]
pub(crate) struct Throttle(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    lines: f64,
    at: Instant,
    held_back: u64,
}

impl Throttle {
    /// A full bucket.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Bucket {
            lines: BURST,
            at: Instant::now(),
            held_back: 0,
        }))
    }

    /// Some when a line may be printed, with the number of lines held back since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.duration_since(bucket.at).as_secs_f64() / SECONDS_PER_LINE;
        bucket.lines = (bucket.lines + gained).min(BURST);
        bucket.at = now;
        if bucket.lines < 1.0 {
            bucket.held_back += 1;
            return None;
        }
        bucket.lines -= 1.0;
        Some(std::mem::take(&mut bucket.held_back))
    }

    /// The number of lines held back and not told yet.
    pub(crate) fn held_back(&self) -> u64 {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut bucket.held_back)
    }
}

const BURST: f64 = 20.0;
const SECONDS_PER_LINE: f64 = 5.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_lines_becomes_a_count() {
        let throttle = Throttle::new();
        let passed = (0..10_000).filter(|_| throttle.pass().is_some()).count();
        assert_eq!(passed, 20);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(throttle.pass(), Some(9_980));
        assert_eq!(throttle.pass(), None);
        assert_eq!(throttle.held_back(), 1);
        assert_eq!(throttle.held_back(), 0);
    }
}
