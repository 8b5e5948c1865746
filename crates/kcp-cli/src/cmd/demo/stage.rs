//! A listener behind a bad link, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kcp_async::{EndpointConfig, KcpListener, KcpStream};
use kcp_netem::{LinkConfig, Relay};

use crate::error::{Failure, Kind};
use crate::preset::Preset;

/// One phase's own listener and relay: what an earlier phase left under way cannot disturb it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) listener: KcpListener,
    relay: Relay,
    config: EndpointConfig,
}

impl Stage {
    /// Binds everything to free loopback ports.
    pub(super) async fn open(preset: Preset, link: LinkConfig, seed: u64) -> Result<Self, Failure> {
        // On a link as bad as the flags may make it, what is slow must not count as dead.
        let config = EndpointConfig::new(preset.config())
            .connect_timeout(None)
            .dead_peer_timeout(Some(Duration::from_secs(60)));
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(
                Kind::Address,
                format!("cannot set the demo up on loopback: {error}"),
            )
        };
        let listener = KcpListener::bind(any_port, config.clone())
            .await
            .map_err(|error| failed(&error))?;
        let target = listener.local_addr();
        let relay =
            Relay::bind(any_port, target, link, link, seed).map_err(|error| failed(&error))?;
        Ok(Self {
            listener,
            relay,
            config,
        })
    }

    /// A stream to the listener, through the link.
    pub(super) async fn connect(&self) -> Result<KcpStream, Failure> {
        KcpStream::connect(self.relay.local_addr(), self.config.clone())
            .await
            .map_err(|error| {
                Failure::new(Kind::Address, format!("cannot reach the relay: {error}"))
            })
    }

    /// Bytes that entered the link so far, both ways: UDP payloads, before any loss.
    pub(super) fn wire_bytes(&self) -> u64 {
        let stats = self.relay.stats();
        stats.up.offered_bytes + stats.down.offered_bytes
    }
}
