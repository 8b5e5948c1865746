//! The one lock of this crate: `std`'s, taken with a word that says what for.
//!
//! **Invariant**: held for copies and engine calls only. Never across an `.await` or a system
//! call, never two sessions at once. Order where two are needed: router, then session, then inbox; the
//! TIME-WAIT table after the router, and nothing after it.

use std::fmt;
use std::sync::{MutexGuard, PoisonError};

/// A mutex whose every lock names its purpose.
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// Locks. `purpose` costs nothing today; it is where a report of long holds would hook in.
    ///
    /// A panic while it was held does not spread: every holder leaves the value consistent
    /// between engine calls, and an engine that panicked is our bug, seen in its own task.
    pub(crate) fn lock(&self, _purpose: &'static str) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}
