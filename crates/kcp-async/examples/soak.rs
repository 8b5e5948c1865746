//! Hundreds of sessions that come and go over a lossy relay for as long as told, every byte checked.
//!
//! ```text
//! cargo run --release -p kcp-async --example soak -- [minutes [sessions [loss-percent [seed]]]]
//! ```
//!
//! Fails if a byte is wrong, missing or too many, if an orderly session does not end in order, if
//! memory grows with the number of sessions served, or if anything is left at the end.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kcp_async::{EndpointConfig, KcpConfig, KcpEndpoint, KcpListener, KcpStream};
use kcp_netem::{LinkConfig, Loss, Probability, Relay, RelayOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::sleep;

type Failure = Box<dyn Error + Send + Sync>;

/// What a client does when it has written everything; it says so in the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Shuts down, reads to the end.
    Close = 0,
    /// Lets the stream fall.
    Drop = 1,
    /// Goes silent at once.
    Abort = 2,
}

#[derive(Debug, Default)]
struct Totals {
    closed: AtomicU64,
    dropped: AtomicU64,
    aborted: AtomicU64,
    served: AtomicU64,
    bytes_checked: AtomicU64,
    /// Sessions that did not go as they must; each is printed.
    failed: AtomicU64,
    /// Longest shutdown, in ms.
    slowest_close: AtomicU64,
    /// Longest that a ready task waited for its turn, in ms: how starved the process was.
    latest_turn: AtomicU64,
}

impl Totals {
    /// One bad session ends nothing else: what follows from it would look like its cause.
    fn fail(&self, what: &str) {
        println!("FAILED: {what}");
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Arguments {
    minutes: f64,
    sessions: u64,
    loss: u32,
    seed: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let Arguments {
        minutes,
        sessions,
        loss,
        seed,
    } = arguments()?;
    println!("{minutes} minutes, {sessions} sessions at a time, {loss} % loss, seed {seed}");

    // Nothing tells a server of a client that went silent when it owed nothing: a minute each.
    let config = EndpointConfig::new(KcpConfig::turbo_mode())
        .allow_shared_remote(true)
        .idle_timeout(Some(Duration::from_secs(60)))
        .linger(Duration::from_secs(60));
    let listener = Arc::new(KcpListener::bind("127.0.0.1:0", &config).await?);
    let link = LinkConfig::new()
        .delay(Duration::from_millis(10))
        .loss(Loss::Bernoulli(Probability::percent(loss)));
    let options = RelayOptions::new(link, link, seed).idle_timeout(Duration::from_secs(40));
    let relay = Relay::bind_with("127.0.0.1:0".parse()?, listener.local_addr(), options)?;
    let shared = KcpEndpoint::bind("127.0.0.1:0", &config).await?;

    let totals = Arc::new(Totals::default());
    let serving = tokio::spawn(serve(Arc::clone(&listener), Arc::clone(&totals)));

    tokio::spawn(watch_turns(Arc::clone(&totals)));

    let start = Instant::now();
    let end = start + Duration::from_secs_f64(minutes * 60.0);
    let mut clients = JoinSet::new();
    for lane in 0..sessions {
        let (totals, config) = (Arc::clone(&totals), config.clone());
        // Half of the lanes have a socket for each session, half share one.
        let endpoint = (lane % 2 == 0).then(|| shared.clone());
        let server = relay.local_addr();
        clients.spawn(async move {
            let mut draw = Draw(mix(seed, lane));
            // The lanes do not start all at once.
            sleep(Duration::from_millis(draw.below(5_000))).await;
            while Instant::now() < end {
                let connected = match &endpoint {
                    Some(endpoint) => endpoint.connect(server).await,
                    None => KcpStream::connect(server, &config).await,
                };
                let outcome = match connected {
                    Ok(stream) => converse(stream, &mut draw, &totals).await,
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = outcome {
                    totals.fail(&format!("client, lane {lane}: {error}"));
                }
            }
        });
    }

    let mut memory = Memory::new(start);
    let mut sample = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            _ = sample.tick() => {
                memory.note(&totals, &listener)?;
                println!("            {:?}", relay.stats());
            }
            joined = clients.join_next() => match joined {
                Some(result) => result?,
                None => break,
            },
        }
    }

    listener.close();
    serving.await?;
    drain(&listener, &shared).await?;
    println!("{totals:?}");
    println!("relay: {:?}", relay.stats());
    memory.verdict()?;
    match totals.failed.load(Ordering::Relaxed) {
        0 => Ok(()),
        failed => Err(format!("{failed} sessions failed").into()),
    }
}

/// One session from its first byte to its end.
async fn converse(mut stream: KcpStream, draw: &mut Draw, totals: &Totals) -> Result<(), Failure> {
    let plan = match draw.below(10) {
        0 => Plan::Drop,
        1 => Plan::Abort,
        _ => Plan::Close,
    };
    let key = draw.next();
    let length = 1 + draw.below(64 * 1_024);
    let pause = draw.below(2_000);
    let content = Content { key, plan };
    if plan != Plan::Close {
        write(&mut stream, content, length, pause).await?;
        if plan == Plan::Abort {
            stream.abort();
        }
        let count = if plan == Plan::Abort {
            &totals.aborted
        } else {
            &totals.dropped
        };
        count.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let (mut read, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        write(&mut writer, content, length, pause).await?;
        let start = Instant::now();
        writer.shutdown().await?;
        Ok::<_, Failure>(start.elapsed())
    });
    let mut at = 0;
    let mut buffer = [0; 8_192];
    loop {
        let n = read.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        for (offset, &byte) in buffer[..n].iter().enumerate() {
            let offset = at + offset as u64;
            if offset >= length || byte != content.byte(offset) {
                return Err(format!("byte {offset} of {length} is wrong, key {key:#x}").into());
            }
        }
        at += n as u64;
    }
    let closing = writing.await??;
    totals
        .slowest_close
        .fetch_max(closing.as_millis() as u64, Ordering::Relaxed);
    if at != length {
        return Err(format!("{at} of {length} bytes came back, key {key:#x}").into());
    }
    totals.bytes_checked.fetch_add(at, Ordering::Relaxed);
    totals.closed.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn write<W>(to: &mut W, content: Content, length: u64, pause: u64) -> Result<(), Failure>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut at = 0;
    while at < length {
        let size = (length - at).min(2_048);
        let chunk: Vec<u8> = (at..at + size).map(|n| content.byte(n)).collect();
        to.write_all(&chunk).await?;
        at += size;
        sleep(Duration::from_millis(pause)).await;
    }
    Ok(())
}

/// Echoes every session until the listener closes, then waits for those that are left.
async fn serve(listener: Arc<KcpListener>, totals: Arc<Totals>) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let totals = Arc::clone(&totals);
        sessions.spawn(async move {
            totals.served.fetch_add(1, Ordering::Relaxed);
            echo(stream, &totals).await;
        });
        while let Some(result) = sessions.try_join_next() {
            result.expect("no session panics");
        }
    }
    while let Some(result) = sessions.join_next().await {
        result.expect("no session panics");
    }
}

/// A client that announced an orderly end must get one; any other may end as it likes.
async fn echo(mut stream: KcpStream, totals: &Totals) {
    let mut orderly = false;
    match echo_until_end(&mut stream, &mut orderly).await {
        Err(error) if orderly => {
            let (peer, stats) = (stream.peer_addr(), stream.stats());
            totals.fail(&format!("server: {peer}: {error}: {stats:?}"));
        }
        _ => {}
    }
}

async fn echo_until_end(stream: &mut KcpStream, orderly: &mut bool) -> std::io::Result<()> {
    let mut buffer = [0; 8_192];
    let mut first = true;
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        if std::mem::take(&mut first) {
            *orderly = buffer[0] == Plan::Close as u8;
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

async fn watch_turns(totals: Arc<Totals>) {
    loop {
        let due = Instant::now() + Duration::from_millis(50);
        sleep(Duration::from_millis(50)).await;
        let late = due.elapsed().as_millis() as u64;
        totals.latest_turn.fetch_max(late, Ordering::Relaxed);
    }
}

/// Nothing may be left: no session, no embryo, nobody in the queue, no time-wait.
async fn drain(listener: &KcpListener, shared: &KcpEndpoint) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let all = [listener.stats(), shared.stats()];
        let left: usize = all
            .iter()
            .map(|stats| stats.sessions + stats.embryos + stats.waiting + stats.time_wait)
            .sum();
        if left == 0 {
            println!("nothing left after {:.1?}", start.elapsed());
            println!("server: {:?}", all[0]);
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(120) {
            return Err(format!("{left} things left after two minutes: {all:?}").into());
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Resident memory over time, and by sessions served.
struct Memory {
    start: Instant,
    settled: Instant,
    /// Sessions served, KiB resident; after the start has settled.
    samples: Vec<(f64, f64)>,
    minutes: Vec<f64>,
}

impl Memory {
    /// The first minutes are for caches and pools to fill, and for the first silent sessions to end.
    fn new(start: Instant) -> Self {
        Self {
            start,
            settled: start + SETTLING,
            samples: Vec::new(),
            minutes: Vec::new(),
        }
    }

    fn note(&mut self, totals: &Totals, listener: &KcpListener) -> Result<(), Failure> {
        let status = fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .ok_or("no VmRSS")?
            .trim()
            .parse()?;
        let served = totals.served.load(Ordering::Relaxed);
        let minutes = self.start.elapsed().as_secs_f64() / 60.0;
        let live = listener.stats().sessions;
        println!(
            "{minutes:6.1} min: {kib:8.0} KiB resident, {served} served, {live} live, slowest close {} ms, \
             latest turn {} ms",
            totals.slowest_close.load(Ordering::Relaxed),
            totals.latest_turn.load(Ordering::Relaxed),
        );
        if Instant::now() >= self.settled {
            self.samples.push((served as f64, kib));
            self.minutes.push(minutes);
        }
        Ok(())
    }

    /// A session that is not freed leaves its cell, which is larger than [`LEAK`]; so does whatever
    /// else is kept per session. Growth below that is the allocator's.
    fn verdict(&self) -> Result<(), Failure> {
        let by_time: Vec<_> = self
            .minutes
            .iter()
            .zip(&self.samples)
            .map(|(&minutes, &(_, kib))| (minutes, kib))
            .collect();
        let per_session = slope(&self.samples) * 1_024.0;
        if self.samples.is_empty() {
            println!("too short to say anything about memory");
        } else {
            println!(
                "memory after {SETTLING:?}: {:+.1} KiB a minute, {per_session:+.1} bytes a session",
                slope(&by_time),
            );
        }
        if per_session > LEAK {
            return Err("memory grows with the sessions served".into());
        }
        Ok(())
    }
}

/// Before this, memory says nothing.
const SETTLING: Duration = Duration::from_secs(300);
/// Bytes per session served that would be a leak.
const LEAK: f64 = 256.0;

/// Of the least-squares line.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len().max(1) as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / n;
    let (mut over, mut under) = (0.0, 0.0);
    for (x, y) in points {
        over += (x - mean_x) * (y - mean_y);
        under += (x - mean_x).powi(2);
    }
    if under == 0.0 { 0.0 } else { over / under }
}

/// What a session carries: the plan, then bytes that depend on key and place.
#[derive(Clone, Copy)]
struct Content {
    key: u64,
    plan: Plan,
}

impl Content {
    fn byte(self, at: u64) -> u8 {
        match at {
            0 => self.plan as u8,
            _ => (mix(self.key, at / 8) >> (at % 8 * 8)) as u8,
        }
    }
}

struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0, 0)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// splitmix64's finish.
const fn mix(key: u64, n: u64) -> u64 {
    let mut z = key.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn arguments() -> Result<Arguments, Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let get = |at: usize, default: &str| args.get(at).map_or(default, String::as_str).to_owned();
    Ok(Arguments {
        minutes: get(0, "30").parse()?,
        sessions: get(1, "500").parse()?,
        loss: get(2, "3").parse()?,
        seed: get(3, "1").parse()?,
    })
}
