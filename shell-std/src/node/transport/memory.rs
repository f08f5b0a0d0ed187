//! Links within one process, for tests: whole packets over a pair of channels.

use super::{Accepted, Limits, Neighbour, NotTaken, Stopped, Ways};
use crate::node::link::egress::{EgressLimits, Given};
use blvm_mesh_core::id::Standing;
use secp256k1::PublicKey;
use smol::channel::{Receiver, Sender};
use smol::future::or;
use std::collections::VecDeque;
use std::convert::Infallible;

/// Packets that may be in flight.
const ON_THE_WAY: usize = 64;

/// What joins two nodes; dropping it cuts them.
pub(crate) struct Wire {
    _whole: Sender<Infallible>,
}

/// Joins two nodes, of which the first one dials.
pub(crate) fn join(nodes: [(&Ways, PublicKey); 2], max_packet: usize) -> Wire {
    let [(first, first_key), (second, second_key)] = nodes;
    let (there, at_second) = smol::channel::bounded(ON_THE_WAY);
    let (back, at_first) = smol::channel::bounded(ON_THE_WAY);
    let (whole, cut) = smol::channel::bounded(1);
    let end = |remote, dialed, out, into| {
        let cut = cut.clone();
        End { remote, dialed, max_packet, out, into, cut }
    };
    let ends = [end(second_key, true, there, at_first), end(first_key, false, back, at_second)];
    for (ways, end) in [first, second].into_iter().zip(ends) {
        let engine = ways.engine.clone();
        let carry = async move {
            // Whatever ends it, the other end learns that its channels are closed.
            let _ = end.carry(engine).await;
        };
        ways.executor.spawn(carry).detach();
    }
    Wire { _whole: whole }
}

fn neighbour(public_key: PublicKey, dialed: bool, max_packet: usize) -> Neighbour {
    let high = 1 << 20;
    let egress = EgressLimits { high, low: high / 2, control: 1 << 14, max_packet };
    let limits = Limits { egress, keepalive: None, round_trip: 0, is_watched: false };
    let (address, standing) = ("memory".into(), Standing::Own);
    Neighbour { public_key, address, dialed, standing, limits, medium: None }
}

struct End {
    remote: PublicKey,
    dialed: bool,
    max_packet: usize,
    out: Sender<Vec<u8>>,
    into: Receiver<Vec<u8>>,
    cut: Receiver<Infallible>,
}

impl End {
    async fn carry(self, engine: super::ToEngine) -> Result<(), Stopped> {
        let neighbour = neighbour(self.remote, self.dialed, self.max_packet);
        let Some(Accepted { mut inlet, outlet, ended }) = engine.offer(neighbour).await? else {
            return Ok(());
        };
        let report = inlet.report.clone();
        let read = async {
            loop {
                let Ok(packet) = self.into.recv().await else { break "the other end is gone" };
                if inlet.put(&packet).await.is_err() {
                    break "a packet is not taken";
                }
            }
        };
        let write = async {
            let mut waiting = VecDeque::new();
            while outlet.egress.ready().await {
                let again = outlet.egress.hand_out(|_, packet| {
                    if waiting.len() >= ON_THE_WAY {
                        return Given::NoRoom;
                    }
                    waiting.push_back(packet.to_vec());
                    Given::Taken
                });
                if outlet.report.room(again).await.is_err() {
                    break;
                }
                for packet in waiting.drain(..) {
                    if self.out.send(packet).await.is_err() {
                        return "the other end is gone";
                    }
                }
            }
            outlet.all_sent.close();
            std::future::pending().await
        };
        let closed = async {
            ended.wait().await;
            "the engine closed it"
        };
        let cut = async {
            let _ = self.cut.recv().await;
            "the wire is cut"
        };
        let reason = or(or(closed, cut), or(read, write)).await;
        report.down(reason.to_owned()).await
    }
}

/// Offers a link with somebody who sends nothing but this; tells whether it was too long.
pub(crate) async fn is_too_long(ways: &Ways, remote: PublicKey, packet: &[u8]) -> bool {
    let offered = ways.engine.offer(neighbour(remote, true, 1 << 20)).await;
    let Ok(Some(mut accepted)) = offered else { return false };
    matches!(accepted.inlet.put(packet).await, Err(NotTaken::TooLong(_)))
}
