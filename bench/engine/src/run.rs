//! Repetitions of every figure, each in a process of its own with a deadline.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::drive::Outcome;
use crate::row::Subject;
use crate::subject::Flush;
use crate::table;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Windows, in segments.
    #[arg(long, value_delimiter = ',', default_values_t = [128, 1_024, 8_192, 32_768])]
    window: Vec<u32>,
    /// When datagrams leave.
    #[arg(long, value_delimiter = ',', default_values = ["ticks", "packet"])]
    flush: Vec<Flush>,
    /// Loss each way, in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 5.0])]
    loss: Vec<f64>,
    /// Engines; the floors come by themselves.
    #[arg(long, value_delimiter = ',', default_values = ["ours", "ours-as-c", "c"])]
    subject: Vec<Subject>,
    /// Segments per figure, after two windows of warm-up.
    #[arg(long, default_value_t = 1_000_000)]
    segments: u64,
    /// CPU seconds per figure at most: one that has not come that far counts what it has done.
    #[arg(long, default_value_t = 4.0)]
    budget: f64,
    /// Repetitions.
    #[arg(long, default_value_t = 3)]
    reps: u32,
    /// Begins nothing more after this many seconds.
    #[arg(long)]
    limit: Option<f64>,
    /// Another build of this program, to measure its ours beside this one's as the subject `other`.
    #[arg(long)]
    other: Option<PathBuf>,
    /// Writes the figures of every repetition to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Everything that was measured of one engine under one setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) subject: Subject,
    pub(crate) window: u32,
    pub(crate) flush: Flush,
    pub(crate) loss: f64,
    /// One per repetition; `None` is no result within the budget.
    pub(crate) outcomes: Vec<Option<Outcome>>,
}

/// Measures, prints the table, and writes the figures where it was asked to.
///
/// # Errors
/// A child that cannot be started, or the file that cannot be written.
pub(crate) fn run(args: &RunArgs) -> io::Result<()> {
    let began = Instant::now();
    let mut figures = Vec::new();
    for &flush in &args.flush {
        for &loss in &args.loss {
            for &window in &args.window {
                let mut of_setting: Vec<Figure> = subjects(&args.subject)
                    .into_iter()
                    .map(|subject| Figure {
                        subject,
                        window,
                        flush,
                        loss,
                        outcomes: Vec::new(),
                    })
                    .collect();
                for repetition in 0..args.reps {
                    let mut in_turn: Vec<&mut Figure> = of_setting.iter_mut().collect();
                    if repetition % 2 == 1 {
                        in_turn.reverse();
                    }
                    for figure in in_turn {
                        if args
                            .limit
                            .is_some_and(|limit| began.elapsed().as_secs_f64() > limit)
                        {
                            continue;
                        }
                        let outcome = measure(figure, args)?;
                        let words = [word(&figure.subject), word(&flush)];
                        eprintln!("  {words:?} {loss} % w {window}: {outcome:?}");
                        figure.outcomes.push(outcome);
                    }
                }
                figures.extend(of_setting);
            }
        }
    }
    println!("{}", table::markdown(&figures));
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// With the floors that they need.
fn subjects(asked: &[Subject]) -> Vec<Subject> {
    let mut all = asked.to_vec();
    for subject in asked {
        if !all.contains(&subject.floor()) {
            all.push(subject.floor());
        }
    }
    all
}

/// One figure from a child; none if it takes far longer than its budget.
fn measure(figure: &Figure, args: &RunArgs) -> io::Result<Option<Outcome>> {
    let (program, subject) = match (figure.subject, &args.other) {
        (Subject::Other, Some(other)) => (other.clone(), Subject::Ours),
        (Subject::Other, None) => return Ok(None),
        // Not by its name: it may have been built anew meanwhile.
        (subject, _) => (format!("/proc/{}/exe", process::id()).into(), subject),
    };
    let mut child = Command::new(program)
        .arg("row")
        .args(["--subject", &word(&subject)])
        .args(["--flush", &word(&figure.flush)])
        .args(["--window", &figure.window.to_string()])
        .args(["--loss", &figure.loss.to_string()])
        .args(["--segments", &args.segments.to_string()])
        .args(["--budget", &args.budget.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs_f64(args.budget) * 5;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut line = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut line)?;
    }
    // A child that failed has said why on its standard error.
    Ok(serde_json::from_str(&line).unwrap_or(None))
}

/// The word that clap knows a value by.
pub(crate) fn word<T: ValueEnum>(value: &T) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
