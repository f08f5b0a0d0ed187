//! Invoices that this node pays, for the bytes that it buys. They are paid off the engine's task,
//! which waits for none of them: a payment takes seconds, and one that is slow holds up no others
//! until all places are taken.

use crate::rpc::types::PurchaseStats;
use crate::wallet::{Bill, Ended, Kept, NotPaid, Payer, Resolved, Spending, Spent, Underway};
use blvm_mesh_core::mesh::Ticket;
use smol::{Executor, Task};
use std::sync::Arc;
use std::time::Duration;

/// Pause between two look-ups of payments whose outcome is not known.
pub(crate) const LOOK_UP: Duration = Duration::from_secs(60);
/// Payments at once.
const AT_ONCE: usize = 8;
/// Invoices that wait to be paid. Full: a further one is not paid.
const MOST_QUEUED: usize = 64;

/// The queue of those that are to be paid, if there is a wallet, and the purchases they are for.
#[derive(Debug, Default)]
pub(crate) struct Payments {
    paying: Option<Paying>,
    underway: Underway,
}

#[derive(Debug)]
struct Paying {
    queue: smol::channel::Sender<(Ticket, Bill)>,
    spending: Arc<Spending>,
}

impl Payments {
    /// Starts the tasks that have invoices paid, and tell what became of each as long as that is
    /// `true`; also of those of which it becomes known later, with the ticket that was paid for while
    /// that is valid.
    pub(crate) fn start<F, G>(
        payer: Payer,
        tell: impl Fn(Ticket, Ended) -> F + Clone + Send + 'static,
        (pause, tell_resolved): (Duration, impl Fn(Resolved, Option<Kept>) -> G + Send + 'static),
        executor: &Executor<'static>,
    ) -> (Self, Vec<Task<()>>)
    where
        F: Future<Output = bool> + Send + 'static,
        G: Future<Output = bool> + Send + 'static,
    {
        let (queue, bills) = smol::channel::bounded::<(Ticket, Bill)>(MOST_QUEUED);
        let spending = payer.spending.clone();
        let task = |_| {
            let (payer, tell, bills) = (payer.clone(), tell.clone(), bills.clone());
            executor.spawn(async move {
                while let Ok((ticket, bill)) = bills.recv().await {
                    let payer = payer.clone();
                    let ended = smol::unblock(move || payer.pay(&bill)).await;
                    if !tell(ticket, ended).await {
                        return;
                    }
                }
            })
        };
        let mut tasks: Vec<_> = (0..AT_ONCE).map(task).collect();
        tasks.push(executor.spawn(async move {
            loop {
                let payer = payer.clone();
                let look_up = move || {
                    let resolved = payer.resolve();
                    let paid = resolved.iter().any(|(_, preimage)| preimage.is_some());
                    (resolved, if paid { payer.spending.kept() } else { Vec::new() })
                };
                let (resolved, kept) = smol::unblock(look_up).await;
                for resolved in resolved {
                    let of = |kept: &&Kept| !kept.credited && kept.payment_hash == resolved.0;
                    if !tell_resolved(resolved, kept.iter().find(of).copied()).await {
                        return;
                    }
                }
                smol::Timer::after(pause).await;
            }
        }));
        let paying = Some(Paying { queue, spending });
        (Self { paying, underway: Underway::default() }, tasks)
    }

    /// Has an invoice paid; false if it will not be.
    pub(crate) fn pay(&mut self, ticket: Ticket, bill: Bill) -> bool {
        self.underway.begun(ticket, bill.amount_msat);
        let why = match &self.paying {
            None => NotPaid::NoWallet,
            Some(paying) => match paying.queue.try_send((ticket, bill)) {
                Ok(()) => return true,
                Err(_) => NotPaid::QueueFull,
            },
        };
        self.underway.ended(ticket, Err(why));
        false
    }

    /// One that was paid in an earlier run is shown to its node.
    pub(crate) fn again(&mut self, ticket: Ticket, kept: &Kept) {
        self.underway.again(ticket, kept);
    }

    /// Paying has ended: what the state machine is to be told, if anything.
    pub(crate) fn ended(&mut self, ticket: Ticket, ended: Ended) -> Option<Option<[u8; 32]>> {
        self.underway.ended(ticket, ended)
    }

    /// What became of a payment is known now: what the state machine is to be told, if anything.
    pub(crate) fn resolved(&mut self, resolved: Resolved) -> Option<(Ticket, Option<[u8; 32]>)> {
        self.underway.resolved(resolved)
    }

    /// The bytes of a purchase were credited.
    pub(crate) fn credited(&mut self, ticket: Ticket, bytes: u64) {
        let (hash, paying) = (self.underway.credited(ticket, bytes), &self.paying);
        if let (Some(hash), Some(Paying { spending, .. })) = (hash, paying) {
            let spending = spending.clone();
            smol::unblock(move || spending.credited(&hash, bytes)).detach();
        }
    }

    /// A purchase has ended without.
    pub(crate) fn failed(&mut self, ticket: Ticket) {
        self.underway.failed(ticket);
    }

    /// What is counted, and spent.
    pub(crate) fn stats(&self) -> PurchaseStats {
        let spent = self.paying.as_ref().map(|paying| paying.spending.spent());
        let Spent { last_hour_msat, limit_msat, last_day_msat, day_limit_msat } =
            spent.unwrap_or_default();
        let wallet = self.paying.is_some();
        let stats = self.underway.stats();
        PurchaseStats { wallet, last_hour_msat, limit_msat, last_day_msat, day_limit_msat, ..stats }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::wallet::{Limits, Outcome, PaymentStatus, Wallet, bill};
    use smol::channel::{Receiver, Sender, unbounded};
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
        let mut pay = |number, amount_msat| payments.pay(Ticket(number), bill(amount_msat));
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
        assert!(payments.pay(Ticket(7), bill(1_000)));
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
        assert!(!payments.pay(Ticket(1), bill(1_000)));
        let stats = payments.stats();
        assert_eq!(stats.last_refusal, Some(NotPaid::NoWallet.to_string()));
        assert_eq!((stats.wallet, stats.not_paid), (false, 1));
    }
}
