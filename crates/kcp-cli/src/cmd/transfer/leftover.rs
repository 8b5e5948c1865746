//! Temporary files of a run that was killed.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use crate::copy::TEMPORARY_PREFIX;

/// Removes the temporary files in `directory` that no running `kcp recv` holds, and says how many.
///
/// A running one holds a lock on each of its own, which ends with the process. Where there are no
/// locks a file counts as left over when nothing was written to it for a day.
pub(super) fn remove(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter(|entry| remove_one(&entry.path()))
        .count()
}

/// The prefix, the number of a process, and a number.
fn is_ours(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.strip_prefix(TEMPORARY_PREFIX)
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(process, count)| number(process) && number(count))
}

fn remove_one(path: &Path) -> bool {
    let Some(file) = open(path) else {
        return false;
    };
    // Held until the name is gone: `Temporary::create` in `store.rs` looks again once it has the lock.
    match lock(&file) {
        Lock::Ours => {}
        Lock::Other => return false,
        Lock::Unknown if is_old(&file) => {}
        Lock::Unknown => return false,
    }
    fs::remove_file(path).is_ok()
}

/// Whose lock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), expect(dead_code, reason = "only `Unknown` is made there"))]
pub(super) enum Lock {
    Ours,
    Other,
    /// The system, or the file system, has no such locks.
    Unknown,
}

/// Locks a file for this process, without waiting. The lock ends when the file is closed.
#[cfg(unix)]
pub(super) fn lock(file: &File) -> Lock {
    use rustix::fs::{FlockOperation, flock};
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Ours,
        Err(rustix::io::Errno::WOULDBLOCK) => Lock::Other,
        Err(_) => Lock::Unknown,
    }
}

#[cfg(not(unix))]
pub(super) fn lock(_file: &File) -> Lock {
    Lock::Unknown
}

/// Opens a regular file; no link is followed, no pipe waited for.
#[cfg(unix)]
fn open(path: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}

#[cfg(not(unix))]
fn open(path: &Path) -> Option<File> {
    File::open(path).ok()
}

fn is_old(file: &File) -> bool {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > OLD))
}

/// Far longer than a receiver waits for new data.
const OLD: Duration = Duration::from_secs(24 * 3600);
