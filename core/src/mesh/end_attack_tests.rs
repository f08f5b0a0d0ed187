//! What neighbours, relays and destinations tried against the ends of flows.

use super::end_world::{Net, bytes};
use super::*;
use crate::config::MeshMode::{self, Open, PaymentGated};
use crate::link::lane::Lane;
use crate::time::{MILLISECOND, SECOND};
use crate::wire::Kind;
use crate::wire::flow as wf;

fn line(modes: &[MeshMode]) -> Net {
    let mut net = Net::line(modes);
    net.give(modes.len() - 1, Input::AcceptFlows { accept: true });
    net
}
const RICH: u64 = 1 << 40;

fn opened(net: &mut Net, to: usize) -> (FlowId, u32) {
    let flow = net.open(to, RICH);
    net.run(2 * SECOND);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    net.write(0, flow, stream, &bytes(1000));
    net.run(SECOND);
    (flow, stream)
}

#[test]
fn many_flows_over_one_neighbour_that_goes() {
    let mut net = line(&[Open; 3]);
    for _ in 0..8 {
        net.open(2, RICH);
    }
    net.run(3 * SECOND);
    net.cut(0, 1);
    net.nodes[0].handle(net.now, Input::Timer).unwrap();
}

#[test]
fn full_lane_while_acks_due() {
    let mut net = line(&[Open; 2]);
    let (flow, stream) = opened(&mut net, 1);
    for lane in [Lane::Free, Lane::Paid] {
        net.give(1, Input::Congestion { link: LinkId(100), lane, full: true });
    }
    net.write(0, flow, stream, &bytes(10_000));
    net.run(SECOND);
}

/// A Close that a relay sends to the source.
#[test]
fn close_to_the_source() {
    let mut net = line(&[Open; 3]);
    let (flow, stream) = opened(&mut net, 2);
    let mut out = [0; 64];
    let n = wf::write(Kind::Close, flow.0, 0, &[], &mut out).unwrap();
    net.receive(0, 1, out[..n].to_vec());
    net.write(0, flow, stream, &bytes(10_000));
    net.run(600 * SECOND);
    let own = net.nodes[0].own_flows().next();
    assert_eq!(net.read[&(2, flow, stream)].len(), 11_000, "{:?} {own:?}", net.events);
}

/// Download; the last link is down for 10 s.
#[test]
fn download_over_a_link_that_flaps() {
    for cut in [(1, 2), (2, 3)] {
        let mut net = line(&[Open; 4]);
        let (flow, stream) = opened(&mut net, 3);
        // The destination sends what the source did not ask for; the source has nothing to send.
        let data = bytes(3_000_000);
        let mut at = net.write(3, flow, stream, &data);
        net.run(3 * MILLISECOND);
        net.cut(cut.0, cut.1);
        net.run(10 * SECOND);
        net.wire(cut.0, cut.1);
        let start = net.now;
        net.run(SECOND);
        let mut got = 0;
        for _ in 0..120 {
            if at < data.len() {
                at += net.write(3, flow, stream, &data[at..]);
            }
            net.run(5 * SECOND);
            got = net.read.get(&(0, flow, stream)).map_or(0, |r| r.len());
            if got == data.len() {
                break;
            }
        }
        let waited = (net.now - start) / SECOND;
        assert!(
            got == data.len() && waited <= 120,
            "{cut:?}: {got} after {waited} s {:?} {:?}",
            net.nodes[3].own_flows().next(),
            net.nodes[0].own_flows().next()
        );
    }
}

#[test]
fn paid_and_never_credited() {
    let mut net = line(&[PaymentGated; 3]);
    // The relay (or whoever) drops its Balance: short account messages to the source.
    net.fate = |_, to, packet| {
        let account = packet[5] == Kind::Datagram as u8 && packet[6] != 0;
        !(to == 0 && account && packet.len() < 160)
    };
    let flow = net.open(2, 1_000_000);
    net.run(1200 * SECOND);
    assert_eq!(net.paid.values().sum::<u64>(), 53_000, "one step, and nothing more");
    assert!(net.nodes[0].streams(flow).is_none());
}

/// The same once it was open: one good step, then the thief.
#[test]
fn paid_and_never_credited_later() {
    let mut net = line(&[PaymentGated; 3]);
    let (flow, stream) = opened(&mut net, 2);
    let first = net.paid.clone();
    net.fate = |_, to, packet| {
        let account = packet[5] == Kind::Datagram as u8 && packet[6] != 0;
        !(to == 0 && account && packet.len() < 160)
    };
    net.give(0, Input::FlowBudget { flow, budget_msat: RICH });
    net.send_all(0, flow, stream, &bytes(2_000_000), 30 * SECOND);
    net.run(7200 * SECOND);
    let lost = net.paid[&1] - first[&1];
    assert!(lost <= 330_000, "{lost} msat: the next step, and ever more seldom a first one");
}

#[test]
fn a_tiny_max_packet() {
    let mut net = line(&[Open; 3]);
    let n = net.nodes[0].tables.routing.neighbours.get_mut(LinkId(1)).unwrap();
    n.max_packet = 20;
    net.open(2, RICH);
    net.run(2 * SECOND);
}

#[test]
fn all_stream_memory_of_a_destination() {
    let mut net = line(&[Open; 3]);
    let mut n = 0;
    for _ in 0..400 {
        let flow = net.open(2, RICH);
        net.run(100 * MILLISECOND);
        if net.nodes[0].streams(flow).is_some() {
            n += 1;
        } else {
            break;
        }
    }
    assert!(n > 100, "{n} flows of a stranger");
    let before = net.nodes[2].resources().ends;
    // Of those from which nothing but an Open has come, nothing is left soon.
    net.fate = |_, to, packet| to != 2 || packet[5] != Kind::Data as u8;
    net.run(40 * SECOND);
    let after = net.nodes[2].resources().ends;
    assert!(after < before || before == n, "{before} {after}");
}

/// The link of the destination is down for 3 s while its service answers.
#[test]
fn answer_while_the_link_is_down() {
    let mut net = line(&[Open; 3]);
    let (flow, stream) = opened(&mut net, 2);
    net.run(10 * SECOND);
    net.cut(1, 2);
    net.run(SECOND);
    net.write(2, flow, stream, &bytes(1000));
    net.run(2 * SECOND);
    net.wire(1, 2);
    let start = net.now;
    for _ in 0..400 {
        net.run(10 * SECOND);
        if net.read.contains_key(&(0, flow, stream)) {
            break;
        }
    }
    let waited = (net.now - start) / SECOND;
    assert!(waited <= 60, "{waited} s {:?}", net.events);
}

/// A route change: Close on the old path while an acknowledgement waits.
#[test]
fn close_at_the_destination_while_an_ack_waits() {
    let mut net = line(&[Open; 3]);
    let (flow, stream) = opened(&mut net, 2);
    net.write(0, flow, stream, b"x");
    net.run(5 * MILLISECOND);
    let mut out = [0; 64];
    let n = wf::write(Kind::Close, flow.0, 0, &[], &mut out).unwrap();
    net.receive(2, 1, out[..n].to_vec());
    net.run(SECOND);
}

/// The neighbour comes again on another link; the application writes before its hello.
#[test]
fn write_while_a_link_is_replaced() {
    let mut net = line(&[Open; 2]);
    let (flow, stream) = opened(&mut net, 1);
    net.run(10 * SECOND);
    // A second connection from the same end: make_way replaces the first.
    net.wire_again(0, 1);
    net.write(0, flow, stream, &bytes(1000));
    let start = net.now;
    for _ in 0..800 {
        net.run(10 * SECOND);
        if net.read[&(1, flow, stream)].len() == 2000 {
            break;
        }
    }
    let waited = (net.now - start) / SECOND;
    assert!(waited <= 60, "{waited} s {:?}", net.events);
}

#[test]
fn lossy_destination_distrusts_all() {
    let mut net = line(&[PaymentGated; 4]);
    // Node 3 is the hostile destination: it does not see half of the data, so does not acknowledge it.
    net.fate = |net, to, packet| packet[5] != Kind::Data as u8 || to != 3 || net.random(3) != 0;
    let flow = net.open(3, RICH);
    net.run(2 * SECOND);
    let stream = net.nodes[0].streams(flow).unwrap().open().unwrap();
    net.send_all(0, flow, stream, &bytes(2_000_000), 60 * SECOND);
    net.run(5 * SECOND);
    net.give(0, Input::CloseFlow { flow, code: 0 });
    net.fate = |_, _, _| true;
    net.events.clear();
    // An honest destination behind the same first hop.
    net.give(2, Input::AcceptFlows { accept: true });
    net.open(2, RICH);
    net.run(60 * SECOND);
    assert!(net.has(0, |e| *e == FlowEvent::Opened), "{:?}", net.events);
}

/// A relay says that the route over it carries hardly anything.
#[test]
fn a_route_of_no_use_is_not_searched_for_without_pause() {
    let mut net = line(&[Open; 3]);
    let mut config = net.nodes[1].config().clone();
    config.max_packet = 90;
    net.nodes[1] = Mesh::new(config, SecretKey::from_byte_array([2; 32]).unwrap(), [50; 32]);
    net.cut(0, 1);
    net.cut(1, 2);
    net.wire(0, 1);
    net.wire(1, 2);
    net.run(SECOND);
    net.open(2, RICH);
    net.fate = |net, to, packet| {
        if to == 1 && packet[5] == Kind::RouteRequest as u8 {
            net.kept.push(Vec::new());
        }
        true
    };
    net.run(60 * SECOND);
    // Four tries, in several rings each.
    assert!(net.kept.len() <= 16, "{} requests", net.kept.len());
    assert!(net.has(0, |e| *e == FlowEvent::Ended(FlowEnded::NoRoute)), "{:?}", net.events);
}

/// Who closes the paths of its flows, and not the flows, still has its share of the ends only.
#[test]
fn ends_without_a_path_count_for_the_neighbour_that_brought_them() {
    let mut net = Net::unwired(&[Open; 4], |_, config| config.capacities.ends = 6);
    [(0, 1), (1, 2), (3, 2)].iter().for_each(|(a, b)| net.wire(*a, *b));
    net.run(SECOND);
    net.give(2, Input::AcceptFlows { accept: true });
    for _ in 0..3 {
        let (flow, _) = opened(&mut net, 2);
        let mut out = [0; 64];
        let n = wf::write(Kind::Close, flow.0, 0, &[], &mut out).unwrap();
        net.receive(2, 1, out[..n].to_vec());
    }
    assert_eq!(net.nodes[2].resources().ends, 3);
    net.open(2, RICH);
    net.run(2 * SECOND);
    assert_eq!(net.nodes[2].resources().ends, 3, "half of them, as there are two neighbours");
}
