//! What the node knows of itself, its neighbours and its routes.

use super::super::engine::Engine;
use super::Service;
use crate::chain::{ChainSource, SourceState};
use crate::rpc::RpcError;
use crate::rpc::types::{
    ChainState, ChainStats, ConnectionStats, Count, Info, Peer, PeerHello, PeerState, Route, Stats,
    TableStats, Taken,
};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::HostMesh;
use blvm_mesh_core::routing::table::Route as Known;
use blvm_mesh_core::time::{MILLISECOND, Micros};
use std::collections::BTreeMap;

impl Service {
    pub(super) async fn info(&self) -> Result<Info, RpcError> {
        let job = |engine: &mut Engine| {
            (engine.shell.links.up_count(), engine.mesh.table().routes().len())
        };
        let (peers, routes) = self.node.job(job).await?;
        let settings = self.node.settings();
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
        let mut peers = self.node.job(|engine| linked(engine)).await?;
        for configured in &self.node.settings().peers {
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
                        link: None,
                        since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
                        hello: None,
                        last_error: failure.map(|(_, error)| error),
                        received: Count::default(),
                        sent: Count::default(),
                        refused: 0,
                    });
                }
            }
        }
        Ok(peers)
    }

    pub(super) async fn routes(&self) -> Result<Vec<Route>, RpcError> {
        let job = |engine: &mut Engine| {
            let now = engine.shell.clock.now();
            engine.mesh.table().routes().map(|route| written(&route, now)).collect()
        };
        Ok(self.node.job(job).await?)
    }

    /// The best route to a node that is known now.
    pub(super) async fn route(&self, destination: NodeId) -> Result<Option<Route>, RpcError> {
        let job = self.node.job(move |engine| {
            let now = engine.shell.clock.now();
            engine.mesh.table().find_route(&destination, now).map(|route| written(&route, now))
        });
        Ok(job.await?)
    }

    pub(super) async fn stats(&self) -> Result<Stats, RpcError> {
        let mut stats = self.node.job(|engine| counted(engine)).await?;
        stats.uptime_ms = self.uptime_ms();
        self.node.transports.report(&mut stats);
        stats.undelivered = self.node.deliveries().dropped();
        let count = |(packets, bytes): (usize, usize)| Count {
            packets: packets as u64,
            bytes: bytes as u64,
        };
        [stats.inbox_paid, stats.inbox_free] = self.node.deliveries().waiting().map(count);
        stats.descriptors = crate::descriptors::now();
        Ok(stats)
    }
}

fn linked(engine: &Engine) -> Vec<Peer> {
    let now = engine.shell.clock.now();
    let mut peers: Vec<Peer> = engine
        .shell
        .links
        .iter()
        .map(|(id, link)| {
            let known = engine.mesh.table().neighbours.get(id).filter(|n| n.up);
            let sent = link.sent();
            Peer {
                node_id: link.peer,
                public_key: link.public_key.serialize(),
                address: link.address.clone(),
                state: if link.up { PeerState::Up } else { PeerState::Connecting },
                dialed: link.dialed,
                link: Some(id.0),
                since_ms: now.saturating_sub(link.since) / MILLISECOND,
                hello: known.map(|n| PeerHello {
                    mode: n.mode.name().to_owned(),
                    tariff: n.tariff,
                    max_packet: n.max_packet,
                    issuers: link.issuers.clone(),
                }),
                last_error: None,
                received: Count { packets: link.received_packets, bytes: link.received_bytes },
                sent: Count { packets: sent.packets, bytes: sent.bytes },
                refused: link.refused,
            }
        })
        .collect();
    peers.sort_by_key(|peer| peer.link);
    peers
}

fn written(route: &Known<'_>, now: Micros) -> Route {
    Route {
        destination: route.destination,
        hops: route.path().to_vec(),
        min_packet: route.min_packet,
        cost: route.cost,
        expires_in_ms: route.expires_at.saturating_sub(now) / MILLISECOND,
    }
}

fn counted(engine: &Engine) -> Stats {
    let (mesh, shell) = (engine.mesh.stats(), &engine.shell);
    let (received, sent) = shell.links.totals();
    let count = |packets, bytes| Count { packets, bytes };
    let refused: BTreeMap<String, u64> =
        shell.refusals.counts().iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect();
    Stats {
        uptime_ms: 0,
        peers: shell.links.up_count(),
        routes: engine.mesh.table().routes().len(),
        live_payments: engine.mesh.live_payments(),
        store_ok: !shell.durable.failed,
        received: count(received.packets, received.bytes),
        sent: count(sent.packets, sent.bytes),
        relayed: count(mesh.relayed_free.wrapping_add(mesh.relayed_paid), mesh.relayed_bytes),
        delivered: count(mesh.delivered, shell.counters.delivered_bytes),
        originated: count(mesh.sent, shell.counters.originated_bytes),
        undelivered: 0,
        dropped_at_link: shell.counters.dropped_at_link,
        links_opened: shell.links.opened(),
        waiting_for_store: shell.durable.waiting(),
        inbox_paid: Count::default(),
        inbox_free: Count::default(),
        parked: count(shell.parked().0 as u64, shell.parked().1 as u64),
        tables: tables(&engine.mesh),
        descriptors: None,
        log_left_out: crate::log::left_out(),
        refused,
        payments: shell.counters.payments,
        paid: shell.counters.paid,
        paid_msat: shell.counters.paid_msat,
        earned_msat: shell.counters.earned_msat,
        routes_found: shell.counters.routes_found,
        routes_failed: shell.counters.routes_failed,
        commits: shell.durable.commits(),
        chain: shell.chain.node().map(chain),
        lines: Vec::new(),
        connections: ConnectionStats {
            stalled: shell.links.stalled,
            memory: shell.links.budget().used() as u64,
            memory_most: shell.links.budget().most_used() as u64,
            memory_limit: shell.links.budget().bytes() as u64,
            ..ConnectionStats::default()
        },
    }
}

fn tables(mesh: &HostMesh) -> TableStats {
    let (taken, config) = (mesh.resources(), mesh.config());
    let most = config.capacities;
    let of = |taken: usize, most: usize| Taken { taken: taken as u64, most: most as u64 };
    let control = config.control_of_all.burst;
    TableStats {
        neighbours: of(taken.own_neighbours.saturating_add(taken.strangers), most.neighbours),
        strangers: taken.strangers as u64,
        owners: of(taken.owners, most.owners),
        searches: of(taken.searches, most.searches),
        requests: of(taken.relayed_requests, most.relayed_requests),
        parked_bytes: of(taken.parked_bytes, most.parked_bytes),
        control: Taken { taken: control.saturating_sub(taken.control_left), most: control },
    }
}

fn chain(node: &ChainSource) -> ChainStats {
    let (state, error) = match node.state() {
        SourceState::Unchecked => (ChainState::Unchecked, None),
        SourceState::Good(_) => (ChainState::Good, None),
        SourceState::Failed(error) => (ChainState::Failed, Some(error.to_string())),
    };
    let [lookups, unknown, failed] = node.counts();
    ChainStats { rpc_url: node.url().to_owned(), state, error, lookups, unknown, failed }
}
