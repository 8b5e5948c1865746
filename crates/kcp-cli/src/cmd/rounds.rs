//! Numbered records sent on a schedule and echoed back: what `ping` and the demo's echo share.
//!
//! The echo is a stream of bytes: where the records end is known from their size alone, so any
//! server that returns what it gets will do, in message and in stream mode.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout_at};

/// The records under way, and the bytes not yet written and not yet complete.
#[derive(Debug)]
pub(super) struct Rounds {
    size: usize,
    sent: u64,
    answered: u64,
    /// When the round trip of each unanswered record started, the oldest first: answers come in
    /// order.
    outstanding: VecDeque<Instant>,
    unwritten: VecDeque<u8>,
    partial: Vec<u8>,
}

/// When records are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) first: Instant,
    pub(super) every: Duration,
    /// None goes on until the drive is cancelled.
    pub(super) count: Option<u64>,
    /// How long to wait for answers, from the time the last record was due.
    pub(super) drain: Duration,
    pub(super) from: From,
}

/// Where a round trip starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// When the record was due: what a user waits, a late timer and a full queue included.
    Due,
    /// When the record was queued, as ping(8) counts.
    Sent,
}

/// One record came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// Counted from 1.
    pub(super) number: u64,
    /// Since the time that the schedule's [`From`] names.
    pub(super) time: Duration,
}

/// Why a drive ended early.
#[derive(Debug)]
pub(super) enum RoundsError {
    Io(io::Error),
    /// The peer closed the stream.
    Eof,
    /// What came back is not what was sent.
    Mismatch {
        number: u64,
    },
}

impl Rounds {
    /// Records of `size` bytes, at least 8.
    pub(super) fn new(size: usize) -> Self {
        Self {
            size: size.max(8),
            sent: 0,
            answered: 0,
            outstanding: VecDeque::new(),
            unwritten: VecDeque::new(),
            partial: Vec::new(),
        }
    }

    /// Sends on schedule, whatever is outstanding, and reports every answer. Returns when all
    /// records are answered or the drain time is over. Cancel it at will: the counts stay.
    pub(super) async fn drive<R, W>(
        &mut self,
        mut reader: R,
        mut writer: W,
        schedule: Schedule,
        mut on_round: impl FnMut(Round),
    ) -> Result<(), RoundsError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut piece = vec![0; 16 * 1024];
        loop {
            let due = schedule.due(self.sent);
            if due.is_none() && self.outstanding.is_empty() {
                return Ok(());
            }
            tokio::select! {
                // First: being late is what a round trip counts from.
                biased;
                () = sleep_until(due.unwrap_or(schedule.first)), if due.is_some() => {
                    self.push(match (schedule.from, due) {
                        (From::Due, Some(due)) => due,
                        _ => Instant::now(),
                    });
                }
                read = reader.read(&mut piece) => {
                    let read = read.map_err(RoundsError::Io)?;
                    if read == 0 {
                        return Err(RoundsError::Eof);
                    }
                    self.pull(&piece[..read], Instant::now(), &mut on_round)?;
                }
                written = writer.write(self.unwritten.as_slices().0), if !self.unwritten.is_empty() => {
                    let written = written.map_err(RoundsError::Io)?;
                    self.unwritten.drain(..written);
                    if self.unwritten.is_empty() {
                        writer.flush().await.map_err(RoundsError::Io)?;
                    }
                }
                () = sleep_until(schedule.end()), if due.is_none() => return Ok(()),
            }
        }
    }

    /// Records that were due so far.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Records that came back.
    pub(super) const fn answered(&self) -> u64 {
        self.answered
    }

    /// The ages of the records that did not come back.
    pub(super) fn ages(&self, now: Instant) -> impl Iterator<Item = Duration> {
        self.outstanding
            .iter()
            .map(move |&due| now.saturating_duration_since(due))
    }

    /// Queues the next record, whose round trip counts from `start`.
    fn push(&mut self, start: Instant) {
        self.sent += 1;
        self.outstanding.push_back(start);
        let mut record = vec![0; self.size];
        fill(self.sent, &mut record);
        self.unwritten.extend(record);
    }

    /// Takes bytes that came back.
    fn pull(
        &mut self,
        bytes: &[u8],
        now: Instant,
        on_round: &mut impl FnMut(Round),
    ) -> Result<(), RoundsError> {
        self.partial.extend_from_slice(bytes);
        let mut expected = vec![0; self.size];
        let whole = self.partial.len() / self.size * self.size;
        for record in self.partial[..whole].chunks_exact(self.size) {
            let number = self.answered + 1;
            fill(number, &mut expected);
            let Some(due) = self.outstanding.pop_front().filter(|_| record == expected) else {
                return Err(RoundsError::Mismatch { number });
            };
            self.answered = number;
            on_round(Round {
                number,
                time: now.saturating_duration_since(due),
            });
        }
        self.partial.drain(..whole);
        Ok(())
    }
}

impl Schedule {
    /// When record `index` (from 0) is due. None when there is no such record.
    fn due(&self, index: u64) -> Option<Instant> {
        if self.count.is_some_and(|count| index >= count) {
            return None;
        }
        let nanos = self.every.as_nanos().saturating_mul(u128::from(index));
        let offset = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.first.checked_add(offset)
    }

    fn end(&self) -> Instant {
        let last = self
            .count
            .and_then(|count| self.due(count.saturating_sub(1)));
        last.unwrap_or(self.first) + self.drain
    }
}

/// Returns what it reads until the stream ends, without judging it.
pub(super) async fn echo_bytes<R, W>(mut reader: R, mut writer: W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = reader.read(&mut piece).await?;
        if read == 0 {
            return writer.shutdown().await;
        }
        writer.write_all(&piece[..read]).await?;
        writer.flush().await?;
    }
}

/// Closes a stream politely, but not for long: what it carried is known already.
pub(super) async fn close<W: AsyncWrite + Unpin>(mut writer: W) {
    let _ = timeout_at(Instant::now() + SHORT, writer.shutdown()).await;
}

/// A record's content: its number, then bytes that differ between records and positions.
fn fill(number: u64, record: &mut [u8]) {
    let mut state = number;
    for (index, chunk) in record.chunks_mut(8).enumerate() {
        if index > 0 {
            // An odd multiplier and a shift: any flipped or moved byte shows.
            state = state
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(0x2545_f491);
            state ^= state >> 29;
        }
        let bytes = state.to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

const SHORT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(count: u64) -> Schedule {
        Schedule {
            first: Instant::now(),
            every: Duration::from_millis(10),
            count: Some(count),
            drain: Duration::from_millis(500),
            from: From::Due,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_record_comes_back() {
        let (near, far) = tokio::io::duplex(4096);
        let (reader, writer) = tokio::io::split(far);
        let echo = tokio::spawn(echo_bytes(reader, writer));
        let mut rounds = Rounds::new(100);
        let mut seen = Vec::new();
        let (reader, writer) = tokio::io::split(near);
        rounds
            .drive(reader, writer, schedule(20), |round| {
                seen.push(round.number)
            })
            .await
            .unwrap();
        assert_eq!(seen, (1..=20).collect::<Vec<_>>());
        assert_eq!((rounds.sent(), rounds.answered()), (20, 20));
        echo.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_leaves_ages() {
        let (near, _far) = tokio::io::duplex(10);
        let mut rounds = Rounds::new(8);
        let (reader, writer) = tokio::io::split(near);
        let schedule = schedule(3);
        rounds
            .drive(reader, writer, schedule, |_| panic!("nobody answers"))
            .await
            .unwrap();
        let ages: Vec<_> = rounds
            .ages(Instant::now())
            .map(|age| age.as_millis())
            .collect();
        // The last was due at 20 ms and is waited for 500 ms; timers tick in milliseconds.
        assert_eq!(ages.len(), 3);
        assert!(ages[0] >= 520 && ages[0] <= 522, "{ages:?}");
        assert_eq!(ages[0] - ages[2], 20);
    }

    #[test]
    fn a_changed_byte_is_found() {
        let mut rounds = Rounds::new(64);
        rounds.push(Instant::now());
        rounds.push(Instant::now());
        let mut bytes: Vec<u8> = rounds.unwritten.iter().copied().collect();
        bytes[127] ^= 1;
        let mut seen = 0;
        let result = rounds.pull(&bytes, Instant::now(), &mut |_| seen += 1);
        assert!(matches!(result, Err(RoundsError::Mismatch { number: 2 })));
        assert_eq!(seen, 1);
    }

    #[test]
    fn more_than_was_sent_is_a_mismatch() {
        let mut rounds = Rounds::new(8);
        let mut record = [0; 8];
        fill(1, &mut record);
        let result = rounds.pull(&record, Instant::now(), &mut |_| {});
        assert!(matches!(result, Err(RoundsError::Mismatch { number: 1 })));
    }
}
