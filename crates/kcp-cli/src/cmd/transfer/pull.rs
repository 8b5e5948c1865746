//! Receiving files.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use tokio::io::AsyncRead;

use super::end::End;
use super::link::Writer;
use super::pace::{Progress, until};
use super::report::{FileReport, Files, shortened};
use super::session::Session;
use super::store::Store;
use super::{leftover, space};
use crate::copy::{FileName, Frame, Hash, Outcome, Reason, Received, Receiving, Violation};
use crate::error::{Failure, Kind};
use crate::progress::Meter;
use crate::report;

/// Where files go, and which.
#[derive(Clone, Debug)]
pub(crate) struct PullOptions {
    pub(crate) into: PathBuf,
    pub(crate) force: bool,
    pub(crate) max_size: Option<u64>,
    /// Files in one session.
    pub(crate) max_files: u64,
    /// Bytes in one session. None: as much as there is room for.
    pub(crate) max_bytes: Option<u64>,
    /// Take names that begin with a dot or a dash.
    pub(crate) allow_hidden: bool,
    /// Bytes that stay free in the directory when there is no `max_bytes`.
    pub(crate) reserve: u64,
}

/// The receiving side of a session. Its state is outside of [`run`](Self::run), so that
/// [`discard`](Self::discard) can clean up after a run that was cancelled.
#[derive(Debug)]
pub(super) struct Puller<'a> {
    options: &'a PullOptions,
    receiving: Receiving,
    current: Option<Current>,
    /// Files accepted.
    files: u64,
    /// Bytes of files that were stored.
    bytes: u64,
}

#[derive(Debug)]
struct Current {
    name: FileName,
    size: u64,
    done: u64,
    started: Instant,
    store: Store,
    meter: Meter,
    progress: Progress,
}

impl PullOptions {
    /// Checks the directory before a peer is asked to send, removes the temporary files of a run that
    /// was killed, and says how many there were.
    pub(crate) fn prepare(&mut self) -> Result<usize, Failure> {
        let metadata = fs::metadata(&self.into)
            .map_err(|error| Failure::local(self.into.display(), &error))?;
        if !metadata.is_dir() {
            let text = format!("{}: not a directory", self.into.display());
            return Err(Failure::new(Kind::Local, text));
        }
        let removed = leftover::remove(&self.into);
        self.reserve = match self.max_bytes {
            None => space::free(&self.into).map_or(0, space::reserve),
            Some(_) => 0,
        };
        Ok(removed)
    }
}

impl<'a> Puller<'a> {
    pub(super) fn new(options: &'a PullOptions) -> Self {
        Self {
            options,
            receiving: Receiving::default(),
            current: None,
            files: 0,
            bytes: 0,
        }
    }

    /// Takes what the peer sends until it says goodbye. Cancel it, then call `discard`.
    pub(super) async fn run<R, W>(
        &mut self,
        session: &mut Session<'_, R, W>,
        reports: &mut Files,
    ) -> Result<(), End>
    where
        R: AsyncRead + Unpin,
        W: Writer,
    {
        loop {
            let frame = self.next(session).await?;
            let received = self
                .receiving
                .on_frame(frame)
                .map_err(|violation| session.violation(&violation))?;
            let report = match received {
                Received::Offer { name, raw, size } => {
                    if reports.total() >= MAX_OFFERS {
                        return Err(session.violation(&Violation::TooManyFiles));
                    }
                    session.nothing_early("our answer to the offer").await?;
                    match self.consider(name, size).await {
                        Ok(store) => {
                            self.accept(session, store, size).await?;
                            None
                        }
                        Err((reason, text)) => {
                            Some(self.decline(session, reason, text, &raw, size).await?)
                        }
                    }
                }
                Received::Data(bytes) => {
                    self.take(bytes).await?;
                    None
                }
                Received::End(hash) => {
                    session.nothing_early("our verdict").await?;
                    self.judge(session, hash).await?
                }
                Received::Waiting => {
                    session.waiting()?;
                    None
                }
                Received::Bye => return Ok(()),
                Received::Abort { reason, text } => return Err(session.peer_aborted(reason, &text)),
            };
            if let Some(report) = report {
                self.report(session, report, reports);
            }
        }
    }

    /// Adds a file to the report, and prints its line unless there were many such lines already.
    fn report<R, W>(&self, session: &Session<'_, R, W>, report: FileReport, reports: &mut Files) {
        let stored = report.failure.is_none();
        let listed = reports.push(report);
        let context = session.context;
        if context.output.json || !listed {
            return;
        }
        if stored || context.lines.pass().is_some() {
            let line = reports.last().map(|report| report.line("received"));
            context.output.console.result(&line.unwrap_or_default());
        }
    }

    /// The next frame, if the peer keeps to the minimum pace.
    async fn next<R, W>(&mut self, session: &mut Session<'_, R, W>) -> Result<Frame, End>
    where
        R: AsyncRead + Unpin,
        W: Writer,
    {
        let received = session.inbound.received();
        let mut between = Progress::new(session.context.pace, received);
        session.slot_time.begin_wait();
        let frame = loop {
            let progress = self.current.as_mut().map(|current| &mut current.progress);
            let deadline = progress
                .as_ref()
                .map_or_else(|| between.deadline(), |p| p.deadline());
            let slot_deadline = session.slot_deadline();
            tokio::select! {
                frame = session.inbound.next() => break frame,
                () = until(slot_deadline) => {
                    let of_file = self.current.is_some();
                    session.slot_time.recount(session.inbound.received(), of_file);
                    session.deserves_slot()?;
                }
                () = until(deadline) => {
                    let judged = match progress {
                        Some(progress) => progress.check(session.inbound.received()),
                        // A part of a frame is nothing yet.
                        None => between.check_any(received),
                    };
                    judged.map_err(|stalled| session.stalled(stalled))?;
                }
            }
        };
        session.slot_time.end_wait();
        session.slot_time.earn_frame();
        let of_file = self.current.is_some();
        session.slot_time.count(session.inbound.received(), of_file);
        frame.map_err(|error| session.broken(error))
    }

    /// Removes what is not complete.
    pub(super) async fn discard(self) {
        if let Some(current) = self.current {
            current.store.discard().await;
        }
    }

    /// Whether to take a file, and where to put it.
    async fn consider(
        &self,
        name: Result<FileName, impl std::fmt::Display>,
        size: u64,
    ) -> Result<(FileName, Store), (Reason, String)> {
        let name = name.map_err(|error| (Reason::UnsafeName, error.to_string()))?;
        if name.is_hidden() && !self.options.allow_hidden {
            let text = "the name begins with a dot or a dash, and --allow-hidden is not given";
            return Err((Reason::UnsafeName, text.to_owned()));
        }
        self.check_limits(size)?;
        match fs::symlink_metadata(name.inside(&self.options.into)) {
            Ok(there) if there.is_dir() => {
                return Err((Reason::Exists, "it is a directory".to_owned()));
            }
            Ok(_) if !self.options.force => return Err((Reason::Exists, String::new())),
            _ => {}
        }
        // The peer learns the kind of the error, not the path.
        let store = Store::create(&self.options.into, self.options.reserve)
            .await
            .map_err(|error| (Reason::Local, error.kind().to_string()))?;
        Ok((name, store))
    }

    fn check_limits(&self, size: u64) -> Result<(), (Reason, String)> {
        let most = self.options.max_files;
        if self.files >= most {
            return Err((
                Reason::TooMany,
                format!("at most {most} files in a session"),
            ));
        }
        if let Some(limit) = self.options.max_size.filter(|&limit| size > limit) {
            return Err((
                Reason::TooLarge,
                format!("at most {}", report::bytes(limit)),
            ));
        }
        if let Some(limit) = self.options.max_bytes
            && size > limit.saturating_sub(self.bytes)
        {
            let text = format!("at most {} in a session", report::bytes(limit));
            return Err((Reason::TooLarge, text));
        }
        let room = match self.options.max_bytes {
            None => space::free(&self.options.into),
            Some(_) => None,
        };
        if room.is_some_and(|room| size > room.saturating_sub(self.options.reserve)) {
            return Err((Reason::TooLarge, "there is not so much room".to_owned()));
        }
        Ok(())
    }

    async fn accept<R, W>(
        &mut self,
        session: &mut Session<'_, R, W>,
        (name, store): (FileName, Store),
        size: u64,
    ) -> Result<(), End>
    where
        R: AsyncRead + Unpin,
        W: Writer,
    {
        // Making the file took its time.
        if let Err(early) = session.nothing_early("our answer to the offer").await {
            store.discard().await;
            return Err(early);
        }
        self.files += 1;
        let meter = session.context.output.console.transfer(name.as_str(), size);
        self.current = Some(Current {
            name,
            size,
            done: 0,
            started: Instant::now(),
            store,
            meter,
            progress: Progress::new(session.context.pace, session.inbound.received()),
        });
        self.receiving.decided(true);
        session.send(&Frame::Accept).await
    }

    async fn decline<R, W>(
        &mut self,
        session: &mut Session<'_, R, W>,
        reason: Reason,
        text: String,
        raw: &str,
        size: u64,
    ) -> Result<FileReport, End>
    where
        R: AsyncRead + Unpin,
        W: Writer,
    {
        self.receiving.decided(false);
        let (kind, what) = match reason {
            Reason::Exists if text.is_empty() => (
                Kind::Refused,
                "a file of that name is there; --force replaces it".to_owned(),
            ),
            Reason::Local => (
                Kind::Local,
                format!("{}: {text}", self.options.into.display()),
            ),
            _ => (Kind::Refused, text.clone()),
        };
        session.send(&Frame::Decline { reason, text }).await?;
        Ok(FileReport {
            name: shortened(raw),
            size,
            took: std::time::Duration::ZERO,
            hash: None,
            failure: Some(Failure::new(kind, what)),
        })
    }

    async fn take(&mut self, bytes: Vec<u8>) -> Result<(), End> {
        // `Receiving` lets data through only after `accept`.
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        current.done += bytes.len() as u64;
        current.meter.set(current.done);
        let began = Instant::now();
        if current.store.write(bytes).await {
            current.progress.pause(began.elapsed());
            return Ok(());
        }
        match self.current.take() {
            Some(current) => Err(cannot_write(
                &current.name,
                current.store.finish().await.err(),
            )),
            None => Ok(()),
        }
    }

    /// All bytes are there: compares, names the file, and tells the sender.
    async fn judge<R, W>(
        &mut self,
        session: &mut Session<'_, R, W>,
        theirs: Hash,
    ) -> Result<Option<FileReport>, End>
    where
        R: AsyncRead + Unpin,
        W: Writer,
    {
        let Some(current) = self.current.take() else {
            return Ok(None);
        };
        let Current {
            name,
            size,
            started,
            store,
            meter,
            ..
        } = current;
        let written = match store.finish().await {
            Ok(written) => written,
            Err(error) => return Err(cannot_write(&name, Some(error))),
        };
        let hash = written.hash;
        let (outcome, text, failure) = if hash != theirs {
            let failure = Failure::new(Kind::Mismatch, "what arrived is not what was sent");
            (Outcome::Mismatch, String::new(), Some(failure))
        } else {
            match written
                .commit(&self.options.into, &name, self.options.force)
                .await
            {
                Ok(()) => (Outcome::Stored, String::new(), None),
                Err(error) => {
                    let failure = Failure::local("cannot give it its name", &error);
                    (Outcome::NotStored, error.kind().to_string(), Some(failure))
                }
            }
        };
        drop(meter);
        let took = started.elapsed();
        session.slot_time.earn_file();
        if failure.is_none() {
            self.bytes = self.bytes.saturating_add(size);
        }
        self.receiving.judged();
        session
            .send(&Frame::Verdict {
                outcome,
                hash,
                text,
            })
            .await?;
        Ok(Some(FileReport {
            name: name.to_string(),
            size,
            took,
            hash: Some(hash),
            failure,
        }))
    }
}

fn cannot_write(name: &FileName, error: Option<std::io::Error>) -> End {
    let error = error.unwrap_or_else(|| std::io::Error::other("the writing thread ended"));
    let text = format!("the receiver cannot write {name}: {}", error.kind());
    End::local(
        Failure::local(format_args!("cannot write {name}"), &error),
        &text,
    )
}

/// Offers in one session: declined ones cost a peer nothing, so their number must end somewhere.
const MAX_OFFERS: u64 = 100_000;
