//! The figures as Markdown.

use std::fmt::Write;

use crate::drive::Outcome;
use crate::row::Subject;
use crate::run::{Figure, word};

/// A table for each way to flush and each loss.
pub(crate) fn markdown(figures: &[Figure]) -> String {
    let mut text = String::new();
    for of_table in
        figures.chunk_by(|a, b| (a.flush, a.loss.to_bits()) == (b.flush, b.loss.to_bits()))
    {
        let _ = write!(
            text,
            "\n**engine alone**, flush {}, {} % loss each way: net ns per segment, both ends (least..most) [allocations]\n\n| engine |",
            word(&of_table[0].flush),
            of_table[0].loss
        );
        let mut windows: Vec<u32> = of_table.iter().map(|figure| figure.window).collect();
        windows.dedup();
        for window in &windows {
            let _ = write!(text, " w {window} |");
        }
        let _ = write!(text, "\n|---|{}", "---|".repeat(windows.len()));
        let mut subjects: Vec<Subject> = Vec::new();
        for figure in of_table {
            if !subjects.contains(&figure.subject) {
                subjects.push(figure.subject);
            }
        }
        for subject in subjects {
            let _ = write!(text, "\n| {} |", word(&subject));
            for &window in &windows {
                let _ = write!(text, " {} |", cell(of_table, subject, window));
            }
        }
        text.push('\n');
    }
    text
}

fn cell(figures: &[Figure], subject: Subject, window: u32) -> String {
    let gross = |subject: Subject| {
        let mut values: Vec<f64> = outcomes(figures, subject, window)
            .map(|outcome| outcome.gross_ns)
            .collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let floor = match subject.floor() == subject {
        true => Some(0.0),
        false => median(&gross(subject.floor())),
    };
    let values = gross(subject);
    let (Some(middle), Some(floor)) = (median(&values), floor) else {
        return "no result".into();
    };
    let blocks = outcomes(figures, subject, window)
        .map(|outcome| outcome.allocations)
        .fold(0.0, f64::max);
    let (least, most) = (values[0], values[values.len() - 1]);
    format!(
        "{:.0} ({:.0}..{:.0}) [{blocks:.3}]",
        middle - floor,
        least - floor,
        most - floor
    )
}

fn outcomes(figures: &[Figure], subject: Subject, window: u32) -> impl Iterator<Item = &Outcome> {
    figures
        .iter()
        .filter(move |figure| figure.subject == subject && figure.window == window)
        .flat_map(|figure| figure.outcomes.iter().flatten())
}

/// Of sorted values.
fn median(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let &upper = sorted.get(half)?;
    Some(match sorted.len() % 2 {
        1 => upper,
        _ => f64::midpoint(sorted[half - 1], upper),
    })
}
