//! Many tasks on real sockets, doing whatever the API allows, for a few seconds.
//!
//! Sessions are opened, written, read, split, shut down, aborted and dropped at drawn moments;
//! half of all futures are dropped after a drawn number of polls and started again. A session that
//! nobody kills must carry every byte and end orderly on both sides; one that is killed must not
//! harm the others. A missed wake-up shows as a round that does not end.
//!
//! `KCP_SPIN_MINUTES` runs longer; `KCP_SPIN_SEED` runs one round again (on two threads it is the
//! same work, not the same interleaving).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod chance;
mod plan;
mod transfer;

use std::env;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcp_async::{EndpointConfig, KcpConfig, KcpEndpoint, KcpError, KcpListener, KcpStream};
use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use chance::{Chance, mix};
use plan::{Death, Plan, Plans, Side};
use transfer::{read_all, shut_down, write_all};

#[test]
fn one_thread() {
    spin(|| Builder::new_current_thread().enable_all().build().unwrap());
}

#[test]
fn two_threads() {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    spin(move || builder.build().unwrap());
}

/// Round after round, until the time is over.
fn spin(mut runtime: impl FnMut() -> Runtime) {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let time = number("KCP_SPIN_MINUTES").map_or(QUICK, |n| Duration::from_secs(60 * n));
    let began = Instant::now();
    let mut totals = Totals::default();
    let first = number("KCP_SPIN_SEED");
    for seed in first.unwrap_or(0).. {
        eprintln!("KCP_SPIN_SEED={seed}");
        let runtime = runtime();
        let (survivor, round) = runtime.block_on(async {
            let round = tokio::time::timeout(PATIENCE, round(seed));
            round
                .await
                .expect("a round does not end: a wake-up is missing")
        });
        totals.add(&round);
        drop(runtime);
        outlives_its_runtime(&survivor);
        if first.is_some() || began.elapsed() >= time {
            break;
        }
    }
    println!("{totals:?} in {:?}", began.elapsed());
}

/// A handle that is left when its driver is gone fails at once.
fn outlives_its_runtime(stream: &KcpStream) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let sent = runtime.block_on(stream.send(b"too late"));
    assert!(matches!(sent, Err(KcpError::Connection(_))), "{sent:?}");
}

#[derive(Debug, Default)]
struct Totals {
    rounds: u64,
    sessions: u64,
    killed: u64,
    /// Of those, sessions whose other side was told nothing.
    aborted: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, round: &Self) {
        self.rounds += 1;
        self.sessions += round.sessions;
        self.killed += round.killed;
        self.aborted += round.aborted;
        self.bytes += round.bytes;
    }
}

/// One listener, some clients, some sessions of each; returns a live stream for afterwards.
async fn round(seed: u64) -> (KcpStream, Totals) {
    let mut chance = Chance::new(seed);
    let config = draw_config(&mut chance);
    let listener = Arc::new(KcpListener::bind("127.0.0.1:0", &config).await.unwrap());
    let to = listener.local_addr();
    let plans = Plans::default();
    let server = tokio::spawn(serve(Arc::clone(&listener), plans.clone(), chance.next()));

    let shared = KcpEndpoint::bind("127.0.0.1:0", &config).await.unwrap();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut chance = Chance::new(mix(seed << 8 | client));
        let (plans, config, shared) = (plans.clone(), config.clone(), shared.clone());
        clients.spawn(async move {
            let mut totals = Totals::default();
            for _ in 0..=chance.below(SESSIONS) {
                let plan = Arc::new(Plan::new(chance.next()));
                plans.insert(&plan);
                let stream = match chance.one_in(2) {
                    true => until_done(&mut chance, || KcpStream::connect(to, &config)).await,
                    false => until_done(&mut chance, || shared.connect(to)).await,
                };
                // The first datagram, so it is there when the session is accepted.
                stream.send(&plan.id.to_le_bytes()).await.unwrap();
                totals.sessions += 1;
                let killed = live(&plan, Side::Client, stream).await;
                totals.killed += u64::from(killed);
                totals.aborted += u64::from(killed && plan.aborts());
                totals.bytes += plan.bytes(Side::Client) + plan.bytes(Side::Server);
            }
            totals
        });
    }
    let mut totals = Totals::default();
    while let Some(client) = clients.join_next().await {
        let client = client.unwrap();
        totals.add(&client);
    }
    // Every session was accepted, unless its client has reset it.
    while plans.are_owed() {
        tokio::time::sleep(POLL).await;
    }
    listener.close();
    server.await.unwrap();
    // What was dropped closes in the background, except where the peer fell silent at once.
    let remaining = || (listener.stats().sessions + shared.stats().sessions) as u64;
    while remaining() > totals.aborted {
        tokio::time::sleep(POLL).await;
    }
    let survivor = shared.connect(to).await.unwrap();
    survivor.send(b"nobody listens").await.unwrap();
    (survivor, totals)
}

/// A new future for each that was dropped.
async fn until_done<F: Future<Output = Result<KcpStream, KcpError>>>(
    chance: &mut Chance,
    mut start: impl FnMut() -> F,
) -> KcpStream {
    loop {
        if let Some(stream) = chance.cut(start()).await {
            return stream.unwrap();
        }
    }
}

/// Accepts until the listener is closed, then waits for all sessions.
async fn serve(listener: Arc<KcpListener>, plans: Plans, seed: u64) {
    let mut chance = Chance::new(seed);
    let mut sessions = JoinSet::new();
    loop {
        let mut stream = match chance.cut(listener.accept()).await {
            None => continue,
            Some(Ok((stream, _))) => stream,
            Some(Err(_)) => break,
        };
        let plans = plans.clone();
        sessions.spawn(async move {
            let mut id = [0; 8];
            stream.read_exact(&mut id).await.unwrap();
            let plan = plans.take(u64::from_le_bytes(id));
            live(&plan, Side::Server, stream).await;
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.unwrap();
    }
}

/// One side of a session, from the first byte to the end. Says whether it was killed.
async fn live(plan: &Arc<Plan>, side: Side, mut stream: KcpStream) -> bool {
    let mut chance = plan.chance(side, 3);
    match chance.below(3) {
        0 => {
            let done = tokio::select! {
                () = in_one_task(plan, side, &mut stream) => true,
                () = plan.killed() => false,
            };
            if !done && plan.death_of(side) == Some(Death::Abort) {
                stream.abort();
                assert!(stream.close_reason().is_some());
            }
            !done
        }
        1 => tokio::select! {
            () = reunited(plan, side, stream) => false,
            () = plan.killed() => true,
        },
        _ => tokio::select! {
            () = in_two_tasks(plan, side, stream, chance.one_in(2)) => false,
            () = plan.killed() => true,
        },
    }
}

async fn in_one_task(plan: &Plan, side: Side, stream: &mut KcpStream) {
    let (mut read, mut write) = stream.split();
    let mut progress = 0;
    tokio::join!(read_all(plan, side, &mut read, &mut progress), async {
        write_all(plan, side, &mut write).await;
        shut_down(plan, side, &mut write).await;
    });
}

/// The halves are put together again in the middle; what was being read goes on afterwards.
async fn reunited(plan: &Plan, side: Side, stream: KcpStream) {
    let (mut read, mut write) = stream.into_split();
    let mut progress = 0;
    {
        let mut reading = pin!(read_all(plan, side, &mut read, &mut progress));
        let mut writing = pin!(write_all(plan, side, &mut write));
        tokio::select! {
            () = &mut reading => writing.await,
            () = &mut writing => {}
        }
    }
    let mut stream = read.reunite(write).unwrap();
    let (mut read, mut write) = stream.split();
    tokio::join!(
        read_all(plan, side, &mut read, &mut progress),
        shut_down(plan, side, &mut write)
    );
}

/// Each half has a task. The writing half is shut down, or just dropped.
async fn in_two_tasks(plan: &Arc<Plan>, side: Side, stream: KcpStream, shuts_down: bool) {
    let (mut read, mut write) = stream.into_split();
    let mut tasks = JoinSet::new();
    let its_plan = Arc::clone(plan);
    tasks.spawn(async move {
        let mut progress = 0;
        read_all(&its_plan, side, &mut read, &mut progress).await;
    });
    let its_plan = Arc::clone(plan);
    tasks.spawn(async move {
        write_all(&its_plan, side, &mut write).await;
        if shuts_down {
            shut_down(&its_plan, side, &mut write).await;
        }
    });
    while let Some(half) = tasks.join_next().await {
        half.unwrap();
    }
}

/// Times so long that only a bug reaches them, also on a busy machine.
fn draw_config(chance: &mut Chance) -> EndpointConfig {
    let protocol = match chance.below(4) {
        0 => KcpConfig::fast_mode(),
        1 => KcpConfig::gaming(),
        2 => KcpConfig::file_transfer(),
        _ => KcpConfig::turbo_mode(),
    };
    EndpointConfig::new(protocol.stream_mode(chance.one_in(2)))
        .allow_shared_remote(true)
        .linger(PATIENCE)
        .dead_peer_timeout(Some(PATIENCE))
        .connect_timeout(Some(PATIENCE))
        .unproven_timeout(PATIENCE)
        .send_queue_limit(chance.one_in(2).then_some(10_000))
}

const CLIENTS: u64 = 6;
/// Of each client, at most.
const SESSIONS: u64 = 6;
const QUICK: Duration = Duration::from_secs(2);
/// A round takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a condition that has no event is looked at.
const POLL: Duration = Duration::from_millis(1);
