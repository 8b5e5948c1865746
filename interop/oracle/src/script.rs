//! What a run does: the setting of both endpoints and a list of steps, with a text form.
//!
//! A script is complete: it replays without the generator that made it. Steps name
//! datagrams by their place among those in transit, modulo their number, so that a script
//! from which steps were removed is still a script.

use std::{error, fmt, str::FromStr};

/// One of the two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Endpoint 0.
    A,
    /// Endpoint 1.
    B,
}

impl Side {
    /// Both endpoints.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// 0 or 1.
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The endpoint at the other end of the link.
    pub const fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The settings with which an endpoint begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// 0, 1 or 2.
    pub nodelay: u8,
    /// Tick, ms.
    pub interval: u32,
    /// Fast-resend threshold, 0 = off.
    pub resend: u32,
    /// Transmissions up to which fast resend applies, 0 = always.
    pub fast_limit: u32,
    /// Whether the congestion window is off.
    pub no_window: bool,
    /// Send window, segments.
    pub send_window: u32,
    /// Receive window, segments.
    pub receive_window: u32,
    /// Largest datagram, bytes.
    pub mtu: u32,
    /// Stream mode.
    pub stream: bool,
    /// Whether writes, windows and acknowledgements flush at once.
    pub immediate: bool,
    /// Transmissions at which the dead-link flag is set.
    pub dead_link: u32,
    /// Added to the clock on the wire, ms.
    pub ts_offset: u32,
}

/// Where a script starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Conversation id.
    pub conv: u32,
    /// The clock at the first step, microseconds.
    pub start_us: u64,
    /// First sequence number, of both directions.
    pub first_sn: u32,
    /// Settings of endpoints A and B.
    pub ends: [Settings; 2],
}

/// One thing that happens at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Time since the step before, microseconds.
    pub after_us: u64,
    /// Where it happens.
    pub side: Side,
    /// What happens.
    pub op: Op,
    /// Whether outputs are left undrained until a later step (one receive batch).
    pub hold: bool,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sends one message of that many bytes.
    Send(u32),
    /// Writes that many bytes as a stream, in pieces of at most one segment.
    Write(u32),
    /// Receives into a buffer of that many bytes.
    Recv(u32),
    /// Peeks into a buffer of that many bytes, at least 1.
    Peek(u32),
    /// Hands in a datagram in transit.
    Deliver {
        /// Its place, modulo the number in transit.
        pick: u32,
        /// Whether it stays in transit, to arrive again.
        keep: bool,
        /// What the link did to it.
        damage: Damage,
    },
    /// Hands in these bytes.
    Inject(Vec<u8>),
    /// Removes a datagram on its way to this side. Not counted as a step.
    Lose {
        /// Its place, modulo the number in transit.
        pick: u32,
    },
    /// Calls update with the time.
    Update,
    /// Asks for a flush at once, whatever the policy.
    Flush,
    /// Asks the peer for a sign of life.
    Ask,
    /// Changes the mtu; nothing happens if C could not bear it.
    Mtu(u32),
    /// Changes the send and the receive window.
    Windows(u32, u32),
    /// Changes the interval, ms.
    Interval(u32),
}

/// What happens to a datagram on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    None,
    /// One bit changes: this one, modulo the size.
    Flip(u32),
    /// Only this many bytes arrive, modulo the size.
    Cut(u32),
    /// This many bytes of rubbish follow.
    Pad(u32),
    /// A header field of one segment is overwritten.
    Patch {
        /// Which segment, modulo their number.
        segment: u32,
        /// Which field.
        field: Field,
        /// The new value, truncated to the field's width.
        value: u32,
    },
    /// The first datagram in transit follows in the same datagram.
    Join,
}

/// A field of the segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the wire format")]
pub enum Field {
    Conv,
    Cmd,
    Frg,
    Wnd,
    Ts,
    Sn,
    Una,
    Len,
}

impl Field {
    /// All fields in wire order.
    pub const ALL: [Self; 8] = [
        Self::Conv,
        Self::Cmd,
        Self::Frg,
        Self::Wnd,
        Self::Ts,
        Self::Sn,
        Self::Una,
        Self::Len,
    ];

    /// The field's bytes within the header.
    pub const fn range(self) -> std::ops::Range<usize> {
        match self {
            Self::Conv => 0..4,
            Self::Cmd => 4..5,
            Self::Frg => 5..6,
            Self::Wnd => 6..8,
            Self::Ts => 8..12,
            Self::Sn => 12..16,
            Self::Una => 16..20,
            Self::Len => 20..24,
        }
    }
}

/// A setup and what happens from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Where it starts.
    pub setup: Setup,
    /// What happens.
    pub steps: Vec<Step>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup {
            conv,
            start_us,
            first_sn,
            ends,
        } = &self.setup;
        writeln!(f, "setup {conv} {start_us} {first_sn}")?;
        for s in ends {
            writeln!(
                f,
                "end {} {} {} {} {} {} {} {} {} {} {} {}",
                s.nodelay,
                s.interval,
                s.resend,
                s.fast_limit,
                u8::from(s.no_window),
                s.send_window,
                s.receive_window,
                s.mtu,
                u8::from(s.stream),
                u8::from(s.immediate),
                s.dead_link,
                s.ts_offset
            )?;
        }
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::A => 'a',
            Side::B => 'b',
        };
        write!(f, "{} {side} ", self.after_us)?;
        match &self.op {
            Op::Send(len) => write!(f, "send {len}")?,
            Op::Write(len) => write!(f, "write {len}")?,
            Op::Recv(room) => write!(f, "recv {room}")?,
            Op::Peek(room) => write!(f, "peek {room}")?,
            Op::Deliver { pick, keep, damage } => {
                write!(f, "deliver {pick} {}", if *keep { "copy" } else { "move" })?;
                match damage {
                    Damage::None => {}
                    Damage::Flip(bit) => write!(f, " flip {bit}")?,
                    Damage::Cut(size) => write!(f, " cut {size}")?,
                    Damage::Pad(size) => write!(f, " pad {size}")?,
                    Damage::Patch {
                        segment,
                        field,
                        value,
                    } => {
                        write!(f, " patch {segment} {field:?} {value}")?;
                    }
                    Damage::Join => write!(f, " join")?,
                }
            }
            Op::Inject(bytes) => {
                write!(f, "inject ")?;
                for byte in bytes {
                    write!(f, "{byte:02x}")?;
                }
            }
            Op::Lose { pick } => write!(f, "lose {pick}")?,
            Op::Update => write!(f, "update")?,
            Op::Flush => write!(f, "flush")?,
            Op::Ask => write!(f, "ask")?,
            Op::Mtu(mtu) => write!(f, "mtu {mtu}")?,
            Op::Windows(send, receive) => write!(f, "windows {send} {receive}")?,
            Op::Interval(interval) => write!(f, "interval {interval}")?,
        }
        if self.hold {
            write!(f, " hold")
        } else {
            Ok(())
        }
    }
}

/// A line of a script that could not be read.
#[derive(Debug)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a script line: {}", self.0)
    }
}

impl error::Error for ScriptError {}

/// The words of one line, taken one by one.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn number<T: FromStr>(&mut self) -> Option<T> {
        self.word()?.parse().ok()
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.number::<u8>()? != 0)
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let error = |line: &str| ScriptError(line.to_owned());
        let mut head = None;
        let mut ends = Vec::new();
        let mut steps = Vec::new();
        for line in text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        {
            let mut words = Words(line.split_whitespace());
            let done = if let Some(rest) = line.strip_prefix("setup ") {
                words = Words(rest.split_whitespace());
                head = read_setup(&mut words);
                head.is_some()
            } else if let Some(rest) = line.strip_prefix("end ") {
                words = Words(rest.split_whitespace());
                read_settings(&mut words)
                    .map(|end| ends.push(end))
                    .is_some()
            } else {
                read_step(&mut words).map(|step| steps.push(step)).is_some()
            };
            if !done || words.word().is_some() {
                return Err(error(line));
            }
        }
        let (conv, start_us, first_sn) = head.ok_or_else(|| error("no setup"))?;
        let ends = ends.try_into().map_err(|_| error("not two ends"))?;
        Ok(Self {
            setup: Setup {
                conv,
                start_us,
                first_sn,
                ends,
            },
            steps,
        })
    }
}

fn read_setup(words: &mut Words<'_>) -> Option<(u32, u64, u32)> {
    Some((words.number()?, words.number()?, words.number()?))
}

fn read_settings(words: &mut Words<'_>) -> Option<Settings> {
    Some(Settings {
        nodelay: words.number()?,
        interval: words.number()?,
        resend: words.number()?,
        fast_limit: words.number()?,
        no_window: words.flag()?,
        send_window: words.number()?,
        receive_window: words.number()?,
        mtu: words.number()?,
        stream: words.flag()?,
        immediate: words.flag()?,
        dead_link: words.number()?,
        ts_offset: words.number()?,
    })
}

fn read_step(words: &mut Words<'_>) -> Option<Step> {
    let after_us = words.number()?;
    let side = match words.word()? {
        "a" => Side::A,
        "b" => Side::B,
        _ => return None,
    };
    let mut last = None;
    let op = match words.word()? {
        "send" => Op::Send(words.number()?),
        "write" => Op::Write(words.number()?),
        "recv" => Op::Recv(words.number()?),
        "peek" => Op::Peek(words.number()?),
        "lose" => Op::Lose {
            pick: words.number()?,
        },
        "update" => Op::Update,
        "flush" => Op::Flush,
        "ask" => Op::Ask,
        "mtu" => Op::Mtu(words.number()?),
        "windows" => Op::Windows(words.number()?, words.number()?),
        "interval" => Op::Interval(words.number()?),
        "inject" => Op::Inject(read_hex(words.word()?)?),
        "deliver" => {
            let pick = words.number()?;
            let keep = match words.word()? {
                "copy" => true,
                "move" => false,
                _ => return None,
            };
            last = words.word();
            let damage = match last {
                Some("flip") => Damage::Flip(words.number()?),
                Some("cut") => Damage::Cut(words.number()?),
                Some("pad") => Damage::Pad(words.number()?),
                Some("join") => Damage::Join,
                Some("patch") => Damage::Patch {
                    segment: words.number()?,
                    field: read_field(words.word()?)?,
                    value: words.number()?,
                },
                _ => Damage::None,
            };
            if damage != Damage::None {
                last = None;
            }
            Op::Deliver { pick, keep, damage }
        }
        _ => return None,
    };
    let hold = match last.or_else(|| words.word()) {
        Some("hold") => true,
        None => false,
        Some(_) => return None,
    };
    Some(Step {
        after_us,
        side,
        op,
        hold,
    })
}

fn read_field(name: &str) -> Option<Field> {
    Field::ALL
        .into_iter()
        .find(|field| format!("{field:?}") == name)
}

fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_survives_its_text_form() {
        let end = Settings {
            nodelay: 1,
            interval: 10,
            resend: 2,
            fast_limit: 5,
            no_window: true,
            send_window: 32,
            receive_window: 128,
            mtu: 1400,
            stream: false,
            immediate: true,
            dead_link: 20,
            ts_offset: 9,
        };
        let mut ops = vec![
            Op::Send(5),
            Op::Write(6),
            Op::Recv(7),
            Op::Peek(8),
            Op::Inject(vec![0, 0xff, 7]),
            Op::Lose { pick: 3 },
            Op::Update,
            Op::Flush,
            Op::Ask,
            Op::Mtu(9),
            Op::Windows(1, 128),
            Op::Interval(4),
        ];
        for damage in [
            Damage::None,
            Damage::Flip(3),
            Damage::Cut(4),
            Damage::Pad(5),
            Damage::Join,
            Damage::Patch {
                segment: 1,
                field: Field::Una,
                value: u32::MAX,
            },
        ] {
            ops.push(Op::Deliver {
                pick: 1,
                keep: true,
                damage,
            });
            ops.push(Op::Deliver {
                pick: 2,
                keep: false,
                damage,
            });
        }
        let steps = ops
            .into_iter()
            .flat_map(|op| {
                [(Side::A, true), (Side::B, false)].map(|(side, hold)| Step {
                    after_us: 12,
                    side,
                    op: op.clone(),
                    hold,
                })
            })
            .collect();
        let setup = Setup {
            conv: 1,
            start_us: 2,
            first_sn: 3,
            ends: [end.clone(), end],
        };
        let script = Script { setup, steps };
        assert_eq!(script.to_string().parse::<Script>().unwrap(), script);
        assert!("setup 1 2".parse::<Script>().is_err());
        assert!("1 a dance".parse::<Script>().is_err());
    }
}
