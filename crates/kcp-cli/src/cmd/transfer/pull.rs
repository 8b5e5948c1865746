//! Receiving files.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use super::report::FileReport;
use super::session::{End, Session};
use super::store::Store;
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
}

/// The receiving side of a session. Its state is outside of [`run`](Self::run), so that
/// [`discard`](Self::discard) can clean up after a run that was cancelled.
#[derive(Debug)]
pub(super) struct Puller<'a> {
    options: &'a PullOptions,
    receiving: Receiving,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    name: FileName,
    size: u64,
    done: u64,
    started: Instant,
    store: Store,
    meter: Meter,
}

impl PullOptions {
    /// Checks the directory before anybody is asked to send.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let metadata = fs::metadata(&self.into)
            .map_err(|error| Failure::local(self.into.display(), &error))?;
        if metadata.is_dir() {
            Ok(())
        } else {
            Err(Failure::new(
                Kind::Local,
                format!("{}: not a directory", self.into.display()),
            ))
        }
    }
}

impl<'a> Puller<'a> {
    pub(super) fn new(options: &'a PullOptions) -> Self {
        Self {
            options,
            receiving: Receiving::default(),
            current: None,
        }
    }

    /// Takes what the peer sends until it says goodbye. Cancel it, then call `discard`.
    pub(super) async fn run<R, W>(
        &mut self,
        session: &mut Session<'_, R, W>,
        reports: &mut Vec<FileReport>,
    ) -> Result<(), End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let frame = session.next().await?;
            let received = self
                .receiving
                .on_frame(frame)
                .map_err(|violation| session.violation(&violation))?;
            let report = match received {
                Received::Offer { name, raw, size } => match self.consider(name, size).await {
                    Ok(store) => {
                        self.accept(session, store, size).await?;
                        None
                    }
                    Err((reason, text)) => {
                        Some(self.decline(session, reason, text, raw, size).await?)
                    }
                },
                Received::Data(bytes) => {
                    self.take(bytes).await?;
                    None
                }
                Received::End(hash) => self.judge(session, hash).await?,
                Received::Bye => return Ok(()),
                Received::Abort { reason, text } => return Err(session.peer_aborted(reason, &text)),
            };
            if let Some(report) = report {
                if reports.len() >= MAX_FILES {
                    return Err(session.violation(&Violation::TooManyFiles));
                }
                if !session.context.output.json {
                    session
                        .context
                        .output
                        .console
                        .result(&report.line("received"));
                }
                reports.push(report);
            }
        }
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
        if let Some(limit) = self.options.max_size.filter(|&limit| size > limit) {
            return Err((
                Reason::TooLarge,
                format!("at most {}", report::bytes(limit)),
            ));
        }
        match fs::symlink_metadata(name.inside(&self.options.into)) {
            Ok(there) if there.is_dir() => {
                return Err((Reason::Exists, "it is a directory".to_owned()));
            }
            Ok(_) if !self.options.force => return Err((Reason::Exists, String::new())),
            _ => {}
        }
        // The peer learns the kind of the error, not the path.
        let store = Store::create(&self.options.into)
            .await
            .map_err(|error| (Reason::Local, error.kind().to_string()))?;
        Ok((name, store))
    }

    async fn accept<R, W>(
        &mut self,
        session: &mut Session<'_, R, W>,
        (name, store): (FileName, Store),
        size: u64,
    ) -> Result<(), End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let meter = session.context.output.console.transfer(name.as_str(), size);
        self.current = Some(Current {
            name,
            size,
            done: 0,
            started: Instant::now(),
            store,
            meter,
        });
        self.receiving.decided(true);
        session.send(&Frame::Accept).await
    }

    async fn decline<R, W>(
        &mut self,
        session: &mut Session<'_, R, W>,
        reason: Reason,
        text: String,
        raw: String,
        size: u64,
    ) -> Result<FileReport, End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
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
            name: raw,
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
        if current.store.write(bytes).await {
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
        W: AsyncWrite + Unpin,
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

/// Every file of a session is remembered for its report; offers that are declined cost a peer
/// nothing, so their number must end somewhere.
const MAX_FILES: usize = 100_000;
