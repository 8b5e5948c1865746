//! What the user sees while something runs: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;

/// Where messages and progress go. Notes and progress use standard error, so that
/// standard output holds results only. Clones share the terminal.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    mode: Mode,
    bars: MultiProgress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Bars,
    Lines,
    Quiet,
}

/// The progress of one transfer or one phase. Disappears when dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    label: String,
    total: u64,
    done: u64,
    started: Instant,
    last_line: Instant,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Console {
    /// Bars when standard error is a terminal, lines when it is not, nothing when `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let mode = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Bars,
            (false, false) => Mode::Lines,
        };
        let target = match mode {
            Mode::Bars => ProgressDrawTarget::stderr_with_hz(10),
            Mode::Lines | Mode::Quiet => ProgressDrawTarget::hidden(),
        };
        Self {
            mode,
            bars: MultiProgress::with_draw_target(target),
        }
    }

    /// A line on standard error, unless quiet.
    pub(crate) fn note(&self, text: &str) {
        if self.mode != Mode::Quiet {
            self.warn(text);
        }
    }

    /// A line on standard error that also a quiet user must see.
    pub(crate) fn warn(&self, text: &str) {
        self.bars.suspend(|| report::note(text));
    }

    /// A line on standard output. A reader that went away is not a reason to fail a transfer.
    pub(crate) fn result(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = report::print(&format!("{text}\n"));
        });
    }

    /// A meter for a transfer of `total` bytes.
    pub(crate) fn transfer(&self, label: &str, total: u64) -> Meter {
        const BYTES: &str = "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}";
        self.meter(&shortened(label), total, BYTES)
    }

    /// A meter for a phase of `total` steps, which says what it is told.
    pub(crate) fn phase(&self, label: &str, total: u64) -> Meter {
        self.meter(label, total, "{prefix} {wide_bar} {msg}")
    }

    fn meter(&self, label: &str, total: u64, template: &str) -> Meter {
        let now = Instant::now();
        let shown = match self.mode {
            Mode::Bars => {
                let bar = self.bars.add(ProgressBar::new(total));
                // The templates are ours and constant; the default style is no loss.
                bar.set_style(
                    ProgressStyle::with_template(template)
                        .unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
                bar.set_prefix(label.to_owned());
                Shown::Bar(bar)
            }
            Mode::Lines => Shown::Lines,
            Mode::Quiet => Shown::Nothing,
        };
        Meter {
            label: label.to_owned(),
            total,
            done: 0,
            started: now,
            last_line: now,
            shown,
        }
    }
}

impl Meter {
    /// `done` bytes are through.
    pub(crate) fn set(&mut self, done: u64) {
        self.done = done;
        match &self.shown {
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                report::note(&format!("{}: {}", self.label, self.line()));
            }
            Shown::Lines | Shown::Nothing => {}
        }
    }

    /// `done` steps of the phase are over; `message` says what was achieved so far.
    pub(crate) fn tell(&mut self, done: u64, message: &str) {
        self.done = done;
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_message(message.to_owned());
                bar.set_position(done);
            }
            Shown::Lines if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                report::note(&format!("{}: {message}", self.label));
            }
            Shown::Lines | Shown::Nothing => {}
        }
    }

    /// How long it has been running.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// `12.5 MiB of 100 MiB, 3.1 MiB/s, 29 s left`
    fn line(&self) -> String {
        let seconds = self.elapsed().as_secs_f64().max(1e-9);
        let rate = self.done as f64 / seconds;
        let mut line = format!(
            "{} of {}, {}",
            report::bytes(self.done),
            report::bytes(self.total),
            report::rate(rate)
        );
        if rate > 0.0 {
            let left = self.total.saturating_sub(self.done) as f64 / rate;
            line.push_str(&format!(", {left:.0} s left"));
        }
        line
    }
}

impl Drop for Meter {
    /// Clears the bar: what comes after it is a result line.
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// A long file name leaves room for the numbers beside it.
fn shortened(label: &str) -> String {
    const LONGEST: usize = 30;
    if label.chars().count() <= LONGEST {
        return label.to_owned();
    }
    label
        .chars()
        .take(LONGEST - 3)
        .chain("...".chars())
        .collect()
}

/// Often enough to see that it lives, seldom enough for a log file.
const LINE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_progress_rate_and_time_left() {
        let console = Console::new(true);
        let mut meter = console.transfer("file", 100 << 20);
        meter.started = Instant::now() - Duration::from_secs(10);
        meter.set(50 << 20);
        assert_eq!(meter.line(), "50.0 MiB of 100 MiB, 5.00 MiB/s, 10 s left");
    }

    #[test]
    fn long_labels_are_cut() {
        assert_eq!(shortened(&"x".repeat(30)), "x".repeat(30));
        assert_eq!(
            shortened(&"\u{fc}".repeat(31)),
            format!("{}...", "\u{fc}".repeat(27))
        );
    }

    #[test]
    fn an_unmoved_transfer_has_no_estimate() {
        let meter = Console::new(true).transfer("file", 10);
        assert_eq!(meter.line(), "0 B of 10 B, 0 B/s");
    }
}
