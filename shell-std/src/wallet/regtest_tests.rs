//! The regtest wallet pays its issuer's invoices and no others.

use super::*;
use crate::issuer::{Issuer, Order, sign, unix_now};
use blvm_mesh_core::id::NodeId;
use lightning_invoice::{InvoiceBuilder, PaymentSecret};
use secp256k1::SecretKey;
use std::time::Duration;

fn key() -> SecretKey {
    SecretKey::from_byte_array([7; 32]).unwrap()
}

/// A bill of a regtest issuer, which holds for years.
pub(crate) fn bill(amount_msat: u64) -> Bill {
    let order = Order {
        network: Network::Regtest,
        terms_hash: [3; 32],
        amount_msat,
        expiry_s: 1 << 30,
        timestamp: unix_now(),
        as_text: false,
    };
    let invoice = Issuer::from_secret(key()).invoice(&order).unwrap().invoice;
    Bill { node: NodeId([5; 32]), bytes: 65_536, amount_msat, promise: [6; 49], invoice }
}

/// An invoice that only a Lightning node could pay.
pub(crate) fn real(currency: Currency, amount_msat: u64, written_s: u64) -> Bill {
    let invoice = InvoiceBuilder::new(currency)
        .description("bytes".into())
        .payment_hash(sha256::Hash::hash(&[8; 32]))
        .payment_secret(PaymentSecret([9; 32]))
        .duration_since_epoch(Duration::from_secs(written_s))
        .min_final_cltv_expiry_delta(18)
        .expiry_time(Duration::from_secs(900))
        .amount_milli_satoshis(amount_msat)
        .build_signed(|m| sign(m, &key()))
        .unwrap();
    Bill { invoice: invoice.to_string(), ..bill(amount_msat) }
}

#[test]
fn it_pays_what_a_regtest_issuer_wrote() {
    let (wallet, bill) = (RegtestWallet::on(Network::Regtest).unwrap(), bill(50_000));
    let Outcome::Paid { preimage, fee_msat: 0 } = wallet.pay(&bill, 0) else { panic!("not paid") };
    let invoice: Bolt11Invoice = bill.invoice.parse().unwrap();
    assert_eq!(sha256::Hash::hash(&preimage), *invoice.payment_hash());
}

#[test]
fn it_pays_nothing_else_and_is_nowhere_else() {
    for network in Network::ALL.into_iter().filter(|n| *n != Network::Regtest) {
        assert!(RegtestWallet::on(network).is_none());
    }
    let wallet = RegtestWallet::on(Network::Regtest).unwrap();
    let now = unix_now();
    let refused = [
        (real(Currency::Regtest, 1_000, now), "no regtest issuer wrote"),
        (real(Currency::Bitcoin, 1_000, now), "regtest only"),
        (real(Currency::Signet, 1_000, now), "regtest only"),
        (Bill { invoice: "lnbcrt1".into(), ..bill(1_000) }, "cannot be read"),
    ];
    for (bill, expected) in refused {
        match wallet.pay(&bill, 0) {
            Outcome::NotPaid(reason) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}
