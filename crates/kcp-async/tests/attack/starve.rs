//! First datagrams that would take the time of established sessions (`docs/protocol.md` 11.4.2).

use std::net::SocketAddr;

use kcp_async::KcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::net::{CLIENT, Net, SERVER, ms, secs, sleep};
use crate::wire::{Wire, echo, figure, opener, scattered, turbo};

async fn exchange(stream: &KcpStream) {
    stream.send(b"established").await.unwrap();
    let answer = timeout(secs(10), stream.recv_message()).await.unwrap();
    assert_eq!(answer.unwrap(), b"established");
}

/// A session that is in use without a pause, and older than a second.
async fn established(net: &Net) -> KcpStream {
    let endpoint = net.endpoint(CLIENT, turbo());
    let stream = endpoint.connect(SERVER).await.unwrap();
    for _ in 0..60 {
        exchange(&stream).await;
    }
    stream
}

/// Such a session, used until the end of the test.
async fn in_use(net: &Net) -> JoinHandle<()> {
    let stream = established(net).await;
    tokio::spawn(async move {
        loop {
            exchange(&stream).await;
        }
    })
}

/// Bursts that fill the receive calls, each datagram from another address.
async fn flood(wire: &Wire, bursts: u32, pause_ms: u64) {
    for burst in 0..bursts {
        let first = burst * BURST;
        wire.flood((first..first + BURST).map(|n| (scattered(n), opener(n + 1))))
            .await;
        sleep(ms(pause_ms)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn forged_first_datagrams_open_what_the_budget_allows() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    let live = in_use(&net).await;
    flood(&wire, 3_000, 1).await;
    let stats = server.stats();
    assert!(!live.is_finished());
    // 500 at once, 100 a second, and what came before the first receive call was full.
    let bound = 500 + 3 * 100 + u64::from(BURST);
    assert!(stats.accepted <= bound, "{} accepted", stats.accepted);
    assert_eq!(stats.accepted - 1 + stats.dropped_opening, 150_000);
    figure(
        "50,000 forged first datagrams a second beside an established session, 3 s",
        format!(
            "{} opened, {} refused",
            stats.accepted - 1,
            stats.dropped_opening
        ),
        "-",
    );
}

#[tokio::test(start_paused = true)]
async fn refused_clients_get_in_with_their_repetitions() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    let live = in_use(&net).await;
    let clients = async {
        sleep(secs(1)).await;
        for n in 0..20 {
            let client = net.endpoint(&format!("10.5.{n}.1:7"), turbo());
            let stream = client.connect(SERVER).await.unwrap();
            exchange(&stream).await;
        }
    };
    tokio::select! {
        () = flood(&wire, 20_000, 5) => panic!("the flood ended first"),
        () = clients => {}
    }
    assert!(!live.is_finished());
    assert!(server.stats().dropped_opening > 0);
}

/// Where no established session is heard, the budget does not bind.
#[tokio::test(start_paused = true)]
async fn a_flood_that_no_one_waits_behind_is_not_refused() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    let _silent = established(&net).await;
    sleep(secs(2)).await;
    flood(&wire, 400, 1).await;
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.dropped_opening), (20_001, 0));
}

/// Keeps the receive queue from being empty for this many steps of 25 ms.
async fn keep_full(
    wire: &Wire,
    forged: &mut impl Iterator<Item = (SocketAddr, Vec<u8>)>,
    steps: u32,
) {
    for _ in 0..steps {
        wire.top_up(6_000, forged);
        tokio::time::advance(ms(25)).await;
        assert!(wire.queued() > 0);
    }
}

/// Where the queue stays full the budget binds without an established session: newcomers wait behind all that is forged.
#[tokio::test(start_paused = true)]
async fn a_flood_that_keeps_the_queue_full_is_refused() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo().accept_backlog(1 << 20));
    echo(&server);
    let mut forged = (0..).map(|n| (scattered(n), opener(n + 1)));
    keep_full(&wire, &mut forged, 20).await;
    assert_eq!(server.stats().dropped_opening, 0);
    keep_full(&wire, &mut forged, 1).await;
    let before = server.stats();
    assert!(before.dropped_opening > 0);
    keep_full(&wire, &mut forged, 40).await;
    // A second of the first bucket.
    assert_eq!(server.stats().accepted, before.accepted + 100);
    let newcomer = "[2001:db8::7]:9".parse().unwrap();
    wire.top_up(6_000, &mut forged);
    for gets_in in [false, true] {
        wire.flood([(newcomer, opener(7))]).await;
        assert_eq!(wire.take_reached().contains(&newcomer), gets_in);
    }
    // The queue was empty, and so it is over.
    sleep(ms(100)).await;
    let before = server.stats();
    flood(&wire, 40, 1).await;
    let after = server.stats();
    assert_eq!(after.dropped_opening, before.dropped_opening);
}

/// Nor where sessions hear only what they heard before: a flood that repeats itself does not shut out clients.
#[tokio::test(start_paused = true)]
async fn repetitions_are_no_use_of_a_session() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    echo(&server);
    flood(&wire, 2, 1).await;
    sleep(secs(2)).await;
    for burst in 0..100 {
        let (old, new) = (0..BURST, (burst + 2) * BURST..(burst + 3) * BURST);
        wire.flood(old.chain(new).map(|n| (scattered(n), opener(n + 1))))
            .await;
        sleep(ms(1)).await;
    }
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.dropped_opening), (5_100, 0));
}

const BURST: u32 = 50;
