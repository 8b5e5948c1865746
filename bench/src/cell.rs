//! One row, once: starts the children, lets them read at the same moments, and makes figures of it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::child::Child;
use crate::measure::{Reading, socket_drops};
use crate::protocol::{Command, Event, Metrics, Order, Peer, Task, Workload};

/// How long a child may take beyond what it was asked to do.
const GRACE: Duration = Duration::from_secs(30);
/// And for each thousand sessions.
const SESSION_GRACE: Duration = Duration::from_secs(10);

/// The three processes at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) label: String,
    pub(crate) client: Reading,
    pub(crate) server: Reading,
    /// Of nothing where there is no relay.
    pub(crate) relay: Reading,
    /// See [`socket_drops`].
    pub(crate) drops: f64,
}

/// What runs as a child.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    /// Run the children, such as a profiler; empty for none.
    pub(crate) wrap_server: String,
    pub(crate) wrap_client: String,
    /// Another build of this program, for [`Peer::Other`].
    pub(crate) other: Option<PathBuf>,
    /// Another build of this program, for [`Peer::KcpIo`].
    pub(crate) kcp_io: Option<PathBuf>,
}

impl Programs {
    /// The words before `role`.
    fn command(&self, peer: Peer, wrap: &str) -> Result<Vec<OsString>, String> {
        let another = |program: &Option<PathBuf>, flag| {
            let program = program.clone();
            program.ok_or_else(|| format!("{flag} does not say which"))
        };
        let program = match peer {
            Peer::Other => another(&self.other, "--other")?,
            Peer::KcpIo => another(&self.kcp_io, "--kcp-io")?,
            // Not by its name: it may have been built anew meanwhile.
            _ => format!("/proc/{}/exe", std::process::id()).into(),
        };
        let mut words: Vec<OsString> = wrap.split_whitespace().map(OsString::from).collect();
        words.push(program.into());
        Ok(words)
    }
}

/// Measures one row once.
///
/// # Errors
/// Why there is no result.
pub(crate) fn measure(peer: Peer, task: &Task, programs: &Programs) -> Result<Metrics, String> {
    let deadline = Instant::now() + time_limit(task);
    let plain = programs.command(peer, "")?;
    let order = |target| Order {
        peer: match peer {
            Peer::Other => Peer::Ours,
            peer => peer,
        },
        task: task.clone(),
        target,
    };
    let mut server = Child::start(
        "server",
        &order(None),
        &programs.command(peer, &programs.wrap_server)?,
    )?;
    let mut address = listening(&server, deadline)?;
    let mut relay = None;
    if task.workload.is_lossy() {
        let child = Child::start("relay", &order(Some(address)), &plain)?;
        address = listening(&child, deadline)?;
        relay = Some(child);
    }
    let mut client = Child::start(
        "client",
        &order(Some(address)),
        &programs.command(peer, &programs.wrap_client)?,
    )?;
    let mut marks = Vec::new();
    loop {
        match client.next(deadline) {
            Ok(Event::Mark { label, reading }) => {
                marks.push(Mark {
                    label,
                    client: reading,
                    server: read(&mut server, deadline)?,
                    relay: match &mut relay {
                        Some(relay) => read(relay, deadline)?,
                        None => Reading::default(),
                    },
                    drops: socket_drops(),
                });
                client.tell(&Command::Go);
            }
            Ok(Event::Result { metrics }) => return Ok(figures(task, metrics, &marks)),
            Ok(other) => return Err(format!("the client said {other:?}")),
            Err(error) => {
                // What the server knows about it is the better reason.
                server
                    .next(Instant::now())
                    .err()
                    .filter(|reason| !reason.ends_with("timed out"))
                    .map_or(Err(error), Err)?;
            }
        }
    }
}

fn time_limit(task: &Task) -> Duration {
    let stops = task.sessions.len().max(1) as u32;
    let sessions = task.sessions.iter().max().copied().unwrap_or(1);
    Duration::from_secs_f64(task.seconds) * 3 * stops
        + GRACE
        + SESSION_GRACE * (sessions / 1_000) as u32
}

fn listening(child: &Child, deadline: Instant) -> Result<SocketAddr, String> {
    match child.next(deadline)? {
        Event::Listening { address } => Ok(address),
        other => Err(format!("instead of an address: {other:?}")),
    }
}

fn read(child: &mut Child, deadline: Instant) -> Result<Reading, String> {
    child.tell(&Command::Mark);
    match child.next(deadline)? {
        Event::Mark { reading, .. } => Ok(reading),
        other => Err(format!("instead of a reading: {other:?}")),
    }
}

/// Adds to the client's figures what follows from the readings.
fn figures(task: &Task, mut metrics: Metrics, marks: &[Mark]) -> Metrics {
    let mut add = |name: &str, value: f64| {
        metrics.insert(name.into(), value);
    };
    let find = |label: &str| marks.iter().find(|mark| mark.label == label);
    if let (Some(start), Some(end)) = (find("start"), find("end")) {
        let client = end.client.cpu_since(&start.client);
        let server = end.server.cpu_since(&start.server);
        add("cpu_client_s", client);
        add("cpu_server_s", server);
        add("socket_drops", end.drops - start.drops);
        let wire =
            end.relay.wire_up - start.relay.wire_up + end.relay.wire_down - start.relay.wire_down;
        if task.workload.is_lossy() {
            add("wire_bytes", wire);
        }
        if let Some(&bytes) = metrics.get("bytes") {
            let gib = bytes / (1_u64 << 30) as f64;
            metrics.insert("cpu_s_gib".into(), (client + server) / gib);
            metrics.insert("cpu_client_s_gib".into(), client / gib);
            metrics.insert("cpu_server_s_gib".into(), server / gib);
            if task.workload.is_lossy() {
                metrics.insert("wire_per_payload".into(), wire / bytes);
            }
        }
        if let Some(&trips) = metrics.get("round_trips") {
            metrics.insert("cpu_us_trip".into(), (client + server) / trips * 1e6);
        }
    }
    if task.workload == Workload::Sessions {
        sessions(task, &mut metrics, marks);
    }
    metrics
}

/// The sessions workload reads at `open-N` for each number N of sessions, then at `idle` and `echo`.
fn sessions(task: &Task, metrics: &mut Metrics, marks: &[Mark]) {
    let find = |label: &str| marks.iter().find(|mark| mark.label == label);
    let (Some(&fewest), Some(&most)) = (task.sessions.first(), task.sessions.last()) else {
        return;
    };
    let (Some(few), Some(many), Some(idle), Some(echo)) = (
        find(&format!("open-{fewest}")),
        find(&format!("open-{most}")),
        find("idle"),
        find("echo"),
    ) else {
        return;
    };
    for (what, from, to) in [("idle", many, idle), ("echo", idle, echo)] {
        let client = to.client.cpu_since(&from.client) / task.seconds * 100.0;
        let server = to.server.cpu_since(&from.server) / task.seconds * 100.0;
        metrics.insert(format!("{what}_cpu_client_pct"), client);
        metrics.insert(format!("{what}_cpu_server_pct"), server);
        metrics.insert(format!("{what}_cpu_pct"), client + server);
    }
    if most > fewest {
        let slope = |few: f64, many: f64| (many - few) / (most - fewest) as f64;
        let (client, server) = (
            slope(few.client.rss, many.client.rss),
            slope(few.server.rss, many.server.rss),
        );
        metrics.insert("kib_session_client".into(), client);
        metrics.insert("kib_session_server".into(), server);
    }
}
