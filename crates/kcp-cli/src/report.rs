//! Numbers and tables for people, JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::copy::printable;
use crate::error::Failure;

/// A table of text cells: the first column to the left, all others to the right.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headers: &[&str]) -> Self {
        Self {
            headers: headers.iter().map(|&h| h.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Missing cells are empty, surplus ones are dropped.
    pub(crate) fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.headers.len(), String::new());
        self.rows.push(cells);
    }

    /// The table as lines without trailing spaces, a rule under the headers.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.headers.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells
                    .chain([self.headers[column].chars().count()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut out = line(&self.headers, &widths);
        let rule = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        out.push_str(&"-".repeat(rule));
        out.push('\n');
        for row in &self.rows {
            out.push_str(&line(row, &widths));
        }
        out
    }
}

/// Writes text to standard output. A closed pipe is a local failure, not a panic.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::local("standard output", &error))
}

/// Writes a line to standard error, without control characters. An error of the write is ignored: the reader may have gone.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Writes one JSON document, indented, and a newline.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::local("JSON", &io::Error::other(error)))?;
    print(&format!("{text}\n"))
}

/// `1.4 MiB`: three significant digits, binary units.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{} {unit}", significant(value))
}

/// Bytes per second.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", bytes(bytes_per_second.max(0.0).round() as u64))
}

/// Milliseconds, with the digits that matter.
pub(crate) fn milliseconds(ms: f64) -> String {
    format!("{} ms", significant(ms))
}

/// A share of 0.0 to 1.0.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A hash as hex.
pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Three significant digits, without an exponent.
fn significant(value: f64) -> String {
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut out = String::new();
    for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width - cell.chars().count());
        if column == 0 {
            out.push_str(cell);
            out.push_str(&padding);
        } else {
            out.push_str(&" ".repeat(GAP));
            out.push_str(&padding);
            out.push_str(cell);
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Spaces between two columns.
const GAP: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["preset", "p50", "rate"]);
        table.row(vec!["normal".into(), "61.0 ms".into(), "40 KiB/s".into()]);
        table.row(vec!["file_transfer".into(), "60 ms".into()]);
        assert_eq!(
            table.render(),
            "preset             p50      rate\n\
             --------------------------------\n\
             normal         61.0 ms  40 KiB/s\n\
             file_transfer    60 ms\n"
        );
    }

    #[test]
    fn width_is_counted_in_characters() {
        let mut table = Table::new(&["a", "b"]);
        table.row(vec!["\u{fc}\u{fc}".into(), "1".into()]);
        assert_eq!(table.render(), "a   b\n-----\n\u{fc}\u{fc}  1\n");
    }

    #[test]
    fn bytes_have_three_significant_digits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10_239, "10.0 KiB"),
            (1_048_064, "1.00 MiB"),
            (500 << 20, "500 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(rate(-1.0), "0 B/s");
    }

    #[test]
    fn times_and_shares() {
        assert_eq!(milliseconds(0.1234), "0.12 ms");
        assert_eq!(milliseconds(61.25), "61.2 ms");
        assert_eq!(milliseconds(1999.9), "2000 ms");
        assert_eq!(percent(0.0512), "5.1 %");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
