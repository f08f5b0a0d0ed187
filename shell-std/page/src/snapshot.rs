//! What is shown of a mesh at one moment, as it is sent to browsers: JSON with these names.
//!
//! Nodes are named by the short form of their identity, 16 hex digits, because routes name them so.
//! What is not known is left out, and never guessed.

use crate::history::Totals;
use crate::log::cut;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Longest text from outside, in bytes.
const LONGEST_TEXT: usize = 200;

/// A mesh, or what one node knows of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Whose it is.
    pub about: About,
    /// What it has counted.
    pub totals: Totals,
    /// The nodes that are known, the most important first.
    pub nodes: Vec<Node>,
    /// What is known to join them.
    pub links: Vec<Link>,
    /// The neighbours, those that are configured and down too; none of a simulated world.
    pub peers: Vec<Peer>,
    /// The routes that are known.
    pub routes: Vec<Route>,
    /// The flows that end at the node or pass it.
    pub flows: Vec<Flow>,
    /// The radios.
    pub radios: Vec<Radio>,
    /// Packets that were refused, by the kind of reason.
    pub refused: BTreeMap<String, u64>,
    /// What is not as it should be.
    pub warnings: Vec<Warning>,
    /// How many there are beyond what is shown, by name of the list.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Whose page it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct About {
    /// The node's place in the mesh; `None`: it is a world seen from outside.
    pub node: Option<String>,
    /// What stands above the page.
    pub title: String,
    /// Whether it is simulated.
    pub simulated: bool,
    /// Milliseconds since it began.
    pub uptime_ms: u64,
    /// What the three counts of bytes in [`Totals`] are called.
    pub traffic: [&'static str; 3],
    /// What else there is to say, in order.
    pub facts: Vec<Fact>,
}

/// Something about the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

/// What a node is to the one whose page it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is that node.
    Own,
    /// A neighbour, or a configured peer.
    Neighbour,
    /// It is known by routes.
    Known,
    /// One of a world seen from outside.
    Any,
}

/// A node of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// The short form of its identity, 16 hex digits.
    pub key: String,
    /// Its whole identity, where it is known.
    pub id: Option<String>,
    /// What it is called; empty: by its key.
    pub name: String,
    /// What it is to this node.
    pub role: Role,
    /// Whether it is there, as far as is known.
    pub up: bool,
    /// What else is to be seen of it at once, as `dishonest`.
    pub mark: Option<&'static str>,
    /// Cost of the best route to it (ETX of its links and prices), in 1/256 transmissions.
    pub cost: Option<u64>,
    /// The neighbour by which that goes.
    pub next: Option<String>,
    /// What it earned, in millisatoshi, where that is known.
    pub earned_msat: Option<u64>,
    /// Where it is, in any unit, where that is known.
    pub place: Option<Place>,
}

/// Where a node is: x to the right and y downwards.
pub type Place = (f32, f32);

/// What carries a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// TCP.
    Tcp,
    /// A serial line.
    Serial,
    /// Radio.
    Radio,
    /// A simulated wire.
    Wire,
    /// Not known: two nodes follow each other on a route.
    Route,
}

/// Whether a link carries anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It does, as far as is known.
    Up,
    /// It is being opened.
    Connecting,
    /// It does not.
    Down,
}

/// What joins two nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// One end.
    pub a: String,
    /// The other.
    pub b: String,
    /// What carries it.
    pub kind: LinkKind,
    /// Whether it carries anything.
    pub state: LinkState,
    /// Expected transmissions of a packet over it, in 1/256: at least 256, which is a perfect link.
    pub etx: Option<u32>,
    /// Bytes that it has carried, both ways, where they are counted.
    pub bytes: Option<u64>,
    /// What the end that is not this node charges.
    pub price: Option<Price>,
}

/// What a node charges for relaying, in millisatoshi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Price {
    /// For a payment.
    pub base_msat: u32,
    /// For each started KiB.
    pub per_kib_msat: u32,
}

/// A neighbour, or a configured peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its place in the mesh.
    pub key: String,
    /// Where it is reached, or comes from.
    pub address: String,
    /// State of the link.
    pub state: LinkState,
    /// Whether this node dials it.
    pub dialed: bool,
    /// Milliseconds since the link came up, or since the last attempt.
    pub since_ms: u64,
    /// Its mode, once it has told.
    pub mode: Option<String>,
    /// Bytes received from it on this link.
    pub received: u64,
    /// Bytes sent to it on this link.
    pub sent: u64,
    /// Packets of it that were refused.
    pub refused: u64,
    /// Bytes of flows that it owes.
    pub owes: u64,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
}

/// A way to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Where it ends.
    pub to: String,
    /// The nodes between, in travel order.
    pub hops: Vec<String>,
    /// Its cost (ETX of its links and prices), in 1/256 transmissions.
    pub cost: u64,
    /// Largest packet that it carries, in bytes.
    pub max_packet: u32,
    /// Milliseconds until it is asked for again.
    pub expires_in_ms: u64,
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Its number.
    pub number: String,
    /// `opened here`, `opened there`, `passing`.
    pub sort: &'static str,
    /// The nodes that it is known to touch, in order.
    pub path: Vec<String>,
    /// Whether these follow each other: no node is missing between them.
    pub whole: bool,
    /// Whether it carries something.
    pub up: bool,
    /// Whether it is paid for.
    pub paid: bool,
    /// Bytes that it has carried, where they are counted.
    pub bytes: Option<u64>,
    /// What was paid for it, in millisatoshi, where that is known.
    pub paid_msat: Option<u64>,
    /// Milliseconds since a packet came.
    pub idle_ms: u64,
}

/// A radio of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Radio {
    /// As it is configured.
    pub name: String,
    /// `up`, `starting` or `closed`.
    pub state: &'static str,
    /// What is wrong with it.
    pub error: Option<String>,
    /// Centre of the channel, in hertz.
    pub frequency_hz: u32,
    /// Bandwidth, in hertz.
    pub bandwidth_hz: u32,
    /// Spreading factor.
    pub spreading_factor: u8,
    /// How much of the last half minute the channel was taken, in thousandths.
    pub load_permille: u32,
    /// Air time of the last hour, in milliseconds.
    pub airtime_hour_ms: u64,
    /// Most air time in an hour, in milliseconds.
    pub airtime_limit_ms: u64,
    /// Power of the last frame heard, in dBm.
    pub rssi_dbm: Option<i16>,
    /// Neighbours on it.
    pub neighbours: usize,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl Snapshot {
    /// Most nodes that are shown.
    pub const MOST_NODES: usize = 2_000;
    /// Most links that are shown.
    pub const MOST_LINKS: usize = 4_000;
    /// Most neighbours that are listed.
    pub const MOST_PEERS: usize = 1_000;
    /// Most routes that are listed.
    pub const MOST_ROUTES: usize = 1_000;
    /// Most flows that are listed.
    pub const MOST_FLOWS: usize = 500;
    /// Most of everything else.
    const MOST_OTHERS: usize = 64;

    /// Shortens every list and every text from outside to what a browser is sent, and notes how
    /// much is missing.
    pub(crate) fn bound(&mut self) {
        let left_out = &mut self.left_out;
        shorten(left_out, "nodes", &mut self.nodes, Self::MOST_NODES);
        shorten(left_out, "peers", &mut self.peers, Self::MOST_PEERS);
        shorten(left_out, "routes", &mut self.routes, Self::MOST_ROUTES);
        shorten(left_out, "flows", &mut self.flows, Self::MOST_FLOWS);
        shorten(left_out, "radios", &mut self.radios, Self::MOST_OTHERS);
        shorten(left_out, "warnings", &mut self.warnings, Self::MOST_OTHERS);
        // A link is drawn only between nodes that are.
        let shown: BTreeSet<&str> = self.nodes.iter().map(|node| node.key.as_str()).collect();
        let all = self.links.len();
        self.links.retain(|link| shown.contains(&*link.a) && shown.contains(&*link.b));
        let without_ends = all - self.links.len();
        shorten(left_out, "links", &mut self.links, Self::MOST_LINKS);
        if without_ends > 0 {
            *left_out.entry("links").or_default() += without_ends;
        }
        while self.refused.len() > Self::MOST_OTHERS {
            self.refused.pop_last();
        }
        let texts = self.peers.iter_mut().flat_map(|peer| {
            [Some(&mut peer.address), peer.mode.as_mut(), peer.last_error.as_mut()]
        });
        let radios = self.radios.iter_mut().map(|radio| radio.error.as_mut());
        let warnings =
            self.warnings.iter_mut().flat_map(|w| [Some(&mut w.text), Some(&mut w.remedy)]);
        let names = self.nodes.iter_mut().map(|node| Some(&mut node.name));
        for text in texts.chain(radios).chain(warnings).chain(names).flatten() {
            cut(text, LONGEST_TEXT);
        }
    }
}

fn shorten<T>(
    left_out: &mut BTreeMap<&'static str, usize>,
    name: &'static str,
    list: &mut Vec<T>,
    most: usize,
) {
    if list.len() > most {
        *left_out.entry(name).or_default() += list.len() - most;
        list.truncate(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> String {
        format!("{n:016x}")
    }

    fn node(n: usize) -> Node {
        Node {
            key: key(n),
            id: None,
            name: "n".repeat(1000),
            role: Role::Known,
            up: true,
            mark: None,
            cost: Some(u64::MAX),
            next: Some(key(0)),
            earned_msat: Some(u64::MAX),
            place: Some((-1.0e9, 1.0e9)),
        }
    }

    fn link(a: usize, b: usize) -> Link {
        Link {
            a: key(a),
            b: key(b),
            kind: LinkKind::Serial,
            state: LinkState::Connecting,
            etx: Some(u32::MAX),
            bytes: Some(u64::MAX),
            price: Some(Price { base_msat: u32::MAX, per_kib_msat: u32::MAX }),
        }
    }

    fn peer(n: usize) -> Peer {
        Peer {
            key: key(n),
            address: "\u{1}".repeat(10_000),
            state: LinkState::Down,
            dialed: true,
            since_ms: u64::MAX,
            mode: Some("m".repeat(10_000)),
            received: u64::MAX,
            sent: u64::MAX,
            refused: u64::MAX,
            owes: u64::MAX,
            last_error: Some("e".repeat(10_000)),
        }
    }

    #[test]
    fn however_large_the_mesh_a_snapshot_has_a_bound_and_says_what_is_missing() {
        let many = 20_000;
        let route = |n| Route {
            to: key(n),
            hops: vec![key(n); 48],
            cost: u64::MAX,
            max_packet: u32::MAX,
            expires_in_ms: u64::MAX,
        };
        let flow = |n| Flow {
            number: key(n),
            sort: "opened there",
            path: vec![key(n); 50],
            whole: true,
            up: true,
            paid: true,
            bytes: Some(u64::MAX),
            paid_msat: Some(u64::MAX),
            idle_ms: u64::MAX,
        };
        let mut snapshot = Snapshot {
            nodes: (0..many).map(node).collect(),
            links: (0..many).map(|n| link(n % 1_000, (n + 1) % 3_000)).collect(),
            peers: (0..many).map(peer).collect(),
            routes: (0..many).map(route).collect(),
            flows: (0..many).map(flow).collect(),
            refused: (0..many).map(|n| (key(n), 1)).collect(),
            ..Snapshot::default()
        };
        snapshot.bound();
        let shown = [snapshot.nodes.len(), snapshot.links.len(), snapshot.routes.len()];
        assert_eq!(shown, [Snapshot::MOST_NODES, Snapshot::MOST_LINKS, Snapshot::MOST_ROUTES]);
        for (name, missing) in [("nodes", 18_000), ("links", 16_000), ("flows", 19_500)] {
            assert_eq!(snapshot.left_out.get(name), Some(&missing), "{name}");
        }
        let ends = |link: &Link| [link.a.clone(), link.b.clone()];
        let last = key(Snapshot::MOST_NODES - 1);
        assert!(snapshot.links.iter().flat_map(ends).all(|end| end <= last));
        let bytes = serde_json::to_string(&snapshot).unwrap().len();
        assert!(bytes < 8 << 20, "{bytes}");
    }

    #[test]
    fn what_is_small_is_left_as_it_is() {
        let mut small = Snapshot { nodes: vec![node(0), node(1)], ..Snapshot::default() };
        small.nodes.iter_mut().for_each(|node| node.name.truncate(LONGEST_TEXT));
        small.links = vec![link(0, 1)];
        let before = small.clone();
        small.bound();
        assert_eq!(small, before);
        small.links.push(link(0, 7));
        small.bound();
        assert_eq!((small.links.len(), small.left_out.get("links")), (1, Some(&1)));
    }
}
