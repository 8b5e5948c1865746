//! Network namespaces for tests: making and removing them, links between them, code inside them.
//!
//! A namespace lives as long as a child process that waits for the end of its standard input, so
//! nothing is left behind when a test panics or is killed. A thread that has entered a namespace
//! opens its sockets there; they stay there, whichever thread uses them later.

use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Whether namespaces can be made here. Prints the reason if not.
///
/// To be the first line of each test: `if !harness::available() { return; }`.
///
/// # Panics
/// If they cannot and `KCP_KERNEL_TESTS=require` is set.
pub(crate) fn available() -> bool {
    let Err(reason) = try_to_make_one() else {
        return true;
    };
    let required = std::env::var("KCP_KERNEL_TESTS").is_ok_and(|value| value == "require");
    assert!(!required, "KCP_KERNEL_TESTS=require, and {reason}");
    eprintln!("skipped: {reason}");
    false
}

fn try_to_make_one() -> Result<(), String> {
    let made = Command::new("unshare")
        .args(["-n", "ip", "link", "set", "lo", "up"])
        .output()
        .map_err(|error| format!("there is no `unshare` (util-linux): {error}"))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(format!(
            "`unshare -n ip link set lo up` needs root and iproute2: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        )),
    }
}

/// A network namespace with its loopback interface up. It is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    keeper: Child,
    file: File,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo made; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut made = String::new();
        let output = keeper.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut made).unwrap();
        assert_eq!(made, "made\n");
        let file = File::open(format!("/proc/{}/ns/net", keeper.id())).unwrap();
        let namespace = Self { keeper, file };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs a closure on a thread inside.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.file.as_fd(), kind).unwrap();
                f()
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a future inside, on a runtime of its own with two workers.
    pub(crate) fn block_on<F: Future>(&self, make: impl FnOnce() -> F + Send) -> F::Output
    where
        F::Output: Send,
    {
        self.run(|| {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2).enable_all();
            runtime.build().unwrap().block_on(make())
        })
    }

    /// `ip` with these arguments, which must succeed.
    pub(crate) fn ip(&self, arguments: &str) {
        let output = self.run(|| {
            Command::new("ip")
                .args(arguments.split_whitespace())
                .output()
                .unwrap()
        });
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {errors}");
    }

    /// Writes a value below `/proc/sys/net`, for example `("ipv4/ip_forward", "1")`.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        // The file system shows the settings of the thread that looks.
        self.run(|| std::fs::write(format!("/proc/sys/net/{name}"), value))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Joins two namespaces by a pair of interfaces, each with an IPv4 and an IPv6 address.
    pub(crate) fn link(&self, interface: &Interface<'_>, other: &Self, far: &Interface<'_>) {
        let peer = other.keeper.id();
        let (near_name, far_name) = (interface.name, far.name);
        self.ip(&format!(
            "link add {near_name} type veth peer name {far_name} netns {peer}"
        ));
        for (namespace, interface) in [(self, interface), (other, far)] {
            let Interface { name, v4, v6 } = interface;
            namespace.ip(&format!("addr add {v4} dev {name}"));
            namespace.ip(&format!("addr add {v6} dev {name} nodad"));
            namespace.ip(&format!("link set {name} up"));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interface<'a> {
    pub(crate) name: &'a str,
    /// Address and prefix length.
    pub(crate) v4: &'a str,
    /// Address and prefix length.
    pub(crate) v6: &'a str,
}

/// A client and a server with a router between them.
///
/// | host | interface | addresses |
/// |---|---|---|
/// | client | `eth0` | 10.1.0.1, fd01::1 |
/// | router | `left` | 10.1.0.2, fd01::2 |
/// | router | `right` | 10.2.0.2, fd02::2 |
/// | server | `eth0` | 10.2.0.1, fd02::1 |
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) client: Namespace,
    pub(crate) router: Namespace,
    pub(crate) server: Namespace,
}

/// The server's addresses in [`Routed`].
pub(crate) const SERVER: [&str; 2] = ["10.2.0.1", "fd02::1"];

impl Routed {
    pub(crate) fn new() -> Self {
        let [client, router, server] = [Namespace::new(), Namespace::new(), Namespace::new()];
        let end = |name, v4, v6| Interface { name, v4, v6 };
        client.link(
            &end("eth0", "10.1.0.1/24", "fd01::1/64"),
            &router,
            &end("left", "10.1.0.2/24", "fd01::2/64"),
        );
        server.link(
            &end("eth0", "10.2.0.1/24", "fd02::1/64"),
            &router,
            &end("right", "10.2.0.2/24", "fd02::2/64"),
        );
        router.sysctl("ipv4/ip_forward", "1");
        router.sysctl("ipv6/conf/all/forwarding", "1");
        client.ip("route add default via 10.1.0.2");
        client.ip("-6 route add default via fd01::2");
        server.ip("route add default via 10.2.0.2");
        server.ip("-6 route add default via fd02::2");
        Self {
            client,
            router,
            server,
        }
    }
}
