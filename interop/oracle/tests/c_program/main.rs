//! C's own test program (`test.cpp`) in virtual time: C and our engine on the same links.
//!
//! 8 bytes every 20 ms, an echo, 1,001 answers, in the program's three modes. The table is
//! committed beside this file, and exact; it changes only in a commit that says why:
//! `UPDATE_TABLE=1 cargo test -p oracle --test c_program` writes it anew.

mod link;
mod run;
mod table;

use std::{env, fs, thread};

use kcp_engine::{FlushPolicy, KcpConfig, Role};
use oracle::{HonestC, Ours, Settings, Subject};

use run::{Driver, Outcome, run};
use table::Row;

/// A mode of the program.
struct Mode {
    name: &'static str,
    nodelay: u8,
    /// Fast-resend thresholds of both ends: the program writes 1 over the first one's.
    resend: [u32; 2],
    no_window: bool,
    /// What it writes to the first end's `rx_minrto`. Our engine has no such knob.
    min_rto: Option<u32>,
}

const MODES: [Mode; 3] = [
    Mode {
        name: "default",
        nodelay: 0,
        resend: [0, 0],
        no_window: false,
        min_rto: None,
    },
    Mode {
        name: "normal",
        nodelay: 0,
        resend: [0, 0],
        no_window: true,
        min_rto: None,
    },
    Mode {
        name: "fast",
        nodelay: 2,
        resend: [1, 2],
        no_window: true,
        min_rto: Some(10),
    },
];

impl Mode {
    fn settings(&self) -> [Settings; 2] {
        self.resend.map(|resend| Settings {
            nodelay: self.nodelay,
            interval: 10,
            resend,
            fast_limit: 5,
            no_window: self.no_window,
            send_window: 128,
            receive_window: 128,
            mtu: 1_400,
            stream: false,
            immediate: false,
            dead_link: 20,
            ts_offset: 0,
        })
    }

    /// C, driven as the program drives it.
    fn c(&self, seed: u64) -> Outcome {
        let mut ends = self
            .settings()
            .map(|settings| HonestC::create(CONV, &settings, 0));
        if let Some(min_rto) = self.min_rto {
            ends[0].core_mut().set_min_rto(min_rto);
        }
        run(ends, Driver::EachMillisecond, seed)
    }

    /// Our engine in C's place.
    fn ours_as_c(&self, seed: u64) -> Outcome {
        let ends = self
            .settings()
            .map(|settings| Ours::create(CONV, &settings, 0));
        run(ends, Driver::EachMillisecond, seed)
    }

    /// Our engine as its users get it, with the mode's settings.
    fn ours(&self, policy: FlushPolicy, driver: Driver, seed: u64) -> Outcome {
        let config = |settings: Settings| settings.to_config().flush_policy(policy);
        strict(self.settings().map(config), driver, seed)
    }

    fn rows(&self) -> Vec<Row> {
        let c: Vec<_> = seeds().map(|seed| self.c(seed)).collect();
        for (seed, c) in seeds().zip(&c) {
            assert!(
                self.ours_as_c(seed) == *c,
                "{}, seed {seed}: not what C does",
                self.name
            );
        }
        let row = |who, policy, driver| {
            let runs: Vec<_> = seeds()
                .map(|seed| self.ours(policy, driver, seed))
                .collect();
            Row::new(self.name, who, &runs, Some(&c))
        };
        let (interval, immediate) = (FlushPolicy::Interval, FlushPolicy::Immediate);
        vec![
            Row::new(self.name, "C", &c, None),
            row("ours in C's loop", interval, Driver::EachMillisecond),
            row("ours", interval, Driver::Turns),
            row("ours, Immediate", immediate, Driver::Turns),
            row("ours, each write", interval, Driver::EachWrite),
            row("ours, Immediate, each write", immediate, Driver::EachWrite),
        ]
    }
}

/// Two engines as their users get them.
fn strict(configs: [KcpConfig; 2], driver: Driver, seed: u64) -> Outcome {
    let roles = [Role::Connecting, Role::Accepted];
    let ends = [0, 1].map(|end| Ours::strict(CONV, &configs[end], roles[end]));
    run(ends, driver, seed)
}

/// The presets for messages as kcp-async drives them, for what a user of it gets.
fn preset_rows() -> Vec<Row> {
    [
        ("normal()", KcpConfig::normal()),
        ("fast_mode()", KcpConfig::fast_mode()),
        ("turbo_mode()", KcpConfig::turbo_mode()),
        ("gaming()", KcpConfig::gaming()),
    ]
    .into_iter()
    .map(|(name, config)| {
        let run = |seed| strict([config.clone(), config.clone()], Driver::EachWrite, seed);
        Row::new("presets", name, &seeds().map(run).collect::<Vec<_>>(), None)
    })
    .collect()
}

const fn seeds() -> std::ops::Range<u64> {
    0..200
}

/// `ikcp_create(0x11223344, ...)`.
const CONV: u32 = 0x1122_3344;

/// In every mode our engine under `Validation::AsC` sends what C sends, datagram by datagram and
/// millisecond by millisecond, and what users get does as the table says.
#[test]
fn the_scenario_of_c_s_own_test_program() {
    let rows: Vec<Row> = thread::scope(|scope| {
        let presets = scope.spawn(preset_rows);
        let modes = MODES.each_ref().map(|mode| scope.spawn(|| mode.rows()));
        modes
            .into_iter()
            .chain([presets])
            .flat_map(|rows| rows.join().expect("no run fails"))
            .collect()
    });
    let text = table::render(&rows);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c_program/table.txt");
    if env::var_os("UPDATE_TABLE").is_some() {
        fs::write(path, &text).expect("the table can be written");
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        text == committed,
        "the table has changed; it was\n{committed}\nand is\n{text}"
    );
}
