//! When each session next wants to be looked at. Pure: no clock, no timer.
//!
//! **Invariant**: at most one deadline per session. `style.md` would have a heap with lazy
//! deletion; but a session that is busy re-arms a near deadline a hundred times a second before a
//! far one (keepalive, idle), and each round would leave one more dead entry in the heap. A
//! B-tree removes what it replaces, and costs about the same at ten thousand entries.

use std::collections::BTreeMap;

use kcp_engine::Instant;

/// A session's place in the order of deadlines, unique within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// Ordered deadlines with the value each belongs to.
#[derive(Debug)]
pub(crate) struct Deadlines<T> {
    entries: BTreeMap<(Instant, SessionId), T>,
}

impl<T> Deadlines<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
        }
    }

    /// Replaces the deadline `old` of `id` by `new`.
    ///
    /// `value` is only called when there is something to store.
    pub(crate) fn rearm(
        &mut self,
        id: SessionId,
        old: Option<Instant>,
        new: Option<Instant>,
        value: impl FnOnce() -> T,
    ) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.entries.remove(&(old, id));
        }
        if let Some(new) = new {
            self.entries.insert((new, id), value());
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Takes the earliest deadline if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        let entry = self.entries.first_entry()?;
        let (at, _) = *entry.key();
        (at <= now).then(|| (at, entry.remove()))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(us: u64) -> Instant {
        Instant::from_micros(us)
    }

    #[test]
    fn fires_in_order_and_not_early() {
        let mut deadlines = Deadlines::new();
        deadlines.rearm(SessionId(1), None, Some(at(30)), || 'a');
        deadlines.rearm(SessionId(2), None, Some(at(10)), || 'b');
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.pop_due(at(9)), None);
        assert_eq!(deadlines.pop_due(at(30)), Some((at(10), 'b')));
        assert_eq!(deadlines.pop_due(at(30)), Some((at(30), 'a')));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn one_entry_per_session_however_often_it_moves() {
        let mut deadlines = Deadlines::new();
        let mut armed = None;
        for us in [50, 5, 50, 7, 100, 1] {
            deadlines.rearm(SessionId(9), armed, Some(at(us)), || ());
            armed = Some(at(us));
            assert_eq!(deadlines.len(), 1);
        }
        deadlines.rearm(SessionId(9), armed, None, || ());
        assert_eq!(deadlines.len(), 0);
    }
}
