//! Accepted sessions whose peer's address is not validated: what their writers may hand over, and
//! how long they live (`docs/protocol.md` 11.3, 11.4).

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpError, KcpStream};
use kcp_engine::{Command, KcpEngine};
use kcp_netem::{LinkConfig, Loss, Probability};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::net::{
    CLIENT, Net, SERVER, StockPeer, addr, bytes, ms, pair, pair_of, secs, segment, sleep,
};

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

/// Three times the 25 bytes of the only datagram, and 4 KiB.
const FORGED_LIMIT: usize = 131 + 4_096;

/// A session made by one datagram from an address that never answers.
async fn forged(config: EndpointConfig) -> (Net, KcpStream) {
    let net = Net::clean();
    let server = net.endpoint(SERVER, config);
    net.spoof(CLIENT)(addr(SERVER), &segment(5, Command::Push, 0, 0, b"?"));
    let (stream, _) = server.accept().await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"?");
    (net, stream)
}

fn is_unvalidated(error: &KcpError) -> bool {
    matches!(error, KcpError::Connection(ConnectionError::Unproven))
}

/// protocol.md 11.3: whatever the application writes with, a forged datagram costs a few KiB.
#[tokio::test(start_paused = true)]
async fn a_forged_datagram_makes_writers_wait_at_a_few_kib() {
    let stream_mode = EndpointConfig::from(KcpConfig::file_transfer());
    let huge = EndpointConfig::from(KcpConfig::file_transfer().mtu(65_507));
    let roomy = turbo().send_queue_limit(Some(10 << 20));
    for config in [turbo(), stream_mode, roomy, huge] {
        // Messages, short and long.
        for size in [100, 1_376, 60_000] {
            let (_net, stream) = forged(config.clone()).await;
            let start = Instant::now();
            let error = loop {
                if let Err(error) = stream.send(&bytes(size)).await {
                    break error;
                }
                let held = stream.stats().engine.unacknowledged_bytes;
                assert!(held <= FORGED_LIMIT, "{held} bytes in messages of {size}");
            };
            assert!(is_unvalidated(&error), "{error}");
            let took = start.elapsed();
            assert!((secs(10)..ms(11_100)).contains(&took), "{took:?}");
        }
        // Bytes, through both kinds of halves.
        let (_net, mut stream) = forged(config.clone()).await;
        let (_read, mut write) = stream.split();
        let data = bytes(10_000_000);
        assert!(timeout(secs(5), write.write_all(&data)).await.is_err());
        let held = stream.stats().engine.unacknowledged_bytes;
        assert!(held <= FORGED_LIMIT, "{held}");
        let (read, mut write) = stream.into_split();
        let error = write.write_all(&data).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(read.stats().engine.unacknowledged_bytes <= FORGED_LIMIT);
    }
}

/// A limit below that stays what it is.
#[tokio::test(start_paused = true)]
async fn a_small_queue_limit_holds_before_the_validation_too() {
    let (_net, stream) = forged(turbo().send_queue_limit(Some(10))).await;
    stream.send(&bytes(100)).await.unwrap();
    let second = stream.send(b"y");
    assert!(timeout(secs(5), second).await.is_err());
}

/// A writer that gave up does not end a session that owes nothing.
#[tokio::test(start_paused = true)]
async fn a_writer_that_gave_up_is_not_waited_for() {
    let (_net, stream) = forged(turbo()).await;
    let long = timeout(ms(100), stream.send(&bytes(60_000))).await;
    assert!(long.is_err(), "it waits");
    sleep(secs(60)).await;
    assert_eq!(stream.close_reason(), None);
    stream.send(b"short").await.unwrap();
    sleep(secs(9)).await;
    assert_eq!(stream.close_reason(), None);
    sleep(secs(2)).await;
    assert_eq!(stream.close_reason(), Some(ConnectionError::Unproven));
}

/// Our own client answers the question, a stock one acknowledges the first data: the long first
/// message arrives a round trip later, also in stream mode, where a write is as good.
#[tokio::test(start_paused = true)]
async fn a_long_first_answer_waits_for_a_round_trip() {
    for config in [turbo(), KcpConfig::file_transfer().into()] {
        let net = Net::clean();
        let pair = pair_of(&net, &config, &config).await;
        let start = Instant::now();
        let (mut read, mut write) = (pair.client, pair.server);
        let answer = bytes(100_000);
        write.send(&answer).await.unwrap();
        assert!(start.elapsed() <= ms(41), "{:?}", start.elapsed());
        let mut received = vec![0; answer.len()];
        tokio::io::AsyncReadExt::read_exact(&mut read, &mut received)
            .await
            .unwrap();
        assert!(received == answer);
        write.flush().await.unwrap();
    }
}

/// A stock client shows by acknowledging a challenge that it sees what we send: a long first message, and a
/// stream, arrive without anything that it could acknowledge before.
#[tokio::test(start_paused = true)]
async fn a_long_first_answer_to_a_stock_client_waits_for_a_round_trip() {
    for config in [turbo(), KcpConfig::file_transfer().into()] {
        let net = Net::new(LinkConfig::new().delay(ms(25)), 0);
        let server = net.endpoint(SERVER, config);
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
        client.engine.send(b"?").unwrap();
        let writing = tokio::spawn(async move {
            let (stream, _) = server.accept().await.unwrap();
            let start = Instant::now();
            stream.send(&bytes(150_000)).await.unwrap();
            (stream, start.elapsed())
        });
        let mut received = Vec::new();
        let whole = client
            .live(secs(1), |engine| {
                let mut part = [0; 150_000];
                while let Ok(count) = engine.read(&mut part) {
                    received.extend_from_slice(&part[..count]);
                }
                received.len() == 150_000
            })
            .await;
        assert!(whole && received == bytes(150_000), "{}", received.len());
        // The client acknowledges with its next flush, and is read every 10 ms.
        let (stream, waited) = writing.await.unwrap();
        assert!(waited <= ms(50 + 10 + 10), "{waited:?}");
        assert!(stream.stats().proven);
    }
}

/// Challenges and their answers may be lost: one a second is sent while the writer waits.
#[tokio::test(start_paused = true)]
async fn a_long_first_answer_to_a_stock_client_survives_losses() {
    for seed in 0..100 {
        let link = LinkConfig::new()
            .delay(ms(25))
            .loss(Loss::Bernoulli(Probability::percent(10)));
        let net = Net::new(link, seed);
        let server = net.endpoint(SERVER, turbo());
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
        client.engine.send(b"?").unwrap();
        let writing = tokio::spawn(async move {
            let (stream, _) = server.accept().await.unwrap();
            stream.send(&bytes(150_000)).await.map(|()| stream)
        });
        let whole = |engine: &mut KcpEngine| engine.peek_size() == Some(150_000);
        assert!(client.live(secs(20), whole).await, "seed {seed}");
        writing.await.unwrap().unwrap();
    }
}

/// `send` is all or nothing: what is given up while it waits for the validation, or for room, never arrives in
/// part, and nothing else is lost or moved by it.
#[tokio::test(start_paused = true)]
async fn sends_that_are_given_up_break_no_framing() {
    let mut arrived = 0;
    for seed in 0..40 {
        let link = LinkConfig::new()
            .delay(ms(25))
            .loss(Loss::Bernoulli(Probability::percent(10)));
        let net = Net::new(link, seed);
        let server = net.endpoint(SERVER, turbo());
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
        client.engine.send(b"?").unwrap();
        let writing = tokio::spawn(async move {
            let (stream, _) = server.accept().await.unwrap();
            let mut sent = Vec::new();
            for n in 0..20_u64 {
                let draw = (seed * 20 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let mut message = bytes(1 + draw as usize % 120_000);
                message[0] = n as u8;
                let patience = ms(draw % 61);
                if let Ok(result) = timeout(patience, stream.send(&message)).await {
                    result.unwrap();
                    sent.push(message);
                }
            }
            stream.send(b"last").await.unwrap();
            sent.push(b"last".to_vec());
            (stream, sent)
        });
        let mut received: Vec<Vec<u8>> = Vec::new();
        let all = client
            .live(secs(60), |engine| {
                while let Some(len) = engine.peek_size() {
                    let mut message = vec![0; len];
                    engine.recv(&mut message).unwrap();
                    received.push(message);
                }
                received.last().is_some_and(|message| message == b"last")
            })
            .await;
        assert!(all, "seed {seed}: {} messages", received.len());
        let (_stream, sent) = writing.await.unwrap();
        assert!(
            received == sent,
            "seed {seed}: {} of {}",
            received.len(),
            sent.len()
        );
        arrived += received.len();
    }
    // Of 21 each.
    assert!((41..40 * 21).contains(&arrived), "{arrived}");
}

/// The connecting side chose its peer.
#[tokio::test(start_paused = true)]
async fn the_connecting_side_waits_for_no_validation() {
    let net = Net::clean();
    let endpoint = net.endpoint(CLIENT, turbo());
    let stream = endpoint.connect(SERVER).await.unwrap();
    stream.send(&bytes(100_000)).await.unwrap();
    assert_eq!(stream.stats().engine.unacknowledged_bytes, 100_000);
}

/// protocol.md 11.4: a client of stock KCP that only sends, with an application that never answers.
#[tokio::test(start_paused = true)]
async fn a_stock_sensor_delivers_for_ever() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let mut sensor = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
    sensor.engine.send(b"0").unwrap();
    sensor.live(ms(100), |_| false).await;
    let (stream, _) = server.accept().await.unwrap();
    for n in 0..40_u32 {
        if n > 0 {
            sensor.engine.send(n.to_string().as_bytes()).unwrap();
        }
        sensor.live(ms(100), |_| false).await;
        assert_eq!(
            stream.recv_message().await.unwrap(),
            n.to_string().as_bytes()
        );
        // Asleep, it neither sends nor answers; now and then for minutes.
        sensor.mute = n % 2 == 0;
        let pause = if n % 10 == 9 { secs(240) } else { secs(15) };
        sensor.live(pause, |_| false).await;
        sensor.mute = false;
    }
    assert!(stream.stats().proven, "by a challenge");
    assert_eq!(server.stats().sessions, 1);
    // And the one answer after all that gets through.
    stream.send(b"enough").await.unwrap();
    assert!(
        sensor
            .live(secs(5), |peer| peer.peek_size() == Some(6))
            .await
    );
    sensor.live(ms(100), |_| false).await;
    assert!(stream.stats().proven);
}

/// The same with a client of ours whose network is away in the pauses.
#[tokio::test(start_paused = true)]
async fn a_client_that_only_sends_outlives_outages_between_its_data() {
    let net = Net::clean();
    let pair = pair(&net, turbo()).await;
    for _ in 0..5 {
        net.cut(CLIENT, SERVER, true);
        sleep(secs(120)).await;
        net.cut(CLIENT, SERVER, false);
        pair.client.send(b"next").await.unwrap();
        assert_eq!(pair.server.recv_message().await.unwrap(), b"next");
        sleep(ms(300)).await;
    }
}

/// protocol.md 11.4: from the moment that something of ours waits, the time runs, and from no other.
#[tokio::test(start_paused = true)]
async fn an_answer_to_a_forged_address_starts_the_clock() {
    let (_net, stream) = forged(turbo()).await;
    sleep(secs(300)).await;
    assert_eq!(stream.close_reason(), None);
    let start = Instant::now();
    stream.send(b"an answer").await.unwrap();
    let error = stream.recv_message().await.unwrap_err();
    assert!(is_unvalidated(&error), "{error}");
    let took = start.elapsed();
    assert!((secs(10)..ms(10_100)).contains(&took), "{took:?}");
}

/// A session that no one accepts ends after its time, as before.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_accepted_ends_in_ten_seconds() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    net.spoof(CLIENT)(addr(SERVER), &segment(5, Command::Push, 0, 0, b"?"));
    sleep(secs(9)).await;
    assert_eq!(server.stats().waiting, 1);
    sleep(secs(2)).await;
    assert_eq!((server.stats().waiting, server.stats().sessions), (0, 0));
}
