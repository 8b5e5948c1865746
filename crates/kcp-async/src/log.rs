//! `tracing` events with the feature of that name, nothing without it.

#[cfg(feature = "tracing")]
pub(crate) use tracing::{debug, trace, warn};

#[cfg(not(feature = "tracing"))]
pub(crate) use silent::{debug, trace, warn};

#[cfg(not(feature = "tracing"))]
mod silent {
    macro_rules! debug {
        ($($field:tt)*) => {};
    }
    macro_rules! trace {
        ($($field:tt)*) => {};
    }
    macro_rules! warning {
        ($($field:tt)*) => {};
    }
    pub(crate) use {debug, trace, warning as warn};
}
