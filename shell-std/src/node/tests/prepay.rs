//! Bytes bought before a flow needs them: by an invoice of each relay, and by one payment for all.

use super::flows::{Paying, line_with, ready, stop};
use super::paid::{TestIssuer, accepts, service};
use super::*;
use crate::rpc::types::{
    AccountsQuote, GetLedger, LightningProof, Outcome, Prepaid, Prepay, Proof, QuoteAccounts,
};
use crate::rpc::{Handler, Reply, Request, RpcError, target::Target};

const BYTES: u64 = 1 << 20;

async fn quote(source: &Service, to: NodeId) -> Result<AccountsQuote, RpcError> {
    let request = QuoteAccounts { destination: Target(to), bytes: BYTES };
    match source.handle(Request::QuoteAccounts(request), &Default::default()).await? {
        Reply::QuoteAccounts(quote) => Ok(quote),
        other => panic!("{other:?}"),
    }
}

async fn prepay(source: &Service, to: NodeId, proof: Option<Proof>) -> Result<Prepaid, RpcError> {
    let request = Prepay { destination: Target(to), bytes: BYTES, proof, wait_ms: 10_000 };
    match source.handle(Request::Prepay(request), &Default::default()).await? {
        Reply::Prepay(prepaid) => Ok(prepaid),
        other => panic!("{other:?}"),
    }
}

/// What the first node has at another one.
async fn bought(nodes: &[Paying], at: usize) -> u64 {
    let source = nodes[0].node.handle().id();
    let job = move |engine: &mut Engine| engine.mesh.account(&source).map_or(0, |a| a.bought);
    nodes[at].node.handle().job(job).await.unwrap()
}

fn paid(quote: &AccountsQuote, amount_msat: u64) -> Proof {
    let issued = TestIssuer(secret(77)).issue(quote.terms_hash, amount_msat, 600).unwrap();
    let (invoice, preimage) = (issued.invoice, issued.preimage.unwrap());
    Proof::Lightning(LightningProof { invoice, preimage })
}

#[test]
fn each_relay_is_paid_by_its_own_invoice_or_all_by_one_payment() {
    Bed::run(async |bed| {
        let nodes = line_with(&bed, MeshMode::PaymentGated, 4, accepts);
        ready(&nodes).await;
        let (source, to) = (service(&nodes[0].node), nodes[3].node.handle().id());

        let prepaid = prepay(&source, to, None).await.unwrap();
        assert_eq!(prepaid.bought.len(), 2);
        for (at, hop) in (1..).zip(&prepaid.bought) {
            assert_eq!((hop.reason.as_ref(), hop.left), (None, Some(BYTES)), "{prepaid:?}");
            assert_eq!(bought(&nodes, at).await, BYTES);
        }
        until("both purchases are in the ledger", async || {
            let spent = nodes[0].store.ledger(&GetLedger::default()).unwrap().bought;
            (spent.purchases, spent.bytes) == (2, 2 * BYTES)
        })
        .await;

        let quote = quote(&source, to).await.unwrap();
        assert_eq!((quote.hops.len(), quote.taken), (2, Some(true)));
        assert_eq!(quote.amount_msat, 2 * quote.part_msat);
        assert_eq!(quote.accepts.as_ref().unwrap().issuers.len(), 1, "the marker is no issuer");
        let proof = paid(&quote, quote.amount_msat);
        for _ in 0..2 {
            // The second one is another packet: the payment is used.
            let shown = prepay(&source, to, Some(proof.clone())).await;
            match bought(&nodes, 1).await {
                _ if shown.is_err() => {
                    let why = shown.unwrap_err().message;
                    assert!(why.contains("used"), "{why}");
                }
                _ => assert_eq!(shown.unwrap().shown.unwrap().outcome, Outcome::Delivered),
            }
            for at in [1, 2] {
                assert_eq!(bought(&nodes, at).await, 2 * BYTES);
            }
        }
        let ledger = nodes[1].store.ledger(&GetLedger::default()).unwrap();
        let parts: Vec<_> = ledger.entries.iter().map(|entry| entry.share_msat).collect();
        assert_eq!(parts, [quote.part_msat], "{ledger:?}");
        stop(nodes).await;
    });
}

#[test]
fn what_pays_nobody_is_refused_in_words() {
    Bed::run(async |bed| {
        let nodes = line_with(&bed, MeshMode::PaymentGated, 3, accepts);
        ready(&nodes).await;
        let (source, to) = (service(&nodes[0].node), nodes[2].node.handle().id());
        let near = nodes[1].node.handle().id();
        let refused = |result: Result<Prepaid, RpcError>| result.unwrap_err().message;
        let why = refused(prepay(&source, near, None).await);
        assert!(why.contains("neighbour"), "{why}");
        let mut other = quote(&source, to).await.unwrap();
        other.terms_hash = [1; 32];
        let why = refused(prepay(&source, to, Some(paid(&other, 9_000_000))).await);
        assert!(why.contains("terms_hash"), "{why}");
        // It buys less than a KiB.
        let quote = quote(&source, to).await.unwrap();
        let shown = prepay(&source, to, Some(paid(&quote, 1_000))).await.unwrap().shown.unwrap();
        assert_eq!(shown.outcome, Outcome::Refused);
        let why = shown.stopped.unwrap().cause;
        assert!(why.contains("tariff"), "{why}");
        assert_eq!(bought(&nodes, 1).await, 0);
        stop(nodes).await;
    });
}

#[test]
fn a_proof_too_large_for_a_link_on_the_route_is_not_sent() {
    Bed::run(async |bed| {
        let mut count = 0;
        let nodes = line_with(&bed, MeshMode::PaymentGated, 3, |settings: &mut Settings| {
            accepts(settings);
            // The relay alone.
            count += 1;
            if count == 2 {
                settings.config.max_packet = 300;
            }
        });
        ready(&nodes).await;
        let (source, to) = (service(&nodes[0].node), nodes[2].node.handle().id());
        let quote = quote(&source, to).await.unwrap();
        assert_eq!(quote.min_packet, 300);
        let why = prepay(&source, to, Some(paid(&quote, quote.amount_msat))).await.unwrap_err();
        assert!(why.message.contains("300 bytes"), "{}", why.message);
        stop(nodes).await;
    });
}
