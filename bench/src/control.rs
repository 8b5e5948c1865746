//! A child's side of the conversation with the parent.
//!
//! A thread reads the commands, so that a busy runtime delays no answer. When the parent is gone the process ends.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::thread;

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::measure::Reading;
use crate::protocol::{Command, Event};

/// Tells the parent something.
pub(crate) fn tell(event: &Event) {
    let line = serde_json::to_string(event).expect("events are plain data");
    let mut out = io::stdout().lock();
    // A parent that is gone is noticed by the reader of commands.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Answers every [`Command::Mark`] with `read`, until the parent is gone.
pub(crate) fn answer_marks(read: impl Fn() -> Reading + Send + 'static) {
    thread::spawn(move || {
        for_each_command(|command| {
            if command == Command::Mark {
                tell(&Event::Mark {
                    label: String::new(),
                    reading: read(),
                });
            }
        });
    });
}

/// The client's way to let everybody read at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    commands: Arc<Mutex<UnboundedReceiver<Command>>>,
}

impl Marks {
    /// Begins to listen to the parent.
    pub(crate) fn start() -> Self {
        let (sender, commands) = unbounded_channel();
        thread::spawn(move || {
            for_each_command(|command| {
                let _ = sender.send(command);
            });
        });
        Self {
            commands: Arc::new(Mutex::new(commands)),
        }
    }

    /// Reads here, and returns when the others have read too.
    pub(crate) async fn mark(&self, label: impl Into<String>) {
        tell(&Event::Mark {
            label: label.into(),
            reading: Reading::take(),
        });
        let mut commands = self.commands.lock().await;
        while commands.recv().await.is_some_and(|c| c != Command::Go) {}
    }
}

/// Calls `handle` with each command; ends the process with the last one.
fn for_each_command(mut handle: impl FnMut(Command)) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if let Ok(command) = serde_json::from_str(&line) {
            handle(command);
        }
    }
    std::process::exit(0);
}
