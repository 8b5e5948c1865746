//! Whether the kernel keeps a queue of what ICMP says about our datagrams (`IP_RECVERR`).
//!
//! Reports are charged to the receive buffer and each makes a call of the socket fail, so forged ones
//! can take the place of data. They are of use only until the peer has been heard.

use std::io;
use std::net::UdpSocket;

use quinn_udp::UdpSocketState;

/// Turns the queue on. `Ok(false)` where the system has none.
pub(super) fn start(socket: &UdpSocket, state: &UdpSocketState) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        state.enable_transport_errors(socket.into())?;
        Ok(true)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (socket, state);
        Ok(false)
    }
}

/// Turns the queue off and empties it.
pub(super) fn stop(socket: &UdpSocket) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use nix::sys::socket::{setsockopt, sockopt};

        let is_ipv6 = socket.local_addr()?.is_ipv6();
        // An IPv6 socket has the queue of IPv4 too, for peers with mapped addresses.
        setsockopt(socket, sockopt::Ipv4RecvErr, &false)?;
        if is_ipv6 {
            setsockopt(socket, sockopt::Ipv6RecvErr, &false)?;
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
    Ok(())
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use nix::sys::socket::{getsockopt, sockopt};

    use super::*;

    /// Forged messages of either family take the place of data.
    #[test]
    fn no_queue_of_the_socket_stays() {
        for host in ["127.0.0.1:0", "[::]:0"] {
            let socket = UdpSocket::bind(host).unwrap();
            let state = UdpSocketState::new((&socket).into()).unwrap();
            assert!(start(&socket, &state).unwrap());
            let on = || {
                let ipv6 = socket.local_addr().unwrap().is_ipv6();
                let ipv6 = ipv6.then(|| getsockopt(&socket, sockopt::Ipv6RecvErr).unwrap());
                (getsockopt(&socket, sockopt::Ipv4RecvErr).unwrap(), ipv6)
            };
            let (ipv4, ipv6) = on();
            assert!(ipv4 && ipv6 != Some(false), "{host}");
            stop(&socket).unwrap();
            let (ipv4, ipv6) = on();
            assert!(!ipv4 && ipv6 != Some(true), "{host}");
        }
    }
}
