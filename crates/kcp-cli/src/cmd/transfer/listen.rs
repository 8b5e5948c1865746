//! Listening for sessions, several at a time.

use std::sync::Arc;

use kcp_async::KcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::admission::{Admission, Place};
use super::greeting::GREETING;
use super::greetings::Greetings;
use super::pace::Pace;
use super::report::SessionReport;
use super::session::{Context, Job, Side, session};
use super::throttle::Throttle;
use crate::cmd::Output;
use crate::error::{Failure, Kind};
use crate::net::{self, Transport};
use crate::signal::Interrupt;

/// What a listener does, and for how long.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) address: String,
    pub(crate) once: bool,
    pub(crate) job: Job,
    pub(crate) pace: Pace,
}

/// Listens and does the job with every peer that connects: until a signal, or with `once` until the
/// first session in which a file got through, with its result. A signal while nothing is under way
/// is the normal end of a listener and a success; with `once` it means that no file got through.
pub(crate) async fn listen(
    listening: Listening,
    transport: &Transport,
    output: &Output,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let once = listening.once;
    let address = &listening.address;
    let listener = net::listen(address, transport, &output.console, output.json).await?;
    let (stop, stopped) = watch::channel(false);
    let mut sessions = Sessions::new(listening, output, Interrupt::of(stopped));
    let mut result = loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted
                    .map_err(|error| Failure::new(Kind::Address, format!("the listener failed: {error}")))?;
                sessions.start(stream);
            }
            Some(ended) = sessions.tasks.join_next() => {
                let Ok(report) = ended else { continue };
                sessions.tell(&report);
                if once && report.files.completed() > 0 {
                    break report.into_result();
                }
            }
            () = interrupt.raised() => break match once {
                true => Err(Failure::interrupted()),
                false => Ok(()),
            },
        }
    };
    // The sessions tell their peers.
    stop.send_replace(true);
    while let Some(ended) = sessions.tasks.join_next().await {
        if let Ok(report) = ended {
            sessions.tell(&report);
            if report.validated && report.failure.is_some() && !once {
                result = Err(Failure::interrupted());
            }
        }
    }
    sessions.tell_counts();
    result
}

/// The sessions of a listener.
struct Sessions {
    listening: Arc<Listening>,
    tasks: JoinSet<SessionReport>,
    greetings: Greetings,
    admission: Arc<Admission>,
    output: Output,
    interrupt: Interrupt,
    /// Lines about sessions, and files, of validated peers that failed.
    lines: Arc<Throttle>,
    /// Lines about sessions that ended before the peer was validated.
    unvalidated: Throttle,
}

impl Sessions {
    fn new(listening: Listening, output: &Output, interrupt: Interrupt) -> Self {
        Self {
            listening: Arc::new(listening),
            tasks: JoinSet::new(),
            greetings: Greetings::default(),
            admission: Admission::new(),
            output: output.clone(),
            interrupt,
            lines: Arc::new(Throttle::new()),
            unvalidated: Throttle::new(),
        }
    }

    /// Starts a session. It takes no slot before its peer is validated.
    fn start(&mut self, stream: KcpStream) {
        self.greetings.make_room();
        let peer = stream.peer_addr();
        let place = Place::new(&self.admission, peer.ip());
        let stage = place.stage.clone();
        let listening = self.listening.clone();
        let context = Context {
            peer: peer.to_string(),
            answer_within: GREETING,
            pace: listening.pace,
            lines: self.lines.clone(),
            place: Some(place),
            output: self.output.clone(),
            interrupt: self.interrupt.clone(),
        };
        let task = self
            .tasks
            .spawn(async move { session(stream, Side::Listening, &listening.job, &context).await });
        self.greetings.push(task, stage);
    }

    /// Says what became of a session; its files have been told already.
    fn tell(&self, report: &SessionReport) {
        let lines = match report.validated {
            true => &*self.lines,
            false => &self.unvalidated,
        };
        // What a peer can repeat at no cost is told a few times, and then counted.
        if report.files.completed() == 0 || report.failure.is_some() {
            match lines.pass() {
                Some(held_back) => self.tell_held_back(held_back, report.validated),
                None => return,
            }
        }
        report.show(&self.output);
        if let (false, Some(failure)) = (self.output.json, &report.failure) {
            self.output
                .console
                .warn(&format!("kcp: session with {}: {failure}", report.peer));
        }
    }

    fn tell_counts(&self) {
        self.tell_held_back(self.lines.held_back(), true);
        self.tell_held_back(self.unvalidated.held_back(), false);
    }

    fn tell_held_back(&self, count: u64, validated: bool) {
        let what = match validated {
            _ if count == 0 => return,
            true => "more failures of sessions and files",
            false => "more sessions that ended before the peer's address was validated",
        };
        self.output.console.warn(&format!("kcp: {count} {what}"));
    }
}
