//! Data arrives whole and in order, whatever the link does, and nobody stalls or overflows.

use kcp_async::{BufferError, EndpointConfig, KcpConfig, KcpError};
use kcp_engine::Command;
use kcp_netem::{LinkConfig, Loss, Probability};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::{
    CLIENT, Net, Pair, SERVER, addr, bytes, headers, ms, pair, pair_acquainted, secs, sleep,
};

fn bad_link() -> LinkConfig {
    LinkConfig::new()
        .delay(ms(25))
        .loss(Loss::Bernoulli(Probability::percent(10)))
        .reorder(Probability::percent(5), ms(30))
        .duplicate(Probability::percent(2))
        .corrupt(Probability::percent(0))
}

async fn both_ways(net: &Net, config: KcpConfig, len: usize) {
    let Pair { client, server, .. } = pair(net, config).await;
    let data = bytes(len);
    let run = |mut stream: kcp_async::KcpStream, data: Vec<u8>| async move {
        let (mut read, mut write) = stream.split();
        let writing = async {
            write.write_all(&data).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let reading = read.read_to_end(&mut received);
        let ((), count) = tokio::join!(writing, reading);
        count.unwrap();
        received
    };
    let answer: Vec<u8> = data.iter().rev().copied().collect();
    let (at_client, at_server) =
        tokio::join!(run(client, data.clone()), run(server, answer.clone()));
    assert!(at_server == data && at_client == answer);
}

#[tokio::test(start_paused = true)]
async fn a_bad_link_loses_nothing_in_stream_mode() {
    for seed in 0..5 {
        both_ways(
            &Net::new(bad_link(), seed),
            KcpConfig::file_transfer(),
            500_000,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_link_loses_nothing_in_any_preset() {
    let presets = [
        KcpConfig::normal(),
        KcpConfig::fast_mode(),
        KcpConfig::gaming(),
    ];
    for (seed, preset) in presets.into_iter().enumerate() {
        both_ways(&Net::new(bad_link(), seed as u64), preset, 60_000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_stay_whole_on_a_bad_link() {
    for seed in 10..14 {
        let net = Net::new(bad_link(), seed);
        let Pair { client, server, .. } = pair(&net, KcpConfig::turbo_mode()).await;
        let sizes = [1, 1_375, 1_376, 1_377, 5_000, 100_000, 127 * 1_376, 3];
        let sending = async {
            for size in sizes {
                client.send(&bytes(size)).await.unwrap();
            }
        };
        let receiving = async {
            for size in sizes {
                assert!(
                    server.recv_message().await.unwrap() == bytes(size),
                    "{size} bytes"
                );
            }
        };
        tokio::join!(sending, receiving);
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_sizes_are_refused_and_harm_nothing() {
    let net = Net::clean();
    let Pair { client, server, .. } = pair(&net, KcpConfig::turbo_mode()).await;
    let too_large = vec![0; 127 * 1_376 + 1];
    let error = client.send(&too_large).await.unwrap_err();
    let max = 127 * 1_376;
    assert_eq!(client.max_message_size(), max);
    let size = max + 1;
    assert!(
        matches!(error, KcpError::Buffer(e) if e == BufferError::MessageTooLarge { size, max }),
        "{error}"
    );
    let error = client.send(b"").await.unwrap_err();
    assert!(matches!(error, KcpError::Buffer(BufferError::EmptyMessage)));

    client.send(b"twelve bytes").await.unwrap();
    let error = server.recv(&mut [0; 11]).await.unwrap_err();
    assert!(matches!(
        error,
        KcpError::Buffer(BufferError::TooSmall { needed: 12 })
    ));
    assert_eq!(server.recv(&mut [0; 12]).await.unwrap(), 12);
}

/// design D12: a short read leaves the rest of its message to the next `recv`.
#[tokio::test(start_paused = true)]
async fn reads_go_across_messages() {
    let net = Net::clean();
    let Pair {
        client, mut server, ..
    } = pair(&net, KcpConfig::turbo_mode()).await;
    client.send(b"abc").await.unwrap();
    client.send(b"defg").await.unwrap();
    client.send(b"last").await.unwrap();
    let mut five = [0; 5];
    server.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"abcde");
    assert_eq!(server.recv_message().await.unwrap(), b"fg");
    assert_eq!(server.recv_message().await.unwrap(), b"last");
}

#[tokio::test(start_paused = true)]
async fn writers_wait_when_two_windows_are_queued() {
    let net = Net::clean();
    let config = EndpointConfig::new(KcpConfig::fast_mode().window_size(16, 128));
    let Pair {
        mut client, server, ..
    } = pair(&net, config.clone()).await;
    net.cut(CLIENT, SERVER, true);
    let data = bytes(1_000_000);
    let written = tokio::time::timeout(secs(2), async {
        let mut written = 0;
        loop {
            written += client.write(&data[written..]).await.unwrap();
            assert!(written < 500_000, "no back-pressure");
            if written == data.len() {
                return;
            }
        }
    });
    assert!(written.await.is_err(), "the writer waits");
    let queued = client.stats().engine.unacknowledged_bytes;
    assert_eq!(queued, config.send_queue_bytes());
    assert_eq!(queued, 2 * 16 * 1_376);

    // The link heals, and so does the writer.
    net.cut(CLIENT, SERVER, false);
    tokio::time::timeout(secs(20), client.write_all(&data[..100_000]))
        .await
        .unwrap()
        .unwrap();
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_send_has_sent_nothing_and_a_dropped_recv_has_lost_nothing() {
    let net = Net::clean();
    let config = EndpointConfig::new(KcpConfig::fast_mode().window_size(4, 128))
        .send_queue_limit(Some(4 * 1_376));
    let Pair { client, server, .. } = pair(&net, config).await;
    let mut sent = Vec::new();
    let mut received = Vec::new();
    for n in 0..400_u32 {
        let message = vec![n as u8; 1 + (n as usize * 97) % 4_000];
        // Whether it is in time or dropped, the message went whole or not at all.
        if tokio::time::timeout(ms(u64::from(n % 7)), client.send(&message))
            .await
            .is_ok()
        {
            sent.push(message);
        }
        let receiving = tokio::time::timeout(ms(u64::from(n % 5)), server.recv_message());
        if let Ok(message) = receiving.await {
            received.push(message.unwrap());
        }
    }
    while received.len() < sent.len() {
        received.push(server.recv_message().await.unwrap());
    }
    assert!(
        sent.len() > 50 && sent.len() < 400,
        "{} of 400 sent",
        sent.len()
    );
    assert!(received == sent);
    assert!(
        tokio::time::timeout(secs(5), server.recv_message())
            .await
            .is_err()
    );
}

/// Less than a quarter of the queue is given only to what fits in whole: the rest of a longer write would
/// leave as a train of few datagrams.
#[tokio::test(start_paused = true)]
async fn a_long_write_waits_for_a_quarter_of_the_queue() {
    let net = Net::clean();
    let mtu_1024 = KcpConfig::turbo_mode().mtu(1_024);
    let config = EndpointConfig::new(mtu_1024).send_queue_limit(Some(100_000));
    let Pair {
        mut client, server, ..
    } = pair(&net, config).await;
    net.cut(CLIENT, SERVER, true);
    client.write_all(&vec![1; 74_000]).await.unwrap();
    let long = vec![2; 30_000];
    assert_eq!(client.write(&long).await.unwrap(), 26_000);
    net.cut(CLIENT, SERVER, false);
    sleep(secs(10)).await;

    net.cut(CLIENT, SERVER, true);
    client.write_all(&vec![1; 76_000]).await.unwrap();
    let waiting = tokio::time::timeout(secs(1), client.write(&long)).await;
    assert!(waiting.is_err());
    assert_eq!(client.write(&long[..20_000]).await.unwrap(), 20_000);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_a_limit_takes_everything() {
    let net = Net::clean();
    // Segments of 1,024 bytes, a power of two: rounding the room up to them would wrap to 0.
    let config =
        EndpointConfig::new(KcpConfig::turbo_mode().mtu(1_048)).send_queue_limit(Some(usize::MAX));
    let Pair {
        mut client, server, ..
    } = pair(&net, config).await;
    net.cut(CLIENT, SERVER, true);
    let data = vec![7; 3_000_000];
    assert_eq!(client.write(&data).await.unwrap(), data.len());
    drop(server);
}

/// What was finished takes nothing more, and says so at once, also while the queue is full.
#[tokio::test(start_paused = true)]
async fn a_write_behind_the_end_fails_at_once_on_a_full_queue() {
    let net = Net::clean();
    let config = EndpointConfig::new(KcpConfig::turbo_mode()).send_queue_limit(Some(10_000));
    let Pair {
        mut client, server, ..
    } = pair(&net, config).await;
    net.cut(CLIENT, SERVER, true);
    client.write_all(&[1; 9_000]).await.unwrap();
    let finishing = tokio::time::timeout(ms(1), client.shutdown()).await;
    assert!(finishing.is_err());
    let behind = tokio::time::timeout(ms(1), client.write(&[2; 5_000])).await;
    assert!(behind.expect("it does not wait").is_err());
    let behind = tokio::time::timeout(ms(1), client.send(&[2; 5_000])).await;
    assert!(behind.expect("it does not wait").is_err());
    drop(server);
}

/// The stall of other crates: the reader pauses until the window closes, then goes on. Nothing but
/// the reader's own announcement gets the sender going again quickly.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_goes_on_without_a_stall() {
    for policy in [
        kcp_async::FlushPolicy::Immediate,
        kcp_async::FlushPolicy::Interval,
    ] {
        let net = Net::clean();
        let config = KcpConfig::turbo_mode()
            .window_size(128, 128)
            .flush_policy(policy);
        let Pair {
            client, mut server, ..
        } = pair(&net, config).await;
        let data = bytes(1_000_000);
        let copy = data.clone();
        let mut client = client;
        let writing = tokio::spawn(async move {
            client.write_all(&copy).await.unwrap();
            client.shutdown().await.unwrap();
        });
        sleep(secs(3)).await;
        assert_eq!(
            server.stats().engine.unread_bytes,
            128 * 1_376,
            "the window is closed"
        );
        let start = tokio::time::Instant::now();
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert!(received == data);
        assert!(
            start.elapsed() < secs(1),
            "{:?} at {policy:?}",
            start.elapsed()
        );
        writing.await.unwrap();
    }
}

/// design D6: a full socket is back-pressure, never loss.
#[tokio::test(start_paused = true)]
async fn a_full_socket_delays_and_loses_nothing() {
    let net = Net::clean();
    let Pair {
        client,
        mut server,
        client_endpoint,
        ..
    } = pair(&net, KcpConfig::file_transfer()).await;
    let mut client = client;
    let data = bytes(600_000);
    let copy = data.clone();
    let writing = tokio::spawn(async move {
        client.write_all(&copy).await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    let gate = net.clone();
    let flapping = tokio::spawn(async move {
        for n in 0..200 {
            gate.set_full(addr(CLIENT), n % 2 == 0);
            sleep(ms(3)).await;
        }
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert!(received == data);
    flapping.await.unwrap();
    let client = writing.await.unwrap();
    let stats = client_endpoint.stats();
    assert!(stats.socket_full > 0, "the test filled the socket");
    assert_eq!(
        client.stats().engine.resends(),
        0,
        "nothing was lost: {stats:?}"
    );
    assert_eq!(stats.send_errors, 0);
}

/// A socket may say that it has room and have none, time and again: the train waits, and is not lost.
#[tokio::test(start_paused = true)]
async fn a_socket_that_is_ready_too_often_loses_nothing() {
    let net = Net::clean();
    let Pair {
        client,
        server,
        client_endpoint,
        ..
    } = pair(&net, KcpConfig::turbo_mode()).await;
    sleep(secs(1)).await;
    for hopes in 1..10 {
        net.set_full(addr(CLIENT), true);
        net.raise_false_hopes(hopes);
        client.send(b"refused more than once").await.unwrap();
        let refused = client_endpoint.stats().socket_full;
        sleep(ms(5)).await;
        let again = client_endpoint.stats().socket_full - refused;
        assert_eq!(again, u64::from(hopes), "each hope was tried");
        net.set_full(addr(CLIENT), false);
        assert_eq!(
            server.recv_message().await.unwrap(),
            b"refused more than once"
        );
    }
    assert_eq!(client.stats().engine.resends(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_sends_and_does_nothing() {
    let net = Net::clean();
    let pair = pair(&net, KcpConfig::turbo_mode()).await;
    // The server has sent nothing: it asks for the proof before it is silent too.
    sleep(secs(6)).await;
    net.take_sent();
    sleep(secs(300)).await;
    assert!(net.take_sent().is_empty());
    assert_eq!(pair.client.close_reason(), None);
    assert_eq!(pair.server.close_reason(), None);
}

/// It is real time that it lasts, so virtual time goes on behind it. On a thread of its own, so that
/// a driver that never sleeps fails the test instead of hanging it.
#[test]
fn busy_polling_ends() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let net = Net::clean();
            let config = EndpointConfig::new(KcpConfig::turbo_mode()).busy_poll(ms(1));
            let pair = pair(&net, config).await;
            pair.server.send(b"welcome").await.unwrap();
            assert_eq!(pair.client.recv_message().await.unwrap(), b"welcome");
            sleep(secs(300)).await;
            assert_eq!(pair.client.close_reason(), None);
        });
        done.send(()).unwrap();
    });
    ended.recv_timeout(secs(60)).unwrap();
}

/// protocol.md 11.4: a session in which only one side speaks, and not often.
#[tokio::test(start_paused = true)]
async fn a_session_that_only_receives_outlives_long_pauses() {
    let net = Net::clean();
    let pair = pair(&net, KcpConfig::turbo_mode()).await;
    for _ in 0..3 {
        sleep(secs(60)).await;
        pair.client.send(b"still here").await.unwrap();
        assert_eq!(pair.server.recv_message().await.unwrap(), b"still here");
    }
    assert!(pair.server.stats().proven);
}

#[tokio::test(start_paused = true)]
async fn in_stream_mode_a_send_of_any_size_goes_whole() {
    let net = Net::clean();
    let Pair {
        client, mut server, ..
    } = pair(&net, KcpConfig::file_transfer()).await;
    let data = bytes(1_000_000);
    client.send(b"short").await.unwrap();
    client.send(&data).await.unwrap();
    assert!(client.send(b"").await.is_err());
    let mut received = vec![0; 5 + data.len()];
    server.read_exact(&mut received).await.unwrap();
    assert!(received[5..] == data);
}

/// design D3, D12: at ticks only, unless flushed.
#[tokio::test(start_paused = true)]
async fn flush_does_not_wait_for_the_tick() {
    let net = Net::clean();
    let slow = KcpConfig::turbo_mode()
        .interval(secs(1))
        .flush_policy(kcp_async::FlushPolicy::Interval);
    let slow = EndpointConfig::from(slow);
    let Pair {
        mut client, server, ..
    } = pair_acquainted(&net, &slow, &slow).await;
    sleep(secs(5)).await;
    let mut wait_for = async |flush| {
        sleep(secs(5)).await;
        // A tick is overdue; the next one is a second later.
        client.write_all(b"first").await.unwrap();
        server.recv_message().await.unwrap();
        let start = tokio::time::Instant::now();
        client.write_all(b"second").await.unwrap();
        if flush {
            client.flush().await.unwrap();
        }
        server.recv_message().await.unwrap();
        start.elapsed()
    };
    assert!(wait_for(false).await > ms(900));
    assert_eq!(wait_for(true).await, ms(10));
}

/// protocol.md 7.6: an ACK shares a datagram with the answer, and does not wait for the tick if none comes.
#[tokio::test(start_paused = true)]
async fn acks_wait_for_the_answer_and_no_longer() {
    let net = Net::clean();
    let slow = EndpointConfig::from(KcpConfig::turbo_mode().interval(secs(1)));
    let Pair { client, server, .. } = pair_acquainted(&net, &slow, &slow).await;
    tokio::spawn(async move {
        while let Ok(message) = server.recv_message().await {
            if message == b"question" {
                server.send(b"answer").await.unwrap();
            }
        }
    });
    let server_sends_after = async |message: &[u8]| {
        net.take_sent();
        client.send(message).await.unwrap();
        sleep(ms(15)).await;
        let from_server = net.take_sent().into_iter();
        from_server
            .filter(|sent| sent.from == addr(SERVER))
            .map(|sent| headers(&sent.datagram).iter().map(|h| h.cmd).collect())
            .collect::<Vec<Vec<u8>>>()
    };
    let (ack, data) = (Command::Ack.to_wire(), Command::Push.to_wire());
    // After a pause too, when a tick is long overdue.
    sleep(secs(5)).await;
    assert_eq!(server_sends_after(b"question").await, [[ack, data]]);
    assert_eq!(server_sends_after(b"remark").await, [[ack]]);
    assert_eq!(server_sends_after(b"question").await, [[ack, data]]);
}
