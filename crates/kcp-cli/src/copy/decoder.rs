//! Cuts a byte stream into frames.

use super::frame::{Frame, FrameError, HEADER, body_length, kind, parse};

/// An incremental frame parser. It holds at most one frame plus what was pushed with it.
///
/// After an error the stream has no frame boundary any more: every later call returns the
/// same error.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// Everything before it has been handed out.
    start: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// Adds bytes as they came from the stream, in pieces of any size.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        // Moving the rest down once per push keeps the cost linear: a push is a whole
        // read, and what is left of it is less than a frame.
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or None until more bytes have been pushed.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.try_next().inspect_err(|&error| {
            self.failed = Some(error);
            self.buffer = Vec::new();
            self.start = 0;
        })
    }

    /// The bytes of a frame that is not whole yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Whether nothing is pending, or nothing but the beginning of an Abort.
    pub(crate) fn is_abort(&self) -> bool {
        self.pending()
            .first()
            .is_none_or(|&first| first == kind::ABORT)
    }

    fn try_next(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some((header, after)) = rest.split_first_chunk::<HEADER>() else {
            // Not even a whole header: a wrong first byte is reported at once all the
            // same, since a peer of another kind may never send five bytes.
            return match rest.first() {
                Some(&kind) => body_length([kind, 0, 0, 0, 0]).map(|_| None),
                None => Ok(None),
            };
        };
        let length = body_length(*header)?;
        let Some(body) = after.get(..length) else {
            return Ok(None);
        };
        let frame = parse(header[0], body)?;
        self.start += HEADER + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{MAX_DATA, Outcome, Reason, Role};
    use super::*;

    fn reasons() -> impl Strategy<Value = Reason> {
        prop_oneof![
            Just(Reason::Interrupted),
            Just(Reason::Exists),
            Just(Reason::UnsafeName),
            Just(Reason::TooLarge),
            Just(Reason::Local),
            Just(Reason::Protocol),
            Just(Reason::Role),
            Just(Reason::Busy),
            Just(Reason::Stalled),
            Just(Reason::TooMany),
            (11_u8..).prop_map(Reason::Other),
        ]
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let role = prop_oneof![Just(Role::Sender), Just(Role::Receiver)];
        let outcome = prop_oneof![
            Just(Outcome::Stored),
            Just(Outcome::Mismatch),
            Just(Outcome::NotStored),
        ];
        prop_oneof![
            (any::<u16>(), role, any::<[u8; 16]>()).prop_map(|(version, role, nonce)| {
                Frame::Hello {
                    version,
                    role,
                    nonce,
                }
            }),
            (any::<u16>(), any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(
                |(version, echo, nonce)| Frame::Welcome {
                    version,
                    echo,
                    nonce,
                }
            ),
            any::<[u8; 16]>().prop_map(|echo| Frame::Confirm { echo }),
            Just(Frame::Wait),
            ("[a-zA-Z0-9 ./]{0,300}", any::<u64>())
                .prop_map(|(name, size)| Frame::Offer { name, size }),
            Just(Frame::Accept),
            (reasons(), "[a-z ]{0,512}").prop_map(|(reason, text)| Frame::Decline { reason, text }),
            (any::<u64>(), prop::collection::vec(any::<u8>(), 1..2000))
                .prop_map(|(offset, bytes)| Frame::Data { offset, bytes }),
            (any::<u64>(), any::<[u8; 32]>()).prop_map(|(size, hash)| Frame::End { size, hash }),
            (outcome, any::<[u8; 32]>(), "[a-z ]{0,64}").prop_map(|(outcome, hash, text)| {
                Frame::Verdict {
                    outcome,
                    hash,
                    text,
                }
            }),
            Just(Frame::Bye),
            (reasons(), "[a-z ]{0,64}").prop_map(|(reason, text)| Frame::Abort { reason, text }),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut_of_the_stream(
            sent in prop::collection::vec(frames(), 1..12),
            cuts in prop::collection::vec(1_usize..700, 1..40),
        ) {
            let mut bytes = Vec::new();
            sent.iter().for_each(|frame| frame.encode(&mut bytes));
            let mut decoder = Decoder::default();
            let mut received = Vec::new();
            let mut cuts = cuts.into_iter().cycle();
            while !bytes.is_empty() {
                let cut = cuts.next().unwrap().min(bytes.len());
                decoder.push(&bytes[..cut]);
                bytes.drain(..cut);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    received.push(frame);
                }
            }
            prop_assert_eq!(received, sent);
            prop_assert_eq!(decoder.buffer.len(), decoder.start);
        }

        #[test]
        fn hostile_bytes_give_errors_and_never_panic(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20),
        ) {
            let mut decoder = Decoder::default();
            for piece in &pieces {
                decoder.push(piece);
                while let Ok(Some(_)) = decoder.next_frame() {}
            }
        }

        #[test]
        fn hostile_bodies_under_a_valid_kind_never_panic(
            kind in 0xf0_u8..0xff,
            body in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut decoder = Decoder::default();
            decoder.push(&[kind]);
            decoder.push(&(body.len() as u32).to_le_bytes());
            decoder.push(&body);
            let first = decoder.next_frame();
            if let Err(error) = first {
                prop_assert_eq!(decoder.next_frame(), Err(error));
            }
        }
    }

    #[test]
    fn an_over_long_frame_is_refused_before_its_body_arrives() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xf6, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(
            decoder.next_frame(),
            Err(FrameError::TooLong {
                kind: 0xf6,
                length: u32::MAX,
                limit: 8 + MAX_DATA
            })
        );
        decoder.push(&[0; 1000]);
        assert!(decoder.next_frame().is_err());
        assert!(decoder.buffer.is_empty());
    }

    #[test]
    fn a_peer_of_another_kind_shows_with_its_first_byte() {
        let mut decoder = Decoder::default();
        decoder.push(b"S");
        assert_eq!(decoder.next_frame(), Err(FrameError::UnknownKind(b'S')));
    }

    #[test]
    fn texts_lose_what_would_drive_a_terminal() {
        let mut bytes = Vec::new();
        Frame::Abort {
            reason: Reason::Local,
            text: "\x1b[2Jgone\u{202e}".into(),
        }
        .encode(&mut bytes);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let Ok(Some(Frame::Abort { text, .. })) = decoder.next_frame() else {
            panic!("no frame")
        };
        assert_eq!(text, "\u{fffd}[2Jgone\u{fffd}");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut bytes = Vec::new();
        Frame::Abort {
            reason: Reason::Local,
            text: "\u{20ac}".repeat(400),
        }
        .encode(&mut bytes);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let Ok(Some(Frame::Abort { text, .. })) = decoder.next_frame() else {
            panic!("no frame")
        };
        assert_eq!(text, "\u{20ac}".repeat(170));
    }
}
