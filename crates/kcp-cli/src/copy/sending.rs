//! The sending side's rules: which answer may come when.

use super::Violation;
use super::frame::{Frame, Hash, Outcome, Reason};

/// The order of the receiver's answers as the sender of files enforces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Nothing is due but an Abort: between files, or while data is on its way.
    #[default]
    Quiet,
    /// An offer is out.
    Offered,
    /// All of a file is out.
    Ended,
}

/// What a frame means to the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No slot yet: the answer to the offer is still due.
    Waiting,
    Accepted,
    Declined {
        reason: Reason,
        text: String,
    },
    Verdict {
        outcome: Outcome,
        hash: Hash,
        text: String,
    },
    Abort {
        reason: Reason,
        text: String,
    },
}

impl Sending {
    /// Checks one frame against what is due, and goes on.
    pub(crate) fn on_frame(&mut self, frame: Frame) -> Result<Answer, Violation> {
        let answer = match (*self, frame) {
            (_, Frame::Abort { reason, text }) => Answer::Abort { reason, text },
            (Self::Offered, Frame::Wait) => return Ok(Answer::Waiting),
            (Self::Offered, Frame::Accept) => Answer::Accepted,
            (Self::Offered, Frame::Decline { reason, text }) => Answer::Declined { reason, text },
            (
                Self::Ended,
                Frame::Verdict {
                    outcome,
                    hash,
                    text,
                },
            ) => Answer::Verdict {
                outcome,
                hash,
                text,
            },
            (state, frame) => {
                let expected = match state {
                    Self::Quiet => "nothing",
                    Self::Offered => "Accept or Decline",
                    Self::Ended => "Verdict",
                };
                return Err(Violation::Unexpected {
                    got: frame.name(),
                    expected,
                });
            }
        };
        *self = Self::Quiet;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict() -> Frame {
        Frame::Verdict {
            outcome: Outcome::Stored,
            hash: [0; 32],
            text: String::new(),
        }
    }

    #[test]
    fn answers_come_only_to_what_was_asked() {
        assert_eq!(
            Sending::Offered.on_frame(Frame::Accept),
            Ok(Answer::Accepted)
        );
        assert!(matches!(
            Sending::Ended.on_frame(verdict()),
            Ok(Answer::Verdict { .. })
        ));
        for (mut state, frame) in [
            (Sending::Quiet, Frame::Accept),
            (Sending::Quiet, verdict()),
            (Sending::Offered, verdict()),
            (Sending::Ended, Frame::Accept),
            (Sending::Offered, Frame::Bye),
        ] {
            assert!(matches!(
                state.on_frame(frame),
                Err(Violation::Unexpected { .. })
            ));
        }
    }

    #[test]
    fn a_wait_leaves_the_answer_due() {
        let mut state = Sending::Offered;
        assert_eq!(state.on_frame(Frame::Wait), Ok(Answer::Waiting));
        assert_eq!(state.on_frame(Frame::Accept), Ok(Answer::Accepted));
        assert!(Sending::Quiet.on_frame(Frame::Wait).is_err());
        assert!(Sending::Ended.on_frame(Frame::Wait).is_err());
    }

    #[test]
    fn an_abort_may_come_at_any_time() {
        for mut state in [Sending::Quiet, Sending::Offered, Sending::Ended] {
            let abort = Frame::Abort {
                reason: Reason::Interrupted,
                text: String::new(),
            };
            assert!(matches!(state.on_frame(abort), Ok(Answer::Abort { .. })));
        }
    }
}
