//! A system that has no way to the peer (`docs/protocol.md` 11.4, 12.5).

use std::io;
use std::sync::Arc;

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpEndpoint, KcpError};
use tokio::time::Instant;

use crate::net::{CLIENT, Net, SERVER, ms, secs, sleep};
use crate::scripted::Scripted;

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

/// A server that echoes one message after the other, and a client.
fn endpoints(net: &Net) -> (KcpEndpoint, Arc<Scripted>) {
    let server = net.endpoint(SERVER, turbo());
    tokio::spawn(async move {
        let (stream, _) = server.accept().await.unwrap();
        while let Ok(message) = stream.recv_message().await {
            stream.send(&message).await.unwrap();
        }
    });
    Scripted::endpoint(net, CLIENT, turbo())
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
        let (client, wire) = endpoints(&net);
        wire.script().sends_fail = Some(errno);
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
        let (client, wire) = endpoints(&net);
        wire.script().sends_fail = Some(errno);
        let stream = client.connect(SERVER).await.unwrap();
        stream.send(b"hello").await.unwrap();
        sleep(ms(1_200)).await;
        wire.script().sends_fail = None;
        assert_eq!(stream.recv_message().await.unwrap(), b"hello");
    }
}

/// A session in use has the time that a silent peer has, and then says why.
#[tokio::test(start_paused = true)]
async fn a_session_outlives_a_route_that_is_gone_for_a_while() {
    for errno in REFUSALS {
        let net = Net::clean();
        let (client, wire) = endpoints(&net);
        let stream = client.connect(SERVER).await.unwrap();
        stream.send(b"hello").await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), b"hello");
        // The ACK leaves, which validates this side.
        sleep(secs(1)).await;
        for gone in [20, 60] {
            wire.script().sends_fail = Some(errno);
            let start = Instant::now();
            stream.send(b"again").await.unwrap();
            sleep(secs(gone)).await;
            wire.script().sends_fail = None;
            match (gone, stream.recv_message().await) {
                (20, heard) => assert_eq!(heard.unwrap(), b"again"),
                (_, heard) => assert!(is_unreachable(&heard.unwrap_err(), errno)),
            }
            assert!(start.elapsed() >= secs(gone));
        }
    }
}
