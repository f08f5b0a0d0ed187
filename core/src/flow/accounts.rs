//! Accounts: the bytes that sources have bought at this node.
//!
//! Bytes move from an account to a flow before they are used, and what is left comes back when
//! the flow is closed; what had moved at a crash is lost to the source, at most one reservation a
//! flow. Each change of an account is made durable before what follows from it.

use crate::config::fixed::ACCOUNTS;
#[cfg(feature = "alloc")]
use crate::hash::tagged_parts;
use crate::id::{HopId, NodeId};
use crate::tables::{KeyedMap, List, Map, Memory};

/// What a source has at this node. All of it but `unpaid` and `flows` is kept over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Account {
    /// Bytes bought so far.
    pub bought: u64,
    /// Bytes of them that flows have drawn and not given back.
    pub drawn: u64,
    /// Opens up to this number are refused, but for the latest one from `open_from`.
    pub open_number: u64,
    /// The neighbour from which that Open came; zeros once its flow was closed.
    pub open_from: HopId,
    /// When what is left is forfeited, in seconds since 1970; 0: never.
    pub ends: u64,
    /// Its tickets that are not paid.
    #[cfg_attr(feature = "serde", serde(skip))]
    unpaid: u16,
    /// Its flows.
    #[cfg_attr(feature = "serde", serde(skip))]
    flows: u16,
}

impl Account {
    /// An account with nothing else than what is kept over a restart.
    pub fn restored(
        bought: u64,
        drawn: u64,
        open_number: u64,
        open_from: HopId,
        ends: u64,
    ) -> Self {
        Self { bought, drawn, open_number, open_from, ends, unpaid: 0, flows: 0 }
    }

    /// Bytes that flows may still draw.
    pub fn left(&self) -> u64 {
        self.bought.saturating_sub(self.drawn)
    }

    /// Whether an Open with this number from this neighbour is a new one, or the latest again.
    pub fn takes_open(&self, number: u64, from: HopId) -> bool {
        number > self.open_number || (number == self.open_number && from == self.open_from)
    }

    /// Bytes that flows have drawn on credit, and that are not paid for.
    pub fn owes(&self) -> u64 {
        self.drawn.saturating_sub(self.bought)
    }

    fn is_in_use(&self, unix: Option<u64>) -> bool {
        let ended = self.ends != 0 && unix.is_some_and(|unix| unix >= self.ends);
        self.unpaid > 0 || self.flows > 0 || (self.left() > 0 && !ended) || self.owes() > 0
    }
}

/// Under which name a node keeps what a source has bought there for flows that end at it: that has a
/// price of its own, and does not pay for what is relayed.
#[cfg(feature = "alloc")]
pub fn receiving(source: &NodeId) -> NodeId {
    NodeId(tagged_parts(b"blvm-mesh/receiving", &[&source.0]))
}

/// Most tickets of a source that are not paid.
const UNPAID_PER_SOURCE: u16 = 4;
/// Accounts that are looked at to make room.
const LOOKS: usize = 16;

/// What stands for an account in the order.
type Handle<M> = <<M as Memory>::Map<Account, ACCOUNTS> as Map<Account>>::Handle;

/// The accounts of all sources. Full: one without bytes, tickets or flows, or whose time is over,
/// is forgotten; if none of those looked at is, no ticket is issued to a new source.
pub struct Accounts<M: Memory> {
    accounts: M::Map<Account, ACCOUNTS>,
    /// Whose they are, in the order in which they are looked at to make room, the next first.
    order: M::List<Handle<M>, ACCOUNTS>,
    hand: usize,
}

impl<M: Memory> Accounts<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self { accounts: M::Map::EMPTY, order: M::List::EMPTY, hand: 0 };

    /// Makes room for so many accounts, hashed with a secret.
    pub fn prepare(&mut self, capacity: usize, secret: [u8; 16]) {
        self.accounts.prepare(capacity, secret);
        self.order.set_capacity(capacity);
    }

    /// The account of a source.
    pub fn get(&self, source: &NodeId) -> Option<&Account> {
        self.accounts.get(&source.0)
    }

    fn get_mut(&mut self, source: &NodeId) -> Option<&mut Account> {
        self.accounts.get_mut(&source.0)
    }

    /// Makes room for the account of a source, at the time `unix` in seconds since 1970, if that
    /// is known. `Some`: the account of this other source was forgotten for it, which must be
    /// recorded.
    pub fn make_room(&mut self, source: &NodeId, unix: Option<u64>) -> Option<NodeId> {
        if self.get(source).is_some() {
            return None;
        }
        for _ in 0..LOOKS {
            if !self.order.is_full() {
                return None;
            }
            self.hand = (self.hand + 1).checked_rem(self.order.len())?;
            let other = NodeId(self.accounts.key(*self.order.get(self.hand)?)?);
            if self.get(&other).is_none_or(|account| !account.is_in_use(unix)) {
                self.forget(self.hand);
                return Some(other);
            }
        }
        None
    }

    /// Whether a source has an account or could have one.
    pub fn has_room_for(&self, source: &NodeId) -> bool {
        self.get(source).is_some() || !self.order.is_full()
    }

    /// Takes out the account at a place of the order; the last one moves there.
    fn forget(&mut self, at: usize) {
        let last = self.order.len().saturating_sub(1);
        if at <= last {
            self.order.swap(at, last);
        }
        if let Some(source) = self.order.take(last).and_then(|handle| self.accounts.key(handle)) {
            self.accounts.remove(&source);
        }
    }

    /// The account of a source, a new one if it has none; `None` if there is no
    /// [room](Self::make_room).
    fn open(&mut self, source: &NodeId) -> Option<&mut Account> {
        if self.get(source).is_none() {
            self.accounts.try_insert(source.0, Account::default()).ok()?;
            // It has as much room.
            let _ = self.order.try_push(self.accounts.handle(&source.0)?);
        }
        self.get_mut(source)
    }

    /// Puts back what the store kept, or forgets what it did not keep; false if there is no room.
    pub fn restore(&mut self, source: &NodeId, kept: Account) -> bool {
        if kept == Account::default() {
            // At the start of the node, when time does not matter.
            let is = |handle: &Handle<M>| self.accounts.key(*handle) == Some(source.0);
            if let Some(at) = self.order.iter().position(is) {
                self.forget(at);
            }
            return true;
        }
        let Some(account) = self.open(source) else { return false };
        *account = kept;
        true
    }

    /// Whether a source may have another ticket.
    pub fn may_have_ticket(&self, source: &NodeId) -> bool {
        self.get(source).is_none_or(|account| account.unpaid < UNPAID_PER_SOURCE)
    }

    /// Keeps a place for what a ticket will buy; false if there is no [room](Self::make_room).
    pub fn keep_place(&mut self, source: &NodeId) -> bool {
        let Some(account) = self.open(source) else { return false };
        account.unpaid = account.unpaid.saturating_add(1);
        true
    }

    /// A ticket has expired without being paid.
    pub fn drop_place(&mut self, source: &NodeId) {
        if let Some(account) = self.get_mut(source) {
            account.unpaid = account.unpaid.saturating_sub(1);
        }
    }

    /// A source has paid for bytes; `kept`: its ticket's place was kept in this run. Its account
    /// then; `None` if there is no [room](Self::make_room).
    pub fn credit(
        &mut self,
        source: &NodeId,
        bytes: u64,
        open_number: u64,
        ends: u64,
        kept: bool,
    ) -> Option<Account> {
        let account = self.open(source)?;
        account.bought = account.bought.saturating_add(bytes);
        if open_number > account.open_number {
            account.open_number = open_number;
            account.open_from = HopId::default();
        }
        account.ends = account.ends.max(ends);
        account.unpaid = account.unpaid.saturating_sub(kept.into());
        Some(*account)
    }

    /// A flow was opened by this Open.
    pub fn opened(&mut self, source: &NodeId, number: u64, from: HopId) {
        if let Some(account) = self.get_mut(source) {
            account.open_number = number;
            account.open_from = from;
            account.flows = account.flows.saturating_add(1);
        }
    }

    /// Opens an account for a source that may draw on credit; false if there is no
    /// [room](Self::make_room).
    #[cfg(feature = "alloc")]
    pub fn open_for_credit(&mut self, source: &NodeId) -> bool {
        self.open(source).is_some()
    }

    /// Moves up to `bytes` from an account to a flow, of which `credit` may be owed in all; returns
    /// how many.
    pub fn draw(&mut self, source: &NodeId, bytes: u64, credit: u64) -> u64 {
        let Some(account) = self.get_mut(source) else { return 0 };
        let most = account.bought.saturating_add(credit).saturating_sub(account.drawn);
        let bytes = bytes.min(most);
        account.drawn = account.drawn.saturating_add(bytes);
        bytes
    }

    /// A flow has ended and gives back what it did not use; if it was `closed`, its Open is not
    /// taken again. The account then.
    pub fn end_flow(
        &mut self,
        source: &NodeId,
        unused: u64,
        open_number: u64,
        closed: bool,
    ) -> Option<Account> {
        let account = self.get_mut(source)?;
        account.drawn = account.drawn.saturating_sub(unused);
        account.flows = account.flows.saturating_sub(1);
        if closed && account.open_number == open_number {
            account.open_from = HopId::default();
        }
        Some(*account)
    }

    /// All accounts.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Account)> {
        let sources = self.order.iter().filter_map(|handle| self.accounts.key(*handle));
        sources.filter_map(|source| Some((NodeId(source), self.accounts.get(&source)?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;
    use proptest::prelude::*;

    const A: NodeId = NodeId([1; 32]);

    fn accounts(capacity: usize) -> Accounts<Fixed> {
        let mut accounts = Accounts::EMPTY;
        accounts.prepare(capacity, [1; 16]);
        accounts
    }

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    #[test]
    fn bytes_move_to_flows_and_back() {
        let mut a = accounts(2);
        assert_eq!(a.draw(&A, 1, 0), 0);
        assert!(a.keep_place(&A));
        assert_eq!(a.credit(&A, 1_000, 0, 0, true).unwrap().left(), 1_000);
        a.opened(&A, 1, HopId([2; 8]));
        assert_eq!(a.draw(&A, 600, 0), 600);
        assert_eq!(a.draw(&A, 600, 0), 400);
        assert_eq!(a.draw(&A, 600, 0), 0);
        assert_eq!(a.end_flow(&A, 150, 1, true).unwrap().left(), 150);
        assert_eq!(a.draw(&A, 600, 0), 150);
    }

    #[test]
    fn an_open_is_taken_in_order_or_again_from_where_it_came() {
        let mut a = accounts(2);
        let (x, y) = (HopId([7; 8]), HopId([8; 8]));
        a.credit(&A, 1_000, 5, 0, false);
        let takes = |a: &Accounts<Fixed>, number, from| a.get(&A).unwrap().takes_open(number, from);
        assert!(!takes(&a, 5, x), "an Open of before the payment");
        assert!(takes(&a, 6, x));
        a.opened(&A, 6, x);
        assert!(takes(&a, 6, x) && !takes(&a, 6, y) && !takes(&a, 5, x) && takes(&a, 7, y));
        a.end_flow(&A, 0, 6, false);
        assert!(takes(&a, 6, x), "it may be opened again after it was idle");
        a.end_flow(&A, 0, 6, true);
        assert!(!takes(&a, 6, x), "not after Close");
        a.opened(&A, 7, x);
        a.end_flow(&A, 0, 6, true);
        assert!(takes(&a, 7, x), "an older flow's Close is none of its business");
        a.credit(&A, 1, 7, 0, false);
        assert!(takes(&a, 7, x), "nor is a payment");
    }

    #[test]
    fn a_full_table_forgets_only_what_nobody_misses() {
        let mut a = accounts(4);
        a.credit(&node(1), 10, 0, 0, false);
        a.credit(&node(2), 10, 0, 500, false);
        a.keep_place(&node(3));
        a.credit(&node(4), 10, 0, 0, false);
        a.opened(&node(4), 1, HopId([9; 8]));
        a.draw(&node(4), 10, 0);
        let keep = |a: &mut Accounts<Fixed>, n, unix| {
            let forgotten = a.make_room(&node(n), unix);
            (a.keep_place(&node(n)), forgotten)
        };
        assert_eq!(keep(&mut a, 5, None), (false, None));
        assert_eq!(keep(&mut a, 5, Some(499)), (false, None));
        let forfeited = keep(&mut a, 5, Some(500));
        assert_eq!(forfeited, (true, Some(node(2))), "what was left of 2 is forfeited");
        assert_eq!(keep(&mut a, 6, Some(500)), (false, None));
        a.drop_place(&node(3));
        assert_eq!(keep(&mut a, 6, Some(500)), (true, Some(node(3))));
        assert_eq!(a.make_room(&node(1), Some(500)), None, "it has one");
        a.end_flow(&node(4), 0, 1, true);
        let used_up = keep(&mut a, 7, Some(500));
        assert_eq!(used_up, (true, Some(node(4))), "4 has used everything");
        assert_eq!((a.len(), a.get(&node(4))), (4, None));
    }

    #[test]
    fn what_the_store_forgot_is_no_account() {
        let mut a = accounts(1);
        let kept = Account::restored(9, 3, 1, HopId([1; 8]), 0);
        assert!(a.restore(&A, kept) && !a.restore(&node(2), kept));
        assert!(a.restore(&A, Account::default()) && a.is_empty());
        assert!(a.restore(&node(2), kept));
        assert_eq!(a.get(&node(2)), Some(&kept));
    }

    #[test]
    fn who_has_credit_owes_no_more_than_that_and_pays_it_with_the_next_purchase() {
        let mut a = accounts(1);
        assert_eq!(a.draw(&A, 100, 500), 0, "it has no account");
        assert!(a.open_for_credit(&A));
        assert_eq!(a.draw(&A, 400, 500), 400);
        assert_eq!(a.draw(&A, 400, 500), 100);
        a.opened(&A, 1, HopId([2; 8]));
        assert_eq!((a.end_flow(&A, 50, 1, true).unwrap().owes(), a.draw(&A, 400, 500)), (450, 50));
        assert_eq!(a.draw(&A, 1, 500), 0, "coming again does not help");
        // A debt is not forgotten for anybody, nor when time passes.
        assert_eq!(a.make_room(&node(2), Some(u64::MAX)), None);
        assert!(!a.has_room_for(&node(2)));
        let kept = a.credit(&A, 300, 1, 0, false).unwrap();
        assert_eq!((kept.left(), kept.owes()), (0, 200));
        let mut again = accounts(1);
        assert!(again.restore(&A, kept));
        assert_eq!(again.draw(&A, 1_000, 500), 300);
        assert_eq!(again.credit(&A, 600, 1, 0, false).unwrap().left(), 100);
        assert_eq!(again.draw(&A, 1_000, 0), 100, "without credit what was bought");
    }

    proptest! {
        #[test]
        fn nothing_is_drawn_that_was_not_bought(
            steps in prop::collection::vec((0u8..4, 0u8..3, 0u64..1_000), 0..80),
            credit in 0u64..1_500,
        ) {
            let mut a = accounts(2);
            let mut bought = [0u64; 3];
            let mut held = [0u64; 3];
            for (what, who, bytes) in steps {
                let (source, i) = (node(who), usize::from(who));
                match what {
                    0 if a.credit(&source, bytes, 0, 0, false).is_some() => bought[i] += bytes,
                    1 => held[i] += a.draw(&source, bytes, credit),
                    2 => {
                        let back = bytes.min(held[i]);
                        if a.end_flow(&source, back, 0, true).is_some() {
                            held[i] -= back;
                        }
                    }
                    _ => {}
                }
                prop_assert!(held[i] <= bought[i] + credit);
                if let Some(account) = a.get(&source) {
                    prop_assert!(account.drawn <= account.bought + credit);
                }
            }
        }
    }
}
