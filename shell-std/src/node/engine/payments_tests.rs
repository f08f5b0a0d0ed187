//! Invoices are paid in their order, once, and none that is not needed.

use super::*;
use crate::store::Store;
use crate::wallet::{Limits, PaymentStatus, Reach, RegtestWallet, Wallet, bill};
use blvm_mesh_core::id::Network;
use smol::channel::{Receiver, unbounded};
use std::path::Path;

/// Pays nothing, each when it may; tells that it begins.
struct Slow {
    begun: Sender<u64>,
    go: Receiver<()>,
}

impl Wallet for Slow {
    fn pay(&self, bill: &Bill, _: u64) -> Outcome {
        let _ = self.begun.send_blocking(bill.amount_msat);
        // The first is paid never: the others do not wait for it.
        if bill.amount_msat > 1_000 {
            let _ = self.go.recv_blocking();
        }
        Outcome::NotPaid("no route".into())
    }

    fn look_up(&self, _: &[u8; 32]) -> Result<PaymentStatus, String> {
        Ok(PaymentStatus::NotFound)
    }

    fn key(&self) -> Option<[u8; 33]> {
        None
    }
}

/// One that is for no flow; false if it will not be paid.
fn pay(payments: &mut Payments, number: u64, amount_msat: u64) -> bool {
    payments.gather(Ticket(number), bill(amount_msat))
        && payments.pay_due(|_| (None, Due::Now)).is_empty()
}

fn memory() -> Store {
    Store::with_backend(Path::new("memory"), redb::backends::InMemoryBackend::new).unwrap()
}

#[test]
fn a_slow_payment_holds_up_no_other_and_too_many_are_refused() {
    let executor = Executor::new();
    let (begun, begins) = unbounded();
    let (go, wait) = unbounded();
    let (told, answers) = unbounded();
    let tell = move |ticket, ended: Ended| {
        let told = told.clone();
        async move { told.send((ticket, ended)).await.is_ok() }
    };
    let spending = Spending::new(Arc::new(memory()), Limits::default()).unwrap();
    let wallet = Arc::new(Slow { begun, go: wait });
    let payer = Payer { wallet, spending: Arc::new(spending) };
    let (mut payments, _tasks) =
        Payments::start(payer, tell, (LOOK_UP, |_, _| async { true }), &executor);
    let mut pay = |number, amount_msat| pay(&mut payments, number, amount_msat);
    let slow = AT_ONCE as u64 - 1;
    let late = async {
        smol::Timer::after(std::time::Duration::from_secs(20)).await;
        panic!("they wait for one another");
    };
    let all = async {
        for number in 0..slow {
            assert!(pay(number, 2_000));
        }
        for _ in 0..slow {
            assert_eq!(begins.recv().await, Ok(2_000));
        }
        // One place is left, and all the others pass through it.
        for number in slow..slow + 5 {
            assert!(pay(number, 1_000));
            assert_eq!(begins.recv().await, Ok(1_000));
            let (ticket, ended) = answers.recv().await.unwrap();
            assert_eq!(ticket, Ticket(number));
            assert_eq!(ended, Err(NotPaid::Wallet("no route".into())));
        }
        assert!(pay(100, 2_000));
        assert_eq!(begins.recv().await, Ok(2_000));
        for number in 0..MOST_QUEUED as u64 {
            assert!(pay(200 + number, 1_000));
        }
        assert!(!pay(999, 1_000), "the queue has a bound");
        go.close();
    };
    smol::block_on(executor.run(smol::future::or(all, late)));
    let stats = payments.stats();
    assert_eq!(stats.last_refusal, Some(NotPaid::QueueFull.to_string()));
    assert_eq!((stats.wallet, stats.not_paid), (true, 1));
}

/// Does not know what became of a payment, and then does.
struct Forgetful;

impl Wallet for Forgetful {
    fn pay(&self, _: &Bill, _: u64) -> Outcome {
        Outcome::Unknown("the connection ended".into())
    }

    fn look_up(&self, _: &[u8; 32]) -> Result<PaymentStatus, String> {
        Ok(PaymentStatus::Failed("no route".into()))
    }

    fn key(&self) -> Option<[u8; 33]> {
        None
    }
}

#[test]
fn what_is_found_out_later_is_told_to_the_purchase_that_waits() {
    let executor = Executor::new();
    let ((told, answers), (found, resolved)) = (unbounded(), unbounded());
    let tell = move |ticket, ended: Ended| {
        let told = told.clone();
        async move { told.send((ticket, ended)).await.is_ok() }
    };
    let tell_resolved = move |resolved, _| {
        let found = found.clone();
        async move { found.send(resolved).await.is_ok() }
    };
    let spending = Spending::new(Arc::new(memory()), Limits::default()).unwrap();
    let payer = Payer { wallet: Arc::new(Forgetful), spending: Arc::new(spending) };
    let look_up = (Duration::from_millis(5), tell_resolved);
    let (mut payments, _tasks) = Payments::start(payer, tell, look_up, &executor);
    assert!(pay(&mut payments, 7, 1_000));
    let both = async {
        let (ticket, ended) = answers.recv().await.unwrap();
        assert_eq!(payments.ended(ticket, ended), None);
        payments.resolved(resolved.recv().await.unwrap())
    };
    assert_eq!(smol::block_on(executor.run(both)), Some((Ticket(7), None)));
    let stats = payments.stats();
    assert_eq!((stats.unknown, stats.not_paid, stats.last_day_msat), (0, 1, 0));
}

#[test]
fn without_a_wallet_nothing_is_paid() {
    let mut payments = Payments::default();
    assert!(!pay(&mut payments, 1, 1_000));
    let stats = payments.stats();
    assert_eq!(stats.last_refusal, Some(NotPaid::NoWallet.to_string()));
    assert_eq!((stats.wallet, stats.not_paid), (false, 1));
}

/// Says how hard each is to pay, and pays all but those over so much.
struct Knows {
    order: Sender<u64>,
    most_msat: u64,
}

impl Wallet for Knows {
    fn pay(&self, bill: &Bill, _: u64) -> Outcome {
        let _ = self.order.send_blocking(bill.amount_msat);
        match bill.amount_msat > self.most_msat {
            true => Outcome::NotPaid("no route".into()),
            false => RegtestWallet::on(Network::Regtest).unwrap().pay(bill, 0),
        }
    }

    fn reach(&self, bill: &Bill, _: u64) -> Reach {
        match bill.amount_msat {
            2_000 => Reach::NoRoute,
            3_000 => Reach::Route { fee_msat: 9 },
            4_000 => Reach::Route { fee_msat: 5 },
            _ => Reach::Unknown,
        }
    }

    fn look_up(&self, _: &[u8; 32]) -> Result<PaymentStatus, String> {
        Ok(PaymentStatus::NotFound)
    }

    fn key(&self) -> Option<[u8; 33]> {
        None
    }
}

/// What is paid of one route, in which order, and what is told of each.
fn route(amounts: &[u64], most_msat: u64, limits: Limits) -> (Vec<u64>, Vec<(u64, bool)>) {
    let executor = Executor::new();
    let ((order, paid), (told, answers)) = (unbounded(), unbounded());
    let tell = move |ticket, ended: Ended| {
        let told = told.clone();
        async move { told.send((ticket, ended)).await.is_ok() }
    };
    let spending = Spending::new(Arc::new(memory()), limits).unwrap();
    let wallet = Arc::new(Knows { order, most_msat });
    let payer = Payer { wallet, spending: Arc::new(spending) };
    let look_up = (LOOK_UP, |_, _| async { true });
    let (mut payments, _tasks) = Payments::start(payer, tell, look_up, &executor);
    let flow = Some(FlowId(5));
    for (number, amount) in (0..).zip(amounts) {
        assert!(payments.gather(Ticket(number), bill(*amount)));
        // The others are still to come.
        assert!(payments.pay_due(|_| (flow, Due::Later)).is_empty());
    }
    assert!(paid.is_empty());
    assert!(payments.pay_due(|_| (flow, Due::Now)).is_empty());
    let all = async {
        let mut ended = Vec::new();
        for _ in amounts {
            let (ticket, outcome) = answers.recv().await.unwrap();
            ended.push((ticket.0, outcome.is_ok()));
        }
        ended
    };
    let mut ended = smol::block_on(executor.run(all));
    ended.sort_unstable();
    (std::iter::from_fn(|| paid.try_recv().ok()).collect(), ended)
}

#[test]
fn the_one_that_is_hardest_to_pay_is_paid_first_and_alone_if_it_fails() {
    let amounts = [1_000, 4_000, 3_000, 2_000, 1_500];
    let (paid, ended) = route(&amounts, 9_000, Limits::default());
    assert_eq!(paid.first(), Some(&2_000), "no way to it is known");
    assert_eq!(ended, [0, 1, 2, 3, 4].map(|n| (n, true)));
    assert_eq!(route(&[1_000, 4_000, 3_000], 9_000, Limits::default()).0[0], 3_000);
    assert_eq!(route(&[1_000, 1_500], 9_000, Limits::default()).0[0], 1_500);
    // Nothing is spent on the others where it fails, nor where the budget is not enough for all.
    assert_eq!(route(&[1_500, 2_000], 1_999, Limits::default()), (vec![2_000], no(2)));
    let little = Limits { max_msat_per_hour: 5_000, ..Limits::default() };
    assert_eq!(route(&[1_000, 4_000], 9_000, little), (vec![], no(2)));
}

fn no(count: u64) -> Vec<(u64, bool)> {
    (0..count).map(|n| (n, false)).collect()
}

#[test]
fn what_is_not_needed_any_more_is_not_paid() {
    let executor = Executor::new();
    let spending = Spending::new(Arc::new(memory()), Limits::default()).unwrap();
    let wallet = Arc::new(Knows { order: unbounded().0, most_msat: 0 });
    let payer = Payer { wallet, spending: Arc::new(spending) };
    let look_up = (LOOK_UP, |_, _| async { true });
    let tell = |_, _| async { panic!("nothing is paid") };
    let (mut payments, _tasks) = Payments::start(payer, tell, look_up, &executor);
    assert!(payments.gather(Ticket(1), bill(1_000)));
    assert_eq!(payments.pay_due(|_| (None, Due::Never)), [Ticket(1)]);
    assert!(payments.gathered.is_empty() && payments.stats().not_paid == 1);
}
