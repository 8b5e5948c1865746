//! The simulated network: sockets over `kcp-netem` in tokio's paused time, which watch what passes.
//!
//! A datagram carries a checksum of eight bytes, in the place of UDP's header. In a world that
//! checks it, what a link corrupts is dropped before it arrives, as by a real UDP. In a world that
//! does not, headers are flipped here and arrive.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kcp_async::{DatagramSocket, IKCP_OVERHEAD, RecvMeta, Transmit};
use kcp_engine::segments;
use kcp_netem::{LinkConfig, Network, Time};
use tokio::sync::Notify;

use crate::ledger::Ledger;
use crate::random::{Random, mix};

/// All sockets of a world, and the links between them.
#[derive(Clone)]
pub(crate) struct Net {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

pub(crate) struct State {
    pub(crate) network: Network<SocketAddr>,
    /// What each host has said to whom, and what it may.
    ledger: Ledger,
    hosts: HashMap<SocketAddr, Host>,
    epoch: tokio::time::Instant,
    random: Random,
    /// One header in so many is flipped on the way; 0 is none, and then checksums are checked.
    flip_one_in: u64,
    generations: u64,
    bytes: u64,
    dropped_corrupt: u64,
    /// Print every datagram that is sent.
    trace: bool,
}

struct Host {
    generation: u64,
    /// One of ours, whose rules are checked; not a stock peer.
    ours: bool,
    gone: bool,
    full: bool,
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    polls: u64,
    /// Polls at one and the same moment.
    polls_now: (u64, u64),
}

impl Net {
    pub(crate) fn new(links: LinkConfig, seed: u64, flip_one_in: u64) -> Self {
        let state = State {
            network: Network::new(links, seed),
            ledger: Ledger::new(flip_one_in == 0),
            hosts: HashMap::new(),
            epoch: tokio::time::Instant::now(),
            random: Random::new(mix(seed)),
            flip_one_in,
            generations: 0,
            bytes: 0,
            dropped_corrupt: 0,
            trace: std::env::var_os("KCP_SIM_TRACE").is_some(),
        };
        let net = Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::new(Notify::new()),
        };
        tokio::spawn(net.clone().deliver());
        net
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn deliver(self) {
        loop {
            let next = {
                let mut state = self.lock();
                let now = state.now();
                while let Some(delivery) = state.network.poll(now) {
                    state.arrive(delivery.from, delivery.to, delivery.datagram);
                }
                let next = state.network.next_deadline();
                next.map(|at| state.epoch + Duration::from_micros(at.as_micros()))
            };
            let changed = self.changed.notified();
            match next {
                Some(at) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// A socket at this address. Whoever had it before is cut off.
    pub(crate) fn socket(&self, addr: SocketAddr, ours: bool) -> Arc<SimSocket> {
        let mut state = self.lock();
        state.generations += 1;
        let generation = state.generations;
        let host = Host {
            generation,
            ours,
            gone: false,
            full: false,
            arrived: VecDeque::new(),
            reader: None,
            writer: None,
            polls: 0,
            polls_now: (0, 0),
        };
        state.hosts.insert(addr, host);
        state.ledger.forget(addr);
        Arc::new(SimSocket {
            net: self.clone(),
            addr,
            generation,
        })
    }

    /// Nothing of this host is heard any more, and it hears nothing.
    pub(crate) fn vanish(&self, addr: SocketAddr) {
        self.lock().host(addr).gone = true;
    }

    /// Whether the socket of this host says that it is full.
    pub(crate) fn set_full(&self, addr: SocketAddr, full: bool) {
        let mut state = self.lock();
        let host = state.host(addr);
        host.full = full;
        let writer = match full {
            true => None,
            false => host.writer.take(),
        };
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }
}

impl State {
    pub(crate) fn now(&self) -> Time {
        Time::from_micros(self.epoch.elapsed().as_micros() as u64)
    }

    fn host(&mut self, addr: SocketAddr) -> &mut Host {
        self.hosts.get_mut(&addr).expect("a known host")
    }

    /// How often the driver of this host has looked for datagrams: once a turn, or more.
    pub(crate) fn polls(&mut self, addr: SocketAddr) -> u64 {
        self.host(addr).polls
    }

    /// Bytes that hosts have sent, lost or not.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn dropped_corrupt(&self) -> u64 {
        self.dropped_corrupt
    }

    pub(crate) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn push(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.bytes += datagram.len() as u64;
        let ours = self.host(from).ours;
        let stock = self.hosts.get(&to).is_some_and(|host| !host.ours);
        if ours {
            self.ledger.sends(from, to, datagram, stock);
        }
        if self.trace {
            trace(self.now(), from, to, datagram);
        }
        let mut wire = datagram.to_vec();
        if self.flip_one_in > 0 && self.random.below(self.flip_one_in) == 0 {
            let headers = wire.len().min(IKCP_OVERHEAD) as u64;
            let bit = self.random.below(headers * 8);
            wire[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        wire.extend(checksum(datagram).to_le_bytes());
        let now = self.now();
        self.network.push(now, &from, &to, wire);
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, mut wire: Vec<u8>) {
        let at = wire.len() - CHECKSUM_BYTES;
        let claimed = wire.split_off(at);
        if self.flip_one_in == 0 && claimed != checksum(&wire).to_le_bytes() {
            self.dropped_corrupt += 1;
            return;
        }
        let Some(host) = self.hosts.get_mut(&to).filter(|host| !host.gone) else {
            return;
        };
        if self.trace {
            let now = Time::from_micros(self.epoch.elapsed().as_micros() as u64);
            eprint!("ARRIVES ");
            trace(now, from, to, &wire);
        }
        if host.ours {
            self.ledger.hears(to, from, &wire);
        }
        host.arrived.push_back((from, wire));
        host.reader.take().into_iter().for_each(Waker::wake);
    }
}

fn trace(now: Time, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
    let text: Vec<_> = segments(datagram)
        .map_while(Result::ok)
        .map(|segment| {
            let header = segment.header;
            let (sn, una, len) = (header.sn.get(), header.una.get(), header.len);
            let (conv, wnd) = (header.conv, header.wnd);
            match header.command() {
                Some(command) => format!("{conv} {command:?} {sn} una={una} wnd={wnd} len={len}"),
                None => format!("{conv} {}", header.cmd),
            }
        })
        .collect();
    eprintln!("{now:?} {from} to {to}: {}", text.join(" | "));
}

fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, |sum, word| {
        (sum ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    })
}

/// An endpoint's way into the network.
pub(crate) struct SimSocket {
    net: Net,
    addr: SocketAddr,
    generation: u64,
}

impl SimSocket {
    pub(crate) fn weak(self: &Arc<Self>) -> Weak<Self> {
        Arc::downgrade(self)
    }

    /// The host, unless it is gone or somebody else has its address now.
    fn host<'a>(&self, state: &'a mut State) -> Option<&'a mut Host> {
        let host = state.hosts.get_mut(&self.addr)?;
        (host.generation == self.generation && !host.gone).then_some(host)
    }

    /// Sends one datagram by hand.
    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let transmit = Transmit {
            destination: to,
            contents: datagram,
            segment_size: datagram.len(),
            source: None,
        };
        let _ = self.try_send(&transmit);
    }

    /// Receives one datagram by hand.
    pub(crate) async fn recv(&self) -> (SocketAddr, Vec<u8>) {
        poll_fn(|cx| {
            let mut state = self.net.lock();
            let Some(host) = self.host(&mut state) else {
                return Poll::Pending;
            };
            match host.arrived.pop_front() {
                Some(arrived) => Poll::Ready(arrived),
                None => {
                    host.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl std::fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimSocket({})", self.addr)
    }
}

impl DatagramSocket for SimSocket {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.net.lock();
        let Some(host) = self.host(&mut state) else {
            return Ok(());
        };
        if host.full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for datagram in transmit.datagrams() {
            state.push(self.addr, transmit.destination, datagram);
        }
        self.net.changed.notify_one();
        Ok(())
    }

    fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        match self.host(&mut state) {
            Some(host) if host.full => {
                host.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.lock();
        let now = state.now().as_micros();
        let Some(host) = self.host(&mut state) else {
            return Poll::Pending;
        };
        host.polls += 1;
        host.polls_now = match host.polls_now {
            (at, count) if at == now => (at, count + 1),
            _ => (now, 1),
        };
        assert!(host.polls_now.1 < SPIN, "the driver of {} spins", self.addr);
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some((source, datagram)) = host.arrived.pop_front() else {
                break;
            };
            buf[..datagram.len()].copy_from_slice(&datagram);
            *meta = RecvMeta {
                source,
                len: datagram.len(),
                stride: datagram.len(),
                destination: None,
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        host.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn max_transmit_segments(&self) -> usize {
        16
    }
}

/// As many as UDP's header has, so that rates come out right.
pub(crate) const CHECKSUM_BYTES: usize = 8;
/// Turns of one driver within one moment. Some thousand sessions make some thousand turns of it.
const SPIN: u64 = 100_000;
