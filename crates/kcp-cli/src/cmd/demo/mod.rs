//! `kcp demo`: every preset on a bad link, in about a minute.

mod bulk;
mod content;
mod echo;
mod report;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use kcp_netem::LinkConfig;

use self::content::Content;
use self::report::Row;
use self::stage::Stage;
use super::Output;
use crate::error::Failure;
use crate::preset::Preset;
use crate::signal::Interrupt;

/// What `demo` needs to know.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) presets: Vec<Preset>,
    /// Of bulk and of echo, each.
    pub(crate) phase: Duration,
    pub(crate) file: Option<PathBuf>,
    /// Send the whole file whatever the clock says.
    pub(crate) full: bool,
    pub(crate) messages_per_second: u32,
    pub(crate) message_size: usize,
    /// Each way.
    pub(crate) link: LinkConfig,
    pub(crate) seed: u64,
    pub(crate) output: Output,
}

/// Runs the presets in turn and prints the table. Fails when anything arrived wrong or not at all.
pub(crate) async fn run(options: Options, interrupt: &Interrupt) -> Result<(), Failure> {
    let content = match &options.file {
        Some(path) => {
            Content::of_file(path).map_err(|error| Failure::local(path.display(), &error))?
        }
        None => Content::Noise { seed: options.seed },
    };
    options
        .output
        .console
        .note(&format!("link, each way: {}", options.link));
    let mut rows = Vec::new();
    for &preset in &options.presets {
        let row = tokio::select! {
            row = one(&options, preset, &content) => row?,
            () = interrupt.raised() => return Err(Failure::interrupted()),
        };
        rows.push(row);
    }
    report::print(&options, &rows)?;
    report::result(&rows)
}

async fn one(options: &Options, preset: Preset, content: &Content) -> Result<Row, Failure> {
    let bulk = bulk_phase(options, preset, content).await?;
    let echo = echo_phase(options, preset).await?;
    Ok(Row { preset, bulk, echo })
}

async fn bulk_phase(
    options: &Options,
    preset: Preset,
    content: &Content,
) -> Result<bulk::Bulk, Failure> {
    let stage = Stage::open(preset, options.link, options.seed).await?;
    let limit = (!options.full).then_some(options.phase);
    let label = format!("{:<13} bulk", preset.name());
    // A bar over the clock, or over the file where that decides.
    let total = if options.full {
        content.size().unwrap_or(0)
    } else {
        millis(options.phase)
    };
    let mut meter = options.output.console.phase(&label, total);
    let result = bulk::run(&stage, content, limit, |elapsed, bytes| {
        let done = if options.full { bytes } else { millis(elapsed) };
        let rate = bytes as f64 / elapsed.as_secs_f64().max(1e-3);
        meter.tell(done, &crate::report::rate(rate));
    })
    .await?;
    drop(meter);
    options.output.console.note(&format!(
        "{label}: {} in {:.1} s, {}",
        crate::report::bytes(result.bytes),
        result.took.as_secs_f64(),
        if result.intact {
            "content ok"
        } else {
            "CONTENT DIFFERS"
        },
    ));
    Ok(result)
}

async fn echo_phase(options: &Options, preset: Preset) -> Result<echo::Echo, Failure> {
    let stage = Stage::open(preset, options.link, options.seed).await?;
    let label = format!("{:<13} echo", preset.name());
    let load = echo::Load {
        per_second: options.messages_per_second,
        size: options.message_size,
        phase: options.phase,
        // Several round trips, so that a slow link is not taken for an overloaded preset.
        grace: LATE_ANSWERS.max(options.link.one_way_delay() * 8),
    };
    let mut meter = options.output.console.phase(&label, millis(options.phase));
    let result = echo::run(&stage, load, |elapsed, answered| {
        meter.tell(millis(elapsed), &format!("{answered} answered"));
    })
    .await?;
    drop(meter);
    options.output.console.note(&format!(
        "{label}: {} of {} answered, {}",
        result.answered,
        result.sent,
        if result.intact {
            "content ok"
        } else {
            "CONTENT DIFFERS"
        },
    ));
    Ok(result)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The least time for the last answers of the echo phase: without any, every row would miss some.
const LATE_ANSWERS: Duration = Duration::from_millis(500);
