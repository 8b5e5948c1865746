//! `ping` against `echo`.

#[cfg(unix)]
use crate::support::start;
use crate::support::{kcp, listen};

#[test]
fn every_ping_is_answered() {
    let (_echo, address) = listen(&["echo"]);
    let run = kcp(&["ping", &address, "-c", "5", "-i", "10ms"]).expect_code(0);
    assert!(
        run.stdout.starts_with(&format!("KCP PING {address}")),
        "{run:?}"
    );
    assert_eq!(run.stdout.matches("56 bytes from").count(), 5, "{run:?}");
    assert!(
        run.stdout.contains("5 sent, 5 answered, 0.0 % unanswered"),
        "{run:?}"
    );
    assert!(
        run.stdout.contains("rtt min/avg/p50/p90/p99/max = "),
        "{run:?}"
    );
}

#[test]
fn sizes_and_modes_do_not_matter() {
    for mode in ["--message", "--stream"] {
        let (_echo, address) = listen(&["echo", mode]);
        for size in ["8", "5000", "65536"] {
            let args = ["ping", &address, mode, "-c", "3", "-i", "1ms", "-s", size];
            let run = kcp(&args).expect_code(0);
            assert!(
                run.stdout.contains("3 sent, 3 answered"),
                "{mode} {size}: {run:?}"
            );
        }
    }
}

#[test]
fn json_has_percentiles() {
    let (_echo, address) = listen(&["echo"]);
    let run = kcp(&["ping", &address, "-c", "4", "-i", "5ms", "--json"]).expect_code(0);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["sent"], 4);
    assert_eq!(report["answered"], 4);
    let times = &report["rtt_ms"];
    assert!(times["p50"].as_f64().unwrap() <= times["p99"].as_f64().unwrap());
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_the_summary() {
    let (_echo, address) = listen(&["echo"]);
    let mut ping = start(&["ping", &address, "-i", "10ms"]);
    while !ping.stdout_line().contains("seq=3 ") {}
    ping.interrupt();
    let run = ping.finish().expect_code(0);
    assert!(run.stdout.contains("kcp ping statistics"), "{run:?}");
}
