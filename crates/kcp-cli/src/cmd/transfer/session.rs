//! One session: greeting, files, farewell.

use std::time::Duration;

use kcp_async::KcpStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::link::{Inbound, LinkError, Outbound};
use super::pull::{PullOptions, Puller};
use super::push::{Outgoing, push};
use super::report::{FileReport, SessionReport};
use crate::cmd::Output;
use crate::copy::{Frame, Reason, Role, VERSION, Violation};
use crate::error::{Failure, Kind};
use crate::net::{self, Transport};
use crate::signal::Interrupt;

/// Which side of the connection this is. The connecting side speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Connecting,
    Listening,
}

/// What this side does in a session.
#[derive(Debug)]
pub(crate) enum Job {
    Push(Vec<Outgoing>),
    Pull(PullOptions),
}

/// What a session needs to know besides its job.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The peer's name in messages.
    pub(super) peer: String,
    pub(super) answer_within: Duration,
    pub(super) output: Output,
    pub(super) interrupt: Interrupt,
}

/// Both halves of the stream, and what is known about who is at the other end.
pub(super) struct Session<'a, R, W> {
    pub(super) inbound: Inbound<R>,
    pub(super) outbound: Outbound<W>,
    pub(super) context: &'a Context,
    answered: bool,
}

impl Context {
    pub(crate) fn new(
        peer: String,
        transport: &Transport,
        output: &Output,
        interrupt: &Interrupt,
    ) -> Self {
        Self {
            peer,
            answer_within: transport.connect_timeout,
            output: output.clone(),
            interrupt: interrupt.clone(),
        }
    }
}

/// Runs one session over a stream: to its end, to a failure, or until a signal. The peer has
/// been told how it ended, or could not be told, when this returns.
pub(crate) async fn session(
    stream: &mut KcpStream,
    side: Side,
    job: &Job,
    context: &Context,
) -> SessionReport {
    let (reader, writer) = stream.split();
    let (report, told) = converse(reader, writer, side, job, context).await;
    if !told {
        // The Abort waits behind more data than the link carries in this time. Now it goes
        // unsaid; instead the peer's next sign-of-life probe is answered with "no such session".
        stream.abort();
        sleep(UNTIL_ASKED).await;
    }
    report
}

/// [`session`] over any two halves. False: the peer does not know yet that it is over.
pub(super) async fn converse<R, W>(
    reader: R,
    writer: W,
    side: Side,
    job: &Job,
    context: &Context,
) -> (SessionReport, bool)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (inbound, outbound) = (Inbound::new(reader), Outbound::new(writer));
    let mut session = Session {
        inbound,
        outbound,
        context,
        answered: false,
    };
    let mut files = Vec::new();
    let role = match job {
        Job::Push(_) => Role::Sender,
        Job::Pull(_) => Role::Receiver,
    };
    let result = match session.greet(side, role).await {
        Ok(()) => session.work(job, &mut files).await,
        Err(failure) => Err(failure),
    };
    let told = session.farewell(role, &result).await;
    let report = SessionReport {
        peer: context.peer.clone(),
        verb: if role == Role::Sender {
            "sent"
        } else {
            "received"
        },
        greeted: session.answered,
        files,
        failure: result.err().map(|end| end.failure),
    };
    (report, told)
}

/// What ended a session early, and whether the peer still has to be told.
#[derive(Debug)]
pub(super) struct End {
    pub(super) failure: Failure,
    tell: Option<(Reason, String)>,
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

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<'_, R, W> {
    async fn greet(&mut self, side: Side, role: Role) -> Result<(), End> {
        let within = self.context.answer_within;
        let interrupt = self.context.interrupt.clone();
        tokio::select! {
            result = timeout(within, self.exchange_greetings(side, role)) => {
                result.unwrap_or_else(|_| Err(End::silent(net::absent(&self.context.peer, within))))
            }
            () = interrupt.raised() => Err(End::interrupted()),
        }
    }

    async fn exchange_greetings(&mut self, side: Side, role: Role) -> Result<(), End> {
        match side {
            Side::Connecting => {
                let hello = Frame::Hello {
                    version: VERSION,
                    role,
                };
                self.send(&hello).await?;
                match self.next().await? {
                    Frame::Welcome { version: VERSION } => {}
                    Frame::Welcome { version } => {
                        return Err(self.violation(&Violation::Version(version)));
                    }
                    Frame::Abort { reason, text } => return Err(self.peer_aborted(reason, &text)),
                    other => return Err(self.unexpected(&other, "Welcome")),
                }
            }
            Side::Listening => match self.next().await? {
                Frame::Hello {
                    version: VERSION,
                    role: theirs,
                } if theirs != role => {
                    self.send(&Frame::Welcome { version: VERSION }).await?;
                }
                Frame::Hello {
                    version: VERSION, ..
                } => {
                    let failure = self.protocol_failure(&Violation::SameRole);
                    let text = match role {
                        Role::Sender => "this is a kcp serve: use kcp recv HOST:PORT",
                        Role::Receiver => "this is a kcp recv: use kcp send",
                    };
                    return Err(End {
                        failure,
                        tell: Some((Reason::Role, text.to_owned())),
                    });
                }
                Frame::Hello { version, .. } => {
                    return Err(self.violation(&Violation::Version(version)));
                }
                other => return Err(self.unexpected(&other, "Hello")),
            },
        }
        self.answered = true;
        Ok(())
    }

    async fn work(&mut self, job: &Job, files: &mut Vec<FileReport>) -> Result<(), End> {
        let interrupt = self.context.interrupt.clone();
        match job {
            Job::Push(outgoing) => tokio::select! {
                result = push(self, outgoing, files) => result,
                () = interrupt.raised() => Err(End::interrupted()),
            },
            Job::Pull(options) => {
                let mut puller = Puller::new(options);
                let result = tokio::select! {
                    result = puller.run(self, files) => result,
                    () = interrupt.raised() => Err(End::interrupted()),
                };
                // Waits for the writing thread, so that no temporary file outlives the session.
                puller.discard().await;
                result
            }
        }
    }

    /// Tells the peer what it does not know yet, and closes our half. False if it has not heard.
    async fn farewell(&mut self, role: Role, result: &Result<(), End>) -> bool {
        let Err(end) = result else {
            let interrupt = self.context.interrupt.clone();
            tokio::select! {
                () = self.part(role) => {}
                () = interrupt.raised() => {}
            }
            return true;
        };
        let Some((reason, text)) = &end.tell else {
            return true;
        };
        let abort = Frame::Abort {
            reason: *reason,
            text: text.clone(),
        };
        let closing = async {
            // A stream that is broken has nobody at its other end.
            if self.outbound.send(&abort).await.is_ok() {
                let _ = self.outbound.shutdown().await;
            }
        };
        timeout(SHORT_FAREWELL, closing).await.is_ok()
    }

    /// Ends a session in which everything has been said.
    async fn part(&mut self, role: Role) {
        match role {
            // Until Bye has arrived the receiver does not know that there is no more to come.
            // Then its own last word, so that it need not wait for an answer to that in vain.
            Role::Sender => {
                let _ = timeout(FAREWELL, self.outbound.shutdown()).await;
                let silence = async { while self.inbound.next().await.is_ok() {} };
                let _ = timeout(SHORT_FAREWELL, silence).await;
            }
            Role::Receiver => {
                let _ = timeout(SHORT_FAREWELL, self.outbound.shutdown()).await;
            }
        }
    }

    /// The next frame, or the end of the session.
    pub(super) async fn next(&mut self) -> Result<Frame, End> {
        self.inbound
            .next()
            .await
            .map_err(|error| self.broken(error))
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, frame: &Frame) -> Result<(), End> {
        self.outbound
            .send(frame)
            .await
            .map_err(|error| self.broken(error))
    }

    /// What a failed read or write means.
    pub(super) fn broken(&self, error: LinkError) -> End {
        let peer = &self.context.peer;
        match error {
            LinkError::Io(error) => End::silent(net::stream_failure(peer, self.answered, &error)),
            LinkError::Eof if self.answered => End::silent(Failure::new(
                Kind::Lost,
                format!("lost {peer}: it closed the stream"),
            )),
            LinkError::Eof => {
                let text = format!("{peer} closed the stream without an answer");
                End::silent(Failure::new(Kind::Refused, text))
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

    /// The peer gave up.
    pub(super) fn peer_aborted(&self, reason: Reason, text: &str) -> End {
        let peer = &self.context.peer;
        let kind = match reason {
            Reason::Protocol => Kind::Protocol,
            _ => Kind::Refused,
        };
        End::silent(Failure::new(kind, format!("{peer} gave up: {text}")))
    }

    fn unexpected(&self, frame: &Frame, expected: &'static str) -> End {
        self.violation(&Violation::Unexpected {
            got: frame.name(),
            expected,
        })
    }

    fn protocol_failure(&self, violation: &Violation) -> Failure {
        let peer = &self.context.peer;
        Failure::new(
            Kind::Protocol,
            format!("{peer} does not follow the copy protocol: {violation}"),
        )
    }
}

/// For the last acknowledgement of a good session; `--linger` normally ends it earlier.
const FAREWELL: Duration = Duration::from_secs(10);
/// After a failure or Ctrl-C: long enough for a bad link, short for someone at a terminal.
const SHORT_FAREWELL: Duration = Duration::from_secs(1);
/// A receiver probes after a second of silence (`--keepalive`); its probe needs some time, too.
const UNTIL_ASKED: Duration = Duration::from_millis(1500);
