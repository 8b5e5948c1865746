//! The receiving side's rules: which frame may come when, and how much of it.

use super::Violation;
use super::frame::{Frame, Hash, Reason};
use super::name::{FileName, NameError};

/// The order of frames as the receiver of files enforces it.
///
/// Feed every frame to [`on_frame`](Self::on_frame); after an `Offer` call
/// [`decided`](Self::decided), after an `End` call [`judged`](Self::judged). A peer that
/// sends on without waiting for either breaks the protocol.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    state: State,
}

/// What a frame means to the receiver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A file is offered: decide. The raw name is only for messages.
    Offer {
        name: Result<FileName, NameError>,
        raw: String,
        size: u64,
    },
    /// The next bytes of the file, in order, within its size.
    Data(Vec<u8>),
    /// All bytes are there; this is the sender's hash of them.
    End(Hash),
    /// No slot yet.
    Waiting,
    /// No more files.
    Bye,
    /// The sender gives up.
    Abort { reason: Reason, text: String },
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Between,
    Deciding {
        size: u64,
    },
    Taking {
        size: u64,
        offset: u64,
    },
    Judging,
    Over,
}

impl Receiving {
    /// Checks one frame against the state of the session.
    pub(crate) fn on_frame(&mut self, frame: Frame) -> Result<Received, Violation> {
        match (&mut self.state, frame) {
            (State::Between, Frame::Offer { name, size }) => {
                self.state = State::Deciding { size };
                Ok(Received::Offer {
                    name: FileName::new(&name),
                    raw: super::printable(&name),
                    size,
                })
            }
            (State::Between, Frame::Wait) => Ok(Received::Waiting),
            (State::Between, Frame::Bye) => {
                self.state = State::Over;
                Ok(Received::Bye)
            }
            (State::Taking { size, offset }, Frame::Data { offset: at, bytes }) => {
                if at != *offset {
                    return Err(Violation::Offset {
                        got: at,
                        expected: *offset,
                    });
                }
                let end = at.saturating_add(bytes.len() as u64);
                if end > *size {
                    return Err(Violation::Size {
                        got: end,
                        announced: *size,
                    });
                }
                *offset = end;
                Ok(Received::Data(bytes))
            }
            (
                State::Taking { size, offset },
                Frame::End {
                    size: claimed,
                    hash,
                },
            ) => {
                if *offset != *size || claimed != *size {
                    return Err(Violation::Size {
                        got: claimed.min(*offset),
                        announced: *size,
                    });
                }
                self.state = State::Judging;
                Ok(Received::End(hash))
            }
            (state, Frame::Abort { reason, text }) if !matches!(state, State::Over) => {
                self.state = State::Over;
                Ok(Received::Abort { reason, text })
            }
            (state, frame) => {
                let expected = match state {
                    State::Between => "Offer or Bye",
                    State::Deciding { .. } => "our answer to the offer",
                    State::Taking { .. } => "Data or End",
                    State::Judging => "our verdict",
                    State::Over => "nothing",
                };
                Err(Violation::Unexpected {
                    got: frame.name(),
                    expected,
                })
            }
        }
    }

    /// The offer was answered: data comes next, or another offer.
    pub(crate) fn decided(&mut self, accepted: bool) {
        if let State::Deciding { size } = self.state {
            self.state = if accepted {
                State::Taking { size, offset: 0 }
            } else {
                State::Between
            };
        }
    }

    /// The verdict was sent.
    pub(crate) fn judged(&mut self) {
        if let State::Judging = self.state {
            self.state = State::Between;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taking(size: u64) -> Receiving {
        let mut receiving = Receiving::default();
        receiving
            .on_frame(Frame::Offer {
                name: "a".into(),
                size,
            })
            .unwrap();
        receiving.decided(true);
        receiving
    }

    #[test]
    fn one_file_from_offer_to_bye() {
        let mut receiving = taking(3);
        let data = Frame::Data {
            offset: 0,
            bytes: vec![1, 2],
        };
        assert_eq!(receiving.on_frame(data), Ok(Received::Data(vec![1, 2])));
        let data = Frame::Data {
            offset: 2,
            bytes: vec![3],
        };
        assert_eq!(receiving.on_frame(data), Ok(Received::Data(vec![3])));
        let end = Frame::End {
            size: 3,
            hash: [7; 32],
        };
        assert_eq!(receiving.on_frame(end), Ok(Received::End([7; 32])));
        receiving.judged();
        assert_eq!(receiving.on_frame(Frame::Bye), Ok(Received::Bye));
        assert!(receiving.on_frame(Frame::Bye).is_err());
    }

    #[test]
    fn data_must_continue_the_file() {
        let gap = Frame::Data {
            offset: 1,
            bytes: vec![0],
        };
        assert_eq!(
            taking(9).on_frame(gap),
            Err(Violation::Offset {
                got: 1,
                expected: 0
            })
        );
    }

    #[test]
    fn data_beyond_the_announced_size_is_refused() {
        let data = Frame::Data {
            offset: 0,
            bytes: vec![0; 4],
        };
        assert_eq!(
            taking(3).on_frame(data),
            Err(Violation::Size {
                got: 4,
                announced: 3
            })
        );
    }

    #[test]
    fn an_early_end_is_refused() {
        let end = Frame::End {
            size: 3,
            hash: [0; 32],
        };
        assert_eq!(
            taking(3).on_frame(end),
            Err(Violation::Size {
                got: 0,
                announced: 3
            })
        );
        let end = Frame::End {
            size: 0,
            hash: [0; 32],
        };
        assert_eq!(
            taking(3).on_frame(end),
            Err(Violation::Size {
                got: 0,
                announced: 3
            })
        );
    }

    #[test]
    fn nothing_may_follow_an_offer_before_our_answer() {
        let mut receiving = Receiving::default();
        receiving
            .on_frame(Frame::Offer {
                name: "a".into(),
                size: 1,
            })
            .unwrap();
        let data = Frame::Data {
            offset: 0,
            bytes: vec![1],
        };
        assert!(matches!(
            receiving.on_frame(data),
            Err(Violation::Unexpected { .. })
        ));
    }

    #[test]
    fn a_declined_file_leaves_the_session_open() {
        let mut receiving = Receiving::default();
        receiving
            .on_frame(Frame::Offer {
                name: "../a".into(),
                size: 1,
            })
            .unwrap();
        receiving.decided(false);
        assert!(
            receiving
                .on_frame(Frame::Offer {
                    name: "b".into(),
                    size: 1
                })
                .is_ok()
        );
    }

    proptest! {
        /// Whatever a peer sends, no more bytes than announced come out.
        #[test]
        fn never_more_than_announced(
            size in 0_u64..20,
            script in prop::collection::vec((0_u64..24, 1_usize..12, any::<bool>()), 0..30),
        ) {
            let mut receiving = taking(size);
            let mut taken = 0;
            for (offset, len, follow) in script {
                let offset = if follow { taken } else { offset };
                match receiving.on_frame(Frame::Data { offset, bytes: vec![0; len] }) {
                    Ok(Received::Data(bytes)) => taken += bytes.len() as u64,
                    Ok(other) => prop_assert!(false, "{other:?}"),
                    Err(_) => {}
                }
                prop_assert!(taken <= size);
            }
        }
    }
}
