//! Sockets of short sessions when a process may have few descriptors.

use std::process::Command;

use kcp_async::{KcpConfig, KcpEndpoint, KcpListener, KcpStream};
use tokio::io::AsyncWriteExt;

/// Runs a test of this binary in a process that may have 128 descriptors. `true` in that process.
fn in_a_child(name: &str) -> bool {
    const IN_CHILD: &str = "KCP_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(IN_CHILD).is_some() {
        return true;
    }
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 128 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(IN_CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    false
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn echo_server() -> KcpListener {
    let listener = KcpListener::bind("127.0.0.1:0", KcpConfig::turbo_mode())
        .await
        .unwrap();
    let endpoint = listener.endpoint().clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = endpoint.accept().await {
            tokio::spawn(async move {
                while let Ok(message) = stream.recv_message().await {
                    if message.is_empty() || stream.send(&message).await.is_err() {
                        break;
                    }
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    listener
}

async fn open(listener: &KcpListener) -> KcpStream {
    let stream = KcpStream::connect(listener.local_addr(), KcpConfig::turbo_mode())
        .await
        .unwrap();
    stream.send(b"x").await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"x");
    stream
}

async fn close(mut stream: KcpStream) {
    stream.shutdown().await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"");
}

async fn short_sessions() {
    let listener = echo_server().await;
    let before = open_descriptors();
    for _ in 0..1_000 {
        close(open(&listener).await).await;
    }
    let lingering = open_descriptors() - before;
    assert!(lingering <= 128 / 8 + 2, "{lingering} lingering sockets");
    // Together with the lingering ones these are too many.
    for _ in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..100 {
            streams.push(open(&listener).await);
        }
        for stream in streams {
            close(stream).await;
        }
    }
    let mut endpoints = Vec::new();
    for _ in 0..100 {
        let bound = KcpEndpoint::bind("127.0.0.1:0", KcpConfig::turbo_mode()).await;
        endpoints.push(bound.unwrap());
    }
    drop(endpoints);
    // And what is really too much is said so.
    let mut streams = Vec::new();
    let error = loop {
        match KcpStream::connect(listener.local_addr(), KcpConfig::turbo_mode()).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break std::io::Error::from(error),
        }
    };
    assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
    assert!(streams.len() >= 100, "{}", streams.len());
}

#[test]
#[cfg(target_os = "linux")]
fn short_sessions_do_not_run_out_of_descriptors() {
    if in_a_child("descriptors::short_sessions_do_not_run_out_of_descriptors") {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(short_sessions());
        runtime.shutdown_background();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn short_sessions_on_two_threads_do_not_run_out_of_descriptors() {
    if in_a_child("descriptors::short_sessions_on_two_threads_do_not_run_out_of_descriptors") {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(short_sessions());
        runtime.shutdown_background();
    }
}
