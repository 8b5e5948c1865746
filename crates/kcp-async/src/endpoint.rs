//! A socket and its sessions.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use kcp_engine::{ConfigError, Conv};
use tokio::net::{ToSocketAddrs, lookup_host};

use crate::address::{as_user_names, can_be_answered};
use crate::config::EndpointConfig;
use crate::driver;
use crate::error::KcpError;
use crate::lingering;
use crate::shared::Shared;
use crate::socket::{DatagramSocket, UdpSocket};
use crate::stats::EndpointStats;
use crate::stream::KcpStream;

/// One socket that accepts and connects sessions; clones share it.
///
/// [`KcpListener`](crate::KcpListener) and [`KcpStream::connect`] are made of it and are enough for
/// servers and clients. An endpoint is for both on one port, for many sessions from one port, and
/// for [sockets of your own](Self::with_socket).
///
/// When the last clone is dropped, nothing more is accepted and live streams go on.
#[derive(Clone, Debug)]
pub struct KcpEndpoint {
    guard: Arc<Guard>,
}

/// The right to accept and connect. When it goes, the driver ends with the last session.
#[derive(Debug)]
struct Guard(Arc<Shared>);

impl KcpEndpoint {
    /// Binds a UDP socket. An unspecified IPv6 address takes IPv4 peers too.
    ///
    /// # Errors
    /// A setting out of range, a name that cannot be resolved, an address in use.
    ///
    /// # Cancel safety
    /// Nothing has happened if the future is dropped before it is ready.
    pub async fn bind(
        addr: impl ToSocketAddrs,
        config: impl Into<EndpointConfig>,
    ) -> Result<Self, KcpError> {
        let config = config.into();
        config.validate()?;
        let buffers = config.socket_buffers();
        let socket = first_ok(addr, |addr| UdpSocket::bind(addr, buffers)).await?;
        socket.writable().await?;
        Self::with_socket(Arc::new(socket), config)
    }

    /// Takes over a bound UDP socket.
    ///
    /// # Errors
    /// A setting out of range, a socket that tokio cannot use, or no tokio runtime.
    pub fn from_std(
        socket: std::net::UdpSocket,
        config: impl Into<EndpointConfig>,
    ) -> Result<Self, KcpError> {
        let config = config.into();
        config.validate()?;
        // tokio panics without a runtime; we do not.
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let socket = UdpSocket::from_std(socket, config.socket_buffers())?;
        Self::with_socket(Arc::new(socket), config)
    }

    /// Runs on any socket: a simulated network, another transport.
    ///
    /// # Errors
    /// A setting out of range, a socket without an address, or no tokio runtime.
    pub fn with_socket(
        socket: Arc<dyn DatagramSocket>,
        config: impl Into<EndpointConfig>,
    ) -> Result<Self, KcpError> {
        let shared = Arc::new(Shared::new(socket, config.into(), true)?);
        driver::spawn(&shared)?;
        Ok(Self {
            guard: Arc::new(Guard(shared)),
        })
    }

    /// Opens a session from this endpoint's port, with a random conversation id. Nothing is sent;
    /// see [`KcpStream::connect`]. That nothing listens at the peer's port shows by the connect timeout
    /// only: the system does not report refusals on a shared socket, where anyone could forge them.
    ///
    /// # Errors
    /// As [`KcpStream::connect`]; and if there is a session with this remote address already,
    /// unless [`allow_shared_remote`](EndpointConfig::allow_shared_remote) is set, or
    /// [`max_sessions`](EndpointConfig::max_sessions) is reached. An accepted session whose peer has
    /// not been validated does not count: any host can send the datagram that makes one.
    ///
    /// # Cancel safety
    /// Nothing has happened if the future is dropped before it is ready.
    pub async fn connect(&self, addr: impl ToSocketAddrs) -> Result<KcpStream, KcpError> {
        self.connect_as(addr, None).await
    }

    /// The same with a given conversation id. The peer of an accepted session of that name that has not
    /// been validated is asked, and this waits for its answer, for a second at most. If none comes, that
    /// session ends with [`Replaced`](crate::ConnectionError::Replaced).
    ///
    /// # Errors
    /// As [`connect`](Self::connect), a `conv` of 0, and `AddrInUse` for 10 to 30 s after a session with
    /// this address and `conv` has ended here, because late datagrams of it may still arrive.
    ///
    /// # Cancel safety
    /// Nothing has happened if the future is dropped before it is ready.
    pub async fn connect_with_conv(
        &self,
        addr: impl ToSocketAddrs,
        conv: Conv,
    ) -> Result<KcpStream, KcpError> {
        check_conv(conv)?;
        self.connect_as(addr, Some(conv)).await
    }

    async fn connect_as(
        &self,
        addr: impl ToSocketAddrs,
        conv: Option<Conv>,
    ) -> Result<KcpStream, KcpError> {
        let shared = &self.guard.0;
        let v6 = shared.local_addr.is_ipv6();
        let peer = first_ok(addr, |addr| match addr.is_ipv4() || v6 {
            true => check_peer(addr),
            false => Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "an IPv4 socket cannot reach an IPv6 address",
            )),
        })
        .await?;
        if let Some(conv) = conv {
            shared.ask_namesake(peer, conv).await;
        }
        let cell = shared.connect(peer, conv)?;
        Ok(KcpStream::from_session(Arc::clone(shared), cell))
    }

    /// The next session that a peer has opened, and the peer's address. One that ends while it waits, because its peer
    /// resets it or it makes room for another, is not returned.
    ///
    /// # Errors
    /// [`ConnectionError::EndpointClosed`](crate::ConnectionError::EndpointClosed) after
    /// [`close`](Self::close) or the end of the runtime; what the socket reported if it failed for good.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no session is lost.
    pub async fn accept(&self) -> Result<(KcpStream, SocketAddr), KcpError> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// [`accept`](Self::accept) for hand-written futures.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(KcpStream, SocketAddr), KcpError>> {
        let shared = &self.guard.0;
        shared
            .poll_accept(cx)
            .map_err(KcpError::from)
            .map_ok(|cell| {
                let stream = KcpStream::from_session(Arc::clone(shared), cell);
                let peer = stream.peer_addr();
                (stream, peer)
            })
    }

    /// Accepts nothing more. Sessions that wait for `accept` are given up; live streams go on.
    pub fn close(&self) {
        self.guard.0.stop_accepting();
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        as_user_names(self.guard.0.local_addr)
    }

    /// Counters and state.
    pub fn stats(&self) -> EndpointStats {
        self.guard.0.stats()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A session with a socket of its own.
pub(crate) async fn connect_alone(
    addr: impl ToSocketAddrs,
    conv: Option<Conv>,
    config: EndpointConfig,
) -> Result<KcpStream, KcpError> {
    config.validate()?;
    conv.map_or(Ok(()), check_conv)?;
    let buffers = config.socket_buffers();
    let (socket, peer) = first_ok(addr, |peer| {
        check_peer(peer)?;
        let local: SocketAddr = match peer {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        Ok((UdpSocket::bind(local, buffers)?, peer))
    })
    .await?;
    socket.report_errors();
    socket.writable().await?;
    let shared = Arc::new(Shared::new(Arc::new(socket), config, false)?);
    let cell = shared.connect(peer, conv)?;
    driver::spawn(&shared)?;
    Ok(KcpStream::from_session(shared, cell))
}

fn check_conv(conv: Conv) -> Result<(), KcpError> {
    match conv.get() {
        0 => Err(ConfigError::new("conv", 0, "1 to 4294967295").into()),
        _ => Ok(()),
    }
}

/// A peer that could not answer is not connected to: the system refuses each send to port 0.
fn check_peer(peer: SocketAddr) -> io::Result<SocketAddr> {
    let text = "a peer has a port other than 0, and no unspecified, multicast or broadcast address";
    can_be_answered(peer)
        .then_some(peer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// The first address for which `f` succeeds, or the last failure.
async fn first_ok<T>(
    addrs: impl ToSocketAddrs,
    mut f: impl FnMut(SocketAddr) -> io::Result<T>,
) -> Result<T, KcpError> {
    let mut failure = None;
    for addr in lookup_host(addrs).await? {
        match lingering::with_descriptor(|| f(addr)).await {
            Ok(value) => return Ok(value),
            Err(error) => failure = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "the name has no addresses");
    Err(failure.unwrap_or_else(none).into())
}
