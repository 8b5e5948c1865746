//! Sending files.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::AsyncRead;

use super::end::End;
use super::link::Writer;
use super::pace::{Progress, until};
use super::report::{FileReport, Files};
use super::session::Session;
use super::source::Source;
use crate::copy::{Answer, FileName, Frame, Hash, Outcome, Reason, Sending, Violation};
use crate::error::{Failure, Kind};

/// A file to send.
#[derive(Debug)]
pub(crate) struct Outgoing {
    path: PathBuf,
    name: FileName,
}

/// Checks that the files exist, are regular files, can be read, and have different names that a
/// receiver will take.
pub(crate) fn prepare(paths: &[PathBuf]) -> Result<Vec<Outgoing>, Failure> {
    let mut names: HashMap<FileName, &Path> = HashMap::new();
    let mut files = Vec::new();
    for path in paths {
        let shown = path.display();
        open(path)?;
        let name = match FileName::of(path) {
            Some(Ok(name)) => name,
            Some(Err(error)) => return Err(Failure::new(Kind::Usage, format!("{shown}: {error}"))),
            None => {
                let text = format!("{shown}: a name must be valid Unicode to be sent");
                return Err(Failure::new(Kind::Usage, text));
            }
        };
        if let Some(other) = names.insert(name.clone(), path) {
            let text = format!("{} and {shown} would get the same name", other.display());
            return Err(Failure::new(Kind::Usage, text));
        }
        files.push(Outgoing {
            path: path.clone(),
            name,
        });
    }
    Ok(files)
}

/// Sends the files in order. A file that is declined or comes out wrong does not stop the next.
pub(super) async fn push<R, W>(
    session: &mut Session<'_, R, W>,
    files: &[Outgoing],
    reports: &mut Files,
) -> Result<(), End>
where
    R: AsyncRead + Unpin,
    W: Writer,
{
    for outgoing in files {
        let report = push_one(session, outgoing).await?;
        if !session.context.output.json {
            session.context.output.console.result(&report.line("sent"));
        }
        reports.push(report);
    }
    session.send(&Frame::Bye).await
}

async fn push_one<R, W>(
    session: &mut Session<'_, R, W>,
    outgoing: &Outgoing,
) -> Result<FileReport, End>
where
    R: AsyncRead + Unpin,
    W: Writer,
{
    let (file, size) = open(&outgoing.path)
        .map_err(|failure| End::local(failure, "the sender cannot read the file any more"))?;
    let started = Instant::now();
    let report = |hash, failure| FileReport {
        name: outgoing.name.as_str().to_owned(),
        size,
        took: started.elapsed(),
        hash,
        failure,
    };
    let name = outgoing.name.as_str().to_owned();
    session.nothing_early("our offer").await?;
    session.send(&Frame::Offer { name, size }).await?;
    match answer(session, Sending::Offered, Duration::ZERO).await? {
        Answer::Accepted => {}
        Answer::Declined { reason, text } => {
            return Ok(report(None, Some(declined(reason, &text))));
        }
        Answer::Verdict { .. } | Answer::Abort { .. } | Answer::Waiting => {
            return Err(out_of_order(session));
        }
    }
    let hash = push_data(session, outgoing, file, size).await?;
    session.nothing_early("the end of the file").await?;
    session.send(&Frame::End { size, hash }).await?;
    // The receiver writes everything to its disk before it answers.
    let to_disk = Duration::from_secs(size / SLOWEST_DISK);
    match answer(session, Sending::Ended, to_disk).await? {
        Answer::Verdict {
            outcome,
            hash: theirs,
            text,
        } => {
            session.slot_time.earn_file();
            Ok(report(Some(hash), judged(outcome, theirs == hash, &text)))
        }
        _ => Err(out_of_order(session)),
    }
}

/// Sends the bytes. Whatever the peer says meanwhile ends the session.
async fn push_data<R, W>(
    session: &mut Session<'_, R, W>,
    outgoing: &Outgoing,
    file: File,
    size: u64,
) -> Result<Hash, End>
where
    R: AsyncRead + Unpin,
    W: Writer,
{
    let console = &session.context.output.console;
    let mut meter = console.transfer(outgoing.name.as_str(), size);
    let mut source = Source::start(file, size);
    let mut offset = 0;
    let mut progress = Progress::new(session.context.pace, session.outbound.acknowledged());
    while let Some(bytes) = source.next().await {
        let end = offset + bytes.len() as u64;
        session.slot_time.begin_wait();
        session.outbound.queue(&Frame::Data { offset, bytes });
        let interjection = loop {
            let deadline = progress.deadline();
            let slot_deadline = session.slot_deadline();
            tokio::select! {
                flushed = session.outbound.flush() => match flushed {
                    Ok(()) => break None,
                    Err(error) => return Err(session.broken(error)),
                },
                frame = session.inbound.next() => break Some(frame),
                () = until(slot_deadline) => {
                    session.slot_time.recount(session.outbound.acknowledged(), true);
                    session.deserves_slot()?;
                }
                () = until(deadline) => {
                    let acknowledged = session.outbound.acknowledged();
                    let judged = progress.check(acknowledged);
                    judged.map_err(|stalled| session.stalled(stalled))?;
                }
            }
        };
        if let Some(frame) = interjection {
            let frame = frame.map_err(|error| session.broken(error))?;
            return Err(match Sending::Quiet.on_frame(frame) {
                Ok(Answer::Abort { reason, text }) => session.peer_aborted(reason, &text),
                Ok(_) => out_of_order(session),
                Err(violation) => session.violation(&violation),
            });
        }
        session.slot_time.end_wait();
        session
            .slot_time
            .count(session.outbound.acknowledged(), true);
        offset = end;
        meter.set(offset);
    }
    source.finish().await.map_err(|error| {
        let failure = Failure::local(outgoing.path.display(), &error);
        End::local(failure, "the sender could not read the file to its end")
    })
}

/// Waits for the answer that is due: until everything is acknowledged, and then for as long as the
/// pace says, and `more` for what the receiver has to do.
async fn answer<R, W>(
    session: &mut Session<'_, R, W>,
    mut due: Sending,
    more: Duration,
) -> Result<Answer, End>
where
    R: AsyncRead + Unpin,
    W: Writer,
{
    let mut pace = session.context.pace;
    pace.stall = pace.stall.map(|stall| stall + more);
    let mut progress = Progress::new(pace, session.outbound.acknowledged());
    session.slot_time.begin_wait_after(more);
    loop {
        let deadline = progress.deadline();
        let slot_deadline = session.slot_deadline();
        let frame = tokio::select! {
            frame = session.inbound.next() => frame.map_err(|error| session.broken(error))?,
            () = until(slot_deadline) => {
                session.deserves_slot()?;
                continue;
            }
            () = until(deadline) => {
                let acknowledged = session.outbound.acknowledged();
                let judged = progress.check_any(acknowledged);
                judged.map_err(|stalled| session.stalled(stalled))?;
                continue;
            }
        };
        session.slot_time.end_wait();
        session.slot_time.earn_frame();
        match due.on_frame(frame) {
            Ok(Answer::Waiting) => {
                session.waiting()?;
                progress = Progress::new(pace, session.outbound.acknowledged());
            }
            Ok(Answer::Abort { reason, text }) => return Err(session.peer_aborted(reason, &text)),
            Ok(answer) => return Ok(answer),
            Err(violation) => return Err(session.violation(&violation)),
        }
    }
}

fn declined(reason: Reason, text: &str) -> Failure {
    let what = match reason {
        Reason::Exists => "the receiver has a file of that name and does not replace it",
        Reason::UnsafeName => "the receiver does not take files of that name",
        Reason::TooLarge => "the receiver does not take files of that size",
        Reason::TooMany => "the receiver takes no more files in this session",
        Reason::Local => "the receiver cannot write it",
        _ => "the receiver declined it",
    };
    let detail = if text.is_empty() {
        String::new()
    } else {
        format!(" ({text})")
    };
    Failure::new(Kind::Refused, format!("{what}{detail}"))
}

fn judged(outcome: Outcome, same_hash: bool, text: &str) -> Option<Failure> {
    match (outcome, same_hash) {
        (Outcome::Stored, true) => None,
        (Outcome::NotStored, true) => Some(Failure::new(
            Kind::Refused,
            format!("the receiver could not keep it: {text}"),
        )),
        (Outcome::Stored | Outcome::NotStored, false) | (Outcome::Mismatch, _) => Some(
            Failure::new(Kind::Mismatch, "the receiver's hash of the file differs"),
        ),
    }
}

/// `Sending` let something through that this place cannot use: its own rules make that an
/// impossible case, which ends the session like any other violation.
fn out_of_order<R: AsyncRead + Unpin, W: Writer>(session: &Session<'_, R, W>) -> End {
    let violation = Violation::Unexpected {
        got: "an answer",
        expected: "another",
    };
    session.violation(&violation)
}

/// Opens a regular file and gets its size.
fn open(path: &Path) -> Result<(File, u64), Failure> {
    let failed = |error| Failure::local(path.display(), &error);
    // Asked before opening: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let text = format!("{}: not a regular file", path.display());
        return Err(Failure::new(Kind::Local, text));
    }
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    Ok((file, size))
}

/// Bytes a second that a receiver's disk takes at least.
const SLOWEST_DISK: u64 = 1 << 20;
