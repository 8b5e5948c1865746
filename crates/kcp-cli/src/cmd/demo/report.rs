//! The demo's result: a table for people, the same as JSON.

use serde::Serialize;

use super::Options;
use super::bulk::Bulk;
use super::echo::Echo;
use crate::error::{Failure, Kind};
use crate::latency::Summary;
use crate::preset::Preset;
use crate::report::{self, Table};

/// One preset's results.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) preset: Preset,
    pub(super) bulk: Bulk,
    pub(super) echo: Echo,
}

#[derive(Serialize)]
struct DemoJson {
    link: String,
    seed: u64,
    phase_seconds: f64,
    messages_per_second: u32,
    message_bytes: usize,
    presets: Vec<RowJson>,
    ok: bool,
}

#[derive(Serialize)]
struct RowJson {
    preset: &'static str,
    bulk: BulkJson,
    echo: EchoJson,
}

#[derive(Serialize)]
struct BulkJson {
    bytes: u64,
    seconds: f64,
    goodput_bytes_per_second: f64,
    blake3: String,
    intact: bool,
    wire_bytes: u64,
    wire_bytes_per_payload_byte: Option<f64>,
    retransmitted_share: f64,
}

#[derive(Serialize)]
struct EchoJson {
    sent: u64,
    answered: u64,
    intact: bool,
    rtt_ms: Option<Summary>,
    overloaded: bool,
    carried_per_second: Option<f64>,
}

impl Row {
    fn goodput(&self) -> f64 {
        self.bulk.bytes as f64 / self.bulk.took.as_secs_f64().max(1e-6)
    }

    fn overhead(&self) -> Option<f64> {
        (self.bulk.bytes > 0).then(|| self.bulk.wire_bytes as f64 / self.bulk.bytes as f64)
    }

    fn cells(&self) -> Vec<String> {
        let time = |pick: fn(&Summary) -> f64| {
            self.echo
                .times
                .as_ref()
                .map_or_else(|| "-".to_owned(), |times| format!("{:.0}", pick(times)))
        };
        vec![
            self.preset.name().to_owned(),
            report::rate(self.goodput()),
            self.overhead()
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            report::percent(self.bulk.retransmitted),
            time(|times| times.p50),
            time(|times| times.p99),
            time(|times| times.max),
            format!("{}/{}", self.echo.sent, self.echo.answered),
            if self.bulk.intact && self.echo.intact {
                "ok"
            } else {
                "MISMATCH"
            }
            .to_owned(),
        ]
    }

    /// What the numbers of this row do not say by themselves.
    fn notes(&self, options: &Options) -> Vec<String> {
        let name = self.preset.name();
        let mut notes = Vec::new();
        if let Some(carried) = self.echo.overloaded {
            notes.push(format!(
                "{name}: {} messages/s are more than it carries on this link (about {carried:.0}/s): \
                 its round trips are mostly waiting time",
                options.messages_per_second,
            ));
        }
        if self.bulk.bytes == 0 {
            notes.push(format!("{name}: no bulk data arrived at all"));
        }
        notes
    }
}

/// Prints the results.
pub(super) fn print(options: &Options, rows: &[Row]) -> Result<(), Failure> {
    if options.output.json {
        return report::print_json(&json(options, rows));
    }
    report::print(&text(options, rows))
}

/// A mismatch anywhere, or nothing having arrived, fails the demo.
pub(super) fn result(rows: &[Row]) -> Result<(), Failure> {
    for row in rows {
        let name = row.preset.name();
        if !row.bulk.intact || !row.echo.intact {
            let text = format!("{name}: what arrived is not what was sent");
            return Err(Failure::new(Kind::Mismatch, text));
        }
        if row.bulk.bytes == 0 || row.echo.answered == 0 {
            return Err(Failure::new(
                Kind::Lost,
                format!("{name}: no message was answered in time"),
            ));
        }
    }
    Ok(())
}

fn text(options: &Options, rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "preset",
        "goodput",
        "wire/payload",
        "resent",
        "p50 ms",
        "p99 ms",
        "max ms",
        "sent/answered",
        "content",
    ]);
    rows.iter().for_each(|row| table.row(row.cells()));
    let mut text = format!(
        "link, each way: {}; seed {}\n\n",
        options.link, options.seed
    );
    text.push_str(&table.render());
    text.push_str(&format!(
        "\ngoodput, wire/payload, resent: {} of bulk data; p50, p99, max: round trips of {} messages/s\n\
         of {} bytes for {}, unanswered ones with their age at the end\n",
        if options.full { "the file's length".to_owned() } else { seconds(options) },
        options.messages_per_second,
        options.message_size,
        seconds(options),
    ));
    for note in rows.iter().flat_map(|row| row.notes(options)) {
        text.push_str(&format!("{note}\n"));
    }
    text
}

fn seconds(options: &Options) -> String {
    format!("{} s", options.phase.as_secs_f64())
}

fn json(options: &Options, rows: &[Row]) -> DemoJson {
    let presets = rows.iter().map(|row| RowJson {
        preset: row.preset.name(),
        bulk: BulkJson {
            bytes: row.bulk.bytes,
            seconds: row.bulk.took.as_secs_f64(),
            goodput_bytes_per_second: row.goodput(),
            blake3: report::hex(&row.bulk.hash),
            intact: row.bulk.intact,
            wire_bytes: row.bulk.wire_bytes,
            wire_bytes_per_payload_byte: row.overhead(),
            retransmitted_share: row.bulk.retransmitted,
        },
        echo: EchoJson {
            sent: row.echo.sent,
            answered: row.echo.answered,
            intact: row.echo.intact,
            rtt_ms: row.echo.times,
            overloaded: row.echo.overloaded.is_some(),
            carried_per_second: row.echo.overloaded,
        },
    });
    DemoJson {
        link: options.link.to_string(),
        seed: options.seed,
        phase_seconds: options.phase.as_secs_f64(),
        messages_per_second: options.messages_per_second,
        message_bytes: options.message_size,
        presets: presets.collect(),
        ok: result(rows).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kcp_netem::LinkConfig;

    use super::*;
    use crate::cmd::Output;
    use crate::progress::Console;

    fn options() -> Options {
        Options {
            presets: Preset::ALL.to_vec(),
            phase: Duration::from_secs(5),
            file: None,
            full: false,
            messages_per_second: 60,
            message_size: 64,
            link: LinkConfig::demo(),
            seed: 1,
            output: Output {
                json: false,
                quiet: true,
                console: Console::new(true),
            },
        }
    }

    fn row() -> Row {
        let bulk = Bulk {
            bytes: 10 << 20,
            took: Duration::from_secs(5),
            hash: [0; 32],
            intact: true,
            wire_bytes: 12 << 20,
            retransmitted: 0.064,
        };
        let times = Summary {
            count: 300,
            min: 61.0,
            mean: 70.0,
            p50: 66.0,
            p90: 90.0,
            p99: 190.4,
            max: 211.5,
        };
        let echo = Echo {
            sent: 300,
            answered: 299,
            times: Some(times),
            intact: true,
            overloaded: None,
        };
        Row {
            preset: Preset::TurboMode,
            bulk,
            echo,
        }
    }

    #[test]
    fn a_row_holds_every_number() {
        let text = text(&options(), &[row()]);
        let line = text
            .lines()
            .find(|line| line.starts_with("turbo_mode"))
            .unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "turbo_mode",
                "2.00",
                "MiB/s",
                "1.20",
                "6.4",
                "%",
                "66",
                "190",
                "212",
                "300/299",
                "ok"
            ]
        );
    }

    #[test]
    fn an_overloaded_preset_is_named() {
        let mut row = row();
        row.echo.overloaded = Some(23.6);
        let text = text(&options(), &[row]);
        assert!(
            text.contains("turbo_mode: 60 messages/s are more than it carries"),
            "{text}"
        );
        assert!(text.contains("about 24/s"), "{text}");
    }

    #[test]
    fn mismatch_and_silence_fail_the_demo() {
        assert_eq!(result(&[row()]), Ok(()));
        let mut wrong = row();
        wrong.bulk.intact = false;
        assert_eq!(
            result(&[row(), wrong.clone()]).unwrap_err().kind(),
            Kind::Mismatch
        );
        assert!(text(&options(), &[wrong]).contains("MISMATCH"));
        let mut silent = row();
        silent.bulk.bytes = 0;
        assert_eq!(result(&[silent]).unwrap_err().kind(), Kind::Lost);
    }

    #[test]
    fn json_has_the_same_numbers() {
        let json = serde_json::to_value(json(&options(), &[row()])).unwrap();
        assert_eq!(
            json["presets"][0]["bulk"]["goodput_bytes_per_second"],
            2_097_152.0
        );
        assert_eq!(json["presets"][0]["echo"]["rtt_ms"]["p99"], 190.4);
        assert_eq!(json["ok"], true);
    }
}
