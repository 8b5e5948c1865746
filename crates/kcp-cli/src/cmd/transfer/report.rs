//! What became of the files of a session.

use std::time::Duration;

use serde::Serialize;

use crate::cmd::Output;
use crate::copy::Hash;
use crate::error::{Failure, Kind};
use crate::report;

/// One file of a session.
#[derive(Clone, Debug)]
pub(crate) struct FileReport {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) took: Duration,
    pub(super) hash: Option<Hash>,
    /// None when the file stands under its name at the receiver.
    pub(super) failure: Option<Failure>,
}

/// The files of a session. Failures that a peer can cause at no cost, such as offers that are
/// declined, are listed up to a number and counted beyond it.
#[derive(Debug)]
pub(crate) struct Files {
    listed: Vec<FileReport>,
    failures_to_list: usize,
    unlisted: u64,
    total: u64,
    failed: u64,
    first_failure: Option<Kind>,
}

/// A whole session.
#[derive(Debug)]
pub(crate) struct SessionReport {
    pub(super) peer: String,
    /// `sent` or `received`.
    pub(super) verb: &'static str,
    /// The peer has repeated our nonce, so it receives at its address.
    pub(super) validated: bool,
    pub(super) files: Files,
    /// What ended the session before its time.
    pub(super) failure: Option<Failure>,
}

#[derive(Serialize)]
struct SessionJson<'a> {
    event: &'static str,
    direction: &'static str,
    peer: &'a str,
    files: Vec<FileJson<'a>>,
    /// Failures beyond those in `files`.
    more_failures: u64,
    error: Option<&'a str>,
    exit_code: u8,
}

#[derive(Serialize)]
struct FileJson<'a> {
    name: &'a str,
    bytes: u64,
    seconds: f64,
    bytes_per_second: f64,
    blake3: Option<String>,
    error: Option<&'a str>,
}

impl FileReport {
    fn rate(&self) -> f64 {
        self.size as f64 / self.took.as_secs_f64().max(1e-6)
    }

    /// The line for a person: what happened, how fast, and the hash to compare.
    pub(super) fn line(&self, verb: &str) -> String {
        match (&self.failure, self.hash) {
            (None, Some(hash)) => format!(
                "{verb} {} ({}) in {:.2} s, {}, blake3 {}",
                self.name,
                report::bytes(self.size),
                self.took.as_secs_f64(),
                report::rate(self.rate()),
                report::hex(&hash),
            ),
            (Some(failure), _) => format!("not {verb}: {}: {failure}", self.name),
            (None, None) => format!("not {verb}: {}", self.name),
        }
    }

    fn json(&self) -> FileJson<'_> {
        FileJson {
            name: &self.name,
            bytes: self.size,
            seconds: self.took.as_secs_f64(),
            bytes_per_second: self.rate(),
            blake3: self.hash.map(|hash| report::hex(&hash)),
            error: self.failure.as_ref().map(Failure::message),
        }
    }
}

impl Files {
    /// For files that the user named: all are listed.
    pub(super) const fn of_user() -> Self {
        Self::listing(usize::MAX)
    }

    /// For files that a peer named.
    pub(super) const fn of_peer() -> Self {
        Self::listing(FAILURES_LISTED)
    }

    const fn listing(failures_to_list: usize) -> Self {
        Self {
            listed: Vec::new(),
            failures_to_list,
            unlisted: 0,
            total: 0,
            failed: 0,
            first_failure: None,
        }
    }

    /// Adds a file. True when it is listed, so worth a line.
    pub(super) fn push(&mut self, file: FileReport) -> bool {
        self.total += 1;
        if let Some(failure) = &file.failure {
            self.first_failure.get_or_insert_with(|| failure.kind());
            self.failed += 1;
            if self.failed > self.failures_to_list as u64 {
                self.unlisted += 1;
                return false;
            }
        }
        self.listed.push(file);
        true
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Files that stand under their names at the receiver.
    pub(super) const fn completed(&self) -> u64 {
        self.total - self.failed
    }

    /// The file that was added last, if it was listed.
    pub(super) fn last(&self) -> Option<&FileReport> {
        self.listed.last()
    }
}

impl SessionReport {
    /// What ended the session, or else the number of files that failed with the kind of the first.
    pub(crate) fn result(&self) -> Result<(), Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(first) = self.files.first_failure else {
            return Ok(());
        };
        let text = match (self.files.total, self.files.failed) {
            (1, _) => format!("the file was not {}", self.verb),
            (files, failed) => format!("{failed} of {files} files were not {}", self.verb),
        };
        Err(Failure::new(first, text))
    }

    /// [`result`](Self::result), by value.
    pub(crate) fn into_result(self) -> Result<(), Failure> {
        self.result()
    }

    /// The session as one line of JSON, if JSON is wanted: the files have their lines already
    /// otherwise.
    pub(crate) fn show(&self, output: &Output) {
        if !output.json {
            if self.files.unlisted > 0 {
                let text = format!("not {}: {} more files", self.verb, self.files.unlisted);
                output.console.result(&text);
            }
            return;
        }
        let exit_code = self.result().err().map(|failure| failure.kind());
        let json = SessionJson {
            event: "session",
            direction: self.verb,
            peer: &self.peer,
            files: self.files.listed.iter().map(FileReport::json).collect(),
            more_failures: self.files.unlisted,
            error: self.failure.as_ref().map(Failure::message),
            exit_code: exit_code.map_or(0, Kind::exit_code),
        };
        output
            .console
            .result(&serde_json::to_string(&json).unwrap_or_default());
    }
}

/// A peer's name for a file, short enough for a line.
pub(super) fn shortened(name: &str) -> String {
    let mut characters = name.chars();
    let mut short: String = characters.by_ref().take(LONGEST_NAME).collect();
    if characters.next().is_some() {
        short.push_str("...");
    }
    short
}

const FAILURES_LISTED: usize = 10;
const LONGEST_NAME: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failed_file_decides_the_code() {
        let file = |kind: Option<Kind>| FileReport {
            name: "a".into(),
            size: 1 << 20,
            took: Duration::from_secs(2),
            hash: Some([0xab; 32]),
            failure: kind.map(|kind| Failure::new(kind, "because")),
        };
        let mut files = Files::of_user();
        for kind in [None, Some(Kind::Refused), Some(Kind::Mismatch)] {
            assert!(files.push(file(kind)));
        }
        let report = SessionReport {
            peer: "p".into(),
            verb: "sent",
            validated: true,
            files,
            failure: None,
        };
        let failure = report.result().unwrap_err();
        assert_eq!(failure.kind(), Kind::Refused);
        assert_eq!(failure.message(), "2 of 3 files were not sent");
        assert_eq!(
            report.files.listed[0].line("sent"),
            format!(
                "sent a (1.00 MiB) in 2.00 s, 512 KiB/s, blake3 {}",
                "ab".repeat(32)
            )
        );
        assert_eq!(report.files.listed[1].line("sent"), "not sent: a: because");
    }

    #[test]
    fn failures_beyond_the_first_few_are_counted() {
        let mut files = Files::of_peer();
        let file = |failure| FileReport {
            name: "a".into(),
            size: 0,
            took: Duration::ZERO,
            hash: None,
            failure,
        };
        let failed = || Some(Failure::new(Kind::Refused, "no"));
        let listed = (0..20_000).filter(|_| files.push(file(failed()))).count();
        assert_eq!(listed, FAILURES_LISTED);
        assert!(files.push(file(None)));
        assert_eq!(files.listed.len(), FAILURES_LISTED + 1);
        assert_eq!(files.completed(), 1);
        assert_eq!(files.total(), 20_001);
    }
}
