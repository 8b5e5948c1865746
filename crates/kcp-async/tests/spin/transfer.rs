//! One direction of one session: drawn operations, every byte checked.

use kcp_async::{BufferError, KcpError, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::chance::mix;
use super::plan::{Plan, Side};

/// What all writing handles can do.
pub(crate) trait Writer: AsyncWrite + Unpin + Send {
    fn message(&mut self, message: &[u8]) -> impl Future<Output = Result<(), KcpError>> + Send;
}

/// What all reading handles can do.
pub(crate) trait Reader: AsyncRead + Unpin + Send {
    fn into(&mut self, buf: &mut [u8]) -> impl Future<Output = Result<usize, KcpError>> + Send;
    fn whole(&mut self) -> impl Future<Output = Result<Vec<u8>, KcpError>> + Send;
}

macro_rules! handles {
    (write $($handle:ty),+) => {$(
        impl Writer for $handle {
            async fn message(&mut self, message: &[u8]) -> Result<(), KcpError> {
                self.send(message).await
            }
        }
    )+};
    (read $($handle:ty),+) => {$(
        impl Reader for $handle {
            async fn into(&mut self, buf: &mut [u8]) -> Result<usize, KcpError> {
                self.recv(buf).await
            }
            async fn whole(&mut self) -> Result<Vec<u8>, KcpError> {
                self.recv_message().await
            }
        }
    )+};
}

handles!(write OwnedWriteHalf, WriteHalf<'_>);
handles!(read OwnedReadHalf, ReadHalf<'_>);

/// Writes this side's bytes.
pub(crate) async fn write_all(plan: &Plan, side: Side, writer: &mut impl Writer) {
    let mut chance = plan.chance(side, 1);
    let total = plan.bytes(side);
    let mut done = 0;
    while done < total {
        plan.count(side).await;
        let left = (total - done) as usize;
        match chance.below(8) {
            0..=2 => {
                let len = (1 + chance.size(20_000)).min(left);
                let message = content(plan, side, done, len);
                match chance.cut(writer.message(&message)).await {
                    Some(Ok(())) => done += len as u64,
                    Some(Err(error)) => plan.fail(side, "send", &error).await,
                    None => {}
                }
            }
            3..=5 => {
                let len = (1 + chance.size(60_000)).min(left);
                let data = content(plan, side, done, len);
                match chance.cut(writer.write(&data)).await {
                    Some(Ok(written)) => {
                        assert!((1..=len).contains(&written));
                        done += written as u64;
                    }
                    Some(Err(error)) => plan.fail(side, "write", &error).await,
                    None => {}
                }
            }
            6 => {
                if let Some(Err(error)) = chance.cut(writer.flush()).await {
                    plan.fail(side, "flush", &error).await;
                }
            }
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Finishes this side's direction.
pub(crate) async fn shut_down(plan: &Plan, side: Side, writer: &mut impl Writer) {
    let mut chance = plan.chance(side, 4);
    loop {
        plan.count(side).await;
        match chance.cut(writer.shutdown()).await {
            Some(Ok(())) => return,
            Some(Err(error)) => plan.fail(side, "shutdown", &error).await,
            None => {}
        }
    }
}

/// Reads the other side's bytes and the end behind them. May be dropped at any time and called
/// again with the same progress.
pub(crate) async fn read_all(plan: &Plan, side: Side, reader: &mut impl Reader, done: &mut u64) {
    let mut chance = plan.chance(side, 2);
    let total = plan.bytes(side.other());
    let mut take_whole = false;
    loop {
        plan.count(side).await;
        let mut buffer = vec![0; 1 + chance.size(30_000)];
        let read = match chance.below(7) {
            _ if take_whole => chance.cut(reader.whole()).await.map(|read| {
                read.map(|message| {
                    buffer = message;
                    buffer.len()
                })
            }),
            0..=2 => chance.cut(reader.into(&mut buffer)).await,
            3..=5 => {
                let read = chance.cut(reader.read(&mut buffer)).await;
                read.map(|read| read.map_err(KcpError::Io))
            }
            _ => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        let len = match read {
            None => continue,
            Some(Ok(0)) => break,
            Some(Ok(len)) => len,
            // It is still there; a larger buffer or a read of a part gets it.
            Some(Err(KcpError::Buffer(BufferError::TooSmall { .. }))) => {
                take_whole = true;
                continue;
            }
            Some(Err(error)) => plan.fail(side, "receive", &error).await,
        };
        take_whole = false;
        assert!(*done + len as u64 <= total, "{plan:?}: more than was sent");
        let expected = content(plan, side.other(), *done, len);
        assert!(buffer[..len] == expected, "{plan:?}: wrong bytes at {done}");
        *done += len as u64;
    }
    if *done < total {
        plan.fail(side, "end", &format!("{done} bytes of {total}"))
            .await;
    }
    match reader.into(&mut [0; 8]).await {
        Ok(0) => {}
        Ok(_) => panic!("{plan:?}: bytes after the end"),
        Err(error) => plan.fail(side, "end", &error).await,
    }
}

/// What this side writes at this place of its stream.
fn content(plan: &Plan, side: Side, from: u64, len: usize) -> Vec<u8> {
    let key = plan.id ^ (side as u64) << 63;
    (from..from + len as u64)
        .map(|at| mix(key ^ at >> 3).to_le_bytes()[(at & 7) as usize])
        .collect()
}
