//! Two nodes that are joined without a socket: what the engine does is the same over any
//! transport.

use super::*;
use transport::memory::{self, Wire};

fn start(bed: &Bed, key: u8) -> Node {
    let no_socket = |s: &mut Settings| s.listen_addr = None;
    bed.start_with(key, MeshMode::PaymentGated, &[], Disk::default(), no_socket)
}

fn join(a: &Node, b: &Node) -> Wire {
    let max_packet = a.handle().settings().config.max_packet as usize;
    memory::join([a, b].map(|node| (&node.ways, node.handle().public_key())), max_packet)
}

#[test]
fn packets_of_any_size_cross_and_a_cut_shows_on_both_sides() {
    Bed::run(async |bed| {
        let (a, b) = (start(&bed, 1), start(&bed, 2));
        let wire = join(&a, &b);
        linked(&a, &b).await;
        for nonce in 0..20 {
            send(&a, &b, &ping(nonce), &[], false).await;
            assert_eq!(delivery(&b).await.payload, ping(nonce));
        }
        // New neighbours may send 64 KiB at once; the rest comes at the rate.
        smol::Timer::after(Duration::from_secs(1)).await;
        let block = large::largest_block();
        let fate = send(&b, &a, &block, &[], false).await;
        assert!(matches!(fate.first, Progress::Sent { .. }), "{fate:?}");
        assert!(delivery(&a).await.payload == block);
        let unpaid = send(&a, &b, b"data", &[], true).await;
        assert!(matches!(unpaid.stopped, Some(Progress::Stopped { .. })), "{unpaid:?}");
        drop(wire);
        for node in [&a, &b] {
            let alone = || async { node.handle().neighbours().await.unwrap().is_empty() };
            until("the cut shows", alone).await;
        }
        let _wire = join(&b, &a);
        linked(&a, &b).await;
        // What is queued when a node is told to stop still arrives.
        send(&b, &a, &ping(99), &[], false).await;
        b.stop().await;
        assert_eq!(delivery(&a).await.payload, ping(99));
        a.stop().await;
    });
}

#[test]
fn the_engine_closes_a_link_and_its_carrier_ends() {
    Bed::run(async |bed| {
        let (a, b) = (start(&bed, 1), start(&bed, 2));
        let _wire = join(&a, &b);
        linked(&a, &b).await;
        let close = |engine: &mut engine::Engine| {
            let links: Vec<_> = engine.shell.links.iter().map(|(id, _)| id).collect();
            let todo = links.into_iter().map(|id| shell::FollowUp::Close(id, "test".into()));
            engine.shell.todo.extend(todo);
        };
        a.handle().job(close).await.unwrap();
        let alone = || async { b.handle().neighbours().await.unwrap().is_empty() };
        until("the other end has found out", alone).await;
        let memory = |engine: &mut engine::Engine| engine.shell.links.budget().used();
        for node in [a, b] {
            assert_eq!(node.handle().job(memory).await, Ok(0), "memory of the link is held");
            node.stop().await;
        }
    });
}

#[test]
fn before_the_hello_no_longer_packet_is_taken_than_a_hello() {
    Bed::run(async |bed| {
        let a = start(&bed, 1);
        for (len, is_too_long) in [(1024, false), (1025, true)] {
            let stranger = secret(9).public_key(&Default::default());
            let told = memory::is_too_long(&a.ways, stranger, &vec![0; len]).await;
            assert_eq!(told, is_too_long, "{len} bytes");
        }
        a.stop().await;
    });
}
