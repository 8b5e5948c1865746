//! One engine and a hostile network.

use std::sync::Arc;
use std::time::Duration;

use kcp_engine::{
    BufferPool, Conv, EngineOptions, FlushPolicy, IKCP_OVERHEAD, Instant, KcpConfig, KcpEngine,
    KcpHeader, NoDelay, Role, Sn, Validation,
};

use super::bytes::Bytes;

pub const CONV: Conv = Conv::new(0x1122_3344);

/// A config and options drawn from the input.
pub fn draw_engine(bytes: &mut Bytes<'_>, role: Role) -> KcpEngine {
    let flags = bytes.u8();
    let preset = match flags & 3 {
        0 => KcpConfig::normal(),
        1 => KcpConfig::turbo_mode(),
        2 => KcpConfig::gaming(),
        _ => KcpConfig::file_transfer(),
    };
    let config = preset
        .nodelay(if flags & 4 == 0 {
            NoDelay::Off
        } else {
            NoDelay::Linear
        })
        .flush_policy(if flags & 8 == 0 {
            FlushPolicy::Interval
        } else {
            FlushPolicy::Immediate
        })
        .stream_mode(flags & 16 != 0)
        .mtu(50 + usize::from(bytes.u8()) * 8)
        .send_window(1 + u32::from(bytes.u8()));
    let first_sn = match flags >> 5 {
        0 => Sn::new(u32::MAX - 3),
        1 => Sn::new(i32::MAX as u32),
        _ => Sn::ZERO,
    };
    let options = EngineOptions {
        role,
        validation: if flags & 32 == 0 {
            Validation::Strict
        } else {
            Validation::AsC
        },
        ts_offset: bytes.u32(),
        first_sn,
        pool: Arc::new(BufferPool::with_limits([8; 4])),
    };
    KcpEngine::new(CONV, &config, options).expect("every drawn setting is in range")
}

/// Checks what holds after any call.
pub fn check(engine: &KcpEngine) {
    let stats = engine.stats();
    let window = engine.config().receive_window_segments() as usize;
    let held = 2 * window * engine.config().mtu_bytes().max(1_500);
    assert!(stats.unread_bytes <= held + 65_536, "{stats:?}");
    let _ = (
        engine.peek_size(),
        engine.has_readable(),
        engine.fin_state(),
    );
    let _ = (
        engine.fault(),
        engine.silent_since(),
        engine.max_message_size(),
    );
}

/// Sends everything that is due; a spin is a failure.
pub fn drain(engine: &mut KcpEngine, now: Instant, out: &mut Vec<u8>) {
    for rounds in 0.. {
        assert!(rounds < 10_000, "draining does not end");
        if engine.poll_transmit(now, out, 16).is_none() {
            return;
        }
    }
}

/// Segments built from the input with plausible fields, datagrams of raw bytes, and the
/// application's calls in between.
pub fn engine(data: &[u8]) {
    let mut bytes = Bytes(data);
    let role = if bytes.u8() & 1 == 0 {
        Role::Accepted
    } else {
        Role::Connecting
    };
    let mut engine = draw_engine(&mut bytes, role);
    let mut now = Instant::from_millis(u64::from(bytes.u32()));
    let mut out = Vec::new();
    while !bytes.is_empty() {
        match bytes.u8() % 12 {
            0 => {
                let len = usize::from(bytes.u8());
                let _ = engine.input(now, bytes.take(len));
            }
            1..=5 => {
                let datagram = draw_datagram(&mut bytes);
                let _ = engine.input(now, &datagram);
            }
            6 => {
                let _ = engine.send(bytes.take(2_000));
            }
            7 => {
                let _ = engine.write(&vec![7; usize::from(bytes.u16()) % 20_000]);
            }
            8 => {
                let mut buffer = vec![0; usize::from(bytes.u16())];
                let _ = engine.recv(&mut buffer);
                let _ = engine.read(&mut buffer);
            }
            9 => {
                now += Duration::from_millis(u64::from(bytes.u16()));
                engine.handle_timeout(now);
            }
            10 => match bytes.u8() % 6 {
                0 => engine.finish(),
                1 => engine.keepalive(),
                2 => engine.request_flush(),
                3 => drop(engine.set_mtu(usize::from(bytes.u16()))),
                4 => drop(engine.set_windows(bytes.u16().into(), bytes.u16().into())),
                _ => drop(engine.set_interval(Duration::from_millis(bytes.u16().into()))),
            },
            _ => {
                out.clear();
                drain(&mut engine, now, &mut out);
            }
        }
        check(&engine);
    }
    // Left alone, the clock must get somewhere: every deadline lies ahead once it was served.
    for _ in 0..200 {
        out.clear();
        drain(&mut engine, now, &mut out);
        let Some(next) = engine.poll_timeout() else {
            return;
        };
        let before = now;
        now = now.max(next);
        engine.handle_timeout(now);
        drain(&mut engine, now, &mut out);
        let after = engine.poll_timeout();
        assert!(
            after.is_none_or(|after| after > before),
            "the deadline stands still"
        );
    }
}

/// One to four segments with fields near those that matter.
fn draw_datagram(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut datagram = Vec::new();
    for _ in 0..=bytes.u8() % 4 {
        let near = |bytes: &mut Bytes<'_>| match bytes.u8() {
            255 => bytes.u32(),
            small => u32::from(small).wrapping_sub(8),
        };
        let payload = usize::from(bytes.u8());
        let header = KcpHeader {
            conv: CONV,
            cmd: 81 + bytes.u8() % 7,
            frg: bytes.u8(),
            wnd: bytes.u16(),
            ts: kcp_engine::WireTs::new(near(bytes)),
            sn: Sn::new(near(bytes)),
            una: Sn::new(near(bytes)),
            len: payload as u32,
        };
        datagram.extend_from_slice(&header.to_bytes());
        datagram.resize(datagram.len() + payload, 0xAA);
    }
    debug_assert!(datagram.len() >= IKCP_OVERHEAD);
    datagram
}
