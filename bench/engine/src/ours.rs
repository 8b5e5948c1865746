//! The engine of KCP-Rust.

use std::sync::Arc;
use std::time::Duration;

use kcp_engine::{
    BufferPool, Conv, EngineOptions, FlushPolicy, Instant, KcpConfig, KcpEngine, NoDelay,
    Validation,
};
use oracle::Datagrams;

use crate::subject::{Engine, Flush, Settings};

/// Datagrams in a train: as many as fit into a GSO send.
const TRAIN: usize = 46;

/// [`KcpEngine`] as its users drive it: trains leave one after the other.
#[derive(Debug)]
pub(crate) struct Ours {
    engine: KcpEngine,
    output: Datagrams,
    flush: Flush,
}

impl Ours {
    pub(crate) fn new(settings: Settings, validation: Validation, pool: &Arc<BufferPool>) -> Self {
        let config = KcpConfig::new()
            .nodelay(NoDelay::Fast)
            .interval(Duration::from_millis(10))
            .fast_resend(2)
            .congestion_window(false)
            .window_size(settings.window, settings.window)
            .flush_policy(match settings.flush {
                Flush::Ticks => FlushPolicy::Interval,
                Flush::Packet => FlushPolicy::Immediate,
            });
        let options = EngineOptions {
            validation,
            pool: Arc::clone(pool),
            ..EngineOptions::default()
        };
        let engine = KcpEngine::new(Conv::new(1), &config, options);
        Self {
            engine: engine.expect("settings in range"),
            output: Datagrams::new(),
            flush: settings.flush,
        }
    }

    fn train(&mut self, now: Instant) -> bool {
        let engine = &mut self.engine;
        self.output.append_train(|bytes| {
            let train = engine.poll_transmit(now, bytes, TRAIN)?;
            Some(train.segment_size)
        })
    }
}

impl Engine for Ours {
    fn write(&mut self, message: &[u8]) {
        self.engine.send(message).expect("a message of a segment");
    }

    fn recv(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.engine.recv(buffer).ok()
    }

    fn input(&mut self, now: u64, datagram: &[u8]) {
        self.engine
            .input(Instant::from_micros(now), datagram)
            .expect("what an engine has sent");
    }

    fn tick(&mut self, now: u64) {
        self.engine.handle_timeout(Instant::from_micros(now));
        if self.flush == Flush::Packet {
            self.flush(now);
        }
    }

    fn flush(&mut self, now: u64) {
        while self.train(Instant::from_micros(now)) {}
    }

    fn drain(&mut self, now: u64) -> bool {
        self.train(Instant::from_micros(now))
    }

    fn wake(&mut self) -> Option<u64> {
        self.engine.poll_timeout().map(Instant::as_micros)
    }

    fn for_each_output(&self, visit: impl FnMut(&[u8])) {
        self.output.iter().for_each(visit);
    }

    fn clear(&mut self) {
        self.output.clear();
    }

    fn allocations() -> u64 {
        let stats = crate::ALLOCATOR.stats();
        (stats.allocations + stats.reallocations) as u64
    }
}
