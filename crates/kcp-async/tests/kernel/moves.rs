//! A client whose address goes away, as on another network (`docs/protocol.md` 13.1).

use std::net::SocketAddr;

use kcp_async::{ConnectionError, KcpConfig, KcpError, KcpStream};
use tokio::io::AsyncWriteExt;

use crate::harness::{self, Interface, Namespace};
use crate::transfer::Server;

/// Its datagrams leave from the new address, where the server does not know it, and says so. Before, they were refused
/// here for their source, until the session ended after 30 s.
#[test]
fn a_client_with_another_address_learns_that_its_session_is_gone() {
    if !harness::available() {
        return;
    }
    for [to, from, next] in [
        ["10.9.0.1", "10.9.0.2/24", "10.9.0.3/24"],
        ["fd09::1", "fd09::2/64", "fd09::3/64"],
    ] {
        let (client, server) = (Namespace::new(), Namespace::new());
        let far = Interface {
            name: "eth0",
            v4: "10.9.0.1/24",
            v6: "fd09::1/64",
        };
        let near = Interface {
            name: "eth0",
            v4: "10.9.0.2/24",
            v6: "fd09::2/64",
        };
        client.link(&near, &server, &far);
        let serving = Server::start(&server, to, KcpConfig::turbo_mode(), 100_000);
        let addr: SocketAddr = serving.addr;
        let error = client.block_on(|| async {
            let mut stream = KcpStream::connect(addr, KcpConfig::turbo_mode())
                .await
                .unwrap();
            // A part of an upload; the server waits for the rest.
            stream.write_all(b"u0123456789").await.unwrap();
            while stream.stats().engine.unacknowledged_bytes > 0 {
                tokio::task::yield_now().await;
            }
            client.ip(&format!("addr del {from} dev eth0"));
            client.ip(&format!("addr add {next} dev eth0"));
            stream.write_all(b"from another network").await.unwrap();
            stream.recv_message().await.unwrap_err()
        });
        assert!(
            matches!(error, KcpError::Connection(ConnectionError::Reset)),
            "{from}: {error}"
        );
        serving.stop();
    }
}
