//! `kcp ping`: round trips, like ping(8).

use std::time::Duration;

use kcp_async::KcpStream;
use serde::Serialize;
use tokio::time::Instant;

use super::Output;
use super::rounds::{From, Round, Rounds, RoundsError, Schedule, close};
use crate::error::{Failure, Kind};
use crate::latency::{Latencies, Summary};
use crate::net::{self, Transport};
use crate::report;
use crate::signal::Interrupt;

/// What `ping` needs to know.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) peer: String,
    pub(crate) count: Option<u64>,
    pub(crate) interval: Duration,
    pub(crate) size: usize,
    pub(crate) timeout: Duration,
    pub(crate) transport: Transport,
    pub(crate) output: Output,
}

#[derive(Debug, Serialize)]
struct PingReport<'a> {
    peer: &'a str,
    preset: &'static str,
    payload_bytes: usize,
    sent: u64,
    answered: u64,
    seconds: f64,
    rtt_ms: Option<Summary>,
    error: Option<String>,
}

/// Pings until the count is reached, the peer is lost, or a signal; then prints the summary.
pub(crate) async fn run(options: Options, interrupt: &Interrupt) -> Result<(), Failure> {
    let mut stream = net::connect(&options.peer, &options.transport).await?;
    header(&options, &stream);
    let started = Instant::now();
    let mut rounds = Rounds::new(options.size);
    let mut latencies = Latencies::new();
    let schedule = Schedule {
        first: started,
        every: options.interval,
        count: options.count,
        drain: options.timeout,
        from: From::Sent,
    };
    let end = {
        let (reader, writer) = stream.split();
        let on_round = |round: Round| {
            latencies.record(round.time);
            line(&options, round);
        };
        tokio::select! {
            end = rounds.drive(reader, writer, schedule, on_round) => end,
            () = interrupt.raised() => Ok(()),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let result = judge(&options, &rounds, end);
    summary(
        &options,
        &rounds,
        seconds,
        latencies.summary(),
        result.as_ref().err(),
    )?;
    if rounds.answered() > 0 {
        close(stream).await;
    }
    result
}

fn header(options: &Options, stream: &KcpStream) {
    if !options.output.json && !options.output.quiet {
        options.output.console.result(&format!(
            "KCP PING {} ({}): {} bytes, preset {}",
            options.peer,
            stream.peer_addr(),
            options.size,
            options.transport.preset,
        ));
    }
}

fn line(options: &Options, round: Round) {
    if !options.output.json && !options.output.quiet {
        options.output.console.result(&format!(
            "{} bytes from {}: seq={} time={}",
            options.size,
            options.peer,
            round.number,
            report::milliseconds(round.time.as_secs_f64() * 1e3),
        ));
    }
}

fn judge(options: &Options, rounds: &Rounds, end: Result<(), RoundsError>) -> Result<(), Failure> {
    let peer = &options.peer;
    let answered = rounds.answered() > 0;
    match end {
        Ok(()) if answered || rounds.sent() == 0 => Ok(()),
        Ok(()) => Err(Failure::new(Kind::Absent, format!("no answer from {peer}"))),
        Err(RoundsError::Io(error)) => Err(net::stream_failure(peer, answered, &error)),
        Err(RoundsError::Eof) if answered => Err(Failure::new(
            Kind::Lost,
            format!("lost {peer}: it closed the stream"),
        )),
        Err(RoundsError::Eof) => Err(Failure::new(
            Kind::Refused,
            format!("{peer} closed the stream without an answer"),
        )),
        Err(RoundsError::Mismatch { number }) => Err(Failure::new(
            Kind::Mismatch,
            format!("answer {number} of {peer} is not what was sent"),
        )),
    }
}

fn summary(
    options: &Options,
    rounds: &Rounds,
    seconds: f64,
    times: Option<Summary>,
    failure: Option<&Failure>,
) -> Result<(), Failure> {
    let (sent, answered) = (rounds.sent(), rounds.answered());
    if options.output.json {
        return report::print_json(&PingReport {
            peer: &options.peer,
            preset: options.transport.preset,
            payload_bytes: options.size,
            sent,
            answered,
            seconds,
            rtt_ms: times,
            error: failure.map(ToString::to_string),
        });
    }
    let missing = (sent - answered) as f64 / sent.max(1) as f64;
    let mut text = format!(
        "\n--- {} kcp ping statistics ---\n{sent} sent, {answered} answered, {} unanswered, {seconds:.1} s\n",
        options.peer,
        report::percent(missing),
    );
    if let Some(times) = times {
        let Summary {
            min,
            mean,
            p50,
            p90,
            p99,
            max,
            ..
        } = times;
        let cells = [min, mean, p50, p90, p99, max]
            .map(|ms| format!("{ms:.3}"))
            .join("/");
        text.push_str(&format!("rtt min/avg/p50/p90/p99/max = {cells} ms\n"));
    }
    report::print(&text)
}
