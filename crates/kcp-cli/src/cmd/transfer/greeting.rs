//! The greeting: version, roles, and the nonces that validate both addresses.

use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::timeout;

use super::end::End;
use super::link::Writer;
use super::session::{Session, Side};
use crate::copy::{Frame, Nonce, Reason, Role, VERSION, Violation};
use crate::error::{Failure, Kind};
use crate::net;

impl<R: AsyncRead + Unpin, W: Writer> Session<'_, R, W> {
    pub(super) async fn greet(&mut self, side: Side, role: Role) -> Result<(), End> {
        let within = self.context.answer_within;
        let interrupt = self.context.interrupt.clone();
        let greeting = async {
            match side {
                Side::Connecting => self.ask(role).await,
                Side::Listening => self.be_asked(role).await,
            }
        };
        let greeted = tokio::select! {
            result = timeout(within, greeting) => result,
            () = interrupt.raised() => return Err(End::interrupted()),
        };
        greeted.unwrap_or_else(|_| {
            let failure = match side {
                Side::Connecting => net::absent(&self.context.peer, within),
                Side::Listening => {
                    let seconds = within.as_secs_f64();
                    let text = format!("no greeting from {} in {seconds} s", self.context.peer);
                    Failure::new(Kind::Absent, text)
                }
            };
            Err(End::silent(failure))
        })
    }

    /// The greeting of the connecting side. The nonces keep out an answer that was sent blindly, too.
    async fn ask(&mut self, role: Role) -> Result<(), End> {
        let nonce = fresh_nonce()?;
        let hello = Frame::Hello {
            version: VERSION,
            role,
            nonce,
        };
        self.send(&hello).await?;
        let theirs = match self.next().await? {
            // Equality is enough: one guess ends the session, so its time tells nothing of use.
            Frame::Welcome {
                version: VERSION,
                echo,
                nonce: theirs,
            } if echo == nonce => theirs,
            Frame::Welcome {
                version: VERSION, ..
            } => return Err(self.violation(&Violation::Nonce("Welcome"))),
            Frame::Welcome { version, .. } => {
                return Err(self.violation(&Violation::Version(version)));
            }
            Frame::Abort { reason, text } => return Err(self.peer_aborted(reason, &text)),
            other => return Err(self.unexpected(&other, "Welcome")),
        };
        self.validated = true;
        self.send(&Frame::Confirm { echo: theirs }).await
    }

    /// The greeting of the listening side: before it is over the peer may be anyone who can send a
    /// datagram with this address as its source.
    async fn be_asked(&mut self, role: Role) -> Result<(), End> {
        let echo = match self.next().await? {
            Frame::Hello { version, .. } if version != VERSION => {
                return Err(self.other_version(version));
            }
            Frame::Hello { role: theirs, .. } if theirs == role => {
                return Err(self.same_role(role));
            }
            Frame::Hello { nonce, .. } => nonce,
            other => return Err(self.unexpected(&other, "Hello")),
        };
        if let Some(place) = &self.context.place {
            place.stage.welcome();
        }
        self.nothing_early("our Welcome").await?;
        let nonce = fresh_nonce()?;
        let welcome = Frame::Welcome {
            version: VERSION,
            echo,
            nonce,
        };
        self.send(&welcome).await?;
        match self.next().await? {
            // Equality is enough: one guess ends the session, so its time tells nothing of use.
            Frame::Confirm { echo } if echo == nonce => {}
            Frame::Confirm { .. } => return Err(self.violation(&Violation::Nonce("Confirm"))),
            Frame::Abort { reason, text } => return Err(self.peer_aborted(reason, &text)),
            other => return Err(self.unexpected(&other, "Confirm")),
        }
        self.validated = true;
        Ok(())
    }

    fn other_version(&self, version: u16) -> End {
        let failure = self.protocol_failure(&Violation::Version(version));
        let text = format!(
            "this kcp speaks version {VERSION} of the copy protocol, yours version {version}: \
             update the older one"
        );
        End {
            failure,
            tell: Some((Reason::Protocol, text)),
        }
    }

    fn same_role(&self, role: Role) -> End {
        let failure = self.protocol_failure(&Violation::SameRole);
        let text = match role {
            Role::Sender => "this is a kcp serve: use kcp recv HOST:PORT",
            Role::Receiver => "this is a kcp recv: use kcp send",
        };
        End {
            failure,
            tell: Some((Reason::Role, text.to_owned())),
        }
    }
}

fn fresh_nonce() -> Result<Nonce, End> {
    let mut nonce = Nonce::default();
    match getrandom::fill(&mut nonce) {
        Ok(()) => Ok(nonce),
        Err(error) => {
            let text = format!("the system has no random numbers: {error}");
            Err(End::silent(Failure::new(Kind::Local, text)))
        }
    }
}

/// How long a listener waits for the greeting, the nonce included.
pub(super) const GREETING: Duration = Duration::from_secs(10);
