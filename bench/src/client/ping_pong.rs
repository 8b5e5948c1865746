//! A message and its echo, again and again.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout_at;

use super::Client;
use crate::content::Content;
use crate::measure::latencies;
use crate::peers::BoxStream;
use crate::protocol::Metrics;
use crate::server::ECHO;

/// Round trips before the measurement.
const WARM_UP: u64 = 200;
/// How long after the end an answer may come; an unanswered message counts as its age then.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(client: &Client) -> io::Result<Metrics> {
    let mut stream = client.opener.open(ECHO).await?;
    let size = client.task.message;
    let mut buffer = vec![0; size];
    for index in 0..WARM_UP {
        round_trip(&mut stream, &client.content, index, &mut buffer).await?;
    }
    client.marks.mark("start").await;
    let until = Instant::now() + Duration::from_secs_f64(client.task.seconds);
    let micros = play(&mut stream, &client.content, size, until).await?;
    client.marks.mark("end").await;
    let mut metrics = Metrics::from([("round_trips".into(), micros.len() as f64)]);
    metrics.extend(latencies(micros));
    Ok(metrics)
}

/// Round trips until then, and what each took in microseconds. The next one is due when the last has come back, so
/// the scheduled moment is the moment of sending.
pub(super) async fn play(
    stream: &mut BoxStream,
    content: &Content,
    size: usize,
    until: Instant,
) -> io::Result<Vec<f64>> {
    let mut buffer = vec![0; size];
    let mut micros = Vec::with_capacity(1 << 20);
    let mut scheduled = Instant::now();
    let patience = (until + PATIENCE).into();
    while scheduled < until {
        let trip = round_trip(stream, content, micros.len() as u64, &mut buffer);
        let answer = timeout_at(patience, trip).await;
        let now = Instant::now();
        micros.push((now - scheduled).as_secs_f64() * 1e6);
        scheduled = now;
        if let Ok(result) = answer {
            result?;
        }
    }
    Ok(micros)
}

async fn round_trip(
    stream: &mut BoxStream,
    content: &Content,
    index: u64,
    buffer: &mut [u8],
) -> io::Result<()> {
    let message = content.message(index, buffer.len());
    stream.write_all(message).await?;
    stream.read_exact(buffer).await?;
    if buffer != message {
        return Err(io::Error::other("an echo came back changed"));
    }
    Ok(())
}
