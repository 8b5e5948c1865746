//! Hosts that answer at their addresses and fill prefixes, and clients beside them (`docs/protocol.md` 11.4.1).

use crate::evict::{Attacker, served, validated};
use crate::net::{Net, SERVER, ms, secs, sleep};
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

/// Sends on each of these sessions every 0.7 s.
async fn keep_in_use(held: &[Attacker]) {
    loop {
        for stream in held.iter().flat_map(|attacker| &attacker.streams) {
            // Those that were displaced fail.
            let _ = stream.send(b"in use").await;
        }
        sleep(ms(700)).await;
    }
}

/// Sixteen prefixes have all sessions of a table, or of the /32 around them. All but one are in use, and that one is the
/// last of those with as many.
#[tokio::test(start_paused = true)]
async fn prefixes_in_use_hide_no_others() {
    type Address = fn(u32, u32) -> String;
    let in_ipv4: Address = |prefix, host| format!("10.9.{prefix}.{host}:7");
    let in_ipv6: Address = |prefix, host| {
        let (site, part) = (prefix / 4, prefix % 4 + host);
        format!("[2001:db8:{site:x}:{part:x}00::1]:7")
    };
    for (server, address, table) in [(SERVER, in_ipv4, 1_024), (V6, in_ipv6, 2_048)] {
        let net = Net::clean();
        let endpoint = net.endpoint(server, turbo().max_sessions(table).per_source_limit(64));
        echo(&endpoint);
        let mut held = Vec::new();
        for prefix in 4..20 {
            held.push(validated(&net, &address(prefix, 1), server, 64).await);
        }
        assert_eq!(endpoint.stats().sessions, 1_024);
        let clients = async {
            sleep(secs(3)).await;
            let mut clients = Vec::new();
            for prefix in 20..30 {
                clients.push(served(&net, &address(prefix, 1), server).await);
                for (_, stream) in &clients {
                    stream.send(b"in use").await.unwrap();
                }
            }
            clients
        };
        let _clients = tokio::select! {
            clients = clients => clients,
            () = keep_in_use(&held[1..]) => unreachable!(),
        };
        assert_eq!(endpoint.stats().evicted_idle, 10, "{server}");
        assert!(held[1..].iter().all(|prefix| prefix.evicted() == 0));
    }
}
