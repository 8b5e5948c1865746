//! What has arrived in order and waits for the application (C: `rcv_queue`): a run of bytes in
//! pooled blocks, and where the segments in it end.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::buffer::{BufferPool, POOL_CLASS_BYTES};

/// The unread part of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boundary {
    len: u32,
    /// How many fragments of the same message follow.
    pub(crate) frg: u8,
}

/// Segments in order, oldest first.
///
/// Invariants: the blocks behind `read` hold exactly the bytes of `segments`; no block is read to
/// its end; a block is followed by another only if it has less room than the other's first payload
/// took, so that all blocks but the first and the last are together at most twice the bytes in them;
/// nothing is kept for an empty queue but the two deques' own memory.
#[derive(Debug)]
pub(crate) struct ReadyQueue {
    blocks: VecDeque<Vec<u8>>,
    /// Bytes of the first block that are gone.
    read: usize,
    segments: VecDeque<Boundary>,
    unread: usize,
    /// Memory of the blocks.
    block_bytes: usize,
    pool: Arc<BufferPool>,
}

impl ReadyQueue {
    pub(crate) const fn new(pool: Arc<BufferPool>) -> Self {
        Self {
            blocks: VecDeque::new(),
            read: 0,
            segments: VecDeque::new(),
            unread: 0,
            block_bytes: 0,
            pool,
        }
    }

    /// Segments (C: `nrcv_que`); one that was read in part counts.
    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) const fn unread(&self) -> usize {
        self.unread
    }

    /// Memory of a message in front of which a part is missing.
    pub(crate) fn blocked_bytes(&self) -> usize {
        match self.segments.front() {
            Some(head) if self.segments.len() <= usize::from(head.frg) => self.block_bytes,
            _ => 0,
        }
    }

    /// Memory of all blocks.
    pub(crate) const fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Memory of all blocks after a [`push`](Self::push) of `len` bytes.
    pub(crate) fn block_bytes_with(&self, len: usize, sparing: bool) -> usize {
        let fits = |last: &Vec<u8>| last.capacity() - last.len() >= len;
        if len == 0 || self.blocks.back().is_some_and(fits) {
            return self.block_bytes;
        }
        let size = Self::block_size(self.unread, len, sparing);
        self.block_bytes
            + if sparing {
                size
            } else {
                BufferPool::size_of(size)
            }
    }

    /// As large as what waits already: a reader that keeps up needs small blocks, a backlog large
    /// ones.
    fn block_size(waits: usize, len: usize, sparing: bool) -> usize {
        let most = POOL_CLASS_BYTES[if sparing { 2 } else { 3 }];
        waits.min(most).max(len)
    }

    /// Bytes of a message in front of which a part is missing.
    pub(crate) fn incomplete_bytes(&self) -> usize {
        match self.segments.front() {
            Some(head) if self.segments.len() <= usize::from(head.frg) => self.unread,
            _ => 0,
        }
    }

    pub(crate) fn front(&self) -> Option<Boundary> {
        self.segments.front().copied()
    }

    /// Copies a segment's payload to the end. `sparing`: take no more memory than twice what is there.
    #[inline]
    pub(crate) fn push(&mut self, payload: &[u8], frg: u8, sparing: bool) {
        self.unread += payload.len();
        // A payload fits a datagram.
        let len = payload.len() as u32;
        self.segments.push_back(Boundary { len, frg });
        if payload.is_empty() {
            return;
        }
        let block = match self.blocks.back_mut() {
            Some(last) if last.capacity() - last.len() >= payload.len() => last,
            _ => self.add_block(payload.len(), sparing),
        };
        block.extend_from_slice(payload);
    }

    #[cold]
    fn add_block(&mut self, len: usize, sparing: bool) -> &mut Vec<u8> {
        let size = Self::block_size(self.unread - len, len, sparing);
        let block = if sparing {
            self.pool.take_exactly(size)
        } else {
            self.pool.take(size)
        };
        self.block_bytes += block.capacity();
        self.blocks.push_back(block);
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    /// Size of the message in front, if all of it is here (protocol.md 4.3): as many segments as its
    /// head says, and then those up to the first without followers, or all there are.
    pub(crate) fn message_size(&self) -> Option<usize> {
        let head = self.segments.front()?;
        if head.frg == 0 {
            return Some(head.len as usize);
        }
        if self.segments.len() <= usize::from(head.frg) {
            return None;
        }
        let mut size = 0;
        for segment in &self.segments {
            size += segment.len as usize;
            if segment.frg == 0 {
                break;
            }
        }
        Some(size)
    }

    /// Copies the first bytes and leaves them.
    #[inline]
    pub(crate) fn copy_front(&self, out: &mut [u8]) {
        // Nearly always one block has all of it.
        let first = self.blocks.front().and_then(|block| block.get(self.read..));
        match first.and_then(|unread| unread.get(..out.len())) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => self.copy_across(out),
        }
    }

    fn copy_across(&self, out: &mut [u8]) {
        let (mut at, mut skip) = (0, self.read);
        for block in &self.blocks {
            if at == out.len() {
                return;
            }
            let bytes = &block[skip..];
            let n = bytes.len().min(out.len() - at);
            out[at..at + n].copy_from_slice(&bytes[..n]);
            at += n;
            skip = 0;
        }
    }

    /// Takes the message in front, whose size is that of `out`.
    pub(crate) fn take_message(&mut self, out: &mut [u8]) {
        self.copy_front(out);
        self.advance(out.len());
        while let Some(segment) = self.segments.pop_front() {
            if segment.frg == 0 {
                break;
            }
        }
    }

    /// Takes bytes across segments: as many as fit and are here. Empty segments on the way go too.
    pub(crate) fn take_bytes(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.unread);
        self.copy_front(&mut out[..n]);
        self.advance(n);
        let mut left = n as u32;
        while let Some(head) = self.segments.front_mut() {
            if head.len > left {
                head.len -= left;
                break;
            }
            if left == 0 && n == out.len() {
                break;
            }
            left -= head.len;
            self.segments.pop_front();
        }
        n
    }

    /// Lets go of the first `n` bytes.
    fn advance(&mut self, n: usize) {
        self.unread -= n;
        self.read += n;
        while self
            .blocks
            .front()
            .is_some_and(|block| block.len() <= self.read)
        {
            if let Some(block) = self.blocks.pop_front() {
                self.read -= block.len();
                self.block_bytes -= block.capacity();
                self.pool.give(block);
            }
        }
    }
}

impl Drop for ReadyQueue {
    /// Gives the blocks back to the pool.
    fn drop(&mut self) {
        for block in self.blocks.drain(..) {
            self.pool.give(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue() -> (ReadyQueue, Arc<BufferPool>) {
        let pool = Arc::new(BufferPool::new());
        (ReadyQueue::new(Arc::clone(&pool)), pool)
    }

    #[test]
    fn a_backlog_shares_blocks_that_return_when_they_are_read() {
        let (mut ready, pool) = queue();
        for n in 0..200 {
            ready.push(&[n; 1_376], 0, false);
        }
        assert!(ready.blocks.len() < 10);
        let mut out = [0; 1_376];
        for n in 0..200 {
            assert_eq!(ready.message_size(), Some(1_376));
            ready.take_message(&mut out);
            assert_eq!(out, [n; 1_376]);
        }
        assert_eq!((ready.len(), ready.unread(), ready.blocks.len()), (0, 0, 0));
        let stats = pool.stats();
        assert_eq!(
            stats.idle.iter().sum::<usize>(),
            stats.allocated.iter().sum::<usize>()
        );
    }

    /// A block is as large as the backlog, so one that is left with a byte in it costs 64 KiB.
    #[test]
    fn no_block_is_left_while_the_next_payload_fits_into_it() {
        let (mut ready, _pool) = queue();
        for _ in 0..4_000 {
            ready.push(&[1], 0, false);
            ready.push(&[2; 1_400], 0, false);
        }
        let held: usize = ready.blocks.iter().map(Vec::capacity).sum();
        assert!(
            held <= 2 * ready.unread() + 2 * POOL_CLASS_BYTES[3],
            "{held}"
        );
    }

    #[test]
    fn a_message_is_whole_with_its_last_fragment() {
        let (mut ready, _pool) = queue();
        ready.push(b"ab", 1, false);
        assert_eq!(ready.message_size(), None);
        ready.push(b"c", 0, false);
        ready.push(b"next", 0, false);
        assert_eq!(ready.message_size(), Some(3));
        let mut out = [0; 1];
        assert_eq!(ready.take_bytes(&mut out), 1);
        assert_eq!(ready.message_size(), Some(2));
        let mut rest = [0; 2];
        ready.take_message(&mut rest);
        assert_eq!((&rest, ready.len()), (b"bc", 1));
    }

    proptest! {
        /// Whatever the pieces, the bytes come out as they went in.
        #[test]
        fn bytes_keep_their_order(
            pieces in prop::collection::vec((0_usize..3_000, any::<bool>()), 1..60),
            reads in prop::collection::vec(1_usize..9_000, 1..60),
        ) {
            let (mut ready, _pool) = queue();
            let (mut sent, mut got) = (0_u8, 0_u8);
            let mut reads = reads.into_iter().cycle();
            for (len, sparing) in pieces {
                let payload: Vec<u8> = (0..len).map(|_| { sent = sent.wrapping_add(1); sent }).collect();
                ready.push(&payload, 0, sparing);
                let mut out = alloc::vec![0; reads.next().unwrap_or(1)];
                let n = ready.take_bytes(&mut out);
                for &byte in &out[..n] {
                    got = got.wrapping_add(1);
                    prop_assert_eq!(byte, got);
                }
                let left: usize = ready.segments.iter().map(|segment| segment.len as usize).sum();
                prop_assert_eq!(left, ready.unread());
                let held: usize = ready.blocks.iter().map(Vec::len).sum();
                prop_assert_eq!(held - ready.read, ready.unread());
            }
        }
    }
}
