//! Peers that speak the copy protocol by hand: spoofed, early, idle, or with offers without end.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use kcp_async::{EndpointConfig, KcpConfig, KcpEndpoint, KcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::{Scratch, kcp, listen, names};

/// A frame of the copy protocol.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_le_bytes();
    [&[kind][..], &length, body].concat()
}

fn hello(version: u8, role: u8) -> Vec<u8> {
    let nonce = if version == 1 { 0 } else { 16 };
    let body = [b"kcpF", &[version, 0, role][..], &vec![7; nonce]].concat();
    frame(0xf1, &body)
}

fn confirm(nonce: &[u8]) -> Vec<u8> {
    frame(0xfb, nonce)
}

fn offer(name: &str, size: u64) -> Vec<u8> {
    frame(0xf3, &[&size.to_le_bytes(), name.as_bytes()].concat())
}

fn data(content: &[u8]) -> Vec<u8> {
    frame(0xf6, &[&[0; 8], content].concat())
}

fn end(content: &[u8]) -> Vec<u8> {
    let size = (content.len() as u64).to_le_bytes();
    frame(
        0xf7,
        &[&size[..], blake3::hash(content).as_bytes()].concat(),
    )
}

fn bye() -> Vec<u8> {
    frame(0xf9, &[])
}

const SENDER: u8 = 1;
const RECEIVER: u8 = 2;

/// Everything from the offer to the verdict, without waiting.
fn file(name: &str, content: &[u8]) -> Vec<u8> {
    [
        offer(name, content.len() as u64),
        data(content),
        end(content),
    ]
    .concat()
}

/// A PUSH as a sender with a forged source address makes it: no answer is ever read.
fn push(conv: u32, sn: u32, payload: &[u8]) -> Vec<u8> {
    let mut datagram = conv.to_le_bytes().to_vec();
    datagram.extend([81, 0]);
    datagram.extend(128_u16.to_le_bytes());
    datagram.extend(1_u32.to_le_bytes());
    datagram.extend(sn.to_le_bytes());
    datagram.extend([0; 4]);
    datagram.extend((payload.len() as u32).to_le_bytes());
    datagram.extend(payload);
    datagram
}

/// Sends datagrams that look as if they came from as many addresses.
fn spoof(target: &str, payloads: &[&[u8]]) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (sn, payload) in payloads.iter().enumerate() {
        socket
            .send_to(&push(0x1234, sn as u32, payload), target)
            .unwrap();
    }
    socket
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// A peer that answers at its address and follows the greeting.
struct Peer {
    stream: KcpStream,
    _endpoint: KcpEndpoint,
}

impl Peer {
    async fn greeted(from: &str, target: &str, role: u8) -> Self {
        let config = EndpointConfig::new(KcpConfig::file_transfer());
        let from: SocketAddr = from.parse().unwrap();
        let endpoint = KcpEndpoint::bind(from, config).await.unwrap();
        let stream = endpoint.connect(target).await.unwrap();
        let mut peer = Self {
            stream,
            _endpoint: endpoint,
        };
        peer.send(&hello(2, role)).await;
        let welcome = peer.next().await;
        assert_eq!(welcome[0], 0xf2);
        let nonce = welcome[welcome.len() - 16..].to_vec();
        peer.send(&confirm(&nonce)).await;
        peer
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn next(&mut self) -> Vec<u8> {
        let mut frame = vec![0; 5];
        self.stream.read_exact(&mut frame).await.unwrap();
        let length = u32::from_le_bytes(frame[1..5].try_into().unwrap());
        frame.resize(5 + length as usize, 0);
        self.stream.read_exact(&mut frame[5..]).await.unwrap();
        frame
    }
}

#[test]
fn spoofed_datagrams_plant_no_file_and_end_no_receiver() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);
    let names_of_startup_files = [".zshenv", ".bash_profile", "authorized_keys", "-rf"];
    let mut sockets = Vec::new();
    for version in [1, 2] {
        let hello = hello(version, SENDER);
        for name in names_of_startup_files {
            let all = [hello.clone(), file(name, b"planted"), bye()].concat();
            sockets.push(spoof(&address, &[&all]));
            let guess = confirm(&[7; 16]);
            let all = [hello.clone(), guess, file(name, b"planted"), bye()].concat();
            sockets.push(spoof(&address, &[&all]));
        }
        // 41 bytes and more: a session without files.
        sockets.push(spoof(&address, &[&[hello.clone(), bye()].concat()]));
        sockets.push(spoof(&address, &[&hello, &bye()]));
        sockets.push(spoof(&address, &[&hello, &confirm(&[0; 16]), &bye()]));
        let many: Vec<u8> = (0..20).flat_map(|n| file(&format!("f{n}"), b"")).collect();
        sockets.push(spoof(&address, &[&hello, &many]));
        // A blind upload for an offer that no disk holds.
        let huge = offer("huge", 1 << 60);
        let piece = data(&[0; 1000]);
        sockets.push(spoof(&address, &[&hello, &huge, &piece, &piece]));
    }
    // Sockets that stay silent: with a closed one the kernel would tell the receiver.
    let (honest, _) = scratch.file("honest", 10_000);
    kcp(&["send", &honest, &address]).expect_code(0);
    receiver.finish().expect_code(0);
    assert_eq!(names(&into), ["honest"]);
    drop(sockets);
}

#[test]
fn spoofed_datagrams_end_no_server() {
    let scratch = Scratch::new();
    let (served, _) = scratch.file("served", 10_000);
    let into = scratch.directory("into");
    let (server, address) = listen(&["serve", &served, "--once"]);
    let mut sockets = Vec::new();
    for version in [1, 2] {
        let hello = hello(version, RECEIVER);
        sockets.push(spoof(&address, &[&[hello.clone(), bye()].concat()]));
        sockets.push(spoof(&address, &[&hello, &bye()]));
        sockets.push(spoof(&address, &[&hello, &frame(0xf4, &[])]));
    }
    // A client that is there, and takes nothing.
    runtime().block_on(async {
        let mut peer = Peer::greeted("127.0.0.1:0", &address, RECEIVER).await;
        assert_eq!(peer.next().await[0], 0xf3);
        peer.send(&frame(0xf5, &[2])).await;
        assert_eq!(peer.next().await[0], 0xf9);
        peer.stream.shutdown().await.unwrap();
    });
    kcp(&["recv", &address, "--into", &into]).expect_code(0);
    server.finish().expect_code(0);
    assert_eq!(names(&into), ["served"]);
    drop(sockets);
}

#[test]
fn early_frames_of_a_validated_peer_write_nothing() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);
    runtime().block_on(async {
        let mut peer = Peer::greeted("127.0.0.1:0", &address, SENDER).await;
        peer.send(&[file("early", b"content"), bye()].concat())
            .await;
        assert_eq!(peer.next().await[0], 0xfa);
    });
    receiver.wait_for_stderr("it sent on before our answer");
    assert!(names(&into).is_empty());
    let (honest, _) = scratch.file("honest", 10);
    kcp(&["send", &honest, &address]).expect_code(0);
    receiver.finish().expect_code(0);
    assert_eq!(names(&into), ["honest"]);
}

/// Sessions that are silent before or after the greeting keep no one out.
#[cfg(target_os = "linux")]
#[test]
fn idle_sessions_of_one_host_leave_slots_for_others() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);
    let mut spoofed = Vec::new();
    for _ in 0..200 {
        spoofed.push(spoof(&address, &[&hello(2, SENDER)]));
        spoofed.push(spoof(&address, &[&[0xf1]]));
    }
    let runtime = runtime();
    let idle = runtime.block_on(async {
        let mut idle = JoinSet::new();
        for _ in 0..64 {
            let mut peer = Peer::greeted("127.0.0.2:0", &address, SENDER).await;
            idle.spawn(async move { (peer.next().await[0], peer) });
        }
        // Eight of an address have a slot. Once the others are told to wait, all 64 have been counted.
        let mut waiting = Vec::new();
        for _ in 8..64 {
            let (kind, peer) = idle.join_next().await.unwrap().unwrap();
            assert_eq!(kind, 0xfc);
            waiting.push(peer);
        }
        let mut more = Peer::greeted("127.0.0.2:0", &address, SENDER).await;
        let refused = more.next().await;
        assert_eq!((refused[0], refused[5]), (0xfa, 8));
        (idle, waiting)
    });
    let (honest, _) = scratch.file("honest", 100_000);
    kcp(&["send", &honest, &address]).expect_code(0);
    receiver.finish().expect_code(0);
    assert_eq!(names(&into), ["honest"]);
    drop((idle, spoofed));
}

/// First datagrams with a greeting, about 1,000 a second from as many addresses as there are of 127.0.0.0/8,
/// cost honest senders nothing but time.
#[cfg(target_os = "linux")]
#[test]
fn a_flood_of_greetings_keeps_no_sender_out() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--into", &into]);
    let (stop, stopped) = channel::<()>();
    let flooded = address.clone();
    let flood = thread::spawn(move || {
        let mut host = 0_u32;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(Duration::from_millis(1)) {
            host = host.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            let source = Ipv4Addr::from(0x7f00_0000 | host >> 8);
            let Ok(socket) = UdpSocket::bind((source, 0)) else {
                continue;
            };
            let greeting = push(host, 0, &hello(2, SENDER));
            // An error of the datagram before: its socket is gone.
            let _ = socket.send_to(&greeting, &flooded);
        }
    });
    for name in ["a", "b", "c"] {
        let (honest, _) = scratch.file(name, 1_000_000);
        kcp(&["send", &honest, &address]).expect_code(0);
    }
    drop(stop);
    flood.join().unwrap();
    assert_eq!(names(&into), ["a", "b", "c"]);
    receiver.interrupt();
    receiver.finish().expect_code(0);
}

#[test]
fn a_validated_peer_that_stalls_loses_its_slot() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into, "--stall-timeout", "1s"]);
    runtime().block_on(async {
        let mut peer = Peer::greeted("127.0.0.1:0", &address, SENDER).await;
        peer.send(&offer("file", 1000)).await;
        assert_eq!(peer.next().await[0], 0xf4);
        peer.send(&data(&[0; 10])).await;
        let abort = peer.next().await;
        assert_eq!((abort[0], abort[5]), (0xfa, 9));
    });
    assert!(names(&into).is_empty());
    let (honest, _) = scratch.file("honest", 10);
    kcp(&["send", &honest, &address]).expect_code(0);
    receiver.finish().expect_code(0);
}

/// 20,000 declined offers once cost 84 MB of memory and 62 MB of output.
#[test]
fn declined_offers_cost_little_memory_and_output() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);
    runtime().block_on(async {
        let mut peer = Peer::greeted("127.0.0.1:0", &address, SENDER).await;
        // Of the longest names there are, all characters of which are replaced when printed.
        let offer = offer(&"\u{1}".repeat(1024), 1);
        peer.send(&offer).await;
        assert_eq!(peer.next().await[0], 0xf5);
        let before = receiver.peak_memory();
        for _ in 1..20_000 {
            peer.send(&offer).await;
            assert_eq!(peer.next().await[0], 0xf5);
        }
        let grown = receiver.peak_memory() - before;
        assert!(grown < 8 << 20, "{grown} bytes");
        peer.send(&bye()).await;
        peer.stream.shutdown().await.unwrap();
    });
    let (honest, _) = scratch.file("honest", 10);
    kcp(&["send", &honest, &address]).expect_code(0);
    let receiver = receiver.finish().expect_code(0);
    let output = receiver.stdout.len() + receiver.stderr.len();
    assert!(output < 10_000, "{output} bytes");
    assert!(receiver.stdout.contains("19990 more files"), "{receiver:?}");
}

/// What a peer costs that only opens sessions.
#[test]
fn sessions_that_fail_cost_little_output() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);
    let both = [hello(2, SENDER), bye()].concat();
    let sockets: Vec<_> = (0..500).map(|_| spoof(&address, &[&both])).collect();
    let (honest, _) = scratch.file("honest", 10);
    kcp(&["send", &honest, &address]).expect_code(0);
    let receiver = receiver.finish().expect_code(0);
    let output = receiver.stdout.len() + receiver.stderr.len();
    assert!(output < 10_000, "{output} bytes");
    drop(sockets);
}
