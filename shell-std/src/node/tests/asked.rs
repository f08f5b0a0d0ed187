//! A relay whose operator's Lightning node signs for others too takes as a proof for a datagram only
//! what it asked for itself.

use super::paid::{send_paid, service};
use super::*;
use crate::issuer::{Order, preimage, unix_now};
use crate::lightning::fake::Fake;
use crate::lightning::{Lightning, Till};
use crate::rpc::Reply;
use crate::rpc::target::Target;
use crate::rpc::types::{LightningProof, Outcome, QuoteRoute, WriteInvoice};
use crate::rpc::{Handler, Request};
use crate::store::{STORE_FILE, Store};
use lightning_invoice::Bolt11Invoice;
use std::path::Path;

const DATA: [u8; 4096] = [9; 4096];
const AMOUNT: u64 = 20_000;

/// With the list that is on disk, once nobody else has it open.
async fn till(fake: &Fake, dir: &Path) -> Arc<dyn Issue> {
    let mut store = None;
    until("the store is free", || {
        store = Store::open(&dir.join(STORE_FILE), 65_536).ok();
        let is_free = store.is_some();
        async move { is_free }
    })
    .await;
    let store = store.unwrap();
    let lightning =
        Lightning::new(fake.settings.open(), Network::Regtest, fake.with(|model| model.key()));
    Arc::new(Till::new(lightning, Arc::new(store)))
}

/// Whoever pays learns the preimage.
fn paid(invoice: &str) -> LightningProof {
    let read: Bolt11Invoice = invoice.parse().unwrap();
    LightningProof { invoice: invoice.into(), preimage: preimage(&read.payment_secret().0) }
}

#[test]
fn what_this_node_asked_for_counts_over_a_restart_and_nothing_else() {
    Bed::run(async |bed| {
        let (fake, dir, disk) = (Fake::start("lnd"), tempfile::tempdir().unwrap(), Disk::default());
        let key = fake.with(|model| model.key());
        let start = |till: Arc<dyn Issue>| {
            let mut settings = settings(MeshMode::PaymentGated);
            settings.config.payment.issuers.push(key).unwrap();
            settings.config.payment.shared_issuer = Some(key);
            let records = disk.records.lock().unwrap().clone();
            let records = records.into_iter().map(Ok::<_, String>);
            let executor = &bed.executor;
            let store = disk.clone();
            Node::start(&settings, &secret(1), store, records, Some(till), None, executor).unwrap()
        };
        let source = |relay: &Node| {
            let change = |s: &mut Settings| s.config.payment.issuers.push(key).unwrap();
            bed.start_with(2, MeshMode::PaymentGated, &[relay], Disk::default(), change)
        };
        let issuer = till(&fake, dir.path()).await;
        let b = start(issuer.clone());
        let a = source(&b);
        linked(&a, &b).await;
        let (from, to) = (service(&a), b.handle().id());
        let quote = QuoteRoute { destination: Target(to), bytes: DATA.len() as u64 };
        let Ok(Reply::QuoteRoute(quote)) =
            from.handle(Request::QuoteRoute(quote), &Default::default()).await
        else {
            panic!("no quote");
        };
        let operator =
            Service::new(b.handle().clone(), Arc::new(super::paid::NoLedger), Some(issuer));
        let terms_hash = quote.terms_hash;
        let mut asked = Vec::new();
        for _ in 0..2 {
            let request = WriteInvoice { terms_hash, amount_msat: AMOUNT, expiry_s: Some(600) };
            let Ok(Reply::WriteInvoice(written)) =
                operator.handle(Request::WriteInvoice(request), &Default::default()).await
            else {
                panic!("no invoice");
            };
            asked.push(paid(&written.invoice));
        }
        // A customer of the same node writes one to himself.
        let other = || {
            let order = Order {
                network: Network::Regtest,
                terms_hash,
                amount_msat: AMOUNT,
                expiry_s: 600,
                timestamp: unix_now(),
                as_text: true,
            };
            paid(&fake.with(|model| model.issuer.invoice(&order)).unwrap().invoice)
        };
        let refused = async |from: &Service| {
            let sent = send_paid(from, to, &DATA, &other(), true).await.unwrap();
            assert_eq!(sent.outcome, Outcome::Refused, "{sent:?}");
            let cause = blvm_mesh_core::wire::route_error::Cause::IssuerUnknown.to_string();
            assert_eq!(sent.stopped.unwrap().cause, cause);
        };
        refused(&from).await;
        let sent = send_paid(&from, to, &DATA, &asked[0], true).await.unwrap();
        assert_eq!(sent.outcome, Outcome::Delivered, "{sent:?}");
        drop((from, operator));
        a.stop().await;
        b.stop().await;

        let b = start(till(&fake, dir.path()).await);
        let a = source(&b);
        linked(&a, &b).await;
        let from = service(&a);
        refused(&from).await;
        let sent = send_paid(&from, to, &DATA, &asked[1], true).await.unwrap();
        assert_eq!(sent.outcome, Outcome::Delivered, "{sent:?}");
        let again = send_paid(&from, to, &DATA, &asked[0], true).await.unwrap();
        assert_eq!(again.outcome, Outcome::Refused, "it was used before");
    });
}
