//! The minimum progress of a session.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How slow a transfer may be.
///
/// While a file is under way something new has to arrive within every `stall` (default 30 s), and
/// [`SLOWEST`] bytes a second on average over every [`WINDOW`]. Between files, and while the peer
/// owes an answer, its next frame has to arrive within `stall`. Time in which this side itself
/// reads or writes a file does not count. A listener adds [`SlotTime`]. None switches all rules off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) stall: Option<Duration>,
}

/// The progress of one file.
#[derive(Debug)]
pub(super) struct Progress {
    pace: Pace,
    /// When `count` became what it is.
    since: Instant,
    count: u64,
    window: Instant,
    count_at_window: u64,
}

/// Slower than [`Pace`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stalled {
    Nothing(Duration),
    TooSlow,
    /// Others wait for the slot.
    SlotWanted,
}

/// For how long a session that has a slot may still wait for its peer, if others wait for the slot.
///
/// It begins with `stall`, and what arrives earns more, up to that: a second for each [`SLOWEST`] bytes of a file, three for
/// each file that is through, a tenth for any other frame. A peer that offers what it knows to be declined, or files of a
/// byte, every so often would otherwise keep its slot for weeks.
#[derive(Debug)]
pub(super) struct SlotTime {
    most: Option<Duration>,
    left: Duration,
    counted: u64,
    waits_since: Option<Instant>,
}

impl Progress {
    /// Starts now, with `count` bytes through.
    pub(super) fn new(pace: Pace, count: u64) -> Self {
        let now = Instant::now();
        Self {
            pace,
            since: now,
            count,
            window: now,
            count_at_window: count,
        }
    }

    /// When to [`check`](Self::check) next. None: never.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stall = self.pace.stall?;
        Some((self.since + stall).min(self.window + WINDOW))
    }

    /// Judges the progress up to now, when `count` bytes are through.
    pub(super) fn check(&mut self, count: u64) -> Result<(), Stalled> {
        let Some(stall) = self.pace.stall else {
            return Ok(());
        };
        let now = Instant::now();
        if count != self.count {
            self.count = count;
            self.since = now;
        } else if now >= self.since + stall {
            return Err(Stalled::Nothing(stall));
        }
        if now >= self.window + WINDOW {
            let least = SLOWEST * WINDOW.as_secs();
            if count.saturating_sub(self.count_at_window) < least {
                return Err(Stalled::TooSlow);
            }
            self.window = now;
            self.count_at_window = count;
        }
        Ok(())
    }

    /// As [`check`](Self::check), for what has no size: only that something is new counts.
    pub(super) fn check_any(&mut self, count: u64) -> Result<(), Stalled> {
        self.window = Instant::now();
        self.count_at_window = count;
        self.check(count)
    }

    /// Takes out time in which the peer could do nothing.
    pub(super) fn pause(&mut self, time: Duration) {
        self.since += time;
        self.window += time;
    }
}

impl SlotTime {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            most: pace.stall,
            left: pace.stall.unwrap_or_default(),
            counted: 0,
            waits_since: None,
        }
    }

    /// This side waits for its peer from now on.
    pub(super) fn begin_wait(&mut self) {
        self.begin_wait_after(Duration::ZERO);
    }

    /// The peer is busy for so long with what it was sent; from then on this side waits for it.
    pub(super) fn begin_wait_after(&mut self, busy: Duration) {
        self.waits_since = Some(Instant::now() + busy);
    }

    /// Takes account of the wait so far, in which `count` bytes came through.
    pub(super) fn recount(&mut self, count: u64, of_file: bool) {
        let Some(since) = self.waits_since else {
            return;
        };
        let earned = self.earned_by(count, of_file);
        self.left = (self.left + earned).saturating_sub(since.elapsed());
        self.left = self.left.min(self.most.unwrap_or_default());
        self.waits_since = Some(since.max(Instant::now()));
    }

    /// Something has come.
    pub(super) fn end_wait(&mut self) {
        if let Some(since) = self.waits_since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    /// `count` bytes are through in all. `of_file`: what is new of them belongs to a file.
    pub(super) fn count(&mut self, count: u64, of_file: bool) {
        let earned = self.earned_by(count, of_file);
        self.earn(earned);
    }

    fn earned_by(&mut self, count: u64, of_file: bool) -> Duration {
        let new = count.saturating_sub(self.counted);
        self.counted = count;
        match of_file {
            true => Duration::from_millis(new.saturating_mul(1_000) / SLOWEST),
            false => Duration::ZERO,
        }
    }

    pub(super) fn earn_file(&mut self) {
        self.earn(Duration::from_secs(3));
    }

    pub(super) fn earn_frame(&mut self) {
        self.earn(Duration::from_millis(100));
    }

    fn earn(&mut self, time: Duration) {
        self.left = (self.left + time).min(self.most.unwrap_or_default());
    }

    /// When to ask next whether it is spent. None: never.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = self.waits_since.filter(|_| self.most.is_some())?;
        Some((since + self.left).max(Instant::now() + ASKED_AGAIN_AFTER))
    }

    pub(super) fn is_spent(&self) -> bool {
        let waited = self.waits_since.map(|since| since.elapsed());
        self.most.is_some() && waited.is_some_and(|waited| waited >= self.left)
    }
}

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing(stall) => write!(f, "nothing new for {} s", stall.as_secs_f64()),
            Self::TooSlow => write!(
                f,
                "less than {SLOWEST} bytes a second for {} s",
                WINDOW.as_secs()
            ),
            Self::SlotWanted => {
                f.write_str("others wait for its slot, and it brings next to nothing")
            }
        }
    }
}

/// Waits for a deadline; for ever if there is none.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Bytes a second; an eighth of what a link of 64 kbit/s carries.
const SLOWEST: u64 = 1024;
const WINDOW: Duration = Duration::from_secs(60);
/// Whether others wait may change at any time.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        let stall = Some(Duration::from_secs(30));
        Progress::new(Pace { stall }, 0)
    }

    /// Feeds `bytes` every `every` and checks at each deadline on the way, as a session does.
    async fn run(bytes: u64, every: Duration, total: Duration) -> Result<(), Stalled> {
        let mut progress = progress();
        let start = Instant::now();
        while start.elapsed() < total {
            let deadline = progress.deadline().unwrap();
            tokio::time::advance(deadline - Instant::now()).await;
            let steps = start.elapsed().as_nanos() / every.as_nanos();
            progress.check(bytes * steps as u64)?;
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_link_passes_and_a_trickle_does_not() {
        let hour = Duration::from_secs(3600);
        // 64 kbit/s, less headers.
        let link = run(7_500, Duration::from_secs(1), hour).await;
        assert_eq!(link, Ok(()));
        let trickle = run(1, Duration::from_secs(1), hour).await;
        assert_eq!(trickle, Err(Stalled::TooSlow));
        let trickle = run(1_000, Duration::from_secs(1), hour).await;
        assert_eq!(trickle, Err(Stalled::TooSlow));
        let bursts = run(1 << 20, Duration::from_secs(61), hour).await;
        assert!(matches!(bursts, Err(Stalled::Nothing(_))));
        // A link that is black, or a sender that is stopped, for 25 s in every 26.
        let bursts = run(1 << 20, Duration::from_secs(26), hour).await;
        assert_eq!(bursts, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_time_does_not_count() {
        let mut progress = progress();
        tokio::time::advance(Duration::from_secs(100)).await;
        progress.pause(Duration::from_secs(100));
        assert_eq!(progress.check(0), Ok(()));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(progress.check(0).is_err());
    }

    /// Who brings a file of a byte each three seconds, 1 KiB a second, or ten frames, keeps its slot; at half of that it does
    /// not.
    #[tokio::test(start_paused = true)]
    async fn a_slot_is_earned() {
        let stall = Some(Duration::from_secs(30));
        let spent_after = |every_ms: u64, earn: fn(&mut SlotTime, u64)| async move {
            let mut time = SlotTime::new(Pace { stall });
            for round in 1..=1_000 {
                time.begin_wait();
                tokio::time::advance(Duration::from_millis(every_ms)).await;
                if time.is_spent() {
                    return Some(round);
                }
                time.end_wait();
                earn(&mut time, round);
            }
            None
        };
        let file: fn(&mut SlotTime, u64) = |time, _| time.earn_file();
        let frame: fn(&mut SlotTime, u64) = |time, _| time.earn_frame();
        let bytes: fn(&mut SlotTime, u64) = |time, round| time.count(round * 4_096, true);
        let between: fn(&mut SlotTime, u64) = |time, round| time.count(round * 4_096, false);
        assert_eq!(spent_after(3_000, file).await, None);
        assert_eq!(spent_after(6_000, file).await, Some(9));
        assert_eq!(spent_after(100, frame).await, None);
        assert_eq!(spent_after(200, frame).await, Some(299));
        assert_eq!(spent_after(4_000, bytes).await, None);
        assert_eq!(spent_after(8_000, bytes).await, Some(7));
        assert_eq!(spent_after(4_000, between).await, Some(8));
    }

    /// A frame that takes longer than `stall` to arrive whole, at twice the least pace and at half of it.
    #[tokio::test(start_paused = true)]
    async fn a_long_frame_earns_while_it_arrives() {
        let stall = Some(Duration::from_secs(30));
        for (bytes_a_second, keeps) in [(2_048, true), (512, false)] {
            let mut time = SlotTime::new(Pace { stall });
            time.begin_wait();
            let mut spent = false;
            for second in 1..=300 {
                tokio::time::advance(Duration::from_secs(1)).await;
                if time.is_spent() {
                    time.recount(second * bytes_a_second, true);
                    spent |= time.is_spent();
                }
            }
            assert_eq!(!spent, keeps, "{bytes_a_second}");
        }
        // The peer writes to its disk, for longer than that.
        let mut time = SlotTime::new(Pace { stall });
        time.begin_wait_after(Duration::from_secs(100));
        tokio::time::advance(Duration::from_secs(129)).await;
        assert!(!time.is_spent());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(time.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_switched_off() {
        let mut progress = Progress::new(Pace { stall: None }, 0);
        tokio::time::advance(Duration::from_secs(100_000)).await;
        assert_eq!(progress.deadline(), None);
        assert_eq!(progress.check(0), Ok(()));
    }
}
