//! Forged sessions that are kept fresh, and clients that want to get in beside them (`docs/protocol.md`
//! 11.4.1).

use std::sync::Arc;
use std::time::Duration;

use kcp_engine::Command;
use kcp_netem::LinkConfig;
use tokio::time::Instant;

use crate::bounds::{Bound, backlog, bounds};
use crate::net::{Net, RawPeer, StockPeer, addr, ms, secs, segment, sleep};
use crate::wire::{Wire, echo, figure, opener};

/// Twenty of each passed too.
const SEEDS: u64 = 2;
const TABLE: u32 = 512;

/// Keeps a bound full of forged sessions, each with a new byte every 0.9 s. `repeats`: and sends, for sessions
/// that are not there, as many repeated first datagrams a second.
async fn keep_full(wire: Arc<Wire>, bound: Bound, repeats: u32) {
    let full = bound.full;
    let mut others = full;
    for round in 0.. {
        for part in 0..9 {
            let of_part = (0..full).filter(|n| n % 9 == part);
            let fresh = of_part.map(|n| {
                let push = segment(n + 1, Command::Push, round, 0, b"x");
                (bound.address(n), push)
            });
            wire.flood(fresh).await;
            let each = repeats / 20;
            let newcomers = others..others + each;
            others += each;
            for _ in 0..2 {
                let first = newcomers.clone().map(|n| (bound.address(n), opener(n + 1)));
                wire.flood(first).await;
            }
            sleep(ms(100)).await;
        }
    }
}

async fn flooded(bound: &Bound, seed: u64, repeats: u32) -> (Net, RawPeer) {
    let net = Net::new(LinkConfig::new().delay(ms(10)), seed);
    let (server, wire) = Wire::server_at(
        &net,
        bound.server,
        bound.config.clone().simulation_seed(Some(seed)),
    );
    wire.admit(addr(bound.honest));
    echo(&server);
    tokio::spawn(keep_full(wire, bound.clone(), repeats));
    sleep(ms(2_000 + seed * 37)).await;
    let raw = net.raw(bound.honest);
    (net, raw)
}

/// How long a stock client waits for its first answer.
async fn stock_client(bound: &Bound, seed: u64, repeats: u32) -> Option<Duration> {
    let (_net, raw) = flooded(bound, seed, repeats).await;
    let mut client = StockPeer::new(raw, addr(bound.server), 0x7000_0000);
    client.engine.send(b"hello").unwrap();
    let start = Instant::now();
    let is_answered = client.live(secs(60), |engine| engine.peek_size().is_some());
    is_answered.await.then(|| start.elapsed())
}

/// A client repeats its first datagram, and takes the place of some forged session with it: 0 clients got in
/// for as long as 71 datagrams a second (3.8 kB/s) came in its address's name, or 1,138 (60 kB/s) in its /24's.
#[tokio::test(start_paused = true)]
async fn fresh_forged_sessions_keep_no_client_out() {
    for bound in bounds(TABLE) {
        let mut longest = Duration::ZERO;
        for seed in 0..SEEDS {
            let took = stock_client(&bound, seed, 0).await;
            let took = took.unwrap_or_else(|| panic!("{}, seed {seed}", bound.name));
            longest = longest.max(took);
        }
        figure(
            &format!(
                "forged sessions that get a byte each 0.9 s fill the {}: a stock client's first answer",
                bound.name
            ),
            format!("at most {} ms", longest.as_millis()),
            "no limit",
        );
        // Its first repetition, and a round trip.
        assert!(longest <= ms(300), "{}: {longest:?}", bound.name);
    }
}

/// Forged first datagrams that are repeated too displace the client as well, until it is validated a round trip
/// later; it repeats again.
#[tokio::test(start_paused = true)]
async fn repeated_forged_datagrams_keep_no_client_out() {
    for bound in bounds(TABLE) {
        let mut answered = 0;
        for seed in 0..SEEDS {
            answered += u32::from(stock_client(&bound, seed, 1_000).await.is_some());
        }
        assert_eq!(answered, SEEDS as u32, "{}", bound.name);
    }
}

/// The same while the application accepts nothing: the client waits among the forged sessions.
#[tokio::test(start_paused = true)]
async fn fresh_forged_sessions_keep_no_client_out_of_the_backlog() {
    let bound = backlog(256);
    for seed in 0..SEEDS {
        let net = Net::new(LinkConfig::new().delay(ms(10)), seed);
        let config = bound.config.clone().simulation_seed(Some(seed));
        let (server, wire) = Wire::server_at(&net, bound.server, config);
        wire.admit(addr(bound.honest));
        tokio::spawn(keep_full(wire, bound.clone(), 0));
        sleep(ms(2_000)).await;
        let mut client = StockPeer::new(net.raw(bound.honest), addr(bound.server), 0x7000_0000);
        client.engine.send(b"hello").unwrap();
        client.live(secs(2), |_| false).await;
        let waiting = server.stats().waiting;
        assert_eq!(waiting, bound.full as usize, "seed {seed}");
        let mut has_client = false;
        for _ in 0..waiting {
            let (_stream, peer) = server.accept().await.unwrap();
            has_client |= peer == addr(bound.honest);
        }
        assert!(has_client, "seed {seed}");
    }
}
