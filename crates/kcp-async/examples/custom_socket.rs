//! KCP over something that is not UDP: here a pair of in-process queues that lose every tenth
//! datagram.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use kcp_async::{DatagramSocket, KcpConfig, KcpEndpoint, RecvMeta, Transmit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    datagrams: VecDeque<Vec<u8>>,
    reader: Option<Waker>,
    sent: usize,
}

/// One end. The addresses are only names here.
#[derive(Debug)]
struct PipeEnd {
    local: SocketAddr,
    remote: SocketAddr,
    outgoing: Arc<Mutex<Pipe>>,
    incoming: Arc<Mutex<Pipe>>,
}

impl DatagramSocket for PipeEnd {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut pipe = self.outgoing.lock().map_err(|_| io::ErrorKind::Other)?;
        for datagram in transmit.datagrams() {
            pipe.sent += 1;
            if pipe.sent % 10 != 0 {
                pipe.datagrams.push_back(datagram.to_vec());
            }
        }
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    fn poll_send_ready(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // The queue is never full.
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.incoming.lock().map_err(|_| io::ErrorKind::Other)?;
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(datagram) = pipe.datagrams.pop_front() else {
                break;
            };
            buf[..datagram.len()].copy_from_slice(&datagram);
            *meta = RecvMeta {
                source: self.remote,
                len: datagram.len(),
                stride: datagram.len(),
                destination: None,
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (left, right) = (
        SocketAddr::from(([0, 0, 0, 1], 1)),
        SocketAddr::from(([0, 0, 0, 2], 2)),
    );
    let (there, back) = (Arc::<Mutex<Pipe>>::default(), Arc::<Mutex<Pipe>>::default());
    let end = |local, remote, outgoing: &Arc<_>, incoming: &Arc<_>| {
        let (outgoing, incoming) = (Arc::clone(outgoing), Arc::clone(incoming));
        Arc::new(PipeEnd {
            local,
            remote,
            outgoing,
            incoming,
        })
    };
    let client =
        KcpEndpoint::with_socket(end(left, right, &there, &back), KcpConfig::turbo_mode())?;
    let server =
        KcpEndpoint::with_socket(end(right, left, &back, &there), KcpConfig::turbo_mode())?;

    let mut sender = client.connect(right).await?;
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let copy = data.clone();
    let sending = tokio::spawn(async move {
        sender.write_all(&copy).await?;
        sender.shutdown().await?;
        Ok::<_, io::Error>(sender.stats().engine.resends())
    });
    let (mut receiver, _) = server.accept().await?;
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).await?;
    assert!(received == data);
    println!(
        "{} bytes arrived, {} segments were sent again",
        received.len(),
        sending.await??
    );
    Ok(())
}
