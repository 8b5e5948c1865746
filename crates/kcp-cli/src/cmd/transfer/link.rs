//! Frames over the two halves of a byte stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::coop::consume_budget;

use crate::copy::{Decoder, Frame, FrameError, HEADER, MAX_TEXT};

/// The receiving half.
#[derive(Debug)]
pub(super) struct Inbound<R> {
    reader: R,
    decoder: Decoder,
    piece: Box<[u8]>,
    /// Bytes of a frame that is not whole yet, at the most.
    limit: usize,
    received: u64,
}

/// The sending half of a stream that knows how much of it has arrived.
pub(super) trait Writer: AsyncWrite + Unpin {
    /// Bytes written that the peer has not acknowledged.
    fn unacknowledged(&self) -> usize;
}

impl Writer for kcp_async::WriteHalf<'_> {
    fn unacknowledged(&self) -> usize {
        self.stats().engine.unacknowledged_bytes
    }
}

#[cfg(test)]
impl Writer for tokio::io::WriteHalf<tokio::io::DuplexStream> {
    fn unacknowledged(&self) -> usize {
        0
    }
}

/// The sending half. Frames are queued, then flushed; a flush that was cancelled goes on
/// where it stopped, so that an Abort never lands in the middle of another frame.
#[derive(Debug)]
pub(super) struct Outbound<W> {
    writer: W,
    buffer: Vec<u8>,
    written: usize,
    total: u64,
}

/// Why no frame came, or went.
#[derive(Debug)]
pub(super) enum LinkError {
    Io(io::Error),
    /// The peer closed its half.
    Eof,
    /// More than a peer can have to say now.
    Early,
    Frame(FrameError),
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            decoder: Decoder::default(),
            piece: vec![0; GREETING].into(),
            limit: GREETING,
            received: 0,
        }
    }

    /// Makes room for data. Before the peer is validated a frame may have [`GREETING`] bytes, so that
    /// a session costs little.
    pub(super) fn widen(&mut self) {
        self.piece = vec![0; PIECE].into();
        self.limit = usize::MAX;
    }

    /// Bytes received so far.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// The next frame. Cancel safe: what was read is kept. Where frames come without end it gives way now and then, so
    /// that a signal is seen.
    pub(super) async fn next(&mut self) -> Result<Frame, LinkError> {
        consume_budget().await;
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(LinkError::Frame)? {
                return Ok(frame);
            }
            if self.decoder.pending().len() > self.limit {
                return Err(LinkError::Early);
            }
            self.read().await?;
        }
    }

    /// Reads ahead for as long as nothing is due but one frame: returns when the peer goes away or
    /// has sent more than `limit` bytes. Cancel safe.
    pub(super) async fn watch(&mut self, limit: usize) -> LinkError {
        loop {
            if self.decoder.pending().len() > limit {
                return LinkError::Early;
            }
            if let Err(error) = self.read().await {
                return error;
            }
        }
    }

    /// What has arrived already, without waiting: a frame, or an error if there are more bytes but
    /// those of an Abort.
    pub(super) async fn early(&mut self) -> Result<Option<Frame>, LinkError> {
        consume_budget().await;
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(LinkError::Frame)? {
                return Ok(Some(frame));
            }
            if self.decoder.pending().len() > HEADER + 1 + MAX_TEXT {
                return Err(LinkError::Early);
            }
            let (reader, piece) = (&mut self.reader, &mut self.piece);
            let read = poll_fn(|context| {
                let mut buffer = ReadBuf::new(piece);
                match Pin::new(&mut *reader).poll_read(context, &mut buffer) {
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
                    Poll::Ready(Err(error)) => Poll::Ready(Err(LinkError::Io(error))),
                    Poll::Pending => Poll::Ready(Ok(0)),
                }
            })
            .await?;
            if read == 0 {
                // The end of the stream comes again.
                return match self.decoder.is_abort() {
                    true => Ok(None),
                    false => Err(LinkError::Early),
                };
            }
            self.received += read as u64;
            self.decoder.push(&self.piece[..read]);
        }
    }

    async fn read(&mut self) -> Result<(), LinkError> {
        match self.reader.read(&mut self.piece).await {
            Ok(0) => Err(LinkError::Eof),
            Ok(read) => {
                self.received += read as u64;
                self.decoder.push(&self.piece[..read]);
                Ok(())
            }
            Err(error) => Err(LinkError::Io(error)),
        }
    }
}

impl<W: AsyncWrite + Unpin> Outbound<W> {
    pub(super) const fn new(writer: W) -> Self {
        Self {
            writer,
            buffer: Vec::new(),
            written: 0,
            total: 0,
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
                Ok(written) => {
                    self.written += written;
                    self.total += written as u64;
                }
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

    /// Bytes that are no frame.
    #[cfg(test)]
    pub(super) async fn write_raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        let _ = self.flush().await;
    }

    /// Ends our half and waits until the peer has everything, for as long as the stream lingers.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.writer.shutdown().await
    }
}

impl<W: Writer> Outbound<W> {
    /// Bytes that the peer has acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.total
            .saturating_sub(self.writer.unacknowledged() as u64)
    }
}

/// Larger than any frame of a greeting, or an Abort.
const GREETING: usize = 1024;
/// One read: about a window's worth, so that a burst takes few turns.
const PIECE: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::copy::Reason;

    /// Frames of Wait without end.
    struct Waits;

    impl AsyncRead for Waits {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(&[0xfc, 0, 0, 0, 0].repeat(100));
            Poll::Ready(Ok(()))
        }
    }

    /// 16 MB a second of them kept `kcp` deaf to Ctrl-C.
    #[tokio::test]
    async fn frames_without_end_leave_room_for_a_signal() {
        for early in [false, true] {
            let mut inbound = Inbound::new(Waits);
            let frames = async {
                for _ in 0..100_000 {
                    let frame = match early {
                        true => inbound.early().await.unwrap(),
                        false => Some(inbound.next().await.unwrap()),
                    };
                    assert_eq!(frame, Some(Frame::Wait));
                }
                panic!("the signal was not seen");
            };
            tokio::select! {
                biased;
                () = frames => {}
                () = tokio::task::yield_now() => {}
            }
        }
    }

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
