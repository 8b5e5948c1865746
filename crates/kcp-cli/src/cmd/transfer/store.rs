//! Writing a file on a thread of its own, under a temporary name until it is known to be good.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::leftover::{Lock, lock};
use super::space;
use crate::copy::{FileName, Hash, TEMPORARY_PREFIX};

/// A file being written behind the network. Dropping it removes the file some time later;
/// [`discard`](Self::discard) removes it before it returns.
#[derive(Debug)]
pub(super) struct Store {
    to_disk: mpsc::Sender<Vec<u8>>,
    writing: JoinHandle<io::Result<Written>>,
}

/// All bytes of a file, synced, still under its temporary name. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Written {
    temporary: Temporary,
    pub(super) hash: Hash,
}

/// A temporary file that is removed unless it gets its final name.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    file: Option<File>,
}

impl Store {
    /// Makes a temporary file in `directory` and starts to write what comes, as long as `reserve`
    /// bytes stay free there.
    pub(super) async fn create(directory: &Path, reserve: u64) -> io::Result<Self> {
        let create_in = directory.to_owned();
        let temporary = blocking(move || Temporary::create(&create_in)).await?;
        let (to_disk, pieces) = mpsc::channel(PIECES_BEHIND);
        let directory = directory.to_owned();
        let writing = spawn_blocking(move || write(temporary, pieces, &directory, reserve));
        Ok(Self { to_disk, writing })
    }

    /// Takes the next bytes; waits while the disk is far behind. False when writing has failed:
    /// [`finish`](Self::finish) says why.
    pub(super) async fn write(&self, bytes: Vec<u8>) -> bool {
        self.to_disk.send(bytes).await.is_ok()
    }

    /// Waits until everything is on the disk.
    pub(super) async fn finish(self) -> io::Result<Written> {
        drop(self.to_disk);
        self.writing
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Removes the file.
    pub(super) async fn discard(self) {
        let _ = self.finish().await;
    }
}

impl Written {
    /// Gives the file its name, all or nothing. Without `replace` an existing file of that name
    /// stays and this fails with [`io::ErrorKind::AlreadyExists`].
    pub(super) async fn commit(
        self,
        directory: &Path,
        name: &FileName,
        replace: bool,
    ) -> io::Result<()> {
        let target = name.inside(directory);
        let directory = directory.to_owned();
        blocking(move || self.temporary.persist(&directory, &target, replace)).await
    }
}

/// Removes every temporary file that is still there: for a process about to be ended.
pub(crate) fn remove_temporary_files() {
    for path in live().iter() {
        let _ = fs::remove_file(path);
    }
}

impl Temporary {
    fn create(directory: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()));
            // `create_new` does not follow a link that somebody put there.
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    // A receiver that starts now may take the file for a left-over until the lock
                    // is there; then it is gone, or about to be.
                    if lock(&file) == Lock::Other || fs::symlink_metadata(&path).is_err() {
                        continue;
                    }
                    live().insert(path.clone());
                    return Ok(Self {
                        path,
                        file: Some(file),
                    });
                }
                // Left by an earlier process of our number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn persist(mut self, directory: &Path, target: &Path, replace: bool) -> io::Result<()> {
        if cfg!(windows) {
            self.file = None; // Windows renames closed files only
        }
        if replace {
            fs::rename(&self.path, target)?;
            live().remove(&self.path);
        } else {
            // A link fails where the name is taken, a rename would replace: no window for a race.
            match fs::hard_link(&self.path, target) {
                Ok(()) => {} // dropping removes the temporary name
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {
                    // A file system without links: the best that is left.
                    if fs::symlink_metadata(target).is_ok() {
                        return Err(io::ErrorKind::AlreadyExists.into());
                    }
                    fs::rename(&self.path, target)?;
                    live().remove(&self.path);
                }
            }
        }
        sync_directory(directory);
        Ok(())
    }
}

impl Drop for Temporary {
    /// Removes the file, unless it was renamed.
    fn drop(&mut self) {
        self.file = None;
        if live().remove(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write(
    mut temporary: Temporary,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    directory: &Path,
    reserve: u64,
) -> io::Result<Written> {
    let mut hasher = blake3::Hasher::new();
    let mut unchecked = 0;
    if let Some(file) = &mut temporary.file {
        while let Some(piece) = pieces.blocking_recv() {
            hasher.update(&piece);
            file.write_all(&piece)?;
            // Other files may fill the directory meanwhile, those of other sessions included.
            unchecked += piece.len();
            if unchecked >= CHECK_SPACE_EVERY {
                unchecked = 0;
                if space::free(directory).is_some_and(|free| free < reserve) {
                    let text = "the directory's space has reached the reserve of 5 %";
                    return Err(io::Error::new(io::ErrorKind::StorageFull, text));
                }
            }
        }
        file.sync_all()?;
    }
    Ok(Written {
        temporary,
        hash: *hasher.finalize().as_bytes(),
    })
}

/// Makes the new name survive a power cut, where the system has such a call.
fn sync_directory(directory: &Path) {
    if cfg!(unix)
        && let Ok(directory) = File::open(directory)
    {
        let _ = directory.sync_all();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two megabytes: a disk's hiccup does not close the window.
const PIECES_BEHIND: usize = 32;
const CHECK_SPACE_EVERY: usize = 4 << 20;

#[cfg(all(test, unix))]
mod tests {
    use std::collections::BTreeSet;

    use super::super::leftover;
    use super::*;

    #[test]
    fn only_files_that_no_receiver_holds_are_left_over() {
        let directory = std::env::temp_dir().join(format!("kcp-leftover-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let live = Temporary::create(&directory).unwrap();
        let put = |name: &str| fs::write(directory.join(name), "x").unwrap();
        for name in [".kcp-part-99999-0", ".kcp-part-1-12"] {
            put(name);
        }
        let kept = [".kcp-part-x-1", ".kcp-part-1", ".kcp-part-1-2-3", "file"];
        kept.iter().for_each(|name| put(name));
        fs::create_dir(directory.join(".kcp-part-2-2")).unwrap();
        std::os::unix::fs::symlink("file", directory.join(".kcp-part-3-3")).unwrap();

        assert_eq!(leftover::remove(&directory), 2);
        assert_eq!(leftover::remove(&directory), 0);
        let names: BTreeSet<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut expected: BTreeSet<_> = kept.map(str::to_owned).into();
        expected.extend([".kcp-part-2-2", ".kcp-part-3-3"].map(str::to_owned));
        expected.insert(live.path.file_name().unwrap().to_str().unwrap().to_owned());
        assert_eq!(names, expected);
        drop(live);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn writing_stops_when_the_reserve_is_reached() {
        let directory = std::env::temp_dir();
        let store = Store::create(&directory, u64::MAX).await.unwrap();
        let mut written = 0;
        while store.write(vec![0; 1 << 20]).await && written < 1000 {
            written += 1;
        }
        assert!(written < 1000);
        let error = store.finish().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
