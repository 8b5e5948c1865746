//! kcp-async.
//!
//! A connection of a client has a socket of its own, as `KcpStream::connect` does it. In the sessions workload one
//! endpoint holds all of them on one socket, as the server does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kcp_async::{EndpointConfig, FlushPolicy, KcpConfig, KcpEndpoint, KcpStream, NoDelay};

use super::{Acceptor, BoxStream, Connector, Pending, sockets};
use crate::protocol::{Peer, Task, Workload};

pub(super) async fn bind(peer: Peer, task: &Task) -> io::Result<Box<dyn Acceptor>> {
    let endpoint = KcpEndpoint::bind(sockets::any_port(), config(peer, task)).await?;
    Ok(Box::new(Server(endpoint)))
}

pub(super) async fn connector(peer: Peer, task: &Task) -> io::Result<Arc<dyn Connector>> {
    let config = config(peer, task);
    let shared = match task.workload {
        Workload::Sessions => Some(KcpEndpoint::bind(sockets::any_port(), &config).await?),
        _ => None,
    };
    Ok(Arc::new(Client { shared, config }))
}

struct Server(KcpEndpoint);

struct Client {
    shared: Option<KcpEndpoint>,
    config: EndpointConfig,
}

impl Acceptor for Server {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }

    fn accept(&mut self) -> Pending<'_, BoxStream> {
        Box::pin(async {
            let (stream, _) = self.0.accept().await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

impl Connector for Client {
    fn connect(&self, server: SocketAddr) -> Pending<'_, BoxStream> {
        Box::pin(async move {
            let stream = match &self.shared {
                Some(endpoint) => endpoint.connect(server).await?,
                None => KcpStream::connect(server, self.config.clone()).await?,
            };
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

fn config(peer: Peer, task: &Task) -> EndpointConfig {
    let busy_poll = match peer {
        Peer::OursPolling => Duration::from_micros(50),
        _ => Duration::ZERO,
    };
    let protocol = KcpConfig::new()
        .nodelay(match task.nodelay {
            0 => NoDelay::Off,
            1 => NoDelay::Fast,
            _ => NoDelay::Linear,
        })
        .interval(Duration::from_millis(task.interval.into()))
        .fast_resend(2)
        .congestion_window(false)
        .window_size(task.window, task.window)
        .stream_mode(true)
        .flush_policy(FlushPolicy::Immediate);
    EndpointConfig::new(protocol)
        .send_buffer(task.buffers)
        .recv_buffer(task.buffers)
        .accept_backlog(16_384)
        // All clients are on one host.
        .per_source_limit(16_384)
        .allow_shared_remote(task.workload == Workload::Sessions)
        .busy_poll(busy_poll)
}
