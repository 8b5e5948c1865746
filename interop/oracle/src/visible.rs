//! The state that both sides show, under the names of `ikcp.h`.

/// Declares [`Visible`] together with the list of its fields, so that no field can be
/// compared but not printed, or the other way round.
macro_rules! visible {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// The protocol state compared after every step. Every field is widened to `i64`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Visible {
            $($(#[$doc])* pub $field: i64,)*
        }

        impl Visible {
            /// Every field with its name.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, i64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

visible! {
    /// Oldest sequence number not acknowledged.
    snd_una,
    /// Next sequence number to admit to the send buffer.
    snd_nxt,
    /// Next sequence number expected.
    rcv_nxt,
    /// Smoothed round trip, ms.
    rx_srtt,
    /// Round-trip variation, ms.
    rx_rttval,
    /// Retransmission timeout of a new segment, ms.
    rx_rto,
    /// Congestion window, segments.
    cwnd,
    /// Slow-start threshold, segments.
    ssthresh,
    /// Congestion window in bytes, as far as it has grown.
    incr,
    /// Window the peer advertised last, segments.
    rmt_wnd,
    /// Probe flags: 1 ask, 2 tell.
    probe,
    /// Current wait between window probes, ms; 0 while the window is open.
    probe_wait,
    /// Segments in flight.
    nsnd_buf,
    /// Segments queued and not yet admitted.
    nsnd_que,
    /// Segments received out of order.
    nrcv_buf,
    /// Segments ready for the application.
    nrcv_que,
    /// Acknowledgements waiting for a flush.
    ackcount,
    /// Retransmissions by timeout since the start.
    xmit,
    /// 0, or -1 once a segment was sent `dead_link` times.
    state,
}

impl Visible {
    /// The fields in which `self` and `other` differ: name, here, there.
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, i64, i64)> {
        self.fields()
            .zip(other.fields())
            .filter(|(here, there)| here.1 != there.1)
            .map(|(here, there)| (here.0, here.1, there.1))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_its_field() {
        let one = Visible {
            cwnd: 4,
            ..Visible::default()
        };
        let other = Visible {
            cwnd: 5,
            ..Visible::default()
        };
        assert_eq!(one.differences(&other), [("cwnd", 4, 5)]);
        assert!(one.differences(&one).is_empty());
    }
}
