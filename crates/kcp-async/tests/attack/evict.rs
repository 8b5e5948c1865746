//! Full tables, prefixes and backlogs: who makes room for a new session (`docs/protocol.md` 11.4.1).

use kcp_async::{ConnectionError, EndpointConfig, KcpEndpoint, KcpStream};
use kcp_engine::Command;
use tokio::time::timeout;

use crate::net::{Net, SERVER, StockPeer, addr, ms, secs, segment, sleep};
use crate::wire::{Wire, echo, embryo, figure, opener, scattered, sink, turbo};

/// This many sessions from one endpoint, each of which has been answered, so that its address is
/// validated.
pub(crate) async fn validated(net: &Net, from: &str, server: &str, sessions: usize) -> Attacker {
    let endpoint = net.endpoint(from, turbo().allow_shared_remote(true));
    let mut streams = Vec::new();
    for _ in 0..sessions {
        let stream = endpoint.connect(server).await.unwrap();
        stream.send(b"hold this").await.unwrap();
        // Those that are refused are not answered.
        let _ = timeout(ms(50), stream.recv_message()).await;
        // The acknowledgement shows the mark, so the next session does not replace this one (13.4).
        sleep(ms(15)).await;
        streams.push(stream);
    }
    Attacker {
        streams,
        _endpoint: endpoint,
    }
}

pub(crate) struct Attacker {
    pub(crate) streams: Vec<KcpStream>,
    _endpoint: KcpEndpoint,
}

impl Attacker {
    pub(crate) fn evicted(&self) -> usize {
        let over = |stream: &&KcpStream| stream.close_reason().is_some();
        self.streams.iter().filter(over).count()
    }
}

/// A client that is answered, and stays.
pub(crate) async fn served(net: &Net, from: &str, server: &str) -> (KcpEndpoint, KcpStream) {
    let client = net.endpoint(from, turbo());
    let stream = client.connect(server).await.unwrap();
    stream.send(b"a real client").await.unwrap();
    let answer = timeout(secs(9), stream.recv_message()).await;
    assert_eq!(answer.unwrap().unwrap(), b"a real client", "{from}");
    (client, stream)
}

pub(crate) fn small_table() -> EndpointConfig {
    // 64 for a prefix: the least.
    turbo().max_sessions(256)
}

/// Four prefixes of validated sessions fill the table. They are idle, so clients from elsewhere get
/// in; those that are in use stay.
#[tokio::test(start_paused = true)]
async fn four_prefixes_do_not_fill_the_table_for_good() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, small_table());
    echo(&server);
    let mut attackers = Vec::new();
    for n in 1..=4 {
        let from = format!("10.9.{n}.1:7");
        attackers.push(validated(&net, &from, SERVER, 64).await);
    }
    assert_eq!(server.stats().sessions, 256);
    sleep(secs(2)).await;
    let in_use = &attackers[0].streams[0];
    in_use.send(b"still here").await.unwrap();
    in_use.recv_message().await.unwrap();
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(served(&net, &format!("10.8.{n}.1:7"), SERVER).await);
    }
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.dropped_limit), (256, 0));
    assert_eq!((stats.evicted_idle, stats.evicted_undelivered), (20, 0));
    assert_eq!(in_use.close_reason(), None);
    figure(
        "the table filled by validated sessions of four prefixes: clients elsewhere that get in",
        "20 of 20, with their first datagram",
        "no limit",
    );
}

/// The most populous prefix gives first.
#[tokio::test(start_paused = true)]
async fn the_most_populous_prefix_makes_room() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo().max_sessions(100).per_source_limit(64));
    echo(&server);
    let few = validated(&net, "10.9.1.1:7", SERVER, 40).await;
    sleep(secs(60)).await;
    let many = validated(&net, "10.9.2.1:7", SERVER, 60).await;
    sleep(secs(2)).await;
    let mut clients = Vec::new();
    for n in 0..15 {
        clients.push(served(&net, &format!("10.8.{n}.1:7"), SERVER).await);
    }
    assert_eq!(server.stats().evicted_idle, 15);
    // They learn of it when they next send.
    for stream in few.streams.iter().chain(&many.streams) {
        let _ = stream.send(b"and now?").await;
    }
    sleep(secs(5)).await;
    assert_eq!((few.evicted(), many.evicted()), (0, 15));
}

/// As many sessions of a prefix, the same number from each of so many hosts.
async fn prefix_of(net: &Net, sessions: usize, hosts: usize) -> Vec<Attacker> {
    let mut held = Vec::new();
    for n in 1..=hosts {
        let from = format!("10.9.1.{n}:7");
        held.push(validated(net, &from, SERVER, sessions / hosts).await);
    }
    held
}

/// A prefix that is full lets its own clients in too, once one of its sessions is silent for a minute.
#[tokio::test(start_paused = true)]
async fn a_full_prefix_makes_room_for_its_own() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, small_table());
    echo(&server);
    let _neighbours = prefix_of(&net, 64, 16).await;
    assert_eq!(server.stats().sessions, 64);
    sleep(secs(2)).await;
    net.raw("10.9.1.78:7").send(addr(SERVER), &opener(1));
    sleep(ms(15)).await;
    let stats = server.stats();
    assert_eq!((stats.dropped_limit, stats.evicted_idle), (1, 0));
    sleep(secs(60)).await;
    let _client1 = served(&net, "10.9.1.77:7", SERVER).await;
    assert_eq!(
        (server.stats().sessions, server.stats().evicted_idle),
        (64, 1)
    );
}

/// One host has all the sessions of its prefix and uses each now and then: the clients beside it were shut out for as
/// long as it did, by 2 kB/s. Those in front of the order, kept fresh all the time, hide none of the others.
#[tokio::test(start_paused = true)]
async fn one_host_does_not_keep_its_prefix_to_itself() {
    for (host, beside) in [("10.9.1.1", "10.9.1"), ("[2001:db8:0:1::1]", "[2001:db8:0")] {
        let net = Net::clean();
        let is_ipv4 = !host.starts_with('[');
        let server = if is_ipv4 {
            SERVER
        } else {
            "[2001:db8:ffff::1]:4000"
        };
        let endpoint = net.endpoint(server, turbo());
        echo(&endpoint);
        let mut held = Vec::new();
        for port in 1..=16 {
            held.push(validated(&net, &format!("{host}:{port}"), server, 64).await);
        }
        assert_eq!(endpoint.stats().sessions, 1_024);
        let mut clients = Vec::new();
        for n in 2..12 {
            for stream in held.iter().flat_map(|attacker| &attacker.streams) {
                // Those that were displaced fail.
                let _ = stream.send(b"still here").await;
            }
            let from = match is_ipv4 {
                true => format!("{beside}.{n}:7"),
                false => format!("{beside}:{n}::1]:7"),
            };
            let fresh = async {
                loop {
                    for stream in held.iter().take(2).flat_map(|host| &host.streams) {
                        let _ = stream.send(b"fresh").await;
                    }
                    sleep(ms(700)).await;
                }
            };
            let client = async {
                // All but the fresh ones are silent for longer than a second, and in the order for less than a minute.
                sleep(secs(2)).await;
                served(&net, &from, server).await
            };
            tokio::select! {
                client = client => clients.push(client),
                () = fresh => {}
            }
            // What is silent for a minute goes first.
            for (_, stream) in &clients {
                stream.send(b"in use").await.unwrap();
            }
        }
        assert_eq!(endpoint.stats().evicted_idle, 10);
        assert!(
            clients
                .iter()
                .all(|(_, stream)| stream.close_reason().is_none())
        );
    }
}

/// IPv6: 256 prefixes of one site, then many sites of one provider.
#[tokio::test(start_paused = true)]
async fn networks_of_ipv6_are_bounded_as_a_whole() {
    const V6: &str = "[2001:db8:ffff::1]:4000";
    let net = Net::clean();
    let server = net.endpoint(V6, turbo().max_sessions(2_048));
    echo(&server);
    let mut held = Vec::new();
    for n in 0..6 {
        let from = format!("[2001:db8:0:{n:x}00::1]:7");
        held.push(validated(&net, &from, V6, 64).await);
    }
    assert_eq!(server.stats().sessions, 4 * 64, "a /48");
    for n in 1..20 {
        let from = format!("[2001:db8:{n:x}::1]:7");
        held.push(validated(&net, &from, V6, 64).await);
    }
    assert_eq!(server.stats().sessions, 16 * 64, "a /32");
    sleep(secs(12)).await;
    let before = server.stats();
    assert_eq!(before.sessions, 16 * 64);
    // Elsewhere nothing is evicted; inside, the idle make room.
    let _client2 = served(&net, "[2001:db9::1]:7", V6).await;
    assert_eq!(server.stats().evicted_idle, before.evicted_idle);
    let _client3 = served(&net, "[2001:db8:0:9900::1]:7", V6).await;
    let _client4 = served(&net, "[2001:db8:99::1]:7", V6).await;
    assert_eq!(server.stats().evicted_idle, before.evicted_idle + 2);
    assert_eq!(server.stats().sessions, 16 * 64 + 1);
}

/// Unvalidated newcomers end no validated session of their prefix that was heard within a minute, and
/// later only until they have a sixteenth of it.
#[tokio::test(start_paused = true)]
async fn a_flood_ends_no_validated_session_of_its_own_prefix() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    let mut honest = Vec::new();
    for n in 1..=16 {
        let from = format!("10.9.1.{n}:7");
        honest.push(validated(&net, &from, SERVER, 60).await);
    }
    assert_eq!(server.stats().sessions, 960);
    sleep(ms(1_500)).await;
    let forged = |n: u32| (addr(&format!("10.9.1.200:{}", 2_000 + n)), opener(n + 1));
    wire.flood((0..520).map(forged)).await;
    for stream in honest.iter().flat_map(|client| &client.streams) {
        stream.send(b"more").await.unwrap();
        let answer = timeout(secs(1), stream.recv_message()).await;
        assert_eq!(answer.unwrap().unwrap(), b"more");
    }
    let stats = server.stats();
    assert_eq!((stats.evicted_idle, stats.evicted_closing), (0, 0));
    figure(
        "520 forged first datagrams from the /24 of 960 validated sessions that are idle: sessions that end",
        "0 of 960",
        "no limit",
    );
}

#[tokio::test(start_paused = true)]
async fn validated_sessions_keep_fifteen_sixteenths_of_a_full_bound() {
    // In one prefix by many hosts or one, and in four.
    for (prefixes, hosts, silent, ended) in [
        (1, 16, 2, 0),
        (1, 16, 61, 4),
        (1, 1, 2, 0),
        (4, 1, 2, 16),
        (4, 1, 61, 16),
    ] {
        let net = Net::clean();
        let (server, wire) = Wire::server(&net, small_table());
        echo(&server);
        let mut held = Vec::new();
        for (n, host) in (1..=prefixes).flat_map(|n| (1..=hosts).map(move |host| (n, host))) {
            let from = format!("10.9.{n}.{host}:7");
            held.push(validated(&net, &from, SERVER, 64 / hosts).await);
        }
        sleep(secs(silent)).await;
        let forged = |n: u32| match prefixes {
            1 => (addr(&format!("10.9.1.200:{}", 2_000 + n)), opener(n + 1)),
            _ => (scattered(n), opener(n + 1)),
        };
        for round in 0..3 {
            wire.flood((500 * round..500 * round + 500).map(forged))
                .await;
            sleep(ms(1_100)).await;
        }
        assert_eq!(
            server.stats().evicted_idle,
            ended,
            "{prefixes} prefixes, {hosts} hosts in each, silent for {silent} s"
        );
    }
}

/// Forged newcomers that repeat themselves, and a host that has all sessions of its prefix (a NAT, a relay) and opens
/// again what was ended, which makes room for more forged ones: they end a sixteenth at once, and another in each minute.
#[tokio::test(start_paused = true)]
async fn a_flood_ends_few_sessions_of_a_host_with_many() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, small_table());
    echo(&server);
    let mut held = vec![validated(&net, "10.9.1.1:7", SERVER, 64).await];
    let mut ended = 0;
    sleep(secs(2)).await;
    // Less than the minute after which any of them may go.
    for second in 0..50 {
        let forged = |n: u32| (addr(&format!("10.9.1.200:{}", 2_000 + n)), opener(n + 1));
        for _ in 0..2 {
            wire.flood((70 * second..70 * second + 70).map(forged))
                .await;
            sleep(ms(500)).await;
        }
        let missing = server.stats().evicted_idle - ended;
        ended += missing;
        let from = format!("10.9.1.1:{}", 100 + second);
        held.push(validated(&net, &from, SERVER, missing as usize).await);
    }
    assert!((4..=8).contains(&ended), "{ended}");
}

/// One address with all the sessions that it may have, and forged datagrams in its name.
#[tokio::test(start_paused = true)]
async fn a_forged_datagram_ends_no_sibling_in_use() {
    for (from, at) in [
        ("10.0.0.2:7", SERVER),
        ("[2001:db8::2]:7", "[2001:db8:ffff::1]:4000"),
    ] {
        let net = Net::clean();
        let server = net.endpoint(at, turbo());
        echo(&server);
        let held = validated(&net, from, at, 64).await;
        sleep(secs(2)).await;
        let forge = net.spoof(from);
        let mut ended = Vec::new();
        for silent in [0, 61] {
            sleep(secs(silent)).await;
            for conv in 0..10 {
                forge(addr(at), &opener(900 + conv));
            }
            sleep(ms(15)).await;
            ended.push(server.stats().evicted_idle);
        }
        assert_eq!(ended, [0, 1], "{from}");
        assert_eq!(held.evicted(), 0, "no one has told the client");
    }
}

/// The four classes in one prefix, each with its counter, and no validated one that was heard within
/// a minute.
#[tokio::test(start_paused = true)]
async fn the_order_of_eviction() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo().per_source_limit(128));
    let (answering, _silent) = (net.endpoint("10.0.0.20:1", turbo()), ());
    // Idle, two of them; the first is silent for longer.
    let mut idle = Vec::new();
    let mut accepted = Vec::new();
    let shared = net.endpoint("10.0.0.21:1", turbo().allow_shared_remote(true));
    for _ in 0..2 {
        idle.push(answer_one(&shared, &server).await);
        sleep(secs(1)).await;
    }
    // Closing: we have said all, the client has not.
    let (_client, mut closing) = answer_one(&answering, &server).await;
    tokio::io::AsyncWriteExt::shutdown(&mut closing)
        .await
        .unwrap();
    // Unvalidated: a stock client that has sent two datagrams.
    let mut uploader = StockPeer::new(net.raw("10.0.0.22:1"), addr(SERVER), 5);
    for _ in 0..2 {
        uploader.engine.send(b"upload").unwrap();
        uploader.live(ms(100), |_| false).await;
        if accepted.is_empty() {
            accepted.push(server.accept().await.unwrap().0);
        }
        accepted[0].recv_message().await.unwrap();
    }
    // One datagram, read by the application.
    let raw = net.raw("10.0.0.23:1");
    raw.send(addr(SERVER), &opener(9));
    let (forged, _) = server.accept().await.unwrap();
    forged.recv_message().await.unwrap();
    sleep(secs(61)).await;
    // All others are in use, and no host has more than a sixteenth.
    let from = |host| {
        net.endpoint(
            &format!("10.0.0.{host}:1"),
            turbo().allow_shared_remote(true),
        )
    };
    let busy: Vec<_> = (24..40).map(from).collect();
    let mut busy_streams = Vec::new();
    for n in 0..123 {
        busy_streams.push(answer_one(&busy[n % 16], &server).await);
    }
    assert_eq!(server.stats().sessions, 128);
    let newcomers = net.raw("10.0.0.200:1");
    let mut reasons = Vec::new();
    for conv in 1..=6 {
        newcomers.send(addr(SERVER), &opener(conv));
        sleep(ms(15)).await;
        let over = [&forged, &accepted[0], &closing, &idle[0].1, &idle[1].1];
        let over = over.iter().filter(|stream| stream.close_reason().is_some());
        reasons.push(over.count());
        let stats = server.stats();
        let counts = [
            stats.evicted_undelivered,
            stats.evicted_unvalidated,
            stats.evicted_closing,
            stats.evicted_idle,
        ];
        let expected = [
            [1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [1, 1, 1, 1],
            [1, 1, 1, 2],
        ];
        assert_eq!(
            counts,
            expected[(conv as usize - 1).min(4)],
            "newcomer {conv}"
        );
        assert_eq!(
            idle[1].1.close_reason().is_some(),
            conv > 4,
            "the longer idle first"
        );
    }
    assert_eq!(reasons, [1, 2, 3, 4, 5, 5]);
    assert_eq!(forged.close_reason(), Some(ConnectionError::Evicted));
    let error = idle[0].1.recv_message().await.unwrap_err();
    assert!(error.to_string().contains("made room"), "{error}");
    assert_eq!(
        server.stats().dropped_limit,
        1,
        "all others were heard within a minute"
    );
    assert!(
        busy_streams
            .iter()
            .all(|(_, stream)| stream.close_reason().is_none())
    );
}

/// What was accepted is not of the backlog any more, also where the look at the queue was before that.
#[tokio::test(start_paused = true)]
async fn a_full_backlog_leaves_the_accepted_alone() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo().accept_backlog(4));
    let raw = net.raw("10.0.0.2:1");
    for conv in 1..=4 {
        raw.send(addr(SERVER), &opener(conv));
    }
    sleep(secs(2)).await;
    // The first makes room, and the others have been looked at.
    raw.send(addr(SERVER), &opener(5));
    sleep(ms(15)).await;
    let (accepted, _) = server.accept().await.unwrap();
    assert_eq!(accepted.conv().get(), 2);
    for conv in 6..=7 {
        raw.send(addr(SERVER), &opener(conv));
        sleep(ms(15)).await;
    }
    assert_eq!(accepted.close_reason(), None);
    let stats = server.stats();
    assert_eq!((stats.evicted_undelivered, stats.waiting), (2, 4));
}

/// Both sides of a session in which the server has been answered.
async fn answer_one(client: &KcpEndpoint, server: &KcpEndpoint) -> (KcpStream, KcpStream) {
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(b"hello").await.unwrap();
    let (accepted, _) = server.accept().await.unwrap();
    accepted.recv_message().await.unwrap();
    accepted.send(b"welcome").await.unwrap();
    stream.recv_message().await.unwrap();
    sleep(ms(15)).await;
    (stream, accepted)
}

/// An application that does not accept: a backlog full of forged sessions lets clients in as soon as
/// they are silent for a second. Embryos likewise.
#[tokio::test(start_paused = true)]
async fn a_full_backlog_makes_room() {
    for forged in [opener, embryo] {
        let net = Net::clean();
        let (server, wire) = Wire::server(&net, turbo());
        wire.flood((0..2_000).map(|n| (scattered(n), forged(n + 1))))
            .await;
        let full = server.stats();
        sleep(ms(500)).await;
        wire.flood((5_000..5_010).map(|n| (scattered(n), forged(n + 1))))
            .await;
        let refused = server.stats().dropped_backlog - full.dropped_backlog;
        assert_eq!(refused, 10, "all were heard within a second");
        sleep(ms(600)).await;
        wire.flood((6_000..6_010).map(|n| (scattered(n), forged(n + 1))))
            .await;
        let stats = server.stats();
        assert_eq!(
            (stats.evicted_undelivered, stats.sessions),
            (10, full.sessions)
        );
        assert_eq!(stats.waiting + stats.embryos, full.waiting + full.embryos);
    }
}

/// Connected sessions are the application's own choice: no flood ends them.
#[tokio::test(start_paused = true)]
async fn connected_sessions_are_not_evicted() {
    let net = Net::clean();
    let other = net.endpoint("10.7.7.7:7", turbo());
    echo(&other);
    let (server, wire) = Wire::server(&net, turbo().max_sessions(10));
    sink(&server);
    let out = server.connect("10.7.7.7:7").await.unwrap();
    out.send(b"out").await.unwrap();
    assert_eq!(out.recv_message().await.unwrap(), b"out");
    sleep(secs(2)).await;
    for round in 0..5 {
        wire.flood((0..100).map(|n| (scattered(100 * round + n), opener(n + 1))))
            .await;
        sleep(ms(1_100)).await;
    }
    assert_eq!((server.stats().sessions, out.close_reason()), (10, None));
    assert_eq!(server.stats().evicted_undelivered, 4 * 9);
}

/// The endpoint's own connects count what connected and what is validated.
#[tokio::test(start_paused = true)]
async fn a_full_table_of_forged_sessions_refuses_no_connect() {
    let net = Net::clean();
    let other = net.endpoint("10.7.7.7:7", turbo().allow_shared_remote(true));
    echo(&other);
    let config = turbo().max_sessions(100).allow_shared_remote(true);
    let (server, wire) = Wire::server(&net, config);
    sink(&server);
    wire.flood((0..200).map(|n| (scattered(n), opener(n + 1))))
        .await;
    assert_eq!(server.stats().sessions, 100);
    let mut streams = Vec::new();
    for silent in [0, 300] {
        sleep(secs(silent)).await;
        for _ in 0..50 {
            let stream = server.connect("10.7.7.7:7").await.unwrap();
            stream.send(b"out").await.unwrap();
            assert_eq!(stream.recv_message().await.unwrap(), b"out");
            sleep(ms(15)).await;
            streams.push(stream);
        }
    }
    assert_eq!(server.stats().sessions, 200);
    let error = server.connect("10.7.7.7:7").await.unwrap_err();
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::QuotaExceeded
    );
    // A newcomer brings the table back to its bound.
    drop(streams.split_off(1));
    sleep(secs(60)).await;
    wire.flood([(scattered(1_000), opener(1))]).await;
    assert_eq!(server.stats().sessions, 100);
    assert_eq!(streams[0].close_reason(), None);
}

/// One address has 64 sessions at most, unless the endpoint is told that it may have more.
#[tokio::test(start_paused = true)]
async fn sessions_of_one_address_are_bounded() {
    for (shared, held) in [(false, 64), (true, 1_000)] {
        let net = Net::clean();
        let (server, wire) = Wire::server(&net, turbo().allow_shared_remote(shared));
        sink(&server);
        let first = |n: u32| (scattered(1), segment(n + 1, Command::Push, 0, 0, b"x"));
        wire.flood((0..1_000).map(first)).await;
        assert_eq!(server.stats().sessions, held);
        sleep(secs(2)).await;
        wire.flood([first(5_000)]).await;
        assert_eq!(server.stats().accepted as usize, held + 1, "a restart");
        assert_eq!(server.stats().sessions, held + usize::from(shared));
    }
}
