//! Many sessions: their memory, what they cost while idle, and an echo a second from each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::Client;
use crate::content::Content;
use crate::measure::latencies;
use crate::peers::BoxStream;
use crate::protocol::Metrics;
use crate::server::{ECHO, HELLO};

/// Sessions that are being opened at a time.
const OPENING: usize = 64;
/// What is left of opening a session, acknowledgements and the like, is over after this.
const SETTLE: Duration = Duration::from_millis(1_500);
/// How long after the last message answers may come; an unanswered message counts as its age then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens each number of sessions and marks `open-N`; then, with all of them, waits idle and marks `idle`, echoes and
/// marks `echo`. So nothing but opening has happened when memory is read.
pub(super) async fn run(client: &Client) -> io::Result<Metrics> {
    let mut streams = Vec::new();
    for &count in &client.task.sessions {
        open(client, &mut streams, count).await?;
        sleep(SETTLE).await;
        client.marks.mark(format!("open-{count}")).await;
    }
    sleep(Duration::from_secs_f64(client.task.seconds)).await;
    client.marks.mark("idle").await;
    let echoes = echo(client, streams).await?;
    client.marks.mark("echo").await;
    let mut metrics = Metrics::from([("unanswered".into(), echoes.unanswered as f64)]);
    metrics.extend(latencies(echoes.micros));
    Ok(metrics)
}

async fn open(client: &Client, streams: &mut Vec<BoxStream>, count: usize) -> io::Result<()> {
    let mut opening = JoinSet::new();
    streams.reserve_exact(count - streams.len());
    while streams.len() < count {
        while opening.len() < OPENING.min(count - streams.len()) {
            let opener = client.opener.clone();
            opening.spawn(async move { opener.open(ECHO).await });
        }
        if let Some(stream) = opening.join_next().await {
            streams.push(stream??);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Echoes {
    micros: Vec<f64>,
    unanswered: usize,
}

/// One echo a second from each session, evenly spread.
async fn echo(client: &Client, streams: Vec<BoxStream>) -> io::Result<Echoes> {
    let began = Instant::now();
    let rounds = client.task.seconds.round().max(1.0) as u32;
    let deadline = began + Duration::from_secs(1) * rounds + PATIENCE;
    let count = streams.len();
    let mut sessions = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let content = Arc::clone(&client.content);
        let first = began + Duration::from_secs(1).mul_f64(index as f64 / count as f64);
        sessions.spawn(session(stream, content, first, rounds, deadline));
    }
    let mut all = Echoes::default();
    while let Some(end) = sessions.join_next().await {
        let echoes = end??;
        all.unanswered += echoes.unanswered;
        all.micros.extend(echoes.micros);
    }
    Ok(all)
}

async fn session(
    mut stream: BoxStream,
    content: Arc<Content>,
    first: Instant,
    rounds: u32,
    deadline: Instant,
) -> io::Result<Echoes> {
    let mut echoes = Echoes::default();
    for round in 0..rounds {
        let scheduled = first + Duration::from_secs(1) * round;
        sleep_until(scheduled).await;
        let message = content.message(round.into(), HELLO);
        let mut answer = [0; HELLO];
        let trip = async {
            stream.write_all(message).await?;
            stream.read_exact(&mut answer).await
        };
        match timeout_at(deadline, trip).await {
            Ok(result) => _ = result?,
            Err(_) => echoes.unanswered += 1,
        }
        echoes
            .micros
            .push((Instant::now() - scheduled).as_secs_f64() * 1e6);
        if echoes.unanswered == 0 && answer != message {
            return Err(io::Error::other("an echo came back changed"));
        }
    }
    Ok(echoes)
}
