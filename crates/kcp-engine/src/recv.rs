//! The receiving half: reordering, fragments, and the window that is advertised
//! (`docs/protocol.md` 4).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::buffer::{BufferPool, POOL_CLASS_BYTES};
use crate::config::IKCP_WND_RCV;
use crate::error::RecvError;
use crate::memory::{MemoryLease, ReceiveMemory};
use crate::payload::{PayloadRef, PayloadStore};
use crate::ready::ReadyQueue;
use crate::seq::Sn;

pub(crate) use undelivered::Stale;
use undelivered::{Room, StaleWatch};

mod undelivered;

/// One segment that arrived out of order.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    at: PayloadRef,
    len: u32,
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
    /// More than all sessions together may hold of what cannot be delivered; the same.
    NoMemory,
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
    /// The payload of what is in `reorder`.
    kept: PayloadStore,
    /// Most bytes held before segments out of order are refused; in order, twice that, which is also
    /// the most memory that blocks of segments out of order take, but for the last two.
    limit_bytes: usize,
    /// Most bytes of a message of which a part is missing.
    message_limit: usize,
    /// Length of the largest segment of which a window is more than `limit_bytes`; 0 if there was none.
    oversized: u32,
    /// The account had no room for the last segment that was next (protocol.md 4.6).
    starved: bool,
    /// The peer has not proven itself: it gets no more memory than twice what it sends.
    is_stranger: bool,
    /// What cannot be delivered is watched: that of an unvalidated peer, or what was let go then.
    watches: bool,
    /// What is held that cannot be delivered, on the account that the sessions share.
    lease: MemoryLease,
    /// Segments taken so far, saturating.
    taken: u32,
    /// The last sn that was put into `reorder`.
    furthest: Sn,
    /// Apart, because only sessions of unvalidated peers need it.
    stale: Box<StaleWatch>,
    /// The peer's FIN has been reached.
    finished: bool,
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
            kept: PayloadStore::new(pool),
            limit_bytes,
            message_limit: usize::MAX,
            oversized: 0,
            starved: false,
            is_stranger: false,
            watches: false,
            lease: MemoryLease::default(),
            taken: 0,
            furthest: first,
            stale: Box::default(),
            finished: false,
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
    pub(crate) fn set_stranger(&mut self, is_stranger: bool) {
        self.is_stranger = is_stranger;
        self.watches = is_stranger || self.has_let_go();
        self.lease.set_validated(!is_stranger);
        self.settle_memory();
    }

    pub(crate) const fn watches_undelivered(&self) -> bool {
        self.watches
    }

    /// From now on what cannot be delivered is on this account.
    pub(crate) fn set_memory(&mut self, memory: Arc<ReceiveMemory>) {
        self.lease = MemoryLease::new(memory);
        self.lease.set_validated(!self.is_stranger);
        self.settle_memory();
    }

    /// Changes what may be held, and of a message of which a part is missing; see the fields.
    pub(crate) const fn set_limits(&mut self, bytes: usize, message: usize) {
        self.limit_bytes = bytes;
        self.message_limit = message;
    }

    /// Whether the message in front is longer than it may be, and a part of it is still missing.
    pub(crate) fn is_message_too_long(&self) -> bool {
        // Nearly always less than that is unread in all.
        self.ready.unread() > self.message_limit
            && self.ready.incomplete_bytes() > self.message_limit
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
        self.ready.unread() + self.kept.live_bytes()
    }

    /// Whether the peer's FIN has been reached in order.
    pub(crate) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether everything up to the peer's FIN has arrived, taken in or not yet for want of room.
    pub(crate) fn has_everything(&self) -> bool {
        if self.finished || self.reordered == 0 {
            return self.finished;
        }
        // A FIN has the last number: with so many kept, none before it is missing.
        let last = self.next + (self.reordered as u32 - 1);
        self.reorder[self.index(last)].is_some_and(|arrived| arrived.fin)
    }

    /// What the header's `wnd` says: free slots of the ready queue, or what the bound on bytes leaves for
    /// segments of the peer's size (protocol.md 4.6).
    pub(crate) fn advertised(&self) -> u16 {
        let slots = (self.window as usize).saturating_sub(self.ready.len());
        let free = match (self.oversized, self.starved) {
            (0, false) => slots,
            (_, false) => slots.min(self.segments_that_fit()),
            (_, true) => 0,
        };
        // C casts; a window is at most 65535, so nothing is lost here.
        free as u16
    }

    /// Whether the advertised window is 0.
    pub(crate) fn is_closed(&self) -> bool {
        self.advertised() == 0
    }

    /// Oversized segments that would be taken in order.
    #[cold]
    fn segments_that_fit(&self) -> usize {
        let held = self.held_bytes();
        let free = self.limit_bytes.saturating_mul(2).saturating_sub(held);
        let least = usize::from(self.completes_front());
        (free / self.oversized as usize).max(least)
    }

    /// The peer asks for the window: the account may have room again, which the next segment finds out.
    pub(crate) const fn on_question(&mut self) {
        self.starved = false;
    }

    /// Whether a window of such segments is no more than may be held. A payload fits a datagram, so the
    /// product fits 32 bits.
    #[inline]
    const fn is_usual(&self, len: usize) -> bool {
        len * self.window as usize <= self.limit_bytes
    }

    /// Notes a segment of which a window would be more than that.
    fn note_size(&mut self, len: usize) {
        if !self.is_usual(len) {
            // A payload fits a datagram.
            self.oversized = self.oversized.max(len as u32);
        }
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
        if ahead == 0 && !fin && self.passes_through(frg, payload.len()) {
            self.next = self.next.next();
            self.taken = self.taken.saturating_add(1);
            self.ready.push(payload, frg, self.is_stranger);
            return Arrival::New;
        }
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
        self.note_size(payload.len());
        if !self.has_room(ahead == 0, payload.len()) {
            return Arrival::NoRoom;
        }
        if ahead == 0 && !self.is_full() {
            let room = match fin {
                true => Room::Ample,
                false => self.room_for_next(frg, payload.len()),
            };
            self.starved = room == Room::None;
            if self.starved {
                return Arrival::NoMemory;
            }
            self.next = self.next.next();
            let sparing = self.is_stranger || room == Room::Allotted;
            match fin {
                true => self.finish(),
                false => self.ready.push(payload, frg, sparing),
            }
        } else {
            if self.is_too_far_ahead(ahead) {
                return Arrival::NoRoom;
            }
            let room = self.room_ahead(ahead, payload.len());
            if room == Room::None {
                return Arrival::NoMemory;
            }
            let sparing = self.is_stranger || room == Room::Allotted;
            self.furthest = if self.reordered == 0 || self.furthest.is_before(sn) {
                sn
            } else {
                self.furthest
            };
            self.make_room(ahead + 1);
            let index = self.index(sn);
            self.reorder[index] = Some(Arrived {
                at: self.keep(payload, sparing),
                // A payload fits a datagram.
                len: payload.len() as u32,
                frg,
                fin,
            });
            self.reordered += 1;
        }
        self.taken = self.taken.saturating_add(1);
        self.deliver_reordered();
        self.settle_memory();
        Arrival::New
    }

    /// Whether the next segment in order is ready for the application at once, and nothing else changes
    /// with it: no segment waits for it, no part of the message in front is missing, before and after, it is no
    /// longer than usual, and an unvalidated peer has nothing else unread. So there is nothing to deliver, and
    /// nothing to put on the account. Nearly always so.
    #[inline]
    fn passes_through(&self, frg: u8, len: usize) -> bool {
        let head = self.ready.front().map_or(frg, |head| head.frg);
        head == 0
            && self.reordered == 0
            && !self.finished
            && !self.is_full()
            && self.is_usual(len)
            && (!self.is_stranger || self.ready.is_empty())
            && self.ready.unread().saturating_add(len) <= self.limit_bytes
    }

    /// protocol.md 11.4.
    fn has_room(&self, in_order: bool, len: usize) -> bool {
        let held = self.held_bytes().saturating_add(len);
        let twice = self.limit_bytes.saturating_mul(2);
        match in_order {
            true => held <= twice || self.completes_front(),
            // A block is held while one of its segments waits. No more than two windows can have come
            // since the oldest of them did, so a peer that fills its segments stays below that.
            false => {
                let most = twice.saturating_add(2 * POOL_CLASS_BYTES[3]);
                held <= self.limit_bytes && self.kept.block_bytes() <= most
            }
        }
    }

    /// Whether the next segment may be what the message in front is waiting for. It is always taken:
    /// nothing else could make room.
    fn completes_front(&self) -> bool {
        match self.ready.front() {
            None => true,
            Some(head) => self.ready.len() <= usize::from(head.frg),
        }
    }

    /// A copy of the payload. `sparing`: in no more memory than twice its bytes.
    fn keep(&mut self, payload: &[u8], sparing: bool) -> PayloadRef {
        match payload.is_empty() {
            true => PayloadRef::NONE,
            // A datagram has room for fifty segments of a byte each.
            false if sparing => self.kept.insert_sparing(payload),
            false => self.kept.insert(payload, 0),
        }
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
    #[inline]
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let size = self.message_size(buffer.len())?;
        self.ready.take_message(&mut buffer[..size]);
        self.deliver_reordered();
        self.settle_memory();
        Ok(size)
    }

    /// Takes bytes across messages and fragments; what a short read leaves stays.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let mut at = 0;
        while at < buffer.len() && !self.ready.is_empty() {
            at += self.ready.take_bytes(&mut buffer[at..]);
            self.deliver_reordered();
        }
        self.settle_memory();
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
        self.drop_reordered();
    }

    fn drop_reordered(&mut self) {
        self.reorder = Vec::new();
        self.reordered = 0;
        self.kept.clear();
    }

    fn deliver_reordered(&mut self) {
        while self.reordered > 0 && !self.is_full() && !self.finished {
            let index = self.index(self.next);
            let Some(arrived) = self.reorder[index].take() else {
                break;
            };
            self.reordered -= 1;
            self.next = self.next.next();
            if arrived.fin {
                self.finish();
                return;
            }
            let (at, len) = (arrived.at, arrived.len as usize);
            let payload = self.kept.payload(at, len);
            self.ready.push(payload, arrived.frg, self.is_stranger);
            self.kept.release(at, len);
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
        let old = core::mem::take(&mut self.reorder);
        self.reorder
            .resize(len.next_power_of_two().max(FIRST_SLOTS), None);
        for i in 0..old_len {
            let sn = self.next + i as u32;
            let from = sn.get() as usize & (old_len - 1);
            let to = self.index(sn);
            self.reorder[to] = old[from];
        }
    }
}

#[cfg(test)]
mod tests;
