//! An engine that is behind, and what it remembers of its own datagrams.

use super::*;
use crate::bench::Protocol;
use blvm_mesh_core::id::LinkId;
use blvm_mesh_core::mesh::Priority;
use engine::durable::Held;

#[test]
fn a_link_whose_answer_waits_for_a_busy_engine_is_not_silent() {
    Bed::run(async |bed| {
        let b = bed.start(2, MeshMode::Open, &[]);
        let a = bed.start_with(1, MeshMode::Open, &[&b], Disk::default(), |_| {});
        linked(&a, &b).await;
        // The answer comes a keep-alive later, and is waited for three times as long.
        let patience = 3 * a.handle().settings().config.timing.keepalive;
        let busy = move |engine: &mut engine::Engine| {
            let is_awaited =
                engine.mesh.table().neighbours.iter().all(|n| n.liveness.awaits_answer());
            if is_awaited {
                std::thread::sleep(Duration::from_micros(2 * patience));
            }
            is_awaited
        };
        // What was just heard of a neighbour stands for an answer: then none is awaited.
        until("an answer is awaited", async || {
            smol::Timer::after(Duration::from_millis(300)).await;
            send(&a, &b, b"to be answered", &[], false).await;
            a.handle().job(busy).await.unwrap()
        })
        .await;
        let opened = |engine: &mut engine::Engine| {
            (engine.shell.links.iter().count(), engine.shell.links.opened())
        };
        for _ in 0..10 {
            assert_eq!(a.handle().job(opened).await, Ok((1, 1)), "the link was closed");
            smol::Timer::after(Duration::from_millis(20)).await;
        }
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn what_was_refused_is_not_kept_to_be_sent_anew() {
    Bed::run(async |bed| {
        let b = bed.start_with(2, MeshMode::Open, &[], Disk::default(), |s| {
            s.shell.bench_sink = true;
        });
        let a = bed.start_with(1, MeshMode::Open, &[&b], Disk::default(), |_| {});
        linked(&a, &b).await;
        let (to, soon) = (b.handle().id(), Duration::from_millis(50));
        let outcome = a.handle().bench(to, Protocol::Raw, 200, soon, 0).await.unwrap().unwrap();
        assert!(outcome.sent > 0, "{outcome:?}");
        let too_large = vec![0; 1 + a.handle().settings().config.max_packet as usize];
        let fate = a.handle().send(to, too_large, vec![], false, PATIENCE).await.unwrap();
        assert!(matches!(fate.first, Progress::Refused(_)), "{fate:?}");
        let kept = a.handle().job(|engine| engine.shell.own.retries.len()).await;
        assert_eq!(kept, Ok(0), "kept under another datagram's number");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_node_that_waits_for_its_disk_keeps_its_links_and_is_kept() {
    Bed::run(async |bed| {
        let disk = Disk::default();
        let patient = |s: &mut Settings| s.config.timing.keepalive = SECOND / 2;
        let b = bed.start_with(2, MeshMode::Open, &[], disk.clone(), patient);
        let a = bed.start_with(1, MeshMode::Open, &[&b], Disk::default(), patient);
        linked(&a, &b).await;
        smol::Timer::after(Duration::from_millis(600)).await;
        disk.slow.store(true, Ordering::SeqCst);
        // More waits for the disk than the engine lets wait while it takes anything in.
        send(&b, &a, b"to be answered", &[], false).await;
        let wait = |engine: &mut engine::Engine| {
            let (link, priority, bytes) = (LinkId(999), Priority::Free, vec![0; 40 << 20]);
            let held = Held::Packet { link, priority, bytes, progress: None };
            engine.shell.durable.persist(1, Record::Floor(0));
            engine.shell.durable.hold(1, held);
            (engine.shell.durable.stalled(), engine.shell.links.opened())
        };
        assert_eq!(b.handle().job(wait).await, Ok((true, 1)));
        let opened = |engine: &mut engine::Engine| {
            (engine.shell.links.iter().count(), engine.shell.links.opened())
        };
        // Twice as long as either waits for an answer, unless it has just heard of the other.
        smol::Timer::after(Duration::from_millis(600)).await;
        send(&a, &b, b"while it waits", &[], false).await;
        for _ in 0..30 {
            smol::Timer::after(Duration::from_millis(100)).await;
            assert_eq!(a.handle().job(opened).await, Ok((1, 1)), "dropped by the other");
        }
        disk.slow.store(false, Ordering::SeqCst);
        assert_eq!(delivery(&b).await.payload, b"while it waits");
        assert_eq!(b.handle().job(opened).await, Ok((1, 1)), "the link was closed");
        a.stop().await;
        b.stop().await;
    });
}
