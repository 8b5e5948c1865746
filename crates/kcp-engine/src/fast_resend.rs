//! Fast retransmit: which segments have been overtaken often enough (`docs/protocol.md` 5.3).
//!
//! C walks the window for every datagram with ACKs. The same counts come out without the walk:
//!
//! - A datagram's ACKs make one event (M, T). It counts for every segment before M whose last
//!   transmission was not after T. First transmissions have non-decreasing times, so among them
//!   the event counts for a prefix `sn < P`. A first transmission has been counted `r` times iff
//!   its sn lies before the `r`-th largest P so far; a cursor hands each out once.
//! - Retransmitted segments are few. They wait in the order of their last transmission and are
//!   counted one by one, at most `r` times each.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::in_flight::InFlightRing;
use crate::seq::{Sn, WireTs};

/// Counts ACKs that overtook a segment.
#[derive(Debug)]
pub(crate) struct FastResend {
    /// ACKs that it takes (C: `fastresend`); 0 is off.
    threshold: u32,
    /// Most transmissions of a segment that may still be resent early; 0 is no limit.
    limit: u32,
    /// The `threshold` largest prefix ends, greatest first.
    prefix_ends: Vec<Sn>,
    /// First transmissions before this have been handed out.
    cursor: Sn,
    /// Retransmissions below the threshold, in order of time: a run for each flush.
    runs: VecDeque<Run>,
    /// Emptied runs, for their memory.
    spare: Vec<Run>,
    /// Retransmissions that have reached the threshold.
    ready: Vec<Sn>,
}

/// What one flush sent again, in order of sn. Stale ones are dropped when met.
#[derive(Debug, Default)]
struct Run {
    ts: WireTs,
    segments: VecDeque<Retransmitted>,
}

/// A transmission other than a segment's first.
#[derive(Clone, Copy, Debug)]
struct Retransmitted {
    sn: Sn,
    /// Which transmission of the segment: it is over once the record has another number.
    xmit: u32,
}

impl Run {
    /// Counts an event for the segments before `max_sn`; those that reach `threshold` go to
    /// `ready`. The rest of the run is not looked at.
    fn count(&mut self, max_sn: Sn, threshold: u32, ring: &mut InFlightRing, ready: &mut Vec<Sn>) {
        let (mut kept, mut seen) = (0, 0);
        while let Some(&sent) = self.segments.get(seen) {
            if !sent.sn.is_before(max_sn) {
                break;
            }
            seen += 1;
            let record = ring.get_mut(sent.sn);
            let Some(record) = record.filter(|record| record.xmit == sent.xmit) else {
                continue;
            };
            record.fast_acks += 1;
            if record.fast_acks >= threshold {
                ready.push(sent.sn);
            } else {
                self.segments[kept] = sent;
                kept += 1;
            }
        }
        self.segments.drain(kept..seen);
    }

    fn drop_stale_front(&mut self, ring: &InFlightRing) {
        while let Some(front) = self.segments.front() {
            if ring
                .get(front.sn)
                .is_some_and(|record| record.xmit == front.xmit)
            {
                return;
            }
            self.segments.pop_front();
        }
    }
}

impl FastResend {
    pub(crate) const fn new(threshold: u32, limit: u32, first: Sn) -> Self {
        Self {
            threshold,
            limit,
            prefix_ends: Vec::new(),
            cursor: first,
            runs: VecDeque::new(),
            spare: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// A datagram acknowledged `max_sn`, sent at `ts`, as its latest.
    ///
    /// `trusted`: `ts` is known to be a transmission time of `max_sn`, so nothing before it can
    /// have been first sent later.
    pub(crate) fn on_acks(
        &mut self,
        max_sn: Sn,
        ts: WireTs,
        trusted: bool,
        ring: &mut InFlightRing,
    ) {
        // Kept close to the window, so that nothing drifts half the number space away from it.
        if self.cursor.is_before(ring.una()) {
            self.cursor = ring.una();
        }
        while self
            .prefix_ends
            .last()
            .is_some_and(|&end| !ring.una().is_before(end))
        {
            self.prefix_ends.pop();
        }
        if self.threshold == 0 || !ring.contains(max_sn) {
            return;
        }
        let end = if trusted {
            max_sn
        } else {
            ring.first_sent_after(ts, max_sn)
        };
        self.add_prefix(end, ring.una());
        self.count_retransmitted(max_sn, ts, ring);
    }

    fn add_prefix(&mut self, end: Sn, una: Sn) {
        if !una.is_before(end) {
            return;
        }
        let at = self
            .prefix_ends
            .partition_point(|&other| end.is_before(other));
        if at < self.threshold as usize {
            self.prefix_ends.truncate(self.threshold as usize - 1);
            self.prefix_ends.insert(at, end);
        }
    }

    fn count_retransmitted(&mut self, max_sn: Sn, ts: WireTs, ring: &mut InFlightRing) {
        for run in &mut self.runs {
            if ts.distance_from(run.ts) < 0 {
                break;
            }
            run.count(max_sn, self.threshold, ring, &mut self.ready);
        }
        self.drop_empty_runs();
    }

    fn drop_empty_runs(&mut self) {
        while self.runs.front().is_some_and(|run| run.segments.is_empty()) {
            self.spare.extend(self.runs.pop_front());
        }
    }

    /// The ACKs counted for a segment, up to the threshold.
    pub(crate) fn count(&self, sn: Sn, xmit: u32, fast_acks: u32) -> u32 {
        if xmit > 1 {
            return fast_acks.min(self.threshold);
        }
        self.prefix_ends
            .iter()
            .take_while(|&&end| sn.is_before(end))
            .count() as u32
    }

    /// Starts counting a segment that was just sent again with `fast_acks` carried over.
    pub(crate) fn track(
        &mut self,
        sn: Sn,
        ts: WireTs,
        xmit: u32,
        fast_acks: u32,
        ring: &InFlightRing,
    ) {
        if self.threshold == 0 || !self.allows(xmit) {
            return;
        }
        if fast_acks >= self.threshold {
            // An RTO resend keeps its count in C: the next flush sends it once more.
            self.ready.push(sn);
            return;
        }
        let in_order = |run: &Run| run.segments.back().is_none_or(|last| last.sn.is_before(sn));
        if !self
            .runs
            .back()
            .is_some_and(|run| run.ts == ts && in_order(run))
        {
            self.begin_run(ts, ring);
        }
        if let Some(run) = self.runs.back_mut() {
            run.segments.push_back(Retransmitted { sn, xmit });
        }
    }

    fn begin_run(&mut self, ts: WireTs, ring: &InFlightRing) {
        // ACKs in order make no event, so what they left behind is dropped here.
        if let Some(oldest) = self.runs.front_mut() {
            oldest.drop_stale_front(ring);
        }
        self.drop_empty_runs();
        let mut run = self.spare.pop().unwrap_or_default();
        run.ts = ts;
        self.runs.push_back(run);
    }

    /// Whether a segment sent `xmit` times may still be resent early.
    pub(crate) const fn allows(&self, xmit: u32) -> bool {
        self.limit == 0 || xmit <= self.limit
    }

    /// Whether [`take_ready`](Self::take_ready) may have something.
    pub(crate) fn is_ready(&self, ring: &InFlightRing) -> bool {
        !self.ready.is_empty() || self.first_transmissions(ring).is_some()
    }

    /// Appends to `due` every segment that has reached the threshold and was not handed out before.
    pub(crate) fn take_ready(&mut self, ring: &InFlightRing, due: &mut impl Extend<Sn>) {
        if let Some((from, end)) = self.first_transmissions(ring) {
            let sns = (0..end.distance_from(from) as u32).map(|i| from + i);
            due.extend(sns.filter(|&sn| ring.get(sn).is_some_and(|record| record.xmit == 1)));
            self.cursor = end;
        }
        if !self.ready.is_empty() {
            due.extend(self.ready.drain(..).filter(|&sn| ring.get(sn).is_some()));
        }
    }

    fn first_transmissions(&self, ring: &InFlightRing) -> Option<(Sn, Sn)> {
        if self.threshold == 0 {
            return None;
        }
        let end = *self.prefix_ends.get(self.threshold as usize - 1)?;
        let from = if self.cursor.is_before(ring.una()) {
            ring.una()
        } else {
            self.cursor
        };
        from.is_before(end).then_some((from, end))
    }
}

#[cfg(test)]
mod tests;
