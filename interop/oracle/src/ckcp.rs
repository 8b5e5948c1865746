//! The C core behind a safe interface. The only unsafe code of the project is here.
//!
//! [`CKcp`] owns one `ikcpcb`. Output does not go to a callback of the caller: it is
//! collected, datagram by datagram, until [`CKcp::clear_output`]. Time is whatever the
//! caller passes, in milliseconds modulo 2^32.
//!
//! Beyond the public interface of `ikcp.h` the wrapper can place a fresh control block at
//! chosen sequence numbers, windows below C's minimum and intervals below C's 10 ms,
//! because our engine allows those and the oracle must reach them.

#![expect(unsafe_code, reason = "this module is the boundary to the C core")]

use std::{
    ffi::{c_char, c_int, c_long, c_void},
    fmt,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use kcp_io::sys::{self, IKCPCB, IKCPSEG};

use crate::{datagrams::Datagrams, visible::Visible};

/// Bytes of a segment header.
const OVERHEAD: u32 = 24;

/// A control block of the C core.
pub struct CKcp {
    /// Made by `ikcp_create`, released in `drop`, never null in between.
    block: NonNull<IKCPCB>,
    /// From `Box::into_raw`; C holds it as the `user` pointer of the output callback.
    /// Freed in `drop`. No reference to it is alive while C runs.
    output: NonNull<Datagrams>,
    /// The largest payload a queued segment can have: the largest mss there ever was.
    largest_mss: u32,
}

/// One segment in C's send buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Sequence number.
    pub sn: u32,
    /// Time of the last transmission, ms.
    pub ts: u32,
    /// When the timeout resends it, ms.
    pub resendts: u32,
    /// Its own timeout, ms.
    pub rto: u32,
    /// How often it was skipped by acknowledgements.
    pub fastack: u32,
    /// How often it was sent.
    pub xmit: u32,
}

/// The output callback: appends one datagram to the `Datagrams` behind `user`.
extern "C" fn collect(
    bytes: *const c_char,
    len: c_int,
    _block: *mut IKCPCB,
    user: *mut c_void,
) -> c_int {
    let len = usize::try_from(len).expect("C passes the size of a non-empty datagram");
    // SAFETY: C passes `len` initialised bytes of its scratch buffer, which nothing writes
    // during this call, and `user` is the pointer given to `ikcp_create`: a live
    // `Datagrams` to which no other reference exists while C runs.
    let (datagram, output) = unsafe {
        (
            slice::from_raw_parts(bytes.cast::<u8>(), len),
            &mut *user.cast::<Datagrams>(),
        )
    };
    output.push(datagram);
    0
}

impl CKcp {
    /// A fresh control block with the defaults of `ikcp_create`.
    ///
    /// # Panics
    ///
    /// If C cannot allocate.
    pub fn new(conv: u32) -> Self {
        let output = NonNull::from(Box::leak(Box::new(Datagrams::new())));
        // SAFETY: C stores `user` and hands it back to the output callback only.
        let block = unsafe { sys::ikcp_create(conv, output.as_ptr().cast()) };
        let block = NonNull::new(block).expect("ikcp_create allocates");
        // SAFETY: `block` is live, and `collect` has the type that C calls.
        unsafe { sys::ikcp_setoutput(block.as_ptr(), collect) };
        let mut this = Self {
            block,
            output,
            largest_mss: 0,
        };
        this.largest_mss = this.block().mss;
        this
    }

    /// Queues `data` as one message, or appends it in stream mode. Returns what
    /// `ikcp_send` returns: the bytes taken, or -2 when it needs too many fragments.
    pub fn send(&mut self, data: &[u8]) -> i32 {
        let len = c_len(data.len());
        // SAFETY: `block` is live; C reads `len` bytes of `data`.
        unsafe { sys::ikcp_send(self.block.as_ptr(), data.as_ptr().cast(), len) }
    }

    /// Sends `data` as a byte stream: in pieces of at most one segment, each its own
    /// `ikcp_send`. Returns the bytes taken.
    pub fn write(&mut self, data: &[u8]) -> i32 {
        data.chunks(self.mss() as usize)
            .map(|piece| self.send(piece))
            .sum()
    }

    /// Takes one message. Returns what `ikcp_recv` returns: its size, -1 when there is
    /// none, -2 when fragments are missing, -3 when `buffer` is too small.
    pub fn recv(&mut self, buffer: &mut [u8]) -> i32 {
        let len = c_len(buffer.len());
        // SAFETY: `block` is live; C writes at most `len` bytes, because it refuses a
        // message that is larger.
        unsafe { sys::ikcp_recv(self.block.as_ptr(), buffer.as_mut_ptr().cast(), len) }
    }

    /// Copies the next message without taking it: `ikcp_recv` with a negative size. Same
    /// results as [`CKcp::recv`].
    ///
    /// # Panics
    ///
    /// If `buffer` is empty: C has no way to say "peek into nothing".
    pub fn peek(&mut self, buffer: &mut [u8]) -> i32 {
        assert!(!buffer.is_empty(), "size 0 means recv, not peek, to C");
        let len = c_len(buffer.len());
        // SAFETY: as in `recv`; a negative size is C's way to ask for a copy, bounded by
        // its absolute value.
        unsafe { sys::ikcp_recv(self.block.as_ptr(), buffer.as_mut_ptr().cast(), -len) }
    }

    /// Size of the next message, or -1 when there is no complete one.
    pub fn peek_size(&self) -> i32 {
        // SAFETY: `block` is live; C only reads it.
        unsafe { sys::ikcp_peeksize(self.block.as_ptr()) }
    }

    /// Hands in a datagram. Returns what `ikcp_input` returns: 0, -1 for a short or
    /// foreign datagram, -2 for an impossible length, -3 for an unknown command.
    pub fn input(&mut self, datagram: &[u8]) -> i32 {
        let len = c_long::try_from(datagram.len()).expect("a datagram fits in a long");
        // SAFETY: `block` is live; C reads at most `len` bytes: it checks the remaining
        // size before each header and before each payload.
        unsafe { sys::ikcp_input(self.block.as_ptr(), datagram.as_ptr().cast(), len) }
    }

    /// Sets the clock and flushes if a tick is due.
    pub fn update(&mut self, current: u32) {
        // SAFETY: `block` is live and has an output callback.
        unsafe { sys::ikcp_update(self.block.as_ptr(), current) }
    }

    /// Flushes now, at the time of [`CKcp::set_current`]. Does nothing before the first
    /// [`CKcp::update`].
    pub fn flush(&mut self) {
        // SAFETY: `block` is live and has an output callback.
        unsafe { sys::ikcp_flush(self.block.as_ptr()) }
    }

    /// When C wants to be updated next, ms.
    pub fn check(&self, current: u32) -> u32 {
        // SAFETY: `block` is live; C only reads it.
        unsafe { sys::ikcp_check(self.block.as_ptr(), current) }
    }

    /// Sets what `ikcp_nodelay` sets: level, interval in ms, fast resend (0 = off) and
    /// whether the congestion window is off. The interval is written as
    /// [`CKcp::set_interval`] does.
    pub fn set_nodelay(&mut self, level: u8, interval: u32, resend: u32, no_window: bool) {
        let resend = c_int::try_from(resend).expect("a resend threshold that fits in an int");
        // SAFETY: `block` is live.
        unsafe {
            sys::ikcp_nodelay(
                self.block.as_ptr(),
                c_int::from(level),
                -1,
                resend,
                c_int::from(no_window),
            );
        }
        self.block_mut().interval = interval;
    }

    /// Sets the smallest time-out, ms (`rx_minrto`). [`CKcp::set_nodelay`] sets it too.
    ///
    /// # Panics
    ///
    /// If it does not fit in an int.
    pub fn set_min_rto(&mut self, min_rto: u32) {
        self.block_mut().rx_minrto =
            c_int::try_from(min_rto).expect("a time-out that fits in an int");
    }

    /// Sets how often a segment may have been sent and still be resent early (0: always),
    /// and at how many transmissions the dead-link flag is set.
    ///
    /// # Panics
    ///
    /// If the limit does not fit in an int.
    pub fn set_limits(&mut self, fast_limit: u32, dead_link: u32) {
        let block = self.block_mut();
        block.fastlimit = c_int::try_from(fast_limit).expect("a limit that fits in an int");
        block.dead_link = dead_link;
    }

    /// Sets both windows, in segments. The receive window is written as given, also below
    /// C's minimum of 128.
    pub fn set_windows(&mut self, send: u32, receive: u32) {
        let block = self.block_mut();
        block.snd_wnd = send;
        block.rcv_wnd = receive;
    }

    /// Whether C stays within its scratch buffer after [`CKcp::set_mtu`] with `mtu`: the buffer
    /// is three datagrams long, and a segment cut for an earlier, larger mtu must fit.
    pub fn is_safe_mtu(&self, mtu: u32) -> bool {
        let scratch = (u64::from(mtu) + u64::from(OVERHEAD)) * 3;
        scratch >= u64::from(self.largest_mss + OVERHEAD) || !self.ever_sent()
    }

    /// Sets the largest datagram. Returns what `ikcp_setmtu` returns: -1 below 50 bytes.
    ///
    /// # Panics
    ///
    /// If [`CKcp::is_safe_mtu`] says no: C would write past the end of its buffer.
    pub fn set_mtu(&mut self, mtu: u32) -> i32 {
        assert!(
            self.is_safe_mtu(mtu),
            "C overruns its buffer when the mtu shrinks below a third of a queued segment"
        );
        // SAFETY: `block` is live, and by the assertion no queued segment is longer than
        // the buffer that this call allocates.
        let result = unsafe { sys::ikcp_setmtu(self.block.as_ptr(), c_len(mtu as usize)) };
        let mss = self.block().mss;
        self.largest_mss = if self.ever_sent() {
            self.largest_mss.max(mss)
        } else {
            mss
        };
        result
    }

    /// Sets the flush interval, ms, also where C would clamp it to 10..=5000.
    pub fn set_interval(&mut self, interval: u32) {
        self.block_mut().interval = interval;
    }

    /// Chooses stream mode, or message mode.
    pub fn set_stream(&mut self, stream: bool) {
        self.block_mut().stream = c_int::from(stream);
    }

    /// Test start state: the first sequence numbers of both directions.
    ///
    /// # Panics
    ///
    /// If segments exist already.
    pub fn set_first_numbers(&mut self, send: u32, receive: u32) {
        assert!(
            !self.ever_sent(),
            "numbers are chosen before the first segment"
        );
        let block = self.block_mut();
        assert!(
            block.nrcv_buf == 0 && block.nrcv_que == 0,
            "nothing received yet"
        );
        block.snd_una = send;
        block.snd_nxt = send;
        block.rcv_nxt = receive;
    }

    /// Test start state: the congestion window, in segments and in bytes.
    pub fn set_congestion_window(&mut self, cwnd: u32, incr: u32) {
        let block = self.block_mut();
        block.cwnd = cwnd;
        block.incr = incr;
    }

    /// Raises the flag that makes the next flush send a WASK (`IKCP_ASK_SEND`).
    pub fn ask(&mut self) {
        self.block_mut().probe |= 1;
    }

    /// Sets the clock that `input` and `flush` read, ms.
    pub fn set_current(&mut self, current: u32) {
        self.block_mut().current = current;
    }

    /// The datagrams produced since the last [`CKcp::clear_output`].
    pub fn output(&self) -> &Datagrams {
        // SAFETY: `output` is live until `drop`, and C, the only other holder of the
        // pointer, uses it only inside calls that borrow `self` mutably.
        unsafe { self.output.as_ref() }
    }

    /// Forgets the datagrams produced so far.
    pub fn clear_output(&mut self) {
        // SAFETY: as in `output`; `&mut self` excludes every reference handed out there.
        unsafe { self.output.as_mut() }.clear();
    }

    /// The state that the oracle compares.
    pub fn visible(&self) -> Visible {
        let block = self.block();
        Visible {
            snd_una: block.snd_una.into(),
            snd_nxt: block.snd_nxt.into(),
            rcv_nxt: block.rcv_nxt.into(),
            rx_srtt: block.rx_srtt.into(),
            rx_rttval: block.rx_rttval.into(),
            rx_rto: block.rx_rto.into(),
            cwnd: block.cwnd.into(),
            ssthresh: block.ssthresh.into(),
            incr: block.incr.into(),
            rmt_wnd: block.rmt_wnd.into(),
            probe: block.probe.into(),
            probe_wait: block.probe_wait.into(),
            nsnd_buf: block.nsnd_buf.into(),
            nsnd_que: block.nsnd_que.into(),
            nrcv_buf: block.nrcv_buf.into(),
            nrcv_que: block.nrcv_que.into(),
            ackcount: block.ackcount.into(),
            xmit: block.xmit.into(),
            state: block.state.cast_signed().into(),
        }
    }

    /// Payload bytes of a full segment.
    pub fn mss(&self) -> u32 {
        self.block().mss
    }

    /// The receive window, segments.
    pub fn receive_window(&self) -> u32 {
        self.block().rcv_wnd
    }

    /// When the next tick is due, ms.
    pub fn next_tick(&self) -> u32 {
        self.block().ts_flush
    }

    /// Whether there has been an update: before it, `flush` does nothing.
    pub fn is_started(&self) -> bool {
        self.block().updated != 0
    }

    /// Acknowledgements waiting for a flush.
    pub fn pending_acks(&self) -> u32 {
        self.block().ackcount
    }

    /// Whether a flush would resend a segment early.
    pub fn has_fast_resend(&self) -> bool {
        let IKCPCB {
            fastresend,
            fastlimit,
            ..
        } = self.block();
        let (threshold, limit) = (fastresend.cast_unsigned(), fastlimit.cast_unsigned());
        let mut found = false;
        if threshold > 0 {
            self.for_each_in_flight(|segment| {
                found |= segment.fastack >= threshold && (limit == 0 || segment.xmit <= limit);
            });
        }
        found
    }

    /// Calls `visit` with every segment in flight, in order of sequence number.
    pub fn for_each_in_flight(&self, mut visit: impl FnMut(InFlight)) {
        let head = &raw const self.block().snd_buf;
        // SAFETY: `snd_buf` is a circular list of segments whose first field is the list
        // node, so a node pointer other than the head's is a segment pointer. C is not
        // running, so all of them are live; only plain fields are read, by value.
        unsafe {
            let mut node = (*head).next.cast_const();
            while node != head {
                let segment = node.cast::<IKCPSEG>();
                visit(InFlight {
                    sn: (*segment).sn,
                    ts: (*segment).ts,
                    resendts: (*segment).resendts,
                    rto: (*segment).rto,
                    fastack: (*segment).fastack,
                    xmit: (*segment).xmit,
                });
                node = (*node).next.cast_const();
            }
        }
    }

    /// Whether a segment was ever queued.
    fn ever_sent(&self) -> bool {
        let block = self.block();
        block.nsnd_que > 0 || block.nsnd_buf > 0 || self.is_started()
    }

    fn block(&self) -> &IKCPCB {
        // SAFETY: `block` is live until `drop`; C writes to it only inside calls that
        // borrow `self` mutably.
        unsafe { self.block.as_ref() }
    }

    fn block_mut(&mut self) -> &mut IKCPCB {
        // SAFETY: as in `block`, and `&mut self` makes the reference exclusive.
        unsafe { self.block.as_mut() }
    }
}

/// Releases the control block and the collected output.
impl Drop for CKcp {
    fn drop(&mut self) {
        // SAFETY: both pointers are live and owned by `self`; C is done with the output
        // once the control block is released.
        unsafe {
            sys::ikcp_release(self.block.as_ptr());
            drop(Box::from_raw(self.output.as_ptr()));
        }
    }
}

impl fmt::Debug for CKcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CKcp")
            .field("conv", &self.block().conv)
            .field("visible", &self.visible())
            .finish_non_exhaustive()
    }
}

/// A length as C takes it.
fn c_len(len: usize) -> c_int {
    c_int::try_from(len).expect("a length that fits in an int")
}

/// Blocks that C has asked for since [`count_allocations`].
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn free(block: *mut c_void);
}

/// C's allocator as it is without us, counted.
unsafe extern "C" fn counted_malloc(size: usize) -> *mut c_void {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: any size may be asked for.
    unsafe { malloc(size) }
}

/// Lets C count its allocations from now on, those of all control blocks. Call it before the
/// first of them is made: C's allocator is one for all and not to be changed while C runs.
pub fn count_allocations() {
    // SAFETY: both have the types that C calls, and what C has allocated before, with `malloc`
    // too, may be given to `free`.
    unsafe { sys::ikcp_allocator(counted_malloc, free) }
}

/// How many blocks C has allocated since [`count_allocations`].
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}
