//! Nothing listens at the peer's port, and its host says so (`docs/protocol.md` 11.4).

use std::io;

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpError, KcpStream, SocketError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::net::{CLIENT, Net, SERVER, addr, ms, secs, sleep};
use crate::scripted::Scripted;

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

fn refusal(from: Option<&str>) -> SocketError {
    let from = from.map(|from| from.parse().unwrap());
    SocketError::new(from, io::ErrorKind::ConnectionRefused)
}

fn is_refused(error: &KcpError) -> bool {
    matches!(error, KcpError::Connection(ConnectionError::Refused))
}

fn is_refused_io(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// Whoever waits learns of it: a reader, a writer, a shutdown; and what comes after them.
#[tokio::test(start_paused = true)]
async fn a_refused_session_ends_a_moment_after_the_first_refusal() {
    for waits in ["read", "write", "shutdown"] {
        for from in [None, Some("10.0.0.1"), Some("::ffff:10.0.0.1")] {
            let net = Net::clean();
            let (client, wire) = Scripted::endpoint(&net, CLIENT, turbo());
            let mut stream = client.connect(SERVER).await.unwrap();
            stream.send(b"hello").await.unwrap();
            let start = Instant::now();
            sleep(ms(1)).await;
            wire.report([refusal(from)]);
            // The retransmissions are refused too: the first one counts.
            let again = async {
                for _ in 0..20 {
                    sleep(ms(100)).await;
                    wire.report([refusal(from)]);
                }
            };
            let waiting = async {
                let error = match waits {
                    "read" => stream.read_u8().await.unwrap_err(),
                    "write" => stream.write_all(&[7; 10_000_000]).await.unwrap_err(),
                    _ => stream.shutdown().await.unwrap_err(),
                };
                assert!(is_refused_io(error), "{waits}");
                assert_eq!(start.elapsed(), ms(1_501), "{waits}");
                stream
            };
            let ((), mut stream) = tokio::join!(again, waiting);
            assert_eq!(stream.close_reason(), Some(ConnectionError::Refused));
            assert!(is_refused(&stream.send(b"x").await.unwrap_err()));
            assert!(is_refused(&stream.recv_message().await.unwrap_err()));
            assert!(is_refused_io(stream.shutdown().await.unwrap_err()));
            assert_eq!(client.stats().sessions, 0);
        }
    }
}

/// A server that restarts gets the session by a retransmission.
#[tokio::test(start_paused = true)]
async fn a_server_that_starts_within_that_time_gets_the_session() {
    let net = Net::clean();
    let (client, wire) = Scripted::endpoint(&net, CLIENT, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(b"hello").await.unwrap();
    for _ in 0..7 {
        wire.report([refusal(None)]);
        sleep(ms(100)).await;
    }
    assert_eq!(wire.script().report_stops, 0);
    let server = net.endpoint(SERVER, turbo());
    let (accepted, _) = server.accept().await.unwrap();
    assert_eq!(accepted.recv_message().await.unwrap(), b"hello");
    sleep(secs(1)).await;
    assert_eq!(wire.script().report_stops, 1, "the peer has been heard");
    lives(&stream, &accepted).await;
}

async fn lives(stream: &KcpStream, accepted: &KcpStream) {
    sleep(secs(3)).await;
    accepted.send(b"welcome").await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"welcome");
}

/// What is forged, or is about something else, ends nothing: before the first data, from another
/// host, of another kind, or once the peer has been heard.
#[tokio::test(start_paused = true)]
async fn other_reports_end_nothing() {
    let net = Net::clean();
    let (client, wire) = Scripted::endpoint(&net, CLIENT, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    wire.report([refusal(None), refusal(Some("10.0.0.1"))]);
    sleep(secs(3)).await;
    net.cut(CLIENT, SERVER, true);
    stream.send(b"hello").await.unwrap();
    wire.report([refusal(Some("10.9.9.9"))]);
    for kind in [
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::Other,
    ] {
        wire.report([SocketError::new(Some(addr(SERVER).ip()), kind)]);
    }
    sleep(secs(3)).await;
    assert_eq!(stream.close_reason(), None);
    net.cut(CLIENT, SERVER, false);
    let server = net.endpoint(SERVER, turbo());
    let (accepted, _) = server.accept().await.unwrap();
    accepted.send(b"welcome").await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"welcome");
    wire.report((0..10_000).map(|_| refusal(None)));
    lives(&stream, &accepted).await;
    assert_eq!(client.stats().error_reports, 2 + 1 + 4 + 10_000);
}

/// However many reports there are, data is received beside them.
#[tokio::test(start_paused = true)]
async fn a_flood_of_reports_starves_nothing() {
    let net = Net::clean();
    let (client, wire) = Scripted::endpoint(&net, CLIENT, turbo());
    let server = net.endpoint(SERVER, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(b"hello").await.unwrap();
    wire.report((0..1_000_000).map(|_| refusal(None)));
    let (accepted, _) = server.accept().await.unwrap();
    accepted.send(b"welcome").await.unwrap();
    let start = Instant::now();
    assert_eq!(stream.recv_message().await.unwrap(), b"welcome");
    assert!(start.elapsed() <= ms(20), "{:?}", start.elapsed());
}

/// The kernel's own reports, over both families.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_closed_port_refuses_within_two_seconds() {
    for host in ["127.0.0.1", "::1"] {
        let Ok(closed) = std::net::UdpSocket::bind((host, 0)) else {
            eprintln!("skipped: no {host} here");
            continue;
        };
        let peer = closed.local_addr().unwrap();
        drop(closed);
        let refused = |waits: &'static str| async move {
            let start = Instant::now();
            let mut stream = KcpStream::connect(peer, KcpConfig::normal()).await.unwrap();
            stream.send(b"anybody?").await.unwrap();
            let error = match waits {
                "read" => stream.read_u8().await.unwrap_err(),
                _ => stream.shutdown().await.unwrap_err(),
            };
            assert!(is_refused_io(error));
            let took = start.elapsed();
            assert!((secs(1)..ms(2_500)).contains(&took), "{took:?}");
        };
        tokio::join!(refused("read"), refused("shutdown"));
    }
}
