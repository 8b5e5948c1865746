//! Two engines, a bad link and a virtual clock: whatever the link does, the bytes arrive once and
//! in order, and afterwards nothing is left to do.
//!
//! The link corrupts nothing: KCP has no checksum, and UDP's drops what was corrupted.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::BufferPool;

/// Deterministic and good enough for fates of packets (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.roll() % 100 < chance
    }
}

/// What the link does to datagrams, in percent.
#[derive(Clone, Copy, Debug)]
struct Weather {
    loss: u64,
    duplicate: u64,
    /// Extra delay in ms, drawn for each datagram: reorders.
    jitter: u64,
}

struct Pair {
    sides: [KcpEngine; 2],
    /// Datagrams under way by arrival time and order: to which side, what.
    link: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    dice: Dice,
    weather: Weather,
    now: Instant,
    sent: u64,
}

impl Pair {
    fn new(configs: [&KcpConfig; 2], seed: u64, weather: Weather, start_ms: u64) -> Self {
        let mut dice = Dice(seed);
        let first_sn = match dice.roll() % 3 {
            0 => Sn::ZERO,
            1 => Sn::new(u32::MAX - 40),
            _ => Sn::new(i32::MAX as u32 - 40),
        };
        let pool = Arc::new(BufferPool::new());
        let roles = [Role::Connecting, Role::Accepted];
        let sides = [0, 1].map(|i| {
            let ts_offset = dice.roll() as u32;
            let pool = Arc::clone(&pool);
            let validation = Validation::Strict;
            let role = roles[i];
            let options = EngineOptions {
                role,
                validation,
                ts_offset,
                first_sn,
                pool,
            };
            KcpEngine::new(CONV, configs[i], options).unwrap()
        });
        let link = BTreeMap::new();
        let now = Instant::from_millis(start_ms);
        Self {
            sides,
            link,
            dice,
            weather,
            now,
            sent: 0,
        }
    }

    /// Puts on the link what either side has to send.
    fn transmit(&mut self) {
        for from in 0..2 {
            let mut bytes = Vec::new();
            while let Some(train) = self.sides[from].poll_transmit(self.now, &mut bytes, 16) {
                for datagram in bytes.chunks(train.segment_size) {
                    self.carry(1 - from, datagram);
                }
                bytes.clear();
            }
        }
    }

    fn carry(&mut self, to: usize, datagram: &[u8]) {
        let copies = 1 + u64::from(self.dice.percent(self.weather.duplicate));
        for _ in 0..copies {
            if self.dice.percent(self.weather.loss) {
                continue;
            }
            let delay = 20_000 + self.dice.roll() % (1 + self.weather.jitter * 1_000);
            self.sent += 1;
            self.link.insert(
                (self.now.as_micros() + delay, self.sent),
                (to, datagram.to_vec()),
            );
        }
    }

    /// Goes to the next event; false when nothing will ever happen again.
    fn step(&mut self) -> bool {
        self.transmit();
        let arrival = self
            .link
            .keys()
            .next()
            .map(|&(at, _)| Instant::from_micros(at));
        let deadlines = self.sides.each_mut().map(KcpEngine::poll_timeout);
        let Some(next) = deadlines.into_iter().chain([arrival]).flatten().min() else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.link.first_entry() {
            if entry.key().0 > self.now.as_micros() {
                break;
            }
            let (to, bytes) = entry.remove();
            let _ = self.sides[to].input(self.now, &bytes);
        }
        for side in &mut self.sides {
            side.handle_timeout(self.now);
        }
        true
    }
}

/// The byte at `position` of the stream that `side` sends.
fn content(side: usize, position: usize) -> u8 {
    ((position as u32).wrapping_mul(2_654_435_761) >> 24) as u8 ^ side as u8
}

/// Sends `total` bytes each way in writes and messages of all sizes, closes, and checks.
fn exchange(configs: [&KcpConfig; 2], seed: u64, weather: Weather, total: usize) {
    let start_ms = [0, u64::from(u32::MAX) - 3_000][seed as usize % 2];
    let mut pair = Pair::new(configs, seed, weather, start_ms);
    let (mut written, mut read) = ([0; 2], [0; 2]);
    let mut closed = [false; 2];
    let mut steps = 0;
    loop {
        for side in 0..2 {
            // The connecting side speaks first.
            let may_speak = side == 0 || read[1] > 0;
            while may_speak && written[side] < total && pair.sides[side].queued_bytes() < 100_000 {
                let size = (1 + pair.dice.roll() as usize % 6_000).min(total - written[side]);
                let bytes: Vec<_> = (0..size)
                    .map(|i| content(side, written[side] + i))
                    .collect();
                let taken = match pair.dice.percent(50) {
                    true => pair.sides[side].send(&bytes).unwrap(),
                    false => pair.sides[side].write(&bytes).unwrap(),
                };
                written[side] += taken;
            }
            if written[side] == total {
                pair.sides[side].finish();
            }
            if pair.dice.percent(70) {
                let mut buffer = [0; 3_000];
                let size = 1 + pair.dice.roll() as usize % buffer.len();
                match pair.sides[side].read(&mut buffer[..size]) {
                    Ok(n) => {
                        for &byte in &buffer[..n] {
                            assert_eq!(byte, content(1 - side, read[side]), "seed {seed}");
                            read[side] += 1;
                        }
                    }
                    Err(crate::RecvError::Finished) => closed[side] = true,
                    Err(_) => {}
                }
            }
        }
        steps += 1;
        assert!(
            steps < 3_000_000,
            "seed {seed}: no end in sight: {:?}",
            pair.sides
        );
        if !pair.step() && closed == [true; 2] {
            break;
        }
    }
    assert_eq!(read, [total; 2], "seed {seed}");
    for side in &mut pair.sides {
        assert!(side.fin_state().acknowledged, "seed {seed}");
        assert_eq!(side.poll_timeout(), None, "seed {seed}");
        assert_eq!(side.queued_bytes(), 0, "seed {seed}");
        assert_eq!(side.fault(), None, "seed {seed}");
    }
}

fn any_config() -> impl Strategy<Value = KcpConfig> {
    let preset = prop::sample::select(alloc::vec![
        KcpConfig::normal(),
        KcpConfig::fast_mode(),
        KcpConfig::turbo_mode(),
        KcpConfig::gaming(),
        KcpConfig::file_transfer(),
    ]);
    (preset, 50_usize..3_000, any::<bool>(), 1_u32..300).prop_map(
        |(preset, mtu, stream, window)| {
            // Below an mtu of 100 a 6000-byte message can exceed 127 fragments.
            preset
                .mtu(mtu.max(100))
                .stream_mode(stream)
                .send_window(window)
        },
    )
}

fn any_weather() -> impl Strategy<Value = Weather> {
    (0_u64..30, 0_u64..10, 0_u64..80).prop_map(|(loss, duplicate, jitter)| Weather {
        loss,
        duplicate,
        jitter,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    /// protocol.md 4.2 and 12.2: exactly the bytes sent, in order, once; then the end; then
    /// silence, whatever the link and the settings.
    #[test]
    fn everything_arrives_once_and_in_order(
        (a, b) in (any_config(), any_config()),
        weather in any_weather(),
        seed: u64,
    ) {
        exchange([&a, &b], seed, weather, 40_000);
    }

    /// No datagram makes an engine panic or hold more than its bound.
    #[test]
    fn random_datagrams_do_no_harm(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..50),
    ) {
        let mut s = Script::accepted(&fast());
        for (i, mut bytes) in datagrams.into_iter().enumerate() {
            if let (Some(conv), Some(1)) = (bytes.get_mut(..4), Some(i % 2)) {
                conv.copy_from_slice(&CONV.get().to_le_bytes());
                if let Some(cmd) = bytes.get_mut(4) {
                    *cmd = 81 + *cmd % 6;
                }
            }
            s.tick(i as u64 * 7).input_raw(&bytes);
            s.drain();
        }
        let _ = s.recv();
        prop_assert!(s.engine.stats().unread_bytes <= 128 * 1_500 * 2);
    }
}
