//! What a process reads about itself, and order statistics.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// User and system time of all threads since the start, in seconds: before and after the rest of the reading,
    /// which takes a walk over the page tables. An interval goes from after the one to before the other.
    pub(crate) cpu: f64,
    pub(crate) cpu_after: f64,
    /// Resident memory in KiB.
    pub(crate) rss: f64,
    /// Relay only: bytes offered to the link towards the server, and back.
    pub(crate) wire_up: f64,
    pub(crate) wire_down: f64,
}

impl Reading {
    /// Now, of this process.
    pub(crate) fn take() -> Self {
        let cpu = cpu_seconds();
        let rss = resident();
        Self {
            cpu,
            cpu_after: cpu_seconds(),
            rss,
            ..Self::default()
        }
    }

    /// CPU seconds from the reading `before` to this one.
    pub(crate) fn cpu_since(&self, before: &Self) -> f64 {
        self.cpu - before.cpu_after
    }
}

/// CPU time of this process so far.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Resident memory in KiB: summed over the mappings, because the cheap counters lag behind by thread.
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

/// Datagrams that found no room in a socket's receive buffer, of all processes of this machine since it started.
pub(crate) fn socket_drops() -> f64 {
    let text = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return f64::NAN;
    };
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs
        .find(|&(name, _)| name == "RcvbufErrors")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(f64::NAN)
}

/// The value below which `fraction` of the sorted values are; NaN for none.
pub(crate) fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let rank = (fraction * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Sorts and names p50, p99 and the maximum of latencies in microseconds.
pub(crate) fn latencies(mut micros: Vec<f64>) -> [(String, f64); 3] {
    micros.sort_by(f64::total_cmp);
    [
        ("p50_us".into(), percentile(&micros, 0.5)),
        ("p99_us".into(), percentile(&micros, 0.99)),
        ("max_us".into(), percentile(&micros, 1.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 50.0);
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&values, 1.0), 100.0);
        assert_eq!(percentile(&values[..1], 0.5), 1.0);
    }

    #[test]
    fn a_process_has_used_time_and_memory() {
        let reading = Reading::take();
        assert!(reading.cpu > 0.0);
        assert!(reading.rss > 100.0);
    }
}
