//! A peer program as a child process.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child as Process, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// Lines of a program's output kept for a failed cell.
const KEPT_LINES: usize = 24;
/// How long a program that was told to quit may take.
const QUIT: Duration = Duration::from_secs(5);
/// How long a failed cell waits for a program's numbers.
const STATS: Duration = Duration::from_secs(1);

/// How to start a peer program.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// The executable.
    pub(crate) program: OsString,
    /// Arguments before the flags of the cell.
    pub(crate) arguments: Vec<OsString>,
    /// Environment to add.
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

/// What went wrong in a cell.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A running peer program.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: Process,
    stdin: ChildStdin,
    events: mpsc::UnboundedReceiver<String>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Child {
    /// Starts the program. It ends with this value.
    pub(crate) fn spawn(name: String, launch: &Launch, flags: &[String]) -> Result<Self, Failure> {
        let mut process = Command::new(&launch.program)
            .args(&launch.arguments)
            .args(flags)
            .envs(launch.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure(format!("{name} does not start: {error}")))?;
        let (sender, events) = mpsc::unbounded_channel();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let stdin = process.stdin.take().expect("stdin is piped");
        read(
            process.stdout.take().expect("stdout is piped"),
            "",
            log.clone(),
            Some(sender),
        );
        read(
            process.stderr.take().expect("stderr is piped"),
            "stderr: ",
            log.clone(),
            None,
        );
        Ok(Self {
            name,
            process,
            stdin,
            events,
            log,
        })
    }

    /// Sends one command.
    pub(crate) async fn say(&mut self, command: &str) -> Result<(), Failure> {
        let line = format!("{command}\n");
        match self.stdin.write_all(line.as_bytes()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failure(format!("takes no commands: {error}"))),
        }
    }

    /// Waits for the event that begins with `event`, skipping others, and returns the words
    /// after it. A reported failure or the program's end is a failure.
    pub(crate) async fn expect(
        &mut self,
        event: &str,
        deadline: Instant,
    ) -> Result<String, Failure> {
        loop {
            let line = match timeout_at(deadline, self.events.recv()).await {
                Err(_) => return Err(self.failure(format!("not in time: {event}"))),
                Ok(None) => {
                    let how = match timeout(QUIT, self.process.wait()).await {
                        Ok(Ok(status)) => status.to_string(),
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "without ending".to_owned(),
                    };
                    return Err(
                        self.failure(format!("closed its stdout ({how}), waiting for: {event}"))
                    );
                }
                Ok(Some(line)) => line,
            };
            if line.starts_with("failed ") {
                return Err(self.failure(line));
            }
            if let Some(rest) = line.strip_prefix(event)
                && (rest.is_empty() || rest.starts_with(' '))
            {
                return Ok(rest.trim_start().to_owned());
            }
        }
    }

    /// Says `command` and waits for `event`.
    pub(crate) async fn ask(
        &mut self,
        command: &str,
        event: &str,
        deadline: Instant,
    ) -> Result<String, Failure> {
        self.say(command).await?;
        self.expect(event, deadline).await
    }

    /// Ends the program; it has to end well.
    pub(crate) async fn quit(mut self) -> Result<(), Failure> {
        self.say("quit").await?;
        match timeout(QUIT, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.failure(format!("ended with {status}"))),
            Ok(Err(error)) => Err(self.failure(error.to_string())),
            Err(_) => Err(self.failure("does not end".to_owned())),
        }
    }

    /// What the program said last, and its numbers if it still answers.
    pub(crate) async fn diagnose(&mut self) -> String {
        if self.say("stats").await.is_ok() {
            // The answer is in the log; a program that does not answer has none.
            let _ = self.expect("stats", Instant::now() + STATS).await;
        }
        let log = self.log.lock().expect("no holder panics");
        let lines: Vec<String> = log
            .iter()
            .map(|line| format!("      {}: {line}\n", self.name))
            .collect();
        if lines.is_empty() {
            format!("      {}: said nothing\n", self.name)
        } else {
            lines.concat()
        }
    }

    /// A failure of this program.
    pub(crate) fn failure(&self, what: String) -> Failure {
        Failure(format!("{} {what}", self.name))
    }
}

/// Keeps the lines of one output, and passes them on.
fn read(
    output: impl AsyncRead + Unpin + Send + 'static,
    prefix: &'static str,
    log: Arc<Mutex<VecDeque<String>>>,
    events: Option<mpsc::UnboundedSender<String>>,
) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut kept = log.lock().expect("no holder panics");
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(format!("{prefix}{line}"));
            drop(kept);
            if let Some(events) = &events {
                // The cell may be over.
                let _ = events.send(line);
            }
        }
    });
}
