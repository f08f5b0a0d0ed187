//! The loop's body on the air.

use super::{Board, Hand};
use crate::radio::{Beside, Opened, RadioEvent, Sender};
use crate::relay::Relay;
use crate::{Happening, Port};
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::mesh::Input;
use blvm_mesh_core::time::Micros;
use secp256k1::PublicKey;

impl<A: Aead, P: Port, const PORTS: usize, R: Beside> Board<A, P, PORTS, R> {
    /// Deals with what was heard on the air; whether there may be more.
    pub(super) fn listen(&mut self, on: &mut dyn FnMut(Happening<'_>)) -> bool {
        let Self { relay, keypair, rng, now, .. } = self;
        let mut keys = Hand { local: keypair, secp: relay.mesh.secp(), rng };
        let more = relay.beside.receive(*now, &mut keys, on);
        self.settle_air(on);
        more
    }

    /// Sends on the air what is due; when there is more to do at the latest.
    pub(super) fn on_air(&mut self, on: &mut dyn FnMut(Happening<'_>)) -> Option<Micros> {
        let Self { relay, keypair, rng, now, .. } = self;
        let mut keys = Hand { local: keypair, secp: relay.mesh.secp(), rng };
        let wake = relay.beside.transmit(*now, &mut keys, on);
        // A timeout may have ended a session.
        self.settle_air(on);
        wake
    }

    /// Gives the state machine the neighbours on the air that come and go, and their packets.
    fn settle_air(&mut self, on: &mut dyn FnMut(Happening<'_>)) {
        let Self { relay, packet: room, now, .. } = self;
        loop {
            while let Some(event) = relay.beside.poll_event(*now) {
                match event {
                    RadioEvent::Up(place, remote) => offer(relay, place, &remote, *now, on),
                    RadioEvent::Down(link, reason) => {
                        relay.give(*now, Input::PeerDisconnected { link }, on);
                        on(Happening::LinkDown { port: PORTS, reason });
                    }
                }
            }
            let Some((sender, bytes)) = relay.beside.next_packet() else { break };
            room.clear();
            // It has room for the largest packet that a neighbour was told of.
            let _ = room.extend_from_slice(bytes);
            let link = match sender {
                Sender::Link(link) => Some(link),
                Sender::Spare(place) => open(relay, place, *now, on),
                Sender::Nobody => None,
            };
            if let Some(link) = link {
                relay.receive(*now, link, room, on);
            }
        }
        let mut from = 0;
        while let Some((place, remote)) = relay.beside.spare(from) {
            from = place + 1;
            offer(relay, place, &remote, *now, on);
        }
    }
}

/// Makes a session on the air a link, unless its neighbour has another way to this node.
fn offer<A: Aead, R: Beside>(
    relay: &mut Relay<A, R>,
    place: usize,
    remote: &PublicKey,
    now: Micros,
    on: &mut dyn FnMut(Happening<'_>),
) {
    let node = NodeId::from_public_key(remote);
    if !relay.mesh.table().neighbours.iter().any(|neighbour| neighbour.node == node) {
        open(relay, place, now, on);
    }
}

/// Makes a session on the air a link.
fn open<A: Aead, R: Beside>(
    relay: &mut Relay<A, R>,
    place: usize,
    now: Micros,
    on: &mut dyn FnMut(Happening<'_>),
) -> Option<LinkId> {
    let link = relay.link_id();
    let Opened { remote, standing, capabilities } = relay.beside.open(place, link)?;
    let peer = NodeId::from_public_key(&remote);
    // Nobody does; that both ends say the same decides which of two links stays.
    let dialed = relay.mesh.id() < peer;
    let capabilities = Some(capabilities);
    relay.give(now, Input::PeerConnected { link, peer, dialed, standing, capabilities }, on);
    Some(link)
}
