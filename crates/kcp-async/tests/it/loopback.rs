//! Over the system's UDP.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpEndpoint, KcpListener, KcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::{headers, marked, secs};

async fn pair(
    addr: &str,
    config: impl Into<EndpointConfig>,
) -> (KcpStream, KcpStream, KcpListener) {
    let config = config.into();
    let listener = KcpListener::bind(addr, &config).await.unwrap();
    let client = KcpStream::connect(listener.local_addr(), &config)
        .await
        .unwrap();
    client.send(b"hello").await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.port(), client.local_addr().port());
    assert_eq!(server.recv_message().await.unwrap(), b"hello");
    (client, server, listener)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 251) as u8).collect()
}

async fn bulk(addr: &str, config: KcpConfig, len: usize) {
    let (client, server, listener) = pair(addr, config).await;
    let sent = bytes(len);
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        let mut client = client;
        client.write_all(&copy).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(matches!(
            client.close_reason(),
            None | Some(ConnectionError::Closed)
        ));
        answer
    });
    let (mut read, mut write) = server.into_split();
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    write
        .write_all(&received[..len.min(100_000)])
        .await
        .unwrap();
    write.shutdown().await.unwrap();
    assert!(writing.await.unwrap() == sent[..len.min(100_000)]);
    eprintln!("{:?}", listener.stats());
}

#[tokio::test]
async fn a_request_and_its_answer() {
    let (client, server, _listener) = pair("127.0.0.1:0", KcpConfig::turbo_mode()).await;
    for n in 0..100_u32 {
        client.send(&n.to_le_bytes()).await.unwrap();
        let mut request = [0; 4];
        assert_eq!(server.recv(&mut request).await.unwrap(), 4);
        server.send(&request).await.unwrap();
        assert_eq!(client.recv_message().await.unwrap(), n.to_le_bytes());
    }
    assert!(client.stats().proven && server.stats().proven);
    assert!(server.stats().peer_knows_close);
}

#[tokio::test]
async fn bulk_both_ways_and_an_orderly_end() {
    bulk("127.0.0.1:0", KcpConfig::file_transfer(), 8 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_on_two_threads() {
    bulk("127.0.0.1:0", KcpConfig::turbo_mode(), 8 << 20).await;
}

#[tokio::test]
async fn bulk_in_every_preset() {
    for config in [
        KcpConfig::normal(),
        KcpConfig::fast_mode(),
        KcpConfig::gaming(),
    ] {
        bulk("127.0.0.1:0", config, 300_000).await;
    }
}

#[tokio::test]
async fn ipv6() {
    bulk("[::1]:0", KcpConfig::turbo_mode(), 100_000).await;
}

/// The kernel names no scope, and no flow, where datagrams of such an address come from.
#[tokio::test]
async fn a_scope_that_means_nothing_is_no_other_address() {
    let listener = KcpListener::bind("[::1]:0", KcpConfig::turbo_mode())
        .await
        .unwrap();
    let port = listener.local_addr().port();
    let addr = SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 7, 1);
    let client = KcpStream::connect(SocketAddr::from(addr), KcpConfig::turbo_mode())
        .await
        .unwrap();
    client.send(b"ping").await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    server.send(b"pong").await.unwrap();
    assert_eq!(client.recv_message().await.unwrap(), b"pong");
}

#[tokio::test]
async fn a_dual_stack_listener_takes_ipv4() {
    let listener = KcpListener::bind("[::]:0", KcpConfig::turbo_mode())
        .await
        .unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().port()));
    let client = KcpStream::connect(addr, KcpConfig::turbo_mode())
        .await
        .unwrap();
    client.send(b"four").await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(
        peer,
        SocketAddr::from(([127, 0, 0, 1], client.local_addr().port()))
    );
    server.send(b"six").await.unwrap();
    assert_eq!(client.recv_message().await.unwrap(), b"six");

    // And the same socket reaches an IPv4 listener.
    let other = KcpListener::bind("127.0.0.1:0", KcpConfig::turbo_mode())
        .await
        .unwrap();
    let stream = listener
        .endpoint()
        .connect(other.local_addr())
        .await
        .unwrap();
    stream.send(b"hi").await.unwrap();
    assert_eq!(
        other
            .accept()
            .await
            .unwrap()
            .0
            .recv_message()
            .await
            .unwrap(),
        b"hi"
    );
}

/// protocol.md 13.1: a client with a connected socket hears only the address that it asked, and so
/// does any address translator.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn answers_without_a_session_leave_from_the_address_that_was_asked() {
    for bound in ["0.0.0.0:0", "[::]:0"] {
        let listener = KcpListener::bind(bound, KcpConfig::turbo_mode())
            .await
            .unwrap();
        for host in [1, 2, 3] {
            let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let server = SocketAddr::from(([127, 0, 0, host], listener.local_addr().port()));
            client.connect(server).await.unwrap();
            let question = marked(9, kcp_engine::Command::Wask, 0, 9);
            client.send(&question).await.unwrap();
            let mut answer = [0; 100];
            let received = tokio::time::timeout(secs(5), client.recv(&mut answer)).await;
            let len = received.unwrap().unwrap();
            assert_eq!(
                headers(&answer[..len])[0].command(),
                Some(kcp_engine::Command::Rst)
            );
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_so() {
    let first = KcpListener::bind("127.0.0.1:0", KcpConfig::normal())
        .await
        .unwrap();
    let error = KcpListener::bind(first.local_addr(), KcpConfig::normal())
        .await
        .unwrap_err();
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::AddrInUse
    );
}

#[tokio::test]
async fn a_bad_setting_is_named() {
    let error = KcpEndpoint::bind("127.0.0.1:0", KcpConfig::normal().mtu(1))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("mtu"), "{error}");
}

/// protocol.md 12.9: a socket of one session stays until the peer of an aborted stream has been told, and
/// not for the ten seconds of an orderly end.
#[tokio::test]
async fn an_abort_leaves_by_the_session_s_own_socket() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let (client, server, _listener) = pair(addr, KcpConfig::turbo_mode()).await;
        server.send(b"welcome").await.unwrap();
        assert_eq!(client.recv_message().await.unwrap(), b"welcome");
        let local = client.local_addr();
        client.abort();
        drop(client);
        let reading = tokio::time::timeout(secs(5), server.recv_message()).await;
        let error = reading.expect("not told").unwrap_err();
        assert_eq!(
            std::io::Error::from(error).kind(),
            std::io::ErrorKind::ConnectionReset
        );
        let freed = async {
            while std::net::UdpSocket::bind(local).is_err() {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(secs(5), freed).await;
        in_time.expect("the socket is still open");
    }
}
