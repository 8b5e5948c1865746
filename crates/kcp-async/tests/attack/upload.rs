//! Stock uploaders, which never validate their address, beside forged sessions (`docs/protocol.md` 11.4.1).

use std::net::SocketAddr;

use kcp_async::EndpointConfig;
use kcp_engine::{Command, KcpHeader};

use crate::evict::{served, small_table};
use crate::net::{Net, SERVER, StockPeer, addr, headers, ms, secs, segment, sleep};
use crate::wire::{Wire, crowded, embryo, opener, scattered, sink, turbo};

/// A stock client uploads, and pauses; its own /24 forges 17,500 first datagrams in a second.
async fn upload_beside_a_flood(
    config: EndpointConfig,
    forged: fn(u32) -> Vec<(SocketAddr, Vec<u8>)>,
) {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, config);
    let delivered = sink(&server);
    let honest = "203.0.113.5:9";
    wire.admit(addr(honest));
    let mut client = StockPeer::new(net.raw(honest), addr(SERVER), 77);
    for _ in 0..3 {
        client.engine.send(&[7; 1_000]).unwrap();
        client.live(ms(100), |engine| engine.is_drained()).await;
    }
    client.live(secs(4), |_| false).await;
    for n in 0..10 {
        let burst = (n * 1_750..(n + 1) * 1_750).flat_map(forged);
        wire.flood(burst).await;
        client.live(ms(100), |_| false).await;
    }
    client.engine.send(&[7; 1_000]).unwrap();
    assert!(client.live(secs(2), |engine| engine.is_drained()).await);
    client.live(secs(1), |_| false).await;
    let stats = server.stats();
    assert_eq!(stats.evicted_unvalidated, 0, "{stats:?}");
    assert_eq!(delivered.lock().unwrap()[&addr(honest)], 4_000);
}

#[tokio::test(start_paused = true)]
async fn an_uploader_that_pauses_outlives_a_flood_from_its_own_prefix() {
    upload_beside_a_flood(turbo(), |n| vec![(crowded(n), opener(n + 1))]).await;
}

/// The whole table full of forged sessions, from prefixes of their own.
#[tokio::test(start_paused = true)]
async fn an_uploader_that_pauses_outlives_a_flood_from_everywhere() {
    let config = turbo().max_sessions(4_000);
    upload_beside_a_flood(config, |n| vec![(scattered(n), opener(n + 1))]).await;
}

/// Two datagrams each, the second of which the application gets too.
#[tokio::test(start_paused = true)]
async fn an_uploader_that_pauses_outlives_late_embryos() {
    upload_beside_a_flood(turbo(), |n| {
        vec![(crowded(n), embryo(n + 1)), (crowded(n), opener(n + 1))]
    })
    .await;
}

/// Forged sessions of two datagrams, the second of which comes later, until the bound is full: they
/// displace each other, and no sensor that has delivered more.
#[tokio::test(start_paused = true)]
async fn a_sensor_that_pauses_outlives_forged_sessions_of_two_datagrams() {
    for (everywhere, interval) in [(false, 100), (false, 15_000), (true, 100), (true, 15_000)] {
        let forged: fn(u32) -> SocketAddr = if everywhere { scattered } else { crowded };
        let config = match everywhere {
            true => turbo().max_sessions(1_000),
            false => turbo(),
        };
        let net = Net::clean();
        let (server, wire) = Wire::server(&net, config);
        let delivered = sink(&server);
        let honest = "203.0.113.5:9";
        wire.admit(addr(honest));
        let mut sensor = StockPeer::new(net.raw(honest), addr(SERVER), 77);
        for _ in 0..3 {
            sensor.engine.send(&[7; 1_000]).unwrap();
            sensor.live(ms(interval), |_| false).await;
        }
        sensor.live(secs(4), |_| false).await;
        for n in 0..40 {
            let burst = 40 * n..40 * n + 40;
            let first = |k| (forged(k), opener(k + 1));
            wire.flood(burst.clone().map(first)).await;
            sensor.live(ms(50), |_| false).await;
            let second = |k| (forged(k), segment(k + 1, Command::Push, 1, 0, b"y"));
            wire.flood(burst.map(second)).await;
            sensor.live(ms(50), |_| false).await;
        }
        let stats = server.stats();
        assert!(stats.evicted_unvalidated > 300, "{stats:?}");
        sensor.engine.send(&[7; 1_000]).unwrap();
        assert!(sensor.live(secs(3), |engine| engine.is_drained()).await);
        sensor.live(secs(1), |_| false).await;
        assert_eq!(delivered.lock().unwrap()[&addr(honest)], 4_000);
    }
}

/// Idle uploaders do go: the one that has delivered least first, also if it is silent for less long.
#[tokio::test(start_paused = true)]
async fn unvalidated_sessions_go_by_what_they_have_delivered() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, small_table());
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = accepting.accept().await {
            tokio::spawn(async move {
                while let Ok(message) = stream.recv_message().await {
                    if message == b"a real client" {
                        stream.send(&message).await.unwrap();
                    }
                }
            });
        }
    });
    // The 64 of a prefix, the longer silent the more it has delivered.
    let mut uploaders = Vec::new();
    for host in 0..64 {
        let raw = net.raw(&format!("10.9.1.{}:7", 100 + host));
        for sn in 0..130 - 2 * host {
            raw.send(addr(SERVER), &segment(1, Command::Push, sn, 0, &[0; 100]));
            sleep(ms(20)).await;
        }
        uploaders.push(raw);
    }
    sleep(secs(2)).await;
    let mut clients = Vec::new();
    for n in 1..=64 {
        clients.push(served(&net, &format!("10.9.1.{n}:7"), SERVER).await);
        assert_eq!(server.stats().evicted_unvalidated, n);
        if n == 32 {
            // The longest silent has delivered most, and is still there.
            while uploaders[0].recv_within(ms(1)).await.is_some() {}
            uploaders[0].send(addr(SERVER), &segment(1, Command::Push, 130, 0, b"more"));
            let answer = uploaders[0].recv_within(ms(100)).await.unwrap();
            let acknowledges = |header: &KcpHeader| {
                header.command() == Some(Command::Ack) && header.sn.get() == 130
            };
            assert!(headers(&answer).iter().any(acknowledges));
        }
    }
    assert_eq!(server.stats().evicted_idle, 0);
}
