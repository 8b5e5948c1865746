//! Path mtus as the system knows them, asked for at most once a second for each destination.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::mutex::Mutex;

/// The answers of the last second, or none that would help.
#[derive(Debug)]
pub(super) struct PathMtus(Mutex<Table>);

type Table = HashMap<IpAddr, (Instant, Option<usize>)>;

impl PathMtus {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Table::new()))
    }

    /// The mtu of the path to a destination; `None` if the system does not tell.
    pub(super) fn of(&self, destination: SocketAddr) -> Option<usize> {
        let now = Instant::now();
        let is_fresh = |asked: Instant| now.saturating_duration_since(asked) < VALID_FOR;
        let known = self.0.lock("known mtu").get(&destination.ip()).copied();
        if let Some((_, mtu)) = known.filter(|&(asked, _)| is_fresh(asked)) {
            return mtu;
        }
        let mtu = ask(destination);
        let mut table = self.0.lock("remember mtu");
        if table.len() >= MOST {
            table.retain(|_, &mut (asked, _)| is_fresh(asked));
        }
        if table.len() < MOST {
            table.insert(destination.ip(), (now, mtu));
        }
        mtu
    }
}

/// The system tells it of a connected socket.
fn ask(destination: SocketAddr) -> Option<usize> {
    let is_ipv6 = destination.is_ipv6();
    let any: IpAddr = match is_ipv6 {
        false => Ipv4Addr::UNSPECIFIED.into(),
        true => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(destination).ok()?;
    Some(kcp_sys::path_mtu(&socket, is_ipv6).ok()?? as usize)
}

const VALID_FOR: Duration = Duration::from_secs(1);
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_repeats_what_it_knows() {
        let known = PathMtus::new();
        let first = known.of("[::1]:9".parse().unwrap());
        assert_eq!(known.of("[::1]:10".parse().unwrap()), first);
        assert_eq!(known.0.lock("test").len(), 1);
        for n in 0..1_000_u16 {
            known.0.lock("test").insert(
                Ipv6Addr::from(u128::from(n)).into(),
                (Instant::now(), Some(1_500)),
            );
        }
        let before = known.0.lock("test").len();
        known.of("[fd99::1]:9".parse().unwrap());
        assert!(known.0.lock("test").len() <= before);
    }
}
