//! What the application has written and the windows have not yet let out (`docs/protocol.md` 3).

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::buffer::BufferPool;
use crate::payload::{PayloadRef, PayloadStore};

/// A segment without a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) payload: PayloadRef,
    pub(crate) len: u32,
    pub(crate) frg: u8,
    /// Part of a message, as opposed to bytes of a stream.
    pub(crate) message: bool,
    pub(crate) fin: bool,
}

/// Segments in order (C: `snd_queue`), and the bytes of all segments not yet acknowledged.
#[derive(Debug)]
pub(crate) struct SendQueue {
    segments: VecDeque<Queued>,
    pub(crate) store: PayloadStore,
}

impl SendQueue {
    pub(crate) const fn new(pool: Arc<BufferPool>) -> Self {
        Self {
            segments: VecDeque::new(),
            store: PayloadStore::new(pool),
        }
    }

    /// Segments queued (C: `nsnd_que`).
    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn front(&self) -> Option<&Queued> {
        self.segments.front()
    }

    pub(crate) fn pop_front(&mut self) -> Option<Queued> {
        self.segments.pop_front()
    }

    /// Cuts bytes of a stream, or a message.
    #[inline(always)]
    pub(crate) fn push(&mut self, bytes: &[u8], stream: bool, mss: usize) {
        if stream {
            self.push_bytes(bytes, mss);
        } else {
            self.push_message(bytes, mss);
        }
    }

    /// Cuts a message into fragments that count down to 0 (protocol.md 3.1).
    #[inline]
    fn push_message(&mut self, message: &[u8], mss: usize) {
        let count = message.len().div_ceil(mss).max(1);
        let mut rest = message;
        for left in (0..count).rev() {
            let (piece, tail) = rest.split_at(rest.len().min(mss));
            rest = tail;
            let payload = self.store.insert(piece, rest.len());
            self.segments.push_back(Queued {
                payload,
                len: piece.len() as u32,
                // At most 255 fragments are ever asked for.
                frg: left as u8,
                message: true,
                fin: false,
            });
        }
    }

    /// Cuts bytes into segments that stand alone (protocol.md 3.2).
    #[inline]
    pub(crate) fn push_bytes(&mut self, bytes: &[u8], mss: usize) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(rest.len().min(mss));
            rest = tail;
            let payload = self.store.insert(piece, rest.len());
            let len = piece.len() as u32;
            self.segments.push_back(Queued {
                payload,
                len,
                frg: 0,
                message: false,
                fin: false,
            });
        }
    }

    /// Fills the last queued segment up to `mss`; how many bytes it took (protocol.md 3.2).
    pub(crate) fn top_up(&mut self, bytes: &[u8], mss: usize) -> usize {
        let Some(last) = self.segments.back_mut().filter(|last| !last.fin) else {
            return 0;
        };
        let len = last.len as usize;
        let taken = bytes.len().min(mss.saturating_sub(len));
        if taken > 0 {
            last.payload = self.store.extend(last.payload, len, &bytes[..taken]);
            last.len += taken as u32;
        }
        taken
    }

    /// Ends the stream.
    pub(crate) fn push_fin(&mut self) {
        let payload = PayloadRef::NONE;
        self.segments.push_back(Queued {
            payload,
            len: 0,
            frg: 0,
            message: false,
            fin: true,
        });
    }

    /// Takes a FIN back that has no sn yet. `false` if there is none.
    pub(crate) fn pop_fin(&mut self) -> bool {
        self.segments.back().is_some_and(|last| last.fin) && self.segments.pop_back().is_some()
    }

    /// Cuts what is queued again where a segment has more than `mss` bytes (protocol.md 2.3.2): streams, and messages that
    /// then have at most `most_fragments`. The first message keeps its fragments if it has `begun` to be sent.
    #[cold]
    pub(crate) fn recut(&mut self, mss: usize, most_fragments: usize, mut begun: bool) {
        let is_long = |segment: &Queued| segment.len as usize > mss;
        if !self.segments.iter().any(is_long) {
            return;
        }
        let mut bytes = Vec::new();
        let mut together = Vec::new();
        let mut segments = core::mem::take(&mut self.segments).into_iter().peekable();
        while let Some(segment) = segments.next() {
            let is_long = is_long(&segment);
            together.push(segment);
            let goes_on = match together[0].message {
                true => together[together.len() - 1].frg > 0,
                // The rest of a long one leaves with what follows it.
                false => {
                    is_long
                        && segments
                            .peek()
                            .is_some_and(|next| !next.message && !next.fin)
                }
            };
            if goes_on {
                continue;
            }
            let len: usize = together.iter().map(|part| part.len as usize).sum();
            let is_message = together[0].message;
            let keeps = is_message && (begun || len.div_ceil(mss) > most_fragments);
            begun = false;
            if keeps || len == 0 {
                self.segments.extend(together.drain(..));
                continue;
            }
            bytes.clear();
            for part in together.drain(..) {
                let len = part.len as usize;
                bytes.extend_from_slice(self.store.payload(part.payload, len));
                self.store.release(part.payload, len);
            }
            self.push(&bytes, !is_message, mss);
        }
    }

    /// Makes the first segment two, of which the first has `len` bytes.
    ///
    /// A fragment becomes two fragments, so it must be the first of its message.
    pub(crate) fn split_front(&mut self, len: usize) {
        let Some(front) = self.segments.front_mut() else {
            return;
        };
        let whole = front.len as usize;
        debug_assert!(len > 0 && len < whole);
        let mut piece = [0; 128];
        let piece = &mut piece[..len];
        piece.copy_from_slice(&self.store.payload(front.payload, whole)[..len]);
        front.payload = front.payload.skip(len);
        front.len -= len as u32;
        let frg = if front.message { front.frg + 1 } else { 0 };
        let message = front.message;
        let payload = self.store.insert_from_front(piece);
        self.segments.push_front(Queued {
            payload,
            len: len as u32,
            frg,
            message,
            fin: false,
        });
    }
}
