//! Payments over real links, signed by an issuer with LDK's invoice builder.

use super::*;
use crate::rpc::types::{
    GetLedger, Ledger, LightningProof, PollReceived, Proof, RequestHopInvoice, SendPacket,
};
use crate::rpc::{Handler, Reply, Request, RpcError, target::Target};
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::payment::fee::Party;
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use secp256k1::{PublicKey, Secp256k1};

/// What every payment here amounts to, in millisatoshi.
const AMOUNT: u64 = 10_000;

pub(super) struct TestIssuer(pub(super) SecretKey);

impl Issue for TestIssuer {
    fn issue(
        &self,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, String> {
        let mut preimage = [0; 32];
        getrandom::fill(&mut preimage).unwrap();
        let hash = sha256::Hash::hash(&preimage);
        let now = Duration::from_secs(Clock::unix().unwrap());
        let invoice = InvoiceBuilder::new(Currency::Regtest)
            .description_hash(sha256::Hash::from_byte_array(terms_hash))
            .payment_hash(hash)
            .payment_secret(PaymentSecret([5; 32]))
            .duration_since_epoch(now)
            .expiry_time(Duration::from_secs(expiry_s))
            .min_final_cltv_expiry_delta(18)
            .amount_milli_satoshis(amount_msat)
            .build_signed(|m| crate::issuer::sign(m, &self.0))
            .map_err(|e| e.to_string())?;
        Ok(Issued {
            invoice: invoice.to_string(),
            preimage: Some(preimage),
            payment_hash: hash.to_byte_array(),
            issuer: issuer(),
            expires_at: now.as_secs() + expiry_s,
        })
    }
}

fn issuer() -> PublicKey {
    secret(77).public_key(&Secp256k1::new())
}

pub(super) struct NoLedger;

impl Ledgers for NoLedger {
    fn ledger(&self, _: &GetLedger) -> Result<Ledger, String> {
        Err("not in this test".into())
    }
}

pub(super) fn service(node: &Node) -> Service {
    let issuer: Arc<dyn Issue> = Arc::new(TestIssuer(secret(77)));
    Service::new(node.handle().clone(), Arc::new(NoLedger), Some(issuer))
}

pub(super) fn accepts(settings: &mut Settings) {
    settings.config.payment.issuers.push(issuer()).unwrap();
}

/// Asks the source for an invoice over `bytes` bytes to `to`: a proof that holds.
pub(super) async fn proof(source: &Service, to: NodeId, bytes: u64) -> LightningProof {
    let (destination, amount_msat, expiry_s) = (Target(to), Some(AMOUNT), Some(600));
    let request = RequestHopInvoice { destination, bytes, hop: None, amount_msat, expiry_s };
    let Ok(Reply::RequestHopInvoice(paid)) =
        source.handle(Request::RequestHopInvoice(request), &Default::default()).await
    else {
        panic!("no invoice");
    };
    assert!(paid.quote.unwrap().amount_msat <= AMOUNT);
    LightningProof { invoice: paid.invoice, preimage: paid.preimage.unwrap() }
}

pub(super) async fn send_paid(
    source: &Service,
    to: NodeId,
    data: &[u8],
    proof: &LightningProof,
    unchecked: bool,
) -> Result<crate::rpc::types::Sent, RpcError> {
    let request = SendPacket {
        destination: Target(to),
        data: data.to_vec(),
        proof: Some(Proof::Lightning(proof.clone())),
        pay: false,
        max_msat: None,
        unchecked,
        wait_ms: if unchecked { 5_000 } else { 0 },
    };
    match source.handle(Request::SendPacket(request), &Default::default()).await? {
        Reply::SendPacket(sent) => Ok(sent),
        other => panic!("{other:?}"),
    }
}

fn share(disk: &Disk) -> Option<(Party, u64)> {
    disk.records.lock().unwrap().iter().find_map(|record| match record {
        Record::Payment(p) => Some((p.role, p.share_msat)),
        _ => None,
    })
}

#[test]
fn a_payment_is_split_booked_and_never_accepted_again_not_even_after_a_crash() {
    Bed::run(async |bed| {
        let disks: [Disk; 3] = Default::default();
        let [da, db, dc] = &disks;
        let mode = MeshMode::PaymentGated;
        let b = bed.start_with(2, mode, &[], db.clone(), accepts);
        let a = bed.start_with(1, mode, &[&b], da.clone(), accepts);
        let c = bed.start_with(3, mode, &[&b], dc.clone(), accepts);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (data, to) = (vec![9; 4096], c.handle().id());
        let source = service(&a);
        let good = proof(&source, to, 4096).await;
        let sent = send_paid(&source, to, &data, &good, false).await.unwrap();
        assert_eq!((sent.hops, sent.paid), (1, true));
        let poll = PollReceived { max: 1, wait_ms: 20_000, base64: false };
        let Ok(Reply::PollReceived(got)) =
            service(&c).handle(Request::PollReceived(poll), &Default::default()).await
        else {
            panic!("nothing came");
        };
        assert_eq!((&got[0].data, got[0].earned_msat), (&data, 6_000));
        // What is delivered is on disk already, at each node.
        assert_eq!(share(da), Some((Party::Source, 1_000)));
        assert_eq!(share(db), Some((Party::Intermediate(0), 3_000)));
        assert_eq!(share(dc), Some((Party::Destination, 6_000)));

        let again = send_paid(&source, to, &data, &good, false).await.unwrap_err();
        assert!(again.message.contains("used before"), "{again}");
        let again = send_paid(&source, to, &data, &good, true).await.unwrap();
        assert_eq!(again.stopped.unwrap().cause, Cause::Replay.to_string());

        // The relay crashes: nothing but its disk is left.
        let at = b.handle().listen_addr();
        drop(b);
        let free = async || std::net::TcpListener::bind(at.unwrap()).is_ok();
        until("the crashed node's port is free", free).await;
        let b = bed.start_with(2, mode, &[], db.clone(), |s| {
            accepts(s);
            s.listen_addr = at;
        });
        linked(&a, &b).await;
        linked(&c, &b).await;
        let again = send_paid(&source, to, &data, &good, true).await.unwrap();
        assert_eq!(again.stopped.unwrap().cause, Cause::Replay.to_string());
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn what_is_paid_and_stopped_for_now_is_sent_again_by_itself() {
    Bed::run(async |bed| {
        let (mode, disk) = (MeshMode::PaymentGated, Disk::default());
        let b = bed.start_with(2, mode, &[], disk.clone(), accepts);
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        let c = bed.start_with(3, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (to, source) = (c.handle().id(), service(&a));
        let good = proof(&source, to, 4).await;
        // The link behind the relay is gone for a while.
        drop(c);
        let gone = async || !b.handle().neighbours().await.unwrap().contains(&to);
        until("the relay sees that the node is gone", gone).await;
        let request = SendPacket {
            destination: Target(to),
            data: b"paid".to_vec(),
            proof: Some(Proof::Lightning(good.clone())),
            pay: false,
            max_msat: None,
            unchecked: false,
            wait_ms: 600,
        };
        let Ok(Reply::SendPacket(sent)) =
            source.handle(Request::SendPacket(request), &Default::default()).await
        else {
            panic!("it is not sent");
        };
        assert_eq!((sent.stopped, sent.repeats), (None, 1));
        let repeating = sent.repeating.expect("a relay's report");
        assert_eq!(repeating.cause, Cause::NextHopGone.to_string());
        let c = bed.start_with(3, mode, &[&b], Disk::default(), accepts);
        assert_eq!(delivery(&c).await.payload, b"paid");
        let payments = disk.records.lock().unwrap().len();
        assert_eq!(payments, 1, "the relay has booked it once");
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn nothing_paid_leaves_before_it_is_durable_and_free_traffic_does_not_wait() {
    Bed::run(async |bed| {
        let disk = Disk::default();
        let mode = MeshMode::PaymentGated;
        let b = bed.start_with(2, mode, &[], disk.clone(), accepts);
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        let c = bed.start_with(3, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (to, source) = (c.handle().id(), service(&a));
        let paid = proof(&source, to, 4).await;
        disk.slow.store(true, Ordering::SeqCst);
        send_paid(&source, to, b"paid", &paid, false).await.unwrap();
        send(&a, &c, &ping(1), &[], false).await;
        assert_eq!(delivery(&c).await.payload, ping(1));
        smol::Timer::after(Duration::from_millis(50)).await;
        assert!(c.handle().deliveries().take(9, 9).is_empty());
        disk.slow.store(false, Ordering::SeqCst);
        assert_eq!(delivery(&c).await.payload, b"paid");

        // While the store fails no payment passes, and free traffic still does.
        disk.broken.store(true, Ordering::SeqCst);
        let booked = async || {
            let counted = b.handle().job(|engine| engine.shell.counters).await.map(|c| c.payments);
            (counted.unwrap(), disk.records.lock().unwrap().len())
        };
        let before = booked().await;
        assert_eq!(before, (1, 1));
        let late = proof(&source, to, 4).await;
        send_paid(&source, to, b"late", &late, false).await.unwrap();
        let failed =
            async || b.handle().job(|engine| engine.shell.durable.failed).await == Ok(true);
        until("the store fails", failed).await;
        let paid = proof(&source, to, 4).await;
        let stopped = send_paid(&source, to, b"none", &paid, true).await.unwrap().repeating;
        assert_eq!(stopped.unwrap().cause, Cause::StoreFailed.to_string());
        send(&a, &c, &ping(2), &[], false).await;
        assert_eq!(delivery(&c).await.payload, ping(2));
        assert!(c.handle().deliveries().take(9, 9).is_empty());
        assert_eq!(booked().await, before, "what is not on disk is not counted");

        // Once there is room again, what was accepted goes on, once, and payments pass.
        disk.broken.store(false, Ordering::SeqCst);
        assert_eq!(delivery(&c).await.payload, b"late");
        until("it is booked", async || booked().await == (2, 2)).await;
        let failed =
            async || b.handle().job(|engine| engine.shell.durable.failed).await == Ok(false);
        until("the store works", failed).await;
        let paid = proof(&source, to, 4).await;
        send_paid(&source, to, b"more", &paid, false).await.unwrap();
        assert_eq!(delivery(&c).await.payload, b"more");
        let again = send_paid(&source, to, b"late", &late, true).await.unwrap();
        assert_eq!(again.stopped.unwrap().cause, Cause::Replay.to_string());
        assert_eq!(booked().await, (3, 3));
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_relay_whose_store_was_lost_takes_no_payment_of_before_not_even_two_starts_later() {
    Bed::run(async |bed| {
        let disk = Disk::default();
        let (mode, skew) = (MeshMode::PaymentGated, 1);
        let start = |at: Option<SocketAddr>| {
            bed.start_with(2, mode, &[], disk.clone(), |s| {
                accepts(s);
                s.config.payment.future_skew = skew;
                s.listen_addr = at.or(s.listen_addr);
            })
        };
        let b = start(None);
        let at = b.handle().listen_addr();
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        let c = bed.start_with(3, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (to, source) = (c.handle().id(), service(&a));
        let old = proof(&source, to, 4).await;
        send_paid(&source, to, b"once", &old, false).await.unwrap();
        assert_eq!(delivery(&c).await.payload, b"once");
        let mut b = Some(b);
        *disk.records.lock().unwrap() = vec![Record::StoreLost(None)];
        for _ in 0..2 {
            b.take().unwrap().stop().await;
            let free = async || std::net::TcpListener::bind(at.unwrap()).is_ok();
            until("the port is free", free).await;
            let again = start(at);
            linked(&a, &again).await;
            linked(&c, &again).await;
            let sent = send_paid(&source, to, b"once", &old, true).await.unwrap();
            assert_eq!(sent.stopped.unwrap().cause, Cause::Expired.to_string());
            b = Some(again);
        }
        // What is paid after the start is taken.
        smol::Timer::after(Duration::from_secs(skew + 1)).await;
        let new = proof(&source, to, 4).await;
        send_paid(&source, to, b"anew", &new, false).await.unwrap();
        assert_eq!(delivery(&c).await.payload, b"anew");
        for node in [Some(a), b, Some(c)].into_iter().flatten() {
            node.stop().await;
        }
    });
}

#[test]
fn what_was_paid_while_the_disk_was_slow_finds_room_at_the_link() {
    Bed::run(async |bed| {
        let disk = Disk::default();
        let mode = MeshMode::PaymentGated;
        let b = bed.start_with(2, mode, &[], disk.clone(), |s| {
            accepts(s);
            s.config.max_packet = 16 * 1024;
            s.shell.queue_bytes = 16 * 1024;
        });
        let a = bed.start_with(1, mode, &[&b], Disk::default(), accepts);
        let c = bed.start_with(3, mode, &[&b], Disk::default(), accepts);
        linked(&a, &b).await;
        linked(&c, &b).await;
        let (to, source) = (c.handle().id(), service(&a));
        // More than fits into the queue, all before the first of them may go on.
        disk.slow.store(true, Ordering::SeqCst);
        for n in 0..12 {
            let paid = proof(&source, to, 6000).await;
            send_paid(&source, to, &[n; 6000], &paid, false).await.unwrap();
        }
        let treated = async || {
            let stats = b.handle().job(|engine| engine.mesh.stats()).await.unwrap();
            stats.relayed_paid + stats.refused == 12
        };
        until("all came", treated).await;
        disk.slow.store(false, Ordering::SeqCst);
        let delivered = std::cell::Cell::new(0);
        let all_that_paid = async || {
            delivered.set(delivered.get() + c.handle().deliveries().take(99, usize::MAX).len());
            let written = disk.records.lock().unwrap().len();
            delivered.get() > 0 && delivered.get() == written
        };
        until("what paid is delivered", all_that_paid).await;
        assert!((3..12).contains(&delivered.get()), "{delivered:?}");
        // And the link is told that it has room again.
        let paid = proof(&source, to, 6000).await;
        send_paid(&source, to, &[99; 6000], &paid, false).await.unwrap();
        assert_eq!(delivery(&c).await.payload, [99; 6000]);
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}
