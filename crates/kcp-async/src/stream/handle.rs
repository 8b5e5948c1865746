//! What all kinds of stream handles do, once.

use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};

use kcp_engine::{Conv, FlushPolicy, Instant, RecvError};
use tokio::io::ReadBuf;

use crate::address::as_user_names;
use crate::error::{ConnectionError, KcpError};
use crate::session::{Session, SessionCell, Shutdown};
use crate::shared::Shared;
use crate::stats::StreamStats;
use crate::transmit;
use crate::wakers::WakeList;

/// A session as the application holds it. The last one to go closes it in the background.
#[derive(Debug)]
pub(super) struct StreamHandle {
    shared: Arc<Shared>,
    cell: Arc<SessionCell>,
}

impl StreamHandle {
    pub(super) const fn new(shared: Arc<Shared>, cell: Arc<SessionCell>) -> Self {
        Self { shared, cell }
    }

    pub(super) fn poll_read(
        &self,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), KcpError>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut session = self.cell.state.lock("read");
        match session.engine.read(buf.initialize_unfilled()) {
            Ok(bytes) => {
                self.after_reading(session);
                buf.advance(bytes);
                Poll::Ready(Ok(()))
            }
            Err(error) => self.nothing_read(cx, session, error).map_ok(|_| ()),
        }
    }

    pub(super) fn poll_recv(
        &self,
        cx: &Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, KcpError>> {
        self.poll_message(cx, |engine| engine.recv(buf))
    }

    pub(super) fn poll_recv_message(&self, cx: &Context<'_>) -> Poll<Result<Vec<u8>, KcpError>> {
        let mut message = Vec::new();
        let received = self.poll_message(cx, |engine| {
            message = vec![0; engine.peek_size().unwrap_or(0)];
            engine.recv(&mut message)
        });
        received.map_ok(|bytes| {
            message.truncate(bytes);
            message
        })
    }

    fn poll_message(
        &self,
        cx: &Context<'_>,
        mut receive: impl FnMut(&mut kcp_engine::KcpEngine) -> Result<usize, RecvError>,
    ) -> Poll<Result<usize, KcpError>> {
        let mut session = self.cell.state.lock("recv");
        loop {
            match receive(&mut session.engine) {
                // C sends empty messages. Here 0 bytes mean the end, so they are passed over.
                Ok(0) => {}
                Ok(bytes) => {
                    self.after_reading(session);
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) => return self.nothing_read(cx, session, error),
            }
        }
    }

    pub(super) fn poll_write(&self, cx: &Context<'_>, buf: &[u8]) -> Poll<Result<usize, KcpError>> {
        let mut session = self.cell.state.lock("write");
        if let Some(reason) = session.end() {
            return Poll::Ready(Err(reason.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = session.room();
        let mut len = buf.len();
        if room < len {
            if !session.has_much_room() && !session.engine.is_finishing() {
                return self.wait_for_room(cx, session);
            }
            len = len.min(session.write_limit());
        }
        let written = session.engine.write(&buf[..len]);
        self.after_writing(session);
        Poll::Ready(written.map_err(KcpError::from))
    }

    pub(super) fn poll_send(&self, cx: &Context<'_>, message: &[u8]) -> Poll<Result<(), KcpError>> {
        let mut session = self.cell.state.lock("send");
        if let Some(reason) = session.end() {
            return Poll::Ready(Err(reason.into()));
        }
        // In stream mode there are no messages, and C's `send` would take a part of a long one.
        let is_stream = session.engine.config().is_stream_mode();
        let fits = is_stream || message.len() <= session.engine.max_message_size();
        // What can never be sent is refused at once, not when there is room.
        if fits
            && !message.is_empty()
            && !session.engine.is_finishing()
            && !session.takes_message(message.len())
        {
            return self.wait_for_room(cx, session);
        }
        let sent = match is_stream && !message.is_empty() {
            true => session.engine.write(message),
            false => session.engine.send(message),
        };
        self.after_writing(session);
        Poll::Ready(sent.map(|_| ()).map_err(KcpError::from))
    }

    /// Hands the socket what the windows allow.
    pub(super) fn flush(&self) -> Result<(), KcpError> {
        let mut session = self.cell.state.lock("flush");
        if let Some(reason) = session
            .end()
            .filter(|&reason| reason != ConnectionError::Closed)
        {
            return Err(reason.into());
        }
        // With `Immediate` it has left already.
        let waits_for_tick = session.engine.config().flushes() == FlushPolicy::Interval;
        if waits_for_tick && session.engine.queued_bytes() > 0 {
            session.engine.request_flush();
        }
        self.after_writing(session);
        Ok(())
    }

    pub(super) fn poll_shutdown(&self, cx: &Context<'_>) -> Poll<Result<(), KcpError>> {
        let now = self.shared.clock.now();
        let mut session = self.cell.state.lock("shutdown");
        match session.end() {
            None => {}
            Some(ConnectionError::Closed) => return Poll::Ready(Ok(())),
            Some(reason) => return Poll::Ready(Err(reason.into())),
        }
        begin_close(&mut session, now);
        session.life.await_close(now);
        session.observe(now);
        match session.life.shutdown() {
            Shutdown::Done => {
                self.after_writing(session);
                Poll::Ready(Ok(()))
            }
            Shutdown::NotAsked | Shutdown::Waiting => {
                session.closers.register(cx.waker());
                self.after_writing(session);
                Poll::Pending
            }
        }
    }

    /// Finishes the sending side without waiting.
    pub(super) fn finish(&self) {
        let now = self.shared.clock.now();
        let mut session = self.cell.state.lock("finish");
        if session.end().is_none() {
            begin_close(&mut session, now);
            self.after_writing(session);
        }
    }

    pub(super) fn abort(&self) {
        let mut wake = WakeList::new();
        self.cell
            .state
            .lock("abort")
            .finish(ConnectionError::Aborted, &mut wake);
        wake.wake();
        self.shared.call_driver(&self.cell);
    }

    pub(super) fn stats(&self) -> StreamStats {
        let session = self.cell.state.lock("stats");
        StreamStats {
            engine: session.engine.stats(),
            proven: session.engine.is_proven(),
            peer_knows_close: session.engine.peer_knows_close(),
            socket_full: session.unsent.is_some(),
        }
    }

    pub(super) fn max_message_size(&self) -> usize {
        self.cell
            .state
            .lock("max message size")
            .engine
            .max_message_size()
    }

    pub(super) fn close_reason(&self) -> Option<ConnectionError> {
        self.cell.state.lock("close reason").end()
    }

    pub(super) fn conv(&self) -> Conv {
        self.cell.conv
    }

    pub(super) fn peer_addr(&self) -> SocketAddr {
        as_user_names(self.cell.peer)
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        as_user_names(self.shared.local_addr)
    }

    fn wait_for_room<T>(
        &self,
        cx: &Context<'_>,
        mut session: MutexGuard<'_, Session>,
    ) -> Poll<Result<T, KcpError>> {
        session.writers.register(cx.waker());
        if session.engine.answer_allowance().is_some() {
            // It waits for the validation of the peer's address, at most for the time of an
            // unvalidated session. The peer is asked now, and then by the driver.
            let now = self.shared.clock.now();
            if session.life.note_waiting_writer(now) {
                session.engine.ask_for_validation();
                drop(session);
                self.shared.call_driver(&self.cell);
            }
        }
        Poll::Pending
    }

    fn after_writing(&self, mut session: MutexGuard<'_, Session>) {
        transmit::fit_new_segments(&self.shared, self.cell.peer, &mut session.engine);
        transmit::send_inline(&self.shared, &self.cell, session);
    }

    /// A read may have opened the window; the peer must learn of it without waiting for a timer.
    fn after_reading(&self, session: MutexGuard<'_, Session>) {
        transmit::send_inline(&self.shared, &self.cell, session);
    }

    fn nothing_read(
        &self,
        cx: &Context<'_>,
        mut session: MutexGuard<'_, Session>,
        error: RecvError,
    ) -> Poll<Result<usize, KcpError>> {
        match error {
            RecvError::Finished => return Poll::Ready(Ok(0)),
            RecvError::Empty | RecvError::Incomplete => {}
            error => return Poll::Ready(Err(error.into())),
        }
        match session.end() {
            Some(ConnectionError::Closed) => Poll::Ready(Ok(0)),
            Some(reason) => Poll::Ready(Err(reason.into())),
            None => {
                session.readers.register(cx.waker());
                // The reader has nothing to say to what it has read.
                if session.engine.release_acks() {
                    transmit::send_inline(&self.shared, &self.cell, session);
                }
                Poll::Pending
            }
        }
    }
}

fn begin_close(session: &mut Session, now: Instant) {
    let Session { engine, life, .. } = session;
    life.begin_close(now, engine);
}

/// Closes in the background: queued data and the FIN still go out, bounded by the linger time.
impl Drop for StreamHandle {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let mut session = self.cell.state.lock("drop");
        if session.end().is_none() {
            let Session { engine, life, .. } = &mut *session;
            life.detach(now, engine);
        }
        drop(session);
        self.shared.call_driver(&self.cell);
    }
}
