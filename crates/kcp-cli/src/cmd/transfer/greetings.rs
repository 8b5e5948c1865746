//! Sessions whose peer is not validated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::task::AbortHandle;

/// How far the greeting of an accepted session is.
#[derive(Debug, Default)]
pub(super) struct Stage(AtomicU8);

/// The sessions in their greeting, at most [`MAX_GREETINGS`].
///
/// A newcomer for which there is no room ends the oldest that has sent no Hello: a peer that is there sends it first.
/// Only where nearly all have, it ends the oldest of them, which has had the most time to answer our Welcome.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    /// Oldest first. What has sent its Hello is moved when it is the oldest here.
    silent: VecDeque<Greeting>,
    welcomed: VecDeque<Greeting>,
}

#[derive(Debug)]
struct Greeting {
    task: AbortHandle,
    stage: Arc<Stage>,
}

impl Stage {
    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// A Hello has come.
    pub(super) fn welcome(&self) {
        self.0.store(WELCOMED, Ordering::Relaxed);
    }

    /// The peer has repeated our nonce.
    pub(super) fn validate(&self) {
        self.0.store(VALIDATED, Ordering::Relaxed);
    }
}

impl Greeting {
    fn is_over(&self) -> bool {
        self.stage.get() == VALIDATED || self.task.is_finished()
    }
}

impl Greetings {
    /// Ends a session if there is no room for one more.
    pub(super) fn make_room(&mut self) {
        while self.silent.len() + self.welcomed.len() >= MAX_GREETINGS {
            if self.welcomed.front().is_some_and(Greeting::is_over) {
                self.welcomed.pop_front();
            } else if self.silent.len() >= LEAST_SILENT
                && let Some(oldest) = self.silent.pop_front()
            {
                match oldest.stage.get() {
                    _ if oldest.is_over() => {}
                    WELCOMED => self.welcomed.push_back(oldest),
                    _ => oldest.task.abort(),
                }
            } else if let Some(oldest) = self.welcomed.pop_front() {
                oldest.task.abort();
            }
        }
    }

    /// Adds the newest.
    pub(super) fn push(&mut self, task: AbortHandle, stage: Arc<Stage>) {
        self.silent.push_back(Greeting { task, stage });
    }
}

/// A stage begins with 0.
const WELCOMED: u8 = 1;
const VALIDATED: u8 = 2;
/// Each may last [`GREETING`](super::greeting::GREETING). A peer that answers within 0.4 s gets in beside 10,000 forged
/// greetings a second, and beside any number of datagrams without one.
const MAX_GREETINGS: usize = 4096;
/// So many keep their place until their first datagram has been read.
const LEAST_SILENT: usize = MAX_GREETINGS / 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Starts a session that never ends by itself.
    fn start(greetings: &mut Greetings) -> Greeting {
        greetings.make_room();
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let stage = Arc::<Stage>::default();
        greetings.push(task.clone(), Arc::clone(&stage));
        Greeting { task, stage }
    }

    /// How many of these are there, once no task has anything left to do.
    async fn alive(sessions: &[Greeting]) -> usize {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let alive = sessions
            .iter()
            .filter(|session| !session.task.is_finished());
        alive.count()
    }

    /// 10,000 first datagrams of a byte a second ended each session whose greeting took longer than 0.4 s.
    #[tokio::test(start_paused = true)]
    async fn newcomers_without_a_hello_end_no_greeting() {
        let mut greetings = Greetings::default();
        let honest: Vec<_> = (0..100).map(|_| start(&mut greetings)).collect();
        honest.iter().for_each(|honest| honest.stage.welcome());
        let silent: Vec<_> = (0..100_000).map(|_| start(&mut greetings)).collect();
        assert_eq!(alive(&honest).await, 100);
        assert_eq!(alive(&silent).await, MAX_GREETINGS - 100);
        assert_eq!(
            alive(&silent[silent.len() - MAX_GREETINGS + 100..]).await,
            MAX_GREETINGS - 100
        );
    }

    /// Sessions of one receive call, before any of them has read its first datagram.
    #[tokio::test(start_paused = true)]
    async fn newcomers_end_no_session_that_has_not_run_yet() {
        let mut greetings = Greetings::default();
        let welcomed: Vec<_> = (0..MAX_GREETINGS).map(|_| start(&mut greetings)).collect();
        welcomed.iter().for_each(|session| session.stage.welcome());
        let newest: Vec<_> = (0..200).map(|_| start(&mut greetings)).collect();
        assert_eq!(alive(&newest).await, 200);
        assert_eq!(alive(&welcomed).await, MAX_GREETINGS - 200);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_greeting_ends_where_all_have_sent_a_hello() {
        let mut greetings = Greetings::default();
        let mut all = Vec::new();
        for _ in 0..MAX_GREETINGS + 100 {
            all.push(start(&mut greetings));
            all[all.len() - 1].stage.welcome();
        }
        assert_eq!(alive(&all[..100]).await, 0);
        assert_eq!(alive(&all).await, MAX_GREETINGS);
        // Those that are validated are no longer counted.
        all.iter().for_each(|session| session.stage.validate());
        let more: Vec<_> = (0..MAX_GREETINGS).map(|_| start(&mut greetings)).collect();
        assert_eq!(alive(&all).await, MAX_GREETINGS);
        assert_eq!(alive(&more).await, MAX_GREETINGS);
    }
}
