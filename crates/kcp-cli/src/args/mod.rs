//! The command line: clap's structures, and their translation into the options of a command.
//!
//! Nothing here reaches `cmd`: every command gets plain, validated options.

mod copy;
mod demo;
mod ping;
mod protocol;
mod values;

use clap::{Args, Parser, Subcommand};

use crate::cmd::{Command, Output};
use crate::error::{EXIT_CODES, Failure};
use crate::progress::Console;

/// Reliable transfer over bad links with KCP: a demo, file copy, and ping.
#[derive(Debug, Parser)]
#[command(name = "kcp", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: CommandArgs,
}

#[derive(Debug, Subcommand)]
enum CommandArgs {
    #[command(after_help = EXIT_CODES)]
    Demo(demo::DemoArgs),
    #[command(after_help = EXIT_CODES)]
    Send(copy::SendArgs),
    #[command(after_help = EXIT_CODES)]
    Recv(copy::RecvArgs),
    #[command(after_help = EXIT_CODES)]
    Serve(copy::ServeArgs),
    #[command(after_help = EXIT_CODES)]
    Ping(ping::PingArgs),
    #[command(after_help = EXIT_CODES)]
    Echo(ping::EchoArgs),
}

/// How results are shown.
#[derive(Args, Debug)]
struct OutputArgs {
    /// Results as JSON on standard output
    #[arg(long)]
    json: bool,
    /// No progress and no notes
    #[arg(long, short)]
    quiet: bool,
}

impl OutputArgs {
    fn into_output(self) -> Output {
        Output {
            json: self.json,
            quiet: self.quiet,
            console: Console::new(self.quiet),
        }
    }
}

/// Reads the command line. Help, version and wrong usage end the process, the last with code 2.
pub(crate) fn parse() -> Result<Command, Failure> {
    into_command(Cli::parse())
}

fn into_command(cli: Cli) -> Result<Command, Failure> {
    Ok(match cli.command {
        CommandArgs::Demo(args) => Command::Demo(args.into_options()?),
        CommandArgs::Send(args) => Command::Send(args.into_options()?),
        CommandArgs::Recv(args) => Command::Recv(args.into_options()?),
        CommandArgs::Serve(args) => Command::Serve(args.into_options()?),
        CommandArgs::Ping(args) => Command::Ping(args.into_options()?),
        CommandArgs::Echo(args) => Command::Echo(args.into_options()?),
    })
}

/// Only this machine, unless told otherwise: plain KCP does not know who speaks.
const DEFAULT_LISTEN: &str = "127.0.0.1:29900";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::error::Kind;

    fn parse_from(line: &str) -> Result<Command, Failure> {
        into_command(Cli::try_parse_from(line.split(' ')).expect(line))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn send_takes_many_files_and_then_the_peer() {
        let Ok(Command::Send(options)) = parse_from("kcp send a b c 127.0.0.1:9") else {
            panic!("not a send")
        };
        assert_eq!(options.files.len(), 3);
        assert_eq!(options.peer, "127.0.0.1:9");
        assert_eq!(options.transport.preset, "file_transfer");
        assert!(!options.transport.message_mode);
    }

    #[test]
    fn fetching_excludes_listening() {
        let line = ["kcp", "recv", "127.0.0.1:9", "--listen", "127.0.0.1:10"];
        assert!(Cli::try_parse_from(line).is_err());
        let line = ["kcp", "recv", "127.0.0.1:9", "--once"];
        assert!(Cli::try_parse_from(line).is_err());
    }

    #[test]
    fn every_knob_reaches_the_protocol() {
        let line = "kcp echo --preset gaming --mtu 1000 --sndwnd 64 --rcvwnd 200 --interval 20 \
                    --nodelay 0 --resend 3 --resend-limit 4 --nc 0 --stream --flush interval";
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let Ok(Command::Echo(options)) = parse_from(&line) else {
            panic!("not an echo")
        };
        let protocol = options.transport.endpoint.protocol_config();
        assert_eq!(protocol.mtu_bytes(), 1000);
        assert_eq!(protocol.send_window_segments(), 64);
        assert_eq!(protocol.receive_window_segments(), 200);
        assert_eq!(protocol.tick_interval().as_millis(), 20);
        assert_eq!(protocol.nodelay_level(), kcp_async::NoDelay::Off);
        assert_eq!(protocol.fast_resend_threshold(), 3);
        assert_eq!(protocol.fast_resend_transmissions(), 4);
        assert!(protocol.uses_congestion_window());
        assert!(protocol.is_stream_mode());
        assert_eq!(protocol.flushes(), kcp_async::FlushPolicy::Interval);
    }

    #[test]
    fn a_setting_out_of_range_is_wrong_usage_and_named_by_its_flag() {
        for (flag, value) in [
            ("--mtu", "10"),
            ("--mtu", "70000"),
            ("--sndwnd", "0"),
            ("--rcvwnd", "100000"),
            ("--interval", "6s"),
            ("--resend", "256"),
            ("--sndqueue", "0"),
            ("--sockbuf", "2G"),
            ("--connect-timeout", "1ms"),
            ("--dead-peer-timeout", "1ms"),
            ("--idle-timeout", "1ms"),
            ("--keepalive", "1ms"),
            ("--linger", "99999999h"),
        ] {
            let Err(failure) = parse_from(&format!("kcp echo {flag} {value}")) else {
                panic!("accepted {flag} {value}")
            };
            assert_eq!(failure.kind(), Kind::Usage);
            assert!(failure.message().starts_with(flag), "{failure}");
        }
        let Err(failure) = parse_from("kcp recv --stall-timeout 10ms") else {
            panic!("accepted")
        };
        assert!(
            failure.message().starts_with("--stall-timeout"),
            "{failure}"
        );
    }
}
