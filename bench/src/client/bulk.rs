//! As many bytes as go in the time, one way.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Client;
use crate::content::{BLOCK, Content};
use crate::peers::BoxStream;
use crate::protocol::Metrics;
use crate::server::{SINK, VERIFIED};

pub(super) async fn run(client: &Client) -> io::Result<Metrics> {
    let mut stream = client.opener.open(SINK).await?;
    client.marks.mark("start").await;
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(client.task.seconds);
    let bytes = send(&mut stream, &client.content, until).await?;
    let seconds = began.elapsed().as_secs_f64();
    client.marks.mark("end").await;
    Ok(figures(bytes, seconds))
}

/// Sends blocks until then, and one more; returns when the server has verified the last byte.
pub(super) async fn send(
    stream: &mut BoxStream,
    content: &Content,
    until: Instant,
) -> io::Result<u64> {
    let mut blocks = 0;
    while Instant::now() < until {
        stream.write_all(content.block(blocks)).await?;
        blocks += 1;
    }
    stream.write_all(&content.last_block(blocks)).await?;
    stream.flush().await?;
    let answer = stream.read_u8().await?;
    if answer != VERIFIED {
        return Err(io::Error::other("the server found wrong bytes"));
    }
    Ok((blocks + 1) * BLOCK as u64)
}

/// The figures of a bulk workload.
pub(crate) fn figures(bytes: u64, seconds: f64) -> Metrics {
    Metrics::from([
        ("bytes".into(), bytes as f64),
        ("seconds".into(), seconds),
        ("mib_s".into(), bytes as f64 / seconds / (1 << 20) as f64),
    ])
}
