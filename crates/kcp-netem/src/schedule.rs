//! What is under way, ordered by arrival.

use std::{cmp::Ordering, collections::BinaryHeap};

use crate::time::Time;

/// A queue by time; first in, first out among equals.
pub(crate) struct Schedule<T> {
    heap: BinaryHeap<Entry<T>>,
    next_order: u64,
}

impl<T> Schedule<T> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next_order: 0,
        }
    }

    pub(crate) fn push(&mut self, at: Time, item: T) {
        let order = self.next_order;
        self.next_order += 1;
        self.heap.push(Entry { at, order, item });
    }

    /// The first item whose time has come, with that time.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<(Time, T)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.item))
    }

    /// When the first item is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

struct Entry<T> {
    at: Time,
    order: u64,
    item: T,
}

/// Reversed, because `BinaryHeap` gives the greatest first.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}
