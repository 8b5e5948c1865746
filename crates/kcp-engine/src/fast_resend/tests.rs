//! The counts without the walk are the counts of the walk.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::in_flight::InFlight;
use crate::payload::PayloadRef;
use crate::time::{Instant, Millis};

/// C's way: every segment has its own count, every event walks the window.
struct Naive {
    sn: Sn,
    ts: WireTs,
    xmit: u32,
    fast_acks: u32,
    acknowledged: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// Send this many new segments.
    Send(u8),
    /// A datagram acknowledges: which in flight, by position, and how much older than its last
    /// transmission the echoed time is.
    Ack(Vec<(u8, u8)>),
    /// Time passes.
    Wait(u8),
    /// A flush, in which every n-th segment times out.
    Flush(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_u8..12).prop_map(Step::Send),
        prop::collection::vec((any::<u8>(), 0_u8..3), 1..5).prop_map(Step::Ack),
        (1_u8..30).prop_map(Step::Wait),
        (1_u8..40).prop_map(Step::Flush),
    ]
}

struct Both {
    threshold: u32,
    limit: u32,
    ring: InFlightRing,
    fast: FastResend,
    naive: Vec<Naive>,
    now: u32,
}

impl Both {
    fn record(&self, ts: WireTs) -> InFlight {
        InFlight {
            echoed: false,
            sn: Sn::ZERO,
            outstanding: true,
            fin: false,
            frg: 0,
            len: 0,
            payload: PayloadRef::NONE,
            xmit: 1,
            rto_ms: 0,
            resend_at: Millis::of(Instant::ZERO),
            first_ts: ts,
            last_ts: ts,
            first_sent: Instant::ZERO,
            last_sent: Instant::ZERO,
            fast_acks: 0,
        }
    }

    fn send(&mut self, count: u8) {
        for _ in 0..count {
            let ts = WireTs::new(self.now);
            let sn = self.ring.push(self.record(ts));
            self.naive.push(Naive {
                sn,
                ts,
                xmit: 1,
                fast_acks: 0,
                acknowledged: false,
            });
        }
    }

    /// One datagram of ACKs; `ages` shift the echoed time, which only a liar or C would accept.
    fn ack(&mut self, picks: &[(u8, u8)]) {
        let mut latest: Option<(Sn, WireTs)> = None;
        for &(pick, age) in picks {
            let open: Vec<_> = self.naive.iter().filter(|n| !n.acknowledged).collect();
            let Some(target) = open.get(pick as usize % open.len().max(1)) else {
                return;
            };
            let (sn, ts) = (
                target.sn,
                WireTs::new(target.ts.get().wrapping_sub(age.into())),
            );
            if latest.is_none_or(|(max, at)| sn.distance_from(max) > 0 && ts.distance_from(at) > 0)
            {
                latest = Some((sn, ts));
            }
            self.ring.acknowledge(sn);
            self.naive
                .iter_mut()
                .find(|n| n.sn == sn)
                .unwrap()
                .acknowledged = true;
        }
        let Some((max, ts)) = latest else { return };
        self.fast.on_acks(max, ts, false, &mut self.ring);
        if self.ring.contains(max) {
            for n in self.naive.iter_mut().filter(|n| !n.acknowledged) {
                if n.sn.is_before(max) && ts.distance_from(n.ts) >= 0 {
                    n.fast_acks += 1;
                }
            }
        }
    }

    /// One flush: time-outs first, then early resends, in order of sn; the same ones from both.
    fn flush(&mut self, every: u8) {
        let mut ready = Vec::new();
        self.fast.take_ready(&self.ring, &mut ready);
        let ts = WireTs::new(self.now);
        for n in self.naive.iter_mut().filter(|n| !n.acknowledged) {
            let timed_out = every > 20 && n.sn.get() % u32::from(every) == 0;
            let overtaken = n.fast_acks >= self.threshold && (n.xmit <= self.limit);
            let ours = ready.contains(&n.sn) && self.fast.allows(n.xmit);
            assert_eq!(ours, overtaken, "sn {:?} count {}", n.sn, n.fast_acks);
            if !timed_out && !overtaken {
                continue;
            }
            let record = self.ring.get_mut(n.sn).unwrap();
            let carried = match timed_out {
                true => self.fast.count(n.sn, record.xmit, record.fast_acks),
                false => 0,
            };
            record.xmit += 1;
            record.last_ts = ts;
            record.fast_acks = carried;
            let xmit = record.xmit;
            self.fast.track(n.sn, ts, xmit, carried, &self.ring);
            n.xmit += 1;
            n.ts = ts;
            if !timed_out {
                n.fast_acks = 0;
            }
        }
        self.naive.retain(|n| !n.acknowledged);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// protocol.md 5.3
    #[test]
    fn counts_equal_the_naive_ones(
        steps in prop::collection::vec(any_step(), 1..80),
        threshold in 1_u32..5,
        first in prop::sample::select(alloc::vec![0, u32::MAX - 30, i32::MAX as u32 - 30]),
        start in prop::sample::select(alloc::vec![0, u32::MAX - 200]),
    ) {
        let first = Sn::new(first);
        let limit = 5;
        let mut both = Both {
            threshold,
            limit,
            ring: InFlightRing::new(first),
            fast: FastResend::new(threshold, limit, first),
            naive: Vec::new(),
            now: start,
        };
        for step in steps {
            match step {
                Step::Send(count) => both.send(count),
                Step::Ack(picks) => both.ack(&picks),
                Step::Wait(ms) => both.now = both.now.wrapping_add(ms.into()),
                Step::Flush(every) => both.flush(every),
            }
        }
    }
}

/// Prefix ends do not survive until the numbers have come half way round.
#[test]
fn old_events_are_forgotten() {
    let (first, far) = (Sn::ZERO, Sn::new(1 << 31) + 3);
    let mut both = Both {
        threshold: 1,
        limit: 5,
        ring: InFlightRing::new(first),
        fast: FastResend::new(1, 5, first),
        naive: Vec::new(),
        now: 0,
    };
    both.send(3);
    both.ack(&[(2, 0)]);
    assert!(both.fast.is_ready(&both.ring));
    both.flush(1);
    // In-order ACKs make no event, and still clear what is behind them.
    while both.ring.acknowledge_before(first + 2).is_some() {}
    both.fast
        .on_acks(first, WireTs::new(0), true, &mut both.ring);
    both.ring = InFlightRing::new(far);
    assert!(!both.fast.is_ready(&both.ring));
}
