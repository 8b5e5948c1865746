//! Free space of the directory that files go to.

use std::path::Path;

/// Bytes that a process without privileges may still write there. None where the system does not
/// say; then there is no limit but `--max-bytes`.
#[cfg(unix)]
pub(super) fn free(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
pub(super) fn free(_directory: &Path) -> Option<u64> {
    None
}

/// What stays free of `free` bytes: 5 %.
pub(super) const fn reserve(free: u64) -> u64 {
    free.div_ceil(20)
}
