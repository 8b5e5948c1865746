//! conv 0 and questions for sessions that do not exist: what they give away (`docs/protocol.md` 12.4,
//! 13.3).

use std::net::SocketAddr;

use kcp_async::{ConnectionError, EndpointConfig, KcpEndpoint, KcpStream};
use kcp_engine::Command;

use crate::net::{CLIENT, Net, RawPeer, SERVER, addr, headers, marked, ms, secs, segment, sleep};
use crate::wire::{Wire, crowded, figure, opener, scattered, turbo};

/// A client that asked for an id, and the session that it got; it has sent one datagram under its id
/// if `settled`.
async fn opened(net: &Net, settled: bool) -> (KcpEndpoint, KcpStream, RawPeer) {
    opened_at(net, turbo(), settled).await
}

async fn opened_at(
    net: &Net,
    config: EndpointConfig,
    settled: bool,
) -> (KcpEndpoint, KcpStream, RawPeer) {
    let server = net.endpoint(SERVER, config);
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &opener(0));
    let (stream, _) = server.accept().await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"x");
    raw.recv().await;
    if settled {
        raw.send(
            addr(SERVER),
            &segment(stream.conv().get(), Command::Push, 1, 0, b"y"),
        );
        assert_eq!(stream.recv_message().await.unwrap(), b"y");
    }
    (server, stream, raw)
}

/// Every command under conv 0, from the client's address.
#[tokio::test(start_paused = true)]
async fn conv_0_reaches_nothing_once_the_session_has_its_own() {
    for settled in [true, false] {
        let net = Net::clean();
        let (server, stream, raw) = opened(&net, settled).await;
        stream.send(b"in flight").await.unwrap();
        let conv = stream.conv().get();
        let data = headers(&raw.recv().await);
        let before = stream.stats().engine;
        let mut forged = vec![
            marked(0, Command::Fin, 2, 0),
            marked(0, Command::Wask, 0, 0),
            segment(0, Command::Wins, 0, 1, b""),
            marked(0, Command::Rst, u32::MAX, 0),
            segment(0, Command::Push, 2, 1, b"forged"),
            segment(0, Command::Push, 128, 0, b"forged"),
        ];
        let mut ack = segment(0, Command::Ack, 0, 1, b"");
        ack[8..12].copy_from_slice(&data.last().unwrap().ts.get().to_le_bytes());
        forged.push([segment(0, Command::Push, 2, 0, b"forged"), ack.clone()].concat());
        forged.push(ack);
        if settled {
            forged.push(segment(0, Command::Push, 2, 0, b"forged"));
            forged.push(opener(0));
        }
        for datagram in &forged {
            net.spoof(CLIENT)(addr(SERVER), datagram);
        }
        sleep(ms(20)).await;
        let stats = server.stats();
        assert_eq!(
            (stats.sessions, stats.accepted, stats.resets_sent),
            (1, 1, 0)
        );
        assert_eq!(
            stats.dropped_conv_zero,
            forged.len() as u64,
            "settled {settled}"
        );
        let after = stream.stats().engine;
        assert_eq!(after.segments_received, before.segments_received);
        assert_eq!(after.remote_window, before.remote_window);
        assert!(!stream.stats().proven && after.in_flight_segments == 1);
        // The client itself goes on.
        let next = 1 + u32::from(settled);
        raw.send(
            addr(SERVER),
            &segment(conv, Command::Push, next, 0, b"true"),
        );
        assert_eq!(stream.recv_message().await.unwrap(), b"true");
    }
}

/// The first answers are lost: the client repeats its first flight under conv 0, with more.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_not_answered_goes_on_under_conv_0() {
    let net = Net::clean();
    let (server, stream, raw) = opened(&net, false).await;
    for sn in 1..100 {
        raw.send(
            addr(SERVER),
            &[opener(0), segment(0, Command::Push, sn, 0, b"more")].concat(),
        );
        assert_eq!(stream.recv_message().await.unwrap(), b"more");
    }
    raw.send(
        addr(SERVER),
        &segment(stream.conv().get(), Command::Push, 100, 0, b"own"),
    );
    assert_eq!(stream.recv_message().await.unwrap(), b"own");
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.dropped_conv_zero), (1, 0));
}

/// The address asks again: while its session lives and while its end is remembered there is no second.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_opens_no_second_session() {
    let net = Net::clean();
    let (server, stream, raw) = opened(&net, true).await;
    for _ in 0..5 {
        raw.send(addr(SERVER), &opener(0));
        sleep(secs(1)).await;
    }
    assert_eq!(
        (server.stats().sessions, server.stats().dropped_conv_zero),
        (1, 5)
    );
    stream.abort();
    drop(stream);
    sleep(ms(100)).await;
    for _ in 0..5 {
        raw.send(addr(SERVER), &opener(0));
        raw.send(addr(SERVER), &marked(0, Command::Wask, 0, 1));
        sleep(secs(1)).await;
    }
    let stats = server.stats();
    assert_eq!(
        (stats.sessions, stats.accepted, stats.resets_sent),
        (0, 1, 0)
    );
}

/// Nor where its session made room for one of a neighbour.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_of_an_evicted_client_opens_no_second_session() {
    let net = Net::clean();
    let config = turbo().per_source_limit(1);
    let (server, stream, raw) = opened_at(&net, config, true).await;
    sleep(secs(2)).await;
    net.raw("10.0.0.3:1").send(addr(SERVER), &opener(9));
    sleep(secs(2)).await;
    assert_eq!(stream.close_reason(), Some(ConnectionError::Evicted));
    raw.send(addr(SERVER), &opener(0));
    sleep(ms(100)).await;
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.dropped_time_wait), (2, 1));
}

/// Which of the ports of a victim has a session, by what is left of the answers of a second: probes
/// from `attacker` after as many spoofed ones. What it sees, probe by probe.
async fn probe(victim: SocketAddr, attacker: SocketAddr, conv: u32) -> Vec<u64> {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo().simulation_seed(Some(5)));
    wire.flood([(victim, opener(0))]).await;
    let (stream, _) = server.accept().await.unwrap();
    wire.flood([(
        victim,
        segment(stream.conv().get(), Command::Push, 1, 0, b"y"),
    )])
    .await;
    let mut seen = Vec::new();
    let (first, last) = (32_768_u32, 60_999);
    for chunk in (first..=last).step_by(97) {
        let ports = chunk..(chunk + 97).min(last + 1);
        let spoofed = ports.map(|port| SocketAddr::new(victim.ip(), port as u16));
        let asks = spoofed.map(|from| (from, marked(conv, Command::Wask, 0, 1)));
        wire.flood(asks).await;
        wire.take_tally();
        let own = (0..100).map(|n| (attacker, marked(n + 1, Command::Wask, 0, 1)));
        wire.flood(own).await;
        seen.push(wire.take_tally().datagrams);
        sleep(secs(1)).await;
    }
    seen
}

/// The attack that found a victim's port with 290 probes: under conv 0 a question to the port with the
/// session was not answered, and so left one more answer for the attacker.
#[tokio::test(start_paused = true)]
async fn questions_give_no_port_away() {
    let near = SocketAddr::from(([203, 0, 113, 200], 9));
    let far = SocketAddr::from(([198, 51, 100, 1], 9));
    let mut probes = 0;
    for attacker in [near, far] {
        for conv in [0, 7] {
            let mut views = Vec::new();
            // Two ports of the range, and one outside of it.
            for port in [33_333, 50_000, 1_024] {
                views.push(probe(([203, 0, 113, 9], port).into(), attacker, conv).await);
            }
            assert_eq!(views[0], views[2], "conv {conv}, {attacker}");
            assert_eq!(views[1], views[2], "conv {conv}, {attacker}");
            probes = views[0].len();
            let answered: u64 = views[0].iter().sum();
            assert!(answered > 0, "it is answered");
        }
    }
    figure(
        "conv 0 asked from every port of a victim: what tells the one with the session",
        format!("nothing in {probes} probes, from its own /24 or elsewhere"),
        "-",
    );
}

/// 5,000 clients of a restarted server, each from a prefix of its own, ask once a second.
#[tokio::test(start_paused = true)]
async fn a_restarted_server_answers_thousands_within_seconds() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    let mut asking: Vec<u32> = (0..5_000).collect();
    let mut seconds = 0;
    while !asking.is_empty() {
        let asks = asking
            .iter()
            .map(|&n| (scattered(n), marked(n + 1, Command::Wask, 0, 9)));
        wire.flood(asks).await;
        let answered = wire.take_reached();
        asking.retain(|&n| !answered.contains(&scattered(n)));
        assert!(answered.len() <= 1_500, "a bound in all");
        sleep(secs(1)).await;
        seconds += 1;
    }
    assert!(seconds <= 10, "{seconds} s");
    // One prefix has a share of it.
    let before = server.stats().resets_sent;
    wire.flood((0..5_000).map(|n| (crowded(n), marked(n + 1, Command::Wask, 0, 9))))
        .await;
    let share = server.stats().resets_sent - before;
    assert!((32..=96).contains(&share), "{share}");
    figure(
        "5,000 clients of a restarted server ask once a second: all answered after",
        format!("{seconds} s; one prefix gets {share} in a second"),
        "-",
    );
}

/// A client that only uploads, of a server that restarts: its data has una 0 and low numbers, as a
/// new client's.
#[tokio::test(start_paused = true)]
async fn an_uploader_of_a_forgotten_session_is_told() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    crate::wire::sink(&server);
    let client = net.endpoint(CLIENT, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    for _ in 0..3 {
        stream.send(b"upload").await.unwrap();
        sleep(ms(100)).await;
    }
    drop(server);
    let server = net.endpoint(SERVER, turbo());
    crate::wire::sink(&server);
    let start = tokio::time::Instant::now();
    let error = loop {
        if let Err(error) = stream.send(b"more").await {
            break error;
        }
        sleep(ms(50)).await;
        assert!(start.elapsed() < secs(40));
    };
    assert_eq!(
        stream.close_reason(),
        Some(ConnectionError::Reset),
        "{error}"
    );
    assert!(start.elapsed() < secs(3), "{:?}", start.elapsed());
    sleep(ms(100)).await;
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.accepted), (0, 0));
    figure(
        "a client that only uploads, of a server that restarted: learns of it after",
        format!("{:?}", start.elapsed()),
        "never (a ghost session)",
    );
}

/// A question makes no embryo, whatever is behind it.
#[tokio::test(start_paused = true)]
async fn a_question_opens_nothing() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    for sn in [0, 1, 127] {
        let asks = [
            marked(9, Command::Wask, 0, 0),
            segment(9, Command::Push, sn, 0, b"x"),
        ]
        .concat();
        raw.send(addr(SERVER), &asks);
        let answer = headers(&raw.recv_within(secs(1)).await.unwrap());
        assert_eq!((answer.len(), answer[0].cmd), (1, 86), "sn {sn}");
    }
    // Nor does an embryo take it: what made it was the same.
    raw.send(addr(SERVER), &segment(9, Command::Push, 5, 0, b"x"));
    sleep(ms(50)).await;
    assert_eq!(server.stats().embryos, 1);
    raw.send(
        addr(SERVER),
        &[
            marked(9, Command::Wask, 0, 0),
            segment(9, Command::Push, 5, 0, b"x"),
        ]
        .concat(),
    );
    assert_eq!(headers(&raw.recv_within(secs(1)).await.unwrap())[0].cmd, 86);
    assert_eq!((server.stats().sessions, server.stats().embryos), (0, 0));
}
