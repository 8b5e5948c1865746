//! Sockets on loopback with the task's buffers, the same for every peer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::protocol::Task;

/// A UDP socket on any port.
pub(super) fn udp(task: &Task) -> io::Result<std::net::UdpSocket> {
    let socket = open(task, Type::DGRAM)?;
    socket.bind(&any_port().into())?;
    Ok(socket.into())
}

/// The same for tokio.
pub(super) fn tokio_udp(task: &Task) -> io::Result<tokio::net::UdpSocket> {
    tokio::net::UdpSocket::from_std(udp(task)?)
}

/// A TCP socket, neither bound nor connected.
pub(super) fn tcp(task: &Task) -> io::Result<Socket> {
    let socket = open(task, Type::STREAM)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Loopback, any port.
pub(super) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn open(task: &Task, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, None)?;
    if task.buffers > 0 {
        socket.set_recv_buffer_size(task.buffers)?;
        socket.set_send_buffer_size(task.buffers)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
