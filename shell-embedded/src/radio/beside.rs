//! What the loop needs of a radio; a board without one has [`NoRadio`], which is nothing.

use crate::{Down, Happening};
use blvm_mesh_core::id::{LinkId, Standing};
use blvm_mesh_core::link::datagram::Keys;
use blvm_mesh_core::mesh::{Input, LinkCapabilities, MeshError, Priority};
use blvm_mesh_core::time::Micros;
use secp256k1::PublicKey;

/// A neighbour on the air becomes a link.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// Who it is.
    pub remote: PublicKey,
    /// Whether it counts as an own neighbour.
    pub standing: Standing,
    /// What the link can do.
    pub capabilities: LinkCapabilities,
}

/// Who sent a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The neighbour of a link.
    Link(LinkId),
    /// That of a session that is no link, with this place: it believes that this is its way to here.
    Spare(usize),
    /// One that is to go.
    Nobody,
}

/// What became of a link on the air.
#[derive(Debug, Clone, Copy)]
pub enum RadioEvent {
    /// A session stands that is no link yet, with this place in [`Beside::open`].
    Up(usize, PublicKey),
    /// A link is down.
    Down(LinkId, Down),
}

/// What a board has beside its lines: a radio with any number of links, or none.
pub trait Beside {
    /// Takes what the chip has; `on` learns how it fares. Whether there may be more.
    fn receive(
        &mut self,
        now: Micros,
        keys: &mut impl Keys,
        on: &mut dyn FnMut(Happening<'_>),
    ) -> bool;

    /// What became of links.
    fn poll_event(&mut self, now: Micros) -> Option<RadioEvent>;

    /// Sessions that are no links, each with its place: those whose neighbours have another way to
    /// this node.
    fn spare(&self, from: usize) -> Option<(usize, PublicKey)>;

    /// Makes a session a link with this number.
    fn open(&mut self, place: usize, link: LinkId) -> Option<Opened>;

    /// The next packet that came in.
    fn next_packet(&mut self) -> Option<(Sender, &mut [u8])>;

    /// Whether this is a link of it.
    fn has(&self, link: LinkId) -> bool;

    /// Puts a packet, `head` and then `tail`, into the queue of a link; `false` if there is no room.
    fn push(
        &mut self,
        now: Micros,
        link: LinkId,
        priority: Priority,
        head: &[u8],
        tail: &[u8],
    ) -> bool;

    /// Puts a packet for all links but one into the queues.
    fn push_all(&mut self, now: Micros, except: Option<LinkId>, packet: &[u8]);

    /// The state machine wants a link to end; false if it is none of these.
    fn close(&mut self, link: LinkId, reason: MeshError) -> bool;

    /// A change of which the state machine is to be told.
    fn change(&mut self) -> Option<Input<'static>>;

    /// Sends the next frame, if it is time. When to come back at the latest.
    fn transmit(
        &mut self,
        now: Micros,
        keys: &mut impl Keys,
        on: &mut dyn FnMut(Happening<'_>),
    ) -> Option<Micros>;
}

/// No radio.
#[derive(Debug, Clone, Copy)]
pub struct NoRadio;

impl Beside for NoRadio {
    fn receive(&mut self, _: Micros, _: &mut impl Keys, _: &mut dyn FnMut(Happening<'_>)) -> bool {
        false
    }

    fn poll_event(&mut self, _: Micros) -> Option<RadioEvent> {
        None
    }

    fn spare(&self, _: usize) -> Option<(usize, PublicKey)> {
        None
    }

    fn open(&mut self, _: usize, _: LinkId) -> Option<Opened> {
        None
    }

    fn next_packet(&mut self) -> Option<(Sender, &mut [u8])> {
        None
    }

    fn has(&self, _: LinkId) -> bool {
        false
    }

    fn push(&mut self, _: Micros, _: LinkId, _: Priority, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn push_all(&mut self, _: Micros, _: Option<LinkId>, _: &[u8]) {}

    fn close(&mut self, _: LinkId, _: MeshError) -> bool {
        false
    }

    fn change(&mut self) -> Option<Input<'static>> {
        None
    }

    fn transmit(
        &mut self,
        _: Micros,
        _: &mut impl Keys,
        _: &mut dyn FnMut(Happening<'_>),
    ) -> Option<Micros> {
        None
    }
}
