//! The socket options that `kcp-async` needs and for which no safe crate has a function: fragmentation of UDP
//! datagrams by the sender's IP layer and by routers, and how much of the send buffer is in use.
//!
//! The only crate of the workspace with `unsafe` code: `setsockopt`, `getsockopt` and `ioctl` with an integer.

#[cfg(unix)]
pub use unix::{allow_fragmentation, path_mtu, send_buffer_used, set_small_fragments};

#[cfg(windows)]
pub use windows::allow_fragmentation;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

/// Smallest mtu of an IPv6 link (RFC 8200): a packet of that size passes every IPv6 path.
pub const IPV6_MIN_MTU: u32 = 1_280;
