//! What forged first datagrams cost the sessions of an endpoint: bulk and echo beside a flood into the
//! endpoint's socket, and beside the same flood into another socket that no one reads.
//!
//! ```text
//! scripts/bench-flood.sh [rounds [seconds [datagrams-per-second]]]
//! ```
//!
//! Server, client and flood are processes. The flood comes from all of 127.0.0.0/8, each datagram from
//! another address, so Linux only.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kcp_async::{KcpConfig, KcpListener, KcpStream};
use kcp_engine::{Command as Cmd, Conv, KcpHeader, Sn, WireTs};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => serve().await,
        ["forge", what, addr, rate, secs] => {
            let rate = rate.parse()?;
            let time = Duration::from_secs(secs.parse()?) + Duration::from_millis(500);
            forge(what == "same", addr.parse()?, rate, time)
        }
        ["bulk", addr, secs] => bulk(addr, secs.parse()?).await,
        ["echo", addr, secs] => echo(addr, secs.parse()?).await,
        ["join", addr, secs] => join(addr, secs.parse()?).await,
        [rounds, secs, rate] => compare(rounds.parse()?, secs, rate),
        _ => Err("usage: flood ROUNDS SECONDS DATAGRAMS-PER-SECOND".into()),
    }
}

/// Runs all combinations in turn, so that what else loads the machine loads each of them.
fn compare(rounds: usize, secs: &str, rate: &str) -> Outcome<()> {
    for round in 1..=rounds {
        for workload in ["bulk", "echo"] {
            for target in ["other", "garbage", "same"] {
                let result = run(workload, target, secs, rate)?;
                println!("round {round} | {workload} | flood at {target} socket | {result}");
            }
        }
    }
    Ok(())
}

/// One workload beside one flood, on a server of its own.
fn run(workload: &str, target: &str, secs: &str, rate: &str) -> Outcome<String> {
    let mut server = start(&["server"])?;
    let addrs = first_line(&mut server)?;
    let (kcp, other) = addrs.split_once(' ').ok_or("two addresses")?;
    let mut client = start(&[workload, kcp, secs])?;
    // The client is established before the flood begins.
    std::thread::sleep(Duration::from_millis(1_500));
    let flooded = if target == "other" { other } else { kcp };
    let mut forger = start(&["forge", target, flooded, rate, secs])?;
    let mut joining = start(&["join", kcp, secs])?;
    let mut result = first_line(&mut client)?;
    result += &format!(" | new clients: {}", first_line(&mut joining)?);
    result += &format!(" | flood: {}", first_line(&mut forger)?);
    for child in [&mut client, &mut joining, &mut forger] {
        child.wait()?;
    }
    drop(server.stdin.take());
    result += &format!(" | server: {}", first_line(&mut server)?);
    server.wait()?;
    Ok(result)
}

fn start(args: &[&str]) -> Outcome<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).stdin(Stdio::piped());
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

fn first_line(child: &mut Child) -> Outcome<String> {
    let out = child.stdout.as_mut().ok_or("no output")?;
    // A line a time is all that any of them writes, so nothing is lost in the buffer.
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Echoes every stream but those that begin with `B`, which it only reads. Ends with its input.
async fn serve() -> Outcome<()> {
    let listener = KcpListener::bind("127.0.0.1:0", KcpConfig::file_transfer()).await?;
    let unread = UdpSocket::bind("127.0.0.1:0")?;
    println!("{} {}", listener.local_addr(), unread.local_addr()?);
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    };
    tokio::select! {
        _ = ended => {}
        () = accepting => {}
    }
    let stats = listener.stats();
    println!(
        "accepted {}, refused by the budget {}",
        stats.accepted, stats.dropped_opening
    );
    Ok(())
}

async fn answer(stream: KcpStream) {
    let mut buffer = vec![0; 65_536];
    let mut only_reads = None;
    while let Ok(length @ 1..) = stream.recv(&mut buffer).await {
        let only_reads = *only_reads.get_or_insert(buffer[0] == b'B');
        if !only_reads && stream.send(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Sends first datagrams of 25 bytes at a rate, as even as a sleep of a millisecond allows.
fn forge(opens: bool, to: SocketAddr, rate: u64, time: Duration) -> Outcome<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    let start = Instant::now();
    let mut sent: u64 = 0;
    while start.elapsed() < time {
        let due = start.elapsed().as_micros() as u64 * rate / 1_000_000;
        while sent < due {
            sent += 1;
            let contents = first_datagram(sent as u32, opens);
            let [_, a, b, c] = (sent as u32).wrapping_mul(2_654_435_761).to_be_bytes();
            let transmit = Transmit {
                destination: to,
                ecn: None,
                contents: &contents,
                segment_size: None,
                src_ip: Some(IpAddr::V4(Ipv4Addr::new(127, a, b, c | 1))),
            };
            // What the system refuses was sent as far as the flood is concerned.
            let _ = state.try_send(UdpSockRef::from(&socket), &transmit);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{:.0}/s", sent as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn first_datagram(conv: u32, opens: bool) -> Vec<u8> {
    let header = KcpHeader {
        conv: Conv::new(conv),
        cmd: Cmd::Push.to_wire(),
        frg: 0,
        wnd: 128,
        ts: WireTs::new(0),
        sn: Sn::new(0),
        una: Sn::new(u32::from(!opens)),
        len: 1,
    };
    [header.to_bytes().as_slice(), b"x"].concat()
}

/// Sends as fast as the server reads.
async fn bulk(addr: &str, secs: u64) -> Outcome<()> {
    let stream = KcpStream::connect(addr, KcpConfig::file_transfer()).await?;
    let block = vec![b'B'; 32_768];
    let mut measured = None;
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < WARM_UP + Duration::from_secs(secs) {
        stream.send(&block).await?;
        if start.elapsed() >= WARM_UP {
            measured.get_or_insert_with(Instant::now);
            bytes += block.len();
        }
    }
    let took = measured.ok_or("no time")?.elapsed();
    println!("{:.0} MB/s", bytes as f64 / took.as_secs_f64() / 1e6);
    Ok(())
}

/// 64 bytes there and back, a millisecond apart.
async fn echo(addr: &str, secs: u64) -> Outcome<()> {
    let stream = KcpStream::connect(addr, KcpConfig::file_transfer()).await?;
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < WARM_UP + Duration::from_secs(secs) {
        let took = exchange(&stream).await?;
        if start.elapsed() >= WARM_UP {
            times.push(took);
        }
        sleep(Duration::from_millis(1)).await;
    }
    println!("{}", percentiles(times));
    Ok(())
}

/// A new client every 50 ms: how long until it has its first answer.
async fn join(addr: &str, secs: u64) -> Outcome<()> {
    let mut clients = JoinSet::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(secs) {
        let addr = addr.to_owned();
        clients.spawn(async move {
            let stream = KcpStream::connect(addr, KcpConfig::file_transfer()).await?;
            exchange(&stream).await
        });
        sleep(Duration::from_millis(50)).await;
    }
    let results = clients.join_all().await;
    let tried = results.len();
    let times: Vec<_> = results.into_iter().flatten().collect();
    println!(
        "{} of {tried} answered, {}",
        times.len(),
        percentiles(times)
    );
    Ok(())
}

async fn exchange(stream: &KcpStream) -> Outcome<Duration> {
    let start = Instant::now();
    stream.send(&[b'e'; 64]).await?;
    timeout(Duration::from_secs(10), stream.recv_message()).await??;
    Ok(start.elapsed())
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        let time = times.get(index.min(times.len().saturating_sub(1)));
        time.copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, longest {:.1} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

const WARM_UP: Duration = Duration::from_secs(2);
