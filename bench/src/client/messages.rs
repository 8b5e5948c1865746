//! 60 messages a second, sent on schedule whether or not the answers come, and echoed.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Client;
use crate::measure::latencies;
use crate::protocol::Metrics;
use crate::server::ECHO;

/// Messages a second.
const RATE: f64 = 60.0;
/// How long after the last message answers may come; an unanswered message counts as its age then.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(client: &Client) -> io::Result<Metrics> {
    let (mut reader, mut writer) = split(client.opener.open(ECHO).await?);
    client.marks.mark("start").await;
    let size = client.task.message;
    let count = (client.task.seconds * RATE) as u64;
    let began = Instant::now();
    let scheduled = |index: u64| began + Duration::from_secs_f64(index as f64 / RATE);
    let deadline = scheduled(count) + PATIENCE;
    let mut micros = Vec::new();
    let send = async {
        for index in 0..count {
            sleep_until(scheduled(index)).await;
            writer
                .write_all(client.content.message(index, size))
                .await?;
        }
        Ok::<_, io::Error>(())
    };
    let receive = async {
        let mut buffer = vec![0; size];
        for index in 0..count {
            reader.read_exact(&mut buffer).await?;
            micros.push((Instant::now() - scheduled(index)).as_secs_f64() * 1e6);
            if buffer != client.content.message(index, size) {
                return Err(io::Error::other("an echo came back changed"));
            }
        }
        Ok(())
    };
    // Late is no failure: what is missing counts below.
    if let Ok(result) = timeout_at(deadline, async { tokio::try_join!(send, receive) }).await {
        result?;
    }
    let unanswered = count - micros.len() as u64;
    for index in micros.len() as u64..count {
        micros.push((deadline - scheduled(index)).as_secs_f64() * 1e6);
    }
    client.marks.mark("end").await;
    let mut metrics = Metrics::from([
        ("messages".into(), count as f64),
        ("unanswered".into(), unanswered as f64),
    ]);
    metrics.extend(latencies(micros));
    Ok(metrics)
}
