//! The server of every workload: accepts connections and does to each what its first message says.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::content::{Checker, Content};
use crate::control::{answer_marks, tell};
use crate::measure::Reading;
use crate::peers::{self, BoxStream, raw};
use crate::protocol::{Event, Order, Workload};

/// Bytes of the first message of a connection, which comes back as it was.
pub(crate) const HELLO: usize = 64;
/// First byte of a hello: echo everything.
pub(crate) const ECHO: u8 = b'E';
/// First byte of a hello: check a bulk stream, and answer its end with [`VERIFIED`].
pub(crate) const SINK: u8 = b'S';
/// Every byte of the bulk stream was right.
pub(crate) const VERIFIED: u8 = b'V';

/// Bytes asked for in one read.
const BUFFER: usize = 64 << 10;

/// Serves until the parent ends it.
///
/// # Errors
/// What the peer says about its socket.
pub(crate) async fn serve(order: &Order) -> io::Result<()> {
    answer_marks(Reading::take);
    if order.peer.is_raw() {
        return raw::serve(order).await;
    }
    let mut acceptor = peers::bind(order.peer, &order.task).await?;
    tell(&Event::Listening {
        address: acceptor.address()?,
    });
    let content = Arc::new(Content::new());
    // A session of the sessions workload is to weigh what it weighs, not what its echo's buffer does.
    let echo_buffer = match order.task.workload {
        Workload::Sessions => HELLO,
        _ => 2 << 10,
    };
    loop {
        let stream = acceptor.accept().await?;
        let content = Arc::clone(&content);
        tokio::spawn(async move {
            // Any other error is a client that has gone.
            if let Err(error) = attend(stream, content, echo_buffer).await
                && error.kind() == io::ErrorKind::InvalidData
            {
                tell(&Event::Failed {
                    message: error.to_string(),
                });
            }
        });
    }
}

/// Does what the hello says; the stream is held until the client ends it.
async fn attend(
    mut stream: BoxStream,
    content: Arc<Content>,
    echo_buffer: usize,
) -> io::Result<()> {
    let mut hello = [0; HELLO];
    stream.read_exact(&mut hello).await?;
    stream.write_all(&hello).await?;
    match hello[0] {
        SINK => Box::pin(sink(stream, &content)).await,
        _ if echo_buffer <= HELLO => echo(stream, &mut hello).await,
        _ => Box::pin(echo_large(stream, echo_buffer)).await,
    }
}

async fn echo_large(stream: BoxStream, size: usize) -> io::Result<()> {
    echo(stream, &mut vec![0; size]).await
}

async fn echo(mut stream: BoxStream, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let len = stream.read(buffer).await?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..len]).await?;
    }
}

async fn sink(mut stream: BoxStream, content: &Content) -> io::Result<()> {
    let mut checker = Checker::new(content);
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        let finished = checker.check(&buffer[..len]).map_err(|mismatch| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("wrong bytes arrived: {mismatch:?}"),
            )
        })?;
        if finished {
            stream.write_all(&[VERIFIED]).await?;
            stream.flush().await?;
        }
    }
}
