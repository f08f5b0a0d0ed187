//! What is not as it should be with a node, and what to do about it.

use crate::config::Settings;
use crate::rpc::types::{
    ChainState, ExportState, ExportStats, LineState, Stats, Taken, Warning, WarningKind,
};
use std::net::SocketAddr;

/// Before this, in seconds since 1970 (2025-01-01), the system's clock cannot be right.
const EARLIEST: u64 = 1_735_689_600;
/// How much earlier than the newest block the clock may be, in seconds: blocks may be dated two
/// hours ahead.
const BLOCK_AHEAD_S: u64 = 2 * 3_600;
/// How much of a table, in percent, is nearly all of it.
const NEARLY_FULL: u64 = 90;
/// A disk is nearly full with less than this free, and less than a twentieth of it.
const LITTLE_DISK: u64 = 1 << 30;
/// With less than this free it is, however small the disk is.
const VERY_LITTLE_DISK: u64 = 64 << 20;
/// Fewer file descriptors are hardly enough for a relay.
const FEW_DESCRIPTORS: u64 = 1_024;
/// How long peers have to answer, and others to connect, after the start, in milliseconds.
const PEER_TIME_MS: u64 = 60_000;
/// What waits for its database longer than this, in seconds, is behind.
const BEHIND_S: u64 = 600;
const REACHED_TIME_MS: u64 = 3_600_000;

/// The file system of the data directory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) free: u64,
    pub(super) size: u64,
}

/// What is looked at.
pub(super) struct Seen<'a> {
    pub(super) settings: &'a Settings,
    pub(super) stats: &'a Stats,
    /// By the system's clock, in seconds since 1970.
    pub(super) unix: u64,
    /// The time in the newest block header, in seconds since 1970.
    pub(super) newest_block: Option<u32>,
    pub(super) listen_addr: Option<SocketAddr>,
    /// Whether a stranger or peer has connected to this node since the start.
    pub(super) was_reached: bool,
    pub(super) disk: Option<Disk>,
    /// Peers with which there was no link since the start, and why.
    pub(super) silent: &'a [(String, String)],
}

/// All that is wrong, in the order of [`WarningKind::ALL`].
pub(super) fn warnings(seen: &Seen<'_>) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |kind, text: String, remedy: &str| {
        found.push(Warning { kind, text, remedy: remedy.to_owned() });
    };
    clock(seen, &mut warn);
    if !seen.settings.takes_payments() {
        warn(
            WarningKind::NoIssuer,
            "no payment is accepted: mode payment_gated, and nobody whose invoices count".into(),
            "set lightning.backend (docs/LIGHTNING.md), or mesh.issuers and `reload`",
        );
    }
    reach(seen, &mut warn);
    disk(seen, &mut warn);
    tables(seen.stats, &mut warn);
    if seen.stats.uptime_ms >= PEER_TIME_MS {
        for (peer, why) in seen.silent {
            warn(
                WarningKind::PeerSilent,
                format!("there was never a link with {peer}: {why}"),
                "check its address and key (`peer list`), and whether it runs",
            );
        }
    }
    if let Some(d) = seen
        .stats
        .descriptors
        .filter(|d| d.limit < FEW_DESCRIPTORS || is_nearly(Taken { taken: d.open, most: d.limit }))
    {
        warn(
            WarningKind::Descriptors,
            format!("{} of {} file descriptors are open", d.open, d.limit),
            "raise the limit (`ulimit -n`, or LimitNOFILE= of the unit) and restart",
        );
    }
    services(seen, &mut warn);
    if let Some(export) = &seen.stats.export {
        booked(export, &mut warn);
    }
    found
}

fn clock(seen: &Seen<'_>, warn: &mut impl FnMut(WarningKind, String, &str)) {
    let remedy = "set the system's clock, and keep it with NTP (`timedatectl set-ntp true`): \
                  payments have dates";
    let block = seen.newest_block.map(u64::from).unwrap_or(0);
    if seen.unix < EARLIEST {
        let text = "the system's clock is years behind, so no payment can be dated".to_owned();
        warn(WarningKind::Clock, text, remedy);
    } else if seen.unix.saturating_add(BLOCK_AHEAD_S) < block {
        let behind = block - seen.unix;
        let text = format!("the system's clock is {behind} s behind the newest Bitcoin block");
        warn(WarningKind::Clock, text, remedy);
    }
}

fn reach(seen: &Seen<'_>, warn: &mut impl FnMut(WarningKind, String, &str)) {
    let Some(at) = seen.listen_addr else {
        if seen.settings.listen_lines.is_empty() {
            let text = "this node listens nowhere: it has only the links that it dials".to_owned();
            let remedy = "set mesh.listen_addr and restart, if others are to reach it";
            warn(WarningKind::NotListening, text, remedy);
        }
        return;
    };
    if at.ip().is_loopback() {
        let text = format!("this node listens on {at}, which only this host reaches");
        let remedy = "set mesh.listen_addr to 0.0.0.0:PORT or [::]:PORT and restart";
        warn(WarningKind::LoopbackOnly, text, remedy);
    } else if !seen.was_reached && seen.stats.uptime_ms >= REACHED_TIME_MS {
        let text = format!("nobody has connected to {at} since the start");
        let remedy = "open the port in firewall and router, and give the address to others \
                      (`blvm-mesh id`)";
        warn(WarningKind::NotReached, text, remedy);
    }
}

fn disk(seen: &Seen<'_>, warn: &mut impl FnMut(WarningKind, String, &str)) {
    let dir = seen.settings.data_dir.display();
    if let Some(Disk { free, .. }) = seen.disk.filter(|disk| disk.is_nearly_full()) {
        let text = format!("{} MiB are free on the disk of {dir}", free >> 20);
        let remedy = "make room: a node that cannot write its store takes no payment";
        warn(WarningKind::DiskFull, text, remedy);
    }
    if !seen.stats.store_ok {
        let text = format!("the store in {dir} cannot be written: no payment is accepted");
        let remedy = "see the log for the reason; it is written again until that succeeds";
        warn(WarningKind::Store, text, remedy);
    }
}

impl Disk {
    fn is_nearly_full(&self) -> bool {
        self.free < VERY_LITTLE_DISK || (self.free < LITTLE_DISK && self.free < self.size / 20)
    }
}

fn tables(stats: &Stats, warn: &mut impl FnMut(WarningKind, String, &str)) {
    let t = &stats.tables;
    let pipes = Taken { taken: stats.pipes.bytes, most: stats.pipes.bytes_limit };
    let memory = Taken { taken: stats.connections.memory, most: stats.connections.memory_limit };
    let all = [
        ("neighbours", t.neighbours, "limits.neighbours"),
        ("owners of allowances", t.owners, "limits.owners"),
        ("own searches", t.searches, "limits.searches"),
        ("flows", t.flows, "limits.flows"),
        ("ends of flows", t.ends, "limits.ends"),
        ("accounts", t.accounts, "limits.accounts"),
        ("tickets for invoices", t.tickets, "limits.tickets"),
        ("bytes of parked packets", t.parked_bytes, "limits.parked_bytes"),
        ("bytes between streams and applications", pipes, "flow.pipe_memory_bytes"),
        ("bytes of links", memory, "limits.link_memory_bytes"),
    ];
    for (name, taken, key) in all.into_iter().filter(|(_, taken, _)| is_nearly(*taken)) {
        let Taken { taken, most } = taken;
        let text = format!("nearly full: {taken} of {most} {name}");
        warn(WarningKind::TableFull, text, &format!("raise {key} and restart, if this lasts"));
    }
}

fn is_nearly(Taken { taken, most }: Taken) -> bool {
    most > 0 && taken.saturating_mul(100) >= most.saturating_mul(NEARLY_FULL)
}

/// What the node needs of others on its host.
fn services(seen: &Seen<'_>, warn: &mut impl FnMut(WarningKind, String, &str)) {
    if let Some(chain) = seen.stats.chain.as_ref().filter(|c| c.state == ChainState::Failed) {
        let why = chain.error.clone().unwrap_or_default();
        let text = format!("the Bitcoin node at {} looks up no blocks: {why}", chain.rpc_url);
        let remedy = "check that it runs, and chain.* of the configuration";
        warn(WarningKind::Chain, text, remedy);
    }
    for line in seen.stats.lines.iter().filter(|line| line.state == LineState::Closed) {
        let why = line.error.clone().unwrap_or_default();
        let text = format!("the line {} is not open: {why}", line.line);
        let remedy = "check the device and the rights on it (group dialout)";
        warn(WarningKind::Line, text, remedy);
    }
    if let Some(why) = &seen.stats.purchases.last_refusal {
        let text = format!("an invoice was not paid the last time: {why}");
        let remedy = "check `blvm-mesh lightning check` and budget.*";
        warn(WarningKind::Lightning, text, remedy);
    }
}

/// Whether the ledger is in its database.
fn booked(export: &ExportStats, warn: &mut impl FnMut(WarningKind, String, &str)) {
    let ExportStats { target, pending, behind_s, .. } = export;
    if export.state == ExportState::Failed {
        let why = export.error.clone().unwrap_or_default();
        let text = format!("the ledger is not booked in {target}, {pending} lines wait: {why}");
        let remedy = "check it with `blvm-mesh ledger export --check`; it is tried again by itself";
        warn(WarningKind::Export, text, remedy);
    } else if *behind_s >= BEHIND_S {
        let text =
            format!("{pending} lines of the ledger have waited for {target} for {behind_s} s");
        let remedy = "if they do not get fewer (`blvm-mesh stats`), the database is too slow";
        warn(WarningKind::Export, text, remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, Sources};
    use crate::rpc::types::{ChainStats, Descriptors, LineStats, PurchaseStats, TableStats};

    fn settings(set: &[(&str, &str)]) -> Settings {
        let overrides = set.iter().map(|(key, value)| Override {
            origin: "test".into(),
            key: (*key).into(),
            value: (*value).into(),
        });
        let overrides = overrides.collect();
        let sources = Sources { home: Some("/nowhere".into()), overrides, ..Sources::default() };
        sources.load().unwrap()
    }

    fn kinds(seen: &Seen<'_>) -> Vec<&'static str> {
        let found = warnings(seen);
        assert!(found.iter().all(|w| !w.text.is_empty() && !w.remedy.is_empty()));
        assert!(found.is_sorted_by_key(|w| WarningKind::ALL.iter().position(|k| *k == w.kind)));
        found.iter().map(|w| w.kind.name()).collect()
    }

    #[test]
    fn a_node_without_fault_has_no_warnings_and_each_fault_has_its_own() {
        let open = settings(&[("mesh.mode", "open")]);
        let stats = Stats {
            store_ok: true,
            uptime_ms: 10 * REACHED_TIME_MS,
            descriptors: Some(Descriptors { open: 10, limit: 1 << 16 }),
            ..Stats::default()
        };
        let good = || Seen {
            settings: &open,
            stats: &stats,
            unix: 1_800_000_000,
            newest_block: Some(1_800_007_200),
            listen_addr: Some(([0, 0, 0, 0], 8338).into()),
            was_reached: true,
            disk: Some(Disk { free: 1 << 40, size: 1 << 41 }),
            silent: &[],
        };
        assert_eq!(kinds(&good()), Vec::<&str>::new());
        let gated = settings(&[]);
        let loopback = Some(([127, 0, 0, 1], 1).into());
        let silent = [("02ab@x:1".to_owned(), "timed out".to_owned())];
        let small = Disk { free: 100 << 20, size: 200 << 20 };
        let faults: [(Seen<'_>, &[&str]); 11] = [
            (Seen { unix: EARLIEST - 1, ..good() }, &["clock"]),
            (Seen { newest_block: Some(1_800_007_201), ..good() }, &["clock"]),
            (Seen { settings: &gated, ..good() }, &["no_issuer"]),
            (Seen { listen_addr: None, ..good() }, &["not_listening"]),
            (Seen { listen_addr: loopback, ..good() }, &["loopback_only"]),
            (Seen { was_reached: false, ..good() }, &["not_reached"]),
            (Seen { silent: &silent, ..good() }, &["peer_silent"]),
            (Seen { disk: Some(small), ..good() }, &[]),
            (Seen { disk: Some(Disk { free: 63 << 20, ..small }), ..good() }, &["disk_full"]),
            (Seen { disk: Some(Disk { free: 1 << 29, size: 1 << 40 }), ..good() }, &["disk_full"]),
            (Seen { disk: None, ..good() }, &[]),
        ];
        for (seen, expected) in faults {
            assert_eq!(kinds(&seen), expected);
        }
        // What takes time to be known is not said at once.
        let young = Stats { uptime_ms: PEER_TIME_MS - 1, ..stats.clone() };
        let seen = Seen { was_reached: false, silent: &silent, stats: &young, ..good() };
        assert_eq!(kinds(&seen), Vec::<&str>::new());

        let full = Taken { taken: 90, most: 100 };
        let line = LineStats {
            line: "serial:///dev/x".into(),
            dials: true,
            state: LineState::Closed,
            error: None,
            chunks: 0,
            sent_again: 0,
            given_up: 0,
            damaged: 0,
            ignored: 0,
            round_trip_us: None,
        };
        let chain = ChainStats {
            rpc_url: "http://a:1".into(),
            state: ChainState::Failed,
            error: Some("refused".into()),
            lookups: 0,
            unknown: 0,
            failed: 1,
        };
        let bad = Stats {
            store_ok: false,
            descriptors: Some(Descriptors { open: 1, limit: 1_023 }),
            tables: TableStats {
                flows: full,
                owners: Taken { taken: 89, most: 100 },
                ..stats.tables
            },
            chain: Some(chain),
            lines: vec![line],
            purchases: PurchaseStats {
                last_refusal: Some("a limit".into()),
                ..stats.purchases.clone()
            },
            ..stats.clone()
        };
        let expected = ["store", "table_full", "descriptors", "chain", "line", "lightning"];
        assert_eq!(kinds(&Seen { stats: &bad, ..good() }), expected);
        let exports = [
            (ExportState::Good, BEHIND_S - 1, &[][..]),
            (ExportState::Good, BEHIND_S, &["export"]),
            (ExportState::Failed, 0, &["export"]),
        ];
        for (state, behind_s, expected) in exports {
            let export = ExportStats { state, behind_s, pending: 3, ..ExportStats::default() };
            let stats = Stats { export: Some(export), ..stats.clone() };
            assert_eq!(kinds(&Seen { stats: &stats, ..good() }), expected);
        }
    }
}
