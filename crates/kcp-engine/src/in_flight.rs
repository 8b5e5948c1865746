//! What has been sent and may still have to be sent again: a ring of records indexed by sn.

use alloc::vec::Vec;

use crate::payload::PayloadRef;
use crate::seq::{Sn, WireTs};
use crate::time::{Instant, Millis};

/// The book-keeping of one transmitted segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    /// Which sn this slot is about; a slot outlives its segment until the number comes round.
    pub(crate) sn: Sn,
    /// False once acknowledged: the record stays for late ACKs, the payload is gone.
    pub(crate) outstanding: bool,
    /// An ACK has echoed one of its transmissions.
    pub(crate) echoed: bool,
    /// A FIN instead of a PUSH.
    pub(crate) fin: bool,
    pub(crate) frg: u8,
    pub(crate) len: u32,
    pub(crate) payload: PayloadRef,
    /// Transmissions so far.
    pub(crate) xmit: u32,
    /// This segment's own backed-off time-out, in ms.
    pub(crate) rto_ms: u32,
    /// When it is due again. A timer entry with another time is stale.
    pub(crate) resend_at: Millis,
    /// Wire time of the first and the last transmission: what an honest ACK can echo.
    pub(crate) first_ts: WireTs,
    pub(crate) last_ts: WireTs,
    pub(crate) first_sent: Instant,
    pub(crate) last_sent: Instant,
    /// ACKs of later segments seen since the last transmission, once retransmitted; first
    /// transmissions are counted by [`FastResend`](crate::fast_resend::FastResend).
    pub(crate) fast_acks: u32,
}

impl InFlight {
    /// Whether an ACK that echoes `ts` can be of a transmission of this segment.
    pub(crate) const fn was_sent_at(&self, ts: WireTs) -> bool {
        let since_first = ts.distance_from(self.first_ts);
        // The last one is compared by itself: the two may lie further apart than wire time reaches.
        ts.get() == self.last_ts.get() || (since_first >= 0 && ts.distance_from(self.last_ts) <= 0)
    }

    /// Whether it is the time stamp of the first or the last transmission.
    pub(crate) fn is_first_or_last(&self, ts: WireTs) -> bool {
        ts == self.first_ts || ts == self.last_ts
    }

    /// It is acknowledged.
    const fn take(&mut self) -> Freed {
        self.outstanding = false;
        Freed {
            payload: self.payload,
            len: self.len as usize,
            first_sent: self.first_sent,
        }
    }
}

/// The payload of a segment that has been acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freed {
    pub(crate) payload: PayloadRef,
    pub(crate) len: usize,
    pub(crate) first_sent: Instant,
}

/// The records of `una..nxt`, in a ring that doubles as the window fills it.
///
/// Invariants: `una` is outstanding or equals `nxt`; the ring is at least `nxt - una` long, so two
/// live records never share a slot.
#[derive(Debug)]
pub(crate) struct InFlightRing {
    slots: Vec<InFlight>,
    una: Sn,
    nxt: Sn,
    outstanding: usize,
}

const VACANT: InFlight = InFlight {
    sn: Sn::ZERO,
    outstanding: false,
    echoed: false,
    fin: false,
    frg: 0,
    len: 0,
    payload: PayloadRef::NONE,
    xmit: 0,
    rto_ms: 0,
    resend_at: Millis::of(Instant::ZERO),
    first_ts: WireTs::new(0),
    last_ts: WireTs::new(0),
    first_sent: Instant::ZERO,
    last_sent: Instant::ZERO,
    fast_acks: 0,
};

/// Slots of the first allocation: a request or two in flight.
const FIRST_SLOTS: usize = 4;

impl InFlightRing {
    pub(crate) const fn new(first: Sn) -> Self {
        Self {
            slots: Vec::new(),
            una: first,
            nxt: first,
            outstanding: 0,
        }
    }

    /// The oldest sn not yet acknowledged (C: `snd_una`).
    pub(crate) const fn una(&self) -> Sn {
        self.una
    }

    /// The sn that the next new segment gets (C: `snd_nxt`).
    pub(crate) const fn nxt(&self) -> Sn {
        self.nxt
    }

    /// Segments sent and not acknowledged (C: `nsnd_buf`).
    pub(crate) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Numbers in use, acknowledged ones in the middle included.
    pub(crate) const fn span(&self) -> u32 {
        self.nxt.distance_from(self.una) as u32
    }

    pub(crate) const fn contains(&self, sn: Sn) -> bool {
        !sn.is_before(self.una) && sn.is_before(self.nxt)
    }

    /// Appends the next segment; `record.sn` is set here and returned.
    pub(crate) fn push(&mut self, mut record: InFlight) -> Sn {
        if self.span() as usize == self.slots.len() {
            self.grow();
        }
        record.sn = self.nxt;
        record.outstanding = true;
        let index = self.index(self.nxt);
        self.slots[index] = record;
        self.nxt = self.nxt.next();
        self.outstanding += 1;
        record.sn
    }

    /// The record of `sn` if it is still to be acknowledged.
    pub(crate) fn get(&self, sn: Sn) -> Option<&InFlight> {
        let record = self.slots.get(self.index(sn))?;
        (record.sn == sn && record.outstanding).then_some(record)
    }

    pub(crate) fn get_mut(&mut self, sn: Sn) -> Option<&mut InFlight> {
        if !self.contains(sn) {
            return None;
        }
        let index = self.index(sn);
        self.slots
            .get_mut(index)
            .filter(|record| record.outstanding && record.sn == sn)
    }

    /// The record of `sn`, acknowledged or not, as long as its slot has not been used again.
    pub(crate) fn remembered(&mut self, sn: Sn) -> Option<&mut InFlight> {
        let index = self.index(sn);
        let record = self.slots.get_mut(index)?;
        (record.sn == sn && record.xmit > 0).then_some(record)
    }

    /// Marks `sn` acknowledged. The caller releases the payload.
    pub(crate) fn acknowledge(&mut self, sn: Sn) -> Option<Freed> {
        let freed = self.get_mut(sn)?.take();
        self.outstanding -= 1;
        if sn == self.una {
            self.skip_acknowledged();
        }
        Some(freed)
    }

    /// Takes the oldest record if it lies before `una` (C: one step of `ikcp_parse_una`).
    pub(crate) fn acknowledge_before(&mut self, una: Sn) -> Option<Freed> {
        if self.una == self.nxt || una.distance_from(self.una) <= 0 {
            return None;
        }
        // Outstanding by the invariant.
        let index = self.index(self.una);
        let freed = self.slots.get_mut(index)?.take();
        self.outstanding -= 1;
        self.una = self.una.next();
        self.skip_acknowledged();
        Some(freed)
    }

    /// The first sn in `una..limit` whose first transmission was after `ts`, else `limit`.
    ///
    /// First transmissions have non-decreasing times, so this is a binary search.
    pub(crate) fn first_sent_after(&self, ts: WireTs, limit: Sn) -> Sn {
        let (mut low, mut high) = (0, limit.distance_from(self.una).max(0) as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = &self.slots[self.index(self.una + middle)];
            if ts.distance_from(record.first_ts) >= 0 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.una + low
    }

    fn skip_acknowledged(&mut self) {
        while self.una != self.nxt && !self.slots[self.index(self.una)].outstanding {
            self.una = self.una.next();
        }
    }

    const fn index(&self, sn: Sn) -> usize {
        // The length is a power of two, or 0 (then nothing is looked up).
        sn.get() as usize & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let old = core::mem::take(&mut self.slots);
        self.slots.resize((old.len() * 2).max(FIRST_SLOTS), VACANT);
        for record in old.into_iter().filter(|record| record.xmit > 0) {
            if self.contains(record.sn) {
                let index = self.index(record.sn);
                self.slots[index] = record;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record of a segment sent once and due again at `at`.
    pub(crate) fn record_due_at(at: Millis) -> InFlight {
        InFlight {
            xmit: 1,
            resend_at: at,
            ..VACANT
        }
    }

    fn record(ts: u32) -> InFlight {
        InFlight {
            xmit: 1,
            first_ts: WireTs::new(ts),
            last_ts: WireTs::new(ts),
            ..VACANT
        }
    }

    #[test]
    fn una_jumps_over_what_was_acknowledged_before() {
        let start = Sn::new(u32::MAX - 2);
        let mut ring = InFlightRing::new(start);
        for i in 0..10 {
            assert_eq!(ring.push(record(i)), start + i);
        }
        assert!(ring.acknowledge(start + 1).is_some());
        assert!(ring.acknowledge(start + 1).is_none());
        assert_eq!((ring.una(), ring.outstanding()), (start, 9));
        assert!(ring.acknowledge(start).is_some());
        assert_eq!(ring.una(), start + 2);
        while ring.acknowledge_before(start + 6).is_some() {}
        assert_eq!(
            (ring.una(), ring.outstanding(), ring.span()),
            (start + 6, 4, 4)
        );
        assert!(ring.get(start + 5).is_none());
        assert!(ring.remembered(start + 5).is_some());
    }

    #[test]
    fn binary_search_finds_the_prefix_sent_by_then() {
        let mut ring = InFlightRing::new(Sn::new(7));
        for ts in [10, 10, 12, 12, 15] {
            ring.push(record(ts));
        }
        let limit = Sn::new(12);
        for (ts, expected) in [
            (9, 7),
            (10, 9),
            (11, 9),
            (12, 11),
            (14, 11),
            (15, 12),
            (99, 12),
        ] {
            assert_eq!(
                ring.first_sent_after(WireTs::new(ts), limit),
                Sn::new(expected),
                "{ts}"
            );
        }
        assert_eq!(
            ring.first_sent_after(WireTs::new(15), Sn::new(8)),
            Sn::new(8)
        );
    }

    #[test]
    fn an_empty_ring_answers() {
        let mut ring = InFlightRing::new(Sn::new(3));
        assert!(ring.get(Sn::new(3)).is_none());
        assert!(ring.remembered(Sn::new(3)).is_none());
        assert_eq!(
            ring.first_sent_after(WireTs::new(0), Sn::new(3)),
            Sn::new(3)
        );
    }
}
