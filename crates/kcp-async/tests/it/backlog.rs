//! Readers that read late, and peers with an mtu larger than theirs (`docs/protocol.md` 4.6, 11.4).

use std::time::Duration;

use kcp_async::{KcpConfig, KcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::{CLIENT, Net, SERVER, StockPeer, addr, bytes, ms, secs, sleep};

const SIZE: usize = 8_000_000;

async fn writes(mut stream: KcpStream) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    stream.write_all(&bytes(SIZE)).await.map_err(text)?;
    stream.shutdown().await.map_err(text)
}

/// Whether all of it arrives, after a pause longer than `dead_peer_timeout`.
async fn reads_late(mut stream: KcpStream) -> bool {
    sleep(secs(45)).await;
    let mut all = Vec::new();
    let end = tokio::time::timeout(secs(100), stream.read_to_end(&mut all)).await;
    matches!(end, Ok(Ok(SIZE))) && all == bytes(SIZE)
}

/// A window that counts segments only was open while their bytes were refused: the sender took the
/// session for undeliverable after 30 s.
#[tokio::test(start_paused = true)]
async fn a_late_reader_gets_everything_from_a_peer_with_a_larger_mtu() {
    for (mtu, server_reads) in [(1_400, true), (9_000, true), (65_000, true), (9_000, false)] {
        let net = Net::clean();
        let (small, large) = (
            KcpConfig::file_transfer(),
            KcpConfig::file_transfer().mtu(mtu),
        );
        let (of_server, of_client) = if server_reads {
            (small, large)
        } else {
            (large, small)
        };
        let server = net.endpoint(SERVER, of_server);
        let clients = net.endpoint(CLIENT, of_client);
        let mut client = clients.connect(SERVER).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        accepted.read_exact(&mut [0; 5]).await.unwrap();
        accepted.write_all(b"hi").await.unwrap();
        client.read_exact(&mut [0; 2]).await.unwrap();
        sleep(ms(100)).await;
        let (writer, reader) = if server_reads {
            (client, accepted)
        } else {
            (accepted, client)
        };
        let writing = tokio::spawn(writes(writer));
        let is_whole = reads_late(reader).await;
        let written = writing.await.unwrap();
        assert_eq!((written, is_whole), (Ok(()), true), "{mtu}, {server_reads}");
    }
}

/// The same in messages, of which the reader takes some now and then.
#[tokio::test(start_paused = true)]
async fn messages_of_larger_segments_arrive_at_a_late_reader() {
    for mtu in [3_000, 9_000, 65_000] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, KcpConfig::turbo_mode());
        let clients = net.endpoint(CLIENT, KcpConfig::turbo_mode().mtu(mtu));
        let client = clients.connect(SERVER).await.unwrap();
        let writing = tokio::spawn(async move {
            for _ in 0..MESSAGES {
                client.send(&bytes(LEN)).await?;
            }
            Ok::<_, kcp_async::KcpError>(client)
        });
        let (stream, _) = server.accept().await.unwrap();
        read_in_tens(&stream, mtu, secs(1)).await;
        writing.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_stock_peer_with_larger_segments_arrive_at_a_late_reader() {
    for mtu in [3_000, 9_000, 65_000] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, KcpConfig::turbo_mode());
        let mut stock = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
        stock.engine.set_mtu(mtu).unwrap();
        for _ in 0..MESSAGES {
            stock.engine.send(&bytes(LEN)).unwrap();
        }
        let reading = tokio::spawn(async move {
            let (stream, _) = server.accept().await.unwrap();
            read_in_tens(&stream, mtu, STOCK_PATIENCE).await;
        });
        stock.live(secs(3_600), |_| reading.is_finished()).await;
        reading.await.unwrap();
    }
}

const LEN: usize = 40_000;
const MESSAGES: usize = 60;

/// A stock peer fills the window of 128 segments that it takes for granted before it hears ours. What was refused
/// of that it sends again when it has waited half as long again as before, which is less than the test has taken so
/// far.
const STOCK_PATIENCE: Duration = secs(600);

/// Reads all messages, ten after each pause that is longer than `dead_peer_timeout`.
async fn read_in_tens(stream: &KcpStream, mtu: usize, patience: Duration) {
    for n in 0..MESSAGES {
        if n % 10 == 0 {
            sleep(secs(40)).await;
        }
        let message = tokio::time::timeout(patience, stream.recv_message()).await;
        let message = message.expect("the next message comes").unwrap();
        assert!(message == bytes(LEN), "message {n} at {mtu}");
    }
}
