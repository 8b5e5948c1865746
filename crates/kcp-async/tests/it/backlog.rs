//! Readers that read late, and peers with an mtu larger than theirs (`docs/protocol.md` 4.6, 11.4).

use kcp_async::{KcpConfig, KcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::{CLIENT, Net, SERVER, bytes, ms, secs, sleep};

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

/// The same in messages of several segments, of which the reader takes one now and then.
#[tokio::test(start_paused = true)]
async fn messages_of_larger_segments_arrive_at_a_late_reader() {
    const LEN: usize = 40_000;
    let net = Net::clean();
    let server = net.endpoint(SERVER, KcpConfig::turbo_mode());
    let clients = net.endpoint(CLIENT, KcpConfig::turbo_mode().mtu(9_000));
    let mut client = clients.connect(SERVER).await.unwrap();
    let writing = tokio::spawn(async move {
        for _ in 0..60 {
            client.send(&bytes(LEN)).await?;
        }
        client.flush().await.unwrap();
        Ok::<_, kcp_async::KcpError>(client)
    });
    let (stream, _) = server.accept().await.unwrap();
    for n in 0..60 {
        if n % 10 == 0 {
            sleep(secs(40)).await;
        }
        let message = tokio::time::timeout(secs(20), stream.recv_message()).await;
        let message = message.expect("the next message comes").unwrap();
        assert!(message == bytes(LEN), "message {n}");
    }
    writing.await.unwrap().unwrap();
}
