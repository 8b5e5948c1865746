//! One child process, with a deadline for everything that is expected of it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Process, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::protocol::{Command, Event, Order};

/// A child of ours; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Child {
    role: &'static str,
    process: Process,
    /// Closed when the child is to end.
    commands: Option<ChildStdin>,
    events: Receiver<Event>,
}

impl Child {
    /// Starts the program of these words in a role.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn start(
        role: &'static str,
        order: &Order,
        words: &[OsString],
    ) -> Result<Self, String> {
        let order = serde_json::to_string(order).map_err(|error| error.to_string())?;
        let mut process = Program::new(&words[0])
            .args(&words[1..])
            .args(["role", role, &order])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("{role} cannot be started: {error}"))?;
        let commands = process.stdin.take();
        let out = process.stdout.take().ok_or("no stdout")?;
        let (sender, events) = channel();
        thread::spawn(move || {
            // Ends with the child, or when nobody listens any more.
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|_| Event::Failed {
                    message: format!("not an event: {line}"),
                });
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            role,
            process,
            commands,
            events,
        })
    }

    /// The next thing it says.
    ///
    /// # Errors
    /// What it failed with, that it has ended, or that the deadline has passed.
    pub(crate) fn next(&self, deadline: Instant) -> Result<Event, String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let role = self.role;
        match self.events.recv_timeout(left) {
            Ok(Event::Failed { message }) => Err(format!("{role}: {message}")),
            Ok(event) => Ok(event),
            Err(RecvTimeoutError::Timeout) => Err(format!("{role}: timed out")),
            Err(RecvTimeoutError::Disconnected) => Err(format!("{role}: ended")),
        }
    }

    /// Tells it something. A child that is gone shows in [`Child::next`].
    pub(crate) fn tell(&mut self, command: &Command) {
        if let (Ok(line), Some(out)) = (serde_json::to_string(command), &mut self.commands) {
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }
}

impl Drop for Child {
    /// Ends the process: it ends by itself when its commands end, and otherwise soon.
    fn drop(&mut self) {
        self.commands = None;
        let deadline = Instant::now() + LEAVE_TIME;
        while Instant::now() < deadline {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How long a child may take to end by itself. A profiler around it writes its file meanwhile.
const LEAVE_TIME: Duration = Duration::from_secs(5);
