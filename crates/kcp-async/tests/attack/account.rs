//! A full account of what cannot be delivered: honest peers go on beside it (`docs/protocol.md` 11.4).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use kcp_async::{EndpointConfig, KcpConfig, KcpEndpoint, KcpStream};
use kcp_engine::Command;
use kcp_netem::LinkConfig;
use tokio::time::timeout;

use crate::net::{Net, RawPeer, SERVER, StockPeer, addr, bytes, headers, ms, secs, segment, sleep};
use crate::wire::{Wire, echo, figure, opener, scattered, turbo};

const ACCOUNT: usize = 16 << 20;

/// A peer that answers at its address, and then leaves a gap before `count` segments.
async fn holder(net: &Net, from: &str, server: SocketAddr, count: u32) -> RawPeer {
    let raw = net.raw(from);
    raw.send(server, &opener(9));
    while let Some(datagram) = raw.recv_within(secs(1)).await {
        if let Some(echoed) = headers(&datagram).iter().find(|header| header.cmd == 81) {
            let mut ack = segment(9, Command::Ack, echoed.sn.get(), echoed.sn.get() + 1, b"");
            ack[8..12].copy_from_slice(&echoed.ts.get().to_le_bytes());
            raw.send(server, &ack);
            break;
        }
    }
    sleep(ms(15)).await;
    for sn in 2..2 + count {
        raw.send(server, &segment(9, Command::Push, sn, 1, &[0; 1_376]));
    }
    sleep(ms(15)).await;
    raw
}

/// Messages of `size` bytes that come back.
async fn echoed(client: &KcpStream, size: usize, count: u32) -> u32 {
    for n in 0..count {
        let sent = client.send(&bytes(size)).await;
        let answer = timeout(secs(10), client.recv_message()).await;
        let is_whole = matches!(&answer, Ok(Ok(message)) if message.len() == size);
        if sent.is_err() || !is_whole {
            return n;
        }
    }
    count
}

fn server_of(net: &Net, address: &str) -> KcpEndpoint {
    let config: EndpointConfig = KcpConfig::turbo_mode().receive_window(1_024).into();
    let server = net.endpoint(address, config.receive_memory(ACCOUNT));
    echo(&server);
    server
}

async fn beside_holders(
    server: &str,
    clients: [&str; 2],
    holders: impl Fn(u8) -> String,
) -> [u32; 2] {
    let net = Net::new(LinkConfig::new().delay(ms(10)), 5);
    let endpoint = server_of(&net, server);
    let [first, second] = clients.map(|client| net.endpoint(client, turbo()));
    // One session is open before the account is full, and one opens afterwards.
    let before = first.connect(server).await.unwrap();
    assert_eq!(echoed(&before, 5, 1).await, 1);
    let mut held = Vec::new();
    for n in 0..100 {
        held.push(holder(&net, &holders(n), addr(server), 1_000).await);
    }
    let account = endpoint.stats().receive_memory;
    assert!(account > ACCOUNT / 2, "{account}");
    let after = second.connect(server).await.unwrap();
    let small = echoed(&before, 3_000, 50).await;
    // 73 fragments: more than what each session may hold whatever the others do.
    let large = echoed(&after, 100_000, 10).await;
    [small, large]
}

/// Validated peers with a gap fill the account; messages of several fragments still get in.
#[tokio::test(start_paused = true)]
async fn messages_get_in_beside_validated_peers_with_gaps() {
    let four = beside_holders(SERVER, ["10.0.0.2:5", "10.0.0.3:5"], |n| {
        format!("10.5.{n}.1:7")
    })
    .await;
    let clients = ["[2001:db8:8::1]:5", "[2001:db8:8::2]:5"];
    let six = |n| format!("[2001:db8:0:{n}00::1]:7");
    let six = beside_holders("[2001:db8:9::1]:4000", clients, six).await;
    figure(
        "100 validated peers with gaps fill the account (16 MiB): messages of 3,000 and 100,000 bytes echoed",
        format!("{four:?} of [50, 10]"),
        "no account",
    );
    assert_eq!((four, six), ([50, 10], [50, 10]));
}

/// Reads messages of up to 64 KiB, and never answers: bytes by address.
fn reader(server: &KcpEndpoint) -> Arc<Mutex<HashMap<SocketAddr, usize>>> {
    let delivered: Arc<Mutex<HashMap<_, _>>> = Arc::default();
    let (accepting, sums) = (server.clone(), Arc::clone(&delivered));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = accepting.accept().await {
            let sums = Arc::clone(&sums);
            tokio::spawn(async move {
                loop {
                    match stream.recv_message().await {
                        Ok(message) if !message.is_empty() => {
                            *sums.lock().unwrap().entry(peer).or_insert(0) += message.len();
                        }
                        _ended => break,
                    }
                }
            });
        }
    });
    delivered
}

/// What forged sessions send in order, and no one reads, is on the account too: they held 1.28 MB each.
#[tokio::test(start_paused = true)]
async fn unread_bytes_of_forged_sessions_share_the_account() {
    const FORGED: u32 = 1_000;
    let net = Net::clean();
    let config: EndpointConfig = KcpConfig::turbo_mode().receive_window(1_024).into();
    let (server, wire) = Wire::server(&net, config.receive_memory(ACCOUNT));
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let (accepting, streams) = (server.clone(), Arc::clone(&accepted));
    tokio::spawn(async move {
        while let Ok((stream, _)) = accepting.accept().await {
            streams.lock().unwrap().push(stream);
        }
    });
    for sn in 0..100 {
        let payload = [7; 1_376];
        let forged = (0..FORGED).map(|n| {
            let push = segment(n + 1, Command::Push, sn, 0, &payload);
            (scattered(n), push)
        });
        wire.flood(forged).await;
    }
    let unread = || -> usize {
        let streams = accepted.lock().unwrap();
        streams.iter().map(|s| s.stats().engine.unread_bytes).sum()
    };
    let held = unread();
    // The share, and as much again for allotments; a first segment is not counted.
    assert!(held <= ACCOUNT / 8 + FORGED as usize * 1_376, "{held}");
    // A stock client is validated by the challenge, and then has its window.
    let mut stock = StockPeer::new(net.raw("10.0.0.2:5"), addr(SERVER), 7);
    wire.admit(addr("10.0.0.2:5"));
    for _ in 0..100 {
        stock.engine.send(&bytes(1_376)).unwrap();
    }
    assert!(stock.live(secs(5), |engine| engine.wait_snd() == 0).await);
    assert_eq!(unread() - held, 137_600);
    figure(
        "1,000 forged sessions, 137,600 B in order to each, unread, account of 16 MiB: bytes held; a stock client's upload",
        format!("{held}; taken"),
        "a receive window each",
    );
}

/// What a stock client with a first message of `size` bytes and one of ours deliver within 5 s beside
/// forged sessions of 50 bytes each, which leave a gap.
async fn beside_forged_gaps(size: usize) -> (usize, bool, bool) {
    let net = Net::clean();
    let config: EndpointConfig = KcpConfig::turbo_mode().receive_window(1_024).into();
    let (server, wire) = Wire::server(&net, config.receive_memory(ACCOUNT));
    let delivered = reader(&server);
    // As far ahead as it may be, and then what still fits.
    for (base, ahead) in [
        (0, 1_000),
        (5_000, 250),
        (10_000, 120),
        (15_000, 20),
        (20_000, 2),
    ] {
        for first in (base..base + 5_000).step_by(250) {
            let forged = (first..first + 250).map(|n| {
                let gap = segment(n + 1, Command::Push, ahead, 0, b"y");
                (scattered(n), [opener(n + 1), gap].concat())
            });
            wire.flood(forged).await;
        }
    }
    let held = server.stats().receive_memory_unvalidated;
    let mut stock = StockPeer::new(net.raw("10.0.0.2:5"), addr(SERVER), 7);
    stock.engine.send(&vec![1; size]).unwrap();
    let is_acknowledged = stock.live(secs(5), |engine| engine.wait_snd() == 0).await;
    let clients = net.endpoint("10.0.0.3:5", turbo());
    let client = clients.connect(SERVER).await.unwrap();
    client.send(&bytes(size)).await.unwrap();
    let start = tokio::time::Instant::now();
    let ours = || delivered.lock().unwrap().get(&addr("10.0.0.3:5")).copied();
    while ours() != Some(size) && start.elapsed() < secs(5) {
        sleep(ms(10)).await;
    }
    let ours = ours();
    (held, is_acknowledged, ours == Some(size))
}

/// Forged sessions fill the share of unvalidated ones; first messages of several fragments get in.
#[tokio::test(start_paused = true)]
async fn first_messages_get_in_beside_forged_gaps() {
    let (held, stock, ours) = beside_forged_gaps(3_000).await;
    figure(
        "25,000 forged sessions with a gap, 50 B each: bytes held; first messages of 3,000 bytes, stock and ours",
        format!("{held}; {stock}, {ours}"),
        "no account",
    );
    assert!(held <= ACCOUNT / 16, "{held}");
    assert!(stock && ours, "stock {stock}, ours {ours}");
    let (_, stock, ours) = beside_forged_gaps(40_000).await;
    assert!(stock && ours, "stock {stock}, ours {ours}");
}
