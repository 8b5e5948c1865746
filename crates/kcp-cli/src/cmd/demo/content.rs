//! What the bulk phase carries: seeded noise, or a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::copy::Hash;

/// A stream of bytes that can be read twice: once to be sent, once to be hashed for comparison.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// As long as anybody wants it.
    Noise {
        seed: u64,
    },
    File {
        path: PathBuf,
        size: u64,
    },
}

/// Reads a content from its start.
#[derive(Debug)]
pub(super) enum ContentReader {
    Noise(Box<blake3::OutputReader>),
    File { file: File, left: u64 },
}

impl Content {
    /// The content of a file, which must be regular and not empty.
    pub(super) fn of_file(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file with content",
            ));
        }
        Ok(Self::File {
            path: path.to_owned(),
            size: metadata.len(),
        })
    }

    /// How much there is. None is without end.
    pub(super) const fn size(&self) -> Option<u64> {
        match self {
            Self::Noise { .. } => None,
            Self::File { size, .. } => Some(*size),
        }
    }

    pub(super) fn reader(&self) -> io::Result<ContentReader> {
        Ok(match self {
            Self::Noise { seed } => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(b"kcp demo noise");
                hasher.update(&seed.to_le_bytes());
                ContentReader::Noise(Box::new(hasher.finalize_xof()))
            }
            Self::File { path, size } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(0))?;
                ContentReader::File { file, left: *size }
            }
        })
    }

    /// The hash of the first `length` bytes.
    pub(super) fn hash_of_prefix(&self, length: u64) -> io::Result<Hash> {
        let mut reader = self.reader()?;
        let mut hasher = blake3::Hasher::new();
        let mut piece = vec![0; 64 * 1024];
        let mut left = length;
        while left > 0 {
            let want = left.min(piece.len() as u64) as usize;
            let read = reader.fill(&mut piece[..want])?;
            if read == 0 {
                let text = "the content ended before what had been sent of it";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            hasher.update(&piece[..read]);
            left -= read as u64;
        }
        Ok(*hasher.finalize().as_bytes())
    }
}

impl ContentReader {
    /// Fills the buffer, or less at the end of a file. 0 is the end.
    pub(super) fn fill(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Noise(noise) => {
                noise.fill(piece);
                Ok(piece.len())
            }
            Self::File { file, left } => {
                let want = (*left).min(piece.len() as u64) as usize;
                let read = file.read(&mut piece[..want])?;
                *left -= read as u64;
                Ok(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_for_the_same_seed_whatever_the_pieces() {
        let content = Content::Noise { seed: 7 };
        let mut whole = vec![0; 1000];
        content.reader().unwrap().fill(&mut whole).unwrap();
        let mut reader = content.reader().unwrap();
        let mut pieces = vec![0; 1000];
        for piece in pieces.chunks_mut(77) {
            reader.fill(piece).unwrap();
        }
        assert_eq!(whole, pieces);
        assert_eq!(
            content.hash_of_prefix(1000).unwrap(),
            *blake3::hash(&whole).as_bytes()
        );
        let other = Content::Noise { seed: 8 };
        assert_ne!(
            other.hash_of_prefix(1000).unwrap(),
            *blake3::hash(&whole).as_bytes()
        );
    }
}
