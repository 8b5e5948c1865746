//! Short demos.

use crate::support::{Scratch, kcp};

#[test]
fn a_short_demo_covers_all_presets_without_a_mismatch() {
    let run = kcp(&[
        "demo",
        "--seconds",
        "500ms",
        "--delay",
        "5ms",
        "--jitter",
        "1ms",
        "--json",
    ]);
    let run = run.expect_code(0);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let presets = report["presets"].as_array().unwrap();
    let names: Vec<_> = presets
        .iter()
        .map(|row| row["preset"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "normal",
            "fast_mode",
            "turbo_mode",
            "gaming",
            "file_transfer"
        ]
    );
    for row in presets {
        assert_eq!(row["bulk"]["intact"], true, "{row}");
        assert_eq!(row["echo"]["intact"], true, "{row}");
        assert!(row["bulk"]["bytes"].as_u64().unwrap() > 0, "{row}");
        // Headers and acknowledgements: a wire byte per payload byte is out of reach.
        assert!(
            row["bulk"]["wire_bytes_per_payload_byte"].as_f64().unwrap() > 1.0,
            "{row}"
        );
        assert_eq!(row["echo"]["sent"], 30, "{row}");
    }
    assert_eq!(report["ok"], true);
}

#[test]
fn a_file_is_sent_whole_and_the_table_says_so() {
    let scratch = Scratch::new();
    let (file, _) = scratch.file("file", 700_000);
    let args = [
        "demo",
        "--seconds",
        "300ms",
        "--delay",
        "2ms",
        "--jitter",
        "0",
        "--file",
        &file,
        "--full",
    ];
    let presets = ["--preset", "turbo_mode", "--preset", "file-transfer"];
    let run = kcp(&[&args[..], &presets[..]].concat()).expect_code(0);
    assert_eq!(run.stderr.matches("684 KiB in").count(), 2, "{run:?}");
    for name in ["turbo_mode", "file_transfer"] {
        let line = run
            .stdout
            .lines()
            .find(|line| line.starts_with(name))
            .expect(name);
        assert!(line.ends_with(" ok"), "{line}");
    }
    assert!(run.stdout.contains("sent/answered"));
}
