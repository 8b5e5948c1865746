//! A system that has no way to the peer (`docs/protocol.md` 11.4, 12.5).

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};

use kcp_async::{
    ConnectionError, DatagramSocket, EndpointConfig, KcpConfig, KcpEndpoint, KcpError, RecvMeta,
    Transmit,
};
use tokio::time::Instant;

use crate::net::{CLIENT, Net, NetSocket, SERVER, addr, ms, secs, sleep};

/// Refuses every datagram with this error, unless it is 0.
#[derive(Debug)]
struct Refusing {
    inner: Arc<NetSocket>,
    errno: AtomicI32,
}

impl DatagramSocket for Refusing {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.errno.load(Ordering::Relaxed) {
            0 => self.inner.try_send(transmit),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
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
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

/// A client whose system refuses what it sends, and a server that echoes one message after the other.
fn endpoints(net: &Net, errno: i32) -> (Arc<Refusing>, KcpEndpoint) {
    let server = net.endpoint(SERVER, turbo());
    tokio::spawn(async move {
        let (stream, _) = server.accept().await.unwrap();
        while let Ok(message) = stream.recv_message().await {
            stream.send(&message).await.unwrap();
        }
    });
    let socket = Arc::new(Refusing {
        inner: net.socket(addr(CLIENT)),
        errno: AtomicI32::new(errno),
    });
    let custom: Arc<dyn DatagramSocket> = Arc::clone(&socket) as _;
    (socket, KcpEndpoint::with_socket(custom, turbo()).unwrap())
}

fn is_unreachable(error: &KcpError, errno: i32) -> bool {
    let kind = io::Error::from_raw_os_error(errno).kind();
    matches!(error, KcpError::Connection(ConnectionError::Unreachable(of)) if *of == kind)
}

/// EACCES, EINVAL and, on Linux, ENETUNREACH and EHOSTUNREACH. Before: "did not answer in time" after 10 s.
const REFUSALS: [i32; 4] = [13, 22, 101, 113];

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_be_reached_is_told_soon_and_why() {
    for errno in REFUSALS {
        let net = Net::clean();
        let (_socket, client) = endpoints(&net, errno);
        let stream = client.connect(SERVER).await.unwrap();
        let start = Instant::now();
        stream.send(b"anybody?").await.unwrap();
        let error = stream.recv_message().await.unwrap_err();
        assert!(is_unreachable(&error, errno), "{error}");
        let took = start.elapsed();
        assert!((ms(1_500)..ms(1_600)).contains(&took), "{took:?}");
    }
}

/// A route that comes within that time.
#[tokio::test(start_paused = true)]
async fn a_route_that_comes_soon_is_used() {
    for errno in REFUSALS {
        let net = Net::clean();
        let (socket, client) = endpoints(&net, errno);
        let stream = client.connect(SERVER).await.unwrap();
        stream.send(b"hello").await.unwrap();
        sleep(ms(1_200)).await;
        socket.errno.store(0, Ordering::Relaxed);
        assert_eq!(stream.recv_message().await.unwrap(), b"hello");
    }
}

/// A session in use has the time that a silent peer has, and then says why.
#[tokio::test(start_paused = true)]
async fn a_session_outlives_a_route_that_is_gone_for_a_while() {
    for errno in REFUSALS {
        let net = Net::clean();
        let (socket, client) = endpoints(&net, 0);
        let stream = client.connect(SERVER).await.unwrap();
        stream.send(b"hello").await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), b"hello");
        // The ACK leaves, which validates this side.
        sleep(secs(1)).await;
        for gone in [20, 60] {
            socket.errno.store(errno, Ordering::Relaxed);
            let start = Instant::now();
            stream.send(b"again").await.unwrap();
            sleep(secs(gone)).await;
            socket.errno.store(0, Ordering::Relaxed);
            match (gone, stream.recv_message().await) {
                (20, heard) => assert_eq!(heard.unwrap(), b"again"),
                (_, heard) => assert!(is_unreachable(&heard.unwrap_err(), errno)),
            }
            assert!(start.elapsed() >= secs(gone));
        }
    }
}
