//! Measures the relay itself: how late datagrams leave, and how many it carries.
//!
//! `cargo run --release -p kcp-netem --example relay_speed`
//!
//! Sender and receiver share the machine with the relay, so on few cores the second number is the sum of all three.

use std::{
    error::Error,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use kcp_netem::{LinkConfig, Relay};

fn main() -> Result<(), Box<dyn Error>> {
    lateness()?;
    for megabits in [200, 400, 800, 1600] {
        throughput(megabits)?;
    }
    Ok(())
}

/// One datagram at a time through 5 ms: how much later than that it arrives.
fn lateness() -> Result<(), Box<dyn Error>> {
    let delay = Duration::from_millis(5);
    let link = LinkConfig::new().delay(delay);
    let server = UdpSocket::bind(any_port())?;
    let relay = Relay::bind(any_port(), server.local_addr()?, link, link, 1)?;
    let client = UdpSocket::bind(any_port())?;
    let mut buffer = [0; 64];
    let mut late = Vec::new();
    for _ in 0..1000 {
        let start = Instant::now();
        client.send_to(b"x", relay.local_addr())?;
        server.recv_from(&mut buffer)?;
        late.push((start.elapsed() - delay).as_micros());
    }
    late.sort_unstable();
    println!(
        "late by us: min {} p50 {} p99 {} max {}",
        late[0], late[500], late[990], late[999]
    );
    Ok(())
}

/// Datagrams of 1400 bytes at an even rate for two seconds through 30 ms of delay.
fn throughput(megabits: u64) -> Result<(), Box<dyn Error>> {
    let link = LinkConfig::new().delay(Duration::from_millis(30));
    let server = big_socket()?;
    let relay = Relay::bind(any_port(), server.local_addr()?, link, link, 1)?;
    let client = big_socket()?;
    let count = megabits * 2_000_000 / (8 * 1400);
    server.set_read_timeout(Some(Duration::from_millis(300)))?;
    let receiver = thread::spawn(move || {
        let mut buffer = [0; 2048];
        let mut received = 0u64;
        while server.recv(&mut buffer).is_ok() {
            received += 1;
        }
        received
    });
    let start = Instant::now();
    let mut sent = 0;
    while sent < count {
        let due = (start.elapsed().as_micros() as u64 * megabits / (8 * 1400)).min(count);
        while sent < due {
            client.send_to(&[0; 1400], relay.local_addr())?;
            sent += 1;
        }
        thread::sleep(Duration::from_micros(200));
    }
    let received = receiver.join().expect("the receiver does not panic");
    let stats = relay.stats();
    println!(
        "{megabits} Mbit/s: sent {sent}, reached the relay {}, left it {}, arrived {received}",
        stats.up.offered, stats.up.delivered
    );
    Ok(())
}

fn big_socket() -> Result<UdpSocket, Box<dyn Error>> {
    let socket = UdpSocket::bind(any_port())?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(4 << 20)?;
    options.set_send_buffer_size(4 << 20)?;
    Ok(socket)
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
