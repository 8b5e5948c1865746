//! What the presets do on bad links: exact, because time and luck are simulated.
//!
//! The tables are committed. One changes only in a commit that says which cells moved and why:
//! `INSTA_UPDATE=always cargo test -p kcp-engine --test behaviour` writes them anew.

mod world;

use std::fmt::Write as _;
use std::time::Duration;

use kcp_engine::KcpConfig;
use kcp_netem::{Bitrate, Jitter, LinkConfig, Loss, Probability, Queue};

use world::{World, bulk, echo};

/// Virtual seconds of each measurement.
const SECONDS: u64 = 10;
const SEED: u64 = 1;

fn presets() -> [(&'static str, KcpConfig); 5] {
    [
        ("normal", KcpConfig::normal()),
        ("fast_mode", KcpConfig::fast_mode()),
        ("turbo_mode", KcpConfig::turbo_mode()),
        ("gaming", KcpConfig::gaming()),
        ("file_transfer", KcpConfig::file_transfer()),
    ]
}

/// A path with jitter of a tenth of its one-way delay, in order, 100 Mbit/s and a queue of 100 ms.
fn path(rtt_ms: u64, loss_percent: u32) -> LinkConfig {
    let delay = Duration::from_micros(rtt_ms * 500);
    let rate = Bitrate::mbit(100);
    LinkConfig::new()
        .delay(delay)
        .jitter(Jitter::Ordered(delay / 10))
        .loss(Loss::Bernoulli(Probability::percent(loss_percent)))
        .bottleneck(rate, Queue::Time(Duration::from_millis(100)))
}

/// Loss by round-trip time, for one preset.
fn table(config: &KcpConfig) -> String {
    let mut text = String::from(
        " rtt  loss |   KiB/s  wire/payload  resent |   p50     p99     max ms  answered\n",
    );
    for rtt in [10, 60, 200] {
        for loss in [0, 1, 5, 10, 20, 30] {
            let world = || World::new(config, 1, path(rtt, loss), SEED);
            let bulk = bulk(world(), SECONDS);
            let echo = echo(world(), SECONDS);
            let _ = writeln!(
                text,
                "{rtt:4}  {loss:3}% | {:7.1}  {:12.3}  {:5.1}% | {:5.1}  {:6.1}  {:6.1}     {:3}/{}",
                bulk.goodput[0] / 1_024.0,
                bulk.wire_per_payload,
                bulk.resent * 100.0,
                echo.p50,
                echo.p99,
                echo.max,
                echo.answered,
                echo.sent,
            );
        }
    }
    text
}

#[test]
fn normal() {
    insta::assert_snapshot!(table(&KcpConfig::normal()));
}

#[test]
fn fast_mode() {
    insta::assert_snapshot!(table(&KcpConfig::fast_mode()));
}

#[test]
fn turbo_mode() {
    insta::assert_snapshot!(table(&KcpConfig::turbo_mode()));
}

#[test]
fn gaming() {
    insta::assert_snapshot!(table(&KcpConfig::gaming()));
}

#[test]
fn file_transfer() {
    insta::assert_snapshot!(table(&KcpConfig::file_transfer()));
}

/// 1, 4 and 16 flows through 20 Mbit/s, 60 ms, no loss but the queue's: who gets what, and what it
/// costs. Fairness is Jain's index: 1 is equal shares, 1/n is all for one.
#[test]
fn shared_bottleneck() {
    let rate = Bitrate::mbit(20);
    let path = LinkConfig::new()
        .delay(Duration::from_millis(30))
        .bottleneck(rate, Queue::Time(Duration::from_millis(100)));
    let mut text =
        String::from("preset         flows |   KiB/s in all  fairness  wire/payload  resent\n");
    for (name, config) in presets() {
        for flows in [1, 4, 16] {
            let bulk = bulk(World::new(&config, flows, path, SEED), SECONDS);
            let total: f64 = bulk.goodput.iter().sum();
            let squares: f64 = bulk.goodput.iter().map(|rate| rate * rate).sum();
            let _ = writeln!(
                text,
                "{name:13}  {flows:5} | {:14.1}  {:8.3}  {:12.3}  {:5.1}%",
                total / 1_024.0,
                total * total / (flows as f64 * squares),
                bulk.wire_per_payload,
                bulk.resent * 100.0,
            );
        }
    }
    insta::assert_snapshot!(text);
}
