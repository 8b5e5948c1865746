//! What ends a session early: the failure, and what the peer is told about it.

use tokio::io::AsyncRead;

use super::link::{LinkError, Writer};
use super::pace::Stalled;
use super::session::Session;
use crate::copy::{Frame, Reason, Violation};
use crate::error::{Failure, Kind};
use crate::net;

/// What ended a session early, and whether the peer still has to be told.
#[derive(Debug)]
pub(super) struct End {
    pub(super) failure: Failure,
    pub(super) tell: Option<(Reason, String)>,
}

impl End {
    /// The stream is gone or the peer said so itself: nobody to tell.
    pub(super) const fn silent(failure: Failure) -> Self {
        Self {
            failure,
            tell: None,
        }
    }

    /// The peer gets an Abort with this reason.
    pub(super) fn told(failure: Failure, reason: Reason) -> Self {
        let text = failure.message().to_owned();
        Self {
            failure,
            tell: Some((reason, text)),
        }
    }

    pub(super) fn interrupted() -> Self {
        Self::told(Failure::interrupted(), Reason::Interrupted)
    }

    /// A local file failed. The peer gets the reason but not our paths.
    pub(super) fn local(failure: Failure, text: &str) -> Self {
        Self {
            failure,
            tell: Some((Reason::Local, text.to_owned())),
        }
    }
}

impl<R: AsyncRead + Unpin, W: Writer> Session<'_, R, W> {
    /// What a failed read or write means.
    pub(super) fn broken(&self, error: LinkError) -> End {
        let peer = &self.context.peer;
        match error {
            LinkError::Io(error) => End::silent(net::stream_failure(peer, self.validated, &error)),
            LinkError::Eof if self.validated => End::silent(Failure::new(
                Kind::Lost,
                format!("lost {peer}: it closed the stream"),
            )),
            LinkError::Eof => {
                let text = format!("{peer} closed the stream without an answer");
                End::silent(Failure::new(Kind::Refused, text))
            }
            LinkError::Early => {
                let before = "it was its turn";
                self.violation(&Violation::Early { before })
            }
            LinkError::Frame(error) => {
                let text = format!("{peer} does not speak the copy protocol: {error}");
                End::told(Failure::new(Kind::Protocol, text), Reason::Protocol)
            }
        }
    }

    /// The peer broke a rule.
    pub(super) fn violation(&self, violation: &Violation) -> End {
        End::told(self.protocol_failure(violation), Reason::Protocol)
    }

    /// The peer is slower than the minimum.
    pub(super) fn stalled(&self, stalled: Stalled) -> End {
        let peer = &self.context.peer;
        let failure = Failure::new(Kind::Lost, format!("gave up on {peer}: {stalled}"));
        End {
            failure,
            tell: Some((Reason::Stalled, format!("too slow: {stalled}"))),
        }
    }

    /// The peer gave up.
    pub(super) fn peer_aborted(&self, reason: Reason, text: &str) -> End {
        let peer = &self.context.peer;
        let kind = match reason {
            Reason::Protocol => Kind::Protocol,
            _ => Kind::Refused,
        };
        End::silent(Failure::new(kind, format!("{peer} gave up: {text}")))
    }

    pub(super) fn unexpected(&self, frame: &Frame, expected: &'static str) -> End {
        self.violation(&Violation::Unexpected {
            got: frame.name(),
            expected,
        })
    }

    pub(super) fn protocol_failure(&self, violation: &Violation) -> Failure {
        let peer = &self.context.peer;
        Failure::new(
            Kind::Protocol,
            format!("{peer} does not follow the copy protocol: {violation}"),
        )
    }
}
