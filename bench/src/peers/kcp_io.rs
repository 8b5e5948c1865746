//! kcp-io 0.0.7: the C core behind tokio.
//!
//! Its listener takes no socket of the caller's, so the server's has the system's buffers whatever a row says.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kcp_io::{KcpConfig, KcpListener, KcpSessionConfig, KcpStream, KcpUdpTransport};

use super::{Acceptor, BoxStream, Connector, Pending, sockets};
use crate::protocol::Task;

pub(super) async fn bind(task: &Task) -> io::Result<Box<dyn Acceptor>> {
    let listener = KcpListener::bind(sockets::any_port(), config(task)).await;
    Ok(Box::new(Server(listener.map_err(io::Error::other)?)))
}

pub(super) fn connector(task: &Task) -> Arc<dyn Connector> {
    Arc::new(Client {
        task: task.clone(),
        next_conv: AtomicU32::new(1),
    })
}

struct Server(KcpListener);

struct Client {
    task: Task,
    next_conv: AtomicU32,
}

impl Acceptor for Server {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }

    fn accept(&mut self) -> Pending<'_, BoxStream> {
        Box::pin(async {
            let (stream, _) = self.0.accept().await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

impl Connector for Client {
    fn connect(&self, server: SocketAddr) -> Pending<'_, BoxStream> {
        Box::pin(async move {
            let socket = sockets::udp(&self.task)?;
            let transport = Arc::new(KcpUdpTransport::new(Arc::new(socket.try_clone()?)));
            let socket = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
            let conv = self.next_conv.fetch_add(1, Ordering::Relaxed);
            let config = config(&self.task);
            let stream =
                KcpStream::connect_with_transport(server, config, transport, socket, conv).await;
            Ok(Box::new(stream.map_err(io::Error::other)?) as BoxStream)
        })
    }
}

fn config(task: &Task) -> KcpSessionConfig {
    KcpSessionConfig {
        kcp_config: KcpConfig {
            nodelay: task.nodelay > 0,
            interval: task.interval,
            resend: 2,
            nc: true,
            mtu: 1_400,
            snd_wnd: task.window,
            rcv_wnd: task.window,
            stream_mode: true,
            ..KcpConfig::default()
        },
        flush_interval: Duration::from_millis(task.interval.into()),
        timeout: None,
        flush_write: true,
        recv_buf_size: 65_536,
    }
}
