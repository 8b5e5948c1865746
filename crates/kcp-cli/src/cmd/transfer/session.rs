//! One session from its greeting to its farewell.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kcp_async::KcpStream;
use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep, timeout};

use super::admission::{Place, Slot, Ticket};
use super::end::End;
use super::link::{Inbound, LinkError, Outbound, Writer};
use super::pace::{Pace, Progress, SlotTime, Stalled, until};
use super::pull::{PullOptions, Puller};
use super::push::{Outgoing, push};
use super::report::{Files, SessionReport};
use super::throttle::Throttle;
use crate::cmd::Output;
use crate::copy::{Frame, HEADER, MAX_NAME, MAX_TEXT, Reason, Role, Violation};
use crate::error::{Failure, Kind};
use crate::net::Transport;
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
    pub(super) pace: Pace,
    /// Lines about what peers did wrong.
    pub(super) lines: Arc<Throttle>,
    /// Where a listener has the session stand in line.
    pub(super) place: Option<Place>,
    pub(super) output: Output,
    pub(super) interrupt: Interrupt,
}

/// Both halves of the stream, and what is known about who is at the other end.
pub(super) struct Session<'a, R, W> {
    pub(super) inbound: Inbound<R>,
    pub(super) outbound: Outbound<W>,
    pub(super) context: &'a Context,
    /// The peer has repeated our nonce.
    pub(super) validated: bool,
    started: Instant,
    told_to_wait: u64,
    pub(super) slot_time: SlotTime,
}

impl Context {
    /// For the connecting side.
    pub(crate) fn new(
        peer: String,
        transport: &Transport,
        pace: Pace,
        output: &Output,
        interrupt: &Interrupt,
    ) -> Self {
        Self {
            peer,
            // Longer than the stream waits for its peer: its error says more.
            answer_within: transport.connect_timeout + AFTER_CONNECT,
            pace,
            lines: Arc::new(Throttle::new()),
            place: None,
            output: output.clone(),
            interrupt: interrupt.clone(),
        }
    }
}

/// Runs one session over a stream: to its end, to a failure, or until a signal. The peer has
/// been told how it ended, or could not be told, when this returns.
pub(crate) async fn session(
    mut stream: KcpStream,
    side: Side,
    job: &Job,
    context: &Context,
) -> SessionReport {
    let (reader, writer) = stream.split();
    let (report, told) = converse(reader, writer, side, job, context).await;
    if !told {
        // The Abort waits behind more data than the link carries in this time. Now it goes unsaid;
        // instead the peer is sent a reset, and the answer when it asks about that.
        stream.abort();
        // A forged address sends no question.
        if side == Side::Connecting || report.validated {
            sleep(UNTIL_ASKED).await;
        }
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
    W: Writer,
{
    let (inbound, outbound) = (Inbound::new(reader), Outbound::new(writer));
    let mut session = Session {
        inbound,
        outbound,
        context,
        validated: false,
        started: Instant::now(),
        told_to_wait: 0,
        slot_time: SlotTime::new(context.pace),
    };
    let (role, mut files) = match job {
        Job::Push(_) => (Role::Sender, Files::of_user()),
        Job::Pull(_) => (Role::Receiver, Files::of_peer()),
    };
    let result = session.run(side, role, job, &mut files).await;
    let told = session.farewell(role, &result).await;
    let report = SessionReport {
        peer: context.peer.clone(),
        verb: if role == Role::Sender {
            "sent"
        } else {
            "received"
        },
        validated: session.validated,
        files,
        failure: result.err().map(|end| end.failure),
    };
    (report, told)
}

impl<R: AsyncRead + Unpin, W: Writer> Session<'_, R, W> {
    async fn run(
        &mut self,
        side: Side,
        role: Role,
        job: &Job,
        files: &mut Files,
    ) -> Result<(), End> {
        self.greet(side, role).await?;
        self.inbound.widen();
        let _slot = self.turn(role).await?;
        self.work(job, files).await
    }

    /// Waits for a slot, if this side has slots. Meanwhile the peer is told every few seconds, and
    /// leaves the line when it goes away.
    async fn turn(&mut self, role: Role) -> Result<Option<(Slot, Ticket)>, End> {
        let Some(place) = &self.context.place else {
            return Ok(None);
        };
        let Some(ticket) = place.enter() else {
            let text = format!("too many sessions, the newest from {}", self.context.peer);
            return Err(End {
                failure: Failure::new(Kind::Refused, text),
                tell: Some((
                    Reason::Busy,
                    "too many sessions: try again later".to_owned(),
                )),
            });
        };
        let most = match role {
            Role::Receiver => HEADER + 8 + MAX_NAME + HEADER + 1 + MAX_TEXT, // Offer, Abort
            Role::Sender => HEADER + 1 + MAX_TEXT,                           // Abort
        };
        let interrupt = self.context.interrupt.clone();
        let slot = {
            let mut slot = pin!(ticket.slot());
            let mut first = true;
            loop {
                tokio::select! {
                    biased;
                    slot = &mut slot => break slot,
                    () = interrupt.raised() => return Err(End::interrupted()),
                    error = self.inbound.watch(most), if !first => return Err(self.broken(error)),
                    () = sleep(WAIT_EVERY), if !first => {}
                    () = std::future::ready(()), if first => first = false,
                }
                if let Ok(Err(error)) =
                    timeout(SHORT_FAREWELL, self.outbound.send(&Frame::Wait)).await
                {
                    return Err(self.broken(error));
                }
            }
        };
        Ok(Some((slot, ticket)))
    }

    /// The peer has us wait for a slot. A peer for which we have slots may not: it would keep its own for as long as it
    /// says so.
    pub(super) fn waiting(&mut self) -> Result<(), End> {
        if self.context.place.is_some() {
            return Err(self.violation(&Violation::Unexpected {
                got: "Wait",
                expected: "a frame of a connecting side",
            }));
        }
        self.told_to_wait += 1;
        if self.told_to_wait > WAITS_AT_ONCE + self.started.elapsed().as_secs() {
            return Err(self.violation(&Violation::TooManyWaits));
        }
        if self.told_to_wait == 1 {
            let text = format!("{} is busy: waiting for a slot", self.context.peer);
            self.context.output.console.note(&text);
        }
        Ok(())
    }

    async fn work(&mut self, job: &Job, files: &mut Files) -> Result<(), End> {
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

    /// Fails if the peer sent on before `before`, which it should have waited for. It waits for nothing to tell that it
    /// has no slot for us yet.
    pub(super) async fn nothing_early(&mut self, before: &'static str) -> Result<(), End> {
        let mut early = self.inbound.early().await;
        while let Ok(Some(Frame::Wait)) = early {
            self.waiting()?;
            early = self.inbound.early().await;
        }
        match early {
            Ok(None) => Ok(()),
            Ok(Some(Frame::Abort { reason, text })) => Err(self.peer_aborted(reason, &text)),
            Ok(Some(_)) | Err(LinkError::Early) => {
                Err(self.violation(&Violation::Early { before }))
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    /// When to ask next whether the slot is to be given up, while this side waits for its peer.
    pub(super) fn slot_deadline(&self) -> Option<Instant> {
        self.context.place.as_ref()?;
        self.slot_time.deadline()
    }

    /// Ends a session that brings next to nothing, if others wait for its slot.
    pub(super) fn deserves_slot(&self) -> Result<(), End> {
        let wanted = self.context.place.as_ref().is_some_and(Place::is_wanted);
        match wanted && self.slot_time.is_spent() {
            true => Err(self.stalled(Stalled::SlotWanted)),
            false => Ok(()),
        }
    }

    /// Sends a frame. A peer that acknowledges nothing more has the time that the pace allows.
    pub(super) async fn send(&mut self, frame: &Frame) -> Result<(), End> {
        self.outbound.queue(frame);
        let mut progress = Progress::new(self.context.pace, self.outbound.acknowledged());
        self.slot_time.begin_wait();
        loop {
            let deadline = progress.deadline();
            let slot_deadline = self.slot_deadline();
            tokio::select! {
                flushed = self.outbound.flush() => {
                    self.slot_time.end_wait();
                    return flushed.map_err(|error| self.broken(error));
                }
                () = until(slot_deadline) => self.deserves_slot()?,
                () = until(deadline) => {
                    let judged = progress.check(self.outbound.acknowledged());
                    judged.map_err(|stalled| self.stalled(stalled))?;
                }
            }
        }
    }
}

const AFTER_CONNECT: Duration = Duration::from_millis(500);
/// Well within the time after which a receiver that hears nothing gives up.
const WAIT_EVERY: Duration = Duration::from_secs(5);
/// And one a second: five times as many as a listener sends.
const WAITS_AT_ONCE: u64 = 20;
/// For the last acknowledgement of a good session; `--linger` normally ends it earlier.
const FAREWELL: Duration = Duration::from_secs(10);
/// After a failure or Ctrl-C: long enough for a bad link, short for someone at a terminal.
const SHORT_FAREWELL: Duration = Duration::from_secs(1);
/// A receiver probes after a second of silence (`--keepalive`); its probe needs some time, too.
const UNTIL_ASKED: Duration = Duration::from_millis(1500);
