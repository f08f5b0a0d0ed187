//! What the node reports about itself, its neighbours and its routes.

use super::super::engine::Command;
use super::Service;
use crate::rpc::RpcError;
use crate::rpc::types::{BridgeStats, Count, Info, Peer, PeerState, Route, Stats};
use blvm_mesh_core::id::NodeId;

impl Service {
    pub(super) async fn info(&self) -> Result<Info, RpcError> {
        let Stats { peers, routes, .. } = *self.node.ask(Command::Stats).await?;
        let settings = self.node.current();
        Ok(Info {
            node_id: self.node.id(),
            public_key: self.node.public_key().serialize(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: settings.config.network,
            mode: settings.config.mode.name().to_owned(),
            listen_addr: self.node.listen_addr().map(|a| a.to_string()),
            peers,
            routes,
            tariff: settings.config.payment.tariff,
            max_packet: settings.config.max_packet,
            issuers: settings.config.payment.issuers.iter().map(|k| k.serialize()).collect(),
            covenants_active: settings.config.payment.covenants_active,
            payout_script: settings.config.payment.payout_script.to_vec(),
            data_dir: settings.data_dir.clone(),
            uptime_ms: self.uptime_ms(),
        })
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.node.uptime().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) async fn peers(&self) -> Result<Vec<Peer>, RpcError> {
        let mut peers = self.node.ask(Command::Peers).await?;
        let settings = self.node.current();
        for configured in &settings.peers {
            let id = configured.node_id();
            let failure = self.node.status.last(&id);
            let known = peers.iter_mut().find(|p| p.node_id == id);
            match (known, failure) {
                (Some(peer), Some((_, error))) => peer.last_error = Some(error),
                (Some(_), None) => {}
                (None, failure) => {
                    let since = failure.as_ref().map_or(self.node.uptime(), |(at, _)| at.elapsed());
                    peers.push(Peer {
                        node_id: id,
                        public_key: configured.public_key.serialize(),
                        address: configured.place.to_string(),
                        state: match failure {
                            Some(_) => PeerState::Down,
                            None => PeerState::Connecting,
                        },
                        dialed: true,
                        lan: false,
                        trusted: true,
                        link: None,
                        since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
                        hello: None,
                        last_error: failure.map(|(_, error)| error),
                        received: Count::default(),
                        bitcoin: BridgeStats::default(),
                        sent: Count::default(),
                        transmissions_256: None,
                        refused: 0,
                        credit_bytes: settings.config.credit.get(&id).copied().unwrap_or(0),
                        owes_bytes: 0,
                    });
                }
            }
        }
        for peer in &mut peers {
            peer.bitcoin = self.bridged(|connection| connection.peer == peer.node_id);
        }
        Ok(peers)
    }

    /// So many of the routes at most.
    pub(super) async fn routes(&self, most: usize) -> Result<Vec<Route>, RpcError> {
        Ok(self.node.ask(|who| Command::Routes(most, who)).await?)
    }

    /// The best route to a node that is known now.
    pub(super) async fn route(&self, destination: NodeId) -> Result<Option<Route>, RpcError> {
        Ok(self.node.ask(|who| Command::Route(destination, who)).await?)
    }

    pub(super) async fn stats(&self) -> Result<Stats, RpcError> {
        let mut stats = *self.node.ask(Command::Stats).await?;
        stats.uptime_ms = self.uptime_ms();
        self.node.transports.report(&mut stats);
        stats.undelivered = self.node.deliveries().dropped();
        let count = |(packets, bytes): (usize, usize)| Count {
            packets: packets as u64,
            bytes: bytes as u64,
        };
        [stats.inbox_paid, stats.inbox_free, stats.inbox_flows] =
            self.node.deliveries().waiting().map(count);
        stats.descriptors = crate::descriptors::now();
        stats.bitcoin = self.bridged(|_| true);
        stats.export = self.export.as_ref().map(|export| export.stats());
        Ok(stats)
    }
}
