//! Sets of sessions that have one bound: the table, and the networks around an address. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Sessions that have one bound: the endpoint's, or those of a prefix; and those of a host. The first byte is the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope([u8; 9]);

impl Scope {
    /// All sessions.
    pub(crate) const TABLE: Self = Self([0; 9]);
    pub(super) const LAST: Self = Self([u8::MAX; 9]);

    /// The part of an address that one customer of a network usually has: IPv4 /24, IPv6 /56. Of an IPv4 address in IPv6
    /// it is that of the IPv4 address.
    pub(crate) fn prefix(addr: SocketAddr) -> Self {
        match host_address(addr) {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self([4, a, b, c, 0, 0, 0, 0, 0])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                Self([6, a, b, c, d, e, f, g, 0])
            }
        }
    }

    /// One host of a prefix: an IPv4 address, an IPv6 /64.
    pub(super) fn host(addr: SocketAddr) -> Self {
        match host_address(addr) {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                Self([HOST_V4, a, b, c, d, 0, 0, 0, 0])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self([HOST_V6, a, b, c, d, e, f, g, h])
            }
        }
    }

    /// Every scope of an address that has a bound, outermost first: the table, for IPv6 /32 and /48, the prefix.
    pub(crate) fn all_of(addr: SocketAddr) -> impl Iterator<Item = Self> {
        let prefix = Self::prefix(addr);
        let Self([kind, a, b, c, d, e, f, ..]) = prefix;
        let networks = (kind == 6).then_some([
            Self([1, a, b, c, d, 0, 0, 0, 0]),
            Self([2, a, b, c, d, e, f, 0, 0]),
        ]);
        std::iter::once(Self::TABLE)
            .chain(networks.into_iter().flatten())
            .chain([prefix])
    }

    /// How many sessions it may have, if a prefix may have `limit` and the table `table`.
    pub(crate) const fn limit(self, table: usize, limit: usize) -> usize {
        match self.0[0] {
            0 => table,
            1 => limit.saturating_mul(V6_32),
            2 => limit.saturating_mul(V6_48),
            _ => limit,
        }
    }

    /// The part of what all full scopes share that this one may take.
    pub(super) const fn part_of(self, all: usize) -> usize {
        match self.0[0] {
            0 => all / 2,
            _ => all / 8,
        }
    }

    pub(crate) const fn to_bytes(self) -> [u8; 9] {
        self.0
    }

    pub(super) const fn is_prefix(self) -> bool {
        matches!(self.0[0], 4 | 6)
    }

    /// Whether it is one of those that make room for each other in this one: prefixes in a network, hosts in a prefix.
    pub(super) const fn competes_in(self, full: Self) -> bool {
        match self.0[0] {
            HOST_V4 | HOST_V6 => full.is_prefix(),
            _ => self.is_prefix() && !full.is_prefix(),
        }
    }
}

/// The address of a host, with IPv4 read out of the addresses that hold it: mapped ones, those of a translator
/// (64:ff9b::/96, RFC 6052: all of IPv4 would be one host), and 6to4 (2002::/16, RFC 3056).
fn host_address(addr: SocketAddr) -> IpAddr {
    let ip = addr.ip().to_canonical();
    let IpAddr::V6(v6) = ip else { return ip };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into()
        }
        _ => ip,
    }
}

const HOST_V4: u8 = 8;
const HOST_V6: u8 = 9;
/// A site has a /48 and 256 prefixes in it; a provider has a /32.
const V6_48: usize = 4;
const V6_32: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Vec<Scope> {
        Scope::all_of(text.parse().unwrap()).collect()
    }

    #[test]
    fn scopes_are_nested() {
        assert_eq!(scopes("10.0.0.1:1"), scopes("[::ffff:10.0.0.200]:9"));
        assert_ne!(scopes("10.0.0.1:1")[1], scopes("10.0.1.1:1")[1]);
        let one = scopes("[2001:db8:0:aa00::1]:1");
        assert_eq!(one, scopes("[2001:db8:0:aaff::2]:2"));
        let other = scopes("[2001:db8:0:ab00::1]:1");
        assert_eq!((&one[..3], one.len()), (&other[..3], 4));
        assert_ne!(one[3], other[3]);
        let site = scopes("[2001:db8:1:aa00::1]:1");
        assert_eq!(one[..2], site[..2]);
        assert_ne!(one[2], site[2]);
    }

    #[test]
    fn hosts_are_ipv4_addresses_and_64_bits_of_ipv6() {
        let host = |text: &str| Scope::host(text.parse().unwrap());
        assert_eq!(host("10.0.0.1:1"), host("[::ffff:10.0.0.1]:2"));
        assert_ne!(host("10.0.0.1:1"), host("10.0.0.2:1"));
        assert_eq!(host("[2001:db8:0:1::1]:1"), host("[2001:db8:0:1:2::]:1"));
        assert_ne!(host("[2001:db8:0:1::1]:1"), host("[2001:db8:0:2::1]:1"));
        let [table, prefix] = scopes("10.0.0.1:1")[..] else {
            unreachable!()
        };
        let host = host("10.0.0.1:1");
        assert!(host.competes_in(prefix) && prefix.competes_in(table));
        assert!(!host.competes_in(table) && !host.competes_in(host) && !prefix.competes_in(prefix));
    }

    #[test]
    fn ipv4_in_ipv6_has_the_scopes_of_ipv4() {
        let ipv4 = scopes("198.51.100.2:1");
        assert_eq!(scopes("[64:ff9b::198.51.100.2]:1"), ipv4);
        assert_eq!(scopes("[2002:c633:6402:aa00::1]:1"), ipv4);
        assert_ne!(scopes("[64:ff9b::198.51.101.2]:1"), ipv4);
        // The prefixes beside them are of IPv6.
        for other in [
            "64:ff9b:1::c633:6402",
            "64:ff9b::1:c633:6402",
            "2003:c633:6402::1",
        ] {
            assert_eq!(scopes(&format!("[{other}]:1")).len(), 4, "{other}");
        }
    }

    #[test]
    fn limits_grow_with_the_network() {
        let limits = |text| -> Vec<usize> {
            let scopes = scopes(text).into_iter();
            scopes.map(|scope| scope.limit(65_536, 1_024)).collect()
        };
        assert_eq!(limits("10.0.0.1:1"), [65_536, 1_024]);
        assert_eq!(limits("[2001:db8::1]:1"), [65_536, 16_384, 4_096, 1_024]);
    }
}
