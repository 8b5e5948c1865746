//! Counters: plain integers, copied out whole.

use core::time::Duration;

/// What a session has done and where it stands. A copy; taking one costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Datagrams given to `input`.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Datagrams handed out by `poll_transmit`.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// PUSH and FIN segments sent, retransmissions included.
    pub segments_sent: u64,
    /// Of those, sent again because the time-out had passed.
    pub timeout_resends: u64,
    /// Of those, sent again because later ones had been acknowledged.
    pub fast_resends: u64,
    /// Payload bytes sent for the first time.
    pub payload_sent: u64,
    /// Payload bytes accepted from the peer.
    pub payload_received: u64,
    /// PUSH and FIN segments accepted for the first time.
    pub segments_received: u64,
    /// Segments that had arrived before.
    pub duplicates: u64,
    /// ACK segments sent.
    pub acks_sent: u64,
    /// Window probes (WASK) sent.
    pub probes_sent: u64,
    /// Empty PUSHs sent to validate the peer's address (`docs/protocol.md` 11.1).
    pub challenges_sent: u64,
    /// Dropped: shorter than a header.
    pub dropped_short: u64,
    /// Dropped: another conversation.
    pub dropped_wrong_conv: u64,
    /// Dropped: length beyond the datagram.
    pub dropped_bad_length: u64,
    /// Dropped: unknown command.
    pub dropped_unknown_command: u64,
    /// Ignored: sequence number outside the window.
    pub ignored_out_of_window: u64,
    /// Ignored: ACK of a transmission that never was.
    pub ignored_invalid_ack: u64,
    /// Ignored, or believed in part: `una` beyond what was sent, or beyond what the ACKs before vouch for
    /// (`docs/protocol.md` 11.1.2).
    pub ignored_invalid_una: u64,
    /// Not acknowledged by itself: no room in the ACK list. `una` or the peer's next try makes up
    /// for it.
    pub ignored_ack_list_full: u64,
    /// Ignored: more bytes than the receive window stands for.
    pub ignored_no_room: u64,
    /// Ignored: more than the sessions together may hold of what cannot be delivered yet
    /// ([`ReceiveMemory`](crate::ReceiveMemory)).
    pub ignored_no_memory: u64,
    /// Segments behind a gap that were let go because it stayed for too long, on an unvalidated
    /// session (`docs/protocol.md` 11.4).
    pub dropped_stale: u64,
    /// Ignored: RST that answers nothing we asked.
    pub ignored_invalid_reset: u64,
    /// WASKs sent because of such an RST (`docs/protocol.md` 12.4).
    pub reset_questions: u64,
    /// Datagrams ignored: the peer knew more than they say, so they are late copies, or of another
    /// peer that begins under the same address and conversation (`docs/protocol.md` 12.8).
    pub ignored_beginning: u64,
    /// Ignored: WINSs with an una before what the peer had told, without the echo that a peer of ours sends
    /// (`docs/protocol.md` 12.6).
    pub ignored_stale_answer: u64,
    /// Transmissions of one segment have reached C's dead-link count (`docs/protocol.md` 7.7).
    pub dead_link: bool,
    /// Smoothed round-trip time; zero before the first sample.
    pub smoothed_rtt: Duration,
    /// The session's retransmission time-out.
    pub rto: Duration,
    /// Segments in flight.
    pub in_flight_segments: usize,
    /// Segments queued behind them.
    pub queued_segments: usize,
    /// Payload bytes queued or in flight.
    pub unacknowledged_bytes: usize,
    /// Bytes received and not yet read.
    pub unread_bytes: usize,
    /// The peer's last advertised window, in segments.
    pub remote_window: u32,
    /// C's congestion window, in segments; obeyed only when it is configured.
    pub congestion_window: u32,
}

impl EngineStats {
    /// Segments sent again, for either reason.
    pub const fn resends(&self) -> u64 {
        self.timeout_resends + self.fast_resends
    }
}

/// The state that C shows, by C's names: for comparing the two (`docs/protocol.md` 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of ikcp.h")]
#[non_exhaustive]
pub struct ClassicState {
    pub snd_una: u32,
    pub snd_nxt: u32,
    pub rcv_nxt: u32,
    pub rx_srtt: i32,
    pub rx_rttval: i32,
    pub rx_rto: u32,
    pub cwnd: u32,
    pub incr: u32,
    pub ssthresh: u32,
    pub rmt_wnd: u32,
    pub probe: u32,
    pub probe_wait: u32,
    pub nsnd_buf: u32,
    pub nsnd_que: u32,
    pub nrcv_buf: u32,
    pub nrcv_que: u32,
    pub ackcount: u32,
    pub xmit: u32,
    pub dead: bool,
}
