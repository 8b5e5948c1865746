//! Slots for sessions, first come, first served, with limits per address and network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::greetings::Stage;

/// Who may work at a time. Only validated peers ask.
#[derive(Debug)]
pub(crate) struct Admission {
    line: Line,
    networks: Mutex<Networks>,
}

/// Slots, and who waits for them.
#[derive(Clone, Debug)]
struct Line {
    slots: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Networks {
    states: HashMap<Network, NetworkState>,
    sessions: usize,
}

#[derive(Debug)]
struct NetworkState {
    line: Line,
    sessions: usize,
}

/// A host, which is an IPv4 address or an IPv6 /56, as providers give one customer; or an IPv6 network around it: sites and
/// customers of tunnel brokers have a /48, providers a /32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(Ipv4Addr),
    V6Len56([u16; 4]),
    V6Len48([u16; 3]),
    V6Len32([u16; 2]),
}

/// Where the listener knows a session from.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) admission: Arc<Admission>,
    networks: Vec<Network>,
    pub(super) stage: Arc<Stage>,
}

/// A session that works or waits.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    networks: Vec<Network>,
    /// Of each of them.
    lines: Vec<Line>,
}

/// Leave to work; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Slot {
    _of_networks: Vec<Option<OwnedSemaphorePermit>>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            line: Line::new(SLOTS),
            networks: Mutex::default(),
        })
    }

    fn networks(&self) -> MutexGuard<'_, Networks> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn new(admission: &Arc<Admission>, address: IpAddr) -> Self {
        Self {
            admission: admission.clone(),
            networks: Network::all_of(address),
            stage: Arc::default(),
        }
    }

    /// Whether a session waits for a slot that one of this place would free: in the common queue, or in that of one of its
    /// networks.
    pub(super) fn is_wanted(&self) -> bool {
        let networks = self.admission.networks();
        let states = self
            .networks
            .iter()
            .filter_map(|network| networks.states.get(network));
        let mut lines = states
            .map(|state| &state.line)
            .chain([&self.admission.line]);
        lines.any(Line::is_wanted)
    }

    /// Takes a validated session in. None: too many sessions, from one of its networks or in all.
    pub(super) fn enter(&self) -> Option<Ticket> {
        self.stage.validate();
        let mut networks = self.admission.networks();
        let is_full = |&network: &Network| {
            let state = networks.states.get(&network);
            state.is_some_and(|state| state.sessions >= network.sessions())
        };
        if networks.sessions >= SESSIONS || self.networks.iter().any(is_full) {
            return None;
        }
        networks.sessions += 1;
        let enter = |&network| {
            let state = networks.states.entry(network);
            let state = state.or_insert_with(|| NetworkState {
                line: Line::new(network.slots()),
                sessions: 0,
            });
            state.sessions += 1;
            state.line.clone()
        };
        let lines = self.networks.iter().map(enter).collect();
        Some(Ticket {
            admission: self.admission.clone(),
            networks: self.networks.clone(),
            lines,
        })
    }
}

impl Line {
    fn new(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            waiting: Arc::default(),
        }
    }

    /// Waits for a slot, behind all that asked before. Semaphores of tokio are fair, and these are never closed.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        let _waits = Waits::begin(&self.waiting);
        self.slots.clone().acquire_owned().await.ok()
    }

    fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Ticket {
    /// Waits for a slot, behind all that asked before, of the host first, then of its networks, and then of all hosts: a
    /// host or a network with many sessions stands in the common queue with a few of them only. Cancelling it gives up the
    /// place in the queue.
    pub(super) async fn slot(&self) -> Slot {
        let mut of_networks = Vec::new();
        for line in &self.lines {
            of_networks.push(line.slot().await);
        }
        Slot {
            _of_networks: of_networks,
            _of_all: self.admission.line.slot().await,
        }
    }
}

/// Counts a session for as long as it waits, also if that is cancelled.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut networks = self.admission.networks();
        networks.sessions -= 1;
        for network in &self.networks {
            if let Some(state) = networks.states.get_mut(network) {
                state.sessions -= 1;
                if state.sessions == 0 {
                    networks.states.remove(network);
                }
            }
        }
    }
}

impl Network {
    /// All that an address is in, the narrowest first.
    fn all_of(address: IpAddr) -> Vec<Self> {
        let v6 = match address.to_canonical() {
            IpAddr::V4(v4) => return vec![Self::V4(v4)],
            IpAddr::V6(v6) => v6,
        };
        let [first, second, third, fourth, .., high, low] = v6.segments();
        let v4 = |high, low| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
        match v6.segments() {
            // Of a translator (RFC 6052), and 6to4 (RFC 3056).
            [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![Self::V4(v4(high, low))],
            [0x2002, ..] => vec![Self::V4(v4(second, third))],
            _ => vec![
                Self::V6Len56([first, second, third, fourth & 0xff00]),
                Self::V6Len48([first, second, third]),
                Self::V6Len32([first, second]),
            ],
        }
    }

    const fn slots(self) -> usize {
        match self {
            Self::V4(_) | Self::V6Len56(_) => SLOTS_PER_HOST,
            Self::V6Len48(_) => 2 * SLOTS_PER_HOST,
            Self::V6Len32(_) => 4 * SLOTS_PER_HOST,
        }
    }

    const fn sessions(self) -> usize {
        match self {
            Self::V4(_) | Self::V6Len56(_) => SESSIONS_PER_HOST,
            Self::V6Len48(_) => 4 * SESSIONS_PER_HOST,
            Self::V6Len32(_) => 8 * SESSIONS_PER_HOST,
        }
    }
}

/// More copies than this at a time only slow each other down.
const SLOTS: usize = 64;
const SLOTS_PER_HOST: usize = 8;
/// Sessions that work or wait: what waits costs the memory of an idle session.
const SESSIONS: usize = 1024;
const SESSIONS_PER_HOST: usize = 64;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn place(admission: &Arc<Admission>, address: &str) -> Place {
        Place::new(admission, address.parse().unwrap())
    }

    #[test]
    fn one_host_never_keeps_another_out() {
        let admission = Admission::new();
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"] {
            let host = place(&admission, address);
            std::iter::repeat_with(|| host.enter())
                .take(40)
                .for_each(std::mem::forget);
        }
        let host = place(&admission, "192.0.2.1");
        assert!(host.enter().is_none(), "64 sessions are there already");
        let other = place(&admission, "192.0.2.2");
        let ticket = other.enter().unwrap();
        assert!(poll(pin!(ticket.slot())).is_ready());
    }

    #[test]
    fn a_host_with_many_sessions_has_eight_slots_and_the_next_in_turn() {
        let admission = Admission::new();
        let host = place(&admission, "2001:db8::1");
        let tickets: Vec<_> = std::iter::from_fn(|| host.enter()).collect();
        assert_eq!(tickets.len(), SESSIONS_PER_HOST);
        let same = place(&admission, "2001:db8:0:ff:2::1");
        assert!(same.enter().is_none(), "the same /56");
        let other = place(&admission, "2001:db8:0:100::1");
        assert!(poll(pin!(other.enter().unwrap().slot())).is_ready());
        let mut slots: Vec<_> = tickets.iter().map(|t| Box::pin(t.slot())).collect();
        let mut held: Vec<_> = slots
            .iter_mut()
            .filter_map(|slot| match poll(slot.as_mut()) {
                Poll::Ready(slot) => Some(slot),
                Poll::Pending => None,
            })
            .collect();
        assert_eq!(held.len(), SLOTS_PER_HOST);
        held.pop();
        assert!(poll(slots[9].as_mut()).is_pending(), "not out of turn");
        assert!(poll(slots[8].as_mut()).is_ready(), "in turn");
    }

    /// Those who hold slots learn that others wait for them, also where it is their network that has no more.
    #[test]
    fn a_slot_is_wanted_by_who_waits_for_any_of_its_bounds() {
        for (holders, waiter, other) in [
            (vec!["192.0.2.1"; 8], "192.0.2.1", "192.0.2.2"),
            (
                ["2001:db8:1::1", "2001:db8:1:100::1"].repeat(8),
                "2001:db8:1:200::1",
                "2001:db8:2::1",
            ),
        ] {
            let admission = Admission::new();
            let holds = |address| {
                let place = place(&admission, address);
                let ticket = place.enter().unwrap();
                assert!(poll(pin!(ticket.slot())).is_ready());
                place
            };
            let other = holds(other);
            let places: Vec<_> = holders
                .iter()
                .map(|address| {
                    let place = place(&admission, address);
                    let ticket = Box::leak(Box::new(place.enter().unwrap()));
                    let Poll::Ready(slot) = poll(pin!(ticket.slot())) else {
                        panic!("no slot")
                    };
                    std::mem::forget(slot);
                    place
                })
                .collect();
            assert!(places.iter().all(|place| !place.is_wanted()));
            let ticket = place(&admission, waiter).enter().unwrap();
            let mut slot = Box::pin(ticket.slot());
            assert!(poll(slot.as_mut()).is_pending());
            assert!(places.iter().all(Place::is_wanted), "{waiter}");
            assert!(!other.is_wanted(), "{waiter}");
            drop(slot);
            assert!(places.iter().all(|place| !place.is_wanted()));
        }
    }

    #[test]
    fn nothing_stays_of_a_host_that_left() {
        let admission = Admission::new();
        let host = place(&admission, "192.0.2.1");
        let tickets: Vec<_> = std::iter::from_fn(|| host.enter()).collect();
        assert!(host.enter().is_none(), "refused");
        drop(tickets);
        let host = place(&admission, "2001:db8::1");
        let ticket = host.enter();
        assert_eq!(admission.networks().states.len(), 3);
        drop(ticket);
        let networks = admission.networks();
        assert_eq!((networks.sessions, networks.states.len()), (0, 0));
    }

    /// Sessions of as many /56 of a network, and how many of them have a slot.
    fn fill(admission: &Arc<Admission>, prefixes: &[String]) -> (Vec<Ticket>, Vec<Slot>) {
        let tickets: Vec<_> = prefixes
            .iter()
            .flat_map(|prefix| {
                let host = place(admission, &format!("{prefix}::1"));
                std::iter::from_fn(move || host.enter())
            })
            .collect();
        let slots = tickets
            .iter()
            .filter_map(|ticket| match poll(pin!(ticket.slot())) {
                Poll::Ready(slot) => Some(slot),
                Poll::Pending => None,
            });
        let slots = slots.collect();
        (tickets, slots)
    }

    /// One customer of a tunnel broker held all 64 slots, and all 1,024 places in the queue.
    #[test]
    fn networks_of_ipv6_are_bounded_as_a_whole() {
        let admission = Admission::new();
        let site: Vec<_> = (0..64).map(|n| format!("2001:db8:0:{n:x}00")).collect();
        let provider: Vec<_> = (1..64).map(|n| format!("2001:db8:{n:x}:0")).collect();
        let (of_site, slots) = fill(&admission, &site);
        assert_eq!((of_site.len(), slots.len()), (256, 16));
        let (of_provider, more) = fill(&admission, &provider);
        assert_eq!((of_provider.len(), more.len()), (256, 16));
        assert_eq!(admission.line.waiting.load(Ordering::Relaxed), 0);
        for other in ["2001:db9::1", "192.0.2.1", "64:ff9b::192.0.2.2"] {
            let ticket = place(&admission, other).enter().unwrap();
            assert!(poll(pin!(ticket.slot())).is_ready(), "{other}");
        }
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        let host = |address: &str| Network::all_of(address.parse().unwrap());
        let ipv4 = host("198.51.100.2");
        for same in [
            "::ffff:198.51.100.2",
            "64:ff9b::198.51.100.2",
            "2002:c633:6402:1::1",
        ] {
            assert_eq!(host(same), ipv4, "{same}");
        }
        assert_eq!(host("64:ff9b:1::c633:6402").len(), 3);
    }
}
