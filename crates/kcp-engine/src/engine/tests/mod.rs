//! Scripts that read like packet traces: what goes in, when, and exactly what comes out.
//!
//! Each test names the section of `docs/protocol.md` that it proves.

mod ack;
mod close;
mod flush;
mod hardening;
mod pair;
mod receive;
mod restart;
mod send;
mod timing;
mod una;
mod validation;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{EngineOptions, KcpEngine, Role};
use crate::config::{FlushPolicy, KcpConfig, NoDelay, Validation};
use crate::segment::{Command, KcpHeader, segments};
use crate::seq::{Conv, Sn, WireTs};
use crate::time::Instant;
use core::time::Duration;

pub(super) const CONV: Conv = Conv::new(0x1122_3344);

/// C's manners as most tests want them: nodelay(0, 10, 0, 1), so that no window but the configured
/// ones applies.
pub(super) fn plain() -> KcpConfig {
    KcpConfig::new()
        .interval(Duration::from_millis(10))
        .congestion_window(false)
}

/// nodelay(1, 10, 2, 1).
pub(super) fn fast() -> KcpConfig {
    plain().nodelay(NoDelay::Fast).fast_resend(2)
}

/// One engine under a script.
pub(super) struct Script {
    pub(super) engine: KcpEngine,
    now: Instant,
}

impl Script {
    /// An engine that believes everything, as C does, updated for the first time at 0 ms.
    #[track_caller]
    pub(super) fn as_c(config: &KcpConfig) -> Self {
        Self::with(
            config,
            EngineOptions {
                validation: Validation::AsC,
                ..Default::default()
            },
        )
    }

    /// A connecting engine as the async layer makes it.
    #[track_caller]
    pub(super) fn strict(config: &KcpConfig) -> Self {
        Self::with(config, EngineOptions::default())
    }

    /// An accepted engine as the async layer makes it.
    #[track_caller]
    pub(super) fn accepted(config: &KcpConfig) -> Self {
        Self::with(
            config,
            EngineOptions {
                role: Role::Accepted,
                ..Default::default()
            },
        )
    }

    #[track_caller]
    pub(super) fn with(config: &KcpConfig, options: EngineOptions) -> Self {
        let engine = KcpEngine::new(CONV, config, options).unwrap();
        let mut script = Self {
            engine,
            now: Instant::ZERO,
        };
        script.engine.handle_timeout(Instant::ZERO);
        script.silent();
        script
    }

    /// Moves the clock without telling the engine.
    pub(super) fn at(&mut self, ms: u64) -> &mut Self {
        self.now = Instant::from_millis(ms);
        self
    }

    /// Moves the clock and updates (C: `ikcp_update`).
    pub(super) fn tick(&mut self, ms: u64) -> &mut Self {
        self.at(ms);
        self.engine.handle_timeout(self.now);
        self
    }

    #[track_caller]
    pub(super) fn send(&mut self, message: &[u8]) -> &mut Self {
        self.engine.send(message).unwrap();
        self
    }

    /// One datagram arrives.
    #[track_caller]
    pub(super) fn input(&mut self, parts: &[Seg]) -> &mut Self {
        self.input_raw(&datagram(parts));
        self
    }

    pub(super) fn input_raw(&mut self, bytes: &[u8]) {
        let _ = self.engine.input(self.now, bytes);
    }

    /// Everything that leaves now, a line per datagram.
    pub(super) fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut bytes = Vec::new();
        while self.engine.poll_transmit(self.now, &mut bytes, 1).is_some() {
            lines.push(render(&bytes));
            bytes.clear();
        }
        lines
    }

    /// Exactly these datagrams leave now.
    #[track_caller]
    pub(super) fn sends(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(self.drain(), expected);
        self
    }

    /// Nothing leaves now.
    #[track_caller]
    pub(super) fn silent(&mut self) -> &mut Self {
        self.sends(&[])
    }

    /// The next deadline, in ms.
    pub(super) fn deadline(&mut self) -> Option<u64> {
        self.engine.poll_timeout().map(Instant::as_millis)
    }

    pub(super) fn recv(&mut self) -> Result<Vec<u8>, crate::RecvError> {
        let mut buffer = [0; 4_096];
        let n = self.engine.recv(&mut buffer)?;
        Ok(buffer[..n].to_vec())
    }
}

/// A segment to feed in. Window 128, everything else 0 unless said otherwise.
#[derive(Clone)]
pub(super) struct Seg {
    header: KcpHeader,
    payload: Vec<u8>,
}

pub(super) fn seg(command: Command, sn: u32) -> Seg {
    let header = KcpHeader {
        conv: CONV,
        cmd: command.to_wire(),
        frg: 0,
        wnd: 128,
        ts: WireTs::new(0),
        sn: Sn::new(sn),
        una: Sn::new(0),
        len: 0,
    };
    Seg {
        header,
        payload: Vec::new(),
    }
}

pub(super) fn push(sn: u32, payload: &[u8]) -> Seg {
    Seg {
        payload: payload.to_vec(),
        ..seg(Command::Push, sn)
    }
}

pub(super) fn ack(sn: u32, ts: u32) -> Seg {
    seg(Command::Ack, sn).ts(ts)
}

impl Seg {
    pub(super) fn ts(mut self, ts: u32) -> Self {
        self.header.ts = WireTs::new(ts);
        self
    }

    pub(super) fn una(mut self, una: u32) -> Self {
        self.header.una = Sn::new(una);
        self
    }

    pub(super) fn wnd(mut self, wnd: u16) -> Self {
        self.header.wnd = wnd;
        self
    }

    pub(super) fn frg(mut self, frg: u8) -> Self {
        self.header.frg = frg;
        self
    }
}

pub(super) fn datagram(parts: &[Seg]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Seg { header, payload } in parts {
        let header = KcpHeader {
            len: payload.len() as u32,
            ..*header
        };
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// A datagram as text: segments joined by ` | `, fields that are 0 (and a window of 128) left out.
fn render(bytes: &[u8]) -> String {
    let line: Vec<_> = segments(bytes)
        .map(|segment| {
            let header = segment.unwrap().header;
            assert_eq!(header.conv, CONV);
            let mut text = match header.command().unwrap() {
                Command::Push => "PUSH".to_string(),
                Command::Ack => "ACK".to_string(),
                Command::Wask => "WASK".to_string(),
                Command::Wins => "WINS".to_string(),
                Command::Fin => "FIN".to_string(),
                Command::Rst => "RST".to_string(),
            };
            text += &format!(" {}", header.sn.get());
            let frg = if header.frg >= 0xA0 {
                0
            } else {
                u32::from(header.frg)
            };
            for (name, value) in [
                ("frg", frg),
                ("ts", header.ts.get()),
                ("una", header.una.get()),
                ("len", header.len),
            ] {
                if value != 0 {
                    text += &format!(" {name}={value}");
                }
            }
            if header.wnd != 128 {
                text += &format!(" wnd={}", header.wnd);
            }
            text
        })
        .collect();
    line.join(" | ")
}
