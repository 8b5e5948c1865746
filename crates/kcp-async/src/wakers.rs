//! The tasks that wait for something.

use std::task::Waker;

/// Wakers of the tasks that wait for one kind of event. Nearly always none or one, so the first
/// costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    /// Remembers a task, once.
    pub(crate) fn register(&mut self, waker: &Waker) {
        let Some(first) = &self.first else {
            self.first = Some(waker.clone());
            return;
        };
        if !first.will_wake(waker) && !self.more.iter().any(|other| other.will_wake(waker)) {
            self.more.push(waker.clone());
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Moves all of them to a list that is woken after unlocking.
    pub(crate) fn move_to(&mut self, list: &mut WakeList) {
        if let Some(first) = self.first.take() {
            list.0.push(first);
            list.0.append(&mut self.more);
        }
    }
}

/// Tasks to wake once no lock is held.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct WakeList(Vec<Waker>);

impl WakeList {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Wakes them and keeps the room for the next ones.
    pub(crate) fn wake(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}
