//! Forged ICMP errors against a socket of `KcpStream::connect` (`docs/protocol.md` 11.4).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kcp_async::{KcpConfig, KcpEndpoint, KcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{self, Namespace};
use crate::transfer::{Server, Way, transfer};

/// "Port unreachable" for a datagram that this client never sent.
fn port_unreachable(client: SocketAddr, n: u32) -> Vec<u8> {
    let mut message = vec![0; 8];
    let port = 1_024 + (n % 60_000) as u16;
    match client {
        SocketAddr::V4(_) => {
            (message[0], message[1]) = (3, 3);
            let mut header = [0; 20];
            header[0] = 0x45;
            header[3] = 28;
            (header[8], header[9]) = (64, 17);
            header[12..16].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
            header[16..20].copy_from_slice(&[203, 0, 113, n as u8]);
            message.extend(header);
        }
        SocketAddr::V6(_) => {
            (message[0], message[1]) = (1, 4);
            let mut header = [0; 40];
            header[0] = 0x60;
            header[5] = 8;
            (header[6], header[7]) = (17, 64);
            header[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
            header[24..40]
                .copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n as u16).octets());
            message.extend(header);
        }
    }
    message.extend(client.port().to_be_bytes());
    message.extend(port.to_be_bytes());
    message.extend([0, 8, 0, 0]);
    if client.is_ipv4() {
        let sum: u32 = message
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        message[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    }
    message
}

/// Sends forged reports at a rate until told to stop, or so many; how many were sent.
fn forge(client: SocketAddr, each_second: u32, most: u32, stop: &AtomicBool) -> u32 {
    let (domain, protocol) = match client {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    let to = SocketAddr::new(client.ip(), 0).into();
    let start = Instant::now();
    let mut sent = 0;
    while sent < most && !stop.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * f64::from(each_second)) as u32;
        if sent < due {
            socket
                .send_to(&port_unreachable(client, sent), &to)
                .unwrap();
            sent += 1;
        } else {
            thread::yield_now();
        }
    }
    sent
}

fn at_loopback(addr: SocketAddr, stream: &KcpStream) -> SocketAddr {
    SocketAddr::new(addr.ip(), stream.local_addr().port())
}

/// 12,000 in 1.2 s, for a client that has been answered once and from then on only receives.
#[test]
fn forged_reports_do_not_deafen_a_client_that_only_receives() {
    if !harness::available() {
        return;
    }
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let namespace = Namespace::new();
        let received = namespace.block_on(move || async move {
            let socket = UdpSocket::bind(host).unwrap();
            let server = KcpEndpoint::from_std(socket, KcpConfig::turbo_mode()).unwrap();
            let addr = server.local_addr();
            let client = KcpStream::connect(addr, KcpConfig::turbo_mode())
                .await
                .unwrap();
            client.send(b"hello").await.unwrap();
            let (accepted, _) = server.accept().await.unwrap();
            accepted.send(b"welcome").await.unwrap();
            assert_eq!(client.recv_message().await.unwrap(), b"welcome");
            let target = at_loopback(addr, &client);
            // The client's thread may raise in no namespace but this one: raw sockets are per namespace.
            let flood = tokio::task::spawn_blocking(move || {
                forge(target, 10_000, 12_000, &AtomicBool::new(false))
            });
            assert_eq!(flood.await.unwrap(), 12_000);
            let mut received = 0;
            for n in 0..100_u8 {
                accepted.send(&[n; 1_000]).await.unwrap();
                let message = client.recv_message();
                let message = tokio::time::timeout(Duration::from_secs(5), message).await;
                assert_eq!(message.expect("deaf").unwrap(), [n; 1_000]);
                received += 1;
            }
            received
        });
        eprintln!("{host}: 12,000 forged reports, then {received} messages of 100");
    }
}

/// 50,000 a second for as long as a download takes.
#[test]
fn forged_reports_do_not_stop_a_download() {
    if !harness::available() {
        return;
    }
    const LEN: usize = 100_000_000;
    for host in ["127.0.0.1", "::1"] {
        let namespace = Namespace::new();
        let server = Server::start(&namespace, host, KcpConfig::file_transfer(), LEN);
        let addr = server.addr;
        let (took, sent) = namespace.block_on(move || async move {
            let mut stream = KcpStream::connect(addr, KcpConfig::file_transfer())
                .await
                .unwrap();
            let target = at_loopback(addr, &stream);
            let stop = std::sync::Arc::new(AtomicBool::new(false));
            let stopped = std::sync::Arc::clone(&stop);
            let flood =
                tokio::task::spawn_blocking(move || forge(target, 50_000, u32::MAX, &stopped));
            let copied = transfer(&mut stream, Way::Down, LEN);
            let took = tokio::time::timeout(Duration::from_secs(30), copied).await;
            stop.store(true, Ordering::Relaxed);
            let sent = flood.await.unwrap();
            (took.expect("the download stands still").unwrap(), sent)
        });
        eprintln!("{host}: {LEN} bytes in {took:?} beside {sent} forged reports");
        server.stop();
    }
}
