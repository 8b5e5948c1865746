//! Headers and the walk over a datagram.

use kcp_engine::{IKCP_OVERHEAD, KcpHeader, segments};

/// Any bytes: parsing undoes emitting, and the walk stays inside the datagram.
pub fn header(data: &[u8]) {
    if let Some(header) = KcpHeader::parse(data) {
        assert_eq!(header.to_bytes(), data[..IKCP_OVERHEAD]);
        let _ = (header.command(), header.is_marked());
    }
    let mut walked = 0;
    for segment in segments(data) {
        let Ok(segment) = segment else { break };
        assert_eq!(segment.payload.len(), segment.header.len as usize);
        walked += IKCP_OVERHEAD + segment.payload.len();
    }
    assert!(walked <= data.len());
}
