//! Reusable byte buffers in four size classes, shared without a lock.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

/// Largest buffer of each class, in bytes: SMALL, MEDIUM, LARGE, JUMBO.
pub const POOL_CLASS_BYTES: [usize; 4] = [1_024, 1_400, 8_192, 65_536];

/// How many idle buffers of each class a default pool keeps.
pub const POOL_CLASS_IDLE: [usize; 4] = [4_000, 2_000, 1_000, 200];

/// A bounded, lock-free store of idle buffers.
///
/// [`take`](Self::take) hands out an empty `Vec` of at least the asked capacity, reused if one of
/// its class is idle and allocated otherwise; [`give`](Self::give) takes it back, or frees it when
/// its class is full. Buffers are plain `Vec`s: one that is never given back is only memory that
/// the pool does not reuse.
///
/// It starts empty and never holds more than its limits: 23 MB with the default ones, if all
/// classes are full.
pub struct BufferPool {
    classes: [Class; 4],
}

struct Class {
    /// `None`: this class keeps no idle buffers (a limit of 0).
    idle: Option<ArrayQueue<Vec<u8>>>,
    reused: AtomicUsize,
    allocated: AtomicUsize,
    freed: AtomicUsize,
}

/// What a [`BufferPool`] has done, per class (SMALL, MEDIUM, LARGE, JUMBO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Buffers handed out again.
    pub reused: [usize; 4],
    /// Buffers newly allocated because none was idle.
    pub allocated: [usize; 4],
    /// Buffers freed because the class was full, or that were of no class.
    pub freed: [usize; 4],
    /// Buffers idle now.
    pub idle: [usize; 4],
}

impl BufferPool {
    /// A pool with the default limits, [`POOL_CLASS_IDLE`].
    pub fn new() -> Self {
        Self::with_limits(POOL_CLASS_IDLE)
    }

    /// A pool that keeps at most this many idle buffers of each class.
    pub fn with_limits(idle: [usize; 4]) -> Self {
        Self {
            classes: idle.map(|limit| Class {
                idle: (limit > 0).then(|| ArrayQueue::new(limit)),
                reused: AtomicUsize::new(0),
                allocated: AtomicUsize::new(0),
                freed: AtomicUsize::new(0),
            }),
        }
    }

    /// An empty buffer with room for at least `len` bytes.
    ///
    /// Above 65536 bytes it is a plain allocation that the pool will not take back.
    pub fn take(&self, len: usize) -> Vec<u8> {
        let Some(index) = POOL_CLASS_BYTES.iter().position(|&bytes| len <= bytes) else {
            return Vec::with_capacity(len);
        };
        let class = &self.classes[index];
        if let Some(buffer) = class.idle.as_ref().and_then(ArrayQueue::pop) {
            class.reused.fetch_add(1, Ordering::Relaxed);
            return buffer;
        }
        class.allocated.fetch_add(1, Ordering::Relaxed);
        Vec::with_capacity(POOL_CLASS_BYTES[index])
    }

    /// Capacity of what [`take`](Self::take) hands out.
    pub(crate) fn size_of(len: usize) -> usize {
        let class = POOL_CLASS_BYTES.iter().find(|&&bytes| len <= bytes);
        class.copied().unwrap_or(len)
    }

    /// An empty buffer with room for `len` bytes and no more: one of the pool's only if it has just
    /// that size.
    pub(crate) fn take_exactly(&self, len: usize) -> Vec<u8> {
        match POOL_CLASS_BYTES.contains(&len) {
            true => self.take(len),
            false => Vec::with_capacity(len),
        }
    }

    /// Takes a buffer back, if it is of a class; any other is freed. Its contents are forgotten.
    pub fn give(&self, mut buffer: Vec<u8>) {
        // Only what `take` may have handed out: buffers of other origin would pile up here.
        let capacity = buffer.capacity();
        let Some(index) = POOL_CLASS_BYTES.iter().position(|&bytes| bytes == capacity) else {
            return;
        };
        buffer.clear();
        let class = &self.classes[index];
        let refused = match &class.idle {
            Some(idle) => idle.push(buffer).is_err(),
            None => true,
        };
        if refused {
            class.freed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counters. Each is exact; together they may be from slightly different moments.
    pub fn stats(&self) -> PoolStats {
        let each = |f: fn(&Class) -> usize| {
            let [a, b, c, d] = &self.classes;
            [f(a), f(b), f(c), f(d)]
        };
        PoolStats {
            reused: each(|class| class.reused.load(Ordering::Relaxed)),
            allocated: each(|class| class.allocated.load(Ordering::Relaxed)),
            freed: each(|class| class.freed.load(Ordering::Relaxed)),
            idle: each(|class| class.idle.as_ref().map_or(0, ArrayQueue::len)),
        }
    }
}

impl Default for BufferPool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("stats", &self.stats())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_is_chosen_by_size() {
        let pool = BufferPool::new();
        for (len, capacity) in [
            (0, 1_024),
            (1_024, 1_024),
            (1_025, 1_400),
            (1_401, 8_192),
            (65_536, 65_536),
        ] {
            assert_eq!(pool.take(len).capacity(), capacity);
        }
        assert_eq!(pool.take(70_000).capacity(), 70_000);
        assert_eq!(pool.stats().allocated, [2, 1, 1, 1]);
    }

    #[test]
    fn a_given_buffer_comes_back_empty() {
        let pool = BufferPool::new();
        let mut buffer = pool.take(10);
        buffer.extend_from_slice(b"secret");
        pool.give(buffer);
        assert_eq!(pool.stats().idle, [1, 0, 0, 0]);
        assert!(pool.take(10).is_empty());
        assert_eq!(pool.stats().reused, [1, 0, 0, 0]);
    }

    #[test]
    fn a_full_class_frees_and_counts() {
        let pool = BufferPool::with_limits([1, 0, 0, 0]);
        pool.give(Vec::with_capacity(1_024));
        pool.give(Vec::with_capacity(1_024));
        pool.give(Vec::with_capacity(8_192));
        pool.give(Vec::with_capacity(10));
        let stats = pool.stats();
        assert_eq!((stats.idle, stats.freed), ([1, 0, 0, 0], [1, 0, 1, 0]));
    }
}
