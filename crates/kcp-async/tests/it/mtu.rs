//! Datagrams that the path or the socket does not take (`docs/protocol.md` 2.3.1, 12.5.1).

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use kcp_async::{
    ConnectionError, Conv, DatagramSocket, EndpointConfig, FlushPolicy, KcpConfig, KcpEndpoint,
    KcpError, RecvMeta, Transmit,
};
use kcp_engine::Command;
use kcp_netem::{LinkConfig, Loss, Probability};
use tokio::time::Instant;

use crate::net::{
    CLIENT, Net, NetSocket, SERVER, StockPeer, addr, bytes, headers, ms, pair_acquainted, secs,
    segment, sleep,
};

fn bulk() -> EndpointConfig {
    KcpConfig::file_transfer().into()
}

fn link() -> LinkConfig {
    LinkConfig::new().delay(ms(10))
}

/// Larger datagrams vanish; ours have up to 1,400 bytes.
fn hole() -> LinkConfig {
    link().mtu_hole(Some(1_300))
}

async fn end_of(stream: &kcp_async::KcpStream) -> ConnectionError {
    let _ = stream.recv_message().await;
    stream.close_reason().unwrap()
}

/// protocol.md 12.5.1
#[tokio::test(start_paused = true)]
async fn a_session_whose_datagrams_are_too_large_ends_saying_so() {
    for (config, timeout) in [
        (KcpConfig::new(), 30),
        (KcpConfig::gaming().mtu(1_400), 30),
        (KcpConfig::file_transfer(), 10),
        (KcpConfig::file_transfer(), 120),
    ] {
        let net = Net::new(hole(), 0);
        let config = EndpointConfig::new(config).dead_peer_timeout(Some(secs(timeout)));
        let pair = pair_acquainted(&net, &config, &config).await;
        let start = Instant::now();
        pair.client.send(&bytes(20_000)).await.unwrap();
        // Small ones pass, in the other direction too.
        pair.server.send(b"news").await.unwrap();
        assert_eq!(pair.client.recv_message().await.unwrap(), b"news");
        assert_eq!(end_of(&pair.client).await, ConnectionError::Undeliverable);
        let elapsed = start.elapsed();
        assert!(
            (secs(timeout)..secs(timeout + 3)).contains(&elapsed),
            "{elapsed:?}"
        );
        assert_eq!(pair.client_endpoint.stats().sessions, 0);
    }
}

/// The same on the accepted side, while the peer goes on sending what passes.
#[tokio::test(start_paused = true)]
async fn a_download_in_which_nothing_large_passes_ends_too() {
    let net = Net::new(hole(), 0);
    let pair = pair_acquainted(&net, &bulk(), &bulk()).await;
    pair.server.send(&bytes(20_000)).await.unwrap();
    let chatter = async {
        loop {
            let _ = pair.client.send(b"still here").await;
            sleep(ms(50)).await;
        }
    };
    let start = Instant::now();
    let end = async {
        while pair.server.close_reason().is_none() {
            let _ = pair.server.recv_message().await;
        }
    };
    tokio::select! {
        () = chatter => {}
        () = end => {}
    }
    assert_eq!(
        pair.server.close_reason(),
        Some(ConnectionError::Undeliverable)
    );
    let elapsed = start.elapsed();
    assert!((secs(30)..secs(32)).contains(&elapsed), "{elapsed:?}");
}

/// One segment that never passes, beside many that do.
#[tokio::test(start_paused = true)]
async fn a_peer_that_acknowledges_all_but_one_segment() {
    let net = Net::clean();
    let client = net.endpoint(CLIENT, bulk());
    let raw = net.raw(SERVER);
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(&bytes(10_000)).await.unwrap();
    let start = Instant::now();
    while stream.close_reason().is_none() {
        let Some(datagram) = raw.recv_within(secs(1)).await else {
            continue;
        };
        for header in headers(&datagram) {
            let conv = header.conv.get();
            let mut answer = match header.command() {
                Some(Command::Push) if header.sn.get() != 2 => segment(
                    conv,
                    Command::Ack,
                    header.sn.get(),
                    header.sn.get().min(2),
                    b"",
                ),
                Some(Command::Wask) => segment(conv, Command::Wins, 0, 2, b""),
                _ => continue,
            };
            answer[8..12].copy_from_slice(&header.ts.get().to_le_bytes());
            raw.send(addr(CLIENT), &answer);
        }
    }
    assert_eq!(stream.close_reason(), Some(ConnectionError::Undeliverable));
    let elapsed = start.elapsed();
    assert!((secs(30)..secs(33)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lossy_link_is_no_hole() {
    for (loss, len) in [(10, 400_000), (30, 200_000), (50, 30_000)] {
        for seed in 0..20 {
            let net = Net::new(
                link().loss(Loss::Bernoulli(Probability::percent(loss))),
                seed,
            );
            let config = EndpointConfig::new(KcpConfig::file_transfer()).connect_timeout(None);
            let server = net.endpoint(SERVER, &config);
            let client = net.endpoint(CLIENT, &config);
            let stream = client.connect(SERVER).await.unwrap();
            stream.send(&bytes(len)).await.unwrap();
            let (accepted, _) = server.accept().await.unwrap();
            let mut received = 0;
            while received < len {
                let message = accepted.recv_message().await;
                received += message
                    .unwrap_or_else(|e| panic!("{loss} {seed}: {e}"))
                    .len();
            }
        }
    }
}

/// protocol.md 2.3.3: a peer that only receives would never learn that its full datagrams of ACKs are lost.
#[tokio::test(start_paused = true)]
async fn acknowledgements_cross_a_hole() {
    let net = Net::new(hole(), 0);
    let receiving = KcpConfig::turbo_mode()
        .flush_policy(FlushPolicy::Interval)
        .interval(ms(40));
    let sending = KcpConfig::turbo_mode().mtu(1_200);
    let pair = pair_acquainted(&net, &receiving.into(), &sending.into()).await;
    for _ in 0..20 {
        // As many ACKs as 1,400 bytes hold, in one tick.
        for n in 0..58 {
            pair.server.send(&[n]).await.unwrap();
        }
        for n in 0..58 {
            assert_eq!(pair.client.recv_message().await.unwrap(), [n]);
        }
        sleep(secs(1)).await;
    }
    let sender = pair.server.stats().engine;
    assert_eq!((sender.timeout_resends, sender.fast_resends), (0, 0));
}

/// Its window is 0 for most of the time, and nothing passes then.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_no_hole() {
    const LEN: usize = 2_000_000;
    let net = Net::clean();
    let pair = pair_acquainted(&net, &bulk(), &bulk()).await;
    let writing = async {
        let (_, mut write) = pair.client.into_split();
        write.send(&bytes(LEN)).await.unwrap();
        write
    };
    let reading = async {
        let mut received = 0;
        while received < LEN {
            sleep(secs(if received == 0 { 200 } else { 1 })).await;
            received += pair.server.recv_message().await.unwrap().len();
        }
        received
    };
    let (_write, received) = tokio::join!(writing, reading);
    assert_eq!(received, LEN);
}

/// A stock peer gets no close frames, answers each question, and may be just as unreachable for large datagrams.
#[tokio::test(start_paused = true)]
async fn a_stock_peer_behind_a_hole_and_one_that_reads_late() {
    for (links, ends) in [(hole(), true), (link(), false)] {
        let net = Net::new(links, 0);
        let client = net.endpoint(CLIENT, KcpConfig::turbo_mode());
        let stream = client
            .connect_with_conv(SERVER, Conv::new(7))
            .await
            .unwrap();
        let mut stock = StockPeer::new(net.raw(SERVER), addr(CLIENT), 7);
        stream.send(b"hello").await.unwrap();
        assert!(stock.live(secs(2), |engine| engine.has_readable()).await);
        stream.send(&bytes(100_000)).await.unwrap();
        stream.send(&bytes(100_000)).await.unwrap();
        stream.send(&bytes(100_000)).await.unwrap();
        let ended = stock
            .live(secs(90), |_| stream.close_reason().is_some())
            .await;
        assert_eq!(ended, ends);
        if ends {
            assert_eq!(stream.close_reason(), Some(ConnectionError::Undeliverable));
            continue;
        }
        // Only now it reads.
        let mut buffer = vec![0; 200_000];
        let mut left = 3;
        let read = |engine: &mut kcp_engine::KcpEngine| {
            while let Ok(len) = engine.recv(&mut buffer) {
                left -= usize::from(len == 100_000);
            }
            left == 0
        };
        assert!(stock.live(secs(60), read).await);
    }
}

/// A simulated socket that has opinions about sizes.
#[derive(Debug)]
struct Choosy {
    inner: Arc<NetSocket>,
    /// It refuses larger datagrams.
    largest: usize,
    /// It refuses trains of datagrams larger than this, with this error.
    largest_in_train: usize,
    refusal: i32,
    /// It is full after so many datagrams, once.
    room: Mutex<Option<usize>>,
    calls: Mutex<VecDeque<(usize, usize)>>,
}

const EMSGSIZE: i32 = if cfg!(windows) {
    10_040
} else if cfg!(target_os = "linux") {
    90
} else {
    40
};
const EINVAL: i32 = 22;

impl Choosy {
    fn new(net: &Net, address: &str, largest: usize, largest_in_train: usize) -> Self {
        Self {
            inner: net.socket(addr(address)),
            largest,
            largest_in_train,
            refusal: EMSGSIZE,
            room: Mutex::new(None),
            calls: Mutex::default(),
        }
    }
}

impl DatagramSocket for Choosy {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let count = transmit.datagrams().count();
        let size = transmit.segment_size.min(transmit.contents.len());
        self.calls.lock().unwrap().push_back((count, size));
        if count > 1 && size > self.largest_in_train {
            return Err(io::Error::from_raw_os_error(self.refusal));
        }
        if size > self.largest {
            return Err(io::Error::from_raw_os_error(EMSGSIZE));
        }
        let mut room = self.room.lock().unwrap();
        if let Some(left) = room.as_mut().filter(|_| size > 1_000) {
            if *left == 0 {
                *room = None;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            *left -= 1;
        }
        self.inner.try_send(transmit)
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

    fn max_transmit_segments(&self) -> usize {
        16
    }
}

/// Whatever the caller waits for, it learns the cause instead of the time-out.
#[tokio::test(start_paused = true)]
async fn a_datagram_too_large_for_the_socket_is_in_the_error() {
    let net = Net::clean();
    let _server = net.endpoint(SERVER, bulk());
    // Nothing was ever heard, and then a session that was fine until something large had to leave.
    for greets in [false, true] {
        let client = if greets { "10.0.0.3:1" } else { CLIENT };
        let socket = Arc::new(Choosy::new(&net, client, 1_000, 1_000));
        let endpoint = KcpEndpoint::with_socket(socket, bulk()).unwrap();
        let mut stream = endpoint.connect(SERVER).await.unwrap();
        if greets {
            stream.send(b"small").await.unwrap();
            sleep(secs(1)).await;
        }
        stream.send(&bytes(5_000)).await.unwrap();
        let error = stream.recv_message().await.unwrap_err();
        assert!(
            matches!(
                error,
                KcpError::Connection(ConnectionError::DatagramTooLarge)
            ),
            "{error}"
        );
        assert!(endpoint.stats().send_too_large > 0);
        assert_eq!(endpoint.stats().trains_refused, 0);

        // The same for who closes.
        let mut closing = endpoint.connect(SERVER).await.unwrap();
        closing.send(&bytes(5_000)).await.unwrap();
        let error = tokio::io::AsyncWriteExt::shutdown(&mut closing)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("size"), "{error}");
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
    }
}

/// protocol.md 2.3.1
#[tokio::test(start_paused = true)]
async fn a_refused_train_is_sent_singly_and_not_tried_again_for_a_while() {
    for refusal in [EMSGSIZE, EINVAL] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, bulk());
        let mut choosy = Choosy::new(&net, CLIENT, 2_000, 1_200);
        choosy.refusal = refusal;
        // The socket is full in the middle of what was a train.
        *choosy.room.get_mut().unwrap() = Some(3);
        let socket = Arc::new(choosy);
        let custom: Arc<dyn DatagramSocket> = socket.clone();
        let client = KcpEndpoint::with_socket(custom, bulk()).unwrap();
        let stream = client.connect(SERVER).await.unwrap();
        let refused = || {
            let calls = std::mem::take(&mut *socket.calls.lock().unwrap());
            calls
                .iter()
                .filter(|&&(count, size)| count > 1 && size > 1_200)
                .count()
        };
        let mut accepted = None;
        for round in 0..3 {
            stream.send(&bytes(100_000)).await.unwrap();
            let accepted = match &mut accepted {
                Some(stream) => stream,
                none => none.insert(server.accept().await.unwrap().0),
            };
            let mut received = 0;
            while received < 100_000 {
                received += accepted.recv_message().await.unwrap().len();
            }
            // The rest of the train that the socket had no room for is offered as a train once more.
            assert!(refused() <= if round == 0 { 2 } else { 0 }, "{round}");
        }
        let stats = stream.stats().engine;
        assert_eq!((stats.timeout_resends, stats.fast_resends), (0, 0));
        assert!(client.stats().trains_refused > 0);
        assert_eq!(client.stats().send_errors, 0);

        sleep(secs(31)).await;
        stream.send(&bytes(100_000)).await.unwrap();
        sleep(secs(1)).await;
        assert!(refused() > 0);
    }
}

/// Behind a path that drops datagrams of more than 1,300 bytes, whatever leaves whole; only the system's own mtu of 1,500
/// has it fragment.
#[derive(Debug)]
struct BehindHole(Arc<NetSocket>);

impl DatagramSocket for BehindHole {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        assert_eq!(transmit.datagrams().count(), 1, "no trains are offered");
        match transmit.contents.len() > 1_300 {
            true => Ok(()),
            false => self.0.try_send(transmit),
        }
    }

    fn fragments_above(&self, destination: SocketAddr) -> Option<usize> {
        assert!(destination.is_ipv6());
        Some(1_452)
    }

    fn try_send_fragmented(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // What is just large enough: stock peers have buffers of 1,500 bytes.
        assert!((1_453..=1_500).contains(&transmit.contents.len()));
        self.0.try_send(transmit)
    }

    fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send_ready(cx)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// protocol.md 2.3.1: from the first datagram on, and after something small has passed; where a full datagram is exactly as
/// large as the path's mtu, which the system does not fragment; to a stock peer, which skips the padding, and over IPv4,
/// where routers fragment and nothing of it happens.
#[tokio::test(start_paused = true)]
async fn large_ipv6_datagrams_that_fail_are_fragmented_here() {
    for (client, server, mtu, greets) in [
        ("[fd01::1]:5000", "[fd02::1]:4000", 1_400, false),
        ("[fd01::1]:5000", "[fd02::1]:4000", 1_400, true),
        ("[fd01::1]:5000", "[fd02::1]:4000", 1_452, true),
        (CLIENT, SERVER, 1_400, true),
    ] {
        let net = Net::clean();
        let socket = Arc::new(BehindHole(net.socket(addr(client))));
        let config = EndpointConfig::new(KcpConfig::turbo_mode().mtu(mtu));
        let endpoint = KcpEndpoint::with_socket(socket, config).unwrap();
        let stream = endpoint
            .connect_with_conv(server, Conv::new(7))
            .await
            .unwrap();
        let mut stock = StockPeer::new(net.raw(server), addr(client), 7);
        let mut buffer = vec![0; 100_000];
        if greets {
            stream.send(b"hello").await.unwrap();
            assert!(
                stock
                    .live(secs(2), |engine| engine.recv(&mut buffer).is_ok())
                    .await
            );
        }
        stream.send(&bytes(50_000)).await.unwrap();
        let start = Instant::now();
        let arrived = stock
            .live(secs(10), |engine| engine.recv(&mut buffer) == Ok(50_000))
            .await;
        let is_ipv6 = addr(server).is_ipv6();
        assert_eq!(arrived, is_ipv6, "{server} {greets}");
        assert_eq!(endpoint.stats().datagrams_fragmented > 0, is_ipv6);
        if is_ipv6 {
            assert_eq!(buffer[..50_000], bytes(50_000));
            assert!(start.elapsed() < secs(3), "{:?}", start.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_that_never_answer_are_refused_at_once() {
    let net = Net::clean();
    let endpoint = net.endpoint(CLIENT, bulk());
    for peer in [
        "10.0.0.1:0",
        "0.0.0.0:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
    ] {
        let error = endpoint.connect(peer).await.unwrap_err();
        assert_eq!(
            error.io_kind(),
            io::ErrorKind::InvalidInput,
            "{peer}: {error}"
        );
        let error = kcp_async::KcpStream::connect(peer, bulk())
            .await
            .unwrap_err();
        assert_eq!(
            error.io_kind(),
            io::ErrorKind::InvalidInput,
            "{peer}: {error}"
        );
    }
    for peer in ["[::1]:0", "[::]:9", "[ff02::1]:9", "[::ffff:224.0.0.1]:9"] {
        let error = kcp_async::KcpStream::connect(peer, bulk())
            .await
            .unwrap_err();
        assert_eq!(
            error.io_kind(),
            io::ErrorKind::InvalidInput,
            "{peer}: {error}"
        );
    }
}
