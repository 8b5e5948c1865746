//! How long a session lives, and how it ends (`docs/protocol.md` 11.4, 12).

use std::time::Duration;

use kcp_engine::{HeadStall, IKCP_OVERHEAD, Instant, KcpEngine, Role};

use super::{Fate, both_finished, is_connecting};
use crate::config::Times;
use crate::error::ConnectionError;

/// The clock side of a session.
#[derive(Debug)]
pub(crate) struct Lifetime {
    role: Role,
    /// When the session was made, or when the first segment made it out of an embryo.
    created: Instant,
    /// The first segment has come. An accepted session is a silent embryo until then.
    begun: bool,
    /// `accept` has handed it to the application.
    accepted: bool,
    /// Since when something has waited for the peer: data, a FIN, a question.
    waiting_since: Option<Instant>,
    /// Since when data has waited for the peer, in the queue or in flight.
    data_since: Option<Instant>,
    /// Since when a writer has waited for the validation of the peer's address.
    writer_since: Option<Instant>,
    last_question: Option<Instant>,
    /// When the peer's host first said that nothing listens there. Nothing was heard since.
    refused: Option<Instant>,
    /// Boxed: most sessions of a server are open, and are many.
    closing: Option<Box<Closing>>,
    /// We finished before the peer did, so the last ACK is ours to repeat.
    finished_first: bool,
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    began: Instant,
    /// When everything we sent had been acknowledged.
    done: Option<Instant>,
    /// Since when a task waits for the end of the close.
    awaited: Option<Instant>,
    /// Since when every handle is gone.
    detached: Option<Instant>,
}

/// What becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    End(ConnectionError),
    Ask,
    AskForValidation,
}

/// How a shutdown stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    NotAsked,
    Waiting,
    Done,
}

impl Lifetime {
    pub(crate) const fn new(role: Role, created: Instant) -> Self {
        Self {
            role,
            created,
            begun: false,
            accepted: false,
            waiting_since: None,
            data_since: None,
            writer_since: None,
            last_question: None,
            refused: None,
            closing: None,
            finished_first: false,
        }
    }

    pub(crate) const fn is_connecting(&self) -> bool {
        is_connecting(self.role)
    }

    /// When the session was made, or became one.
    pub(crate) const fn created(&self) -> Instant {
        self.created
    }

    /// The embryo has become a session.
    pub(crate) const fn begin(&mut self, now: Instant) {
        self.begun = true;
        self.created = now;
    }

    /// Whether [`accept`](Self::accept) was called.
    pub(crate) const fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// The application has it now.
    pub(crate) const fn accept(&mut self) {
        self.accepted = true;
    }

    /// A writer waits for more than the peer may be sent before its address is validated. Whether
    /// none did before.
    pub(crate) fn note_waiting_writer(&mut self, now: Instant) -> bool {
        let is_first = self.writer_since.is_none();
        self.writer_since.get_or_insert(now);
        is_first
    }

    /// No writer waits any more: it was served, or has given up.
    pub(crate) const fn forget_waiting_writer(&mut self) {
        self.writer_since = None;
    }

    /// Asks for an orderly end: everything queued goes out, then the FIN if the peer knows it.
    pub(crate) fn begin_close(&mut self, now: Instant, engine: &mut KcpEngine) {
        if self.closing.is_some() {
            return;
        }
        engine.finish();
        self.finished_first = !engine.fin_state().received;
        self.closing = Some(Box::new(Closing {
            began: now,
            done: None,
            awaited: None,
            detached: None,
        }));
    }

    /// A task waits for the end of the close that has begun, so `linger` bounds it from now on.
    pub(crate) fn await_close(&mut self, now: Instant) {
        if let Some(closing) = &mut self.closing {
            closing.awaited.get_or_insert(now);
        }
    }

    /// Every handle is gone; what is left happens in the background.
    pub(crate) fn detach(&mut self, now: Instant, engine: &mut KcpEngine) {
        self.begin_close(now, engine);
        if let Some(closing) = &mut self.closing {
            closing.detached = Some(now);
        }
    }

    pub(crate) fn is_detached(&self) -> bool {
        let closing = self.closing.as_ref();
        closing.is_some_and(|closing| closing.detached.is_some())
    }

    /// Whether our direction ends: after `shutdown`, or when the stream or its writing half is gone.
    pub(crate) const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether the side that accepts nothing must keep a time-wait for the peer's sake.
    pub(crate) const fn finished_first(&self) -> bool {
        self.finished_first
    }

    pub(crate) fn shutdown(&self) -> Shutdown {
        match &self.closing {
            None => Shutdown::NotAsked,
            Some(closing) if closing.done.is_some() => Shutdown::Done,
            Some(_) => Shutdown::Waiting,
        }
    }

    pub(crate) fn shutdown_is_over(&self) -> bool {
        self.shutdown() == Shutdown::Done
    }

    /// The peer's host refused a datagram. Anyone can forge that. `true` if it is the first one.
    pub(super) fn note_refusal(&mut self, now: Instant) -> bool {
        let is_first = self.refused.is_none();
        self.refused.get_or_insert(now);
        is_first
    }

    /// What was refused was refused here, and something has left since.
    pub(super) const fn forget_refusal(&mut self) {
        self.refused = None;
    }

    /// What it means that the peer has never been heard.
    pub(crate) const fn unanswered(&self) -> ConnectionError {
        match self.refused {
            Some(_) => ConnectionError::Refused,
            None => ConnectionError::ConnectTimeout,
        }
    }

    /// Takes note of what the engine now says.
    pub(crate) fn observe(&mut self, now: Instant, engine: &KcpEngine) {
        let owed = !engine.is_drained() || engine.silent_since().is_some();
        if owed || self.is_unsure_how_to_close(engine) {
            self.waiting_since.get_or_insert(now);
        } else {
            self.waiting_since = None;
        }
        if engine.is_drained() {
            self.data_since = None;
        } else {
            self.data_since.get_or_insert(now);
        }
        if engine.is_proven() {
            self.writer_since = None;
        }
        if engine.last_heard().is_some() {
            self.refused = None;
        }
        if let Some(closing) = &mut self.closing {
            // protocol.md 12.7: a stock peer cannot acknowledge a FIN; all data must do.
            let fin = engine.fin_state();
            let silent = engine.is_drained() && !fin.sent;
            let unused = !engine.is_session_heard() && silent;
            if fin.acknowledged || unused || (silent && engine.peer_is_stock()) {
                closing.done.get_or_insert(now);
            }
        }
    }

    /// We want to close, and the peer has not yet shown which kind of close it understands. The
    /// engine has asked it; the question or the answer may be lost.
    fn is_unsure_how_to_close(&self, engine: &KcpEngine) -> bool {
        self.shutdown() == Shutdown::Waiting
            && !engine.peer_knows_close()
            && !engine.peer_is_stock()
    }

    /// Applies what has become due.
    pub(crate) fn judge(&mut self, now: Instant, times: &Times, engine: &mut KcpEngine) -> Fate {
        while let Some(term) = self.due(now, times, engine) {
            match term {
                Term::End(reason) => return Fate::Ended(reason),
                Term::Ask => {
                    engine.keepalive();
                    self.last_question = Some(now);
                }
                Term::AskForValidation => {
                    engine.ask_for_validation();
                    self.last_question = Some(now);
                }
            }
        }
        Fate::Lives
    }

    /// Whether everything is said and done.
    pub(crate) fn conclude(&self, engine: &mut KcpEngine) -> Fate {
        let fin = engine.fin_state();
        if both_finished(fin) && engine.poll_timeout().is_none() {
            // No deadline: the peer's FIN has been acknowledged too.
            return Fate::Finished;
        }
        if self.is_detached() && self.shutdown_is_over() && !fin.sent {
            // A stock peer, which hears no more; or none, and nothing was ever said.
            return match engine.is_session_heard() {
                true => Fate::Finished,
                false => Fate::Ended(ConnectionError::Closed),
            };
        }
        Fate::Lives
    }

    /// The first term whose time has come.
    fn due(&self, now: Instant, times: &Times, engine: &KcpEngine) -> Option<Term> {
        let mut due = None;
        self.visit_terms(times, engine, |at, term| {
            if at <= now {
                due.get_or_insert(term);
            }
        });
        due
    }

    /// When [`judge`](Self::judge) has something to do next.
    pub(crate) fn next(&self, times: &Times, engine: &KcpEngine) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        self.visit_terms(times, engine, |at, _| {
            next = Some(next.map_or(at, |next| next.min(at)));
        });
        next
    }

    /// Everything that time will bring about if nothing happens, ends first. Called twice whenever a session
    /// is served, so what most sessions do not have is not looked at.
    #[inline]
    fn visit_terms(&self, times: &Times, engine: &KcpEngine, mut visit: impl FnMut(Instant, Term)) {
        let heard = engine.last_heard();
        // protocol.md 12.8: data that arrives again keeps nothing alive.
        let last_sign = engine.last_news().unwrap_or(self.created);
        let silent = engine.silent_since();
        let stall = engine.head_stall();
        let mut visit_some = |term: Option<(Instant, Term)>| {
            if let Some((at, term)) = term {
                visit(at, term);
            }
        };

        if is_connecting(self.role) && !engine.is_session_heard() {
            for term in self.opening_terms(silent, times) {
                visit_some(term);
            }
        }
        let dead = silent.and_then(|since| Some((since + times.dead_peer?, PEER_DEAD)));
        visit_some(dead);
        let undeliverable =
            stall.and_then(|stall| undeliverable_at(stall, heard?, times.dead_peer?));
        visit_some(undeliverable);
        let idle = times
            .idle
            .map(|idle| (last_sign + idle, Term::End(ConnectionError::Idle)));
        visit_some(idle);
        let is_doubtful = !is_connecting(self.role) && !engine.is_proven();
        if is_doubtful {
            let since = self.doubtful_since(engine);
            let end = Term::End(ConnectionError::Unproven);
            visit_some(since.map(|since| (since + times.unproven, end)));
        }
        if let Some(closing) = &self.closing {
            for term in self.closing_terms(closing, times, engine) {
                visit_some(term);
            }
        }
        // Before the peer has shown that it has the session there is nothing to ask about.
        if let Some(heard) = heard
            && engine.is_session_heard()
        {
            visit_some(self.next_question(heard, stall.is_some(), times, engine));
        }
        if is_doubtful {
            let at = self.next_validation_question(times, engine);
            visit_some(at.map(|at| (at, Term::AskForValidation)));
        }
    }

    /// The ends of a session that connects and has not heard its peer.
    fn opening_terms(
        &self,
        silent: Option<Instant>,
        times: &Times,
    ) -> [Option<(Instant, Term)>; 2] {
        let connect =
            silent.and_then(|since| Some((since + times.connect?, Term::End(self.unanswered()))));
        // protocol.md 11.4: a server that restarts meanwhile still answers.
        let refused = self
            .refused
            .map(|at| (at + REFUSAL_WAIT, Term::End(ConnectionError::Refused)));
        [connect, refused]
    }

    /// Since when the clock of a session runs whose peer is to be validated; `None` where it does not
    /// (protocol.md 11.4): the application has accepted the session, and nothing of ours waits for the peer.
    fn doubtful_since(&self, engine: &KcpEngine) -> Option<Instant> {
        let last_new = engine.last_new_push().unwrap_or(self.created);
        if !self.accepted {
            return Some(last_new);
        }
        let owing = [self.data_since, self.writer_since];
        let since = owing.into_iter().flatten().min()?;
        Some(last_new.max(since))
    }

    /// When a close is given up (protocol.md 12.9): `linger` without anything heard, or
    /// `close_stall_timeout` without anything acknowledged.
    fn closing_terms(
        &self,
        closing: &Closing,
        times: &Times,
        engine: &KcpEngine,
    ) -> [Option<(Instant, Term)>; 2] {
        // A direction that was finished while the other is still in use has no one waiting for it.
        let waited = closing.awaited.max(closing.detached);
        let lingers_from = match closing.done {
            // What is left is the peer's FIN, for which only a stream that is gone needs a bound.
            Some(done) => closing.detached.map(|detached| detached.max(done)),
            None => waited.map(|waited| {
                let heard = engine.last_heard().unwrap_or(self.created);
                heard.max(closing.began).max(waited)
            }),
        };
        let reason = match engine.is_session_heard() {
            true => ConnectionError::LingerExpired,
            // Where no one ever answered, the linger time is not the news.
            false => self.unanswered(),
        };
        let linger = lingers_from.map(|from| (from + times.linger, Term::End(reason)));
        let stall = closing.done.is_none().then(|| {
            let progress = engine.last_acknowledged().unwrap_or(self.created);
            let from = progress.max(closing.began);
            let end = Term::End(ConnectionError::CloseStalled);
            (from + times.close_stall, end)
        });
        [linger, stall]
    }

    /// When the peer is asked for a sign of life. `is_stuck`: the oldest segment does not pass.
    fn next_question(
        &self,
        heard: Instant,
        is_stuck: bool,
        times: &Times,
        engine: &KcpEngine,
    ) -> Option<(Instant, Term)> {
        let quiet_since = self.last_question.map_or(heard, |asked| asked.max(heard));
        // At most three in a round trip: an answer must find its question among the last four (protocol.md 12.6).
        let spacing = (engine.rto() / 3).min(MOST_SPACING);
        let answerable = self.last_question.map(|asked| asked + spacing);
        let keepalive = times.keepalive.map(|after| {
            let due = quiet_since + after;
            answerable.map_or(due, |answerable| due.max(answerable))
        });
        // Something waits. After a long silence retransmissions are seconds apart, and C's probes
        // of a closed window minutes: ask often enough that the peer is not called dead for a few
        // lost datagrams.
        let pressing = self.waiting_since.and_then(|since| {
            let after = match self.is_unsure_how_to_close(engine) && engine.is_drained() {
                true => engine.rto(),
                false if is_stuck => times.dead_peer? / QUESTIONS_IN_A_STALL,
                false => times.dead_peer? / QUESTIONS_BEFORE_DEATH,
            };
            Some(quiet_since.max(since) + after)
        });
        let closing = self.next_closing_question(quiet_since, times);
        let doubt = engine
            .is_peer_doubtful()
            .then(|| quiet_since + DOUBT_QUESTIONS);
        let at = [keepalive, pressing, closing, doubt]
            .into_iter()
            .flatten()
            .min()?;
        Some((at, Term::Ask))
    }

    /// While a close waits, a peer that lives is heard often enough that `linger` does not run out,
    /// whatever its window is and although some questions or answers are lost; and its answers show what
    /// is lost in time for `close_stall_timeout`.
    fn next_closing_question(&self, quiet_since: Instant, times: &Times) -> Option<Instant> {
        let closing = self.closing.as_ref()?;
        if closing.done.is_some() {
            return None;
        }
        let bound = times.linger.min(times.close_stall);
        let after = (bound / QUESTIONS_PER_LINGER).max(SHORTEST_QUESTION_INTERVAL);
        Some(quiet_since.max(closing.began) + after)
    }

    /// A peer that only sends has nothing of ours to acknowledge: it is asked, because an answer validates it
    /// (protocol.md 11.1). While a writer waits for that, once a second. Otherwise before the session may be
    /// evicted, unless what it was answered is under way; and twice in the time that an unvalidated session may
    /// be silent. What the smallest first datagram allows is an ACK and two datagrams more.
    fn next_validation_question(&self, times: &Times, engine: &KcpEngine) -> Option<Instant> {
        if let Some(since) = self.writer_since {
            let last = since.max(self.last_question.unwrap_or(since));
            return Some(last + engine.challenge_interval());
        }
        let last_new = engine.last_new_push().unwrap_or(self.created);
        let quarter = times.unproven / 4;
        let may_ask_early = self.begun && engine.is_drained();
        let early =
            EARLY_QUESTIONS.map(|after| may_ask_early.then(|| self.created + after.min(quarter)));
        let (asked, room) = (engine.questions_asked(), answers_left(engine));
        let questions = [
            early[0].filter(|_| asked == 0),
            early[1].filter(|_| asked <= 1 && room >= 2),
            Some(last_new + quarter * 2),
            Some(last_new + quarter * 3).filter(|_| room >= 1),
        ];
        questions
            .into_iter()
            .flatten()
            .find(|&at| self.last_question.is_none_or(|asked| asked < at))
    }
}

/// Datagrams of one header that an unvalidated peer may still be sent (protocol.md 11.3).
fn answers_left(engine: &KcpEngine) -> usize {
    let bytes = engine.answer_allowance().unwrap_or(usize::MAX);
    bytes.saturating_add(HEADERS) / (IKCP_OVERHEAD + HEADERS)
}

/// Of IPv4 and UDP, as protocol.md 11.3 counts them.
const HEADERS: usize = 28;

/// From the first segment. A second after it the session may be evicted (protocol.md 11.4.1).
const EARLY_QUESTIONS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(750)];

/// protocol.md 12.5.1: when a session ends whose oldest segment never passes while the peer is heard. On a path that only
/// loses much, so many transmissions in a row fail about never.
fn undeliverable_at(stall: HeadStall, heard: Instant, dead: Duration) -> Option<(Instant, Term)> {
    let at = stall.since + dead;
    let is_heard = heard >= stall.since + dead / 2;
    (is_heard && stall.transmissions >= TRANSMISSIONS_BEFORE_END)
        .then_some((at, Term::End(ConnectionError::Undeliverable)))
}

/// Of the oldest segment. Half of all datagrams lost: one such row in 4,000 segments.
const TRANSMISSIONS_BEFORE_END: u32 = 12;
/// Each answer has the oldest segment sent again.
const QUESTIONS_IN_A_STALL: u32 = 30;
/// Between keepalives. An outage may leave an RTO of a minute, and translators forget an address after half of that.
const MOST_SPACING: Duration = Duration::from_secs(8);
/// A peer that comes back a tenth of the dead-peer time before its end is noticed in time.
const QUESTIONS_BEFORE_DEATH: u32 = 10;

/// protocol.md 12.9 wants one per quarter; more, because they and their answers may be lost.
const QUESTIONS_PER_LINGER: u32 = 8;

/// protocol.md 12.6: after an answer of before what the peer had told.
const DOUBT_QUESTIONS: Duration = Duration::from_millis(250);

/// However short `linger` is.
const SHORTEST_QUESTION_INTERVAL: Duration = Duration::from_millis(1);

/// Between the first refusal and the end of a session that has never heard its peer: at least two
/// retransmissions of the first data, with the RTO of 200 ms that a session begins with.
const REFUSAL_WAIT: Duration = Duration::from_millis(1_500);

const PEER_DEAD: Term = Term::End(ConnectionError::PeerDead);
