//! UDP without a protocol: what the kernel can do, and so the limit for everyone else.
//!
//! Nothing is lost, because the sender keeps no more in flight than the receiver's socket buffer holds (and than the
//! window): the receiver acknowledges every quarter of that with a count in a datagram. Content, checking and the
//! end are those of every bulk stream. `raw-gso` sends blocks of 46 datagrams with GSO and receives with GRO;
//! `raw-single` has a system call for each datagram.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::sockets;
use crate::client::figures;
use crate::content::{BLOCK, Checker, Content, SEGMENT};
use crate::control::{Marks, tell};
use crate::protocol::{Event, Metrics, Order, Peer};
use crate::server::{HELLO, VERIFIED};

/// What the kernel charges a receive buffer for one of our datagrams, and for a whole train of them, rounded up.
const DATAGRAM_COST: usize = 4 << 10;
const TRAIN_COST: usize = 80 << 10;
/// Datagrams, or trains, taken by one receive call.
const BATCH: usize = 4;

/// A socket, and how it moves blocks.
struct Raw {
    socket: UdpSocket,
    /// GSO and GRO; `None` is a datagram a call.
    trains: Option<UdpSocketState>,
    /// Bytes that may be on the way.
    credit: u64,
}

/// Answers one client after the other.
///
/// # Errors
/// What the system says about the socket.
pub(crate) async fn serve(order: &Order) -> io::Result<()> {
    let raw = Raw::open(order)?;
    tell(&Event::Listening {
        address: raw.socket.local_addr()?,
    });
    let mut hello = [0; HELLO];
    let (_, client) = raw.socket.recv_from(&mut hello).await?;
    raw.socket.connect(client).await?;
    raw.socket.send(&hello).await?;
    raw.receive().await?;
    raw.socket.send(&[VERIFIED]).await?;
    std::future::pending().await
}

/// The client's bulk workload.
///
/// # Errors
/// What the system says about the socket.
pub(crate) async fn bulk(order: &Order, server: SocketAddr, marks: &Marks) -> io::Result<Metrics> {
    let raw = Raw::open(order)?;
    raw.socket.connect(server).await?;
    raw.socket.send(&[1; HELLO]).await?;
    raw.socket.recv(&mut [0; HELLO]).await?;
    let content = Content::new();
    marks.mark("start").await;
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(order.task.seconds);
    let bytes = raw.send(&content, server, until).await?;
    let seconds = began.elapsed().as_secs_f64();
    marks.mark("end").await;
    let mut metrics = figures(bytes, seconds);
    metrics.insert("credit_bytes".into(), raw.credit as f64);
    Ok(metrics)
}

impl Raw {
    fn open(order: &Order) -> io::Result<Self> {
        let socket = sockets::tokio_udp(&order.task)?;
        let granted = SockRef::from(&socket).recv_buffer_size()?;
        let window = u64::from(order.task.window) * SEGMENT as u64;
        let (trains, unit, cost) = if order.peer == Peer::RawGso {
            let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
            (Some(state), BLOCK as u64, TRAIN_COST)
        } else {
            (None, SEGMENT as u64, DATAGRAM_COST)
        };
        let fits = (granted / cost) as u64 * unit;
        Ok(Self {
            socket,
            trains,
            credit: fits.min(window).max(unit),
        })
    }

    /// Sends blocks until then; returns when the server has verified the last byte.
    async fn send(&self, content: &Content, server: SocketAddr, until: Instant) -> io::Result<u64> {
        let mut sent = 0;
        let mut acknowledged = 0;
        let mut blocks = 0;
        loop {
            let is_last = Instant::now() >= until;
            let last;
            let block = if is_last {
                last = content.last_block(blocks);
                &last
            } else {
                content.block(blocks)
            };
            let unit = if self.trains.is_some() {
                BLOCK
            } else {
                SEGMENT
            };
            for piece in block.chunks(unit) {
                sent += piece.len() as u64;
                while sent > acknowledged + self.credit {
                    acknowledged = self.acknowledgement(acknowledged).await?;
                }
                self.send_unit(piece, server).await?;
            }
            blocks += 1;
            if is_last {
                break;
            }
        }
        let mut answer = [0; 8];
        while self.socket.recv(&mut answer).await? != 1 {}
        if answer[0] == VERIFIED {
            Ok(sent)
        } else {
            Err(io::Error::other("the server found wrong bytes"))
        }
    }

    async fn send_unit(&self, piece: &[u8], server: SocketAddr) -> io::Result<()> {
        let Some(state) = &self.trains else {
            return self.socket.send(piece).await.map(drop);
        };
        let transmit = Transmit {
            destination: server,
            ecn: None,
            contents: piece,
            segment_size: Some(SEGMENT),
            src_ip: None,
        };
        self.socket
            .async_io(Interest::WRITABLE, || {
                state.try_send(UdpSockRef::from(&self.socket), &transmit)
            })
            .await
    }

    /// Waits for acknowledgements; the largest count there is.
    async fn acknowledgement(&self, before: u64) -> io::Result<u64> {
        let mut count = [0; 8];
        self.socket.recv(&mut count).await?;
        let mut largest = before.max(u64::from_le_bytes(count));
        while self.socket.try_recv(&mut count).is_ok() {
            largest = largest.max(u64::from_le_bytes(count));
        }
        Ok(largest)
    }

    /// Receives and checks until the last byte.
    async fn receive(&self) -> io::Result<()> {
        let content = Content::new();
        let mut checker = Checker::new(&content);
        let mut storage = vec![vec![0; 64 << 10]; BATCH];
        let mut lens = [0; BATCH];
        let (mut received, mut told) = (0, 0);
        loop {
            let count = self.receive_batch(&mut storage, &mut lens).await?;
            let mut finished = false;
            for (buffer, &len) in storage.iter().zip(&lens[..count]) {
                received += len as u64;
                finished = checker
                    .check(&buffer[..len])
                    .map_err(|mismatch| io::Error::other(format!("wrong bytes: {mismatch:?}")))?;
            }
            if finished {
                return Ok(());
            }
            if received - told >= self.credit / 4 {
                told = received;
                self.socket.send(&u64::to_le_bytes(told)).await?;
            }
        }
    }

    /// Fills buffers and their lengths; how many.
    async fn receive_batch(
        &self,
        storage: &mut [Vec<u8>],
        lens: &mut [usize; BATCH],
    ) -> io::Result<usize> {
        let Some(state) = &self.trains else {
            lens[0] = self.socket.recv(&mut storage[0]).await?;
            return Ok(1);
        };
        let mut meta = [RecvMeta::default(); BATCH];
        let count = self
            .socket
            .async_io(Interest::READABLE, || {
                let mut slices = storage.iter_mut().map(|buffer| IoSliceMut::new(buffer));
                let mut slices: [_; BATCH] =
                    std::array::from_fn(|_| slices.next().expect("a buffer each"));
                state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut meta)
            })
            .await?;
        for (len, meta) in lens.iter_mut().zip(&meta[..count]) {
            *len = meta.len;
        }
        Ok(count)
    }
}
