//! The Lightning nodes and the wallets of a world: invoices that are written and paid at once,
//! late, or never.

use super::super::World;
use super::super::bytes::{Bytes, Path};
use super::super::machine::Input;
use super::super::world::Event;
use crate::payments::invoice::Order;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::flow::tickets::LIFETIME_S;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::Ticket;
use blvm_mesh_core::time::{Micros, SECOND};
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
    /// Who asked for it.
    pub source: NodeId,
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
}

impl World {
    /// A node wants an invoice.
    pub(in crate::sim) fn invoice_wanted(
        &mut self,
        ticket: Ticket,
        sale: Sale,
        todo: &mut VecDeque<(Input, Path)>,
    ) {
        let habit = self.lightning.writers.get(&sale.node).copied().unwrap_or(Habit::AtOnce);
        self.checks.count("invoices wanted");
        match habit {
            Habit::AtOnce => todo.extend(self.invoice(ticket, sale, true)),
            Habit::Never => todo.extend(self.invoice(ticket, sale, false)),
            Habit::Late(late) => {
                let boot = self.nodes[sale.node].boots;
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
        let held = self.nodes[sale.node].parked.remove(&ticket)?;
        let Input::MessageReceived { packet, .. } = held.input else { return None };
        let text = if written { self.write_invoice(sale) } else { Vec::new() };
        Some((Input::Invoice { ticket, packet, invoice: Bytes::from(text) }, held.path))
    }

    /// Writes an invoice; its text.
    pub(in crate::sim) fn write_invoice(&mut self, sale: Sale) -> Vec<u8> {
        let number = (self.lightning.invoices.len() as u64).to_le_bytes();
        let unique = sha256::Hash::hash(&[&b"flow"[..], &number].concat()).to_byte_array();
        let key = self.nodes[sale.node].key;
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
