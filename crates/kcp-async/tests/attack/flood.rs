//! First datagrams by the hundred thousand (`docs/protocol.md` 11.4, 13.2).

use kcp_async::{ConnectionError, KcpStream};
use kcp_engine::Command;
use std::time::Duration;
use tokio::time::{Instant, timeout};

use crate::net::{CLIENT, Net, SERVER, marked, ms, secs, segment, sleep};
use crate::wire::{Wire, crowded, echo, embryo, figure, opener, scattered, sink, turbo};

const FORGED: u32 = 100_000;

/// A real client says one word and hears it again; how long that took.
async fn round_trip(net: &Net, from: &str) -> Duration {
    let client = net.endpoint(from, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    exchange(&stream, b"a real client").await
}

async fn exchange(stream: &KcpStream, message: &[u8]) -> Duration {
    let start = Instant::now();
    stream.send(message).await.unwrap();
    let answer = timeout(secs(60), stream.recv_message()).await.unwrap();
    assert_eq!(answer.unwrap(), message);
    start.elapsed()
}

/// An application that does not accept: the backlog is all that a flood can fill, and ten seconds
/// later it is empty again although nobody ever called accept.
#[tokio::test(start_paused = true)]
async fn a_flood_fills_no_more_than_the_backlog_and_not_for_long() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    wire.flood((0..FORGED).map(|n| (scattered(n), opener(n + 1))))
        .await;
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.waiting), (1_024, 1_024));
    assert_eq!(stats.dropped_backlog, u64::from(FORGED) - 1_024);
    sleep(secs(11)).await;
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.waiting), (0, 0));
    wire.flood([(scattered(1), opener(77))]).await;
    assert_eq!(server.stats().waiting, 1, "the backlog has room again");
}

/// One prefix, with an application that accepts: the limit per source holds, and everybody else is
/// served as if nothing were.
#[tokio::test(start_paused = true)]
async fn a_flood_from_one_prefix_leaves_the_others_alone() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    wire.flood((0..FORGED).map(|n| (crowded(n), opener(n + 1))))
        .await;
    let stats = server.stats();
    assert_eq!(
        (stats.sessions, stats.embryos, stats.waiting),
        (1_024, 0, 0)
    );
    assert_eq!(stats.dropped_limit, u64::from(FORGED) - 1_024);
    let took = round_trip(&net, CLIENT).await;
    assert_eq!(took, ms(20), "one round trip of the link");
    // 13.2, 11.4: all of them die, ten seconds after their only datagram.
    sleep(secs(11)).await;
    assert_eq!(server.stats().sessions, 0);
    figure(
        "100,000 forged first datagrams from one /24: sessions held, then after 11 s",
        format!(
            "{} and 0; a client elsewhere is answered in {took:?}",
            1_024
        ),
        "never reaped",
    );
}

/// Every datagram from a prefix of its own: `max_sessions` is the bound.
#[tokio::test(start_paused = true)]
async fn a_flood_from_everywhere_ends_by_itself() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    let before = net.endpoint("10.0.0.9:1", turbo());
    let before = before.connect(SERVER).await.unwrap();
    exchange(&before, b"before").await;
    wire.take_tally();

    wire.flood((0..FORGED).map(|n| (scattered(n), opener(n + 1))))
        .await;
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.embryos), (65_536, 0));
    // A session that exists is served meanwhile.
    assert_eq!(exchange(&before, b"meanwhile").await, ms(20));
    // A new one waits until the forged are a second old; one of its retransmissions then gets in,
    // long before it would give up.
    let took = round_trip(&net, CLIENT).await;
    assert!(took < secs(10), "{took:?}");
    sleep(secs(11)).await;
    assert_eq!(server.stats().sessions, 1);
    let sent = wire.take_tally();
    // 11.3: three times 53 bytes with headers; beyond it one datagram each, which for an echo of one
    // byte has 25 bytes, and those of the endpoint: at most 75 a second.
    let bytes = sent.bytes + 28 * sent.datagrams;
    assert!(bytes <= 65_536 * (3 * 53 + 53) + 15 * 75 * 53, "{sent:?}");
    figure(
        "100,000 forged first datagrams from 100,000 prefixes: sessions held, then after 11 s",
        format!("65,536 and 0; a session that exists goes on; a new client waits {took:?}"),
        "never reaped",
    );
    figure(
        "the same: answered bytes per forged byte, with headers (echo)",
        format!("{:.1}", bytes as f64 / (65_536.0 * 53.0)),
        "29",
    );
}

/// How much work is left after a flood, in the ten seconds that its sessions live: each is asked twice
/// for a proof, all of them in the same turns.
#[tokio::test(start_paused = true)]
async fn forged_sessions_of_a_silent_application_cost_two_questions() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    sink(&server);
    wire.flood((0..4_000).map(|n| (scattered(n), opener(n + 1))))
        .await;
    assert_eq!(server.stats().sessions, 4_000);
    sleep(ms(100)).await;
    wire.take_tally();
    sleep(secs(9)).await;
    let idle = wire.take_tally();
    assert_eq!(idle.datagrams, 8_000, "11.4: two questions each");
    // A turn fires 1,024 deadlines (9.3: there are no ticks in between).
    assert_eq!(idle.turns, 2 * 4);
    // 11.4: accepted by an application that never answers, they live as long as a client that only
    // sends and pauses does, and are not asked again.
    sleep(secs(590)).await;
    assert_eq!(wire.take_tally().datagrams, 0);
    assert_eq!(server.stats().sessions, 4_000);
    sleep(secs(11)).await;
    assert_eq!(server.stats().sessions, 0);
    figure(
        "4,000 forged first datagrams: wake-ups in the 9 s after (application silent)",
        idle.turns,
        "50-57 % of a core, for good",
    );
}

/// Embryos may use half of the backlog; a client whose first datagram arrives needs none of it.
#[tokio::test(start_paused = true)]
async fn embryos_from_everywhere_do_not_keep_clients_out() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    wire.flood((0..FORGED).map(|n| (scattered(n), embryo(n + 1))))
        .await;
    let held = server.stats().embryos;
    assert_eq!(held, 512, "11.4: half of the backlog");
    assert_eq!(round_trip(&net, CLIENT).await, ms(20));
    assert_eq!(wire.take_tally().datagrams, 0, "13.2: embryos are silent");
    sleep(secs(11)).await;
    assert_eq!((server.stats().sessions, server.stats().embryos), (0, 0));
    figure(
        "100,000 forged late PUSHes: half-open sessions, answers",
        format!("{held}, 0; a client is answered in 20 ms"),
        "any datagram with a conv makes a session",
    );
}

/// ACKs, WASKs, WINSs, FINs, late PUSHes: nothing that could belong to a dead session makes a new
/// one, whoever sends it and however often.
#[tokio::test(start_paused = true)]
async fn stray_segments_make_no_ghosts() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    let strays = |n: u32| {
        let conv = n + 1;
        match n % 8 {
            0 => segment(conv, Command::Ack, n, n, b""),
            1 => segment(conv, Command::Wask, 0, 0, b""),
            2 => segment(conv, Command::Wins, 0, 0, b""),
            3 => marked(conv, Command::Fin, n % 200, 0),
            4 => segment(conv, Command::Push, 128 + n % 1_000, 0, b"late"),
            5 => segment(conv, Command::Push, 0, 1 + n, b"in the middle"),
            6 => marked(conv, Command::Rst, u32::MAX, 0),
            // A WASK, and behind it the first PUSH of another conversation.
            _ => [
                segment(conv, Command::Wask, 0, 0, b""),
                segment(conv + 1, Command::Push, 0, 0, b"x"),
            ]
            .concat(),
        }
    };
    wire.flood((0..FORGED).map(|n| (scattered(n), strays(n))))
        .await;
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.embryos, stats.accepted), (0, 0, 0));
    assert_eq!(stats.dropped_unknown, u64::from(FORGED));
    assert_eq!(wire.take_tally().datagrams, 0);
    figure(
        "100,000 stray ACKs, WASKs, WINSs, FINs, RSTs and late PUSHes: ghost sessions, answers",
        "0, 0",
        "any datagram with a conv makes a session; a ghost answers WASKs",
    );
}

/// conv 0 asks for an id (13.3). One address gets one session for it, however often it asks.
#[tokio::test(start_paused = true)]
async fn conv_0_is_one_session_per_address() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    sink(&server);
    let greedy = scattered(1);
    wire.flood((0..1_000).map(|_| (greedy, opener(0)))).await;
    assert_eq!((server.stats().sessions, server.stats().accepted), (1, 1));
    // Late segments under the alias belong to the same session; none of them makes another.
    wire.flood((0..1_000).map(|n| (greedy, segment(0, Command::Push, n, 0, b"x"))))
        .await;
    assert_eq!(server.stats().sessions, 1);
    wire.flood((0..1_000).map(|n| (scattered(n + 2), embryo(0))))
        .await;
    assert_eq!(server.stats().sessions, 1 + server.stats().embryos);
    // 11.4: the session was accepted and owes nothing, so it lives until the idle timeout.
    sleep(secs(621)).await;
    assert_eq!((server.stats().sessions, server.stats().embryos), (0, 0));
    // The alias went with its session.
    wire.flood([(greedy, segment(0, Command::Ack, 0, 0, b""))])
        .await;
    assert_eq!(server.stats().sessions, 0);
}

/// The application sees each forged session end with a reason that says what it was.
#[tokio::test(start_paused = true)]
async fn a_forged_session_ends_as_unproven() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    wire.flood([(scattered(1), opener(9))]).await;
    let (stream, peer) = server.accept().await.unwrap();
    assert_eq!(peer, scattered(1));
    assert_eq!(stream.recv_message().await.unwrap(), b"x");
    stream.send(b"an answer").await.unwrap();
    let error = stream.recv_message().await.unwrap_err();
    assert!(error.to_string().contains("never answered"), "{error}");
    assert_eq!(stream.close_reason(), Some(ConnectionError::Unproven));
}
