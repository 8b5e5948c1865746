//! What an endpoint sends to addresses that may not exist while its send buffer is in use
//! (`docs/protocol.md` 11.3.1).

use std::sync::Arc;

use kcp_async::{EndpointConfig, KcpConfig, KcpEndpoint, KcpStream, SendQueue};
use kcp_engine::{CLOSE_MARK, Command, KcpHeader, Sn, WireTs};
use kcp_netem::{LinkConfig, Loss, Probability};
use tokio::time::{Instant, timeout};

use crate::net::{CLIENT, Net, SERVER, addr, bytes, ms, secs, segment, sleep};
use crate::scripted::Scripted;

const LIMIT: usize = 425_984;

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

fn in_use(used: usize) -> Option<SendQueue> {
    Some(SendQueue { used, limit: LIMIT })
}

/// A server with a validated client.
async fn acquainted(net: &Net) -> (KcpEndpoint, Arc<Scripted>, KcpStream, KcpStream) {
    let (server, wire) = Scripted::endpoint(net, SERVER, turbo());
    let client = net.endpoint(CLIENT, turbo()).connect(SERVER).await.unwrap();
    client.send(b"hello").await.unwrap();
    let (accepted, _) = server.accept().await.unwrap();
    assert_eq!(accepted.recv_message().await.unwrap(), b"hello");
    accepted.send(b"welcome").await.unwrap();
    assert_eq!(client.recv_message().await.unwrap(), b"welcome");
    sleep(ms(200)).await;
    while !accepted.stats().proven {
        sleep(ms(200)).await;
    }
    (server, wire, accepted, client)
}

/// 100 forged first datagrams a second. How many answers left, and how many pings were answered within a second.
async fn forge(used: usize, transfer: bool) -> (usize, usize, u64) {
    let net = Net::clean();
    let (server, wire, accepted, client) = acquainted(&net).await;
    wire.script().send_queue = in_use(used);
    wire.take_sent();
    let mut pings = 0;
    for n in 0..300_u32 {
        let source = format!("10.1.1.{}:{}", n % 200, 1_000 + n);
        wire.inject_datagram(&source, &segment(n + 1, Command::Push, 0, 0, b"?"));
        if transfer {
            accepted.send(&bytes(20_000)).await.unwrap();
            client.recv_message().await.unwrap();
        }
        if n % 30 == 0 {
            accepted.send(b"ping").await.unwrap();
            let heard = timeout(secs(1), client.recv_message()).await;
            pings += usize::from(heard.is_ok());
        }
        sleep(ms(10)).await;
    }
    let sent = wire.take_sent();
    let forged = sent.iter().filter(|sent| sent.to != addr(CLIENT)).count();
    (forged, pings, server.stats().sends_withheld)
}

/// More is in the buffer than was sent recently: something stays in it.
#[tokio::test(start_paused = true)]
async fn answers_to_unvalidated_peers_leave_a_stuck_buffer_alone() {
    let (forged, pings, withheld) = forge(LIMIT / 2, false).await;
    assert_eq!(pings, 10);
    // Until it shows, 50 answers; then half of a sixteenth of the buffer, and as much again in three seconds.
    let reserve = LIMIT / 16 / 900;
    assert!(forged <= 50 + reserve, "{forged} answers");
    assert!(withheld >= 200, "{withheld}");
}

/// A buffer in use by a transfer, and one that is hardly in use.
#[tokio::test(start_paused = true)]
async fn answers_beside_a_transfer_all_leave() {
    for (used, transfer) in [(LIMIT / 2, true), (LIMIT / 5, false), (0, false)] {
        let (forged, pings, withheld) = forge(used, transfer).await;
        assert_eq!((pings, withheld), (10, 0), "{used}");
        assert!(forged >= 300, "{forged}");
    }
}

/// Repetitions to a peer that has vanished: a datagram at a time while the buffer is in use.
#[tokio::test(start_paused = true)]
async fn a_vanished_peer_is_sent_a_datagram_at_a_time() {
    for (used, withholds) in [(LIMIT / 2, true), (0, false)] {
        let net = Net::clean();
        let (server, wire, accepted, client) = acquainted(&net).await;
        wire.script().send_queue = in_use(used);
        net.cut(SERVER, CLIENT, true);
        accepted.send(&bytes(30_000)).await.unwrap();
        sleep(secs(2)).await;
        wire.take_sent();
        sleep(secs(8)).await;
        let sent = wire.take_sent();
        let most = sent.iter().map(|sent| sent.contents.len()).max().unwrap();
        assert!(!withholds || most <= 1_400, "{most}");
        assert_eq!(server.stats().sends_withheld > 0, withholds);
        // Heard again, it gets everything.
        net.cut(SERVER, CLIENT, false);
        let message = timeout(secs(20), client.recv_message()).await;
        assert_eq!(message.expect("lost").unwrap(), bytes(30_000));
    }
}

/// A peer that has left its address and whose datagrams are forged: what is heard shows nothing, nor does an una.
#[tokio::test(start_paused = true)]
async fn a_peer_that_acknowledges_nothing_is_sent_a_datagram_at_a_time() {
    for (step, wnd) in [(0, 128), (1, 128), (8, 128), (8, 4_096)] {
        let net = Net::clean();
        let (server, wire, accepted, client) = acquainted(&net).await;
        let accepted = Arc::new(accepted);
        let writer = Arc::clone(&accepted);
        let download =
            tokio::spawn(async move { while writer.send(&bytes(60_000)).await.is_ok() {} });
        sleep(secs(1)).await;
        wire.script().send_queue = in_use(LIMIT / 2);
        net.cut(SERVER, CLIENT, true);
        sleep(ms(500)).await;
        let mut una = 1;
        let mut most = 0;
        for n in 0..120 {
            una += step;
            let forged = KcpHeader {
                conv: client.conv(),
                cmd: Command::Wask.to_wire(),
                frg: CLOSE_MARK,
                wnd,
                ts: WireTs::new(n),
                sn: Sn::ZERO,
                una: Sn::new(una),
                len: 0,
            };
            wire.inject_datagram(CLIENT, &forged.to_bytes());
            sleep(ms(250)).await;
            let sent = wire.take_sent();
            let bytes: usize = sent.iter().map(|sent| sent.contents.len()).sum();
            // From two seconds after the last ACK.
            most = most.max(if n < 6 { 0 } else { bytes });
        }
        assert!(server.stats().sends_withheld > 0, "una + {step}");
        // The reserve of the prefix: half of a sixteenth of the buffer.
        assert!(most <= LIMIT / 32, "{most} in 250 ms with una + {step}");
        download.abort();
    }
}

/// The buffer is full because the link is; the peer loses datagrams or is far away, but acknowledges.
#[tokio::test(start_paused = true)]
async fn a_peer_that_acknowledges_is_withheld_nothing() {
    for (loss, delay) in [(10, 50), (3, 300), (0, 700)] {
        let loss = Loss::Bernoulli(Probability::percent(loss));
        let net = Net::new(LinkConfig::new().delay(ms(delay)).loss(loss), 7);
        let (server, wire, accepted, client) = acquainted(&net).await;
        wire.script().send_queue = in_use(LIMIT);
        let reader = tokio::spawn(async move {
            for _ in 0..50 {
                assert_eq!(client.recv_message().await.unwrap(), bytes(60_000));
            }
        });
        for _ in 0..50 {
            accepted.send(&bytes(60_000)).await.unwrap();
        }
        timeout(secs(600), reader).await.expect("starved").unwrap();
        assert_eq!(server.stats().sends_withheld, 0, "{loss:?} {delay}");
    }
}

/// What waits is offered although no one says that there is room: half of the buffer may be stuck.
#[tokio::test(start_paused = true)]
async fn room_that_is_not_reported_is_found() {
    let net = Net::clean();
    let (_server, wire, accepted, client) = acquainted(&net).await;
    {
        let mut script = wire.script();
        script.send_queue = in_use(LIMIT);
        (script.full, script.never_ready) = (true, true);
    }
    accepted.send(b"late").await.unwrap();
    sleep(ms(100)).await;
    {
        let mut script = wire.script();
        script.send_queue = in_use(LIMIT - 1);
        script.full = false;
    }
    let start = Instant::now();
    assert_eq!(client.recv_message().await.unwrap(), b"late");
    assert!(start.elapsed() <= ms(60), "{:?}", start.elapsed());
}
