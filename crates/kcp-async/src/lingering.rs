//! Sockets that are open only for a TIME-WAIT, of the whole process.
//!
//! A session with a socket of its own keeps it for ten seconds after its end, to acknowledge again
//! what the peer repeats (`docs/protocol.md` 12.3). That is worth a descriptor only while there are
//! enough of them: the oldest are closed when there are many, and when a new socket finds none.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::shared::Shared;

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    lingering: VecDeque::new(),
    ending: Vec::new(),
});

struct Registry {
    /// Oldest first.
    lingering: VecDeque<Weak<Shared>>,
    /// Told to end; their drivers have not been called yet.
    ending: Vec<Weak<Shared>>,
}

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a socket whose sessions are all over. It may be told to end at any time from now on.
pub(crate) fn enter(shared: &Arc<Shared>) {
    let mut registry = registry();
    registry.lingering.retain(|other| other.strong_count() > 0);
    registry.lingering.push_back(Arc::downgrade(shared));
    let surplus = registry.lingering.len().saturating_sub(limit());
    let oldest: Vec<_> = registry.lingering.drain(..surplus).collect();
    drop(registry);
    end_all(&oldest);
}

/// Makes a socket. Where there is no descriptor for it, lingering sockets are closed and it is tried
/// again.
///
/// # Errors
/// Those of `make`; that there is no descriptor only if that does not help.
pub(crate) async fn with_descriptor<T>(mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for attempt in 0..ATTEMPTS {
        let result = make();
        if !result.as_ref().is_err_and(is_out_of_descriptors) {
            return result;
        }
        if !make_room() {
            break;
        }
        // A descriptor is free once the driver that has it was called.
        match attempt {
            ..YIELDS => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    // Another task may have freed one since.
    make()
}

/// Tells the oldest to end. Whether a descriptor has become free, or is about to.
fn make_room() -> bool {
    let mut registry = registry();
    let ending = registry.ending.len();
    registry.ending.retain(|other| other.strong_count() > 0);
    let freed = registry.ending.len() < ending;
    let count = registry.lingering.len().min(AT_ONCE);
    let oldest: Vec<_> = registry.lingering.drain(..count).collect();
    registry.ending.extend(oldest.iter().cloned());
    let pending = !registry.ending.is_empty();
    drop(registry);
    end_all(&oldest);
    freed || pending
}

fn end_all(list: &[Weak<Shared>]) {
    for shared in list.iter().filter_map(Weak::upgrade) {
        shared.end_lingering();
    }
}

/// No descriptor is left for the process or for the system.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    let codes: &[i32] = match cfg!(windows) {
        // WSAEMFILE
        true => &[10_024],
        // EMFILE, ENFILE
        false => &[24, 23],
    };
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// The most lingering sockets: an eighth of the descriptors that the process may have.
fn limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| (descriptors() / 8).clamp(1, MOST))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn descriptors() -> usize {
    use nix::sys::resource::{Resource, getrlimit};

    getrlimit(Resource::RLIMIT_NOFILE)
        .ok()
        .and_then(|(soft, _)| usize::try_from(soft).ok())
        .unwrap_or(8 * MOST)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
const fn descriptors() -> usize {
    8 * MOST
}

/// A hundred short sessions a second still keep theirs for more than half a second.
const MOST: usize = 64;
/// Closed for one socket that finds no descriptor: others are about to look for one too.
const AT_ONCE: usize = 8;
const ATTEMPTS: u32 = 200;
/// Attempts that only let other tasks run; those after them wait for other threads, 1 ms each.
const YIELDS: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn only_a_lack_of_descriptors_is_one() {
        for (code, expected) in [(23, true), (24, true), (12, false), (98, false)] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(is_out_of_descriptors(&error), expected, "{error}");
        }
    }
}
