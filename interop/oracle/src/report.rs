//! What to print when something differs.

use std::fmt::{self, Write as _};

use crate::{Datagrams, Difference, Failure, InFlight, Script, Visible, wire::Decoded};

/// Segments in flight shown with a difference.
const SHOWN_SEGMENTS: usize = 40;

/// Steps shown before the one that failed.
const SHOWN_STEPS: usize = 12;

/// A failure with everything needed to look into it.
#[derive(Debug)]
pub struct Report<'a> {
    /// The seed whose script failed.
    pub seed: u64,
    /// The script as the seed made it.
    pub script: &'a Script,
    /// Where and how it failed.
    pub failure: &'a Failure,
    /// The same failure in as few steps as were found, and how they fail.
    pub shrunk: Option<(&'a Script, &'a Failure)>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            script,
            failure,
            ..
        } = self;
        writeln!(
            f,
            "seed {seed}: {} differs at step {}",
            failure.difference.kind(),
            failure.at
        )?;
        for settings in &script.setup.ends {
            writeln!(f, "  {settings:?}")?;
        }
        let from = failure.at.saturating_sub(SHOWN_STEPS);
        for (at, step) in script
            .steps
            .iter()
            .enumerate()
            .take(failure.at + 1)
            .skip(from)
        {
            writeln!(f, "  {at:>6}: {}", shorten(&step.to_string()))?;
        }
        write!(f, "{failure}")?;
        writeln!(
            f,
            "replay: cd interop && cargo run --release -p oracle -- --replay {seed}"
        )?;
        let Some((script, failure)) = &self.shrunk else {
            return Ok(());
        };
        writeln!(
            f,
            "\nshrunk to {} steps (save and pass as --script FILE):",
            script.steps.len()
        )?;
        writeln!(f, "{script}{failure}")
    }
}

/// The difference, and what C had in flight before it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  last arrival {}", Decoded(&self.arrived))?;
        write!(f, "{}", self.difference)?;
        for segment in self.in_flight.iter().take(SHOWN_SEGMENTS) {
            let InFlight {
                sn,
                ts,
                resendts,
                rto,
                fastack,
                xmit,
            } = segment;
            write!(f, "  C had sn={sn} ts={ts} resendts={resendts} rto={rto} ")?;
            writeln!(f, "fastack={fastack} xmit={xmit}")?;
        }
        let more = self.in_flight.len().saturating_sub(SHOWN_SEGMENTS);
        if more > 0 {
            writeln!(f, "  and {more} more in flight")
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Result { call, c, ours } => {
                writeln!(f, "  {call} returned {c} in C and {ours} in ours")
            }
            Self::Message { c, ours } => {
                let at = c.iter().zip(ours).position(|(c, ours)| c != ours);
                writeln!(f, "  messages differ, first at byte {at:?}")?;
                writeln!(f, "  C    {}", hex(c))?;
                writeln!(f, "  ours {}", hex(ours))
            }
            Self::Output { c, ours } => {
                writeln!(f, "  datagrams differ")?;
                datagrams(f, "C   ", c)?;
                datagrams(f, "ours", ours)
            }
            Self::State { c, ours } => states(f, c, ours),
            Self::EarlyOutput { deadline_us, c } => {
                writeln!(
                    f,
                    "  ours asked for {deadline_us:?} us, but C sent before that"
                )?;
                datagrams(f, "C   ", c)
            }
            Self::Asleep { c } => writeln!(f, "  ours is idle, C is not: {c:?}"),
            Self::Panic { message } => writeln!(f, "  ours panicked: {message}"),
            Self::Missed { cause } => writeln!(f, "  ours does not flush after {cause}"),
            Self::Spin { deadline_us } => {
                writeln!(f, "  ours asks for {deadline_us} us right after its update")
            }
        }
    }
}

fn states(f: &mut fmt::Formatter<'_>, c: &Visible, ours: &Visible) -> fmt::Result {
    writeln!(f, "  state differs")?;
    for (name, c, ours) in c.differences(ours) {
        writeln!(f, "  {name:>12}: C {c}, ours {ours}")?;
    }
    writeln!(f, "  all of C: {c:?}")
}

fn datagrams(f: &mut fmt::Formatter<'_>, name: &str, all: &Datagrams) -> fmt::Result {
    if all.is_empty() {
        writeln!(f, "  {name} (none)")?;
    }
    for datagram in all.iter() {
        writeln!(f, "  {name} {}", Decoded(datagram))?;
    }
    Ok(())
}

/// The first bytes in hexadecimal, and how many there are.
fn hex(bytes: &[u8]) -> String {
    let mut text = format!("{} bytes ", bytes.len());
    for byte in bytes.iter().take(24) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A line cut to a readable length.
fn shorten(line: &str) -> String {
    if line.len() <= 160 {
        line.to_owned()
    } else {
        format!("{}...", &line[..160])
    }
}
