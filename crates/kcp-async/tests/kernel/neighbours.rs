//! Addresses of the local link that do not answer: what is sent to them stays in the send buffer for three seconds
//! (`docs/protocol.md` 11.3.1).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use kcp_async::{EndpointConfig, KcpConfig, KcpEndpoint, KcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{self, Interface, Namespace};

/// The first datagram of a session of its own, with 200 bytes of data.
fn first_datagram(conv: u32) -> Vec<u8> {
    let mut datagram = conv.to_le_bytes().to_vec();
    datagram.extend([81, 0, 128, 0]);
    datagram.extend([0; 12]);
    datagram.extend(200_u32.to_le_bytes());
    datagram.resize(24 + 200, b'x');
    datagram
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded + (folded >> 16)) as u16)
}

/// A whole IP packet.
fn packet(from: IpAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len() as u16;
    let mut udp = [4_000, to.port(), len, 0].map(u16::to_be_bytes).concat();
    udp.extend(payload);
    match (from, to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut ip = vec![0x45, 0];
            ip.extend((20 + len).to_be_bytes());
            ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
            ip.extend(from.octets());
            ip.extend(to.octets());
            [ip, udp].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let [high, low] = len.to_be_bytes();
            let pseudo = [&addresses[..], &[0, 0, high, low, 0, 0, 0, 17]].concat();
            let sum = internet_checksum(&[pseudo, udp.clone()].concat());
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            let ip = [&[0x60, 0, 0, 0, high, low, 17, 64][..], &addresses].concat();
            [ip, udp].concat()
        }
        _ => unreachable!("one family"),
    }
}

/// Sends first datagrams from addresses of the link that no host has.
fn forge(server: SocketAddr, count: u16) {
    let domain = Domain::for_address(server);
    let raw = Socket::new(domain, Type::RAW, Some(Protocol::from(255))).unwrap();
    for n in 0..count {
        let from = match server {
            SocketAddr::V4(_) => IpAddr::from([10, 3, 0, 100 + n as u8]),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::new(0xfd03, 0, 0, 0, 0, 0, 1, n)),
        };
        let bytes = packet(from, server, &first_datagram(u32::from(n) + 1));
        let to = SocketAddr::new(server.ip(), 0).into();
        raw.send_to(&bytes, &to).unwrap();
    }
}

async fn echo(endpoint: KcpEndpoint) {
    while let Ok((stream, _)) = endpoint.accept().await {
        tokio::spawn(async move {
            while let Ok(message) = stream.recv_message().await {
                let _ = stream.send(&message).await;
            }
        });
    }
}

async fn ping(stream: &KcpStream) -> Duration {
    let start = Instant::now();
    stream.send(b"ping").await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"ping");
    start.elapsed()
}

/// 120 answers and echoes to addresses that do not exist are more than the send buffer holds.
#[test]
fn forged_addresses_of_the_link_do_not_stall_a_session() {
    if !harness::available() {
        return;
    }
    let [host, client] = [Namespace::new(), Namespace::new()];
    let end = |name, v4, v6| Interface { name, v4, v6 };
    host.link(
        &end("eth0", "10.3.0.1/24", "fd03::1/64"),
        &client,
        &end("eth0", "10.3.0.2/24", "fd03::2/64"),
    );
    for addr in ["10.3.0.1:0", "[fd03::1]:0"] {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let endpoint = host.run(|| {
            let _entered = runtime.enter();
            let config = EndpointConfig::from(KcpConfig::turbo_mode()).send_buffer(32_768);
            let socket = std::net::UdpSocket::bind(addr).unwrap();
            KcpEndpoint::from_std(socket, config).unwrap()
        });
        runtime.spawn(echo(endpoint.clone()));
        let server = endpoint.local_addr();
        let worst = client.block_on(move || async move {
            let stream = KcpStream::connect(server, KcpConfig::turbo_mode())
                .await
                .unwrap();
            ping(&stream).await;
            let mut worst = Duration::ZERO;
            let start = Instant::now();
            // The socket is of the thread, and so of the namespace, that makes it.
            forge(server, 120);
            while start.elapsed() < Duration::from_millis(1_500) {
                worst = worst.max(ping(&stream).await);
            }
            worst
        });
        let stats = endpoint.stats();
        eprintln!(
            "{addr}: worst ping {worst:?}, {} withheld",
            stats.sends_withheld
        );
        // The system gives an address up after three seconds.
        assert!(worst < Duration::from_secs(1), "{worst:?}");
        assert!(stats.sends_withheld > 0);
        runtime.shutdown_background();
    }
}
