//! Answers to the question of `docs/protocol.md` 12.8 from a sender that knows both addresses and the conv.

use std::net::SocketAddr;

use kcp_async::KcpEndpoint;
use kcp_engine::Command;
use kcp_netem::{Jitter, LinkConfig, Loss, Probability};

use tokio::io::AsyncWriteExt;

use crate::net::{CLIENT, Net, SERVER, StockPeer, addr, ms, pair_acquainted, secs, segment, sleep};
use crate::wire::{figure, turbo};

const MARKED: u8 = 0xa1;

/// For 4 s: first data each 200 ms, and a WINS of a peer that has heard nothing each millisecond.
async fn race(net: &Net, from: &str, to: &str, conv: u32, mark: u8) {
    let spoof = net.spoof(from);
    let to: SocketAddr = addr(to);
    let mut answer = segment(conv, Command::Wins, 0, 0, b"");
    answer[5] = mark;
    for n in 0..4_000 {
        if n % 200 == 0 {
            spoof(to, &segment(conv, Command::Push, 0, 0, b"x"));
        }
        spoof(to, &answer);
        sleep(ms(1)).await;
    }
}

/// A round trip of 40 ms; one in twenty is lost.
fn link(jitter: u64, lossy: bool) -> LinkConfig {
    let link = LinkConfig::new()
        .delay(ms(20))
        .jitter(Jitter::Free(ms(jitter)));
    match lossy {
        true => link.loss(Loss::Bernoulli(Probability::percent(5))),
        false => link,
    }
}

/// Each side of our own, with the mark and without. Before: 25 of 80 sessions ended with "reset".
#[tokio::test(start_paused = true)]
async fn forged_answers_end_no_session_of_ours() {
    let mut sessions = 0;
    for (jitter, lossy) in [(0, false), (2, false), (5, true), (10, true)] {
        for seed in 0..4 {
            for (from, to) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
                for mark in [0, MARKED, MARKED | 2] {
                    let net = Net::new(link(jitter, lossy), seed);
                    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
                    race(&net, from, to, pair.client.conv().get(), mark).await;
                    pair.client.send(b"still there?").await.unwrap();
                    let heard = pair.server.recv_message().await.unwrap();
                    assert_eq!(heard, b"still there?");
                    pair.server.send(b"yes").await.unwrap();
                    assert_eq!(pair.client.recv_message().await.unwrap(), b"yes");
                    sessions += 1;
                }
            }
        }
    }
    figure(
        "4,000 forged answers to the question about a restart, conv known: sessions of ours that end",
        format_args!("0 of {sessions}"),
        "asks nothing",
    );
}

/// The same after the end: each first datagram is a late copy, and opens nothing (12.3). Before, an answer
/// without an echo dropped the record, and the copy was delivered again.
#[tokio::test(start_paused = true)]
async fn forged_answers_drop_no_record_of_a_marked_peer() {
    let mut records = 0;
    for (jitter, lossy) in [(0, false), (10, true)] {
        for (from, to) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            for (mark, aborts) in [0, MARKED, MARKED | 2]
                .into_iter()
                .flat_map(|mark| [(mark, false), (mark, true)])
            {
                let net = Net::new(link(jitter, lossy), 0);
                let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
                let conv = pair.client.conv().get();
                let (mut client, mut server) = (pair.client, pair.server);
                match aborts {
                    true => server.abort(),
                    false => {
                        let (one, other) = tokio::join!(client.shutdown(), server.shutdown());
                        one.and(other).unwrap();
                    }
                }
                drop((client, server));
                sleep(secs(2)).await;
                let endpoints = [pair.client_endpoint, pair.server_endpoint];
                let before = endpoints.each_ref().map(|endpoint| endpoint.stats());
                race(&net, from, to, conv, mark).await;
                let case = format!("to {to}, mark {mark:x}, aborts: {aborts}");
                for (endpoint, before) in endpoints.iter().zip(before) {
                    let after = endpoint.stats();
                    assert_eq!(after.sessions, 0, "{case}");
                    assert_eq!(after.accepted, before.accepted, "{case}");
                    assert_eq!(after.time_wait_reopened, 0, "{case}");
                    records += before.time_wait;
                }
            }
        }
    }
    figure(
        "4,000 forged answers about a session that is over, conv known: first datagrams delivered again",
        format_args!("0, of {records} records of peers with the mark"),
        "opens a session for any",
    );
}

/// A stock client at the port and under the conv of one of ours answers without an echo, and waits until
/// the record is gone.
#[tokio::test(start_paused = true)]
async fn a_stock_client_in_the_place_of_one_of_ours_waits_for_the_record() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    let conv = pair.client.conv().get();
    drop((pair.client, pair.server, pair.client_endpoint));
    sleep(ms(500)).await;
    assert_eq!(pair.server_endpoint.stats().time_wait, 1);
    let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), conv);
    client.engine.send(b"I am another").unwrap();
    client.live(secs(9), |_| false).await;
    let stats = pair.server_endpoint.stats();
    assert_eq!((stats.accepted, stats.time_wait), (1, 1));
    assert!(client.live(secs(60), |engine| engine.is_drained()).await);
    let (stream, _) = pair.server_endpoint.accept().await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"I am another");
}

/// A stock peer that lives answers some question in a second, whatever else is sent in its name.
#[tokio::test(start_paused = true)]
async fn forged_answers_end_no_session_with_a_stock_peer() {
    for (jitter, lossy) in [(0, false), (2, false), (5, true), (10, true)] {
        for seed in 0..4 {
            let net = Net::new(link(jitter, lossy), seed);
            let server: KcpEndpoint = net.endpoint(SERVER, turbo());
            let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
            client.engine.send(b"hello").unwrap();
            client.live(ms(500), |_| false).await;
            let (stream, _) = server.accept().await.unwrap();
            stream.send(b"welcome").await.unwrap();
            client.live(secs(1), |_| false).await;
            let attack = race(&net, CLIENT, SERVER, 7, 0);
            tokio::join!(attack, client.live(secs(5), |_| false));
            assert_eq!(stream.recv_message().await.unwrap(), b"hello");
            client.engine.send(b"still there").unwrap();
            assert!(client.live(secs(5), |engine| engine.is_drained()).await);
            assert_eq!(stream.recv_message().await.unwrap(), b"still there");
        }
    }
}
