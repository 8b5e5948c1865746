//! The command line.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::protocol::{Order, Peer, Runtime, Workload};
use crate::{client, compare, content, relay, report, run, server};

/// KCP-Rust measured beside every peer.
#[derive(Debug, Parser)]
#[command(name = "kcp-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measures the rows of one workload.
    Run(Box<RunArgs>),
    /// Makes a Markdown document of the JSON files of runs.
    Report {
        /// What `run --json` wrote.
        files: Vec<PathBuf>,
    },
    /// Says which figures of two runs of the same rows do not agree.
    Compare {
        /// What `run --json` wrote.
        first: PathBuf,
        /// The same of another run.
        second: PathBuf,
    },
    /// Says what checking the content costs every bulk receiver.
    CheckCost,
    /// A child of `run`.
    #[command(hide = true)]
    Role {
        role: Role,
        /// The order, as JSON.
        order: String,
    },
}

/// What is measured. Lists are separated by commas; without them the workload's own apply.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// The workload.
    #[arg(long)]
    pub(crate) workload: Workload,
    /// Peers; all that know the workload if there is none.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peer: Vec<Peer>,
    /// Send and receive windows, in segments.
    #[arg(long, value_delimiter = ',')]
    pub(crate) window: Vec<u32>,
    /// Socket buffers in bytes; 0 leaves the system's.
    #[arg(long, value_delimiter = ',')]
    pub(crate) buffers: Vec<usize>,
    /// Runtimes.
    #[arg(long, value_delimiter = ',')]
    pub(crate) runtime: Vec<Runtime>,
    /// Bytes of a message.
    #[arg(long, value_delimiter = ',')]
    pub(crate) message: Vec<usize>,
    /// Loss each way, in percent.
    #[arg(long, value_delimiter = ',')]
    pub(crate) loss: Vec<f64>,
    /// Numbers of sessions, each measured; or of parallel connections.
    #[arg(long, value_delimiter = ',')]
    pub(crate) sessions: Vec<usize>,
    /// How long each measurement sends, in seconds.
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// KCP's nodelay of every KCP peer: 0 or 1 (2 is ours alone).
    #[arg(long, default_value_t = 1)]
    pub(crate) nodelay: u8,
    /// KCP's tick of every KCP peer, in ms.
    #[arg(long, default_value_t = 10)]
    pub(crate) interval: u32,
    /// Seed of the relay's decisions; each repetition takes the next one.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Repetitions.
    #[arg(long, default_value_t = 3)]
    pub(crate) reps: u32,
    /// Begins nothing more after this many seconds.
    #[arg(long)]
    pub(crate) limit: Option<f64>,
    /// Another build of this program, to measure its ours beside this one's as the peer `other`.
    #[arg(long)]
    pub(crate) other: Option<PathBuf>,
    /// This program built with `--no-default-features --features kcp-io`, for the peer `kcp-io`.
    #[arg(long)]
    pub(crate) kcp_io: Option<PathBuf>,
    /// A program with arguments that runs the server, such as a profiler.
    #[arg(long, default_value = "")]
    pub(crate) wrap_server: String,
    /// The same for the client.
    #[arg(long, default_value = "")]
    pub(crate) wrap_client: String,
    /// Writes the figures of every repetition to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Keeps what the file has of the same rows: repetitions far apart show how much the machine changes.
    #[arg(long, requires = "json")]
    pub(crate) add: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Server,
    Client,
    Relay,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Action::Run(args) => run::run(&args),
        Action::Report { files } => report::print_files(&files),
        Action::Compare { first, second } => compare::print_files(&first, &second),
        Action::CheckCost => {
            println!("{:.3} CPU-s per GiB", content::check_cost());
            Ok(())
        }
        Action::Role { role, order } => {
            let result = play(role, &order);
            if let Err(error) = &result {
                crate::control::tell(&crate::protocol::Event::Failed {
                    message: error.to_string(),
                });
            }
            result
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kcp-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A child's life.
fn play(role: Role, order: &str) -> io::Result<()> {
    let order: Order = serde_json::from_str(order)?;
    let runtime = match order.task.runtime {
        Runtime::Multi => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?,
        Runtime::Current => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
    };
    match role {
        Role::Server => runtime.block_on(async { on_a_worker(order, true).await }),
        Role::Client => runtime.block_on(async { on_a_worker(order, false).await }),
        Role::Relay => relay::relay(&order),
    }
}

/// Spawned, because the future given to `block_on` does not run on a worker thread.
async fn on_a_worker(order: Order, is_server: bool) -> io::Result<()> {
    let task = tokio::spawn(async move {
        if is_server {
            server::serve(&order).await
        } else {
            client::run(&order).await
        }
    });
    task.await.map_err(io::Error::other)?
}
