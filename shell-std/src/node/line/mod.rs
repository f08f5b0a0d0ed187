//! Serial lines: a task for each keeps it open and a link over it up.
//!
//! ```text
//! engine -- packets --> egress --> DatagramLink -- frames --> port (paced by its rate)
//!    ^                                  ^ |
//!    +---- packets, up and down --------+-+---- bytes between zeros <-- port
//! ```
//!
//! A line has one neighbour. Who has its key dials; who has none listens. The line
//! stays open when the link ends, and is opened anew when it breaks off.

mod driver;
mod hello;
mod keys;
mod limits;
mod port;
mod status;

pub(crate) use limits::LineLimits;
pub(crate) use status::LineStatus;

use super::clock::Clock;
use super::command::{Buffer, Command};
use super::dial::{Backoff, Pauses};
use super::egress::{Egress, EgressLimits};
use super::handshake::LinkKey;
use super::memory::Share;
use super::presence::Presence;
use super::status::DialStatus;
use crate::address::SerialLine;
use blvm_mesh_core::id::{LinkId, NodeId};
use driver::Driver;
use port::{Port, PortError};
use secp256k1::PublicKey;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

/// The end of a new link at its line.
pub(crate) struct LineEnd {
    /// Takes the other end; dropped where the link is refused.
    pub(crate) opened: smol::channel::Sender<Opened>,
    /// Bounds of its queues.
    pub(crate) egress: EgressLimits,
}

/// The end of an open link at the engine.
pub(crate) struct Opened {
    pub(crate) link: LinkId,
    /// What waits to be sent.
    pub(crate) egress: Arc<Egress>,
    /// The link's memory.
    pub(crate) share: Arc<Share>,
    /// Gives back what packets were handed over in.
    pub(crate) buffers: smol::channel::Receiver<Buffer>,
    /// Ends when the engine has closed the link.
    pub(crate) closed: smol::channel::Receiver<Infallible>,
    /// To be dropped when all is sent that was there when the node was told to stop.
    pub(crate) all_sent: smol::channel::Sender<Infallible>,
}

/// A line and what its task needs of the node.
pub(crate) struct Line {
    pub(crate) line: SerialLine,
    /// Who is dialled; `None`: whoever comes is answered.
    pub(crate) remote: Option<PublicKey>,
    pub(crate) limits: LineLimits,
    pub(crate) key: Arc<LinkKey>,
    pub(crate) clock: Clock,
    pub(crate) presence: Arc<Presence>,
    pub(crate) engine: smol::channel::Sender<Command>,
    pub(crate) dials: Arc<DialStatus>,
    pub(crate) status: Arc<LineStatus>,
    pub(crate) pauses: Pauses,
}

impl Line {
    /// Keeps the line open for as long as the engine runs.
    pub(crate) async fn keep(self) {
        let mut backoff = Backoff::new(self.pauses);
        while !self.engine.is_closed() {
            self.absent().await;
            let (error, lasted) = match Port::open(&self.line, self.key.timeout).await {
                Ok(port) => {
                    let since = Instant::now();
                    tracing::info!(line = %self.line, "the line is open");
                    self.status.opened();
                    let error = Driver::new(&self, &port).run().await;
                    (error, Some(since.elapsed()))
                }
                Err(error) => (error, None),
            };
            if let PortError::Stopping = error {
                return;
            }
            self.failed(&error.to_string());
            if let Some(pause) = backoff.after(lasted) {
                smol::Timer::after(pause).await;
            }
        }
    }

    /// Who is dialled.
    fn dialed(&self) -> Option<NodeId> {
        self.remote.as_ref().map(NodeId::from_public_key)
    }

    /// Waits until there is no link with who is dialled.
    async fn absent(&self) {
        if let Some(id) = self.dialed() {
            self.presence.absent(&id).await;
        }
    }

    fn failed(&self, error: &str) {
        // A line that stays away is not worth more than one line in the log.
        match self.status.failed(error) {
            true => tracing::warn!(line = %self.line, "{error}"),
            false => tracing::debug!(line = %self.line, "{error}"),
        }
        if let Some(id) = self.dialed() {
            self.dials.note(id, error.to_owned());
        }
    }
}
