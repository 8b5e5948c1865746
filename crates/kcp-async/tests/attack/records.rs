//! TIME-WAIT records of forged sessions (`docs/protocol.md` 12.3).

use std::sync::{Arc, Mutex};

use kcp_async::{Conv, EndpointConfig, KcpEndpoint};
use kcp_engine::Command;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::net::{CLIENT, Net, SERVER, addr, ms, secs, segment, sleep};
use crate::wire::{Wire, echo, figure, opener, scattered, turbo};

type Messages = Arc<Mutex<Vec<Vec<u8>>>>;

/// Accepts everything and keeps the first message of each session that is not forged. It answers, and
/// waits for the end, or drops the session at once.
fn cashier(server: &KcpEndpoint, answers: bool) -> Messages {
    let server = server.clone();
    let messages = Messages::default();
    let kept = Arc::clone(&messages);
    tokio::spawn(async move {
        while let Ok((stream, _)) = server.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let Ok(message) = stream.recv_message().await else {
                    return;
                };
                if message != b"x" {
                    kept.lock().unwrap().push(message);
                }
                if answers && stream.send(b"done").await.is_ok() {
                    let _ = stream.recv_message().await;
                }
            });
        }
    });
    messages
}

/// An honest client pays and closes in order; a copy of its first datagram comes 9 s later.
async fn pay_beside_forged_sessions(honest: &str, answers: bool, datagrams: u32) {
    let net = Net::clean();
    let (server, wire) = Wire::server(&net, turbo());
    let paid = cashier(&server, answers);
    wire.admit(addr(honest));
    let mut n = 0;
    let mut tenth = async |wire: &Wire| {
        for sn in 0..datagrams {
            let forged = |k| (scattered(k), segment(k + 1, Command::Push, sn, 0, b"x"));
            wire.flood((n..n + 100).map(forged)).await;
            sleep(ms(100 / u64::from(datagrams))).await;
        }
        n += 100;
    };
    // The first of them are over after 10 s.
    for _ in 0..120 {
        tenth(&wire).await;
    }
    let client = net.endpoint(honest, turbo());
    let mut stream = client.connect(SERVER).await.unwrap();
    let conv = stream.conv().get();
    stream.send(b"pay 100").await.unwrap();
    if answers {
        assert_eq!(stream.recv_message().await.unwrap(), b"done");
    }
    stream.shutdown().await.unwrap();
    for _ in 0..90 {
        tenth(&wire).await;
    }
    let copy = segment(conv, Command::Push, 0, 0, b"pay 100");
    net.spoof(honest)(addr(SERVER), &copy);
    sleep(secs(1)).await;
    let paid = paid.lock().unwrap().len();
    assert_eq!(
        paid, 1,
        "{honest}, answers: {answers}, {datagrams} datagrams"
    );
}

#[tokio::test(start_paused = true)]
async fn forged_sessions_push_out_no_record() {
    for (honest, answers, datagrams) in [
        ("1.2.3.4:9", true, 1),
        ("203.0.113.5:9", true, 1),
        ("203.0.113.5:9", true, 2),
        ("203.0.113.5:9", false, 1),
    ] {
        pay_beside_forged_sessions(honest, answers, datagrams).await;
    }
    figure(
        "1,000 forged first datagrams/s: a late copy of an honest client's first datagram",
        "delivered once",
        "twice",
    );
}

/// A forged first datagram in the name of a client, whose session is over when the client comes: under
/// a fixed conv, under conv 0, with two datagrams.
#[tokio::test(start_paused = true)]
async fn a_forged_session_that_is_over_keeps_no_client_out() {
    for (from, at) in [
        (CLIENT, SERVER),
        ("[2001:db8::2]:7", "[2001:db8:ffff::1]:4000"),
    ] {
        for (conv, datagrams) in [(5, 1), (5, 2), (0, 1)] {
            let net = Net::clean();
            let server = net.endpoint(at, turbo());
            echo(&server);
            for sn in 0..datagrams {
                let forged = segment(conv, Command::Push, sn, 0, b"x");
                net.spoof(from)(addr(at), &forged);
                sleep(ms(15)).await;
            }
            sleep(ms(10_300)).await;
            assert_eq!(server.stats().sessions, 0);
            if conv == 0 {
                let raw = net.raw(from);
                raw.send(addr(at), &segment(0, Command::Push, 0, 0, b"hello"));
                assert!(raw.recv_within(ms(100)).await.is_some(), "{from}");
                continue;
            }
            let client = net.endpoint(from, turbo());
            let opened = client.connect_with_conv(at, Conv::new(conv)).await;
            let stream = opened.unwrap();
            stream.send(b"hello").await.unwrap();
            let answer = timeout(ms(500), stream.recv_message()).await;
            assert_eq!(answer.unwrap().unwrap(), b"hello", "{from}");
        }
    }
}

/// The same towards a peer that this side connects to, the application having closed the session.
#[tokio::test(start_paused = true)]
async fn a_forged_session_that_is_over_keeps_no_connect_out() {
    const PEER: &str = "10.7.7.7:7";
    let net = Net::clean();
    let peer = net.endpoint(PEER, turbo());
    echo(&peer);
    let server = net.endpoint(SERVER, turbo());
    net.spoof(PEER)(addr(SERVER), &opener(5));
    let (forged, _) = server.accept().await.unwrap();
    drop(forged);
    while server.stats().sessions > 0 {
        sleep(ms(100)).await;
    }
    assert_eq!(server.stats().time_wait, 1);
    let stream = server.connect_with_conv(PEER, Conv::new(5)).await.unwrap();
    stream.send(b"hello").await.unwrap();
    let answer = timeout(ms(500), stream.recv_message()).await;
    assert_eq!(answer.unwrap().unwrap(), b"hello");
}

/// A stock client whose only datagram the application reads, and closes.
#[tokio::test(start_paused = true)]
async fn a_late_copy_of_an_unvalidated_client_opens_nothing() {
    let net = Net::clean();
    let config: EndpointConfig = turbo();
    let server = net.endpoint(SERVER, config);
    let paid = cashier(&server, false);
    let copy = segment(5, Command::Push, 0, 0, b"pay 100");
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &copy);
    for _ in 0..9 {
        sleep(secs(1)).await;
        raw.send(addr(SERVER), &copy);
    }
    sleep(ms(15)).await;
    assert_eq!(paid.lock().unwrap().len(), 1);
}
