//! Paths whose mtu is below that of our datagrams (`docs/protocol.md` 2.3).

use std::time::Duration;

use kcp_async::KcpConfig;

use crate::harness::{self, Routed, SERVER};
use crate::transfer::{Server, Way, copy};

const LEN: usize = 200_000;

/// The control: nothing is small here.
#[test]
fn a_transfer_crosses_a_router() {
    if !harness::available() {
        return;
    }
    let hosts = Routed::new();
    hosts.router.ip("link set right mtu 1500");
    for addr in SERVER {
        let server = Server::start(&hosts.server, addr, KcpConfig::new(), LEN);
        for way in [Way::Up, Way::Down] {
            let limit = Duration::from_secs(10);
            let config = KcpConfig::new();
            copy(&hosts.client, server.addr, config, way, LEN, limit);
        }
        assert_eq!(server.endpoint.stats().accepted, 2);
        server.stop();
    }
}
