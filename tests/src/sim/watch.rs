//! A world as the node's page shows it, seen from outside.

use super::World;
use super::wires::conn_of;
use super::world::BASE_UNIX;
use crate::sim::topology::Topology;
use blvm_mesh_page::{
    About, Fact, Flow, Link, LinkKind, LinkState, Node, Place, Price, Role, Snapshot, Totals,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of two nodes that are joined.
#[derive(Default)]
struct Pair {
    works: bool,
    down: bool,
    wired: bool,
    bytes: u64,
    etx: Option<u32>,
}

/// What the world has counted. The three counts of bytes are named in [`snapshot`].
pub fn totals(world: &World) -> Totals {
    let a = &world.account;
    Totals {
        at_ms: BASE_UNIX * 1000 + world.now / 1000,
        received: a.control_bytes + a.data_bytes,
        sent: a.data_bytes,
        relayed: a.control_bytes,
        refused: refused(world).values().sum(),
        earned_msat: a.earned.iter().sum(),
        paid_msat: a.paid_msat,
    }
}

/// All of it. `topology` is what the world was made from.
pub fn snapshot(world: &World, topology: &Topology) -> Snapshot {
    let a = &world.account;
    let fact = |name, value: String| Fact { name, value };
    let facts = vec![
        fact("topology", topology.name.clone()),
        fact("seed", world.seed().to_string()),
        fact("sent", a.sent.to_string()),
        fact("arrived", a.arrived.to_string()),
        fact("searches found", a.discoveries.len().to_string()),
        fact("searches failed", a.failed_searches.to_string()),
        fact("payments accepted", a.accepted.to_string()),
        fact("events", world.events().to_string()),
    ];
    let about = About {
        node: None,
        title: format!("{} simulated nodes", world.nodes.len()),
        simulated: true,
        uptime_ms: world.now / 1000,
        traffic: ["on all links", "datagrams and flows", "the mesh's own"],
        facts,
    };
    Snapshot {
        about,
        totals: totals(world),
        nodes: (0..world.nodes.len()).map(|n| node(world, topology, n)).collect(),
        links: links(world),
        flows: flows(world),
        refused: refused(world),
        ..Snapshot::default()
    }
}

/// How the page names a node.
fn key(world: &World, n: usize) -> String {
    world.id(n).hop().0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn node(world: &World, topology: &Topology, n: usize) -> Node {
    let positions = match &world.radio {
        Some(medium) => Some(&medium.positions),
        None => topology.placed.then_some(&topology.positions),
    };
    let place = |(x, y): &(f64, f64)| -> Place { (*x as f32, *y as f32) };
    let it = &world.nodes[n];
    Node {
        key: key(world, n),
        id: Some(it.id.to_string()),
        name: topology.label(n),
        role: Role::Any,
        up: !it.off,
        mark: (!it.honest).then_some("dishonest"),
        cost: None,
        next: None,
        earned_msat: Some(world.account.earned[n]),
        place: positions.and_then(|all| all.get(n)).map(place),
    }
}

fn links(world: &World) -> Vec<Link> {
    let mut pairs: BTreeMap<(usize, usize), Pair> = BTreeMap::new();
    let ends = |[a, b]: [usize; 2]| (a.min(b), a.max(b));
    for wire in world.wires() {
        let pair = pairs.entry(ends(wire.ends)).or_default();
        (pair.wired, pair.down) = (true, wire.down);
    }
    for conn in &world.conns {
        let pair = pairs.entry(ends(conn.ends)).or_default();
        pair.works |= conn.works();
        pair.bytes += conn.bytes;
    }
    for node in &world.nodes {
        let told: Vec<_> = crate::either!(&node.machine, m => {
            let all = m.table().neighbours.iter().filter(|n| n.up);
            all.map(|n| (n.link, n.measured.max(n.quality))).collect()
        });
        for (link, etx) in told {
            let Some(conn) = world.conns.get(conn_of(link).0) else { continue };
            let pair = pairs.entry(ends(conn.ends)).or_default();
            pair.etx = pair.etx.max(Some(etx.into()));
        }
    }
    let kind = if world.radio.is_some() { LinkKind::Radio } else { LinkKind::Wire };
    // What only was there once, as a neighbour on a channel, is gone.
    let there = pairs.into_iter().filter(|(_, pair)| pair.works || pair.wired);
    let shown = there.map(|((a, b), pair)| {
        let off = world.nodes[a].off || world.nodes[b].off;
        let tariff = world.nodes[b].config.payment.tariff;
        Link {
            a: key(world, a),
            b: key(world, b),
            kind,
            state: match pair.works {
                true => LinkState::Up,
                false if pair.down || off => LinkState::Down,
                false => LinkState::Connecting,
            },
            etx: pair.etx.filter(|_| pair.works),
            bytes: Some(pair.bytes),
            price: Some(Price { base_msat: tariff.base_msat, per_kib_msat: tariff.per_kib_msat }),
        }
    });
    shown.collect()
}

fn flows(world: &World) -> Vec<Flow> {
    let all = world.flows.all.iter().filter(|(_, flow)| flow.ended == [None; 2]);
    let shown = all.map(|(id, flow)| Flow {
        number: format!("{:016x}", id.0),
        sort: "simulated",
        path: [flow.ends[0]]
            .iter()
            .chain(&flow.hops)
            .chain([&flow.ends[1]])
            .map(|n| key(world, *n))
            .collect(),
        whole: flow.opened,
        up: flow.opened,
        paid: true,
        bytes: None,
        paid_msat: None,
        idle_ms: 0,
    });
    shown.collect()
}

/// What honest nodes refused, by reason.
fn refused(world: &World) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, n) in &world.checks.counts {
        if let Some((_, reason)) = name.split_once('(') {
            *sums.entry(in_words(reason)).or_default() += n;
        }
    }
    sums
}

/// A name of the code as people write it: `Malformed(Field)` is "malformed field".
fn in_words(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        match c {
            '(' => text.push(' '),
            ')' => {}
            c if c.is_uppercase() => {
                if !text.is_empty() && !text.ends_with(' ') {
                    text.push(' ');
                }
                text.extend(c.to_lowercase());
            }
            c => text.push(c),
        }
    }
    text.trim().to_owned()
}

/// What became of links and nodes between two snapshots, a line each.
pub fn news(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let names: BTreeMap<&str, &str> =
        after.nodes.iter().map(|node| (&*node.key, &*node.name)).collect();
    let name = |key: &str| names.get(key).copied().unwrap_or_default().to_owned();
    let nodes = before.nodes.iter().zip(&after.nodes).filter(|(old, new)| old.up != new.up);
    let nodes = nodes.map(|(_, node)| match node.up {
        true => format!("node {} has come back", node.name),
        false => format!("node {} has left", node.name),
    });
    let up = |snapshot: &Snapshot| -> BTreeSet<(String, String)> {
        let links = snapshot.links.iter().filter(|link| link.state == LinkState::Up);
        links.map(|link| (link.a.clone(), link.b.clone())).collect()
    };
    let (old, new) = (up(before), up(after));
    let links = old.symmetric_difference(&new).map(|link| {
        let is = if new.contains(link) { "up" } else { "down" };
        format!("link {} - {} is {is}", name(&link.0), name(&link.1))
    });
    nodes.chain(links).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Plan;

    #[test]
    fn a_cut_wire_and_who_has_left_are_seen() {
        let plan = Plan { duration: 2_000_000, traffic_gap: 50_000, ..Plan::calm(4, 20, "grid") };
        let mut life = plan.live(&mut |_| {}, None).expect("a world");
        let before = snapshot(&life.world, &life.topology);
        assert_eq!((before.nodes.len(), before.links.len()), (20, life.topology.links.len()));
        assert!(before.links.iter().all(|link| link.state == LinkState::Up && link.etx.is_some()));
        assert!(before.links.iter().any(|link| link.bytes > Some(0)));
        assert!(before.nodes.iter().all(|node| node.up && node.place.is_some()));
        assert!(before.totals.received > before.totals.sent && before.totals.sent > 0);
        life.world.cut(0, 1, false);
        life.world.nodes[7].off = true;
        life.world.run_for(1_000_000);
        let after = snapshot(&life.world, &life.topology);
        let state = |a: usize, b: usize| {
            let ends = [key(&life.world, a), key(&life.world, b)];
            let is = |link: &&Link| ends.contains(&link.a) && ends.contains(&link.b);
            after.links.iter().find(is).unwrap().state
        };
        assert_eq!((state(0, 1), state(1, 2)), (LinkState::Down, LinkState::Up));
        assert!(!after.nodes[7].up);
        assert!(after.totals.at_ms > before.totals.at_ms);
        let told = news(&before, &after);
        assert!(told.contains(&"link 0 - 1 is down".to_owned()), "{told:?}");
        assert!(told.contains(&"node 7 has left".to_owned()), "{told:?}");
        assert_eq!(news(&after, &after), Vec::<String>::new());
        assert_eq!(in_words("Malformed(NoTlv)"), "malformed no tlv");
    }
}
