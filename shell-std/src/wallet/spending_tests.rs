//! The limit holds, over restarts too, and the ledger has what was spent.

use super::super::{Payer, RegtestWallet, bill};
use super::*;
use crate::rpc::types::{GetLedger, Ledger, PurchaseState};
use crate::store::{STORE_FILE, Store};
use blvm_mesh_core::id::Network;
use std::path::Path;

const UNIX: u64 = 1_790_000_000;
/// Three payments of 1,000 msat with their most fee.
const LIMITS: Limits = Limits {
    max_msat_per_payment: 1_100,
    max_msat_per_hour: 3_300,
    max_msat_per_day: 1 << 40,
    max_msat_per_destination_day: 1 << 40,
    max_fee_ppm: 100_000,
};
const HOUR_S: u64 = 3_600;
const KEY: Option<[u8; 33]> = Some([2; 33]);

fn open(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(&dir.join(STORE_FILE), 65_536).unwrap())
}

fn spending(store: &Arc<Store>, unix: u64) -> Spending {
    Spending::at(store.clone(), LIMITS, unix).unwrap()
}

fn ledger(store: &Store) -> Ledger {
    store.ledger(&GetLedger::default()).unwrap()
}

fn paid(bill: &Bill, fee_msat: u64) -> Outcome {
    let wallet = RegtestWallet::on(Network::Regtest).unwrap();
    match wallet.pay(bill, 0) {
        Outcome::Paid { preimage, .. } => Outcome::Paid { preimage, fee_msat },
        other => panic!("{other:?}"),
    }
}

fn is_over(spending: &Spending, now: u64, unix: u64) -> bool {
    match spending.begin_at(&bill(1_000), KEY, now, unix) {
        Err(NotPaid::Limit { wanted_msat: 1_100, limit_msat: 3_300, .. }) => true,
        Err(other) => panic!("{other}"),
        Ok(_) => false,
    }
}

#[test]
fn the_intent_is_in_the_ledger_before_anything_is_paid_and_then_the_outcome() {
    struct Looks(Arc<Store>);
    impl Wallet for Looks {
        fn pay(&self, bill: &Bill, max_fee_msat: u64) -> Outcome {
            let ledger = ledger(&self.0);
            let [purchase] = &ledger.purchases[..] else { panic!("{ledger:?}") };
            assert_eq!(purchase.state, PurchaseState::Unknown);
            assert_eq!((purchase.amount_msat, purchase.fee_msat), (bill.amount_msat, 100));
            assert_eq!((purchase.node, purchase.bytes), (bill.node, bill.bytes));
            assert_eq!((max_fee_msat, &purchase.preimage), (100, &None));
            paid(bill, 7)
        }
        fn look_up(&self, _: &[u8; 32]) -> Result<PaymentStatus, String> {
            unreachable!()
        }
        fn key(&self) -> Option<[u8; 33]> {
            None
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let spending = Arc::new(spending(&store, UNIX));
    let payer = Payer { wallet: Arc::new(Looks(store.clone())), spending: spending.clone() };
    let bill = bill(1_000);
    let (hash, outcome) = payer.pay(&bill).unwrap();
    let spent = spending.spent();
    assert_eq!((spent.last_hour_msat, spent.limit_msat), (1_007, 3_300));
    assert_eq!((spent.last_day_msat, spent.day_limit_msat), (1_007, 1 << 40));
    let Outcome::Paid { preimage, fee_msat: 7 } = outcome else { panic!("{outcome:?}") };
    let purchase = ledger(&store).purchases.remove(0);
    assert_eq!((purchase.payment, purchase.state), (hash, PurchaseState::Paid));
    assert_eq!((purchase.fee_msat, purchase.preimage), (7, Some(hex::encode(preimage))));
    assert!(purchase.begun_at > UNIX - 86_400);
    spending.credited(&hash, 70_000);
    drop((payer, spending, store));

    let store = open(dir.path());
    let Ledger { purchases, bought, .. } = ledger(&store);
    assert_eq!((purchases[0].state, purchases[0].bytes), (PurchaseState::Credited, 70_000));
    assert_eq!((bought.purchases, bought.amount_msat), (1, 1_000));
    assert_eq!((bought.fee_msat, bought.bytes), (7, 70_000));
}

#[test]
fn no_invoice_is_paid_twice_and_one_that_was_not_paid_may_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bill = bill(1_000);
    let one = spending(&store, UNIX);
    let begun = one.begin(&bill, KEY).unwrap();
    assert_eq!(one.end(begun, Outcome::NotPaid("no".into())), Err(NotPaid::Wallet("no".into())));
    assert_eq!((one.spent().last_hour_msat, ledger(&store).purchases.len()), (0, 0));
    // Whatever became of it.
    let begun = one.begin(&bill, KEY).unwrap();
    assert_eq!(one.begin(&bill, KEY).unwrap_err(), NotPaid::Again);
    let unknown = Outcome::Unknown("away".into());
    assert_eq!(one.end(begun, unknown.clone()).unwrap().1, unknown);
    assert_eq!(one.spent().last_hour_msat, 1_100);
    assert_eq!(spending(&store, UNIX).begin(&bill, KEY).unwrap_err(), NotPaid::Again);
    assert_eq!(ledger(&store).purchases[0].state, PurchaseState::Unknown);
}

#[test]
fn a_preimage_that_is_not_the_invoices_proves_no_payment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let spending = spending(&store, UNIX);
    let begun = spending.begin(&bill(1_000), KEY).unwrap();
    let wrong = Outcome::Paid { preimage: [1; 32], fee_msat: 0 };
    assert!(matches!(spending.end(begun, wrong), Ok((_, Outcome::Unknown(_)))));
    assert_eq!(spending.spent().last_hour_msat, 1_100);
}

#[test]
fn the_limit_holds_over_restarts_wherever_the_clock_jumps_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut at = UNIX;
    {
        let store = open(dir.path());
        let spending = spending(&store, at);
        let start = spending.now();
        for n in 0..3u64 {
            // The system's clock is set back two hours while it runs.
            at = UNIX + 60 * n - if n > 0 { 2 * HOUR_S } else { 0 };
            let begun = spending.begin_at(&bill(1_000), KEY, start + 60 * n, at).unwrap();
            if n == 0 {
                let unknown = Outcome::Unknown("it crashed".into());
                spending.end(begun, unknown).unwrap();
            }
        }
        assert!(is_over(&spending, start + 120, at));
    }
    // Then it is put right again, or not, or back by a day, or is not set at all.
    for unix in [UNIX + 180, at, UNIX - 86_400, 0, UNIX + HOUR_S - 180] {
        let store = open(dir.path());
        let spending = spending(&store, unix);
        assert_eq!(spending.spent().last_hour_msat, 3_300, "at {unix}");
        assert!(is_over(&spending, spending.now(), unix));
    }
    let store = open(dir.path());
    let lasts = spending(&store, 0);
    assert!(!is_over(&lasts, lasts.now() + HOUR_S, 0), "for an hour at most");
    assert_eq!(spending(&store, UNIX + HOUR_S - 120).spent().last_hour_msat, 1_100);
}

#[test]
fn nothing_is_spent_where_the_limit_is_nothing_or_the_ledger_fails() {
    struct Broken;
    impl Purchases for Broken {
        fn recent(&self) -> Result<super::super::Recent, String> {
            Ok(Default::default())
        }
        fn begin(&self, _: &Intent) -> Result<bool, String> {
            Err("disk full".into())
        }
        fn open_payments(&self) -> Result<Vec<OpenPayment>, String> {
            unreachable!()
        }
        fn paid(&self, _: &[u8; 32], _: &[u8; 32], _: u64) -> Result<(), String> {
            unreachable!()
        }
        fn not_paid(&self, _: &[u8; 32]) -> Result<(), String> {
            unreachable!()
        }
        fn kept(&self, _: u64) -> Result<Vec<Kept>, String> {
            Err("disk gone".into())
        }
        fn credited(&self, _: &[u8; 32], _: u64) -> Result<(), String> {
            unreachable!()
        }
    }
    let spending = Spending::new(Arc::new(Broken), LIMITS).unwrap();
    assert_eq!(spending.begin(&bill(1_000), KEY).unwrap_err(), NotPaid::Store("disk full".into()));
    assert_eq!(spending.spent().last_hour_msat, 0);
    assert!(spending.kept().is_empty());
    let nothing = Limits { max_msat_per_hour: 0, ..LIMITS };
    let spending = Spending::new(Arc::new(Broken), nothing).unwrap();
    assert_eq!(
        spending.begin(&bill(1_000), KEY).unwrap_err(),
        NotPaid::Nothing("budget.max_msat_per_hour")
    );
    let spending = Spending::new(Arc::new(Broken), LIMITS).unwrap();
    let refused = [
        (Bill { amount_msat: 999, ..bill(1_000) }, 0, "not over 999 msat"),
        (Bill { invoice: "lnbcrt1".into(), ..bill(1_000) }, 0, "does not hold"),
        (bill(1_000), unix_now() + (1 << 30) + 60, "has expired"),
    ];
    for (bill, unix, why) in refused {
        let refused = spending.begin_at(&bill, KEY, 0, unix).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

/// A wallet that pays nothing and says what it is told to.
struct Says(PaymentStatus, Option<[u8; 33]>);

impl Wallet for Says {
    fn pay(&self, _: &Bill, _: u64) -> Outcome {
        panic!("nothing is paid again")
    }
    fn look_up(&self, _: &[u8; 32]) -> Result<PaymentStatus, String> {
        Ok(self.0.clone())
    }
    fn key(&self) -> Option<[u8; 33]> {
        self.1
    }
}

#[test]
fn what_became_of_a_payment_is_found_out_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (bill, late) = (bill(1_000), (1 << 31) + (1 << 30));
    let Outcome::Paid { preimage, .. } = paid(&bill, 0) else { unreachable!() };
    let begin = || {
        let begun = spending(&open(dir.path()), UNIX).begin(&bill, KEY);
        drop(begun.unwrap());
    };
    let look_up = |status: PaymentStatus, key: Option<[u8; 33]>, unix: u64| {
        let store = open(dir.path());
        let spending = spending(&store, UNIX);
        spending.resolve_at(&Says(status, key), unix);
        let state = ledger(&store).purchases.first().map(|purchase| purchase.state);
        (state, spending.spent().last_hour_msat)
    };
    let open = (Some(PurchaseState::Unknown), 1_100);
    let failed = || PaymentStatus::Failed("no way".into());
    begin();
    let still_open = [
        (PaymentStatus::Pending, KEY, late),
        (PaymentStatus::NotFound, KEY, UNIX),
        // Another wallet, which was never asked.
        (PaymentStatus::NotFound, None, late),
        (failed(), Some([3; 33]), late),
        (PaymentStatus::Paid { preimage: [1; 32], fee_msat: 0 }, KEY, UNIX),
    ];
    for (status, key, unix) in still_open {
        assert_eq!(look_up(status.clone(), key, unix), open, "{status:?}");
    }
    assert_eq!(look_up(failed(), KEY, UNIX), (None, 0));
    begin();
    assert_eq!(look_up(PaymentStatus::NotFound, KEY, late), (None, 0));
    begin();
    let made = PaymentStatus::Paid { preimage, fee_msat: 3 };
    assert_eq!(look_up(made, Some([3; 33]), UNIX), (Some(PurchaseState::Paid), 1_003));
    // It is not asked for any more.
    assert_eq!(look_up(failed(), KEY, late), (Some(PurchaseState::Paid), 1_003));
}

#[test]
fn what_is_being_paid_is_left_to_whoever_pays_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let spending = spending(&store, UNIX);
    let begun = spending.begin(&bill(1_000), KEY).unwrap();
    let failed = Says(PaymentStatus::Failed("no way".into()), KEY);
    spending.resolve_at(&failed, UNIX);
    assert_eq!(ledger(&store).purchases.len(), 1);
    spending.end(begun, Outcome::Unknown("held".into())).unwrap();
    spending.resolve_at(&failed, UNIX);
    assert_eq!((ledger(&store).purchases.len(), spending.spent().last_hour_msat), (0, 0));
}
