//! The command `kcp-bench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kcp_bench::main()
}
