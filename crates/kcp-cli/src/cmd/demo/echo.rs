//! The echo phase: small messages on schedule, as a game or a voice call sends them.

use std::time::Duration;

use tokio::time::{Instant, interval};

use super::stage::Stage;
use crate::cmd::rounds::{self, From, Rounds, RoundsError, Schedule};
use crate::error::{Failure, Kind};
use crate::latency::{Latencies, Summary};

/// What the echo phase found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo {
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// Round trips, unanswered messages included with their age at the end.
    pub(super) times: Option<Summary>,
    /// An answer was not what had been sent.
    pub(super) intact: bool,
    /// What the preset carried, in messages a second, where more was offered.
    pub(super) overloaded: Option<f64>,
}

/// The load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) per_second: u32,
    pub(super) size: usize,
    pub(super) phase: Duration,
    /// How long the last messages may take to be answered.
    pub(super) grace: Duration,
}

/// Sends the load and measures. `progress` is called several times a second with the time, the
/// messages sent and the messages answered.
pub(super) async fn run(
    stage: &Stage,
    load: Load,
    mut progress: impl FnMut(Duration, u64),
) -> Result<Echo, Failure> {
    let mut stream = stage.connect().await?;
    let started = Instant::now();
    let count = (f64::from(load.per_second) * load.phase.as_secs_f64()).ceil() as u64;
    let schedule = Schedule {
        first: started,
        every: Duration::from_secs(1) / load.per_second,
        count: Some(count.max(1)),
        drain: load.grace,
        from: From::Due,
    };
    let mut rounds = Rounds::new(load.size);
    let mut latencies = Latencies::new();
    let answered = std::cell::Cell::new(0);
    let end = {
        let (reader, writer) = stream.split();
        let measuring = rounds.drive(reader, writer, schedule, |round| {
            latencies.record(round.time);
            answered.set(round.number);
        });
        let answering = answer(stage);
        tokio::pin!(measuring, answering);
        let mut tick = interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                end = &mut measuring => break end,
                error = &mut answering => break Err(RoundsError::Io(error)),
                _ = tick.tick() => progress(started.elapsed(), answered.get()),
            }
        }
    };
    let now = Instant::now();
    stream.abort();
    let intact = match end {
        Ok(()) => true,
        Err(RoundsError::Mismatch { .. }) => false,
        Err(RoundsError::Io(error)) => return Err(broken(&error)),
        Err(RoundsError::Eof) => return Err(broken(&std::io::ErrorKind::UnexpectedEof.into())),
    };
    rounds.ages(now).for_each(|age| latencies.record(age));
    let (sent, answered) = (rounds.sent(), rounds.answered());
    Ok(Echo {
        sent,
        answered,
        times: latencies.summary(),
        intact,
        overloaded: overloaded(sent, answered)
            .then(|| answered as f64 / (now - started).as_secs_f64()),
    })
}

/// The server: returns what it gets, for as long as it is polled.
async fn answer(stage: &Stage) -> std::io::Error {
    let (mut stream, _) = match stage.listener.accept().await {
        Ok(accepted) => accepted,
        Err(error) => return error.into(),
    };
    let (reader, writer) = stream.split();
    match rounds::echo_bytes(reader, writer).await {
        Ok(()) => std::io::ErrorKind::UnexpectedEof.into(),
        Err(error) => error,
    }
}

/// Every answer had several round trips of time: who misses more than one in twenty has a queue
/// that does not drain.
const fn overloaded(sent: u64, answered: u64) -> bool {
    (sent - answered) * 20 > sent
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(Kind::Lost, format!("the echo stream broke: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_does_not_drain_is_told_from_a_few_late_answers() {
        assert!(!overloaded(300, 300));
        assert!(!overloaded(300, 285));
        assert!(overloaded(300, 284));
        assert!(overloaded(1, 0));
    }
}
