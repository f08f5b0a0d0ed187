//! The node at a glance.

use super::super::engine::Command;
use super::Service;
use super::warnings::{Disk, Seen, warnings};
use crate::issuer::unix_now;
use crate::rpc::RpcError;
use crate::rpc::types::{BitcoinSummary, LanNeighbour, Overview, Peer, PeerState, Stats, Today};
use blvm_mesh_core::payment::fee::Tariff;
use std::path::Path;

impl Service {
    pub(super) async fn overview(&self) -> Result<Overview, RpcError> {
        let today = self.today(unix_now()).await;
        Ok(Overview { today, ..self.glance().await? })
    }

    /// The same without the payments of today, which take a look at each.
    pub(super) async fn glance(&self) -> Result<Overview, RpcError> {
        let (stats, peers) = (self.stats().await?, self.peers().await?);
        self.glance_at(&stats, &peers).await
    }

    /// The same of what was asked for already.
    pub(super) async fn glance_at(
        &self,
        stats: &Stats,
        peers: &[Peer],
    ) -> Result<Overview, RpcError> {
        let settings = self.node.current();
        let (unix, listen_addr) = (unix_now(), self.node.listen_addr());
        let was_reached = self.node.ask(Command::WasReached).await?;
        let newest = self.node.headers.newest();
        let dir = settings.data_dir.clone();
        let disk = smol::unblock(move || disk(&dir)).await;
        let silent = settings.peers.iter().filter_map(|peer| {
            let why = self.node.status.never_linked(&peer.node_id())?;
            (!self.node.bans.is_banned(&peer.node_id())).then(|| (peer.to_string(), why))
        });
        let silent: Vec<_> = silent.collect();
        let seen = Seen {
            settings: &settings,
            stats,
            unix,
            newest_block: newest.and_then(|newest| newest.time),
            listen_addr,
            was_reached,
            disk,
            silent: &silent,
        };
        let warnings = warnings(&seen);
        let up = peers.iter().filter(|peer| peer.state == PeerState::Up);
        let is_up = |id| up.clone().any(|peer| peer.node_id == id);
        let down = settings.peers.iter().filter(|peer| !is_up(peer.node_id()));
        let listening = listen_addr.iter().map(ToString::to_string);
        let lines = settings.listen_lines.iter().map(ToString::to_string);
        let ends = stats.tables.ends.taken;
        let tariff: Tariff = settings.config.payment.tariff;
        Ok(Overview {
            node_id: self.node.id(),
            public_key: self.node.public_key().serialize(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: settings.config.network,
            mode: settings.config.mode.name().to_owned(),
            uptime_ms: stats.uptime_ms,
            listening: listening.chain(lines).collect(),
            peers_up: up.clone().count(),
            peers_down: down.count(),
            lan: up.clone().filter(|peer| peer.lan).map(on_lan).collect(),
            routes: stats.routes,
            flows_own: ends,
            flows_passing: stats.tables.flows.taken.saturating_sub(ends),
            tariff,
            today: None,
            bitcoin: self.bitcoin_summary(stats.bitcoin.connections, newest.map(|n| n.height)),
            lightning: settings.lightning.as_ref().map(|l| l.backend.name().to_owned()),
            data_dir: settings.data_dir.display().to_string(),
            disk_free: disk.map(|disk| disk.free),
            warnings,
        })
    }

    /// What the ledger has since midnight.
    async fn today(&self, unix: u64) -> Option<Today> {
        let (sums, ledgers) = (self.today.clone(), self.ledgers.clone());
        smol::unblock(move || sums.look(|query| ledgers.ledger(query), unix)).await.ok()
    }

    fn bitcoin_summary(&self, connections: usize, height: Option<u32>) -> Option<BitcoinSummary> {
        let bridge = &self.node.settings().bridge;
        let summary = BitcoinSummary {
            node: bridge.node.map(|node| node.to_string()),
            listen: bridge.listen.iter().map(ToString::to_string).collect(),
            connections,
            header_height: height,
        };
        (summary != BitcoinSummary::default()).then_some(summary)
    }
}

fn on_lan(peer: &Peer) -> LanNeighbour {
    let Peer { public_key, ref address, trusted, .. } = *peer;
    LanNeighbour { public_key, address: address.clone(), trusted }
}

/// The file system on which a directory is. It may block.
fn disk(dir: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Disk { free: bytes(stat.f_bavail), size: bytes(stat.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_tells_what_is_free() {
        let Disk { free, size } = disk(Path::new("/")).unwrap();
        assert!(size > 0 && free <= size);
        assert_eq!(disk(Path::new("/no/such/directory")), None);
    }
}
