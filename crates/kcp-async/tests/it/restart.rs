//! A crashed client that comes back with its port and conversation id (`docs/protocol.md` 12.8).

use std::time::Duration;

use kcp_async::{
    ConnectionError, Conv, EndpointConfig, KcpConfig, KcpEndpoint, KcpError, KcpStream,
};
use kcp_engine::Command;
use tokio::time::{Instant, timeout};

use crate::net::{CLIENT, Net, SERVER, StockPeer, addr, headers, ms, secs, segment, sleep};

const CONV: u32 = 77;

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

fn is_reset(error: &KcpError) -> bool {
    matches!(error, KcpError::Connection(ConnectionError::Reset))
}

/// A stock client that has said three words and heard one; it is gone afterwards.
async fn crashed_stock_client(net: &Net, server: &KcpEndpoint) -> KcpStream {
    let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), CONV);
    for word in [b"old 0", b"old 1", b"old 2"] {
        client.engine.send(word).unwrap();
    }
    client.live(ms(100), |_| false).await;
    let (stream, _) = server.accept().await.unwrap();
    stream.send(b"welcome").await.unwrap();
    assert!(
        client
            .live(secs(1), |peer| peer.peek_size().is_some())
            .await
    );
    client.live(ms(100), |_| false).await;
    assert!(stream.stats().proven);
    stream
}

/// The old stream has what the old client sent, and nothing else.
async fn old_data_and_then_a_reset(stream: &KcpStream) {
    for word in [b"old 0", b"old 1", b"old 2"] {
        assert_eq!(stream.recv_message().await.unwrap(), word);
    }
    let error = stream.recv_message().await.unwrap_err();
    assert!(is_reset(&error), "{error}");
}

/// Not a datagram of the old session reaches it that it would take for an answer to its own data.
#[tokio::test(start_paused = true)]
async fn a_stock_client_that_comes_back_is_served() {
    for words in [1, 40] {
        for in_flight in [false, true] {
            let net = Net::clean();
            let server = net.endpoint(SERVER, turbo());
            let old = crashed_stock_client(&net, &server).await;
            if in_flight {
                old.send(b"for the old one").await.unwrap();
                // Between two retransmissions: the una of one that is on its way would tell the new
                // client that its first data has arrived.
                sleep(secs(2)).await;
            }
            let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), CONV);
            let start = Instant::now();
            for n in 0..words {
                client.engine.send(format!("new {n}").as_bytes()).unwrap();
            }
            let serving = tokio::spawn(async move {
                let (stream, _) = server.accept().await.unwrap();
                for n in 0..words {
                    let word = stream.recv_message().await.unwrap();
                    assert_eq!(word, format!("new {n}").as_bytes());
                }
                let took = start.elapsed();
                stream.send(b"welcome back").await.unwrap();
                (stream, server, took)
            });
            let answered = |peer: &mut kcp_engine::KcpEngine| peer.peek_size().is_some();
            assert!(client.live(secs(5), answered).await, "{words} {in_flight}");
            let mut answer = [0; 64];
            let len = client.engine.recv(&mut answer).unwrap();
            assert_eq!(&answer[..len], b"welcome back");
            client.live(ms(100), |_| false).await;
            let (_stream, server, took) = serving.await.unwrap();
            assert!(took <= ms(1_500), "{took:?}");
            old_data_and_then_a_reset(&old).await;
            assert_eq!(server.stats().sessions, 1);
        }
    }
}

/// The same with a client of ours, which echoes the question: one answer is enough.
#[tokio::test(start_paused = true)]
async fn our_client_that_comes_back_is_served() {
    for in_flight in [false, true] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, turbo());
        let first = net.endpoint(CLIENT, turbo());
        let client = first
            .connect_with_conv(SERVER, Conv::new(CONV))
            .await
            .unwrap();
        for word in [b"old 0", b"old 1", b"old 2"] {
            client.send(word).await.unwrap();
        }
        let (old, _) = server.accept().await.unwrap();
        old.send(b"welcome").await.unwrap();
        assert_eq!(client.recv_message().await.unwrap(), b"welcome");
        sleep(ms(100)).await;
        // It takes no leave.
        net.cut(CLIENT, SERVER, true);
        client.abort();
        drop((client, first));
        if in_flight {
            old.send(b"for the old one").await.unwrap();
        }
        sleep(secs(2)).await;
        net.cut(CLIENT, SERVER, false);
        let second = net.endpoint(CLIENT, turbo());
        let client = second
            .connect_with_conv(SERVER, Conv::new(CONV))
            .await
            .unwrap();
        let start = Instant::now();
        client.send(b"new").await.unwrap();
        let (stream, _) = timeout(secs(5), server.accept()).await.unwrap().unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), b"new");
        assert!(start.elapsed() <= ms(1_000), "{:?}", start.elapsed());
        stream.send(b"welcome back").await.unwrap();
        assert_eq!(client.recv_message().await.unwrap(), b"welcome back");
        old_data_and_then_a_reset(&old).await;
    }
}

/// Copies of the first datagram, fifty a second, beside a live exchange and a live download.
#[tokio::test(start_paused = true)]
async fn a_replayed_first_datagram_stalls_nothing() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let client = net.endpoint(CLIENT, turbo());
    let stream = client
        .connect_with_conv(SERVER, Conv::new(CONV))
        .await
        .unwrap();
    stream.send(b"first").await.unwrap();
    let (peer, _) = server.accept().await.unwrap();
    let replay = net.spoof(CLIENT);
    let attack = tokio::spawn(async move {
        loop {
            replay(addr(SERVER), &segment(CONV, Command::Push, 0, 0, b"first"));
            sleep(ms(20)).await;
        }
    });
    assert_eq!(peer.recv_message().await.unwrap(), b"first");
    let mut slow = 0;
    for n in 0..1_000_u32 {
        let start = Instant::now();
        stream.send(&n.to_le_bytes()).await.unwrap();
        assert_eq!(peer.recv_message().await.unwrap(), n.to_le_bytes());
        peer.send(&n.to_le_bytes()).await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), n.to_le_bytes());
        let took = start.elapsed();
        assert!(took <= ms(60), "{took:?}");
        slow += u32::from(took > ms(21));
        sleep(ms(7)).await;
    }
    assert!(slow <= 20, "{slow} of 1,000 took longer than a round trip");
    // One direction only, from the side that is asked about.
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..2_000 {
            peer.send(&[7; 1_376]).await.unwrap();
        }
        peer
    });
    for _ in 0..2_000 {
        assert_eq!(stream.recv_message().await.unwrap(), [7; 1_376]);
    }
    let disturbed = start.elapsed();
    assert!(disturbed <= secs(1), "{disturbed:?}");
    let peer = sending.await.unwrap();
    assert!(peer.stats().engine.ignored_beginning >= 500);
    assert_eq!(server.stats().sessions, 1);
    attack.abort();
}

/// One late copy on an idle session: one question, one answer.
#[tokio::test(start_paused = true)]
async fn one_late_copy_costs_one_question() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let client = net.endpoint(CLIENT, turbo());
    let stream = client
        .connect_with_conv(SERVER, Conv::new(CONV))
        .await
        .unwrap();
    stream.send(b"first").await.unwrap();
    let (peer, _) = server.accept().await.unwrap();
    peer.send(b"answer").await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"answer");
    sleep(secs(5)).await;
    net.take_sent();
    net.spoof(CLIENT)(addr(SERVER), &segment(CONV, Command::Push, 0, 0, b"first"));
    sleep(secs(20)).await;
    let sent: Vec<_> = net
        .take_sent()
        .iter()
        .map(|sent| headers(&sent.datagram)[0].command().unwrap())
        .collect();
    assert_eq!(sent, [Command::Wask, Command::Wins]);
    assert_eq!(peer.stats().engine.ignored_beginning, 1);
}

/// A client of an application that never answers: nothing of ours was ever acknowledged. The second
/// attempt that begins with sn 0 ends the old session.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_never_answered_gets_in_with_its_second_attempt() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let mut first = StockPeer::new(net.raw(CLIENT), addr(SERVER), CONV);
    first.engine.send(b"old").unwrap();
    first.live(secs(1), |_| false).await;
    let (old, _) = server.accept().await.unwrap();
    sleep(secs(60)).await;
    for attempt in 0..2 {
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), CONV);
        client.engine.send(b"new").unwrap();
        client.live(secs(10), |_| false).await;
        assert_eq!(server.stats().accepted, 1 + attempt);
    }
    let (new, _) = server.accept().await.unwrap();
    assert_eq!(new.recv_message().await.unwrap(), b"new");
    assert_eq!(old.recv_message().await.unwrap(), b"old");
    assert!(is_reset(&old.recv_message().await.unwrap_err()));
}

/// protocol.md 12.8: repetitions alone do not put off the idle timeout.
#[tokio::test(start_paused = true)]
async fn repetitions_keep_no_session_alive() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo().idle_timeout(Some(secs(60))));
    let raw = net.raw(CLIENT);
    for sn in 0..2 {
        raw.send(addr(SERVER), &segment(CONV, Command::Push, sn, 0, b"data"));
    }
    let (stream, _) = server.accept().await.unwrap();
    let start = Instant::now();
    while stream.close_reason().is_none() {
        raw.send(addr(SERVER), &segment(CONV, Command::Push, 1, 0, b"data"));
        sleep(ms(500)).await;
        assert!(start.elapsed() < Duration::from_secs(70));
    }
    assert_eq!(stream.close_reason(), Some(ConnectionError::Idle));
}
