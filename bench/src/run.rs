//! Repetitions: every row of every peer, the order of the peers turned round each time.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::args::RunArgs;
use crate::cell::Programs;
use crate::protocol::{Metrics, Peer, Task, Workload};
use crate::{cell, plan, report};

/// A row and what its repetitions gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) peer: Peer,
    pub(crate) task: Task,
    /// One per repetition that came to an end.
    pub(crate) results: Vec<Metrics>,
    /// Why the others did not.
    pub(crate) failures: Vec<String>,
}

/// Measures, prints tables, and writes the figures where it was asked to.
///
/// # Errors
/// The file that cannot be written. A row without a result is no error.
pub(crate) fn run(args: &RunArgs) -> io::Result<()> {
    let peers = peers(args);
    let began = Instant::now();
    let programs = Programs {
        wrap_server: args.wrap_server.clone(),
        wrap_client: args.wrap_client.clone(),
        other: args.other.clone(),
        kcp_io: args.kcp_io.clone(),
    };
    let mut rows = earlier(args)?;
    for task in plan::tasks(args) {
        eprintln!("{}", report::settings(&task));
        let mut of_task: Vec<Row> = peers
            .iter()
            .map(|&peer| take(&mut rows, peer, &task))
            .collect();
        for _ in 0..args.reps {
            let repetition = of_task.iter().map(Row::repetitions).min().unwrap_or(0);
            let mut in_turn: Vec<&mut Row> = of_task.iter_mut().collect();
            if repetition % 2 == 1 {
                in_turn.reverse();
            }
            for row in in_turn {
                if args
                    .limit
                    .is_some_and(|limit| began.elapsed().as_secs_f64() > limit)
                {
                    row.failures.push("not begun: no time left".into());
                } else {
                    repeat(row, repetition, &programs);
                }
            }
        }
        rows.extend(of_task);
    }
    println!("{}", report::markdown(&rows));
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

impl Row {
    /// What `run --json` wrote.
    pub(crate) fn read(path: &Path) -> io::Result<Vec<Self>> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    fn repetitions(&self) -> u32 {
        (self.results.len() + self.failures.len()) as u32
    }
}

/// What is there to add to.
fn earlier(args: &RunArgs) -> io::Result<Vec<Row>> {
    match &args.json {
        Some(path) if args.add && path.exists() => Row::read(path),
        _ => Ok(Vec::new()),
    }
}

/// The row that is there already, or an empty one.
fn take(rows: &mut Vec<Row>, peer: Peer, task: &Task) -> Row {
    let found = rows
        .iter()
        .position(|row| row.peer == peer && row.task == *task);
    match found {
        Some(at) => rows.remove(at),
        None => Row {
            peer,
            task: task.clone(),
            results: Vec::new(),
            failures: Vec::new(),
        },
    }
}

fn repeat(row: &mut Row, repetition: u32, programs: &Programs) {
    let mut task = row.task.clone();
    task.seed += u64::from(repetition);
    match cell::measure(row.peer, &task, programs) {
        Ok(metrics) => {
            eprintln!("  {}: {}", row.peer.name(), report::brief(&task, &metrics));
            row.results.push(metrics);
        }
        Err(reason) => {
            eprintln!("  {}: no result: {reason}", row.peer.name());
            row.failures.push(reason);
        }
    }
}

/// Those asked for, less those that do not know the workload.
fn peers(args: &RunArgs) -> Vec<Peer> {
    let asked = if args.peer.is_empty() {
        Peer::value_variants()
    } else {
        &args.peer
    };
    let polling = !args.peer.is_empty() || args.workload == Workload::PingPong;
    let knows = |peer: &Peer| match args.workload {
        _ if *peer == Peer::OursPolling => polling,
        _ if *peer == Peer::Other && args.other.is_none() => false,
        _ if *peer == Peer::KcpIo && args.kcp_io.is_none() => false,
        Workload::Bulk => true,
        // The relay carries datagrams.
        Workload::LossyBulk | Workload::LossyMessages => !peer.is_raw() && *peer != Peer::Tcp,
        _ => !peer.is_raw(),
    };
    asked.iter().copied().filter(knows).collect()
}
