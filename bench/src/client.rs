//! The client of every workload.

mod bulk;
mod ping_pong;

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::content::Content;
use crate::control::{Marks, tell};
use crate::peers::{self, BoxStream, Connector, raw};
use crate::protocol::{Event, Metrics, Order, Task, Workload};
use crate::server::HELLO;

pub(crate) use bulk::figures;

/// What a workload has to work with.
struct Client {
    connector: Box<dyn Connector>,
    server: SocketAddr,
    task: Task,
    marks: Marks,
    content: Content,
}

/// Does the workload and tells the parent its figures.
///
/// # Errors
/// What the peer says, and bytes that are not what they should be.
pub(crate) async fn run(order: &Order) -> io::Result<()> {
    let server = order.target.ok_or_else(|| io::Error::other("no server"))?;
    let marks = Marks::start();
    let metrics = if order.peer.is_raw() {
        raw::bulk(order, server, &marks).await?
    } else {
        let mut client = Client {
            connector: peers::connector(order.peer, &order.task).await?,
            server,
            task: order.task.clone(),
            marks,
            content: Content::new(),
        };
        client.work().await?
    };
    tell(&Event::Result { metrics });
    // The parent ends the process: how a peer closes is not measured.
    std::future::pending().await
}

impl Client {
    async fn work(&mut self) -> io::Result<Metrics> {
        match self.task.workload {
            Workload::Bulk | Workload::LossyBulk => bulk::run(self).await,
            Workload::PingPong => ping_pong::run(self).await,
            other => Err(io::Error::other(format!("no client for {other:?} yet"))),
        }
    }

    /// A connection of this kind that both sides have used.
    async fn open(&mut self, kind: u8) -> io::Result<BoxStream> {
        let mut stream = self.connector.connect(self.server).await?;
        let mut hello = [0; HELLO];
        hello.copy_from_slice(self.content.message(0, HELLO));
        hello[0] = kind;
        stream.write_all(&hello).await?;
        let mut answer = [0; HELLO];
        stream.read_exact(&mut answer).await?;
        if answer != hello {
            return Err(io::Error::other("the hello came back changed"));
        }
        Ok(stream)
    }
}
