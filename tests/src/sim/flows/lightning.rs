//! The Lightning nodes and the wallets of a world: invoices that are written and paid at once,
//! late, or never.

use super::super::World;
use super::super::bytes::{Bytes, Path};
use super::super::forge::account_in;
use super::super::machine::{Action, Input, Verdict};
use super::super::world::Event;
use crate::payments::invoice::Order;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::flow::accounts::receiving;
use blvm_mesh_core::flow::tickets::{LIFETIME_S, is_blank};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{Ticket, ticket_key};
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::account::{Message, PROMISE_LEN, TicketRequest};
use std::collections::{BTreeMap, VecDeque};

/// After what time a wallet gives a payment up.
const STUCK: Micros = 60 * SECOND;

/// When somebody writes invoices, or pays them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// At once.
    AtOnce,
    /// After so long.
    Late(Micros),
    /// Never, and says so.
    Never,
    /// Never, and says nothing; a wallet says so after a minute.
    Silent,
}

/// What an invoice is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sale {
    /// Who is paid.
    pub node: usize,
    /// Whose Lightning node writes the invoice: its own, or its cashier's.
    pub writer: usize,
    /// Who asked for it.
    pub source: NodeId,
    /// Under which name the node keeps what is bought.
    pub account: NodeId,
    /// Bytes that it buys.
    pub bytes: u64,
    /// What it costs, in millisatoshi.
    pub amount_msat: u64,
}

#[derive(Debug)]
pub(in crate::sim) struct Written {
    pub(in crate::sim) sale: Sale,
    pub(in crate::sim) preimage: [u8; 32],
    pub(in crate::sim) paid: bool,
}

/// What a wallet has paid for, as a shell keeps it.
#[derive(Debug, Clone)]
pub(in crate::sim) struct Kept {
    payer: usize,
    node: NodeId,
    promise: [u8; PROMISE_LEN],
    invoice: Vec<u8>,
    /// The purchase, and in which run of the payer.
    ticket: Ticket,
    boot: u64,
    begun: Micros,
    credited: bool,
}

/// All invoices that were written, and who pays when.
#[derive(Debug, Default)]
pub struct Lightning {
    /// By their text.
    pub(in crate::sim) invoices: BTreeMap<Vec<u8>, Written>,
    /// Who pays otherwise than at once.
    pub wallets: BTreeMap<usize, Habit>,
    /// Whose Lightning node writes invoices otherwise than at once.
    pub writers: BTreeMap<usize, Habit>,
    /// What was paid in all, in millisatoshi.
    pub paid_msat: u64,
    kept: Vec<Kept>,
}

impl Lightning {
    /// Whether a node has had something to pay to another.
    pub(in crate::sim) fn has_paid(&self, n: usize, to: &NodeId) -> bool {
        self.kept.iter().any(|kept| kept.payer == n && kept.node == *to)
    }
}

impl World {
    /// A node wants an invoice.
    pub(in crate::sim) fn invoice_wanted(
        &mut self,
        ticket: Ticket,
        sale: Sale,
        todo: &mut VecDeque<(Input, Path)>,
    ) {
        let habit = self.lightning.writers.get(&sale.writer).copied().unwrap_or(Habit::AtOnce);
        self.checks.count("invoices wanted");
        if sale.writer != sale.node {
            self.checks.count("invoices wanted of a cashier");
        }
        if sale.account != sale.source {
            self.checks.count("invoices wanted for receiving");
        }
        match habit {
            Habit::AtOnce => todo.extend(self.invoice(ticket, sale, true)),
            Habit::Never => todo.extend(self.invoice(ticket, sale, false)),
            Habit::Late(late) => {
                let boot = self.nodes[sale.writer].boots;
                self.at(self.now + late, Event::Invoice { boot, ticket, sale });
            }
            Habit::Silent => {}
        }
    }

    /// The invoice that a node waits for, unless it does no more; empty, if it is not `written`.
    pub(in crate::sim) fn invoice(
        &mut self,
        ticket: Ticket,
        sale: Sale,
        written: bool,
    ) -> Option<(Input, Path)> {
        let held = self.nodes[sale.writer].parked.remove(&ticket)?;
        let Input::MessageReceived { packet, .. } = held.input else { return None };
        let text = if written { self.write_invoice(sale) } else { Vec::new() };
        Some((Input::Invoice { ticket, packet, invoice: Bytes::from(text) }, held.path))
    }

    /// Writes an invoice; its text.
    pub(in crate::sim) fn write_invoice(&mut self, sale: Sale) -> Vec<u8> {
        let number = (self.lightning.invoices.len() as u64).to_le_bytes();
        let unique = sha256::Hash::hash(&[&b"flow"[..], &number].concat()).to_byte_array();
        let key = self.nodes[sale.writer].key;
        let mut order = Order::new(key, unique, sale.amount_msat, self.unix());
        order.expiry_s = LIFETIME_S.into();
        let text = order.invoice().into_bytes();
        let written = Written { sale, preimage: order.preimage, paid: false };
        self.lightning.invoices.insert(text.clone(), written);
        text
    }

    /// A node wants an invoice paid.
    pub(in crate::sim) fn pay_invoice(
        &mut self,
        n: usize,
        ticket: Ticket,
        invoice: &[u8],
        todo: &mut VecDeque<(Input, Path)>,
    ) {
        let habit = self.lightning.wallets.get(&n).copied().unwrap_or(Habit::AtOnce);
        let preimage = match habit {
            Habit::AtOnce | Habit::Late(_) => self.settle(n, invoice),
            Habit::Never => None,
            Habit::Silent => {
                let boot = self.nodes[n].boots;
                let paid = Event::Paid { node: n, boot, ticket, preimage: None };
                return self.at(self.now + STUCK, paid);
            }
        };
        match habit {
            // The money leaves now, and the node hears of it later or never.
            Habit::Late(late) => {
                let boot = self.nodes[n].boots;
                self.at(self.now + late, Event::Paid { node: n, boot, ticket, preimage });
            }
            _ => todo.push_back((Input::InvoicePaid { ticket, preimage }, Path::default())),
        }
    }

    /// What an invoice is to be for that a node wants written: of its own bytes, or a client's.
    pub(in crate::sim) fn sale_of(
        &self,
        n: usize,
        ticket: Ticket,
        source: NodeId,
        (bytes, amount_msat): (u64, u64),
    ) -> Sale {
        let own = Sale { node: n, writer: n, source, account: source, bytes, amount_msat };
        let held = self.nodes[n].parked.get(&ticket).map(|held| &held.input);
        let Some(Input::MessageReceived { packet, .. }) = held else { return own };
        match account_in(packet).map(|(_, message)| message) {
            Some(Message::InvoiceRequest(request)) if request.amount_msat == 0 => {
                Sale { account: receiving(&source), ..own }
            }
            Some(Message::TicketRequest(TicketRequest { node, ticket })) => {
                let Some(node) = self.by_hop.get(&node.hop()).copied() else { return own };
                let key = ticket_key(&self.nodes[node].key);
                let accounts = [source, receiving(&source)];
                let account = accounts.into_iter().find(|name| is_blank(&key, name, &ticket));
                Sale { node, account: account.unwrap_or(source), ..own }
            }
            _ => own,
        }
    }

    /// A wallet is to pay for this, and its shell keeps what was promised.
    pub(in crate::sim) fn keep_promise(
        &mut self,
        n: usize,
        ticket: Ticket,
        node: NodeId,
        promise: [u8; PROMISE_LEN],
        invoice: &[u8],
    ) {
        let (boot, begun) = (self.nodes[n].boots, self.now);
        let (payer, invoice) = (n, invoice.to_vec());
        let kept = Kept { payer, node, promise, invoice, ticket, boot, begun, credited: false };
        self.lightning.kept.push(kept);
    }

    /// A node was credited what it bought.
    pub(in crate::sim) fn purchase_credited(&mut self, n: usize, ticket: Ticket) {
        let boot = self.nodes[n].boots;
        let its = |kept: &&mut Kept| (kept.payer, kept.boot, kept.ticket) == (n, boot, ticket);
        if let Some(kept) = self.lightning.kept.iter_mut().find(its) {
            if kept.begun < self.nodes[n].booted && !kept.credited {
                self.checks.count("credited after a restart of the payer");
            }
            kept.credited = true;
        }
    }

    /// A node has started: it shows what it paid for shortly before, and was not credited.
    pub(in crate::sim) fn show_promises(&mut self, n: usize) {
        let lately = self.now.saturating_sub(u64::from(LIFETIME_S) * SECOND);
        for at in 0..self.lightning.kept.len() {
            let Kept { payer, node, promise, begun, ref invoice, .. } = self.lightning.kept[at];
            let written = self.lightning.invoices.get(invoice).filter(|written| written.paid);
            let Some(preimage) = written.map(|written| written.preimage) else { continue };
            if payer != n || begun < lately {
                continue;
            }
            self.checks.count("payments shown after a restart");
            let did = self.input(n, Input::Paid { node, promise, preimage });
            let shown = did.iter().find_map(|did| match did {
                Action::Verdict(Verdict::Buying { ticket }) => Some(*ticket),
                _ => None,
            });
            if let Some(ticket) = shown {
                let kept = &mut self.lightning.kept[at];
                (kept.ticket, kept.boot) = (ticket, self.nodes[n].boots);
            }
        }
    }

    /// Pays an invoice; what it reveals.
    pub(in crate::sim) fn settle(&mut self, n: usize, invoice: &[u8]) -> Option<[u8; 32]> {
        let written = self.lightning.invoices.get_mut(invoice)?;
        if std::mem::replace(&mut written.paid, true) {
            // No Lightning node takes a payment twice.
            return None;
        }
        let (sale, preimage) = (written.sale, written.preimage);
        self.lightning.paid_msat += sale.amount_msat;
        self.checks.count("invoices paid");
        self.bytes_paid(n, sale);
        Some(preimage)
    }
}
