//! Who lies about flows, what it gains, and that honest flows beside it go on. Every step of an
//! honest node is held against I11, I12 and I13.

use blvm_mesh_core::time::SECOND;
use blvm_mesh_core::wire::Kind;
use blvm_mesh_tests::scenarios::flows::{line, transfer};
use blvm_mesh_tests::sim::{Bytes, Path, Wish, World};

/// Packets of these kinds that a node was given.
fn given(w: &World, n: usize, kinds: &[Kind]) -> Vec<Bytes> {
    let wanted = |bytes: &Bytes| kinds.iter().any(|kind| bytes.get(5) == Some(&(*kind as u8)));
    let carried = w.carried.as_ref().expect("packets are kept").iter();
    carried.filter(|c| c.to == n && wanted(&c.bytes)).map(|c| c.bytes.clone()).collect()
}

/// A node puts packets on its link to another.
fn send(w: &mut World, from: usize, to: usize, packets: &[Bytes]) {
    let link = w.link(from, to).expect("a link");
    for packet in packets {
        w.transmit(link, packet.clone(), Path::default().then(from));
    }
}

/// An Open and all data of a flow once more, after it was closed: the destination would make the
/// same keys again, with no memory of what has come.
#[test]
fn a_flow_that_is_played_again_delivers_nothing() {
    let mut w = line(3, |_, _| {});
    w.carried = Some(Vec::new());
    let wish = Wish { bytes: 30_000, ..Wish::default() };
    transfer(&mut w, 0, 2, wish, 20 * SECOND);
    w.run_for(10 * SECOND);
    let all = given(&w, 2, &[Kind::Open, Kind::Data]);
    assert!(all.len() > 5);
    (w.nodes[1].honest, w.flows.delivered) = (false, 0);
    send(&mut w, 1, 2, &all);
    w.run_for(5 * SECOND);
    assert_eq!(w.checks.counts["flows accepted"], 2, "the Open itself is authentic");
    assert_eq!(w.flows.delivered, 0);
    transfer(&mut w, 0, 2, wish, 20 * SECOND);
}
