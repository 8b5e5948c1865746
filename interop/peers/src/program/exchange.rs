//! The exchange: a greeting, content up, content down, then a receipt from each side.
//!
//! The server answers the header before the content comes: kcp-go has windows of 32 until its
//! application has accepted the session, and no message may be longer than the window.

use std::io;

use sha2::{Digest, Sha256};

use super::Pipe;
use super::content::content;
use super::settings::{Mode, Settings};

const MAGIC: &[u8; 4] = b"KCPX";
const WELCOME: &[u8; 4] = b"GOOD";
const RECEIPT: &[u8; 4] = b"DONE";

/// Whose part of the exchange to play.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    /// Opens it, with this many bytes each way.
    Client {
        /// Content bytes in each direction.
        bytes: usize,
    },
    /// Learns the number of bytes from the client.
    Server,
}

/// What every exchange of a program sends and expects.
#[derive(Debug)]
pub(crate) struct Exchange {
    mode: Mode,
    send: Vec<usize>,
    expect: Vec<usize>,
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Exchange {
    /// Makes the content, so that no exchange has to wait for it.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            mode: settings.mode,
            send: settings.send.clone(),
            expect: settings.expect.clone(),
            up: content(settings.seed, settings.bytes),
            down: content(settings.seed.wrapping_add(1), settings.bytes),
        }
    }

    /// Plays one side to its end: the other side has confirmed all that was sent.
    pub(crate) async fn run<P: Pipe>(&self, pipe: &mut P, side: Side) -> io::Result<()> {
        let mut reader = Reader {
            mode: self.mode,
            pending: Vec::new(),
        };
        match side {
            Side::Client { bytes } => {
                let mut header = MAGIC.to_vec();
                header.extend_from_slice(&(bytes as u32).to_le_bytes());
                pipe.send(&header).await?;
                let welcome = reader.take(pipe, WELCOME.len()).await?;
                if welcome != WELCOME {
                    return Err(wrong(format!("bad welcome {welcome:02x?}")));
                }
                self.send_content(pipe, &self.up[..bytes]).await?;
                let digest = self
                    .take_content(pipe, &mut reader, &self.down[..bytes])
                    .await?;
                pipe.send(&receipt(&digest)).await?;
                reader.take_receipt(pipe, &self.up[..bytes]).await
            }
            Side::Server => {
                let header = reader.take(pipe, 8).await?;
                let bytes =
                    u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
                if !header.starts_with(MAGIC) || bytes > self.up.len() {
                    return Err(wrong(format!("bad header {header:02x?}")));
                }
                pipe.validated().await?;
                pipe.send(WELCOME).await?;
                let digest = self
                    .take_content(pipe, &mut reader, &self.up[..bytes])
                    .await?;
                self.send_content(pipe, &self.down[..bytes]).await?;
                reader.take_receipt(pipe, &self.down[..bytes]).await?;
                pipe.send(&receipt(&digest)).await
            }
        }
    }

    async fn send_content<P: Pipe>(&self, pipe: &mut P, data: &[u8]) -> io::Result<()> {
        for piece in pieces(&self.send, data.len()) {
            pipe.send(&data[piece]).await?;
        }
        Ok(())
    }

    async fn take_content<P: Pipe>(
        &self,
        pipe: &mut P,
        reader: &mut Reader,
        want: &[u8],
    ) -> io::Result<Vec<u8>> {
        let mut hash = Sha256::new();
        for piece in pieces(&self.expect, want.len()) {
            let got = match reader.take(pipe, piece.len()).await {
                Ok(got) => got,
                Err(error) => return Err(wrong(format!("at byte {}: {error}", piece.start))),
            };
            if got != want[piece.clone()] {
                return Err(wrong(format!("content differs in bytes {piece:?}")));
            }
            hash.update(&got);
        }
        Ok(hash.finalize().to_vec())
    }
}

/// Cuts `total` bytes into pieces of the given sizes, in turn; the last one may be shorter.
fn pieces(sizes: &[usize], total: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut sizes = sizes.iter().cycle();
    let mut start = 0;
    std::iter::from_fn(move || {
        let size = *sizes.next()?;
        if start == total {
            return None;
        }
        let piece = start..(start + size).min(total);
        start = piece.end;
        Some(piece)
    })
}

fn receipt(digest: &[u8]) -> Vec<u8> {
    [RECEIPT, digest].concat()
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Takes exact amounts off a pipe.
struct Reader {
    mode: Mode,
    /// Stream mode: received, not yet taken.
    pending: Vec<u8>,
}

impl Reader {
    /// Exactly `length` bytes: one message, or that much of the stream.
    async fn take<P: Pipe>(&mut self, pipe: &mut P, length: usize) -> io::Result<Vec<u8>> {
        if self.mode == Mode::Message {
            let message = pipe.recv().await?;
            return match message.len() {
                got if got == length => Ok(message),
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                got => Err(wrong(format!("message of {got} bytes, expected {length}"))),
            };
        }
        while self.pending.len() < length {
            let bytes = pipe.recv().await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.pending.extend_from_slice(&bytes);
        }
        Ok(self.pending.drain(..length).collect())
    }

    async fn take_receipt<P: Pipe>(&mut self, pipe: &mut P, sent: &[u8]) -> io::Result<()> {
        let got = self.take(pipe, RECEIPT.len() + 32).await?;
        if got == receipt(&Sha256::digest(sent)) {
            Ok(())
        } else {
            Err(wrong(format!("bad receipt {got:02x?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cycle_and_end_exactly() {
        let cut: Vec<_> = pieces(&[2, 3], 9).collect();
        assert_eq!(cut, [0..2, 2..5, 5..7, 7..9]);
        assert_eq!(pieces(&[2], 0).count(), 0);
    }
}
