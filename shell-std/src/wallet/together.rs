//! Invoices of one route: the one that is hardest to pay is paid first, so that nothing is spent on a
//! route of which one node cannot be paid.

use super::{Bill, NotPaid, Payer, Reach};

/// Bills, each with what it is known by.
type Bills<T> = Vec<(T, Bill)>;

impl Payer {
    /// Asks whether all of these may be paid, and puts the one first that is hardest to pay, as far as
    /// the wallet can tell: one to which it knows no way, then by the fee, then by the amount. It may
    /// block for some seconds, and pays nothing.
    ///
    /// # Errors
    /// [`NotPaid`]: the budget is not enough for all of them.
    pub fn hardest_first<T>(&self, mut bills: Bills<T>) -> Result<Bills<T>, (NotPaid, Bills<T>)> {
        if bills.len() < 2 {
            return Ok(bills);
        }
        let amounts: Vec<_> =
            bills.iter().map(|(_, bill)| (bill.node.hop(), bill.amount_msat)).collect();
        if let Some(why) = self.spending.foresee(&amounts).refused {
            return Err((why, bills));
        }
        let hard = |bill: &Bill| {
            let reach = self.wallet.reach(bill, self.spending.max_fee_msat(bill.amount_msat));
            let (rank, fee) = match reach {
                Reach::NoRoute => (1, 0),
                Reach::Route { fee_msat } => (0, fee_msat),
                Reach::Unknown => (0, 0),
            };
            (rank, fee, bill.amount_msat)
        };
        bills.sort_by_cached_key(|(_, bill)| std::cmp::Reverse(hard(bill)));
        Ok(bills)
    }
}
