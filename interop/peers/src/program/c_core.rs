//! The C core of KCP.

use std::time::Duration;

use oracle::CKcp;

use super::pump::Core;
use super::settings::{INTERVAL, MTU, Mode, RESEND, WINDOW};

/// `ikcp.c` as the crate `kcp-io` bundles it.
pub(crate) struct CCore(CKcp);

impl Core for CCore {
    fn new(conv: u32, mode: Mode) -> Self {
        let mut kcp = CKcp::new(conv);
        kcp.set_nodelay(1, INTERVAL.as_millis() as u32, RESEND, true);
        kcp.set_windows(WINDOW, WINDOW);
        kcp.set_mtu(MTU);
        kcp.set_stream(mode == Mode::Stream);
        Self(kcp)
    }

    fn send(&mut self, data: &[u8]) {
        let taken = self.0.send(data);
        if taken != data.len() as i32 {
            eprintln!("ikcp_send took {taken} of {} bytes", data.len());
        }
    }

    fn input(&mut self, _now: Duration, datagram: &[u8]) {
        let result = self.0.input(datagram);
        if result < 0 {
            eprintln!("ikcp_input returned {result} for {} bytes", datagram.len());
        }
    }

    fn update(&mut self, now: Duration, mut output: impl FnMut(&[u8])) {
        self.0.update(now.as_millis() as u32);
        for datagram in self.0.output().iter() {
            output(datagram);
        }
        self.0.clear_output();
    }

    fn recv(&mut self) -> Option<Vec<u8>> {
        let size = usize::try_from(self.0.peek_size()).ok()?;
        let mut data = vec![0; size];
        let got = self.0.recv(&mut data);
        assert_eq!(
            got, size as i32,
            "ikcp_recv gives what ikcp_peeksize promised"
        );
        Some(data)
    }

    /// `ikcp_waitsnd`.
    fn waiting(&self) -> usize {
        let state = self.0.visible();
        (state.nsnd_buf + state.nsnd_que) as usize
    }

    fn stats(&self) -> String {
        format!("{:?}", self.0.visible())
    }
}
