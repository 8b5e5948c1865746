//! Two runs of the same rows: whether the second says what the first said.

use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::report::{self, Spread};
use crate::run::Row;

/// Prints every figure whose ranges in the two files do not meet, and how many do.
///
/// # Errors
/// A file that cannot be read, or is none of ours.
pub(crate) fn print_files(first: &Path, second: &Path) -> io::Result<()> {
    print!("{}", markdown(&Row::read(first)?, &Row::read(second)?));
    Ok(())
}

fn markdown(first: &[Row], second: &[Row]) -> String {
    let (mut figures, mut meeting, mut within) = (0, 0, 0);
    let mut apart = String::new();
    for (one, other) in pairs(first, second) {
        for (name, heading) in report::columns(&one.task) {
            let spreads = (Spread::of(one, &name), Spread::of(other, &name));
            let (Some(a), Some(b)) = spreads else {
                continue;
            };
            figures += 1;
            within += u32::from(a.least <= b.median && b.median <= a.most);
            if a.least <= b.most && b.least <= a.most {
                meeting += 1;
                continue;
            }
            let settings = report::settings(&one.task);
            let settings = settings.split(';').next().unwrap_or_default();
            let peer = one.peer.name();
            let _ = writeln!(apart, "| {settings} | {peer} | {heading} | {a} | {b} |");
        }
    }
    let mut text = format!(
        "Of {figures} figures {meeting} have ranges that meet; of {within} the second median lies within the first range.\n"
    );
    if !apart.is_empty() {
        let head = "| row | peer | figure | first | second |\n|---|---|---|---|---|\n";
        let _ = write!(text, "\n{head}{apart}");
    }
    text
}

/// Rows of the same peer and settings. How long they ran and by which seed may differ.
fn pairs<'a>(first: &'a [Row], second: &'a [Row]) -> impl Iterator<Item = (&'a Row, &'a Row)> {
    first.iter().filter_map(move |one| {
        let other = second.iter().find(|other| {
            let mut task = other.task.clone();
            task.seconds = one.task.seconds;
            task.seed = one.task.seed;
            other.peer == one.peer && task == one.task
        })?;
        Some((one, other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Metrics, Peer, Runtime, Task, Workload};

    fn row(peer: Peer, seconds: f64, window: u32, mib_s: &[f64]) -> Row {
        let task = Task {
            workload: Workload::Bulk,
            runtime: Runtime::Multi,
            window,
            buffers: 0,
            nodelay: 1,
            interval: 10,
            seconds,
            message: 64,
            sessions: vec![1],
            loss: 0.0,
            seed: 1,
        };
        let of = |&value: &f64| Metrics::from([("mib_s".into(), value)]);
        Row {
            peer,
            task,
            results: mib_s.iter().map(of).collect(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn ranges_that_do_not_meet_are_shown() {
        let first = [
            row(Peer::Ours, 2.0, 128, &[10.0, 20.0, 30.0]),
            row(Peer::Tcp, 2.0, 128, &[10.0, 20.0]),
            row(Peer::Quinn, 2.0, 128, &[1.0]),
        ];
        let second = [
            row(Peer::Tcp, 1.0, 128, &[21.0, 22.0]),
            row(Peer::Ours, 1.0, 128, &[29.0, 40.0, 50.0]),
            row(Peer::Quinn, 1.0, 256, &[1.0]),
        ];
        let text = markdown(&first, &second);
        // Ours meet, though the median is outside; TCP's do not; quinn's rows are not of one window.
        assert!(
            text.starts_with("Of 2 figures 1 have ranges that meet; of 0 "),
            "{text}"
        );
        assert!(
            text.contains("| tcp | MiB/s | 15.0 (10.0..20.0) | 21.5 (21.0..22.0) |"),
            "{text}"
        );
        assert!(!text.contains("| ours |"), "{text}");
    }
}
