//! Forged first datagrams over the system's UDP: what a session costs in memory, and what is left to
//! do afterwards. Each measurement has a process of its own.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use kcp_async::{EndpointConfig, KcpEndpoint, KcpStream};

use crate::net::segment;
use crate::wire::{echo, figure, opener, sink, turbo};

/// Runs an ignored test of this binary alone and returns what it printed.
fn alone(name: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    text.lines()
        .filter(|line| line.starts_with("FIGURE"))
        .for_each(|line| println!("{line}"));
    text
}

/// Sends `count` datagrams from eight source prefixes; returns when the server has read them all.
async fn flood(server: &KcpEndpoint, count: u32, datagram: impl Fn(u32) -> Vec<u8>) {
    let to = server.local_addr();
    let sockets: Vec<UdpSocket> = (0..8)
        .map(|n| UdpSocket::bind(SocketAddr::from(([127, 0, n, 1], 0))).unwrap())
        .collect();
    let before = server.stats().datagrams_received;
    for n in 0..count {
        sockets[n as usize % 8].send_to(&datagram(n), to).unwrap();
        // No more under way than the socket's buffer holds, so none is lost, and no receive call that is full at the end,
        // so that none is refused (11.4.2).
        if n % 255 == 254 || n + 1 == count {
            while server.stats().datagrams_received - before < u64::from(n) + 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

/// Time on a processor of all threads.
fn busy() -> Duration {
    let nanos = fs::read_dir("/proc/self/task").unwrap().map(|task| {
        let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanos.sum())
}

/// The share of one core that the process uses while nothing more is sent.
async fn load_after() -> f64 {
    let (start, spent) = (Instant::now(), busy());
    tokio::time::sleep(Duration::from_secs(5)).await;
    (busy() - spent).as_secs_f64() / start.elapsed().as_secs_f64()
}

async fn a_client_is_served(server: &KcpEndpoint) {
    let client = KcpStream::connect(server.local_addr(), turbo())
        .await
        .unwrap();
    client.send(b"still there?").await.unwrap();
    assert_eq!(client.recv_message().await.unwrap(), b"still there?");
}

#[test]
#[cfg(target_os = "linux")]
fn a_forged_datagram_costs_a_tenth_of_what_kcp_go_pays() {
    alone("loopback::measure_memory");
}

#[test]
#[cfg(target_os = "linux")]
fn a_forged_datagram_of_many_segments_costs_what_it_carries() {
    alone("loopback::measure_dense_memory");
}

#[test]
#[cfg(target_os = "linux")]
fn forged_sessions_leave_the_processor_alone() {
    alone("loopback::measure_load");
}

/// All of them come from eight addresses.
fn crowd() -> EndpointConfig {
    turbo().per_source_limit(65_536).allow_shared_remote(true)
}

/// Forged sessions that all live until they have been weighed, however slow the machine is.
fn patient() -> EndpointConfig {
    crowd().unproven_timeout(Duration::from_secs(3_600))
}

/// As many as the table takes.
#[tokio::test]
#[ignore = "run by a_forged_datagram_costs_a_tenth_of_what_kcp_go_pays"]
async fn measure_memory() {
    let server = KcpEndpoint::bind("127.0.0.1:0", patient()).await.unwrap();
    echo(&server);
    flood(&server, 256, |n| opener(n + 1)).await;
    let before = resident();
    flood(&server, 65_280, |n| opener(n + 1_000)).await;
    assert_eq!(server.stats().sessions, 65_536);
    let each = resident().saturating_sub(before) / 65_280;
    assert!(each <= MOST_BYTES, "{each} bytes a session");
    figure(
        "65,536 forged first datagrams of 25 B over loopback, echo: memory each",
        format!("{each} B, the application's task included"),
        "88 KiB (112 with FEC)",
    );
}

/// As many segments as fit: what they carry is small, and so must be what they cost.
#[tokio::test]
#[ignore = "run by a_forged_datagram_of_many_segments_costs_what_it_carries"]
async fn measure_dense_memory() {
    let server = KcpEndpoint::bind("127.0.0.1:0", patient()).await.unwrap();
    let dense = |conv: u32| -> Vec<u8> {
        (0..56)
            .flat_map(|n| segment(conv, kcp_engine::Command::Push, n * 2, 0, b"x"))
            .collect()
    };
    assert_eq!(dense(1).len(), 1_400);
    sink(&server);
    flood(&server, 256, |n| dense(n + 1)).await;
    let before = resident();
    flood(&server, 10_000, |n| dense(n + 1_000)).await;
    assert_eq!(server.stats().sessions, 10_256);
    let each = resident().saturating_sub(before) / 10_000;
    figure(
        "10,000 forged first datagrams of 56 segments, 1,400 B: memory each",
        format!("{each} B"),
        "not measured; a 1,500 B buffer for each segment",
    );
    // A reader that has taken nothing but the first: 55 segments, each with a slot of the ring (it
    // has 128 slots) and an allocation, which together are less than 128 bytes.
    assert!(each <= MOST_BYTES + 128 * 128, "{each} bytes a session");
}

/// What a session that was never anything but a datagram may cost, the application's task included:
/// a tenth of kcp-go's.
const MOST_BYTES: usize = 88 * 1_024 / 10;

/// kcp-go's experiment: 4,000 datagrams, then silence.
#[tokio::test]
#[ignore = "run by forged_sessions_leave_the_processor_alone"]
async fn measure_load() {
    let server = KcpEndpoint::bind("127.0.0.1:0", crowd()).await.unwrap();
    echo(&server);
    flood(&server, 4_000, |n| opener(n + 1)).await;
    assert_eq!(server.stats().sessions, 4_000);
    let small = load_after().await;
    a_client_is_served(&server).await;
    flood(&server, 100_000, |n| opener(n + 10_000)).await;
    let large = load_after().await;
    figure(
        "processor afterwards, echo: 4,000 forged / 65,536 forged",
        format!(
            "{:.1} % / {:.1} % of a core, for 10 s",
            small * 100.0,
            large * 100.0
        ),
        "50-57 % (4,000), for good",
    );
}
