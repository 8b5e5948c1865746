//! The peers: how each is started, and what it cannot express.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::child::Launch;
use crate::program::settings::{Mode, Role};

/// Sizes of messages of 1 to 127 fragments (mss 1376).
const MESSAGES: &str = "1,1376,1377,700,2752,9000,40000,174752";
/// Sizes of messages of one fragment.
const SMALL_MESSAGES: &str = "1376,1,700,1375,1376,1376,100,1376";
/// Sizes of the writes to a stream.
const WRITES: &str = "65536,1,1377,300,9000";

/// One of the implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// This project.
    Ours,
    /// Our engine under the pump of the C core. Only in our place.
    Engine,
    /// The C core in `kcp-io`, with our own pump.
    CCore,
    /// `tokio_kcp`.
    TokioKcp,
    /// `tokio_kcp` asking the server for a conversation id.
    TokioKcpZero,
    /// `kcp-tokio`.
    KcpTokio,
    /// kcp-go with nil crypt.
    KcpGo,
    /// PyPI `kcp`.
    Python,
    /// npm `node-kcp`.
    Node,
}

/// All that the matrix runs against.
pub(crate) const PEERS: [Peer; 7] = [
    Peer::CCore,
    Peer::TokioKcp,
    Peer::TokioKcpZero,
    Peer::KcpTokio,
    Peer::KcpGo,
    Peer::Python,
    Peer::Node,
];

impl Peer {
    /// The name on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Engine => "engine",
            Self::CCore => "c-core",
            Self::TokioKcp => "tokio_kcp",
            Self::TokioKcpZero => "tokio_kcp-conv0",
            Self::KcpTokio => "kcp-tokio",
            Self::KcpGo => "kcp-go",
            Self::Python => "python-kcp",
            Self::Node => "node-kcp",
        }
    }

    /// The peer of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        PEERS
            .into_iter()
            .chain([Self::Ours, Self::Engine])
            .find(|peer| peer.name() == name)
    }

    /// Which version of what it is.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Ours | Self::Engine => "this tree",
            Self::CCore => "ikcp.c of kcp-io 0.0.7",
            Self::TokioKcp | Self::TokioKcpZero => "tokio_kcp 0.9.8",
            Self::KcpTokio => "kcp-tokio 0.7.0",
            Self::KcpGo => "kcp-go 5.6.1, nil crypt",
            Self::Python => "PyPI kcp 0.1.6",
            Self::Node => "npm node-kcp 1.0.13",
        }
    }

    /// How to start it, or why it cannot be started here.
    pub(crate) fn launch(self) -> Result<Launch, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = here.join("../.peers");
        match self {
            Self::KcpGo => Ok(Launch {
                program: found(installed.join("bin/kcppeer"), "kcppeer is not built")?.into(),
                arguments: Vec::new(),
                environment: Vec::new(),
            }),
            Self::Python => Ok(Launch {
                program: found(installed.join("venv/bin/python"), "no virtual environment")?.into(),
                arguments: vec![here.join("python/peer.py").into()],
                environment: Vec::new(),
            }),
            Self::Node => {
                let modules = installed.join("node/node_modules");
                found(
                    modules.join("node-kcp/build/Release/kcp.node"),
                    "node-kcp is not installed",
                )?;
                Ok(Launch {
                    program: "node".into(),
                    arguments: vec![here.join("node/peer.js").into()],
                    environment: vec![("NODE_PATH", modules.into())],
                })
            }
            _ => {
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                Ok(Launch {
                    program: program.into(),
                    arguments: vec![OsString::from("program"), self.name().into()],
                    environment: Vec::new(),
                })
            }
        }
    }

    /// Sizes of the pieces in which this peer sends.
    pub(crate) fn sizes(self, mode: Mode) -> &'static str {
        match (mode, self) {
            (Mode::Stream, _) => WRITES,
            // Write cuts everything into messages of one fragment.
            (Mode::Message, Self::KcpGo) => SMALL_MESSAGES,
            (Mode::Message, _) => MESSAGES,
        }
    }

    /// Why the peer cannot play this part.
    pub(crate) fn not_applicable(self, role: Role) -> Option<&'static str> {
        match (self, role) {
            (Self::TokioKcpZero, Role::Server) => {
                Some("conv 0 is a client's request; as a server see tokio_kcp")
            }
            _ => None,
        }
    }

    /// What the peer does differently in a cell that runs.
    pub(crate) fn remark(self, mode: Mode) -> &'static str {
        match (self, mode) {
            (Self::KcpGo, Mode::Message) => {
                "peer to us only 1 fragment a message (n/a: Write cuts at the mss)"
            }
            (Self::Python, Mode::Stream) => {
                "peer to us as messages (n/a: the binding has no stream flag)"
            }
            _ => "",
        }
    }

    /// The conversation id for the session `number` of a cell.
    pub(crate) fn conv(self, base: u32, number: u32) -> u32 {
        match self {
            Self::TokioKcpZero => 0,
            // The package's server has one id for all its sessions.
            Self::Python => base,
            _ => base.wrapping_add(number),
        }
    }
}

fn found(path: PathBuf, problem: &str) -> Result<PathBuf, String> {
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{problem}; run scripts/interop.sh install"))
    }
}
