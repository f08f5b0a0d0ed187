//! What carries links: the seam between the engine and the ways to a neighbour.
//!
//! ```text
//! carrier                                              engine
//! who has proven his key    -- Neighbour (offer) -->   takes it or not (accept)
//!                           <-- Inlet, Outlet, Ended --
//! what comes in             -- Inlet -->               gives the buffers back
//! what is to be sent        <-- Outlet: queues --      is told of room
//! ```
//!
//! A carrier is a file or folder here. It authenticates neighbours, and moves packets
//! between its wire and the ends that the engine gives it. [`all`] starts them all. Nothing
//! outside of this folder knows which of them there are.

pub(crate) mod all;
mod backoff;
mod keys;
#[cfg(test)]
pub(crate) mod memory;
mod serial;
mod tcp;

use super::clock::Clock;
use super::link::buffer::{BUFFERS, Buffer};
use super::link::egress::{Egress, EgressLimits, RoomAgain};
use super::link::memory::Share;
use super::presence::Presence;
use super::status::DialStatus;
pub(crate) use backoff::Pauses;
use blvm_mesh_core::id::{LinkId, Standing};
use blvm_mesh_core::link::fragment::FragmentError;
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::time::Micros;
pub(crate) use keys::LinkKey;
use secp256k1::PublicKey;
use smol::Executor;
use smol::channel::{Receiver, Sender};
use std::convert::Infallible;
use std::sync::Arc;

/// What carriers need of the node; cheap to clone.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) engine: ToEngine,
    pub(crate) key: Arc<LinkKey>,
    pub(crate) clock: Clock,
    /// Who has a link: nobody else is dialled.
    pub(crate) presence: Arc<Presence>,
    /// Where it is noted why there is no link.
    pub(crate) dials: Arc<DialStatus>,
    pub(crate) pauses: Pauses,
    pub(crate) executor: Arc<Executor<'static>>,
}

/// Longest packet before the hello was taken, in bytes: a hello is shorter.
const LONGEST_HELLO: usize = 1024;

/// Who has proven his key, and what leads to him.
pub(crate) struct Neighbour {
    pub(crate) public_key: PublicKey,
    /// What leads to him, for those who ask.
    pub(crate) address: String,
    /// Whether this node dialled.
    pub(crate) dialed: bool,
    /// What the way he came says of him, whoever he is.
    pub(crate) standing: Standing,
    pub(crate) limits: Limits,
}

/// Limits of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bounds of its queues.
    pub(crate) egress: EgressLimits,
    /// Longest silence before its neighbour is greeted, in microseconds, where answers take
    /// longer than the node's configuration has it; 0: none.
    pub(crate) keepalive: Option<Micros>,
    /// Whether the carrier finds out by itself that nobody takes what is sent.
    pub(crate) is_watched: bool,
}

impl Limits {
    /// Whether answers take longer than on other links.
    pub(crate) fn is_slow(&self) -> bool {
        self.keepalive.is_some()
    }
}

/// What the engine is told of links.
pub(crate) enum LinkEvent {
    /// Here is a neighbour.
    Offered(Box<Offer>),
    /// Packets came in.
    Batch(Batch),
    /// No memory is left for a packet that comes in parts.
    Starved { link: LinkId },
    /// The carrier has lost the link.
    Down { link: LinkId, reason: String },
    /// The queue of the link's lane has room again.
    Room { link: LinkId, lane: Lane },
    /// Bytes came on the link; whether they are part of a packet that is not complete.
    Alive { link: LinkId, incoming: bool },
    /// What the carrier has measured, in 1/256 transmissions per packet.
    Measured { link: LinkId, quality: u16 },
}

/// Whole packets that came in on a link at once.
pub(crate) struct Batch {
    pub(crate) link: LinkId,
    pub(crate) buffer: Buffer,
}

/// The engine has ended.
#[derive(Debug)]
pub(crate) struct Stopped;

/// The way to the engine, for those who carry links; cheap to clone.
#[derive(Clone)]
pub(crate) struct ToEngine {
    events: Sender<LinkEvent>,
}

impl ToEngine {
    /// The way, and where the engine takes what comes on it: at most so many that wait.
    pub(crate) fn new(most: usize) -> (Self, Receiver<LinkEvent>) {
        let (events, told) = smol::channel::bounded(most);
        (Self { events }, told)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// Offers a link; `None` if the engine does not want it now.
    pub(crate) async fn offer(&self, neighbour: Neighbour) -> Result<Option<Accepted>, Stopped> {
        let (accepted, answer) = smol::channel::bounded(1);
        let offer = Offer { neighbour, accepted, events: self.events.clone() };
        self.tell(LinkEvent::Offered(Box::new(offer))).await?;
        Ok(answer.recv().await.ok())
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), Stopped> {
        self.events.send(event).await.map_err(|_| Stopped)
    }
}

/// A link that the engine may take; dropping it declines.
pub(crate) struct Offer {
    pub(crate) neighbour: Neighbour,
    accepted: Sender<Accepted>,
    events: Sender<LinkEvent>,
}

impl Offer {
    /// Takes the link under this number; `None` if the carrier is gone.
    pub(crate) fn accept(
        self,
        link: LinkId,
        egress: Arc<Egress>,
        share: Arc<Share>,
    ) -> Option<Carriage> {
        let (returned, buffers) = smol::channel::bounded(BUFFERS);
        let (open, closed) = smol::channel::bounded(1);
        let (all_sent, sent) = smol::channel::bounded(1);
        let engine = ToEngine { events: self.events };
        let to_engine = LinkReport { link, engine, share: share.clone() };
        let max_packet = self.neighbour.limits.egress.max_packet;
        let report = to_engine.clone();
        let inlet = Inlet { report, share: share.clone(), max_packet, buffers, made: 0 };
        let outlet = Outlet { report: to_engine, egress, share, all_sent };
        let accepted = Accepted { inlet, outlet, ended: Ended(closed) };
        self.accepted.try_send(accepted).ok()?;
        Some(Carriage { returned, sent, _open: open })
    }
}

/// What the engine has of the carrier of an open link; dropping it ends the link.
pub(crate) struct Carriage {
    returned: Sender<Buffer>,
    sent: Receiver<Infallible>,
    _open: Sender<Infallible>,
}

impl Carriage {
    /// Gives back what packets were handed over in.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        // There are never more buffers than places.
        let _ = self.returned.try_send(buffer);
    }

    /// Waits until everything is sent that was in the queues when they were told to finish.
    pub(crate) async fn all_sent(self) {
        // Nothing comes: this ends when the carrier has no more to send.
        let _ = self.sent.recv().await;
    }
}

/// The carrier's ends of an open link.
pub(crate) struct Accepted {
    inlet: Inlet,
    outlet: Outlet,
    ended: Ended,
}

/// Tells when the engine has closed a link: its carrier ends then.
struct Ended(Receiver<Infallible>);

impl Ended {
    async fn wait(&self) {
        // Nothing comes: this ends when the engine drops the link.
        let _ = self.0.recv().await;
    }
}

/// What is told of one link.
#[derive(Clone)]
struct LinkReport {
    link: LinkId,
    engine: ToEngine,
    share: Arc<Share>,
}

impl LinkReport {
    async fn down(&self, reason: String) -> Result<(), Stopped> {
        self.engine.tell(LinkEvent::Down { link: self.link, reason }).await
    }

    /// Bytes came; whether they are part of a packet that is not complete.
    async fn alive(&self, incoming: bool) -> Result<(), Stopped> {
        self.heard(LinkEvent::Alive { link: self.link, incoming }).await
    }

    /// Sends an event that proves the neighbour alive, and counts it until the engine has handled
    /// it. To be cancelled only with the link: the count would stay.
    async fn heard(&self, event: LinkEvent) -> Result<(), Stopped> {
        self.share.begin_event();
        self.engine.tell(event).await
    }

    /// There is no memory for a packet that comes in parts.
    async fn starved(&self) -> Result<(), Stopped> {
        self.engine.tell(LinkEvent::Starved { link: self.link }).await
    }

    async fn measured(&self, quality: u16) -> Result<(), Stopped> {
        self.engine.tell(LinkEvent::Measured { link: self.link, quality }).await
    }

    async fn room(&self, again: RoomAgain) -> Result<(), Stopped> {
        for lane in again.lanes() {
            self.engine.tell(LinkEvent::Room { link: self.link, lane }).await?;
        }
        Ok(())
    }
}

/// Where packets go in that came on a link: whole ones, and before the hello was taken one at
/// a time, each of which waits for the engine.
struct Inlet {
    report: LinkReport,
    share: Arc<Share>,
    max_packet: usize,
    buffers: Receiver<Buffer>,
    /// Buffers that there are.
    made: usize,
}

/// Why a packet was not taken.
enum NotTaken {
    /// The engine has closed the link, or has ended.
    Closed,
    /// It is longer than is taken now.
    TooLong(FragmentError),
}

impl Inlet {
    /// Whether the hello was taken. Until then packets go by [`put`](Self::put).
    fn is_up(&self) -> bool {
        self.share.is_up()
    }

    /// Longest packet that is taken now, in bytes.
    fn longest_packet(&self) -> usize {
        if self.is_up() { self.max_packet } else { LONGEST_HELLO }
    }

    /// A buffer to be filled. While all are with the engine it is behind, and so the
    /// neighbour waits.
    async fn buffer(&mut self, len: usize) -> Result<Buffer, Stopped> {
        match self.buffers.try_recv() {
            Ok(buffer) => Ok(buffer),
            Err(_) if self.made < BUFFERS => {
                self.made += 1;
                Ok(Buffer::new(len, self.share.clone()))
            }
            Err(_) => self.buffers.recv().await.map_err(|_| Stopped),
        }
    }

    /// Gives up the buffer that the engine has given back, if there is one.
    fn forget_spare(&mut self) {
        self.made -= self.buffers.try_recv().map_or(0, |_| 1);
    }

    /// Hands the packets in a buffer over.
    async fn hand_over(&self, mut buffer: Buffer) -> Result<(), Stopped> {
        buffer.count();
        let batch = Batch { link: self.report.link, buffer };
        self.report.heard(LinkEvent::Batch(batch)).await
    }

    /// Hands a copy of one packet over. Before the hello was taken it waits for the engine,
    /// as that may be the hello.
    async fn put(&mut self, packet: &[u8]) -> Result<(), NotTaken> {
        let (is_up, max) = (self.is_up(), self.longest_packet());
        if packet.len() > max {
            return Err(NotTaken::TooLong(FragmentError::PacketTooLong { max }));
        }
        let mut buffer = self.buffer(0).await?;
        buffer.put(packet);
        self.hand_over(buffer).await?;
        if !is_up {
            self.buffers.recv().await.map_err(|_| NotTaken::Closed)?;
            self.made -= 1;
        }
        Ok(())
    }
}

impl From<Stopped> for NotTaken {
    fn from(_: Stopped) -> Self {
        Self::Closed
    }
}

/// Where packets come out that are to be sent on a link.
struct Outlet {
    report: LinkReport,
    egress: Arc<Egress>,
    share: Arc<Share>,
    /// To be dropped or closed when all is sent that was there when the link was told to finish.
    all_sent: Sender<Infallible>,
}
