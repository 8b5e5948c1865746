//! RSTs: forged, stormed and answered (`docs/protocol.md` 12.4), and who fills the TIME-WAIT table (12.3).

use kcp_engine::Command;

use crate::net::{
    CLIENT, Net, SERVER, addr, headers, marked, ms, pair_acquainted, secs, segment, sleep,
};
use crate::wire::{Wire, crowded, figure, opener, turbo};

fn count(net: &Net, from: &str, command: Command) -> usize {
    let sent = net.take_sent();
    let theirs = sent.iter().filter(|sent| sent.from == addr(from));
    theirs
        .flat_map(|sent| headers(&sent.datagram))
        .filter(|header| header.command() == Some(command))
        .count()
}

/// A forged RST makes the session ask, at most once per RTO, and ends nothing: the true peer answers.
#[tokio::test(start_paused = true)]
async fn a_forged_reset_is_one_question_per_rto() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    let conv = pair.server.conv().get();
    let spoof = net.spoof(CLIENT);
    let rto = pair.server.stats().engine.rto;
    net.take_sent();
    let rst = marked(conv, Command::Rst, u32::MAX, 0);
    let many = rst.repeat(50);
    for _ in 0..5_000 {
        spoof(addr(SERVER), &rst);
        spoof(addr(SERVER), &many);
        sleep(ms(1)).await;
    }
    sleep(ms(100)).await;
    let asked = count(&net, SERVER, Command::Wask);
    let most = secs(5).as_millis() / rto.as_millis() + 1;
    assert!((1..=most as usize).contains(&asked), "{asked}, RTO {rto:?}");
    pair.client.send(b"still here").await.unwrap();
    assert_eq!(pair.server.recv_message().await.unwrap(), b"still here");
    assert_eq!(pair.server.stats().engine.reset_questions, asked as u64);
    figure(
        "255,000 forged RSTs in 5 s, conv known: sessions reset, questions",
        format!("0, {asked}"),
        "no RST exists",
    );
}

/// Nor does it end the session of a peer that cannot be reached just then and owes nothing.
#[tokio::test(start_paused = true)]
async fn a_forged_reset_starts_no_dead_peer_detection() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    let conv = pair.server.conv().get();
    let server = &pair.server;
    net.spoof(CLIENT)(addr(SERVER), &marked(conv, Command::Rst, u32::MAX, 0));
    sleep(ms(15)).await;
    // The question is on its way and gets lost.
    net.cut(CLIENT, SERVER, true);
    sleep(secs(100)).await;
    assert_eq!(server.close_reason(), None);
    assert_eq!(server.stats().engine.reset_questions, 1);
    net.cut(CLIENT, SERVER, false);
    pair.client.send(b"back").await.unwrap();
    assert_eq!(pair.server.recv_message().await.unwrap(), b"back");
}

/// A peer whose address is not validated is asked once in all.
#[tokio::test(start_paused = true)]
async fn an_unvalidated_address_is_asked_once() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let spoof = net.spoof("10.0.0.77:7");
    spoof(addr(SERVER), &segment(5, Command::Push, 0, 0, &[0; 1_000]));
    let (stream, _) = server.accept().await.unwrap();
    sleep(ms(100)).await;
    net.take_sent();
    for _ in 0..1_000 {
        spoof(addr(SERVER), &marked(5, Command::Rst, u32::MAX, 0));
        sleep(ms(2)).await;
    }
    assert_eq!(stream.stats().engine.reset_questions, 1);
    assert!(count(&net, SERVER, Command::Wask) <= 2, "11.1 asks too");
    assert_eq!(stream.close_reason(), None);
}

/// Both sides give up at the same moment: what is sent is bounded, and nothing answers a RST.
#[tokio::test(start_paused = true)]
async fn resets_do_not_answer_each_other() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    sleep(secs(1)).await;
    net.take_sent();
    pair.client.abort();
    pair.server.abort();
    sleep(secs(60)).await;
    assert_eq!(net.take_sent().len(), 6, "three each");
    for endpoint in [&pair.client_endpoint, &pair.server_endpoint] {
        let stats = endpoint.stats();
        assert_eq!((stats.resets_announced, stats.resets_sent), (3, 0));
        assert_eq!((stats.sessions, stats.time_wait), (0, 0));
    }
}

/// One gives up: RST, question, RST, and two more RSTs that no one answers.
#[tokio::test(start_paused = true)]
async fn a_reset_is_confirmed_by_one_exchange() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    sleep(secs(1)).await;
    net.take_sent();
    pair.client.abort();
    sleep(secs(60)).await;
    assert!(pair.server.close_reason().is_some());
    let sent = net.take_sent();
    let from = |side: &str| sent.iter().filter(|sent| sent.from == addr(side)).count();
    assert_eq!((from(CLIENT), from(SERVER)), (4, 1));
}

/// Sessions that end by the thousand in one prefix do not push the records of others out: a late first
/// datagram of those opens no session.
#[tokio::test(start_paused = true)]
async fn a_prefix_cannot_fill_the_time_wait_table() {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo().per_source_limit(16_384));
    let client = net.endpoint(CLIENT, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(b"hello").await.unwrap();
    let (accepted, _) = server.accept().await.unwrap();
    accepted.recv_message().await.unwrap();
    let conv = stream.conv().get();
    accepted.abort();
    drop((stream, client, accepted));
    sleep(ms(100)).await;
    for round in 0..9 {
        wire.flood((0..1_000).map(|n| (crowded(round * 1_000 + n), opener(n + 1))))
            .await;
        for _ in 0..1_000 {
            let (stream, _) = server.accept().await.unwrap();
            stream.abort();
        }
        sleep(ms(10)).await;
    }
    let stats = server.stats();
    assert!(stats.time_wait <= 8_192 / 4 + 1, "{}", stats.time_wait);
    assert!(stats.time_wait_evicted >= 9_000 - 8_192 / 4);
    let accepted = stats.accepted;
    net.spoof(CLIENT)(addr(SERVER), &segment(conv, Command::Push, 0, 0, b"hello"));
    sleep(ms(100)).await;
    assert_eq!(server.stats().accepted, accepted);
    figure(
        "9,000 sessions of one /24 given up within 0.1 s: records held, others pushed out",
        format!("{}, 0", stats.time_wait),
        "no records",
    );
}
