//! What all worlds together have done.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kcp_netem::LinkStats;

use crate::plan::Class;

/// One world.
#[derive(Debug)]
pub(crate) struct Seed {
    pub(crate) class: Class,
    pub(crate) virtual_time: Duration,
    pub(crate) wire_bytes: u64,
    pub(crate) verified: u64,
    pub(crate) completed: u64,
    pub(crate) ended_early: u64,
    pub(crate) outages: u64,
    pub(crate) late: u64,
    pub(crate) dropped_corrupt: u64,
    pub(crate) link: LinkStats,
    pub(crate) unproven: u64,
    pub(crate) fullest_budget: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    classes: BTreeMap<Class, Row>,
    link: LinkStats,
    outages: u64,
    late: u64,
    dropped_corrupt: u64,
    unproven: u64,
    fullest_budget: u64,
}

#[derive(Debug, Default)]
struct Row {
    seeds: u64,
    virtual_time: Duration,
    wire_bytes: u64,
    verified: u64,
    completed: u64,
    ended_early: u64,
}

impl Report {
    pub(crate) fn add(&mut self, seed: &Seed) {
        let row = self.classes.entry(seed.class).or_default();
        row.seeds += 1;
        row.virtual_time += seed.virtual_time;
        row.wire_bytes += seed.wire_bytes;
        row.verified += seed.verified;
        row.completed += seed.completed;
        row.ended_early += seed.ended_early;
        self.link += seed.link;
        self.outages += seed.outages;
        self.late += seed.late;
        self.dropped_corrupt += seed.dropped_corrupt;
        self.unproven += seed.unproven;
        self.fullest_budget = self.fullest_budget.max(seed.fullest_budget);
    }

    pub(crate) fn seeds(&self) -> u64 {
        self.classes.values().map(|row| row.seeds).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:>7} {:>13} {:>11} {:>11} {:>9} {:>11}",
            "world", "seeds", "virtual hours", "MiB checked", "MiB on wire", "sides", "ended early"
        )?;
        let mut sum = Row::default();
        for (class, row) in &self.classes {
            line(f, &format!("{class:?}"), row)?;
            sum.seeds += row.seeds;
            sum.virtual_time += row.virtual_time;
            sum.wire_bytes += row.wire_bytes;
            sum.verified += row.verified;
            sum.completed += row.completed;
            sum.ended_early += row.ended_early;
        }
        line(f, "all", &sum)?;
        writeln!(
            f,
            "links: {} datagrams, {} lost, {} too many for a queue, {} too long, {} cut off, \
             {} duplicated, {} overtaken, {} corrupt and dropped",
            self.link.offered,
            self.link.dropped_loss,
            self.link.dropped_queue,
            self.link.dropped_mtu,
            self.link.dropped_partition,
            self.link.duplicated,
            self.link.reordered,
            self.dropped_corrupt
        )?;
        write!(
            f,
            "{} outages recovered from in time; {} ends of data arrived whose acknowledgement never \
             did; {} sessions spoke before the peer's proof, and used up to {} % of their budget",
            self.outages, self.late, self.unproven, self.fullest_budget
        )
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, row: &Row) -> fmt::Result {
    writeln!(
        f,
        "{name:<8} {:>7} {:>13.1} {:>11} {:>11} {:>9} {:>11}",
        row.seeds,
        row.virtual_time.as_secs_f64() / 3_600.0,
        row.verified >> 20,
        row.wire_bytes >> 20,
        row.completed,
        row.ended_early
    )
}
