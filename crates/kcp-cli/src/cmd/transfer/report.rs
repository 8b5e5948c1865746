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

/// A whole session.
#[derive(Debug)]
pub(crate) struct SessionReport {
    pub(super) peer: String,
    /// `sent` or `received`.
    pub(super) verb: &'static str,
    /// The peer spoke the protocol.
    pub(super) greeted: bool,
    pub(super) files: Vec<FileReport>,
    /// What ended the session before its time.
    pub(super) failure: Option<Failure>,
}

#[derive(Serialize)]
struct SessionJson<'a> {
    event: &'static str,
    direction: &'static str,
    peer: &'a str,
    files: Vec<FileJson<'a>>,
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

impl SessionReport {
    /// What ended the session, or else the number of files that failed with the kind of the first.
    pub(crate) fn result(&self) -> Result<(), Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut failures = self.files.iter().filter_map(|file| file.failure.as_ref());
        let Some(first) = failures.next() else {
            return Ok(());
        };
        let text = match (self.files.len(), 1 + failures.count()) {
            (1, _) => format!("the file was not {}", self.verb),
            (files, failed) => format!("{failed} of {files} files were not {}", self.verb),
        };
        Err(Failure::new(first.kind(), text))
    }

    /// [`result`](Self::result), by value.
    pub(crate) fn into_result(self) -> Result<(), Failure> {
        self.result()
    }

    /// The session as one line of JSON, if JSON is wanted: the files have their lines already
    /// otherwise.
    pub(crate) fn show(&self, output: &Output) {
        if !output.json {
            return;
        }
        let exit_code = self.result().err().map(|failure| failure.kind());
        let json = SessionJson {
            event: "session",
            direction: self.verb,
            peer: &self.peer,
            files: self.files.iter().map(FileReport::json).collect(),
            error: self.failure.as_ref().map(Failure::message),
            exit_code: exit_code.map_or(0, Kind::exit_code),
        };
        output
            .console
            .result(&serde_json::to_string(&json).unwrap_or_default());
    }
}

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
        let report = SessionReport {
            peer: "p".into(),
            verb: "sent",
            greeted: true,
            files: vec![
                file(None),
                file(Some(Kind::Refused)),
                file(Some(Kind::Mismatch)),
            ],
            failure: None,
        };
        let failure = report.result().unwrap_err();
        assert_eq!(failure.kind(), Kind::Refused);
        assert_eq!(failure.message(), "2 of 3 files were not sent");
        assert_eq!(
            report.files[0].line("sent"),
            format!(
                "sent a (1.00 MiB) in 2.00 s, 512 KiB/s, blake3 {}",
                "ab".repeat(32)
            )
        );
        assert_eq!(report.files[1].line("sent"), "not sent: a: because");
    }
}
