//! A simulated network for the whole layer, in tokio's paused time, and peers that are not ours.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kcp_async::{
    Conv, DatagramSocket, EndpointConfig, KcpConfig, KcpEndpoint, KcpHeader, KcpStream, RecvMeta,
    Transmit,
};
use kcp_engine::{Command, EngineOptions, Instant, KcpEngine, Sn, Validation, WireTs};
use kcp_netem::{LinkConfig, Network, Time};
use tokio::sync::Notify;

/// Many sockets, a link between any two of them.
#[derive(Clone)]
pub(crate) struct Net {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

struct State {
    network: Network<SocketAddr>,
    epoch: tokio::time::Instant,
    inboxes: HashMap<SocketAddr, Inbox>,
    full: HashSet<SocketAddr>,
    /// How often a full socket will still say that it has room.
    false_hopes: u32,
    /// Sockets that join the datagrams of one source, as GRO does.
    joining: HashSet<SocketAddr>,
    sent: Vec<Sent>,
    sockets: u64,
}

#[derive(Default)]
struct Inbox {
    /// Which socket is bound here: one that was there before is gone, as after a restart.
    owner: u64,
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What a socket sent, lost or not.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) from: SocketAddr,
    pub(crate) datagram: Vec<u8>,
}

impl Net {
    /// A network with these links. The seed is printed, so a failure can be repeated.
    pub(crate) fn new(links: LinkConfig, seed: u64) -> Self {
        eprintln!("network seed {seed}");
        let net = Self {
            state: Arc::new(Mutex::new(State {
                network: Network::new(links, seed),
                epoch: tokio::time::Instant::now(),
                inboxes: HashMap::new(),
                full: HashSet::new(),
                false_hopes: 0,
                joining: HashSet::new(),
                sent: Vec::new(),
                sockets: 0,
            })),
            changed: Arc::new(Notify::new()),
        };
        tokio::spawn(net.clone().deliver());
        net
    }

    /// Lossless, 10 ms each way.
    pub(crate) fn clean() -> Self {
        Self::new(LinkConfig::new().delay(Duration::from_millis(10)), 0)
    }

    async fn deliver(self) {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut state = self.state.lock().unwrap();
                let now = state.now();
                while let Some(delivery) = state.network.poll(now) {
                    let Some(inbox) = state.inboxes.get_mut(&delivery.to) else {
                        continue;
                    };
                    inbox.arrived.push_back((delivery.from, delivery.datagram));
                    inbox.reader.take().into_iter().for_each(Waker::wake);
                }
                let next = state.network.next_deadline();
                next.map(|at| state.epoch + Duration::from_micros(at.as_micros()))
            };
            match next {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// A socket for an endpoint, in the place of an earlier one with this address.
    pub(crate) fn socket(&self, addr: SocketAddr) -> Arc<NetSocket> {
        let mut state = self.state.lock().unwrap();
        state.sockets += 1;
        let id = state.sockets;
        let inbox = Inbox {
            owner: id,
            ..Inbox::default()
        };
        state.inboxes.insert(addr, inbox);
        Arc::new(NetSocket {
            net: self.clone(),
            addr,
            id,
        })
    }

    pub(crate) fn endpoint(&self, addr: &str, config: impl Into<EndpointConfig>) -> KcpEndpoint {
        KcpEndpoint::with_socket(self.socket(addr.parse().unwrap()), config).unwrap()
    }

    /// A socket moved by hand.
    pub(crate) fn raw(&self, addr: &str) -> RawPeer {
        RawPeer {
            socket: self.socket(addr.parse().unwrap()),
        }
    }

    /// Sends from an address that is somebody else's.
    pub(crate) fn spoof(&self, from: &str) -> impl Fn(SocketAddr, &[u8]) + use<> {
        let (state, changed) = (Arc::clone(&self.state), Arc::clone(&self.changed));
        let from = from.parse().unwrap();
        move |to, datagram| {
            let mut state = state.lock().unwrap();
            let now = state.now();
            state.network.push(now, &from, &to, datagram.to_vec());
            changed.notify_one();
        }
    }

    /// Whether this socket says that it is full.
    pub(crate) fn set_full(&self, addr: SocketAddr, full: bool) {
        let mut state = self.state.lock().unwrap();
        if full {
            state.full.insert(addr);
        } else {
            state.full.remove(&addr);
            let writer = state
                .inboxes
                .get_mut(&addr)
                .and_then(|inbox| inbox.writer.take());
            writer.into_iter().for_each(Waker::wake);
        }
    }

    /// The next so many times a full socket says that it has room, and has none.
    pub(crate) fn raise_false_hopes(&self, times: u32) {
        self.state.lock().unwrap().false_hopes = times;
    }

    /// From now on this socket receives trains, as with GRO.
    pub(crate) fn join_datagrams(&self, addr: SocketAddr) {
        self.state.lock().unwrap().joining.insert(addr);
    }

    /// Nothing passes between the two.
    pub(crate) fn cut(&self, one: &str, other: &str, cut: bool) {
        let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
        self.state
            .lock()
            .unwrap()
            .network
            .set_partitioned(&one, &other, cut);
    }

    /// What was sent since the last call.
    pub(crate) fn take_sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.state.lock().unwrap().sent)
    }
}

impl State {
    fn is_replaced(&self, socket: &NetSocket) -> bool {
        self.inboxes[&socket.addr].owner != socket.id
    }

    fn now(&self) -> Time {
        Time::from_micros(self.epoch.elapsed().as_micros() as u64)
    }
}

#[derive(Clone)]
pub(crate) struct NetSocket {
    net: Net,
    addr: SocketAddr,
    id: u64,
}

impl std::fmt::Debug for NetSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NetSocket({})", self.addr)
    }
}

impl DatagramSocket for NetSocket {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.net.state.lock().unwrap();
        if state.full.contains(&self.addr) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.is_replaced(self) {
            return Ok(());
        }
        let now = state.now();
        for datagram in transmit.datagrams() {
            let sent = Sent {
                from: self.addr,
                datagram: datagram.to_vec(),
            };
            state.sent.push(sent);
            state
                .network
                .push(now, &self.addr, &transmit.destination, datagram.to_vec());
        }
        self.net.changed.notify_one();
        Ok(())
    }

    fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.state.lock().unwrap();
        if !state.full.contains(&self.addr) {
            return Poll::Ready(Ok(()));
        }
        if state.false_hopes > 0 {
            state.false_hopes -= 1;
            return Poll::Ready(Ok(()));
        }
        let inbox = state.inboxes.get_mut(&self.addr).unwrap();
        inbox.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.state.lock().unwrap();
        if state.is_replaced(self) {
            return Poll::Pending;
        }
        let joins = state.joining.contains(&self.addr);
        let inbox = state.inboxes.get_mut(&self.addr).unwrap();
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some((source, datagram)) = inbox.arrived.pop_front() else {
                break;
            };
            buf[..datagram.len()].copy_from_slice(&datagram);
            let stride = datagram.len();
            let mut len = stride;
            // Equal sizes only, and no more than a buffer holds.
            while joins && len + stride <= buf.len() {
                let next = inbox.arrived.front();
                let Some((_, datagram)) =
                    next.filter(|(from, next)| *from == source && next.len() == stride)
                else {
                    break;
                };
                buf[len..len + stride].copy_from_slice(datagram);
                len += stride;
                inbox.arrived.pop_front();
            }
            *meta = RecvMeta {
                source,
                len,
                stride,
                destination: None,
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        inbox.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn max_transmit_segments(&self) -> usize {
        16
    }
}

/// Sends and receives datagrams by hand.
pub(crate) struct RawPeer {
    socket: Arc<NetSocket>,
}

impl RawPeer {
    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let segment_size = datagram.len();
        let transmit = Transmit {
            destination: to,
            contents: datagram,
            segment_size,
            source: None,
        };
        self.socket.try_send(&transmit).unwrap();
    }

    pub(crate) async fn recv(&self) -> Vec<u8> {
        let mut storage = [0; 65_536];
        let mut meta = [RecvMeta::default()];
        poll_fn(|cx| {
            self.socket
                .poll_recv(cx, &mut [IoSliceMut::new(&mut storage)], &mut meta)
        })
        .await
        .unwrap();
        storage[..meta[0].len].to_vec()
    }

    /// What arrives within this time.
    pub(crate) async fn recv_within(&self, time: Duration) -> Option<Vec<u8>> {
        tokio::time::timeout(time, self.recv()).await.ok()
    }
}

/// A peer that speaks plain C KCP: no mark, no FIN, ticks only.
pub(crate) struct StockPeer {
    pub(crate) engine: KcpEngine,
    raw: RawPeer,
    to: SocketAddr,
    epoch: tokio::time::Instant,
    /// It neither sends nor hears.
    pub(crate) mute: bool,
}

impl StockPeer {
    pub(crate) fn new(raw: RawPeer, to: SocketAddr, conv: u32) -> Self {
        let options = EngineOptions {
            validation: Validation::AsC,
            ..EngineOptions::default()
        };
        let config = KcpConfig::turbo_mode()
            .interval(Duration::from_millis(10))
            .flush_policy(kcp_async::FlushPolicy::Interval);
        Self {
            engine: KcpEngine::new(Conv::new(conv), &config, options).unwrap(),
            raw,
            to,
            epoch: tokio::time::Instant::now(),
            mute: false,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.epoch.elapsed().as_micros() as u64)
    }

    /// Lets it live until `done` says so, at most this long; says whether it did.
    pub(crate) async fn live(
        &mut self,
        time: Duration,
        mut done: impl FnMut(&mut KcpEngine) -> bool,
    ) -> bool {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            if done(&mut self.engine) {
                return true;
            }
            let now = self.now();
            self.engine.handle_timeout(now);
            let mut datagram = Vec::new();
            while self.engine.poll_transmit(now, &mut datagram, 1).is_some() {
                if !self.mute {
                    self.raw.send(self.to, &datagram);
                }
                datagram.clear();
            }
            if let Some(datagram) = self.raw.recv_within(Duration::from_millis(10)).await {
                let now = self.now();
                if !self.mute {
                    let _ = self.engine.input(now, &datagram);
                }
            }
        }
        done(&mut self.engine)
    }
}

pub(crate) const SERVER: &str = "10.0.0.1:4000";
pub(crate) const CLIENT: &str = "10.0.0.2:5000";

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A session between two endpoints; the client has said "hello" and the server has heard it.
pub(crate) struct Pair {
    pub(crate) client: KcpStream,
    pub(crate) server: KcpStream,
    pub(crate) client_endpoint: KcpEndpoint,
    pub(crate) server_endpoint: KcpEndpoint,
}

pub(crate) async fn pair(net: &Net, config: impl Into<EndpointConfig>) -> Pair {
    let config = config.into();
    pair_of(net, &config, &config).await
}

pub(crate) async fn pair_of(net: &Net, client: &EndpointConfig, server: &EndpointConfig) -> Pair {
    let server_endpoint = net.endpoint(SERVER, server);
    let client_endpoint = net.endpoint(CLIENT, client);
    let client = client_endpoint.connect(SERVER).await.unwrap();
    client.send(b"hello").await.unwrap();
    let (server, peer) = server_endpoint.accept().await.unwrap();
    assert_eq!(peer, addr(CLIENT));
    assert_eq!(server.recv_message().await.unwrap(), b"hello");
    Pair {
        client,
        server,
        client_endpoint,
        server_endpoint,
    }
}

/// The same, and both sides have been heard by both: each is proven and has shown the mark.
pub(crate) async fn pair_acquainted(
    net: &Net,
    client: &EndpointConfig,
    server: &EndpointConfig,
) -> Pair {
    let pair = pair_of(net, client, server).await;
    pair.server.send(b"welcome").await.unwrap();
    assert_eq!(pair.client.recv_message().await.unwrap(), b"welcome");
    pair.client.send(b"thanks").await.unwrap();
    assert_eq!(pair.server.recv_message().await.unwrap(), b"thanks");
    sleep(ms(100)).await;
    pair
}

/// A segment made by hand.
pub(crate) fn segment(conv: u32, command: Command, sn: u32, una: u32, payload: &[u8]) -> Vec<u8> {
    let header = KcpHeader {
        conv: Conv::new(conv),
        cmd: command.to_wire(),
        frg: 0,
        wnd: 128,
        ts: WireTs::new(1_000),
        sn: Sn::new(sn),
        una: Sn::new(una),
        len: payload.len() as u32,
    };
    [header.to_bytes().as_slice(), payload].concat()
}

/// The same with the mark.
pub(crate) fn marked(conv: u32, command: Command, sn: u32, una: u32) -> Vec<u8> {
    let mut bytes = segment(conv, command, sn, una, b"");
    bytes[5] = kcp_engine::CLOSE_MARK;
    bytes
}

pub(crate) fn headers(datagram: &[u8]) -> Vec<KcpHeader> {
    kcp_engine::segments(datagram)
        .map(|segment| segment.unwrap().header)
        .collect()
}

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 251) as u8).collect()
}

pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
