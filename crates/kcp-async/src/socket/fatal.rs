//! Which errors of a socket end its endpoint.

use std::io;

/// Whether an error says that there is no working socket. Everything else is about one datagram, or
/// about a moment.
///
/// Named one by one, because what ICMP can cause must never be among them: `EOPNOTSUPP`, `EPROTO`,
/// `EACCES`, `ENOPROTOOPT` and `EHOSTDOWN` are errors that a router, or a forger, can bring about.
pub(crate) fn is_fatal(error: &io::Error) -> bool {
    let kind = matches!(
        error.kind(),
        io::ErrorKind::NotConnected | io::ErrorKind::BrokenPipe | io::ErrorKind::InvalidInput
    );
    kind || error
        .raw_os_error()
        .is_some_and(|code| code == BAD_DESCRIPTOR || code == NOT_A_SOCKET)
}

/// `EBADF`, `WSAEBADF`.
const BAD_DESCRIPTOR: i32 = if cfg!(windows) { 10_009 } else { 9 };
/// `ENOTSOCK`, `WSAENOTSOCK`.
const NOT_A_SOCKET: i32 = if cfg!(windows) {
    10_038
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    88
} else {
    38
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_network_reports_is_never_fatal() {
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::NetworkDown,
            io::ErrorKind::AddrNotAvailable,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::Unsupported,
            io::ErrorKind::Interrupted,
            io::ErrorKind::OutOfMemory,
            io::ErrorKind::TimedOut,
            io::ErrorKind::Other,
        ] {
            assert!(!is_fatal(&kind.into()), "{kind}");
        }
    }

    /// Every code that Linux makes of an ICMP message, and what a receive call adds to them.
    #[test]
    #[cfg(target_os = "linux")]
    fn codes_that_icmp_can_cause_are_not_fatal() {
        // EINTR ENOMEM EACCES EMFILE EPROTO EMSGSIZE ENOPROTOOPT EPROTONOSUPPORT EOPNOTSUPP ENETDOWN
        // ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS ETIMEDOUT ECONNREFUSED EHOSTDOWN
        // EHOSTUNREACH ENONET
        for code in [
            4, 12, 13, 24, 71, 90, 92, 93, 95, 100, 101, 102, 103, 104, 105, 110, 111, 112, 113, 64,
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert!(!is_fatal(&error), "{error}");
        }
        for code in [9, 22, 32, 88, 107] {
            let error = io::Error::from_raw_os_error(code);
            assert!(is_fatal(&error), "{error}");
        }
    }
}
