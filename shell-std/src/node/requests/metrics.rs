//! The numbers for Prometheus. Nothing is counted for them alone on a packet's way: they are read
//! when somebody asks.

use super::super::engine::Command;
use super::super::engine::counted::{Counted, WAYS};
use super::Service;
use crate::metrics::{Exposition, Form, Scrape};
use crate::rpc::RpcError;
use crate::rpc::types::{GetLedger, Ledger, LedgerKind, Overview, Stats, Taken, WarningKind};
use blvm_mesh_core::mesh::Class;

/// All that is told.
struct Snapshot {
    stats: Stats,
    counted: Counted,
    overview: Overview,
    /// None: it cannot be read.
    ledger: Option<Ledger>,
    dial_failures: u64,
}

impl Scrape for Service {
    async fn scrape(&self, form: Form) -> Option<String> {
        let snapshot = self.snapshot().await.ok()?;
        let mut e = Exposition::new(form);
        snapshot.node(&mut e);
        snapshot.traffic(&mut e);
        snapshot.payments(&mut e);
        snapshot.tables(&mut e);
        snapshot.store(&mut e);
        snapshot.export(&mut e);
        e.histogram(
            "blvm_mesh_store_commit_seconds",
            "Time that commits of the store took.",
            &self.node.commits.observed(),
        );
        e.histogram(
            "blvm_mesh_handshake_step_seconds",
            "Time that the key exchange of one act of a link's handshake took (BOLT 8).",
            &self.node.handshakes.observed(),
        );
        process(&mut e, &snapshot.stats);
        Some(e.end())
    }
}

impl Service {
    async fn snapshot(&self) -> Result<Snapshot, RpcError> {
        let ledgers = self.ledgers.clone();
        // Sums that are kept: nothing is summed up for this.
        let kind = Some(LedgerKind::Payments);
        let query = GetLedger { limit: 0, kind, ..GetLedger::default() };
        let ledger = smol::unblock(move || ledgers.ledger(&query)).await.ok();
        Ok(Snapshot {
            stats: self.stats().await?,
            counted: *self.node.ask(Command::Counted).await?,
            overview: self.glance().await?,
            ledger,
            dial_failures: self.node.status.failures(),
        })
    }
}

impl Snapshot {
    fn node(&self, e: &mut Exposition) {
        let (o, stats) = (&self.overview, &self.stats);
        let node = o.node_id.to_string();
        let labels = [
            ("version", o.version.as_str()),
            ("network", o.network.name()),
            ("mode", o.mode.as_str()),
            ("node", node.as_str()),
        ];
        e.gauges("blvm_mesh_build_info", "What runs here.", [(&labels[..], 1)]);
        e.gauge("blvm_mesh_uptime_seconds", "Time since the start.", stats.uptime_ms / 1000);
        let state = |name| [("state", name)];
        let (up, down) = (state("up"), state("down"));
        let peers = [(&up[..], o.peers_up as u64), (&down[..], o.peers_down as u64)];
        e.gauges("blvm_mesh_peers", "Neighbours that are up, and peers that are not.", peers);
        let help = "Links opened so far, those that were refused at once included.";
        e.counter("blvm_mesh_links_opened", help, stats.links_opened);
        let help = "Links that others have dialled.";
        e.counter("blvm_mesh_links_accepted", help, self.counted.accepted);
        let help = "Attempts to connect that failed, and links refused before they were up.";
        e.counter("blvm_mesh_dial_failures", help, self.dial_failures);
        e.gauge("blvm_mesh_routes", "Routes known.", stats.routes as u64);
        let (found, failed) = ([("result", "found")], [("result", "failed")]);
        let searches = [(&found[..], stats.routes_found), (&failed[..], stats.routes_failed)];
        e.counters("blvm_mesh_route_searches", "Own searches that ended.", searches);
        let connections = stats.bitcoin.connections as u64;
        let help = "Connections of Bitcoin nodes over the mesh.";
        e.gauge("blvm_mesh_bitcoin_connections", help, connections);
        let kinds = WarningKind::ALL.map(|kind| ([("kind", kind.name())], kind));
        let of = |kind| o.warnings.iter().filter(|w| w.kind == kind).count() as u64;
        let warnings = kinds.iter().map(|(label, kind)| (&label[..], of(*kind)));
        e.gauges("blvm_mesh_warnings", "What `blvm-mesh getinfo` warns of.", warnings);
    }

    fn traffic(&self, e: &mut Exposition) {
        let ways = WAYS.map(|(direction, class)| [("direction", direction), ("class", class)]);
        let counts = ways.iter().zip(&self.counted.links);
        let packets = counts.clone().map(|(label, count)| (&label[..], count.packets));
        e.counters("blvm_mesh_link_packets", "Packets received, and given to links.", packets);
        let bytes = counts.map(|(label, count)| (&label[..], count.bytes));
        e.counters("blvm_mesh_link_bytes", "Their bytes, without those of frames.", bytes);
        let classes = Class::ALL.map(|class| [("class", class.name())]);
        let carried = classes.iter().zip(&self.counted.relayed);
        let packets = carried.clone().map(|(label, carried)| (&label[..], carried.packets));
        e.counters("blvm_mesh_relayed_packets", "Packets relayed, by what they are.", packets);
        let bytes = carried.map(|(label, carried)| (&label[..], carried.bytes));
        e.counters("blvm_mesh_relayed_bytes", "Their bytes.", bytes);
        let stats = &self.stats;
        let help = "Datagrams delivered to this node.";
        e.counter("blvm_mesh_delivered_packets", help, stats.delivered.packets);
        let help = "Datagrams of this node's own.";
        e.counter("blvm_mesh_originated_packets", help, stats.originated.packets);
        let help = "Delivered datagrams that nobody fetched in time.";
        e.counter("blvm_mesh_undelivered_packets", help, stats.undelivered);
        let help = "Packets that a link's queue dropped, or that lost their link.";
        e.counter("blvm_mesh_queue_drops", help, stats.dropped_at_link);
        let reasons = stats.refused.iter().map(|(reason, n)| ([("reason", reason.as_str())], *n));
        let reasons: Vec<_> = reasons.collect();
        let refused = reasons.iter().map(|(label, n)| (&label[..], *n));
        e.counters("blvm_mesh_refused", "Packets refused.", refused);
    }

    fn payments(&self, e: &mut Exposition) {
        let totals = self.ledger.iter().flat_map(|ledger| &ledger.totals);
        let roles = totals.map(|(role, total)| {
            let share = if role.name() == "source" { total.amount_msat } else { total.share_msat };
            ([("role", role.name())], total.payments, share)
        });
        let (counted, bought) = (&self.counted, &self.stats.purchases);
        let roles: Vec<_> = roles
            .chain([([("role", "seller")], counted.sales, counted.sold_msat)])
            .chain([([("role", "buyer")], bought.paid, bought.paid_msat)])
            .collect();
        let help = "Payments with datagrams in the ledger, and sales and purchases of bytes \
                    since the start.";
        let counts = roles.iter().map(|(label, count, _)| (&label[..], *count));
        e.counters("blvm_mesh_payments", help, counts);
        let help = "What this node earned by them, or as source and buyer paid.";
        let amounts = roles.iter().map(|(label, _, msat)| (&label[..], *msat));
        e.counters("blvm_mesh_payments_msat", help, amounts);
    }

    fn tables(&self, e: &mut Exposition) {
        let (t, stats) = (&self.stats.tables, &self.stats);
        let all = [
            ("neighbours", t.neighbours),
            ("owners", t.owners),
            ("searches", t.searches),
            ("requests", t.requests),
            ("flows", t.flows),
            ("ends", t.ends),
            ("accounts", t.accounts),
            ("tickets", t.tickets),
            ("parked_bytes", t.parked_bytes),
            ("control_work", t.control),
            (
                "link_memory_bytes",
                Taken { taken: stats.connections.memory, most: stats.connections.memory_limit },
            ),
            ("pipe_bytes", Taken { taken: stats.pipes.bytes, most: stats.pipes.bytes_limit }),
        ];
        let all = all.map(|(name, taken)| ([("table", name)], taken));
        let used = all.iter().map(|(label, taken)| (&label[..], taken.taken));
        e.gauges("blvm_mesh_table_used", "What is taken of what is bounded.", used);
        let most = all.iter().map(|(label, taken)| (&label[..], taken.most));
        e.gauges("blvm_mesh_table_capacity", "How much of it there is.", most);
        let live = stats.live_payments as u64;
        e.gauge("blvm_mesh_live_payments", "Payments remembered against replay.", live);
    }

    fn store(&self, e: &mut Exposition) {
        let stats = &self.stats;
        let help = "1 where payments can be written down, else 0.";
        e.gauge("blvm_mesh_store_ok", help, stats.store_ok.into());
        let waiting = stats.waiting_for_store as u64;
        e.gauge("blvm_mesh_store_waiting", "What waits for the store.", waiting);
        if let Some(free) = self.overview.disk_free {
            let help = "Bytes free where the node keeps its files.";
            e.gauge("blvm_mesh_disk_free_bytes", help, free);
        }
        let help = "Lines that the log left out.";
        e.counter("blvm_mesh_log_lines_left_out", help, stats.log_left_out);
    }

    fn export(&self, e: &mut Exposition) {
        let Some(export) = &self.stats.export else { return };
        let help = "Lines of the ledger that were new in its database.";
        e.counter("blvm_mesh_ledger_booked", help, export.booked);
        let help = "Lines of the ledger that wait for its database.";
        e.gauge("blvm_mesh_ledger_pending", help, export.pending);
        let help = "Attempts to book the ledger in its database that failed.";
        e.counter("blvm_mesh_ledger_failures", help, export.failures);
        if let Some(unix) = export.error_at {
            let help = "When booking failed last.";
            e.gauge("blvm_mesh_ledger_failed_timestamp_seconds", help, unix);
        }
        if let Some(unix) = export.booked_at {
            let help = "When lines were booked last.";
            e.gauge("blvm_mesh_ledger_booked_timestamp_seconds", help, unix);
        }
    }
}

/// What Prometheus's own libraries tell of a process, by the same names.
fn process(e: &mut Exposition, stats: &Stats) {
    if let Some(bytes) = resident() {
        let help = "Resident memory size in bytes.";
        e.gauge("process_resident_memory_bytes", help, bytes);
    }
    if let Some(descriptors) = stats.descriptors {
        let help = "Number of open file descriptors.";
        e.gauge("process_open_fds", help, descriptors.open);
        let help = "Maximum number of open file descriptors.";
        e.gauge("process_max_fds", help, descriptors.limit);
    }
}

/// Memory of this process, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
