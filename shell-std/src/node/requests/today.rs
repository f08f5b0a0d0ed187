//! What was earned and paid since midnight, without reading the whole day's ledger again each time.

use crate::rpc::types::{GetLedger, Ledger, LedgerKind, Role, Today};
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds of a day.
const DAY_S: u64 = 86_400;
/// What was accepted longer ago than this, in seconds, is in the ledger.
const SETTLED_S: u64 = 60;

/// The sums of a day so far.
#[derive(Debug, Clone, Default)]
pub(super) struct DaySums(Arc<Mutex<Summed>>);

#[derive(Debug, Default)]
struct Summed {
    today: Today,
    /// What was accepted before this is in the sums, in seconds since 1970.
    until: u64,
}

impl DaySums {
    /// The payments of the day of this time, in seconds since 1970. It blocks. Each payment is read
    /// once; two who ask at the same time wait for one another.
    pub(super) fn look(
        &self,
        ledger: impl Fn(&GetLedger) -> Result<Ledger, String>,
        unix: u64,
    ) -> Result<Today, String> {
        let mut summed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = unix - unix % DAY_S;
        if summed.today.since != since {
            *summed = Summed { today: Today { since, ..Today::default() }, until: since };
        }
        let ask = |kind, since, until| {
            let (since, kind) = (Some(since), Some(kind));
            ledger(&GetLedger { since, until, kind, limit: 0, ..GetLedger::default() })
        };
        let income = [LedgerKind::Payments, LedgerKind::Sales];
        let settled = unix.saturating_sub(SETTLED_S);
        if settled > summed.until {
            let mut today = summed.today;
            for kind in income {
                add(&mut today, &ask(kind, summed.until, Some(settled))?);
            }
            (summed.today, summed.until) = (today, settled);
        }
        let mut today = summed.today;
        for kind in income {
            add(&mut today, &ask(kind, summed.until, None)?);
        }
        // They are few, and what they cost may turn out later.
        add(&mut today, &ask(LedgerKind::Purchases, since, None)?);
        Ok(today)
    }
}

fn add(today: &mut Today, ledger: &Ledger) {
    let mut count = |earned: bool, payments: u64, msat: u64| {
        let (count, sum) = match earned {
            true => (&mut today.payments, &mut today.earned_msat),
            false => (&mut today.paid, &mut today.paid_msat),
        };
        *count = count.saturating_add(payments);
        *sum = sum.saturating_add(msat);
    };
    for (role, total) in &ledger.totals {
        match role {
            Role::Source => count(false, total.payments, total.amount_msat),
            Role::Intermediate | Role::Destination => {
                count(true, total.payments, total.share_msat);
            }
        }
    }
    count(true, ledger.sold.sales, ledger.sold.amount_msat);
    let (bought, fee_msat) = (&ledger.bought, ledger.bought.fee_msat);
    count(false, bought.purchases, bought.amount_msat.saturating_add(fee_msat));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::types::{Bought, LedgerTotal, Sold};

    /// A payment each second from 1970 on, up to this time; sales and purchases each minute.
    struct EachSecond {
        now: u64,
        /// Payments that were read.
        read: Mutex<u64>,
    }

    impl EachSecond {
        fn ledger(&self, query: &GetLedger) -> Result<Ledger, String> {
            let end = query.until.unwrap_or(u64::MAX).min(self.now + 1);
            let seconds = end.saturating_sub(query.since.unwrap());
            let mut ledger = Ledger::default();
            match query.kind.unwrap() {
                LedgerKind::Payments => {
                    *self.read.lock().unwrap() += seconds;
                    for (role, share_msat) in [(Role::Source, 0), (Role::Intermediate, 3)] {
                        let share_msat = share_msat * seconds;
                        let (payments, amount_msat) = (seconds, 10 * seconds);
                        let total = LedgerTotal { payments, amount_msat, share_msat };
                        ledger.totals.insert(role, total);
                    }
                }
                LedgerKind::Sales => ledger.sold = Sold { sales: seconds, amount_msat: seconds },
                LedgerKind::Purchases => {
                    ledger.bought = Bought { purchases: 1, amount_msat: 5, fee_msat: 1, bytes: 0 };
                }
            }
            Ok(ledger)
        }
    }

    #[test]
    fn each_payment_of_a_day_counts_once_and_is_read_once_when_it_is_settled() {
        let sums = DaySums::default();
        let look = |now| {
            let ledger = EachSecond { now, read: Mutex::new(0) };
            let today = sums.look(|query| ledger.ledger(query), now).unwrap();
            (today, ledger.read.into_inner().unwrap())
        };
        let noon = 20_000 * DAY_S + DAY_S / 2;
        for (now, reads) in [(noon, DAY_S / 2), (noon + 2, 60), (noon + 500, 560), (noon + 499, 60)]
        {
            let (today, read) = look(now);
            let seconds = now % DAY_S + 1;
            assert_eq!(today.since, 20_000 * DAY_S);
            assert_eq!((today.payments, today.earned_msat), (2 * seconds, 4 * seconds));
            assert_eq!((today.paid, today.paid_msat), (seconds + 1, 10 * seconds + 6));
            assert!(read <= reads + 4, "{read} at {now}");
        }
        let (tomorrow, _) = look(20_001 * DAY_S + 9);
        assert_eq!((tomorrow.since, tomorrow.payments), (20_001 * DAY_S, 20));
    }

    #[test]
    fn a_ledger_that_cannot_be_read_counts_nothing_twice() {
        let (sums, calls) = (DaySums::default(), Mutex::new(0));
        let ledger = |query: &GetLedger| {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            if *calls == 2 {
                return Err("broken".to_owned());
            }
            let sold = Sold { sales: 1, amount_msat: 1 };
            let sold = if query.until.is_some() { sold } else { Sold::default() };
            Ok(Ledger { sold, ..Ledger::default() })
        };
        assert_eq!(sums.look(ledger, 10_000), Err("broken".into()));
        assert_eq!(sums.look(ledger, 10_000).unwrap().payments, 2, "one for each kind");
    }
}
