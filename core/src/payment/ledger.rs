//! What was earned, and what must never be forgotten: the records that a node
//! keeps over a restart.
//!
//! A payment is one record: its replay key and what it earned are written
//! together or not at all.

use super::fee::Party;
use super::replay::PaidPacket;
use crate::flow::accounts::Account;
use crate::id::{HopId, NodeId};

/// How a payment was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Method {
    /// A Lightning invoice and its preimage.
    Lightning = 1,
    /// A BIP 119 template.
    Covenant = 2,
}

/// One accepted payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Payment {
    /// Replay key: for Lightning the payment hash.
    pub key: [u8; 32],
    /// How it was made.
    pub method: Method,
    /// What this node was on the route.
    pub role: Party,
    /// Who paid.
    pub source: NodeId,
    /// Where the packet went.
    pub destination: NodeId,
    /// The whole amount, in millisatoshi.
    pub amount_msat: u64,
    /// This node's share, in millisatoshi.
    pub share_msat: u64,
    /// When it was accepted, in seconds since 1970.
    pub accepted_at: u64,
    /// When it can be forgotten, in seconds since 1970.
    pub expires_at: u64,
    /// The packet that it was used for, as far as it is [kept](PaidPacket::kept).
    #[cfg_attr(feature = "serde", serde(skip))]
    pub packet: PaidPacket,
}

/// A record that a node keeps over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(clippy::large_enum_variant)]
pub enum Record {
    /// A payment was accepted.
    Payment(Payment),
    /// Payments that expired at or before this time (seconds since 1970) are
    /// forgotten, and refused for ever, wherever the clock may jump.
    Floor(u64),
    /// The store of this node was lost, and with it what it had accepted: payments dated
    /// at or before this time (seconds since 1970) are refused. `None` until the node has
    /// learned the time; it then writes the record anew.
    StoreLost(Option<u64>),
    /// What a source has at this node.
    Account(AccountState),
    /// A source has paid for bytes of its flows.
    Credit(Credit),
    /// Tickets are issued in the run with this number, which is higher than those before.
    Run(u32),
    /// A proof that several nodes share has paid for bytes of a source's flows.
    Deposit(Deposit),
}

/// The account of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct AccountState {
    /// Whose it is.
    pub source: NodeId,
    /// What it holds.
    pub account: Account,
}

/// A paid ticket, and the account that it was credited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Credit {
    /// Payment hash of the ticket's invoice.
    pub payment_hash: [u8; 32],
    /// Run in which the ticket was issued.
    pub run: u32,
    /// When, in seconds since that run began.
    pub issued: u32,
    /// What was paid, in millisatoshi.
    pub amount_msat: u64,
    /// When the ticket was taken, in seconds since 1970; 0 if that was not known.
    pub accepted_at: u64,
    /// Who has paid.
    pub source: NodeId,
    /// The account of the source from then on.
    pub account: Account,
}

/// This node's part of a payment that several nodes share, and the account that it was credited
/// to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Deposit {
    /// The payment: its source stands for the account, and in the place of its destination too, and
    /// its amount is this node's share.
    pub payment: Payment,
    /// The account from then on.
    pub account: Account,
}

impl Deposit {
    /// The account alone.
    pub fn account(&self) -> AccountState {
        AccountState { source: self.payment.source, account: self.account }
    }
}

/// Bytes of an encoded [`Record`].
pub const RECORD_LEN: usize = 132;

impl Record {
    /// The record in a fixed, versioned form.
    pub fn encode(&self) -> [u8; RECORD_LEN] {
        let mut out = [0; RECORD_LEN];
        let mut put = Put { out: &mut out, at: 0 };
        match self {
            Self::Floor(unix) => put.bytes(&[1, 0, 0, 0]).bytes(&unix.to_le_bytes()),
            Self::StoreLost(before) => {
                let known = u8::from(before.is_some());
                put.bytes(&[3, known, 0, 0]).bytes(&before.unwrap_or_default().to_le_bytes())
            }
            Self::Account(AccountState { source, account }) => {
                put.bytes(&[4, 0, 0, 0]).bytes(&source.0).account(account)
            }
            Self::Credit(c) => put
                .bytes(&[5, 0, 0, 0])
                .bytes(&c.source.0)
                .account(&c.account)
                .bytes(&c.payment_hash)
                .bytes(&c.run.to_le_bytes())
                .bytes(&c.issued.to_le_bytes())
                .bytes(&c.amount_msat.to_le_bytes())
                .bytes(&c.accepted_at.to_le_bytes()),
            Self::Run(run) => put.bytes(&[6, 0, 0, 0]).bytes(&run.to_le_bytes()),
            Self::Payment(p) => {
                put.payment(2, p);
                put.bytes(&p.destination.0).bytes(&p.amount_msat.to_le_bytes()).end(p)
            }
            #[cfg(not(feature = "alloc"))]
            Self::Deposit(_) => &mut put,
            #[cfg(feature = "alloc")]
            Self::Deposit(d) => {
                put.payment(7, &d.payment);
                put.account(&d.account).end(&d.payment)
            }
        };
        out
    }

    /// Reads an encoded record; `None` if it is not one.
    pub fn decode(bytes: &[u8; RECORD_LEN]) -> Option<Self> {
        let ([kind, method, role, index], rest) = bytes.split_first_chunk::<4>()?;
        if matches!(*kind, 1 | 3) {
            let (unix, zeros) = rest.split_first_chunk::<8>()?;
            let unix = u64::from_le_bytes(*unix);
            let clean = [*role, *index] == [0; 2] && zeros.iter().all(|b| *b == 0);
            return match (*kind, *method, unix) {
                (1, 0, _) if clean => Some(Self::Floor(unix)),
                (3, 1, _) if clean => Some(Self::StoreLost(Some(unix))),
                (3, 0, 0) if clean => Some(Self::StoreLost(None)),
                _ => None,
            };
        }
        if matches!(*kind, 4..=6) {
            let clean = [*method, *role, *index] == [0; 3];
            return decode_flows(*kind, rest).filter(|_| clean);
        }
        // Boards write none of the last kind.
        if !(*kind == 2 || (cfg!(feature = "alloc") && *kind == 7)) {
            return None;
        }
        let method = match method {
            1 => Method::Lightning,
            2 => Method::Covenant,
            _ => return None,
        };
        let role = match (role, index) {
            (0, 0) => Party::Source,
            (1, i) => Party::Intermediate(*i),
            (2, 0) => Party::Destination,
            _ => return None,
        };
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let (source, rest) = rest.split_first_chunk::<32>()?;
        let (account, destination, rest) = match kind {
            7 if cfg!(feature = "alloc") => {
                let (account, rest) = rest.split_first_chunk::<40>()?;
                (Some(decode_account(account)?), source, rest)
            }
            _ => {
                let (destination, rest) = rest.split_first_chunk::<32>()?;
                (None, destination, rest)
            }
        };
        let (numbers, _) = rest.as_chunks::<8>();
        let (amount, [share, accepted, expires]) = match (account, numbers) {
            (None, [amount, rest @ ..]) => (amount, rest.first_chunk()?),
            (Some(_), rest) => (rest.first()?, rest.first_chunk()?),
            _ => return None,
        };
        let (accepted_at, low) = split(accepted);
        let (expires_at, high) = split(expires);
        let payment = Payment {
            key: *key,
            method,
            role,
            source: NodeId(*source),
            destination: NodeId(*destination),
            amount_msat: u64::from_le_bytes(*amount),
            share_msat: u64::from_le_bytes(*share),
            accepted_at,
            expires_at,
            packet: PaidPacket(low | high << HALF_BITS),
        };
        Some(match account {
            None => Self::Payment(payment),
            Some(account) => Self::Deposit(Deposit { payment, account }),
        })
    }
}

/// Latest time that a record can hold, in seconds since 1970: 40 bits. A payment that
/// expires later is kept until then.
pub const LATEST: u64 = (1 << 40) - 1;
/// Half of what is kept of a packet's fingerprint stands above each of two times.
const HALF_BITS: u32 = 24;

fn time_and_half(unix: u64, half: u64) -> [u8; 8] {
    (unix.min(LATEST) | half << (64 - HALF_BITS)).to_le_bytes()
}

fn split(bytes: &[u8; 8]) -> (u64, u64) {
    let both = u64::from_le_bytes(*bytes);
    (both & LATEST, both >> (64 - HALF_BITS))
}

/// A record about flows, without its first four bytes.
fn decode_flows(kind: u8, rest: &[u8]) -> Option<Record> {
    let (record, rest) = match kind {
        6 => {
            let (run, rest) = rest.split_first_chunk()?;
            (Record::Run(u32::from_le_bytes(*run)), rest)
        }
        _ => {
            let (source, rest) = rest.split_first_chunk::<32>()?;
            let (account, rest) = rest.split_first_chunk::<40>()?;
            let (source, account) = (NodeId(*source), decode_account(account)?);
            if kind == 4 {
                (Record::Account(AccountState { source, account }), rest)
            } else {
                let (payment_hash, rest) = rest.split_first_chunk::<32>()?;
                let (run, rest) = rest.split_first_chunk()?;
                let (issued, rest) = rest.split_first_chunk()?;
                let (amount_msat, rest) = rest.split_first_chunk()?;
                let (accepted_at, rest) = rest.split_first_chunk()?;
                let credit = Credit {
                    payment_hash: *payment_hash,
                    run: u32::from_le_bytes(*run),
                    issued: u32::from_le_bytes(*issued),
                    amount_msat: u64::from_le_bytes(*amount_msat),
                    accepted_at: u64::from_le_bytes(*accepted_at),
                    source,
                    account,
                };
                (Record::Credit(credit), rest)
            }
        }
    };
    rest.iter().all(|byte| *byte == 0).then_some(record)
}

fn decode_account(bytes: &[u8; 40]) -> Option<Account> {
    let (fields, _) = bytes.as_chunks::<8>();
    let [bought, drawn, open_number, open_from, ends] = fields else { return None };
    let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let open_from = HopId(*open_from);
    Some(Account::restored(
        number(bought),
        number(drawn),
        number(open_number),
        open_from,
        number(ends),
    ))
}

struct Put<'a> {
    out: &'a mut [u8; RECORD_LEN],
    at: usize,
}

impl Put<'_> {
    #[inline(never)]
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.at + bytes.len();
        if let Some(room) = self.out.get_mut(self.at..end) {
            room.copy_from_slice(bytes);
        }
        self.at = end;
        self
    }

    /// How a payment's record begins.
    fn payment(&mut self, kind: u8, p: &Payment) {
        let (role, index) = match p.role {
            Party::Source => (0, 0),
            Party::Intermediate(i) => (1, i),
            Party::Destination => (2, 0),
        };
        self.bytes(&[kind, p.method as u8, role, index]).bytes(&p.key).bytes(&p.source.0);
    }

    /// How it ends.
    fn end(&mut self, p: &Payment) -> &mut Self {
        self.bytes(&p.share_msat.to_le_bytes())
            .bytes(&time_and_half(p.accepted_at, p.packet.kept().0))
            .bytes(&time_and_half(p.expires_at, p.packet.kept().0 >> HALF_BITS))
    }

    fn account(&mut self, account: &Account) -> &mut Self {
        let Account { bought, drawn, open_number, open_from, ends, .. } = account;
        self.bytes(&bought.to_le_bytes())
            .bytes(&drawn.to_le_bytes())
            .bytes(&open_number.to_le_bytes())
            .bytes(&open_from.0)
            .bytes(&ends.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(covenant: bool, role in 0u8..18, ids: [[u8; 32]; 3], n: [u64; 5]) {
            let role = match role { 0 => Party::Source, 17 => Party::Destination, i => Party::Intermediate(i - 1) };
            let p = Payment {
                key: ids[0], method: if covenant { Method::Covenant } else { Method::Lightning }, role,
                source: NodeId(ids[1]), destination: NodeId(ids[2]),
                amount_msat: n[0], share_msat: n[1], accepted_at: n[2] & LATEST, expires_at: n[3] & LATEST,
                packet: PaidPacket(n[4]).kept(),
            };
            let lost = [Record::StoreLost(None), Record::StoreLost(Some(n[1]))];
            let account = Account::restored(n[0], n[1], n[2], HopId(n[3].to_le_bytes()), n[4]);
            let (source, run, issued) = (NodeId(ids[1]), n[0] as u32, n[1] as u32);
            let flows = [
                Record::Account(AccountState { source, account }),
                Record::Credit(Credit { payment_hash: ids[0], run, issued, amount_msat: n[2], accepted_at: n[3], source, account }),
                Record::Run(run),
            ];
            let shared = Payment { destination: p.source, amount_msat: p.share_msat, ..p };
            let shared = Deposit { payment: shared, account: Account::restored(n[0], n[1], n[2], HopId(n[3].to_le_bytes()), n[4]) };
            let shared = cfg!(feature = "alloc").then_some(Record::Deposit(shared));
            for r in [Record::Payment(p), Record::Floor(n[0])].into_iter().chain(shared).chain(lost).chain(flows) {
                prop_assert_eq!(Record::decode(&r.encode()), Some(r));
            }
        }

        #[test]
        fn what_is_read_is_what_would_be_written(bytes in prop::collection::vec(any::<u8>(), RECORD_LEN), kind in 0u8..8, small: [u8; 3], plain: bool) {
            let mut b: [u8; RECORD_LEN] = bytes.try_into().unwrap();
            b[0] = kind;
            for (b, s) in b[1..4].iter_mut().zip(small) { *b = s % 3; }
            if plain { b[12..].fill(0); }
            if let Some(r) = Record::decode(&b) {
                prop_assert_eq!(r.encode(), b);
            }
        }
    }
}
