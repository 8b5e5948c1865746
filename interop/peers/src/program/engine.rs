//! Our engine under the same pump as the C core: tells the engine's faults from those of
//! the layer above it.

use std::time::Duration;

use kcp_engine::{Conv, EngineOptions, Instant, KcpEngine};

use super::pump::Core;
use super::settings::Mode;

/// Datagrams taken from the engine at a time.
const TRAIN: usize = 16;

/// `kcp-engine` alone.
pub(crate) struct Engine {
    engine: KcpEngine,
    out: Vec<u8>,
}

impl Core for Engine {
    fn new(conv: u32, mode: Mode) -> Self {
        let config = super::ours::config(mode);
        // Any fixed offset will do: nobody forges here, but the wrap is on the way.
        let options = EngineOptions {
            ts_offset: 0xffff_ff00,
            ..EngineOptions::default()
        };
        let engine =
            KcpEngine::new(Conv::new(conv), &config, options).expect("the settings are in range");
        Self {
            engine,
            out: Vec::new(),
        }
    }

    fn send(&mut self, data: &[u8]) {
        let sent = self.engine.send(data);
        if sent != Ok(data.len()) {
            eprintln!("send of {} bytes: {sent:?}", data.len());
        }
    }

    fn input(&mut self, now: Duration, datagram: &[u8]) {
        if let Err(error) = self.engine.input(instant(now), datagram) {
            eprintln!("input of {} bytes: {error:?}", datagram.len());
        }
    }

    fn update(&mut self, now: Duration, mut output: impl FnMut(&[u8])) {
        let now = instant(now);
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
        }
        while let Some(train) = self.engine.poll_transmit(now, &mut self.out, TRAIN) {
            self.out.chunks(train.segment_size).for_each(&mut output);
            self.out.clear();
        }
    }

    fn recv(&mut self) -> Option<Vec<u8>> {
        let mut data = vec![0; self.engine.peek_size()?];
        let length = self.engine.recv(&mut data).ok()?;
        data.truncate(length);
        Some(data)
    }

    fn waiting(&self) -> usize {
        self.engine.wait_snd()
    }

    fn stats(&self) -> String {
        format!("{:?}", self.engine.stats())
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(now.as_micros() as u64)
}
