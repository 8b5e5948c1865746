//! The end of a session (`docs/protocol.md` 12).

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpError, KcpStream, TimeoutError};
use kcp_engine::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::{
    CLIENT, Net, Pair, SERVER, StockPeer, addr, bytes, headers, marked, ms, pair, pair_acquainted,
    secs, sleep,
};

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

async fn read_all(stream: &mut KcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

/// protocol.md 12.2: after the last byte the reader sees the end, and the other direction lives on.
#[tokio::test(start_paused = true)]
async fn half_a_close() {
    let net = Net::clean();
    let Pair {
        mut client,
        mut server,
        ..
    } = pair_acquainted(&net, &turbo(), &turbo()).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"question");
    let error = client.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);

    sleep(secs(60)).await;
    server.write_all(&bytes(50_000)).await.unwrap();
    server.shutdown().await.unwrap();
    assert!(read_all(&mut client).await == bytes(50_000));
    sleep(secs(1)).await;
    assert_eq!(client.close_reason(), Some(ConnectionError::Closed));
    assert_eq!(server.close_reason(), Some(ConnectionError::Closed));
    assert_eq!(client.recv(&mut [0; 8]).await.unwrap(), 0, "the end, again");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_of_a_session_that_was_never_used_is_silent() {
    let net = Net::clean();
    let endpoint = net.endpoint(CLIENT, turbo());
    let mut stream = endpoint.connect(SERVER).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    sleep(secs(30)).await;
    assert!(net.take_sent().is_empty());
    assert_eq!(endpoint.stats().sessions, 0);
}

/// What was written before the drop arrives, and then the end.
#[tokio::test(start_paused = true)]
async fn drop_with_data_in_flight() {
    let net = Net::clean();
    let Pair {
        mut client,
        mut server,
        client_endpoint,
        server_endpoint,
    } = pair(&net, KcpConfig::file_transfer()).await;
    let data = bytes(3_000_000);
    client.write_all(&data).await.unwrap();
    assert!(client.stats().engine.unacknowledged_bytes > 1_000_000);
    drop(client);
    assert!(read_all(&mut server).await == data);
    assert_eq!(server.close_reason(), None, "our direction is still open");
    drop(server);
    sleep(secs(1)).await;
    assert_eq!(client_endpoint.stats().sessions, 0);
    assert_eq!(server_endpoint.stats().sessions, 0);
    assert_eq!(client_endpoint.stats().time_wait, 1);
    sleep(secs(11)).await;
    assert_eq!(client_endpoint.stats().time_wait, 0);
}

/// protocol.md 12.3: a dropped stream has had its FIN acknowledged and still takes in what the peer
/// says before its own, for the linger time: the peer's close is an orderly one. That time begins with
/// the drop, however long ago the stream was shut down.
#[tokio::test(start_paused = true)]
async fn a_dropped_stream_hears_the_peer_out() {
    for shut_down_before in [false, true] {
        let net = Net::clean();
        let Pair {
            mut client,
            mut server,
            client_endpoint,
            ..
        } = pair_acquainted(&net, &turbo(), &turbo()).await;
        if shut_down_before {
            client.shutdown().await.unwrap();
            sleep(secs(60)).await;
        }
        drop(client);
        assert_eq!(read_all(&mut server).await, b"");
        sleep(secs(1)).await;
        assert_eq!(client_endpoint.stats().sessions, 1);
        server.write_all(b"last words").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(server.stats().engine.unacknowledged_bytes, 0);
        sleep(ms(100)).await;
        assert_eq!(server.close_reason(), Some(ConnectionError::Closed));
        assert_eq!(client_endpoint.stats().sessions, 0);
    }
}

/// A peer that goes on sending to a dropped stream is told after the linger time.
#[tokio::test(start_paused = true)]
async fn a_dropped_stream_resets_a_peer_that_goes_on() {
    for one_way in [10, 150] {
        let net = Net::new(kcp_netem::LinkConfig::new().delay(ms(one_way)), 0);
        let pair = pair(&net, turbo()).await;
        let mut server = pair.server;
        drop(pair.client);
        assert_eq!(read_all(&mut server).await, b"");
        let failure = async {
            loop {
                if let Err(error) = server.send(&bytes(1_000)).await {
                    return error;
                }
                sleep(ms(20)).await;
            }
        };
        let error = tokio::time::timeout(secs(10), failure).await.unwrap();
        assert!(
            matches!(error, KcpError::Connection(ConnectionError::Reset)),
            "{error}"
        );
    }
}

/// The peer only ever sent data, so it has not shown the mark when we close.
#[tokio::test(start_paused = true)]
async fn a_close_asks_a_peer_that_has_shown_no_mark() {
    let net = Net::clean();
    let Pair {
        mut client, server, ..
    } = pair(&net, turbo()).await;
    assert!(!server.stats().peer_knows_close);
    drop(server);
    assert_eq!(read_all(&mut client).await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_close_survives_the_loss_of_its_question() {
    let net = Net::clean();
    let Pair {
        mut client, server, ..
    } = pair(&net, turbo()).await;
    net.cut(CLIENT, SERVER, true);
    drop(server);
    sleep(ms(100)).await;
    net.cut(CLIENT, SERVER, false);
    assert_eq!(read_all(&mut client).await, b"");
}

/// protocol.md 12.7: to a stock peer no FIN is sent; the close waits for its acknowledgements.
#[tokio::test(start_paused = true)]
async fn linger_with_a_stock_peer() {
    let net = Net::clean();
    let endpoint = net.endpoint(CLIENT, turbo());
    let mut stream = endpoint.connect(SERVER).await.unwrap();
    let mut peer = StockPeer::new(net.raw(SERVER), addr(CLIENT), stream.conv().get());
    stream.write_all(&bytes(100_000)).await.unwrap();
    let closing = tokio::spawn(async move {
        stream.shutdown().await.unwrap();
        assert!(!stream.stats().peer_knows_close);
        assert_eq!(stream.stats().engine.unacknowledged_bytes, 0);
    });
    let mut received = Vec::new();
    let whole = peer
        .live(secs(5), |engine| {
            let mut part = [0; 4_096];
            while let Ok(count) = engine.read(&mut part) {
                received.extend_from_slice(&part[..count]);
            }
            received.len() == 100_000
        })
        .await;
    assert!(whole && received == bytes(100_000));
    peer.live(secs(1), |_| false).await;
    closing.await.unwrap();
    assert_eq!(endpoint.stats().sessions, 0);
    let fins = net
        .take_sent()
        .iter()
        .flat_map(|sent| headers(&sent.datagram))
        .filter(|header| header.cmd >= Command::Fin.to_wire())
        .count();
    assert_eq!(fins, 0);
}

#[tokio::test(start_paused = true)]
async fn linger_runs_out_when_nobody_acknowledges() {
    let net = Net::clean();
    let Pair {
        mut client,
        server,
        client_endpoint,
        ..
    } = pair(&net, turbo()).await;
    server.send(b"so that both know each other").await.unwrap();
    client.recv_message().await.unwrap();
    net.cut(CLIENT, SERVER, true);
    client.write_all(b"lost").await.unwrap();
    let start = tokio::time::Instant::now();
    let error = client.shutdown().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<KcpError>());
    assert!(matches!(
        inner,
        Some(KcpError::Timeout(TimeoutError::Linger))
    ));
    assert!(
        (secs(5)..ms(5_100)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    drop(client);
    sleep(ms(10)).await;
    assert_eq!(client_endpoint.stats().sessions, 0);
}

/// A full socket holds back what was said, not the time that a shutdown may take.
#[tokio::test(start_paused = true)]
async fn linger_runs_out_while_the_socket_is_full() {
    let net = Net::clean();
    let config = turbo().linger(secs(1));
    let Pair { mut client, .. } = pair_acquainted(&net, &config, &config).await;
    sleep(secs(1)).await;
    net.set_full(addr(CLIENT), true);
    client.write_all(b"stuck").await.unwrap();
    sleep(ms(10)).await;
    assert!(client.stats().socket_full);
    let start = tokio::time::Instant::now();
    let error = client.shutdown().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(
        (secs(1)..ms(1_010)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_gives_up_after_the_linger_time() {
    let net = Net::clean();
    let config = turbo().linger(secs(2));
    let Pair {
        client,
        client_endpoint,
        ..
    } = pair(&net, config).await;
    net.cut(CLIENT, SERVER, true);
    client.send(b"lost").await.unwrap();
    drop(client);
    sleep(ms(1_990)).await;
    assert_eq!(client_endpoint.stats().sessions, 1);
    sleep(ms(30)).await;
    assert_eq!(client_endpoint.stats().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn abort_is_final_and_tells_the_peer() {
    let net = Net::clean();
    let Pair {
        client,
        server,
        client_endpoint,
        ..
    } = pair_acquainted(&net, &turbo(), &turbo()).await;
    let waiting = tokio::spawn(async move {
        let result = server.recv_message().await;
        (server, result)
    });
    sleep(secs(1)).await;
    net.take_sent();
    client.send(b"never sent twice").await.unwrap();
    client.abort();
    assert_eq!(client.close_reason(), Some(ConnectionError::Aborted));
    let error = client.recv_message().await.unwrap_err();
    assert!(matches!(
        error,
        KcpError::Connection(ConnectionError::Aborted)
    ));
    sleep(secs(1)).await;
    assert_eq!(client_endpoint.stats().sessions, 0);
    let sent = net.take_sent();
    let ours = sent.iter().filter(|sent| sent.from == addr(CLIENT));
    let mut commands = ours.map(|sent| headers(&sent.datagram)[0].command());
    assert_eq!(commands.next(), Some(Some(Command::Push)), "sent once");
    // Three unasked, and one that answers.
    assert_eq!(
        commands.by_ref().collect::<Vec<_>>(),
        [Some(Command::Rst); 4]
    );
    let (server, message) = waiting.await.unwrap();
    assert_eq!(message.unwrap(), b"never sent twice");

    // The other side has found out, although it says nothing.
    let error = server.recv_message().await.unwrap_err();
    assert!(
        matches!(error, KcpError::Connection(ConnectionError::Reset)),
        "{error}"
    );
}

/// protocol.md 12.3
#[tokio::test(start_paused = true)]
async fn time_wait_acknowledges_again_and_makes_no_session() {
    let net = Net::clean();
    let Pair {
        mut client,
        mut server,
        client_endpoint,
        server_endpoint,
    } = pair(&net, turbo()).await;
    let conv = client.conv().get();
    client.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"");
    drop((client, server, client_endpoint));
    sleep(secs(1)).await;
    assert_eq!(
        (
            server_endpoint.stats().sessions,
            server_endpoint.stats().time_wait
        ),
        (0, 1)
    );

    let fin_of_client = net
        .take_sent()
        .into_iter()
        .find(|sent| {
            sent.from == addr(CLIENT) && headers(&sent.datagram)[0].cmd == Command::Fin.to_wire()
        })
        .unwrap();
    let raw = net.raw(CLIENT);
    // Sent again it says that ours has arrived.
    let mut again = fin_of_client.datagram;
    again[16..20].copy_from_slice(&1_u32.to_le_bytes());
    raw.send(addr(SERVER), &again);
    let answer = headers(&raw.recv().await);
    assert_eq!(answer.len(), 1);
    let fin = headers(&again)[0];
    assert_eq!(
        (answer[0].command(), answer[0].sn),
        (Some(Command::Ack), fin.sn)
    );
    assert_eq!((answer[0].ts, answer[0].una), (fin.ts, fin.sn + 1));

    // So does data of that conversation, whose ACK may have been lost when the FIN's was not.
    raw.send(
        addr(SERVER),
        &crate::net::segment(conv, Command::Push, 0, 1, b"hello"),
    );
    let answer = headers(&raw.recv().await);
    assert_eq!(
        (answer[0].command(), answer[0].sn.get()),
        (Some(Command::Ack), 0)
    );
    assert_eq!(answer[0].una, fin.sn + 1);

    // Questions get nothing. New data gets a question, which this peer does not answer.
    raw.send(addr(SERVER), &marked(conv, Command::Wask, 0, 0));
    raw.send(
        addr(SERVER),
        &crate::net::segment(conv, Command::Push, 0, 0, b"again"),
    );
    let answer = headers(&raw.recv().await);
    assert_eq!(answer.len(), 1);
    assert_eq!(
        (answer[0].command(), answer[0].una.get()),
        (Some(Command::Wask), 0)
    );
    assert_eq!(raw.recv_within(secs(1)).await, None);
    assert_eq!(server_endpoint.stats().sessions, 0);
    assert_eq!(server_endpoint.stats().dropped_time_wait, 4);

    sleep(secs(10)).await;
    raw.send(
        addr(SERVER),
        &crate::net::segment(conv, Command::Push, 0, 0, b"new"),
    );
    let (stream, _) = server_endpoint.accept().await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"new");
}

/// protocol.md 12.3: a socket of one session stays for the ACK of the peer's FIN, which may be lost,
/// if our FIN was first. If the peer's was, its side stays.
#[tokio::test(start_paused = true)]
async fn who_finished_first_acknowledges_again() {
    let net = Net::clean();
    let Pair {
        mut client,
        mut server,
        client_endpoint,
        server_endpoint,
    } = pair_acquainted(&net, &turbo(), &turbo()).await;
    drop(client_endpoint);
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"");
    sleep(secs(1)).await;
    let start = tokio::time::Instant::now();
    let closing = tokio::spawn(async move { server.shutdown().await });
    // The FIN is under way, its ACK is not.
    sleep(ms(5)).await;
    net.cut(CLIENT, SERVER, true);
    sleep(ms(10)).await;
    assert_eq!(client.close_reason(), Some(ConnectionError::Closed));
    net.cut(CLIENT, SERVER, false);
    closing.await.unwrap().unwrap();
    assert!(start.elapsed() > ms(25), "the first ACK was lost");
    assert_eq!(server_endpoint.stats().sessions, 0);
}

/// A process closes such sockets when there are many; datagrams of anyone to one of them make it no more.
#[tokio::test(start_paused = true)]
async fn stray_datagrams_close_no_lingering_socket() {
    let net = Net::clean();
    let Pair {
        mut client,
        mut server,
        client_endpoint,
        ..
    } = pair_acquainted(&net, &turbo(), &turbo()).await;
    drop(client_endpoint);
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"");
    sleep(secs(1)).await;
    let closing = tokio::spawn(async move { server.shutdown().await });
    // The FIN is under way, its ACK is not.
    sleep(ms(5)).await;
    net.cut(CLIENT, SERVER, true);
    let anyone = net.raw("10.0.0.9:9");
    for _ in 0..200 {
        anyone.send(addr(CLIENT), b"stray");
        sleep(ms(10)).await;
    }
    assert_eq!(client.close_reason(), Some(ConnectionError::Closed));
    net.cut(CLIENT, SERVER, false);
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_listener_leaves_its_streams_alone() {
    let net = Net::clean();
    let Pair {
        mut client,
        mut server,
        server_endpoint,
        ..
    } = pair(&net, turbo()).await;
    drop(server_endpoint);
    sleep(secs(1)).await;
    client.write_all(b"still there?").await.unwrap();
    let mut text = [0; 12];
    server.read_exact(&mut text).await.unwrap();
    server.write_all(&text).await.unwrap();
    client.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"still there?");
}

#[tokio::test(start_paused = true)]
async fn a_closed_listener_accepts_no_more_and_says_so() {
    let net = Net::clean();
    let Pair {
        client,
        server,
        server_endpoint,
        ..
    } = pair(&net, turbo()).await;
    let other = net.endpoint("10.0.0.3:1", turbo());
    let waiting = other.connect(SERVER).await.unwrap();
    waiting.send(b"in the queue").await.unwrap();
    sleep(ms(100)).await;
    assert_eq!(server_endpoint.stats().waiting, 1);
    server_endpoint.close();
    let error = server_endpoint.accept().await.unwrap_err();
    assert!(matches!(
        error,
        KcpError::Connection(ConnectionError::EndpointClosed)
    ));
    let error = loop {
        match tokio::time::timeout(secs(1), waiting.recv_message()).await {
            Ok(result) => break result.unwrap_err(),
            Err(_) => waiting.send(b"hello?").await.unwrap(),
        }
    };
    assert!(
        matches!(error, KcpError::Connection(ConnectionError::Reset)),
        "{error}"
    );
    client.send(b"fine").await.unwrap();
    assert_eq!(server.recv_message().await.unwrap(), b"fine");
}

#[test]
fn a_runtime_that_shuts_down_harms_nobody() {
    let build = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    let (server_runtime, client_runtime) = (build(), build());
    let listener = server_runtime
        .block_on(kcp_async::KcpListener::bind(
            "127.0.0.1:0",
            KcpConfig::file_transfer(),
        ))
        .unwrap();
    let addr = listener.local_addr();
    let accepting = server_runtime.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut sink = vec![0; 65_536];
        while stream.read(&mut sink).await.unwrap() > 0 {}
    });
    let mut client = client_runtime.block_on(async {
        let mut client = KcpStream::connect(addr, KcpConfig::file_transfer())
            .await
            .unwrap();
        client.write_all(&bytes(10_000_000)).await.unwrap();
        client
    });
    client_runtime.shutdown_background();
    server_runtime.shutdown_background();
    drop(accepting);

    // The handle outlives its runtime and says what happened.
    let error = loop {
        let write = build().block_on(client.write(b"more"));
        if let Err(error) = write {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert_eq!(client.close_reason(), Some(ConnectionError::EndpointClosed));
    client.abort();
    drop(client);
}
