//! `peers`, `routes` and `stats`: what a node knows.

use super::answer::{lines, table};
use super::global::{Global, msat, tariff};
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{self, Peer, PeerState, Route};
use blvm_mesh_core::id::HopId;
use clap::Args;

/// List neighbours: those that are up, and those that are configured.
///
/// Exit code 1: none is up.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh peers")]
pub(super) struct Peers {}

/// List the routes that are known. Exit code 1: none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh routes --json")]
pub(super) struct Routes {}

/// Show who the node is and what it has done since its start.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh stats")]
pub(super) struct Stats {}

impl Peers {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let peers: Vec<Peer> = match global.ask(&Request::GetPeers) {
            Ok(peers) => peers,
            Err(e) => return e.answer(),
        };
        let row = |p: &Peer| {
            let state = match p.state {
                PeerState::Up => "up",
                PeerState::Connecting => "connecting",
                PeerState::Down => "down",
            };
            let (mode, price) = match &p.hello {
                Some(hello) => (hello.mode.clone(), tariff(&hello.tariff)),
                None => (p.last_error.clone().unwrap_or_default(), String::new()),
            };
            let direction = if p.dialed { "out" } else { "in" };
            [
                p.node_id.hop().to_string(),
                state.into(),
                direction.into(),
                p.address.clone(),
                p.received.bytes.to_string(),
                p.sent.bytes.to_string(),
                p.refused.to_string(),
                at_gateway(&p.bitcoin),
                price,
                mode,
            ]
        };
        let heading = [
            "node",
            "state",
            "dir",
            "address",
            "bytes in",
            "bytes out",
            "refused",
            "bitcoin",
            "price",
            "mode or reason",
        ];
        let mut text = table(heading, &peers.iter().map(row).collect::<Vec<_>>());
        for peer in peers.iter().filter(|peer| peer.credit_bytes > 0 || peer.owes_bytes > 0) {
            let Peer { credit_bytes, owes_bytes, .. } = peer;
            let node = peer.node_id.hop();
            text.push_str(&format!("{node} owes {owes_bytes} of at most {credit_bytes} bytes\n"));
        }
        for peer in peers.iter().filter(|peer| peer.lan || (!peer.trusted && peer.hello.is_some()))
        {
            text.push_str(&stranger(peer));
        }
        match peers.iter().any(|p| p.state == PeerState::Up) {
            true => Answer::yes(&peers, text),
            false if peers.is_empty() => Answer::no(&peers, "there are no peers"),
            false => Answer::no(&peers, text),
        }
    }
}

/// The key of a neighbour that nobody has configured, and whether it is trusted.
fn stranger(peer: &Peer) -> String {
    let (node, key) = (peer.node_id.hop(), hex::encode(peer.public_key));
    let what = if peer.lan { "on a LAN" } else { "a stranger" };
    match peer.trusted {
        true => format!("{node} is {what}, with key {key}: trusted\n"),
        false => format!(
            "{node} is {what}, with key {key}: relays what is free; `blvm-mesh peer trust` it for \
             what this node pays for\n"
        ),
    }
}

impl Routes {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let routes: Vec<Route> = match global.ask(&Request::GetRoutes) {
            Ok(routes) => routes,
            Err(e) => return e.answer(),
        };
        if routes.is_empty() {
            return Answer::no(&routes, "no route is known");
        }
        let row = |r: &Route| {
            [
                r.destination.to_string(),
                hops(&r.hops),
                r.cost.to_string(),
                r.min_packet.to_string(),
                format!("{} s", r.expires_in_ms / 1000),
            ]
        };
        let heading = ["destination", "hops", "cost", "largest packet (bytes)", "expires in"];
        let text = table(heading, &routes.iter().map(row).collect::<Vec<_>>());
        Answer::yes(&routes, text)
    }
}

/// The hops of a route in words.
pub(super) fn hops(hops: &[HopId]) -> String {
    match hops {
        [] => "direct".into(),
        hops => hops.iter().map(HopId::to_string).collect::<Vec<_>>().join(" "),
    }
}

impl Stats {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let mut client = match global.client() {
            Ok(client) => client,
            Err(e) => return e.answer(),
        };
        let info: types::Info = match client.call(&Request::GetInfo) {
            Ok(info) => info,
            Err(e) => return Answer::refused(e),
        };
        let stats: types::Stats = match client.call(&Request::GetStats) {
            Ok(stats) => stats,
            Err(e) => return Answer::refused(e),
        };
        let count = |c: &types::Count| format!("{} packets, {} bytes", c.packets, c.bytes);
        let mut text = lines([
            ("node", info.node_id.to_string()),
            ("public key", hex::encode(info.public_key)),
            ("version", info.version.clone()),
            ("network, mode", format!("{}, {}", info.network, info.mode)),
            ("listening on", info.listen_addr.clone().unwrap_or_else(|| "nothing".into())),
            ("tariff", tariff(&info.tariff)),
            (
                "issuers",
                match info.issuers.is_empty() {
                    true => "none: no invoice is accepted (--issuer KEY)".into(),
                    false => info.issuers.iter().map(hex::encode).collect::<Vec<_>>().join(", "),
                },
            ),
            ("paid to", payout(&info)),
            ("chain", chain(stats.chain.as_ref())),
            ("ledger booked in", export(stats.export.as_ref())),
            ("up for", format!("{} s", stats.uptime_ms / 1000)),
            ("peers, routes", format!("{}, {}", stats.peers, stats.routes)),
            ("received", count(&stats.received)),
            ("sent", count(&stats.sent)),
            ("relayed", count(&stats.relayed)),
            ("delivered", count(&stats.delivered)),
            ("originated", count(&stats.originated)),
            ("inbox, paid", count(&stats.inbox_paid)),
            ("inbox, free", count(&stats.inbox_free)),
            ("inbox, over flows", count(&stats.inbox_flows)),
            ("never fetched", format!("{} packets", stats.undelivered)),
            ("parked", format!("{} for a route or a look-up", count(&stats.parked))),
            ("waiting for disk", format!("{} packets", stats.waiting_for_store)),
            ("dropped at a link", format!("{} packets", stats.dropped_at_link)),
            ("links opened", stats.links_opened.to_string()),
            ("descriptors", stats.descriptors.map_or("not known".into(), descriptors)),
            ("log left out", format!("{} lines", stats.log_left_out)),
            ("payments", format!("{}, earned {}", stats.payments, msat(stats.earned_msat))),
            ("paid", format!("{} payments of {}", stats.paid, msat(stats.paid_msat))),
            ("bought", bought(&stats.purchases)),
            ("live payments", stats.live_payments.to_string()),
            ("bitcoin", bitcoin(&stats.bitcoin)),
            (
                "store",
                if stats.store_ok { "works" } else { "FAILED: no payment is accepted" }.into(),
            ),
        ]);
        for line in &stats.lines {
            text.push_str(&serial_line(line));
        }
        for lan in &stats.lan {
            text.push_str(&lan_interface(lan));
        }
        for radio in &stats.radios {
            text.push_str(&super::radio::in_words(radio));
        }
        text.push_str(&tables(&stats.tables));
        text.push_str(&connections(&stats.connections));
        for (reason, times) in &stats.refused {
            text.push_str(&format!("refused {times} times: {reason}\n"));
        }
        Answer::yes(serde_json::json!({"info": info, "stats": stats}), text)
    }
}

/// An interface on which neighbours are looked for.
fn lan_interface(lan: &types::LanInterface) -> String {
    let types::LanInterface { name, address, candidates, beacons, error } = lan;
    match error {
        Some(error) => format!("LAN {name} ({address}): {error}\n"),
        None => format!("LAN {name} ({address}): {beacons} beacons, {candidates} remembered\n"),
    }
}

/// What is taken of the state machine's tables and allowances.
fn tables(t: &types::TableStats) -> String {
    let of = |t: types::Taken| format!("{} of {}", t.taken, t.most);
    lines([
        ("places", format!("{} for neighbours, {} by strangers", of(t.neighbours), t.strangers)),
        ("allowances", format!("{} owners", of(t.owners))),
        (
            "searches",
            format!("{} of its own, {} of others remembered", of(t.searches), of(t.requests)),
        ),
        (
            "flows",
            format!(
                "{}, {} that end here, {} accounts, {} tickets for invoices",
                of(t.flows),
                of(t.ends),
                of(t.accounts),
                of(t.tickets)
            ),
        ),
        ("control work", format!("{} bytes, parked {} bytes", of(t.control), of(t.parked_bytes))),
    ])
}

/// Connections of Bitcoin nodes, in words.
/// Connections of Bitcoin nodes that end at a neighbour, and its node's height.
fn at_gateway(b: &types::BridgeStats) -> String {
    match (b.connections, b.height) {
        (0, _) => String::new(),
        (n, None) => n.to_string(),
        (n, Some(height)) => format!("{n}, height {height}"),
    }
}

fn bitcoin(b: &types::BridgeStats) -> String {
    let types::BridgeStats { connections, height, sent, received, held_back } = b;
    let height = height.map_or(String::new(), |height| format!(", height {height}"));
    format!(
        "{connections} connections, {} bytes sent, {} received, {held_back} messages held \
         back{height}",
        sent.bytes, received.bytes
    )
}

/// Bytes that the node has bought, in words.
fn bought(p: &types::PurchaseStats) -> String {
    let types::PurchaseStats { credited, credited_bytes, paid_msat, wallet, .. } = p;
    let types::PurchaseStats { not_paid, over_limit, unknown, not_credited, .. } = p;
    let spent = format!(
        "{} of {} in the last hour, {} of {} in the last day",
        msat(p.last_hour_msat),
        msat(p.limit_msat),
        msat(p.last_day_msat),
        msat(p.day_limit_msat)
    );
    let wallet = if *wallet { spent } else { "no wallet".into() };
    let last = p.last_refusal.as_ref().map(|why| format!("; last: {why}")).unwrap_or_default();
    format!(
        "{credited_bytes} bytes in {credited} purchases, {} ({wallet}); {not_paid} not paid, \
         {over_limit} of them for a limit, {unknown} unknown, {not_credited} paid and not \
         credited{last}",
        msat(*paid_msat)
    )
}

/// Accepted connections, and what all links hold.
fn connections(c: &types::ConnectionStats) -> String {
    let types::ConnectionStats { half_open, displaced_by_prefix, displaced, late, .. } = c;
    let types::ConnectionStats { stalled, memory, memory_most, memory_limit, .. } = c;
    lines([
        (
            "half-open",
            format!(
                "{half_open}; closed: {displaced_by_prefix} for newer ones of their address \
                 prefix, {displaced} for others, {late} late"
            ),
        ),
        (
            "link memory",
            format!(
                "{memory} of {memory_limit} bytes, at most {memory_most}; {stalled} links closed \
                 without progress"
            ),
        ),
    ])
}

/// File descriptors, in words.
fn descriptors(d: types::Descriptors) -> String {
    format!("{} of {} open", d.open, d.limit)
}

/// Where covenants pay this node.
fn payout(info: &types::Info) -> String {
    match (info.payout_script.is_empty(), info.covenants_active) {
        (true, _) => "no covenants: no payout script is configured".into(),
        (false, false) => "no covenants: payment.covenants_active is off".into(),
        (false, true) => format!("covenants to {}", hex::encode(&info.payout_script)),
    }
}

/// A serial line, in words.
fn serial_line(line: &types::LineStats) -> String {
    let types::LineStats {
        line, dials, state, error, chunks, sent_again, given_up, damaged, ..
    } = line;
    let state = match state {
        types::LineState::Up => "up",
        types::LineState::Open => "open, no link",
        types::LineState::Closed => "CLOSED",
    };
    let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!(
        "line {line} ({}) {state}{error}; {chunks} pieces sent, {sent_again} again, \
         {given_up} packets given up, {damaged} frames came damaged\n",
        if *dials { "dials" } else { "listens" }
    )
}

/// The database of the ledger, in words.
fn export(export: Option<&types::ExportStats>) -> String {
    let Some(export) = export else { return "its own store only".into() };
    let types::ExportStats { target, booked, pending, error, .. } = export;
    let error = error.as_ref().map_or(String::new(), |error| format!("; FAILS: {error}"));
    format!("{target}: {booked} lines, {pending} wait{error}")
}

/// The node that looks blocks up, in words.
fn chain(chain: Option<&types::ChainStats>) -> String {
    let Some(chain) = chain else { return "no node looks blocks up".into() };
    let types::ChainStats { rpc_url, state, error, lookups, unknown, failed } = chain;
    let state = match (state, error) {
        (types::ChainState::Failed, Some(error)) => format!("FAILED: {error}"),
        (types::ChainState::Failed, None) => "FAILED".into(),
        (types::ChainState::Good, _) => "works".into(),
        (types::ChainState::Unchecked, _) => "was not asked yet".into(),
    };
    format!("{rpc_url} {state} ({lookups} look-ups, {unknown} unknown, {failed} failed)")
}
