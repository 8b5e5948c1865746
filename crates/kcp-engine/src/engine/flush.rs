//! One flush, in C's order (`docs/protocol.md` 7): ACKs, probes, retransmissions, new segments,
//! and the congestion window's reaction. It only decides; `transmit` encodes.

use super::{KcpEngine, Outgoing};
use crate::config::{IKCP_WND_SND, NoDelay};
use crate::in_flight::InFlight;
use crate::probe::{FIRST_PROBE_MS, IKCP_PROBE_INIT};
use crate::proof::Proof;
use crate::segment::IKCP_OVERHEAD;
use crate::seq::{Sn, WireTs};

/// What a flush has decided so far.
#[derive(Default)]
struct Plan {
    /// Bytes in the outbox.
    bytes: usize,
    /// sn and ts of the last ACK: C leaves them in the probes behind it.
    stale: (Sn, WireTs),
    /// Some segment's time-out had passed.
    lost: bool,
    /// Some segment was resent early.
    fast: bool,
}

/// How many due segments are looked at to tell whether the peer is silent.
const SILENT_AMONG: usize = 8;
/// The least window that the pacing rate is computed from, in segments per round trip.
const PACED_SEGMENTS: u32 = 32;

impl KcpEngine {
    /// Flushes now, or once what the last flush decided has been fetched.
    pub(super) fn flush_or_defer(&mut self) {
        if self.outbox.is_empty() {
            self.flush();
        } else {
            self.flush_wanted = true;
        }
    }

    pub(super) fn flush(&mut self) {
        self.flush_wanted = false;
        self.acks_held = false;
        self.paced = false;
        if self.restart.is_open() {
            self.ask_whether_restarted();
            return;
        }
        let mut plan = Plan::default();
        let window = self.effective_window();
        self.refill_pacer(window);
        self.collect_due();
        self.plan_acks(&mut plan);
        self.plan_probes(&mut plan);
        self.plan_resends(&mut plan);
        self.plan_new(window, &mut plan);
        self.react(window, &plan);
    }

    /// Whether there is a queued segment that a flush would send now.
    pub(super) fn can_admit(&self) -> bool {
        let Some(front) = self.queue.front() else {
            return false;
        };
        let window = self.effective_window();
        // Before C's first flush the window is 0, and only a flush opens it.
        let blocked = (self.in_flight.span() >= window && self.congestion.window() != 0)
            || self.in_flight.outstanding() >= self.most_outstanding();
        if blocked || self.remote_window == 0 || self.is_held_back() || self.restart.is_open() {
            return false;
        }
        let allowance = self.answer_room(0);
        allowance >= IKCP_OVERHEAD + front.len as usize + Proof::surcharge(front.fin)
            || (self.may_cut_head() && (allowance > IKCP_OVERHEAD || self.proof.has_extra()))
    }

    /// Bytes that may still be sent after `planned` more (protocol.md 11.3).
    pub(super) fn answer_room(&self, planned: usize) -> usize {
        self.proof.allowance(planned, self.config.mtu_bytes())
    }

    /// The last flush left something behind, and its time has not come.
    fn is_held_back(&self) -> bool {
        self.paced && !self.is_released()
    }

    /// The last flush left something behind, and its time has come.
    pub(super) fn is_released(&self) -> bool {
        self.paced && self.pacer.next_release() <= self.clock.now()
    }

    /// protocol.md 11.6: what the path carries, without a congestion window.
    pub(super) fn most_outstanding(&self) -> usize {
        if self.is_strict() && !self.config.uses_congestion_window() {
            self.capacity.most_outstanding()
        } else {
            usize::MAX
        }
    }

    /// protocol.md 7.4, and 11.5 for the time before the peer's window is known.
    fn effective_window(&self) -> u32 {
        let mut window = self.config.send_window_segments().min(self.remote_window);
        window = window.min(self.congestion.window());
        let unheard = self.largest_remote_window.is_none();
        if self.is_strict() && unheard && !self.config.uses_congestion_window() {
            window = window.min(IKCP_WND_SND);
        }
        window
    }

    fn refill_pacer(&mut self, window: u32) {
        // A closed window must not stop retransmissions, nor a small one slow them down.
        let window = window.max(PACED_SEGMENTS);
        let bytes = u64::from(window) * self.config.mtu_bytes() as u64;
        let unknown = u64::from(self.rtt.rto_ms) * 1_000;
        let rtt_us = self.rtt.smoothed_us().unwrap_or(unknown);
        self.pacer.refill(self.clock.now(), bytes, rtt_us);
    }

    /// The pacer allows no further segment.
    fn hold_back(&mut self) {
        self.paced = true;
        self.pacer.hold();
    }

    /// Everything in flight whose time-out has passed or that was overtaken, in order of sn; what
    /// the pacer held back the last time is still there.
    fn collect_due(&mut self) {
        let held = self.due.len();
        self.timers
            .expire(self.clock.millis(), &self.in_flight, &mut self.due);
        self.fast.take_ready(&self.in_flight, &mut self.due);
        if self.due.len() > held {
            let una = self.in_flight.una();
            let due = self.due.make_contiguous();
            due.sort_unstable_by_key(|sn| sn.distance_from(una));
        }
    }

    /// protocol.md 7.2
    fn plan_acks(&mut self, plan: &mut Plan) {
        for (sn, ts) in self.acks.drain(..) {
            plan.stale = (sn, ts);
            plan.bytes += IKCP_OVERHEAD;
            self.outbox.push_back(Outgoing::Ack { sn, ts });
        }
    }

    /// protocol.md 7.3; repeated WINS 11.5; the WASK of a silent peer 12.4.
    fn plan_probes(&mut self, plan: &mut Plan) {
        let now = self.clock.millis();
        let first_wait = if self.is_strict() {
            FIRST_PROBE_MS
        } else {
            IKCP_PROBE_INIT
        };
        if !self.is_over() {
            self.probe.on_flush(now, self.remote_window, first_wait);
        }
        if self.is_strict() {
            self.probe.repeat_tell(now);
            // Nearly always nothing is due.
            self.probe.ask |= !self.due.is_empty()
                && !self.proof.is_limited()
                && self.peer_is_silent()
                && self.liveness.may_press(self.clock.now(), self.rto());
        }
        let (sn, stale_ts) = plan.stale;
        let owed = core::mem::take(&mut self.probe.ask);
        let confirms = core::mem::take(&mut self.probe.confirm);
        if (owed || confirms) && self.may_probe(plan) {
            let ts = if self.is_strict() {
                self.clock.wire()
            } else {
                stale_ts
            };
            self.liveness.on_asked(self.clock.now(), ts, owed);
            plan.bytes += IKCP_OVERHEAD;
            self.outbox.push_back(Outgoing::Ask { sn, ts });
        }
        if self.proof.is_limited() {
            self.plan_challenge(plan);
        }
        let echo = self.probe.echo.take();
        if core::mem::take(&mut self.probe.tell) && self.may_probe(plan) {
            self.probe.on_told(now, self.rtt.rto_ms);
            plan.bytes += IKCP_OVERHEAD;
            self.outbox.push_back(Outgoing::Tell {
                sn,
                ts: echo.unwrap_or(stale_ts),
                echoes: echo.is_some(),
            });
        }
    }

    /// protocol.md 11.1. No answer is owed.
    fn plan_challenge(&mut self, plan: &mut Plan) {
        let now = self.clock.millis();
        let wanted = self.proof.take_wanted_challenge();
        let due = wanted
            || (self.may_ask_for_proof(plan)
                && self.proof.is_challenge_due(now, self.liveness.asks()));
        if !due {
            return;
        }
        // protocol.md 11.3: where a writer waits for the validation, nothing else brings it.
        let bytes = plan.bytes + IKCP_OVERHEAD;
        let may_leave =
            self.may_probe(plan) || (wanted && self.proof.take_extra(bytes, now, self.rtt.rto_ms));
        if may_leave {
            let ts = self.clock.wire();
            self.liveness.on_challenged(ts);
            plan.bytes = bytes;
            self.outbox.push_back(Outgoing::Challenge { ts });
        }
    }

    /// Only behind ACKs, and where no data of ours can bring the proof.
    fn may_ask_for_proof(&self, plan: &Plan) -> bool {
        plan.bytes > 0 && self.queue.is_empty() && self.in_flight.outstanding() == 0
    }

    /// protocol.md 11.3: questions count too. One that does not fit is dropped; whoever wanted it
    /// asks again.
    fn may_probe(&self, plan: &Plan) -> bool {
        self.answer_room(plan.bytes) >= IKCP_OVERHEAD
    }

    /// A segment times out for at least the second time and nothing was heard since the last. A
    /// peer that was never heard may not have the session yet: it would answer with RST.
    fn peer_is_silent(&self) -> bool {
        if !self.session_heard {
            return false;
        }
        let now = self.clock.millis();
        // The oldest are in front; if they are not silent, the others are not.
        self.due
            .iter()
            .take(SILENT_AMONG)
            .filter_map(|&sn| self.in_flight.get(sn))
            .any(|record| {
                let again = record.xmit >= 2 && record.resend_at <= now;
                again
                    && self
                        .last_heard
                        .is_some_and(|heard| heard <= record.last_sent)
            })
    }

    /// protocol.md 7.5 for what was sent before.
    fn plan_resends(&mut self, plan: &mut Plan) {
        let now = self.clock.millis();
        while let Some(&sn) = self.due.front() {
            if !self.pacer.allows() {
                self.hold_back();
                return;
            }
            self.due.pop_front();
            // It may be there twice, and may have been acknowledged while it was held back.
            while self.due.front() == Some(&sn) {
                self.due.pop_front();
            }
            let Some(&record) = self.in_flight.get(sn) else {
                continue;
            };
            if now >= record.resend_at {
                self.resend_by_timeout(record, plan);
            } else if self.fast.allows(record.xmit) {
                self.resend_early(record, plan);
            }
        }
    }

    fn resend_by_timeout(&mut self, mut record: InFlight, plan: &mut Plan) {
        let size = IKCP_OVERHEAD + record.len as usize + Proof::surcharge(record.fin);
        let rto = record.rto_ms;
        let step = match self.config.nodelay_level() {
            NoDelay::Off => rto.max(self.rtt.rto_ms),
            NoDelay::Fast => rto / 2,
            NoDelay::Linear => self.rtt.rto_ms / 2,
        };
        let next = rto.saturating_add(step).min(i32::MAX as u32); // protocol.md 11.8
        let now = self.clock.millis();
        let allowed = self.answer_room(plan.bytes) >= size
            || self.proof.take_extra(plan.bytes + size, now, next);
        if !allowed {
            // protocol.md 11.3: looked at again later, and not backed off: the proof may come.
            record.resend_at = now.plus(self.rtt.rto_ms);
            self.store_due(record);
            return;
        }
        record.rto_ms = next;
        record.resend_at = now.plus(record.rto_ms);
        let carried = self.fast.count(record.sn, record.xmit, record.fast_acks);
        record.xmit += 1;
        record.fast_acks = carried;
        if record.xmit > 2 {
            self.on_repeated_timeout(&record);
        }
        self.counters.timeout_resends += 1;
        plan.lost = true;
        self.resend(record, plan);
    }

    fn resend_early(&mut self, mut record: InFlight, plan: &mut Plan) {
        if self.answer_room(plan.bytes) < IKCP_OVERHEAD + record.len as usize {
            return; // protocol.md 11.3: the time-out decides
        }
        record.xmit += 1;
        record.fast_acks = 0;
        record.resend_at = self.clock.millis().plus(record.rto_ms);
        self.counters.fast_resends += 1;
        plan.fast = true;
        self.resend(record, plan);
    }

    fn resend(&mut self, mut record: InFlight, plan: &mut Plan) {
        record.last_ts = self.clock.wire();
        record.last_sent = self.clock.now();
        self.store_due(record);
        self.fast.track(
            record.sn,
            record.last_ts,
            record.xmit,
            record.fast_acks,
            &self.in_flight,
        );
        self.plan_segment(&record, plan);
    }

    /// Writes a record back and reminds of its new time.
    pub(super) fn store_due(&mut self, record: InFlight) {
        let Some(slot) = self.in_flight.get_mut(record.sn) else {
            return;
        };
        // Two early resends within a millisecond have the same time: one reminder does.
        let reminded = slot.resend_at == record.resend_at;
        *slot = record;
        if !reminded {
            self.timers
                .arm(record.resend_at, record.sn, 1, &self.in_flight);
        }
    }

    /// protocol.md 7.4 and 7.5 for what was never sent.
    fn plan_new(&mut self, window: u32, plan: &mut Plan) {
        let first = self.in_flight.nxt();
        // protocol.md 7.5: with nodelay 0 a first transmission is given an eighth more.
        let grace = match self.config.nodelay_level() {
            NoDelay::Off => self.rtt.rto_ms >> 3,
            NoDelay::Fast | NoDelay::Linear => 0,
        };
        let resend_at = self.clock.millis().plus(self.rtt.rto_ms).plus(grace);
        let now = self.clock.now();
        let ts = self.clock.wire();
        let most = self.most_outstanding();
        while self.in_flight.span() < window
            && self.in_flight.outstanding() < most
            && !self.queue.is_empty()
        {
            if !self.pacer.allows() {
                self.hold_back();
                break;
            }
            if !self.fit_head(plan) {
                break;
            }
            let Some(queued) = self.queue.pop_front() else {
                break;
            };
            let mut record = InFlight {
                echoed: false,
                sn: Sn::ZERO,
                outstanding: true,
                fin: queued.fin,
                frg: queued.frg,
                len: queued.len,
                payload: queued.payload,
                xmit: 1,
                rto_ms: self.rtt.rto_ms,
                resend_at,
                first_ts: ts,
                last_ts: ts,
                first_sent: now,
                last_sent: now,
                fast_acks: 0,
            };
            record.sn = self.in_flight.push(record);
            self.counters.payload_sent += u64::from(record.len);
            self.plan_segment(&record, plan);
        }
        let count = self.in_flight.nxt().distance_from(first) as u32;
        self.timers.arm(resend_at, first, count, &self.in_flight);
    }

    /// Makes the head segment fit what may be answered (protocol.md 11.3); false: it must wait.
    fn fit_head(&mut self, plan: &Plan) -> bool {
        if !self.proof.is_limited() {
            return true;
        }
        let Some(front) = self.queue.front() else {
            return false;
        };
        let len = front.len as usize;
        let surcharge = Proof::surcharge(front.fin);
        let mut room = self.answer_room(plan.bytes);
        if !self.may_cut_head() {
            return room >= IKCP_OVERHEAD + len + surcharge;
        }
        // Questions and their answers may have used the allowance up. With nothing in flight no
        // time-out would ever come, so the first segment may itself be one of the extras.
        if room < IKCP_OVERHEAD + len.min(1) {
            let (now, wait) = (self.clock.millis(), self.rtt.rto_ms);
            room = self.proof.take_extra_room(plan.bytes, now, wait);
        }
        let most = Proof::first_payload(room);
        if len <= most {
            return room >= IKCP_OVERHEAD + len;
        }
        if most > 0 {
            self.queue.split_front(most);
        }
        most > 0
    }

    /// Only the very first segment is cut: it is the first fragment of its message, so the
    /// fragments still count down by one.
    fn may_cut_head(&self) -> bool {
        self.proof.is_limited() && self.in_flight.nxt() == self.first_sn
    }

    fn plan_segment(&mut self, record: &InFlight, plan: &mut Plan) {
        let size = IKCP_OVERHEAD + record.len as usize;
        plan.bytes += size;
        self.pacer.spend(size);
        self.counters.segments_sent += 1;
        // protocol.md 7.7: told, not acted on.
        self.counters.dead_link |= record.xmit >= self.config.dead_link_transmissions();
        self.outbox.push_back(Outgoing::Data {
            sn: record.sn,
            len: record.len,
            fin: record.fin,
        });
    }

    /// protocol.md 8.2
    fn react(&mut self, window: u32, plan: &Plan) {
        let mss = self.config.mss() as u32;
        if plan.fast {
            let threshold = self.config.fast_resend_threshold();
            self.congestion
                .on_fast_resend(self.in_flight.span(), threshold, mss);
        }
        if plan.lost {
            self.congestion.on_timeout(window, mss);
        }
        self.congestion.on_flush_end(mss);
    }
}
