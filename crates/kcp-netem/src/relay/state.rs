//! What the relay's tasks share: the links and the clients.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{net::UdpSocket, sync::Notify, task::AbortHandle};

use super::{RelayOptions, RelayStats, alarm::Alarm};
use crate::{link::Link, rng::derive_seed, time::Time};

/// The state with its lock, its clock and its alarm. The lock is held for computation only, never over a system call
/// that may block.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: SocketAddr,
    pub(super) options: RelayOptions,
    /// Wakes the task that sends.
    pub(super) work: Arc<Notify>,
    pub(super) alarm: Alarm,
    start: Instant,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(
        target: SocketAddr,
        options: RelayOptions,
        work: Arc<Notify>,
    ) -> io::Result<Self> {
        let state = State {
            up: Link::new(options.up, derive_seed(options.seed, 0)),
            down: Link::new(options.down, derive_seed(options.seed, 1)),
            clients: HashMap::new(),
            addresses: HashMap::new(),
            next_client: 0,
            refused: 0,
            expired: 0,
            orphaned: 0,
            socket_errors: 0,
        };
        let alarm = Alarm::new(work.clone())?;
        Ok(Self {
            target,
            options,
            work,
            alarm,
            start: Instant::now(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and queues stay usable whatever panicked while holding the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    /// Sees to it that the sender wakes at `deadline`, or now if that has passed.
    pub(super) fn wake_at(&self, deadline: Time, now: Time) {
        if deadline <= now {
            self.work.notify_one();
        } else if let Some(at) = self
            .start
            .checked_add(Duration::from_micros(deadline.as_micros()))
        {
            self.alarm.set(at);
        }
    }
}

/// Tells clients apart; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientId(u64);

#[derive(Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) last_used: Time,
    receiver: AbortHandle,
}

impl Drop for Client {
    /// Stops the task that receives for this client, which closes the socket.
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) up: Link<(ClientId, Vec<u8>)>,
    pub(super) down: Link<(ClientId, Vec<u8>)>,
    clients: HashMap<ClientId, Client>,
    addresses: HashMap<SocketAddr, ClientId>,
    next_client: u64,
    pub(super) refused: u64,
    expired: u64,
    pub(super) orphaned: u64,
    pub(super) socket_errors: u64,
}

impl State {
    pub(super) fn client(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(&id)
    }

    pub(super) fn client_at(&self, address: SocketAddr) -> Option<ClientId> {
        self.addresses.get(&address).copied()
    }

    pub(super) fn client_count(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn reserve_id(&mut self) -> ClientId {
        self.next_client += 1;
        ClientId(self.next_client)
    }

    pub(super) fn add_client(
        &mut self,
        id: ClientId,
        address: SocketAddr,
        socket: Arc<UdpSocket>,
        receiver: AbortHandle,
        now: Time,
    ) {
        self.clients.insert(
            id,
            Client {
                address,
                socket,
                last_used: now,
                receiver,
            },
        );
        self.addresses.insert(address, id);
    }

    /// Forgets clients unused since before `horizon`.
    pub(super) fn expire_clients(&mut self, horizon: Time) {
        let before = self.clients.len();
        self.clients.retain(|_, client| client.last_used >= horizon);
        self.addresses.retain(|_, id| self.clients.contains_key(id));
        self.expired += (before - self.clients.len()) as u64;
    }

    pub(super) fn forget_clients(&mut self) {
        self.clients.clear();
        self.addresses.clear();
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        match (self.up.next_deadline(), self.down.next_deadline()) {
            (Some(up), Some(down)) => Some(up.min(down)),
            (up, down) => up.or(down),
        }
    }

    pub(super) fn stats(&self) -> RelayStats {
        RelayStats {
            up: self.up.stats(),
            down: self.down.stats(),
            clients: self.clients.len(),
            refused: self.refused,
            expired: self.expired,
            orphaned: self.orphaned,
            socket_errors: self.socket_errors,
        }
    }
}
