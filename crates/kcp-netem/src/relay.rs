//! Two links between real UDP sockets.

mod alarm;
mod driver;
mod state;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;

use crate::{config::LinkConfig, stats::LinkStats};
use state::Shared;

/// A UDP relay that makes the path between clients and one server as bad as two [`LinkConfig`]s say.
///
/// Clients send to [`local_addr`](Self::local_addr); the relay forwards to the target from one socket per client, so
/// that the server sees a different address for each, and sends the answers back. All clients share one link up
/// (client to server) and one link down: one bottleneck each way, as behind one access line.
///
/// It runs on two threads of its own and needs no async runtime from the caller. A datagram never leaves before its
/// time; half leave within 0.23 ms of it and all but one in a hundred within 0.6 ms (measured with
/// `examples/relay_speed.rs` on two cores; it is the kernel's timer slack, a thread hop, and a pause of 0.1 ms between
/// rounds of sending that lets the relay work in batches). When all cores are busy the scheduler's delay comes on top.
/// On the same machine, with sender and receiver on it too, it carried 800 Mbit/s of 1400-byte datagrams without
/// losing one, and 1200 at most.
///
/// Dropping the relay closes its sockets and ends its threads before it returns; what is under way is lost.
///
/// ```no_run
/// use kcp_netem::{LinkConfig, Relay};
///
/// let server = "127.0.0.1:9000".parse().unwrap();
/// let any_port = "127.0.0.1:0".parse().unwrap();
/// let relay = Relay::bind(any_port, server, LinkConfig::demo(), LinkConfig::demo(), 1)?;
/// println!("connect to {} instead", relay.local_addr());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Relay {
    shared: Arc<Shared>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
    local_addr: SocketAddr,
}

impl Relay {
    /// Listens on `listen` (port 0: any) and forwards to `target`, through the link `up` towards the target and the
    /// link `down` back. `seed` decides the fate of datagrams; the two directions draw differently.
    ///
    /// # Errors
    /// What the system says about the socket or the threads.
    pub fn bind(
        listen: SocketAddr,
        target: SocketAddr,
        up: LinkConfig,
        down: LinkConfig,
        seed: u64,
    ) -> io::Result<Self> {
        Self::bind_with(listen, target, RelayOptions::new(up, down, seed))
    }

    /// Like [`bind`](Self::bind), with every option.
    ///
    /// # Errors
    /// As for `bind`.
    pub fn bind_with(
        listen: SocketAddr,
        target: SocketAddr,
        options: RelayOptions,
    ) -> io::Result<Self> {
        let socket = open_socket(listen, options.socket_buffer)?;
        let local_addr = socket.local_addr()?;
        let work = Arc::new(Notify::new());
        let shared = Arc::new(Shared::new(target, options, work)?);
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (theirs, until) = (shared.clone(), stop.clone());
        let thread = thread::Builder::new()
            .name("netem-relay".into())
            .spawn(move || driver::run(&runtime, theirs, socket, &until))?;
        Ok(Self {
            shared,
            stop,
            thread: Some(thread),
            local_addr,
        })
    }

    /// Where clients send to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Changes both links for datagrams that arrive from now on.
    pub fn set_links(&self, up: LinkConfig, down: LinkConfig) {
        let mut state = self.shared.lock();
        state.up.set_config(up);
        state.down.set_config(down);
    }

    /// Cuts both directions (`true`) or joins them again. What is under way still arrives.
    pub fn set_partitioned(&self, partitioned: bool) {
        let mut state = self.shared.lock();
        state.up.set_partitioned(partitioned);
        state.down.set_partitioned(partitioned);
    }

    /// Forgets every client, as a NAT that lost its table: the next datagram of each reaches the server from a new
    /// address, and answers to the old one are lost, those under way too.
    pub fn rebind_clients(&self) {
        self.shared.lock().forget_clients();
    }

    /// The counters so far. `offered_bytes` of a link are the bytes on the wire before any loss.
    pub fn stats(&self) -> RelayStats {
        self.shared.lock().stats()
    }
}

impl Drop for Relay {
    /// Closes the sockets and ends the threads; waits for both.
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panic would be ours; there is nobody to tell while dropping.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("local_addr", &self.local_addr)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The options of a [`Relay`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelayOptions {
    up: LinkConfig,
    down: LinkConfig,
    seed: u64,
    max_clients: usize,
    idle_timeout: Duration,
    socket_buffer: usize,
}

impl RelayOptions {
    /// The two links and the seed, with defaults for the rest.
    pub const fn new(up: LinkConfig, down: LinkConfig, seed: u64) -> Self {
        Self {
            up,
            down,
            seed,
            max_clients: 4096,
            idle_timeout: Duration::from_secs(60),
            socket_buffer: 4 << 20,
        }
    }

    /// How many clients there may be at a time, each with a socket of its own. Default 4096. Datagrams of further
    /// clients are dropped and counted.
    pub const fn max_clients(mut self, clients: usize) -> Self {
        self.max_clients = clients;
        self
    }

    /// After how long without a datagram either way a client is forgotten. Default 60 s; looked at four times in that
    /// time.
    pub const fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The size asked of the system for each socket's buffers, in bytes. Default 4 MiB. Getting less is no error.
    pub const fn socket_buffer(mut self, bytes: usize) -> Self {
        self.socket_buffer = bytes;
        self
    }
}

/// The counters of a [`Relay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RelayStats {
    /// The link from the clients to the target.
    pub up: LinkStats,
    /// The link from the target to the clients.
    pub down: LinkStats,
    /// Clients known now.
    pub clients: usize,
    /// Datagrams dropped because there were too many clients, or no socket for another.
    pub refused: u64,
    /// Clients forgotten because they were idle.
    pub expired: u64,
    /// Datagrams that came out of a link after their client had been forgotten.
    pub orphaned: u64,
    /// Datagrams that a socket refused to send, and errors while receiving (such as the target's port being closed).
    pub socket_errors: u64,
}

/// A non-blocking UDP socket with big buffers.
fn open_socket(address: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    // A smaller buffer than asked for still works: bursts are then lost earlier.
    let _ = socket.set_recv_buffer_size(buffer);
    let _ = socket.set_send_buffer_size(buffer);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket of its own for a client, connected to the target: the kernel then drops what others send to it.
fn open_upstream(target: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = open_socket(SocketAddr::new(any, 0), buffer)?;
    socket.connect(target)?;
    Ok(socket)
}
