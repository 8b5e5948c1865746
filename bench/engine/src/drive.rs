//! Moves messages from one engine to another and measures the CPU time of it.
//!
//! The sender always has two windows of messages queued or under way. Time is virtual: with flushes at ticks a step is
//! 10 ms, less where an engine wants to be called earlier; with flushes per packet a window of datagrams takes one
//! millisecond. Each datagram, data or not, is lost with the same probability by the same generator.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::subject::{Engine, Flush, Settings};

/// Bytes of a message: a full segment at mtu 1400.
pub(crate) const MESSAGE: usize = 1_376;

/// A tick in microseconds.
const TICK: u64 = 10_000;

/// What is measured, beside the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) settings: Settings,
    /// Probability of losing a datagram, each way, in percent.
    pub(crate) loss: f64,
    /// Messages to deliver after two windows of warm-up.
    pub(crate) segments: u64,
    /// CPU seconds after which it ends, however far it is.
    pub(crate) budget: f64,
}

/// What came out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Messages delivered while measuring.
    pub(crate) segments: u64,
    /// CPU time per message, ns, both ends and the drive.
    pub(crate) gross_ns: f64,
    /// Blocks allocated per message, both ends.
    pub(crate) allocations: f64,
}

/// Two engines and the link between them.
pub(crate) struct Drive<E> {
    goal: Goal,
    sender: E,
    receiver: E,
    /// Microseconds, and what is left of one in units of 1 / window.
    now: u64,
    fraction: u64,
    last_tick: u64,
    loss: Loss,
    written: u64,
    delivered: u64,
    message: Vec<u8>,
    buffer: Vec<u8>,
    began: f64,
}

impl<E: Engine> Drive<E> {
    pub(crate) fn new(goal: Goal, sender: E, receiver: E) -> Self {
        let message: Vec<u8> = (0..MESSAGE).map(|at| (at * 37 % 251) as u8).collect();
        Self {
            goal,
            sender,
            receiver,
            now: TICK,
            fraction: 0,
            last_tick: TICK,
            loss: Loss::new(goal.loss),
            written: 0,
            delivered: 0,
            buffer: message.clone(),
            message,
            began: cpu_seconds(),
        }
    }

    /// Warms up and measures; `None` if the budget was too small for a window of messages.
    pub(crate) fn measure(mut self) -> Option<Outcome> {
        let window = u64::from(self.goal.settings.window);
        self.sender.tick(self.now);
        self.receiver.tick(self.now);
        self.run_to(2 * window);
        let (warm, began, blocks) = (self.delivered, cpu_seconds(), E::allocations());
        self.run_to(warm + self.goal.segments);
        let segments = self.delivered - warm;
        (segments >= window).then(|| Outcome {
            segments,
            gross_ns: (cpu_seconds() - began) * 1e9 / segments as f64,
            allocations: (E::allocations() - blocks) as f64 / segments as f64,
        })
    }

    /// Until so many messages are delivered, or the budget is used up.
    fn run_to(&mut self, delivered: u64) {
        while self.delivered < delivered && !self.is_over() {
            self.top_up();
            match self.goal.settings.flush {
                Flush::Ticks => self.step(),
                Flush::Packet => self.round(),
            }
        }
    }

    fn is_over(&self) -> bool {
        cpu_seconds() - self.began > self.goal.budget
    }

    fn top_up(&mut self) {
        let most = self.delivered + 2 * u64::from(self.goal.settings.window);
        while self.written < most {
            self.message[..8].copy_from_slice(&self.written.to_le_bytes());
            self.sender.write(&self.message);
            self.written += 1;
        }
    }

    /// Flushes at ticks: to the next tick, or to an earlier moment that the sender asks for.
    fn step(&mut self) {
        let tick = self.last_tick + TICK;
        let wake = self.sender.wake().unwrap_or(tick);
        self.now = wake.clamp(self.now + 1, tick);
        let now = self.now;
        self.sender.tick(now);
        while self.sender.drain(now) {
            let (receiver, loss) = (&mut self.receiver, &mut self.loss);
            self.sender.for_each_output(|datagram| {
                if !loss.takes() {
                    receiver.input(now, datagram);
                }
            });
            self.sender.clear();
            self.read();
        }
        if now < tick {
            return;
        }
        self.last_tick = tick;
        self.receiver.tick(now);
        while self.receiver.drain(now) {
            let (sender, loss) = (&mut self.sender, &mut self.loss);
            self.receiver.for_each_output(|datagram| {
                if !loss.takes() {
                    sender.input(now, datagram);
                }
            });
            self.receiver.clear();
        }
    }

    /// Flushes per packet: what the sender has sent arrives, then the answers.
    fn round(&mut self) {
        self.sender.flush(self.now);
        let mut moved = 0;
        let (receiver, loss, now) = (&mut self.receiver, &mut self.loss, self.now);
        let (delivered, buffer, message) = (&mut self.delivered, &mut self.buffer, &self.message);
        self.sender.for_each_output(|datagram| {
            moved += 1;
            if !loss.takes() {
                receiver.input(now, datagram);
                receiver.flush(now);
                read_from(receiver, delivered, buffer, message);
            }
        });
        self.sender.clear();
        self.top_up();
        self.pass(moved);
        let (sender, loss, now) = (&mut self.sender, &mut self.loss, self.now);
        self.receiver.for_each_output(|datagram| {
            if !loss.takes() {
                sender.input(now, datagram);
                sender.flush(now);
            }
        });
        self.receiver.clear();
        let tick = self.last_tick + TICK;
        if moved == 0 {
            let wake = self.sender.wake().unwrap_or(tick);
            self.now = wake.clamp(self.now + 1, tick.max(self.now + 1));
            self.sender.tick(self.now);
        }
        if self.now >= tick {
            self.last_tick = self.now;
            self.sender.tick(self.now);
            self.receiver.tick(self.now);
        }
    }

    /// A window of datagrams takes a millisecond.
    fn pass(&mut self, datagrams: u64) {
        let window = u64::from(self.goal.settings.window);
        let total = self.fraction + datagrams * 1_000;
        self.now += total / window;
        self.fraction = total % window;
    }

    fn read(&mut self) {
        let Self {
            receiver,
            delivered,
            buffer,
            message,
            ..
        } = self;
        read_from(receiver, delivered, buffer, message);
    }
}

/// Takes and checks what has arrived.
fn read_from<E: Engine>(receiver: &mut E, delivered: &mut u64, buffer: &mut [u8], message: &[u8]) {
    while let Some(len) = receiver.recv(buffer) {
        assert_eq!(len, MESSAGE);
        assert_eq!(buffer[..8], delivered.to_le_bytes());
        assert!(buffer[8..] == message[8..], "wrong bytes arrived");
        *delivered += 1;
    }
}

/// Which datagrams are lost.
struct Loss {
    state: u64,
    /// Of 2^32.
    threshold: u64,
}

impl Loss {
    fn new(percent: f64) -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            threshold: (percent / 100.0 * (1_u64 << 32) as f64) as u64,
        }
    }

    /// Whether the next one is. Drawn also without loss, so that it costs the same.
    fn takes(&mut self) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 32) < self.threshold
    }
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
