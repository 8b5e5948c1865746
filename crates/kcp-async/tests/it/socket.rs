//! What an endpoint makes of its socket: sources, local addresses, errors (`docs/protocol.md` 13.1).

use std::io;
use std::net::IpAddr;

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpEndpoint, KcpError};
use kcp_engine::Command;
use tokio::time::timeout;

use crate::net::{CLIENT, Net, SERVER, addr, headers, marked, ms, secs, segment, sleep};
use crate::scripted::{Incoming, Scripted};

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

/// Echoes every message of every session.
fn echo(endpoint: &KcpEndpoint) {
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = endpoint.accept().await {
            tokio::spawn(async move {
                while let Ok(message) = stream.recv_message().await {
                    if message.is_empty() || stream.send(&message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

async fn is_served(net: &Net, from: &str) {
    let client = net.endpoint(from, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(b"still there?").await.unwrap();
    let answer = timeout(secs(5), stream.recv_message()).await.unwrap();
    assert_eq!(answer.unwrap(), b"still there?");
}

/// protocol.md 13.1: one answer to port 0 made the kernel's EINVAL turn trains off for the socket.
#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_be_answered_is_dropped() {
    for (bound, bad) in [
        (
            SERVER,
            [
                "10.0.0.9:0",
                "0.0.0.0:7",
                "224.0.0.9:7",
                "255.255.255.255:7",
            ],
        ),
        (
            "[2001:db8::1]:4000",
            [
                "[2001:db8::9]:0",
                "[::]:7",
                "[ff02::1]:7",
                "[::ffff:224.0.0.1]:7",
            ],
        ),
        (
            "[::ffff:10.0.0.1]:4000",
            [
                "[::ffff:10.0.0.9]:0",
                "[::ffff:0.0.0.0]:7",
                "[::ffff:239.0.0.1]:7",
                "[::ffff:255.255.255.255]:7",
            ],
        ),
    ] {
        let net = Net::clean();
        let (server, wire) = Scripted::endpoint(&net, bound, turbo());
        let mut dropped = 0;
        for source in bad {
            for datagram in [
                segment(7, Command::Push, 0, 0, b"x"),
                segment(8, Command::Push, 1, 0, b"x"),
                segment(0, Command::Push, 0, 0, b"x"),
                marked(9, Command::Wask, 0, 9),
                marked(9, Command::Fin, 0, 9),
                b"garbage".to_vec(),
            ] {
                wire.inject_datagram(source, &datagram);
                dropped += 1;
            }
        }
        sleep(secs(1)).await;
        let stats = server.stats();
        assert_eq!(stats.dropped_source, dropped);
        assert_eq!(
            (stats.sessions, stats.accepted, stats.resets_sent),
            (0, 0, 0)
        );
        assert_eq!((stats.dropped_unknown, stats.dropped_short), (0, 0));
        assert!(wire.take_sent().is_empty());
        let error = server.connect(bad[0]).await.unwrap_err();
        assert_eq!(error.io_kind(), io::ErrorKind::InvalidInput, "{error}");
    }
}

/// protocol.md 13.1: a RST, and the ACK of a TIME-WAIT.
#[tokio::test(start_paused = true)]
async fn answers_without_a_session_leave_from_the_address_that_was_asked() {
    let net = Net::clean();
    let (server, wire) = Scripted::endpoint(&net, SERVER, turbo());
    for local in ["10.0.0.77", "2001:db8::77", "::ffff:10.0.0.77"] {
        let local: IpAddr = local.parse().unwrap();
        wire.script().local = Some(local);
        wire.inject_datagram("10.0.0.9:9", &marked(9, Command::Wask, 0, 9));
        sleep(ms(10)).await;
        let sent = wire.take_sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(headers(&sent[0].contents)[0].command(), Some(Command::Rst));
        assert_eq!(
            (sent[0].to, sent[0].source),
            (addr("10.0.0.9:9"), Some(local))
        );
    }
    // No datagram can leave from these.
    for local in ["255.255.255.255", "224.0.0.1", "ff02::1", "0.0.0.0"] {
        wire.script().local = Some(local.parse().unwrap());
        wire.inject_datagram("10.0.0.9:9", &marked(9, Command::Wask, 0, 9));
        sleep(ms(10)).await;
        assert_eq!(wire.take_sent()[0].source, None);
    }

    let local = Some("10.0.0.78".parse().unwrap());
    wire.script().local = local;
    let client = net.endpoint(CLIENT, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(b"hello").await.unwrap();
    let (accepted, _) = server.accept().await.unwrap();
    drop((stream, accepted));
    sleep(secs(2)).await;
    assert_eq!(server.stats().time_wait, 1);
    let sent = wire.take_sent();
    assert!(sent.iter().all(|sent| sent.source == local), "{sent:?}");
    // The client's FIN again, as if our ACK had been lost.
    let conv = headers(&sent[0].contents)[0].conv.get();
    wire.script().local = Some("10.0.0.79".parse().unwrap());
    wire.inject_datagram(CLIENT, &marked(conv, Command::Fin, 1, 1));
    sleep(ms(10)).await;
    let sent = wire.take_sent();
    assert_eq!(headers(&sent[0].contents)[0].command(), Some(Command::Ack));
    assert_eq!(sent[0].source, Some("10.0.0.79".parse().unwrap()));
}

/// protocol.md 13.1: what anyone can forge does not move the answers of a validated session, on either side. It took a
/// WASK of 24 bytes to another address of the host: the peer dropped all that came from there.
#[tokio::test(start_paused = true)]
async fn a_validated_session_stays_at_its_local_address() {
    let net = Net::clean();
    let (server, server_wire) = Scripted::endpoint(&net, SERVER, turbo());
    let (client, client_wire) = Scripted::endpoint(&net, CLIENT, turbo());
    let one = Some("10.0.0.77".parse().unwrap());
    for wire in [&server_wire, &client_wire] {
        wire.script().local = one;
    }
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(b"hello").await.unwrap();
    let (accepted, _) = server.accept().await.unwrap();
    accepted.send(b"hello").await.unwrap();
    sleep(secs(1)).await;
    let conv = stream.conv().get();
    for (stream, wire, peer) in [
        (&accepted, &server_wire, CLIENT),
        (&stream, &client_wire, SERVER),
    ] {
        for datagram in [
            marked(conv, Command::Wask, 0, 1),
            marked(conv, Command::Wins, 0, 1),
            segment(conv, Command::Wask, 0, 1, b""),
            segment(conv, Command::Push, 0, 1, b"hello"),
            segment(conv, Command::Ack, 0, 1, b""),
            segment(conv, Command::Ack, 999, 999, b""),
        ] {
            for other in ["10.0.0.78", "10.0.0.255"] {
                wire.script().local = Some(other.parse().unwrap());
                wire.inject_datagram(peer, &datagram);
                sleep(ms(100)).await;
                wire.script().local = one;
                wire.take_sent();
                stream.send(b"answer").await.unwrap();
                let sent = wire.take_sent();
                assert!(sent.iter().all(|sent| sent.source == one), "{sent:?}");
                assert!(!sent.is_empty());
                sleep(ms(100)).await;
            }
        }
    }
}

/// The answers of a session that is not validated leave from the address that was asked last, so that a datagram
/// that came before the client's keeps nothing from it.
#[tokio::test(start_paused = true)]
async fn a_session_is_answered_from_the_address_that_was_asked_last() {
    let net = Net::clean();
    let (server, wire) = Scripted::endpoint(&net, SERVER, turbo());
    echo(&server);
    for (sn, local) in [(0, "10.0.0.77"), (1, "10.0.0.78"), (2, "10.0.0.77")] {
        let local = Some(local.parse().unwrap());
        wire.script().local = local;
        wire.inject_datagram("10.0.0.9:9", &segment(7, Command::Push, sn, 0, b"x"));
        sleep(ms(1)).await;
        let sent = wire.take_sent();
        assert!(!sent.is_empty() && sent.iter().all(|sent| sent.source == local));
        wire.inject_datagram("10.0.0.9:9", &segment(7, Command::Ack, 999, 999, b""));
        sleep(ms(1)).await;
    }
}

/// Windows reports WSAECONNRESET once for each datagram sent to a host where nothing listens; one
/// such client ended the listener after 1,000 of them in a row.
#[tokio::test(start_paused = true)]
async fn a_dead_peer_does_not_end_the_endpoint() {
    for kind in [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkDown,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::Other,
    ] {
        let net = Net::clean();
        let (server, wire) = Scripted::endpoint(&net, SERVER, turbo());
        let client = net.endpoint(CLIENT, turbo());
        let stream = client.connect(SERVER).await.unwrap();
        stream.send(b"hello").await.unwrap();
        let (accepted, _) = server.accept().await.unwrap();
        accepted.send(b"hello").await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), b"hello");
        sleep(ms(200)).await;
        wire.script().dead_error = Some(kind);
        wire.script().dead.insert(addr(CLIENT));
        tokio::spawn(async move { while accepted.send(&[7; 1_000]).await.is_ok() {} });
        sleep(secs(25)).await;
        // And a burst without anything received in between.
        wire.inject((0..5_000).map(|_| Incoming::Error(kind)));
        sleep(secs(1)).await;
        assert!(server.stats().receive_errors > 5_000);
        echo(&server);
        is_served(&net, "10.0.0.3:1").await;
    }
}

/// A socket that fails without end neither ends the endpoint nor keeps the driver busy.
#[tokio::test(start_paused = true)]
async fn a_socket_that_always_fails_is_tried_at_a_low_rate() {
    let net = Net::clean();
    let (server, wire) = Scripted::endpoint(&net, SERVER, turbo());
    echo(&server);
    wire.script().recv_fails = Some(io::ErrorKind::NetworkDown);
    is_retried_slowly(&wire, |wire| wire.script().recv_calls).await;
    wire.script().recv_fails = None;
    sleep(secs(1)).await;
    is_served(&net, CLIENT).await;
}

async fn is_retried_slowly(wire: &Scripted, calls: impl Fn(&Scripted) -> u64) {
    wire.inject([]);
    sleep(secs(2)).await;
    let before = calls(wire);
    sleep(secs(10)).await;
    let each_second = (calls(wire) - before) / 10;
    assert!((1..=1_000).contains(&each_second), "{each_second} a second");
}

/// The same for the question whether there is room to send, failing or wrong.
#[tokio::test(start_paused = true)]
async fn readiness_that_fails_or_is_wrong_is_asked_at_a_low_rate() {
    for fails in [Some(io::ErrorKind::NetworkDown), None] {
        let net = Net::clean();
        let (server, wire) = Scripted::endpoint(&net, SERVER, turbo());
        let client = net.endpoint(CLIENT, turbo());
        let stream = client.connect(SERVER).await.unwrap();
        stream.send(b"hello").await.unwrap();
        let (accepted, _) = server.accept().await.unwrap();
        wire.script().full = true;
        wire.script().ready_fails = fails;
        accepted.send(b"answer").await.unwrap();
        sleep(secs(1)).await;
        let before = wire.script().ready_calls;
        sleep(secs(5)).await;
        let each_second = (wire.script().ready_calls - before) / 5;
        assert!((1..=5_000).contains(&each_second), "{each_second} a second");
        assert_eq!(server.stats().send_ready_errors > 0, fails.is_some());
        wire.script().full = false;
        let answer = timeout(secs(1), stream.recv_message()).await.unwrap();
        assert_eq!(answer.unwrap(), b"answer", "nothing was lost");
    }
}

/// What says that there is no socket ends the endpoint, its sessions and its `accept` at once.
#[tokio::test(start_paused = true)]
async fn a_socket_that_is_gone_ends_the_endpoint() {
    for kind in [
        io::ErrorKind::NotConnected,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::InvalidInput,
    ] {
        let net = Net::clean();
        let (server, wire) = Scripted::endpoint(&net, SERVER, turbo());
        let stream = server.connect(CLIENT).await.unwrap();
        sleep(ms(1)).await;
        wire.inject([Incoming::Error(kind)]);
        let error = stream.recv_message().await.unwrap_err();
        let socket = |error: &KcpError| matches!(error, KcpError::Connection(ConnectionError::Socket(k)) if *k == kind);
        assert!(socket(&error), "{error}");
        assert!(socket(&server.accept().await.unwrap_err()));
    }
}

/// A datagram with the address of a peer keeps no session with that peer from being opened.
#[tokio::test(start_paused = true)]
async fn a_forged_first_datagram_does_not_occupy_its_address() {
    for (sn, with_conv) in [(0, false), (1, false), (0, true), (1, true)] {
        let net = Net::clean();
        let client = net.endpoint(CLIENT, turbo());
        let server = net.endpoint(SERVER, turbo());
        let conv = kcp_async::Conv::new(7);
        net.spoof(SERVER)(addr(CLIENT), &segment(7, Command::Push, sn, 0, b"x"));
        sleep(ms(20)).await;
        assert_eq!(client.stats().sessions, 1);
        let stream = match with_conv {
            true => client.connect_with_conv(SERVER, conv).await.unwrap(),
            false => client.connect(SERVER).await.unwrap(),
        };
        stream.send(b"hello").await.unwrap();
        let (accepted, _) = server.accept().await.unwrap();
        assert_eq!(accepted.recv_message().await.unwrap(), b"hello");
        accepted.send(b"welcome").await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), b"welcome");
        // A validated one counts, accepted or connected.
        stream.send(b"thanks").await.unwrap();
        sleep(ms(200)).await;
        for endpoint_and_peer in [(&client, SERVER), (&server, CLIENT)] {
            let (endpoint, peer) = endpoint_and_peer;
            for error in [
                endpoint.connect(peer).await.unwrap_err(),
                endpoint.connect_with_conv(peer, conv).await.unwrap_err(),
            ] {
                assert_eq!(error.io_kind(), io::ErrorKind::AddrInUse);
            }
        }
        sleep(secs(15)).await;
        let stats = client.stats();
        assert_eq!((stats.sessions, stats.embryos, stats.waiting), (1, 0, 0));
    }
}
