//! Running `kcp`, and scratch directories.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{mem, thread};

/// Far longer than any line of a run takes: a run that never says it fails its test instead of
/// holding it up for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

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
    stderr: Lines,
}

/// The lines that a pipe yields, read by a thread, so that waiting for one has a limit.
struct Lines {
    lines: Receiver<String>,
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
    spawn(Command::new(env!("CARGO_BIN_EXE_kcp")).args(args))
}

fn spawn(command: &mut Command) -> Running {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kcp starts");
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let stderr = Lines::of(child.stderr.take().expect("a pipe"));
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
    announced(start(&args))
}

/// The same under a limit on the size of a file, in blocks of a size that depends on the shell.
#[cfg(unix)]
#[track_caller]
pub(crate) fn listen_with_file_limit(blocks: u32, args: &[&str]) -> (Running, String) {
    let limited = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &limited, env!("CARGO_BIN_EXE_kcp")])
        .args(args)
        .args(["--listen", "127.0.0.1:0"]);
    announced(spawn(&mut command))
}

/// A listener that has said where it listens.
#[track_caller]
fn announced(mut running: Running) -> (Running, String) {
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
    pub(crate) fn wait_for_stderr(&self, text: &str) {
        let until = Instant::now() + LONGEST_WAIT;
        let mut seen = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.stderr.lines.recv_timeout(left) else {
                panic!("no {text:?} in {seen:?}");
            };
            if line.contains(text) {
                return;
            }
            seen += &line;
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

    /// The most memory that the process ever held, in bytes; 0 where the system does not say.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.map_or(0, |kib| kib.parse::<u64>().expect("a number") << 10)
    }

    /// What nobody can catch.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Finished {
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).expect("text");
        let stderr = self.stderr.lines.iter().collect();
        let code = self.child.wait().expect("it ends").code();
        Finished {
            code,
            stdout,
            stderr,
        }
    }
}

impl Lines {
    fn of(pipe: ChildStderr) -> Self {
        let (send, lines) = channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = String::new();
            while pipe.read_line(&mut line).expect("text") > 0 {
                // The test has ended.
                if send.send(mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        Self { lines }
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
