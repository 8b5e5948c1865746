//! Addresses that a peer can have (`docs/protocol.md` 13.1), and their two spellings. Pure.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// Whether a datagram can have come from here, so that an answer can reach its sender
/// (`docs/protocol.md` 13.1).
///
/// The kernel refuses a send to port 0, and an answer to a multicast or broadcast address would
/// reach many hosts. The broadcast address of a subnet cannot be told from a host's.
pub(crate) fn can_be_answered(source: SocketAddr) -> bool {
    source.port() != 0 && is_of_one_host(source.ip())
}

/// Whether a datagram to `destination` claims to come from the very socket that it came to. Where that is
/// bound to no address in particular, the system has to say to which one the datagram came.
pub(crate) fn is_own(source: SocketAddr, destination: Option<IpAddr>, local: SocketAddr) -> bool {
    if source.port() != local.port() {
        return false;
    }
    let own = match local.ip().is_unspecified() {
        true => destination,
        false => Some(local.ip()),
    };
    own.is_some_and(|own| own.to_canonical() == source.ip().to_canonical())
}

/// Neither unspecified, multicast nor broadcast. IPv4-mapped addresses are read as IPv4.
pub(crate) fn is_of_one_host(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast()),
    }
}

/// The address as datagrams from it name it: a dual-stack socket maps IPv4, and there is a scope for
/// link-local addresses only.
pub(crate) fn as_received(addr: SocketAddr, socket_is_v6: bool) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) if socket_is_v6 => {
            SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
        }
        SocketAddr::V4(_) => addr,
        SocketAddr::V6(v6) => {
            let scope = match v6.ip().is_unicast_link_local() {
                true => v6.scope_id(),
                false => 0,
            };
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into()
        }
    }
}

/// The address as an application writes it: mapped IPv4 addresses become IPv4.
pub(crate) fn as_user_names(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, addr.port())),
        IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_knows_its_own_address() {
        let own = |source: &str, destination: &str, local: &str| {
            let destination = destination.parse().ok();
            is_own(source.parse().unwrap(), destination, local.parse().unwrap())
        };
        assert!(own("10.0.0.1:9", "", "10.0.0.1:9"));
        assert!(own("10.0.0.1:9", "10.0.0.1", "0.0.0.0:9"));
        assert!(own("[::ffff:10.0.0.1]:9", "::ffff:10.0.0.1", "[::]:9"));
        assert!(own("[fd00::1]:9", "fd00::1", "[::]:9"));
        assert!(!own("10.0.0.1:8", "10.0.0.1", "10.0.0.1:9"));
        assert!(!own("10.0.0.2:9", "10.0.0.1", "10.0.0.1:9"));
        assert!(!own("10.0.0.2:9", "10.0.0.1", "0.0.0.0:9"));
        assert!(!own("10.0.0.1:9", "", "0.0.0.0:9"));
    }

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

    #[test]
    fn an_address_has_one_spelling_for_the_socket() {
        let named = |text: &str, v6| as_received(text.parse().unwrap(), v6).to_string();
        assert_eq!(named("10.0.0.2:9", false), "10.0.0.2:9");
        assert_eq!(named("10.0.0.2:9", true), "[::ffff:10.0.0.2]:9");
        assert_eq!(named("[::1%1]:9", true), "[::1]:9");
        assert_eq!(named("[2001:db8::1%2]:9", true), "[2001:db8::1]:9");
        assert_eq!(named("[fe80::1%3]:9", true), "[fe80::1%3]:9");
        let flow = SocketAddrV6::new("::1".parse().unwrap(), 9, 7, 0).into();
        assert_eq!(as_received(flow, true), "[::1]:9".parse().unwrap());
    }
}
