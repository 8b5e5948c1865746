//! The engine of KCP-Rust beside the C core: in memory, without sockets, in virtual time.
//!
//! ```text
//! kcp-bench-engine run --reps 5                         # the table
//! kcp-bench-engine run --window 1024 --loss 5 --json FILE
//! ```
//!
//! Each figure is of a process of its own, in an order that turns round with each repetition. A figure is CPU time per
//! delivered segment for both ends together, less that of the same drive without an engine (`floor.rs`).

mod c;
mod drive;
mod floor;
mod ours;
mod row;
mod run;
mod subject;
mod table;

use std::alloc::System;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts what Rust allocates.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Debug, Parser)]
#[command(name = "kcp-bench-engine", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures and prints a table.
    Run(run::RunArgs),
    /// One figure; a child of `run`.
    #[command(hide = true)]
    Row(row::RowArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Row(args) => row::row(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kcp-bench-engine: {error}");
            ExitCode::FAILURE
        }
    }
}
