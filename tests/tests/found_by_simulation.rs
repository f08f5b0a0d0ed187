//! Faults that the simulator, or whoever wrote it, found: each stays here.

use blvm_mesh_core::config::{Capacities, MeshMode};
use blvm_mesh_core::id::{LinkId, NodeId, Standing};
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::routing::liveness::Liveness;
use blvm_mesh_core::routing::neighbours::Neighbour;
use blvm_mesh_core::routing::table::{Confirmed, RoutingTable};
use blvm_mesh_core::signature::Identity;
use blvm_mesh_core::tables::Heap;
use blvm_mesh_core::time::SECOND;
use blvm_mesh_core::wire::Header;
use blvm_mesh_core::wire::route_reply::RouteReply;
use blvm_mesh_core::wire::route_request::{Hop, Hops, RouteRequest};
use blvm_mesh_tests::packets::payloads::ping;
use blvm_mesh_tests::scenarios::{find, line, pay_and_send, refusal};
use blvm_mesh_tests::sim::{Action, Input, Path, World};

/// The share of a packet relayed before was told again with the next delivery.
#[test]
fn nothing_is_earned_with_a_free_packet_after_a_paid_one() {
    let mut w = line(3, |_, _| {});
    find(&mut w, 0, 2);
    pay_and_send(&mut w, 0, 2, b"paid");
    assert!(w.arrived(0, 2, b"paid"));
    let payload = ping(1);
    w.checks.free.insert(payload.clone());
    // The checks of every step hold what is earned against what is paid.
    w.send(0, 1, &payload, &[]);
    w.run_for(SECOND);
    assert!(w.arrived(0, 1, &payload));
}

/// Without keep-alive nothing woke the node up to forget expired payments.
#[test]
fn a_full_replay_table_empties_on_a_silent_node() {
    let mut w = line(2, |_, c| {
        c.timing.keepalive = 0;
        c.capacities.payments = 2;
    });
    for payload in [b"a", b"b"] {
        pay_and_send(&mut w, 0, 1, payload);
        assert!(w.arrived(0, 1, payload));
    }
    w.run_for(125 * SECOND);
    let did = pay_and_send(&mut w, 0, 1, b"c");
    assert_eq!(refusal(&did), None);
    assert!(w.arrived(0, 1, b"c"));
}

fn write(request: &RouteRequest) -> Vec<u8> {
    let mut out = vec![0; 2000];
    let n = request.write(&mut out).unwrap();
    out.truncate(n);
    out
}

fn hop(node: NodeId) -> Hop {
    Hop { node: node.hop(), tariff: Tariff::default() }
}

fn request(source: NodeId, sequence: u64, destination: NodeId, hops: &[NodeId]) -> RouteRequest {
    RouteRequest {
        flags: 0,
        hop_limit: 3,
        sequence,
        source: source.hop(),
        destination: destination.hop(),
        min_packet: 65536,
        quality: 0,
        accepted: None,
        hops: hops.iter().copied().map(hop).collect(),
    }
}

/// Requests that went out in a step.
fn requests(did: &[Action]) -> Vec<RouteRequest> {
    let of = |d: &Action| {
        let (header, body) = Header::parse(d.sent()?.1).unwrap();
        RouteRequest::parse(header, body).ok()
    };
    did.iter().filter_map(of).collect()
}

fn link_to(w: &World, n: usize, to: usize) -> LinkId {
    w.links(n).into_iter().find(|(_, m)| *m == to).unwrap().0
}

/// Numbers of requests counted up, so that a stranger could use the next ones
/// first, and the true ones were taken for old.
#[test]
fn the_number_of_the_next_request_cannot_be_known() {
    // The relay 1 hears both the source 0 and the adversary 3; 2 is looked for.
    let mut w = line(3, |_, _| {});
    let c = w.nodes[0].config.clone();
    let adversary = w.add_node(c, true);
    w.wire(1, adversary, 1000);
    w.run_for(SECOND);
    w.nodes[adversary].honest = false;
    let (source, nobody) = (w.id(0), NodeId([9; 32]));
    // The adversary hears a request of the source.
    let did = w.input(0, Input::FindRoute { destination: nobody });
    let heard = requests(&did)[0].sequence;
    w.run_for(6 * SECOND);
    // Every ring was asked; the next numbers follow.
    for n in 4..8 {
        let forged = request(source, heard.wrapping_add(n), nobody, &[w.id(adversary)]);
        let link = link_to(&w, adversary, 1);
        w.transmit(link, write(&forged).into(), Path::default().then(adversary));
    }
    w.run_for(SECOND);
    find(&mut w, 0, 2);
}

/// A request with too many hops was refused, and remembered: the same request
/// on a shorter way was then taken for known.
#[test]
fn a_refused_request_is_not_remembered() {
    let mut w = line(2, |_, _| {});
    let (link, peer) = (link_to(&w, 1, 0), w.id(0));
    let mut far: Vec<NodeId> = (1..48).map(|n| NodeId([n; 32])).collect();
    far.push(peer);
    let nobody = NodeId([9; 32]);
    let give = |w: &mut World, hops: &[NodeId]| {
        let bytes = write(&request(NodeId([7; 32]), 5, nobody, hops)).into();
        w.input(1, Input::MessageReceived { link, packet: bytes })
    };
    assert!(refusal(&give(&mut w, &far)).is_some(), "49 hops");
    assert_eq!(refusal(&give(&mut w, &[peer])), None);
}

/// Whoever came after others had filled the table of requests had one place in it: replies
/// to all but his latest request were refused. The same after each new connection.
#[test]
fn a_neighbour_that_comes_late_has_its_share_of_remembered_requests() {
    let mut w = line(2, |_, c| c.capacities.relayed_requests = 8);
    let c = w.nodes[0].config.clone();
    let late = w.add_node(c, true);
    let give = |w: &mut World, from: usize, number: u64| {
        let (link, source) = (link_to(w, 1, from), w.id(from));
        let bytes = write(&request(source, number, NodeId([9; 32]), &[])).into();
        refusal(&w.input(1, Input::MessageReceived { link, packet: bytes }))
    };
    assert!((0..20).all(|n| give(&mut w, 0, n).is_none()));
    w.wire(1, late, 1000);
    w.run_for(SECOND);
    assert!((0..4).all(|n| give(&mut w, late, n).is_none()));
    // All four are known, and four of the other's.
    assert!((0..4).all(|n| give(&mut w, late, n).is_some()));
    assert!((16..20).all(|n| give(&mut w, 0, n).is_some()));
}

/// A route on which a node stands twice was published, though no relay would
/// have carried anything along it.
#[test]
fn a_route_with_a_loop_is_not_published() {
    let mut w = line(2, |_, _| {});
    let secp = secp256k1::Secp256k1::new();
    let key = secp256k1::SecretKey::from_byte_array([77; 32]).unwrap();
    let far = Identity::new(&secp, &key);
    let did = w.input(0, Input::FindRoute { destination: far.id() });
    let sequence = requests(&did)[0].sequence;
    let other = NodeId([5; 32]);
    let hops: Hops = [w.id(1), other, w.id(1)].into_iter().map(hop).collect();
    let mut reply = RouteReply {
        hop_limit: 0,
        sequence,
        source: w.id(0).hop(),
        min_packet: 65536,
        quality: 1024,
        accepted: None,
        tariff: Tariff::default(),
        public_key: *far.public_key(),
        signature: [0; 64],
        hops,
    };
    reply.signature = far.sign(&secp, &reply.sighash());
    let mut bytes = vec![0; 2000];
    let n = reply.write(&mut bytes).unwrap();
    bytes.truncate(n);
    let did = w.input(0, Input::MessageReceived { link: link_to(&w, 0, 1), packet: bytes.into() });
    assert!(refusal(&did).is_some(), "{did:?}");
}

fn neighbour(link: u32, node: NodeId) -> Neighbour {
    Neighbour {
        link: LinkId(link),
        node,
        dialed: true,
        standing: Standing::Own,
        up: true,
        max_packet: 1000,
        tariff: Tariff::default(),
        mode: MeshMode::Open,
        quality: 256,
        measured: 256,
        own_max_packet: 0,
        free_full: false,
        paid_full: false,
        medium: 0,
        liveness: Liveness::new(0, 0),
        owner: 0,
        since: 0,
        paid: false,
        trusted: true,
    }
}

/// A cheaper route from before a search was preferred to the one just found,
/// though it was gone: nothing had been sent along it since.
#[test]
fn what_was_just_found_is_used_and_not_an_older_route() {
    // 0 - 1 - 3, and 0 - 1 - 2 - 3.
    let mut w = line(4, |_, _| {});
    w.wire(1, 3, 1000);
    w.run_for(SECOND);
    find(&mut w, 0, 3);
    let hops = |w: &World| w.nodes[0].machine.path(&w.id(3), w.now).unwrap().hops.len();
    assert_eq!(hops(&w), 1);
    w.cut(1, 3, false);
    w.run_for(2 * SECOND);
    find(&mut w, 0, 3);
    assert_eq!(hops(&w), 2);
}

/// One neighbour could fill the route table and push out every other's routes.
#[test]
fn a_neighbour_pushes_out_only_its_own_routes() {
    let c = Capacities::BOARD;
    let mut t = RoutingTable::<Heap>::EMPTY;
    t.prepare(&c, [1; 16]);
    let mut w = line(1, |_, _| {});
    let (honest, flood) = (w.id(0), NodeId([2; 32]));
    let add = |t: &mut RoutingTable<Heap>, destination, first, expires_at| {
        let (tariff, min_packet, quality) = (Tariff::default(), 1000, 256);
        let hops = &[hop(first)];
        t.add_route(Confirmed { destination, hops, tariff, min_packet, quality, expires_at }, 0);
    };
    for (link, node) in [(1, honest), (2, flood)] {
        t.add_direct_peer(neighbour(link, node)).unwrap();
    }
    for n in 0..4 {
        add(&mut t, NodeId(w.rng.bytes32()), honest, 100 + n);
    }
    for n in 0..100 {
        add(&mut t, NodeId(w.rng.bytes32()), flood, 1000 + n);
    }
    let kept = t.routes().filter(|r| r.hops[0].0 == honest.hop()).count();
    assert_eq!((kept, t.routes().len()), (4, c.routes));
}
