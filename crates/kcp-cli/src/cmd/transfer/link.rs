//! Frames over the two halves of a byte stream.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::copy::{Decoder, Frame, FrameError};

/// The receiving half.
#[derive(Debug)]
pub(super) struct Inbound<R> {
    reader: R,
    decoder: Decoder,
    piece: Box<[u8]>,
}

/// The sending half. Frames are queued, then flushed; a flush that was cancelled goes on
/// where it stopped, so that an Abort never lands in the middle of another frame.
#[derive(Debug)]
pub(super) struct Outbound<W> {
    writer: W,
    buffer: Vec<u8>,
    written: usize,
}

/// Why no frame came, or went.
#[derive(Debug)]
pub(super) enum LinkError {
    Io(io::Error),
    /// The peer closed its half.
    Eof,
    Frame(FrameError),
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            decoder: Decoder::default(),
            piece: vec![0; PIECE].into(),
        }
    }

    /// The next frame. Cancel safe: what was read is kept.
    pub(super) async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(LinkError::Frame)? {
                return Ok(frame);
            }
            match self.reader.read(&mut self.piece).await {
                Ok(0) => return Err(LinkError::Eof),
                Ok(read) => self.decoder.push(&self.piece[..read]),
                Err(error) => return Err(LinkError::Io(error)),
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> Outbound<W> {
    pub(super) const fn new(writer: W) -> Self {
        Self {
            writer,
            buffer: Vec::new(),
            written: 0,
        }
    }

    /// Queues a frame behind what is not written yet.
    pub(super) fn queue(&mut self, frame: &Frame) {
        frame.encode(&mut self.buffer);
    }

    /// Gives everything queued to the stream. Cancel safe.
    pub(super) async fn flush(&mut self) -> Result<(), LinkError> {
        while self.written < self.buffer.len() {
            match self.writer.write(&self.buffer[self.written..]).await {
                Ok(0) => return Err(LinkError::Io(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.written += written,
                Err(error) => return Err(LinkError::Io(error)),
            }
        }
        self.buffer.clear();
        self.written = 0;
        self.writer.flush().await.map_err(LinkError::Io)
    }

    /// Queues and flushes. After a cancelled call the frame goes out with the next flush.
    pub(super) async fn send(&mut self, frame: &Frame) -> Result<(), LinkError> {
        self.queue(frame);
        self.flush().await
    }

    /// Ends our half and waits until the peer has everything, for as long as the stream lingers.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.writer.shutdown().await
    }
}

/// One read: about a window's worth, so that a burst takes few turns.
const PIECE: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::copy::Reason;

    #[tokio::test]
    async fn a_cancelled_flush_goes_on_where_it_stopped() {
        let (near, far) = tokio::io::duplex(10);
        let mut outbound = Outbound::new(near);
        let data = Frame::Data {
            offset: 0,
            bytes: vec![5; 100],
        };
        {
            let mut sending = pin!(outbound.send(&data));
            let mut context = Context::from_waker(Waker::noop());
            assert!(sending.as_mut().poll(&mut context).is_pending());
        }
        let abort = Frame::Abort {
            reason: Reason::Interrupted,
            text: "stop".into(),
        };
        outbound.queue(&abort);
        let mut inbound = Inbound::new(far);
        let (flushed, first) = tokio::join!(outbound.flush(), async {
            let first = inbound.next().await;
            (first, inbound.next().await)
        });
        assert!(flushed.is_ok());
        assert!(matches!(first, (Ok(a), Ok(b)) if a == data && b == abort));
    }
}
