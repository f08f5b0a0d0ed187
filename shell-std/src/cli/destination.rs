//! Who something is for, as users write it.

use super::global::{ClientFailure, Global};
use crate::rpc::Request;
use crate::rpc::target::{Target, TargetError};
use crate::rpc::types::{Peer, Route};
use std::collections::BTreeSet;
use std::str::FromStr;

/// A node in full, or the beginning of what names one that the running node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// An identity, a public key or an address.
    Full(Target),
    /// The first hex digits of an identity or a public key.
    Short(String),
}

/// Fewest digits by which a node is named.
const SHORTEST: usize = 4;

impl FromStr for Destination {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        match (SHORTEST..64).contains(&text.len()) && digits {
            true => Ok(Self::Short(text.to_ascii_lowercase())),
            false => text.parse().map(Self::Full),
        }
    }
}

impl Destination {
    /// The node that is meant. A short form is looked up among the neighbours and the
    /// destinations of known routes, and must fit exactly one.
    pub(super) fn resolve(&self, global: &Global) -> Result<Target, ClientFailure> {
        let short = match self {
            Self::Full(target) => return Ok(*target),
            Self::Short(short) => short,
        };
        let peers: Vec<Peer> = global.ask(&Request::GetPeers)?;
        let routes: Vec<Route> = global.ask(&Request::GetRoutes)?;
        pick(short, &peers, &routes).map_err(ClientFailure::Unclear)
    }
}

fn pick(short: &str, peers: &[Peer], routes: &[Route]) -> Result<Target, String> {
    let fits = |name: String| name.starts_with(short);
    let peers = peers
        .iter()
        .filter(|p| fits(p.node_id.to_string()) || fits(hex::encode(p.public_key)))
        .map(|p| p.node_id);
    let routes = routes.iter().map(|r| r.destination).filter(|id| fits(id.to_string()));
    let found: BTreeSet<_> = peers.chain(routes).collect();
    match found.first() {
        Some(id) if found.len() == 1 => Ok(Target(*id)),
        Some(_) => {
            let all: Vec<String> = found.iter().map(ToString::to_string).collect();
            Err(format!("{short} names {} nodes: {}", all.len(), all.join(", ")))
        }
        None => Err(format!(
            "{short} begins the identity of no neighbour (`blvm-mesh peers`) and of no \
             destination of a known route (`blvm-mesh routes`): write it in full, as 64 hex \
             digits, or give a public key or PUBKEY@HOST:PORT"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;

    fn route(id: [u8; 32]) -> Route {
        let destination = NodeId(id);
        Route { destination, hops: vec![], min_packet: 0, cost: 0, expires_in_ms: 0 }
    }

    #[test]
    fn short_forms_name_exactly_one_node() {
        let (mut a, b) = ([0xab; 32], [0xab; 32]);
        a[31] = 1;
        let routes = [route(a), route([7; 32]), route([7; 32])];
        assert_eq!(pick("0707070707070707", &[], &routes), Ok(Target(NodeId([7; 32]))));
        assert_eq!(pick("0707", &[], &routes), Ok(Target(NodeId([7; 32]))));
        let both = [route(a), route(b)];
        let error = pick("abab", &[], &both).unwrap_err();
        assert!(error.contains("2 nodes") && error.contains("ab01"), "{error}");
        assert!(pick("abac", &[], &both).unwrap_err().contains("64 hex digits"));
    }

    #[test]
    fn what_is_short_is_told_from_what_is_whole() {
        let id = "0f715baf5d4c2ed329785cef29e562f73488c8a2bb9dbc5700b361d54b9b0554";
        assert!(matches!(id.parse(), Ok(Destination::Full(_))));
        assert_eq!("0F715baf".parse(), Ok(Destination::Short("0f715baf".into())));
        for wrong in ["", "0f7", "xyzw", &id[..62].replace('0', "g"), &format!("{id}00")] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }
}
