//! Paths whose mtu is below that of our datagrams (`docs/protocol.md` 2.3.1).

use std::thread;
use std::time::Duration;

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpEndpoint, KcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{self, Namespace, Routed, SERVER};
use crate::transfer::{Server, Way, content, copy, transfer};

const LEN: usize = 200_000;
const WAYS: [Way; 2] = [Way::Up, Way::Down];

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Presets, and an mtu that somebody has set, with both flush policies and both modes.
fn configs() -> [KcpConfig; 5] {
    [
        KcpConfig::new(),
        KcpConfig::new().mtu(1_400),
        KcpConfig::file_transfer(),
        KcpConfig::file_transfer().mtu(1_472),
        KcpConfig::file_transfer().mtu(9_000),
    ]
}

/// The control: nothing is small here.
#[test]
fn a_transfer_crosses_a_router() {
    if !harness::available() {
        return;
    }
    let hosts = Routed::new();
    for addr in SERVER {
        let server = Server::start(&hosts.server, addr, KcpConfig::new(), LEN);
        for way in WAYS {
            let config = KcpConfig::new();
            copy(&hosts.client, server.addr, config, way, LEN, seconds(10));
        }
        assert_eq!(server.endpoint.stats().accepted, 2);
        server.stop();
    }
}

/// A local interface with a small mtu, as WireGuard's: datagrams are fragmented here, and a refused train is no loss.
#[test]
fn a_local_link_with_a_small_mtu_costs_nothing() {
    if !harness::available() {
        return;
    }
    for mtu in [65_536, 1_280, 1_420] {
        let host = Namespace::new();
        host.ip(&format!("link set lo mtu {mtu}"));
        for addr in ["127.0.0.1", "::1"] {
            for config in configs() {
                // The classic window opens slowly: 1.1 s on any loopback.
                let limit = seconds(if config.uses_congestion_window() {
                    2
                } else {
                    1
                });
                let server = Server::start(&host, addr, config.clone(), LEN);
                for way in WAYS {
                    let took = copy(&host, server.addr, config.clone(), way, LEN, limit);
                    eprintln!("lo mtu {mtu}, {addr}, {way:?}: {took:?}");
                }
                let stats = server.endpoint.stats();
                assert_eq!((stats.send_errors, stats.datagrams_fragmented), (0, 0));
                let refused = stats.trains_refused > 0;
                assert!(mtu < 65_536 || !refused);
                server.stop();
            }
        }
    }
}

/// Endpoints that connect, on sockets of one family and of both.
#[test]
fn endpoints_on_a_link_with_a_small_mtu() {
    if !harness::available() {
        return;
    }
    let host = Namespace::new();
    host.ip("link set lo mtu 1420");
    for (local, addr) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "::1"),
    ] {
        let config = KcpConfig::file_transfer();
        let server = Server::start(&host, addr, config.clone(), LEN);
        let remote = server.addr;
        host.block_on(move || async move {
            let endpoint = KcpEndpoint::bind(local, config).await.unwrap();
            for way in WAYS {
                let mut stream = endpoint.connect(remote).await.unwrap();
                let copied = transfer(&mut stream, way, LEN);
                let within = tokio::time::timeout(seconds(1), copied).await;
                within.unwrap_or_else(|_| panic!("{local} {addr}")).unwrap();
                stream.abort();
                // The address is free again once the driver has seen the end.
                tokio::time::timeout(seconds(5), async {
                    while endpoint.stats().sessions > 0 {
                        tokio::task::yield_now().await;
                    }
                })
                .await
                .unwrap();
            }
        });
        server.stop();
    }
}

/// An IPv4 router fragments; an IPv6 router reports (ICMP), which we do not believe, and drops.
#[test]
fn a_router_with_a_small_mtu_is_crossed() {
    if !harness::available() {
        return;
    }
    let hosts = Routed::new();
    for near_server in [true, false] {
        let (server_mtu, client_mtu) = if near_server {
            (1_280, 1_500)
        } else {
            (1_500, 1_280)
        };
        hosts.router.ip(&format!("link set right mtu {server_mtu}"));
        hosts.server.ip(&format!("link set eth0 mtu {server_mtu}"));
        hosts.router.ip(&format!("link set left mtu {client_mtu}"));
        hosts.client.ip(&format!("link set eth0 mtu {client_mtu}"));
        for addr in SERVER {
            for config in configs() {
                let server = Server::start(&hosts.server, addr, config.clone(), LEN);
                for way in WAYS {
                    let limit = seconds(20);
                    let took = copy(&hosts.client, server.addr, config.clone(), way, LEN, limit);
                    eprintln!("small near the server {near_server}, {addr}, {way:?}: {took:?}");
                }
                server.stop();
            }
        }
    }
}

/// A hop that drops what is too large and says nothing: the far end takes less than the near end sends.
fn make_black_hole(from: (&Namespace, &str), to: (&Namespace, &str)) {
    // A train that is not cut before it leaves would pass whatever the size of its datagrams.
    from.0.ip(&format!("link set {} gso_max_segs 1", from.1));
    to.0.ip(&format!("link set {} mtu 1300", to.1));
}

/// IPv6 datagrams that vanish are fragmented at the source after two time-outs.
#[test]
fn a_black_hole_for_large_ipv6_datagrams_is_crossed() {
    if !harness::available() {
        return;
    }
    for way in WAYS {
        let hosts = Routed::new();
        match way {
            Way::Up => make_black_hole((&hosts.router, "right"), (&hosts.server, "eth0")),
            Way::Down => make_black_hole((&hosts.router, "left"), (&hosts.client, "eth0")),
        }
        for config in configs() {
            let server = Server::start(&hosts.server, SERVER[1], config.clone(), LEN);
            let took = copy(&hosts.client, server.addr, config, way, LEN, seconds(20));
            eprintln!("black hole, IPv6, {way:?}: {took:?}");
            let fragmented = server.endpoint.stats().datagrams_fragmented;
            assert_eq!(fragmented > 0, way == Way::Down);
            server.stop();
        }
    }
}

/// Over IPv4 nothing helps: the session ends with an error that says so, though the peer is heard all the time.
#[test]
fn a_black_hole_for_large_ipv4_datagrams_ends_the_session() {
    if !harness::available() {
        return;
    }
    let hosts = Routed::new();
    make_black_hole((&hosts.router, "right"), (&hosts.server, "eth0"));
    let config = EndpointConfig::new(KcpConfig::file_transfer())
        .dead_peer_timeout(Some(seconds(5)))
        .connect_timeout(None);
    let server = Server::start(&hosts.server, SERVER[0], config.clone(), LEN);
    let remote = server.addr;
    let (error, took) = hosts.client.block_on(move || async move {
        let mut stream = KcpStream::connect(remote, config).await.unwrap();
        let began = std::time::Instant::now();
        // The server waits for more than it gets: the small answers to our questions are all that passes.
        stream.write_all(b"u").await.unwrap();
        stream.write_all(&content(LEN - 1)).await.unwrap();
        let end = tokio::time::timeout(seconds(20), async {
            let mut rest = vec![0; 65_536];
            while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        });
        end.await.unwrap();
        (stream.close_reason(), began.elapsed())
    });
    eprintln!("black hole, IPv4: {error:?} after {took:?}");
    assert_eq!(error, Some(ConnectionError::Undeliverable));
    assert!(took < seconds(12), "{took:?}");
    server.stop();
}

/// The mtu of a link falls while a transfer is under way over it.
#[test]
fn the_mtu_falls_during_a_transfer() {
    if !harness::available() {
        return;
    }
    const LONG: usize = 60_000_000;
    for addr in ["127.0.0.1", "::1"] {
        for way in WAYS {
            let host = Namespace::new();
            let server = Server::start(&host, addr, KcpConfig::file_transfer(), LONG);
            thread::scope(|scope| {
                let copying = scope.spawn(|| {
                    let config = KcpConfig::file_transfer();
                    copy(&host, server.addr, config, way, LONG, seconds(60))
                });
                await_traffic(&server);
                host.ip("link set lo mtu 1420");
                eprintln!(
                    "falls on lo, {addr}, {way:?}: {:?}",
                    copying.join().unwrap()
                );
            });
            server.stop();
        }
    }
    let hosts = Routed::new();
    for addr in SERVER {
        for way in WAYS {
            hosts.router.ip("link set right mtu 1500");
            hosts.server.ip("link set eth0 mtu 1500");
            let server = Server::start(&hosts.server, addr, KcpConfig::file_transfer(), LONG);
            thread::scope(|scope| {
                let copying = scope.spawn(|| {
                    let config = KcpConfig::file_transfer();
                    copy(&hosts.client, server.addr, config, way, LONG, seconds(60))
                });
                await_traffic(&server);
                hosts.router.ip("link set right mtu 1280");
                hosts.server.ip("link set eth0 mtu 1280");
                eprintln!(
                    "falls behind a router, {addr}, {way:?}: {:?}",
                    copying.join().unwrap()
                );
            });
            server.stop();
        }
    }
}

/// protocol.md 2.3.2: segments are cut so that the interface need not fragment them, from the first one on. So a full
/// memory for reassembly (here: none) holds up nothing.
#[test]
fn a_small_interface_mtu_needs_no_fragments() {
    if !harness::available() {
        return;
    }
    for mtu in [1_280, 1_420] {
        for addr in ["127.0.0.1", "::1"] {
            for config in configs() {
                for way in WAYS {
                    let host = Namespace::new();
                    host.ip(&format!("link set lo mtu {mtu}"));
                    for family in ["ipv4/ip", "ipv6/ip6"] {
                        host.sysctl(&format!("{family}frag_low_thresh"), "0");
                        host.sysctl(&format!("{family}frag_high_thresh"), "0");
                    }
                    let server = Server::start(&host, addr, config.clone(), LEN);
                    let took = copy(&host, server.addr, config.clone(), way, LEN, seconds(10));
                    eprintln!("no reassembly, lo mtu {mtu}, {addr}, {way:?}: {took:?}");
                    assert_eq!(server.endpoint.stats().trains_refused, 0);
                    assert_eq!(host.run(fragments_created), 0);
                    server.stop();
                }
            }
        }
    }
}

/// Over both families, in the namespace of the caller.
fn fragments_created() -> u64 {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
    let (v4, v6) = (read("snmp"), read("snmp6"));
    let mut rows = v4.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let mut columns = names.split_whitespace().zip(values.split_whitespace());
    let v4 = columns.find(|&(name, _)| name == "FragCreates").unwrap().1;
    let v6 = v6.lines().find(|line| line.starts_with("Ip6FragCreates"));
    let v6 = v6.and_then(|line| line.split_whitespace().nth(1)).unwrap();
    v4.parse::<u64>().unwrap() + v6.parse::<u64>().unwrap()
}

fn await_traffic(server: &Server) {
    let deadline = std::time::Instant::now() + seconds(10);
    loop {
        let stats = server.endpoint.stats();
        if stats.bytes_received + stats.bytes_sent > 2_000_000 {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "no traffic");
        thread::yield_now();
    }
}
