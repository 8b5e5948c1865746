//! One child process, with a deadline for everything that is expected of it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Process, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use crate::protocol::{Command, Event, Order};

/// A child of ours; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Child {
    role: &'static str,
    process: Process,
    commands: ChildStdin,
    events: Receiver<Event>,
}

impl Child {
    /// Starts this program again in a role.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn start(role: &'static str, order: &Order) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let order = serde_json::to_string(order).map_err(|error| error.to_string())?;
        let mut process = Program::new(program)
            .args(["role", role, &order])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("{role} cannot be started: {error}"))?;
        let commands = process.stdin.take().ok_or("no stdin")?;
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
        if let Ok(line) = serde_json::to_string(command) {
            let _ = writeln!(self.commands, "{line}").and_then(|()| self.commands.flush());
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
