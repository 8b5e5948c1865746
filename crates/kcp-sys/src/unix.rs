use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::c_int;

#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::IPV6_MIN_MTU;

/// Sends all datagrams of an IPv4 or IPv6 socket so that they may be fragmented: by the local IP layer where the
/// interface's mtu is smaller, and over IPv4 by routers (no DF bit). On Linux path mtus that ICMP reports are not used.
///
/// Where the system has no such option, datagrams leave as the system likes.
///
/// # Errors
/// What the system reports, for example that the descriptor is no socket.
pub fn allow_fragmentation(socket: &impl AsFd, is_ipv6: bool) -> io::Result<()> {
    let socket = socket.as_fd();
    // An IPv6 socket takes the IPv4 option too: it is for peers with mapped addresses.
    for &(level, name, values) in options(is_ipv6) {
        set_first(socket, level, name, values)?;
    }
    Ok(())
}

type SocketOption = (c_int, c_int, &'static [c_int]);

/// For each option the values to try; a kernel that does not know the first one is given the next.
#[cfg(any(target_os = "linux", target_os = "android"))]
const fn options(is_ipv6: bool) -> &'static [SocketOption] {
    use libc::{IPPROTO_IP, IPPROTO_IPV6};
    const V4: SocketOption = (
        IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        &[libc::IP_PMTUDISC_OMIT, libc::IP_PMTUDISC_DONT],
    );
    const V6: SocketOption = (
        IPPROTO_IPV6,
        libc::IPV6_MTU_DISCOVER,
        &[libc::IPV6_PMTUDISC_OMIT, libc::IPV6_PMTUDISC_DONT],
    );
    const V6_DONTFRAG: SocketOption = (IPPROTO_IPV6, libc::IPV6_DONTFRAG, &[0]);
    match is_ipv6 {
        false => &[V4],
        true => &[V4, V6, V6_DONTFRAG],
    }
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
const fn options(is_ipv6: bool) -> &'static [SocketOption] {
    match is_ipv6 {
        false => &[(libc::IPPROTO_IP, libc::IP_DONTFRAG, &[0])],
        true => &[(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, &[0])],
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
)))]
const fn options(_is_ipv6: bool) -> &'static [SocketOption] {
    &[]
}

/// Begins or ends a state of an IPv6 socket in which a datagram larger than [`path_mtu`] is fragmented into packets of
/// 1,280 bytes, which every IPv6 path carries. A smaller one leaves whole all the same. The end of it is the state that
/// [`allow_fragmentation`] makes.
///
/// Does nothing where the system has no such option.
///
/// # Errors
/// What the system reports, for example for an IPv4 socket.
pub fn set_small_fragments(socket: &impl AsFd, on: bool) -> io::Result<()> {
    let socket = socket.as_fd();
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let (bytes, discover) = match on {
            // With this mode the kernel's path mtu decides what is fragmented, not the interface's mtu.
            true => (IPV6_MIN_MTU as c_int, &[libc::IPV6_PMTUDISC_DONT][..]),
            false => (0, &[libc::IPV6_PMTUDISC_OMIT, libc::IPV6_PMTUDISC_DONT][..]),
        };
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, bytes)?;
        set_first(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            discover,
        )
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (socket, on);
        Ok(())
    }
}

/// The mtu of the path to the destination of a connected socket, as far as the system knows: that of the interface or a
/// smaller one that ICMP has reported. `None` where the system does not tell.
///
/// # Errors
/// What the system reports, for example for a socket that is not connected.
pub fn path_mtu(socket: &impl AsFd, is_ipv6: bool) -> io::Result<Option<u32>> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let (level, name) = match is_ipv6 {
            false => (libc::IPPROTO_IP, libc::IP_MTU),
            true => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let mtu = get(socket.as_fd(), level, name)?;
        Ok(u32::try_from(mtu).ok())
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (socket, is_ipv6);
        Ok(None)
    }
}

/// Bytes of the send buffer that are in use: datagrams that have not left the system, with its own cost of each, in the
/// unit in which Linux reports the size of the buffer (`SO_SNDBUF`). `None` where the system does not tell.
///
/// # Errors
/// What the system reports, for example that the descriptor is no socket.
pub fn send_buffer_used(socket: &impl AsFd) -> io::Result<Option<usize>> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let mut value: c_int = 0;
        #[allow(unsafe_code, reason = "see the crate's documentation")]
        // SAFETY: the descriptor is open for as long as it is borrowed; the pointer is to a live `c_int`, which is what the
        // kernel writes for this request. It does not keep the pointer.
        let result =
            unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut value) };
        match result {
            0 => Ok(usize::try_from(value).ok()),
            _ => Err(io::Error::last_os_error()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = socket;
        Ok(None)
    }
}

fn set_first(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    values: &[c_int],
) -> io::Result<()> {
    let mut result = Ok(());
    for &value in values {
        result = set(socket, level, name, value);
        if result.is_ok() {
            break;
        }
    }
    result
}

#[allow(unsafe_code, reason = "see the crate's documentation")]
fn set(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; the pointer is to a live `c_int`, of which the
    // kernel reads `size` bytes and keeps nothing.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[allow(unsafe_code, reason = "see the crate's documentation")]
fn get(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; the pointers are to a live `c_int`, of which the
    // kernel writes at most `size` bytes, and to that size. It keeps neither.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut size,
        )
    };
    match result {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_socket_of_either_family_takes_the_options() {
        allow_fragmentation(&UdpSocket::bind("127.0.0.1:0").unwrap(), false).unwrap();
        if let Ok(socket) = UdpSocket::bind("[::]:0") {
            allow_fragmentation(&socket, true).unwrap();
        }
    }

    #[test]
    fn a_descriptor_that_is_no_socket_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(allow_fragmentation(&file, false).is_err() || options(false).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_idle_socket_has_sent_everything() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(send_buffer_used(&socket).unwrap(), Some(0));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(send_buffer_used(&file).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn small_fragments_are_for_ipv6() {
        assert!(set_small_fragments(&UdpSocket::bind("127.0.0.1:0").unwrap(), true).is_err());
        let Ok(socket) = UdpSocket::bind("[::1]:0") else {
            return;
        };
        for on in [true, false] {
            set_small_fragments(&socket, on).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_connected_socket_knows_its_path_mtu() {
        for (is_ipv6, addr) in [(false, "127.0.0.1:0"), (true, "[::1]:0")] {
            let Ok(socket) = UdpSocket::bind(addr) else {
                continue;
            };
            assert!(path_mtu(&socket, is_ipv6).is_err());
            socket.connect(socket.local_addr().unwrap()).unwrap();
            assert!(path_mtu(&socket, is_ipv6).unwrap().unwrap() >= IPV6_MIN_MTU);
        }
    }
}
