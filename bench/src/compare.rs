//! Two runs of the same rows: whether the second says what the first said.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use crate::report::{self, Spread};
use crate::run::Row;

/// Prints every figure whose ranges in the two files do not meet, and how many do.
///
/// # Errors
/// A file that cannot be read, or is none of ours.
pub(crate) fn print_files(first: &Path, second: &Path) -> io::Result<()> {
    let read = |path: &Path| -> io::Result<Vec<Row>> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    };
    print!("{}", markdown(&read(first)?, &read(second)?));
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
