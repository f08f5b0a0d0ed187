//! Account messages: how a source buys bytes at a node of its route.
//!
//! They are the payload of a datagram with [`FLAG_ACCOUNT`](super::datagram::FLAG_ACCOUNT), which
//! every relay carries as a control packet. The first byte says which one it is.
//!
//! | size | InvoiceRequest, to the node that is to be paid |
//! |---|---|
//! | 1 | 1 |
//! | 8 | bytes to buy |
//! | 8 | amount offered, in millisatoshi |
//! | 8 | the source's latest Open number |
//! | 33 | public key of the source |
//! | 64 | BIP 340 signature of the source |
//!
//! | size | Invoice, the answer |
//! |---|---|
//! | 1 | 2 |
//! | 8 | sequence of the datagram that asked |
//! | 48 | ticket |
//! | 2 | length of the invoice, 1 to 1,023 |
//! | | the BOLT 11 invoice, as text |
//! | 33 | public key of the node that is paid |
//! | 64 | its BIP 340 signature |
//!
//! | size | Referral, the answer of a node that has its invoices written by another, its cashier |
//! |---|---|
//! | 1 | 5 |
//! | 8 | sequence of the datagram that asked |
//! | 48 | blank ticket |
//! | 32 | identity of the cashier |
//! | 33 | public key of the node that is to be paid |
//! | 64 | its BIP 340 signature |
//!
//! | size | TicketRequest, to the cashier, which answers with an Invoice |
//! |---|---|
//! | 1 | 6 |
//! | 32 | identity of the node that is to be paid |
//! | 48 | its blank ticket |
//!
//! | size | Pay, to the node that is paid |
//! |---|---|
//! | 1 | 3 |
//! | 48 | ticket |
//! | 32 | preimage |
//!
//! | size | Balance, the answer |
//! |---|---|
//! | 1 | 4 |
//! | 8 | sequence of the datagram that paid |
//! | 8 | bytes bought so far |
//! | 8 | bytes of them drawn by flows |
//!
//! | size | ticket |
//! |---|---|
//! | 4 | run of the node that issued it |
//! | 4 | when, in seconds since that run began |
//! | 8 | bytes that it buys |
//! | 8 | price, in millisatoshi |
//! | 8 | the source's latest Open number |
//! | 16 | MAC, which only the issuing node and its cashier can check |

use super::{Reader, WireError};
use crate::hash::tagged_parts;
use crate::id::NodeId;
use heapless::{Vec, VecView};

/// Bytes of a ticket.
pub const TICKET_LEN: usize = FIELDS + 16;
/// Bytes of it before the MAC.
const FIELDS: usize = 2 * 4 + 3 * 8;
/// Bytes of a promise, as a buyer keeps it: 1 where it is for flows that end at the seller, else 0;
/// then the ticket.
pub const PROMISE_LEN: usize = 1 + TICKET_LEN;
/// Most bytes of an invoice.
pub const MAX_INVOICE: usize = 1023;
/// Most bytes of a message.
pub const MAX_LEN: usize = 1 + 8 + TICKET_LEN + 2 + MAX_INVOICE + SIGNED;
const BALANCE_LEN: usize = 1 + 3 * 8;
const REFERRAL_LEN: usize = 1 + 8 + TICKET_LEN + 32 + SIGNED;
/// Bytes of a public key and a signature.
const SIGNED: usize = 33 + 64;

const INVOICE_REQUEST: u8 = 1;
const INVOICE: u8 = 2;
const PAY: u8 = 3;
const BALANCE: u8 = 4;
const REFERRAL: u8 = 5;
const TICKET_REQUEST: u8 = 6;

/// A promise of the node that issued it: whoever shows it with the preimage of its invoice has
/// paid for so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Run of the issuing node.
    pub run: u32,
    /// When it was issued, in seconds since that run began.
    pub issued: u32,
    /// Bytes that it buys.
    pub bytes: u64,
    /// Price, in millisatoshi.
    pub amount_msat: u64,
    /// Opens of the source up to this number are refused.
    pub open_number: u64,
    /// Authenticates all of it, the source and the payment hash.
    pub mac: [u8; 16],
}

impl Ticket {
    /// Whether both promise the same, whatever they are authenticated for.
    pub fn is_like(&self, other: &Self) -> bool {
        self.fields() == other.fields()
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (fields, mac) = (r.array::<FIELDS>()?, r.array()?);
        // There are four.
        let [first, bytes, amount_msat, open_number] = *fields.as_chunks::<8>().0 else {
            return Err(WireError::Field("ticket"));
        };
        let [r0, r1, r2, r3, issued @ ..] = first;
        Ok(Self {
            run: u32::from_le_bytes([r0, r1, r2, r3]),
            issued: u32::from_le_bytes(issued),
            bytes: u64::from_le_bytes(bytes),
            amount_msat: u64::from_le_bytes(amount_msat),
            open_number: u64::from_le_bytes(open_number),
            mac: *mac,
        })
    }

    /// A ticket as it is on the wire.
    pub fn from_bytes(bytes: &[u8; TICKET_LEN]) -> Option<Self> {
        Self::parse(&mut Reader::new(bytes)).ok()
    }

    /// It as it is on the wire.
    pub fn bytes(&self) -> [u8; TICKET_LEN] {
        let mut bytes = [0; TICKET_LEN];
        let (fields, mac) = bytes.split_at_mut(FIELDS);
        fields.copy_from_slice(&self.fields());
        mac.copy_from_slice(&self.mac);
        bytes
    }

    /// Everything but the MAC, as it is on the wire.
    pub fn fields(&self) -> [u8; FIELDS] {
        let first = u64::from(self.run) | u64::from(self.issued) << 32;
        let numbers = [first, self.bytes, self.amount_msat, self.open_number];
        let bytes = numbers.map(u64::to_le_bytes);
        // They are as many.
        bytes.as_flattened().first_chunk().copied().unwrap_or([0; FIELDS])
    }
}

/// Asks a node for an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvoiceRequest<'a> {
    /// Bytes to buy.
    pub bytes: u64,
    /// Amount offered, in millisatoshi.
    pub amount_msat: u64,
    /// The source's latest Open number.
    pub open_number: u64,
    /// Compressed public key whose hash is the source.
    pub public_key: &'a [u8; 33],
    /// BIP 340 signature over [`Self::sighash`].
    pub signature: &'a [u8; 64],
}

impl InvoiceRequest<'_> {
    /// What the source signs: a tagged hash (BIP 340) of the request, its number, who asks and
    /// who is asked.
    pub fn sighash(&self, sequence: u64, source: &NodeId, destination: &NodeId) -> [u8; 32] {
        let numbers = [sequence, self.bytes, self.amount_msat, self.open_number];
        let numbers = numbers.map(u64::to_le_bytes);
        let parts = [numbers.as_flattened(), &source.0, &destination.0];
        tagged_parts(b"blvm-mesh/invoice-request", &parts)
    }
}

/// An invoice, and the ticket that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invoice<'a> {
    /// Sequence of the datagram that asked for it.
    pub request: u64,
    /// The ticket.
    pub ticket: Ticket,
    /// BOLT 11 invoice, as text: 1 to [`MAX_INVOICE`] bytes.
    pub invoice: &'a [u8],
    /// Compressed public key of the node that is paid.
    pub public_key: &'a [u8; 33],
    /// BIP 340 signature over [`Self::sighash`].
    pub signature: &'a [u8; 64],
}

impl Invoice<'_> {
    /// What the node that is paid signs: a tagged hash (BIP 340) of everything but the key, and
    /// of who pays.
    pub fn sighash(&self, payer: &NodeId) -> [u8; 32] {
        let (request, fields) = (self.request.to_le_bytes(), self.ticket.fields());
        let parts = [&payer.0, &request[..], &fields, &self.ticket.mac, self.invoice];
        tagged_parts(b"blvm-mesh/invoice", &parts)
    }
}

/// Names the node that writes the invoices of the one that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Referral<'a> {
    /// Sequence of the datagram that asked.
    pub request: u64,
    /// A ticket for what was asked, blank: it is authenticated for a payment hash of zeros, which
    /// is that of no invoice.
    pub ticket: Ticket,
    /// Who writes an invoice for it.
    pub cashier: NodeId,
    /// Compressed public key of the node that was asked.
    pub public_key: &'a [u8; 33],
    /// BIP 340 signature over [`Self::sighash`].
    pub signature: &'a [u8; 64],
}

impl Referral<'_> {
    /// What the node that was asked signs: a tagged hash (BIP 340) of everything but the key, and
    /// of who pays.
    pub fn sighash(&self, payer: &NodeId) -> [u8; 32] {
        let (request, fields) = (self.request.to_le_bytes(), self.ticket.fields());
        let parts = [&payer.0, &request[..], &fields, &self.ticket.mac, &self.cashier.0];
        tagged_parts(b"blvm-mesh/referral", &parts)
    }
}

impl Referral<'_> {
    /// The payload. It has a function of its own, as a [`Balance`] has: boards write no others.
    pub fn bytes(&self) -> Vec<u8, REFERRAL_LEN> {
        let (request, fields) = (self.request.to_le_bytes(), self.ticket.fields());
        let (mac, cashier) = (&self.ticket.mac, &self.cashier.0);
        let parts: [&[u8]; 7] =
            [&[REFERRAL], &request, &fields, mac, cashier, self.public_key, self.signature];
        // It is as long.
        joined(&parts).unwrap_or_default()
    }
}

/// Asks a cashier for an invoice of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketRequest {
    /// The node that is to be paid.
    pub node: NodeId,
    /// Its blank ticket.
    pub ticket: Ticket,
}

/// Shows that an invoice was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pay {
    /// The ticket that came with the invoice.
    pub ticket: Ticket,
    /// Preimage of its payment hash.
    pub preimage: [u8; 32],
}

/// What a source has bought at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Sequence of the datagram that is answered.
    pub answers: u64,
    /// Bytes bought so far.
    pub bought: u64,
    /// Bytes of them that flows have drawn.
    pub drawn: u64,
}

impl Balance {
    /// The payload.
    pub fn bytes(&self) -> Vec<u8, BALANCE_LEN> {
        let numbers = [self.answers, self.bought, self.drawn].map(u64::to_le_bytes);
        // It is as long.
        joined(&[&[BALANCE], numbers.as_flattened()]).unwrap_or_default()
    }
}

/// An account message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Message<'a> {
    /// Asks for an invoice.
    InvoiceRequest(InvoiceRequest<'a>),
    /// The answer.
    Invoice(Invoice<'a>),
    /// Pays.
    Pay(Pay),
    /// The answer.
    Balance(Balance),
    /// The answer to a request for an invoice where another node writes it.
    Referral(Referral<'a>),
    /// Asks that node.
    TicketRequest(TicketRequest),
}

impl<'a> Message<'a> {
    /// Reads the payload of a datagram.
    ///
    /// # Errors
    /// [`WireError`]: the first field that is wrong.
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(payload);
        let message = match r.u8()? {
            INVOICE_REQUEST => Self::InvoiceRequest(InvoiceRequest {
                bytes: r.u64()?,
                amount_msat: r.u64()?,
                open_number: r.u64()?,
                public_key: r.array()?,
                signature: r.array()?,
            }),
            INVOICE => {
                let request = r.u64()?;
                let ticket = Ticket::parse(&mut r)?;
                let len = usize::from(r.u16()?);
                if !(1..=MAX_INVOICE).contains(&len) {
                    return Err(WireError::Field("invoice length"));
                }
                let (invoice, public_key, signature) = (r.slice(len)?, r.array()?, r.array()?);
                Self::Invoice(Invoice { request, ticket, invoice, public_key, signature })
            }
            PAY => Self::Pay(Pay { ticket: Ticket::parse(&mut r)?, preimage: *r.array()? }),
            BALANCE => {
                Self::Balance(Balance { answers: r.u64()?, bought: r.u64()?, drawn: r.u64()? })
            }
            REFERRAL => Self::Referral(Referral {
                request: r.u64()?,
                ticket: Ticket::parse(&mut r)?,
                cashier: NodeId(*r.array()?),
                public_key: r.array()?,
                signature: r.array()?,
            }),
            TICKET_REQUEST => Self::TicketRequest(TicketRequest {
                node: NodeId(*r.array()?),
                ticket: Ticket::parse(&mut r)?,
            }),
            _ => return Err(WireError::Field("account message")),
        };
        r.end()?;
        Ok(message)
    }

    /// The payload; `None` if an invoice is longer than [`MAX_INVOICE`] or `N`.
    pub fn bytes<const N: usize>(&self) -> Option<Vec<u8, N>> {
        match self {
            Self::InvoiceRequest(m) => {
                let numbers = [m.bytes, m.amount_msat, m.open_number].map(u64::to_le_bytes);
                joined(&[&[INVOICE_REQUEST], numbers.as_flattened(), m.public_key, m.signature])
            }
            Self::Invoice(m) => {
                let len = m.invoice.len();
                let len = u16::try_from(len).ok().filter(|_| (1..=MAX_INVOICE).contains(&len))?;
                let (request, fields) = (m.request.to_le_bytes(), m.ticket.fields());
                let (len, mac) = (len.to_le_bytes(), &m.ticket.mac);
                let parts: [&[u8]; 8] = [
                    &[INVOICE],
                    &request,
                    &fields,
                    mac,
                    &len,
                    m.invoice,
                    m.public_key,
                    m.signature,
                ];
                joined(&parts)
            }
            Self::Pay(m) => joined(&[&[PAY], &m.ticket.fields(), &m.ticket.mac, &m.preimage]),
            Self::Balance(m) => joined(&[&m.bytes()]),
            Self::Referral(m) => joined(&[&m.bytes()]),
            Self::TicketRequest(m) => {
                joined(&[&[TICKET_REQUEST], &m.node.0, &m.ticket.fields(), &m.ticket.mac])
            }
        }
    }
}

/// The parts behind one another; `None` if they are more than `N` bytes.
fn joined<const N: usize>(parts: &[&[u8]]) -> Option<Vec<u8, N>> {
    let mut out = Vec::new();
    put(&mut out, parts)?;
    Some(out)
}

#[inline(never)]
fn put(out: &mut VecView<u8>, parts: &[&[u8]]) -> Option<()> {
    parts.iter().try_for_each(|part| out.extend_from_slice(part).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> impl Strategy<Value = Ticket> {
        any::<(u32, u32, u64, u64, u64, [u8; 16])>().prop_map(
            |(run, issued, bytes, amount_msat, open_number, mac)| Ticket {
                run,
                issued,
                bytes,
                amount_msat,
                open_number,
                mac,
            },
        )
    }

    fn there_and_back(message: Message<'_>) {
        let bytes = message.bytes::<MAX_LEN>().unwrap();
        assert_eq!(Message::parse(&bytes), Ok(message));
        assert!(Message::parse(&bytes[..bytes.len() - 1]).is_err());
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Message::parse(&longer).is_err());
        assert_eq!(message.bytes::<24>(), None);
    }

    proptest! {
        #[test]
        fn round_trip(n: [u64; 4], ticket in ticket(), preimage: [u8; 32], node: [u8; 32], text in prop::collection::vec(any::<u8>(), 1..=MAX_INVOICE)) {
            let (public_key, signature) = (&[2; 33], &[7; 64]);
            there_and_back(Message::InvoiceRequest(InvoiceRequest { bytes: n[0], amount_msat: n[1], open_number: n[2], public_key, signature }));
            there_and_back(Message::Invoice(Invoice { request: n[3], ticket, invoice: &text, public_key, signature }));
            there_and_back(Message::Pay(Pay { ticket, preimage }));
            there_and_back(Message::Referral(Referral { request: n[3], ticket, cashier: NodeId(node), public_key, signature }));
            there_and_back(Message::TicketRequest(TicketRequest { node: NodeId(node), ticket }));
            there_and_back(Message::Balance(Balance { answers: n[0], bought: n[1], drawn: n[2] }));
        }

        #[test]
        fn any_bytes(kind in 0u8..8, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut payload = std::vec![kind];
            payload.extend(body);
            if let Ok(message) = Message::parse(&payload) {
                prop_assert_eq!(message.bytes::<MAX_LEN>().unwrap().to_vec(), payload);
            }
        }

        #[test]
        fn answers_are_signed_whole(refers: bool, at: prop::sample::Index, bit in 0u8..8) {
            let ticket = Ticket { run: 1, issued: 2, bytes: 3, amount_msat: 4, open_number: 5, mac: [6; 16] };
            let (public_key, signature) = (&[2; 33], &[7; 64]);
            let message = match refers {
                true => Message::Referral(Referral { request: 9, ticket, cashier: NodeId([8; 32]), public_key, signature }),
                false => Message::Invoice(Invoice { request: 9, ticket, invoice: b"lnbcrt1", public_key, signature }),
            };
            let bytes = message.bytes::<MAX_LEN>().unwrap();
            let mut other = bytes.clone();
            let signed = 1..bytes.len() - SIGNED;
            let at = signed.start + at.index(signed.len());
            other[at] ^= 1 << bit;
            let sighash = |bytes: &[u8]| match Message::parse(bytes) {
                Ok(Message::Invoice(invoice)) => Some(invoice.sighash(&NodeId([1; 32]))),
                Ok(Message::Referral(referral)) => Some(referral.sighash(&NodeId([1; 32]))),
                _ => None,
            };
            prop_assert_ne!(sighash(&bytes), sighash(&other));
        }
    }

    #[test]
    fn a_request_binds_its_number_and_both_ends() {
        let request = InvoiceRequest {
            bytes: 1,
            amount_msat: 2,
            open_number: 3,
            public_key: &[2; 33],
            signature: &[0; 64],
        };
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        let hash = request.sighash(4, &a, &b);
        let others = [
            request.sighash(5, &a, &b),
            request.sighash(4, &b, &a),
            InvoiceRequest { bytes: 9, ..request }.sighash(4, &a, &b),
            InvoiceRequest { amount_msat: 9, ..request }.sighash(4, &a, &b),
            InvoiceRequest { open_number: 9, ..request }.sighash(4, &a, &b),
        ];
        assert!(!others.contains(&hash));
    }

    #[test]
    fn an_invoice_has_a_length_within_bounds() {
        let ticket =
            Ticket { run: 0, issued: 0, bytes: 0, amount_msat: 0, open_number: 0, mac: [0; 16] };
        let (public_key, signature) = (&[2; 33], &[7; 64]);
        for len in [0, MAX_INVOICE + 1] {
            let text = std::vec![b'x'; len];
            let invoice = Invoice { request: 0, ticket, invoice: &text, public_key, signature };
            assert_eq!(Message::Invoice(invoice).bytes::<4096>(), None);
            let mut bytes = std::vec![0; 1 + 8 + TICKET_LEN + 2 + len + SIGNED];
            bytes[0] = INVOICE;
            bytes[57..59].copy_from_slice(&(len as u16).to_le_bytes());
            assert_eq!(Message::parse(&bytes), Err(WireError::Field("invoice length")));
        }
    }
}
