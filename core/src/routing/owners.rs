//! Who owns which allowances: kept by identity, so that reconnecting brings no new ones.
//!
//! An own neighbour has its own allowances; strangers of one address prefix share theirs. An
//! owner that left is forgotten only once all of its allowances are whole again, so that nothing
//! is gained by being forgotten. If no place is free, newcomers share one.

use super::bad_payments::BadPayments;
use crate::config::Allowance;
use crate::config::fixed::OWNERS;
use crate::id::{NodeId, Standing};
use crate::policy::allowance::Shared;
use crate::tables::{List, Memory};
use crate::time::Micros;

/// All free bytes.
pub const WHOLE: usize = 0;
/// Free bytes without work behind them.
pub const PLAIN: usize = 1;
/// Free bytes of commands that are seldom sent.
pub const RARE: usize = 2;
/// Work for control packets, in bytes or their equivalent.
pub const CONTROL: usize = 3;
/// Searches through the whole mesh.
pub const WIDE: usize = 4;
/// How many kinds there are.
pub const KINDS: usize = 5;

/// Who has allowances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Node(NodeId),
    Prefix(u64),
    /// Everybody for whom no place was free.
    Anybody,
}

struct Account<M: Memory> {
    owner: Owner,
    /// Neighbours that use it now.
    links: usize,
    allowances: Shared<M, KINDS>,
    /// Its allowance of bad payments.
    bad_payments: BadPayments,
}

/// All allowances.
pub struct Owners<M: Memory> {
    accounts: M::List<Account<M>, OWNERS>,
    shares: usize,
}

impl<M: Memory> Owners<M> {
    /// No owners, and no capacity.
    pub const EMPTY: Self = Self { accounts: M::List::EMPTY, shares: 0 };

    /// Makes room for so many owners, each with so many that share.
    pub fn set_capacity(&mut self, owners: usize, shares: usize) {
        self.accounts.set_capacity(owners);
        self.shares = shares;
    }

    /// A neighbour comes. Returns the place of its allowances; `new` sets up those that were not
    /// known, with `bad` for bad payments.
    pub fn enter(
        &mut self,
        node: NodeId,
        standing: Standing,
        bad: Allowance,
        now: Micros,
        new: impl FnOnce(&mut Shared<M, KINDS>, &mut BadPayments),
    ) -> usize {
        let owner = match standing {
            Standing::Own => Owner::Node(node),
            Standing::Stranger { prefix } => Owner::Prefix(prefix),
        };
        let known = |owner| self.accounts.iter().position(move |a| a.owner == owner);
        let forgettable = |a: &Account<M>| {
            a.links == 0 && a.allowances.is_whole(now) && a.bad_payments.is_whole(bad, now)
        };
        if let Some(at) = known(owner) {
            return self.count(at);
        }
        if let Some(at) = self.accounts.iter().position(forgettable) {
            if let Some(account) = self.accounts.get_mut(at) {
                account.owner = owner;
                new(&mut account.allowances, &mut account.bad_payments);
            }
            return self.count(at);
        }
        // The last place is shared by all.
        let last = self.accounts.capacity().saturating_sub(1);
        let owner = if self.accounts.len() < last { owner } else { Owner::Anybody };
        if let Some(at) = known(owner) {
            return self.count(at);
        }
        let (mut allowances, mut bad_payments) = (Shared::new(self.shares), BadPayments::WHOLE);
        new(&mut allowances, &mut bad_payments);
        let _ = self.accounts.try_push(Account { owner, links: 0, allowances, bad_payments });
        self.count(self.accounts.len().saturating_sub(1))
    }

    fn count(&mut self, at: usize) -> usize {
        if let Some(account) = self.accounts.get_mut(at) {
            account.links = account.links.saturating_add(1);
        }
        at
    }

    /// A neighbour with allowances at this place is gone.
    pub fn leave(&mut self, place: usize) {
        if let Some(account) = self.accounts.get_mut(place) {
            account.links = account.links.saturating_sub(1);
        }
    }

    /// The allowances at a place.
    pub fn get(&self, place: usize) -> Option<&Shared<M, KINDS>> {
        self.accounts.get(place).map(|a| &a.allowances)
    }

    /// The same, to charge.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut Shared<M, KINDS>> {
        self.accounts.get_mut(place).map(|a| &mut a.allowances)
    }

    /// The allowance of bad payments at a place.
    pub fn bad_payments(&self, place: usize) -> Option<&BadPayments> {
        self.accounts.get(place).map(|a| &a.bad_payments)
    }

    /// The same, to charge.
    pub fn bad_payments_mut(&mut self, place: usize) -> Option<&mut BadPayments> {
        self.accounts.get_mut(place).map(|a| &mut a.bad_payments)
    }

    /// Neighbours that share the allowances at a place.
    pub fn links(&self, place: usize) -> usize {
        self.accounts.get(place).map_or(0, |a| a.links)
    }

    /// How many owners are remembered.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;

    const LIMIT: Allowance = Allowance { rate: 1_000, burst: 5_000 };
    const SECOND: Micros = 1_000_000;

    fn owners(capacity: usize) -> Owners<Fixed> {
        let mut owners = Owners::EMPTY;
        owners.set_capacity(capacity, 2);
        owners
    }

    fn enter(o: &mut Owners<Fixed>, n: u8, standing: Standing, now: Micros) -> usize {
        o.enter(NodeId([n; 32]), standing, LIMIT, now, |_, _| {})
    }

    fn take(o: &mut Owners<Fixed>, place: usize, amount: u64, now: Micros) -> bool {
        o.get_mut(place).unwrap().try_take(WHOLE, LIMIT, 1, amount, now)
    }

    #[test]
    fn coming_again_renews_nothing() {
        let mut o = owners(4);
        let at = enter(&mut o, 1, Standing::Own, 0);
        assert!(take(&mut o, at, 5_000, 0));
        o.leave(at);
        let again = enter(&mut o, 1, Standing::Own, SECOND);
        assert!(take(&mut o, again, 1_000, SECOND) && !take(&mut o, again, 1, SECOND));
    }

    #[test]
    fn strangers_of_one_prefix_have_allowances_in_common() {
        let mut o = owners(8);
        let stranger = |prefix| Standing::Stranger { prefix };
        let [a, b] = [1, 2].map(|n| enter(&mut o, n, stranger(7), 0));
        let c = enter(&mut o, 3, stranger(8), 0);
        let own = enter(&mut o, 1, Standing::Own, 0);
        assert!(a == b && a != c && a != own);
        assert_eq!((o.links(a), o.links(c)), (2, 1));
        assert!(take(&mut o, a, 5_000, 0) && !take(&mut o, b, 1, 0) && take(&mut o, c, 1, 0));
    }

    #[test]
    fn in_a_full_table_nothing_spent_is_forgotten() {
        let mut o = owners(4);
        let places: std::vec::Vec<usize> = (0..50)
            .map(|n| {
                let at = enter(&mut o, n, Standing::Own, 0);
                take(&mut o, at, 5_000, 0);
                o.leave(at);
                at
            })
            .collect();
        assert_eq!((o.len(), places[0], places[49]), (4, 0, 3));
        assert!(places[3..].iter().all(|at| *at == 3), "newcomers have the last in common");
        let first = enter(&mut o, 0, Standing::Own, SECOND);
        assert!(!take(&mut o, first, 5_000, SECOND), "the first is not forgotten");
        let late = enter(&mut o, 99, Standing::Own, 5 * SECOND);
        assert!(late != 0 && late != 3 && take(&mut o, late, 5_000, 5 * SECOND));
    }
}
