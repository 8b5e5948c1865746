//! The relay's tasks: one receives from clients, one per client receives from the target, one sends, one expires.

use std::{
    io,
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::Arc,
    time::Duration,
};

use tokio::{net::UdpSocket, runtime::Runtime, sync::Notify, task};

use super::{
    open_upstream,
    state::{ClientId, Shared, State},
};
use crate::time::Time;

/// Runs the relay on this thread until `stop` is notified.
pub(super) fn run(runtime: &Runtime, shared: Arc<Shared>, socket: StdSocket, stop: &Notify) {
    runtime.block_on(async {
        let listener = match UdpSocket::from_std(socket) {
            Ok(socket) => Arc::new(socket),
            // Only possible when the runtime has no I/O driver; ours has one.
            Err(error) => unreachable!("a fresh socket joins a runtime with I/O: {error}"),
        };
        task::spawn(receive_from_clients(shared.clone(), listener.clone()));
        task::spawn(send_when_due(shared.clone(), listener));
        task::spawn(expire(shared.clone()));
        stop.notified().await;
    });
    // Their tasks hold the shared state that holds them.
    shared.lock().forget_clients();
}

async fn receive_from_clients(shared: Arc<Shared>, listener: Arc<UdpSocket>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut batch: Vec<(SocketAddr, Vec<u8>)> = Vec::with_capacity(BATCH);
    loop {
        let mut errors = u64::from(listener.readable().await.is_err());
        while batch.len() < BATCH {
            match listener.try_recv_from(&mut buffer) {
                Ok((len, from)) => batch.push((from, buffer[..len].to_vec())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A client that has gone: some systems report it on the next receive.
                Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
        push_up(&shared, &mut batch, errors);
        // A socket that never runs dry must not keep the other tasks from running.
        task::yield_now().await;
    }
}

async fn receive_from_target(shared: Arc<Shared>, id: ClientId, socket: Arc<UdpSocket>) {
    let mut batch: Vec<Vec<u8>> = Vec::with_capacity(BATCH);
    // One for all clients would need a lock; this one is given back to the system while unused.
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let mut errors = u64::from(socket.readable().await.is_err());
        while batch.len() < BATCH {
            match socket.try_recv(&mut buffer) {
                Ok(len) => batch.push(buffer[..len].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Connection refused: nobody listens at the target yet, or any more.
                Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
        push_down(&shared, id, &mut batch, errors);
        task::yield_now().await;
    }
}

/// Sends what is due, then sleeps until the next deadline.
async fn send_when_due(shared: Arc<Shared>, listener: Arc<UdpSocket>) {
    let mut due: Vec<(Exit, Vec<u8>)> = Vec::with_capacity(BATCH);
    loop {
        let now = shared.now();
        let more = take_due(&shared, now, &mut due);
        let mut errors = 0;
        for (exit, datagram) in due.drain(..) {
            let sent = match &exit {
                Exit::Client(address) => listener.send_to(&datagram, *address).await,
                Exit::Target(socket) => socket.send(&datagram).await,
            };
            errors += u64::from(sent.is_err());
        }
        if errors > 0 {
            shared.lock().socket_errors += errors;
        }
        if more {
            task::yield_now().await;
        } else {
            shared.work.notified().await;
        }
    }
}

async fn expire(shared: Arc<Shared>) {
    let timeout = shared.options.idle_timeout;
    let period = (timeout / 4).max(Duration::from_millis(1));
    loop {
        tokio::time::sleep(period).await;
        let now = shared.now();
        if let Some(idle_since) = now.checked_sub(timeout) {
            shared.lock().expire_clients(idle_since);
        }
    }
}

/// Where a datagram leaves the relay.
enum Exit {
    Client(SocketAddr),
    Target(Arc<UdpSocket>),
}

/// Takes a batch of what is due; if that is all, has the sender woken for the rest. Returns whether there may be more.
fn take_due(shared: &Shared, now: Time, due: &mut Vec<(Exit, Vec<u8>)>) -> bool {
    let mut state = shared.lock();
    collect_due(&mut state, now, due);
    if due.len() >= BATCH {
        return true;
    }
    if let Some(deadline) = state.next_deadline() {
        // Not before the pause is over: else every datagram would cost a wake-up of its own.
        shared.wake_at(deadline.max(now + SEND_PAUSE), now);
    }
    false
}

/// Fills `due` with what has arrived on either link, the earliest first: a flood one way must not starve the other.
fn collect_due(state: &mut State, now: Time, due: &mut Vec<(Exit, Vec<u8>)>) {
    while due.len() < BATCH {
        let goes_up = match (state.up.next_deadline(), state.down.next_deadline()) {
            (Some(up), Some(down)) => up <= down,
            (up, _) => up.is_some(),
        };
        let link = if goes_up {
            &mut state.up
        } else {
            &mut state.down
        };
        let Some((id, datagram)) = link.poll(now) else {
            return;
        };
        match state.client(id) {
            Some(client) if goes_up => due.push((Exit::Target(client.socket.clone()), datagram)),
            Some(client) => due.push((Exit::Client(client.address), datagram)),
            None => state.orphaned += 1,
        }
    }
}

fn push_up(shared: &Arc<Shared>, batch: &mut Vec<(SocketAddr, Vec<u8>)>, errors: u64) {
    let now = shared.now();
    let mut state = shared.lock();
    state.socket_errors += errors;
    for (from, datagram) in batch.drain(..) {
        let known = state
            .client_at(from)
            .or_else(|| admit_client(shared, &mut state, from, now));
        let Some(id) = known else {
            state.refused += 1;
            continue;
        };
        if let Some(client) = state.client(id) {
            client.last_used = now;
        }
        state.up.push(now, (id, datagram));
    }
    wake_sender(shared, &state, now);
}

fn push_down(shared: &Shared, id: ClientId, batch: &mut Vec<Vec<u8>>, errors: u64) {
    let now = shared.now();
    let mut state = shared.lock();
    state.socket_errors += errors;
    if let Some(client) = state.client(id)
        && !batch.is_empty()
    {
        client.last_used = now;
    }
    for datagram in batch.drain(..) {
        state.down.push(now, (id, datagram));
    }
    wake_sender(shared, &state, now);
}

fn wake_sender(shared: &Shared, state: &State, now: Time) {
    if let Some(deadline) = state.next_deadline() {
        shared.wake_at(deadline, now);
    }
}

/// Opens a socket for a new client and starts receiving on it. `None`: too many clients, or no socket to be had.
fn admit_client(
    shared: &Arc<Shared>,
    state: &mut State,
    from: SocketAddr,
    now: Time,
) -> Option<ClientId> {
    if state.client_count() >= shared.options.max_clients {
        return None;
    }
    let socket = open_upstream(shared.target, shared.options.socket_buffer).ok()?;
    let socket = Arc::new(UdpSocket::from_std(socket).ok()?);
    let id = state.reserve_id();
    let receiver =
        task::spawn(receive_from_target(shared.clone(), id, socket.clone())).abort_handle();
    state.add_client(id, from, socket, receiver, now);
    Some(id)
}

/// How many datagrams are received, or sent, before other tasks get their turn: some 0.1 ms of system calls.
const BATCH: usize = 64;

/// The largest UDP payload.
const MAX_DATAGRAM: usize = 65_535;

/// How long the sender waits at least between rounds: bounds wake-ups to 10 000 a second.
const SEND_PAUSE: Duration = Duration::from_micros(100);
