//! `trace`: the route to a node, hop by hop.

use super::answer::{lines, table};
use super::destination::Destination;
use super::global::{ClientFailure, Global, msat};
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{
    FindRoute, FlowList, FoundRoute, Peer, PeerState, Quote, QuoteRoute, Role,
};
use blvm_mesh_core::id::HopId;
use clap::Args;
use serde::Serialize;

/// Show the route to a node hop by hop, with what each node asks for.
///
/// The route is looked for anew. How long the search took says little of how long packets take: it
/// widens in rings, and to a neighbour there is none. The round trip is told where a flow to the node
/// is open, which measures it. Exit code 1: no route was found.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh trace 0f715baf")]
pub(super) struct Trace {
    /// To whom: identity or its first digits, public key, or PUBKEY@HOST:PORT.
    node: Destination,
}

/// What is known of a route.
#[derive(Debug, Serialize)]
struct Traced {
    destination: String,
    hops: Vec<Hop>,
    largest_packet: u32,
    cost: u64,
    search_us: u64,
    round_trip_us: Option<u64>,
    /// Why there are no prices.
    unpriced: Option<String>,
}

/// A node on it, the destination the last.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Hop {
    /// Its identity's short form.
    node: String,
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
        let found: FoundRoute = global.ask(&Request::FindRoute(FindRoute { destination }))?;
        let quote = global.ask(&Request::QuoteRoute(QuoteRoute { destination, bytes: 1 }));
        let (quote, unpriced): (Option<Quote>, _) = match quote {
            Ok(quote) => (Some(quote), None),
            Err(ClientFailure::Client(error)) if error.is_refusal() => {
                (None, Some(error.to_string()))
            }
            Err(other) => return Err(other),
        };
        let peers: Vec<Peer> = global.ask(&Request::GetPeers)?;
        let flows: FlowList = global.ask(&Request::GetFlows)?;
        let to_it = flows.own.iter().filter(|flow| flow.peer == destination.0);
        let traced = Traced {
            destination: destination.to_string(),
            hops: hops(&found, quote.as_ref(), &peers),
            largest_packet: found.route.min_packet,
            cost: found.route.cost,
            search_us: found.took_us,
            round_trip_us: to_it.filter_map(|flow| flow.round_trip_us).min(),
            unpriced,
        };
        Ok(Answer::yes(&traced, in_words(&traced)))
    }
}

/// All nodes behind this one. Prices are those of the quote where it is for the same route.
fn hops(found: &FoundRoute, quote: Option<&Quote>, peers: &[Peer]) -> Vec<Hop> {
    let route = &found.route;
    let quote = quote.filter(|quote| quote.hops == route.hops);
    let price = |node: HopId| {
        let mut shares = quote?.shares.iter().filter(|share| share.role != Role::Source);
        shares.find(|share| share.node == node).map(|share| share.price_msat)
    };
    let address = |node: HopId| {
        let up = |peer: &&Peer| peer.state == PeerState::Up && peer.node_id.hop() == node;
        peers.iter().find(up).map(|peer| peer.address.clone())
    };
    let all = route.hops.iter().copied().chain([route.destination.hop()]).enumerate();
    let hop = |(at, node): (usize, HopId)| Hop {
        node: node.to_string(),
        price_msat: price(node),
        // Behind the first there are others' neighbours.
        address: if at == 0 { address(node) } else { None },
    };
    all.map(hop).collect()
}

fn in_words(traced: &Traced) -> String {
    let row = |(at, hop): (usize, &Hop)| {
        let price = hop.price_msat.map_or("not known".into(), msat);
        let place = if at + 1 == traced.hops.len() { "destination" } else { "relay" };
        let address = hop.address.clone().unwrap_or_default();
        [(at + 1).to_string(), hop.node.clone(), place.into(), price, address]
    };
    let rows: Vec<_> = traced.hops.iter().enumerate().map(row).collect();
    let mut text = table(["hop", "node", "", "up to 1 KiB costs", "address"], &rows);
    let round_trip = traced.round_trip_us.map_or("not measured: no flow to it is open".into(), us);
    text.push_str(&lines([
        ("largest packet", format!("{} bytes", traced.largest_packet)),
        ("cost", traced.cost.to_string()),
        ("search took", us(traced.search_us)),
        ("round trip", round_trip),
    ]));
    if let Some(why) = &traced.unpriced {
        text.push_str(&format!("no prices: {why}\n"));
    }
    text
}

fn us(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;

    #[test]
    fn every_node_behind_this_one_is_shown_with_what_is_known_of_it() {
        let route = crate::rpc::types::Route {
            destination: NodeId([3; 32]),
            hops: vec![HopId([1; 8]), HopId([2; 8])],
            min_packet: 240,
            cost: 5,
            expires_in_ms: 0,
        };
        let found = FoundRoute { route, took_us: 12_345 };
        let all = hops(&found, None, &[]);
        assert_eq!(all.len(), 3);
        assert_eq!(all[2], Hop { node: "03".repeat(8), price_msat: None, address: None });
        let hop =
            |node: &str, price| Hop { node: node.repeat(8), price_msat: price, address: None };
        let traced = Traced {
            destination: String::new(),
            hops: vec![hop("01", Some(7)), hop("03", None)],
            largest_packet: 240,
            cost: 5,
            search_us: 12_345,
            round_trip_us: None,
            unpriced: Some("it is too dear".into()),
        };
        let text = in_words(&traced);
        for part in [
            "1    0101010101010101  relay        7 msat",
            "2    0303030303030303  destination  not known",
            "search took     12.345 ms",
            "round trip      not measured",
            "no prices: it is too dear\n",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
