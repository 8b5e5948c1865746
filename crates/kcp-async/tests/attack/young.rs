//! Sessions that have not been answered yet, and a flood that fills a bound around them
//! (`docs/protocol.md` 11.1, 11.4.1).

use kcp_async::{ConnectionError, KcpEndpoint, KcpError, KcpStream};
use kcp_engine::{Command, KcpEngine};
use kcp_netem::{LinkConfig, Loss, Probability};
use tokio::time::timeout;

use crate::bounds::{Bound, HONEST, bounds};
use crate::net::{
    Net, RawPeer, SERVER, StockPeer, addr, headers, marked, ms, secs, segment, sleep,
};
use crate::wire::{Wire, crowded, figure, opener, scattered, sink, turbo};

const TABLE: u32 = 256;
/// Long enough for an ACK, two questions and an RST.
const REQUEST: &[u8] = b"what time is it now?";

/// Takes 3 s for its answers.
fn slow(server: &KcpEndpoint) {
    let server = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let request = stream.recv_message().await;
                sleep(secs(3)).await;
                if let Ok(request) = request {
                    let _ = stream.send(&request).await;
                    let _ = stream.recv_message().await;
                }
            });
        }
    });
}

/// A client of ours whose request has arrived, and its server.
async fn waiting(
    net: &Net,
    bound: &Bound,
) -> (KcpEndpoint, std::sync::Arc<Wire>, KcpEndpoint, KcpStream) {
    let (server, wire) = Wire::server_at(net, bound.server, bound.config.clone());
    wire.admit(addr(bound.honest));
    let client = net.endpoint(bound.honest, turbo());
    let stream = client.connect(bound.server).await.unwrap();
    stream.send(REQUEST).await.unwrap();
    (server, wire, client, stream)
}

fn is_reset(error: &KcpError) -> bool {
    matches!(error, KcpError::Connection(ConnectionError::Reset))
}

/// The request is acknowledged and not answered yet, and forged datagrams (27 kB) fill the bound in bursts.
/// The client waited for 599 s. The question validates it before it could be evicted.
#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_its_answer_is_not_evicted() {
    for bound in bounds(TABLE) {
        for begins in [100, 1_100, 2_000] {
            let net = Net::clean();
            let (server, wire, _client, stream) = waiting(&net, &bound).await;
            slow(&server);
            sleep(ms(begins)).await;
            for n in 0..4_u32 {
                let burst = n * 1_100..(n + 1) * 1_100;
                wire.flood(burst.map(|n| bound.forged(n))).await;
                sleep(ms(1_100)).await;
            }
            let answer = timeout(secs(5), stream.recv_message()).await;
            let name = bound.name;
            assert_eq!(
                answer.expect(name).expect(name),
                REQUEST,
                "{name}, flood after {begins} ms"
            );
            // At the client's own address they are evicted, or the client says that they are none of its own.
            let stats = server.stats();
            assert!(stats.accepted > stats.sessions as u64 + 60, "{name}");
        }
    }
    figure(
        "a client waits 3 s for its answer; 1,100 forged datagrams (27 kB) in each second fill its /24",
        "answered (was: evicted without a word, waits for 10 min)",
        "no limit",
    );
}

/// The same with a stock client, which answers no question but acknowledges what it takes for an old segment.
#[tokio::test(start_paused = true)]
async fn a_stock_client_that_waits_for_its_answer_is_not_evicted() {
    for bound in bounds(TABLE) {
        for begins in [100, 1_100, 2_000] {
            let net = Net::clean();
            let (server, wire) = Wire::server_at(&net, bound.server, bound.config.clone());
            wire.admit(addr(bound.honest));
            slow(&server);
            let mut client = StockPeer::new(net.raw(bound.honest), addr(bound.server), 7);
            client.engine.send(REQUEST).unwrap();
            client.live(ms(begins), |_| false).await;
            for n in 0..4_u32 {
                let burst = n * 1_100..(n + 1) * 1_100;
                wire.flood(burst.map(|n| bound.forged(n))).await;
                client.live(ms(1_100), |_| false).await;
            }
            let mut answer = [0; REQUEST.len()];
            let is_answered = |engine: &mut KcpEngine| engine.recv(&mut answer).is_ok();
            let name = bound.name;
            assert!(client.live(secs(5), is_answered).await, "{name} {begins}");
            assert_eq!(answer, REQUEST);
            let stats = server.stats();
            assert!(stats.accepted > stats.sessions as u64 + 60, "{name}");
        }
    }
}

/// The same with an application that never says anything: what the client sends a minute later arrives.
#[tokio::test(start_paused = true)]
async fn a_client_of_a_silent_application_is_not_evicted() {
    for bound in bounds(TABLE) {
        let net = Net::clean();
        let (server, wire, _client, stream) = waiting(&net, &bound).await;
        let delivered = sink(&server);
        sleep(ms(50)).await;
        for n in 0..55_u32 {
            let part = n * 1_100..(n + 1) * 1_100;
            wire.flood(part.map(|n| bound.forged(n))).await;
            sleep(ms(1_100)).await;
        }
        stream.send(b"more").await.unwrap();
        sleep(ms(100)).await;
        assert_eq!(stream.close_reason(), None, "{}", bound.name);
        assert_eq!(stream.stats().engine.unacknowledged_bytes, 0);
        if bound.name != "address" {
            let got = delivered.lock().unwrap()[&addr(bound.honest)];
            assert_eq!(got, REQUEST.len() + 4, "{}", bound.name);
        }
    }
}

/// An application that accepts after 3 s, and a backlog that is full.
#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_accept_is_not_evicted() {
    let net = Net::clean();
    let [_, _, mut bound, _] = bounds(TABLE);
    bound.config = turbo().accept_backlog(64);
    let (server, wire, _client, stream) = waiting(&net, &bound).await;
    for n in 0..3_u32 {
        sleep(ms(1_000)).await;
        let burst = n * 1_100..(n + 1) * 1_100;
        wire.flood(burst.map(|n| bound.forged(n))).await;
    }
    slow(&server);
    let answer = timeout(secs(5), stream.recv_message()).await;
    assert_eq!(answer.unwrap().unwrap(), REQUEST);
    assert!(server.stats().evicted_undelivered > 60);
}

/// One question or its answer is lost: the second one validates. Both are: the session is evicted, and an
/// RST makes the client ask, which is answered.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_evicted_learns_of_it() {
    for bound in bounds(TABLE) {
        for (cut_for, answered) in [(400, true), (900, false)] {
            let net = Net::clean();
            let (server, wire, _client, stream) = waiting(&net, &bound).await;
            slow(&server);
            sleep(ms(200)).await;
            net.cut(bound.honest, bound.server, true);
            sleep(ms(cut_for)).await;
            net.cut(bound.honest, bound.server, false);
            sleep(ms(900 - cut_for)).await;
            let before = server.stats();
            wire.flood((0..1_100).map(|n| bound.forged(n))).await;
            let name = bound.name;
            if answered {
                let answer = timeout(secs(5), stream.recv_message()).await;
                assert_eq!(answer.expect(name).expect(name), REQUEST);
                continue;
            }
            let outcome = timeout(secs(2), stream.recv_message()).await;
            let error = outcome.expect(name).unwrap_err();
            assert!(is_reset(&error), "{name}: {error}");
            let stats = server.stats();
            assert_eq!(stats.resets_sent - before.resets_sent, 1, "{name}");
            let told = stats.resets_announced - before.resets_announced;
            assert!((1..=48).contains(&told), "a prefix's budget: {told}");
        }
    }
}

/// The RST is lost too: the client learns of it with what it sends next.
#[tokio::test(start_paused = true)]
async fn a_lost_reset_leaves_the_next_data() {
    let net = Net::clean();
    let [bound, ..] = bounds(TABLE);
    let (server, wire, _client, stream) = waiting(&net, &bound).await;
    slow(&server);
    sleep(ms(200)).await;
    net.cut(bound.honest, bound.server, true);
    sleep(ms(900)).await;
    wire.flood((0..1_100).map(|n| bound.forged(n))).await;
    sleep(ms(100)).await;
    net.cut(bound.honest, bound.server, false);
    sleep(secs(20)).await;
    assert_eq!(stream.close_reason(), None);
    stream.send(b"and now?").await.unwrap();
    let error = timeout(secs(2), stream.recv_message()).await;
    assert!(is_reset(&error.expect("waits").unwrap_err()));
}

/// 20 % loss each way, a flood after 1.1 s: who is neither answered nor told within 5 s is told with the
/// next data.
#[tokio::test(start_paused = true)]
async fn a_client_behind_loss_is_answered_or_told() {
    let [bound, ..] = bounds(TABLE);
    let [mut answered, mut told, mut waited] = [0; 3];
    for seed in 0..100 {
        let links = LinkConfig::new()
            .delay(ms(10))
            .loss(Loss::Bernoulli(Probability::percent(20)));
        let net = Net::new(links, seed);
        let (server, wire, _client, stream) = waiting(&net, &bound).await;
        slow(&server);
        sleep(ms(1_100)).await;
        wire.flood((0..1_100).map(|n| bound.forged(n))).await;
        let outcome = match timeout(secs(5), stream.recv_message()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                waited += 1;
                let _ = stream.send(b"and now?").await;
                let outcome = timeout(secs(5), stream.recv_message()).await;
                outcome.unwrap_or_else(|_| panic!("seed {seed} waits"))
            }
        };
        match outcome {
            Ok(answer) => {
                assert_eq!(answer, REQUEST);
                answered += 1;
            }
            Err(error) => {
                assert!(is_reset(&error), "seed {seed}: {error}");
                told += 1;
            }
        }
    }
    figure(
        "the same at 20 % loss each way, 100 clients: answered, told, of those only with their next data",
        format!("{answered}, {told}, {waited}"),
        "-",
    );
}

/// A stock client has shown what it is by its answer to the question, and is sent no RST.
#[tokio::test(start_paused = true)]
async fn a_stock_client_is_sent_no_reset() {
    for hears in [true, false] {
        let net = Net::clean();
        let (server, wire) = Wire::server(&net, turbo());
        slow(&server);
        wire.admit(addr(HONEST));
        let mut client = StockPeer::new(net.raw(HONEST), addr(SERVER), 7);
        client.engine.send(REQUEST).unwrap();
        client.live(ms(300), |_| false).await;
        client.mute = !hears;
        client.live(ms(900), |_| false).await;
        client.mute = false;
        net.take_sent();
        wire.flood((0..1_100).map(|n| (crowded(n), opener(n + 1))))
            .await;
        let resets = resets_to(&net, 7);
        // What has shown nothing may be of ours. The command is unknown to stock KCP, and alone in its datagram.
        assert_eq!(resets, usize::from(!hears));
        client.live(ms(100), |_| false).await;
    }
}

/// RSTs for this conversation that the server has put on the network.
fn resets_to(net: &Net, conv: u32) -> usize {
    let sent = net.take_sent();
    let all = sent.iter().flat_map(|sent| headers(&sent.datagram));
    all.filter(|header| header.command() == Some(Command::Rst) && header.conv.get() == conv)
        .count()
}

/// What a forged datagram brings its address in all: ACK, questions, RST.
#[tokio::test(start_paused = true)]
async fn what_a_forged_session_is_sent_stays_within_three_times_its_bytes() {
    for payload in [1, 19, 20, 100, 1_000] {
        let net = Net::clean();
        let (server, wire) = Wire::server(&net, turbo().max_sessions(256));
        sink(&server);
        let forged = |n: u32| {
            let first = segment(n + 1, Command::Push, 0, 0, &vec![7; payload]);
            (scattered(n), first)
        };
        for lives in [900, 1_100, 6_000, 9_000] {
            wire.flood((0..256).map(forged)).await;
            sleep(ms(lives)).await;
            wire.flood((1_000..1_256).map(forged)).await;
            sleep(secs(20)).await;
            let tally = wire.take_tally();
            let received = 2 * 256 * (24 + payload as u64 + 28);
            let sent = tally.bytes + 28 * tally.datagrams;
            assert!(sent <= 3 * received, "{payload} bytes, {lives} ms: {sent}");
        }
        assert!(server.stats().resets_announced > 0);
        assert_eq!(server.stats().extras_granted, 0);
    }
}

/// Someone who reads nothing opens sessions in a client's name, under other convs and its own, and has them
/// evicted: the RSTs for them reach the client, and end nothing.
#[tokio::test(start_paused = true)]
async fn evicted_forgeries_in_a_client_s_name_end_no_session_of_it() {
    for bound in bounds(TABLE) {
        let net = Net::clean();
        let (server, wire, _client, stream) = waiting(&net, &bound).await;
        slow(&server);
        sleep(ms(50)).await;
        let conv = stream.conv().get();
        for round in 0..3_u32 {
            let forged = (0..20).map(|n| (addr(bound.honest), opener(conv ^ (n + 20 * round))));
            wire.flood(forged).await;
            sleep(ms(1_100)).await;
            net.take_sent();
            let burst = round * 1_100..(round + 1) * 1_100;
            wire.flood(burst.map(|n| bound.forged(n))).await;
        }
        let answer = timeout(secs(5), stream.recv_message()).await;
        assert_eq!(answer.unwrap().unwrap(), REQUEST, "{}", bound.name);
        // Nor do forged RSTs: the session is there, and says so.
        for _ in 0..20 {
            net.spoof(bound.server)(addr(bound.honest), &marked(conv, Command::Rst, u32::MAX, 0));
            sleep(ms(50)).await;
        }
        stream.send(b"more").await.unwrap();
        sleep(ms(100)).await;
        assert_eq!(stream.close_reason(), None);
    }
}

/// An embryo is not asked: it is silent, and the half second begins with its first segment.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_an_embryo_is_asked_half_a_second_later() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    sink(&server);
    let raw = net.raw("10.0.0.2:7");
    raw.send(addr(SERVER), &segment(9, Command::Push, 1, 0, b"second"));
    sleep(secs(2)).await;
    net.take_sent();
    raw.send(addr(SERVER), &segment(9, Command::Push, 0, 0, b"first"));
    assert_eq!(commands(&raw).await, [Some(Command::Ack); 2]);
    assert_eq!(raw.recv_within(ms(480)).await, None);
    assert_eq!(commands(&raw).await, [Some(Command::Push)]);
}

async fn commands(raw: &RawPeer) -> Vec<Option<Command>> {
    let datagram = raw.recv_within(ms(100)).await.unwrap();
    let headers = headers(&datagram);
    headers.iter().map(|header| header.command()).collect()
}
