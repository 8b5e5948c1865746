//! Running `kcp`, and scratch directories.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A finished run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A run under way. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

/// A directory that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

/// Runs `kcp` to its end.
#[track_caller]
pub(crate) fn kcp(args: &[&str]) -> Finished {
    start(args).finish()
}

/// Starts `kcp`.
#[track_caller]
pub(crate) fn start(args: &[&str]) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kcp"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kcp starts");
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    Running {
        child,
        stdout,
        stderr,
    }
}

/// Starts a listening `kcp` on a free port and waits until it says which.
#[track_caller]
pub(crate) fn listen(args: &[&str]) -> (Running, String) {
    let mut args = args.to_vec();
    args.extend(["--listen", "127.0.0.1:0"]);
    let mut running = start(&args);
    let line = running.stdout_line();
    let Some(address) = line.strip_prefix("listening on ") else {
        panic!(
            "no address in {line:?}, stderr {:?}",
            running.finish().stderr
        )
    };
    let parsed: SocketAddr = address.parse().expect("an address");
    assert_ne!(parsed.port(), 0);
    (running, address.to_owned())
}

impl Running {
    /// The next line of standard output, without its end.
    pub(crate) fn stdout_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// Waits for a line of standard error that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_stderr(&mut self, text: &str) {
        let mut seen = String::new();
        loop {
            let start = seen.len();
            let read = self.stderr.read_line(&mut seen).expect("text");
            assert_ne!(read, 0, "no {text:?} in {seen:?}");
            if seen[start..].contains(text) {
                return;
            }
        }
    }

    /// What Ctrl-C does.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// What nobody can catch.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Finished {
        // A pipe's buffer holds more than a test's standard error: one after the other will do.
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).expect("text");
        self.stderr.read_to_string(&mut stderr).expect("text");
        let code = self.child.wait().expect("it ends").code();
        Finished {
            code,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Fails the test, with all output, unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "kcp-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    /// A new subdirectory.
    pub(crate) fn directory(&self, name: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir(&path).expect("a directory");
        text(&path)
    }

    /// A new file with content that repeats nowhere.
    pub(crate) fn file(&self, name: &str, size: usize) -> (String, Vec<u8>) {
        let mut state = size as u64 + 1;
        let content: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(size)
        .collect();
        let path = self.0.join(name);
        fs::write(&path, &content).expect("a file");
        (text(&path), content)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The names in a directory, hidden ones included.
pub(crate) fn names(directory: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}

fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}
