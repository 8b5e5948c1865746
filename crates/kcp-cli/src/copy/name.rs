//! File names that a peer may choose.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Temporary files start with it; no peer may name a file so.
pub(crate) const TEMPORARY_PREFIX: &str = ".kcp-part-";

/// A name that stays inside the directory it is joined to, on every system.
///
/// Refused: path separators of either kind, `.` and `..`, control, invisible and
/// direction-changing characters, names longer than 255 bytes, the device names of Windows with
/// any extension, a dot or white space at the end (Windows drops some), and our own temporary
/// prefix. Where the receiving system is Windows, also the characters it does not allow, `:` above
/// all. Names that begin with a dot or a dash are a question of their own:
/// [`is_hidden`](Self::is_hidden).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileName(String);

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameError {
    Empty,
    TooLong,
    Separator,
    Relative,
    Control,
    Reserved,
    Trailing,
    Forbidden(char),
}

impl FileName {
    /// Checks a name that came from a peer or from the file system.
    pub(crate) fn new(name: &str) -> Result<Self, NameError> {
        Self::checked(name, cfg!(windows))
    }

    /// The last part of a path. None when there is none, or it is not UTF-8.
    pub(crate) fn of(path: &Path) -> Option<Result<Self, NameError>> {
        path.file_name()?.to_str().map(Self::new)
    }

    /// Where the file goes.
    pub(crate) fn inside(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name begins with a dot, as the start-up files of shells do, or with a dash, as
    /// options of commands do: taken only with `--allow-hidden`.
    pub(crate) fn is_hidden(&self) -> bool {
        self.0.starts_with(['.', '-'])
    }

    fn checked(name: &str, for_windows: bool) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_BYTES {
            return Err(NameError::TooLong);
        }
        if name.contains(['/', '\\']) {
            return Err(NameError::Separator);
        }
        if name == "." || name == ".." {
            return Err(NameError::Relative);
        }
        if name.chars().any(is_deceptive) {
            return Err(NameError::Control);
        }
        if name.ends_with(|c: char| c == '.' || c.is_whitespace()) {
            return Err(NameError::Trailing);
        }
        if is_device(name) || is_temporary(name) {
            return Err(NameError::Reserved);
        }
        if for_windows && let Some(c) = name.chars().find(|c| WINDOWS_FORBIDDEN.contains(c)) {
            return Err(NameError::Forbidden(c));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty"),
            Self::TooLong => write!(f, "the name has more than {MAX_BYTES} bytes"),
            Self::Separator => f.write_str("the name contains a path separator"),
            Self::Relative => f.write_str("the name stands for a directory"),
            Self::Control => f.write_str("the name contains control or invisible characters"),
            Self::Reserved => f.write_str("the name is reserved"),
            Self::Trailing => f.write_str("the name ends with a dot or white space"),
            Self::Forbidden(c) => write!(f, "the name contains {c:?}"),
        }
    }
}

/// Characters that move a cursor, reorder what is displayed, or are displayed as nothing: the
/// general categories Cc, Cf, Zl and Zp, and what else Unicode 16 has under
/// `Default_Ignorable_Code_Point`, which takes in variation selectors and the tags.
pub(super) fn is_deceptive(c: char) -> bool {
    c.is_control() || !c.is_ascii() && INVISIBLE.iter().any(|range| range.contains(&c))
}

/// Case does not tell names apart on every file system.
fn is_temporary(name: &str) -> bool {
    name.as_bytes()
        .get(..TEMPORARY_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(TEMPORARY_PREFIX.as_bytes()))
}

/// CON, NUL, COM1 and their like are devices on Windows, `con.txt` included.
fn is_device(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or(name)
        .trim_end()
        .to_ascii_uppercase();
    if DEVICES.contains(&stem.as_str()) {
        return true;
    }
    let port = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    // Windows takes the superscript digits for ports, too.
    port.is_some_and(|port| {
        let mut chars = port.chars();
        matches!(
            (chars.next(), chars.next()),
            (Some('0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}'), None)
        )
    })
}

/// What ext4, NTFS and APFS have in common.
const MAX_BYTES: usize = 255;
const INVISIBLE: [RangeInclusive<char>; 26] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}', // a Braille pattern without dots
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
const WINDOWS_FORBIDDEN: [char; 7] = ['<', '>', ':', '"', '|', '?', '*'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in [
            "a",
            "report.pdf",
            ".profile",
            "12:30 notes.txt",
            "..hidden",
            "a..b",
            "\u{fc}ber.txt",
            "console.log",
            "com10",
            "command",
            "nul-terminated.md",
            "-rf",
        ] {
            assert_eq!(
                FileName::checked(name, false).map(|n| n.0),
                Ok(name.to_owned())
            );
        }
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in [
            "/etc/passwd",
            "../x",
            "a/b",
            "a\\b",
            "C:\\x",
            "\\\\host\\share",
            "x/",
            "/",
        ] {
            assert_eq!(FileName::new(name), Err(NameError::Separator), "{name}");
        }
        assert_eq!(FileName::new(".."), Err(NameError::Relative));
        assert_eq!(FileName::new("."), Err(NameError::Relative));
        assert_eq!(FileName::new(""), Err(NameError::Empty));
    }

    #[test]
    fn names_that_deceive_or_break_a_terminal_are_refused() {
        for name in [
            "a\nb",
            "a\0b",
            "\x1b[2J",
            "evil\u{202e}txt.exe",
            "a\u{ad}b",
            "a\u{61c}b",
            "\u{180e}",
            "a\u{200b}",
            "a\u{200d}b",
            "a\u{2028}b",
            "a\u{2029}b",
            "a\u{202a}b",
            "a\u{2060}b",
            "a\u{2066}b",
            "a\u{206f}b",
            "a\u{fe0f}",
            "\u{feff}a",
            "a\u{3164}",
            "a\u{fff9}b",
            "a\u{e0001}",
            "a\u{e0041}b",
            "a\u{e0100}b",
            "\u{7f}",
            "\u{85}",
        ] {
            assert_eq!(FileName::new(name), Err(NameError::Control), "{name:?}");
        }
    }

    #[test]
    fn device_names_are_refused_on_every_system() {
        for name in [
            "CON",
            "con",
            "nul.txt",
            "Com1",
            "lpt9.tar.gz",
            "AUX .c",
            "com\u{b9}",
            "conin$",
        ] {
            assert_eq!(
                FileName::checked(name, false),
                Err(NameError::Reserved),
                "{name}"
            );
        }
        assert_eq!(FileName::new(".kcp-part-1"), Err(NameError::Reserved));
        assert_eq!(FileName::new(".KCP-Part-1"), Err(NameError::Reserved));
        assert_eq!(FileName::new("a."), Err(NameError::Trailing));
        assert_eq!(FileName::new("a "), Err(NameError::Trailing));
        assert_eq!(FileName::new("a\u{a0}"), Err(NameError::Trailing));
        assert_eq!(FileName::new("a\u{3000}"), Err(NameError::Trailing));
    }

    #[test]
    fn names_with_a_dot_or_a_dash_in_front_are_hidden() {
        for name in [".zshenv", ".profile", "...a", "-rf", "--help", "-"] {
            assert!(FileName::new(name).unwrap().is_hidden(), "{name}");
        }
        for name in ["a.b", "a-b", "authorized_keys", "_x"] {
            assert!(!FileName::new(name).unwrap().is_hidden(), "{name}");
        }
    }

    #[test]
    fn windows_refuses_streams_and_wildcards() {
        assert_eq!(
            FileName::checked("a:b", true),
            Err(NameError::Forbidden(':'))
        );
        assert_eq!(
            FileName::checked("a*", true),
            Err(NameError::Forbidden('*'))
        );
    }

    #[test]
    fn length_is_counted_in_bytes() {
        assert!(FileName::new(&"x".repeat(255)).is_ok());
        assert_eq!(FileName::new(&"x".repeat(256)), Err(NameError::TooLong));
        assert_eq!(
            FileName::new(&"\u{fc}".repeat(128)),
            Err(NameError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_component_of_a_path(name in "\\PC{0,12}|[./\\\\a]{0,6}") {
            if let Ok(accepted) = FileName::new(&name) {
                let path = accepted.inside(Path::new("base"));
                prop_assert_eq!(path.parent(), Some(Path::new("base")));
                prop_assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(name.as_str()));
            }
        }
    }
}
