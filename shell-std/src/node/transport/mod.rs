//! Transports: the seam between the engine and what carries links.
//!
//! ```text
//! carrier                                              engine
//! who has proven his key    -- Neighbour (offer) -->   takes it or not (accept)
//!                           <-- Inlet, Outlet, Ended --
//! what comes in             -- Inlet -->               gives the buffers back
//! what is to be sent        <-- Outlet: queues --      is told of room
//! ```
//!
//! A carrier is a file or folder here. It authenticates neighbours, and moves packets between its
//! wire and the ends that the engine gives it. [`all`] starts them all. Nothing outside this
//! folder knows which there are.

pub(crate) mod all;
mod backoff;
mod keys;
mod lora;
#[cfg(test)]
pub(crate) mod memory;
mod port;
mod serial;
mod tcp;

use super::bans::Bans;
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
use blvm_mesh_core::mesh::Priority;
use blvm_mesh_core::time::Micros;
pub(crate) use keys::LinkKey;
use secp256k1::PublicKey;
use smol::Executor;
use smol::channel::{Receiver, Sender};
use std::convert::Infallible;
use std::sync::Arc;

/// What carriers need from the node; cheap to clone.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) engine: ToEngine,
    pub(crate) key: Arc<LinkKey>,
    pub(crate) clock: Clock,
    /// Who has a link: nobody else is dialled.
    pub(crate) presence: Arc<Presence>,
    /// Who is banned: not dialled either.
    pub(crate) bans: Arc<Bans>,
    /// Records why there is no link.
    pub(crate) dials: Arc<DialStatus>,
    pub(crate) pauses: Pauses,
    pub(crate) executor: Arc<Executor<'static>>,
}

/// Longest packet before the hello was accepted, in bytes: a hello is shorter.
const LONGEST_HELLO: usize = 1024;

/// A neighbour that has proven its key, and how it is reached.
pub(crate) struct Neighbour {
    pub(crate) public_key: PublicKey,
    /// The address to show.
    pub(crate) address: String,
    /// Whether this node dialled.
    pub(crate) dialed: bool,
    /// Whether its address marks it as an own neighbour or a stranger.
    pub(crate) standing: Standing,
    pub(crate) limits: Limits,
    /// What it shares with other neighbours, if it does.
    pub(crate) medium: Option<Medium>,
}

/// What several links share, as on a radio channel: a packet for all of them is sent once.
#[derive(Debug, Clone)]
pub(crate) struct Medium {
    /// Its number, not 0; no other has it.
    pub(crate) number: u8,
    to_all: Sender<ToAll>,
}

/// A packet for all neighbours on a medium.
#[derive(Debug)]
pub(crate) struct ToAll {
    /// The link of one that has it already.
    except: Option<LinkId>,
    packet: Vec<u8>,
}

/// Packets for all on a medium that may wait for its carrier.
const MOST_TO_ALL: usize = 16;

impl Medium {
    /// The engine's end, and where the carrier takes the packets from.
    fn new(number: u8) -> (Self, Receiver<ToAll>) {
        let (to_all, waiting) = smol::channel::bounded(MOST_TO_ALL);
        (Self { number, to_all }, waiting)
    }

    /// Sends a packet to all neighbours but one; false if too many wait, or the carrier is gone.
    pub(crate) fn send_all(&self, except: Option<LinkId>, packet: &[u8]) -> bool {
        self.to_all.try_send(ToAll { except, packet: packet.to_vec() }).is_ok()
    }
}

/// Limits of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bounds of its queues.
    pub(crate) egress: EgressLimits,
    /// Keep-alive of this link, in microseconds, if answers take longer than the node's
    /// configuration says; 0: none.
    pub(crate) keepalive: Option<Micros>,
    /// How long its largest packet and an answer take, in microseconds, where that is long and no
    /// keep-alive says so; else 0.
    pub(crate) round_trip: Micros,
    /// Whether the carrier itself notices that the neighbour is not reading.
    pub(crate) is_watched: bool,
}

impl Limits {
    /// Whether answers take longer than on other links.
    pub(crate) fn is_slow(&self) -> bool {
        self.keepalive.is_some()
    }
}

/// What carriers tell the engine.
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

/// Whole packets that came in on a link together.
pub(crate) struct Batch {
    pub(crate) link: LinkId,
    pub(crate) buffer: Buffer,
}

/// The engine has ended.
#[derive(Debug)]
pub(crate) struct Stopped;

/// The carriers' way to the engine; cheap to clone.
#[derive(Clone)]
pub(crate) struct ToEngine {
    events: Sender<LinkEvent>,
}

impl ToEngine {
    /// The sending end, and where the engine receives: at most so many events wait.
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

/// A link that the engine may accept; dropping it declines.
pub(crate) struct Offer {
    pub(crate) neighbour: Neighbour,
    accepted: Sender<Accepted>,
    events: Sender<LinkEvent>,
}

impl Offer {
    /// Accepts the link under this number; `None` if the carrier is gone.
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

/// The engine's end of an open link; dropping it ends the link.
pub(crate) struct Carriage {
    returned: Sender<Buffer>,
    sent: Receiver<Infallible>,
    _open: Sender<Infallible>,
}

impl Carriage {
    /// Gives a buffer back in which packets were handed over.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        // There are never more buffers than places.
        let _ = self.returned.try_send(buffer);
    }

    /// Waits until everything is sent that was in the queues when they were told to finish.
    pub(crate) async fn all_sent(self) {
        // Nothing is received: this ends when the carrier has no more to send.
        let _ = self.sent.recv().await;
    }
}

/// The carrier's ends of an open link.
pub(crate) struct Accepted {
    inlet: Inlet,
    outlet: Outlet,
    ended: Ended,
}

/// Tells when the engine has closed a link; its carrier then ends.
struct Ended(Receiver<Infallible>);

impl Ended {
    async fn wait(&self) {
        // Nothing is received: this ends when the engine drops the link.
        let _ = self.0.recv().await;
    }
}

/// What a carrier tells about one link.
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

/// Where a carrier puts received packets: whole ones, and before the hello was accepted one at a
/// time, each of which waits for the engine.
struct Inlet {
    report: LinkReport,
    share: Arc<Share>,
    max_packet: usize,
    buffers: Receiver<Buffer>,
    /// How many buffers there are.
    made: usize,
}

/// Why a packet was not accepted.
enum NotTaken {
    /// The engine has closed the link, or has ended.
    Closed,
    /// It is longer than is accepted now.
    TooLong(FragmentError),
}

impl Inlet {
    /// Whether the hello was accepted. Until then packets go through [`put`](Self::put).
    fn is_up(&self) -> bool {
        self.share.is_up()
    }

    /// Longest packet that is accepted now, in bytes.
    fn longest_packet(&self) -> usize {
        if self.is_up() { self.max_packet } else { LONGEST_HELLO }
    }

    /// An empty buffer. While all are with the engine, it is behind, and the neighbour must wait.
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

    /// Drops the buffer that the engine has given back, if there is one.
    fn forget_spare(&mut self) {
        self.made -= self.buffers.try_recv().map_or(0, |_| 1);
    }

    /// Hands the packets in a buffer over.
    async fn hand_over(&self, mut buffer: Buffer) -> Result<(), Stopped> {
        buffer.count();
        let batch = Batch { link: self.report.link, buffer };
        self.report.heard(LinkEvent::Batch(batch)).await
    }

    /// Hands a copy of one packet over. Before the hello was accepted it waits for the engine, as
    /// this may be the hello.
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

/// The lane of a datagram link that a packet goes on, if it is `ready` for one: control packets take
/// the free one where the paid one is full, and the others wait until the neighbour was `greeted`.
fn lane_for(priority: Priority, greeted: bool, ready: impl Fn(Lane) -> bool) -> Option<Lane> {
    let lane = match priority {
        Priority::Control if ready(Lane::Paid) => Lane::Paid,
        Priority::Paid if greeted => Lane::Paid,
        Priority::Free if greeted => Lane::Free,
        Priority::Control => Lane::Free,
        Priority::Paid | Priority::Free => return None,
    };
    ready(lane).then_some(lane)
}

/// Where a carrier takes the packets to be sent on a link.
struct Outlet {
    report: LinkReport,
    egress: Arc<Egress>,
    share: Arc<Share>,
    /// Dropped or closed when everything is sent that was queued when the link was told to
    /// finish.
    all_sent: Sender<Infallible>,
}
