//! What is sent, and checking every byte of it.
//!
//! A bulk stream is blocks of 46 times 1376 bytes: as many segments as fit into one GSO train. The content repeats
//! after 61 segments, so that it stays in the cache and moving or losing segments shows. The first byte of a block
//! says whether it is the last one: the stream ends where the sender likes, and the receiver knows.

use crate::measure::cpu_seconds;

/// Payload of a segment at mtu 1400.
pub(crate) const SEGMENT: usize = 1376;
/// Bytes of a block, and of one write.
pub(crate) const BLOCK: usize = SEGMENT * 46;

/// Segments until the content repeats: no window is a multiple of it.
const PERIOD: usize = SEGMENT * 61;
/// First byte of a block that is not the last.
const GOES_ON: u8 = 0;
/// First byte of the last block.
const ENDS: u8 = 1;

/// The content of all streams.
#[derive(Debug)]
pub(crate) struct Content {
    /// A period and a block, so that a block is one slice wherever it begins.
    bytes: Vec<u8>,
}

impl Content {
    pub(crate) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|at| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let random = (state >> 56) as u8;
                if at % SEGMENT == 0 { GOES_ON } else { random }
            })
            .collect();
        bytes.extend_from_within(..BLOCK);
        Self { bytes }
    }

    /// The block with this index, not the last.
    pub(crate) fn block(&self, index: u64) -> &[u8] {
        let start = block_start(index);
        &self.bytes[start..start + BLOCK]
    }

    /// The block with this index as the last one.
    pub(crate) fn last_block(&self, index: u64) -> Vec<u8> {
        let mut block = self.block(index).to_vec();
        block[0] = ENDS;
        block
    }

    /// A message of `len` bytes, at most a segment, that differs from its neighbours.
    pub(crate) fn message(&self, index: u64, len: usize) -> &[u8] {
        let start = (index % 61) as usize * SEGMENT;
        &self.bytes[start..start + len]
    }
}

/// Where a block begins in the period.
fn block_start(index: u64) -> usize {
    ((index % 61) as usize * BLOCK) % PERIOD
}

/// Checks a bulk stream as it arrives.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    content: &'a Content,
    /// The block under way, and how much of it has arrived.
    block: u64,
    at: usize,
    is_last: bool,
}

/// A byte was wrong, or came after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Which piece of which block.
    pub(crate) block: u64,
    pub(crate) at: usize,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(content: &'a Content) -> Self {
        Self {
            content,
            block: 0,
            at: 0,
            is_last: false,
        }
    }

    /// Checks the next bytes; whether they were the last.
    ///
    /// # Errors
    /// Where they differ.
    pub(crate) fn check(&mut self, mut bytes: &[u8]) -> Result<bool, Mismatch> {
        let mut finished = false;
        while let Some(&first) = bytes.first() {
            let mismatch = Mismatch {
                block: self.block,
                at: self.at,
            };
            if finished {
                return Err(mismatch);
            }
            if self.at == 0 {
                if first > ENDS {
                    return Err(mismatch);
                }
                self.is_last = first == ENDS;
                self.at = 1;
                bytes = &bytes[1..];
            }
            let len = bytes.len().min(BLOCK - self.at);
            let (piece, rest) = bytes.split_at(len);
            if piece != &self.content.block(self.block)[self.at..][..len] {
                return Err(mismatch);
            }
            bytes = rest;
            self.at += len;
            if self.at == BLOCK {
                self.at = 0;
                self.block += 1;
                finished = self.is_last;
            }
        }
        Ok(finished)
    }
}

/// CPU seconds for checking a GiB as it arrives in reads of 64 KiB.
pub(crate) fn check_cost() -> f64 {
    let content = Content::new();
    let stream: Vec<u8> = (0..61).flat_map(|i| content.block(i).to_vec()).collect();
    let mut checker = Checker::new(&content);
    let before = cpu_seconds();
    let mut bytes = 0;
    while bytes < 1 << 30 {
        for piece in stream.chunks(64 << 10) {
            assert_eq!(checker.check(piece), Ok(false));
            bytes += piece.len();
        }
    }
    (cpu_seconds() - before) * (1 << 30) as f64 / bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(content: &Content, blocks: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..blocks)
            .flat_map(|i| content.block(i).to_vec())
            .collect();
        bytes.extend(content.last_block(blocks));
        bytes
    }

    #[test]
    fn a_stream_in_pieces_of_any_size_is_accepted_once_and_whole() {
        let content = Content::new();
        let bytes = stream(&content, 70);
        for size in [1, 1375, SEGMENT, 40_000, BLOCK, bytes.len()] {
            let mut checker = Checker::new(&content);
            let ends: Vec<_> = bytes
                .chunks(size)
                .map(|piece| checker.check(piece))
                .collect();
            let (last, before) = ends.split_last().expect("pieces");
            assert_eq!(*last, Ok(true));
            assert!(before.iter().all(|end| *end == Ok(false)));
        }
    }

    #[test]
    fn a_changed_lost_or_moved_segment_is_found() {
        let content = Content::new();
        let good = stream(&content, 70);
        let mut changed = good.clone();
        changed[100_000] ^= 1;
        let mut lost = good.clone();
        lost.drain(SEGMENT * 5..SEGMENT * 6);
        let mut moved = good.clone();
        let (a, b) = moved.split_at_mut(SEGMENT * 8);
        a[..SEGMENT].swap_with_slice(&mut b[..SEGMENT]);
        let mut more = good.clone();
        more.push(0);
        for bad in [changed, lost, moved, more] {
            assert!(Checker::new(&content).check(&bad).is_err());
        }
    }
}
