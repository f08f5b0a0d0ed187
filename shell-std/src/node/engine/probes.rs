//! Probes: this node's own, and those of others, which it answers.

use super::Engine;
use crate::bridge::control::random_id;
use crate::node::progress::{OwnSend, Progress};
use crate::probe::{Heard, Message, Told, write_answer, write_probe};
use blvm_mesh_core::id::{LinkId, NodeId};
use blvm_mesh_core::mesh::NetworkReason;
use blvm_mesh_core::policy::MeshMode;
use blvm_mesh_core::time::Micros;
use smol::channel::Sender;

/// What this node's software is called.
const SOFTWARE: &str = concat!("blvm-mesh/", env!("CARGO_PKG_VERSION"));

impl Engine {
    /// Sends a probe to a node, whose data have so many bytes.
    pub(super) fn ping(
        &mut self,
        now: Micros,
        (node, len): (NodeId, usize),
        heard: Sender<Heard>,
        progress: Sender<Progress>,
    ) {
        let Some(nonce) = random_id() else { return };
        if !self.probes.asked.put(now, (node, nonce, len), heard) {
            let full = Progress::Refused(NetworkReason::Congested.into());
            return self.shell.own.tell(&progress, full);
        }
        let payload = write_probe(self.probes.magic, nonce, len);
        self.send(now, OwnSend::free(node, payload, progress));
    }

    /// Takes a datagram from a node that came on a link, if it is a probe or an answer.
    pub(super) fn takes_probe(
        &mut self,
        now: Micros,
        link: LinkId,
        source: NodeId,
        payload: &[u8],
    ) -> bool {
        match Message::read(self.probes.magic, payload) {
            Some(Message::Probe { nonce, len }) => {
                if self.probes.answers {
                    self.answer_probe(now, link, source, (nonce, len));
                }
            }
            Some(Message::Answer { nonce, len, told }) => {
                if !self.probes.asked.answered(now, (source, nonce, len), told) {
                    tracing::debug!(%source, "an answer came to no probe that waits");
                }
            }
            None => return false,
        }
        true
    }

    /// Answers a probe once, at once, and within the limits, or not at all.
    fn answer_probe(
        &mut self,
        now: Micros,
        link: LinkId,
        source: NodeId,
        (nonce, len): (u64, usize),
    ) {
        let Some(from) = self.shell.links.get(link).map(|link| link.peer) else { return };
        let limits = &mut self.probes.limits;
        if !limits.take_probe(now, from) {
            tracing::debug!(%from, "a probe is not answered: too many come by this neighbour");
            return;
        }
        let table = self.mesh.table();
        let route = table.find_route(&source, now).map(|route| route.first());
        let may = match route.and_then(|first| table.neighbours.live(first)) {
            Some(by) => limits.take_answer(now, by.node),
            None => !self.shell.own.is_unreachable(now, &source) && limits.take_search(now, from),
        };
        // What others of this node's datagrams wait for, an answer does not.
        if !may || self.shell.own.waitlist.has(&source) {
            return;
        }
        let payload = write_answer(self.probes.magic, nonce, len, &self.told(link));
        let (progress, _) = smol::channel::bounded(1);
        let _ = self.try_send(now, OwnSend::free(source, payload, progress));
    }

    /// What this node tells of itself to whoever's probe came on a link.
    fn told(&self, link: LinkId) -> Told {
        let config = self.mesh.config();
        let known = self.mesh.table().neighbours.get(link);
        Told {
            mode: config.mode,
            transmissions_256: known.map_or(0, |n| n.measured.max(n.quality)),
            tariff: config.payment.tariff,
            free: config.free(),
            // Nothing is classified there.
            plain: if config.mode == MeshMode::Open { config.free() } else { config.plain },
            software: Some(SOFTWARE.into()),
            issuers: Some(config.payment.issuers.iter().map(|key| key.serialize()).collect()),
        }
    }
}
