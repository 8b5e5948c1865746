//! tokio_kcp 0.9.8. It sends at the end of a write and acknowledges at once, as ours does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};

use super::{Acceptor, BoxStream, Connector, Pending, sockets};
use crate::protocol::Task;

pub(super) async fn bind(task: &Task) -> io::Result<Box<dyn Acceptor>> {
    let socket = sockets::tokio_udp(task)?;
    let listener = KcpListener::from_socket(config(task), socket).await;
    Ok(Box::new(listener.map_err(io::Error::other)?))
}

pub(super) fn connector(task: &Task) -> Arc<dyn Connector> {
    Arc::new(Client(task.clone()))
}

struct Client(Task);

impl Acceptor for KcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> Pending<'_, BoxStream> {
        Box::pin(async {
            let (stream, _) = Self::accept(self).await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

impl Connector for Client {
    fn connect(&self, server: SocketAddr) -> Pending<'_, BoxStream> {
        Box::pin(async move {
            let socket = sockets::tokio_udp(&self.0)?;
            let stream = KcpStream::connect_with_socket(&config(&self.0), socket, server).await;
            Ok(Box::new(stream.map_err(io::Error::other)?) as BoxStream)
        })
    }
}

fn config(task: &Task) -> KcpConfig {
    let window = u16::try_from(task.window).unwrap_or(u16::MAX);
    KcpConfig {
        mtu: 1_400,
        nodelay: KcpNoDelayConfig {
            nodelay: task.nodelay > 0,
            interval: i32::try_from(task.interval).unwrap_or(i32::MAX),
            resend: 2,
            nc: true,
        },
        wnd_size: (window, window),
        flush_write: true,
        flush_acks_input: true,
        stream: true,
        ..KcpConfig::default()
    }
}
