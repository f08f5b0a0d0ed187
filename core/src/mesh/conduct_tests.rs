//! What neighbours' offences lead to.

use super::test_world::Outcome;
use super::*;
use crate::id::{Network, Standing};
use crate::tables::Heap;
use crate::time::SECOND;
use crate::wire::{Header, Kind, Writer};

type World = super::test_world::World<Heap>;

fn pair() -> World {
    let mut w = World::new(2, |_| {
        let mut config = Config::host(Network::Regtest);
        config.timing.keepalive = 0;
        config
    });
    w.wire(0, 1);
    w
}

/// What becomes of an input at node 0 with these bytes from node 1.
fn remedy(w: &mut World, packet: &[u8]) -> Remedy {
    let (now, link, packet) = (w.now, World::link(0, 1), &mut packet.to_vec()[..]);
    remedy_of(&mut w.nodes[0], now, Input::MessageReceived { link, packet })
}

fn remedy_of(node: &mut Mesh<Heap>, now: Micros, input: Input<'_>) -> Remedy {
    node.handle(now, input).unwrap();
    let mut found = None;
    loop {
        match node.poll() {
            Action::Wait { .. } => return found.expect("it is refused"),
            Action::Verdict(Verdict::Reject { remedy, .. }) => found = Some(remedy),
            _ => {}
        }
    }
}

/// A datagram that is not for node 0 to carry.
fn strayed(n: u64) -> std::vec::Vec<u8> {
    let mut out = [0; 200];
    let header = Header { kind: Kind::Datagram, flags: 0, hop_limit: 5, sequence: n };
    let body = [&[7; 32][..], &[8; 32], &[0; 4]].concat();
    let mut writer = Writer::new(&mut out);
    writer.put(&body);
    let len = writer.finish(header, &[]).unwrap();
    out[..len].to_vec()
}

fn connect(w: &mut World) -> std::vec::Vec<(usize, Outcome)> {
    let (link, peer, standing) = (World::link(0, 1), w.id(1), Standing::Own);
    w.give(0, Input::PeerConnected { link, peer, dialed: false, standing, capabilities: None })
}

#[test]
fn who_offends_too_often_is_disconnected_and_shut_out_for_a_while() {
    let mut w = pair();
    let remedies: std::vec::Vec<_> = (0..100).map(|n| remedy(&mut w, &strayed(n))).collect();
    assert!(remedies[..99].iter().all(|remedy| *remedy == Remedy::Penalise), "{remedies:?}");
    assert_eq!(remedies[99], Remedy::Disconnect);
    let id = w.id(1);
    let until = w.nodes[0].banned_until(&id).unwrap();
    assert_eq!(until, w.now + 10 * SECOND);
    w.give(0, Input::PeerDisconnected { link: World::link(0, 1) });
    let banned = Outcome::Reject(NetworkReason::Banned.into());
    assert_eq!(connect(&mut w), [(0, banned.clone())]);
    // Knocking makes it no longer.
    w.now = until - 1;
    assert_eq!(connect(&mut w), [(0, banned)]);
    w.now = until;
    assert_eq!(w.nodes[0].banned_until(&id), Some(until), "as of the last input");
    assert_eq!(connect(&mut w)[0], (0, Outcome::Absorbed));
    assert_eq!((w.nodes[0].banned_until(&id), w.nodes[0].offences(&id)), (None, 0));
}

#[test]
fn one_that_breaks_the_protocol_again_and_again_is_shut_out() {
    let mut w = pair();
    for n in 0..3 {
        assert_eq!(w.nodes[0].banned_until(&w.id(1)), None, "{n}");
        assert_eq!(remedy(&mut w, &[0; 30]), Remedy::Disconnect);
    }
    assert!(w.nodes[0].banned_until(&w.id(1)).is_some());
}

#[test]
fn what_can_happen_to_anybody_does_not_count() {
    let mut w = pair();
    // The same neighbour dials while the smaller identity's link is up, and it is on another
    // network than the hello says.
    for _ in 0..200 {
        let (now, peer) = (w.now, w.id(1));
        let link = LinkId(77);
        let dialed = w.id(0) >= peer;
        let input = Input::PeerConnected {
            link,
            peer,
            dialed: !dialed,
            standing: Standing::Own,
            capabilities: None,
        };
        w.nodes[0].handle(now, input).unwrap();
        while !matches!(w.nodes[0].poll(), Action::Wait { .. }) {}
        w.give(0, Input::PeerDisconnected { link });
    }
    assert_eq!(w.nodes[0].offences(&w.id(1)), 0);
}
