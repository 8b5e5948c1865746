//! What the simulation found, made small. What it found in the engine is among the engine's tests.

use std::sync::Arc;
use std::time::Duration;

use kcp_async::{EndpointConfig, KcpConfig, KcpEndpoint, KcpHeader, KcpStream};
use kcp_engine::{Command, Conv, Sn, WireTs};
use kcp_netem::LinkConfig;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::net::{Net, SimSocket};
use crate::plan::{SERVER, client_addr};

/// A server, and peers moved by hand.
struct Scene {
    net: Net,
    endpoint: KcpEndpoint,
    peers: [Arc<SimSocket>; 2],
}

impl Scene {
    fn new() -> Self {
        let links = LinkConfig::new().delay(Duration::from_millis(10));
        let net = Net::new(links, 0, 0);
        let config = EndpointConfig::new(KcpConfig::turbo_mode()).simulation_seed(Some(1));
        let endpoint = KcpEndpoint::with_socket(net.socket(SERVER, true), config).unwrap();
        let peers = [0, 1].map(|n| net.socket(client_addr(n), false));
        Self {
            net,
            endpoint,
            peers,
        }
    }

    /// A peer sends a fragment of a message, with so many to follow.
    fn push(&self, peer: usize, sn: u32, frg: u8) {
        let header = KcpHeader {
            conv: Conv::new(7),
            cmd: Command::Push.to_wire(),
            frg,
            wnd: 128,
            ts: WireTs::new(1_000),
            sn: Sn::new(sn),
            una: Sn::ZERO,
            len: 2,
        };
        let datagram = [header.to_bytes().as_slice(), b"hi"].concat();
        self.peers[peer].send(SERVER, &datagram);
    }

    async fn accept(&self, peer: usize) -> KcpStream {
        self.push(peer, 0, 0);
        let (stream, _) = self.endpoint.accept().await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), b"hi");
        stream
    }
}

/// A task reads and shuts down at the same time. Half a message wakes the reader for nothing, the
/// shutdown is polled with it, and while the socket is full that woke the driver, which woke the
/// reader: both ran until there was room.
#[tokio::test(start_paused = true)]
async fn a_full_socket_and_half_a_message_do_not_spin() {
    // Once with a train of its own that waits, once behind another session's.
    for sender in [0, 1] {
        spins_not(sender).await;
    }
}

async fn spins_not(sender: usize) {
    let scene = Scene::new();
    let mut streams = [scene.accept(0).await, scene.accept(1).await];
    scene.net.set_full(SERVER, true);
    streams[sender].send(b"waits for room").await.unwrap();
    scene.push(0, 1, 1);
    let before = scene.net.lock().polls(SERVER);
    let (mut reader, mut writer) = streams[0].split();
    let both = async { tokio::join!(reader.recv_message(), writer.shutdown()) };
    let ended = timeout(Duration::from_secs(2), both).await;
    assert!(ended.is_err(), "{ended:?}");
    let turns = scene.net.lock().polls(SERVER) - before;
    // The datagram, the calls of this task, and the questions of a close: one per RTO of 200 ms.
    assert!(turns <= 2 + 4 + 2 * 10, "{turns} turns of the driver");
}
