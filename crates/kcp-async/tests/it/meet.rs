//! Endpoints that accept and connect to each other (`docs/protocol.md` 13.5).

use std::io;
use std::sync::{Arc, Mutex};

use kcp_async::{Conv, EndpointConfig, KcpConfig, KcpEndpoint};
use kcp_engine::Command;
use kcp_netem::LinkConfig;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::net::{CLIENT, Net, SERVER, addr, ms, secs, segment, sleep};

const CONV: Conv = Conv::new(42);

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

/// Accepts everything and keeps each message that comes.
fn collect(endpoint: &KcpEndpoint) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let endpoint = endpoint.clone();
    let messages = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&messages);
    tokio::spawn(async move {
        while let Ok((stream, _)) = endpoint.accept().await {
            while let Ok(message) = stream.recv_message().await {
                if message.is_empty() {
                    break;
                }
                kept.lock().unwrap().push(message);
            }
        }
    });
    messages
}

/// The second side connects before or after it has acknowledged the data of the first one. It came through
/// `accept` or through the stream that connected; it was never acknowledged and lost.
#[tokio::test(start_paused = true)]
async fn a_connect_beside_a_session_loses_nothing() {
    for rtt in [20, 200, 800] {
        let moments = [
            0,
            rtt / 4,
            rtt / 2 + 1,
            rtt,
            rtt + 100,
            rtt + 300,
            rtt + 2_000,
        ];
        for after in moments {
            let net = Net::new(LinkConfig::new().delay(ms(rtt / 2)), 1);
            let (left, right) = (net.endpoint(CLIENT, turbo()), net.endpoint(SERVER, turbo()));
            let accepted = collect(&right);
            let mut one = left.connect_with_conv(SERVER, CONV).await.unwrap();
            one.send(b"important").await.unwrap();
            sleep(ms(after)).await;
            let other = right.connect_with_conv(CLIENT, CONV).await;
            one.send(b"more").await.unwrap();
            one.shutdown().await.unwrap();
            let mut got = accepted.lock().unwrap().clone();
            match other {
                Ok(other) => {
                    got.push(other.recv_message().await.unwrap());
                    got.push(other.recv_message().await.unwrap());
                }
                Err(error) => assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse),
            }
            let all = [b"important".to_vec(), b"more".to_vec()];
            assert_eq!(got, all, "RTT {rtt} ms, after {after} ms");
        }
    }
}

/// The path carries nothing for a third of a second.
#[tokio::test(start_paused = true)]
async fn a_lost_question_about_a_session_is_asked_again() {
    let net = Net::clean();
    let (left, right) = (net.endpoint(CLIENT, turbo()), net.endpoint(SERVER, turbo()));
    let accepted = collect(&right);
    let one = left.connect_with_conv(SERVER, CONV).await.unwrap();
    one.send(b"important").await.unwrap();
    sleep(ms(25)).await;
    net.cut(CLIENT, SERVER, true);
    let healing = net.clone();
    tokio::spawn(async move {
        sleep(ms(350)).await;
        healing.cut(CLIENT, SERVER, false);
    });
    let error = right.connect_with_conv(CLIENT, CONV).await.unwrap_err();
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
    assert_eq!(*accepted.lock().unwrap(), [b"important"]);
}

/// A forged first datagram in the name of the peer: no one answers the question about it, and the connect goes on.
#[tokio::test(start_paused = true)]
async fn a_forged_session_delays_a_connect_by_a_second() {
    for forged_each in [None, Some(100)] {
        let net = Net::clean();
        let (left, right) = (net.endpoint(CLIENT, turbo()), net.endpoint(SERVER, turbo()));
        let messages = collect(&left);
        let forged = segment(CONV.get(), Command::Push, 0, 0, b"x");
        let spoof = net.spoof(CLIENT);
        spoof(addr(SERVER), &forged);
        sleep(ms(50)).await;
        assert_eq!(right.stats().sessions, 1);
        let again = tokio::spawn(async move {
            while let Some(each) = forged_each {
                sleep(ms(each)).await;
                spoof(addr(SERVER), &forged);
            }
        });
        let start = Instant::now();
        let stream = right.connect_with_conv(CLIENT, CONV).await.unwrap();
        let took = start.elapsed();
        assert!((ms(999)..=ms(1_001)).contains(&took), "{took:?}");
        stream.send(b"hello").await.unwrap();
        sleep(secs(1)).await;
        assert_eq!(*messages.lock().unwrap(), [b"hello"]);
        again.abort();
    }
}

/// A session in the way that ends is waited for no longer.
#[tokio::test(start_paused = true)]
async fn a_connect_waits_for_no_session_that_ends() {
    let net = Net::clean();
    let right = net.endpoint(SERVER, turbo());
    let forged = segment(CONV.get(), Command::Push, 0, 0, b"x");
    net.spoof(CLIENT)(addr(SERVER), &forged);
    let (stream, _) = right.accept().await.unwrap();
    tokio::spawn(async move {
        sleep(ms(300)).await;
        stream.abort();
    });
    let start = Instant::now();
    right.connect_with_conv(CLIENT, CONV).await.unwrap();
    let took = start.elapsed();
    assert!((ms(299)..=ms(301)).contains(&took), "{took:?}");
}
