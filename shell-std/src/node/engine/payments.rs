//! Invoices that this node pays, for the bytes that it buys. They are paid off the engine's task,
//! which waits for none of them: a payment takes seconds, and one that is slow holds up no others
//! until all places are taken.

use crate::rpc::types::PurchaseStats;
use crate::wallet::{
    Bill, Ended, Kept, NotPaid, Outcome, Payer, Resolved, Spending, Spent, Underway,
};
use blvm_mesh_core::id::HopId;
use blvm_mesh_core::mesh::{Due, FlowId, Ticket};
use blvm_mesh_core::wire::route_error::Cause;
use smol::channel::Sender;
use smol::{Executor, Task};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two look-ups of payments whose outcome is not known.
pub(crate) const LOOK_UP: Duration = Duration::from_secs(60);
/// Payments at once.
const AT_ONCE: usize = 8;
/// Invoices that wait to be paid. Full: a further one is not paid.
const MOST_QUEUED: usize = 64;

/// An invoice that somebody else than this node's wallet is to pay.
#[derive(Debug)]
pub(crate) struct Wanting {
    /// The nodes before the one that is asked.
    pub(crate) hops: Vec<[u8; 8]>,
    pub(crate) node: HopId,
    pub(crate) bytes: u64,
    /// 0: the node says what it takes for receiving.
    pub(crate) amount_msat: u64,
}

/// Whoever waits for the end of a purchase: bytes that were bought and what is there now, or why not.
type Redeemer = Sender<Result<(u64, u64), String>>;

/// The queue of those that are to be paid, if there is a wallet, and the purchases they are for.
#[derive(Debug, Default)]
pub(crate) struct Payments {
    paying: Option<Paying>,
    underway: Underway,
    /// Invoices that wait for others of the same flow. As many as purchases may be under way.
    gathered: Vec<(Ticket, Bill)>,
    /// Purchases whose invoices others pay.
    handed_out: HashMap<Ticket, Sender<Result<Bill, String>>>,
    redeemed: HashMap<Ticket, Redeemer>,
}

#[derive(Debug)]
struct Paying {
    /// Those of one route together.
    queue: Sender<Vec<(Ticket, Bill)>>,
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
        let (queue, bills) = smol::channel::bounded::<Vec<(Ticket, Bill)>>(MOST_QUEUED);
        let spending = payer.spending.clone();
        let task = |_| {
            let (payer, tell, bills) = (payer.clone(), tell.clone(), bills.clone());
            let queue = queue.downgrade();
            executor.spawn(async move {
                while let Ok(bills) = bills.recv().await {
                    let rest = pay_hardest(&payer, bills, tell.clone()).await;
                    for bill in rest {
                        let next = match queue.upgrade() {
                            Some(queue) => queue.try_send(vec![bill]).map_err(|e| e.into_inner()),
                            None => Err(vec![bill]),
                        };
                        if let Err(bills) = next {
                            pay_hardest(&payer, bills, tell.clone()).await;
                        }
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
        (Self { paying, ..Self::default() }, tasks)
    }

    /// Takes an invoice that is to be paid when those of its route are there; false if it will not
    /// be paid here.
    pub(crate) fn gather(&mut self, ticket: Ticket, bill: Bill) -> bool {
        if let Some(asker) = self.handed_out.remove(&ticket) {
            let _ = asker.try_send(Ok(bill));
            return false;
        }
        self.underway.begun(ticket, bill.amount_msat);
        if self.paying.is_none() {
            self.underway.ended(ticket, Err(NotPaid::NoWallet));
            return false;
        }
        self.gathered.push((ticket, bill));
        true
    }

    /// Has those paid that are due; those that will not be.
    pub(crate) fn pay_due(&mut self, due: impl Fn(Ticket) -> (Option<FlowId>, Due)) -> Vec<Ticket> {
        let mut not_paid = Vec::new();
        let mut routes: Vec<(Option<FlowId>, Vec<(Ticket, Bill)>)> = Vec::new();
        for (ticket, bill) in std::mem::take(&mut self.gathered) {
            match due(ticket) {
                (_, Due::Later) => self.gathered.push((ticket, bill)),
                (_, Due::Never) => {
                    self.underway.ended(ticket, Err(NotPaid::NotNeeded));
                    not_paid.push(ticket);
                }
                (flow, Due::Now) => {
                    let of_flow =
                        |(other, _): &&mut (Option<FlowId>, _)| flow.is_some() && *other == flow;
                    match routes.iter_mut().find(of_flow) {
                        Some((_, bills)) => bills.push((ticket, bill)),
                        None => routes.push((flow, vec![(ticket, bill)])),
                    }
                }
            }
        }
        for (_, bills) in routes {
            let full = match &self.paying {
                Some(paying) => paying.queue.try_send(bills).map_err(|e| e.into_inner()).err(),
                None => Some(bills),
            };
            for (ticket, _) in full.into_iter().flatten() {
                self.underway.ended(ticket, Err(NotPaid::QueueFull));
                not_paid.push(ticket);
            }
        }
        not_paid
    }

    /// The invoice of this purchase is for somebody else to pay.
    pub(crate) fn hand_out(&mut self, ticket: Ticket, asker: Sender<Result<Bill, String>>) {
        self.handed_out.insert(ticket, asker);
    }

    /// What was paid by somebody else is shown to its node.
    pub(crate) fn redeem(&mut self, ticket: Ticket, redeemer: Redeemer) {
        self.redeemed.insert(ticket, redeemer);
    }

    /// What the node pays with may spend; `None`: there is nothing.
    pub(crate) fn spending(&self) -> Option<Arc<Spending>> {
        self.paying.as_ref().map(|paying| paying.spending.clone())
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
    pub(crate) fn credited(&mut self, ticket: Ticket, bytes: u64, left: u64) {
        if let Some(redeemer) = self.redeemed.remove(&ticket) {
            let _ = redeemer.try_send(Ok((bytes, left)));
        }
        let (hash, paying) = (self.underway.credited(ticket, bytes), &self.paying);
        if let (Some(hash), Some(Paying { spending, .. })) = (hash, paying) {
            let spending = spending.clone();
            smol::unblock(move || spending.credited(&hash, bytes)).detach();
        }
    }

    /// A purchase has ended without.
    pub(crate) fn failed(&mut self, ticket: Ticket, cause: Cause) {
        if let Some(asker) = self.handed_out.remove(&ticket) {
            let _ = asker.try_send(Err(cause.to_string()));
        }
        if let Some(redeemer) = self.redeemed.remove(&ticket) {
            let _ = redeemer.try_send(Err(cause.to_string()));
        }
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

/// Pays the invoice that is hardest to pay, and gives the others back if that is done; else none of
/// them is paid.
async fn pay_hardest<F: Future<Output = bool>>(
    payer: &Payer,
    bills: Vec<(Ticket, Bill)>,
    tell: impl Fn(Ticket, Ended) -> F + Send,
) -> Vec<(Ticket, Bill)> {
    let ordered = payer.clone();
    let (why, rest) = match smol::unblock(move || ordered.hardest_first(bills)).await {
        Ok(mut bills) if !bills.is_empty() => {
            let (ticket, bill) = bills.remove(0);
            let payer = payer.clone();
            let ended = smol::unblock(move || payer.pay(&bill)).await;
            let is_paid = matches!(ended, Ok((_, Outcome::Paid { .. })));
            tell(ticket, ended).await;
            if is_paid {
                return bills;
            }
            (NotPaid::Together, bills)
        }
        Ok(_) => return Vec::new(),
        Err(refused) => refused,
    };
    for (ticket, _) in rest {
        tell(ticket, Err(why.clone())).await;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
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
}
