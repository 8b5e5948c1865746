//! The relay over real loopback sockets.

#![cfg(feature = "relay")]

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use kcp_netem::{LinkConfig, Loss, Probability, Relay, RelayOptions};

#[test]
fn forwards_both_ways_and_keeps_clients_apart() {
    let server = socket();
    let relay = relay_to(&server, LinkConfig::new());
    let clients = [socket(), socket()];
    let mut seen = Vec::new();
    for (i, client) in clients.iter().enumerate() {
        client.send_to(&[i as u8; 100], relay.local_addr()).unwrap();
        let (datagram, from) = receive(&server);
        assert_eq!(datagram, [i as u8; 100]);
        seen.push(from);
    }
    assert_ne!(seen[0], seen[1]);
    for (i, from) in seen.iter().enumerate() {
        server.send_to(&[b'r', i as u8], from).unwrap();
    }
    for (i, client) in clients.iter().enumerate() {
        assert_eq!(receive(client), (vec![b'r', i as u8], relay.local_addr()));
    }
    let stats = relay.stats();
    assert_eq!(
        (
            stats.clients,
            stats.up.offered_bytes,
            stats.down.offered_bytes
        ),
        (2, 200, 4)
    );
}

#[test]
fn empty_and_largest_datagrams_pass() {
    let server = socket();
    let relay = relay_to(&server, LinkConfig::new());
    let client = socket();
    for len in [0, 65_507] {
        client.send_to(&vec![7; len], relay.local_addr()).unwrap();
        assert_eq!(receive(&server).0, vec![7; len]);
    }
}

#[test]
fn delays_by_what_was_asked_and_never_less() {
    let delay = Duration::from_millis(20);
    let server = socket();
    let relay = relay_to(&server, LinkConfig::new().delay(delay));
    let client = socket();
    for _ in 0..5 {
        let start = Instant::now();
        client.send_to(b"ping", relay.local_addr()).unwrap();
        let (_, from) = receive(&server);
        assert!(start.elapsed() >= delay);
        server.send_to(b"pong", from).unwrap();
        receive(&client);
        // No upper bound: a busy machine may be late by any amount.
        assert!(start.elapsed() >= 2 * delay);
    }
}

#[test]
fn the_links_change_at_run_time() {
    let server = socket();
    let relay = relay_to(&server, LinkConfig::new());
    let client = socket();
    let lossy = LinkConfig::new().loss(Loss::Bernoulli(Probability::ALWAYS));
    relay.set_links(lossy, LinkConfig::new());
    client.send_to(b"lost", relay.local_addr()).unwrap();
    wait_until(|| relay.stats().up.dropped_loss == 1);
    relay.set_links(LinkConfig::new(), LinkConfig::new());
    relay.set_partitioned(true);
    client.send_to(b"cut", relay.local_addr()).unwrap();
    wait_until(|| relay.stats().up.dropped_partition == 1);
    relay.set_partitioned(false);
    client.send_to(b"through", relay.local_addr()).unwrap();
    assert_eq!(receive(&server).0, b"through");
}

#[test]
fn rebinding_gives_clients_new_addresses() {
    let server = socket();
    let relay = relay_to(&server, LinkConfig::new());
    let client = socket();
    client.send_to(b"a", relay.local_addr()).unwrap();
    let before = receive(&server).1;
    relay.rebind_clients();
    client.send_to(b"b", relay.local_addr()).unwrap();
    let after = receive(&server).1;
    assert_ne!(before, after);
    server.send_to(b"c", after).unwrap();
    assert_eq!(receive(&client).0, b"c");
}

#[test]
fn clients_are_bounded_and_idle_ones_forgotten() {
    let server = socket();
    let perfect = LinkConfig::new();
    let options = RelayOptions::new(perfect, perfect, 1)
        .max_clients(1)
        .idle_timeout(Duration::from_millis(40));
    let relay = Relay::bind_with(any_port(), server.local_addr().unwrap(), options).unwrap();
    let (one, two) = (socket(), socket());
    one.send_to(b"one", relay.local_addr()).unwrap();
    assert_eq!(receive(&server).0, b"one");
    // Either the second client is refused because the first is there, or the first has expired already.
    two.send_to(b"two", relay.local_addr()).unwrap();
    wait_until(|| relay.stats().refused == 1 || relay.stats().up.offered == 2);
    wait_until(|| relay.stats().clients == 0);
    assert!(relay.stats().expired >= 1);
    two.send_to(b"again", relay.local_addr()).unwrap();
    wait_until(|| relay.stats().up.offered >= 2);
}

#[test]
fn dropping_the_relay_frees_its_port() {
    let server = socket();
    for _ in 0..20 {
        let relay = relay_to(&server, LinkConfig::demo());
        let address = relay.local_addr();
        let client = socket();
        client.send_to(b"x", address).unwrap();
        drop(relay);
        UdpSocket::bind(address).unwrap();
    }
}

#[test]
fn a_closed_target_is_survived() {
    let server = socket();
    let relay = relay_to(&server, LinkConfig::new());
    let address = server.local_addr().unwrap();
    drop(server);
    let client = socket();
    client.send_to(b"nobody", relay.local_addr()).unwrap();
    wait_until(|| relay.stats().up.delivered == 1);
    let server = UdpSocket::bind(address).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    // The kernel may report the refusal to the next send, which costs that datagram.
    for _ in 0..3 {
        client.send_to(b"somebody", relay.local_addr()).unwrap();
    }
    // The first one left the link before the server came back, but perhaps not yet the relay.
    while receive(&server).0 != b"somebody" {}
}

fn relay_to(server: &UdpSocket, config: LinkConfig) -> Relay {
    Relay::bind(any_port(), server.local_addr().unwrap(), config, config, 1).unwrap()
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[track_caller]
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).expect("a datagram arrives");
    buffer.truncate(len);
    (buffer, from)
}

/// The relay's threads are not ours to step, so this polls; it ends as soon as the condition holds.
#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "the condition never held");
        std::thread::yield_now();
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
