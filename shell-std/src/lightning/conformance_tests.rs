//! What is asked of every backend, over servers that answer in the words of the real ones, with
//! faults: nothing is paid twice, nothing that is or may be paid is called not paid, and nothing
//! is waited for without end.

use super::fake::shapes::{FEE_MSAT, HELD_MSAT, is_paid};
use super::fake::{Conduct, Fake, Fault, KINDS, Made, SECRET, TIMEOUTS, stranger};
use super::*;
use crate::node::Issue;
use crate::store::{STORE_FILE, Store};
use crate::wallet::{Bill, Limits, NotPaid, Outcome, Payer, Reach, Spending, Wallet, bill};
use blvm_mesh_core::payment::bolt11::Invoice;

const MAX_FEE_MSAT: u64 = 5_000;

fn order<'a>(bill: &'a Bill, max_fee_msat: u64) -> PaymentOrder<'a> {
    let payment_hash = hash(bill);
    let amount_msat = bill.amount_msat;
    PaymentOrder { invoice: &bill.invoice, payment_hash, amount_msat, max_fee_msat }
}

fn hash(bill: &Bill) -> [u8; 32] {
    Invoice::from_text(&bill.invoice).unwrap().payment_hash
}

/// Asks a running node of each kind.
fn each(test: impl Fn(&Fake, &dyn Backend)) {
    for kind in KINDS {
        let fake = Fake::start(kind);
        let backend = fake.settings.open();
        assert_eq!(backend.name(), kind);
        test(&fake, &*backend);
    }
}

fn lightning(fake: &Fake) -> Lightning {
    let key = fake.with(|model| model.key());
    let lightning = Lightning::new(fake.settings.open(), Network::Regtest, key);
    // A server's second, and a few look-ups.
    lightning.following(Duration::from_millis(400), Duration::from_millis(50))
}

#[test]
fn it_says_who_it_is_and_what_it_can() {
    each(|fake, backend| {
        let info = backend.info().unwrap();
        assert_eq!(info.key, fake.with(|model| model.key()), "{}", fake.kind);
        assert_eq!((info.network, info.is_synced), (Some(Network::Regtest), true));
        let liquidity = backend.liquidity().unwrap();
        assert_eq!(liquidity.payable_msat, HELD_MSAT[0], "{}", fake.kind);
        let receivable = Some(HELD_MSAT[1]).filter(|_| fake.kind != "lnbits");
        assert_eq!(liquidity.receivable_msat, receivable, "{}", fake.kind);
        // LNbits says whose node it is by an invoice, which is written once.
        backend.info().unwrap();
        let written = fake.with(|model| model.invoices.len());
        assert_eq!(written, usize::from(fake.kind == "lnbits"));
    });
}

#[test]
fn it_writes_invoices_with_text_amount_and_expiry_and_tells_whether_they_are_paid() {
    each(|fake, backend| {
        let issued = lightning(fake).issue([7; 32], 50_000, 900).unwrap();
        let invoice = Invoice::from_text(&issued.invoice).unwrap();
        assert!(invoice.description.commits_to(&[7; 32]), "{}", fake.kind);
        assert_eq!((invoice.amount_msat, invoice.expiry_s), (Some(50_000), 900));
        assert_eq!((issued.preimage, issued.payment_hash), (None, invoice.payment_hash));
        let hash = issued.payment_hash;
        assert_eq!(backend.invoice_status(&hash), Ok(InvoiceStatus::Open), "{}", fake.kind);
        fake.with(|model| model.invoices.insert(hash, true));
        assert_eq!(backend.invoice_status(&hash), Ok(InvoiceStatus::Settled), "{}", fake.kind);
        assert_eq!(backend.invoice_status(&[1; 32]), Ok(InvoiceStatus::NotFound));
        // Where satoshi are counted, nothing is rounded.
        let odd = lightning(fake).issue([7; 32], 50_500, 900);
        assert_eq!(odd.is_ok(), matches!(fake.kind, "lnd" | "cln" | "ldk"), "{}", fake.kind);
    });
}

#[test]
fn an_invoice_of_another_node_or_network_is_not_handed_out() {
    each(|fake, _| {
        let key = stranger();
        let other = Lightning::new(fake.settings.open(), Network::Regtest, key);
        let error = other.issue([7; 32], 50_000, 900).unwrap_err();
        assert!(error.contains("not signed by its key"), "{error}");
        let key = fake.with(|model| model.key());
        let mainnet = Lightning::new(fake.settings.open(), Network::Mainnet, key);
        let error = mainnet.issue([7; 32], 50_000, 900).unwrap_err();
        assert!(error.contains("for regtest, this node is on mainnet"), "{error}");
        let unpaid = mainnet.pay(&bill(50_000), MAX_FEE_MSAT);
        assert!(matches!(unpaid, Outcome::NotPaid(_)));
        assert_eq!(fake.with(|model| model.told_to_pay), 0);
    });
}

#[test]
fn it_tells_the_way_to_a_payee_where_it_can_and_pays_nothing() {
    each(|fake, backend| {
        let knows = matches!(fake.kind, "lnd" | "cln");
        let told = |reach: Reach| if knows { reach } else { Reach::Unknown };
        let (wallet, bill) = (lightning(fake), bill(50_000));
        let reach = |bill: &Bill| wallet.reach(bill, MAX_FEE_MSAT);
        assert_eq!(reach(&bill), told(Reach::Route { fee_msat: FEE_MSAT }), "{}", fake.kind);
        fake.with(|model| model.conduct = Conduct::Fails);
        assert_eq!(reach(&bill), told(Reach::NoRoute), "{}", fake.kind);
        // It is only for the order: whatever goes wrong, paying goes on.
        for fault in [Fault::CutAfter, Fault::Proxy, Fault::Expired, Fault::Truncated] {
            fake.with(|model| model.fault = ("", fault));
            assert_eq!(reach(&bill), Reach::Unknown, "{} {fault:?}", fake.kind);
            assert_eq!(backend.reach(&stranger(), 50_000, 1).is_err(), knows, "{}", fake.kind);
        }
        assert_eq!(fake.with(|model| model.told_to_pay), 0);
    });
}

#[test]
fn it_pays_once_and_tells_what_that_revealed_and_cost() {
    each(|fake, backend| {
        let bill = bill(50_000);
        let expected = |status: PaymentStatus| {
            let PaymentStatus::Paid { preimage, fee_msat } = status else {
                panic!("{}: {status:?}", fake.kind)
            };
            assert_eq!(super::fake::hash_of(&preimage), hash(&bill));
            assert_eq!(fee_msat, FEE_MSAT, "{}", fake.kind);
        };
        assert_eq!(backend.payment(&hash(&bill)), Ok(PaymentStatus::NotFound), "{}", fake.kind);
        expected(backend.pay(&order(&bill, MAX_FEE_MSAT)).unwrap());
        expected(backend.payment(&hash(&bill)).unwrap());
        // Told to once more it refuses, and it is paid all the same.
        let again = lightning(fake).pay(&bill, MAX_FEE_MSAT);
        assert!(matches!(again, Outcome::Paid { .. }), "{}: {again:?}", fake.kind);
    });
}

#[test]
fn what_it_did_not_pay_is_not_paid() {
    each(|fake, backend| {
        for conduct in [Conduct::Fails, Conduct::Refuses] {
            let bill = bill(50_000);
            fake.with(|model| model.conduct = conduct);
            let outcome = lightning(fake).pay(&bill, MAX_FEE_MSAT);
            let Outcome::NotPaid(why) = outcome else { panic!("{}: {outcome:?}", fake.kind) };
            assert!(!why.is_empty());
            let status = backend.payment(&hash(&bill)).unwrap();
            assert!(matches!(status, PaymentStatus::Failed(_) | PaymentStatus::NotFound));
        }
    });
}

#[test]
fn a_fee_above_the_limit_is_refused_before_anything_is_paid() {
    // The others are given the limit.
    for kind in ["phoenixd", "lnbits"] {
        let fake = Fake::start(kind);
        let outcome = lightning(&fake).pay(&bill(50_000), FEE_MSAT - 1);
        let Outcome::NotPaid(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains("lightning.max_fee_ppm"), "{why}");
        assert_eq!(fake.with(|model| model.told_to_pay), 0);
    }
}

#[test]
fn one_that_is_held_is_looked_up_until_it_ends() {
    each(|fake, _| {
        fake.with(|model| model.conduct = Conduct::Holds(3));
        let outcome = lightning(fake).pay(&bill(50_000), MAX_FEE_MSAT);
        assert!(matches!(outcome, Outcome::Paid { fee_msat: FEE_MSAT, .. }), "{outcome:?}");
        fake.with(|model| model.conduct = Conduct::HoldsAndFails(3));
        let outcome = lightning(fake).pay(&bill(60_000), MAX_FEE_MSAT);
        assert!(matches!(outcome, Outcome::NotPaid(_)), "{}: {outcome:?}", fake.kind);
    });
}

/// Whatever happens to the answer, the outcome is not known or is the right one, and a later look-up
/// tells it.
#[test]
fn a_lost_answer_is_found_out_and_never_paid_again() {
    let lost = [
        Fault::CutAfter,
        Fault::Truncated,
        Fault::Nonsense,
        Fault::Endless,
        Fault::Silent,
        Fault::Proxy,
        Fault::CutBefore,
    ];
    for kind in KINDS {
        for fault in lost {
            let fake = Fake::start(kind);
            let bill = bill(50_000);
            fake.with(|model| model.fault = (fake.pays_by(), fault));
            let outcome = lightning(&fake).pay(&bill, MAX_FEE_MSAT);
            let made = fake.with(|model| model.made.get(&hash(&bill)).copied());
            assert_eq!(made.is_some(), !matches!(fault, Fault::Proxy | Fault::CutBefore));
            match (&outcome, made) {
                (Outcome::Paid { .. }, made) => assert!(is_paid(made, &hash(&bill))),
                (Outcome::Unknown(_), None) => {}
                _ => panic!("{kind}, {fault:?}: {outcome:?}"),
            }
            assert!(fake.with(|model| model.told_to_pay) <= 1, "{kind}, {fault:?}");
        }
    }
}

#[test]
fn a_look_up_that_fails_leaves_it_open() {
    let faults =
        [Fault::CutAfter, Fault::Truncated, Fault::Nonsense, Fault::Proxy, Fault::CutBefore];
    for kind in KINDS {
        for fault in faults {
            let fake = Fake::start(kind);
            let backend = fake.settings.open();
            fake.with(|model| model.fault = (fake.looks_up_by(), fault));
            let looked_up = backend.payment(&[1; 32]);
            let Err(error) = looked_up else { panic!("{kind}, {fault:?}: {looked_up:?}") };
            assert!(!error.is_before_the_call(), "{kind}, {fault:?}: {error}");
            // Held, and nobody can tell more.
            fake.with(|model| model.conduct = Conduct::Holds(1_000));
            let outcome = lightning(&fake).pay(&bill(50_000), MAX_FEE_MSAT);
            assert!(matches!(outcome, Outcome::Unknown(_)), "{kind}, {fault:?}: {outcome:?}");
        }
    }
}

#[test]
fn answers_that_come_twice_change_nothing() {
    each(|fake, _| {
        fake.with(|model| model.fault = (fake.pays_by(), Fault::Twice));
        let bill = bill(50_000);
        let outcome = lightning(fake).pay(&bill, MAX_FEE_MSAT);
        assert!(matches!(outcome, Outcome::Paid { .. }), "{}: {outcome:?}", fake.kind);
        assert_eq!(fake.with(|model| model.told_to_pay), 1);
    });
}

#[test]
fn an_expired_credential_is_said_and_nothing_is_paid() {
    for kind in ["lnd", "phoenixd", "lnbits"] {
        let fake = Fake::start(kind);
        fake.with(|model| model.fault = ("", Fault::Expired));
        let backend = fake.settings.open();
        let error = backend.info().unwrap_err();
        assert!(matches!(error, Error::Unauthorized(..)), "{kind}: {error}");
        assert!(error.to_string().contains("_file; they may have expired"), "{error}");
        let outcome = lightning(&fake).pay(&bill(50_000), MAX_FEE_MSAT);
        assert!(matches!(outcome, Outcome::NotPaid(_)), "{kind}: {outcome:?}");
        assert_eq!(fake.with(|model| model.told_to_pay), 0);
    }
}

#[test]
fn another_certificate_is_refused_before_any_credential_is_sent() {
    let fake = Fake::start("lnd");
    let other = fake.dir.path().join("other.cert");
    std::fs::write(&other, include_bytes!("fake/other.cert")).unwrap();
    let BackendSettings::Lnd { url, macaroon, .. } = fake.settings.backend.clone() else {
        unreachable!()
    };
    // Nor is one that nobody on this system signed.
    for certificate in [Some(other), None] {
        let (url, macaroon) = (url.clone(), macaroon.clone());
        let backend = BackendSettings::Lnd { url, macaroon, certificate };
        let backend = LightningSettings { backend, timeouts: TIMEOUTS }.open();
        let error = backend.info().unwrap_err();
        assert!(matches!(error, Error::Certificate(_)), "{error}");
        let error = backend.pay(&order(&bill(50_000), MAX_FEE_MSAT)).unwrap_err();
        assert!(error.is_before_the_call(), "{error}");
    }
    assert_eq!(fake.with(|model| model.calls.len()), 0);
}

#[test]
fn nobody_there_is_said_and_nothing_is_paid() {
    each(|fake, _| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let backend = match fake.settings.backend.clone() {
            BackendSettings::Lnd { macaroon, certificate, .. } => {
                BackendSettings::Lnd { url: format!("https://{free}"), macaroon, certificate }
            }
            BackendSettings::Cln { .. } => {
                BackendSettings::Cln { socket: fake.dir.path().join("gone") }
            }
            BackendSettings::Ldk { .. } => {
                BackendSettings::Ldk { socket: fake.dir.path().join("gone") }
            }
            BackendSettings::Phoenixd { password, .. } => {
                BackendSettings::Phoenixd { url: format!("http://{free}"), password }
            }
            BackendSettings::Lnbits { api_key, certificate, .. } => {
                BackendSettings::Lnbits { url: format!("http://{free}"), api_key, certificate }
            }
        };
        let backend = LightningSettings { backend, timeouts: TIMEOUTS }.open();
        assert!(matches!(backend.info(), Err(Error::Unreachable(..))), "{}", fake.kind);
        let away = Lightning::new(backend, Network::Regtest, stranger());
        assert!(matches!(away.pay(&bill(50_000), MAX_FEE_MSAT), Outcome::NotPaid(_)));
    });
}

#[test]
fn silence_ends_in_time() {
    each(|fake, backend| {
        fake.with(|model| model.fault = ("", Fault::Silent));
        // Before the server's own end, which would be a connection that is cut.
        assert_eq!(backend.info(), Err(Error::Timeout), "{}", fake.kind);
    });
}

#[test]
fn an_answer_has_a_largest_size() {
    each(|fake, backend| {
        fake.with(|model| model.fault = ("", Fault::Endless));
        let info = backend.info();
        assert!(matches!(info, Err(Error::Answer(_))), "{}: {info:?}", fake.kind);
    });
}

#[test]
fn a_payment_whose_preimage_is_not_its_own_is_not_believed() {
    each(|fake, backend| {
        fake.with(|model| model.made.insert([5; 32], Made::Paid([1; 32])));
        let status = backend.payment(&[5; 32]);
        assert!(matches!(status, Err(Error::Answer(_))), "{}: {status:?}", fake.kind);
    });
}

#[test]
fn no_credential_is_ever_printed() {
    each(|fake, backend| {
        assert!(!format!("{:?}", fake.settings).contains(SECRET));
        let faults = [Fault::Expired, Fault::Proxy, Fault::Nonsense, Fault::CutBefore];
        for fault in faults {
            fake.with(|model| model.fault = ("", fault));
            let text = backend.info().map_or_else(|e| format!("{e} {e:?}"), |i| format!("{i:?}"));
            assert!(!text.contains(SECRET), "{text}");
        }
    });
}

#[test]
fn a_payment_that_a_crash_left_open_is_booked_after_the_restart() {
    each(|fake, backend| {
        let dir = tempfile::tempdir().unwrap();
        let bill = bill(50_000);
        let payer = || {
            let store = Store::open(&dir.path().join(STORE_FILE), 65_536).unwrap();
            let spending = Spending::new(Arc::new(store), Limits::default()).unwrap();
            Payer { wallet: Arc::new(lightning(fake)), spending: Arc::new(spending) }
        };
        // Killed after the call: the Lightning node pays, and this node never learns it.
        let before = payer();
        drop(before.spending.begin(&bill, before.wallet.key()).unwrap());
        backend.pay(&order(&bill, MAX_FEE_MSAT)).unwrap();
        drop(before);
        let after = payer();
        assert_eq!(after.pay(&bill).unwrap_err(), NotPaid::Again, "{}", fake.kind);
        assert_eq!(after.spending.spent().last_hour_msat, 55_000);
        after.resolve();
        assert_eq!(after.spending.spent().last_hour_msat, 50_000 + FEE_MSAT, "{}", fake.kind);
        assert_eq!(after.pay(&bill).unwrap_err(), NotPaid::Again);
        assert_eq!(fake.with(|model| model.told_to_pay), 1);
    });
}
