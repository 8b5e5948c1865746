//! Two endpoints, each of them C and the engine side by side, and the link between them.

use std::panic::{self, AssertUnwindSafe};

use crate::{
    CKcp, Coverage, Damage, Datagrams, Op, Settings, Setup, Side, Step, Subject, Visible,
    coverage::{Arrival, BeforeFlush, distance},
    rng::mix,
    wire,
};

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct InTransit {
    /// Unique among the datagrams of its direction, rising in order of emission.
    pub id: u64,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// How the two sides of a comparison differed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The calls returned different codes.
    Result {
        /// Which call.
        call: &'static str,
        /// C's code.
        c: i32,
        /// The engine's code.
        ours: i32,
    },
    /// Different bytes were delivered, as one message.
    Message {
        /// C's bytes.
        c: Vec<u8>,
        /// The engine's bytes.
        ours: Vec<u8>,
    },
    /// Different datagrams left.
    Output {
        /// C's datagrams.
        c: Datagrams,
        /// The engine's datagrams.
        ours: Datagrams,
    },
    /// The visible state differs.
    State {
        /// C's state.
        c: Box<Visible>,
        /// The engine's state.
        ours: Box<Visible>,
    },
    /// C sent something before the moment at which the engine wants to be called.
    EarlyOutput {
        /// That moment, microseconds; `None` if the engine said it was idle.
        deadline_us: Option<u64>,
        /// What C sent.
        c: Datagrams,
    },
    /// Under Immediate something should leave now, but the engine does not flush.
    Missed {
        /// What there is to send.
        cause: &'static str,
    },
    /// The engine says that it is idle, but C still has something to do.
    Asleep {
        /// C's state.
        c: Box<Visible>,
    },
    /// The engine panicked.
    Panic {
        /// What it said.
        message: String,
    },
    /// Right after an update the engine wants another at once: a driver would spin.
    Spin {
        /// The moment it names, microseconds.
        deadline_us: u64,
    },
}

impl Difference {
    /// The kind in one word, to recognise the same failure in a shrunk script.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Result { .. } => "result",
            Self::Message { .. } => "message",
            Self::Output { .. } => "output",
            Self::State { .. } => "state",
            Self::EarlyOutput { .. } => "early output",
            Self::Missed { .. } => "missed flush",
            Self::Asleep { .. } => "idleness",
            Self::Panic { .. } => "panic",
            Self::Spin { .. } => "spin",
        }
    }
}

/// One endpoint, twice.
#[derive(Debug)]
struct End<S> {
    core: CKcp,
    ours: S,
    settings: Settings,
    /// Bytes offered to send so far: where the pattern of the next message starts.
    offered: u64,
    /// What the engine said last about its next update.
    deadline: Option<Option<u64>>,
}

/// The whole comparison in progress.
#[derive(Debug)]
pub struct World<S> {
    conv: u32,
    now_us: u64,
    ends: [End<S>; 2],
    /// Datagrams towards A and towards B.
    transit: [Vec<InTransit>; 2],
    emitted: u64,
    coverage: Coverage,
    scratch: Scratch,
}

/// Buffers kept from step to step.
#[derive(Debug, Default)]
struct Scratch {
    payload: Vec<u8>,
    received: [Vec<u8>; 2],
    arriving: Vec<u8>,
    /// Whether this step's datagram went in.
    arrived: bool,
    output: Datagrams,
    idle: Vec<Vec<u8>>,
}

impl<S: Subject> World<S> {
    /// Both endpoints as `setup` says, before their first update.
    pub fn new(setup: &Setup) -> Self {
        let end = |settings: &Settings| End {
            core: settings.make_core(setup.conv, setup.first_sn),
            ours: S::create(setup.conv, settings, setup.first_sn),
            settings: settings.clone(),
            offered: 0,
            deadline: None,
        };
        Self {
            conv: setup.conv,
            now_us: setup.start_us,
            ends: [end(&setup.ends[0]), end(&setup.ends[1])],
            transit: [Vec::new(), Vec::new()],
            emitted: 0,
            coverage: Coverage {
                scripts: 1,
                ..Coverage::default()
            },
            scratch: Scratch::default(),
        }
    }

    /// Carries out one step on C and on the engine, and compares them.
    ///
    /// # Errors
    ///
    /// The first difference. The world is of no use after it.
    pub fn step(&mut self, step: &Step) -> Result<(), Difference> {
        panic::catch_unwind(AssertUnwindSafe(|| self.try_step(step))).unwrap_or_else(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            let message = text.unwrap_or("without a message").to_owned();
            Err(Difference::Panic { message })
        })
    }

    fn try_step(&mut self, step: &Step) -> Result<(), Difference> {
        let before_us = self.now_us;
        self.now_us += step.after_us;
        let index = step.side.index();
        if let Op::Lose { pick } = step.op {
            self.take(index, pick, false);
            return Ok(());
        }
        self.coverage.steps += 1;
        self.scratch.arrived = false;
        let old = self.ends[index].core.visible();
        match &step.op {
            Op::Send(len) => self.send(index, *len, false)?,
            Op::Write(len) => self.send(index, *len, true)?,
            Op::Recv(room) => self.recv(index, *room, false)?,
            Op::Peek(room) => self.recv(index, *room, true)?,
            Op::Deliver { pick, keep, damage } => self.deliver(index, *pick, *keep, *damage)?,
            Op::Inject(bytes) => {
                self.scratch.arriving.clear();
                self.scratch.arriving.extend_from_slice(bytes);
                self.input(index)?;
            }
            Op::Lose { .. } => {}
            Op::Update => self.update(index)?,
            Op::Flush => self.ends[index].ours.request_flush(),
            Op::Ask => {
                self.ends[index].core.ask();
                self.ends[index].ours.ask();
                self.coverage.asked += 1;
            }
            Op::Mtu(_) | Op::Windows(..) | Op::Interval(_) => self.reconfigure(index, &step.op),
        }
        self.compare_state(index)?;
        self.check_moment(index, &step.op, &old)?;
        // Undrained, an engine need not know yet what it wants.
        self.ends[index].deadline = None;
        if !step.hold || step.op == Op::Update {
            self.drain(index)?;
            self.compare_state(index)?;
            let end = &mut self.ends[index];
            end.deadline = end.ours.deadline();
            if end.deadline == Some(None) && !is_idle(&end.core.visible()) {
                let c = Box::new(end.core.visible());
                return Err(Difference::Asleep { c });
            }
            if let (Op::Update, Some(Some(deadline_us))) = (&step.op, end.deadline)
                && deadline_us <= self.now_us
            {
                return Err(Difference::Spin { deadline_us });
            }
        }
        let end = &self.ends[index];
        let clock = (end.millis(before_us), end.millis(self.now_us));
        self.coverage.wraps(&old, &end.core.visible(), clock);
        Ok(())
    }

    /// The virtual time, microseconds.
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Datagrams on their way to `side`.
    pub fn transit(&self, side: Side) -> &[InTransit] {
        &self.transit[side.index()]
    }

    /// The datagram that arrived last, at either endpoint, as it arrived.
    pub fn last_arrival(&self) -> &[u8] {
        &self.scratch.arriving
    }

    /// The settings in force at an endpoint.
    pub const fn settings(&self, side: Side) -> &Settings {
        &self.ends[side.index()].settings
    }

    /// The C side of an endpoint.
    pub const fn core(&self, side: Side) -> &CKcp {
        &self.ends[side.index()].core
    }

    /// What the engine of `side` said last about its next update.
    pub const fn deadline(&self, side: Side) -> Option<Option<u64>> {
        self.ends[side.index()].deadline
    }

    /// What happened so far.
    pub const fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    fn send(&mut self, index: usize, len: u32, write: bool) -> Result<(), Difference> {
        let end = &mut self.ends[index];
        let payload = &mut self.scratch.payload;
        fill(
            payload,
            end.offered + (index as u64) * (1 << 40),
            len as usize,
        );
        end.offered += u64::from(len);
        let queued = end.core.visible().nsnd_que;
        let (call, c, ours) = if write {
            ("write", end.core.write(payload), end.ours.write(payload))
        } else {
            ("send", end.core.send(payload), end.ours.send(payload))
        };
        same_result(call, c, ours)?;
        self.coverage.write += u64::from(write);
        self.coverage.send += u64::from(!write && c >= 0);
        self.coverage.send_too_long += u64::from(c < 0);
        self.coverage.send_partial += u64::from(c >= 0 && c.cast_unsigned() < len);
        let mss = i64::from(end.core.mss());
        let added = end.core.visible().nsnd_que - queued;
        self.coverage.stream_append += u64::from(c > 0 && added * mss < i64::from(c));
        Ok(())
    }

    fn recv(&mut self, index: usize, room: u32, peek: bool) -> Result<(), Difference> {
        let end = &mut self.ends[index];
        let ready = end.core.visible();
        let [theirs, mine] = &mut self.scratch.received;
        for buffer in [&mut *theirs, &mut *mine] {
            buffer.clear();
            buffer.resize(room as usize, 0xa5);
        }
        same_result("peek_size", end.core.peek_size(), end.ours.peek_size())?;
        let (call, c, ours) = if peek {
            ("peek", end.core.peek(theirs), end.ours.peek(mine))
        } else {
            ("recv", end.core.recv(theirs), end.ours.recv(mine))
        };
        same_result(call, c, ours)?;
        match (c, peek) {
            (-1, _) => self.coverage.recv_empty += 1,
            (-2, _) => self.coverage.recv_incomplete += 1,
            (..0, _) => self.coverage.recv_small += 1,
            (_, true) => self.coverage.peek += 1,
            (_, false) => {
                let state = end.core.visible();
                let taken = ready.nrcv_que + ready.nrcv_buf - state.nrcv_que - state.nrcv_buf;
                self.coverage.messages += 1;
                self.coverage.fragmented_messages += u64::from(taken > 1);
                self.coverage.empty_messages += u64::from(c == 0);
                self.coverage.fast_recover += u64::from(state.probe & !ready.probe != 0);
            }
        }
        if theirs != mine {
            return Err(Difference::Message {
                c: theirs.clone(),
                ours: mine.clone(),
            });
        }
        Ok(())
    }

    /// Takes the datagram at `pick` into `scratch.arriving`; false when there is none.
    fn take(&mut self, index: usize, pick: u32, keep: bool) -> bool {
        let pool = &mut self.transit[index];
        let arriving = &mut self.scratch.arriving;
        if pool.is_empty() {
            return false;
        }
        let at = pick as usize % pool.len();
        arriving.clear();
        if keep {
            arriving.extend_from_slice(&pool[at].bytes);
        } else {
            let mut taken = pool.remove(at).bytes;
            std::mem::swap(arriving, &mut taken);
            self.scratch.idle.push(taken);
        }
        true
    }

    fn deliver(
        &mut self,
        index: usize,
        pick: u32,
        keep: bool,
        damage: Damage,
    ) -> Result<(), Difference> {
        if !self.take(index, pick, keep) {
            return Ok(());
        }
        let follower = match damage {
            Damage::Join => self.transit[index].first().map(|next| &next.bytes[..]),
            _ => None,
        };
        apply(damage, &mut self.scratch.arriving, follower);
        self.input(index)
    }

    /// Hands `scratch.arriving` to both sides.
    fn input(&mut self, index: usize) -> Result<(), Difference> {
        let end = &mut self.ends[index];
        let datagram = &self.scratch.arriving;
        let old = end.core.visible();
        let current = end.millis(self.now_us);
        if is_half_a_clock_away(datagram, current) {
            self.coverage.skipped += 1;
            return Ok(());
        }
        self.scratch.arrived = true;
        end.core.set_current(current);
        let result = end.core.input(datagram);
        let ours = end.ours.input(self.now_us, datagram);
        let arrival = Arrival {
            datagram,
            conv: self.conv,
            current,
            result,
        };
        self.coverage
            .input(&old, &end.core, &end.settings, &arrival);
        same_result("input", result, ours)
    }

    fn update(&mut self, index: usize) -> Result<(), Difference> {
        let end = &mut self.ends[index];
        let current = end.millis(self.now_us);
        let next_tick = end.core.next_tick();
        let flushes = self
            .coverage
            .tick(next_tick, current, end.settings.interval);
        let before = BeforeFlush::look(&end.core, &end.settings, current);
        end.core.update(current);
        if flushes {
            self.coverage
                .flush(&before, &end.core, &end.settings, end.core.output());
        }
        end.ours.update(self.now_us);
        if let Some(deadline_us) = end.deadline
            && deadline_us.is_none_or(|deadline_us| deadline_us > self.now_us)
        {
            if !end.core.output().is_empty() {
                let c = end.core.output().clone();
                return Err(Difference::EarlyOutput { deadline_us, c });
            }
            self.coverage.deadline_silent += 1;
            self.coverage.deadline_idle += u64::from(deadline_us.is_none());
        }
        // The engine may build the tick's datagrams when they are asked for, so they are
        // compared before anything else happens.
        self.drain(index)
    }

    /// Changes a setting on both sides.
    fn reconfigure(&mut self, index: usize, op: &Op) {
        let End {
            core,
            ours,
            settings,
            ..
        } = &mut self.ends[index];
        match *op {
            Op::Mtu(mtu) if core.is_safe_mtu(mtu) => {
                settings.mtu = mtu;
                core.set_mtu(mtu);
                ours.set_mtu(mtu);
                self.coverage.set_mtu += 1;
            }
            Op::Windows(send, receive) => {
                (settings.send_window, settings.receive_window) = (send, receive);
                core.set_windows(send, receive);
                ours.set_windows(send, receive);
                self.coverage.set_windows += 1;
            }
            Op::Interval(interval) => {
                settings.interval = interval;
                core.set_interval(interval);
                ours.set_interval(interval);
                self.coverage.set_interval += 1;
            }
            _ => {}
        }
    }

    /// Lets both sides emit what is due, compares it and puts one copy on the link.
    fn drain(&mut self, index: usize) -> Result<(), Difference> {
        let end = &mut self.ends[index];
        if end.ours.is_flush_due() {
            let current = end.millis(self.now_us);
            end.core.set_current(current);
            let before = BeforeFlush::look(&end.core, &end.settings, current);
            if end.core.is_started() {
                end.core.flush();
            } else {
                // protocol.md 9.1: under Immediate the first drain starts the clock.
                end.core.update(current);
            }
            if end.settings.immediate {
                self.coverage.flush_immediate += 1;
            } else {
                self.coverage.flush_asked += 1;
            }
            self.coverage
                .flush(&before, &end.core, &end.settings, end.core.output());
        }
        let ours = &mut self.scratch.output;
        ours.clear();
        end.ours.drain(self.now_us, ours);
        let c = end.core.output();
        if c != ours {
            return Err(Difference::Output {
                c: c.clone(),
                ours: ours.clone(),
            });
        }
        for datagram in c.iter() {
            let mut bytes = self.scratch.idle.pop().unwrap_or_default();
            bytes.clear();
            bytes.extend_from_slice(datagram);
            self.coverage.datagrams += 1;
            self.coverage.bytes += bytes.len() as u64;
            self.transit[1 - index].push(InTransit {
                id: self.emitted,
                bytes,
            });
            self.emitted += 1;
        }
        end.core.clear_output();
        Ok(())
    }

    /// Whether the engine flushes when it should under Immediate (protocol.md 7.6), by what C's
    /// state says after the step.
    fn check_moment(&mut self, index: usize, op: &Op, old: &Visible) -> Result<(), Difference> {
        let End {
            core,
            ours,
            settings,
            ..
        } = &self.ends[index];
        if !settings.immediate || ours.is_flush_due() {
            return Ok(());
        }
        let new = core.visible();
        let cause = match op {
            Op::Send(_) | Op::Write(_) if new.nsnd_que > old.nsnd_que => "a write",
            Op::Recv(_) if new.probe > old.probe => "a WINS",
            _ if !self.scratch.arrived => return Ok(()),
            _ if new.ackcount > 0 => "an ACK",
            _ if new.probe > 0 => "a WINS",
            _ => {
                let opened = new.snd_una != old.snd_una || new.rmt_wnd > old.rmt_wnd;
                let mut limit = new.rmt_wnd.min(settings.send_window.into());
                if !settings.no_window {
                    limit = limit.min(new.cwnd);
                }
                let flying = distance(new.snd_nxt as u32, new.snd_una as u32);
                if opened && new.nsnd_que > 0 && i64::from(flying) < limit {
                    "an opened window"
                } else if core.has_fast_resend() {
                    "an overtaken segment"
                } else {
                    self.coverage.moment_quiet += 1;
                    return Ok(());
                }
            }
        };
        Err(Difference::Missed { cause })
    }

    fn compare_state(&self, index: usize) -> Result<(), Difference> {
        let end = &self.ends[index];
        let (c, ours) = (end.core.visible(), end.ours.visible());
        if c == ours {
            Ok(())
        } else {
            Err(Difference::State {
                c: Box::new(c),
                ours: Box::new(ours),
            })
        }
    }
}

impl<S> End<S> {
    /// The clock as it goes on the wire.
    const fn millis(&self, now_us: u64) -> u32 {
        ((now_us / 1_000) as u32).wrapping_add(self.settings.ts_offset)
    }
}

/// Whether C needs no update ever again, unless something happens (protocol.md 9.3).
const fn is_idle(c: &Visible) -> bool {
    let unsent = c.nsnd_que + c.nsnd_buf + c.ackcount + c.probe;
    unsent == 0 && c.rmt_wnd > 0
}

/// Whether an ACK echoes a time about 2^31 ms from now. For C, such a time is after some of the
/// segments in flight and before others that were sent earlier: the comparison turns round
/// between them. Our engine takes times in flight to be in order (protocol.md 5.3, 14), so
/// these, which no peer sends and `Strict` refuses, are out of the comparison.
fn is_half_a_clock_away(datagram: &[u8], current: u32) -> bool {
    let opposite = current ^ 1 << 31;
    wire::headers(datagram).any(|header| {
        header.cmd == wire::ACK && distance(header.ts, opposite).unsigned_abs() < 1 << 24
    })
}

const fn same_result(call: &'static str, c: i32, ours: i32) -> Result<(), Difference> {
    if c == ours {
        Ok(())
    } else {
        Err(Difference::Result { call, c, ours })
    }
}

/// Fills `payload` with `len` bytes of a pattern that is different everywhere.
fn fill(payload: &mut Vec<u8>, start: u64, len: usize) {
    payload.clear();
    let mut word = start;
    while payload.len() < len {
        payload.extend_from_slice(&mix(word).to_le_bytes());
        word += 8;
    }
    payload.truncate(len);
}

/// Does to `datagram` what the link did.
fn apply(damage: Damage, datagram: &mut Vec<u8>, follower: Option<&[u8]>) {
    match damage {
        Damage::None => {}
        Damage::Flip(bit) => {
            let bit = bit as usize % (datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        Damage::Cut(size) => datagram.truncate(size as usize % datagram.len()),
        Damage::Pad(size) => datagram.resize(datagram.len() + size as usize, 0x5a),
        Damage::Patch {
            segment,
            field,
            value,
        } => {
            let count = wire::headers(datagram).count();
            let chosen = wire::headers(datagram).nth(segment as usize % count.max(1));
            if let Some(header) = chosen {
                wire::patch(datagram, header.at, field, value);
            }
        }
        Damage::Join => datagram.extend_from_slice(follower.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;

    /// protocol.md 14: the one kind of ACK that is kept from both sides.
    #[test]
    fn times_half_a_clock_away_are_left_out() {
        let now = 5_000_u32;
        for (cmd, ts, out) in [
            (wire::ACK, now ^ 1 << 31, true),
            (wire::ACK, now.wrapping_sub(70_000) ^ 1 << 31, true),
            (wire::ACK, now.wrapping_add(1 << 30), false),
            (wire::ACK, now, false),
            (wire::PUSH, now ^ 1 << 31, false),
        ] {
            let mut datagram = vec![0; wire::HEADER];
            wire::patch(&mut datagram, 0, Field::Cmd, cmd.into());
            wire::patch(&mut datagram, 0, Field::Ts, ts);
            assert_eq!(is_half_a_clock_away(&datagram, now), out, "{cmd} {ts}");
        }
    }
}
