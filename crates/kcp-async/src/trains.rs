//! Destinations to which trains of datagrams (GSO) do not work.
//!
//! A train is refused as such where its datagrams need fragmentation, where the route encrypts, or where a driver
//! cannot cut it. That is a property of the path, so it is remembered by destination and size, for a while. Only if
//! small trains are refused towards several destinations, the whole socket does without.
//!
//! **Invariant**: pure, as `session.rs`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kcp_engine::Instant;

use crate::mutex::Mutex;

/// What is remembered of refused trains, for one socket.
#[derive(Debug)]
pub(crate) struct RefusedTrains {
    /// Nothing is remembered: no lock is needed to know that.
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_destination: HashMap<IpAddr, Refusal>,
    /// Until when the socket sends no trains at all.
    everywhere_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// The smallest datagram of the trains that were refused.
    segment_size: usize,
    /// Their datagrams need fragmentation, as far as the error tells.
    by_size: bool,
    until: Instant,
}

impl Refusal {
    fn is_small(self) -> bool {
        self.segment_size <= SMALL
    }
}

impl RefusedTrains {
    pub(crate) fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            state: Mutex::new(State::default()),
        }
    }

    /// Whether a train of datagrams of this size is worth a try.
    pub(crate) fn may_send(&self, to: IpAddr, segment_size: usize, now: Instant) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.state.lock("may send a train");
        if state.everywhere_until.is_some_and(|until| now < until) {
            return false;
        }
        state.everywhere_until = None;
        match state.by_destination.get(&to) {
            Some(refusal) if now < refusal.until => return segment_size < refusal.segment_size,
            Some(_) => drop(state.by_destination.remove(&to)),
            None => {}
        }
        self.any
            .store(!state.by_destination.is_empty(), Ordering::Relaxed);
        true
    }

    /// Whether datagrams of this size are fragmented by this host, as a train that was refused has shown.
    pub(crate) fn needs_fragments(&self, to: IpAddr, size: usize, now: Instant) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let state = self.state.lock("needs fragments");
        state.by_destination.get(&to).is_some_and(|refusal| {
            refusal.by_size && now < refusal.until && size >= refusal.segment_size
        })
    }

    /// A train was refused and its datagrams alone were not; perhaps because they are fragmented (`by_size`).
    pub(crate) fn note(&self, to: IpAddr, segment_size: usize, by_size: bool, now: Instant) {
        let mut state = self.state.lock("train refused");
        let State {
            by_destination,
            everywhere_until,
        } = &mut *state;
        if by_destination.len() >= MOST_DESTINATIONS && !by_destination.contains_key(&to) {
            by_destination.retain(|_, refusal| now < refusal.until);
            if by_destination.len() >= MOST_DESTINATIONS {
                // Each costs one refused call to be learned again.
                by_destination.clear();
            }
        }
        let until = now + FORGOTTEN_AFTER;
        let refusal = by_destination.entry(to).or_insert(Refusal {
            segment_size,
            by_size,
            until,
        });
        *refusal = Refusal {
            segment_size: refusal.segment_size.min(segment_size),
            by_size,
            until,
        };
        let small = |refusal: &&Refusal| refusal.is_small() && now < refusal.until;
        if by_destination.values().filter(small).count() >= SEVERAL {
            by_destination.retain(|_, refusal| !refusal.is_small());
            *everywhere_until = Some(now + FORGOTTEN_AFTER);
        }
        self.any.store(true, Ordering::Relaxed);
    }
}

/// Datagrams of this size need fragmentation on no path of today.
const SMALL: usize = 1_200;
/// So many destinations with small trains refused: it is not the path.
const SEVERAL: usize = 4;
/// When a train is tried again. A refused one costs a system call.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// About 64 KiB.
const MOST_DESTINATIONS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_refusal_is_of_one_destination_and_of_that_size() {
        let trains = RefusedTrains::new();
        assert!(trains.may_send(host(1), 1_400, at(0)));
        trains.note(host(1), 1_400, true, at(0));
        assert!(!trains.may_send(host(1), 1_400, at(1)));
        assert!(!trains.may_send(host(1), 1_500, at(1)));
        assert!(trains.may_send(host(1), 1_399, at(1)));
        assert!(trains.may_send(host(2), 1_400, at(1)));
        // Later a train is tried again.
        assert!(trains.may_send(host(1), 1_400, at(31)));
        assert!(!trains.any.load(Ordering::Relaxed));
    }

    #[test]
    fn large_refusals_never_concern_the_socket() {
        let trains = RefusedTrains::new();
        for n in 0..100 {
            trains.note(host(n), 1_400, true, at(0));
        }
        assert!(trains.may_send(host(1_000), 1_400, at(0)));
    }

    #[test]
    fn small_refusals_of_several_destinations_stop_all_trains_for_a_while() {
        let trains = RefusedTrains::new();
        for n in 0..3 {
            trains.note(host(n), 1_200, true, at(0));
            assert!(trains.may_send(host(1_000), 100, at(0)));
        }
        trains.note(host(2), 1_100, true, at(1));
        assert!(trains.may_send(host(1_000), 100, at(1)));
        trains.note(host(3), 1_200, true, at(1));
        assert!(!trains.may_send(host(1_000), 100, at(2)));
        assert!(trains.may_send(host(1_000), 100, at(31)));
    }

    #[test]
    fn the_table_is_bounded() {
        let trains = RefusedTrains::new();
        for n in 0..10_000 {
            trains.note(host(n), 1_400, true, at(0));
        }
        assert!(trains.state.lock("test").by_destination.len() <= MOST_DESTINATIONS);
        assert!(!trains.may_send(host(9_999), 1_400, at(0)));
    }
}
