use std::io;
use std::os::windows::io::{AsRawSocket, AsSocket, BorrowedSocket};

use windows_sys::Win32::Networking::WinSock;

/// Sends all datagrams of an IPv4 or IPv6 socket so that they may be fragmented: by the local IP layer where the
/// interface's mtu is smaller, and over IPv4 by routers (no DF bit).
///
/// # Errors
/// What the system reports.
pub fn allow_fragmentation(socket: &impl AsSocket, is_ipv6: bool) -> io::Result<()> {
    let socket = socket.as_socket();
    let v4 = clear(socket, WinSock::IPPROTO_IP, WinSock::IP_DONTFRAGMENT);
    match is_ipv6 {
        false => v4,
        // One that is not for IPv4 too does not know the other option.
        true => clear(socket, WinSock::IPPROTO_IPV6, WinSock::IPV6_DONTFRAG),
    }
}

#[allow(unsafe_code, reason = "see the crate's documentation")]
fn clear(socket: BorrowedSocket<'_>, level: i32, name: i32) -> io::Result<()> {
    let value: u32 = 0;
    let size = size_of::<u32>() as i32;
    // SAFETY: the socket is open for as long as it is borrowed; the pointer is to a live `u32`, of which the system reads
    // `size` bytes and keeps nothing.
    let result = unsafe {
        WinSock::setsockopt(
            socket.as_raw_socket() as WinSock::SOCKET,
            level,
            name,
            (&raw const value).cast(),
            size,
        )
    };
    match result {
        0 => Ok(()),
        // `last_os_error` is `GetLastError`, which is the same as `WSAGetLastError`.
        _ => Err(io::Error::last_os_error()),
    }
}
