//! kcp-rs 0.2.6: the C core behind tokio, with a handshake of its own, so it talks to itself only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kcp::{KcpConfig, KcpNoDelayConfig, KcpUdpStream};

use super::{Acceptor, BoxStream, Connector, Pending, sockets};
use crate::protocol::Task;

/// Connections that may wait for `accept`.
const BACKLOG: usize = 1_024;

pub(super) fn bind(task: &Task) -> io::Result<Box<dyn Acceptor>> {
    let socket = sockets::tokio_udp(task)?;
    let address = socket.local_addr()?;
    let listener = KcpUdpStream::socket_listen(config(task), socket, BACKLOG, None)?;
    Ok(Box::new(Server { listener, address }))
}

pub(super) fn connector(task: &Task) -> Arc<dyn Connector> {
    Arc::new(Client(task.clone()))
}

struct Server {
    listener: KcpUdpStream,
    address: SocketAddr,
}

struct Client(Task);

impl Acceptor for Server {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn accept(&mut self) -> Pending<'_, BoxStream> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

impl Connector for Client {
    fn connect(&self, server: SocketAddr) -> Pending<'_, BoxStream> {
        Box::pin(async move {
            let socket = sockets::tokio_udp(&self.0)?;
            let (stream, _) = KcpUdpStream::socket_connect(config(&self.0), server, socket).await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

fn config(task: &Task) -> Arc<KcpConfig> {
    Arc::new(KcpConfig {
        mtu: 1_400,
        nodelay: KcpNoDelayConfig {
            nodelay: task.nodelay > 0,
            interval: task.interval,
            resend: 2,
            nc: true,
        },
        snd_wnd: task.window,
        rcv_wnd: task.window,
        stream: true,
        ..KcpConfig::default()
    })
}
