//! Peers that are gone, silent, or somebody else (`docs/protocol.md` 11.4, 12.4 to 12.6).

use std::time::Duration;

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpError, KcpStream, TimeoutError};
use kcp_engine::Command;
use kcp_netem::{LinkConfig, Loss, Probability};
use tokio::time::Instant;

use crate::net::{
    CLIENT, Net, Pair, SERVER, StockPeer, addr, bytes, headers, marked, ms, pair, pair_acquainted,
    secs, segment, sleep,
};

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

async fn error_of(stream: &KcpStream) -> KcpError {
    stream.recv_message().await.unwrap_err()
}

/// protocol.md 12.5
#[tokio::test(start_paused = true)]
async fn a_dead_peer_fails_both_halves_in_time() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    net.cut(CLIENT, SERVER, true);
    let (mut read, mut write) = pair.client.into_split();
    let start = Instant::now();
    write.send(b"anybody?").await.unwrap();
    let reading = async { read.recv_message().await.unwrap_err() };
    let writing = async {
        loop {
            if let Err(error) = write.send(&bytes(10_000)).await {
                break error;
            }
        }
    };
    for error in <[KcpError; 2]>::from(tokio::join!(reading, writing)) {
        assert!(
            matches!(error, KcpError::Connection(ConnectionError::PeerDead)),
            "{error}"
        );
    }
    let elapsed = start.elapsed();
    assert!((secs(30)..ms(30_100)).contains(&elapsed), "{elapsed:?}");
    assert_eq!(pair.client_endpoint.stats().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_is_survived() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    net.cut(CLIENT, SERVER, true);
    pair.client.send(b"late").await.unwrap();
    sleep(secs(26)).await;
    net.cut(CLIENT, SERVER, false);
    assert_eq!(pair.server.recv_message().await.unwrap(), b"late");
}

/// A closed window holds data back for minutes; the peer lives and answers, so it is not dead,
/// also when questions and answers are lost.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_not_dead() {
    let net = Net::clean();
    let config = turbo().protocol(KcpConfig::turbo_mode().window_size(256, 128));
    let pair = pair_acquainted(&net, &config, &config).await;
    let Pair {
        mut client, server, ..
    } = pair;
    let sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut client, &bytes(600_000))
            .await
            .unwrap();
        client
    });
    for _ in 0..20 {
        sleep(secs(18)).await;
        net.cut(CLIENT, SERVER, true);
        sleep(secs(12)).await;
        net.cut(CLIENT, SERVER, false);
    }
    let mut received = 0;
    while received < 600_000 {
        received += server.recv_message().await.unwrap().len();
    }
    drop(sending.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_after_its_time() {
    let net = Net::clean();
    let config = turbo().idle_timeout(Some(secs(60)));
    let pair = pair_acquainted(&net, &turbo(), &config).await;
    let start = Instant::now();
    let error = error_of(&pair.server).await;
    assert!(
        matches!(error, KcpError::Connection(ConnectionError::Idle)),
        "{error}"
    );
    assert!(
        (ms(59_800)..secs(61)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::TimedOut
    );
    assert_eq!(pair.client.close_reason(), None);
}

#[tokio::test(start_paused = true)]
async fn keepalives_keep_a_session_alive_and_notice_its_end() {
    let net = Net::clean();
    let config = turbo()
        .idle_timeout(Some(secs(60)))
        .keepalive(Some(secs(25)));
    let pair = pair_acquainted(&net, &config, &turbo()).await;
    net.take_sent();
    sleep(secs(250)).await;
    assert_eq!(pair.client.close_reason(), None);
    let sent = net.take_sent();
    let asked = sent.iter().filter(|sent| sent.from == addr(CLIENT)).count();
    assert!((8..=10).contains(&asked), "{asked} questions in 250 s");
    for sent in &sent {
        let expected = match sent.from == addr(CLIENT) {
            true => Command::Wask,
            false => Command::Wins,
        };
        assert_eq!(headers(&sent.datagram)[0].command(), Some(expected));
    }

    net.cut(CLIENT, SERVER, true);
    let start = Instant::now();
    let error = error_of(&pair.client).await;
    assert!(
        matches!(error, KcpError::Connection(ConnectionError::PeerDead)),
        "{error}"
    );
    assert!(start.elapsed() <= secs(25 + 31), "{:?}", start.elapsed());
}

/// protocol.md 12.4: the new server has never heard of the session and says so, once asked.
#[tokio::test(start_paused = true)]
async fn a_restarted_server_resets_its_old_clients() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    // It does not say goodbye.
    net.cut(CLIENT, SERVER, true);
    pair.server.abort();
    drop(pair.server);
    drop(pair.server_endpoint);
    sleep(secs(1)).await;
    net.cut(CLIENT, SERVER, false);
    let restarted = net.endpoint(SERVER, turbo());

    let start = Instant::now();
    pair.client.send(b"are you there?").await.unwrap();
    let error = error_of(&pair.client).await;
    assert!(
        matches!(error, KcpError::Connection(ConnectionError::Reset)),
        "{error}"
    );
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert!(start.elapsed() < secs(2), "{:?}", start.elapsed());
    let stats = restarted.stats();
    assert_eq!((stats.sessions, stats.accepted), (0, 0));
    assert!(stats.resets_sent >= 1);
}

/// protocol.md 12.6: a stock server makes a ghost out of the keepalive and answers with it.
#[tokio::test(start_paused = true)]
async fn a_stock_ghost_is_recognised() {
    let net = Net::clean();
    let endpoint = net.endpoint(CLIENT, turbo().keepalive(Some(secs(25))));
    let stream = endpoint.connect(SERVER).await.unwrap();
    let conv = stream.conv().get();
    let mut peer = StockPeer::new(net.raw(SERVER), addr(CLIENT), conv);
    stream.send(b"hello").await.unwrap();
    assert!(
        peer.live(secs(5), |engine| engine.peek_size().is_some())
            .await
    );
    peer.live(secs(1), |_| false).await;
    let mut ghost = StockPeer::new(net.raw(SERVER), addr(CLIENT), conv);
    let outcome = tokio::spawn(async move { error_of(&stream).await });
    ghost.live(secs(60), |_| false).await;
    let error = outcome.await.unwrap();
    assert!(
        matches!(error, KcpError::Connection(ConnectionError::Reset)),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_port_is_a_connect_timeout_from_the_first_data() {
    let net = Net::clean();
    let endpoint = net.endpoint(CLIENT, turbo().connect_timeout(Some(secs(3))));
    let stream = endpoint.connect(SERVER).await.unwrap();
    sleep(secs(100)).await;
    assert_eq!(
        stream.close_reason(),
        None,
        "connect sends nothing and waits for nothing"
    );
    let start = Instant::now();
    stream.send(b"hello?").await.unwrap();
    let error = error_of(&stream).await;
    assert!(
        matches!(error, KcpError::Timeout(TimeoutError::Connect)),
        "{error}"
    );
    assert_eq!(stream.close_reason(), Some(ConnectionError::ConnectTimeout));
    assert!(
        (secs(3)..ms(3_100)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

/// Over the real loopback, where the kernel reports the closed port.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_refusing_port_is_said_so() {
    let unused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = unused.local_addr().unwrap();
    drop(unused);
    let config = turbo().connect_timeout(Some(ms(300)));
    let stream = KcpStream::connect(addr, config).await.unwrap();
    stream.send(b"hello?").await.unwrap();
    let error = error_of(&stream).await;
    assert!(
        matches!(error, KcpError::Connection(ConnectionError::Refused)),
        "{error}"
    );
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}

/// protocol.md 11.4: a session whose peer does not acknowledge what it is answered lives by its new
/// data.
#[tokio::test(start_paused = true)]
async fn an_unproven_session_lives_by_new_data() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &segment(9, Command::Push, 0, 0, b"data"));
    let (stream, _) = server.accept().await.unwrap();
    stream.send(b"answer").await.unwrap();
    for sn in 1..4 {
        sleep(secs(8)).await;
        raw.send(addr(SERVER), &segment(9, Command::Push, sn, 0, b"data"));
    }
    sleep(secs(8)).await;
    assert_eq!(stream.close_reason(), None);
    // A repetition is not new.
    raw.send(addr(SERVER), &segment(9, Command::Push, 3, 0, b"data"));
    for _ in 0..4 {
        assert_eq!(stream.recv_message().await.unwrap(), b"data");
    }
    let start = Instant::now();
    let error = error_of(&stream).await;
    assert!(
        matches!(error, KcpError::Connection(ConnectionError::Unproven)),
        "{error}"
    );
    assert!(start.elapsed() < secs(3), "{:?}", start.elapsed());
}

/// protocol.md 11.3: 25 bytes, then silence but for acknowledgements: the 64 KiB answer arrives,
/// also when the first answer is lost.
#[tokio::test(start_paused = true)]
async fn a_stock_client_that_falls_silent_gets_its_answer() {
    for lost in [Duration::ZERO, ms(60), ms(400)] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, turbo());
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 77);
        client.engine.send(b"?").unwrap();
        client.live(ms(11), |_| false).await;
        let answering = tokio::spawn(async move {
            let (stream, _) = server.accept().await.unwrap();
            assert_eq!(stream.recv_message().await.unwrap(), b"?");
            stream.send(&bytes(65_536)).await.unwrap();
            (stream, server)
        });
        if !lost.is_zero() {
            net.cut(CLIENT, SERVER, true);
            client.live(lost, |_| false).await;
            net.cut(CLIENT, SERVER, false);
        }
        let whole = client
            .live(secs(10), |engine| engine.peek_size() == Some(65_536))
            .await;
        assert!(whole, "{lost:?} lost: {:?}", client.engine);
        let mut answer = vec![0; 65_536];
        client.engine.recv(&mut answer).unwrap();
        assert!(answer == bytes(65_536));
        drop(answering.await.unwrap());
    }
}

/// protocol.md 11.3: the same while one datagram in ten is lost, each way.
#[tokio::test(start_paused = true)]
async fn a_stock_client_that_falls_silent_gets_its_answer_from_a_lossy_link() {
    for seed in 0..1_000 {
        let link = LinkConfig::new()
            .delay(ms(10))
            .loss(Loss::Bernoulli(Probability::percent(10)));
        let net = Net::new(link, seed);
        let server = net.endpoint(SERVER, turbo());
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 77);
        client.engine.send(b"?").unwrap();
        let answering = tokio::spawn(async move {
            let (stream, _) = server.accept().await.unwrap();
            assert_eq!(stream.recv_message().await.unwrap(), b"?");
            stream.send(&bytes(65_536)).await.unwrap();
            (stream, server)
        });
        let whole = client
            .live(secs(20), |engine| engine.peek_size() == Some(65_536))
            .await;
        assert!(whole, "seed {seed}: {:?}", client.engine);
        drop(answering.await.unwrap());
    }
}

/// protocol.md 11.3: whoever forges a source address gets little sent there.
#[tokio::test(start_paused = true)]
async fn an_unproven_address_is_sent_little() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &segment(5, Command::Push, 0, 0, b"?"));
    let (stream, _) = server.accept().await.unwrap();
    assert!(stream.send(&bytes(100_000)).await.is_err(), "11.3");
    sleep(secs(60)).await;
    let sent: usize = net
        .take_sent()
        .iter()
        .filter(|sent| sent.from == addr(SERVER))
        .map(|sent| sent.datagram.len() + 28)
        .sum();
    assert!(sent <= 3 * 53 + 6 * 128, "{sent} bytes for 53");
    assert_eq!(stream.close_reason(), Some(ConnectionError::Unproven));
}

#[tokio::test(start_paused = true)]
async fn a_forged_reset_is_ignored() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    let conv = pair.client.conv().get();
    let forged = marked(conv, Command::Rst, u32::MAX, 0);
    // The network does not check sources, and neither may we.
    let server_socket = net.raw("10.9.9.9:9");
    server_socket.send(addr(CLIENT), &forged);
    pair.server.send(b"still here").await.unwrap();
    assert_eq!(pair.client.recv_message().await.unwrap(), b"still here");
}

#[tokio::test(start_paused = true)]
async fn streams_tell_what_happened_to_them() {
    let net = Net::clean();
    let Pair {
        client,
        server,
        server_endpoint,
        ..
    } = pair(&net, turbo()).await;
    client.send(&bytes(50_000)).await.unwrap();
    assert_eq!(server.recv_message().await.unwrap().len(), 50_000);
    sleep(secs(1)).await;
    let stats = client.stats();
    assert!(stats.proven && stats.peer_knows_close && !stats.socket_full);
    assert!(
        (ms(20)..ms(30)).contains(&stats.engine.smoothed_rtt),
        "{stats:?}"
    );
    assert_eq!(stats.engine.payload_sent, 50_005);
    assert_eq!(server.stats().engine.payload_received, 50_005);
    let endpoint = server_endpoint.stats();
    assert_eq!(
        (endpoint.sessions, endpoint.accepted, endpoint.waiting),
        (1, 1, 0)
    );
    assert!(endpoint.bytes_received > 50_005 && endpoint.socket_buffers.is_none());
    assert_eq!(
        (client.conv(), client.peer_addr()),
        (server.conv(), addr(SERVER))
    );
    assert_eq!(
        (client.local_addr(), server.peer_addr()),
        (addr(CLIENT), addr(CLIENT))
    );
}
