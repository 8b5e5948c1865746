//! Making a datagram longer without a meaning: a WINS that says what the datagram has said, with payload, which every
//! KCP skips (`docs/protocol.md` 2.1, 2.3.1).

use kcp_engine::{CLOSE_MARK, Command, IKCP_OVERHEAD, KcpHeader, WireTs};

/// Appends a segment, so that the datagram has `len` bytes; a few more if there is no room for a header otherwise.
pub(crate) fn pad(datagram: &mut Vec<u8>, len: usize) {
    let Some(first) = KcpHeader::parse(datagram) else {
        return;
    };
    let with_header = datagram.len() + IKCP_OVERHEAD;
    let payload = len.saturating_sub(with_header);
    let header = KcpHeader {
        cmd: Command::Wins.to_wire(),
        frg: CLOSE_MARK,
        ts: WireTs::new(0),
        len: payload as u32,
        ..first
    };
    datagram.extend_from_slice(&header.to_bytes());
    datagram.resize(with_header + payload, 0);
}

#[cfg(test)]
mod tests {
    use kcp_engine::{Conv, Sn, segments};

    use super::*;

    #[test]
    fn padding_is_a_window_told_again() {
        let push = KcpHeader {
            conv: Conv::new(7),
            cmd: Command::Push.to_wire(),
            frg: 3,
            wnd: 99,
            ts: WireTs::new(5),
            sn: Sn::new(1),
            una: Sn::new(4),
            len: 1_000,
        };
        for (len, padded_to) in [(1_453, 1_453), (1_048, 1_048), (1_030, 1_048)] {
            let mut datagram = push.to_bytes().to_vec();
            datagram.resize(1_024, 1);
            pad(&mut datagram, len);
            assert_eq!(datagram.len(), padded_to);
            let parts: Vec<_> = segments(&datagram).map(Result::unwrap).collect();
            assert_eq!(parts.len(), 2);
            assert_eq!(parts[0].header, push);
            let header = parts[1].header;
            assert_eq!(header.command(), Some(Command::Wins));
            assert_eq!(
                (header.wnd, header.una, header.conv),
                (99, Sn::new(4), push.conv)
            );
            assert_eq!(parts[1].payload.len(), padded_to - 1_048);
        }
    }
}
