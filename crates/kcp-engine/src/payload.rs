//! Payload bytes that wait: to be sent and acknowledged, or for what comes before them.
//!
//! Slots are appended to pooled blocks, so that the segments of a train lie side by side. A block goes
//! back to the pool when its last slot is released.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::buffer::{BufferPool, POOL_CLASS_BYTES};

/// Where a slot begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PayloadRef {
    block: u32,
    offset: u32,
}

impl PayloadRef {
    /// The slot of a segment without payload.
    pub(crate) const NONE: Self = Self {
        block: u32::MAX,
        offset: u32::MAX,
    };

    /// The same slot without its first `bytes`.
    pub(crate) const fn skip(self, bytes: usize) -> Self {
        Self {
            block: self.block,
            offset: self.offset + bytes as u32,
        }
    }
}

#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    live: u32,
}

/// Blocks, oldest first.
///
/// Invariant: every block but the last has a live slot or an empty `bytes`; the first one is live.
#[derive(Debug)]
pub(crate) struct PayloadStore {
    blocks: VecDeque<Block>,
    /// Number of the first block; numbers wrap.
    first: u32,
    /// Payload bytes of live slots.
    live_bytes: usize,
    /// Memory of all blocks: one is held until its last slot is released.
    block_bytes: usize,
    pool: Arc<BufferPool>,
}

impl PayloadStore {
    pub(crate) const fn new(pool: Arc<BufferPool>) -> Self {
        Self {
            blocks: VecDeque::new(),
            first: 0,
            live_bytes: 0,
            block_bytes: 0,
            pool,
        }
    }

    /// Payload bytes held.
    pub(crate) const fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Memory that the blocks take.
    pub(crate) const fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Copies `payload` into a new slot. `more` is how many bytes the same write will still bring:
    /// a hint for the size of a new block.
    pub(crate) fn insert(&mut self, payload: &[u8], more: usize) -> PayloadRef {
        if !self.has_room(payload.len()) {
            // A sender with a backlog gets large blocks, a sender of single messages small ones.
            let want = (payload.len() + more).max(self.live_bytes);
            let size = want.min(POOL_CLASS_BYTES[3]).max(payload.len());
            self.add_block(self.pool.take(size));
        }
        self.append(payload)
    }

    /// The same with blocks that take no more than twice what is in them.
    pub(crate) fn insert_sparing(&mut self, payload: &[u8]) -> PayloadRef {
        if !self.has_room(payload.len()) {
            let size = self.sparing_size(payload.len());
            self.add_block(self.pool.take_exactly(size));
        }
        self.append(payload)
    }

    fn sparing_size(&self, len: usize) -> usize {
        self.live_bytes.min(POOL_CLASS_BYTES[2]).max(len)
    }

    /// Memory of the blocks after an insertion of `len` bytes.
    pub(crate) fn block_bytes_with(&self, len: usize, sparing: bool) -> usize {
        if len == 0 || self.has_room(len) {
            return self.block_bytes;
        }
        let size = match sparing {
            true => self.sparing_size(len),
            false => BufferPool::size_of(self.live_bytes.min(POOL_CLASS_BYTES[3]).max(len)),
        };
        self.block_bytes + size
    }

    fn add_block(&mut self, bytes: Vec<u8>) {
        self.block_bytes += bytes.capacity();
        self.blocks.push_back(Block { bytes, live: 0 });
    }

    fn has_room(&self, len: usize) -> bool {
        self.blocks.back().is_some_and(|block| room(block) >= len)
    }

    /// Into the last block, which has room.
    fn append(&mut self, payload: &[u8]) -> PayloadRef {
        let block = self.first.wrapping_add(self.blocks.len() as u32 - 1);
        self.live_bytes += payload.len();
        let last = self
            .blocks
            .back_mut()
            .expect("a block with room was just made sure of");
        let offset = last.bytes.len() as u32;
        last.bytes.extend_from_slice(payload);
        last.live += 1;
        PayloadRef { block, offset }
    }

    /// Copies the front of an existing slot into one of its own; the bytes are not counted again.
    pub(crate) fn insert_from_front(&mut self, payload: &[u8]) -> PayloadRef {
        let at = self.insert(payload, 0);
        self.live_bytes -= payload.len();
        at
    }

    /// Appends to the slot `at`, which holds `len` bytes and was the last one inserted. It may move.
    pub(crate) fn extend(&mut self, at: PayloadRef, len: usize, bytes: &[u8]) -> PayloadRef {
        let end = at.offset as usize + len;
        let in_place = at.block == self.first.wrapping_add(self.blocks.len() as u32 - 1)
            && self
                .blocks
                .back()
                .is_some_and(|block| block.bytes.len() == end && room(block) >= bytes.len());
        if in_place {
            self.live_bytes += bytes.len();
            self.blocks
                .back_mut()
                .expect("looked at just now")
                .bytes
                .extend_from_slice(bytes);
            return at;
        }
        let mut whole = self.pool.take(len + bytes.len());
        whole.extend_from_slice(self.payload(at, len));
        whole.extend_from_slice(bytes);
        // Leave room for the segment to fill up further.
        let moved = self.insert(&whole, POOL_CLASS_BYTES[2]);
        self.pool.give(whole);
        self.release(at, len);
        moved
    }

    /// The payload of a slot.
    pub(crate) fn payload(&self, at: PayloadRef, len: usize) -> &[u8] {
        if at == PayloadRef::NONE {
            return &[];
        }
        let start = at.offset as usize;
        &self.blocks[self.position(at)].bytes[start..start + len]
    }

    /// Lets go of a slot of `len` bytes.
    pub(crate) fn release(&mut self, at: PayloadRef, len: usize) {
        if at == PayloadRef::NONE {
            return;
        }
        self.live_bytes -= len;
        let position = self.position(at);
        let block = &mut self.blocks[position];
        block.live -= 1;
        if block.live == 0 {
            self.block_bytes -= block.bytes.capacity();
            self.pool.give(core::mem::take(&mut block.bytes));
            while self.blocks.front().is_some_and(|block| block.live == 0) {
                self.blocks.pop_front();
                self.first = self.first.wrapping_add(1);
            }
        }
    }

    /// Lets go of all slots.
    pub(crate) fn clear(&mut self) {
        for block in self.blocks.drain(..) {
            self.pool.give(block.bytes);
        }
        self.live_bytes = 0;
        self.block_bytes = 0;
    }

    fn position(&self, at: PayloadRef) -> usize {
        at.block.wrapping_sub(self.first) as usize
    }
}

impl Drop for PayloadStore {
    /// Gives all blocks back to the pool.
    fn drop(&mut self) {
        self.clear();
    }
}

fn room(block: &Block) -> usize {
    if block.live == 0 && block.bytes.capacity() == 0 {
        return 0;
    }
    block.bytes.capacity() - block.bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (PayloadStore, Arc<BufferPool>) {
        let pool = Arc::new(BufferPool::new());
        (PayloadStore::new(Arc::clone(&pool)), pool)
    }

    #[test]
    fn full_segments_lie_side_by_side() {
        let (mut store, _pool) = store();
        let refs: Vec<_> = (0..46)
            .map(|i| store.insert(&[i; 1_376], (45 - i as usize) * 1_376))
            .collect();
        for (i, pair) in refs.windows(2).enumerate() {
            assert_eq!(pair[0].block, pair[1].block, "slot {i}");
            assert_eq!(pair[1].offset - pair[0].offset, 1_376);
        }
        assert_eq!(store.payload(refs[7], 1_376), [7; 1_376]);
    }

    #[test]
    fn blocks_return_when_their_last_slot_goes() {
        let (mut store, pool) = store();
        let first = store.insert(b"a", 0);
        let second = store.insert(&[0; 1_300], 0);
        let third = store.insert(&[1; 1_300], 0);
        assert_eq!(store.live_bytes(), 2_601);
        store.release(second, 1_300);
        store.release(first, 1);
        store.release(third, 1_300);
        assert_eq!((store.live_bytes(), store.blocks.len()), (0, 0));
        let stats = pool.stats();
        assert_eq!(
            stats.idle.iter().sum::<usize>(),
            stats.allocated.iter().sum::<usize>()
        );
    }

    #[test]
    fn extending_keeps_the_bytes_even_when_it_moves() {
        let (mut store, pool) = store();
        let mut at = store.insert(b"0", 0);
        let mut expected = alloc::vec![b'0'];
        for round in 0..60_u8 {
            at = store.extend(at, expected.len(), &[round; 22]);
            expected.extend_from_slice(&[round; 22]);
            assert_eq!(store.payload(at, expected.len()), expected);
        }
        let other = store.insert(b"x", 0);
        at = store.extend(at, expected.len(), b"y");
        expected.push(b'y');
        assert_eq!(store.payload(at, expected.len()), expected);
        store.release(at, expected.len());
        store.release(other, 1);
        let stats = pool.stats();
        assert_eq!(
            stats.idle.iter().sum::<usize>(),
            stats.allocated.iter().sum::<usize>()
        );
    }

    #[test]
    fn a_slot_can_lose_its_front() {
        let (mut store, _pool) = store();
        let at = store.insert(b"hello world", 0);
        let rest = at.skip(6);
        assert_eq!(store.payload(rest, 5), b"world");
    }
}
