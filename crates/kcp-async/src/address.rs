//! Addresses that a peer can have (`docs/protocol.md` 13.1). Pure.

use std::net::{IpAddr, SocketAddr};

/// Whether a datagram can have come from here, so that an answer can reach its sender
/// (`docs/protocol.md` 13.1).
///
/// The kernel refuses a send to port 0, and an answer to a multicast or broadcast address would
/// reach many hosts. The broadcast address of a subnet cannot be told from a host's.
pub(crate) fn can_be_answered(source: SocketAddr) -> bool {
    source.port() != 0 && is_of_one_host(source.ip())
}

/// Neither unspecified, multicast nor broadcast. IPv4-mapped addresses are read as IPv4.
pub(crate) fn is_of_one_host(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// protocol.md 13.1
    #[test]
    fn only_a_unicast_source_with_a_port_can_be_answered() {
        for bad in [
            "10.0.0.2:0",
            "[2001:db8::2]:0",
            "0.0.0.0:5000",
            "[::]:5000",
            "224.0.0.1:5000",
            "239.255.255.255:5000",
            "[ff02::1]:5000",
            "255.255.255.255:5000",
            "[::ffff:10.0.0.2]:0",
            "[::ffff:0.0.0.0]:5000",
            "[::ffff:224.0.0.1]:5000",
            "[::ffff:255.255.255.255]:5000",
        ] {
            assert!(!can_be_answered(bad.parse().unwrap()), "{bad}");
        }
        for good in [
            "127.0.0.1:1",
            "[::1]:65535",
            "[fe80::1%3]:9",
            "[::ffff:10.0.0.2]:9",
        ] {
            assert!(can_be_answered(good.parse().unwrap()), "{good}");
        }
    }
}
