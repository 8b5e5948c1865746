//! Reading datagrams, for coverage and reports. Independent of the engine under test.

use std::fmt;

use crate::script::Field;

/// Bytes of a segment header.
pub(crate) const HEADER: usize = 24;
/// Data.
pub(crate) const PUSH: u8 = 81;
/// Acknowledgement.
pub(crate) const ACK: u8 = 82;
/// Window question.
pub(crate) const WASK: u8 = 83;
/// Window answer.
pub(crate) const WINS: u8 = 84;

/// The header of one segment, and where it starts in its datagram.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) at: usize,
    pub(crate) conv: u32,
    pub(crate) cmd: u8,
    pub(crate) frg: u8,
    pub(crate) wnd: u16,
    pub(crate) ts: u32,
    pub(crate) sn: u32,
    pub(crate) una: u32,
    pub(crate) len: u32,
}

/// The segments of a datagram, as far as whole headers and payloads go.
pub(crate) fn headers(datagram: &[u8]) -> impl Iterator<Item = Header> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = datagram.get(at..at + HEADER)?;
        let long = |field: Field| {
            let bytes = header[field.range()].try_into().expect("a four-byte field");
            u32::from_le_bytes(bytes)
        };
        let found = Header {
            at,
            conv: long(Field::Conv),
            cmd: header[4],
            frg: header[5],
            wnd: u16::from_le_bytes([header[6], header[7]]),
            ts: long(Field::Ts),
            sn: long(Field::Sn),
            una: long(Field::Una),
            len: long(Field::Len),
        };
        // A length beyond the end ends the walk at the next call.
        at = at.saturating_add(HEADER).saturating_add(found.len as usize);
        Some(found)
    })
}

/// Writes `value`, truncated, over a header field of the segment at `at`.
pub(crate) fn patch(datagram: &mut [u8], at: usize, field: Field, value: u32) {
    let range = field.range();
    let width = range.len();
    datagram[at + range.start..at + range.end].copy_from_slice(&value.to_le_bytes()[..width]);
}

/// A datagram as one line of text.
pub(crate) struct Decoded<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Decoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes:", self.0.len())?;
        let mut last = 0;
        for header in headers(self.0) {
            let Header {
                at,
                conv,
                cmd,
                frg,
                wnd,
                ts,
                sn,
                una,
                len,
            } = header;
            match cmd {
                PUSH => write!(f, " [PUSH")?,
                ACK => write!(f, " [ACK")?,
                WASK => write!(f, " [WASK")?,
                WINS => write!(f, " [WINS")?,
                other => write!(f, " [cmd {other}")?,
            }
            write!(
                f,
                " conv={conv} frg={frg} wnd={wnd} ts={ts} sn={sn} una={una} len={len}"
            )?;
            let payload = at + HEADER;
            let end = payload.saturating_add(len as usize).min(self.0.len());
            let shown = (payload + 6).min(end);
            if shown > payload {
                write!(f, " ")?;
            }
            for byte in &self.0[payload..shown] {
                write!(f, "{byte:02x}")?;
            }
            write!(f, "{}]", if shown < end { ".." } else { "" })?;
            last = end;
        }
        let tail = self.0.len() - last;
        if tail > 0 {
            write!(f, " and {tail} bytes more")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patched_field_is_read_back() {
        let mut datagram = vec![0; 2 * HEADER + 3];
        for (value, field) in (80..).zip(Field::ALL) {
            patch(&mut datagram, 0, field, value);
        }
        patch(&mut datagram, 0, Field::Len, 3);
        patch(&mut datagram, HEADER + 3, Field::Cmd, u32::from(ACK));
        let all: Vec<Header> = headers(&datagram).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].conv, all[0].cmd, all[0].frg, all[0].wnd),
            (80, 81, 82, 83)
        );
        assert_eq!(
            (all[0].ts, all[0].sn, all[0].una, all[0].len),
            (84, 85, 86, 3)
        );
        assert_eq!((all[1].at, all[1].cmd), (27, ACK));
        let text = Decoded(&datagram).to_string();
        assert!(
            text.starts_with("51 bytes: [PUSH conv=80 frg=82 wnd=83"),
            "{text}"
        );
    }
}
