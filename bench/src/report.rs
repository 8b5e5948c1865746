//! Medians and spread, as Markdown.

use std::fmt::Write;
use std::path::PathBuf;
use std::{fmt, io};

use crate::protocol::{Metrics, Runtime, Task, Workload};
use crate::run::Row;

/// A column: the figure's name and the heading with its unit.
type Column = (String, String);

/// Prints the tables of several JSON files.
///
/// # Errors
/// A file that cannot be read, or is none of ours.
pub(crate) fn print_files(files: &[PathBuf]) -> io::Result<()> {
    for file in files {
        println!("{}", markdown(&Row::read(file)?));
    }
    Ok(())
}

/// A table for each task in `rows`, whose rows follow each other.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    for of_task in rows.chunk_by(|a, b| a.task == b.task) {
        let task = &of_task[0].task;
        let columns = columns(task);
        let _ = write!(text, "\n{}\n\n| peer |", settings(task));
        for (_, heading) in &columns {
            let _ = write!(text, " {heading} |");
        }
        let _ = write!(text, " runs |\n|---|{}", "---|".repeat(columns.len() + 1));
        for row in of_task {
            let _ = write!(text, "\n| {} |", row.peer.name());
            for (name, _) in &columns {
                let _ = match Spread::of(row, name) {
                    Some(spread) => write!(text, " {spread} |"),
                    None => write!(text, " no result |"),
                };
            }
            let runs = row.results.len() + row.failures.len();
            let _ = write!(text, " {}/{runs} |", row.results.len());
        }
        text.push('\n');
        for row in of_task {
            let mut reasons: Vec<&String> = row.failures.iter().collect();
            reasons.sort();
            for same in reasons.chunk_by(|a, b| a == b) {
                let runs = row.results.len() + row.failures.len();
                let (peer, times) = (row.peer.name(), same.len());
                let _ = write!(
                    text,
                    "\n{peer}: no result in {times} of {runs} runs: {}\n",
                    same[0]
                );
            }
        }
    }
    text
}

/// What is equal for all peers of a table.
pub(crate) fn settings(task: &Task) -> String {
    let mut text = format!(
        "**{}**: window {}, {} socket buffers, {}, {} s",
        task.workload.name(),
        task.window,
        match task.buffers {
            0 => "default".into(),
            bytes => format!("{} KiB", bytes >> 10),
        },
        match task.runtime {
            Runtime::Multi => "two worker threads",
            Runtime::Current => "current-thread",
        },
        task.seconds,
    );
    let _ = match task.workload {
        Workload::PingPong | Workload::Loaded => write!(text, ", {} bytes", task.message),
        Workload::Sessions => write!(text, ", {} sessions", task.sessions.last().unwrap_or(&0)),
        Workload::Parallel => write!(text, ", {} connections", task.sessions[0]),
        Workload::LossyBulk => write!(text, ", 25 +- 5 ms and {} % loss each way", task.loss),
        Workload::LossyMessages => write!(
            text,
            ", 60 messages/s of {} bytes, 25 +- 5 ms and {} % loss each way",
            task.message, task.loss
        ),
        Workload::Bulk => Ok(()),
    };
    let _ = write!(
        text,
        "; KCP: nodelay {}, {} ms, fast resend 2, no congestion window, mtu 1400, stream mode",
        task.nodelay, task.interval
    );
    text
}

/// One repetition in a line.
pub(crate) fn brief(task: &Task, metrics: &Metrics) -> String {
    let mut text = String::new();
    for (name, heading) in columns(task) {
        if let Some(&value) = metrics.get(&name) {
            let _ = write!(text, "{heading} {}  ", number(value));
        }
    }
    text
}

/// The figures that a workload's table shows.
pub(crate) fn columns(task: &Task) -> Vec<Column> {
    let fixed: &[(&str, &str)] = match task.workload {
        Workload::Bulk | Workload::Parallel => &[
            ("mib_s", "MiB/s"),
            ("cpu_s_gib", "CPU-s per GiB"),
            ("cpu_client_s_gib", "sender"),
            ("cpu_server_s_gib", "receiver"),
            ("socket_drops", "lost in sockets"),
        ],
        Workload::PingPong => &[
            ("p50_us", "p50 us"),
            ("p99_us", "p99 us"),
            ("max_us", "max us"),
            ("cpu_us_trip", "CPU us per round trip"),
        ],
        Workload::LossyBulk => &[
            ("mib_s", "MiB/s"),
            ("wire_per_payload", "wire bytes per payload byte"),
            ("cpu_s_gib", "CPU-s per GiB"),
            ("socket_drops", "lost in sockets"),
        ],
        Workload::LossyMessages => &[
            ("p50_us", "p50 us"),
            ("p99_us", "p99 us"),
            ("max_us", "max us"),
            ("unanswered", "unanswered"),
            ("wire_bytes", "wire bytes"),
        ],
        Workload::Loaded => &[
            ("p50_us", "p50 us"),
            ("p99_us", "p99 us"),
            ("max_us", "max us"),
            ("mib_s", "bulk MiB/s"),
            ("cpu_s_gib", "CPU-s per GiB"),
        ],
        Workload::Sessions => &[
            ("kib_session_client", "KiB/session client"),
            ("kib_session_server", "KiB/session server"),
            ("idle_cpu_pct", "idle CPU %"),
            ("echo_cpu_pct", "echo CPU %"),
            ("p50_us", "p50 us"),
            ("p99_us", "p99 us"),
            ("unanswered", "unanswered"),
        ],
    };
    let is_known = |name: &str| task.sessions.len() > 1 || !name.starts_with("kib_session");
    fixed
        .iter()
        .filter(|(name, _)| is_known(name))
        .map(|&(name, heading)| (name.into(), heading.into()))
        .collect()
}

/// The median of a figure over the repetitions, and from where to where it went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` if no repetition has the figure.
    pub(crate) fn of(row: &Row, name: &str) -> Option<Self> {
        let mut values: Vec<f64> = row
            .results
            .iter()
            .filter_map(|metrics| metrics.get(name).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            least: *values.first()?,
            median: median(&values),
            most: *values.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&number(self.median))?;
        if self.least < self.most {
            write!(f, " ({}..{})", number(self.least), number(self.most))?;
        }
        Ok(())
    }
}

/// Of sorted values, at least one.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        f64::midpoint(sorted[half - 1], sorted[half])
    }
}

/// About three figures.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn numbers_have_about_three_figures() {
        assert_eq!(number(12_345.6), "12346");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(0.1234), "0.123");
    }
}
