//! The bounds that a flood can fill around a client, each with the addresses that fill it (`docs/protocol.md`
//! 11.4.1).

use std::net::SocketAddr;

use kcp_async::EndpointConfig;

use crate::net::{SERVER, addr};
use crate::wire::{crowded, opener, scattered, turbo};

pub(crate) const HONEST: &str = "203.0.113.5:9";
const HONEST_V6: &str = "[2001:db8:1:2::5]:9";
const SERVER_V6: &str = "[2001:db8:ffff::1]:4000";

/// A bound, and what fills it.
#[derive(Clone)]
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    pub(crate) config: EndpointConfig,
    pub(crate) server: &'static str,
    /// The client around which it is.
    pub(crate) honest: &'static str,
    /// What it holds.
    pub(crate) full: u32,
    address: fn(u32) -> SocketAddr,
}

impl Bound {
    /// The address of the `n`th forged session.
    pub(crate) fn address(&self, n: u32) -> SocketAddr {
        (self.address)(n)
    }

    /// The first datagram of the `n`th forged session, and its address.
    pub(crate) fn forged(&self, n: u32) -> (SocketAddr, Vec<u8>) {
        (self.address(n), opener(0x4000_0000 + n))
    }
}

/// The sessions that wait for accept.
pub(crate) fn backlog(sessions: u32) -> Bound {
    Bound {
        name: "accept backlog",
        config: turbo().accept_backlog(sessions as usize),
        server: SERVER,
        honest: HONEST,
        full: sessions,
        address: scattered,
    }
}

/// One of each kind. The table has room for so many.
pub(crate) fn bounds(table: u32) -> [Bound; 4] {
    let of = |name, honest, full, address| Bound {
        name,
        config: turbo(),
        server: match addr(honest).is_ipv4() {
            true => SERVER,
            false => SERVER_V6,
        },
        honest,
        full,
        address,
    };
    [
        of("prefix", HONEST, 1_024, crowded),
        of("prefix of IPv6", HONEST_V6, 1_024, crowded_v6),
        Bound {
            config: turbo().max_sessions(table as usize),
            ..of("table", HONEST, table, scattered)
        },
        of("address", HONEST, 64, |_| addr(HONEST)),
    ]
}

/// The `n`th forged address of the IPv6 /56 of [`HONEST_V6`].
fn crowded_v6(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    addr(&format!("[2001:db8:1:{a:x}::{b:x}:{c:x}]:40000"))
}
