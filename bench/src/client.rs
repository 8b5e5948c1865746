//! The client of every workload.

mod bulk;
mod messages;
mod ping_pong;
mod sessions;
mod several;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::content::Content;
use crate::control::{Marks, tell};
use crate::peers::{self, BoxStream, Connector, raw};
use crate::protocol::{Event, Metrics, Order, Task, Workload};
use crate::server::HELLO;

pub(crate) use bulk::figures;

/// What a workload has to work with.
struct Client {
    opener: Opener,
    task: Task,
    marks: Marks,
    content: Arc<Content>,
}

/// Opens connections, also from several tasks at a time.
#[derive(Clone)]
struct Opener {
    connector: Arc<dyn Connector>,
    server: SocketAddr,
    content: Arc<Content>,
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
        let content = Arc::new(Content::new());
        let client = Client {
            opener: Opener {
                connector: peers::connector(order.peer, &order.task).await?,
                server,
                content: Arc::clone(&content),
            },
            task: order.task.clone(),
            marks,
            content,
        };
        client.work().await?
    };
    tell(&Event::Result { metrics });
    // The parent ends the process: how a peer closes is not measured.
    std::future::pending().await
}

impl Client {
    async fn work(&self) -> io::Result<Metrics> {
        match self.task.workload {
            Workload::Bulk | Workload::LossyBulk => bulk::run(self).await,
            Workload::PingPong => ping_pong::run(self).await,
            Workload::Sessions => sessions::run(self).await,
            Workload::LossyMessages => messages::run(self).await,
            Workload::Parallel => several::parallel(self).await,
            Workload::Loaded => several::loaded(self).await,
        }
    }
}

impl Opener {
    /// A connection that both sides have used, and of which the server knows what it is for.
    async fn open(&self, kind: u8) -> io::Result<BoxStream> {
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
