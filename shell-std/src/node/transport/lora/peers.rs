//! The neighbours of a channel, and their links to the engine.

use super::super::{Accepted, Ended, Inlet, Outlet};
use crate::node::link::egress::Egress;
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::link::channel::PeerNumber;
use blvm_mesh_core::link::datagram::{LinkQuality, Sent};
use secp256k1::PublicKey;
use smol::channel::Sender;
use smol::future::or;
use smol::{Executor, Task};
use std::pin::pin;
use std::sync::Arc;

/// A neighbour with a session.
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) node: NodeId,
    /// Its link; without one it has another way to this node, and the session is a spare one.
    pub(super) open: Option<Open>,
}

/// An open link.
pub(super) struct Open {
    pub(super) inlet: Inlet,
    pub(super) outlet: Outlet,
    /// Something was queued on it: the hello.
    pub(super) spoke: bool,
    /// The neighbour has the hello: before that it accepts nothing else.
    pub(super) greeted: bool,
    pub(super) quality: LinkQuality,
    /// Passes on what the engine does; ends with the link.
    _watch: Task<()>,
}

/// What the engine has done with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Packets wait.
    Packets,
    /// It is closed.
    Closed,
}

impl Open {
    /// The link that the engine has accepted. What the engine does with it is told under its number.
    pub(super) fn new(
        number: PeerNumber,
        accepted: Accepted,
        sent: Sent,
        signals: Sender<(PeerNumber, Signal)>,
        executor: &Executor<'static>,
    ) -> Self {
        let Accepted { inlet, outlet, ended } = accepted;
        let watch = executor.spawn(watch(number, outlet.egress.clone(), ended, signals));
        let quality = LinkQuality::new(sent);
        Self { inlet, outlet, spoke: false, greeted: false, quality, _watch: watch }
    }

    pub(super) fn link(&self) -> LinkId {
        self.outlet.report.link
    }
}

async fn watch(
    number: PeerNumber,
    egress: Arc<Egress>,
    ended: Ended,
    signals: Sender<(PeerNumber, Signal)>,
) {
    let mut closed = pin!(ended.wait());
    loop {
        let ends = async {
            (&mut closed).await;
            Signal::Closed
        };
        let waits = async {
            egress.woken().await;
            Signal::Packets
        };
        let signal = or(ends, waits).await;
        // Where nobody listens the modem is gone, and this task with it.
        let _ = signals.send((number, signal)).await;
        if signal == Signal::Closed {
            return;
        }
    }
}
