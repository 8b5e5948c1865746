//! tokio's TCP, with `TCP_NODELAY`. Without socket buffers of the task's the kernel sizes them as it goes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};

use super::{Acceptor, BoxStream, Connector, Pending, sockets};
use crate::protocol::Task;

/// Connections that may wait for `accept`.
const BACKLOG: i32 = 1_024;

pub(super) fn bind(task: &Task) -> io::Result<Box<dyn Acceptor>> {
    let socket = sockets::tcp(task)?;
    socket.bind(&sockets::any_port().into())?;
    socket.listen(BACKLOG)?;
    Ok(Box::new(TcpListener::from_std(socket.into())?))
}

pub(super) fn connector(task: &Task) -> Arc<dyn Connector> {
    Arc::new(Tcp(task.clone()))
}

struct Tcp(Task);

impl Acceptor for TcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> Pending<'_, BoxStream> {
        Box::pin(async {
            let (stream, _) = Self::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

impl Connector for Tcp {
    fn connect(&self, server: SocketAddr) -> Pending<'_, BoxStream> {
        Box::pin(async move {
            let socket = TcpSocket::from_std_stream(sockets::tcp(&self.0)?.into());
            Ok(Box::new(socket.connect(server).await?) as BoxStream)
        })
    }
}
