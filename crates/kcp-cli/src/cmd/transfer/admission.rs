//! Slots for sessions, first come, first served, with a limit per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::greetings::Stage;

/// Who may work at a time. Only validated peers ask.
#[derive(Debug)]
pub(crate) struct Admission {
    slots: Arc<Semaphore>,
    /// Sessions that wait for one, and whose host has not all that it may have.
    waiting: AtomicUsize,
    hosts: Mutex<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    by_address: HashMap<Host, HostState>,
    sessions: usize,
}

#[derive(Debug)]
struct HostState {
    slots: Arc<Semaphore>,
    sessions: usize,
}

/// An IPv4 address or an IPv6 /56: providers give one customer that much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    V4([u8; 4]),
    V6([u8; 7]),
}

/// Where the listener knows a session from.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) admission: Arc<Admission>,
    pub(super) host: Host,
    pub(super) stage: Arc<Stage>,
}

/// A session that works or waits.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    host: Host,
    slots_of_host: Arc<Semaphore>,
}

/// Leave to work; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Slot {
    _of_host: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(SLOTS)),
            waiting: AtomicUsize::new(0),
            hosts: Mutex::default(),
        })
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn new(admission: &Arc<Admission>, address: IpAddr) -> Self {
        Self {
            admission: admission.clone(),
            host: Host::of(address),
            stage: Arc::default(),
        }
    }

    /// Whether a session of any host waits for a slot.
    pub(super) fn is_wanted(&self) -> bool {
        self.admission.waiting.load(Ordering::Relaxed) > 0
    }

    /// Takes a validated session in. None: too many sessions, from its address or in all.
    pub(super) fn enter(&self) -> Option<Ticket> {
        self.stage.validate();
        let mut hosts = self.admission.hosts();
        if hosts.sessions >= SESSIONS {
            return None;
        }
        let state = hosts
            .by_address
            .entry(self.host)
            .or_insert_with(|| HostState {
                slots: Arc::new(Semaphore::new(SLOTS_PER_HOST)),
                sessions: 0,
            });
        if state.sessions >= SESSIONS_PER_HOST {
            return None;
        }
        state.sessions += 1;
        let slots_of_host = state.slots.clone();
        hosts.sessions += 1;
        drop(hosts);
        Some(Ticket {
            admission: self.admission.clone(),
            host: self.host,
            slots_of_host,
        })
    }
}

impl Ticket {
    /// Waits for a slot, behind all that asked before, of the host first and then of all hosts: a
    /// host with many sessions stands in the common queue with a few of them only. Cancelling it
    /// gives up the place in the queue.
    pub(super) async fn slot(&self) -> Slot {
        // Semaphores of tokio are fair, and these are never closed.
        let of_host = self.slots_of_host.clone().acquire_owned().await.ok();
        let waits = Waits::begin(&self.admission.waiting);
        let of_all = self.admission.slots.clone().acquire_owned().await.ok();
        drop(waits);
        Slot {
            _of_host: of_host,
            _of_all: of_all,
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
        let mut hosts = self.admission.hosts();
        hosts.sessions -= 1;
        if let Some(state) = hosts.by_address.get_mut(&self.host) {
            state.sessions -= 1;
            if state.sessions == 0 {
                hosts.by_address.remove(&self.host);
            }
        }
    }
}

impl Host {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
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

    #[test]
    fn nothing_stays_of_a_host_that_left() {
        let admission = Admission::new();
        let host = place(&admission, "192.0.2.1");
        let tickets: Vec<_> = std::iter::from_fn(|| host.enter()).collect();
        assert!(host.enter().is_none(), "refused");
        drop(tickets);
        let hosts = admission.hosts();
        assert_eq!((hosts.sessions, hosts.by_address.len()), (0, 0));
    }
}
