//! Many runs as lines of text.

use std::{cmp::Ordering, fmt::Write as _};

use crate::run::Outcome;

/// What the runs of one kind came to.
pub(crate) struct Row {
    mode: &'static str,
    who: &'static str,
    runs: u64,
    /// Of all round trips of all runs.
    rtt: Spread,
    /// Runs with a lower and with a higher average than C's on the same link; `None` for C itself.
    versus_c: Option<[usize; 2]>,
    datagrams: u64,
    bytes: u64,
    pushes: u64,
    resent: u64,
    in_vain: u64,
    /// What the program prints of each run.
    printed: [Spread; 4],
}

impl Row {
    /// `c` are C's runs on the same links.
    pub(crate) fn new(
        mode: &'static str,
        who: &'static str,
        runs: &[Outcome],
        c: Option<&[Outcome]>,
    ) -> Self {
        let total = |what: fn(&crate::link::Carried) -> u64| {
            runs.iter().flat_map(|run| &run.carried).map(what).sum()
        };
        let spread = |what: fn(&Outcome) -> u64| Spread::of(runs.iter().map(what));
        Self {
            mode,
            who,
            runs: runs.len() as u64,
            rtt: Spread::of(runs.iter().flat_map(|run| &run.rtts).map(|&rtt| rtt.into())),
            versus_c: c.map(|c| {
                let order = |wanted| {
                    let pairs = runs.iter().zip(c);
                    pairs
                        .filter(|(run, c)| run.sum().cmp(&c.sum()) == wanted)
                        .count()
                };
                [order(Ordering::Less), order(Ordering::Greater)]
            }),
            datagrams: total(|carried| carried.datagrams),
            bytes: total(|carried| carried.bytes),
            pushes: total(|carried| carried.pushes),
            resent: total(|carried| carried.resent),
            in_vain: total(|carried| carried.in_vain),
            printed: [
                spread(|run| run.total.into()),
                spread(|run| run.sum() / run.rtts.len() as u64),
                spread(|run| run.max().into()),
                spread(|run| run.carried[0].datagrams),
            ],
        }
    }
}

/// Numbers in order.
struct Spread(Vec<u64>);

impl Spread {
    fn of(numbers: impl Iterator<Item = u64>) -> Self {
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        Self(numbers)
    }

    fn mean(&self) -> f64 {
        self.0.iter().sum::<u64>() as f64 / self.0.len() as f64
    }

    /// The smallest number that `percent` of them do not exceed.
    fn percentile(&self, percent: usize) -> u64 {
        self.0[(self.0.len() * percent).div_ceil(100).max(1) - 1]
    }
}

/// Both tables.
pub(crate) fn render(rows: &[Row]) -> String {
    let runs = rows[0].runs;
    let mut text = format!(
        "{runs} seeds, 1,001 answers each. Round trips in ms, of all answers. Time, datagrams, bytes of UDP payload and
segments sent again: mean of a run, both directions. In vain: sent again, and arrived twice. Better, worse: seeds
with a lower, a higher average than C's. Each write: datagrams leave after each arrival and each write, as in
kcp-async, and not once a turn; the presets too.

mode     who                         |    avg    p50    p99    max | time ms | datagrams     KiB | resent        in vain      | better worse
"
    );
    for row in rows {
        let Row { mode, who, rtt, .. } = row;
        let mean = |sum: u64| sum as f64 / row.runs as f64;
        let percent = |part: u64| part as f64 * 100.0 / row.pushes as f64;
        let _ = write!(
            text,
            "{mode:8} {who:27} | {:6.1} {:6} {:6} {:6} | {:7.0} | {:9.1} {:7.1} | {:5.1} {:5.1}%  {:5.1} {:4.1}% |",
            rtt.mean(),
            rtt.percentile(50),
            rtt.percentile(99),
            rtt.percentile(100),
            row.printed[0].mean(),
            mean(row.datagrams),
            mean(row.bytes) / 1_024.0,
            mean(row.resent),
            percent(row.resent),
            mean(row.in_vain),
            percent(row.in_vain),
        );
        if let Some([better, worse]) = row.versus_c {
            let _ = write!(text, " {better:6} {worse:5}");
        }
        text.push('\n');
    }
    text.push_str(
        "
What the program prints of a run (tx: datagrams of the asking side), least to most.

mode     who                         |  total ms      |  avgrtt ms  |  maxrtt ms   | tx
",
    );
    for row in rows {
        let Row { mode, who, .. } = row;
        let [total, avg, max, sent] = row
            .printed
            .each_ref()
            .map(|spread| (spread.percentile(0), spread.percentile(100)));
        let _ = writeln!(
            text,
            "{mode:8} {who:27} | {:6} - {:5} | {:4} - {:4} | {:4} - {:5} | {:4} - {:4}",
            total.0, total.1, avg.0, avg.1, max.0, max.1, sent.0, sent.1,
        );
    }
    text
}
