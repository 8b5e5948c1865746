//! What the types promise.

use kcp_async::{
    EndpointConfig, KcpConfig, KcpEndpoint, KcpListener, KcpStream, OwnedReadHalf, OwnedWriteHalf,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::net::{Net, Pair, bytes, pair, secs};

fn is_shared<T: Send + Sync + Unpin + std::fmt::Debug>() {}
fn is_reader<T: AsyncRead>() {}
fn is_writer<T: AsyncWrite>() {}

#[test]
fn handles_go_anywhere() {
    is_shared::<KcpStream>();
    is_shared::<KcpListener>();
    is_shared::<KcpEndpoint>();
    is_shared::<OwnedReadHalf>();
    is_shared::<OwnedWriteHalf>();
    is_shared::<EndpointConfig>();
    is_reader::<KcpStream>();
    is_writer::<KcpStream>();
    is_reader::<OwnedReadHalf>();
    is_writer::<OwnedWriteHalf>();
}

#[tokio::test(start_paused = true)]
async fn halves_come_apart_and_together() {
    let net = Net::clean();
    let Pair { client, server, .. } = pair(&net, KcpConfig::turbo_mode()).await;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let error = client_read.reunite(server_write).unwrap_err();
    let client = error.0.reunite(client_write).unwrap();
    let mut server = error.1.reunite(server_read).unwrap();
    client.send(b"whole").await.unwrap();
    assert_eq!(server.recv_message().await.unwrap(), b"whole");
    {
        let (mut read, mut write) = server.split();
        write.send(b"half").await.unwrap();
        client.send(b"other half").await.unwrap();
        assert_eq!(read.recv_message().await.unwrap(), b"other half");
    }
    assert_eq!(client.recv_message().await.unwrap(), b"half");
}

/// Dropping the writing half finishes its direction; the reading half goes on.
#[tokio::test(start_paused = true)]
async fn a_dropped_writing_half_is_the_end_for_the_peer() {
    let net = Net::clean();
    let Pair {
        client, mut server, ..
    } = pair(&net, KcpConfig::turbo_mode()).await;
    let (mut read, mut write) = client.into_split();
    write.write_all(b"last words").await.unwrap();
    drop(write);
    let mut words = String::new();
    server.read_to_string(&mut words).await.unwrap();
    assert_eq!(words, "last words");
    server.write_all(&bytes(5_000)).await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = Vec::new();
    read.read_to_end(&mut answer).await.unwrap();
    assert!(answer == bytes(5_000));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_writing_half_changes_nothing() {
    let net = Net::clean();
    let Pair {
        client, mut server, ..
    } = pair(&net, KcpConfig::turbo_mode()).await;
    let (read, write) = client.into_split();
    write.forget();
    let reading = server.read_u8();
    let waited = tokio::time::timeout(std::time::Duration::from_secs(5), reading).await;
    assert!(waited.is_err(), "no end of stream");
    drop(read);
}

/// Several tasks may wait on one stream by reference.
#[tokio::test(start_paused = true)]
async fn tasks_share_a_stream() {
    let net = Net::clean();
    let Pair { client, server, .. } = pair(&net, KcpConfig::turbo_mode()).await;
    let server = std::sync::Arc::new(server);
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move { server.recv_message().await.unwrap()[0] })
        })
        .collect();
    tokio::task::yield_now().await;
    for n in 0..5 {
        client.send(&[n]).await.unwrap();
    }
    let mut heard = Vec::new();
    for reader in readers {
        // A reader that nobody wakes has no timer either, and would hang the test.
        let heard_in_time = tokio::time::timeout(secs(10), reader);
        heard.push(heard_in_time.await.expect("every reader is woken").unwrap());
    }
    heard.sort_unstable();
    assert_eq!(heard, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn sockets_of_the_standard_library_are_taken_over() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = KcpListener::from_std(socket, KcpConfig::turbo_mode()).unwrap();
    let client = KcpStream::connect(listener.local_addr(), KcpConfig::turbo_mode())
        .await
        .unwrap();
    client.send(b"hello").await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    assert_eq!(server.recv_message().await.unwrap(), b"hello");
    let buffers = listener.stats().socket_buffers.unwrap();
    assert_eq!(buffers.recv_asked, 4 << 20);
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(KcpEndpoint::from_std(socket, KcpConfig::turbo_mode()).is_err());
}
