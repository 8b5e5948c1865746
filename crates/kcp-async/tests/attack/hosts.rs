//! Hosts that answer at their addresses and fill prefixes, and clients beside them (`docs/protocol.md` 11.4.1).

use std::time::Duration;

use kcp_async::{KcpEndpoint, KcpStream};
use kcp_engine::Command;
use tokio::time::{Instant, timeout};

use crate::evict::{Attacker, served, validated};
use crate::net::{Net, SERVER, addr, marked, ms, secs, sleep};
use crate::wire::{echo, opener, turbo};

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

/// What newcomers do once they are answered.
#[derive(Clone, Copy, Debug)]
enum Then {
    Stay,
    /// Their session ends, and the next begins.
    Leave,
}

/// A host that wants in for as long as the test goes on: a newcomer that repeats its first datagram in this interval,
/// and then the next.
async fn newcomers(net: Net, host: String, server: &'static str, interval: Duration, then: Then) {
    let mut stay = Vec::new();
    for port in 100.. {
        let from = format!("{host}:{port}");
        let endpoint = net.endpoint(&from, turbo().allow_shared_remote(true));
        let forge = net.spoof(&from);
        for _ in 0..32 {
            let stream = endpoint.connect(server).await.unwrap();
            stream.send(b"x").await.unwrap();
            while timeout(interval, stream.recv_message()).await.is_err() {
                forge(addr(server), &opener(stream.conv().get()));
            }
            match then {
                Then::Stay => stay.push(stream),
                Then::Leave => drop(stream),
            }
        }
        stay.push(endpoint.connect(server).await.unwrap());
    }
}

/// Forged newcomers of all hosts that this names, each of which repeats its first datagram, and ends its session again.
async fn forged(net: Net, host: fn(u32) -> String, server: &'static str, interval: Duration) {
    for n in 0.. {
        let forge = net.spoof(&format!("{}:{}", host(n), 2_000 + n % 60_000));
        for _ in 0..2 {
            let mut first = opener(n + 1);
            first.extend(marked(n + 1, Command::Fin, 1, 0));
            forge(addr(server), &first);
            sleep(interval).await;
        }
    }
}

/// One host has all sessions of its prefix, none of them silent for a minute. How long do clients of others take until
/// they are answered, and how many sessions does the host lose?
async fn beside(
    net: &Net,
    [host, clients]: [fn(u32) -> String; 2],
    server: &'static str,
    attack: impl FnOnce(),
) -> Duration {
    let endpoint = net.endpoint(server, turbo());
    echo(&endpoint);
    let held = filled(net, &host(0), server).await;
    assert_eq!(endpoint.stats().sessions, 1_024);
    attack();
    let mut longest = Duration::ZERO;
    let mut stay: Vec<(KcpEndpoint, KcpStream)> = Vec::new();
    for n in 0..12 {
        for stream in held.iter().flat_map(|attacker| &attacker.streams) {
            // Those that were displaced fail.
            let _ = stream.send(b"used now and then").await;
        }
        for (_, stream) in &stay {
            stream.send(b"in use").await.unwrap();
        }
        sleep(secs(2)).await;
        let start = Instant::now();
        let client = served(net, &format!("{}:7", clients(n)), server).await;
        longest = longest.max(start.elapsed());
        stay.push(client);
    }
    for (_, stream) in &stay {
        assert_eq!(stream.close_reason(), None);
    }
    longest
}

/// The second repetition, and a round trip: the first finds that all sessions have been used since, and moves them back.
const REPETITIONS: Duration = Duration::from_millis(650);
const IPV4: [fn(u32) -> String; 2] = [
    |n| format!("10.9.1.{}", 1 + n % 2),
    |n| format!("10.9.1.{}", 20 + n),
];
const IPV6: [fn(u32) -> String; 2] = [
    |n| format!("[2001:db8:0:{:x}::1]", 1 + n % 2),
    |n| format!("[2001:db8:0:{:x}::1]", 20 + n),
];

/// The host that has most, and a second one of the same attacker, want in again and again.
#[tokio::test(start_paused = true)]
async fn newcomers_of_an_attacker_keep_no_others_out() {
    for (server, addresses) in [(SERVER, IPV4), (V6, IPV6)] {
        let [host, _] = addresses;
        for hosts in [
            &[(0, Then::Stay)][..],
            &[(1, Then::Stay)],
            &[(0, Then::Stay), (1, Then::Leave)],
        ] {
            let net = Net::clean();
            let attack = || {
                for &(n, then) in hosts {
                    tokio::spawn(newcomers(net.clone(), host(n), server, ms(10), then));
                }
            };
            let longest = beside(&net, addresses, server, attack).await;
            assert!(longest <= REPETITIONS, "{server} {hosts:?}: {longest:?}");
        }
    }
}

/// The same beside forged newcomers of all other hosts.
#[tokio::test(start_paused = true)]
async fn forged_newcomers_keep_no_others_out() {
    let of_ipv4: fn(u32) -> String = |n| format!("10.9.1.{}", 2 + n % 200);
    let of_ipv6: fn(u32) -> String = |n| format!("[2001:db8:0:{:x}::1]", 2 + n % 200);
    for (server, addresses, others) in [(SERVER, IPV4, of_ipv4), (V6, IPV6, of_ipv6)] {
        let [host, _] = addresses;
        let net = Net::clean();
        let attack = || {
            tokio::spawn(newcomers(net.clone(), host(0), server, ms(10), Then::Stay));
            tokio::spawn(newcomers(net.clone(), host(1), server, ms(10), Then::Leave));
            tokio::spawn(forged(net.clone(), others, server, ms(15)));
        };
        let longest = beside(&net, addresses, server, attack).await;
        assert!(longest <= REPETITIONS, "{server}: {longest:?}");
    }
}
