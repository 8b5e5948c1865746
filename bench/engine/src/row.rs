//! One figure, in a process of its own.

use std::io;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use kcp_engine::{BufferPool, Validation};
use serde::{Deserialize, Serialize};

use crate::c::C;
use crate::drive::{Drive, Goal, Outcome};
use crate::floor::Floor;
use crate::ours::Ours;
use crate::subject::{Engine, Flush, Settings};

/// What is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// Ours as everybody uses it: validating, bursts of at most 128 KiB.
    Ours,
    /// The same, as another build of this program has it: `--other` says which.
    Other,
    /// Ours with C's trust and without a limit for bursts: datagram for datagram what C sends.
    OursAsC,
    /// The C core.
    C,
    /// The drive alone, as ours needs it.
    FloorOurs,
    /// The drive alone, with the copy of each datagram that collecting C's output takes.
    FloorC,
}

impl Subject {
    /// What is subtracted from its figure.
    pub(crate) fn floor(self) -> Self {
        match self {
            Self::C | Self::FloorC => Self::FloorC,
            Self::Ours | Self::Other | Self::OursAsC | Self::FloorOurs => Self::FloorOurs,
        }
    }
}

/// The figure that is asked for.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RowArgs {
    #[arg(long)]
    pub(crate) subject: Subject,
    #[arg(long)]
    pub(crate) window: u32,
    #[arg(long)]
    pub(crate) flush: Flush,
    #[arg(long)]
    pub(crate) loss: f64,
    #[arg(long)]
    pub(crate) segments: u64,
    #[arg(long)]
    pub(crate) budget: f64,
}

/// Measures and prints the outcome as JSON: `null` if the budget was too small.
///
/// # Errors
/// A closed standard output.
pub(crate) fn row(args: &RowArgs) -> io::Result<()> {
    let settings = Settings {
        window: args.window,
        flush: args.flush,
    };
    let goal = Goal {
        settings,
        loss: args.loss,
        segments: args.segments,
        budget: args.budget,
    };
    let pool = Arc::new(BufferPool::new());
    let ours = |validation| both(goal, || Ours::new(settings, validation, &pool));
    // Nothing but counts: a floor that loses would wait for ever.
    let dry = Goal { loss: 0.0, ..goal };
    let outcome = match args.subject {
        Subject::Ours | Subject::Other => ours(Validation::Strict),
        Subject::OursAsC => ours(Validation::AsC),
        Subject::C => {
            oracle::count_allocations();
            both(goal, || C::new(settings))
        }
        Subject::FloorOurs => both(dry, || Floor::new(settings, false)),
        Subject::FloorC => both(dry, || Floor::new(settings, true)),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn both<E: Engine>(goal: Goal, end: impl Fn() -> E) -> Option<Outcome> {
    Drive::new(goal, end(), end()).measure()
}
