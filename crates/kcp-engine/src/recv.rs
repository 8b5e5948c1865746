//! The receiving half: reordering, fragments, and the window that is advertised
//! (`docs/protocol.md` 4).

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::buffer::{BufferPool, POOL_CLASS_BYTES};
use crate::config::IKCP_WND_RCV;
use crate::error::RecvError;
use crate::ready::ReadyQueue;
use crate::seq::Sn;

/// One segment that arrived out of order.
#[derive(Debug)]
struct Arrived {
    bytes: Vec<u8>,
    frg: u8,
    /// The end of the stream instead of data.
    fin: bool,
}

/// What became of an incoming PUSH or FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Kept.
    New,
    /// It was here before.
    Duplicate,
    /// More bytes than this session may hold; the peer will send it again.
    NoRoom,
}

/// Segments that arrived out of order, and those ready for the application.
///
/// Invariants: `reorder` holds only sns in `next..next + its length`; `ready` is a run of segments
/// in order that ends just before `next`; once `finished`, nothing enters either.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// The sn expected next (C: `rcv_nxt`).
    next: Sn,
    /// Receive window in segments (C: `rcv_wnd`).
    window: u32,
    /// Ring indexed by sn, a power of two long (C: `rcv_buf`).
    reorder: Vec<Option<Arrived>>,
    reordered: usize,
    ready: ReadyQueue,
    /// Payload in `reorder`, and the memory that it takes.
    reordered_bytes: usize,
    reordered_capacity: usize,
    /// Most bytes held before segments out of order are refused; in order, twice that. Memory out of
    /// order counts whole, because it may be mostly empty; ready blocks are full but for two.
    limit_bytes: usize,
    /// The peer has not proven itself: it gets no more memory than it sends.
    is_stranger: bool,
    /// The peer's FIN has been reached.
    finished: bool,
    pool: Arc<BufferPool>,
}

/// Slots of the first allocation of the reorder ring.
const FIRST_SLOTS: usize = 8;

impl Receiver {
    pub(crate) fn new(first: Sn, window: u32, limit_bytes: usize, pool: Arc<BufferPool>) -> Self {
        Self {
            next: first,
            window,
            reorder: Vec::new(),
            reordered: 0,
            ready: ReadyQueue::new(Arc::clone(&pool)),
            reordered_bytes: 0,
            reordered_capacity: 0,
            limit_bytes,
            is_stranger: false,
            finished: false,
            pool,
        }
    }

    pub(crate) const fn next(&self) -> Sn {
        self.next
    }

    pub(crate) const fn window(&self) -> u32 {
        self.window
    }

    /// protocol.md 10.2: never below 128, or the largest message could not be assembled.
    pub(crate) fn set_window(&mut self, segments: u32) {
        self.window = segments.max(IKCP_WND_RCV);
    }

    /// Whether the peer is yet to prove itself; see the field.
    pub(crate) const fn set_stranger(&mut self, is_stranger: bool) {
        self.is_stranger = is_stranger;
    }

    /// Changes what may be held; see the field.
    pub(crate) const fn set_limit(&mut self, bytes: usize) {
        self.limit_bytes = bytes;
    }

    /// Segments out of order (C: `nrcv_buf`).
    pub(crate) const fn reordered(&self) -> usize {
        self.reordered
    }

    /// Segments in order, not yet read (C: `nrcv_que`).
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Bytes held for the application, in order or not.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.ready.unread() + self.reordered_bytes
    }

    /// Whether the peer's FIN has been reached in order.
    pub(crate) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// What the header's `wnd` says: free slots of the ready queue (protocol.md 4.6).
    pub(crate) fn advertised(&self) -> u16 {
        let free = (self.window as usize).saturating_sub(self.ready.len());
        // C casts; a window is at most 65535, so nothing is lost here.
        free as u16
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ready.len() >= self.window as usize
    }

    /// Whether `sn` is before the end of the window (protocol.md 4.1); it may be old.
    pub(crate) const fn is_before_window_end(&self, sn: Sn) -> bool {
        let end = Sn::new(self.next.get().wrapping_add(self.window));
        sn.is_before(end)
    }

    /// Takes a segment within the window; protocol.md 4.2.
    pub(crate) fn insert(&mut self, sn: Sn, frg: u8, fin: bool, payload: &[u8]) -> Arrival {
        let ahead = sn.distance_from(self.next);
        if ahead < 0 || self.finished {
            return Arrival::Duplicate;
        }
        let ahead = ahead as usize;
        let occupied = ahead < self.reorder.len() && self.reorder[self.index(sn)].is_some();
        if occupied {
            // C runs the move of protocol.md 4.2 here too: the window may have grown meanwhile.
            self.deliver_reordered();
            return Arrival::Duplicate;
        }
        if !self.has_room(ahead == 0, payload.len()) {
            return Arrival::NoRoom;
        }
        if ahead == 0 && !self.is_full() {
            self.next = self.next.next();
            match fin {
                true => self.finish(),
                false => self.ready.push(payload, frg, self.is_stranger),
            }
        } else {
            self.make_room(ahead + 1);
            let index = self.index(sn);
            let bytes = self.keep(payload);
            self.reorder[index] = Some(Arrived { bytes, frg, fin });
            self.reordered += 1;
        }
        self.deliver_reordered();
        Arrival::New
    }

    /// protocol.md 11.4. What completes the message in front is always taken: nothing else could
    /// make room.
    fn has_room(&self, in_order: bool, len: usize) -> bool {
        let limit = if in_order {
            self.limit_bytes.saturating_mul(2)
        } else {
            self.limit_bytes
        };
        let completes = in_order
            && match self.ready.front() {
                None => true,
                Some(head) => self.ready.len() <= usize::from(head.frg),
            };
        let held = self.ready.unread() + self.reordered_capacity;
        completes || held.saturating_add(len) <= limit
    }

    /// A copy of the payload. A pooled buffer several times its size would only waste memory.
    fn keep(&mut self, payload: &[u8]) -> Vec<u8> {
        let len = payload.len();
        let mut bytes = match len {
            0 => Vec::new(),
            // A stranger's datagram has room for fifty segments of a byte each.
            _ if self.is_stranger && len <= POOL_CLASS_BYTES[0] / 2 => Vec::with_capacity(len),
            _ if POOL_CLASS_BYTES[1..3]
                .iter()
                .any(|&class| class < len && len <= class * 2) =>
            {
                Vec::with_capacity(len)
            }
            _ => self.pool.take(len),
        };
        bytes.extend_from_slice(payload);
        self.reordered_bytes += len;
        self.reordered_capacity += bytes.capacity();
        bytes
    }

    /// Size of the next message if all of it is here (protocol.md 4.3).
    pub(crate) fn peek_size(&self) -> Option<usize> {
        self.ready.message_size()
    }

    /// Copies the next message out, leaving it in place (C: `ikcp_recv` with a negative length).
    pub(crate) fn peek(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let size = self.message_size(buffer.len())?;
        self.ready.copy_front(&mut buffer[..size]);
        // C moves segments up even when it only looks.
        self.deliver_reordered();
        Ok(size)
    }

    /// Takes the next message; protocol.md 4.4.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let size = self.message_size(buffer.len())?;
        self.ready.take_message(&mut buffer[..size]);
        self.deliver_reordered();
        Ok(size)
    }

    /// Takes bytes across messages and fragments; what a short read leaves stays.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let mut at = 0;
        while at < buffer.len() && !self.ready.is_empty() {
            at += self.ready.take_bytes(&mut buffer[at..]);
            self.deliver_reordered();
        }
        if at > 0 || buffer.is_empty() {
            return Ok(at);
        }
        Err(self.nothing())
    }

    /// Whether there is something to take, an empty message or the end included.
    pub(crate) fn has_readable(&self) -> bool {
        !self.ready.is_empty() || self.finished
    }

    const fn nothing(&self) -> RecvError {
        if self.finished {
            RecvError::Finished
        } else {
            RecvError::Empty
        }
    }

    fn message_size(&self, capacity: usize) -> Result<usize, RecvError> {
        if self.ready.is_empty() {
            return Err(self.nothing());
        }
        // A message that the peer ended in the middle of will never be whole.
        let missing = if self.finished {
            RecvError::Finished
        } else {
            RecvError::Incomplete
        };
        let needed = self.peek_size().ok_or(missing)?;
        if needed > capacity {
            return Err(RecvError::BufferTooSmall { needed });
        }
        Ok(needed)
    }

    /// What lies behind a FIN belongs to nobody.
    fn finish(&mut self) {
        self.finished = true;
        for part in core::mem::take(&mut self.reorder).into_iter().flatten() {
            self.pool.give(part.bytes);
        }
        self.reordered = 0;
        self.reordered_bytes = 0;
        self.reordered_capacity = 0;
    }

    fn deliver_reordered(&mut self) {
        while self.reordered > 0 && !self.is_full() && !self.finished {
            let index = self.index(self.next);
            let Some(arrived) = self.reorder[index].take() else {
                break;
            };
            self.reordered -= 1;
            self.reordered_bytes -= arrived.bytes.len();
            self.reordered_capacity -= arrived.bytes.capacity();
            self.next = self.next.next();
            match arrived.fin {
                true => self.finish(),
                false => self.ready.push_buffer(arrived.bytes, arrived.frg),
            }
        }
    }

    const fn index(&self, sn: Sn) -> usize {
        sn.get() as usize & self.reorder.len().wrapping_sub(1)
    }

    /// Makes the ring at least `len` long.
    fn make_room(&mut self, len: usize) {
        if len <= self.reorder.len() {
            return;
        }
        let old_len = self.reorder.len();
        let mut old = core::mem::take(&mut self.reorder);
        self.reorder
            .resize_with(len.next_power_of_two().max(FIRST_SLOTS), || None);
        for i in 0..old_len {
            let sn = self.next + i as u32;
            let from = sn.get() as usize & (old_len - 1);
            let to = self.index(sn);
            self.reorder[to] = old[from].take();
        }
    }
}

impl Drop for Receiver {
    /// Gives the buffers of segments out of order back to the pool.
    fn drop(&mut self) {
        for part in self.reorder.drain(..).flatten() {
            self.pool.give(part.bytes);
        }
    }
}
