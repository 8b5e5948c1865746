//! What one session is to do, known to both of its sides.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::chance::{Chance, mix};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client = 0,
    Server = 1,
}

/// How a session comes to a sudden end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Abort,
    Drop,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    bytes: [u64; 2],
    /// After so many operations of this side.
    dies: Option<(Side, u64, Death)>,
    operations: [AtomicU64; 2],
    killed: watch::Sender<bool>,
}

impl Plan {
    pub(crate) fn new(id: u64) -> Self {
        let mut chance = Chance::new(id);
        let bytes = [chance.size(200_000) as u64, chance.size(200_000) as u64];
        let side = match chance.one_in(2) {
            true => Side::Client,
            false => Side::Server,
        };
        let death = match chance.one_in(2) {
            true => Death::Abort,
            false => Death::Drop,
        };
        let after = chance.size(300) as u64;
        Self {
            id,
            bytes,
            dies: chance.one_in(4).then_some((side, after, death)),
            operations: [AtomicU64::new(0), AtomicU64::new(0)],
            killed: watch::Sender::new(false),
        }
    }

    pub(crate) const fn bytes(&self, side: Side) -> u64 {
        self.bytes[side as usize]
    }

    pub(crate) const fn chance(&self, side: Side, salt: u64) -> Chance {
        Chance::new(mix(self.id ^ (side as u64) << 8 ^ salt))
    }

    /// Whether this side is the one that goes suddenly, and how.
    pub(crate) fn death_of(&self, side: Side) -> Option<Death> {
        let (dying, _, death) = self.dies?;
        (dying == side).then_some(death)
    }

    pub(crate) fn aborts(&self) -> bool {
        matches!(self.dies, Some((_, _, Death::Abort)))
    }

    /// One more operation; where the plan says so, the last one of the session. Never returns then.
    pub(crate) async fn count(&self, side: Side) {
        let before = self.operations[side as usize].fetch_add(1, Ordering::Relaxed);
        if self
            .dies
            .is_some_and(|(dying, after, _)| dying == side && before >= after)
        {
            self.killed.send_replace(true);
            std::future::pending::<()>().await;
        }
    }

    /// Ready once the session has been killed.
    pub(crate) async fn killed(&self) {
        let mut killed = self.killed.subscribe();
        let heard = killed.wait_for(|&killed| killed).await;
        heard.expect("the sender is in the plan");
    }

    /// Something went wrong. If the session was killed it had to, and its tasks are about to be
    /// dropped: never returns then. Otherwise the test fails.
    pub(crate) async fn fail(&self, side: Side, what: &str, error: &(dyn Display + Sync)) -> ! {
        if *self.killed.borrow() {
            std::future::pending::<()>().await;
        }
        panic!("{self:?}: {what} on the {side:?}'s side: {error}");
    }
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The plans of a round, by the id that opens each session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plans(Arc<Mutex<HashMap<u64, Arc<Plan>>>>);

impl Plans {
    pub(crate) fn insert(&self, plan: &Arc<Plan>) {
        let mut plans = self.0.lock().unwrap();
        assert!(plans.insert(plan.id, Arc::clone(plan)).is_none());
    }

    pub(crate) fn take(&self, id: u64) -> Arc<Plan> {
        let taken = self.0.lock().unwrap().remove(&id);
        taken.unwrap_or_else(|| panic!("a session that nobody opened: {id:#x}"))
    }

    /// Whether sessions are still to be accepted. One that its client resets may end before that.
    pub(crate) fn are_owed(&self) -> bool {
        let plans = self.0.lock().unwrap();
        let mut deaths = plans.values().map(|plan| plan.death_of(Side::Client));
        deaths.any(|death| death != Some(Death::Abort))
    }
}
