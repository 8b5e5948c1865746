//! What the drive needs of an engine.

/// When datagrams leave.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Flush {
    /// At ticks of 10 ms only.
    Ticks,
    /// After every datagram that comes in.
    Packet,
}

/// The settings of an engine: nodelay 1, 10 ms, fast resend 2, no congestion window, mtu 1400, messages of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Send and receive window, in segments.
    pub(crate) window: u32,
    pub(crate) flush: Flush,
}

/// One end. Time is in microseconds.
pub(crate) trait Engine {
    /// Queues one message of a segment.
    fn write(&mut self, message: &[u8]);
    /// Takes one message.
    fn recv(&mut self, buffer: &mut [u8]) -> Option<usize>;
    /// A datagram comes in.
    fn input(&mut self, now: u64, datagram: &[u8]);
    /// Time has passed; a tick may be due.
    fn tick(&mut self, now: u64);
    /// [`Flush::Packet`]: sends what there is to send.
    fn flush(&mut self, now: u64);
    /// [`Flush::Ticks`]: puts datagrams of the last tick into the output; `false` when there are no more.
    fn drain(&mut self, now: u64) -> bool;
    /// When it wants to be called before the next tick.
    fn wake(&mut self) -> Option<u64>;
    /// Shows the output.
    fn for_each_output(&self, visit: impl FnMut(&[u8]));
    /// Forgets the output.
    fn clear(&mut self);
    /// Blocks allocated so far.
    fn allocations() -> u64;
}
