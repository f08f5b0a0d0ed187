//! A node with an issuer sells bytes of flows; one without does not.

use super::paid::TestIssuer;
use super::*;
use blvm_mesh_core::signature::Identity;
use blvm_mesh_core::wire::account::{InvoiceRequest, MAX_LEN, Message};
use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};
use secp256k1::Secp256k1;

/// A neighbour's request for an invoice.
fn request(key: u8, to: &Node) -> Vec<u8> {
    let secp = Secp256k1::new();
    let me = Identity::new(&secp, &secret(key));
    let (source, destination, sequence) = (me.id(), to.handle().id(), 7);
    let unsigned = InvoiceRequest {
        bytes: 100_000,
        amount_msat: 50_000,
        open_number: 0,
        public_key: me.public_key(),
        signature: &[0; 64],
    };
    let signature = me.sign(&secp, &unsigned.sighash(sequence, &source, &destination));
    let signed = Message::InvoiceRequest(InvoiceRequest { signature: &signature, ..unsigned });
    let payload = signed.bytes::<MAX_LEN>().unwrap();
    let form = Form::Account;
    let emit = Emit { hop_limit: 0, sequence, source, destination, proof: None, form };
    let mut head = vec![0; head_len(0, 0)];
    emit.write(&[], &payload, &mut head, |_| [0; 64]).unwrap();
    [head, payload.to_vec()].concat()
}

#[test]
fn a_request_is_answered_with_an_invoice_where_there_is_an_issuer() {
    Bed::run(async |bed| {
        for issuer in [true, false] {
            let settings = settings(MeshMode::PaymentGated);
            let issuer = issuer.then(|| Arc::new(TestIssuer(secret(77))) as Arc<dyn Issue>);
            let sells = issuer.is_some();
            let none = std::iter::empty::<Result<Record, String>>();
            let disk = Disk::default();
            let a =
                Node::start(&settings, &secret(1), disk.clone(), none, issuer, None, &bed.executor)
                    .unwrap();
            let packets = [hello(&a), request(9, &a)];
            let deaf = Deaf::saying(&a, secret(9), &packets, &[]).await;
            let source = deaf.id;
            let state = async || {
                let look = move |engine: &mut engine::Engine| {
                    let (mesh, stats) = (&engine.mesh, engine.mesh.stats());
                    let refused = stats.refused_payment > 0 && mesh.parked() == 0;
                    (mesh.account(&source).is_some(), refused)
                };
                a.handle().job(look).await.unwrap()
            };
            until("it is answered", async || state().await != (false, false)).await;
            assert_eq!(state().await, (sells, !sells));
            until("its run is durable", async || {
                let records = disk.records.lock().unwrap();
                records.iter().any(|record| matches!(record, Record::Run(_))) == sells
            })
            .await;
            a.stop().await;
        }
    });
}
