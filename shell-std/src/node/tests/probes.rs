//! Probes between nodes: who answers them, what is told, and what a flood of them takes from others.

use super::*;
use crate::node::requests::probing::all;
use crate::probe::{FULL, LEAST, MOST, Told};

async fn fared(from: &Node, to: &Node, bytes: usize, wait: Duration) -> Fared {
    from.handle().ping(to.handle().id(), bytes, wait).await.unwrap().fared
}

/// What a node answers in the end: relays may refuse the free traffic of links that have just come up.
async fn answered(from: &Node, to: &Node, bytes: usize) -> Told {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Fared::Answered(_, told) = fared(from, to, bytes, Duration::from_secs(1)).await {
            return told;
        }
    }
    panic!("no answer came in time")
}

#[test]
fn a_node_answers_in_every_mode_over_a_relay_and_tells_what_it_asks_and_gives() {
    Bed::run(async |bed| {
        for mode in MeshMode::ALL {
            let start = |key, peers: &[&Node]| {
                bed.start_with(key, mode, peers, Disk::default(), |s| {
                    s.config.payment.tariff.base_msat = 7;
                    let key = secret(9).public_key(&Default::default());
                    s.config.payment.issuers.push(key).unwrap();
                })
            };
            let b = start(2, &[]);
            let (a, c) = (start(1, &[&b]), start(3, &[&b]));
            linked(&a, &b).await;
            linked(&b, &c).await;
            // No route is known yet, in neither direction.
            let told = answered(&a, &c, FULL).await;
            let config = &c.handle().settings().config;
            assert_eq!((told.mode, told.tariff), (mode, config.payment.tariff));
            assert_eq!(told.free, config.free());
            assert_eq!(told.plain == config.free(), mode == MeshMode::Open);
            assert!(told.software.unwrap().starts_with("blvm-mesh/"));
            let issuers = config.payment.issuers.iter().map(|key| key.serialize()).collect();
            assert_eq!(told.issuers, Some(issuers));
            assert!(told.transmissions_256 >= 256);
            // What has no room is left out, and nothing is ever longer than what asked for it.
            let told = answered(&a, &c, LEAST).await;
            assert_eq!((told.software, told.issuers), (None, None));
            answered(&a, &b, MOST).await;
            // Nothing of it is handed to applications.
            for node in [a, b, c] {
                assert!(node.handle().deliveries().take(9, 9_999).is_empty());
                node.stop().await;
            }
        }
    });
}

#[test]
fn who_answers_no_probes_is_silent_and_who_is_not_there_has_no_route() {
    Bed::run(async |bed| {
        let b = bed.start_with(2, MeshMode::PaymentGated, &[], Disk::default(), |s| {
            s.shell.answer_probes = false;
        });
        let a = bed.start(1, MeshMode::PaymentGated, &[&b]);
        linked(&a, &b).await;
        let silence = fared(&a, &b, 64, Duration::from_millis(300)).await;
        assert_eq!(silence, Fared::Silence);
        assert!(b.handle().deliveries().take(9, 9_999).is_empty());
        // It may send its own.
        assert!(matches!(fared(&b, &a, 64, PATIENCE).await, Fared::Answered(..)));
        let nobody = a.handle().ping(NodeId([9; 32]), 64, PATIENCE).await.unwrap();
        assert_eq!(nobody, Pinged { relays: None, fared: Fared::NoRoute });
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_flood_of_probes_is_answered_a_little_and_takes_nothing_from_others() {
    Bed::run(async |bed| {
        let start = |key, peers: &[&Node]| bed.start(key, MeshMode::PaymentGated, peers);
        let b = start(2, &[]);
        let c = start(3, &[&b]);
        let (a, d) = (start(1, &[&b]), start(4, &[&c]));
        linked(&a, &b).await;
        linked(&b, &c).await;
        linked(&d, &c).await;
        answered(&a, &c, 64).await;
        let since = Instant::now();
        let flood: Vec<_> =
            (0..200).map(|_| fared(&a, &c, 64, Duration::from_millis(700))).collect();
        let others = async {
            // By another neighbour, and other traffic by the same one.
            answered(&d, &c, 64).await;
            for n in 0..20 {
                until("a message passes", async || {
                    send(&a, &c, &ping(n), &[], false).await;
                    smol::Timer::after(Duration::from_millis(20)).await;
                    !c.handle().deliveries().take(9, 9_999).is_empty()
                })
                .await;
            }
        };
        let (flood, ()) = smol::future::zip(all(flood), others).await;
        let answered = flood.iter().filter(|f| matches!(f, Fared::Answered(..))).count() as u64;
        // Ten at first, ten a second.
        let most = 10 + 10 * (since.elapsed().as_secs() + 1);
        assert!((1..=most).contains(&answered), "{answered} of 200, at most {most}");
        for node in [a, b, c, d] {
            node.stop().await;
        }
    });
}
