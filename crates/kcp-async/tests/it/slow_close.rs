//! Closes that take their time, and those that are given up (`docs/protocol.md` 12.9).

use std::time::Duration;

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpError, KcpStream, TimeoutError};
use kcp_engine::Command;
use kcp_netem::{Bitrate, LinkConfig, Loss, Probability, Queue};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::net::{
    CLIENT, Net, Pair, SERVER, StockPeer, addr, bytes, headers, ms, pair, pair_acquainted, secs,
    sleep,
};

fn turbo() -> EndpointConfig {
    EndpointConfig::from(KcpConfig::turbo_mode()).send_queue_limit(Some(1 << 20))
}

/// How a direction is ended.
#[derive(Clone, Copy, Debug)]
enum How {
    Shutdown,
    DropStream,
    DropWriteHalf,
}

const WAYS: [How; 3] = [How::Shutdown, How::DropStream, How::DropWriteHalf];

async fn write_and_close(mut stream: KcpStream, data: Vec<u8>, how: How) {
    stream.write_all(&data).await.unwrap();
    match how {
        How::Shutdown => stream.shutdown().await.unwrap(),
        How::DropStream => drop(stream),
        How::DropWriteHalf => {
            let (mut read, write) = stream.into_split();
            drop(write);
            let _ = read.recv_message().await;
        }
    }
}

/// Whole, or what was read before the error.
async fn read_all(stream: &KcpStream) -> Result<Vec<u8>, (usize, KcpError)> {
    let mut all = Vec::new();
    let mut part = vec![0; 65_536];
    loop {
        match stream.recv(&mut part).await {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend_from_slice(&part[..count]),
            Err(error) => return Err((all.len(), error)),
        }
    }
}

fn is_reset(error: &KcpError) -> bool {
    matches!(error, KcpError::Connection(ConnectionError::Reset))
}

async fn fails_with_reset(stream: &KcpStream, within: Duration) {
    let reading = tokio::time::timeout(within, read_all(stream));
    let (_, error) = reading.await.expect("no error in time").unwrap_err();
    assert!(is_reset(&error), "{error}");
}

/// A reader that begins after the linger time: 350,880 of 600,000 bytes had arrived.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything() {
    for how in WAYS {
        for from_server in [false, true] {
            let net = Net::clean();
            let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
            // Live streams do not need the listener.
            drop((pair.server_endpoint, pair.client_endpoint));
            let (writer, reader) = match from_server {
                false => (pair.client, pair.server),
                true => (pair.server, pair.client),
            };
            let closing = tokio::spawn(write_and_close(writer, bytes(600_000), how));
            sleep(secs(8)).await;
            let all = read_all(&reader).await.unwrap();
            assert!(all == bytes(600_000), "{how:?} {from_server}");
            drop(reader);
            closing.await.unwrap();
        }
    }
}

/// The same towards a stock peer whose window is closed.
#[tokio::test(start_paused = true)]
async fn a_slow_stock_reader_gets_everything() {
    for how in WAYS {
        let net = Net::clean();
        let endpoint = net.endpoint(CLIENT, turbo());
        let stream = endpoint.connect(SERVER).await.unwrap();
        let mut peer = StockPeer::new(net.raw(SERVER), addr(CLIENT), stream.conv().get());
        let closing = tokio::spawn(write_and_close(stream, bytes(600_000), how));
        peer.live(secs(8), |_| false).await;
        let mut received = Vec::new();
        let whole = peer
            .live(secs(60), |engine| {
                let mut part = [0; 4_096];
                while let Ok(count) = engine.read(&mut part) {
                    received.extend_from_slice(&part[..count]);
                }
                received.len() == 600_000
            })
            .await;
        assert!(
            whole && received == bytes(600_000),
            "{how:?}: {}",
            received.len()
        );
        peer.live(secs(1), |_| false).await;
        if !matches!(how, How::DropWriteHalf) {
            closing.await.unwrap();
            assert_eq!(endpoint.stats().sessions, 0);
        }
        assert_eq!(close_frames(&net, CLIENT), 0);
    }
}

/// 256 kbit/s: 63,296 of 300,000 bytes had arrived.
#[tokio::test(start_paused = true)]
async fn a_slow_link_carries_everything() {
    for how in WAYS {
        let rate = Bitrate::kbit(256);
        let link = LinkConfig::new()
            .delay(ms(20))
            .bottleneck(rate, Queue::Bytes(1 << 20));
        let net = Net::new(link, 0);
        let Pair { client, server, .. } = pair_acquainted(&net, &turbo(), &turbo()).await;
        let closing = tokio::spawn(write_and_close(client, bytes(300_000), how));
        let all = read_all(&server).await.unwrap();
        assert!(all == bytes(300_000), "{how:?}");
        drop(server);
        closing.await.unwrap();
    }
}

/// Questions and answers are lost too; a reader that lives is heard often enough.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_behind_a_lossy_link_gets_everything() {
    for seed in 0..10 {
        let loss = Loss::Bernoulli(Probability::percent(20));
        let net = Net::new(LinkConfig::new().delay(ms(30)).loss(loss), seed);
        let Pair { client, server, .. } = pair(&net, turbo()).await;
        let closing = tokio::spawn(write_and_close(client, bytes(600_000), How::Shutdown));
        sleep(secs(40)).await;
        let all = read_all(&server).await.unwrap();
        assert!(all == bytes(600_000), "seed {seed}");
        closing.await.unwrap();
    }
}

/// However short the linger time is, it ends once and for all.
#[tokio::test(start_paused = true)]
async fn a_tiny_linger_ends_at_once() {
    for nanos in [0, 1, 1_000, 7_000, 1_000_000] {
        for drops in [false, true] {
            let net = Net::clean();
            let config = turbo().linger(Duration::from_nanos(nanos));
            let pair = pair_acquainted(&net, &config, &turbo()).await;
            let mut client = pair.client;
            client.write_all(b"given up").await.unwrap();
            if drops {
                drop(client);
            } else {
                client.shutdown().await.unwrap_err();
            }
            sleep(ms(5)).await;
            assert_eq!(pair.client_endpoint.stats().sessions, 0);
            // The FIN may have left before.
            if let Ok(all) = read_all(&pair.server).await {
                assert_eq!(all, b"given up");
            }
            assert_eq!(
                error_of(&pair.server, secs(1)).await,
                ConnectionError::Reset
            );
        }
    }
}

/// Why a session has ended, once it has.
async fn error_of(stream: &KcpStream, within: Duration) -> ConnectionError {
    sleep(within).await;
    stream.close_reason().expect("it goes on")
}

/// A reader that never reads: the close ends when nothing more has been acknowledged for its time, and
/// the peer learns of it.
#[tokio::test(start_paused = true)]
async fn a_close_that_stalls_ends() {
    for stall in [secs(60), secs(3)] {
        let net = Net::clean();
        let config = turbo().close_stall_timeout(stall);
        let Pair {
            mut client,
            server,
            client_endpoint,
            ..
        } = pair_acquainted(&net, &config, &config).await;
        client.write_all(&bytes(600_000)).await.unwrap();
        let start = Instant::now();
        let error = client.shutdown().await.unwrap_err();
        let took = start.elapsed();
        assert!((stall..stall + secs(1)).contains(&took), "{took:?}");
        let inner = error.get_ref().unwrap().downcast_ref::<KcpError>().unwrap();
        let expected = matches!(inner, KcpError::Timeout(TimeoutError::CloseStall));
        assert!(expected, "{error}");
        assert_eq!(client.close_reason(), Some(ConnectionError::CloseStalled));
        fails_with_reset(&server, secs(1)).await;
        assert_eq!(client_endpoint.stats().sessions, 0);
    }
}

/// A round trip of 20 s, of an outage, makes an RTO of 60 s. What is lost then is sent again when the peer's
/// next answer shows that it is missing: an upload waited for 60 s, and a close was given up before. Either side,
/// messages and bytes.
#[tokio::test(start_paused = true)]
async fn what_is_lost_after_an_outage_is_not_waited_for_by_its_time_out() {
    for config in [
        turbo(),
        KcpConfig::normal().into(),
        KcpConfig::file_transfer().into(),
    ] {
        for (from_server, closes) in [(false, false), (false, true), (true, false), (true, true)] {
            let net = Net::clean();
            let pair = pair_acquainted(&net, &config, &config).await;
            let (mut from, to) = match from_server {
                true => (pair.server, pair.client),
                false => (pair.client, pair.server),
            };
            sleep(secs(1)).await;
            from.send(b"under way").await.unwrap();
            sleep(ms(1)).await;
            tokio::time::advance(secs(20)).await;
            assert_eq!(to.recv_message().await.unwrap(), b"under way");
            sleep(secs(1)).await;
            assert!(from.stats().engine.rto > secs(10), "{:?}", from.stats());
            net.cut(CLIENT, SERVER, true);
            let start = Instant::now();
            if !closes {
                from.send(b"lost").await.unwrap();
                sleep(ms(100)).await;
                net.cut(CLIENT, SERVER, false);
                assert_eq!(to.recv_message().await.unwrap(), b"lost");
                assert!(start.elapsed() < secs(5), "{:?}", start.elapsed());
                continue;
            }
            let heal = async {
                sleep(ms(100)).await;
                net.cut(CLIENT, SERVER, false);
            };
            let (closed, ()) = tokio::join!(from.shutdown(), heal);
            closed.unwrap();
            assert!(start.elapsed() < secs(5), "{:?}", start.elapsed());
        }
    }
}

/// What the peer's engine has acknowledged is the peer's business, read or not.
#[tokio::test(start_paused = true)]
async fn an_unread_end_is_an_end() {
    let net = Net::clean();
    let Pair {
        mut client, server, ..
    } = pair_acquainted(&net, &turbo(), &turbo()).await;
    client.write_all(&bytes(100_000)).await.unwrap();
    client.shutdown().await.unwrap();
    drop(client);
    sleep(secs(3_600)).await;
    assert!(read_all(&server).await.unwrap() == bytes(100_000));
}

/// A peer that vanishes during the close is waited for from when it was last heard.
#[tokio::test(start_paused = true)]
async fn a_vanished_peer_ends_the_close() {
    for (dead, expected) in [(secs(30), secs(5)), (secs(2), secs(2))] {
        for drops in [false, true] {
            let net = Net::clean();
            let config = turbo().dead_peer_timeout(Some(dead));
            let pair = pair_acquainted(&net, &config, &config).await;
            let mut client = pair.client;
            client.write_all(&bytes(600_000)).await.unwrap();
            let closing = tokio::spawn(async move {
                if drops {
                    drop(client);
                    return Ok(());
                }
                client.shutdown().await
            });
            // The window is closed, the peer answers.
            sleep(secs(20)).await;
            assert_eq!(pair.client_endpoint.stats().sessions, 1);
            net.cut(CLIENT, SERVER, true);
            let start = Instant::now();
            while pair.client_endpoint.stats().sessions > 0 {
                sleep(ms(10)).await;
            }
            let took = start.elapsed();
            // It was last heard up to an eighth of the linger time before.
            let range = expected - ms(700)..expected + ms(700);
            assert!(range.contains(&took), "{dead:?} {drops}: {took:?}");
            assert_eq!(closing.await.unwrap().is_ok(), drops);
        }
    }
}

/// The ways to give a session up, after which the peer's reader fails at once although it has nothing
/// to send.
#[derive(Clone, Copy, Debug)]
enum GivenUp {
    Abort,
    NoLinger,
    LingerOver,
    Idle,
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_told_that_its_session_was_given_up() {
    for way in [
        GivenUp::Abort,
        GivenUp::NoLinger,
        GivenUp::LingerOver,
        GivenUp::Idle,
    ] {
        for from_server in [false, true] {
            for accepts in [true, false] {
                let net = Net::clean();
                let config = match way {
                    GivenUp::NoLinger => turbo().linger(Duration::ZERO),
                    GivenUp::Idle => turbo().idle_timeout(Some(secs(10))),
                    _ => turbo(),
                };
                let (ours, theirs) = (&config, &turbo());
                let pair = match from_server {
                    true => pair_acquainted(&net, theirs, ours).await,
                    false => pair_acquainted(&net, ours, theirs).await,
                };
                let endpoints = (pair.server_endpoint, pair.client_endpoint);
                // A socket that makes no sessions stays only as long as this takes.
                let endpoints = accepts.then_some(endpoints);
                let (giver, reader) = match from_server {
                    true => (pair.server, pair.client),
                    false => (pair.client, pair.server),
                };
                sleep(secs(3)).await;
                give_up(&net, giver, way).await;
                fails_with_reset(&reader, secs(1)).await;
                drop(endpoints);
            }
        }
    }
}

async fn give_up(net: &Net, mut stream: KcpStream, way: GivenUp) {
    match way {
        GivenUp::Abort => stream.abort(),
        GivenUp::NoLinger => drop(stream),
        GivenUp::LingerOver => {
            stream.write_all(b"lost").await.unwrap();
            net.cut(CLIENT, SERVER, true);
            stream.shutdown().await.unwrap_err();
            // Of three, one RTO apart, the last arrives.
            sleep(stream.stats().engine.rto * 3 / 2).await;
            net.cut(CLIENT, SERVER, false);
        }
        GivenUp::Idle => {
            stream.recv_message().await.unwrap_err();
        }
    }
}

/// The peer's address is not validated yet, because nothing was ever sent to it.
#[tokio::test(start_paused = true)]
async fn an_aborted_upload_is_over_for_its_reader() {
    let net = Net::clean();
    let Pair { client, server, .. } = pair(&net, turbo()).await;
    sleep(ms(100)).await;
    assert!(!server.stats().proven);
    client.abort();
    fails_with_reset(&server, secs(1)).await;
}

/// protocol.md 12.4: a stock peer is told nothing, whatever the reason.
#[tokio::test(start_paused = true)]
async fn a_stock_peer_is_told_nothing() {
    let net = Net::clean();
    let endpoint = net.endpoint(CLIENT, turbo());
    let stream = endpoint.connect(SERVER).await.unwrap();
    let mut peer = StockPeer::new(net.raw(SERVER), addr(CLIENT), stream.conv().get());
    stream.send(b"hello").await.unwrap();
    peer.live(secs(1), |_| false).await;
    stream.abort();
    peer.live(secs(2), |_| false).await;
    assert_eq!(close_frames(&net, CLIENT), 0);
    assert_eq!(endpoint.stats().sessions, 0);
}

/// FINs and RSTs that this side sent.
fn close_frames(net: &Net, from: &str) -> usize {
    let sent = net.take_sent();
    let ours = sent.iter().filter(|sent| sent.from == addr(from));
    ours.flat_map(|sent| headers(&sent.datagram))
        .filter(|header| header.cmd >= Command::Fin.to_wire())
        .count()
}
