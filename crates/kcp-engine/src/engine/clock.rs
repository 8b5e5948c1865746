//! Ticks and the next deadline (`docs/protocol.md` 9).

use super::KcpEngine;
use crate::error::Fault;
use crate::recv::Stale;
use crate::seq::WireTs;
use crate::time::{Instant, Millis};

/// C starts its tick anew when it is further off than this, in ms.
const RESYNC_MS: u64 = 10_000;

/// The latest time seen, and when the next tick is.
#[derive(Debug)]
pub(super) struct Clock {
    now: Instant,
    /// The same in milliseconds.
    millis: Millis,
    ts_offset: u32,
    /// C: `updated`. Nothing is sent before the first update.
    started: bool,
    /// C: `ts_flush`.
    next_tick: Millis,
}

impl Clock {
    pub(super) const fn new(ts_offset: u32) -> Self {
        Self {
            now: Instant::ZERO,
            millis: Millis::of(Instant::ZERO),
            ts_offset,
            started: false,
            next_tick: Millis::of(Instant::ZERO),
        }
    }

    /// Time never goes back.
    #[inline]
    pub(super) fn observe(&mut self, now: Instant) {
        if now > self.now {
            self.now = now;
            self.millis = Millis::of(now);
        }
    }

    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    pub(super) const fn millis(&self) -> Millis {
        self.millis
    }

    /// What goes into headers: wrapping milliseconds plus the session's offset.
    pub(super) const fn wire(&self) -> WireTs {
        WireTs::new((self.millis().get() as u32).wrapping_add(self.ts_offset))
    }

    /// After an idle time the next tick lies in the past; let it be an interval away.
    pub(super) fn put_off_overdue_tick(&mut self, interval_ms: u32) {
        if self.next_tick <= self.millis {
            self.next_tick = self.millis.plus(interval_ms);
        }
    }

    pub(super) const fn is_started(&self) -> bool {
        self.started
    }

    /// Whether a tick is due; sets the next one (protocol.md 9.1, 9.2).
    fn tick(&mut self, interval_ms: u32) -> bool {
        let now = self.millis();
        if !self.started {
            self.started = true;
            self.next_tick = now;
        }
        if now.since(self.next_tick) >= RESYNC_MS || self.next_tick.since(now) > RESYNC_MS {
            self.next_tick = now;
        }
        if now < self.next_tick {
            return false;
        }
        self.next_tick = self.next_tick.plus(interval_ms);
        if now >= self.next_tick {
            self.next_tick = now.plus(interval_ms);
        }
        true
    }
}

impl KcpEngine {
    /// Tells the engine that time has passed (C: `ikcp_update`). Call it at or after
    /// [`poll_timeout`](Self::poll_timeout); earlier calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock.observe(now);
        if self.receiver.watches_undelivered() {
            self.expire_undelivered();
        }
        let tick = self.clock.tick(self.interval_ms());
        if tick || self.is_released() {
            self.flush_or_defer();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` while nothing is
    /// queued, in flight, to be acknowledged or to be probed (protocol.md 9.3).
    ///
    /// Also `None` while datagrams wait to be fetched: drain
    /// [`poll_transmit`](Self::poll_transmit) first.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        if !self.outbox.is_empty() {
            return None;
        }
        if self.flush_wanted {
            return Some(self.clock.now());
        }
        let cause = self.earliest_cause();
        let tick = cause.map(|cause| match self.clock.is_started() {
            true => cause.max(self.clock.next_tick).to_instant(),
            false => self.clock.now(),
        });
        let release = self.paced.then(|| self.pacer.next_release());
        match (tick, release) {
            (Some(tick), Some(release)) => Some(tick.min(release)),
            (tick, release) => tick.or(release),
        }
    }

    /// protocol.md 11.4
    fn expire_undelivered(&mut self) {
        match self.receiver.expire(self.clock.now()) {
            Stale::None => {}
            Stale::Gap(segments) => self.counters.dropped_stale += segments as u64,
            Stale::Stream => {
                self.fault.get_or_insert(Fault::Incomplete);
            }
        }
    }

    /// When data of an unvalidated peer that cannot be delivered is let go.
    fn stale_at(&self) -> Option<Millis> {
        if !self.receiver.watches_undelivered() {
            return None;
        }
        let at = self.receiver.stale_at()?;
        // Rounded up: the tick before would find nothing.
        Some(Millis::of(at).plus(1))
    }

    /// The earliest reason for a flush; the default, time zero, means at the next tick.
    fn earliest_cause(&mut self) -> Option<Millis> {
        let next_tick = Millis::default();
        if let Some(ask_at) = self.restart.ask_at() {
            return Some(Millis::of(ask_at)); // protocol.md 12.8: nothing else leaves
        }
        let owes = self.probe.ask || self.probe.confirm || self.probe.tell;
        if owes || !self.acks.is_empty() {
            return Some(next_tick);
        }
        if self.can_admit() || self.fast.is_ready(&self.in_flight) {
            return Some(next_tick);
        }
        // C probes a closed window even with nothing to send; after both FINs that could only find a
        // peer that is gone.
        let probe = (self.remote_window == 0 && !self.is_over()).then_some(self.probe.at);
        let resend = self.timers.earliest(&self.in_flight);
        [probe, resend, self.probe.next_tell(), self.stale_at()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn interval_ms(&self) -> u32 {
        // At most 5 s, which was checked.
        self.config.tick_interval().as_millis() as u32
    }
}
