//! What can go wrong, as a user sees it: one line and an exit code.

use std::fmt;
use std::io;

use crate::copy::printable;

/// The exit codes, in the order `--help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A local file or the terminal: cannot read, cannot write, disk full.
    Local,
    /// The command line asks for something impossible.
    Usage,
    /// Nobody answered.
    Absent,
    /// The peer answered and then went away.
    Lost,
    /// The peer said no, or gave up.
    Refused,
    /// What arrived is not what was sent.
    Mismatch,
    /// An address that does not resolve, cannot be bound or cannot be reached.
    Address,
    /// The peer speaks something else.
    Protocol,
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

impl Kind {
    /// The process's exit code for it.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Local => 1,
            Self::Usage => 2,
            Self::Absent => 3,
            Self::Lost => 4,
            Self::Refused => 5,
            Self::Mismatch => 6,
            Self::Address => 7,
            Self::Protocol => 8,
            Self::Interrupted => 130,
        }
    }
}

/// An error that ends a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

impl Failure {
    /// Paths and texts in `message` may hold anything: control, invisible and direction-changing characters are replaced.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: printable(&message.into()),
        }
    }

    /// A local file operation that failed: `what` names the operation and the file.
    pub(crate) fn local(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Kind::Local, format!("{what}: {error}"))
    }

    /// The user pressed Ctrl-C.
    pub(crate) fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The table for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  success
    1  a local file could not be read or written
    2  wrong usage, or a setting out of range
    3  the peer did not answer
    4  the peer answered and then was lost
    5  the peer refused or gave up (file exists, unsafe name, Ctrl-C there, ...)
    6  what arrived is not what was sent
    7  an address does not resolve, cannot be bound or cannot be reached
    8  the peer speaks another protocol
  130  interrupted by Ctrl-C or SIGTERM
When several files fail for different reasons, the first reason counts.";

#[cfg(test)]
mod tests {
    use super::*;

    /// `kcp send *` in a directory of others' files showed their names as they are.
    #[test]
    fn messages_hold_no_control_characters() {
        let path = std::path::Path::new("e\u{1b}[31mRED\u{1b}]0;title\u{7}\n\u{202e}.txt");
        let error = io::Error::from(io::ErrorKind::NotFound);
        for failure in [
            Failure::local(path.display(), &error),
            Failure::new(Kind::Usage, format!("{}: no", path.display())),
        ] {
            assert!(
                !failure.message().chars().any(char::is_control),
                "{failure:?}"
            );
            assert!(!failure.message().contains('\u{202e}'));
        }
    }

    #[test]
    fn every_code_is_documented() {
        for kind in [
            Kind::Local,
            Kind::Usage,
            Kind::Absent,
            Kind::Lost,
            Kind::Refused,
            Kind::Mismatch,
            Kind::Address,
            Kind::Protocol,
            Kind::Interrupted,
        ] {
            let row = format!("\n{:>5}  ", kind.exit_code());
            assert!(EXIT_CODES.contains(&row), "{kind:?}");
        }
    }
}
