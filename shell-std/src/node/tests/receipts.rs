//! Receipts of what is paid for, repeats of what disappears, and free datagrams that are sent
//! anew.

use super::paid::{accepts, proof, service};
use super::*;
use crate::rpc::types::{LightningProof, Outcome, Proof, SendPacket, Sent};
use crate::rpc::{Handler, Reply, Request, target::Target};

/// Less than a wait for nothing, by far.
const SOON: Duration = Duration::from_secs(5);

async fn send_and_wait(
    from: &Service,
    to: NodeId,
    data: &[u8],
    proof: Option<&LightningProof>,
    wait_ms: u64,
) -> Sent {
    let proof = proof.map(|proof| Proof::Lightning(proof.clone()));
    let (destination, data) = (Target(to), data.to_vec());
    let request = SendPacket {
        destination,
        data,
        proof,
        pay: false,
        max_msat: None,
        unchecked: true,
        wait_ms,
    };
    match from.handle(Request::SendPacket(request), &Default::default()).await {
        Ok(Reply::SendPacket(sent)) => sent,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_receipt_of_what_is_paid_for_ends_the_wait_and_the_keeping() {
    Bed::run(async |bed| {
        let mode = MeshMode::PaymentGated;
        let b = bed.start_with(2, mode, &[], Disk::default(), accepts);
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        let c = bed.start_with(3, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (source, to) = (service(&a), c.handle().id());
        for data in [&b"one"[..], b"two"] {
            let paid = proof(&source, to, 3).await;
            let start = Instant::now();
            let sent = send_and_wait(&source, to, data, Some(&paid), 60_000).await;
            assert_eq!((sent.outcome, sent.repeats, &sent.stopped), (Outcome::Delivered, 0, &None));
            assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
            assert_eq!(delivery(&c).await.payload, data);
        }
        let due = a.handle().job(|engine| engine.shell.own.repeats.due()).await.unwrap();
        assert_eq!(due, None, "nothing is kept");
        let free = send_and_wait(&source, to, &ping(1), None, 60_000).await;
        assert_eq!(free.outcome, Outcome::Sent, "what is free has no receipt");
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn what_a_relay_has_lost_without_a_word_is_sent_again_and_its_sender_told() {
    Bed::run(async |bed| {
        let (mode, disk) = (MeshMode::PaymentGated, Disk::default());
        let b = bed.start_with(2, mode, &[], disk.clone(), accepts);
        let at = b.handle().listen_addr();
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        let c = bed.start_with(3, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (source, to) = (service(&a), c.handle().id());
        let paid = proof(&source, to, 4).await;
        // The relay holds it until its disk works, and crashes before.
        disk.broken.store(true, Ordering::SeqCst);
        let sent = send_and_wait(&source, to, b"paid", Some(&paid), 60_000);
        let script = async {
            let holds = async || b.handle().job(|e| e.shell.durable.waiting()).await.unwrap() > 0;
            until("the relay has it", holds).await;
            drop(b);
            let free = async || std::net::TcpListener::bind(at.unwrap()).is_ok();
            until("the port is free", free).await;
            let again = bed.start_with(2, mode, &[], Disk::default(), |s| {
                accepts(s);
                s.listen_addr = at;
            });
            linked(&a, &again).await;
            linked(&c, &again).await;
            let hurry = |engine: &mut engine::Engine| {
                let now = engine.shell.clock.now();
                engine.shell.own.repeats.hurry(now);
            };
            a.handle().job(hurry).await.unwrap();
            again
        };
        let (sent, again) = smol::future::zip(sent, script).await;
        assert_eq!((sent.outcome, sent.repeats), (Outcome::Delivered, 1), "{sent:?}");
        assert_eq!(delivery(&c).await.payload, b"paid");
        for node in [a, again, c] {
            node.stop().await;
        }
    });
}

#[test]
fn what_goes_free_and_finds_no_room_at_a_farther_hop_is_sent_anew_while_somebody_waits() {
    Bed::run(async |bed| {
        let mode = MeshMode::PaymentGated;
        // Some of what is sent at once fits in, and the rest a little later, or never.
        for (rate, arrive) in [(4_000, true), (1, false)] {
            let b = bed.start(2, mode, &[]);
            let a = bed.start_with(1, mode, &[&b], Disk::default(), |s| {
                // On a machine that is busy reports may be late.
                if arrive {
                    s.config.timing.hop_round_trip = 2 * SECOND;
                }
            });
            let c = bed.start_with(3, mode, &[&b], Disk::default(), |s| {
                (s.config.free_rate, s.config.free_burst) = (rate, 3_000);
            });
            linked(&a, &b).await;
            linked(&c, &b).await;
            let (source, to) = (service(&a), c.handle().id());
            assert!(a.handle().find_route(to).await.unwrap());
            let wait_ms = if arrive { 30_000 } else { 1_500 };
            let all: Vec<_> = (0..40)
                .map(|n| {
                    let source = source.clone();
                    bed.executor.spawn(async move {
                        send_and_wait(&source, to, &ping(n), None, wait_ms).await
                    })
                })
                .collect();
            let mut again = 0;
            for one in all {
                let sent = one.await;
                match &sent.stopped {
                    None => assert_eq!(sent.outcome, Outcome::Sent, "{sent:?}"),
                    Some(stopped) => {
                        assert!(!arrive, "{sent:?}");
                        assert_eq!(stopped.cause, Cause::NextHopQuota.to_string());
                        assert!(sent.repeats > 0, "{sent:?}");
                        again += 1;
                    }
                }
            }
            assert_eq!(again > 0, !arrive);
            if arrive {
                let count = std::cell::Cell::new(0);
                let all = async || {
                    count.set(count.get() + c.handle().deliveries().take(99, usize::MAX).len());
                    count.get() == 40
                };
                until("all of them", all).await;
            }
            for node in [a, b, c] {
                node.stop().await;
            }
        }
    });
}
