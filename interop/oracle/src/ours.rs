//! Our engine as the subject of the comparison.

use std::{sync::Arc, time::Duration};

use kcp_engine::{
    BufferPool, ClassicState, Conv, EngineOptions, FlushPolicy, InputError, Instant, KcpConfig,
    KcpEngine, NoDelay, RecvError, Role, SendError, Sn, Validation,
};

use crate::{Datagrams, Settings, Subject, Visible};

/// [`KcpEngine`]; as a [`Subject`] made under [`Validation::AsC`].
#[derive(Debug)]
pub struct Ours {
    engine: KcpEngine,
    /// Drains so far, to vary how many datagrams are asked for at once.
    drains: usize,
}

/// Datagrams asked for per train, in turn.
const TRAINS: [usize; 4] = [1, 64, 2, usize::MAX];

impl Ours {
    /// The engine as its users get it, under [`Validation::Strict`]: for measuring it beside C,
    /// not for comparing bytes.
    ///
    /// # Panics
    ///
    /// If a setting of `config` is out of its range.
    pub fn strict(conv: u32, config: &KcpConfig, role: Role) -> Self {
        let options = EngineOptions {
            role,
            ..EngineOptions::default()
        };
        Self::new(conv, config, options)
    }

    fn new(conv: u32, config: &KcpConfig, options: EngineOptions) -> Self {
        let engine = KcpEngine::new(Conv::new(conv), config, options);
        Self {
            engine: engine.expect("settings in range"),
            drains: 0,
        }
    }
}

impl Settings {
    /// The same settings for our engine.
    pub const fn to_config(&self) -> KcpConfig {
        KcpConfig::new()
            .nodelay(match self.nodelay {
                0 => NoDelay::Off,
                1 => NoDelay::Fast,
                _ => NoDelay::Linear,
            })
            .interval(Duration::from_millis(self.interval as u64))
            .fast_resend(self.resend)
            .fast_resend_limit(self.fast_limit)
            .congestion_window(!self.no_window)
            .window_size(self.send_window, self.receive_window)
            .mtu(self.mtu as usize)
            .stream_mode(self.stream)
            .flush_policy(if self.immediate {
                FlushPolicy::Immediate
            } else {
                FlushPolicy::Interval
            })
            .dead_link(self.dead_link)
    }
}

impl Subject for Ours {
    fn create(conv: u32, settings: &Settings, first_sn: u32) -> Self {
        let options = EngineOptions {
            // The accepting side is the one that hardening would restrain.
            role: Role::Accepted,
            validation: Validation::AsC,
            ts_offset: settings.ts_offset,
            first_sn: Sn::new(first_sn),
            pool: Arc::new(BufferPool::new()),
        };
        Self::new(conv, &settings.to_config(), options)
    }

    fn send(&mut self, data: &[u8]) -> i32 {
        sent(self.engine.send(data))
    }

    fn write(&mut self, data: &[u8]) -> i32 {
        sent(self.engine.write(data))
    }

    fn recv(&mut self, buffer: &mut [u8]) -> i32 {
        received(self.engine.recv(buffer))
    }

    fn peek(&mut self, buffer: &mut [u8]) -> i32 {
        received(self.engine.peek(buffer))
    }

    fn peek_size(&self) -> i32 {
        self.engine.peek_size().map_or(-1, code)
    }

    fn input(&mut self, now_us: u64, datagram: &[u8]) -> i32 {
        match self.engine.input(Instant::from_micros(now_us), datagram) {
            Ok(()) => 0,
            Err(InputError::TooShort | InputError::WrongConv) => -1,
            Err(InputError::BadLength) => -2,
            Err(InputError::UnknownCommand) => -3,
            Err(other) => panic!("C has no result for {other:?}"),
        }
    }

    fn update(&mut self, now_us: u64) {
        self.engine.handle_timeout(Instant::from_micros(now_us));
    }

    fn request_flush(&mut self) {
        self.engine.request_flush();
    }

    fn ask(&mut self) {
        self.engine.keepalive();
    }

    fn hold_acks(&mut self) {
        self.engine.hold_acks();
    }

    fn release_acks(&mut self) {
        self.engine.release_acks();
    }

    fn set_mtu(&mut self, mtu: u32) {
        self.engine.set_mtu(mtu as usize).expect("an mtu in range");
    }

    fn set_windows(&mut self, send: u32, receive: u32) {
        self.engine
            .set_windows(send, receive)
            .expect("windows in range");
    }

    fn set_interval(&mut self, interval: u32) {
        let interval = Duration::from_millis(interval.into());
        self.engine
            .set_interval(interval)
            .expect("an interval in range");
    }

    fn is_flush_due(&self) -> bool {
        self.engine.is_flush_due()
    }

    fn drain(&mut self, now_us: u64, output: &mut Datagrams) {
        let now = Instant::from_micros(now_us);
        self.drains += 1;
        let most = TRAINS[self.drains % TRAINS.len()];
        while output.append_train(|bytes| {
            let before = bytes.len();
            let train = self.engine.poll_transmit(now, bytes, most)?;
            assert_eq!(
                train.len,
                bytes.len() - before,
                "a train says how long it is"
            );
            assert!(
                train.len.div_ceil(train.segment_size) <= most,
                "and is not longer"
            );
            Some(train.segment_size)
        }) {}
    }

    fn deadline(&mut self) -> Option<Option<u64>> {
        Some(self.engine.poll_timeout().map(Instant::as_micros))
    }

    fn visible(&self) -> Visible {
        let ClassicState {
            snd_una,
            snd_nxt,
            rcv_nxt,
            rx_srtt,
            rx_rttval,
            rx_rto,
            cwnd,
            incr,
            ssthresh,
            rmt_wnd,
            probe,
            probe_wait,
            nsnd_buf,
            nsnd_que,
            nrcv_buf,
            nrcv_que,
            ackcount,
            xmit,
            dead,
            ..
        } = self.engine.classic_state();
        Visible {
            snd_una: snd_una.into(),
            snd_nxt: snd_nxt.into(),
            rcv_nxt: rcv_nxt.into(),
            rx_srtt: rx_srtt.into(),
            rx_rttval: rx_rttval.into(),
            rx_rto: rx_rto.into(),
            cwnd: cwnd.into(),
            ssthresh: ssthresh.into(),
            incr: incr.into(),
            rmt_wnd: rmt_wnd.into(),
            probe: probe.into(),
            probe_wait: probe_wait.into(),
            nsnd_buf: nsnd_buf.into(),
            nsnd_que: nsnd_que.into(),
            nrcv_buf: nrcv_buf.into(),
            nrcv_que: nrcv_que.into(),
            ackcount: ackcount.into(),
            xmit: xmit.into(),
            state: -i64::from(dead),
        }
    }
}

fn sent(result: Result<usize, SendError>) -> i32 {
    match result {
        Ok(taken) => code(taken),
        Err(SendError::TooLarge { .. }) => -2,
        Err(other) => panic!("C has no result for {other:?}"),
    }
}

fn received(result: Result<usize, RecvError>) -> i32 {
    match result {
        Ok(size) => code(size),
        Err(RecvError::Empty) => -1,
        Err(RecvError::Incomplete) => -2,
        Err(RecvError::BufferTooSmall { .. }) => -3,
        Err(other) => panic!("C has no result for {other:?}"),
    }
}

/// A size as C returns it.
fn code(size: usize) -> i32 {
    i32::try_from(size).expect("a size that fits in an int")
}
