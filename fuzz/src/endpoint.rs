//! Two endpoints in paused time, strangers from drawn addresses, and the applications' calls.
//!
//! Everything goes through the public API over an in-memory socket. Checked: no panic; sessions,
//! embryos, the backlog and the time-wait stay within their limits after every operation; and when
//! every handle is dropped, nothing is left: no task, and nobody who holds the sockets.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kcp_async::{Conv, EndpointConfig, KcpConfig, KcpEndpoint, KcpHeader, KcpStream};
use kcp_engine::{CLOSE_MARK, Command, Sn, WireTs, segments};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Builder;

use super::bytes::Bytes;
use super::switch::{Switch, SwitchSocket};

const SERVER: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 1, 1];

const MAX_SESSIONS: usize = 12;
const BACKLOG: usize = 4;
const PER_SOURCE: usize = 3;
/// Source prefixes that [`draw_address`] knows.
const PREFIXES: usize = 3;
/// `time_wait.rs` keeps no more.
const TIME_WAIT: usize = 8_192 + 1_024;
/// An input of a few KiB does not get to open more.
const STREAMS: usize = 64;
/// Longer than any linger and time-wait here: the largest RTO is a minute.
const AFTERLIFE: Duration = Duration::from_secs(1_200);

struct World {
    switch: Arc<Switch>,
    server_socket: Arc<SwitchSocket>,
    client_socket: Arc<SwitchSocket>,
    server: Option<KcpEndpoint>,
    client: Option<KcpEndpoint>,
    streams: Vec<KcpStream>,
    /// Sessions that the server opened itself.
    connects: usize,
}

/// One operation after the other, the drivers in between.
pub fn endpoint(data: &[u8]) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be made");
    runtime.block_on(async {
        let mut bytes = Bytes(data);
        let mut world = World::new(&mut bytes);
        while !bytes.is_empty() {
            world.operate(&mut bytes).await;
            settle().await;
            world.check();
        }
        world.end().await;
    });
    assert_eq!(runtime.metrics().num_alive_tasks(), 0, "a driver lives on");
}

/// Lets the drivers have their turns; no time passes.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

impl World {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let flags = bytes.u8();
        let protocol = match flags & 3 {
            0 => KcpConfig::normal(),
            1 => KcpConfig::turbo_mode(),
            2 => KcpConfig::gaming(),
            _ => KcpConfig::file_transfer(),
        };
        let config = EndpointConfig::new(protocol.send_window(32).receive_window(128))
            .max_sessions(MAX_SESSIONS)
            .accept_backlog(BACKLOG)
            .per_source_limit(PER_SOURCE)
            .allow_shared_remote(flags & 4 != 0)
            .keepalive((flags & 8 != 0).then_some(Duration::from_secs(2)))
            .send_queue_limit(Some(20_000))
            .linger(Duration::from_millis(u64::from(flags >> 4) * 400));
        let switch = Arc::new(Switch::default());
        let server_socket = switch.socket((SERVER, 1).into(), 1 + usize::from(flags & 1) * 15);
        let client_socket = switch.socket((CLIENT, 1).into(), 4);
        let endpoint = |socket: &Arc<SwitchSocket>| {
            let socket = Arc::clone(socket);
            KcpEndpoint::with_socket(socket, &config).expect("every drawn setting is in range")
        };
        Self {
            server: Some(endpoint(&server_socket)),
            client: Some(endpoint(&client_socket)),
            switch,
            server_socket,
            client_socket,
            streams: Vec::new(),
            connects: 0,
        }
    }

    async fn operate(&mut self, bytes: &mut Bytes<'_>) {
        let op = bytes.u8();
        match op % 20 {
            0 => {
                let from = draw_address(bytes);
                let len = usize::from(bytes.u8());
                let stride = usize::from(bytes.u8());
                let datagram = bytes.take(len).to_vec();
                self.server_socket.arrive(from, datagram, stride);
            }
            1..=4 => {
                let from = draw_address(bytes);
                let datagram = self.draw_datagram(bytes);
                let stride = datagram.len();
                self.server_socket.arrive(from, datagram, stride);
            }
            5 => {
                // A train: several datagrams of the same size and source.
                let from = draw_address(bytes);
                let mut train = Vec::new();
                let stride = 24 + usize::from(bytes.u8() % 32);
                for _ in 0..bytes.u8() % 8 {
                    let header = self.draw_header(bytes, stride - 24);
                    train.extend_from_slice(&header.to_bytes());
                    train.resize(train.len() + stride - 24, 0xBB);
                }
                self.server_socket.arrive(from, train, stride);
            }
            6 => self.echo(bytes),
            7..=9 => self.deliver(bytes.u8()),
            10 => {
                let millis = match bytes.u8() {
                    0 => u64::from(bytes.u16()),
                    small => u64::from(small),
                };
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            11 | 12 => self.accept(op & 0x80 != 0),
            13 => self.connect(bytes).await,
            14..=17 => self.use_stream(bytes),
            18 => {
                let socket = match op & 0x80 {
                    0 => &self.server_socket,
                    _ => &self.client_socket,
                };
                match bytes.u8() % 5 {
                    0 => socket.set_full(true),
                    1 => socket.set_full(false),
                    2 => socket.fail_receive(),
                    3 => socket.refuse(bytes.u8() & 1 == 0),
                    _ => socket.fail_send(),
                }
            }
            _ => match bytes.u8() {
                0 => drop(self.server.take()),
                1 => drop(self.client.take()),
                2 => self.server.iter().for_each(KcpEndpoint::close),
                3 => self.client.iter().for_each(KcpEndpoint::close),
                4 => self.streams.clear(),
                5 => self.switch.lose_all(),
                _ => self.switch.deliver_all(),
            },
        }
    }

    /// Segments with fields near those that matter, for a conversation that may exist.
    fn draw_datagram(&self, bytes: &mut Bytes<'_>) -> Vec<u8> {
        let mut datagram = Vec::new();
        for _ in 0..=bytes.u8() % 3 {
            let payload = usize::from(bytes.u8() % 64);
            datagram.extend_from_slice(&self.draw_header(bytes, payload).to_bytes());
            datagram.resize(datagram.len() + payload, 0xAA);
        }
        datagram
    }

    fn draw_header(&self, bytes: &mut Bytes<'_>, payload: usize) -> KcpHeader {
        let choice = bytes.u8();
        let conv = match choice & 7 {
            0..=5 => Conv::new(u32::from(choice & 7)),
            _ if self.streams.is_empty() => Conv::new(9),
            _ => self.streams[usize::from(choice >> 3) % self.streams.len()].conv(),
        };
        let shape = bytes.u8();
        KcpHeader {
            conv,
            cmd: match shape & 15 {
                n @ 0..=5 => 81 + n,
                6 => bytes.u8(),
                _ => Command::Push.to_wire(),
            },
            frg: match shape >> 4 & 3 {
                0 | 1 => 0,
                2 => CLOSE_MARK,
                _ => bytes.u8(),
            },
            wnd: match shape >> 6 {
                0 => 0,
                1 => 1,
                _ => 128,
            },
            ts: WireTs::new(u32::from(bytes.u8())),
            sn: Sn::new(draw_number(bytes)),
            una: Sn::new(match shape & 64 {
                0 => 0,
                _ => draw_number(bytes),
            }),
            len: payload as u32,
        }
    }

    /// A peer that acknowledges what the server sent to somebody, as a true one would.
    fn echo(&self, bytes: &mut Bytes<'_>) {
        let Some((to, datagram)) = self.switch.sent_by_server(bytes.u8()) else {
            return;
        };
        let shape = bytes.u8();
        let mut answer = Vec::new();
        for segment in segments(&datagram).map_while(Result::ok) {
            let asked = segment.header;
            let cmd = match asked.command() {
                Some(Command::Push | Command::Fin) => Command::Ack,
                Some(Command::Wask) => Command::Wins,
                _ => continue,
            };
            let header = KcpHeader {
                cmd: cmd.to_wire(),
                frg: if shape & 1 == 0 { CLOSE_MARK } else { 0 },
                wnd: if shape & 2 == 0 { 128 } else { 0 },
                una: Sn::new(asked.sn.get().wrapping_add(u32::from(shape >> 2 & 1))),
                len: 0,
                ..asked
            };
            answer.extend_from_slice(&header.to_bytes());
        }
        if !answer.is_empty() {
            let stride = answer.len();
            self.server_socket.arrive(to, answer, stride);
        }
    }

    /// One of the datagrams between the two endpoints arrives, twice, or never.
    fn deliver(&self, choice: u8) {
        match choice & 3 {
            0 => self.switch.lose(choice >> 2),
            1 => self.switch.deliver(choice >> 2, true),
            _ => self.switch.deliver(choice >> 2, false),
        }
    }

    fn accept(&mut self, client: bool) {
        let endpoint = match client {
            false => &self.server,
            true => &self.client,
        };
        let mut cx = Context::from_waker(Waker::noop());
        if let Some(endpoint) = endpoint
            && let Poll::Ready(Ok((stream, _peer))) = endpoint.poll_accept(&mut cx)
        {
            self.streams.push(stream);
        }
    }

    async fn connect(&mut self, bytes: &mut Bytes<'_>) {
        let choice = bytes.u8();
        if self.streams.len() >= STREAMS {
            return;
        }
        let (endpoint, to) = match choice & 1 {
            0 => (&self.client, (SERVER, 1).into()),
            _ => (&self.server, draw_address(bytes)),
        };
        let Some(endpoint) = endpoint else { return };
        let opened = match choice >> 1 & 7 {
            conv @ 0..=5 => {
                let conv = Conv::new(u32::from(conv));
                endpoint.connect_with_conv(to, conv).await
            }
            _ => endpoint.connect(to).await,
        };
        if let Ok(stream) = opened {
            self.connects += usize::from(choice & 1);
            self.streams.push(stream);
        }
    }

    fn use_stream(&mut self, bytes: &mut Bytes<'_>) {
        let choice = bytes.u8();
        if self.streams.is_empty() {
            return;
        }
        let index = usize::from(choice >> 4) % self.streams.len();
        let stream = &mut self.streams[index];
        let mut cx = Context::from_waker(Waker::noop());
        match choice & 15 {
            0..=2 => {
                let message = vec![1; usize::from(bytes.u16()) % 6_000];
                let _ = stream.poll_send(&mut cx, &message);
            }
            3 | 4 => {
                let data = vec![2; usize::from(bytes.u16()) % 30_000];
                let _ = Pin::new(stream).poll_write(&mut cx, &data);
            }
            5 | 6 => {
                let mut buffer = vec![0; usize::from(bytes.u16()) % 4_096];
                let _ = stream.poll_recv(&mut cx, &mut buffer);
            }
            7 | 8 => {
                let mut buffer = vec![0; usize::from(bytes.u16()) % 4_096];
                let _ = Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut buffer));
            }
            9 => drop(Pin::new(stream).poll_flush(&mut cx)),
            10 | 11 => drop(Pin::new(stream).poll_shutdown(&mut cx)),
            12 => stream.abort(),
            13 => {
                let (read, write) = self.streams.swap_remove(index).into_split();
                match bytes.u8() & 3 {
                    0 => self.streams.extend(read.reunite(write)),
                    1 => drop(write),
                    _ => drop(read),
                }
            }
            14 => {
                let _ = (stream.stats(), stream.close_reason(), stream.peer_addr());
            }
            _ => drop(self.streams.swap_remove(index)),
        }
    }

    /// The limits hold.
    fn check(&self) {
        for endpoint in [&self.server, &self.client].into_iter().flatten() {
            let stats = endpoint.stats();
            // As many may connect while unvalidated ones fill the table.
            assert!(stats.sessions <= 2 * MAX_SESSIONS, "{stats:?}");
            assert!(stats.embryos + stats.waiting <= BACKLOG, "{stats:?}");
            assert!(stats.embryos <= stats.sessions, "{stats:?}");
            assert!(stats.time_wait <= TIME_WAIT, "{stats:?}");
        }
        if let Some(server) = &self.server {
            let stats = server.stats();
            let accepted = stats.sessions.saturating_sub(self.connects);
            assert!(accepted <= PREFIXES * PER_SOURCE, "{stats:?}");
        }
    }

    /// Every handle goes, the network falls silent, and in time nothing is left.
    async fn end(self) {
        let Self {
            switch,
            server_socket,
            client_socket,
            server,
            client,
            streams,
            connects: _,
        } = self;
        drop((streams, server, client));
        server_socket.set_full(false);
        client_socket.set_full(false);
        tokio::time::sleep(AFTERLIFE).await;
        settle().await;
        assert_eq!(Arc::strong_count(&server_socket), 1, "the server remains");
        assert_eq!(Arc::strong_count(&client_socket), 1, "the client remains");
        drop(switch);
    }
}

/// Eight addresses under three prefixes, one of them the client's.
fn draw_address(bytes: &mut Bytes<'_>) -> SocketAddr {
    match bytes.u8() & 7 {
        0 => (CLIENT, 1).into(),
        n @ 1..=3 => ([10, 0, 1, n], u16::from(n)).into(),
        n @ 4 | n @ 5 => ([10, 0, 2, n], 5).into(),
        n => ([10, 0, 3, 9], u16::from(n)).into(),
    }
}

/// Near 0 from both sides, or anything.
fn draw_number(bytes: &mut Bytes<'_>) -> u32 {
    match bytes.u8() {
        255 => bytes.u32(),
        254 => 127 + u32::from(bytes.u8() & 1),
        small => u32::from(small >> 4),
    }
}
