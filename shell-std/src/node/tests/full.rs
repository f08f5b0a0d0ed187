//! What happens when there is no room: in the queue of a link, and for what is delivered.

use super::paid::{accepts, proof, send_paid, service};
use super::*;

/// Eight clients that each send packets as large as half the queue, as fast as they are
/// answered.
#[test]
fn what_its_own_queue_dropped_is_not_said_to_be_sent() {
    Bed::run(async |bed| {
        let small = |s: &mut Settings| {
            (s.shell.queue_bytes, s.config.max_packet) = (1 << 20, 1 << 19);
            s.shell.inbox_bytes = 1 << 30;
        };
        let b = bed.start_with(2, MeshMode::Open, &[], Disk::default(), small);
        let a = bed.start_with(1, MeshMode::Open, &[&b], Disk::default(), small);
        linked(&a, &b).await;
        let clients: Vec<_> = (0..8u8)
            .map(|client| {
                let (from, to) = (a.handle().clone(), b.handle().id());
                bed.executor.spawn(async move {
                    let mut sent = 0;
                    for n in 0..6u8 {
                        let payload = vec![client * 16 + n; 500_000];
                        let fate = from
                            .send(to, payload, Vec::new(), false, Duration::ZERO)
                            .await
                            .unwrap();
                        match fate.first {
                            Progress::Sent { .. } => sent += 1,
                            Progress::Refused(reason) => {
                                let full: MeshError = NetworkReason::Congested.into();
                                assert_eq!(reason, full);
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    sent
                })
            })
            .collect();
        let mut sent = 0;
        for client in clients {
            sent += client.await;
        }
        assert!(sent > 0);
        let arrived = std::cell::Cell::new(0);
        let all = async || {
            arrived.set(arrived.get() + b.handle().deliveries().take(99, usize::MAX).len());
            arrived.get() == sent
        };
        until("what was sent arrives", all).await;
        smol::Timer::after(Duration::from_millis(100)).await;
        assert!(b.handle().deliveries().take(99, usize::MAX).is_empty(), "refused, and it came");
        let dropped = a.handle().job(|engine| engine.shell.counters.dropped_at_link).await.unwrap();
        println!("{sent} of 48 sent, {dropped} dropped by the queue and said so");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn what_was_paid_is_kept_under_free_junk_and_refused_unpaid_for_when_nobody_fetches() {
    Bed::run(async |bed| {
        let mode = MeshMode::PaymentGated;
        let disk = Disk::default();
        let b = bed.start_with(2, mode, &[], disk.clone(), |s| {
            accepts(s);
            s.shell.inbox_bytes = 32 * 1024;
        });
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        let (to, source) = (b.handle().id(), service(&a));
        let pay = async |n: u8| {
            let paid = proof(&source, to, 4096).await;
            let sent = send_paid(&source, to, &[n; 4096], &paid, true).await.unwrap();
            // What is refused for want of room is sent again.
            sent.stopped.or(sent.repeating).map(|stopped| stopped.cause)
        };
        assert_eq!(pay(0).await, None);
        // As much as its allowance lets pass, however fast this machine is.
        let sent = std::cell::Cell::new(0);
        let flood = async || {
            for _ in 0..100 {
                sent.set(sent.get() + 1);
                let _ = send(&a, &b, &ping(sent.get()), &[], false).await;
            }
            b.handle().deliveries().dropped() > 500
        };
        until("junk is dropped", flood).await;
        assert_eq!(pay(1).await, None);
        // Half of the room is for what is paid, and its only source has taken half of that.
        assert_eq!(pay(2).await, Some(Cause::Congested.to_string()));
        assert_eq!(disk.records.lock().unwrap().len(), 2, "what was refused is not booked");
        let got = b.handle().deliveries().take(usize::MAX, usize::MAX);
        let paid: Vec<u8> =
            got.iter().filter(|d| d.earned_msat > 0).map(|d| d.payload[0]).collect();
        assert_eq!(paid, [0, 1]);
        assert_eq!(pay(5).await, None, "there is room again");
        assert_eq!(delivery(&b).await.payload, [5; 4096]);
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_source_that_pays_does_not_take_the_inbox_of_another() {
    Bed::run(async |bed| {
        let mode = MeshMode::PaymentGated;
        let disk = Disk::default();
        let b = bed.start_with(2, mode, &[], disk.clone(), |s| {
            accepts(s);
            s.shell.inbox_bytes = 64 * 1024;
        });
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        let c = bed.start_with(3, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let to = b.handle().id();
        let pay = async |source: &Service, n: u8| {
            let paid = proof(source, to, 2048).await;
            let sent = send_paid(source, to, &[n; 2048], &paid, true).await.unwrap();
            sent.stopped.or(sent.repeating).map(|stopped| stopped.cause)
        };
        // Nobody fetches, and one source goes on until it is refused.
        let (greedy, modest) = (service(&a), service(&c));
        let mut taken = 0;
        while pay(&greedy, taken).await.is_none() {
            taken += 1;
        }
        assert!(taken >= 4, "{taken}");
        for n in 100..103 {
            assert_eq!(pay(&modest, n).await, None, "the other one's {n}, after {taken}");
        }
        let booked = disk.records.lock().unwrap().len();
        assert_eq!(booked, usize::from(taken) + 3, "what was refused is not booked");
        let got = b.handle().deliveries().take(usize::MAX, usize::MAX);
        let of_the_other = got.iter().filter(|d| d.source == c.handle().id());
        let numbers: Vec<u8> = of_the_other.map(|d| d.payload[0]).collect();
        assert_eq!(numbers, [100, 101, 102]);
        a.stop().await;
        c.stop().await;
        b.stop().await;
    });
}
