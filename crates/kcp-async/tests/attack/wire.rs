//! A socket that takes datagrams from any forged address, and small things for all attacks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use kcp_async::{DatagramSocket, EndpointConfig, KcpConfig, KcpEndpoint, RecvMeta, Transmit};
use kcp_engine::Command;

use crate::net::{Net, NetSocket, SERVER, addr, segment};

/// A server's socket on the simulated network into which datagrams of any source can be put.
///
/// A link per forged address would cost the test more than the server: what the server answers to
/// addresses outside 10.0.0.0/8 is counted and gone.
pub(crate) struct Wire {
    inner: Arc<NetSocket>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    injected: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
    tally: Tally,
    reached: HashSet<SocketAddr>,
    /// Sockets of the network outside 10.0.0.0/8.
    admitted: HashSet<SocketAddr>,
}

/// What the server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Datagrams to forged addresses, and their bytes.
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    /// Turns of the driver: each one asks the socket for datagrams.
    pub(crate) turns: u64,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// The endpoint at [`SERVER`], and the wire into it.
    pub(crate) fn server(net: &Net, config: EndpointConfig) -> (KcpEndpoint, Arc<Self>) {
        Self::server_at(net, SERVER, config)
    }

    /// The same at another address.
    pub(crate) fn server_at(
        net: &Net,
        at: &str,
        config: EndpointConfig,
    ) -> (KcpEndpoint, Arc<Self>) {
        let wire = Arc::new(Self {
            inner: net.socket(addr(at)),
            state: Mutex::default(),
        });
        let socket: Arc<dyn DatagramSocket> = Arc::clone(&wire) as _;
        (KcpEndpoint::with_socket(socket, config).unwrap(), wire)
    }

    /// Puts datagrams in, and waits until the server has taken them.
    pub(crate) async fn flood(&self, datagrams: impl IntoIterator<Item = (SocketAddr, Vec<u8>)>) {
        let mut datagrams = datagrams.into_iter().peekable();
        while datagrams.peek().is_some() {
            let reader = {
                let mut state = self.state.lock().unwrap();
                state.injected.extend(datagrams.by_ref().take(1_024));
                state.reader.take()
            };
            reader.into_iter().for_each(Waker::wake);
            while !self.state.lock().unwrap().injected.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        // The last batch is taken; let what it woke run too.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    /// Puts datagrams in until so many are there, and waits for nothing.
    pub(crate) fn top_up(
        &self,
        to: usize,
        datagrams: &mut impl Iterator<Item = (SocketAddr, Vec<u8>)>,
    ) {
        let mut state = self.state.lock().unwrap();
        let missing = to.saturating_sub(state.injected.len());
        state.injected.extend(datagrams.take(missing));
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Datagrams that the server has not taken.
    pub(crate) fn queued(&self) -> usize {
        self.state.lock().unwrap().injected.len()
    }

    /// What the server sends to this address arrives there.
    pub(crate) fn admit(&self, addr: SocketAddr) {
        self.state.lock().unwrap().admitted.insert(addr);
    }

    /// Forged addresses that the server has sent to since the last call.
    pub(crate) fn take_reached(&self) -> HashSet<SocketAddr> {
        std::mem::take(&mut self.state.lock().unwrap().reached)
    }

    /// The counts since the last call.
    pub(crate) fn take_tally(&self) -> Tally {
        std::mem::take(&mut self.state.lock().unwrap().tally)
    }
}

impl DatagramSocket for Wire {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if !is_forged(transmit.destination) || state.admitted.contains(&transmit.destination) {
            return self.inner.try_send(transmit);
        }
        state.reached.insert(transmit.destination);
        state.tally.datagrams += transmit.datagrams().count() as u64;
        state.tally.bytes += transmit.contents.len() as u64;
        Ok(())
    }

    fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_send_ready(cx)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock().unwrap();
        state.tally.turns += 1;
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(&mut *meta) {
            let Some((source, datagram)) = state.injected.pop_front() else {
                break;
            };
            buf[..datagram.len()].copy_from_slice(&datagram);
            let (len, stride) = (datagram.len(), datagram.len());
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
        state.reader = Some(cx.waker().clone());
        drop(state);
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        16
    }
}

fn is_forged(to: SocketAddr) -> bool {
    !matches!(to, SocketAddr::V4(v4) if v4.ip().octets()[0] == 10)
}

/// The `n`th forged address, each in a /24 of its own.
pub(crate) fn scattered(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([100 + a, b, c, 7], 40_000))
}

/// The `n`th forged address of one /24.
pub(crate) fn crowded(n: u32) -> SocketAddr {
    let host = n as u8;
    SocketAddr::from(([203, 0, 113, host], 1_024 + (n >> 8) as u16))
}

/// The smallest datagram that opens a session: 25 bytes.
pub(crate) fn opener(conv: u32) -> Vec<u8> {
    segment(conv, Command::Push, 0, 0, b"x")
}

/// The smallest that makes an embryo and no session.
pub(crate) fn embryo(conv: u32) -> Vec<u8> {
    segment(conv, Command::Push, 1, 0, b"x")
}

pub(crate) fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

/// Accepts everything and echoes every message, for as long as the test lives. How many bytes came
/// is counted.
pub(crate) fn echo(server: &KcpEndpoint) -> Arc<AtomicUsize> {
    let server = server.clone();
    let delivered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&delivered);
    tokio::spawn(async move {
        while let Ok((stream, _)) = server.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                while let Ok(message) = stream.recv_message().await {
                    count.fetch_add(message.len(), Ordering::Relaxed);
                    if message.is_empty() || stream.send(&message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    delivered
}

/// Bytes by peer.
pub(crate) type Delivered = Arc<Mutex<HashMap<SocketAddr, usize>>>;

/// Accepts everything and reads it, and never says a word. What came is counted.
pub(crate) fn sink(server: &KcpEndpoint) -> Delivered {
    let server = server.clone();
    let delivered = Delivered::default();
    let counts = Arc::clone(&delivered);
    tokio::spawn(async move {
        while let Ok((stream, peer)) = server.accept().await {
            let counts = Arc::clone(&counts);
            tokio::spawn(async move {
                let mut buffer = [0; 4_096];
                while let Ok(length @ 1..) = stream.recv(&mut buffer).await {
                    *counts.lock().unwrap().entry(peer).or_default() += length;
                }
            });
        }
    });
    delivered
}

/// One line for the table in `docs/testing.md`.
pub(crate) fn figure(threat: &str, ours: impl fmt::Display, kcp_go: &str) {
    println!("FIGURE | {threat} | {ours} | {kcp_go} |");
}

/// splitmix64: what an attacker guesses. The seed is printed.
pub(crate) struct Guess(u64);

impl Guess {
    pub(crate) fn new(seed: u64) -> Self {
        eprintln!("guess seed {seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u32
    }
}
