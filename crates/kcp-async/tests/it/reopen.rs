//! The same address and conversation id again, right after the end (`docs/protocol.md` 12.3).

use kcp_async::{Conv, EndpointConfig, KcpConfig, KcpEndpoint, KcpError};
use kcp_engine::Command;
use tokio::io::AsyncWriteExt;

use crate::net::{
    CLIENT, Net, Pair, RawPeer, SERVER, StockPeer, addr, headers, ms, pair_acquainted, secs,
    segment, sleep,
};

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

/// Ends a session in order; returns the server and the conversation id.
async fn closed_pair(net: &Net) -> (KcpEndpoint, KcpEndpoint, Conv) {
    let Pair {
        mut client,
        mut server,
        client_endpoint,
        server_endpoint,
    } = pair_acquainted(net, &turbo(), &turbo()).await;
    let conv = client.conv();
    client.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
    drop((client, server));
    sleep(secs(1)).await;
    (server_endpoint, client_endpoint, conv)
}

/// It timed out after 10 s: the server's TIME-WAIT against `connect_timeout`.
#[tokio::test(start_paused = true)]
async fn a_client_of_ours_comes_back_at_once() {
    for half_closes in [false, true] {
        let net = Net::clean();
        let (server, old, conv) = closed_pair(&net).await;
        drop(old);
        let endpoint = net.endpoint(CLIENT, turbo());
        let mut again = endpoint.connect_with_conv(SERVER, conv).await.unwrap();
        let start = tokio::time::Instant::now();
        again.send(b"again").await.unwrap();
        again.send(b"and more").await.unwrap();
        if half_closes {
            // Its FIN is of the new conversation too.
            again.shutdown().await.unwrap();
        }
        let (stream, _) = server.accept().await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), b"again");
        assert_eq!(stream.recv_message().await.unwrap(), b"and more");
        assert!(start.elapsed() < secs(1), "{:?}", start.elapsed());
        if !half_closes {
            stream.send(b"welcome back").await.unwrap();
            assert_eq!(again.recv_message().await.unwrap(), b"welcome back");
        }
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.time_wait_reopened), (2, 1));
    }
}

/// The record of the earlier session asks by WASK. A client that has heard only that asks nothing
/// itself: there is no session yet, and the answer would be RST.
#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_survives_losses() {
    let net = Net::clean();
    let (server, old, conv) = closed_pair(&net).await;
    drop(old);
    let endpoint = net.endpoint(CLIENT, turbo());
    let again = endpoint.connect_with_conv(SERVER, conv).await.unwrap();
    again.send(b"again").await.unwrap();
    // The WINS arrives, the next retransmissions do not.
    sleep(ms(60)).await;
    net.cut(CLIENT, SERVER, true);
    sleep(secs(3)).await;
    net.cut(CLIENT, SERVER, false);
    let (stream, _) = server.accept().await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"again");
    assert_eq!(again.close_reason(), None);
}

/// A stock client, after the server closed or gave the session up.
#[tokio::test(start_paused = true)]
async fn a_stock_client_comes_back_at_once() {
    for aborts in [false, true] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, turbo());
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
        client.engine.send(b"first").unwrap();
        client.live(ms(100), |_| false).await;
        let (stream, _) = server.accept().await.unwrap();
        stream.send(b"hello").await.unwrap();
        client.live(ms(500), |_| false).await;
        if aborts {
            stream.abort();
        }
        drop(stream);
        client.live(ms(500), |_| false).await;
        assert_eq!((server.stats().sessions, server.stats().time_wait), (0, 1));

        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
        client.engine.send(b"second").unwrap();
        client.live(secs(1), |_| false).await;
        assert_eq!(server.stats().accepted, 2, "aborts: {aborts}");
        let (stream, _) = server.accept().await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), b"second");
        stream.send(b"again").await.unwrap();
        assert!(
            client
                .live(secs(1), |engine| engine.peek_size() == Some(5))
                .await
        );
    }
}

/// A late copy of the finished session's first datagram opens nothing: its sender has a record too, or
/// is gone.
#[tokio::test(start_paused = true)]
async fn a_late_first_datagram_opens_nothing() {
    for is_gone in [false, true] {
        let net = Net::clean();
        let (server, client, conv) = closed_pair(&net).await;
        let client = (!is_gone).then_some(client);
        let spoof = net.spoof(CLIENT);
        for _ in 0..50 {
            spoof(
                addr(SERVER),
                &segment(conv.get(), Command::Push, 0, 0, b"hello"),
            );
            sleep(ms(150)).await;
        }
        let stats = server.stats();
        assert_eq!(
            (stats.sessions, stats.accepted, stats.time_wait_reopened),
            (0, 1, 0)
        );
        assert!(stats.time_wait_questions <= 50, "one per RTO");
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_onto_a_time_wait_of_its_own_says_why() {
    let net = Net::clean();
    let (_server, client, conv) = closed_pair(&net).await;
    let error = client.connect_with_conv(SERVER, conv).await.unwrap_err();
    assert!(matches!(&error, KcpError::Io(io) if io.kind() == std::io::ErrorKind::AddrInUse));
    assert!(error.to_string().contains("TIME-WAIT"), "{error}");
    client.connect(SERVER).await.unwrap();
    sleep(secs(11)).await;
    let config = turbo().allow_shared_remote(true);
    let other = net.endpoint("10.0.0.3:1", config);
    let one = other.connect_with_conv(SERVER, conv).await.unwrap();
    one.abort();
    sleep(ms(10)).await;
    let error = other.connect_with_conv(SERVER, conv).await.unwrap_err();
    assert!(error.to_string().contains("TIME-WAIT"), "given up: {error}");
    sleep(secs(11)).await;
    other.connect_with_conv(SERVER, conv).await.unwrap();
}

fn conv_of(datagram: &[u8]) -> u32 {
    headers(datagram)[0].conv.get()
}

/// An ACK for a PUSH, by a stock peer.
fn ack(push: &[u8], una: u32) -> Vec<u8> {
    let push = headers(push)
        .into_iter()
        .find(|header| header.command() == Some(Command::Push))
        .unwrap();
    let mut bytes = segment(push.conv.get(), Command::Ack, push.sn.get(), una, b"");
    bytes[8..12].copy_from_slice(&push.ts.get().to_le_bytes());
    bytes
}

async fn next_with(raw: &RawPeer, command: Command) -> Vec<u8> {
    loop {
        let datagram = raw.recv_within(secs(5)).await.expect("no answer");
        let has = |header: &kcp_async::KcpHeader| header.command() == Some(command);
        if headers(&datagram).iter().any(has) {
            return datagram;
        }
    }
}

/// protocol.md 13.3: `tokio_kcp`'s request for an id, after the end of the session that it had got.
#[tokio::test(start_paused = true)]
async fn conv_0_gets_a_new_id_at_once() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    let request = segment(0, Command::Push, 0, 0, b"an id, please");
    raw.send(addr(SERVER), &request);
    let (stream, _) = server.accept().await.unwrap();
    stream.send(b"welcome").await.unwrap();
    let welcome = next_with(&raw, Command::Push).await;
    let first = conv_of(&welcome);
    raw.send(addr(SERVER), &ack(&welcome, 1));
    sleep(ms(100)).await;
    drop(stream);
    sleep(ms(100)).await;
    assert_eq!(server.stats().sessions, 0);
    while raw.recv_within(ms(1)).await.is_some() {}

    raw.send(addr(SERVER), &request);
    let question = next_with(&raw, Command::Wask).await;
    assert_eq!(conv_of(&question), 0);
    raw.send(addr(SERVER), &segment(0, Command::Wins, 0, 0, b""));
    raw.send(addr(SERVER), &request);
    let (stream, _) = server.accept().await.unwrap();
    assert_ne!(stream.conv().get(), first);
    assert_ne!(stream.conv().get(), 0);
}

/// protocol.md 12.3: a stock peer repeats what it sent last because our last ACK was lost. The session
/// is done; the ACK is sent again.
#[tokio::test(start_paused = true)]
async fn a_stock_peer_s_repetitions_are_acknowledged_after_the_end() {
    for answers in [false, true] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, turbo());
        let raw = net.raw(CLIENT);
        for sn in 0..3 {
            raw.send(addr(SERVER), &segment(7, Command::Push, sn, 0, b"data"));
        }
        let (stream, _) = server.accept().await.unwrap();
        let mut una = 0;
        if answers {
            stream.send(b"thanks").await.unwrap();
            una = 1;
            raw.send(
                addr(SERVER),
                &ack(&next_with(&raw, Command::Push).await, una),
            );
        } else {
            // So that it is known for a stock peer.
            raw.send(addr(SERVER), &segment(7, Command::Wins, 0, 0, b""));
        }
        sleep(ms(100)).await;
        drop(stream);
        sleep(ms(100)).await;
        assert_eq!(server.stats().sessions, 0);
        while raw.recv_within(ms(1)).await.is_some() {}
        raw.send(addr(SERVER), &segment(7, Command::Push, 2, una, b"data"));
        let answer = headers(&next_with(&raw, Command::Ack).await)[0];
        assert_eq!(
            (answer.sn.get(), answer.una.get()),
            (2, 3),
            "answers: {answers}"
        );
    }
}
