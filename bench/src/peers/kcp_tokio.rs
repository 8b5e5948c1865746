//! kcp-tokio 0.7.0. Its keep-alive is off, because it stalls on its own with it (see `interop/peers`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kcp_tokio::config::NodeDelayConfig;
use kcp_tokio::{KcpConfig, KcpListener, KcpStream, Transport, UdpTransport};

use super::{Acceptor, BoxStream, Connector, Pending, sockets};
use crate::protocol::Task;

pub(super) async fn bind(task: &Task) -> io::Result<Box<dyn Acceptor>> {
    let transport = Arc::new(UdpTransport::new(sockets::tokio_udp(task)?));
    let address = transport.local_addr()?;
    let listener = KcpListener::with_transport(transport, config(task)).await;
    let listener = listener.map_err(io::Error::other)?;
    Ok(Box::new(Server { listener, address }))
}

pub(super) fn connector(task: &Task) -> Arc<dyn Connector> {
    Arc::new(Client(task.clone()))
}

struct Server {
    listener: KcpListener,
    address: SocketAddr,
}

struct Client(Task);

impl Acceptor for Server {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn accept(&mut self) -> Pending<'_, BoxStream> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

impl Connector for Client {
    fn connect(&self, server: SocketAddr) -> Pending<'_, BoxStream> {
        Box::pin(async move {
            let transport = Arc::new(UdpTransport::new(sockets::tokio_udp(&self.0)?));
            let stream =
                KcpStream::connect_with_transport(transport, server, config(&self.0)).await;
            Ok(Box::new(stream.map_err(io::Error::other)?) as BoxStream)
        })
    }
}

fn config(task: &Task) -> KcpConfig {
    let mut config = KcpConfig::new()
        .nodelay_config(NodeDelayConfig::custom(
            task.nodelay > 0,
            task.interval,
            2,
            true,
        ))
        .window_size(task.window, task.window)
        .mtu(1_400)
        .stream_mode(true)
        .keep_alive(None);
    config.max_pending_connections = 16_384;
    config
}
