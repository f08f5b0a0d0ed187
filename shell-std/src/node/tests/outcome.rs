//! What a sender learns, and how soon.

use super::paid::{accepts, proof, send_paid, service};
use super::*;
use crate::rpc::types::{Outcome, PeerState, QuoteRoute, SendPacket, Sent};
use crate::rpc::{Handler, Reply, Request, RpcError, target::Target};

/// Less than a search through all rings takes (5.85 s), by far.
const SOON: Duration = Duration::from_secs(2);
/// A wait that no test waits for.
const LONG: u64 = 60_000;

async fn send_free(
    from: &Service,
    to: NodeId,
    data: Vec<u8>,
    wait_ms: u64,
) -> Result<Sent, RpcError> {
    let destination = Target(to);
    let request = SendPacket {
        destination,
        data,
        proof: None,
        pay: false,
        max_msat: None,
        unchecked: true,
        wait_ms,
    };
    match from.handle(Request::SendPacket(request), &Default::default()).await? {
        Reply::SendPacket(sent) => Ok(sent),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sent_refused_and_unknown_are_told_apart_and_none_is_waited_for_in_vain() {
    Bed::run(async |bed| {
        let mode = MeshMode::PaymentGated;
        let b = bed.start(2, mode, &[]);
        let (a, c) = (bed.start(1, mode, &[&b]), bed.start(3, mode, &[&b]));
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (source, to) = (service(&a), c.handle().id());
        let start = Instant::now();
        let sent = send_free(&source, to, ping(7), LONG).await.unwrap();
        assert_eq!((sent.outcome, &sent.stopped), (Outcome::Sent, &None));
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        let refused = send_free(&source, to, b"data".to_vec(), LONG).await.unwrap();
        assert_eq!(refused.outcome, Outcome::Refused);
        assert_eq!(refused.stopped.unwrap().reporter, b.handle().id());
        let unknown = send_free(&source, to, ping(8), 0).await.unwrap();
        assert_eq!(unknown.outcome, Outcome::Unknown, "nobody waited");
        // A neighbour that takes it and then says nothing more.
        let deaf = Deaf::connect(&a, secret(9)).await;
        let up = || async { a.handle().neighbours().await.unwrap().contains(&deaf.id) };
        until("the deaf neighbour is up", up).await;
        let lost = send_free(&source, deaf.id, ping(9), 1_000).await.unwrap();
        assert_eq!(lost.outcome, Outcome::Unknown);
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_search_that_nobody_hears_ends_soon_and_one_in_vain_is_not_repeated_at_once() {
    Bed::run(async |bed| {
        let mode = MeshMode::Open;
        let (b, d) = (bed.start(2, mode, &[]), bed.start(4, mode, &[]));
        let c = bed.start(3, mode, &[&b]);
        let a = bed.start(1, mode, &[&b, &d]);
        for (x, y) in [(&a, &b), (&a, &d), (&c, &b)] {
            linked(x, y).await;
        }
        let (source, to) = (service(&a), c.handle().id());
        send_free(&source, to, ping(1), 0).await.unwrap();
        b.stop().await;
        let gone = || async { a.handle().neighbours().await.unwrap().len() == 1 };
        until("the relay is gone", gone).await;
        // The first search asks everyone; the next sends need not wait for another.
        assert!(send_free(&source, to, ping(2), 0).await.is_err());
        let start = Instant::now();
        for n in 0..10 {
            let error = send_free(&source, to, ping(n), 0).await.unwrap_err();
            assert!(error.message.contains("no route"), "{error}");
        }
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        d.stop().await;
        let alone = || async { a.handle().neighbours().await.unwrap().is_empty() };
        until("nobody is left", alone).await;
        let start = Instant::now();
        let other = NodeId([8; 32]);
        assert!(send_free(&source, other, ping(3), 0).await.is_err());
        assert_eq!(a.handle().find_route(other).await, Ok(false));
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        for node in [a, c] {
            node.stop().await;
        }
    });
}

pub(super) async fn quote(
    of: &Service,
    to: NodeId,
    bytes: u64,
) -> Result<crate::rpc::types::Quote, RpcError> {
    let request = QuoteRoute { destination: Target(to), bytes };
    match of.handle(Request::QuoteRoute(request), &Default::default()).await? {
        Reply::QuoteRoute(quote) => Ok(quote),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_quote_tells_all_that_decides_whether_a_payment_for_it_is_accepted() {
    Bed::run(async |bed| {
        let mode = MeshMode::PaymentGated;
        let payable = |s: &mut Settings| {
            accepts(s);
            s.config.payment.covenants_active = true;
            s.config.payment.payout_script.push(0x51).unwrap();
        };
        let b = bed.start_with(2, mode, &[], Disk::default(), payable);
        let c = bed.start_with(3, mode, &[&b], Disk::default(), payable);
        let a = bed.start(1, mode, &[&b]);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (source, to) = (service(&a), c.handle().id());
        let given = quote(&source, to, 4096).await.unwrap();
        let issuers: Vec<Option<usize>> =
            given.shares.iter().map(|s| s.issuers.as_ref().map(Vec::len)).collect();
        assert_eq!(
            issuers,
            [Some(0), Some(1), None],
            "own, the neighbour's, and nobody knows all of them"
        );
        // 4.7 sat by Lightning; outputs of 330 sat to each of three, and a fee.
        assert!(given.amount_msat < 5_000, "{}", given.amount_msat);
        let covenant = given.covenant.unwrap();
        assert!((3_300..5_000).contains(&covenant.fund_sat), "{covenant:?}");
        assert_eq!(covenant.min_confirmations, 1);
        // What is paid for fits into one packet.
        let most = quote(&source, to, given.most_bytes).await.unwrap();
        assert_eq!(most.bytes, given.most_bytes);
        for bytes in [given.most_bytes + 1, 100_000_000_000] {
            let error = quote(&source, to, bytes).await.unwrap_err();
            assert!(error.message.contains("size is too large for this route"), "{error}");
            assert!(error.message.contains(&given.most_bytes.to_string()), "{error}");
        }
        let data = vec![1; given.min_packet as usize];
        let error = send_free(&source, to, data, 0).await.unwrap_err();
        assert!(error.message.contains("size is too large for this route"), "{error}");

        let paid = proof(&source, to, 4096).await;
        let error = send_paid(&source, to, &[1; 4096], &paid, false).await.unwrap_err();
        assert_eq!(
            error.message,
            "your own node has no issuer; restart it with --issuer KEY, or send --unchecked"
        );
        // Another size, another destination: named as such.
        let error = send_paid(&source, to, &[1; 4095], &paid, false).await.unwrap_err();
        assert!(error.message.contains("is for 4096 bytes of data, these are 4095"), "{error}");
        let error = send_paid(&source, b.handle().id(), &[1; 4096], &paid, false).await;
        let error = error.unwrap_err();
        assert!(error.message.contains("is for destination"), "{error}");
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn what_a_payer_keeps_of_his_own_payment_is_not_earned() {
    Bed::run(async |bed| {
        let mode = MeshMode::PaymentGated;
        // The destination takes nobody's invoices, so it refuses what the payer has booked.
        let b = bed.start(2, mode, &[]);
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        let (source, to) = (service(&a), b.handle().id());
        let paid = proof(&source, to, 4).await;
        let sent = send_paid(&source, to, b"data", &paid, false).await.unwrap();
        assert!(sent.paid);
        let Ok(Reply::GetStats(stats)) =
            source.handle(Request::GetStats, &Default::default()).await
        else {
            panic!("no stats");
        };
        assert_eq!((stats.payments, stats.earned_msat), (0, 0));
        assert_eq!((stats.paid, stats.paid_msat), (1, 10_000));
        for node in [a, b] {
            node.stop().await;
        }
    });
}

#[test]
fn a_peer_that_cannot_be_had_is_shown_with_the_reason() {
    Bed::run(async |bed| {
        let b = bed.start(2, MeshMode::Open, &[]);
        let other = |s: &mut Settings| s.config.network = Network::Signet;
        let a = bed.start_with(1, MeshMode::Open, &[&b], Disk::default(), other);
        // Somebody else answers at the address of the third, and nobody at that of the fourth.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap().port();
        drop(listener);
        let at = |port| Place::Tcp(HostPort { host: "127.0.0.1".into(), port }.into());
        let peer = |key: u8, port| PeerAddress {
            public_key: secret(key).public_key(&Default::default()),
            place: at(port),
        };
        let port = b.handle().listen_addr().unwrap().port();
        let wrong = bed.start_with(5, MeshMode::Open, &[], Disk::default(), |s| {
            s.peers = vec![peer(3, port), peer(4, nobody)];
        });
        let shows = async |node: &Node, of: &PeerAddress, reason: &str| {
            let Ok(Reply::GetPeers(peers)) =
                service(node).handle(Request::GetPeers, &Default::default()).await
            else {
                panic!("no peers");
            };
            peers.iter().any(|p| {
                p.public_key == of.public_key.serialize()
                    && p.state != PeerState::Up
                    && p.last_error.as_deref().is_some_and(|e| e.contains(reason))
            })
        };
        let mismatch = "is on network regtest, this node is on signet";
        let second = address(&b);
        until("the network", || shows(&a, &second, mismatch)).await;
        // Who is configured for another network is no offender: he is let in once that is mended.
        let closed = |engine: &mut engine::Engine| {
            let id = NodeId::from_public_key(&secret(2).public_key(&Default::default()));
            let kinds = engine.shell.refusals.counts();
            let many = kinds.get("other-network").is_some_and(|n| *n >= 5);
            (many, engine.mesh.banned_until(&id), engine.mesh.offences(&id))
        };
        until("several attempts", || async { a.handle().job(closed).await.unwrap().0 }).await;
        assert_eq!(a.handle().job(closed).await.unwrap(), (true, None, 0));
        assert!(shows(&a, &second, mismatch).await);
        let key = "is PUBKEY right?";
        let (third, fourth) = (peer(3, port), peer(4, nobody));
        until("the key", || shows(&wrong, &third, key)).await;
        until("the port", || shows(&wrong, &fourth, "refused")).await;
        for node in [a, b, wrong] {
            node.stop().await;
        }
    });
}
