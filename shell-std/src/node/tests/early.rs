//! What a neighbour sends with its hello, without one, and before it does what it must not.

use super::*;
use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};

/// A datagram to a neighbour.
fn datagram(key: u8, to: &Node, sequence: u64, payload: usize) -> Vec<u8> {
    let source = NodeId::from_public_key(&secret(key).public_key(&Default::default()));
    let destination = to.handle().id();
    let emit = Emit { hop_limit: 0, sequence, source, destination, proof: None, form: Form::Plain };
    let head = head_len(0, 0);
    let (mut packet, payload) = (vec![0; head + payload], vec![3; payload]);
    emit.write(&[], &payload, &mut packet[..head], |_| [0; 64]).unwrap();
    packet[head..].copy_from_slice(&payload);
    packet
}

async fn links(node: &Node) -> usize {
    node.handle().job(|engine| engine.shell.links.iter().count()).await.unwrap()
}

#[test]
fn the_limit_of_packets_rises_with_the_hello_in_the_frame_that_brings_it() {
    Bed::run(async |bed| {
        let a = bed.start(1, MeshMode::Open, &[]);
        // The first is whole in the frame with the hello, the other begins there.
        let packets = [hello(&a), datagram(9, &a, 1, 1_500), datagram(9, &a, 2, 30_000)];
        let _deaf = Deaf::saying(&a, secret(9), &packets, &[]).await;
        for len in [1_500, 30_000] {
            assert_eq!(delivery(&a).await.payload, vec![3; len]);
        }
        a.stop().await;
    });
}

#[test]
fn a_longer_packet_than_a_hello_ends_the_link_before_the_engine_sees_it() {
    Bed::run(async |bed| {
        for (len, is_seen) in [(1024, true), (1025, false)] {
            let a = bed.start(1, MeshMode::Open, &[]);
            let deaf = Deaf::saying(&a, secret(9), &[vec![0; len]], &[]).await;
            let closed = async || {
                let opened = a.handle().job(|engine| engine.shell.links.opened()).await.unwrap();
                opened == 1 && links(&a).await == 0
            };
            until("it is closed", closed).await;
            let weight = move |engine: &mut engine::Engine| engine.mesh.offences(&deaf.id);
            let weight = a.handle().job(weight).await.unwrap();
            assert_eq!(weight > 0, is_seen, "{len} bytes: {weight}");
            a.stop().await;
        }
    });
}

#[test]
fn what_came_before_a_wrong_record_counts() {
    Bed::run(async |bed| {
        let a = bed.start(1, MeshMode::Open, &[]);
        let packets = [hello(&a), datagram(9, &a, 1, 1_500), datagram(9, &a, 2, 30_000)];
        let _deaf = Deaf::saying(&a, secret(9), &packets, &[0xff, 0, 1, 0, 7]).await;
        for len in [1_500, 30_000] {
            assert_eq!(delivery(&a).await.payload, vec![3; len]);
        }
        until("it is closed", async || links(&a).await == 0).await;
        a.stop().await;
    });
}
