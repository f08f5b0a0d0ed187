//! The node at a glance.

use super::super::engine::Command;
use super::Service;
use super::warnings::{Disk, Seen, warnings};
use crate::issuer::unix_now;
use crate::rpc::RpcError;
use crate::rpc::types::{BitcoinSummary, GetLedger, Ledger, Overview, PeerState, Role, Today};
use blvm_mesh_core::payment::fee::Tariff;
use std::path::Path;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

impl Service {
    pub(super) async fn overview(&self) -> Result<Overview, RpcError> {
        let today = self.today(unix_now()).await;
        Ok(Overview { today, ..self.glance().await? })
    }

    /// The same without the payments of today, which take a look at each.
    pub(super) async fn glance(&self) -> Result<Overview, RpcError> {
        let (stats, peers) = (self.stats().await?, self.peers().await?);
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
            stats: &stats,
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
        let since = unix - unix % DAY_S;
        let query = GetLedger { since: Some(since), limit: 0, ..GetLedger::default() };
        let ledgers = self.ledgers.clone();
        let ledger = smol::unblock(move || ledgers.ledger(&query)).await.ok()?;
        Some(summed(since, &ledger))
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

fn summed(since: u64, ledger: &Ledger) -> Today {
    let mut today = Today {
        since,
        payments: ledger.sold.sales,
        earned_msat: ledger.sold.amount_msat,
        paid: ledger.bought.purchases,
        paid_msat: ledger.bought.amount_msat.saturating_add(ledger.bought.fee_msat),
    };
    for (role, total) in &ledger.totals {
        let (count, sum, amount) = match role {
            Role::Source => (&mut today.paid, &mut today.paid_msat, total.amount_msat),
            Role::Intermediate | Role::Destination => {
                (&mut today.payments, &mut today.earned_msat, total.share_msat)
            }
        };
        *count = count.saturating_add(total.payments);
        *sum = sum.saturating_add(amount);
    }
    today
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
    use crate::rpc::types::{Bought, LedgerTotal, Sold};

    #[test]
    fn what_is_earned_and_what_is_paid_is_told_apart() {
        let total = |n| LedgerTotal { payments: n, amount_msat: 100 * n, share_msat: 10 * n };
        let ledger = Ledger {
            totals: [Role::Source, Role::Intermediate, Role::Destination]
                .into_iter()
                .zip([1, 2, 3].map(total))
                .collect(),
            sold: Sold { sales: 4, amount_msat: 4_000 },
            bought: Bought { purchases: 5, amount_msat: 5_000, fee_msat: 5, bytes: 0 },
            ..Ledger::default()
        };
        let today = summed(7, &ledger);
        assert_eq!((today.payments, today.earned_msat), (2 + 3 + 4, 20 + 30 + 4_000));
        assert_eq!((today.paid, today.paid_msat), (1 + 5, 100 + 5_005));
        assert!(disk(Path::new("/")).unwrap().size > 0);
        assert_eq!(disk(Path::new("/no/such/directory")), None);
    }
}
