//! Links over lines that lose, repeat, reorder and damage frames: serial lines and
//! radio. Frames of the line on one side, packets with one neighbour on the other.
//!
//! ```text
//! link = DatagramLink::new(limits, role, memory)
//! loop:
//!     for each frame that came in:     link.receive(now, frame, keys)
//!     while the line has room:         link.transmit(now, keys, out) => send out[..n]
//!     while let Some(event) =          link.poll_event()
//!     while let Some(packet) =         link.next_packet()
//!     sleep until a frame comes in or  link.poll_timeout()
//! ```
//!
//! On a serial line [`serial`] makes bytes of frames and frames of bytes; on radio the
//! frames go as they are.
//!
//! - The handshake is that of BOLT 8; its acts are sent again until they are answered.
//!   It runs beside the session that stands, which is replaced when the same neighbour
//!   has completed another one, and never by bytes that prove nothing.
//! - Each lane is a sequence of bytes in which packets follow one another; frames carry
//!   pieces of it ([`body`]), so small packets share a frame and large ones are split.
//!   What is not acknowledged is sent again. Packets of a lane arrive once and in order.
//! - Everything is bounded: memory by what is lent, half-open handshakes in number,
//!   work for strangers by an allowance, packets and sessions by deadlines.

mod answer;
pub mod body;
mod call;
pub mod cipher;
mod inbound;
mod limits;
mod outbound;
mod outcome;
pub mod packet;
mod quality;
pub mod rto;
pub mod serial;
mod session;
mod stream;
pub mod terms;
pub mod window;

#[cfg(test)]
mod given_up_tests;
#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod session_tests;

pub use answer::HALF_OPEN;
pub use inbound::{BadPacket, STRETCHES};
pub use limits::DatagramLimits;
pub use outbound::{IN_FLIGHT, QUEUED, Sent};
pub use outcome::{Down, Event, Ignored, NotQueued};
pub use quality::LinkQuality;

use super::{aead::Aead, lane::Lane, packet_buffer::PacketBuffer};
use crate::time::Micros;
use answer::{Answered, Answers};
use body::{BY_RANK, Body};
use call::Call;
use inbound::Inbound;
use limits::Allowance;
use outbound::Outbound;
use packet::Pieces;
use rto::Rto;
use secp256k1::{Keypair, PublicKey};
use session::Session;
use terms::{ActFrame, MIN_FRAME, SESSIONS};

/// Bytes that the memory of a lane must hold beyond its largest packet or its queue.
pub const MEMORY_OVERHEAD: usize = stream::HEADROOM + packet::MAX_PREFIX;

/// Bytes of the frame that says that a session is over.
const FAREWELL_LEN: usize = cipher::OVERHEAD + body::FLAGS_LEN;

/// The keys of this node, as a handshake needs them.
pub trait Keys {
    /// The key that this node is known by.
    fn local(&self) -> &Keypair;
    /// A fresh, random key, another one each time.
    fn ephemeral(&mut self) -> Keypair;
}

/// What an end of the line does to get a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens it to the holder of this key, again and again.
    Dial(PublicKey),
    /// Accepts it from whoever comes. While a session stands, only from its neighbour.
    Listen,
}

/// The memory of a link, empty; arrays are indexed by [`Lane`].
#[derive(Debug)]
pub struct LinkMemory<B> {
    /// [`DatagramLimits::max_packet`] and [`MEMORY_OVERHEAD`] bytes each.
    pub inbound: [B; 2],
    /// [`DatagramLimits::queue`] and [`MEMORY_OVERHEAD`] bytes each.
    pub outbound: [B; 2],
}

/// A packet that came in.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'p> {
    /// The queue that the neighbour sent it from.
    pub lane: Lane,
    /// The whole packet.
    pub bytes: &'p mut [u8],
}

/// Handshakes under way. An end of the line has one kind only, and room for no more.
#[derive(Debug)]
enum Side<A> {
    Dial { remote: PublicKey, call: Option<Call<A>>, last: u8 },
    Listen(Answers),
}

impl<A> Side<A> {
    fn call_mut(&mut self) -> Option<&mut Call<A>> {
        match self {
            Self::Dial { call, .. } => call.as_mut(),
            Self::Listen(_) => None,
        }
    }
}

/// One end of a line, and its neighbour at the other.
#[derive(Debug)]
pub struct DatagramLink<A, B> {
    limits: DatagramLimits,
    side: Side<A>,
    session: Option<Session<A>>,
    inbound: [Inbound<B>; 2],
    outbound: Outbound<B>,
    /// The caller has learned that a session stands.
    told: bool,
    down: Option<Down>,
    /// The last frame of a session that this side has closed. If it is lost, the neighbour
    /// finds out later.
    farewell: Option<[u8; FAREWELL_LEN]>,
}

impl<A: Aead, B: PacketBuffer> DatagramLink<A, B> {
    /// A link without a session. Frames smaller than [`MIN_FRAME`] are raised to it.
    pub fn new(mut limits: DatagramLimits, role: Role, memory: LinkMemory<B>) -> Self {
        limits.frame = limits.frame.max(MIN_FRAME);
        limits.max_packet = limits.max_packet.min(packet::MAX_PACKET as u32);
        let max_packet = limits.max_packet as usize;
        let rto = Rto::new(limits.initial_rto, limits.min_rto, limits.max_rto);
        let window = usize::from(limits.window);
        Self {
            inbound: memory.inbound.map(|memory| Inbound::new(memory, max_packet)),
            outbound: Outbound::new(memory.outbound, limits.queue as usize, window, rto),
            limits,
            side: match role {
                Role::Dial(remote) => Side::Dial { remote, call: None, last: 0 },
                Role::Listen => Side::Listen(Answers::default()),
            },
            session: None,
            told: false,
            down: None,
            farewell: None,
        }
    }

    /// The neighbour, while a session stands.
    pub fn neighbour(&self) -> Option<PublicKey> {
        self.session.as_ref().map(|session| session.remote)
    }

    /// Largest packet that the neighbour takes, in bytes, while a session stands.
    pub fn max_packet(&self) -> Option<u32> {
        self.session.as_ref().map(|session| session.max_packet)
    }

    /// Largest packet that can be queued on a lane now, in bytes.
    pub fn room(&self, lane: Lane) -> usize {
        self.outbound.room(lane)
    }

    /// Whether all that was queued has arrived.
    pub fn is_idle(&self) -> bool {
        self.outbound.is_idle()
    }

    /// The smoothed round trip in microseconds, once measured.
    pub fn round_trip(&self) -> Option<Micros> {
        self.outbound.round_trip()
    }

    /// What was sent since the beginning.
    pub fn sent(&self) -> Sent {
        self.outbound.sent()
    }

    /// Whether a call of this side was answered, and its last act may have arrived.
    pub fn is_answered(&self) -> bool {
        matches!(&self.side, Side::Dial { call: Some(call), .. } if call.is_answered())
    }

    /// Whether the last frame of a session that this side has closed is still to be sent.
    pub fn has_farewell(&self) -> bool {
        self.farewell.is_some()
    }

    /// Whether it has something to send that goes before free packets: those of the paid lane, an
    /// acknowledgement that is due, or a handshake.
    pub fn is_urgent(&self, now: Micros) -> bool {
        let Some(session) = &self.session else { return true };
        let owed = session.confirm || session.ack_due().is_some_and(|due| due <= now);
        owed || self.outbound.has_queued(Lane::Paid)
    }

    /// Takes a frame that came in, and decrypts it in place.
    ///
    /// # Errors
    /// [`Ignored`]: it changed nothing.
    pub fn receive(
        &mut self,
        now: Micros,
        frame: &mut [u8],
        keys: &mut impl Keys,
    ) -> Result<(), Ignored> {
        let number = *frame.first().ok_or(Ignored::NotAFrame)?;
        if number <= SESSIONS {
            return self.take_frame(now, number, frame);
        }
        match (ActFrame::parse(frame)?, &mut self.side) {
            (ActFrame::One(terms, act), Side::Listen(answers)) => {
                let in_use = self.session.as_ref().map(|session| session.number);
                answers.act_one::<A>(now, &self.limits, terms, act, keys, in_use)
            }
            (ActFrame::Two(number, terms, act), Side::Dial { call, .. }) => {
                let call = call.as_mut().filter(|call| call.session == number);
                call.ok_or(Ignored::UnknownSession)?.act_two(now, &self.limits, terms, act)
            }
            (ActFrame::Three(number, act), Side::Listen(answers)) => {
                if let Some(session) = &mut self.session
                    && session.number == number
                    && session.act_three.is_some_and(|tag| act.ends_with(&tag))
                {
                    // Our confirmation was lost.
                    session.confirm = true;
                    return Ok(());
                }
                let answered = answers.act_three::<A>(now, number, act)?;
                self.answered(answered, act.last_chunk().copied())
            }
            _ => Err(Ignored::NotForUs),
        }
    }

    /// Queues a packet, given in two parts, for the neighbour. It is given up if it has
    /// not arrived after [`DatagramLimits::packet_timeout`].
    ///
    /// # Errors
    /// [`NotQueued`].
    pub fn queue(
        &mut self,
        now: Micros,
        lane: Lane,
        head: &[u8],
        tail: &[u8],
    ) -> Result<(), NotQueued> {
        let session = self.session.as_ref().ok_or(NotQueued::Down)?;
        let len = head.len().saturating_add(tail.len());
        let max = session.max_packet.min(self.limits.queue) as usize;
        if len > max {
            return Err(NotQueued::TooLong { len, max });
        }
        let pieces = Pieces::new(head, tail).ok_or(NotQueued::Empty)?;
        let deadline = now.saturating_add(self.limits.packet_timeout);
        let queued = self.outbound.queue(lane, &pieces, deadline);
        if queued { Ok(()) } else { Err(NotQueued::Full) }
    }

    /// Writes the next frame for the line into `out`, which should hold
    /// [`DatagramLimits::frame`] bytes; returns its length, or `None` if there is
    /// nothing to send now.
    pub fn transmit(&mut self, now: Micros, keys: &mut impl Keys, out: &mut [u8]) -> Option<usize> {
        self.handle_timeout(now);
        self.dial(now, keys);
        let size = out.len().min(usize::from(self.limits.frame));
        let out = out.get_mut(..size).filter(|out| out.len() >= usize::from(MIN_FRAME))?;
        if let Some(farewell) = self.farewell.take() {
            out.get_mut(..FAREWELL_LEN)?.copy_from_slice(&farewell);
            return Some(FAREWELL_LEN);
        }
        let act = match &mut self.side {
            Side::Listen(answers) => answers.transmit(now, out),
            Side::Dial { call, .. } => {
                call.as_mut().and_then(|call| call.transmit(now, self.limits.max_rto, out))
            }
        };
        if act.is_some() {
            return act;
        }
        let session = self.session.as_mut()?;
        let end = session.frame.min(out.len()).checked_sub(super::aead::TAG_LEN)?;
        let room = out.get_mut(cipher::HEADER_LEN..end)?;
        let ack = session.ack();
        let owed = session.ack_due().is_some();
        let (len, acked) = match self.outbound.fill(now, session.next_counter(), ack, owed, room) {
            Some(filled) => filled,
            None if session.confirm || session.ack_due().is_some_and(|due| now >= due) => {
                (Body { ack, ..Default::default() }.write(room)?, ack.is_some())
            }
            None => return None,
        };
        let sealed = session.seal(out, len, acked);
        if sealed.is_none() {
            self.end(Down::Counters);
        }
        sealed
    }

    /// When [`transmit`](Self::transmit) must be called, even if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Micros> {
        let dial = match (&self.side, &self.session) {
            (Side::Listen(answers), _) => answers.poll_timeout(),
            (Side::Dial { call: Some(call), .. }, _) => Some(call.poll_timeout()),
            (Side::Dial { .. }, None) => Some(0),
            (Side::Dial { .. }, Some(_)) => self.waits(self.limits.probe_after),
        };
        let session = self.session.as_ref();
        let session = session.and_then(|s| if s.confirm { Some(0) } else { s.ack_due() });
        let dead = self.waits(self.limits.dead_after);
        let farewell = self.farewell.as_ref().map(|_| 0);
        let all = [dial, session, dead, self.outbound.poll_timeout(), farewell];
        all.into_iter().flatten().min()
    }

    /// What happened to the link since it was last asked.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(reason) = self.down.take() {
            return Some(Event::Down(reason));
        }
        let neighbour = self.neighbour().filter(|_| !self.told)?;
        self.told = true;
        Some(Event::Up(neighbour))
    }

    /// The packet that [`next_packet`](Self::next_packet) will give, if it is not one of the mesh, from
    /// which the link leaves something out; empty for these, and where the neighbour's bytes are no
    /// packet. `None`: there is none.
    pub fn peek_packet(&mut self) -> Option<&[u8]> {
        let found = BY_RANK.into_iter().find_map(|lane| {
            self.inbound[lane as usize].find().transpose().map(|found| (lane, found))
        });
        let (lane, found) = found?;
        Some(match found {
            Ok(found) => self.inbound[lane as usize].peek(&found),
            Err(_) => &[],
        })
    }

    /// The next packet from the neighbour, paid ones first, lent until anything else is
    /// asked for.
    pub fn next_packet(&mut self) -> Option<Packet<'_>> {
        for lane in BY_RANK {
            match self.inbound[lane as usize].find() {
                Ok(Some(found)) => {
                    let bytes = self.inbound[lane as usize].lend(found);
                    return Some(Packet { lane, bytes });
                }
                Ok(None) => {}
                Err(bad) => {
                    self.end(Down::Packet(bad));
                    return None;
                }
            }
        }
        None
    }

    /// Ends the session, as the state machine wants it, and tells the neighbour with the next
    /// frame, unless that one does not know yet that the session stands. Who dials will dial
    /// again.
    pub fn close(&mut self) {
        let Some(session) = &mut self.session else { return };
        let known = !session.confirm;
        let (mut frame, close) = ([0; FAREWELL_LEN], Body { close: true, ..Body::default() });
        let len = frame.get_mut(cipher::HEADER_LEN..).and_then(|room| close.write(room));
        let sealed = len.and_then(|len| session.seal(&mut frame, len, false));
        self.farewell = sealed.filter(|_| known).map(|_| frame);
        self.end(Down::Closed);
    }

    fn handle_timeout(&mut self, now: Micros) {
        self.outbound.handle_timeout(now);
        if self.waits(self.limits.dead_after).is_some_and(|dead| now >= dead) {
            self.end(Down::Silent);
        }
        if let Side::Dial { call, .. } = &mut self.side {
            call.take_if(|call| now >= call.until);
        }
    }

    /// Begins a handshake if one is needed, and drops one that is not any more.
    fn dial(&mut self, now: Micros, keys: &mut impl Keys) {
        let doubtful = self.waits(self.limits.probe_after).is_some_and(|at| now >= at);
        let Side::Dial { remote, call, last } = &mut self.side else { return };
        if self.session.is_some() && !doubtful {
            // Once Act Three is out the other side may have replaced its session.
            call.take_if(|call| call.session_mut().is_none());
            return;
        }
        if call.is_none() {
            let next = |number: u8| number.wrapping_add(1) & SESSIONS;
            *last = next(*last);
            if self.session.as_ref().is_some_and(|session| session.number == *last) {
                *last = next(*last);
            }
            *call = Some(Call::new(now, &self.limits, *remote, *last, keys));
        }
    }

    /// Takes a frame of a session.
    fn take_frame(&mut self, now: Micros, number: u8, frame: &mut [u8]) -> Result<(), Ignored> {
        let known = self.session.as_mut().filter(|session| session.number == number);
        if let Some(session) = known {
            let (counter, body) = session.open(frame)?;
            return self.take_body(now, counter, body);
        }
        let called = self.side.call_mut().and_then(Call::session_mut);
        let called = called.filter(|session| session.number == number);
        let (counter, body) = called.ok_or(Ignored::UnknownSession)?.open(frame)?;
        // The first authentic frame shows that the other side has the session.
        if let Side::Dial { call, .. } = &mut self.side
            && let Some(session) = call.take().and_then(Call::into_session)
        {
            self.begin(session);
        }
        self.take_body(now, counter, body)
    }

    fn take_body(&mut self, now: Micros, counter: u64, body: &[u8]) -> Result<(), Ignored> {
        let body = Body::parse(body).ok_or(Ignored::Malformed)?;
        // One of whose session the caller has not heard is taken for silent later.
        if body.close && self.told {
            self.end(Down::ByNeighbour);
            return Ok(());
        }
        for ((lane, chunk), skip) in self.inbound.iter_mut().zip(body.chunk).zip(body.skip) {
            if let Some(to) = skip {
                lane.skip(to)?;
            }
            if let Some(chunk) = chunk {
                lane.put(chunk.offset, chunk.bytes)?;
            }
        }
        let gap = self.inbound.iter().any(Inbound::has_gap);
        let session = self.session.as_mut().ok_or(Ignored::UnknownSession)?;
        session.accept(now, counter, &body, gap, self.limits.ack_delay);
        if let Some(ack) = body.ack {
            self.outbound.acknowledge(now, ack, session.next_counter());
        }
        Ok(())
    }

    /// Whoever completed a handshake gets the link, unless another neighbour has it.
    fn answered(&mut self, answered: Answered, tag: Option<[u8; 16]>) -> Result<(), Ignored> {
        let Answered { remote, secrets, session, terms } = answered;
        if self.neighbour().is_some_and(|neighbour| neighbour != remote) {
            return Err(Ignored::OtherNeighbour);
        }
        let mut session = Session::new(remote, session, &terms, &self.limits, &secrets);
        (session.act_three, session.confirm) = (tag, true);
        self.begin(session);
        Ok(())
    }

    fn begin(&mut self, session: Session<A>) {
        if self.session.is_some() {
            self.end(Down::Replaced);
        }
        self.outbound.reset(session.max_packet);
        self.session = Some(session);
    }

    fn end(&mut self, reason: Down) {
        self.session = None;
        self.outbound.reset(0);
        self.inbound.iter_mut().for_each(Inbound::reset);
        if self.told {
            (self.told, self.down) = (false, Some(reason));
        }
    }

    /// When the neighbour will have owed an acknowledgement for so long.
    fn waits(&self, long: Micros) -> Option<Micros> {
        self.session.as_ref()?;
        self.outbound.waiting_since().map(|since| since.saturating_add(long))
    }
}
