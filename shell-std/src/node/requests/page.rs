//! What the page shows of the node: what it knows of the mesh, and nothing that it does not.

use super::super::engine::Command;
use super::super::engine::counted::Counted;
use super::Service;
use crate::rpc::RpcError;
use crate::rpc::types::{
    FlowList, Overview, OwnFlow, PageAddress, Peer, PeerState, RadioState, RadioStats, Route, Stats,
};
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_page::{
    About, Fact, Flow, Link, LinkKind, LinkState, Node, Price, Radio, Role, Snapshot, Source,
    Totals, Warning,
};
use std::collections::BTreeMap;
use std::time::SystemTime;

impl Source for Service {
    async fn totals(&self) -> Option<Totals> {
        // Without what only the system knows: this is asked each second.
        let stats = self.node.ask(Command::Stats).await.ok()?;
        let counted = self.node.ask(Command::Counted).await.ok()?;
        Some(totals(&stats, &counted))
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        self.shown().await.ok()
    }
}

impl Service {
    pub(super) fn page_address(&self) -> Result<PageAddress, RpcError> {
        let off = "the page is off: set page.listen, as in 127.0.0.1:9339, and restart the node";
        let url = self.page.as_ref().ok_or_else(|| RpcError::refused(off))?;
        Ok(PageAddress { url: url.to_string() })
    }

    async fn shown(&self) -> Result<Snapshot, RpcError> {
        let (stats, peers) = (self.stats().await?, self.peers().await?);
        let counted = self.node.ask(Command::Counted).await?;
        let overview = self.glance_at(&stats, &peers).await?;
        let routes = self.routes(Snapshot::MOST_ROUTES).await?;
        let flows = self.flows(Snapshot::MOST_FLOWS).await?;
        let mut known = Known::new(self.node.id());
        peers.iter().for_each(|peer| known.peer(peer));
        routes.iter().for_each(|route| known.route(route));
        flows.own.iter().filter(|flow| flow.opened).for_each(|flow| known.flow(flow));
        let Known { nodes, links, own, .. } = known;
        let more = |all: usize, most: usize| all.saturating_sub(most);
        let missing = [
            ("routes", more(stats.routes, Snapshot::MOST_ROUTES)),
            ("flows", more(flow_count(&overview), flows.own.len() + flows.passing.len())),
        ];
        Ok(Snapshot {
            about: about(&overview, &own),
            totals: totals(&stats, &counted),
            nodes,
            links,
            peers: peers.iter().map(peer).collect(),
            routes: routes.iter().map(route).collect(),
            flows: shown_flows(&flows, &own),
            radios: stats.radios.iter().map(radio).collect(),
            refused: stats.refused,
            warnings: overview
                .warnings
                .into_iter()
                .map(|warning| Warning { text: warning.text, remedy: warning.remedy })
                .collect(),
            left_out: missing.into_iter().filter(|(_, more)| *more > 0).collect(),
        })
    }
}

fn flow_count(overview: &Overview) -> usize {
    usize::try_from(overview.flows_own.saturating_add(overview.flows_passing)).unwrap_or(usize::MAX)
}

fn totals(stats: &Stats, counted: &Counted) -> Totals {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Totals {
        at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        received: stats.received.bytes,
        sent: stats.sent.bytes,
        relayed: stats.relayed.bytes,
        refused: stats.refused.values().fold(0, |sum, count| sum.saturating_add(*count)),
        earned_msat: stats.earned_msat.saturating_add(counted.sold_msat),
        paid_msat: stats.paid_msat.saturating_add(stats.purchases.paid_msat),
    }
}

fn about(overview: &Overview, own: &str) -> About {
    let or_none = |list: &[String]| match list {
        [] => "nothing".to_owned(),
        list => list.join(", "),
    };
    let price = overview.tariff;
    let mut facts = vec![
        ("network", overview.network.name().to_owned()),
        ("mode", overview.mode.clone()),
        ("version", overview.version.clone()),
        ("listening on", or_none(&overview.listening)),
        ("identity", overview.node_id.to_string()),
        ("public key", hex::encode(overview.public_key)),
        ("price", format!("{} msat + {} msat/KiB", price.base_msat, price.per_kib_msat)),
        ("Lightning", overview.lightning.clone().unwrap_or_else(|| "none".into())),
    ];
    if let Some(bitcoin) = &overview.bitcoin {
        let height =
            bitcoin.header_height.map_or(String::new(), |h| format!(", headers up to {h}"));
        facts.push(("Bitcoin", format!("{} connections{height}", bitcoin.connections)));
    }
    if let Some(free) = overview.disk_free {
        facts.push(("disk", format!("{} MiB free", free >> 20)));
    }
    About {
        node: Some(own.to_owned()),
        title: format!("Node {}", own.get(..8).unwrap_or(own)),
        simulated: false,
        uptime_ms: overview.uptime_ms,
        traffic: ["received", "sent", "relayed"],
        facts: facts.into_iter().map(|(name, value)| Fact { name, value }).collect(),
    }
}

/// How the page names a node.
fn key(hop: HopId) -> String {
    hex::encode(hop.0)
}

/// The part of the mesh that the node knows.
struct Known {
    own: String,
    nodes: Vec<Node>,
    /// Where each of them is among these.
    places: BTreeMap<String, usize>,
    links: Vec<Link>,
    /// Those of them that are there, the lower name first.
    joined: BTreeMap<(String, String), usize>,
}

impl Known {
    fn new(id: NodeId) -> Self {
        let own = key(id.hop());
        let (nodes, links) = (Vec::new(), Vec::new());
        let mut known = Self {
            own: own.clone(),
            nodes,
            places: BTreeMap::new(),
            links,
            joined: BTreeMap::new(),
        };
        known.node(&own, Some(id), Role::Own);
        known
    }

    /// The node with this name, which is there from now on.
    fn node(&mut self, key: &str, id: Option<NodeId>, role: Role) -> Option<&mut Node> {
        let place = *self.places.entry(key.to_owned()).or_insert_with(|| {
            self.nodes.push(Node {
                key: key.to_owned(),
                id: None,
                name: String::new(),
                role,
                up: true,
                mark: None,
                cost: None,
                next: None,
                earned_msat: None,
                place: None,
            });
            self.nodes.len() - 1
        });
        let node = self.nodes.get_mut(place)?;
        node.id = node.id.take().or(id.map(|id| id.to_string()));
        Some(node)
    }

    /// A link, unless one between the same nodes is known already.
    fn link(&mut self, link: Link) {
        let ends = if link.a < link.b { (&link.a, &link.b) } else { (&link.b, &link.a) };
        let ends = (ends.0.clone(), ends.1.clone());
        match self.joined.get(&ends).and_then(|at| self.links.get_mut(*at)) {
            // Of several with one neighbour that counts which carries something.
            Some(known) if known.state != LinkState::Up && link.state == LinkState::Up => {
                *known = link;
            }
            Some(_) => {}
            None => {
                self.joined.insert(ends, self.links.len());
                self.links.push(link);
            }
        }
    }

    fn peer(&mut self, peer: &Peer) {
        let name = key(peer.node_id.hop());
        let up = peer.state == PeerState::Up;
        let has_been_up = self.places.contains_key(&name);
        let kind = kind(&peer.address);
        if let Some(node) = self.node(&name, Some(peer.node_id), Role::Neighbour) {
            node.up = up || (has_been_up && node.up);
        }
        let price = peer.hello.as_ref().map(|hello| Price {
            base_msat: hello.tariff.base_msat,
            per_kib_msat: hello.tariff.per_kib_msat,
        });
        let etx = peer.transmissions_256.map(u32::from);
        let bytes = peer.received.bytes.saturating_add(peer.sent.bytes);
        let (a, b) = (self.own.clone(), name);
        self.link(Link { a, b, kind, state: state(peer.state), etx, bytes: Some(bytes), price });
    }

    /// Nodes that follow each other on a way from this one. Of their links nothing else is known.
    fn way(&mut self, hops: &[HopId], end: NodeId) {
        let mut before = self.own.clone();
        let last = hops.len();
        for (at, hop) in hops.iter().chain([&end.hop()]).enumerate() {
            let next = key(*hop);
            self.node(&next, (at == last).then_some(end), Role::Known);
            let (kind, state) = (LinkKind::Route, LinkState::Up);
            let (a, b) = (std::mem::replace(&mut before, next.clone()), next);
            self.link(Link { a, b, kind, state, etx: None, bytes: None, price: None });
        }
    }

    fn route(&mut self, route: &Route) {
        self.way(&route.hops, route.destination);
        let end = key(route.destination.hop());
        let next = route.hops.first().map_or_else(|| end.clone(), |hop| key(*hop));
        if let Some(node) = self.node(&end, None, Role::Known)
            && node.cost.is_none_or(|cost| route.cost < cost)
        {
            (node.cost, node.next) = (Some(route.cost), Some(next));
        }
    }

    fn flow(&mut self, flow: &OwnFlow) {
        if flow.up {
            self.way(&flow.route, flow.peer);
        }
    }
}

/// What carries a link, by its address.
fn kind(address: &str) -> LinkKind {
    match address {
        _ if address.starts_with("lora") => LinkKind::Radio,
        _ if address.starts_with("serial") => LinkKind::Serial,
        _ => LinkKind::Tcp,
    }
}

const fn state(state: PeerState) -> LinkState {
    match state {
        PeerState::Up => LinkState::Up,
        PeerState::Connecting => LinkState::Connecting,
        PeerState::Down => LinkState::Down,
    }
}

fn peer(peer: &Peer) -> blvm_mesh_page::Peer {
    blvm_mesh_page::Peer {
        key: key(peer.node_id.hop()),
        address: peer.address.clone(),
        state: state(peer.state),
        dialed: peer.dialed,
        since_ms: peer.since_ms,
        mode: peer.hello.as_ref().map(|hello| hello.mode.clone()),
        received: peer.received.bytes,
        sent: peer.sent.bytes,
        refused: peer.refused,
        owes: peer.owes_bytes,
        last_error: peer.last_error.clone(),
    }
}

fn route(route: &Route) -> blvm_mesh_page::Route {
    blvm_mesh_page::Route {
        to: key(route.destination.hop()),
        hops: route.hops.iter().copied().map(key).collect(),
        cost: route.cost,
        max_packet: route.min_packet,
        expires_in_ms: route.expires_in_ms,
    }
}

fn shown_flows(flows: &FlowList, own: &str) -> Vec<Flow> {
    let ends = flows.own.iter().map(|flow| {
        let (peer, own) = (key(flow.peer.hop()), own.to_owned());
        let between = flow.route.iter().copied().map(key);
        Flow {
            number: flow.flow.clone(),
            sort: if flow.opened { "opened here" } else { "opened there" },
            path: match flow.opened {
                true => std::iter::once(own).chain(between).chain([peer]).collect(),
                false => vec![peer, own],
            },
            // The other end knows the way.
            whole: flow.opened && flow.up,
            up: flow.up,
            paid: flow.paid_msat > 0,
            bytes: Some(flow.used),
            paid_msat: Some(flow.paid_msat),
            idle_ms: flow.idle_ms,
        }
    });
    let passing = flows.passing.iter().map(|flow| Flow {
        number: flow.flow.clone(),
        sort: "passing",
        path: vec![key(flow.from), own.to_owned(), key(flow.to)],
        whole: true,
        up: true,
        paid: flow.paid,
        bytes: None,
        paid_msat: None,
        idle_ms: flow.idle_ms,
    });
    ends.chain(passing).collect()
}

fn radio(radio: &RadioStats) -> Radio {
    Radio {
        name: radio.radio.clone(),
        state: match radio.state {
            RadioState::Up => "up",
            RadioState::Starting => "starting",
            RadioState::Closed => "closed",
        },
        error: radio.error.clone(),
        frequency_hz: radio.frequency_hz,
        bandwidth_hz: radio.bandwidth_hz,
        spreading_factor: radio.spreading_factor,
        load_permille: radio.load_permille,
        airtime_hour_ms: radio.airtime_hour_ms,
        airtime_limit_ms: radio.airtime_limit_ms,
        rssi_dbm: radio.rssi_dbm,
        neighbours: radio.neighbours.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known::new(NodeId([1; 32]))
    }

    fn to(end: u8, hops: &[u8], cost: u64) -> Route {
        Route {
            destination: NodeId([end; 32]),
            hops: hops.iter().map(|hop| HopId([*hop; 8])).collect(),
            min_packet: 1,
            cost,
            expires_in_ms: 1,
        }
    }

    fn name(n: u8) -> String {
        format!("{n:02x}").repeat(8)
    }

    #[test]
    fn the_mesh_has_what_routes_tell_and_nothing_else() {
        let mut known = known();
        known.route(&to(4, &[2, 3], 900));
        known.route(&to(4, &[5], 700));
        known.route(&to(3, &[2], 500));
        let names: Vec<_> = known.nodes.iter().map(|node| node.key.clone()).collect();
        assert_eq!(names, [1, 2, 3, 4, 5].map(name));
        let links: Vec<_> = known.links.iter().map(|l| (l.a.clone(), l.b.clone())).collect();
        let pairs = [(1, 2), (2, 3), (3, 4), (1, 5), (5, 4)];
        assert_eq!(links, pairs.map(|(a, b)| (name(a), name(b))));
        assert!(known.links.iter().all(|l| l.etx.is_none() && l.kind == LinkKind::Route));
        let of = |n: u8| known.nodes.iter().find(|node| node.key == name(n)).unwrap();
        assert_eq!((of(4).cost, of(4).next.clone()), (Some(700), Some(name(5))), "the best");
        assert_eq!((of(2).cost, of(2).id.clone()), (None, None), "it is only passed");
        assert_eq!(of(3).id, Some(NodeId([3; 32]).to_string()), "named in full by its own route");
    }

    #[test]
    fn a_way_over_a_link_of_this_node_does_not_hide_what_is_known_of_it() {
        let mut known = known();
        let link = Link {
            a: name(1),
            b: name(2),
            kind: LinkKind::Tcp,
            state: LinkState::Down,
            etx: None,
            bytes: Some(5),
            price: None,
        };
        known.node(&name(2), None, Role::Neighbour);
        known.link(link.clone());
        known.link(Link { state: LinkState::Up, bytes: Some(7), ..link.clone() });
        known.link(Link { bytes: Some(9), ..link });
        known.route(&to(2, &[], 300));
        assert_eq!(known.links.len(), 1);
        assert_eq!((known.links[0].bytes, known.links[0].kind), (Some(7), LinkKind::Tcp));
        assert_eq!(known.nodes[1].role, Role::Neighbour);
        for (address, is) in [
            ("lora+rnode:///dev/ttyUSB0", LinkKind::Radio),
            ("serial+tcp://a:1", LinkKind::Serial),
            ("[::1]:8338", LinkKind::Tcp),
        ] {
            assert_eq!(kind(address), is);
        }
    }
}
