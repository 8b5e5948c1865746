//! Which rows a workload has: the settings that are asked for, multiplied out.

use crate::args::RunArgs;
use crate::protocol::{Runtime, Task, Workload};

/// Numbers of sessions; memory is the slope from the first to each.
const SESSIONS: [usize; 2] = [1_000, 9_500];

/// The rows of a workload, without peers.
pub(crate) fn tasks(args: &RunArgs) -> Vec<Task> {
    let workload = args.workload;
    let windows = given(
        &args.window,
        match workload {
            Workload::Bulk => &[1_024, 8_192],
            Workload::Sessions => &[128],
            _ => &[1_024],
        },
    );
    let buffers = given(
        &args.buffers,
        match workload {
            Workload::Bulk => &[0, 4 << 20],
            _ => &[4 << 20],
        },
    );
    let runtimes = given(
        &args.runtime,
        match workload {
            Workload::PingPong => &[Runtime::Multi, Runtime::Current],
            _ => &[Runtime::Multi],
        },
    );
    let messages = given(
        &args.message,
        match workload {
            Workload::PingPong => &[64, 1_024],
            _ => &[64],
        },
    );
    let losses = given(
        &args.loss,
        match workload.is_lossy() {
            true => &[0.0, 1.0, 5.0, 10.0],
            false => &[0.0],
        },
    );
    let sessions = given(
        &args.sessions,
        match workload {
            Workload::Sessions => &SESSIONS,
            Workload::Parallel => &[8],
            _ => &[1],
        },
    );
    let seconds = args.seconds.unwrap_or(match workload {
        Workload::Bulk | Workload::PingPong | Workload::Parallel | Workload::Loaded => 2.0,
        Workload::Sessions => 5.0,
        Workload::LossyBulk => 5.0,
        Workload::LossyMessages => 10.0,
    });
    let sessions: Vec<&[usize]> = match workload {
        Workload::Sessions => (1..=sessions.len()).map(|n| &sessions[..n]).collect(),
        _ => vec![&sessions],
    };
    let mut tasks = Vec::new();
    for &runtime in &runtimes {
        for &window in &windows {
            for &buffers in &buffers {
                for &message in &messages {
                    for &loss in &losses {
                        for &sessions in &sessions {
                            tasks.push(Task {
                                workload,
                                runtime,
                                window,
                                buffers,
                                nodelay: args.nodelay,
                                interval: args.interval,
                                seconds,
                                message,
                                sessions: sessions.to_vec(),
                                loss,
                                seed: args.seed,
                            });
                        }
                    }
                }
            }
        }
    }
    tasks
}

/// What was asked for, or else the default.
fn given<T: Clone>(asked: &[T], default: &[T]) -> Vec<T> {
    if asked.is_empty() { default } else { asked }.to_vec()
}
