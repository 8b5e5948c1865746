//! Datagrams in one flat buffer.

use std::fmt;

/// A sequence of datagrams, kept in one buffer so that a long run does not allocate.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Datagrams {
    bytes: Vec<u8>,
    /// Where each datagram ends in `bytes`.
    ends: Vec<usize>,
}

impl Datagrams {
    /// An empty sequence.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one datagram.
    pub fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    /// Lets `fill` append bytes to the buffer and cuts what it appended into pieces of
    /// `piece` bytes, the last one shorter. `fill` returns the piece size, or `None` when
    /// it appended nothing; then this returns `false`.
    ///
    /// # Panics
    ///
    /// If a train is announced but nothing was appended, or its pieces are empty.
    pub fn append_train(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> Option<usize>) -> bool {
        let start = self.bytes.len();
        let Some(piece) = fill(&mut self.bytes) else {
            assert_eq!(start, self.bytes.len(), "bytes without a transmit");
            return false;
        };
        let end = self.bytes.len();
        assert!(piece > 0 && end > start, "a train of nothing");
        let mut at = start;
        while at < end {
            at = (at + piece).min(end);
            self.ends.push(at);
        }
        true
    }

    /// Forgets all datagrams and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The datagrams in the order in which they were appended.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(i, &end)| {
            let start = if i == 0 { 0 } else { self.ends[i - 1] };
            &self.bytes[start..end]
        })
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(<[u8]>::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_is_cut_into_equal_pieces_and_a_shorter_last() {
        let mut all = Datagrams::new();
        all.push(b"first");
        assert!(all.append_train(|buffer| {
            buffer.extend_from_slice(b"aabbc");
            Some(2)
        }));
        let pieces: Vec<_> = all.iter().collect();
        assert_eq!(pieces, [&b"first"[..], b"aa", b"bb", b"c"]);
        assert!(!all.append_train(|_| None));
    }
}
