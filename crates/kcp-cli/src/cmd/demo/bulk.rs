//! The bulk phase: as much as the preset carries, against the clock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kcp_async::{KcpListener, KcpStream, StreamStats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::{Instant, interval, sleep_until};

use super::content::{Content, ContentReader};
use super::stage::Stage;
use crate::copy::Hash;
use crate::error::{Failure, Kind};

/// What the bulk phase found.
#[derive(Clone, Debug)]
pub(super) struct Bulk {
    /// Payload bytes that arrived, in order.
    pub(super) bytes: u64,
    pub(super) took: Duration,
    /// The hash of what arrived.
    pub(super) hash: Hash,
    /// What arrived is what was sent.
    pub(super) intact: bool,
    /// Bytes that entered the link meanwhile, both ways.
    pub(super) wire_bytes: u64,
    /// The share of data segments that were retransmissions.
    pub(super) retransmitted: f64,
}

/// Sends `content` for `limit` (None: all of it) and compares what arrives.
/// `progress` is called several times a second with the time and the bytes so far.
pub(super) async fn run(
    stage: &Stage,
    content: &Content,
    limit: Option<Duration>,
    mut progress: impl FnMut(Duration, u64),
) -> Result<Bulk, Failure> {
    let stream = stage.connect().await?;
    let reader = content
        .reader()
        .map_err(|error| Failure::local("--file", &error))?;
    let started = Instant::now();
    let (stop, stopped) = oneshot::channel();
    let sending = tokio::spawn(send(stream, reader, stopped));

    let arrived = Arc::new(AtomicU64::new(0));
    let mut hasher = blake3::Hasher::new();
    let result = {
        let receiving = receive(&stage.listener, content.size(), &mut hasher, &arrived);
        tokio::pin!(receiving);
        let mut tick = interval(Duration::from_millis(100));
        let deadline = limit.map(|limit| started + limit);
        loop {
            tokio::select! {
                result = &mut receiving => break result,
                () = sleep_until(deadline.unwrap_or(started)), if deadline.is_some() => break Ok(()),
                _ = tick.tick() => progress(started.elapsed(), arrived.load(Ordering::Relaxed)),
            }
        }
    };
    let took = started.elapsed();
    let wire_bytes = stage.wire_bytes();
    // The task may have ended by itself, at the end of a file.
    let _ = stop.send(());
    let (stats, sent) = sending
        .await
        .map_err(|error| broken(&io::Error::other(error)))?;
    result.map_err(|error| broken(&error))?;
    sent.map_err(|error| broken(&error))?;

    let bytes = arrived.load(Ordering::Relaxed);
    let hash = *hasher.finalize().as_bytes();
    let content = content.clone();
    let expected = spawn_blocking(move || content.hash_of_prefix(bytes))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| Failure::local("--file", &error))?;
    Ok(Bulk {
        bytes,
        took,
        hash,
        intact: hash == expected,
        wire_bytes,
        retransmitted: retransmitted(&stats),
    })
}

/// Writes until told to stop or the content ends; the stream stays open until told to stop.
async fn send(
    mut stream: KcpStream,
    mut content: ContentReader,
    mut stopped: oneshot::Receiver<()>,
) -> (StreamStats, io::Result<()>) {
    let result = tokio::select! {
        result = write(&mut stream, &mut content) => result,
        _ = &mut stopped => Ok(()),
    };
    if result.is_ok() && !stopped.is_terminated() {
        let _ = stopped.await;
    }
    let stats = stream.stats();
    // What is still queued is of no use to anybody.
    stream.abort();
    (stats, result)
}

async fn write(stream: &mut KcpStream, content: &mut ContentReader) -> io::Result<()> {
    let mut piece = vec![0; 32 * 1024];
    loop {
        let length = match content {
            ContentReader::Noise(_) => content.fill(&mut piece)?,
            ContentReader::File { .. } => block_in_place(|| content.fill(&mut piece))?,
        };
        if length == 0 {
            return stream.flush().await;
        }
        stream.write_all(&piece[..length]).await?;
    }
}

/// Accepts the stream and hashes what comes, until the end of a finite content.
async fn receive(
    listener: &KcpListener,
    size: Option<u64>,
    hasher: &mut blake3::Hasher,
    arrived: &AtomicU64,
) -> io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    let mut piece = vec![0; 64 * 1024];
    let mut total = 0;
    while size.is_none_or(|size| total < size) {
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&piece[..read]);
        total += read as u64;
        arrived.store(total, Ordering::Relaxed);
    }
    Ok(())
}

fn retransmitted(stats: &StreamStats) -> f64 {
    let engine = &stats.engine;
    engine.resends() as f64 / engine.segments_sent.max(1) as f64
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Kind::Lost, format!("the bulk stream broke: {error}"))
}
