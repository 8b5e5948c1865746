//! Several connections at a time: in bulk, and bulk beside ping-pong.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Client, bulk, ping_pong};
use crate::measure::latencies;
use crate::protocol::Metrics;
use crate::server::{ECHO, SINK};

/// Bulk on each of the task's connections; it ends when the last of them is verified.
pub(super) async fn parallel(client: &Client) -> io::Result<Metrics> {
    let mut streams = Vec::new();
    for _ in 0..client.task.sessions.first().copied().unwrap_or(1) {
        streams.push(client.opener.open(SINK).await?);
    }
    client.marks.mark("start").await;
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(client.task.seconds);
    let mut senders = JoinSet::new();
    for mut stream in streams {
        let content = Arc::clone(&client.content);
        senders.spawn(async move { bulk::send(&mut stream, &content, until).await });
    }
    let mut bytes = 0;
    while let Some(sent) = senders.join_next().await {
        bytes += sent??;
    }
    let seconds = began.elapsed().as_secs_f64();
    client.marks.mark("end").await;
    Ok(bulk::figures(bytes, seconds))
}

/// Ping-pong on one connection while another one is in bulk.
pub(super) async fn loaded(client: &Client) -> io::Result<Metrics> {
    let mut sink = client.opener.open(SINK).await?;
    let mut echo = client.opener.open(ECHO).await?;
    client.marks.mark("start").await;
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(client.task.seconds);
    let content = Arc::clone(&client.content);
    let sender = tokio::spawn(async move {
        let bytes = bulk::send(&mut sink, &content, until).await?;
        Ok::<_, io::Error>((bytes, began.elapsed().as_secs_f64()))
    });
    let micros = ping_pong::play(&mut echo, &client.content, client.task.message, until).await?;
    let (bytes, seconds) = sender.await??;
    client.marks.mark("end").await;
    let mut metrics = bulk::figures(bytes, seconds);
    metrics.insert("round_trips_beside".into(), micros.len() as f64);
    metrics.extend(latencies(micros));
    Ok(metrics)
}
