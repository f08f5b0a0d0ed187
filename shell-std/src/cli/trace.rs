//! `trace`: the route to a node, hop by hop.

use super::answer::{lines, table};
use super::destination::Destination;
use super::global::{ClientFailure, Global, msat, tariff};
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{
    self, Fared, Peer, PeerState, Quote, QuoteRoute, Role, Told, Traced, TracedHop,
};
use blvm_mesh_core::id::HopId;
use clap::Args;
use serde::Serialize;

/// Show the route to a node hop by hop: how far each node is, and what it says of itself.
///
/// The route is looked for anew, and a probe is sent to each node of it, by the best route there, which may be
/// another one. A node that does not answer is shown with `*`, and why, as far as that is known; boards answer no
/// probes. What nodes tell of themselves is not proven. `etx` is how often a packet is sent on the link to
/// the node until it arrives. Exit code 1: no route was found.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh trace 0f715baf
  blvm-mesh trace $NODE --wait-ms 30000 --json")]
pub(super) struct Trace {
    /// To whom: identity or its first digits, public key, or PUBKEY@HOST:PORT.
    node: Destination,
    /// Longest wait for each answer, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = types::WAIT_MS,
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    wait_ms: u64,
}

/// What is known of a route.
#[derive(Debug, Serialize)]
struct Shown {
    destination: String,
    hops: Vec<Hop>,
    largest_packet: u32,
    cost: u64,
    search_us: u64,
    /// That of the probe to the destination.
    round_trip_us: Option<u64>,
    /// Why there are no prices.
    unpriced: Option<String>,
}

/// A node on it, the destination the last.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Hop {
    #[serde(flatten)]
    traced: TracedHop,
    /// What it asks for a datagram of up to 1 KiB.
    price_msat: Option<u64>,
    /// Where it is reached, if it is a neighbour.
    address: Option<String>,
}

impl Trace {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        self.look(global).unwrap_or_else(ClientFailure::answer)
    }

    fn look(self, global: &Global) -> Result<Result<Answer, Failure>, ClientFailure> {
        let destination = self.node.resolve(global)?;
        let trace = types::Trace { destination, wait_ms: self.wait_ms };
        let traced: Traced = global.ask(&Request::Trace(trace))?;
        let quote = global.ask(&Request::QuoteRoute(QuoteRoute { destination, bytes: 1 }));
        let (quote, unpriced): (Option<Quote>, _) = match quote {
            Ok(quote) => (Some(quote), None),
            Err(ClientFailure::Client(error)) if error.is_refusal() => {
                (None, Some(error.to_string()))
            }
            Err(other) => return Err(other),
        };
        let peers: Vec<Peer> = global.ask(&Request::GetPeers)?;
        let shown = Shown {
            destination: destination.to_string(),
            largest_packet: traced.min_packet,
            cost: traced.cost,
            search_us: traced.took_us,
            round_trip_us: traced.hops.last().and_then(|last| last.fared.round_trip_us),
            hops: hops(traced.hops, quote.as_ref(), &peers),
            unpriced,
        };
        Ok(Answer::yes(&shown, in_words(&shown)))
    }
}

/// All nodes behind this one. Prices are those of the quote where it is for the same route.
fn hops(traced: Vec<TracedHop>, quote: Option<&Quote>, peers: &[Peer]) -> Vec<Hop> {
    let relays = traced.len().saturating_sub(1);
    let same = |quote: &&Quote| {
        quote.hops.iter().eq(traced.iter().take(relays).map(|traced| &traced.node))
    };
    let quote = quote.filter(same);
    let price = |node: HopId| {
        let mut shares = quote?.shares.iter().filter(|share| share.role != Role::Source);
        shares.find(|share| share.node == node).map(|share| share.price_msat)
    };
    let address = |node: HopId| {
        let up = |peer: &&Peer| peer.state == PeerState::Up && peer.node_id.hop() == node;
        peers.iter().find(up).map(|peer| peer.address.clone())
    };
    let hop = |(at, traced): (usize, &TracedHop)| Hop {
        traced: traced.clone(),
        price_msat: price(traced.node),
        // Behind the first there are others' neighbours.
        address: if at == 0 { address(traced.node) } else { None },
    };
    traced.iter().enumerate().map(hop).collect()
}

/// The columns of a node: its place, time and price, and what it tells of itself.
fn row(at: usize, hop: &Hop, last: bool) -> [String; 11] {
    let Hop { traced: TracedHop { node, fared, .. }, price_msat, address } = hop;
    let Fared { round_trip_us, told, .. } = fared;
    let of = |tell: &dyn Fn(&Told) -> String| told.as_ref().map_or_else(|| "*".into(), tell);
    [
        (at + 1).to_string(),
        node.to_string(),
        if last { "destination" } else { "relay" }.into(),
        round_trip_us.map_or_else(|| "*".into(), us),
        of(&|told| told.transmissions_256.map_or_else(|| "?".into(), etx)),
        price_msat.map_or("not known".into(), msat),
        of(&|told| tariff(&told.tariff)),
        of(&|told| format!("{} B/s, {} B at once", told.plain_rate, told.plain_burst)),
        of(&|told| issuers(told.issuers.as_deref())),
        of(&|told| told.software.clone().unwrap_or_else(|| "?".into())),
        address.clone().unwrap_or_default(),
    ]
}

/// How many there are, and the beginnings of their keys.
fn issuers(keys: Option<&[[u8; 33]]>) -> String {
    match keys {
        None => "?".into(),
        Some([]) => "none".into(),
        Some(keys) => {
            let short = |key: &[u8; 33]| hex::encode(key.get(..4).unwrap_or_default());
            keys.iter().map(short).collect::<Vec<_>>().join(",")
        }
    }
}

fn in_words(shown: &Shown) -> String {
    let last = shown.hops.len().saturating_sub(1);
    let rows: Vec<_> =
        shown.hops.iter().enumerate().map(|(at, hop)| row(at, hop, at == last)).collect();
    let heading = [
        "hop",
        "node",
        "",
        "round trip",
        "etx",
        "up to 1 KiB costs",
        "tariff",
        "free (without proof of work)",
        "issuers",
        "software",
        "address",
    ];
    let mut text = table(heading, &rows);
    for Hop { traced: TracedHop { node, fared, .. }, .. } in &shown.hops {
        if let Some(reason) = &fared.reason {
            text.push_str(&format!("* {node}: {reason}\n"));
        }
    }
    text.push_str(&lines([
        ("largest packet", format!("{} bytes", shown.largest_packet)),
        ("cost", shown.cost.to_string()),
        ("search took", us(shown.search_us)),
    ]));
    if let Some(why) = &shown.unpriced {
        text.push_str(&format!("no prices: {why}\n"));
    }
    text
}

/// Expected transmissions, of which 256 are one.
fn etx(in_256: u16) -> String {
    format!("{:.2}", f64::from(in_256) / 256.0)
}

pub(super) fn us(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;
    use blvm_mesh_core::tariff::Tariff;

    fn traced(node: u8, fared: Fared) -> TracedHop {
        TracedHop { node: HopId([node; 8]), node_id: Some(NodeId([node; 32])), fared }
    }

    #[test]
    fn every_node_behind_this_one_is_shown_with_what_is_known_of_it() {
        let told = Told {
            software: Some("blvm-mesh/1.2.3".into()),
            mode: "payment_gated".into(),
            transmissions_256: Some(384),
            tariff: Tariff { base_msat: 7, per_kib_msat: 8 },
            free_rate: 1,
            free_burst: 2,
            plain_rate: 3,
            plain_burst: 4,
            issuers: Some(vec![[2; 33], [3; 33]]),
        };
        let answered = Fared {
            answered: true,
            round_trip_us: Some(12_345),
            told: Some(told),
            ..Fared::default()
        };
        let silent = Fared { reason: Some("no answer in time".into()), ..Fared::default() };
        let all = vec![traced(1, answered), traced(3, silent)];
        let mut hops = hops(all, None, &[]);
        assert_eq!((hops.len(), hops[0].price_msat, &hops[1].address), (2, None, &None));
        hops[0].price_msat = Some(15);
        let shown = Shown {
            destination: String::new(),
            hops,
            largest_packet: 240,
            cost: 5,
            search_us: 1_002,
            round_trip_us: None,
            unpriced: Some("it is too dear".into()),
        };
        let text = in_words(&shown);
        let lines: Vec<_> = text.lines().collect();
        for part in [
            "1    0101010101010101  relay        12.345 ms   1.50",
            "15 msat",
            "7 msat + 8 msat/KiB",
            "3 B/s, 4 B at once",
            "02020202,03030303",
            "blvm-mesh/1.2.3",
        ] {
            assert!(lines[1].contains(part), "{part} is not in {text}");
        }
        assert!(
            lines[2].starts_with("2    0303030303030303  destination  *           *"),
            "{text}"
        );
        assert!(text.contains("\n* 0303030303030303: no answer in time\n"), "{text}");
        assert!(text.contains("search took     1.002 ms"), "{text}");
        assert!(text.contains("no prices: it is too dear\n"), "{text}");
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["hops"][0]["told"]["software"], "blvm-mesh/1.2.3");
        assert_eq!(json["hops"][1]["node"], "03".repeat(8));
    }
}
