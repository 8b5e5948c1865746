//! Strangers: what opens a session, what is dropped, and how much of it (`docs/protocol.md` 13).

use kcp_async::{ConnectionError, Conv, EndpointConfig, KcpConfig, KcpEndpoint, KcpError};
use kcp_engine::Command;

use crate::net::{
    CLIENT, Net, Pair, SERVER, StockPeer, addr, headers, marked, ms, pair, secs, segment, sleep,
};

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

fn push(conv: u32, sn: u32) -> Vec<u8> {
    segment(conv, Command::Push, sn, 0, b"data")
}

fn counts(endpoint: &KcpEndpoint) -> (usize, usize, usize) {
    let stats = endpoint.stats();
    (stats.sessions, stats.embryos, stats.waiting)
}

#[tokio::test(start_paused = true)]
async fn hostile_datagrams_open_nothing_and_are_counted() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    let mut too_long = push(1, 0);
    too_long[20] = 200;
    let datagrams = [
        vec![],
        vec![0; 23],
        vec![0xff; 1_400],
        vec![0; 24],
        segment(1, Command::Ack, 0, 0, b""),
        segment(2, Command::Wask, 0, 0, b""),
        segment(3, Command::Wins, 0, 0, b""),
        marked(4, Command::Fin, 0, 0),
        marked(5, Command::Rst, u32::MAX, 0),
        marked(6, Command::Ack, 0, 0),
        segment(7, Command::Push, 128, 0, b"late"),
        segment(8, Command::Push, 0, 1, b"in the middle"),
        [push(9, 0), segment(9, Command::Push, 1, 3, b"")].concat(),
        [push(10, 0), marked(10, Command::Rst, 0, 0)].concat(),
        too_long,
    ];
    for datagram in &datagrams {
        // An empty train has no datagrams at all, so it is not one of them.
        if !datagram.is_empty() {
            raw.send(addr(SERVER), datagram);
        }
    }
    assert_eq!(raw.recv_within(secs(1)).await, None, "nothing is answered");
    assert_eq!(counts(&server), (0, 0, 0));
    let stats = server.stats();
    assert_eq!((stats.dropped_short, stats.dropped_unknown), (1, 13));
}

#[tokio::test(start_paused = true)]
async fn hostile_datagrams_leave_a_live_session_unharmed() {
    let net = Net::clean();
    let Pair {
        client,
        server,
        client_endpoint,
        ..
    } = pair(&net, turbo()).await;
    let conv = client.conv().get();
    let _keep = client_endpoint;
    // Sent from the client's own address: the network lets anybody do that.
    let garbage = (0..200_u32).map(|n| {
        let mut bytes = segment(conv, Command::Push, n * 7_919, n * 104_729, &[n as u8; 40]);
        bytes[4] = n as u8;
        bytes[5] = (n * 31) as u8;
        bytes[20] = (n * 17) as u8;
        bytes.truncate(64 - (n as usize % 50));
        bytes
    });
    let spoof = net.spoof(CLIENT);
    for datagram in garbage {
        spoof(addr(SERVER), &datagram);
        sleep(ms(1)).await;
    }
    for n in 0..20_u8 {
        client.send(&[n; 100]).await.unwrap();
        let heard = tokio::time::timeout(secs(5), server.recv_message()).await;
        // Plain KCP cannot tell a well-formed forgery from the truth; but nothing may break.
        heard.unwrap().unwrap();
    }
}

/// protocol.md 13.2: the embryo waits for its first segment, silently.
#[tokio::test(start_paused = true)]
async fn an_embryo_is_accepted_with_its_first_segment() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &push(1, 2));
    raw.send(addr(SERVER), &push(1, 1));
    sleep(ms(500)).await;
    assert_eq!(counts(&server), (1, 1, 0));
    assert_eq!(raw.recv_within(ms(500)).await, None);
    raw.send(addr(SERVER), &push(1, 0));
    let (stream, peer) = server.accept().await.unwrap();
    assert_eq!((peer, stream.conv()), (addr(CLIENT), Conv::new(1)));
    for _ in 0..3 {
        assert_eq!(stream.recv_message().await.unwrap(), b"data");
    }
    let acks: Vec<u32> = headers(&raw.recv().await)
        .iter()
        .map(|ack| ack.sn.get())
        .collect();
    assert_eq!(acks.len(), 3, "one datagram for all: {acks:?}");
    assert_eq!(counts(&server), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_embryo_without_a_beginning_dies() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    for sn in 1..100 {
        raw.send(addr(SERVER), &push(1, sn));
    }
    sleep(secs(9)).await;
    assert_eq!(counts(&server), (1, 1, 0));
    assert_eq!(server.stats().dropped_embryo, 99 - 32);
    sleep(secs(2)).await;
    assert_eq!(counts(&server), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_backlog_bounds_what_waits() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo().accept_backlog(10));
    let raw = net.raw(CLIENT);
    for conv in 1..=50 {
        raw.send(addr(SERVER), &push(conv, conv % 2));
    }
    sleep(ms(100)).await;
    assert_eq!(counts(&server), (10, 5, 5));
    assert_eq!(server.stats().dropped_backlog, 40);
    // Room again, and the retransmission gets in.
    server.accept().await.unwrap().0.abort();
    raw.send(addr(SERVER), &push(50, 0));
    sleep(ms(100)).await;
    assert_eq!(counts(&server), (10, 5, 5));
}

#[tokio::test(start_paused = true)]
async fn sessions_are_bounded_in_all_and_per_source() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo().max_sessions(6).per_source_limit(4));
    let near = net.raw(CLIENT);
    for conv in 1..=10 {
        near.send(addr(SERVER), &push(conv, 0));
    }
    sleep(ms(100)).await;
    assert_eq!(counts(&server), (4, 0, 4));
    let far = net.raw("10.0.9.1:1");
    for conv in 1..=10 {
        far.send(addr(SERVER), &push(conv, 0));
    }
    sleep(ms(100)).await;
    assert_eq!(counts(&server), (6, 0, 6));
    assert_eq!(server.stats().dropped_limit, 6 + 8);
    // What connects counts, and what is validated.
    let mut connected = Vec::new();
    for host in 1..=6 {
        let peer = format!("10.1.1.{host}:1");
        connected.push(server.connect(peer).await.unwrap());
    }
    let error = server.connect("10.1.1.7:1").await.unwrap_err();
    assert!(matches!(error, KcpError::Io(_)), "{error}");
}

/// protocol.md 13.3
#[tokio::test(start_paused = true)]
async fn conv_0_asks_for_an_id() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &push(0, 0));
    let (stream, _) = server.accept().await.unwrap();
    let conv = stream.conv();
    assert_ne!(conv.get(), 0);
    assert_eq!(headers(&raw.recv().await)[0].conv, conv);
    // The client has not heard it and repeats itself, with more; then it has.
    raw.send(addr(SERVER), &[push(0, 0), push(0, 1)].concat());
    raw.send(addr(SERVER), &push(conv.get(), 2));
    for _ in 0..3 {
        assert_eq!(stream.recv_message().await.unwrap(), b"data");
    }
    assert_eq!(counts(&server), (1, 0, 0), "no second session");
    let error = server
        .connect_with_conv("10.1.1.1:1", Conv::new(0))
        .await
        .unwrap_err();
    assert!(matches!(error, KcpError::Config(_)), "{error}");
}

/// protocol.md 13.3: the network held back a copy of the request until the session was over.
#[tokio::test(start_paused = true)]
async fn a_late_request_for_an_id_gets_no_second_session() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &push(0, 0));
    let (stream, _) = server.accept().await.unwrap();
    stream.abort();
    drop(stream);
    sleep(secs(1)).await;
    raw.send(addr(SERVER), &push(0, 0));
    sleep(secs(1)).await;
    assert_eq!(counts(&server), (0, 0, 0));
    assert_eq!(server.stats().accepted, 1);
    // Later it is a request like any other.
    sleep(secs(20)).await;
    raw.send(addr(SERVER), &push(0, 0));
    sleep(secs(1)).await;
    assert_eq!(server.stats().accepted, 2);
}

/// protocol.md 13.4: a stock client restarts on its old port.
#[tokio::test(start_paused = true)]
async fn a_new_session_replaces_the_old_one_once_it_is_proven() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 1);
    client.engine.send(b"first").unwrap();
    client.live(ms(100), |_| false).await;
    let (old, _) = server.accept().await.unwrap();

    // A forger can start as many as it likes: nothing happens to the old one.
    net.spoof(CLIENT)(addr(SERVER), &push(666, 0));
    sleep(ms(100)).await;
    let (forged, _) = server.accept().await.unwrap();
    forged.send(b"who is there?").await.unwrap();
    client.live(secs(5), |_| false).await;
    assert_eq!(old.close_reason(), None);

    let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 2);
    client.engine.send(b"second").unwrap();
    client.live(ms(100), |_| false).await;
    let (new, _) = server.accept().await.unwrap();
    assert_eq!((new.conv(), old.close_reason()), (Conv::new(2), None));
    new.send(b"prove yourself").await.unwrap();
    client.live(ms(200), |_| false).await;
    assert_eq!(old.close_reason(), Some(ConnectionError::Replaced));
    assert_eq!(new.close_reason(), None);
}

/// A peer of ours may have several sessions from one port, if both sides are told.
#[tokio::test(start_paused = true)]
async fn sessions_may_share_an_address_if_told() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let client = net.endpoint(CLIENT, turbo());
    let _first = client.connect(SERVER).await.unwrap();
    let error = client.connect(SERVER).await.unwrap_err();
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::AddrInUse
    );

    let client = net.endpoint("10.0.0.8:8", turbo().allow_shared_remote(true));
    let mut streams = Vec::new();
    for n in 0..20_u8 {
        let stream = client.connect(SERVER).await.unwrap();
        stream.send(&[n]).await.unwrap();
        let (accepted, _) = server.accept().await.unwrap();
        assert_eq!(accepted.recv_message().await.unwrap(), [n]);
        accepted.send(&[n, n]).await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), [n, n]);
        streams.push((stream, accepted));
    }
    sleep(secs(1)).await;
    for (stream, accepted) in &streams {
        assert_eq!(
            (stream.close_reason(), accepted.close_reason()),
            (None, None)
        );
    }
    let same = streams[0].0.conv();
    let error = client.connect_with_conv(SERVER, same).await.unwrap_err();
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::AddrInUse
    );
}

/// What the kernel joins into a train (GRO) is of one address, and may be of several conversations.
#[tokio::test(start_paused = true)]
async fn the_datagrams_of_a_train_find_their_own_sessions() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let client = net.endpoint(CLIENT, turbo().allow_shared_remote(true));
    let mut streams = Vec::new();
    for n in 0..5_u8 {
        let stream = client.connect(SERVER).await.unwrap();
        stream.send(&[n]).await.unwrap();
        let (accepted, _) = server.accept().await.unwrap();
        assert_eq!(accepted.recv_message().await.unwrap(), [n]);
        streams.push((stream, accepted));
    }
    sleep(secs(1)).await;
    net.join_datagrams(addr(SERVER));
    let before = server.stats().datagrams_received;
    let start = tokio::time::Instant::now();
    for round in 0..3_u8 {
        for (n, (stream, _)) in streams.iter().enumerate() {
            stream.send(&[n as u8, round]).await.unwrap();
        }
    }
    for (n, (_, accepted)) in streams.iter().enumerate() {
        for round in 0..3 {
            assert_eq!(accepted.recv_message().await.unwrap(), [n as u8, round]);
        }
    }
    assert_eq!(start.elapsed(), ms(10), "nothing was sent again");
    assert_eq!(server.stats().datagrams_received - before, 15);
}

/// Both sides open the same conversation towards each other.
#[tokio::test(start_paused = true)]
async fn two_connecting_sides_meet() {
    let net = Net::clean();
    let left = net.endpoint(CLIENT, turbo());
    let right = net.endpoint(SERVER, turbo());
    let one = left.connect_with_conv(SERVER, Conv::new(42)).await.unwrap();
    let other = right
        .connect_with_conv(CLIENT, Conv::new(42))
        .await
        .unwrap();
    one.send(b"from the left").await.unwrap();
    other.send(b"from the right").await.unwrap();
    assert_eq!(other.recv_message().await.unwrap(), b"from the left");
    assert_eq!(one.recv_message().await.unwrap(), b"from the right");
}
