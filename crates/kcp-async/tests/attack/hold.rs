//! What one peer can make a session hold: gaps, duplicates, windows, silence (`docs/protocol.md`
//! 11.4, 11.7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kcp_async::{EndpointConfig, KcpConfig};
use kcp_engine::Command;
use kcp_netem::LinkConfig;
use tokio::io::AsyncWriteExt;

use crate::net::{CLIENT, Net, SERVER, StockPeer, addr, headers, ms, secs, segment, sleep};
use crate::wire::{Wire, crowded, figure, opener, scattered, sink, turbo};

/// Segments of these numbers, as many to a datagram as fit 1400 bytes.
fn pushes(conv: u32, sns: impl Iterator<Item = u32>, payload: &[u8]) -> Vec<Vec<u8>> {
    let each = 24 + payload.len();
    let per_datagram = (1_400 / each).max(1);
    let all: Vec<u8> = sns
        .flat_map(|sn| segment(conv, Command::Push, sn, 0, payload))
        .collect();
    all.chunks(per_datagram * each)
        .map(<[u8]>::to_vec)
        .collect()
}

/// Everything but the segment in front, over and over: the window and its bytes are the bound, and
/// what is held is still read when the gap closes.
#[tokio::test(start_paused = true)]
async fn gaps_hold_no_more_than_the_window() {
    let net = Net::clean();
    let config: EndpointConfig = KcpConfig::turbo_mode().receive_window(65_535).into();
    // The bound of the session, not that of all sessions.
    let config = config.receive_memory(4 << 30);
    let server = net.endpoint(SERVER, config);
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &opener(1));
    let (stream, _) = server.accept().await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"x");
    let mut sent = 0;
    for round in 0..2 {
        for (n, datagram) in pushes(1, 2..66_000, &[round; 1_376]).iter().enumerate() {
            sent += datagram.len();
            raw.send(addr(SERVER), datagram);
            // The simulated link holds 64 MiB.
            if n % 10_000 == 0 {
                sleep(ms(20)).await;
            }
        }
        sleep(secs(1)).await;
    }
    let stats = stream.stats().engine;
    // 4.1: sn 2 to 65,535 are in the window that begins at 1; 11.4: 1500 bytes for each.
    assert!(stats.unread_bytes <= 65_535 * 1_500, "{stats:?}");
    assert_eq!(stats.unread_bytes, 65_534 * 1_376);
    assert_eq!(stats.duplicates, 65_534);
    // 11.4: it was accepted and owes nothing, so it lives until the idle timeout.
    sleep(secs(601)).await;
    assert_eq!(server.stats().sessions, 0);
    figure(
        "gap-filling, receive window 65,535: bytes held for one conv, and for how long",
        format!("{} of {sent} sent, for a minute", stats.unread_bytes),
        "90 MB (C), for good",
    );
}

/// protocol.md 11.4: a gap at 500 peers that never validate their address: a share of the endpoint's
/// account for all of them, for a minute; and an upload of a stock client in order goes on beside it.
#[tokio::test(start_paused = true)]
async fn gaps_of_many_peers_share_an_account() {
    let net = Net::clean();
    let config = KcpConfig::turbo_mode().receive_window(1_024);
    let (server, wire) = Wire::server(&net, config.into());
    sink(&server);
    wire.flood((0..500).map(|n| (scattered(n), opener(n + 1))))
        .await;
    // All but one of the window, 1.4 MB each.
    for sn in 2..1_024 {
        let payload = [0; 1_376];
        let forged = (0..500).map(|n| {
            let datagram = segment(n + 1, Command::Push, sn, 0, &payload);
            (scattered(n), datagram)
        });
        wire.flood(forged).await;
    }
    let stats = server.stats();
    assert_eq!(stats.sessions, 500);
    let held = stats.receive_memory_unvalidated;
    let share = (1 << 30) / 16;
    // Blocks are larger than what was asked for: 8 KiB at most, each.
    assert!((share / 2..share + 500 * 8_192).contains(&held), "{held}");
    let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
    for _ in 0..100 {
        client.engine.send(&[1; 1_000]).unwrap();
    }
    let done = |peer: &mut kcp_engine::KcpEngine| peer.wait_snd() == 0;
    assert!(client.live(secs(5), done).await);
    sleep(secs(61)).await;
    assert!(server.stats().receive_memory <= 500 * 1_024);
    assert_eq!(server.stats().sessions, 501);
    figure(
        "a gap at 500 peers that never validate their address: bytes held",
        format!("{held}, 0 after a minute"),
        "1.4 MB each (C), for good",
    );
}

/// protocol.md 11.3: what an application writes to forged addresses is not held for them.
#[tokio::test(start_paused = true)]
async fn answers_to_forged_addresses_hold_a_few_kib_each() {
    const FORGED: u32 = 2_000;
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    let held = Arc::new(AtomicUsize::new(0));
    let (accepting, sum) = (server.clone(), Arc::clone(&held));
    tokio::spawn(async move {
        let data: Arc<[u8]> = vec![0; 10_000_000].into();
        while let Ok((stream, _)) = accepting.accept().await {
            let (sum, data) = (Arc::clone(&sum), Arc::clone(&data));
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let writing = write.write_all(&data);
                assert!(tokio::time::timeout(secs(9), writing).await.is_err());
                let held = read.stats().engine.unacknowledged_bytes;
                sum.fetch_add(held, Ordering::Relaxed);
                assert!(write.write_all(&data).await.is_err());
            });
        }
    });
    wire.flood((0..FORGED).map(|n| (scattered(n), opener(n + 1))))
        .await;
    assert_eq!(server.stats().sessions, FORGED as usize);
    sleep(ms(9_500)).await;
    let held = held.load(Ordering::Relaxed);
    assert!(
        (1..=FORGED as usize * (131 + 4_096)).contains(&held),
        "{held}"
    );
    sleep(secs(2)).await;
    assert_eq!(server.stats().sessions, 0);
    figure(
        "2,000 forged datagrams of 25 B, 10 MB written to each: bytes held",
        held,
        "a send window each",
    );
}

/// The same in messages, where each forged datagram has a WINS of stock KCP in it: an honest stock client gets its
/// long first answer within a second of the flood.
#[tokio::test(start_paused = true)]
async fn long_answers_to_forged_addresses_keep_no_stock_client_waiting() {
    const FORGED: u32 = 5_000;
    const LEN: usize = 150_000;
    let net = Net::new(LinkConfig::new().delay(ms(25)), 0);
    let (server, wire) = Wire::server(&net, turbo());
    let accepting = server.clone();
    let held = Arc::new(AtomicUsize::new(0));
    let sum = Arc::clone(&held);
    tokio::spawn(async move {
        let message: Arc<[u8]> = vec![0; LEN].into();
        while let Ok((stream, _)) = accepting.accept().await {
            let (sum, message) = (Arc::clone(&sum), Arc::clone(&message));
            tokio::spawn(async move {
                let sent = stream.send(&message).await;
                if sent.is_err() {
                    sum.fetch_add(
                        stream.stats().engine.unacknowledged_bytes,
                        Ordering::Relaxed,
                    );
                }
                // The session is open until the application has seen its end.
                while stream.recv_message().await.is_ok_and(|end| !end.is_empty()) {}
            });
        }
    });
    let forged = |n| {
        let window = segment(n + 1, Command::Wins, 0, 0, b"");
        (scattered(n), [opener(n + 1), window].concat())
    };
    for second in 0..5 {
        let from = second * FORGED / 5;
        wire.flood((from..from + FORGED / 5).map(forged)).await;
        sleep(secs(1)).await;
    }
    let address = addr("10.0.0.2:5");
    wire.admit(address);
    let mut client = StockPeer::new(net.raw("10.0.0.2:5"), addr(SERVER), 7);
    client.engine.send(b"?").unwrap();
    let whole = |peer: &mut kcp_engine::KcpEngine| peer.peek_size() == Some(LEN);
    assert!(client.live(secs(1), whole).await);
    sleep(secs(12)).await;
    assert_eq!(server.stats().sessions, 1);
    let held = held.load(Ordering::Relaxed);
    assert!(held <= FORGED as usize * (131 + 4_096), "{held}");
    figure(
        "5,000 forged datagrams in 5 s, 150,000 B sent to each: bytes held; a stock client's first answer of 150,000 B",
        format!("{held}; within a second"),
        "a send window each",
    );
}

/// The same with payloads of one byte, where a buffer costs more than what it holds.
#[tokio::test(start_paused = true)]
async fn default_windows_hold_little() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, KcpConfig::turbo_mode().receive_window(1_024));
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &opener(1));
    let (stream, _) = server.accept().await.unwrap();
    for datagram in pushes(1, 2..10_000, b"y") {
        raw.send(addr(SERVER), &datagram);
    }
    sleep(secs(1)).await;
    let stats = stream.stats().engine;
    // 4.1: the window begins at 1, whose segment is missing; sn 0 is unread too.
    assert_eq!(stats.unread_bytes, 1_024 - 1 + 1);
    assert_eq!(stats.segments_received, 1_024);
    assert_eq!(stats.ignored_out_of_window, 10_000 - 1_025);
}

/// A hundred thousand copies of one PUSH: the ACK list never has more than window + 128 entries,
/// and what is answered is never more than what was received.
#[tokio::test(start_paused = true)]
async fn duplicates_grow_no_ack_list() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &opener(1));
    let (_stream, _) = server.accept().await.unwrap();
    sleep(secs(1)).await;
    net.take_sent();
    let copies: Vec<Vec<u8>> = pushes(1, std::iter::repeat_n(0, 100_000), b"x");
    let received: usize = copies.iter().map(Vec::len).sum();
    for datagram in &copies {
        raw.send(addr(SERVER), datagram);
    }
    sleep(secs(1)).await;
    let answers: Vec<_> = net
        .take_sent()
        .into_iter()
        .filter(|sent| sent.from == addr(SERVER))
        .collect();
    let answered: usize = answers.iter().map(|sent| sent.datagram.len()).sum();
    assert!(answered <= received, "{answered} of {received}");
    let largest = answers.iter().map(|sent| sent.datagram.len()).max();
    assert!(largest <= Some(1_400), "{largest:?}");
    figure(
        "100,000 duplicate PUSHes: ACK list, answered bytes per byte",
        format!("<= 1,152, {:.2}", answered as f64 / received as f64),
        "100,000 entries until the next flush (C)",
    );
}

/// A client that takes everything and never reads: the writer waits at two windows, the session
/// lives, nothing grows; and when the client goes, the session goes.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_holds_two_windows() {
    let net = Net::clean();
    let config = turbo();
    let bound = config.send_queue_bytes();
    let server = net.endpoint(SERVER, config);
    let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 1);
    client.engine.send(b"give me all").unwrap();
    client.live(ms(100), |_| false).await;
    let (stream, _) = server.accept().await.unwrap();
    let writer = tokio::spawn(async move {
        loop {
            if let Err(error) = stream.send(&[7; 1_376]).await {
                return (error, stream.stats().engine);
            }
            assert!(stream.stats().engine.unacknowledged_bytes <= bound + 1_376);
        }
    });
    client.live(secs(120), |_| false).await;
    assert!(!writer.is_finished(), "a slow reader is not a dead one");
    assert_eq!(server.stats().sessions, 1);
    client.mute = true;
    client.live(secs(41), |_| false).await;
    let (error, stats) = writer.await.unwrap();
    assert_eq!(server.stats().sessions, 0);
    figure(
        "a client that never reads: bytes held, end after it falls silent",
        format!("{} ({error})", stats.unacknowledged_bytes),
        "not measured",
    );
}

/// A peer that advertises the largest window gets no more than ours allows, and before it is heard
/// at all no more than 32 segments.
#[tokio::test(start_paused = true)]
async fn a_huge_window_is_no_order() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, KcpConfig::turbo_mode().send_window(1_024));
    let raw = net.raw(CLIENT);
    let mut hello = opener(1);
    hello[6..8].copy_from_slice(&u16::MAX.to_le_bytes());
    raw.send(addr(SERVER), &hello);
    let (stream, _) = server.accept().await.unwrap();
    let sending = tokio::spawn(async move {
        for _ in 0..10_000 {
            if stream.send(&[1; 1_376]).await.is_err() {
                return;
            }
        }
    });
    // Prove the address, then acknowledge nothing more.
    let data = loop {
        let datagram = raw.recv_within(secs(1)).await.unwrap();
        let first = headers(&datagram)
            .into_iter()
            .find(|header| header.cmd == 81);
        if let Some(first) = first {
            break first;
        }
    };
    let mut ack = segment(1, Command::Ack, data.sn.get(), data.sn.get() + 1, b"");
    ack[6..8].copy_from_slice(&u16::MAX.to_le_bytes());
    ack[8..12].copy_from_slice(&data.ts.get().to_le_bytes());
    raw.send(addr(SERVER), &ack);
    net.take_sent();
    let mut sns = std::collections::BTreeSet::from([data.sn.get()]);
    for _ in 0..100 {
        sleep(ms(100)).await;
        for sent in net.take_sent() {
            let pushed = headers(&sent.datagram).into_iter().filter(|h| h.cmd == 81);
            sns.extend(pushed.map(|header| header.sn.get()));
        }
    }
    assert_eq!(
        sns.len(),
        1 + 128,
        "the first, and then what any path is trusted with (11.6)"
    );
    sending.abort();
}

/// Slow loris: real clients that keep sessions open by one byte a while. Proven or not, they are
/// bounded per source, and each needs its byte within the idle timeout.
#[tokio::test(start_paused = true)]
async fn slow_clients_are_bounded_per_source_and_must_work() {
    let net = Net::clean();
    let config = turbo().per_source_limit(100).idle_timeout(Some(secs(60)));
    let (server, wire) = Wire::server(&net, config);
    sink(&server);
    for round in 0..12_u32 {
        let dribble = (0..1_000).map(|n| {
            let datagram = segment(n + 1, Command::Push, round, 0, b"z");
            (crowded(n), datagram)
        });
        wire.flood(dribble).await;
        assert_eq!(server.stats().sessions, 100, "round {round}");
        sleep(secs(9)).await;
    }
    // They lived for 108 s, on a datagram each nine seconds. Now they rest; the application owes them
    // nothing, so the idle timeout decides (11.4).
    sleep(secs(52)).await;
    assert_eq!(server.stats().sessions, 0);
    figure(
        "slow-loris sessions: per source, and what keeps one open",
        "100 (configured; default 1,024), anything valid within the idle timeout (10 min)",
        "no limit, never reaped",
    );
}
