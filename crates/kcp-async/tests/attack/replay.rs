//! A recorded session, sent again (`docs/protocol.md` 12.3, 13.2).

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::net::{CLIENT, Net, SERVER, addr, bytes, ms, pair_acquainted, secs, sleep};
use crate::wire::{echo, figure, turbo};
use kcp_async::KcpStream;

/// Plays a client that sends 20 kB and reads the echo; what went from it to the server.
async fn record(net: &Net, stream: KcpStream, len: usize) -> Vec<Vec<u8>> {
    net.take_sent();
    for message in bytes(len).chunks(1_000) {
        stream.send(message).await.unwrap();
        assert_eq!(stream.recv_message().await.unwrap(), message);
    }
    let mut stream = stream;
    tokio::io::AsyncWriteExt::shutdown(&mut stream)
        .await
        .unwrap();
    drop(stream);
    sleep(secs(1)).await;
    let recorded = net.take_sent().into_iter();
    let from = addr(CLIENT);
    recorded
        .filter(|sent| sent.from == from)
        .map(|sent| sent.datagram)
        .collect()
}

async fn replay(net: &Net, from: &str, recorded: &[Vec<u8>]) -> (usize, usize) {
    let server: SocketAddr = addr(SERVER);
    let spoof = net.spoof(from);
    net.take_sent();
    for datagram in recorded {
        spoof(server, datagram);
        sleep(ms(5)).await;
    }
    sleep(secs(60)).await;
    let sent = net.take_sent();
    let answers = sent.iter().filter(|sent| sent.from == server);
    answers.fold((0, 0), |(count, size), sent| {
        (count + 1, size + sent.datagram.len())
    })
}

/// From the same port, while its end is remembered: nothing is delivered, nothing is opened. From
/// another port plain KCP cannot tell it from a new client, and the protocol does not claim to: what is
/// answered is bounded, and the recorded ACKs, of another session's clock, prove nothing.
#[tokio::test(start_paused = true)]
async fn a_recorded_session_is_worth_little() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let delivered = echo(&server);
    let client = net.endpoint(CLIENT, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    let recorded = record(&net, stream, 20_000).await;
    let size: usize = recorded.iter().map(Vec::len).sum();
    drop(client);
    let before = server.stats();
    assert_eq!((before.sessions, before.accepted), (0, 1));
    assert_eq!(delivered.swap(0, Ordering::Relaxed), 20_000);

    let (_, same) = replay(&net, CLIENT, &recorded).await;
    assert_eq!(server.stats().accepted, 1, "no second session");
    assert!(same <= size, "{same} of {size}");
    assert_eq!(delivered.load(Ordering::Relaxed), 0);

    let (datagrams, other) = replay(&net, "10.0.0.99:9", &recorded).await;
    let after = server.stats();
    assert_eq!((after.sessions, after.accepted), (0, 2));
    let (heard, said) = (size + 28 * recorded.len(), other + 28 * datagrams);
    assert!(said <= 3 * heard + 6 * 128, "{said} of {heard}");
    figure(
        &format!("a recorded session of 20 kB ({size} B), replayed at once from its own port"),
        format!("no session, 0 B delivered, {same} B answered"),
        "",
    );
    figure(
        "the same from another port",
        format!(
            "an unproven session, {} B delivered again, {other} B in {datagrams} datagrams answered",
            delivered.load(Ordering::Relaxed)
        ),
        "20 kB delivered again, 77 kB answered",
    );
}

/// What a proven session's client said, sent again while the session lives, is a duplicate.
#[tokio::test(start_paused = true)]
async fn a_replay_into_a_live_session_delivers_nothing() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    net.take_sent();
    for n in 0..50_u8 {
        pair.client.send(&[n; 100]).await.unwrap();
        assert_eq!(pair.server.recv_message().await.unwrap(), [n; 100]);
    }
    sleep(ms(100)).await;
    let recorded: Vec<_> = net
        .take_sent()
        .into_iter()
        .filter(|sent| sent.from == addr(CLIENT))
        .collect();
    let before = pair.server.stats().engine;
    let spoof = net.spoof(CLIENT);
    for _ in 0..20 {
        for sent in &recorded {
            spoof(addr(SERVER), &sent.datagram);
        }
        sleep(ms(50)).await;
    }
    let after = pair.server.stats().engine;
    assert_eq!(after.payload_received, before.payload_received);
    assert_eq!(after.unread_bytes, 0);
    pair.client.send(b"on we go").await.unwrap();
    assert_eq!(pair.server.recv_message().await.unwrap(), b"on we go");
}
