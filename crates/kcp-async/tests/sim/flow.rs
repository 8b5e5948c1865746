//! One side of a session: writes, reads, checks every byte and every end.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcp_async::{ConnectionError, EndpointConfig, KcpError, KcpStream, ReadHalf, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::plan::Direction;
use crate::random::{Random, difference, fill, mix};

/// The shortest time for which a session that has ended is remembered (protocol.md 12.3).
const TIME_WAIT: Duration = Duration::from_secs(10);

/// What is expected of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Everything arrives, and then the end.
    Kept,
    /// The session may end early. What arrives is right nevertheless.
    MayEnd,
    /// Headers are flipped: nothing can be said about the bytes.
    None,
}

/// One side of a flow, as data.
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) flow: u64,
    pub(crate) accepted: bool,
    pub(crate) out: (u64, Direction),
    pub(crate) inward: (u64, Direction),
    /// Message boundaries of what comes in are kept by the sender.
    pub(crate) boundaries: bool,
    pub(crate) writes_late: bool,
    pub(crate) drops: bool,
    pub(crate) aborts: bool,
    /// The peer has no FIN: there is no end of data to wait for.
    pub(crate) stock_peer: bool,
    pub(crate) promise: Promise,
    pub(crate) bounds: Bounds,
    pub(crate) tally: Arc<Tally>,
}

/// What flows have done, over a world.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) verified: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) ended_early: AtomicU64,
    /// Sides, by flow and whether accepted, that have read everything and the end.
    pub(crate) read: Mutex<HashSet<(u64, bool)>>,
    /// Sides whose end was not acknowledged before the peer had forgotten the session.
    pub(crate) late: Mutex<Vec<(u64, bool)>>,
}

/// The most memory that a session may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    queued: usize,
    unread: usize,
    in_flight: usize,
}

impl Bounds {
    /// For a session that writes this.
    pub(crate) fn of(config: &EndpointConfig, out: &Direction) -> Self {
        let protocol = config.protocol_config();
        let window = protocol.receive_window_segments() as usize;
        Self {
            // A writer is let in below the limit, and overshoots it once: by a message, or by what
            // makes the last segment full.
            queued: config.send_queue_bytes()
                + match out.messages {
                    true => out.write_chunk as usize,
                    false => protocol.mss(),
                },
            // protocol.md 11.4: twice what the window stands for, and the message in front.
            unread: 2 * window * protocol.mtu_bytes().max(1_500) + 128 * 1_500,
            in_flight: protocol.send_window_segments() as usize,
        }
    }

    fn check(&self, name: &str, stats: &kcp_async::StreamStats) {
        let engine = &stats.engine;
        assert!(
            engine.unacknowledged_bytes <= self.queued,
            "{name}: {} bytes queued, at most {}",
            engine.unacknowledged_bytes,
            self.queued
        );
        assert!(
            engine.unread_bytes <= self.unread,
            "{name}: {} bytes unread, at most {}",
            engine.unread_bytes,
            self.unread
        );
        assert!(
            engine.in_flight_segments <= self.in_flight,
            "{name}: {} segments in flight, at most {}",
            engine.in_flight_segments,
            self.in_flight
        );
    }
}

/// The bytes of a flow: one key each way.
pub(crate) const fn key(seed: u64, flow: u64, down: bool) -> u64 {
    mix(mix(seed.wrapping_add(1)) ^ mix(flow * 2 + 1 + down as u64))
}

impl Side {
    /// Runs it to its end, and says how that was.
    pub(crate) async fn run(self, mut stream: KcpStream) -> Result<(), KcpError> {
        let ended = self.talk(&mut stream).await;
        match &ended {
            Ok(()) => self.tally.completed.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                if self.promise == Promise::Kept && !self.accepted {
                    // So that the other side says first what it knows.
                    sleep(Duration::from_secs(30)).await;
                }
                assert!(
                    self.promise != Promise::Kept,
                    "{}: {error}; closed: {:?}; {:?}",
                    self.name,
                    stream.close_reason(),
                    stream.stats()
                );
                self.tally.ended_early.fetch_add(1, Ordering::Relaxed)
            }
        };
        ended
    }

    async fn talk(&self, stream: &mut KcpStream) -> Result<(), KcpError> {
        let (mut reader, mut writer) = stream.split();
        if self.aborts {
            self.write(&mut writer).await?;
            stream.abort();
            assert_eq!(stream.close_reason(), Some(ConnectionError::Aborted));
            return Ok(());
        }
        if self.drops && self.inward.1.bytes == 0 {
            // It leaves without waiting for an end behind nothing.
            let side = (self.flow, self.accepted);
            self.tally.read.lock().unwrap().insert(side);
            return self.write(&mut writer).await;
        }
        if self.writes_late {
            self.read(&mut reader).await?;
            self.write(&mut writer).await?;
        } else {
            let (wrote, read) = tokio::join!(self.write(&mut writer), self.read(&mut reader));
            read?;
            wrote?;
        }
        let side = (self.flow, self.accepted);
        let late = self.tally.late.lock().unwrap().contains(&side);
        if self.promise == Promise::Kept && !self.drops && !self.stock_peer && !late {
            self.see_it_closed(stream).await;
        }
        Ok(())
    }

    async fn write(&self, writer: &mut WriteHalf<'_>) -> Result<(), KcpError> {
        let (key, plan) = self.out;
        let mut lengths = Lengths::new(key, plan.write_chunk);
        let mut chunk = vec![0; plan.write_chunk as usize];
        let mut offset = 0;
        while offset < plan.bytes {
            let len = match plan.messages {
                true => lengths.next(),
                false => plan.write_chunk,
            };
            let bytes = &mut chunk[..len.min(plan.bytes - offset) as usize];
            fill(key, offset, bytes);
            match plan.messages {
                true => writer.send(bytes).await?,
                false => writer.write_all(bytes).await.map_err(kcp_error)?,
            }
            offset += bytes.len() as u64;
            self.bounds.check(&self.name, &writer.stats());
            if !plan.write_pause.is_zero() {
                sleep(plan.write_pause).await;
            }
        }
        if !self.drops && !self.aborts {
            let asked = Instant::now();
            if let Err(error) = writer.shutdown().await {
                return self.shut_down_late(&error, asked.elapsed());
            }
            assert!(
                writer.write(&[0]).await.is_err(),
                "{}: written after the end",
                self.name
            );
        }
        Ok(())
    }

    /// All was written, and the acknowledgement of the end does not come in time.
    ///
    /// The last one may be lost, with every repetition, for longer than the peer's time-wait
    /// (protocol.md 12.3), which begins after our end has come; nobody can know then. The world checks
    /// that the peer has everything.
    fn shut_down_late(&self, error: &std::io::Error, waited: Duration) -> Result<(), KcpError> {
        let forgotten = matches!(
            error.kind(),
            // As the peer's endpoint says; as the times say where it must not be asked (11.3).
            ErrorKind::ConnectionReset | ErrorKind::TimedOut
        );
        if self.promise != Promise::Kept || !forgotten || self.stock_peer {
            return Err(KcpError::Io(std::io::Error::other(error.to_string())));
        }
        assert!(
            waited >= TIME_WAIT,
            "{}: forgotten after {waited:?}: {error}",
            self.name
        );
        self.tally
            .late
            .lock()
            .unwrap()
            .push((self.flow, self.accepted));
        Ok(())
    }

    async fn read(&self, reader: &mut ReadHalf<'_>) -> Result<(), KcpError> {
        let (key, plan) = self.inward;
        let by_message = plan.messages && self.boundaries;
        let mut lengths = Lengths::new(key, plan.write_chunk);
        let mut chunk = vec![0; plan.read_chunk as usize];
        let (mut offset, mut paused) = (0, 0);
        while !(self.stock_peer && offset == plan.bytes) {
            let bytes = if by_message {
                chunk = reader.recv_message().await?;
                &chunk[..]
            } else {
                let len = reader.read(&mut chunk).await.map_err(kcp_error)?;
                &chunk[..len]
            };
            self.bounds.check(&self.name, &reader.stats());
            if self.promise == Promise::None {
                offset += bytes.len() as u64;
                if bytes.is_empty() {
                    return Ok(());
                }
                continue;
            }
            if bytes.is_empty() {
                assert_eq!(offset, plan.bytes, "{}: the end comes early", self.name);
                break;
            }
            if by_message {
                let expected = lengths.next().min(plan.bytes - offset);
                assert_eq!(bytes.len() as u64, expected, "{}: a boundary", self.name);
            }
            if let Some(at) = difference(key, offset, bytes) {
                panic!("{}: byte {} is wrong", self.name, offset + at as u64);
            }
            offset += bytes.len() as u64;
            self.tally
                .verified
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            assert!(offset <= plan.bytes, "{}: more than was sent", self.name);
            let reads = offset / plan.read_chunk;
            if reads > paused && !plan.read_pause.is_zero() {
                paused = reads;
                sleep(plan.read_pause).await;
            }
        }
        if !self.stock_peer {
            let again = reader.read(&mut [0; 8]).await.map_err(kcp_error)?;
            assert_eq!(again, 0, "{}: data after the end", self.name);
        }
        let side = (self.flow, self.accepted);
        self.tally.read.lock().unwrap().insert(side);
        Ok(())
    }

    /// Both directions have ended in order, so the session says so by itself.
    async fn see_it_closed(&self, stream: &KcpStream) {
        let deadline = Instant::now() + crate::plan::DAY;
        while stream.close_reason().is_none() {
            assert!(
                Instant::now() < deadline,
                "{}: never closed; {:?}",
                self.name,
                stream.stats()
            );
            sleep(Duration::from_millis(200)).await;
        }
        let reason = stream.close_reason();
        let stats = stream.stats();
        assert_eq!(
            reason,
            Some(ConnectionError::Closed),
            "{}: {stats:?}",
            self.name
        );
    }
}

/// The lengths of a flow's messages, the same on both sides.
pub(crate) struct Lengths {
    random: Random,
    most: u64,
}

impl Lengths {
    pub(crate) const fn new(key: u64, most: u64) -> Self {
        Self {
            random: Random::new(key),
            most,
        }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        // Half of them as long as they may be: boundaries at full segments are the interesting ones.
        match self.random.percent(50) {
            true => self.most,
            false => self.random.range(1, self.most),
        }
    }
}

fn kcp_error(error: std::io::Error) -> KcpError {
    KcpError::Io(error)
}
