//! Answers to addresses that did not ask (`docs/protocol.md` 11.3, 12.3, 12.4).

use std::net::SocketAddr;

use kcp_async::KcpEndpoint;
use kcp_engine::Command;

use crate::net::{CLIENT, Net, SERVER, addr, marked, secs, segment, sleep};
use crate::wire::{Wire, crowded, echo, figure, opener, scattered, turbo};

const VICTIM: &str = "10.0.0.66:6";

fn sent_by(net: &Net, from: SocketAddr) -> (usize, usize) {
    let sent = net.take_sent();
    let bytes = sent.iter().filter(|sent| sent.from == from);
    bytes.fold((0, 0), |(count, size), sent| {
        (count + 1, size + sent.datagram.len())
    })
}

/// Says a word of this size to everybody who comes.
fn greet(server: &KcpEndpoint, greeting: usize) {
    let server = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let _ = stream.send(&vec![1; greeting]).await;
                while let Ok(1..) = stream.recv(&mut [0; 65_536]).await {}
            });
        }
    });
}

/// With IPv4 and UDP headers.
fn on_the_wire((datagrams, bytes): (usize, usize)) -> usize {
    bytes + HEADERS * datagrams
}

/// One forged datagram that opens a session, and nothing ever after: three times its bytes, headers
/// included, and six datagrams of at most 100 bytes (11.3).
#[tokio::test(start_paused = true)]
async fn one_forged_datagram_is_answered_within_its_budget() {
    for (payload, greeting) in [(1_300, 0), (1_300, 100_000), (1, 0), (1, 52), (1, 100_000)] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, turbo());
        match greeting {
            0 => {
                echo(&server);
            }
            size => greet(&server, size),
        }
        let forged = segment(3, Command::Push, 0, 0, &vec![b'e'; payload]);
        net.spoof(VICTIM)(addr(SERVER), &forged);
        sleep(secs(60)).await;
        let (datagrams, bytes) = sent_by(&net, addr(SERVER));
        let (wire, asked) = (on_the_wire((datagrams, bytes)), forged.len() + HEADERS);
        let bound = 3 * asked + 6 * (100 + HEADERS);
        assert!(wire <= bound, "{wire} of at most {bound}");
        assert_eq!(server.stats().sessions, 0);
        let application = match greeting {
            0 => "echo".to_owned(),
            size => format!("answers {size} B"),
        };
        figure(
            &format!(
                "one forged PUSH of {} B ({application}): answer",
                forged.len()
            ),
            format!(
                "{datagrams} datagrams, {bytes} B = x{:.1}; with headers x{:.1} (bound {bound} B)",
                bytes as f64 / forged.len() as f64,
                wire as f64 / asked as f64
            ),
            if (payload, greeting) == (1_300, 0) {
                "30 datagrams, 38 kB = x29"
            } else {
                ""
            },
        );
    }
}

/// The forger goes on: duplicates, WASKs, wrong ACKs, gaps. Every byte sent stays within three times
/// what came, and the six small ones.
#[tokio::test(start_paused = true)]
async fn a_busy_forger_earns_three_for_one() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    greet(&server, 1_000_000);
    let spoof = net.spoof(VICTIM);
    let mut forged = 0;
    let mut send = |datagram: Vec<u8>| {
        forged += datagram.len() + HEADERS;
        spoof(addr(SERVER), &datagram);
    };
    for n in 0..500_u32 {
        send(segment(3, Command::Push, n % 7, 0, b"again"));
        send(segment(3, Command::Push, n % 50 + 20, 0, &[0; 300]));
        send(marked(3, Command::Wask, 0, 0));
        send(segment(3, Command::Wins, 0, 0, b""));
        if n < 60 {
            send(segment(3, Command::Ack, 0, 1, b""));
        }
        sleep(std::time::Duration::from_millis(11)).await;
    }
    sleep(secs(60)).await;
    let bytes = on_the_wire(sent_by(&net, addr(SERVER)));
    assert!(bytes <= 3 * forged + 6 * 128, "{bytes} for {forged}");
    figure(
        "a forger that goes on for 5 s: answered bytes per byte",
        format!("{:.2} (bound 3)", bytes as f64 / forged as f64),
        "not measured",
    );
}

/// A question for a session that is not there is answered by a RST of the same size, a
/// thousand times a second.
#[tokio::test(start_paused = true)]
async fn resets_reflect_less_than_they_are_sent() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    for _ in 0..10 {
        let asks = (0..10_000).map(|n| (scattered(n), marked(n + 1, Command::Wask, 0, 1)));
        wire.flood(asks).await;
        sleep(secs(1)).await;
    }
    let tally = wire.take_tally();
    assert!(tally.datagrams <= 10 * 1_500, "{tally:?}");
    assert_eq!(tally.bytes, 24 * tally.datagrams);
    assert_eq!(server.stats().sessions, 0);
    figure(
        "100,000 forged questions in 10 s: RSTs in answer",
        format!(
            "{}, 24 B each, so x{:.2}",
            tally.datagrams,
            tally.datagrams as f64 / 100_000.0
        ),
        "a ghost session each",
    );
}

/// An address that never answered is not told that its session was given up (12.9), also where the
/// forged datagram shows the mark.
#[tokio::test(start_paused = true)]
async fn a_forged_session_that_is_given_up_sends_no_reset() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    greet(&server, 52);
    let shows_mark = [marked(3, Command::Wins, 0, 0), opener(3)].concat();
    net.spoof(VICTIM)(addr(SERVER), &shows_mark);
    sleep(secs(60)).await;
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.sessions), (1, 0));
    assert_eq!((stats.resets_announced, stats.resets_sent), (0, 0));
}

/// Two servers, each told that the other began: no exchange of theirs feeds itself.
#[tokio::test(start_paused = true)]
async fn two_servers_do_not_talk_to_each_other() {
    let net = Net::clean();
    let (one, other) = (net.endpoint(SERVER, turbo()), net.endpoint(CLIENT, turbo()));
    echo(&one);
    greet(&other, 2_000);
    let (as_one, as_other) = (net.spoof(SERVER), net.spoof(CLIENT));
    let mut forged = 0;
    for conv in [0, 1, 2, 3] {
        for datagram in [
            segment(conv, Command::Push, 0, 0, b"hello"),
            marked(conv, Command::Wask, 0, 0),
            marked(conv, Command::Fin, 1, 0),
            segment(conv, Command::Ack, 0, 1, b""),
        ] {
            as_one(addr(CLIENT), &datagram);
            as_other(addr(SERVER), &datagram);
            // And a server told that it speaks to itself.
            as_one(addr(SERVER), &datagram);
            forged += 3 * (datagram.len() + HEADERS);
        }
    }
    sleep(secs(120)).await;
    let sent = net.take_sent();
    let bytes: usize = sent.iter().map(|sent| sent.datagram.len() + HEADERS).sum();
    // Each of the twelve sessions has the budget of 11.3, and what it sends may be answered by a
    // RST or an ACK of at most its size.
    assert!(
        bytes <= 2 * (3 * forged + 12 * 6 * 128),
        "{bytes} for {forged}"
    );
    net.take_sent();
    // 11.4, 12.4: a session that the application took and owes nothing ends with the idle timeout, and says so by at
    // most three RSTs, each of which may be answered by one question, and that by a RST.
    sleep(secs(600)).await;
    let farewells = net.take_sent();
    assert!(farewells.len() <= 12 * 3 * 3, "{}", farewells.len());
    assert!(farewells.iter().all(|sent| sent.datagram.len() == 24));
    assert_eq!((one.stats().sessions, other.stats().sessions), (0, 0));
    sleep(secs(600)).await;
    assert_eq!(net.take_sent().len(), 0, "silence");
}

/// Forged sessions that end for want of an answer are not remembered: late copies of their first
/// datagram are over.
#[tokio::test(start_paused = true)]
async fn time_wait_is_bounded_under_a_flood() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    for round in 0..3 {
        let first = round * 16_000;
        wire.flood((first..first + 16_000).map(|n| (scattered(n), opener(n + 1))))
            .await;
        sleep(secs(11)).await;
        let stats = server.stats();
        assert_eq!((stats.sessions, stats.time_wait), (0, 0));
    }
    figure("conversations remembered after a flood", "none", "none");
}

/// Beyond the budgets of their sessions, forged datagrams from everywhere get what the endpoint allows
/// in all; those of one prefix a part of that.
#[tokio::test(start_paused = true)]
async fn a_flood_gets_few_datagrams_beyond_the_budgets() {
    for (one_prefix, mean) in [(false, 50), (true, 5)] {
        let net = Net::clean();
        let (server, wire) = Wire::server(&net, turbo());
        greet(&server, 52);
        let source = |n| match one_prefix {
            false => scattered(n),
            true => crowded(n),
        };
        wire.flood((0..1_000).map(|n| (source(n), opener(n + 1))))
            .await;
        sleep(secs(11)).await;
        let (tally, stats) = (wire.take_tally(), server.stats());
        assert_eq!((stats.accepted, stats.sessions), (1_000, 0));
        // Each second's bound is drawn: half of the mean to three halves.
        let most = 11 * mean * 3 / 2;
        assert!((1..=most).contains(&stats.extras_granted), "{stats:?}");
        assert!(stats.extras_refused > 0);
        let bytes = tally.bytes + HEADERS as u64 * tally.datagrams;
        let bound = 1_000 * (3 * 53 + 128) + 128 * most;
        assert!(bytes <= bound, "{bytes} of at most {bound}");
        figure(
            &format!("1,000 forged first datagrams (one /24: {one_prefix}), answers of 52 B"),
            format!(
                "x{:.1} with headers; {} datagrams beyond the budgets and the one of each session",
                bytes as f64 / (1_000.0 * 53.0),
                stats.extras_granted
            ),
            "-",
        );
    }
}

/// IPv4 and UDP.
const HEADERS: usize = 28;
