//! Ctrl-C and, on Unix, SIGTERM, as something every task can wait for.

use std::process;

use tokio::sync::watch;

use crate::error::Kind;

/// Becomes ready with the first signal and stays so. Clones see the same signal.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Takes over the process's signals. A second one ends the process at once, after
    /// `clean_up` has removed what must not stay behind. Needs a tokio runtime.
    pub(crate) fn install(clean_up: fn()) -> Self {
        let (raise, raised) = watch::channel(false);
        tokio::spawn(async move {
            next_signal().await;
            raise.send_replace(true);
            next_signal().await;
            clean_up();
            process::exit(i32::from(Kind::Interrupted.exit_code()));
        });
        Self(raised)
    }

    /// From now on a write beyond the largest file that this process may make (RLIMIT_FSIZE) fails, and does not end
    /// the process. Needs a tokio runtime.
    pub(crate) fn survive_file_limit() {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let exceeded = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
            // The handler stays for good. Without it the system ends the process.
            let _ = signal(exceeded);
        }
    }

    /// A signal raised by this process itself.
    pub(crate) const fn of(raised: watch::Receiver<bool>) -> Self {
        Self(raised)
    }

    /// Waits for the first signal. Cancel safe.
    pub(crate) async fn raised(&self) {
        let mut signal = self.0.clone();
        if signal.wait_for(|&raised| raised).await.is_err() {
            // The task above is gone only when the runtime goes: never a signal.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
async fn next_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            result = tokio::signal::ctrl_c() => wait_if_unavailable(result).await,
            _ = terminate.recv() => {}
        },
        Err(_) => wait_if_unavailable(tokio::signal::ctrl_c().await).await,
    }
}

#[cfg(not(unix))]
async fn next_signal() {
    wait_if_unavailable(tokio::signal::ctrl_c().await).await;
}

/// A process that may not install handlers is ended by the system, as without us.
async fn wait_if_unavailable(result: std::io::Result<()>) {
    if result.is_err() {
        std::future::pending::<()>().await;
    }
}
