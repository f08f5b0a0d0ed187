//! Which records of a ring still count: the newest of some kinds and of each account, and paid
//! tickets that somebody could show again.
//!
//! What a ring takes over from its oldest page lies behind records that were written later. The
//! order of an account's records is kept all the same: of an account only the newest is taken
//! over, and a ticket that is no longer that leaves its account behind.

use super::ring::Place;
use blvm_mesh_core::config::fixed::{ACCOUNTS, TICKETS};
use blvm_mesh_core::flow::accounts::Account;
use blvm_mesh_core::flow::tickets::LIFETIME_S;
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::payment::ledger::{AccountState, Credit, Record};
use heapless::Vec;

/// A part of the records, in the order in which the state machine is given them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Payments,
    Tickets,
    /// Behind the tickets, whose accounts may be old.
    Accounts,
}

/// A ticket that was paid.
#[derive(Debug, Clone, Copy)]
struct Paid {
    run: u32,
    issued: u32,
    place: Place,
}

impl Paid {
    /// Whether a ticket had expired when this one was issued.
    fn outlived(&self, old: &Self) -> bool {
        match self.run.checked_sub(old.run) {
            None => false,
            Some(0) => old.issued.saturating_add(LIFETIME_S) <= self.issued,
            Some(1) => self.issued >= LIFETIME_S,
            Some(_) => true,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Newest {
    pub(super) floor: Option<u64>,
    pub(super) lost: Option<Option<u64>>,
    pub(super) run: Option<u32>,
    /// Where the newest record of each account is.
    accounts: Vec<(HopId, Place), ACCOUNTS>,
    tickets: Vec<Paid, TICKETS>,
}

impl Newest {
    /// Whether nothing was noted but payments.
    pub(super) fn is_empty(&self) -> bool {
        let Self { floor, lost, run, accounts, tickets } = self;
        let newest = floor.is_none() && lost.is_none() && run.is_none();
        newest && accounts.is_empty() && tickets.is_empty()
    }

    /// Whether a record is not of one account too many: the state machine has no more.
    pub(super) fn has_room_for(&self, record: &Record) -> bool {
        let known = |state: AccountState| self.account(&state.source).is_some();
        !self.accounts.is_full() || account_of(record).is_none_or(known)
    }

    fn account(&self, source: &NodeId) -> Option<usize> {
        self.accounts.iter().position(|(hop, _)| *hop == source.hop())
    }

    /// A record is the newest now.
    pub(super) fn note(&mut self, record: &Record, place: Place) {
        match record {
            Record::Floor(unix) => self.floor = Some(*unix),
            Record::StoreLost(before) => self.lost = Some(*before),
            Record::Run(run) => self.run = Some(*run),
            // Boards take no proofs for accounts.
            Record::Payment(_) | Record::Account(_) | Record::Deposit(_) => {}
            Record::Credit(Credit { run, issued, .. }) => {
                self.note_ticket(Paid { run: *run, issued: *issued, place });
            }
        }
        let Some(AccountState { source, account }) = account_of(record) else { return };
        if let Some(at) = self.account(&source) {
            self.accounts.swap_remove(at);
        }
        if account != Account::default() {
            // There is room: see `has_room_for`.
            let _ = self.accounts.push((source.hop(), place));
        }
    }

    fn note_ticket(&mut self, paid: Paid) {
        self.tickets.retain(|old| !paid.outlived(old));
        // It was taken while the state machine had room: of more, the oldest had expired.
        let oldest = self.tickets.iter().enumerate().min_by_key(|(_, t)| (t.run, t.issued));
        if let (true, Some((at, _))) = (self.tickets.is_full(), oldest) {
            self.tickets.swap_remove(at);
        }
        let _ = self.tickets.push(paid);
    }

    /// Whether a record is given to the state machine with this part; what is of it.
    pub(super) fn give(&self, part: Part, record: &mut Record, place: Place) -> bool {
        match (part, &*record) {
            (Part::Payments, Record::Payment(payment)) => self.is_live(payment.expires_at),
            (Part::Tickets, Record::Credit(_)) => {
                strip(record, false, true);
                self.tickets.iter().any(|paid| paid.place == place)
            }
            (Part::Accounts, Record::Account(_) | Record::Credit(_)) => {
                strip(record, true, false);
                self.accounts.iter().any(|(_, newest)| *newest == place)
            }
            _ => false,
        }
    }

    fn is_live(&self, expires_at: u64) -> bool {
        expires_at > self.floor.unwrap_or(0)
    }

    /// Whether a record is still wanted, which then moves to another place; what is of it.
    pub(super) fn keep(&mut self, record: &mut Record, from: Place, to: Place) -> bool {
        match record {
            Record::Floor(unix) => self.floor == Some(*unix),
            Record::StoreLost(before) => self.lost == Some(*before),
            Record::Run(run) => self.run == Some(*run),
            Record::Payment(payment) => self.is_live(payment.expires_at),
            Record::Deposit(_) => false,
            Record::Account(_) | Record::Credit(_) => {
                let accounts = self.accounts.iter_mut().map(|(_, place)| place);
                let account = moved(accounts, from, to);
                let ticket = moved(self.tickets.iter_mut().map(|t| &mut t.place), from, to);
                strip(record, account, ticket);
                account || ticket
            }
        }
    }
}

/// Whether one of the places is this one, which becomes another.
fn moved<'a>(mut places: impl Iterator<Item = &'a mut Place>, from: Place, to: Place) -> bool {
    let found = places.find(|place| **place == from);
    found.map(|place| *place = to).is_some()
}

/// Leaves only the account or only the ticket of a credit, if the other is not wanted.
fn strip(record: &mut Record, account: bool, ticket: bool) {
    let Record::Credit(credit) = record else { return };
    match (account, ticket) {
        (false, true) => credit.account = Account::default(),
        (true, false) => {
            let Credit { source, account, .. } = *credit;
            *record = Record::Account(AccountState { source, account });
        }
        _ => {}
    }
}

/// The account that a record is about.
fn account_of(record: &Record) -> Option<AccountState> {
    match record {
        Record::Account(state) => Some(*state),
        Record::Credit(Credit { source, account, .. }) if *account != Account::default() => {
            Some(AccountState { source: *source, account: *account })
        }
        _ => None,
    }
}
