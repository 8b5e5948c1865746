//! First datagrams forged in the name of peers that live (`docs/protocol.md` 12.8).

use kcp_engine::Command;
use kcp_netem::{LinkConfig, Loss, Probability};
use tokio::time::timeout;

use crate::net::{CLIENT, Net, SERVER, addr, ms, pair_acquainted, secs, segment, sleep};
use crate::wire::turbo;

fn link(rtt: u64, loss: u32) -> LinkConfig {
    let link = LinkConfig::new().delay(ms(rtt / 2));
    match loss {
        0 => link,
        percent => link.loss(Loss::Bernoulli(Probability::percent(percent))),
    }
}

/// 25 bytes to each side within the time that a datagram takes: each asked, and neither heard the other. Before, every
/// session that had nothing under way ended after 30 s.
#[tokio::test(start_paused = true)]
async fn two_sides_that_doubt_each_other_go_on() {
    for loss in [0, 20] {
        for (rtt, apart) in [
            (20, 0),
            (20, 5),
            (20, 9),
            (20, 15),
            (200, 50),
            (200, 90),
            (200, 150),
        ] {
            for seed in 0..10 {
                let net = Net::new(link(rtt, loss), seed);
                let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
                sleep(secs(5)).await;
                let conv = pair.client.conv().get();
                let first = segment(conv, Command::Push, 0, 0, b"x");
                net.spoof(CLIENT)(addr(SERVER), &first);
                sleep(ms(apart)).await;
                net.spoof(SERVER)(addr(CLIENT), &first);
                pair.client.send(b"still there?").await.unwrap();
                let heard = timeout(secs(10), pair.server.recv_message()).await;
                let context = format!("seed {seed}, loss {loss} %, {apart} ms apart at {rtt} ms");
                assert_eq!(
                    heard.expect(&context).unwrap(),
                    b"still there?",
                    "{context}"
                );
                sleep(secs(60)).await;
                pair.server.send(b"yes").await.unwrap();
                let heard = timeout(secs(10), pair.client.recv_message()).await;
                assert_eq!(heard.expect(&context).unwrap(), b"yes", "{context}");
            }
        }
    }
}

/// The same again and again while both sides send. Before, the first pair stopped a session with small windows.
#[tokio::test(start_paused = true)]
async fn pairs_of_forged_beginnings_cost_round_trips() {
    let net = Net::new(link(20, 0), 1);
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    let conv = pair.client.conv().get();
    let forger = tokio::spawn({
        let first = segment(conv, Command::Push, 0, 0, b"x");
        let (to_server, to_client) = (net.spoof(CLIENT), net.spoof(SERVER));
        async move {
            loop {
                to_server(addr(SERVER), &first);
                to_client(addr(CLIENT), &first);
                sleep(ms(100)).await;
            }
        }
    });
    let start = tokio::time::Instant::now();
    for _ in 0..1_000 {
        pair.client.send(b"ping").await.unwrap();
        assert_eq!(pair.server.recv_message().await.unwrap(), b"ping");
        pair.server.send(b"pong").await.unwrap();
        assert_eq!(pair.client.recv_message().await.unwrap(), b"pong");
    }
    forger.abort();
    // A thousand round trips take 20 s. Questions follow each other after twice as long each, up to 10 s.
    let took = start.elapsed();
    assert!(took < secs(22), "{took:?}");
}

/// A peer that cannot be reached for a while, and owes nothing, is not taken for dead because somebody forges the first
/// datagram of its session. Before, its session ended.
#[tokio::test(start_paused = true)]
async fn an_unreachable_peer_with_nothing_to_answer_lives() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    sleep(secs(5)).await;
    let conv = pair.client.conv().get();
    net.spoof(CLIENT)(addr(SERVER), &segment(conv, Command::Push, 0, 0, b"x"));
    net.cut(SERVER, CLIENT, true);
    sleep(secs(100)).await;
    net.cut(SERVER, CLIENT, false);
    pair.client.send(b"awake").await.unwrap();
    let heard = timeout(secs(10), pair.server.recv_message()).await;
    assert_eq!(heard.unwrap().unwrap(), b"awake");
    // What waits for it is a reason.
    net.spoof(CLIENT)(addr(SERVER), &segment(conv, Command::Push, 0, 0, b"x"));
    net.cut(SERVER, CLIENT, true);
    pair.server.send(b"hello?").await.unwrap();
    sleep(secs(40)).await;
    let reason = pair.server.close_reason();
    assert_eq!(reason, Some(kcp_async::ConnectionError::PeerDead));
}
