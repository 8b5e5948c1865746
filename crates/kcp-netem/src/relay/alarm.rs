//! A timer finer than tokio's.
//!
//! tokio's timers count whole milliseconds. A thread that waits on a condition variable wakes within the kernel's
//! timer slack, some 50 us on Linux, and costs nothing while it waits.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::Notify;

/// Notifies once after each [`set`](Self::set), when its time has come. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Alarm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    deadline: Option<Instant>,
    closed: bool,
}

impl Alarm {
    pub(super) fn new(ring: Arc<Notify>) -> std::io::Result<Self> {
        let state = Mutex::new(State {
            deadline: None,
            closed: false,
        });
        let shared = Arc::new(Shared {
            state,
            changed: Condvar::new(),
        });
        let theirs = shared.clone();
        let thread = thread::Builder::new()
            .name("netem-alarm".into())
            .spawn(move || theirs.run(&ring))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Rings at `deadline`, unless it is to ring earlier anyway.
    pub(super) fn set(&self, deadline: Instant) {
        let mut state = self.shared.lock();
        if state.deadline.is_none_or(|set| deadline < set) {
            state.deadline = Some(deadline);
            drop(state);
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Alarm {
    /// Ends the thread and waits for it; it is never far from looking.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panic would be ours; there is nobody to tell while dropping.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, ring: &Notify) {
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            state = match state.deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) if deadline <= now => {
                    state.deadline = None;
                    drop(state);
                    ring.notify_one();
                    self.lock()
                }
                Some(deadline) => {
                    let waited = self.changed.wait_timeout(state, deadline - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is two plain values: no panic can leave it half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
