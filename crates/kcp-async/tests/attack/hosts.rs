//! Hosts that answer at their addresses and fill prefixes, and clients beside them (`docs/protocol.md` 11.4.1).

use crate::evict::{Attacker, served, validated};
use crate::net::{Net, secs, sleep};
use crate::wire::{echo, turbo};

const V6: &str = "[2001:db8:ffff::1]:4000";

/// A host that has 1,024 sessions, 64 from each of its ports: all that a prefix may have.
async fn filled(net: &Net, host: &str, server: &str) -> Vec<Attacker> {
    let mut held = Vec::new();
    for port in 1..=16 {
        held.push(validated(net, &format!("{host}:{port}"), server, 64).await);
    }
    held
}

/// To a server that has IPv6 only, a translator gives all of IPv4 addresses of one /64 (RFC 6052), and 6to4 gives each
/// IPv4 address a /48: one IPv4 host filled the prefix of all others.
#[tokio::test(start_paused = true)]
async fn one_ipv4_host_behind_a_translator_keeps_no_other_out() {
    for (host, others) in [
        (
            "[64:ff9b::198.51.100.2]",
            ["[64:ff9b::203.0.113.9]:7", "[64:ff9b::198.51.100.9]:7"],
        ),
        (
            "[2002:c633:6402::1]",
            ["[2002:cb00:7109::1]:7", "[64:ff9b::198.51.100.9]:7"],
        ),
    ] {
        let net = Net::clean();
        let server = net.endpoint(V6, turbo());
        echo(&server);
        let _held = filled(&net, host, V6).await;
        assert_eq!(server.stats().sessions, 1_024);
        sleep(secs(2)).await;
        let _client = served(&net, others[0], V6).await;
        assert_eq!(server.stats().evicted_idle, 0, "of another prefix");
        let _neighbour = served(&net, others[1], V6).await;
        assert_eq!(server.stats().evicted_idle, 1, "of the same /24");
    }
}
