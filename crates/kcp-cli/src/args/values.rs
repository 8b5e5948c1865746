//! Parsers for values with units, for clap.

use std::net::SocketAddr;
use std::time::Duration;

use kcp_netem::{Bitrate, Probability};

use crate::preset::Preset;

/// A duration; a bare number is seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    duration(text, 1.0)
}

/// A duration; a bare number is milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    duration(text, 1e-3)
}

/// A duration in seconds, or None for `off`.
pub(super) fn seconds_or_off(text: &str) -> Result<Limit, String> {
    match text {
        "off" | "none" | "never" => Ok(Limit(None)),
        _ => seconds(text).map(|duration| Limit(Some(duration))),
    }
}

/// A time limit that may be switched off. (A bare `Option` means something else to clap.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(pub(super) Option<Duration>);

/// A number of bytes: `1400`, `64K`, `1.5MiB`. The units are binary.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit
        .to_ascii_lowercase()
        .trim_end_matches("ib")
        .trim_end_matches('b')
    {
        "" => 1_u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(format!("{unit:?} is no unit of bytes (B, K, M, G, T)")),
    };
    let value = number * factor as f64;
    if value > u64::MAX as f64 {
        Err("too large".to_owned())
    } else {
        Ok(value.round() as u64)
    }
}

/// Bits per second, or None for `off`: `100M`, `2.5Gbit`. The units are decimal.
pub(super) fn bitrate(text: &str) -> Result<Rate, String> {
    if matches!(text, "off" | "none") {
        return Ok(Rate(None));
    }
    let (number, unit) = split(text)?;
    let unit = unit.to_ascii_lowercase();
    let unit = unit
        .trim_end_matches("/s")
        .trim_end_matches("ps")
        .trim_end_matches("bit");
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        _ => return Err(format!("{unit:?} is no unit of bits per second (k, M, G)")),
    };
    let rate = Bitrate::new((number * factor) as u64).map_err(|error| error.to_string())?;
    Ok(Rate(Some(rate)))
}

/// A bit rate that may be unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(pub(super) Option<Bitrate>);

/// A share in percent: `5`, `0.5%`.
pub(super) fn percent(text: &str) -> Result<Probability, String> {
    let number = text.trim_end_matches('%').trim();
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no number of percent"))?;
    Probability::new(number / 100.0).map_err(|_| "not within 0 to 100 percent".to_owned())
}

/// A preset's name.
pub(super) fn preset(text: &str) -> Result<Preset, String> {
    Preset::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Preset::ALL.iter().map(|preset| preset.name()).collect();
        format!("no such preset; there are {}", names.join(", "))
    })
}

/// A peer's address, host and port.
pub(super) fn peer(text: &str) -> Result<String, String> {
    let text = &numbered_scope(text);
    match port(text) {
        Some(port) if port != 0 => Ok(text.to_owned()),
        _ => {
            Err("expected HOST:PORT, for example 192.0.2.1:29900 or [2001:db8::1]:29900".to_owned())
        }
    }
}

/// `[fe80::1%eth0]:29900` with the number of the interface for its name, which the standard library does not read. Linux
/// only; what it cannot resolve stays as it is.
fn numbered_scope(text: &str) -> String {
    let numbered = || {
        let (host, rest) = text.split_once('%')?;
        let (name, port) = rest.split_once("]:")?;
        if !host.starts_with('[') || name.contains('/') {
            return None;
        }
        let number = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
        Some(format!("{host}%{}]:{port}", number.trim()))
    };
    numbered().unwrap_or_else(|| text.to_owned())
}

/// An address to listen on; port 0 stands for any.
pub(super) fn listen(text: &str) -> Result<String, String> {
    let text = &numbered_scope(text);
    match port(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected ADDR:PORT, for example 0.0.0.0:29900 or [::]:29900".to_owned()),
    }
}

/// The port of an address, if it is one: an IPv4 address, an IPv6 address in brackets, or a name,
/// and a port. Whether a name resolves shows later.
fn port(text: &str) -> Option<u16> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.port());
    }
    let (host, port) = text.rsplit_once(':')?;
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_name = host.chars().all(of_name)
        && !host.starts_with(['-', '.'])
        // Numbers and dots alone would have been an IPv4 address.
        && host.contains(|c: char| c.is_alphabetic());
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|_| is_name && digits)
}

fn duration(text: &str, bare: f64) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => bare,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit of time (us, ms, s, m, h)")),
    };
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

/// The number in front and the unit behind it.
fn split(text: &str) -> Result<(f64, &str), String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number = text[..end]
        .parse()
        .map_err(|_| format!("{text:?} does not start with a number"))?;
    Ok((number, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(seconds("5"), Ok(Duration::from_secs(5)));
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        assert_eq!(milliseconds("10"), Ok(Duration::from_millis(10)));
        assert_eq!(milliseconds("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(seconds("250 us"), Ok(Duration::from_micros(250)));
        for bad in ["", "s", "-1", "5x", "1e9", "99999999999999999999h"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds_or_off("off"), Ok(Limit(None)));
    }

    #[test]
    fn sizes_and_rates() {
        assert_eq!(bytes("1400"), Ok(1400));
        assert_eq!(bytes("64K"), Ok(65_536));
        assert_eq!(bytes("1.5MiB"), Ok(3 << 19));
        assert!(bytes("5 apples").is_err());
        assert_eq!(bitrate("100M"), Ok(Rate(Some(Bitrate::mbit(100)))));
        assert_eq!(bitrate("2.5Gbit/s"), Ok(Rate(Some(Bitrate::mbit(2500)))));
        assert_eq!(bitrate("off"), Ok(Rate(None)));
        assert!(bitrate("0").is_err());
    }

    #[test]
    fn shares() {
        assert_eq!(percent("5"), Ok(Probability::percent(5)));
        assert_eq!(percent("0.5%"), Ok(Probability::ppm(5000)));
        assert!(percent("101").is_err());
        assert!(percent("NaN").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_scope_may_be_a_name() {
        let lo = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let numbered = format!("[fe80::1%{}]:29900", lo.trim());
        assert_eq!(peer("[fe80::1%lo]:29900").as_ref(), Ok(&numbered));
        assert_eq!(listen("[fe80::1%lo]:29900").as_ref(), Ok(&numbered));
        for bad in [
            "[fe80::1%no such]:1",
            "[fe80::1%../lo]:1",
            "lo%lo]:1",
            "[fe80::1%lo]",
        ] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for good in [
            "127.0.0.1:29900",
            "[::1]:29900",
            "[fe80::1%2]:29900",
            "localhost:1",
            "a-b.example:65535",
        ] {
            assert!(peer(good).is_ok(), "{good}");
            assert!(listen(good).is_ok(), "{good}");
        }
        for bad in [
            "file.txt",
            "host:",
            ":29900",
            "host:99999",
            "host:+80",
            "host:-1",
            "host: 80",
            "29900",
            "127.0.0.1",
            "1.2.3.4.5:80",
            "256.0.0.1:80",
            "1.2.3:80",
            "::1",
            "::1:29900",
            "[::1]",
            "[::1:29900",
            "[host]:29900",
            "a b:80",
            "http://host:80",
            "host:80:80",
            "-x:80",
            "",
        ] {
            assert!(peer(bad).is_err(), "{bad}");
            assert!(listen(bad).is_err(), "{bad}");
        }
        for any in ["host:0", "127.0.0.1:0", "[::]:0"] {
            assert!(peer(any).is_err(), "{any}");
            assert!(listen(any).is_ok(), "{any}");
        }
    }
}
