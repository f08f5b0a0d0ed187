//! A neighbour on the air as the state machine sees it.

use crate::gate::Gate;
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::link::channel::PeerNumber;
use blvm_mesh_core::link::datagram::Sent;
use blvm_mesh_core::mesh::MeshError;
use secp256k1::PublicKey;

/// A session with a neighbour on the air.
pub(super) struct AirLink {
    pub(super) peer: PeerNumber,
    pub(super) remote: PublicKey,
    /// Its link; without one the neighbour has another way to this node, and the session is a
    /// spare one.
    pub(super) id: Option<LinkId>,
    /// Why the state machine wants it to end.
    pub(super) down: Option<MeshError>,
    pub(super) gate: Gate,
}

impl AirLink {
    pub(super) fn new(peer: PeerNumber, remote: PublicKey, queue: usize, sent: Sent) -> Self {
        Self { peer, remote, id: None, down: None, gate: Gate::new(queue, sent) }
    }
}
