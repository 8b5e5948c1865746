//! KCP-Rust.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use kcp_async::{Conv, FlushPolicy, KcpConfig, KcpListener, KcpStream, NoDelay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::settings::{INTERVAL, MTU, Mode, RESEND, Settings, WINDOW};
use super::{Kind, Pipe};

/// Bytes asked for in one read of a stream.
const BUFFER: usize = 64 << 10;

/// This project.
#[derive(Debug)]
pub(crate) struct Ours;

/// One of our streams.
#[derive(Debug)]
pub(crate) struct Stream {
    stream: KcpStream,
    mode: Mode,
}

impl Kind for Ours {
    type Listener = KcpListener;
    type Pipe = Stream;

    async fn bind(settings: &Settings) -> io::Result<(KcpListener, SocketAddr)> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = KcpListener::bind(any, config(settings.mode)).await?;
        let address = listener.local_addr();
        Ok((listener, address))
    }

    async fn accept(listener: &mut KcpListener, mode: Mode) -> io::Result<Stream> {
        let (stream, _) = listener.accept().await?;
        Ok(Stream { stream, mode })
    }

    async fn connect(mode: Mode, server: SocketAddr, conv: u32) -> io::Result<Stream> {
        let stream = KcpStream::connect_with_conv(server, Conv::new(conv), config(mode)).await?;
        Ok(Stream { stream, mode })
    }

    fn live(listener: &KcpListener) -> Option<usize> {
        Some(listener.stats().sessions)
    }

    fn listener_stats(listener: &KcpListener) -> String {
        format!("{:?}", listener.stats())
    }
}

impl Pipe for Stream {
    async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        match self.mode {
            Mode::Message => Ok(self.stream.send(data).await?),
            Mode::Stream => self.stream.write_all(data).await,
        }
    }

    async fn recv(&mut self) -> io::Result<Vec<u8>> {
        if self.mode == Mode::Message {
            return Ok(self.stream.recv_message().await?);
        }
        let mut buffer = vec![0; BUFFER];
        let length = self.stream.read(&mut buffer).await?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The peer has nothing to acknowledge yet but the challenge of protocol.md 11.1. It is sent half a second and
    /// three quarters after the peer's first segment, and again after 5 s and 7.5 s.
    async fn validated(&mut self) -> io::Result<()> {
        let started = Instant::now();
        while !self.stream.stats().proven {
            if started.elapsed() > Duration::from_secs(9) {
                let text = "the peer has acknowledged no challenge";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Shutdown waits until the peer has acknowledged everything, at most for the linger time.
    async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    async fn stats(&self) -> String {
        format!("{:?} {:?}", self.stream.close_reason(), self.stream.stats())
    }
}

/// `nodelay(1, 10, 2, 1)`, windows 256, mtu 1400, at the moments of kcp-go.
pub(crate) fn config(mode: Mode) -> KcpConfig {
    KcpConfig::new()
        .nodelay(NoDelay::Fast)
        .interval(INTERVAL)
        .fast_resend(RESEND)
        .congestion_window(false)
        .window_size(WINDOW, WINDOW)
        .mtu(MTU as usize)
        .stream_mode(mode == Mode::Stream)
        .flush_policy(FlushPolicy::Immediate)
}
