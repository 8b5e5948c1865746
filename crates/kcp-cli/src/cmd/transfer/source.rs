//! Reading a file on a thread of its own, hashed on the way.

use std::fs::File;
use std::io::{self, Read};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::copy::{Hash, MAX_DATA};

/// A file being read ahead of the network.
#[derive(Debug)]
pub(super) struct Source {
    pieces: mpsc::Receiver<Vec<u8>>,
    reading: JoinHandle<io::Result<Hash>>,
}

impl Source {
    /// Starts to read `file`, which has exactly `size` bytes. Dropping the source ends the reading.
    pub(super) fn start(file: File, size: u64) -> Self {
        let (to_network, pieces) = mpsc::channel(PIECES_AHEAD);
        let reading = tokio::task::spawn_blocking(move || read(file, size, &to_network));
        Self { pieces, reading }
    }

    /// The next piece, at most [`MAX_DATA`] bytes; None at the end and after an error.
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.pieces.recv().await
    }

    /// The hash of everything, or why reading ended early. Call it after `next` gave None.
    pub(super) async fn finish(self) -> io::Result<Hash> {
        drop(self.pieces);
        self.reading
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn read(mut file: File, size: u64, to_network: &mpsc::Sender<Vec<u8>>) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut left = size;
    while left > 0 {
        let want = left.min(MAX_DATA as u64);
        let mut piece = Vec::with_capacity(want as usize);
        if (&mut file).take(want).read_to_end(&mut piece)? as u64 != want {
            let text = format!("it shrank while it was sent: {left} of {size} bytes are missing");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        hasher.update(&piece);
        left -= want;
        if to_network.blocking_send(piece).is_err() {
            break; // nobody wants the rest
        }
    }
    // Files of /proc have a size of 0 whatever they hold.
    if left == 0 && file.read(&mut [0])? > 0 {
        let text = format!(
            "it grew while it was sent, or hides its size: there are more than {size} bytes"
        );
        return Err(io::Error::other(text));
    }
    Ok(*hasher.finalize().as_bytes())
}

/// A megabyte: more than the network takes while a disk seeks.
const PIECES_AHEAD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    async fn hash(size: u64) -> io::Result<Hash> {
        let path = std::env::temp_dir().join(format!("kcp-source-{}-{size}", std::process::id()));
        std::fs::write(&path, b"content").unwrap();
        let mut source = Source::start(File::open(&path).unwrap(), size);
        std::fs::remove_file(&path).unwrap();
        while source.next().await.is_some() {}
        source.finish().await
    }

    /// `kcp send /proc/cpuinfo` stored an empty file, with exit code 0.
    #[tokio::test]
    async fn a_file_has_exactly_the_bytes_that_were_offered() {
        assert_eq!(hash(7).await.unwrap(), *blake3::hash(b"content").as_bytes());
        for (size, why) in [(0, "grew"), (6, "grew"), (8, "shrank")] {
            let error = hash(size).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
